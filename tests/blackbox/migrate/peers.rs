//! Pods with EIPs as Terway and ack-extend-network-controller leave them, and what of these systems runs.

use podeip_sim::cloud::{EipView, Status, UserEip, defaults};
use podeip_sim::kube::{Owner, PodSpec};
use serde_json::{Value, json};

use crate::scene::{Sandbox, Scene};

const ADDRESS: &str = "k8s.aliyun.com/allocated-eipAddress";
const FINALIZER: &str = "podeip-controller.alibabacloud.com/finalizer";

/// What is to become of an EIP at its pod's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Follows,
    /// It outlives its pod.
    Fixed,
    /// The pod names one of its user's.
    Users,
}

/// A pod that runs with an EIP of another system.
#[derive(Clone, Debug)]
pub struct Served {
    pub sandbox: Sandbox,
    pub eip: String,
    pub kind: &'static str,
    /// `Follow`, `Never` or the time that is left.
    pub strategy: &'static str,
}

impl Served {
    /// Whether a PodEIP's `spec.allocationType` says it.
    pub fn strategy_in(&self, allocation_type: &Value) -> bool {
        let says = allocation_type.as_object().unwrap();
        match self.strategy {
            lasting @ ("Follow" | "Never") => says["releaseStrategy"] == lasting && !says.contains_key("releaseAfter"),
            span => says["releaseStrategy"] == "TTL" && says["releaseAfter"] == span,
        }
    }

    /// Its pod is over: what is to go is gone, and what is to stay is there and unbound.
    #[track_caller]
    pub fn assert_ended(&self, scene: &Scene) {
        let eip = living(scene, &self.eip);
        let name = &self.sandbox.name;
        assert_eq!(eip.is_some(), self.kind == "Static" || self.strategy != "Follow", "{name}: {eip:?}");
        assert!(eip.is_none_or(|eip| eip.binding.is_none()), "{name}");
        let pod_eip = scene.pod_eip(&self.sandbox);
        assert_eq!(pod_eip.is_some(), self.strategy != "Follow", "{name}: {pod_eip:?}");
    }
}

/// The EIP, unless it is released.
pub fn living(scene: &Scene, eip: &str) -> Option<EipView> {
    scene.world.cloud.eips().into_iter().find(|it| it.id == eip && it.status != Status::Releasing)
}

/// A pod that runs on 10.219.0.`last`; its sandbox lives as long as the test.
pub fn pod(scene: &Scene, name: &str, last: u8, owner: &str, annotations: &[(&str, &str)]) -> Sandbox {
    let ip = [10, 219, 0, last];
    let spec = PodSpec {
        owners: vec![Owner::new(owner, "set")],
        phase: "Running".into(),
        pod_ip: Some(format!("10.219.0.{last}")),
        ..PodSpec::new("default", name)
    };
    scene.pod_with(spec, ip, annotations).alive()
}

/// Binds the EIP to the pod and shows its address there, as both systems do.
pub fn serve(scene: &Scene, sandbox: Sandbox, eip: String, kind: &'static str, strategy: &'static str) -> Served {
    scene.world.cloud.bind_by_hand(&eip, &scene.eni_of(sandbox.ip), sandbox.ip).unwrap();
    let address = scene.world.cloud.eip(&eip).unwrap().address;
    let shown = json!({"metadata": {"annotations": {ADDRESS: address}}});
    scene.world.cluster.merge("pods", &sandbox.namespace, &sandbox.name, &shown).unwrap();
    Served { sandbox, eip, kind, strategy }
}

fn bought(scene: &Scene) -> String {
    scene.world.cloud.create_user_eip(UserEip::default())
}

/// Terway writes nothing but the pod's annotation. A stateful pod's EIP it keeps for five minutes.
pub fn terway(scene: &Scene, name: &str, last: u8, end: End) -> Served {
    let auto = [("k8s.aliyun.com/pod-with-eip", "true")];
    match end {
        End::Follows => serve(scene, pod(scene, name, last, "ReplicaSet", &auto), bought(scene), "Auto", "Follow"),
        End::Fixed => serve(scene, pod(scene, name, last, "StatefulSet", &auto), bought(scene), "Auto", "5m"),
        End::Users => {
            let eip = scene.world.cloud.create_user_eip(UserEip { name: "the-users".into(), ..UserEip::default() });
            let named = [("k8s.aliyun.com/eci-eip-instanceid", eip.as_str())];
            let sandbox = pod(scene, name, last, "ReplicaSet", &named);
            serve(scene, sandbox, eip, "Static", "Follow")
        }
    }
}

/// ack-extend-network-controller writes a PodEIP with a status, and the pod's annotation.
pub fn ack_extend(scene: &Scene, name: &str, last: u8, end: End) -> Served {
    let auto = ("k8s.aliyun.com/pod-with-eip", "true");
    let fixed = ("k8s.aliyun.com/pod-eip-release-strategy", "10m");
    let served = match end {
        End::Follows => serve(scene, pod(scene, name, last, "ReplicaSet", &[auto]), bought(scene), "Auto", "Follow"),
        End::Fixed => serve(scene, pod(scene, name, last, "StatefulSet", &[auto, fixed]), bought(scene), "Auto", "10m"),
        End::Users => {
            let eip = scene.world.cloud.create_user_eip(UserEip { name: "the-users".into(), ..UserEip::default() });
            let named = [("network.alibabacloud.com/pod-eip-instanceid", eip.as_str())];
            let sandbox = pod(scene, name, last, "StatefulSet", &named);
            serve(scene, sandbox, eip, "Static", "Follow")
        }
    };
    let object = pod_eip(scene, name, &served.eip, served.kind, served.strategy);
    scene.world.cluster.create(object).unwrap();
    let status = json!({"status": {
        "networkInterfaceID": scene.eni_of(served.sandbox.ip),
        "privateIPAddress": served.sandbox.ip,
        "status": "InUse",
    }});
    scene.world.cluster.merge("podeips", "default", name, &status).unwrap();
    served
}

/// The PodEIP of a pod that is gone, and its EIP, which is free.
pub fn outliving(scene: &Scene, name: &str, strategy: &str) -> String {
    let eip = bought(scene);
    scene.world.cluster.create(pod_eip(scene, name, &eip, "Auto", strategy)).unwrap();
    eip
}

fn pod_eip(scene: &Scene, name: &str, eip: &str, kind: &str, strategy: &str) -> Value {
    let mut allocation_type = json!({"type": kind, "releaseStrategy": strategy});
    if !["Follow", "Never"].contains(&strategy) {
        allocation_type = json!({"type": kind, "releaseStrategy": "TTL", "releaseAfter": strategy});
    }
    let seen = scene.world.cloud.eip(eip).unwrap();
    let mut status = json!({
        "eipAddress": seen.address, "isp": "BGP", "internetChargeType": "PayByTraffic",
        "resourceGroupID": defaults::RESOURCE_GROUP, "status": "Available", "podLastSeen": scene.world.clock.now(),
    });
    if !seen.name.is_empty() {
        status["name"] = seen.name.into();
    }
    json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
        "metadata": {"name": name, "namespace": "default", "finalizers": [FINALIZER]},
        "spec": {"allocationID": eip, "allocationType": allocation_type},
        "status": status,
    })
}

/// The Deployment of ack-extend-network-controller.
pub fn controller(replicas: u8) -> Value {
    let container = json!({"name": "controller", "image": "r/ack-extend:v0.13.0"});
    workload("Deployment", "ack-extend-network-controller", &container, json!({"replicas": replicas}))
}

/// Terway of before 1.7.
pub fn terway_daemon_set() -> Value {
    let container = json!({"name": "terway", "image": "registry.example.com/acs/terway:v1.6.4"});
    workload("DaemonSet", "terway-eniip", &container, json!({}))
}

fn workload(kind: &str, name: &str, container: &Value, mut spec: Value) -> Value {
    let labels = json!({"app": name});
    spec["selector"] = json!({"matchLabels": labels});
    spec["template"] = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "kube-system"}, "spec": spec})
}

/// ConfigMap eni-config with Terway's own switch.
pub fn terway_settings(switch: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "eni-config", "namespace": "kube-system"},
        "data": {"eni_conf": json!({"enable_eip_pool": switch}).to_string()}})
}
