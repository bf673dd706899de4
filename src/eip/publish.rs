//! Telling the cluster: PodEIP first, then the pod's annotations, its condition, its events.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;

use crate::cloud::Eip;
use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind};
use crate::eip::request::Notice;
use crate::kube::{
    self, Event, Kube, KubeError, NewPodEip, ObjectRef, Pod, PodCondition, PodEip, PodEipSpec, PodEipStatus,
};
use crate::names::{EipId, EipKind, EniId};
use crate::state::format::{Attachment, Binding};

/// The readiness gate of the systems that podeip replaces; their users' manifests list it.
pub const READINESS_GATE: &str = "k8s.aliyun.com/eip";

/// Writers of one PodEIP are few, so a conflict is over with the next try.
const CLAIM_TRIES: u32 = 4;

/// Between two looks at a PodEIP that is being deleted. Its EIP is released within seconds.
const DELETION_POLL: Duration = Duration::from_millis(300);

/// The events of one outcome are worth a moment in all, not the verb's time.
const EVENT_TIME: Duration = Duration::from_secs(2);

/// Event reason: a pod got no EIP.
pub const FAILED: &str = "EIPFailed";
/// Event reason: what a pod leaves behind could not be taken back yet.
pub const UNBIND_FAILED: &str = "EIPUnbindFailed";

/// The keys that carry the address, for every consumer that ever read one of them.
pub const ADDRESS_KEYS: [&str; 3] = [
    "k8s.aliyun.com/allocated-eipAddress",
    "network.alibabacloud.com/allocated-eipAddress",
    "network.alibabacloud.com/allocated-eip-address",
];
/// The keys that carry the EIP's id.
pub const ID_KEYS: [&str; 2] = ["network.alibabacloud.com/allocated-eip-id", "k8s.aliyun.com/allocated-eipInstanceId"];
/// The key that carries the ENI's id.
pub const ENI_KEY: &str = "network.alibabacloud.com/allocated-eni-id";

/// The address that somebody has published in the pod.
pub fn shown_address(pod: &Pod) -> Option<Ipv4Addr> {
    ADDRESS_KEYS.iter().find_map(|key| pod.annotations.get(*key)?.parse().ok())
}

/// Whether that was Terway, which shows nothing but the address.
pub fn is_terways(pod: &Pod) -> bool {
    shown_address(pod).is_some() && !ID_KEYS.iter().any(|key| pod.annotations.contains_key(*key))
}

/// Sees to it that the pod's PodEIP exists and names this attachment's EIP.
///
/// `existing` is the PodEIP as it was seen last; another writer may have changed it meanwhile.
///
/// A PodEIP of an earlier instance that is being deleted is waited for: it goes as soon as its EIP is
/// released.
///
/// # Errors
/// [`Kind::TryAgain`] when such a PodEIP stays, or when this one was taken over by another instance
/// of the pod.
pub fn claim(
    kube: &Kube,
    pod: &Pod,
    record: &Attachment,
    existing: Option<PodEip>,
    deadline: Deadline,
) -> Result<PodEip, Failure> {
    let claimed = claim_unnamed(kube, pod, record, existing, deadline);
    claimed.map_err(|failure| match &record.eip {
        Some(eip) => failure.during(publishing(&eip.id, &record.pod)),
        None => failure,
    })
}

/// What is being done, in front of whatever kept it from being done.
pub fn publishing(eip: &EipId, pod: impl fmt::Display) -> String {
    format!("publishing {eip} of pod {pod}")
}

fn named<'a>(eip: &'a EipId, pod: &'a Pod) -> impl Fn(Failure) -> Failure + 'a {
    move |failure| failure.during(publishing(eip, format_args!("{}/{}", pod.namespace, pod.name)))
}

fn claim_unnamed(
    kube: &Kube,
    pod: &Pod,
    record: &Attachment,
    existing: Option<PodEip>,
    deadline: Deadline,
) -> Result<PodEip, Failure> {
    let uid = record.pod.uid.as_str();
    let marks = BTreeMap::from([(kube::POD_UID_ANNOTATION, Some(uid)), (kube::NODE_ANNOTATION, pod.node.as_deref())]);
    let mut seen = existing;
    for _ in 0..CLAIM_TRIES {
        let spec = spec_of(record, seen.as_ref())?;
        let written = match &seen {
            None => kube.create_pod_eip(&new_pod_eip(record, &spec, &marks), deadline),
            Some(own) if is_claim_of(own, record) && (own.deleting || own.spec == spec) => return Ok(own.clone()),
            Some(going) if going.deleting => {
                await_deletion(kube, record, going, deadline)?;
                seen = None;
                continue;
            }
            Some(current) => kube.update_pod_eip_spec(current, &spec, &marks, deadline),
        };
        match written {
            Ok(claimed) => return Ok(claimed),
            // Ours from a try whose answer was lost, an older pod's, or changed since it was seen.
            Err(error) if error.is_already_exists() || error.is_conflict() => {
                let found = kube.pod_eip(&record.pod.namespace, &record.pod.name, deadline)?;
                let instance = |of: &Option<PodEip>| of.as_ref().and_then(PodEip::pod_uid);
                let newcomer =
                    instance(&found).filter(|uid| *uid != record.pod.uid && Some(uid) != instance(&seen).as_ref());
                if seen.is_some() && newcomer.is_some() {
                    return Err(error.into());
                }
                seen = found;
            }
            // It went, and its EIP with it: whoever ended its pod was faster.
            Err(gone) if seen.is_some() && gone.is_not_found() => seen = None,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(Kind::TryAgain, format!("PodEIP {} kept changing while it was written", record.pod)))
}

fn await_deletion(kube: &Kube, record: &Attachment, going: &PodEip, deadline: Deadline) -> Result<(), Failure> {
    loop {
        let found = kube.pod_eip(&going.namespace, &going.name, deadline)?;
        if found.is_none_or(|found| found.uid != going.uid) {
            return Ok(());
        }
        if !deadline.sleep(DELETION_POLL) {
            return Err(still_held(record, going));
        }
    }
}

fn new_pod_eip(record: &Attachment, spec: &PodEipSpec, marks: &BTreeMap<&str, Option<&str>>) -> NewPodEip {
    let set = |(key, value): (&&str, &Option<&str>)| Some((key.to_string(), value.as_ref()?.to_string()));
    NewPodEip {
        namespace: record.pod.namespace.clone(),
        name: record.pod.name.clone(),
        spec: spec.clone(),
        annotations: marks.iter().filter_map(set).collect(),
    }
}

fn still_held(record: &Attachment, going: &PodEip) -> Failure {
    Failure::new(
        Kind::TryAgain,
        format!("PodEIP {} is being deleted and still holds {}", record.pod, going.spec.allocation_id),
    )
    .hinting("the pod gets its EIP as soon as that PodEIP is gone")
}

/// A strategy is asked for once: what somebody writes into the PodEIP of this very attachment stays.
fn spec_of(record: &Attachment, seen: Option<&PodEip>) -> Result<PodEipSpec, Failure> {
    let published = seen.filter(|seen| is_claim_of(seen, record) && seen.status.is_some());
    let eip = record.eip.as_ref().ok_or_else(|| {
        Failure::new(Kind::LocalState, format!("the record of pod {} has no EIP to publish", record.pod))
    })?;
    Ok(PodEipSpec {
        allocation_id: eip.id.clone(),
        bandwidth_package_id: record.bandwidth_package.clone(),
        kind: eip.kind,
        strategy: published.map_or(record.strategy, |published| published.spec.strategy),
    })
}

/// Publishes a bound EIP. Consumers read the PodEIP's status when the pod's metadata changes,
/// hence the order: status, annotations, condition.
pub fn publish(
    kube: &Kube,
    pod: &Pod,
    pod_eip: &PodEip,
    eip: &Eip,
    binding: &Binding,
    deadline: Deadline,
) -> Result<(), Failure> {
    let show = || -> Result<(), Failure> {
        let Some(address) = eip.address.map(|address| address.to_string()) else {
            return Err(Failure::new(Kind::TryAgain, "the cloud does not show its address"));
        };
        kube.patch_pod_eip_status(pod_eip, &status_of(eip, binding, kube.now()), deadline)?;
        let mut keys: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        keys.extend(ADDRESS_KEYS.map(|key| (key, Some(address.as_str()))));
        keys.extend(ID_KEYS.map(|key| (key, Some(eip.id.as_str()))));
        keys.insert(ENI_KEY, Some(binding.eni.as_str()));
        keys.retain(|key, value| pod.annotations.get(*key).map(String::as_str) != *value);
        if !keys.is_empty() {
            kube.patch_pod_annotations(pod, &keys, deadline)?;
        }
        let bound = format!("{address} is bound to {}", binding.private_ip);
        Ok(set_gate(kube, pod, true, "Associate eip succeed", &bound, deadline)?)
    };
    show().map_err(named(&eip.id, pod))
}

/// Takes what [`publish`] wrote away from a pod that lives on without its EIP.
pub fn unpublish(kube: &Kube, pod: &Pod, eip: &EipId, notice: &Notice, deadline: Deadline) -> Result<(), Failure> {
    let keys = ADDRESS_KEYS.into_iter().chain(ID_KEYS).chain([ENI_KEY]);
    let shown: BTreeMap<&str, Option<&str>> =
        keys.filter(|key| pod.annotations.contains_key(*key)).map(|key| (key, None)).collect();
    if !shown.is_empty() {
        let taken = kube.patch_pod_annotations(pod, &shown, deadline);
        taken.map_err(|error| named(eip, pod)(error.into()))?;
    }
    close_gate(kube, pod, eip, notice, deadline)
}

/// Has the pod count as not ready, if its readiness waits for the EIP, and says why.
pub fn close_gate(kube: &Kube, pod: &Pod, eip: &EipId, notice: &Notice, deadline: Deadline) -> Result<(), Failure> {
    let set = set_gate(kube, pod, false, notice.reason, &notice.message, deadline);
    set.map_err(|error| named(eip, pod)(error.into()))
}

/// Sets the condition that the pod's readiness waits for, if the pod lists it and shows another one.
fn set_gate(
    kube: &Kube,
    pod: &Pod,
    open: bool,
    reason: &str,
    message: &str,
    deadline: Deadline,
) -> Result<(), KubeError> {
    let shown = pod.conditions.get(READINESS_GATE).map(String::as_str);
    let wanted = if open { "True" } else { "False" };
    if shown == Some(wanted) || !pod.readiness_gates.iter().any(|gate| gate == READINESS_GATE) {
        return Ok(());
    }
    let condition =
        PodCondition { kind: READINESS_GATE.into(), status: open, reason: reason.into(), message: message.into() };
    kube.set_pod_condition(pod, &condition, deadline)
}

/// Says that the pod lives, where nothing else is known for certain.
pub fn refresh(kube: &Kube, pod_eip: &PodEip, deadline: Deadline) -> Result<(), Failure> {
    let status = PodEipStatus { pod_last_seen: Some(kube.now()), ..pod_eip.status.clone().unwrap_or_default() };
    let patched = kube.patch_pod_eip_status(pod_eip, &status, deadline);
    patched.map_err(|error| Failure::from(error).during(shown_by(pod_eip)))
}

/// As [`publishing`], where the PodEIP is all that is known.
pub fn shown_by(pod_eip: &PodEip) -> String {
    publishing(&pod_eip.spec.allocation_id, format_args!("{}/{}", pod_eip.namespace, pod_eip.name))
}

fn status_of(eip: &Eip, binding: &Binding, now: Timestamp) -> PodEipStatus {
    PodEipStatus {
        network_interface_id: Some(binding.eni.clone()),
        private_ip_address: Some(binding.private_ip),
        eip_address: eip.address,
        isp: eip.isp.clone(),
        internet_charge_type: eip.internet_charge_type.clone(),
        resource_group_id: eip.resource_group_id.clone(),
        name: eip.name.clone(),
        public_ip_address_pool_id: eip.public_ip_address_pool_id.clone(),
        bandwidth_package_id: eip.bandwidth_package.clone(),
        status: Some("InUse".into()),
        pod_last_seen: Some(now),
    }
}

/// Whether `pod_eip` stands for this very attachment and not for another instance of the name.
pub fn is_claim_of(pod_eip: &PodEip, record: &Attachment) -> bool {
    pod_eip.pod_uid().as_ref() == Some(&record.pod.uid)
        && record.eip.as_ref().is_some_and(|eip| eip.id == pod_eip.spec.allocation_id)
}

/// A named EIP that the pod did not get is not its own: a PodEIP that says so would spare it from
/// others who may have it. One that was ever published is left to the pod's end.
pub fn withdraw(kube: &Kube, record: &Attachment, claim: Option<&PodEip>, deadline: Deadline) -> Result<(), Failure> {
    let named = record.eip.as_ref().is_some_and(|eip| eip.kind == EipKind::Static);
    match claim {
        Some(claim) if named && claim.status.is_none() && is_claim_of(claim, record) => {
            let deleted = kube.delete_pod_eip(claim, deadline);
            deleted.map_err(|error| Failure::from(error).during(shown_by(claim)))
        }
        _ => Ok(()),
    }
}

/// Marks a PodEIP that outlives its pod as unbound. `seen` says that the pod still stands, so that
/// its time to live counts from now; otherwise it counts from when the pod was seen last.
///
/// # Errors
/// [`KubeError::is_superseded`] when another instance of the pod has taken it over.
pub fn unpublish_binding(kube: &Kube, pod_eip: &PodEip, seen: bool, deadline: Deadline) -> Result<(), KubeError> {
    let before = pod_eip.status.clone().unwrap_or_default();
    let status = PodEipStatus {
        network_interface_id: None,
        private_ip_address: None,
        status: Some("Available".into()),
        pod_last_seen: if seen { Some(kube.now()) } else { before.pod_last_seen },
        ..before
    };
    kube.patch_pod_eip_status(pod_eip, &status, deadline)
}

/// What became of a pod's wish, for its events.
pub fn outcome(eip: &Eip, eni: &EniId) -> Notice {
    let address = eip.address.map(|address| address.to_string()).unwrap_or_default();
    Notice { reason: "EIPBound", message: format!("EIP {address} ({}) is bound on {eni}", eip.id), warning: false }
}

/// A failure, for the pod's events.
pub fn warning(reason: &'static str, failure: &Failure) -> Notice {
    Notice { reason, message: failure.to_string(), warning: true }
}

/// One event for the outcome and one a notice, best effort.
pub fn tell(kube: &Kube, pod: &Pod, outcome: &Notice, notices: &[Notice], deadline: Deadline) {
    let deadline = deadline.within(EVENT_TIME);
    for notice in std::iter::once(outcome).chain(notices) {
        record(kube, &pod.reference(), notice, pod.node.as_deref(), deadline);
    }
}

/// As [`tell`], and the outcome on the pod's PodEIP too, for those who look there.
pub fn tell_both(kube: &Kube, pod: &Pod, pod_eip: &PodEip, outcome: &Notice, notices: &[Notice], deadline: Deadline) {
    std::thread::scope(|scope| {
        scope.spawn(|| record(kube, &pod_eip.reference(), outcome, pod.node.as_deref(), deadline));
        tell(kube, pod, outcome, notices, deadline);
    });
}

/// One event about `object`, best effort.
pub fn record(kube: &Kube, object: &ObjectRef, notice: &Notice, node: Option<&str>, deadline: Deadline) {
    let Notice { reason, message, warning } = notice;
    let event =
        Event { warning: *warning, reason: (*reason).into(), message: message.clone(), node: node.map(Into::into) };
    if let Err(error) = kube.record_event(object, &event, deadline.within(EVENT_TIME)) {
        log::warn!("event {reason} of {} {}/{} was not recorded: {error}", object.kind, object.namespace, object.name);
    }
}
