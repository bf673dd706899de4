//! Whose EIP is it? What is done when the EIP or the private IP is already taken.

use crate::cloud::{Class, Cloud, Eip};
use crate::deadline::Deadline;
use crate::eip::bind::{self, sits_on, whereabouts};
use crate::eip::failure::{Failure, Kind};
use crate::eip::node::Node;
use crate::eip::owner;
use crate::eip::publish;
use crate::eip::request::Notice;
use crate::eip::sandbox::Sandbox;
use crate::kube::{Kube, Pod, PodEip};
use crate::names::{ClientToken, EipKind, PodRef, PodUid};
use crate::state::format::{Attachment, Binding};

/// What the pod's private IP already carries, before an EIP is bought for it.
#[derive(Debug)]
pub enum Occupancy {
    Free,
    /// This pod's own EIP, of which the record was lost.
    Own(Box<Eip>),
    /// An EIP of ours that an earlier pod of this address left behind.
    Stale(Box<Eip>),
}

/// # Errors
/// [`Kind::EipUnavailable`] when someone else bound an EIP there: it is not touched.
pub fn judge_occupant(occupant: Option<Eip>, cluster: &str, sandbox: &Sandbox) -> Result<Occupancy, Failure> {
    match occupant {
        None => Ok(Occupancy::Free),
        Some(eip) if owner::belongs_to(&eip, cluster, &sandbox.pod.uid) => Ok(Occupancy::Own(Box::new(eip))),
        Some(eip) if owner::is_ours(&eip, cluster) => Ok(Occupancy::Stale(Box::new(eip))),
        Some(eip) => Err(foreign(&eip, sandbox)),
    }
}

fn foreign(eip: &Eip, sandbox: &Sandbox) -> Failure {
    Failure::new(
        Kind::EipUnavailable,
        format!(
            "the address {} of pod {} already carries {}, which podeip did not allocate",
            sandbox.private_ip, sandbox.pod, eip.id
        ),
    )
    .hinting("unbind it by hand, or name it in pod-eip-instanceid to use it")
}

/// Takes an earlier pod's EIP off this sandbox's address.
///
/// # Errors
/// [`Kind::EipUnavailable`] for an EIP that is not ours; otherwise what kept the cloud from it.
pub fn clear_occupant(
    cloud: &Cloud,
    eip: &Eip,
    cluster: &str,
    sandbox: &Sandbox,
    binding: &Binding,
    deadline: Deadline,
) -> Result<(), Failure> {
    if !owner::is_ours(eip, cluster) {
        return Err(foreign(eip, sandbox));
    }
    log::warn!("{} of an earlier pod is still on {}; it is unbound first", eip.id, binding.private_ip);
    bind::unbind(cloud, &eip.id, binding, Deadline::after(std::time::Duration::ZERO), None, deadline)?;
    Ok(())
}

/// Whether the EIP of an existing PodEIP is to be taken over by a new pod of that name. One that was
/// to go with its pod is taken over too, if the new pod is faster: nothing need be bought then.
pub fn inherits(pod_eip: &PodEip, uid: &PodUid) -> bool {
    !pod_eip.deleting && pod_eip.spec.kind == EipKind::Auto && pod_eip.pod_uid().as_ref() != Some(uid)
}

/// Has the PodEIP of an earlier instance name this one before its EIP is touched: whoever ends that
/// instance, on whichever node, then leaves the EIP alone. `None`: there is nothing to take over.
pub fn take_over(
    kube: &Kube,
    pod: &Pod,
    record: &Attachment,
    claim: Option<&PodEip>,
    deadline: Deadline,
) -> Result<Option<(PodEip, Notice)>, Failure> {
    let of_earlier = |claim: &&PodEip| {
        let same = record.eip.as_ref().is_some_and(|eip| eip.id == claim.spec.allocation_id);
        same && claim.pod_uid().as_ref() != Some(&record.pod.uid)
    };
    let Some(earlier) = claim.filter(of_earlier) else { return Ok(None) };
    let claimed = publish::claim(kube, pod, record, Some(earlier.clone()), deadline)?;
    let notice = Notice {
        reason: "EIPTakenOver",
        message: format!("took over {}, which the PodEIP of this name kept", earlier.spec.allocation_id),
        warning: false,
    };
    Ok(Some((claimed, notice)))
}

/// A PodEIP that keeps an EIP is the only claim to it: it is not overwritten with another.
///
/// # Errors
/// [`Kind::EipUnavailable`] naming the kept EIP.
pub fn refuse_to_orphan(pod_eip: Option<&PodEip>, sandbox: &Sandbox) -> Result<(), Failure> {
    match pod_eip {
        Some(kept) if inherits(kept, &sandbox.pod.uid) && keeps(kept) => Err(Failure::new(
            Kind::EipUnavailable,
            format!(
                "PodEIP {} keeps {} for this pod's name, but the pod names another EIP",
                sandbox.pod, kept.spec.allocation_id
            ),
        )
        .hinting("delete that PodEIP first, or remove pod-eip-instanceid")),
        _ => Ok(()),
    }
}

/// Whether it says that its EIP outlives the pod; other tools' objects are not ours to end.
fn keeps(pod_eip: &PodEip) -> bool {
    pod_eip.spec.strategy.lasting() || pod_eip.pod_uid().is_none()
}

/// Frees an EIP that the cloud shows on something else, if this pod may have it.
///
/// # Errors
/// [`Kind::EipUnavailable`] naming the holder.
pub fn free_elsewhere(
    node: &Node,
    eip: &Eip,
    kind: EipKind,
    sandbox: &Sandbox,
    pod_eip: Option<&PodEip>,
    deadline: Deadline,
) -> Result<(), Failure> {
    let predecessor = pod_eip.filter(|it| it.spec.allocation_id == eip.id && sits_where_published(eip, it));
    if predecessor.is_none() {
        if kind == EipKind::Auto || !node.settings.allow_rob {
            return Err(taken(eip, sandbox));
        }
        if let Some(holder) = living_holder(node, eip, &sandbox.pod, deadline)? {
            return Err(taken(eip, sandbox).during(format!("allow_eip_rob spares living pods such as {holder}")));
        }
    }
    log::warn!("{} is taken from its holder for pod {}: {}", eip.id, sandbox.pod, whereabouts(eip));
    let cloud = node.cloud()?;
    match cloud.detach_eip(eip, &ClientToken::random(), deadline) {
        Err(error)
            if !error.outcome_unknown()
                && !matches!(error.class(), Class::Gone | Class::TargetGone | Class::Conflict) =>
        {
            Err(error.into())
        }
        _ => bind::wait_detached(cloud, eip, deadline),
    }
}

/// The previous pod of this name is out of the API server (its name is ours now), so its binding
/// may be undone, but only if it is still where that pod published it.
fn sits_where_published(eip: &Eip, pod_eip: &PodEip) -> bool {
    seen_where_published(eip, pod_eip).is_some()
}

/// The place that `pod_eip` publishes, if the cloud shows `eip` there.
pub fn seen_where_published(eip: &Eip, pod_eip: &PodEip) -> Option<Binding> {
    let status = pod_eip.status.as_ref()?;
    let (eni, private_ip) = status.network_interface_id.clone().zip(status.private_ip_address)?;
    // The PodEIP does not say whether the address is the ENI's primary one.
    let places = [false, true].map(|primary| Binding { eni: eni.clone(), private_ip, primary });
    places.into_iter().find(|place| sits_on(eip, place))
}

fn taken(eip: &Eip, sandbox: &Sandbox) -> Failure {
    Failure::new(Kind::EipUnavailable, format!("{} for pod {} is {}", eip.id, sandbox.pod, whereabouts(eip)))
        .hinting("unbind it there, name another EIP, or set allow_eip_rob in eni_conf")
}

/// The living pod of this cluster that holds `eip`, found through the PodEIPs. One that has
/// published nothing yet may be about to; one that published another place has lost it.
fn living_holder(node: &Node, eip: &Eip, asking: &PodRef, deadline: Deadline) -> Result<Option<String>, Failure> {
    let kube = node.kube()?;
    for pod_eip in kube.pod_eips(None, deadline)? {
        let of_asking = pod_eip.namespace == asking.namespace && pod_eip.name == asking.name;
        let left = pod_eip.status.is_some() && !sits_where_published(eip, &pod_eip);
        if pod_eip.spec.allocation_id != eip.id || of_asking || left {
            continue;
        }
        let Some(pod) = kube.pod(&pod_eip.namespace, &pod_eip.name, deadline)? else { continue };
        let same_instance = pod_eip.pod_uid().is_none_or(|uid| pod.is_instance(&uid));
        if same_instance && !pod.finished() {
            return Ok(Some(format!("{}/{}", pod.namespace, pod.name)));
        }
    }
    Ok(None)
}
