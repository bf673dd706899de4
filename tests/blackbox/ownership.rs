//! What was moved, named, tagged or deleted by others: only ours is touched, and only where we put it.

use std::fs;
use std::time::{Duration, Instant};

use podeip_sim::cloud::{Status, UserEip, defaults};
use podeip_sim::faults::{Effect, Rule};
use podeip_sim::kube::{Owner, PodSpec};
use serde_json::{Value, json};

use crate::scene::{Scene, WITH_EIP};

const IP: [u8; 4] = [10, 219, 0, 5];
const NEVER: (&str, &str) = ("k8s.aliyun.com/pod-eip-release-strategy", "Never");

fn pod_eip(name: &str, allocation_id: &str) -> Value {
    json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"allocationID": allocation_id, "allocationType": {"type": "Auto", "releaseStrategy": "Follow"}},
    })
}

#[test]
fn an_eip_that_only_a_foreign_pod_eip_names_is_never_released() {
    let scene = Scene::new();
    scene.world.cluster.create(pod_eip("web-0", defaults::USER_EIP)).unwrap();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.assert_served(&pod).id, defaults::USER_EIP);
    scene.del(&pod);
    let pod = pod.restarted();
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.assert_served(&pod).id, defaults::USER_EIP, "it is still the pod's in its next sandbox");
    assert!(scene.ever_ours().is_empty());
    scene.delete_pod(&pod);
    scene.del(&pod);
    assert_eq!(scene.world.cloud.eip(defaults::USER_EIP).unwrap().status, Status::Available);
    scene.assert_nothing_left();
}

#[test]
fn a_pod_eip_that_changed_meanwhile_is_claimed_all_the_same() {
    let scene = Scene::new();
    scene.world.cluster.create(pod_eip("web-0", "eip-bp1gone0000000000001")).unwrap();
    let conflict = Effect::error(409, "Conflict", "the object has been modified; please apply your changes");
    let rule = scene.world.faults.add(Rule::on("patch podeips", conflict).once());
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    scene.assert_served(&pod);
}

#[test]
fn deleting_a_lasting_pod_eip_releases_it_when_its_pod_goes() {
    let scene = Scene::new();
    let spec = PodSpec { owners: vec![Owner::new("StatefulSet", "web")], ..PodSpec::new("default", "web-0") };
    let pod = scene.pod_with(spec, IP, &[WITH_EIP, NEVER]);
    scene.add(&pod).assert_added(&pod);
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}});
    scene.world.cluster.merge("podeips", "default", "web-0", &deleted).unwrap();
    // A sandbox restart of the living pod keeps its EIP.
    scene.del(&pod);
    let pod = pod.restarted();
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn an_eip_that_someone_moved_away_is_not_waited_for() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod).id;
    let elsewhere = [10, 219, 0, 99].into();
    scene.world.cloud.unbind_by_hand(&eip).unwrap();
    scene.world.cloud.bind_by_hand(&eip, defaults::POD_ENI, elsewhere).unwrap();
    scene.delete_pod(&pod);
    let started = Instant::now();
    let answer = scene.call("DEL", &pod);
    let took = started.elapsed();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(scene.records()[0]["phase"], "Releasing", "{}", scene.log());
    assert!(scene.world.cloud.eip(&eip).unwrap().is_bound_to(defaults::POD_ENI, elsewhere));
}

#[test]
fn owner_tags_are_set_once_the_binding_stands() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.ignore_tags_on_allocate = true);
    let busy = Effect::error(400, "TaskConflict", "operate too frequent");
    let rule = scene.world.faults.add(Rule::on("TagResources", busy).once());
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    assert_eq!(scene.assert_served(&pod).tag("podeip-uid"), Some(pod.uid.as_str()));
}

#[test]
fn an_eip_that_vanished_while_it_was_held_is_replaced() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let first = scene.assert_served(&pod).id;
    scene.del(&pod);
    scene.world.cloud.release_by_hand(&first).unwrap();
    let pod = pod.restarted();
    scene.add(&pod).assert_added(&pod);
    assert_ne!(scene.assert_served(&pod).id, first);
    assert_eq!(scene.ours().len(), 1);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn the_same_address_on_another_eni_is_left_alone() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod).id;
    scene.world.cloud.bind_by_hand(&eip, defaults::PRIMARY_ENI, IP.into()).unwrap();
    scene.del(&pod);
    assert!(scene.world.cloud.eip(&eip).unwrap().is_bound_to(defaults::PRIMARY_ENI, IP.into()));
    assert!(scene.world.calls.named("UnassociateEipAddress").is_empty());
}

#[test]
fn another_clusters_eip_is_left_alone() {
    let scene = Scene::new();
    let other = scene.world.cloud.create_user_eip(UserEip::default());
    let tags = [("podeip-cluster", "c-other"), ("podeip-uid", "u-other")].map(|(k, v)| (k.to_string(), v.to_string()));
    scene.world.cloud.tag_by_hand(&other, tags.into()).unwrap();
    scene.world.cloud.bind_by_hand(&other, defaults::POD_ENI, IP.into()).unwrap();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_error(104, &[&other]);
    assert!(scene.world.cloud.eip(&other).unwrap().is_bound_to(defaults::POD_ENI, IP.into()));
}

#[test]
fn a_kept_eip_that_someone_moved_stays_there() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP, NEVER]);
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod).id;
    scene.delete_pod(&pod);
    scene.del(&pod);
    let elsewhere = [10, 219, 0, 200];
    scene.world.cloud.bind_by_hand(&eip, defaults::POD_ENI, elsewhere.into()).unwrap();
    let next = scene.pod("web-0", [10, 219, 0, 6], &[WITH_EIP, NEVER]);
    scene.add(&next).assert_error(104, &[&eip, "10.219.0.200"]);
    assert!(scene.world.cloud.eip(&eip).unwrap().is_bound_to(defaults::POD_ENI, elsewhere.into()));
    // Nor does allow_eip_rob, which is for named EIPs.
    scene.configure(|settings| settings["allow_eip_rob"] = json!(true));
    scene.add(&next.restarted()).assert_error(104, &[&eip]);
    assert!(scene.world.cloud.eip(&eip).unwrap().is_bound_to(defaults::POD_ENI, elsewhere.into()));
}

#[test]
fn an_eip_that_someone_put_into_a_package_is_released_all_the_same() {
    let scene = Scene::new();
    let package = ("network.alibabacloud.com/eip-common-bandwidth-package-id", defaults::PACKAGE);
    let pod = scene.pod("web-0", IP, &[WITH_EIP, package]);
    scene.add(&pod).assert_added(&pod);
    // As if the package were somebody else's doing.
    let path = scene.state_dir().join("state.json");
    let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    file["attachments"][0].as_object_mut().unwrap().remove("bandwidthPackage").unwrap();
    fs::write(&path, file.to_string()).unwrap();
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}
