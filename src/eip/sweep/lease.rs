//! Which agent of the cluster sweeps: the Lease, how it is kept, and what is remembered in it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind};
use crate::kube::{Holding, Kube, Lease};
use crate::names::EipId;
use crate::state::Sighting;

/// In the agent's namespace.
pub const NAME: &str = "podeip-sweeper";

/// Since when each unclaimed EIP has been unclaimed, as a JSON object. Only the holder writes it, in
/// the same request that keeps the Lease, so it outlives an agent and needs no tag on the EIP.
const UNCLAIMED_ANNOTATION: &str = "podeip/unclaimed";

/// The rival that the holder sees, as JSON, for all agents to read; absent when it sees none.
const RIVAL_ANNOTATION: &str = "podeip/rival";

/// Beyond one period, for a sweep that takes long: its holder renews within it.
const SLACK: Duration = Duration::from_secs(45);

/// An API server that takes longer may have let the Lease go to another agent.
const WRITE_TIME: Duration = Duration::from_secs(20);

/// Annotations may have 256 KiB in all; an id and a time take some 60 bytes.
const MOST_UNCLAIMED: usize = 3000;

/// The Lease in our hands.
pub struct Hold<'a> {
    kube: &'a Kube,
    identity: &'a str,
    duration: Duration,
    lease: Lease,
    renewed: Renewed,
    /// Set when the agent is to end.
    stopping: &'a AtomicBool,
}

/// When the Lease was written last, by both clocks. The server's is the one that other agents judge
/// by; it is known as of its last answer, and ours stands still while the machine sleeps.
struct Renewed {
    at: Instant,
    by_server: Timestamp,
}

impl Renewed {
    fn now(kube: &Kube) -> Self {
        Self { at: Instant::now(), by_server: kube.now() }
    }

    fn age(&self, kube: &Kube) -> Duration {
        let by_server = kube.now().duration_since(self.by_server);
        self.at.elapsed().max(Duration::try_from(by_server).unwrap_or_default()) // negative: it was set back
    }
}

/// What came of asking for the Lease.
pub enum Asked<'a> {
    Granted(Box<Hold<'a>>),
    /// Somebody else sweeps, who left word of a rival or of none.
    Held {
        by: String,
        rival: Option<Sighting>,
    },
    /// Somebody else asked at the same moment.
    Faster,
}

fn rival_in(lease: &Lease) -> Option<Sighting> {
    serde_json::from_str(lease.annotations.get(RIVAL_ANNOTATION)?).ok()
}

/// Takes the Lease if it is free, run out or ours. It lasts one `period` and a little more.
pub fn acquire<'a>(
    kube: &'a Kube,
    namespace: &str,
    identity: &'a str,
    period: Duration,
    stopping: &'a AtomicBool,
    deadline: Deadline,
) -> Result<Asked<'a>, Failure> {
    let duration = period + SLACK;
    let holding = Holding { holder: Some(identity), duration, annotations: BTreeMap::new() };
    let taken = match kube.lease(namespace, NAME, deadline)? {
        None => kube.create_lease(namespace, NAME, &holding, deadline),
        Some(lease) if lease.held_by_another(identity, kube.now()) => {
            return Ok(Asked::Held { rival: rival_in(&lease), by: lease.holder.unwrap_or_default() });
        }
        Some(lease) => {
            if lease.holder.as_deref().is_some_and(|holder| holder != identity) {
                log::warn!("lease {namespace}/{NAME}: {} has not renewed it", lease.holder.as_deref().unwrap_or("?"));
            }
            kube.update_lease(&lease, &holding, deadline)
        }
    };
    match taken {
        Ok(lease) => {
            log::info!("lease {namespace}/{NAME}: held by {identity}");
            let renewed = Renewed::now(kube);
            Ok(Asked::Granted(Box::new(Hold { kube, identity, duration, lease, renewed, stopping })))
        }
        // Another agent was faster.
        Err(error) if error.is_already_exists() || error.is_conflict() => Ok(Asked::Faster),
        Err(error) => Err(error.into()),
    }
}

impl Hold<'_> {
    /// Renews the Lease when a third of it is over. To be called before each thing that only the
    /// holder may do.
    ///
    /// # Errors
    /// The Lease is lost, or the agent is to end: the sweep must end here.
    pub fn keep(&mut self, deadline: Deadline) -> Result<(), Failure> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Failure::new(Kind::TryAgain, "the agent ends, and its sweep with it; the next one goes on"));
        }
        if self.renewed.age(self.kube) * 3 < self.duration {
            return Ok(());
        }
        self.write(Some(self.identity), BTreeMap::new(), deadline)
    }

    /// Since when EIPs have been unclaimed, as far as earlier sweeps know.
    pub fn unclaimed_since(&self) -> BTreeMap<EipId, Timestamp> {
        let text = self.lease.annotations.get(UNCLAIMED_ANNOTATION);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Remembers that for the next sweep. The oldest stand first: they are the next to go.
    pub fn note_unclaimed(&mut self, since: &BTreeMap<EipId, Timestamp>, deadline: Deadline) -> Result<(), Failure> {
        if *since == self.unclaimed_since() {
            return Ok(());
        }
        let mut oldest: Vec<_> = since.iter().collect();
        oldest.sort_by_key(|(_, since)| **since);
        let kept: BTreeMap<&EipId, String> =
            oldest.into_iter().take(MOST_UNCLAIMED).map(|(id, since)| (id, since.to_string())).collect();
        let text = serde_json::to_string(&kept).unwrap_or_default(); // a map of texts is always JSON
        let value = Some(text.as_str()).filter(|_| !kept.is_empty());
        self.write(Some(self.identity), BTreeMap::from([(UNCLAIMED_ANNOTATION, value)]), deadline)
    }

    /// Leaves word of the rival, or that there is none, for the agents of other nodes.
    pub fn note_rival(&mut self, rival: Option<&Sighting>, deadline: Deadline) -> Result<(), Failure> {
        if rival == rival_in(&self.lease).as_ref() {
            return Ok(());
        }
        let text = rival.and_then(|rival| serde_json::to_string(rival).ok());
        self.write(Some(self.identity), BTreeMap::from([(RIVAL_ANNOTATION, text.as_deref())]), deadline)
    }

    /// Lets another agent sweep at once.
    pub fn give_back(mut self, deadline: Deadline) -> Result<(), Failure> {
        self.write(None, BTreeMap::new(), deadline)
    }

    fn write(
        &mut self,
        holder: Option<&str>,
        annotations: BTreeMap<&str, Option<&str>>,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let holding = Holding { holder, duration: self.duration, annotations };
        let written = self.kube.update_lease(&self.lease, &holding, deadline.within(WRITE_TIME));
        self.lease = written.map_err(|error| {
            let Lease { namespace, name, .. } = &self.lease;
            Failure { kind: Kind::TryAgain, ..Failure::from(error) }
                .during(format!("lease {namespace}/{name} was lost in the middle of a sweep"))
        })?;
        self.renewed = Renewed::now(self.kube);
        Ok(())
    }
}
