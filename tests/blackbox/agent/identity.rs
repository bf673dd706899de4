//! Pods that go by another UID in the cluster than on their node, and a node that goes by another name.

use podeip_sim::faults::{Effect, Rule};
use podeip_sim::kube::PodSpec;
use serde_json::{Value, json};

use super::seen::move_to_node_2;
use super::{IP, annotate, running};
use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};

const HASH: &str = "6f2c4a1be0d95c3387aa10dd27c1f4b9";

/// A static pod whose mirror object the API server shows.
fn static_pod(scene: &Scene, ip: [u8; 4]) -> Sandbox {
    let spec = PodSpec { static_hash: Some(HASH.into()), ..PodSpec::new("kube-system", "web-node-1") };
    Sandbox { uid: HASH.into(), ..scene.pod_with(spec, ip, &[WITH_EIP]).alive() }
}

#[test]
fn a_static_pod_is_kept_served() {
    let scene = Scene::new();
    let pod = static_pod(&scene, IP);
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod);
    scene.agent_once();
    assert_eq!(scene.assert_served(&pod).id, eip.id);

    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    annotate(&scene, &pod, &[("k8s.aliyun.com/eip-bandwidth", Some("20"))]);
    scene.agent_once();
    let again = scene.assert_served(&pod);
    assert_eq!((again.id, again.bandwidth), (eip.id.clone(), 20));
    assert_eq!(again.tags.get("podeip-uid").map(String::as_str), Some(HASH));

    // The kubelet makes the mirror anew when somebody deletes it; the pod runs on.
    scene.delete_pod(&pod);
    static_pod(&scene, IP);
    scene.agent_once();
    assert_eq!(scene.assert_served(&pod).id, eip.id, "and the new mirror shows it");

    std::fs::remove_file(scene.state_dir().join("state.json")).unwrap();
    scene.agent_once();
    assert_eq!(scene.records()[0]["pod"]["uid"], HASH);
    assert_eq!(scene.assert_served(&pod).id, eip.id);

    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn under_a_wrong_name_nothing_is_released_and_the_log_says_what_to_set() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let held = scene.pod("held", [10, 219, 0, 6], &[WITH_EIP]);
    scene.add(&held).assert_added(&held);
    scene.del(&held);
    let records = scene.records();
    for name in ["node-9", "node-2"] {
        let answer: Answer = scene.agent_on(name, "state", &["--once"]).output().unwrap().into();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        for word in ["NODE_NAME", "node-1", name, "spec.nodeName"] {
            assert!(answer.stderr.contains(word), "{word:?} is missing in {}", answer.stderr);
        }
    }
    assert_eq!(scene.records(), records);
    scene.assert_served(&pod);
    assert_eq!(scene.ours().len(), 2);
}

#[test]
fn a_node_under_its_neighbours_name_leaves_the_neighbours_pods_alone() {
    let scene = Scene::new();
    let neighbours = running(&scene, "neighbours", [10, 219, 0, 6], &[]);
    move_to_node_2(&scene, &[&neighbours]);
    let pod = running(&scene, "web-0", IP, &[]);
    let answer: Answer = scene.agent_on("node-2", "state", &["--once"]).output().unwrap().into();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stderr.contains("NODE_NAME"), "{}", answer.stderr);
    let recorded: Vec<Value> = scene.records().into_iter().map(|record| record["pod"]["name"].clone()).collect();
    assert_eq!(recorded, [json!("web-0")]);
    assert_eq!(scene.events(&neighbours, "EIPRecordRebuilt"), [] as [&str; 0]);
    scene.assert_served(&pod);
}

#[test]
fn pods_that_are_gone_say_nothing_about_the_nodes_name() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    scene.delete_pod(&pod);
    let refusal = Effect::error(403, "Forbidden.RAM", "User not authorized.");
    scene.world.faults.add(Rule::on("UnassociateEipAddress", refusal));
    let answer: Answer = scene.agent(&["--once"]).output().unwrap().into();
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(!answer.stderr.contains("NODE_NAME"), "{}", answer.stderr);
}
