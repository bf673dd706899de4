//! What a round says of pods that live, and what it does not decide while somebody is silent.

use jiff::Timestamp;
use podeip_sim::calls::ServiceKind;
use podeip_sim::cloud::defaults;
use serde_json::{Value, json};

use super::{Agent, IP, names_since, running};
use crate::scene::{Answer, Sandbox, Scene, WITH_EIP, await_true};

const OTHER_IP: [u8; 4] = [10, 219, 0, 6];

fn last_seen(scene: &Scene, pod: &Sandbox) -> Timestamp {
    scene.pod_eip(pod).unwrap()["status"]["podLastSeen"].as_str().unwrap().parse().unwrap()
}

/// Seconds by the world's clock.
fn unseen_for(scene: &Scene, pod: &Sandbox) -> i64 {
    scene.world.clock.now().duration_since(last_seen(scene, pod)).as_secs()
}

fn advance(scene: &Scene, seconds: u64) {
    scene.world.clock.advance(std::time::Duration::from_secs(seconds));
}

/// Puts the node's state, and with it its pods, onto another node; this one starts anew.
pub fn move_to_node_2(scene: &Scene, pods: &[&Sandbox]) {
    std::fs::rename(scene.state_dir(), scene.path("state-2")).unwrap();
    for pod in pods {
        let spec = json!({"spec": {"nodeName": "node-2"}});
        scene.world.cluster.merge("pods", &pod.namespace, &pod.name, &spec).unwrap();
        let marks = json!({"metadata": {"annotations": {"podeip/node": "node-2"}}});
        scene.world.cluster.merge("podeips", &pod.namespace, &pod.name, &marks).unwrap();
    }
}

#[test]
fn every_round_says_which_pods_of_this_node_live() {
    let scene = Scene::new();
    let elsewhere = running(&scene, "elsewhere", OTHER_IP, &[]);
    move_to_node_2(&scene, &[&elsewhere]);
    let here = running(&scene, "here", IP, &[]);
    let named = [("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP)];
    let named = scene.pod("named", [10, 219, 0, 7], &named).alive();
    scene.add(&named).assert_added(&named);
    let before = last_seen(&scene, &elsewhere);
    for _ in 0..2 {
        advance(&scene, 300);
        scene.agent_once();
        assert!(unseen_for(&scene, &here) < 60, "{}", last_seen(&scene, &here));
        assert!(unseen_for(&scene, &named) < 60, "{}", last_seen(&scene, &named));
        assert_eq!(last_seen(&scene, &elsewhere), before);
    }
    let answer: Answer = scene.agent_on("node-2", "state-2", &["--once"]).output().unwrap().into();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(unseen_for(&scene, &elsewhere) < 60);
}

#[test]
fn a_pod_between_two_sandboxes_lives_too() {
    let scene = Scene::new();
    let lasting = ("network.alibabacloud.com/pod-eip-release-strategy", "10m");
    let pod = scene.pod("web-0", IP, &[WITH_EIP, lasting]);
    scene.add(&pod).assert_added(&pod);
    scene.del(&pod);
    assert_eq!(scene.records()[0]["phase"], "Held");
    advance(&scene, 3600);
    scene.agent_once();
    assert!(unseen_for(&scene, &pod) < 60, "{}", last_seen(&scene, &pod));
    scene.delete_pod(&pod);
    advance(&scene, 500);
    scene.agent_once();
    assert_eq!(scene.ours().len(), 1, "its ten minutes count from when it was seen last");
    advance(&scene, 500);
    scene.agent_once();
    scene.assert_nothing_left();
}

#[test]
fn pods_live_while_the_cloud_is_down() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    advance(&scene, 300);
    scene.world.take_down(ServiceKind::Vpc);
    let agent = Agent::start(&scene);
    await_true("the pod is said to live", || unseen_for(&scene, &pod) < 60);
    scene.assert_served(&pod);
    assert_eq!(scene.events(&pod, "EIPDrifted"), [] as [&str; 0], "nobody knows");
    drop(agent);
}

/// A node with a pod that runs, one that is gone without a DEL, and one that is gone and held.
fn mixed(scene: &Scene) -> Sandbox {
    let runs = running(scene, "runs", IP, &[]);
    let gone = scene.pod("gone", OTHER_IP, &[WITH_EIP]);
    let held = scene.pod("held", [10, 219, 0, 7], &[WITH_EIP]);
    for pod in [&gone, &held] {
        scene.add(pod).assert_added(pod);
    }
    scene.del(&held);
    scene.delete_pod(&gone);
    scene.delete_pod(&held);
    runs
}

#[test]
fn nothing_is_decided_while_the_api_server_says_nothing() {
    let scene = Scene::new();
    let runs = mixed(&scene);
    let (records, eips) = (scene.records(), scene.world.cloud.state());
    let objects = scene.world.cluster.dump();
    scene.world.cluster.set_token(Some("another"));
    let mark = scene.world.calls.mark();
    let answer: Answer = scene.agent(&["--once"]).output().unwrap().into();
    assert_eq!(answer.code, Some(1), "{answer:?}");
    for word in ["the pods of node node-1 are unknown", "401"] {
        assert!(answer.stderr.contains(word), "{word:?} is missing in {}", answer.stderr);
    }
    assert_eq!((scene.records(), scene.world.cloud.state(), scene.world.cluster.dump()), (records, eips, objects));
    let asked = names_since(&scene, mark);
    assert!(asked.iter().all(|name| name.starts_with("get ") || name.starts_with("list ")), "{asked:?}");

    scene.world.cluster.set_token(Some(defaults::KUBE_TOKEN));
    scene.agent_once();
    let eip = scene.assert_served(&runs);
    let left: Vec<String> = scene.ours().into_iter().map(|eip| eip.id).collect();
    assert_eq!((left, scene.records().len()), (vec![eip.id], 1));
}

#[test]
fn a_del_while_the_api_server_is_down_is_decided_when_it_is_back() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let agent = Agent::start(&scene);
    scene.delete_pod(&pod);
    scene.world.take_down(ServiceKind::Kube);
    scene.del(&pod);
    await_true("the EIP is unbound and held", || scene.records().iter().all(|record| record["phase"] == "Held"));
    assert_eq!(scene.records()[0]["binding"], Value::Null);
    assert!(scene.on(pod.ip).is_empty());
    assert_eq!(scene.ours().len(), 1, "nobody has said that the pod is gone");
    drop(agent);
    scene.world.bring_up(ServiceKind::Kube);
    scene.agent_once();
    scene.assert_nothing_left();
}
