//! Checks of this node's pods: whether they are found, and whether one that asks for an EIP runs without
//! it, because it was there before podeip.

use std::collections::BTreeSet;

use super::check::Finding;
use super::subject::Subject;
use crate::eip::failure::{Failure, chain};
use crate::eip::upkeep::late;
use crate::kube::Pod;

/// So many are named; who has more knows where to look.
const MOST_NAMED: usize = 10;

/// The agent's own pod is on every node, so a name without pods is another one.
pub fn node_name(subject: &Subject) -> Finding {
    let look = || Ok::<_, Failure>((&subject.identity()?.node, subject.pods()?));
    match look() {
        Ok((node, [])) => Finding::fail(
            format!("the API server has no pod on a node named {node}"),
            "set NODE_NAME to this node's name as `kubectl get nodes` shows it; without it the host's name counts",
        ),
        Ok((node, pods)) => Finding::pass(format!("pods on {node}: {}", pods.len())),
        Err(failure) => Finding::skip(chain(&failure)),
    }
}

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
    let mut asking: Vec<&Pod> = subject.pods()?.iter().filter(|pod| late::runs_and_asks(pod)).collect();
    if asking.is_empty() {
        return Ok(Vec::new());
    }
    // After the pods, so that what has got its EIP meanwhile shows.
    let (records, pod_eips) = (subject.records()?, subject.kube()?.pod_eips(None, subject.list_deadline())?);
    let of = |pod: &Pod| pod_eips.iter().find(|it| it.namespace == pod.namespace && it.name == pod.name);
    asking.retain(|pod| !late::is_served(pod, &records, of(pod)));
    let names: BTreeSet<String> = asking.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
    Ok(names.into_iter().collect())
}
