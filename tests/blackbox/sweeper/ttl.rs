//! Strategies at a pod's end: what is kept for how long, and who ends it.

use podeip_sim::cloud::{Status, defaults};
use serde_json::json;

use super::{IP, OTHER_IP, added, elsewhere, minutes, stateful, told};
use crate::scene::Scene;

#[test]
fn a_pod_re_created_within_its_time_has_the_same_eip() {
    let scene = Scene::new();
    let first = added(&scene, stateful(&scene, IP, "10m"));
    let eip = scene.assert_served(&first);
    // The node hangs: its pod is gone, its DEL comes late.
    scene.delete_pod(&first);
    scene.world.clock.advance(minutes(9));
    assert_eq!(told(&elsewhere(&scene), &eip.id).as_deref(), Some("unbound"));
    let second = added(&scene, stateful(&scene, OTHER_IP, "10m").alive());
    assert_eq!(scene.assert_served(&second).id, eip.id);
    scene.del(&first);
    scene.world.clock.advance(minutes(60));
    scene.agent_once();
    elsewhere(&scene);
    assert_eq!(scene.assert_served(&second).id, eip.id);
    assert_eq!(scene.ever_ours().len(), 1);
}

#[test]
fn an_eip_whose_time_is_over_is_released_wherever_its_node_is() {
    for node_lives in [true, false] {
        let scene = Scene::new();
        let pod = added(&scene, stateful(&scene, IP, "10m"));
        let eip = scene.assert_served(&pod);
        scene.delete_pod(&pod);
        if node_lives {
            scene.del(&pod);
        }
        scene.world.clock.advance(minutes(9));
        elsewhere(&scene);
        assert_eq!(scene.ours().len(), 1, "kept until its time is over");
        assert!(scene.on(pod.ip).is_empty(), "but not bound where the pod was");
        scene.world.clock.advance(minutes(2));
        assert_eq!(told(&elsewhere(&scene), &eip.id).as_deref(), Some("released"));
        assert!(scene.ours().is_empty());
        assert!(scene.world.cluster.list("podeips").is_empty());
        scene.del(&pod);
        scene.assert_nothing_left();
    }
}

#[test]
fn never_is_kept_until_its_podeip_is_deleted() {
    let scene = Scene::new();
    let pod = added(&scene, stateful(&scene, IP, "Never"));
    let eip = scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.world.clock.advance(minutes(60 * 24 * 30));
    elsewhere(&scene);
    assert_eq!(scene.world.cloud.eip(&eip.id).unwrap().status, Status::Available);
    let doomed = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    scene.world.cluster.merge("podeips", "default", "web-0", &doomed).unwrap();
    assert_eq!(told(&elsewhere(&scene), &eip.id).as_deref(), Some("released"));
    scene.assert_nothing_left();
}

#[test]
fn a_podeip_deleted_under_a_living_pod_waits_for_it() {
    let scene = Scene::new();
    let pod = added(&scene, stateful(&scene, IP, "Never").alive());
    let eip = scene.assert_served(&pod);
    let doomed = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    scene.world.cluster.merge("podeips", "default", "web-0", &doomed).unwrap();
    scene.agent_once();
    assert_eq!(told(&elsewhere(&scene), &eip.id).as_deref(), Some("waits for its pod"));
    assert_eq!(scene.on(pod.ip)[0].id, eip.id);
    assert!(!scene.events(&pod, "PodEIPWaiting").is_empty());
    let condition = scene.pod_eip(&pod).unwrap()["metadata"]["annotations"]["podeip/condition"].clone();
    assert!(condition.as_str().unwrap().contains("goes when the pod goes"), "{condition}");
    scene.delete_pod(&pod);
    scene.del(&pod);
    elsewhere(&scene);
    scene.assert_nothing_left();
}

#[test]
fn a_named_eip_is_never_released() {
    for strategy in ["Follow", "Never", "10m"] {
        let scene = Scene::new();
        let annotations = [
            ("network.alibabacloud.com/pod-eip-instanceid", defaults::USER_EIP),
            ("network.alibabacloud.com/pod-eip-release-strategy", strategy),
        ];
        let pod = added(&scene, scene.pod("web-0", IP, &annotations));
        scene.delete_pod(&pod);
        scene.world.clock.advance(minutes(60));
        elsewhere(&scene);
        scene.del(&pod);
        let doomed = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        scene.world.cluster.merge("podeips", "default", "web-0", &doomed);
        elsewhere(&scene);
        let eip = scene.world.cloud.eip(defaults::USER_EIP).unwrap();
        assert_eq!((eip.status, &eip.binding), (Status::Available, &None), "{strategy}");
        assert!(scene.world.cluster.list("podeips").is_empty(), "{strategy}");
    }
}

#[test]
fn the_podeip_of_a_vanished_node_ends_and_its_eip_with_it() {
    let scene = Scene::new();
    let pod = added(&scene, stateful(&scene, IP, "Follow"));
    let eip = scene.assert_served(&pod);
    elsewhere(&scene);
    assert_eq!(scene.on(pod.ip)[0].id, eip.id, "its node has said a moment ago that it lives");
    scene.delete_pod(&pod);
    scene.world.clock.advance(minutes(3));
    assert_eq!(told(&elsewhere(&scene), &eip.id).as_deref(), Some("released"));
    scene.del(&pod);
    scene.assert_nothing_left();
}
