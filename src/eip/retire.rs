//! Ending an attachment on an operator's order, whether its pod lives on or not.

use crate::deadline::Deadline;
use crate::eip::conclude::conclude;
use crate::eip::detach::{self, Ending, Fate};
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::publish::{self, is_claim_of};
use crate::eip::request::Notice;
use crate::kube::{Kube, Pod};
use crate::names::EipId;
use crate::state::format::Attachment;

/// Event reason: a living pod lost its EIP, because an operator said so.
const WITHDRAWN: &str = "EIPWithdrawn";

/// What becomes of the EIP once it is unbound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// As at its pod's end: it is released, or kept with its PodEIP.
    AsAtPodsEnd,
    /// Its PodEIP goes, whatever its strategy: it is released unless it is the user's.
    ForGood,
}

/// Unbinds the EIP of `seen` and ends the attachment. A pod that lives on shows no EIP any more, and its
/// events say `why`.
///
/// # Errors
/// What keeps it from being ended; the record then stays, for another try. Without the API server it is
/// not known what is to be kept, and nothing is unbound.
pub fn retire(node: &Node, seen: &Attachment, terms: Terms, why: &str, deadline: Deadline) -> Result<Ending, Failure> {
    let _lock = node.store.lock_pod(&seen.pod.namespace, &seen.pod.name, deadline)?;
    let Some(record) = detach::find(&node.store, &seen.container_id, &seen.ifname)? else {
        return Ok(Ending::Nothing);
    };
    let mut journal = Journal::resume(&node.store, record);
    let outcome = take_back(node, &mut journal, terms, why, deadline);
    detach::close(journal, outcome)
}

fn take_back(
    node: &Node,
    journal: &mut Journal,
    terms: Terms,
    why: &str,
    deadline: Deadline,
) -> Result<Ending, Failure> {
    let kube = node.kube()?;
    let record = journal.record().clone();
    let pod = kube.pod(&record.pod.namespace, &record.pod.name, deadline)?;
    let living = pod.filter(|pod| pod.is_instance(&record.pod.uid) && !pod.finished());
    if terms == Terms::ForGood && living.is_some() && record.binding.is_some() {
        return Err(Failure::new(Kind::TryAgain, format!("pod {} uses its EIP again", record.pod)));
    }
    let mut pod_eip = kube.pod_eip(&record.pod.namespace, &record.pod.name, deadline)?;
    if let (Terms::ForGood, Some(own)) = (terms, pod_eip.as_ref().filter(|it| is_claim_of(it, &record))) {
        pod_eip = kube.begin_pod_eip_deletion(own, deadline)?;
    }
    if record.binding.is_some() {
        detach::unbind_recorded(node, journal, deadline)?;
    }
    if let (Some(pod), Some(eip)) = (&living, &record.eip) {
        withdraw(kube, pod, &eip.id, why, deadline)?;
    }
    // A pod that still stands is over for its EIP all the same; a time to live counts from now.
    let fate = if living.is_some() { Fate::Terminating } else { Fate::Over("its pod is over") };
    conclude(node, journal, &fate, pod_eip, deadline)
}

fn withdraw(kube: &Kube, pod: &Pod, eip: &EipId, why: &str, deadline: Deadline) -> Result<(), Failure> {
    let notice = Notice { reason: WITHDRAWN, message: format!("{eip} was unbound: {why}"), warning: true };
    publish::unpublish(kube, pod, eip, &notice, deadline)?;
    publish::tell(kube, pod, &notice, &[], deadline);
    Ok(())
}
