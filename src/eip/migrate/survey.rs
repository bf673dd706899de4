//! What there is to migrate: this node's pods, the PodEIPs, and where the cloud shows their EIPs.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::plan::{Case, Decision, Rules, interface, is_left_behind, judge};
use super::{LISTING_TIME, Peer, refuse_beside_rival};
use crate::cloud::{Cloud, Eip, EipFilter, Eni};
use crate::deadline::Deadline;
use crate::eip::failure::Failure;
use crate::eip::node::Node;
use crate::eip::publish::shown_address;
use crate::eip::request;
use crate::kube::{Pod, PodEip};
use crate::names::{EipId, EniId};

/// What is to be done about one pod, or about a PodEIP that outlives its pod.
#[derive(Clone, Debug)]
pub struct Step {
    /// The pod's, and the PodEIP's.
    pub namespace: String,
    pub name: String,
    pub pod: Option<Pod>,
    pub pod_eip: Option<PodEip>,
    pub eip: Option<Eip>,
    pub decision: Decision,
}

/// Decides about all pods of this node that have an EIP or ask for one, and about the PodEIPs that the peer
/// keeps for pods that are gone. Tells how many pods of other nodes wait for theirs, too.
///
/// # Errors
/// Another EIP feature is active, or the API server or the cloud does not say.
pub fn survey(node: &Node, node_name: &str, from: Peer) -> Result<(Vec<Step>, usize), Failure> {
    let (kube, cloud) = (node.kube()?, node.cloud()?);
    let until = Deadline::after(LISTING_TIME);
    let pod_eips = kube.pod_eips(None, until)?;
    refuse_beside_rival(node, &pod_eips)?;
    let pods = kube.pods_of_node(node_name, until)?;
    let eips = eips(cloud, &pods, &pod_eips, until)?;
    let interfaces: BTreeSet<EniId> = eips.iter().filter_map(interface).collect();
    let enis: Vec<Eni> = cloud.enis_in_vpc(&interfaces.into_iter().collect::<Vec<_>>(), until)?;
    let kinds = &node.settings.custom_stateful_workload_kinds;
    let rules = Rules { from, cluster: node.cluster()?, enis: &enis, stateful_kinds: kinds };
    let records = node.store.attachments()?;
    let mut steps = Vec::new();
    for pod in pods.iter().filter(|pod| !pod.host_network) {
        let pod_eip = pod_eips.iter().find(|it| is_named(it, pod));
        if !asks(pod) && pod_eip.is_none() || pod.finished() && pod_eip.is_some() {
            continue;
        }
        let record = records.iter().find(|record| pod.is_instance(&record.pod.uid));
        let eip = eips.iter().find(|eip| is_of(eip, pod, pod_eip, from));
        let decision = judge(&Case { pod, record, pod_eip, eip }, &rules);
        steps.push(Step {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            pod: Some(pod.clone()),
            pod_eip: pod_eip.cloned(),
            eip: eip.cloned(),
            decision,
        });
    }
    let of_living = |it: &&PodEip| pods.iter().any(|pod| !pod.finished() && is_named(it, pod));
    let loose: Vec<&PodEip> = pod_eips.iter().filter(|it| !of_living(it)).collect();
    let elsewhere = left_behind(node, &loose, &eips, &mut steps, until)?;
    Ok((steps, elsewhere))
}

/// Adds those whose pod is over; returns how many belong to living pods of other nodes.
fn left_behind(
    node: &Node,
    pod_eips: &[&PodEip],
    eips: &[Eip],
    steps: &mut Vec<Step>,
    until: Deadline,
) -> Result<usize, Failure> {
    let of = |pod_eip: &PodEip| eips.iter().find(|eip| eip.id == pod_eip.spec.allocation_id);
    let cluster = node.cluster()?;
    let theirs: Vec<&PodEip> = pod_eips.iter().copied().filter(|it| is_left_behind(it, of(it), cluster)).collect();
    if theirs.is_empty() {
        return Ok(0);
    }
    let named = |pod: &Pod| theirs.iter().any(|it| is_named(it, pod));
    let living = node.kube()?.pods_where(|pod| !pod.finished() && named(pod), until)?;
    let (elsewhere, over): (Vec<&PodEip>, Vec<&PodEip>) =
        theirs.into_iter().partition(|it| living.iter().any(|pod| is_named(it, pod)));
    for pod_eip in over {
        let decision = match &pod_eip.problem {
            Some(problem) => Decision::Refused(format!("it is not understood: {problem}")),
            None => Decision::Mark,
        };
        steps.push(Step {
            namespace: pod_eip.namespace.clone(),
            name: pod_eip.name.clone(),
            pod: None,
            pod_eip: Some(pod_eip.clone()),
            eip: of(pod_eip).cloned(),
            decision,
        });
    }
    Ok(elsewhere.len())
}

/// The EIPs that PodEIPs and this node's pods speak of.
fn eips(cloud: &Cloud, pods: &[Pod], pod_eips: &[PodEip], until: Deadline) -> Result<Vec<Eip>, Failure> {
    let ids: BTreeSet<EipId> = pod_eips.iter().map(|it| it.spec.allocation_id.clone()).collect();
    let unclaimed = pods.iter().filter(|pod| !pod_eips.iter().any(|it| is_named(it, pod)));
    let addresses: BTreeSet<Ipv4Addr> = unclaimed.filter_map(shown_address).collect();
    let mut eips = cloud.describe_eips(&EipFilter::Ids(ids.into_iter().collect()), until)?;
    eips.extend(cloud.describe_eips(&EipFilter::Addresses(addresses.into_iter().collect()), until)?);
    Ok(eips)
}

fn is_named(pod_eip: &PodEip, pod: &Pod) -> bool {
    pod_eip.namespace == pod.namespace && pod_eip.name == pod.name
}

fn asks(pod: &Pod) -> bool {
    shown_address(pod).is_some() || !matches!(request::read(&pod.annotations), Ok(None))
}

/// The one that the PodEIP names. Terway, which need not have written one, shows the address in the pod.
fn is_of(eip: &Eip, pod: &Pod, pod_eip: Option<&PodEip>, from: Peer) -> bool {
    match pod_eip {
        Some(pod_eip) => pod_eip.spec.allocation_id == eip.id,
        None if from == Peer::Terway => shown_address(pod).is_some_and(|it| eip.address == Some(it)),
        None => false,
    }
}
