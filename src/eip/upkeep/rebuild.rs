//! Records that were lost with the state file, rebuilt from PodEIPs and owner tags.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;

use super::pods::Pods;
use crate::cloud::{Cloud, Eip, EipFilter, EipStatus};
use crate::deadline::Deadline;
use crate::eip::failure::Failure;
use crate::eip::journal::STATE_LOCK_WAIT;
use crate::eip::lasting;
use crate::eip::node::Node;
use crate::eip::owner;
use crate::eip::request::{self, Parameters, Requested, Source};
use crate::eip::sandbox::POD_INTERFACE;
use crate::kube::{Pod, PodEip};
use crate::names::{ContainerId, EipKind, PodRef, PodUid};
use crate::state::format::{AttachedEip, Attachment, Binding, Phase};
use crate::strategy::Strategy;

/// For one pod: its PodEIP and its EIP.
const LOOK_TIME: Duration = Duration::from_secs(15);

/// Rebuilds the records of this node's pods that have an EIP and no record, and says which.
///
/// A rebuilt record knows neither container id nor netns: its pod's fate alone says when it ends,
/// and a DEL finds it by UID and address.
pub fn rebuild(node: &Node, pods: &Pods, until: Deadline) -> Result<Vec<Attachment>, Failure> {
    let records = node.store.attachments()?;
    let unrecorded: Vec<&Pod> = pods.iter().filter(|pod| wants(pod) && !is_recorded(&records, pod)).collect();
    let mut rebuilt = Vec::new();
    let mut tagged = None;
    for pod in unrecorded {
        let Some(record) = record_of(node, pod, &mut tagged, until.within(LOOK_TIME))? else { continue };
        let Some(_lock) = node.store.try_lock_pod(&pod.namespace, &pod.name)? else { continue };
        // An ADD may have begun and ended since the records were read.
        if is_recorded(&node.store.attachments()?, pod) {
            continue;
        }
        log::warn!("pod {}: its record was lost and is rebuilt ({:?})", record.pod, record.phase);
        node.store.put(Deadline::after(STATE_LOCK_WAIT), &record)?;
        rebuilt.push(record);
    }
    Ok(rebuilt)
}

/// Stands for the container id that a rebuilt record does not know.
pub fn rebuilt_id(uid: &PodUid) -> ContainerId {
    ContainerId::new(format!("rebuilt-{uid}"))
}

fn wants(pod: &Pod) -> bool {
    !pod.host_network && !pod.finished() && matches!(request::read(&pod.annotations), Ok(Some(_)))
}

fn is_recorded(records: &[Attachment], pod: &Pod) -> bool {
    records.iter().any(|record| {
        record.pod.namespace == pod.namespace && record.pod.name == pod.name && pod.is_instance(&record.pod.uid)
    })
}

/// The record that the cluster and the cloud still know of, if there is one. `tagged` keeps the
/// listing of our EIPs from one pod to the next.
fn record_of(
    node: &Node,
    pod: &Pod,
    tagged: &mut Option<Vec<Eip>>,
    until: Deadline,
) -> Result<Option<Attachment>, Failure> {
    let claim = node.kube()?.pod_eip(&pod.namespace, &pod.name, until)?;
    // It is another system's, perhaps handed back to it.
    if claim.as_ref().is_some_and(|claim| claim.pod_uid().is_none()) {
        return Ok(None);
    }
    let claim = claim.filter(|claim| claim.pod_uid().is_some_and(|uid| pod.is_instance(&uid)));
    if let Some(claim) = claim {
        let Some(uid) = claim.pod_uid() else { return Ok(None) };
        let Some(eip) = node.cloud()?.eip(&claim.spec.allocation_id, until)? else { return Ok(None) };
        return Ok(Some(from_claim(node.cluster()?, pod, uid, &claim, &eip)));
    }
    let ours = match tagged {
        Some(ours) => ours,
        None => tagged.insert(list_ours(node.cloud()?, node.cluster()?, until)?),
    };
    let own = ours.iter().find(|eip| uid_tag(eip).is_some_and(|uid| pod.is_instance(&uid)));
    own.map_or(Ok(None), |eip| from_tags(node, pod, eip))
}

fn list_ours(cloud: &Cloud, cluster: &str, until: Deadline) -> Result<Vec<Eip>, Failure> {
    let tags = BTreeMap::from([(owner::TAG_CLUSTER.to_string(), cluster.to_string())]);
    Ok(cloud.describe_eips(&EipFilter::Tags(tags), until)?)
}

fn uid_tag(eip: &Eip) -> Option<PodUid> {
    eip.tags.get(owner::TAG_UID).map(PodUid::new)
}

fn from_claim(cluster: &str, pod: &Pod, uid: PodUid, claim: &PodEip, eip: &Eip) -> Attachment {
    let binding = published_binding(claim, eip).or_else(|| binding_of(pod, eip));
    let is_published = published_is_shown(pod, eip) || claim.status.is_some();
    placed(claimed(cluster, uid, claim, eip), eip, binding, is_published)
}

/// Where the EIP was published, even if it sits elsewhere by now: that is drift, and reported as such.
fn published_binding(claim: &PodEip, eip: &Eip) -> Option<Binding> {
    let status = claim.status.as_ref()?;
    let (eni, private_ip) = status.network_interface_id.clone().zip(status.private_ip_address)?;
    Some(Binding { primary: eip.instance_id.is_some() && eip.private_ip.is_none(), eni, private_ip })
}

fn claimed(cluster: &str, uid: PodUid, claim: &PodEip, eip: &Eip) -> Attachment {
    let pod = PodRef { namespace: claim.namespace.clone(), name: claim.name.clone(), uid };
    let mut record = unsandboxed(cluster, pod, eip, claim.spec.kind);
    record.strategy = claim.spec.strategy;
    record.bandwidth_package = claim.spec.bandwidth_package_id.clone();
    record
}

/// The record of a pod that is over and of which only the PodEIP tells.
pub fn outliving(cluster: &str, uid: PodUid, claim: &PodEip, eip: &Eip) -> Attachment {
    placed(claimed(cluster, uid, claim, eip), eip, published_binding(claim, eip), false)
}

/// Without its PodEIP the EIP is as the pod asks for it, as far as that can be.
fn from_tags(node: &Node, pod: &Pod, eip: &Eip) -> Result<Option<Attachment>, Failure> {
    let Some(uid) = uid_tag(eip) else { return Ok(None) };
    let instance = PodRef { namespace: pod.namespace.clone(), name: pod.name.clone(), uid };
    let mut record = unsandboxed(node.cluster()?, instance, eip, EipKind::Auto);
    if let Ok(Some(Requested { wish, .. })) = request::read(&pod.annotations) {
        record.strategy = wish.strategy;
        lasting::fall_back(&mut record.strategy, pod, &node.settings.custom_stateful_workload_kinds);
        if let Source::Allocate(Parameters { bandwidth_package, .. }) = wish.source {
            record.bandwidth_package = bandwidth_package.filter(|it| eip.bandwidth_package.as_ref() == Some(it));
        }
    }
    let binding = binding_of(pod, eip);
    if eip.instance_id.is_some() && binding.is_none() {
        log::warn!("{} of pod {} is bound to something that is not the pod's", eip.id, record.pod);
        return Ok(None);
    }
    Ok(Some(placed(record, eip, binding, published_is_shown(pod, eip))))
}

fn published_is_shown(pod: &Pod, eip: &Eip) -> bool {
    pod.annotations.get(crate::eip::publish::ID_KEYS[0]).is_some_and(|shown| shown == eip.id.as_str())
}

/// Where the cloud shows the EIP, if that is an address of the pod.
fn binding_of(pod: &Pod, eip: &Eip) -> Option<Binding> {
    let eni = eip.instance_id.clone().filter(|_| eip.instance_type.as_deref() == Some("NetworkInterface"))?;
    let of_pod = |address: &Ipv4Addr| pod.ips.contains(address);
    let (private_ip, primary) = match eip.private_ip {
        Some(address) => (of_pod(&address).then_some(address)?, false),
        None => (*pod.ips.first()?, true),
    };
    Some(Binding { eni: crate::names::EniId::new(eni), private_ip, primary })
}

/// `Bound` where it is, and `Held` if the cloud shows it free: the pod may be between two sandboxes,
/// and what was published may be the address of the last one.
fn placed(mut record: Attachment, eip: &Eip, binding: Option<Binding>, is_published: bool) -> Attachment {
    match binding {
        Some(binding) if eip.status != EipStatus::Available => {
            record.phase = Phase::Bound;
            record.binding = Some(binding);
            record.published = is_published;
        }
        _ => record.phase = Phase::Held,
    }
    record
}

/// The record of an EIP that is bound nowhere, for a pod of whose sandbox nothing is known.
pub fn unsandboxed(cluster: &str, pod: PodRef, eip: &Eip, kind: EipKind) -> Attachment {
    let now = Timestamp::now();
    // Beyond any generation that this pod's lost record can have had.
    let generation = u32::try_from(now.as_second()).unwrap_or(u32::MAX);
    Attachment {
        container_id: rebuilt_id(&pod.uid),
        ifname: POD_INTERFACE.into(),
        netns: String::new(),
        client_token: owner::client_token(cluster, &pod.uid, POD_INTERFACE, generation),
        pod,
        phase: Phase::Held,
        generation,
        allocation: None,
        eip: Some(AttachedEip { id: eip.id.clone(), address: eip.address, kind }),
        binding: None,
        strategy: Strategy::Follow,
        bandwidth_package: None,
        published: false,
        created_at: now,
        updated_at: now,
        last_error: None,
    }
}
