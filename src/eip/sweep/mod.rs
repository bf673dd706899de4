//! The cluster's work, done by one agent at a time: what no single node can see to.
//!
//! One listing of the PodEIPs and one of the cluster's EIPs tell nearly everything; pods are asked
//! for only where something looks wrong. Every step is safe beside another sweep: a PodEIP is ended
//! on exactly the version that was judged, and an EIP is released only after its PodEIP was marked
//! or after nothing has claimed it for the grace period.

mod ending;
mod judge;
mod lease;
mod orphans;
mod pod_eips;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::cloud::{Eip, EipFilter};
use crate::deadline::Deadline;
use crate::eip::at_once;
use crate::eip::coexist;
use crate::eip::failure::Failure;
use crate::eip::node::Node;
use crate::eip::owner;
use crate::kube::{Pod, PodEip};
use crate::names::{EipId, PodUid};
use crate::state::Sighting;

pub use lease::NAME as LEASE;

use judge::{Verdict, judge};
use lease::{Asked, Hold};
use orphans::Unclaimed;
use pod_eips::Case;

/// A node says every period that a pod lives. Two periods without it, and this for the round
/// itself, make a PodEIP worth a look.
const ROUND_TIME: Duration = Duration::from_secs(30);

/// A whole listing, page by page.
const LISTING_TIME: Duration = Duration::from_secs(120);

/// One thing done about one EIP or PodEIP.
const STEP_TIME: Duration = Duration::from_secs(20);

/// Up to so many pods are asked for one by one; for more, all pods are listed, 250 with one call.
const ASKED_SINGLY: usize = 10;

/// What a sweep did, or found, about one EIP.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub namespace: String,
    pub name: String,
    pub eip: EipId,
    pub address: Option<Ipv4Addr>,
    pub what: What,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Released,
    /// The PodEIP went, and the EIP stays, for this reason.
    Kept(&'static str),
    Unbound,
    /// The EIP was gone already.
    Gone,
    /// Nothing claims it; its grace is not over.
    Unclaimed,
    /// The PodEIP is being deleted, and its pod lives.
    Waiting,
    /// This would be done (report only).
    Would(&'static str),
    Failed(Failure),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Released => f.write_str("released"),
            What::Kept(reason) => write!(f, "kept, because {reason}"),
            What::Unbound => f.write_str("unbound"),
            What::Gone => f.write_str("gone already"),
            What::Unclaimed => f.write_str("unclaimed"),
            What::Waiting => f.write_str("waits for its pod"),
            What::Would(what) => write!(f, "would {what}"),
            What::Failed(failure) => write!(f, "failed: {failure}"),
        }
    }
}

impl Finding {
    fn of(pod_eip: &PodEip, what: What, why: &str) -> Self {
        Self {
            namespace: pod_eip.namespace.clone(),
            name: pod_eip.name.clone(),
            eip: pod_eip.spec.allocation_id.clone(),
            address: pod_eip.status.as_ref().and_then(|status| status.eip_address),
            what,
            why: why.into(),
        }
    }
}

/// What a sweep came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    pub pod_eips: usize,
    /// How many EIPs nothing claims, and for how long the oldest.
    pub unclaimed: usize,
    pub unclaimed_longest: Duration,
    /// All EIPs of the account in this region: what counts against its quota.
    pub account_eips: Option<usize>,
}

/// How an attempt to sweep ended.
pub enum Swept {
    Done(Report),
    /// Another agent holds the Lease.
    HeldBy(String),
}

/// One agent's part in sweeping.
pub struct Sweeper<'a> {
    node: &'a Node,
    /// The agent's own, where the Lease is.
    namespace: String,
    /// Unique among all agents that ever lived.
    identity: String,
    report_only: bool,
    stopping: AtomicBool,
}

impl<'a> Sweeper<'a> {
    pub fn new(node: &'a Node, node_name: &str, namespace: impl Into<String>, report_only: bool) -> Self {
        let identity = format!("{node_name}_{}", uuid::Uuid::new_v4());
        Self { node, namespace: namespace.into(), identity, report_only, stopping: AtomicBool::new(false) }
    }

    /// Has a sweep that runs end at its next step.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Sweeps if the Lease is to be had. `keep` holds it until the next sweep; otherwise it is given
    /// back at the end.
    ///
    /// # Errors
    /// A system that does not answer, or a Lease that was lost on the way: the next sweep goes on.
    pub fn sweep(&self, keep: bool, deadline: Deadline) -> Result<Swept, Failure> {
        let kube = self.node.kube()?;
        let period = self.node.settings.gc_period;
        let asking = deadline.within(STEP_TIME);
        let mut hold = match lease::acquire(kube, &self.namespace, &self.identity, period, &self.stopping, asking)? {
            Asked::Granted(hold) => hold,
            Asked::Held { by, rival } => {
                self.note_rival(rival.as_ref())?;
                return Ok(self.not_mine(by));
            }
            Asked::Faster => return Ok(self.not_mine("an agent that asked at the same moment".into())),
        };
        let report = self.sweep_holding(&mut hold, deadline);
        if !keep && let Err(failure) = hold.give_back(deadline.within(STEP_TIME)) {
            log::warn!("{failure}");
        }
        report.map(Swept::Done)
    }

    fn not_mine(&self, holder: String) -> Swept {
        log::info!("not sweeping: lease {}/{} is held by {holder}", self.namespace, lease::NAME);
        Swept::HeldBy(holder)
    }

    /// Gives the Lease back at an agent's end, if it is ours.
    pub fn resign(&self, deadline: Deadline) -> Result<(), Failure> {
        let kube = self.node.kube()?;
        let lease = kube.lease(&self.namespace, lease::NAME, deadline)?;
        if lease.and_then(|lease| lease.holder).as_ref() != Some(&self.identity) {
            return Ok(());
        }
        let period = self.node.settings.gc_period;
        match lease::acquire(kube, &self.namespace, &self.identity, period, &self.stopping, deadline)? {
            Asked::Granted(hold) => hold.give_back(deadline),
            Asked::Held { .. } | Asked::Faster => Ok(()),
        }
    }

    fn sweep_holding(&self, hold: &mut Hold, deadline: Deadline) -> Result<Report, Failure> {
        let (kube, cloud, cluster) = (self.node.kube()?, self.node.cloud()?, self.node.cluster()?);
        let listing = || deadline.within(LISTING_TIME);
        let pod_eips = kube.pod_eips(None, listing())?;
        hold.keep(deadline)?;
        self.look_for_rival(hold, &pod_eips, deadline)?;
        let tags = BTreeMap::from([(owner::TAG_CLUSTER.to_string(), cluster.to_string())]);
        let eips = cloud.describe_eips(&EipFilter::Tags(tags), listing())?;
        hold.keep(deadline)?;
        let account_eips = cloud.count_eips(listing()).inspect_err(|error| log::warn!("{error}")).ok().flatten();
        let now = kube.now();
        let fresh = self.node.settings.gc_period * 2 + ROUND_TIME;
        let suspects: Vec<&PodEip> = pod_eips.iter().filter(|it| judge::is_suspect(it, now, fresh)).collect();
        let loose = owner::unclaimed(&eips, cluster, &pod_eips, &self.node.store.attachments()?);
        let pods = Looked::ask(self.node, &suspects, &loose, listing())?;
        hold.keep(deadline)?;

        let mut report = Report { pod_eips: pod_eips.len(), account_eips, ..Report::default() };
        let cases = self.judge_all(&suspects, &pods, &pod_eips, now, &mut report.findings);
        report.findings.extend(self.end_pod_eips(hold, cases, deadline)?);
        let unowned: Vec<&Eip> = loose.into_iter().filter(|eip| !pods.owner_lives(eip)).collect();
        let noted = hold.unclaimed_since();
        let unclaimed = Unclaimed::new(unowned, &noted, now);
        report.unclaimed = unclaimed.eips.len();
        report.unclaimed_longest = unclaimed.eips.iter().map(|eip| unclaimed.age(eip)).max().unwrap_or_default();
        // What was seen first in this sweep must be known to the next, whatever becomes of this one.
        hold.note_unclaimed(&unclaimed.since, deadline)?;
        report.findings.extend(self.release_orphans(hold, &unclaimed, &noted, deadline)?);
        Ok(report)
    }

    /// One agent looks, and the others read what it found in the Lease, which they ask for anyway. When the
    /// API server does not say, what was found last stays.
    fn look_for_rival(&self, hold: &mut Hold, pod_eips: &[PodEip], deadline: Deadline) -> Result<(), Failure> {
        match coexist::look(self.node.kube()?, pod_eips, deadline) {
            Ok(rival) => {
                hold.note_rival(rival.as_ref(), deadline)?;
                self.note_rival(rival.as_ref())
            }
            Err(failure) => {
                log::warn!("whether another EIP feature is active in the cluster is unknown: {failure}");
                Ok(())
            }
        }
    }

    /// For the ADDs of this node.
    fn note_rival(&self, rival: Option<&Sighting>) -> Result<(), Failure> {
        let note = self.node.store.rival_note();
        match rival {
            Some(rival) if note.record(rival, self.node.kube()?.now())? => {
                log::warn!(
                    "{} allocates EIPs in this cluster too: {}; {}",
                    rival.who,
                    rival.how,
                    coexist::remedy(rival.who)
                );
            }
            None if note.clear()? => log::info!("no other EIP feature is active in the cluster any more"),
            _ => {}
        }
        Ok(())
    }

    fn judge_all(
        &self,
        suspects: &[&PodEip],
        pods: &Looked,
        all: &[PodEip],
        now: Timestamp,
        findings: &mut Vec<Finding>,
    ) -> Vec<Case> {
        let claims = pod_eips::claims(all);
        let mut cases = Vec::new();
        for pod_eip in suspects {
            let Some(pod) = pods.of(&pod_eip.namespace, &pod_eip.name) else { continue };
            let own_claim = usize::from(!pod_eip.deleting);
            let shared = claims.get(&pod_eip.spec.allocation_id).is_some_and(|count| *count > own_claim);
            let (ends, why) = match judge(pod_eip, pod, now) {
                Verdict::Leave => continue,
                Verdict::Wait => {
                    findings.push(Finding::of(pod_eip, What::Waiting, "it is being deleted, and its pod lives"));
                    continue;
                }
                Verdict::Unbind(why) => (false, why),
                Verdict::End(why) => (true, why),
            };
            if self.report_only {
                let what = if ends { "end" } else { "unbind" };
                findings.push(Finding::of(pod_eip, What::Would(what), &why));
            } else {
                cases.push(Case { pod_eip: (*pod_eip).clone(), ends, why, shared });
            }
        }
        cases
    }
}

type Name = (String, String);

/// The pods of the names that matter to a sweep, as the API server knows them.
struct Looked {
    pods: BTreeMap<Name, Pod>,
    /// Names about which it did not answer.
    unknown: BTreeSet<Name>,
}

impl Looked {
    fn ask(node: &Node, suspects: &[&PodEip], loose: &[&Eip], deadline: Deadline) -> Result<Self, Failure> {
        let kube = node.kube()?;
        let names: BTreeSet<Name> = suspects
            .iter()
            .map(|it| (it.namespace.clone(), it.name.clone()))
            .chain(loose.iter().filter_map(|eip| owner_name(eip)))
            .collect();
        if names.len() > ASKED_SINGLY {
            let pods = kube.pods_where(|pod| names.contains(&(pod.namespace.clone(), pod.name.clone())), deadline)?;
            let pods = pods.into_iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod)).collect();
            return Ok(Self { pods, unknown: BTreeSet::new() });
        }
        let names: Vec<Name> = names.into_iter().collect();
        let answers = at_once::each(&names, |(namespace, name)| kube.pod(namespace, name, deadline));
        let mut looked = Self { pods: BTreeMap::new(), unknown: BTreeSet::new() };
        for (name, answer) in names.into_iter().zip(answers) {
            match answer {
                Ok(Some(pod)) => drop(looked.pods.insert(name, pod)),
                Ok(None) => {}
                Err(error) => {
                    log::warn!("{error}");
                    looked.unknown.insert(name);
                }
            }
        }
        Ok(looked)
    }

    /// `None`: nobody knows. `Some(None)`: there is no such pod.
    fn of(&self, namespace: &str, name: &str) -> Option<Option<&Pod>> {
        let name = (namespace.to_string(), name.to_string());
        (!self.unknown.contains(&name)).then(|| self.pods.get(&name))
    }

    /// Whether the pod that an EIP was allocated for may still want it.
    fn owner_lives(&self, eip: &Eip) -> bool {
        let (Some((namespace, name)), Some(uid)) = (owner_name(eip), eip.tags.get(owner::TAG_UID)) else {
            return false;
        };
        match self.of(&namespace, &name) {
            None => true,
            Some(pod) => pod.is_some_and(|pod| pod.is_instance(&PodUid::new(uid)) && !pod.finished()),
        }
    }
}

fn owner_name(eip: &Eip) -> Option<Name> {
    Some((eip.tags.get(owner::TAG_NAMESPACE)?.clone(), eip.tags.get(owner::TAG_POD)?.clone()))
}
