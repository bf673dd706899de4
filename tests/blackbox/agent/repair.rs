//! What happens to a running pod's EIP behind podeip's back.

use podeip_sim::cloud::defaults;
use podeip_sim::kube::PodSpec;
use serde_json::{Value, json};

use super::{IP, running};
use crate::scene::{Scene, WITH_EIP};

fn gate(scene: &Scene, pod: &crate::scene::Sandbox) -> Value {
    let object = scene.pod_object(pod);
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|it| it["type"] == "k8s.aliyun.com/eip").unwrap_or_default()["status"].clone()
}

#[test]
fn an_eip_unbound_by_hand_is_bound_again() {
    let scene = Scene::new();
    let spec = PodSpec { readiness_gates: vec!["k8s.aliyun.com/eip".into()], ..PodSpec::new("default", "web-0") };
    let pod = scene.pod_with(spec, IP, &[WITH_EIP]).alive();
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod);
    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    scene.agent_once();
    assert_eq!(scene.assert_served(&pod).id, eip.id);
    assert_eq!(gate(&scene, &pod), "True");
    for reason in ["EIPDrifted", "EIPRestored"] {
        assert_eq!(scene.events(&pod, reason).len(), 1, "{reason}");
        assert_eq!(scene.pod_eip_events(&pod, reason).len(), 1, "{reason}");
    }
    assert_eq!(scene.pod_eip(&pod).unwrap()["metadata"]["annotations"]["podeip/condition"], Value::Null);
    assert_eq!(scene.records()[0]["phase"], "Bound");
}

#[test]
fn an_eip_taken_elsewhere_is_reported_and_left_there() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let eip = scene.ours().remove(0);
    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    scene.world.cloud.bind_by_hand(&eip.id, defaults::POD_ENI, [10, 219, 0, 99].into()).unwrap();
    scene.agent_once();
    scene.agent_once();
    assert!(scene.on(IP.into()).is_empty());
    assert_eq!(scene.on([10, 219, 0, 99].into())[0].id, eip.id);
    let events = scene.events(&pod, "EIPDrifted");
    assert!(events[0].contains("10.219.0.99") && events[0].contains("leaves it there"), "{events:?}");
    let condition = scene.pod_eip(&pod).unwrap()["metadata"]["annotations"]["podeip/condition"].clone();
    assert!(condition.as_str().unwrap().contains("10.219.0.99"), "{condition}");
    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    scene.agent_once();
    scene.assert_served(&pod);
}

#[test]
fn an_eip_released_by_hand_is_reported_and_not_bought_again() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let eip = scene.ours().remove(0);
    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    scene.world.cloud.release_by_hand(&eip.id).unwrap();
    scene.agent_once();
    assert_eq!(scene.ever_ours().len(), 1);
    assert!(scene.events(&pod, "EIPDrifted")[0].contains("delete the pod to get another"));
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn lost_tags_and_lost_publications_come_back() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let eip = scene.ours().remove(0);
    scene.world.cloud.tag_by_hand(&eip.id, Default::default()).unwrap();
    scene.world.cluster.remove("podeips", "default", "web-0");
    let keys = json!({"metadata": {"annotations": {"k8s.aliyun.com/allocated-eipAddress": null}}});
    scene.world.cluster.merge("pods", "default", "web-0", &keys);
    scene.agent_once();
    let eip = scene.assert_served(&pod);
    assert_eq!(eip.tag("podeip-uid"), Some(pod.uid.as_str()));
    assert_eq!(eip.tag("podeip-cluster"), Some(defaults::CLUSTER));
    assert!(!scene.events(&pod, "PodEIPRecreated").is_empty());
    assert!(!scene.events(&pod, "EIPTagsRestored").is_empty());
}

#[test]
fn a_lost_state_file_is_rebuilt() {
    for lost in ["missing", "corrupt", "no PodEIP either"] {
        let scene = Scene::new();
        let pod = running(&scene, "web-0", IP, &[]);
        let named = scene.pod("named", [10, 219, 0, 6], &[("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP)]);
        let named = named.alive();
        scene.add(&named).assert_added(&named);
        let file = scene.state_dir().join("state.json");
        match lost {
            "corrupt" => std::fs::write(&file, "{\"version\":1,").unwrap(),
            _ => std::fs::remove_file(&file).unwrap(),
        }
        if lost == "no PodEIP either" {
            scene.world.cluster.remove("podeips", "default", "web-0");
            let ips = json!({"status": {"podIPs": [{"ip": pod.ip}]}});
            scene.world.cluster.merge("pods", "default", "web-0", &ips);
        }
        scene.agent_once();
        let ids: Vec<Value> = scene.records().iter().map(|record| record["eip"]["id"].clone()).collect();
        assert_eq!(ids.len(), 2, "{lost}: {ids:?}\n{}", scene.log());
        scene.assert_served(&pod);
        assert_eq!(scene.on(named.ip)[0].id, defaults::USER_EIP);
        assert_eq!(scene.ever_ours().len(), 1);
        // DEL finds the rebuilt record by the pod's UID and address.
        scene.delete_pod(&pod);
        scene.del(&pod);
        assert!(scene.ours().is_empty(), "{lost}\n{}", scene.log());
        scene.delete_pod(&named);
        scene.agent_once();
        scene.assert_nothing_left();
    }
}
