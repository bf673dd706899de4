//! Pods: reading them, publishing annotations and a condition on them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Kube;
use super::error::KubeError;
use super::event::ObjectRef;
use super::request::{Format, Operation, Request, Resource, Verb};
use super::wire::{self, WireMeta};
use crate::deadline::Deadline;
use crate::names::PodUid;

/// A pod with its managed fields is 10 to 30 KiB; a page stays well below the largest answer.
const PODS_PER_PAGE: u32 = 250;

/// Annotations by which a static pod's mirror object carries the UID that the runtime knows.
const STATIC_POD_HASHES: [&str; 2] = ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"];

/// The parts of a pod object that podeip decides upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// The API object's UID. For a static pod this is the mirror's, not the runtime's.
    pub uid: String,
    pub resource_version: String,
    /// `spec.nodeName`; `None` before scheduling.
    pub node: Option<String>,
    pub annotations: BTreeMap<String, String>,
    pub owners: Vec<Owner>,
    /// Condition types of `spec.readinessGates`.
    pub readiness_gates: Vec<String>,
    /// `status.phase`; empty when the object has none.
    pub phase: String,
    /// Whether it has a deletion timestamp.
    pub terminating: bool,
    pub host_network: bool,
    /// Its IPv4 addresses (`status.podIPs`), the main one first.
    pub ips: Vec<Ipv4Addr>,
    /// `status` of each condition in `status.conditions`, by type: `True`, `False`, `Unknown`.
    pub conditions: BTreeMap<String, String>,
}

/// An entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub kind: String,
    pub name: String,
}

/// A condition of ours in a pod's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCondition {
    /// The condition's type, such as `k8s.aliyun.com/eip`.
    pub kind: String,
    pub status: bool,
    pub reason: String,
    pub message: String,
}

impl Pod {
    /// Whether this object is the pod instance that the runtime calls `uid`: the object's own
    /// UID, or the manifest's hash in the annotations of a static pod's mirror.
    pub fn is_instance(&self, uid: &PodUid) -> bool {
        let of_manifest = |key: &&str| self.annotations.get(*key).is_some_and(|hash| hash == uid.as_str());
        self.uid == uid.as_str() || STATIC_POD_HASHES.iter().any(of_manifest)
    }

    /// The UID that runtimes know it by.
    pub fn runtime_uid(&self) -> PodUid {
        let hash = STATIC_POD_HASHES.iter().find_map(|key| self.annotations.get(*key));
        PodUid::new(hash.unwrap_or(&self.uid))
    }

    /// Whether all its containers have ended for good.
    pub fn finished(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// The pod as the subject of an event.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WirePod {
    metadata: WireMeta,
    spec: Option<WireSpec>,
    status: Option<WireStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSpec {
    node_name: Option<String>,
    host_network: Option<bool>,
    readiness_gates: Option<Vec<WireGate>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireGate {
    condition_type: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus {
    phase: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<WireIp>>,
    conditions: Option<Vec<WireCondition>>,
}

#[derive(Deserialize)]
struct WireIp {
    #[serde(default)]
    ip: String,
}

#[derive(Deserialize)]
struct WireCondition {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    status: String,
}

impl From<WirePod> for Pod {
    fn from(wire: WirePod) -> Self {
        let WirePod { metadata, spec, status } = wire;
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let owners = metadata.owner_references.unwrap_or_default();
        let gates = spec.readiness_gates.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        Pod {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version.unwrap_or_default(),
            node: spec.node_name.filter(|node| !node.is_empty()),
            annotations: metadata.annotations.unwrap_or_default(),
            owners: owners.into_iter().map(|owner| Owner { kind: owner.kind, name: owner.name }).collect(),
            readiness_gates: gates.into_iter().map(|gate| gate.condition_type).collect(),
            phase: status.phase.unwrap_or_default(),
            terminating: metadata.deletion_timestamp.is_some(),
            ips: status.pod_ips.unwrap_or_default().iter().filter_map(|address| address.ip.parse().ok()).collect(),
            host_network: spec.host_network.unwrap_or_default(),
            conditions: conditions.into_iter().map(|condition| (condition.kind, condition.status)).collect(),
        }
    }
}

impl Kube {
    /// One pod; `None` when there is none of that name.
    pub fn pod(&self, namespace: &str, name: &str, deadline: Deadline) -> Result<Option<Pod>, KubeError> {
        let operation = Operation::on(Verb::Get, Resource::Pods, namespace, name);
        self.find(operation, deadline, |body| serde_json::from_slice::<WirePod>(body).map(Pod::from))
    }

    /// All pods bound to `node`, in every phase.
    pub fn pods_of_node(&self, node: &str, deadline: Deadline) -> Result<Vec<Pod>, KubeError> {
        let selector = [("fieldSelector", format!("spec.nodeName={node}"))];
        let decode = |item: &str| Ok(Some(Pod::from(serde_json::from_str::<WirePod>(item)?)));
        self.list(Operation::list(Resource::Pods, None), &selector, PODS_PER_PAGE, deadline, decode)
    }

    /// The pods of the whole cluster that `wanted` picks; the others are not kept in memory.
    pub fn pods_where(&self, wanted: impl Fn(&Pod) -> bool, deadline: Deadline) -> Result<Vec<Pod>, KubeError> {
        let decode = |item: &str| Ok(Some(Pod::from(serde_json::from_str::<WirePod>(item)?)).filter(&wanted));
        self.list(Operation::list(Resource::Pods, None), &[], PODS_PER_PAGE, deadline, decode)
    }

    /// Sets (`Some`) and takes away (`None`) annotations in one merge patch that names no other
    /// key, and only on this very instance of the pod.
    ///
    /// Through the status, which takes annotations too: whoever may patch the pod itself may change its images.
    ///
    /// # Errors
    /// [`KubeError::is_superseded`] when the name belongs to another instance by now,
    /// [`KubeError::is_not_found`] when the pod is gone.
    pub fn patch_pod_annotations(
        &self,
        pod: &Pod,
        changes: &BTreeMap<&str, Option<&str>>,
        deadline: Deadline,
    ) -> Result<(), KubeError> {
        let operation = Operation::on(Verb::Patch, Resource::PodStatus, &pod.namespace, &pod.name);
        let body = json!({"metadata": {"uid": pod.uid, "annotations": wire::changes(changes)}});
        self.command(&Request::write(operation, Format::MergePatch, body), deadline)
    }

    /// Sets one condition in the pod's status and leaves all others alone. The time of its last
    /// transition stays when `pod` shows the condition with the same status already.
    ///
    /// # Errors
    /// As [`Kube::patch_pod_annotations`].
    pub fn set_pod_condition(&self, pod: &Pod, condition: &PodCondition, deadline: Deadline) -> Result<(), KubeError> {
        let operation = Operation::on(Verb::Patch, Resource::PodStatus, &pod.namespace, &pod.name);
        // A merge patch would replace the whole list; the strategic one merges it by type.
        let body = condition_patch(pod, condition, self.now());
        self.command(&Request::write(operation, Format::StrategicPatch, body), deadline)
    }
}

fn condition_patch(pod: &Pod, condition: &PodCondition, now: Timestamp) -> Value {
    let status = if condition.status { "True" } else { "False" };
    let mut entry = json!({
        "type": condition.kind,
        "status": status,
        "reason": condition.reason,
        "message": condition.message,
    });
    if pod.conditions.get(&condition.kind).is_none_or(|known| known != status) {
        entry["lastTransitionTime"] = wire::time_text(now).into();
    }
    json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [entry]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(object: Value) -> Pod {
        serde_json::from_value::<WirePod>(object).unwrap().into()
    }

    fn game_server() -> Pod {
        decoded(json!({
            "kind": "Pod",
            "metadata": {
                "namespace": "game", "name": "room-3", "uid": "7d1f", "resourceVersion": "91",
                "creationTimestamp": "2024-03-01T10:00:00Z", "deletionTimestamp": null,
                "annotations": {"k8s.aliyun.com/pod-with-eip": "true"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "room",
                    "uid": "11", "controller": true, "blockOwnerDeletion": true}],
                "managedFields": [{"manager": "kubelet"}]
            },
            "spec": {"nodeName": "n-1", "readinessGates": [{"conditionType": "k8s.aliyun.com/eip"}],
                "containers": [{"name": "game"}]},
            "status": {"phase": "Pending", "conditions": [
                {"type": "Ready", "status": "False", "lastProbeTime": null},
                {"type": "k8s.aliyun.com/eip", "status": "False"}]}
        }))
    }

    #[test]
    fn reads_what_matters() {
        let pod = game_server();
        assert_eq!(pod.owners, [Owner { kind: "StatefulSet".into(), name: "room".into() }]);
        assert_eq!(pod.readiness_gates, ["k8s.aliyun.com/eip"]);
        assert_eq!(
            (pod.node.as_deref(), pod.phase.as_str(), pod.resource_version.as_str()),
            (Some("n-1"), "Pending", "91")
        );
        assert!(!pod.terminating && !pod.host_network && !pod.finished());
        assert_eq!(pod.annotations["k8s.aliyun.com/pod-with-eip"], "true");
        assert_eq!(pod.reference().uid, "7d1f");
    }

    #[test]
    fn reads_a_bare_object() {
        let pod = decoded(json!({"metadata": {"name": "x", "uid": "1", "annotations": null}, "spec": null}));
        assert!(pod.annotations.is_empty() && pod.node.is_none() && pod.phase.is_empty());
        let pod = decoded(json!({"metadata": {"name": "x", "uid": "1", "deletionTimestamp": "2024-03-01T10:00:00Z"},
            "spec": {"hostNetwork": true}, "status": {"phase": "Failed"}}));
        assert!(pod.terminating && pod.host_network && pod.finished());
    }

    #[test]
    fn a_static_pod_is_known_by_its_hash() {
        let uid = |text: &str| PodUid::new(text);
        let mut pod = game_server();
        assert!(pod.is_instance(&uid("7d1f")) && !pod.is_instance(&uid("c0ffee")));
        for key in STATIC_POD_HASHES {
            pod.annotations = BTreeMap::from([(key.to_string(), "c0ffee".to_string())]);
            assert!(pod.is_instance(&uid("c0ffee")) && !pod.is_instance(&uid("deca")), "{key}");
        }
    }

    #[test]
    fn a_condition_keeps_its_transition_time_while_its_status_stays() {
        let pod = game_server();
        let now: Timestamp = "2024-03-01T10:00:07.9Z".parse().unwrap();
        let mut condition = PodCondition {
            kind: "k8s.aliyun.com/eip".into(),
            status: false,
            reason: "Waiting".into(),
            message: "not bound yet".into(),
        };
        let patch = condition_patch(&pod, &condition, now);
        assert_eq!(patch["metadata"], json!({"uid": "7d1f"}));
        assert_eq!(patch["status"]["conditions"].as_array().unwrap().len(), 1);
        assert!(patch["status"]["conditions"][0].get("lastTransitionTime").is_none());
        condition.status = true;
        let entry = &condition_patch(&pod, &condition, now)["status"]["conditions"][0];
        assert_eq!(entry["status"], "True");
        assert_eq!(entry["lastTransitionTime"], "2024-03-01T10:00:07Z");
        condition.kind = "other.example/gate".into();
        condition.status = false;
        let entry = &condition_patch(&pod, &condition, now)["status"]["conditions"][0];
        assert_eq!(entry["lastTransitionTime"], "2024-03-01T10:00:07Z");
    }
}
