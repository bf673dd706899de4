//! Somebody else writes the same objects: nobody's change is lost.

use podeip_sim::cloud::defaults;
use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Moment, Outcome};
use serde_json::{Value, json};

use super::{IP, annotate, running};
use crate::scene::{Answer, PATIENCE, Sandbox, Scene, WITH_EIP};

const PACKAGE: &str = "network.alibabacloud.com/eip-common-bandwidth-package-id";

fn edit(scene: &Scene, change: &Value) {
    scene.world.cluster.merge("podeips", "default", "web-0", change).unwrap();
}

/// One round, stopped before its first `call` reaches the API server; then `meanwhile` happens.
fn round_with(scene: &Scene, call: &str, meanwhile: impl Fn()) -> Answer {
    let gate = scene.world.faults.gate_on(ServiceMatch::Kube, call, 1, Moment::BeforeEffect);
    let agent = scene.agent(&["--once"]).spawn().unwrap();
    assert!(gate.wait_reached(PATIENCE), "the agent never came to {call}");
    meanwhile();
    gate.release(Outcome::Continue);
    agent.wait_with_output().unwrap().into()
}

#[test]
fn a_podeip_that_is_edited_while_its_status_is_written_keeps_both() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    scene.world.clock.advance(std::time::Duration::from_secs(300));
    let before = scene.pod_eip(&pod).unwrap()["status"]["podLastSeen"].clone();
    let answer = round_with(&scene, "patch podeips/status", || {
        edit(&scene, &json!({"metadata": {"labels": {"team": "a"}}, "status": {"name": "by somebody"}}));
    });
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let pod_eip = scene.pod_eip(&pod).unwrap();
    assert_eq!(pod_eip["metadata"]["labels"]["team"], "a");
    assert_eq!(pod_eip["status"]["name"], "by somebody");
    assert_ne!(pod_eip["status"]["podLastSeen"], before);
    scene.assert_served(&pod);
}

#[test]
fn a_strategy_that_is_edited_while_the_package_is_written_stays() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    annotate(&scene, &pod, &[(PACKAGE, Some(defaults::PACKAGE))]);
    let answer = round_with(&scene, "patch podeips", || {
        edit(&scene, &json!({"spec": {"allocationType": {"releaseStrategy": "Never"}}}));
    });
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let spec = scene.pod_eip(&pod).unwrap()["spec"].clone();
    assert_eq!(spec["bandwidthPackageID"], defaults::PACKAGE);
    assert_eq!(spec["allocationType"]["releaseStrategy"], "Never");
}

#[test]
fn a_podeip_that_is_edited_while_a_drift_is_told_keeps_both() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let eip = scene.ours().remove(0);
    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    let answer = round_with(&scene, "patch podeips", || {
        edit(&scene, &json!({"metadata": {"annotations": {"note": "mine"}, "labels": {"team": "a"}}}));
    });
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let metadata = scene.pod_eip(&pod).unwrap()["metadata"].clone();
    assert_eq!((&metadata["annotations"]["note"], &metadata["labels"]["team"]), (&json!("mine"), &json!("a")));
    assert_eq!(metadata["annotations"]["podeip/condition"], Value::Null);
    assert_eq!(scene.assert_served(&pod).id, eip.id);
}

#[test]
fn a_pod_that_is_edited_while_its_annotations_are_written_keeps_both() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    annotate(&scene, &pod, &[("k8s.aliyun.com/allocated-eipAddress", None)]);
    let answer = round_with(&scene, "patch pods/status", || annotate(&scene, &pod, &[("note", Some("mine"))]));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(scene.pod_object(&pod)["metadata"]["annotations"]["note"], "mine");
    scene.assert_served(&pod);
}

#[test]
fn a_podeip_that_the_next_pod_takes_over_meanwhile_is_left_to_it() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    scene.world.clock.advance(std::time::Duration::from_secs(300));
    let taken = json!({"metadata": {"annotations": {"podeip/pod-uid": "the-next"}},
        "status": {"privateIPAddress": "10.219.0.77", "podLastSeen": "2030-01-01T00:00:00Z"}});
    round_with(&scene, "patch podeips/status", || edit(&scene, &taken));
    let pod_eip = scene.pod_eip(&pod).unwrap();
    assert_eq!(pod_eip["status"]["privateIPAddress"], "10.219.0.77");
    assert_eq!(pod_eip["status"]["podLastSeen"], "2030-01-01T00:00:00Z");
    assert_eq!(pod_eip["metadata"]["annotations"]["podeip/pod-uid"], "the-next");
}

fn allocation_type(scene: &Scene, pod: &Sandbox) -> Value {
    scene.pod_eip(pod).unwrap()["spec"]["allocationType"].clone()
}

#[test]
fn a_strategy_that_somebody_edits_is_never_taken_back() {
    let scene = Scene::new();
    let lasting = ("network.alibabacloud.com/pod-eip-release-strategy", "10m");
    let pod = scene.pod("web-0", IP, &[WITH_EIP, lasting]).alive();
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod);
    let edited = json!({"type": "Auto", "releaseStrategy": "Never", "releaseAfter": null});
    edit(&scene, &json!({"spec": {"allocationType": edited}}));
    let edited = allocation_type(&scene, &pod);
    // A plain round, one with a drift, one that changes the spec, one after a loss of the state.
    scene.agent_once();
    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    scene.agent_once();
    annotate(&scene, &pod, &[(PACKAGE, Some(defaults::PACKAGE))]);
    scene.agent_once();
    std::fs::remove_file(scene.state_dir().join("state.json")).unwrap();
    scene.agent_once();
    assert_eq!(allocation_type(&scene, &pod), edited);
    scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    assert_eq!(allocation_type(&scene, &pod), edited);
    assert_eq!(scene.ours().len(), 1, "it is kept, as the PodEIP says");
}

#[test]
fn an_annotation_that_says_what_somebody_edited_is_no_news() {
    let scene = Scene::new();
    let key = "network.alibabacloud.com/pod-eip-release-strategy";
    let pod = running(&scene, "web-0", IP, &[]);
    edit(&scene, &json!({"spec": {"allocationType": {"releaseStrategy": "Never"}}}));
    scene.agent_once();
    annotate(&scene, &pod, &[(key, Some("Never"))]);
    scene.agent_once();
    assert_eq!(scene.events(&pod, "AppliesAtCreation"), [] as [&str; 0]);
    annotate(&scene, &pod, &[(key, Some("30m"))]);
    scene.agent_once();
    let told = scene.events(&pod, "AppliesAtCreation");
    assert!(told.len() == 1 && told[0].contains("30m") && told[0].contains("this one has Never"), "{told:?}");
}

#[test]
fn a_new_sandbox_of_the_pod_keeps_the_edited_strategy() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    edit(&scene, &json!({"spec": {"allocationType": {"releaseStrategy": "Never"}}}));
    scene.del(&pod);
    let next = pod.restarted().alive();
    scene.add(&next).assert_added(&next);
    assert_eq!(allocation_type(&scene, &next)["releaseStrategy"], "Never");
}
