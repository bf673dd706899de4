//! Ending an attachment on an operator's order, whether its pod lives on or not.

use crate::deadline::Deadline;
use crate::eip::conclude::conclude;
use crate::eip::detach::{self, Ending, Fate};
use crate::eip::failure::Failure;
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::publish;
use crate::eip::request::Notice;
use crate::kube::{Kube, Pod};
use crate::names::EipId;
use crate::state::format::Attachment;

/// Event reason: a living pod lost its EIP, because an operator said so.
const WITHDRAWN: &str = "EIPWithdrawn";

/// Unbinds the EIP of `seen` and, as at its pod's end, releases it or keeps it with its PodEIP. A pod
/// that lives on shows no EIP any more, and its events say `why`.
///
/// # Errors
/// What keeps it from being ended; the record then stays, for another try. Without the API server it is
/// not known what is to be kept, and nothing is unbound.
pub fn retire(node: &Node, seen: &Attachment, why: &str, deadline: Deadline) -> Result<Ending, Failure> {
    let _lock = node.store.lock_pod(&seen.pod.namespace, &seen.pod.name, deadline)?;
    let Some(record) = detach::find(&node.store, &seen.container_id, &seen.ifname)? else {
        return Ok(Ending::Nothing);
    };
    let mut journal = Journal::resume(&node.store, record);
    let outcome = take_back(node, &mut journal, why, deadline);
    detach::close(journal, outcome)
}

fn take_back(node: &Node, journal: &mut Journal, why: &str, deadline: Deadline) -> Result<Ending, Failure> {
    let kube = node.kube()?;
    let record = journal.record().clone();
    let pod = kube.pod(&record.pod.namespace, &record.pod.name, deadline)?;
    let living = pod.filter(|pod| pod.is_instance(&record.pod.uid) && !pod.finished());
    let pod_eip = kube.pod_eip(&record.pod.namespace, &record.pod.name, deadline)?;
    if record.binding.is_some() {
        detach::unbind_recorded(node.cloud()?, journal, deadline)?;
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
    publish::unpublish(kube, pod, &notice, deadline)?;
    publish::tell(kube, pod, &notice, &[], deadline);
    Ok(())
}
