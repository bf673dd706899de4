//! What outlives a pod: release strategies by owner, and the next pod of the name.

use podeip_sim::cloud::Status;
use podeip_sim::kube::{Owner, PodSpec};
use serde_json::{Value, json};

use crate::scene::{Sandbox, Scene, WITH_EIP};

const IP: [u8; 4] = [10, 219, 0, 5];

fn owned(scene: &Scene, owner: Option<Owner>, ip: [u8; 4], strategy: &str) -> Sandbox {
    let spec = PodSpec { owners: owner.into_iter().collect(), ..PodSpec::new("default", "web-0") };
    scene.pod_with(spec, ip, &[WITH_EIP, ("k8s.aliyun.com/pod-eip-release-strategy", strategy)])
}

fn allocation_type(scene: &Scene, pod: &Sandbox) -> Value {
    scene.pod_eip(pod).unwrap()["spec"]["allocationType"].clone()
}

#[test]
fn a_lasting_strategy_is_for_pods_whose_name_comes_back() {
    let scene = Scene::new();
    for (kind, owner) in [("ReplicaSet", "web-5d4f"), ("DaemonSet", "web"), ("Job", "web"), ("CloneSet", "web")] {
        let pod = owned(&scene, Some(Owner::new(kind, owner)), IP, "Never");
        scene.add(&pod).assert_added(&pod);
        assert_eq!(allocation_type(&scene, &pod)["releaseStrategy"], "Follow", "{kind}");
        let events = scene.events(&pod, "ReleaseStrategyIgnored");
        assert!(events.iter().any(|message| message.contains(kind) && message.contains("Follow")), "{events:?}");
        let objects = scene.world.cluster.events_for("default", "web-0");
        assert!(objects.iter().any(|event| event["reason"] == "ReleaseStrategyIgnored" && event["type"] == "Warning"));
        scene.delete_pod(&pod);
        scene.del(&pod);
        scene.assert_nothing_left();
    }
}

#[test]
fn kinds_of_the_settings_count_as_stateful() {
    let scene = Scene::new();
    scene.configure(|settings| settings["custom_stateful_workload_kinds"] = json!(["gameserverset"]));
    let pod = owned(&scene, Some(Owner::new("GameServerSet", "web")), IP, "Never");
    scene.add(&pod).assert_added(&pod);
    assert_eq!(allocation_type(&scene, &pod)["releaseStrategy"], "Never");
    assert!(scene.events(&pod, "ReleaseStrategyIgnored").is_empty());
}

#[test]
fn a_stateful_or_bare_pod_keeps_its_eip_for_the_next_of_its_name() {
    let strategies = [
        ("Never", json!({"type": "Auto", "releaseStrategy": "Never"})),
        ("5m30s", json!({"type": "Auto", "releaseStrategy": "TTL", "releaseAfter": "5m30s"})),
    ];
    for owner in [None, Some(Owner::new("StatefulSet", "web"))] {
        for (strategy, recorded) in &strategies {
            let scene = Scene::new();
            let first = owned(&scene, owner.clone(), IP, strategy);
            scene.add(&first).assert_added(&first);
            let eip = scene.assert_served(&first);
            assert_eq!(allocation_type(&scene, &first), *recorded);
            scene.delete_pod(&first);
            scene.del(&first);
            scene.del(&first.without_netns());
            scene.gc();
            assert_eq!(scene.world.cloud.eip(&eip.id).unwrap().status, Status::Available);
            assert!(scene.records().is_empty());
            let status = &scene.pod_eip(&first).unwrap()["status"];
            assert_eq!(
                (&status["status"], &status["eipAddress"]),
                (&json!("Available"), &json!(eip.address.to_string()))
            );
            assert!(status["privateIPAddress"].as_str().unwrap_or_default().is_empty(), "{status}");

            let second = owned(&scene, owner.clone(), [10, 219, 0, 6], strategy);
            assert_ne!(second.uid, first.uid);
            scene.add(&second).assert_added(&second);
            assert_eq!(scene.assert_served(&second).id, eip.id);
            assert_eq!(scene.ever_ours().len(), 1);
        }
    }
}

#[test]
fn the_next_pod_of_the_name_comes_before_the_old_ones_del() {
    let scene = Scene::new();
    let first = owned(&scene, Some(Owner::new("StatefulSet", "web")), IP, "Never");
    scene.add(&first).assert_added(&first);
    let eip = scene.assert_served(&first);
    // A force-delete: the name is free while the old sandbox still runs.
    scene.delete_pod(&first);
    let second = owned(&scene, Some(Owner::new("StatefulSet", "web")), [10, 219, 0, 6], "Never");
    scene.add(&second).assert_added(&second);
    assert_eq!(scene.assert_served(&second).id, eip.id);
    scene.del(&first);
    scene.del(&first.without_netns());
    assert_eq!(scene.assert_served(&second).id, eip.id, "a late DEL takes nothing from the successor");
    scene.gc();
    assert_eq!(scene.records().len(), 1);
    assert_eq!(scene.ever_ours().len(), 1);
}

#[test]
fn a_pod_that_wants_to_follow_releases_what_it_inherited() {
    let scene = Scene::new();
    let first = owned(&scene, None, IP, "Never");
    scene.add(&first).assert_added(&first);
    let eip = scene.assert_served(&first);
    scene.delete_pod(&first);
    scene.del(&first);
    let second = owned(&scene, None, [10, 219, 0, 6], "Follow");
    scene.add(&second).assert_added(&second);
    assert_eq!(scene.assert_served(&second).id, eip.id);
    assert_eq!(allocation_type(&scene, &second)["releaseStrategy"], "Follow");
    scene.delete_pod(&second);
    scene.del(&second);
    scene.assert_nothing_left();
}

#[test]
fn naming_another_eip_does_not_orphan_a_kept_one() {
    let scene = Scene::new();
    let first = owned(&scene, None, IP, "Never");
    scene.add(&first).assert_added(&first);
    let eip = scene.assert_served(&first);
    scene.delete_pod(&first);
    scene.del(&first);
    let second = scene.pod("web-0", IP, &[super::NAMED]);
    scene.add(&second).assert_error(104, &["PodEIP default/web-0", &eip.id, "delete that PodEIP"]);
    assert_eq!(scene.pod_eip(&second).unwrap()["spec"]["allocationID"], eip.id);
    assert_eq!(scene.user_eip().status, Status::Available);
}
