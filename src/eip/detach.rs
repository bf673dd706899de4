//! DEL and everything that ends an attachment: unbind, then hold, keep or release. Absent is done.

use std::fmt;
use std::time::Duration;

use crate::cloud::{Class, Cloud, CloudError, Eip, EipStatus};
use crate::deadline::Deadline;
use crate::eip::allocate;
use crate::eip::bind::{self, Unbound};
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::{Node, panicked};
use crate::eip::package;
use crate::eip::publish::{self, is_claim_of};
use crate::kube::{Kube, PodEip};
use crate::names::{ContainerId, EipId, EipKind};
use crate::state::Store;
use crate::state::format::{Attachment, Phase};

/// The API server is asked while the cloud unbinds. One that is silent this long is down, and
/// then the EIP is held: a later round decides.
const CLUSTER_TIME: Duration = Duration::from_secs(5);

/// A release is refused while a change of the EIP is still settling; the next try is soon.
const RELEASE_PAUSE: Duration = Duration::from_millis(300);

/// Whether the pod of an attachment will want its EIP again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The same instance lives on: its sandbox was restarted, or its ADD failed and is retried.
    Wanted,
    /// It is being deleted; its sandbox may still run.
    Terminating,
    /// It is gone or has finished.
    Over(&'static str),
    /// The API server did not say.
    Unknown(String),
}

/// What became of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Unbound and kept for the pod's next sandbox.
    Held(String),
    /// Unbound and kept, because the API server did not say what became of the pod: its answer.
    Undecided(String),
    /// Unbound; the EIP stays, for this reason, and the record is gone.
    Kept(String),
    /// Unbound and released; the record is gone.
    Released(EipId),
    /// There was no EIP; the record is gone.
    Nothing,
}

/// For the log.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Held(until) => write!(f, "its EIP is unbound and held {until}"),
            Ending::Undecided(answer) => write!(f, "its EIP is unbound and held: {answer}"),
            Ending::Kept(reason) => write!(f, "its EIP is unbound and kept: {reason}"),
            Ending::Released(eip) => write!(f, "{eip} is unbound and released"),
            Ending::Nothing => f.write_str("it had no EIP"),
        }
    }
}

/// DEL of one sandbox interface, by `deadline`. Unknown is success.
///
/// # Errors
/// [`Kind::LocalState`] when the state cannot be written. Anything else that failed stays recorded
/// for the next ADD on that address, the agent or `podeip gc`, and is returned for the log only.
pub fn detach(node: &Node, container_id: &ContainerId, ifname: &str, deadline: Deadline) -> Result<Ending, Failure> {
    let Some(seen) = find(&node.store, container_id, ifname)? else { return Ok(Ending::Nothing) };
    let _lock = node.store.lock_pod(&seen.pod.namespace, &seen.pod.name, deadline)?;
    // It may have been handed over to a newer sandbox while this DEL waited for the lock.
    let Some(record) = find(&node.store, container_id, ifname)? else { return Ok(Ending::Nothing) };
    end(node, Journal::resume(&node.store, record), deadline)
}

/// Takes an attachment away and forgets it, unless its EIP is held. A failure stays recorded.
pub fn end(node: &Node, mut journal: Journal, deadline: Deadline) -> Result<Ending, Failure> {
    let outcome = take_away(node, &mut journal, deadline);
    match &outcome {
        Ok(Ending::Held(_) | Ending::Undecided(_)) => {}
        Ok(_) => journal.forget()?,
        Err(failure) if failure.kind == Kind::LocalState => {}
        Err(failure) => {
            let text = failure.to_string();
            journal.save(|record| record.last_error = Some(text))?;
        }
    }
    outcome
}

/// The record of one sandbox interface.
pub fn find(store: &Store, container_id: &ContainerId, ifname: &str) -> Result<Option<Attachment>, Failure> {
    let named = store.attachments_naming(container_id.as_str())?;
    Ok(named.into_iter().find(|record| record.is(container_id, ifname)))
}

/// Unbinds and, according to the pod's fate, holds, keeps or releases. The caller holds the pod's
/// lock.
fn take_away(node: &Node, journal: &mut Journal, deadline: Deadline) -> Result<Ending, Failure> {
    let record = journal.record().clone();
    let (unbound, view) = std::thread::scope(|scope| {
        let view = scope.spawn(|| cluster_view(node, &record, deadline.within(CLUSTER_TIME)));
        let unbound = if record.binding.is_some() {
            node.cloud().and_then(|cloud| unbind_recorded(cloud, journal, deadline))
        } else {
            Ok(())
        };
        (unbound, view.join().map_err(|_| panicked("asking for the pod")))
    });
    unbound?;
    let (fate, pod_eip) = view?;
    conclude(node, journal, &fate, pod_eip, deadline)
}

/// The pod's fate, and the PodEIP if the API server told.
fn cluster_view(node: &Node, record: &Attachment, deadline: Deadline) -> (Fate, Option<PodEip>) {
    let kube = match node.kube() {
        Ok(kube) => kube,
        Err(failure) => return (Fate::Unknown(failure.to_string()), None),
    };
    let fate = fate_of(kube, record, deadline);
    if matches!(fate, Fate::Wanted | Fate::Unknown(_)) {
        return (fate, None);
    }
    match kube.pod_eip(&record.pod.namespace, &record.pod.name, deadline) {
        Ok(pod_eip) => (fate, pod_eip),
        Err(error) => (Fate::Unknown(Failure::from(error).to_string()), None),
    }
}

/// What the API server says of the pod of `record`.
pub fn fate_of(kube: &Kube, record: &Attachment, deadline: Deadline) -> Fate {
    match kube.pod(&record.pod.namespace, &record.pod.name, deadline) {
        Err(error) => Fate::Unknown(Failure::from(error).to_string()),
        Ok(None) => Fate::Over("the pod is gone"),
        Ok(Some(pod)) if !pod.is_instance(&record.pod.uid) => Fate::Over("another pod has its name"),
        Ok(Some(pod)) if pod.finished() => Fate::Over("the pod has finished"),
        Ok(Some(pod)) if pod.terminating => Fate::Terminating,
        Ok(Some(_)) => Fate::Wanted,
    }
}

/// Unbinds what the record says may be bound, and waits for it.
pub fn unbind_recorded(cloud: &Cloud, journal: &mut Journal, deadline: Deadline) -> Result<(), Failure> {
    let record = journal.record();
    let (Some(eip), Some(binding)) = (record.eip.clone(), record.binding.clone()) else { return Ok(()) };
    let (phase, in_doubt) = (record.phase, bind::in_doubt_until(record.phase));
    let written = journal.save(|record| record.phase = Phase::Unbinding);
    // A record that leaves the binding open already is true afterwards too: on a full disk a failed
    // ADD is undone all the same.
    if !matches!(phase, Phase::Binding | Phase::Unbinding) {
        written?;
    }
    match bind::unbind(cloud, &eip.id, &binding, in_doubt, deadline)? {
        Unbound::Free | Unbound::Gone => {}
        Unbound::Elsewhere(place) => log::warn!("{} was not unbound, because it is {place}", eip.id),
    }
    journal.save(|record| {
        record.phase = Phase::Held;
        record.binding = None;
        record.published = false;
    })
}

/// Decides over an unbound attachment and carries the decision out.
pub fn conclude(
    node: &Node,
    journal: &mut Journal,
    fate: &Fate,
    pod_eip: Option<PodEip>,
    deadline: Deadline,
) -> Result<Ending, Failure> {
    match fate {
        Fate::Wanted => return hold(journal, Ending::Held("for the pod's next sandbox".into())),
        Fate::Unknown(answer) => return hold(journal, Ending::Undecided(answer.clone())),
        Fate::Terminating | Fate::Over(_) => {}
    }
    resolve_intent(node, journal, deadline)?;
    let record = journal.record().clone();
    let Some(eip) = &record.eip else { return Ok(Ending::Nothing) };
    let own = match claim_on(&eip.id, &record, pod_eip.as_ref()) {
        Claim::Newer => return Ok(Ending::Kept(format!("{} now belongs to a newer pod {}", eip.id, record.pod))),
        Claim::Lasting(kept) => {
            publish::unpublish_binding(node.kube()?, kept, deadline)?;
            let strategy = kept.spec.strategy;
            return Ok(Ending::Kept(format!("{} stays with PodEIP {} ({strategy})", eip.id, record.pod)));
        }
        Claim::Ending(own) => own,
    };
    let release = release_recorded(node, journal, deadline)?;
    if let Some(own) = own {
        node.kube()?.delete_pod_eip(own, deadline)?;
    }
    Ok(match release {
        Release::Done => Ending::Released(eip.id.clone()),
        Release::NotOurs => Ending::Kept(format!("{} was named by the pod and is never released", eip.id)),
    })
}

/// Whose the EIP of an attachment that ends is, by the PodEIP of its pod's name.
enum Claim<'a> {
    /// Another instance of the pod took it over.
    Newer,
    /// The PodEIP outlives its pod. What it says now counts, since its strategy can be edited.
    Lasting(&'a PodEip),
    /// It ends with the attachment, and so does this PodEIP, if it stands for the EIP.
    Ending(Option<&'a PodEip>),
}

fn claim_on<'a>(id: &EipId, record: &Attachment, pod_eip: Option<&'a PodEip>) -> Claim<'a> {
    match pod_eip.filter(|it| it.spec.allocation_id == *id) {
        Some(taken) if !is_claim_of(taken, record) && taken.pod_uid().is_some() => Claim::Newer,
        // A lasting one that is being deleted waits for this.
        Some(kept) if kept.spec.strategy.lasting() && !kept.deleting => Claim::Lasting(kept),
        own => Claim::Ending(own),
    }
}

/// What ending the attachment would do to its EIP: `release`, `keep`, or just `forget` the record.
///
/// # Errors
/// When the API server does not tell the PodEIP.
pub fn prospect(kube: &Kube, record: &Attachment, deadline: Deadline) -> Result<&'static str, Failure> {
    let Some(eip) = &record.eip else {
        // One may have been bought without an answer.
        return Ok(if record.allocation.is_some() { "release" } else { "forget" });
    };
    if eip.kind == EipKind::Static {
        return Ok("keep");
    }
    let pod_eip = kube.pod_eip(&record.pod.namespace, &record.pod.name, deadline)?;
    let ending = matches!(claim_on(&eip.id, record, pod_eip.as_ref()), Claim::Ending(_));
    Ok(if ending { "release" } else { "keep" })
}

fn hold(journal: &mut Journal, ending: Ending) -> Result<Ending, Failure> {
    let record = journal.record();
    // After an answered refusal the generation is kept: the next try needs a token of its own.
    if record.eip.is_none() && record.allocation.is_none() && record.generation == 0 {
        return Ok(Ending::Nothing);
    }
    if record.eip.is_some() && record.phase != Phase::Held {
        journal.save(|record| record.phase = Phase::Held)?;
    }
    Ok(ending)
}

/// An intent without an EIP: the allocation may have been carried out and its answer lost. The
/// owner tags find it; where they were ignored, the same token yields the same EIP again.
pub fn resolve_intent(node: &Node, journal: &mut Journal, deadline: Deadline) -> Result<(), Failure> {
    let record = journal.record();
    if record.eip.is_some() {
        return Ok(());
    }
    let Some(sent) = allocate::recorded(journal)? else { return Ok(()) };
    let (cloud, cluster) = (node.cloud()?, node.cluster()?);
    if let Some(eip) = allocate::allocated_before(cloud, cluster, &record.pod, deadline)? {
        return allocate::adopt(journal, &eip);
    }
    match allocate::allocate(cloud, cluster, journal, sent, deadline, &mut Vec::new()) {
        // Refused for good: then the first call cannot have bought anything either.
        Err(_) if journal.record().allocation.is_none() => Ok(()),
        outcome => outcome,
    }
}

/// How the release of a recorded EIP ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing of it is left in the cloud.
    Done,
    /// The user's EIPs are never released.
    NotOurs,
}

/// Releases the recorded EIP, which is not bound on our account any more, if it is ours.
pub fn release_recorded(node: &Node, journal: &mut Journal, deadline: Deadline) -> Result<Release, Failure> {
    let record = journal.record();
    let Some(eip) = record.eip.clone().filter(|eip| eip.kind == EipKind::Auto) else { return Ok(Release::NotOurs) };
    let cloud = node.cloud()?;
    if record.phase != Phase::Releasing {
        journal.save(|record| record.phase = Phase::Releasing)?;
    }
    if let Some(package) = journal.record().bandwidth_package.clone() {
        package::leave(cloud, &package, &eip.id, deadline)?;
    }
    let settled_by = Deadline::after(bind::READ_LAG);
    let mut refused: Option<CloudError> = None;
    loop {
        let error = match cloud.release_eip(&eip.id, deadline) {
            Ok(()) => return Ok(Release::Done),
            Err(error) if error.class() == Class::Conflict => error,
            // What the cloud said before tells more than a call that came too late to be sent.
            Err(error) if error.class() == Class::NotSent => return Err(refused.unwrap_or(error).into()),
            Err(error) => return Err(error.into()),
        };
        if settled_by.passed() {
            make_releasable(cloud, &eip.id, deadline)?;
        }
        if !deadline.sleep(RELEASE_PAUSE) {
            return Err(error.into());
        }
        refused = Some(error);
    }
}

/// For an EIP of ours that somebody bound elsewhere or put into a bandwidth package: waiting does
/// not free it.
fn make_releasable(cloud: &Cloud, id: &EipId, deadline: Deadline) -> Result<(), Failure> {
    match cloud.eip(id, deadline)? {
        Some(eip) if eip.status == EipStatus::InUse => Err(Failure::new(
            Kind::EipUnavailable,
            format!("{id} is {} by somebody else, so it is not released", bind::whereabouts(&eip)),
        )
        .hinting("unbind it there; the next `podeip gc` then releases it")),
        Some(Eip { bandwidth_package: Some(package), .. }) => package::leave(cloud, &package, id, deadline),
        _ => Ok(()),
    }
}
