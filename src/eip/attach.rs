//! ADD: intent, allocate, bind, wait, publish; resumable from every point at which it can die.

use std::time::Duration;

use crate::cloud::Eip;
use crate::deadline::Deadline;
use crate::eip::allocate::{allocate, allocation};
use crate::eip::bind::{self, Bound};
use crate::eip::coexist;
use crate::eip::conclude;
use crate::eip::contest::{self, Occupancy};
use crate::eip::detach;
use crate::eip::failure::{Failure, Kind};
use crate::eip::guard;
use crate::eip::journal::{Journal, new_record, next_generation};
use crate::eip::lasting;
use crate::eip::node::{Node, panicked};
use crate::eip::owner::{self, OwnerTags};
use crate::eip::package;
use crate::eip::publish;
use crate::eip::request::{Requested, Source};
use crate::eip::sandbox::Sandbox;
use crate::eip::surroundings::Surroundings;
use crate::kube::{Pod, PodEip};
use crate::measure::Stage;
use crate::names::{BandwidthPackageId, EipId, EipKind};
use crate::settings::Settings;
use crate::state::format::{AttachedEip, Attachment, Phase};
use crate::strategy::Strategy;

mod undo;

/// Kept from the verb's time for undoing a failed try: one unbinding call and a few looks.
const ROLLBACK_TIME: Duration = Duration::from_secs(8);

/// An EIP may vanish, be freed or be cleared away under us this often before ADD gives up.
const BIND_TRIES: usize = 4;

/// The time of one ADD: `work` ends early enough that a failed try is undone and told before the
/// whole, `verb`, is over.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    pub work: Deadline,
    pub verb: Deadline,
}

impl Time {
    pub fn of(settings: &Settings) -> Self {
        let verb = Deadline::after(settings.add_timeout);
        Self { work: verb.keeping(ROLLBACK_TIME.min(settings.add_timeout / 4)), verb }
    }
}

/// Whether the pod's events carry a failure already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Already,
    NotYet,
}

/// Gives the sandbox its EIP: when this returns `Ok`, it is bound and published.
///
/// `known_pod` is the pod object if the caller had to read it already.
///
/// # Errors
/// Anything that kept it from that. What was bound is unbound again as far as the time allows; a
/// new EIP is kept for the next try of the same pod.
pub fn attach(
    node: &Node,
    sandbox: &Sandbox,
    requested: Requested,
    known_pod: Option<Pod>,
    time: Time,
) -> Result<(), (Failure, Told)> {
    let untold = |failure| (failure, Told::NotYet);
    let locked = node.store.lock_pod(&sandbox.pod.namespace, &sandbox.pod.name, time.work);
    let _lock = locked.map_err(|error| untold(error.into()))?;
    // An orphan that waited for the lock must not take the EIP from the pod's next sandbox.
    sandbox.still_there(node, time.work).map_err(untold)?;
    let earlier = guard::finish_namesakes(node, sandbox, time.work.within(node.recovery_time())).map_err(untold)?;
    let mut attempt = Attempt::begin(node, sandbox, requested, earlier, time.work).map_err(untold)?;
    attempt.run(known_pod).map_err(|failure| {
        let told = attempt.undo(&failure, time.verb);
        (failure, told)
    })
}

/// An EIP and the bandwidth package it is in.
type FoundEip = (AttachedEip, Option<BandwidthPackageId>);

struct Attempt<'a> {
    node: &'a Node,
    cluster: &'a str,
    sandbox: &'a Sandbox,
    requested: Requested,
    journal: Journal<'a>,
    pod: Option<Pod>,
    /// The PodEIP as last seen or written.
    claim: Option<PodEip>,
    deadline: Deadline,
}

impl<'a> Attempt<'a> {
    /// Takes up the record of this pod instance, from whichever sandbox, or prepares a new one.
    fn begin(
        node: &'a Node,
        sandbox: &'a Sandbox,
        requested: Requested,
        earlier: Option<Attachment>,
        deadline: Deadline,
    ) -> Result<Self, Failure> {
        let cluster = node.cluster()?;
        let anew = || Journal::prepare(&node.store, new_record(cluster, sandbox, 0));
        let mut journal = earlier.map_or_else(anew, |record| Journal::resume(&node.store, record));
        if !journal.record().is(&sandbox.container_id, &sandbox.ifname) {
            journal.hand_over(&sandbox.container_id, &sandbox.netns)?;
        }
        Ok(Self { node, cluster, sandbox, requested, journal, pod: None, claim: None, deadline })
    }

    fn run(&mut self, known_pod: Option<Pod>) -> Result<(), Failure> {
        let node = self.node;
        let (record, source) = (self.journal.record(), &self.requested.wish.source);
        // Whoever was about to buy has looked; its token tells more, and looks are few.
        let buying = matches!((source, &record.eip, &record.allocation), (Source::Allocate(_), None, None));
        self.pod = known_pod.clone();
        let around = Surroundings::read(node, self.sandbox, known_pod, buying, self.deadline)?;
        self.pod = Some(around.pod.clone());
        self.claim = around.pod_eip.clone();
        let kinds = &self.node.settings.custom_stateful_workload_kinds;
        if let Some(notice) = lasting::fall_back(&mut self.requested.wish.strategy, &around.pod, kinds) {
            self.requested.notices.push(notice);
        }
        self.settle_earlier_wish(&around)?;
        node.tally.time(Stage::Allocate, || self.obtain(&around))?;
        for _ in 0..BIND_TRIES {
            self.sandbox.still_there(self.node, self.deadline)?;
            match self.bind_and_claim(&around)? {
                Bound::Yes(eip) => {
                    self.sandbox.still_there(self.node, self.deadline)?;
                    return self.finish(&around, &eip);
                }
                Bound::Refused(failure) => return Err(failure),
                Bound::Vanished => {
                    self.forget_vanished()?;
                    node.tally.time(Stage::Allocate, || self.obtain(&around))?;
                }
                Bound::Elsewhere(eip) => self.contest(&around, &eip)?,
                Bound::Occupied(eip) => {
                    let cloud = self.node.cloud()?;
                    contest::clear_occupant(cloud, &eip, self.cluster, self.sandbox, &around.binding, self.deadline)?;
                }
            }
        }
        Err(Failure::new(Kind::TryAgain, format!("the EIP of pod {} kept changing hands", self.sandbox.pod)))
    }

    /// Undoes what an earlier try of this pod did for another wish or another address, or was
    /// about to undo itself.
    fn settle_earlier_wish(&mut self, around: &Surroundings) -> Result<(), Failure> {
        if matches!(self.requested.wish.source, Source::Named(_)) {
            // The user's EIP takes the place of one that may have been bought without an answer.
            conclude::resolve_intent(self.node, &mut self.journal, self.deadline)?;
        }
        let record = self.journal.record();
        let fits = match (&self.requested.wish.source, &record.eip) {
            (_, None) => true,
            (Source::Named(id), Some(eip)) => eip.id == *id,
            // One that was taken from a PodEIP is the user's, and serves as well.
            (Source::Allocate(_), Some(eip)) => eip.kind == EipKind::Auto || self.published(&eip.id),
        };
        let moved = record.binding.as_ref().is_some_and(|binding| *binding != around.binding);
        // The call that unbinds may still be on its way, and would undo a new binding.
        let unbinding = record.phase == Phase::Unbinding;
        if !fits || moved || unbinding {
            detach::unbind_recorded(self.node, &mut self.journal, self.deadline)?;
        }
        if fits {
            return Ok(());
        }
        conclude::release_recorded(self.node, &mut self.journal, self.deadline)?;
        let fresh = new_record(self.cluster, self.sandbox, next_generation(self.journal.record().generation));
        self.journal.save(|record| *record = fresh)
    }

    /// Sees to it that the record has an EIP.
    fn obtain(&mut self, around: &Surroundings) -> Result<(), Failure> {
        let strategy = self.requested.wish.strategy;
        match self.requested.wish.source.clone() {
            Source::Named(id) => {
                contest::refuse_to_orphan(self.claim.as_ref(), self.sandbox)?;
                self.hold((AttachedEip { id, address: None, kind: EipKind::Static }, None), strategy, around)
            }
            Source::Allocate(parameters) => {
                if let Some(found) = self.eip_of_this_pod(around)? {
                    return self.hold(found, strategy, around);
                }
                // One that may have been bought already is seen through.
                if self.journal.record().allocation.is_none() {
                    coexist::refuse_beside_rival(self.node, &self.sandbox.pod)?;
                }
                let node_name = around.pod.node.clone().unwrap_or_default();
                let wanted = allocation(&parameters, self.cluster, &self.sandbox.pod, &node_name);
                self.journal.note(|record| record.strategy = strategy);
                let cloud = self.node.cloud()?;
                allocate(cloud, self.cluster, &mut self.journal, wanted, self.deadline, &mut self.requested.notices)
            }
        }
    }

    /// The EIP that this pod already has or inherits, so that none is bought.
    fn eip_of_this_pod(&self, around: &Surroundings) -> Result<Option<FoundEip>, Failure> {
        let record = self.journal.record();
        if let Some(eip) = &record.eip {
            return Ok(Some((eip.clone(), record.bandwidth_package.clone())));
        }
        // A package that no pod asked for was somebody's own doing, and the EIP's own until the end.
        let joined = |eip: &Eip| {
            let claim = self.claim.as_ref().filter(|claim| claim.spec.allocation_id == eip.id)?;
            claim.spec.bandwidth_package_id.clone()
        };
        let found = |eip: &Eip, kind| (AttachedEip { id: eip.id.clone(), address: eip.address, kind }, joined(eip));
        match contest::judge_occupant(around.occupant.clone(), self.cluster, self.sandbox)? {
            Occupancy::Own(eip) => return Ok(Some(found(&eip, EipKind::Auto))),
            Occupancy::Stale(eip) => {
                let cloud = self.node.cloud()?;
                contest::clear_occupant(cloud, &eip, self.cluster, self.sandbox, &around.binding, self.deadline)?;
            }
            Occupancy::Free => {}
        }
        let Some(pod_eip) = &self.claim else { return Ok(None) };
        let own = pod_eip.pod_uid().as_ref() == Some(&self.sandbox.pod.uid);
        let own = own && (pod_eip.spec.kind == EipKind::Auto || self.published(&pod_eip.spec.allocation_id));
        if pod_eip.deleting || !(own || contest::inherits(pod_eip, &self.sandbox.pod.uid)) {
            return Ok(None);
        }
        if pod_eip.pod_uid().is_none() {
            // Whoever wrote it would go on with it.
            coexist::refuse_beside_rival(self.node, &self.sandbox.pod)?;
        }
        // A PodEIP may name an EIP that was released behind its back; then one is bought.
        let Some(eip) = self.node.cloud()?.eip(&pod_eip.spec.allocation_id, self.deadline)? else { return Ok(None) };
        // One that other tools or people wrote proves nothing, and what we did not buy is never released.
        let marked = pod_eip.spec.kind == EipKind::Auto && pod_eip.pod_uid().is_some();
        let bought = owner::is_ours(&eip, self.cluster) || marked;
        Ok(Some(found(&eip, if bought { EipKind::Auto } else { EipKind::Static })))
    }

    /// Whether this pod's own PodEIP shows `id` to the cluster already.
    fn published(&self, id: &EipId) -> bool {
        self.claim.as_ref().is_some_and(|claim| {
            let own = claim.pod_uid().as_ref() == Some(&self.sandbox.pod.uid);
            own && !claim.deleting && claim.status.is_some() && claim.spec.allocation_id == *id
        })
    }

    fn hold(&mut self, (eip, package): FoundEip, strategy: Strategy, around: &Surroundings) -> Result<(), Failure> {
        let record = self.journal.record();
        let known = record.eip.as_ref().is_some_and(|recorded| recorded.id == eip.id);
        let in_place = record.binding.is_none() && self.is_seen_in_place(&eip.id, around);
        if known && record.strategy == strategy && !in_place {
            return Ok(());
        }
        self.journal.save(|record| {
            record.strategy = strategy;
            if !known {
                record.phase = Phase::Allocated;
                record.eip = Some(eip);
                record.bandwidth_package = package;
            }
            if in_place {
                record.phase = Phase::Binding;
                record.binding = Some(around.binding.clone());
            }
        })
    }

    /// Whether the cloud or the PodEIP shows `id` on this address already, as after the loss of the record: whatever
    /// becomes of this try, it has to be unbound in the end.
    fn is_seen_in_place(&self, id: &EipId, around: &Surroundings) -> bool {
        let published = self.claim.as_ref().filter(|claim| claim.spec.allocation_id == *id).and_then(|claim| {
            let status = claim.status.as_ref()?;
            status.network_interface_id.as_ref().zip(status.private_ip_address)
        });
        published == Some((&around.binding.eni, around.binding.private_ip))
            || around.occupant.as_ref().is_some_and(|eip| eip.id == *id)
    }

    /// Binds while the PodEIP is written: neither needs the other.
    fn bind_and_claim(&mut self, around: &Surroundings) -> Result<Bound, Failure> {
        let (cloud, kube) = (self.node.cloud()?, self.node.kube()?);
        let Requested { wish, notices } = &mut self.requested;
        package::join_wished(cloud, &mut self.journal, wish, notices, self.deadline)?;
        if let Some((claim, notice)) =
            contest::take_over(kube, &around.pod, self.journal.record(), self.claim.as_ref(), self.deadline)?
        {
            self.claim = Some(claim);
            notices.push(notice);
        }
        let certainly_free = self.journal.record().binding.is_none();
        self.journal.save(|record| {
            record.phase = Phase::Binding;
            record.binding = Some(around.binding.clone());
        })?;
        // Only now: whoever gets this address after the sandbox went finds the record above.
        if let Err(gone) = self.sandbox.still_there(self.node, self.deadline) {
            self.nothing_was_sent(certainly_free)?;
            return Err(gone);
        }
        let (record, existing) = (self.journal.record().clone(), self.claim.take());
        let Some(eip) = &record.eip else {
            return Err(Failure::new(Kind::LocalState, format!("the record of pod {} lost its EIP", record.pod)));
        };
        let mut tags = OwnerTags::wanted(&record, self.cluster, around.pod.node.as_deref().unwrap_or_default());
        // An earlier process may have bought it a moment ago.
        let fresh = eip.kind == EipKind::Auto;
        let deadline = self.deadline;
        let (bound, claimed) = std::thread::scope(|scope| {
            let claim = scope.spawn(|| publish::claim(kube, &around.pod, &record, existing, deadline));
            let mut mend = |eip: &Eip| tags.mend(cloud, eip, deadline);
            let bound = bind::bind(cloud, &eip.id, &around.binding, fresh, deadline, &mut mend, &self.node.timing());
            // One that an earlier try bound was never seen under way.
            if let Ok(Bound::Yes(eip)) = &bound {
                mend(eip);
            }
            (bound, claim.join().map_err(|_| panicked("writing the PodEIP")))
        });
        if let Ok(Bound::Refused(_)) = &bound {
            self.nothing_was_sent(certainly_free)?;
        }
        self.claim = Some(claimed??);
        bound
    }

    /// Takes back the intent to bind, unless an earlier try's is behind it.
    fn nothing_was_sent(&mut self, certainly_free: bool) -> Result<(), Failure> {
        if !certainly_free {
            return Ok(());
        }
        self.journal.save(|record| {
            record.phase = Phase::Held;
            record.binding = None;
        })
    }

    fn contest(&mut self, around: &Surroundings, eip: &Eip) -> Result<(), Failure> {
        let kind = self.journal.record().eip.as_ref().map_or(EipKind::Static, |eip| eip.kind);
        contest::free_elsewhere(self.node, eip, kind, self.sandbox, around.pod_eip.as_ref(), self.deadline)
    }

    /// The recorded EIP is gone from the cloud: a named one cannot be replaced, ours is bought anew.
    fn forget_vanished(&mut self) -> Result<(), Failure> {
        let record = self.journal.record();
        let named = matches!(self.requested.wish.source, Source::Named(_));
        if let (true, Some(AttachedEip { id, .. })) = (named, &record.eip) {
            return Err(Failure::new(
                Kind::EipUnavailable,
                format!("{id}, named by pod {}, does not exist", self.sandbox.pod),
            )
            .hinting("correct pod-eip-instanceid; the EIP must be of this account and region"));
        }
        log::warn!("the EIP of pod {} is gone from the cloud; another one is allocated", self.sandbox.pod);
        let fresh = new_record(self.cluster, self.sandbox, next_generation(record.generation));
        self.journal.save(|record| *record = fresh)
    }

    fn finish(&mut self, around: &Surroundings, eip: &Eip) -> Result<(), Failure> {
        let kube = self.node.kube()?;
        self.journal.note(|record| {
            record.phase = Phase::Bound;
            if let Some(recorded) = &mut record.eip {
                recorded.address = eip.address;
            }
        });
        let Some(claim) = &self.claim else {
            return Err(Failure::new(
                Kind::Kubernetes,
                format!("pod {} has no PodEIP to publish in", self.sandbox.pod),
            ));
        };
        self.node
            .tally
            .time(Stage::Publish, || publish::publish(kube, &around.pod, claim, eip, &around.binding, self.deadline))?;
        self.journal.save(|record| {
            record.published = true;
            record.last_error = None;
        })?;
        let outcome = publish::outcome(eip, &around.binding.eni);
        publish::tell_both(kube, &around.pod, claim, &outcome, &self.requested.notices, self.deadline);
        log::info!(
            "pod {}: {} is bound to {} on {}",
            self.sandbox.pod,
            eip.id,
            around.binding.private_ip,
            around.binding.eni
        );
        Ok(())
    }
}
