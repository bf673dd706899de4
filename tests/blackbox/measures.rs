//! What verbs leave in `measures.jsonl` for the agent, and what a pod without an EIP does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use podeip_sim::calls::ServiceKind;
use podeip_sim::cloud::defaults;
use podeip_sim::faults::{Effect, Rule};
use serde_json::{Value, json};

use crate::scene::{Sandbox, Scene, WITH_EIP, start};

const IP: [u8; 4] = [10, 219, 0, 5];
const STAGES: [&str; 6] = ["allocate", "associate", "credentials", "eni", "publish", "wait"];

/// The lines of the file, oldest first.
fn measures(scene: &Scene) -> Vec<Value> {
    let Ok(text) = fs::read_to_string(scene.state_dir().join("measures.jsonl")) else { return Vec::new() };
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn last(scene: &Scene) -> Value {
    measures(scene).pop().unwrap_or_else(|| panic!("nothing was measured\n{}", scene.log()))
}

fn assert_of(line: &Value, verb: &str, outcome: &str, pod: &Sandbox) {
    assert_eq!((line["verb"].as_str(), line["outcome"].as_str()), (Some(verb), Some(outcome)), "{line}");
    assert_eq!(line["pod"], json!({"namespace": pod.namespace, "name": pod.name, "uid": pod.uid}), "{line}");
}

#[test]
fn an_add_leaves_its_stages_and_calls_and_a_del_its_calls() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let before = jiff::Timestamp::now();
    scene.add(&pod).assert_added(&pod);
    let added = last(&scene);
    assert_of(&added, "ADD", "ok", &pod);
    let at: jiff::Timestamp = added["at"].as_str().unwrap().parse().unwrap();
    assert!(at >= before && at <= jiff::Timestamp::now(), "{added}");
    let whole = added["seconds"].as_f64().unwrap();
    let stages = added["stages"].as_object().unwrap();
    assert_eq!(stages.keys().collect::<Vec<_>>(), STAGES, "{added}");
    for (stage, seconds) in stages {
        assert!((0.0..=whole).contains(&seconds.as_f64().unwrap()), "{stage}: {added}");
    }
    // The cloud takes 30 ms to bind, and the first look at it comes later.
    assert!(stages["wait"].as_f64().unwrap() >= 0.03, "{added}");
    let answered = |action: &str, code: &str| added["calls"][action][code].as_u64().unwrap_or_default();
    for (action, code) in [
        ("AllocateEipAddress", "OK"),
        ("AssociateEipAddress", "OK"),
        ("get pods", "200"),
        ("get podeips", "404"),
        ("create podeips", "201"),
        ("patch podeips/status", "200"),
        ("patch pods/status", "200"),
    ] {
        assert_eq!(answered(action, code), 1, "{action}: {added}");
    }
    assert_eq!(answered("create events", "201"), 2, "on the pod and on its PodEIP: {added}");
    assert!(answered("DescribeEipAddresses", "OK") >= 2, "{added}");

    scene.delete_pod(&pod);
    scene.del(&pod);
    let deleted = last(&scene);
    assert_of(&deleted, "DEL", "ok", &pod);
    assert_eq!(deleted["calls"]["ReleaseEipAddress"], json!({"OK": 1}), "{deleted}");
    assert_eq!(deleted["stages"], json!({}));
    scene.del(&pod.without_netns());
    assert_eq!(measures(&scene).len(), 2, "a DEL that finds no record does nothing worth measuring");
    let mode = fs::metadata(scene.state_dir().join("measures.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn the_calls_are_those_that_the_cloud_and_the_cluster_saw() {
    let scene = Scene::new();
    let rule = Rule::on("AssociateEipAddress", Effect::error(409, "OperationConflict", "busy")).once();
    scene.world.faults.add(rule);
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let calls = last(&scene)["calls"].clone();
    assert_eq!(calls["AssociateEipAddress"], json!({"OK": 1, "OperationConflict": 1}), "{calls}");
    let tries = calls.as_object().unwrap().values().flat_map(|codes| codes.as_object().unwrap().values());
    let counted: u64 = tries.map(|count| count.as_u64().unwrap()).sum();
    let seen = scene.world.calls.since(0).into_iter().filter(|call| call.service != ServiceKind::Metadata).count();
    assert_eq!(counted, seen as u64, "{calls}");
}

#[test]
fn a_failed_verb_leaves_its_kind_of_failure() {
    let scene = Scene::new();
    let wrong = scene.pod("wrong-0", IP, &[WITH_EIP, ("k8s.aliyun.com/eip-bandwidth", "fast")]);
    scene.add(&wrong).assert_error(100, &[]);
    assert_of(&last(&scene), "ADD", "annotation", &wrong);

    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.world.cloud.set(|settings| settings.quota = 0);
    scene.add(&pod).assert_error(103, &[]);
    let line = last(&scene);
    assert_of(&line, "ADD", "quota", &pod);
    let stages: Vec<_> = line["stages"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(stages, ["allocate", "credentials", "eni"], "as far as it came: {line}");
    scene.world.cloud.set(|settings| settings.quota = 1000);

    scene.add(&pod).assert_added(&pod);
    scene.configure(|settings| settings["eip_del_timeout_seconds"] = json!(1));
    scene.delete_pod(&pod);
    scene.world.take_down(ServiceKind::Vpc);
    scene.del(&pod);
    let line = last(&scene);
    assert_of(&line, "DEL", "tryAgain", &pod);
    assert!(line["calls"]["DescribeEipAddresses"]["NotSent"].as_u64() >= Some(1), "{line}");

    scene.write("eni_conf", "{");
    scene.add(&pod.restarted()).assert_error(101, &[]);
    assert_of(&last(&scene), "ADD", "configuration", &pod);
}

#[test]
fn an_old_runtimes_pod_is_named_all_the_same() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let mut command = scene.command("ADD", &pod);
    command.env("CNI_ARGS", format!("K8S_POD_NAMESPACE={};K8S_POD_NAME={}", pod.namespace, pod.name));
    let adding = start(command, &scene.stdin(&pod, Some(pod.result())));
    assert!(adding.wait_with_output().unwrap().status.success(), "{}", scene.log());
    assert_of(&last(&scene), "ADD", "ok", &pod);
}

#[test]
fn gc_leaves_a_line_where_there_are_attachments() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let gc = || {
        let mut stdin = scene.stanza();
        stdin["cniVersion"] = json!("1.1.0");
        stdin["name"] = json!("pods");
        stdin["cni.dev/valid-attachments"] = json!([]);
        let output = start(scene.command("GC", &pod), &stdin).wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}\n{}", scene.log());
    };
    gc();
    assert!(!scene.state_dir().exists());
    scene.add(&pod).assert_added(&pod);
    scene.delete_pod(&pod);
    gc();
    let line = last(&scene);
    assert_eq!((&line["verb"], &line["outcome"], &line["pod"]), (&json!("GC"), &json!("ok"), &Value::Null), "{line}");
    assert_eq!(line["calls"]["ReleaseEipAddress"], json!({"OK": 1}), "{line}");
    scene.assert_nothing_left();
}

#[test]
fn a_plain_pod_leaves_nothing_whoever_tells_its_annotations() {
    let scene = Scene::new();
    let plain = scene.pod("plain-0", IP, &[("app.example/owner", "shop")]);
    let untold = Sandbox { annotations: None, ..plain.clone() };
    for pod in [&plain, &untold] {
        scene.add(pod).assert_added(pod);
        scene.del(pod);
    }
    assert!(scene.world.calls.mark() > 0, "the API server was asked for the second one's annotations");
    assert!(!scene.state_dir().exists());

    scene.configure(|settings| settings["enable_eip_pool"] = json!("false"));
    let asking = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&asking).assert_added(&asking);
    assert!(!scene.state_dir().exists());
}

#[test]
fn a_file_that_cannot_be_written_fails_no_verb() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    fs::DirBuilder::new().recursive(true).create(scene.state_dir().join("measures.jsonl")).unwrap();
    scene.add(&pod).assert_added(&pod);
    assert!(scene.log().contains("the measures of this ADD are lost"), "{}", scene.log());
    scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn a_named_eip_goes_through_the_same_stages() {
    let scene = Scene::new();
    let named = ("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP);
    let pod = scene.pod("web-0", IP, &[named]);
    scene.add(&pod).assert_added(&pod);
    let line = last(&scene);
    assert_eq!(line["stages"].as_object().unwrap().keys().collect::<Vec<_>>(), STAGES, "{line}");
    assert_eq!(line["calls"]["AllocateEipAddress"], Value::Null, "{line}");
}
