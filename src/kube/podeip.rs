//! The PodEIP object (`podeips.alibabacloud.com`, `v1beta1`): its parts and how they are spelt.
//!
//! Reading is lenient, because Terway's migration, ack-extend-network-controller and people write
//! such objects too. What is not understood never leads to a release: see [`PodEip::problem`].

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::event::ObjectRef;
use super::wire::{self, WireMeta};
use crate::names::{BandwidthPackageId, EipId, EipKind, EniId, PodUid};
use crate::strategy::{GoDuration, Strategy};

/// Keeps a PodEIP until its EIP has been dealt with. The name is the one that
/// ack-extend-network-controller uses, so that either tool can finish the other's objects.
pub const FINALIZER: &str = "podeip-controller.alibabacloud.com/finalizer";

/// Which pod instance a PodEIP belongs to, by the runtime's UID. Other tools pin the schema, so
/// that it has no field for this.
pub const POD_UID_ANNOTATION: &str = "podeip/pod-uid";

/// The node (`spec.nodeName`) that the pod instance runs on.
pub const NODE_ANNOTATION: &str = "podeip/node";

/// What is wrong with the EIP, or waits, in words; absent when all is well. Stands for conditions,
/// which the schema does not have.
pub const CONDITION_ANNOTATION: &str = "podeip/condition";

pub(super) const API_VERSION: &str = "alibabacloud.com/v1beta1";
pub(super) const KIND: &str = "PodEIP";

/// `spec`: the EIP and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEipSpec {
    pub allocation_id: EipId,
    pub bandwidth_package_id: Option<BandwidthPackageId>,
    pub kind: EipKind,
    /// On the wire `releaseStrategy` (`After` is `TTL`) and `releaseAfter`.
    pub strategy: Strategy,
}

/// `status`: where the EIP is. Other tools read `eip_address` and `private_ip_address`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodEipStatus {
    pub network_interface_id: Option<EniId>,
    pub private_ip_address: Option<Ipv4Addr>,
    pub eip_address: Option<Ipv4Addr>,
    pub isp: Option<String>,
    pub internet_charge_type: Option<String>,
    pub resource_group_id: Option<String>,
    pub name: Option<String>,
    pub public_ip_address_pool_id: Option<String>,
    pub bandwidth_package_id: Option<BandwidthPackageId>,
    /// The cloud's word, such as `InUse`.
    pub status: Option<String>,
    /// When the pod was last known to live. Kept in whole seconds.
    pub pod_last_seen: Option<Timestamp>,
}

/// A PodEIP as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEip {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub created_at: Option<Timestamp>,
    /// Whether someone asked to delete it; it then waits for its finalizers.
    pub deleting: bool,
    /// Since when.
    pub deleting_since: Option<Timestamp>,
    pub spec: PodEipSpec,
    /// What in the spec was not understood. The spec then says what loses nothing: strategy
    /// `Never`, or kind `Static`, or an empty allocation id.
    pub problem: Option<String>,
    pub status: Option<PodEipStatus>,
    pub annotations: BTreeMap<String, String>,
    pub finalizers: Vec<String>,
}

/// A PodEIP to be created. Our finalizer is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPodEip {
    /// The pod's.
    pub namespace: String,
    /// The pod's.
    pub name: String,
    pub spec: PodEipSpec,
    /// [`POD_UID_ANNOTATION`] and [`NODE_ANNOTATION`] at least.
    pub annotations: BTreeMap<String, String>,
}

impl PodEip {
    /// The pod instance it belongs to; `None` for objects that other tools made.
    pub fn pod_uid(&self) -> Option<PodUid> {
        self.annotations.get(POD_UID_ANNOTATION).map(PodUid::new)
    }

    /// The node its pod instance runs or ran on; `None` for objects that other tools made.
    pub fn node(&self) -> Option<&str> {
        self.annotations.get(NODE_ANNOTATION).map(String::as_str)
    }

    pub fn has_finalizer(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }

    /// The PodEIP as the subject of an event.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef {
            api_version: API_VERSION.into(),
            kind: KIND.into(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }
}

#[derive(Deserialize)]
struct WirePodEip {
    metadata: WireMeta,
    #[serde(default)]
    spec: Value,
    status: Option<Value>,
}

impl<'de> Deserialize<'de> for PodEip {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WirePodEip { metadata, spec, status } = WirePodEip::deserialize(deserializer)?;
        let (spec, problem) = read_spec(&spec);
        Ok(PodEip {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version.unwrap_or_default(),
            created_at: metadata.creation_timestamp.as_deref().and_then(wire::time),
            deleting: metadata.deletion_timestamp.is_some(),
            deleting_since: metadata.deletion_timestamp.as_deref().and_then(wire::time),
            spec,
            problem,
            status: status.as_ref().map(read_status),
            annotations: metadata.annotations.unwrap_or_default(),
            finalizers: metadata.finalizers.unwrap_or_default(),
        })
    }
}

/// A text member; empty, absent and anything that is not a text are the same.
fn text<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn read_spec(spec: &Value) -> (PodEipSpec, Option<String>) {
    let mut problems = Vec::new();
    let allocation_id = text(spec, "allocationID").unwrap_or_else(|| {
        problems.push("spec.allocationID is missing".to_string());
        ""
    });
    let allocation_type = &spec["allocationType"];
    let kind = match text(allocation_type, "type") {
        Some("Auto") | None => EipKind::Auto,
        Some("Static") => EipKind::Static,
        Some(other) => {
            problems.push(format!("spec.allocationType.type is \"{other}\", neither Auto nor Static"));
            EipKind::Static
        }
    };
    let strategy = read_strategy(allocation_type).unwrap_or_else(|problem| {
        problems.push(problem);
        Strategy::Never
    });
    let spec = PodEipSpec {
        allocation_id: EipId::new(allocation_id),
        bandwidth_package_id: text(spec, "bandwidthPackageID").map(BandwidthPackageId::new),
        kind,
        strategy,
    };
    (spec, Some(problems.join("; ")).filter(|problem| !problem.is_empty()))
}

fn read_strategy(allocation_type: &Value) -> Result<Strategy, String> {
    match text(allocation_type, "releaseStrategy") {
        Some("Follow") => Ok(Strategy::Follow),
        Some("Never") => Ok(Strategy::Never),
        Some("TTL") => {
            let span = text(allocation_type, "releaseAfter").unwrap_or_default();
            span.parse::<GoDuration>().map(Strategy::After).map_err(|reason| {
                format!("spec.allocationType.releaseAfter is \"{span}\", not a duration such as 5m30s: {reason}")
            })
        }
        Some(other) => Err(format!("spec.allocationType.releaseStrategy is \"{other}\", not Follow, TTL or Never")),
        None => Err("spec.allocationType.releaseStrategy is missing".into()),
    }
}

impl PodEipSpec {
    /// For a merge patch: what is not set is `null`, which takes an older value away.
    pub(super) fn patch(&self) -> Value {
        let (strategy, after) = match self.strategy {
            Strategy::Follow => ("Follow", None),
            Strategy::Never => ("Never", None),
            Strategy::After(span) => ("TTL", Some(span.to_string())),
        };
        json!({
            "allocationID": self.allocation_id,
            "bandwidthPackageID": self.bandwidth_package_id,
            "allocationType": {
                "type": self.kind.to_string(),
                "releaseStrategy": strategy,
                "releaseAfter": after,
            },
        })
    }
}

fn read_status(status: &Value) -> PodEipStatus {
    let owned = |key| text(status, key).map(str::to_string);
    PodEipStatus {
        network_interface_id: text(status, "networkInterfaceID").map(EniId::new),
        private_ip_address: text(status, "privateIPAddress").and_then(|text| text.parse().ok()),
        eip_address: text(status, "eipAddress").and_then(|text| text.parse().ok()),
        isp: owned("isp"),
        internet_charge_type: owned("internetChargeType"),
        resource_group_id: owned("resourceGroupID"),
        name: owned("name"),
        public_ip_address_pool_id: owned("publicIpAddressPoolID"),
        bandwidth_package_id: text(status, "bandwidthPackageID").map(BandwidthPackageId::new),
        status: owned("status"),
        pod_last_seen: text(status, "podLastSeen").and_then(wire::time).map(wire::whole_seconds),
    }
}

impl PodEipStatus {
    fn texts(&self) -> [(&'static str, Option<String>); 11] {
        [
            ("networkInterfaceID", self.network_interface_id.as_ref().map(EniId::to_string)),
            ("privateIPAddress", self.private_ip_address.map(|address| address.to_string())),
            ("eipAddress", self.eip_address.map(|address| address.to_string())),
            ("isp", self.isp.clone()),
            ("internetChargeType", self.internet_charge_type.clone()),
            ("resourceGroupID", self.resource_group_id.clone()),
            ("name", self.name.clone()),
            ("publicIpAddressPoolID", self.public_ip_address_pool_id.clone()),
            ("bandwidthPackageID", self.bandwidth_package_id.as_ref().map(BandwidthPackageId::to_string)),
            ("status", self.status.clone()),
            ("podLastSeen", self.pod_last_seen.map(wire::time_text)),
        ]
    }

    /// What turns `seen` into this status: only fields that differ, so that a writer of one field
    /// does not undo what another process wrote into the others meanwhile.
    pub(super) fn changes_from(&self, seen: Option<&PodEipStatus>) -> Map<String, Value> {
        let before = seen.cloned().unwrap_or_default().texts();
        let differing = self.texts().into_iter().zip(before).filter(|(wanted, before)| wanted != before);
        differing.map(|((key, wanted), _)| (key.to_string(), Value::from(wanted))).collect()
    }
}

impl NewPodEip {
    pub(super) fn object(&self) -> Value {
        json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "namespace": self.namespace,
                "name": self.name,
                "annotations": self.annotations,
                "finalizers": [FINALIZER],
            },
            "spec": wire::without_nulls(self.spec.patch()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn decoded(object: Value) -> PodEip {
        serde_json::from_value(object).unwrap()
    }

    fn fixed() -> Value {
        json!({
            "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
            "metadata": {"name": "room-0", "namespace": "game", "uid": "a7", "resourceVersion": "55",
                "generation": 1, "creationTimestamp": "2024-03-01T08:00:00Z", "finalizers": [FINALIZER],
                "annotations": {POD_UID_ANNOTATION: "p-1", NODE_ANNOTATION: "n-1"}},
            "spec": {"allocationID": "eip-bp1", "bandwidthPackageID": "cbwp-1",
                "allocationType": {"releaseAfter": "15m30s", "releaseStrategy": "TTL", "type": "Auto"}},
            "status": {"eipAddress": "198.51.100.7", "internetChargeType": "PayByTraffic", "isp": "BGP",
                "networkInterfaceID": "eni-bp1", "podLastSeen": "2024-03-01T09:30:00Z",
                "privateIPAddress": "10.0.1.9", "publicIpAddressPoolID": "pippool-1",
                "resourceGroupID": "rg-1", "status": "InUse", "bandwidth": "5"}
        })
    }

    #[test]
    fn reads_a_fixed_eip() {
        let object = decoded(fixed());
        assert_eq!(object.pod_uid(), Some(PodUid::new("p-1")));
        assert_eq!(object.node(), Some("n-1"));
        assert!(object.has_finalizer() && !object.deleting && object.problem.is_none());
        assert_eq!(object.spec.strategy, Strategy::After(GoDuration(Duration::from_secs(930))));
        assert_eq!(object.spec.bandwidth_package_id, Some(BandwidthPackageId::new("cbwp-1")));
        let status = object.status.unwrap();
        assert_eq!(status.eip_address, Some(Ipv4Addr::new(198, 51, 100, 7)));
        assert_eq!(status.private_ip_address, Some(Ipv4Addr::new(10, 0, 1, 9)));
        assert_eq!(status.public_ip_address_pool_id.as_deref(), Some("pippool-1"));
        assert_eq!(status.pod_last_seen, Some("2024-03-01T09:30:00Z".parse().unwrap()));
    }

    #[test]
    fn reads_what_other_tools_made() {
        let object = decoded(json!({
            "metadata": {"name": "web-x", "namespace": "shop", "uid": "b1", "resourceVersion": "7",
                "deletionTimestamp": "2024-03-01T08:00:00Z", "finalizers": null,
                "annotations": {"k8s.aliyun.com/eip-controller": "ack-extend-network-controller"}},
            "spec": {"allocationID": "eip-2", "allocationType": {"releaseStrategy": "Follow", "type": "Static"}}
        }));
        assert!(object.status.is_none() && object.pod_uid().is_none() && object.deleting);
        assert_eq!((object.spec.kind, object.spec.strategy), (EipKind::Static, Strategy::Follow));
        let odd = decoded(json!({"metadata": {"name": "x", "uid": "1"}, "spec": fixed()["spec"],
            "status": {"eipAddress": "39.1.XX.XX", "podLastSeen": "yesterday", "status": ""}}));
        assert_eq!(odd.status, Some(PodEipStatus::default()));
    }

    #[test]
    fn what_is_not_understood_is_kept_and_never_released() {
        let with = |member: &str, value: &str| {
            let mut object = fixed();
            object["spec"]["allocationType"][member] = value.into();
            decoded(object)
        };
        for (member, value) in [("releaseAfter", "10 minutes"), ("releaseAfter", ""), ("releaseStrategy", "Later")] {
            let object = with(member, value);
            assert_eq!(object.spec.strategy, Strategy::Never, "{member}={value}");
            assert_eq!(object.spec.allocation_id, EipId::new("eip-bp1"));
            assert!(object.problem.unwrap().contains(member));
        }
        let object = with("type", "Borrowed");
        assert_eq!(object.spec.kind, EipKind::Static);
        assert!(object.problem.unwrap().contains("Borrowed"));
        let empty = decoded(json!({"metadata": {"name": "x", "uid": "1"}}));
        assert_eq!(empty.spec.strategy, Strategy::Never);
        assert!(empty.problem.unwrap().contains("allocationID"));
    }

    #[test]
    fn a_patch_takes_away_what_is_not_set_and_a_creation_leaves_it_out() {
        let spec = PodEipSpec {
            allocation_id: EipId::new("eip-1"),
            bandwidth_package_id: None,
            kind: EipKind::Auto,
            strategy: Strategy::Never,
        };
        let patch = json!({"allocationID": "eip-1", "bandwidthPackageID": null,
            "allocationType": {"type": "Auto", "releaseStrategy": "Never", "releaseAfter": null}});
        assert_eq!(spec.patch(), patch);
        let new = NewPodEip { namespace: "shop".into(), name: "web-0".into(), spec, annotations: BTreeMap::new() };
        let object = new.object();
        let bare = json!({"allocationID": "eip-1",
            "allocationType": {"type": "Auto", "releaseStrategy": "Never"}});
        assert_eq!(object["spec"], bare);
        assert_eq!(object["metadata"]["finalizers"], json!([FINALIZER]));
    }

    #[test]
    fn the_spec_survives_the_wire() {
        for text in ["Follow", "Never", "15m30s"] {
            let spec = PodEipSpec { strategy: text.parse().unwrap(), ..decoded(fixed()).spec };
            let mut object = fixed();
            object["spec"] = spec.patch();
            assert_eq!(decoded(object).spec, spec);
        }
    }

    #[test]
    fn a_status_patch_names_only_what_changed() {
        let seen = decoded(fixed()).status.unwrap();
        assert!(seen.changes_from(Some(&seen)).is_empty());
        let wanted = PodEipStatus {
            private_ip_address: None,
            status: Some("Available".into()),
            pod_last_seen: Some("2024-03-01T09:30:00.75Z".parse().unwrap()),
            ..seen.clone()
        };
        let changes = Value::Object(wanted.changes_from(Some(&seen)));
        assert_eq!(changes, json!({"privateIPAddress": null, "status": "Available"}));
        let whole = wanted.changes_from(None);
        assert_eq!(whole["podLastSeen"], "2024-03-01T09:30:00Z");
        assert!(!whole.contains_key("privateIPAddress") && whole.len() == 8, "{whole:?}");
    }
}
