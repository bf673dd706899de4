//! The check of this node's pods: one that asks for an EIP and runs without was there before podeip.

use std::collections::BTreeSet;

use super::check::Finding;
use super::subject::Subject;
use crate::eip::failure::{Failure, chain};
use crate::eip::request;
use crate::kube::{Pod, PodEip};
use crate::state::format::Attachment;

/// So many are named; who has more knows where to look.
const MOST_NAMED: usize = 10;

pub fn pods_without_eip(subject: &Subject) -> Finding {
    let lacking = match lacking(subject) {
        Ok(lacking) => lacking,
        Err(failure) => return Finding::skip(chain(&failure)),
    };
    if lacking.is_empty() {
        return Finding::pass("every running pod of this node that asks for an EIP has one");
    }
    let more = lacking.len().saturating_sub(MOST_NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let named: Vec<String> = lacking.into_iter().take(MOST_NAMED).collect();
    Finding::warn(
        format!("pods that ask for an EIP and run without: {}{more}", named.join(", ")),
        "create them again (an EIP is set up with a pod's network), or set \"late_attach\" to \"attach\" in eni_conf",
    )
}

fn lacking(subject: &Subject) -> Result<Vec<String>, Failure> {
    let kube = subject.kube()?;
    let mut asking = kube.pods_of_node(&subject.identity()?.node, subject.list_deadline())?;
    asking.retain(runs_and_asks);
    if asking.is_empty() {
        return Ok(Vec::new());
    }
    // After the pods, so that what has got its EIP meanwhile shows.
    let (records, pod_eips) = (subject.records()?, kube.pod_eips(None, subject.list_deadline())?);
    asking.retain(|pod| !is_served(pod, &records, &pod_eips));
    let names: BTreeSet<String> = asking.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
    Ok(names.into_iter().collect())
}

/// A pod that does not run yet is being served, or its events say why it is not. On the host's
/// network podeip is not called.
fn runs_and_asks(pod: &Pod) -> bool {
    pod.phase == "Running"
        && !pod.terminating
        && !pod.host_network
        && matches!(request::read(&pod.annotations), Ok(Some(_)))
}

fn is_served(pod: &Pod, records: &[Attachment], pod_eips: &[PodEip]) -> bool {
    let recorded = records.iter().any(|record| record.eip.is_some() && pod.is_instance(&record.pod.uid));
    let claimed = |it: &PodEip| {
        it.namespace == pod.namespace && it.name == pod.name && it.pod_uid().is_none_or(|uid| pod.is_instance(&uid))
    };
    recorded || pod_eips.iter().any(claimed)
}
