//! Pods that were running before podeip was there: told, attached late, or left alone.

use podeip_sim::cloud::defaults;
use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Moment, Outcome};
use podeip_sim::kube::PodSpec;
use serde_json::json;

use super::{kinds_told, names_since};
use crate::arranged::early;
use crate::scene::{Answer, PATIENCE, Sandbox, Scene, WITH_EIP};

const MISSING: &str = "EIPMissing";
const LASTING: (&str, &str) = ("network.alibabacloud.com/pod-eip-release-strategy", "Never");

fn of_name(name: &str) -> PodSpec {
    PodSpec::new("default", name)
}

fn set_mode(scene: &Scene, mode: &str) {
    scene.configure(|settings| settings["late_attach"] = mode.into());
}

#[test]
fn a_pod_that_was_there_before_is_told_unless_that_is_switched_off() {
    let scene = Scene::new();
    let pod = early(&scene, of_name("web-0"), 5, &[WITH_EIP]);
    early(&scene, of_name("plain-0"), 6, &[]);
    let beginning = scene.pod("beginning-0", [10, 219, 0, 7], &[WITH_EIP]);
    set_mode(&scene, "off");
    scene.agent_once();
    assert_eq!(kinds_told(&scene, &pod, MISSING), [""; 0]);

    scene.configure(|_| {});
    scene.agent_once();
    assert_eq!(kinds_told(&scene, &pod, MISSING), ["Pod Warning"]);
    let told = scene.events(&pod, MISSING);
    assert!(told[0].contains("create it again") && told[0].contains("late_attach"), "{told:?}");
    for other in ["plain-0", "beginning-0"] {
        assert!(scene.world.cluster.events_for("default", other).is_empty(), "{other}");
    }
    assert!(scene.ever_ours().is_empty());
    scene.add(&beginning).assert_added(&beginning);
}

#[test]
fn it_gets_one_late_and_loses_it_like_any_other() {
    let scene = Scene::new();
    set_mode(&scene, "attach");
    let follow = early(&scene, of_name("web-0"), 5, &[WITH_EIP]);
    let kept = early(&scene, of_name("kept-0"), 6, &[WITH_EIP, LASTING]);
    let named = early(&scene, of_name("named-0"), 7, &[("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP)]);
    let hash = "a1b2c3d4e5f60718293a4b5c6d7e8f90";
    let spec = PodSpec { static_hash: Some(hash.into()), ..of_name("static-0") };
    let fixed = early(&scene, spec, 8, &[WITH_EIP]);
    let host = PodSpec { host_network: true, ..of_name("host-0") };
    early(&scene, host, 9, &[WITH_EIP]);
    // Somebody else's EIP: to be taken over, not to be doubled.
    let theirs = early(&scene, of_name("theirs-0"), 10, &[WITH_EIP]);
    let pod_eip = json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
        "metadata": {"name": "theirs-0", "namespace": "default"},
        "spec": {"allocationID": "eip-theirs", "allocationType": {"type": "Auto", "releaseStrategy": "Follow"}},
    });
    scene.world.cluster.create(pod_eip).unwrap();

    scene.agent_once();
    for pod in [&follow, &kept, &named, &fixed] {
        scene.assert_served(pod);
        assert_eq!(scene.events(pod, MISSING), [""; 0]);
    }
    assert!(scene.on(theirs.ip).is_empty());
    assert_eq!(scene.ever_ours().len(), 3, "{:?}", scene.ever_ours());
    let mark = scene.world.calls.mark();
    scene.agent_once();
    let again = names_since(&scene, mark);
    assert!(!again.iter().any(|call| call.contains("Associate") || call.contains("Allocate")), "{again:?}");

    // A new sandbox of the same pod takes the same EIP.
    let before = scene.on(fixed.ip)[0].id.clone();
    let restarted = Sandbox { uid: hash.into(), ..fixed.restarted() };
    scene.del(&Sandbox { uid: hash.into(), ..fixed });
    scene.add(&restarted).assert_added(&restarted);
    assert_eq!(scene.assert_served(&restarted).id, before);

    for pod in [&follow, &kept, &named] {
        scene.delete_pod(pod);
        scene.del(pod);
        assert!(scene.on(pod.ip).is_empty(), "{} is unbound by its DEL", pod.name);
    }
    assert!(scene.pod_eip(&follow).is_none() && scene.pod_eip(&kept).is_some());
    assert_eq!(scene.ours().len(), 2, "what is kept, and the static pod's");
}

#[test]
fn one_that_cannot_have_an_eip_says_why_and_beside_a_rival_none_is_bought() {
    let scene = Scene::new();
    set_mode(&scene, "attach");
    let pod = early(&scene, of_name("web-0"), 5, &[WITH_EIP]);
    scene.world.cloud.set(|settings| settings.quota = 0);
    let agent = |scene: &Scene| -> crate::scene::Answer { scene.agent(&["--once"]).output().unwrap().into() };
    let answer = agent(&scene);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("default/web-0") && answer.stderr.contains("QuotaExceeded.Eip"), "{answer:?}");
    assert!(scene.events(&pod, "EIPFailed")[0].contains("QuotaExceeded.Eip"));

    scene.world.cloud.set(|settings| settings.quota = 20);
    let rival = json!({"who": "Terway", "how": "it is there", "since": "2026-05-04T03:02:01Z"});
    scene.write("state/rival.json", &rival.to_string());
    assert_eq!(agent(&scene).code, Some(1));
    assert!(scene.ever_ours().is_empty());
    // The sweep of that round has seen that there is none any more.
    scene.agent_once();
    scene.assert_served(&pod);
}

#[test]
fn one_that_goes_during_the_round_takes_nothing_from_the_next_pod_on_its_address() {
    let scene = Scene::new();
    set_mode(&scene, "attach");
    let gone = early(&scene, of_name("web-0"), 5, &[WITH_EIP]);
    // The second is of the look at who is late; the first was for lost records.
    let gate = scene.world.faults.gate_on(ServiceMatch::Kube, "get podeips", 2, Moment::BeforeEffect);
    let agent = scene.agent(&["--once"]).spawn().unwrap();
    assert!(gate.wait_reached(PATIENCE));
    scene.delete_pod(&gone);
    scene.del(&gone);
    let next = scene.pod("next-0", [10, 219, 0, 5], &[WITH_EIP]).alive();
    scene.add(&next).assert_added(&next);
    gate.release(Outcome::Continue);
    let answer: Answer = agent.wait_with_output().unwrap().into();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    scene.assert_served(&next);
    assert_eq!(scene.ever_ours().len(), 1, "none was bought for the pod that is gone");
}

#[test]
fn one_that_goes_while_its_eip_is_bought_leaves_its_address_free_of_it() {
    let scene = Scene::new();
    set_mode(&scene, "attach");
    let gone = early(&scene, of_name("web-0"), 5, &[WITH_EIP]);
    let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, "AllocateEipAddress", 1, Moment::BeforeEffect);
    let agent = scene.agent(&["--once"]).spawn().unwrap();
    assert!(gate.wait_reached(PATIENCE));
    scene.delete_pod(&gone);
    let next = scene.pod("plain-0", [10, 219, 0, 5], &[]).alive();
    scene.add(&next).assert_added(&next);
    let mark = scene.world.calls.mark();
    gate.release(Outcome::Continue);
    agent.wait_with_output().unwrap();
    let calls = names_since(&scene, mark);
    assert!(!calls.iter().any(|call| call == "AssociateEipAddress"), "{calls:?}");
    scene.agent_once();
    assert!(scene.ours().is_empty(), "the next round releases what was bought: {:?}", scene.ours());
}
