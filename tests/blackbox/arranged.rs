//! What an ADD that is over leaves behind, arranged by hand: a crash sweep needs hundreds of such
//! pods, and a process for each would take most of its time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use podeip_sim::cloud::{UserEip, defaults};
use podeip_sim::kube::{Owner, PodSpec};
use serde_json::{Value, json};

use crate::scene::{Sandbox, Scene, WITH_EIP};

const NAMED: &str = "network.alibabacloud.com/pod-eip-instanceid";
const STRATEGY: &str = "network.alibabacloud.com/pod-eip-release-strategy";

/// A pod of a StatefulSet on 10.219.0.`last`, with these annotations. Its sandbox lives as long as
/// the test.
pub fn pod(scene: &Scene, name: &str, last: u8, annotations: &[(&str, &str)]) -> Sandbox {
    let owners = vec![Owner::new("StatefulSet", "set")];
    scene.pod_with(PodSpec { owners, ..PodSpec::new("default", name) }, [10, 219, 0, last], annotations).alive()
}

/// A pod with an EIP of this release strategy, as [`serve`] leaves it.
pub fn served(scene: &Scene, name: &str, last: u8, strategy: &str) -> (Sandbox, String) {
    let pod = pod(scene, name, last, &[WITH_EIP, (STRATEGY, strategy)]);
    let eip = serve(scene, &pod);
    (pod, eip)
}

/// A pod that names an EIP, as [`serve`] leaves it.
pub fn served_by_name(scene: &Scene, name: &str, last: u8, eip: &str, strategy: &str) -> Sandbox {
    let pod = pod(scene, name, last, &[(NAMED, eip), (STRATEGY, strategy)]);
    serve(scene, &pod);
    pod
}

/// Gives `pod` its EIP exactly as ADD does, and tells which.
pub fn serve(scene: &Scene, pod: &Sandbox) -> String {
    let wish = |key: &str| pod.annotations.as_ref().unwrap().get(key).cloned();
    let named = wish(NAMED);
    let kind = if named.is_some() { "Static" } else { "Auto" };
    let eip = named.unwrap_or_else(|| tagged_eip(scene, &pod.name, &pod.uid, &pod.node));
    scene.world.cloud.bind_by_hand(&eip, &scene.eni_of(pod.ip), pod.ip).unwrap();
    claim(scene, pod, &eip, kind, &wish(STRATEGY).unwrap_or("Follow".into()));
    publish(scene, pod, &eip);
    record(scene, pod, &eip, kind, &wish(STRATEGY).unwrap_or("Follow".into()));
    eip
}

/// An EIP with the owner tags of a pod.
pub fn tagged_eip(scene: &Scene, pod: &str, uid: &str, node: &str) -> String {
    scene.world.cloud.create_user_eip(UserEip { tags: owner_tags(pod, uid, node), ..UserEip::default() })
}

fn owner_tags(pod: &str, uid: &str, node: &str) -> BTreeMap<String, String> {
    let tags = [
        ("podeip-cluster", defaults::CLUSTER),
        ("podeip-namespace", "default"),
        ("podeip-pod", pod),
        ("podeip-uid", uid),
        ("podeip-node", node),
    ];
    tags.map(|(key, value)| (key.to_string(), value.to_string())).into()
}

fn claim(scene: &Scene, pod: &Sandbox, eip: &str, kind: &str, strategy: &str) {
    let allocation_type = match strategy {
        "Follow" | "Never" => json!({"type": kind, "releaseStrategy": strategy}),
        span => json!({"type": kind, "releaseStrategy": "TTL", "releaseAfter": span}),
    };
    let object = json!({
        "apiVersion": "alibabacloud.com/v1beta1",
        "kind": "PodEIP",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "annotations": {"podeip/pod-uid": pod.uid, "podeip/node": pod.node},
            "finalizers": ["podeip-controller.alibabacloud.com/finalizer"],
        },
        "spec": {"allocationID": eip, "allocationType": allocation_type},
    });
    scene.world.cluster.create(object).unwrap();
}

fn publish(scene: &Scene, pod: &Sandbox, eip: &str) {
    let seen_eip = scene.world.cloud.eip(eip).unwrap();
    let address = seen_eip.address;
    let seen = scene.world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let status = json!({"status": {
        "networkInterfaceID": scene.eni_of(pod.ip),
        "privateIPAddress": pod.ip,
        "eipAddress": address,
        "isp": "BGP",
        "internetChargeType": "PayByTraffic",
        "resourceGroupID": defaults::RESOURCE_GROUP,
        "status": "InUse",
        "podLastSeen": seen,
        "name": Some(seen_eip.name).filter(|name| !name.is_empty()),
    }});
    scene.world.cluster.merge("podeips", &pod.namespace, &pod.name, &status).unwrap();
    let annotations = json!({"metadata": {"annotations": {
        "k8s.aliyun.com/allocated-eipAddress": address,
        "network.alibabacloud.com/allocated-eipAddress": address,
        "network.alibabacloud.com/allocated-eip-address": address,
        "network.alibabacloud.com/allocated-eip-id": eip,
        "k8s.aliyun.com/allocated-eipInstanceId": eip,
        "network.alibabacloud.com/allocated-eni-id": scene.eni_of(pod.ip),
    }}});
    scene.world.cluster.merge("pods", &pod.namespace, &pod.name, &annotations).unwrap();
}

fn record(scene: &Scene, pod: &Sandbox, eip: &str, kind: &str, strategy: &str) {
    let now = scene.world.clock.now();
    let address = scene.world.cloud.eip(eip).unwrap().address;
    let mut record = json!({
        "containerId": pod.container_id,
        "ifname": "eth0",
        "netns": pod.netns,
        "pod": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
        "phase": "Bound",
        "clientToken": format!("podeip-{}", pod.uid),
        "generation": 0,
        "eip": {"id": eip, "address": address, "type": kind},
        "binding": {"eni": scene.eni_of(pod.ip), "privateIp": pod.ip},
        "strategy": strategy,
        "published": true,
        "createdAt": now,
        "updatedAt": now,
    });
    if kind == "Auto" {
        let tags = owner_tags(&pod.name, &pod.uid, &pod.node);
        record["allocation"] = json!({"bandwidth": 5, "internetChargeType": "PayByTraffic", "tags": tags});
    }
    let mut records = scene.records_of(&pod.node);
    records.push(record);
    write(scene, &pod.node, &records);
}

/// Changes the record of `pod`.
pub fn change_record(scene: &Scene, pod: &Sandbox, change: impl Fn(&mut Value)) {
    let mut records = scene.records_of(&pod.node);
    records.iter_mut().filter(|record| record["pod"]["uid"] == pod.uid).for_each(change);
    write(scene, &pod.node, &records);
}

fn write(scene: &Scene, node: &str, records: &[Value]) {
    let directory = scene.state_dir_of(node);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).unwrap();
    let file = directory.join("state.json");
    fs::write(&file, format!("{{\"version\":1,\"attachments\":{}}}", json!(records))).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Without what differs from one pod to the next.
fn normal(scene: &Scene, pod: &Sandbox) -> [Value; 3] {
    let mut record = scene.records_of(&pod.node).into_iter().find(|it| it["pod"]["uid"] == pod.uid).unwrap();
    for key in ["clientToken", "createdAt", "updatedAt", "netns"] {
        record[key] = Value::Null;
    }
    let mut pod_eip = scene.pod_eip(pod).unwrap();
    for key in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
        pod_eip["metadata"][key] = Value::Null;
    }
    pod_eip["status"]["podLastSeen"] = Value::Null;
    let annotations = scene.pod_object(pod)["metadata"]["annotations"].clone();
    let eip = scene.on(pod.ip).remove(0);
    let texts = [
        (&eip.id, "EIP"),
        (&eip.address.to_string(), "ADDRESS"),
        (&pod.uid, "UID"),
        (&pod.name, "NAME"),
        (&pod.container_id, "CONTAINER"),
        (&pod.ip.to_string(), "IP"),
    ];
    [record, pod_eip, annotations].map(|value| {
        let plain = texts.iter().fold(value.to_string(), |text, (own, common)| text.replace(own.as_str(), common));
        serde_json::from_str(&plain).unwrap()
    })
}

#[test]
fn what_is_arranged_is_what_add_leaves() {
    let scene = Scene::new();
    let named = || scene.world.cloud.create_user_eip(UserEip { name: "the-user's".into(), ..UserEip::default() });
    let names = [named(), named()];
    for wish in ["Follow", "Never", "10m", NAMED] {
        let annotations = |at: usize| match wish {
            NAMED => [(NAMED, names[at].as_str()), (STRATEGY, "Never")],
            strategy => [WITH_EIP, (STRATEGY, strategy)],
        };
        let [arranged, added] = [0, 1].map(|at| pod(&scene, ["arranged", "added"][at], 5 + at as u8, &annotations(at)));
        serve(&scene, &arranged);
        scene.add(&added).assert_added(&added);
        assert_eq!(normal(&scene, &arranged), normal(&scene, &added), "{wish}");
        for gone in [arranged, added] {
            scene.delete_pod(&gone);
            scene.del(&gone);
            scene.world.cluster.remove("podeips", "default", &gone.name);
        }
    }
}

/// A service account's token, issued and ending so many seconds from now.
pub fn token(issued: i64, ends: i64, more: &Value) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({"iat": now + issued, "exp": now + ends, "sub": "system:serviceaccount:kube-system:podeip"});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// A pod of the cluster for whose sandbox podeip was not called.
pub fn early(scene: &Scene, spec: PodSpec, last: u8, annotations: &[(&str, &str)]) -> Sandbox {
    let ip = [10, 219, 0, last];
    let pod = scene.pod_with(spec, ip, annotations).alive();
    let status = json!({"status": {"phase": "Running", "podIP": pod.ip, "podIPs": [{"ip": pod.ip}]}});
    scene.world.cluster.merge("pods", &pod.namespace, &pod.name, &status).unwrap();
    pod
}
