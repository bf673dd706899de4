//! `podeip show -o json`: one object, which is a promise to scripts.
//!
//! Its members are `record` (as in `podeip list -o json`), `podEip`, `pod`, `cloud`, `events`,
//! `verbs` and `differences`. A side is `null` where it was asked and has nothing, and `{"unknown": reason}`
//! where it did not answer. Members of a side are `null` where it says nothing of them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::Serialize;

use crate::cloud::Eip;
use crate::eip::compare::Difference;
use crate::eip::publish::{ADDRESS_KEYS, ENI_KEY, ID_KEYS};
use crate::eip::views::{View, Views};
use crate::kube::{Pod, PodEip, RecordedEvent};
use crate::ops::list::Row;
use crate::state::measures::VerbMeasures;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    record: Side<Row>,
    pod_eip: Side<PodEipObject>,
    pod: Side<PodObject>,
    cloud: Side<EipObject>,
    /// Objects with `facts` and `sides` (names from `eip::compare`, in camelCase) and `message`.
    differences: Vec<Difference>,
    events: Side<Vec<EventObject>>,
    /// The last verbs of this node about the pod's name, with the seconds of their stages.
    verbs: Vec<VerbMeasures>,
}

/// An object, `null`, or why it is not known.
#[derive(Serialize)]
#[serde(untagged)]
enum Side<T> {
    Known(T),
    Absent,
    Unknown { unknown: String },
}

impl<T> Side<T> {
    fn of<V>(view: View<V>, object: impl FnOnce(V) -> T) -> Self {
        match view {
            View::Known(it) => Side::Known(object(it)),
            View::Absent => Side::Absent,
            View::Unknown(unknown) => Side::Unknown { unknown },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodEipObject {
    namespace: String,
    name: String,
    /// The pod instance that it belongs to.
    pod_uid: Option<String>,
    node: Option<String>,
    eip_id: String,
    eip_address: Option<Ipv4Addr>,
    #[serde(rename = "type")]
    kind: String,
    /// As `record` and the annotation have it: `Follow`, `Never` or a duration.
    strategy: String,
    bandwidth_package: Option<String>,
    status: Option<String>,
    private_ip: Option<Ipv4Addr>,
    eni: Option<String>,
    created_at: Option<Timestamp>,
    pod_last_seen: Option<Timestamp>,
    /// Whether it is being deleted.
    deleting: bool,
    /// What in its spec was not understood.
    problem: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PodObject {
    namespace: String,
    name: String,
    uid: String,
    node: Option<String>,
    phase: String,
    /// Whether it is being deleted.
    terminating: bool,
    /// What its annotations say of its EIP; each may stand under several keys.
    eip_ids: Vec<String>,
    eip_addresses: Vec<String>,
    eni: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EipObject {
    eip_id: String,
    eip_address: Option<Ipv4Addr>,
    /// The API's word: `InUse`, `Available`, …
    status: String,
    /// What it is bound to; `eni-…` for an ENI.
    instance_id: Option<String>,
    instance_type: Option<String>,
    /// `null` on an ENI is its primary one.
    private_ip: Option<Ipv4Addr>,
    /// Mbit/s.
    bandwidth: Option<u32>,
    bandwidth_package: Option<String>,
    charge_type: Option<String>,
    isp: Option<String>,
    name: Option<String>,
    tags: BTreeMap<String, String>,
    /// Why it is locked (`financial`, …); empty when it is not.
    locked: Vec<String>,
    /// Ids of further EIPs with the pod's owner tags.
    more: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventObject {
    #[serde(rename = "type")]
    kind: &'static str,
    reason: String,
    message: String,
    count: u64,
    last_seen: Option<Timestamp>,
}

pub fn object(views: Views, differences: Vec<Difference>, verbs: Vec<VerbMeasures>) -> Shown {
    let more = views.more_eips.iter().map(ToString::to_string).collect();
    Shown {
        record: Side::of(views.record, Row::from),
        pod_eip: Side::of(views.pod_eip, PodEipObject::from),
        pod: Side::of(views.pod, PodObject::from),
        cloud: Side::of(views.cloud, |eip| EipObject { more, ..EipObject::from(eip) }),
        differences,
        events: Side::of(views.events, |events| events.into_iter().map(EventObject::from).collect()),
        verbs,
    }
}

impl From<PodEip> for PodEipObject {
    fn from(pod_eip: PodEip) -> Self {
        let (pod_uid, node) = (pod_eip.pod_uid(), pod_eip.node().map(str::to_string));
        let status = pod_eip.status.unwrap_or_default();
        let package = pod_eip.spec.bandwidth_package_id.or(status.bandwidth_package_id);
        PodEipObject {
            namespace: pod_eip.namespace,
            name: pod_eip.name,
            pod_uid: pod_uid.map(|uid| uid.to_string()),
            node,
            eip_id: pod_eip.spec.allocation_id.to_string(),
            eip_address: status.eip_address,
            kind: pod_eip.spec.kind.to_string(),
            strategy: pod_eip.spec.strategy.to_string(),
            bandwidth_package: package.map(|package| package.to_string()),
            status: status.status,
            private_ip: status.private_ip_address,
            eni: status.network_interface_id.map(|eni| eni.to_string()),
            created_at: pod_eip.created_at,
            pod_last_seen: status.pod_last_seen,
            deleting: pod_eip.deleting,
            problem: pod_eip.problem,
        }
    }
}

impl From<Pod> for PodObject {
    fn from(pod: Pod) -> Self {
        let said = |keys: &[&str]| {
            let mut texts: Vec<String> = keys.iter().filter_map(|key| pod.annotations.get(*key).cloned()).collect();
            texts.sort();
            texts.dedup();
            texts
        };
        PodObject {
            eip_ids: said(&ID_KEYS),
            eip_addresses: said(&ADDRESS_KEYS),
            eni: pod.annotations.get(ENI_KEY).cloned(),
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid,
            node: pod.node,
            phase: pod.phase,
            terminating: pod.terminating,
        }
    }
}

impl From<Eip> for EipObject {
    fn from(eip: Eip) -> Self {
        EipObject {
            eip_id: eip.id.to_string(),
            eip_address: eip.address,
            status: eip.status.to_string(),
            instance_id: eip.instance_id,
            instance_type: eip.instance_type,
            private_ip: eip.private_ip,
            bandwidth: eip.bandwidth.map(|mbps| mbps.0),
            bandwidth_package: eip.bandwidth_package.map(|package| package.to_string()),
            charge_type: eip.internet_charge_type,
            isp: eip.isp,
            name: eip.name,
            tags: eip.tags,
            locked: eip.locked,
            more: Vec::new(),
        }
    }
}

impl From<RecordedEvent> for EventObject {
    fn from(event: RecordedEvent) -> Self {
        EventObject {
            kind: if event.warning { "Warning" } else { "Normal" },
            reason: event.reason,
            message: event.message,
            count: event.count,
            last_seen: event.last_seen,
        }
    }
}
