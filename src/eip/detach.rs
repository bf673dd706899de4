//! DEL and everything that ends an attachment: unbind, then hold, keep or release. Absent is done.

use std::fmt;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::eip::bind::{self, Unbound};
use crate::eip::conclude::conclude;
use crate::eip::contest;
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::{Node, panicked};
use crate::eip::publish;
use crate::kube::{Kube, Pod, PodEip};
use crate::names::{ContainerId, EipId, PodUid};
use crate::state::Store;
use crate::state::format::{Attachment, Phase};

/// The API server is asked while the cloud unbinds. One that is silent this long is down, and
/// then the EIP is held: a later round decides.
const CLUSTER_TIME: Duration = Duration::from_secs(5);

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

impl Fate {
    /// What the pod of the name says of the instance `uid`; `None`: there is no such pod.
    pub fn told_by(pod: Option<&Pod>, uid: &PodUid) -> Self {
        match pod {
            None => Fate::Over("the pod is gone"),
            Some(pod) if !pod.is_instance(uid) => Fate::Over("another pod has its name"),
            Some(pod) if pod.finished() => Fate::Over("the pod has finished"),
            Some(pod) if pod.terminating => Fate::Terminating,
            Some(_) => Fate::Wanted,
        }
    }
}

/// What became of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Unbound and kept for the pod's next sandbox.
    Held(String),
    /// Unbound and kept, because the API server did not say what became of the pod: its answer.
    Undecided(String),
    /// Bound again, for the sandbox that runs.
    Bound,
    /// Being unbound; the agent of this node finishes it.
    Handed,
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
            Ending::Bound => f.write_str("its EIP is bound again"),
            Ending::Handed => f.write_str("its EIP is being unbound, and the agent finishes it"),
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

/// DEL on a node whose agent lives: asks the cloud to unbind, once, and leaves the rest to the agent,
/// whom the change of the record wakes.
///
/// # Errors
/// As [`detach`].
pub fn hand_to_agent(
    node: &Node,
    container_id: &ContainerId,
    ifname: &str,
    deadline: Deadline,
) -> Result<Ending, Failure> {
    let Some(seen) = find(&node.store, container_id, ifname)? else { return Ok(Ending::Nothing) };
    let _lock = node.store.lock_pod(&seen.pod.namespace, &seen.pod.name, deadline)?;
    let Some(record) = find(&node.store, container_id, ifname)? else { return Ok(Ending::Nothing) };
    let mut journal = Journal::resume(&node.store, record);
    // One that is not bound is written all the same, for the agent to look at it.
    journal.save(|record| {
        if record.binding.is_some() {
            record.phase = Phase::Unbinding;
        }
    })?;
    if let (Some(eip), Some(binding)) = (&journal.record().eip, &journal.record().binding) {
        let cloud = node.cloud()?;
        if bind::stands(cloud, &eip.id, binding, deadline)? {
            bind::ask_once_to_unbind(cloud, &eip.id, binding, deadline)?;
        }
    }
    Ok(Ending::Handed)
}

/// Takes an attachment away and forgets it, unless its EIP is held. A failure stays recorded.
pub fn end(node: &Node, mut journal: Journal, deadline: Deadline) -> Result<Ending, Failure> {
    let outcome = take_away(node, &mut journal, deadline);
    close(journal, outcome)
}

/// Has the record say how ending its attachment went.
pub fn close(mut journal: Journal, outcome: Result<Ending, Failure>) -> Result<Ending, Failure> {
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
        let unbound = if record.binding.is_some() { unbind_recorded(node, journal, deadline) } else { Ok(()) };
        (unbound, view.join().map_err(|_| panicked("asking for the pod")))
    });
    unbound?;
    let (fate, pod_eip) = view?;
    unbind_published(node, &record, pod_eip.as_ref(), deadline)?;
    conclude(node, journal, &fate, pod_eip, deadline)
}

/// Takes the EIP of a pod that is over off the place where its PodEIP still shows it, if that is not the place of
/// `record`: a pod that took it over died before it had moved it there, and the record of the pod before was lost.
pub fn unbind_published(
    node: &Node,
    record: &Attachment,
    pod_eip: Option<&PodEip>,
    deadline: Deadline,
) -> Result<(), Failure> {
    let Some(own) = pod_eip.filter(|it| publish::is_claim_of(it, record)) else { return Ok(()) };
    let published = own.status.as_ref().and_then(|it| it.network_interface_id.as_ref().zip(it.private_ip_address));
    let recorded = record.binding.as_ref().map(|binding| (&binding.eni, binding.private_ip));
    if published.is_none() || published == recorded {
        return Ok(());
    }
    let (cloud, id) = (node.cloud()?, &own.spec.allocation_id);
    let seen = cloud.eip(id, deadline)?;
    if let Some(place) = seen.and_then(|eip| contest::seen_where_published(&eip, own)) {
        log::warn!("pod {}: {id} is still on {}, where its PodEIP shows it", record.pod, place.private_ip);
        bind::unbind(cloud, id, &place, Deadline::after(Duration::ZERO), None, deadline)?;
    }
    Ok(())
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
        Ok(pod) => Fate::told_by(pod.as_ref(), &record.pod.uid),
    }
}

/// Unbinds what the record says may be bound, and waits for it.
pub fn unbind_recorded(node: &Node, journal: &mut Journal, deadline: Deadline) -> Result<(), Failure> {
    let record = journal.record();
    let (Some(eip), Some(binding)) = (record.eip.clone(), record.binding.clone()) else { return Ok(()) };
    let cloud = node.cloud()?;
    let in_doubt = bind::in_doubt_until(record.phase);
    let written = journal.save(|record| record.phase = Phase::Unbinding);
    // A record that leaves the binding open already is true afterwards too: on a full disk a failed
    // ADD is undone all the same.
    if !journal.leaves_binding_open() {
        written?;
    }
    match bind::unbind(cloud, &eip.id, &binding, in_doubt, Some(&node.store.pace_note()), deadline)? {
        Unbound::Free | Unbound::Gone => {}
        Unbound::Elsewhere(place) => log::warn!("{} was not unbound, because it is {place}", eip.id),
    }
    mark_unbound(journal)
}

/// Nothing of this attachment is bound any more.
pub fn mark_unbound(journal: &mut Journal) -> Result<(), Failure> {
    journal.save(|record| {
        record.phase = Phase::Held;
        record.binding = None;
        record.published = false;
    })
}
