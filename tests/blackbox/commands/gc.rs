//! `podeip gc`: what it does about each attachment, what it only tells, and what it leaves.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use podeip_sim::calls::{Call, ServiceKind};
use podeip_sim::cloud::defaults;
use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Gate, Moment, Outcome};
use serde_json::json;

use super::{added, cells, state};
use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};

const GATE_TIMEOUT: Duration = Duration::from_secs(20);

/// The result and the reason that `podeip gc` printed for a pod.
fn told(answer: &Answer, pod: &str) -> (String, String) {
    let rows = cells(&answer.stdout);
    let row = rows.iter().find(|row| row.get(1).is_some_and(|name| name == pod));
    let row = row.unwrap_or_else(|| panic!("no line about {pod}: {answer:?}"));
    (row[4].clone(), row[5].clone())
}

#[track_caller]
fn assert_told(answer: &Answer, pod: &str, result: &str, why: &str) {
    assert_eq!(told(answer, pod), (result.to_string(), why.to_string()), "{answer:?}");
}

/// A pod whose sandbox lives as long as this test does.
fn alive(sandbox: Sandbox) -> Sandbox {
    Sandbox { netns: format!("/proc/{}/ns/net", std::process::id()), ..sandbox }
}

/// A node in which every kind of finding occurs, and the ADD that is still running on it.
struct Mixed {
    scene: Scene,
    running: Child,
    gate: Gate,
    in_use: Sandbox,
    unsandboxed: Sandbox,
}

impl Mixed {
    fn new() -> Self {
        let scene = Scene::new();
        let in_use = added(&scene, alive(scene.pod("in-use", [10, 219, 0, 5], &[WITH_EIP])));
        let gone = added(&scene, scene.pod("gone", [10, 219, 0, 6], &[WITH_EIP]));
        scene.delete_pod(&gone);
        let named = [("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP)];
        let named = added(&scene, scene.pod("named", [10, 219, 0, 7], &named));
        scene.delete_pod(&named);
        let unsandboxed = added(&scene, scene.pod("unsandboxed", [10, 219, 0, 8], &[WITH_EIP]));
        let held = added(&scene, scene.pod("held", [10, 219, 0, 9], &[WITH_EIP]));
        scene.del(&held);
        let busy = scene.pod("busy", [10, 219, 0, 10], &[WITH_EIP]);
        let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, "AllocateEipAddress", 1, Moment::BeforeEffect);
        let running = scene.spawn("ADD", &busy);
        assert!(gate.wait_reached(GATE_TIMEOUT), "{}", scene.log());
        Self { scene, running, gate, in_use, unsandboxed }
    }

    fn let_it_finish(self) -> Scene {
        self.gate.release(Outcome::Continue);
        let answer = Answer::from(self.running.wait_with_output().unwrap());
        assert_eq!(answer.code, Some(0), "{answer:?}");
        self.scene
    }
}

#[test]
fn gc_does_what_is_due_and_says_what_and_why() {
    let mixed = Mixed::new();
    let scene = &mixed.scene;
    let answer = scene.podeip(&["gc"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{}", scene.log());
    assert_eq!(cells(&answer.stdout)[0], ["NAMESPACE", "POD", "EIP", "EIP-ID", "RESULT", "WHY"]);
    assert_eq!(answer.stdout.lines().count(), 7, "{}", answer.stdout);
    assert_told(&answer, "in-use", "left", "in use");
    assert_told(&answer, "gone", "released", "the pod is gone");
    let kept = format!("the pod is gone; {} was named by the pod and is never released", defaults::USER_EIP);
    assert_told(&answer, "named", "kept", &kept);
    let held = "its sandbox is gone; unbound and held for the pod's next sandbox";
    assert_told(&answer, "unsandboxed", "held", held);
    assert_told(&answer, "held", "left", "held for the pod's next sandbox");
    assert_told(&answer, "busy", "left", "an ADD or DEL of this pod is running");

    scene.assert_served(&mixed.in_use);
    assert!(scene.on(mixed.unsandboxed.ip).is_empty());
    assert_eq!(scene.ever_ours().len(), 4);
    assert_eq!(scene.ours().len(), 3, "only the EIP of the pod that is gone was released");
    assert!(scene.world.cloud.eip(defaults::USER_EIP).unwrap().binding.is_none());
    let scene = mixed.let_it_finish();
    assert_eq!(scene.records().len(), 4);
}

#[test]
fn a_dry_run_tells_the_same_and_changes_nothing() {
    let mixed = Mixed::new();
    let scene = &mixed.scene;
    let (before, eips, mark) = (state(scene), scene.world.cloud.state(), scene.world.calls.mark());
    let objects = scene.world.cluster.dump();
    let answer = scene.podeip(&["gc", "--dry-run"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{}", scene.log());
    assert_told(&answer, "in-use", "left", "in use");
    assert_told(&answer, "gone", "would release", "the pod is gone");
    assert_told(&answer, "named", "would keep", "the pod is gone");
    assert_told(&answer, "unsandboxed", "would hold", "its sandbox is gone");
    assert_told(&answer, "held", "left", "held for the pod's next sandbox");
    assert_told(&answer, "busy", "left", "an ADD or DEL of this pod is running");

    assert_eq!(state(scene), before);
    assert_eq!(scene.world.cloud.state(), eips);
    assert_eq!(scene.world.cluster.dump(), objects);
    let asked = scene.world.calls.since(mark);
    let looked = |call: &Call| ["get pods", "get podeips"].contains(&call.name.as_str());
    assert!(!asked.is_empty() && asked.iter().all(looked), "{asked:?}");
    mixed.let_it_finish();
}

#[test]
fn a_dry_run_foretells_what_the_pod_eips_say_now() {
    let scene = Scene::new();
    let lasting = ("k8s.aliyun.com/pod-eip-release-strategy", "Never");
    let added = |name, last, annotations: &[_]| added(&scene, scene.pod(name, [10, 219, 0, last], annotations));
    let pods = [
        added("deleted", 5, &[WITH_EIP, lasting]),
        added("fixed", 6, &[WITH_EIP]),
        added("unfixed", 7, &[WITH_EIP, lasting]),
        added("lasting", 8, &[WITH_EIP, lasting]),
        added("taken", 9, &[WITH_EIP]),
    ];
    let edit = |name, change| scene.world.cluster.merge("podeips", "default", name, &change).unwrap();
    let strategy = |strategy| json!({"spec": {"allocationType": {"releaseStrategy": strategy}}});
    edit("deleted", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    edit("fixed", strategy("Never"));
    edit("unfixed", strategy("Follow"));
    edit("taken", json!({"metadata": {"annotations": {"podeip/pod-uid": "00000000-0000-4000-8000-000000000009"}}}));
    pods.iter().for_each(|pod| scene.delete_pod(pod));

    let foretold = scene.podeip(&["gc", "--dry-run"]);
    let done = scene.podeip(&["gc"]);
    for (pod, would, did) in [
        ("deleted", "would release", "released"),
        ("fixed", "would keep", "kept"),
        ("unfixed", "would release", "released"),
        ("lasting", "would keep", "kept"),
        ("taken", "would keep", "kept"),
    ] {
        assert_told(&foretold, pod, would, "the pod is gone");
        assert_eq!(told(&done, pod).0, did, "{done:?}");
    }
}

#[test]
fn gc_without_an_api_server_leaves_everything_and_says_so() {
    let scene = Scene::new();
    let pods: Vec<Sandbox> =
        (5..10).map(|last| added(&scene, scene.pod(&format!("web-{last}"), [10, 219, 0, last], &[WITH_EIP]))).collect();
    scene.delete_pod(&pods[0]);
    let (before, eips) = (state(&scene), scene.world.cloud.state());
    scene.world.take_down(ServiceKind::Kube);
    let started = Instant::now();
    let answer = scene.podeip(&["gc"]);
    assert!(started.elapsed() < Duration::from_secs(15), "asked once, not for each pod: {:?}", started.elapsed());
    assert_eq!(answer.code, Some(1), "{answer:?}");
    for pod in &pods {
        assert_told(&answer, &pod.name, "left", "the API server did not say what became of the pod");
    }
    let said: Vec<&str> = answer.stderr.lines().collect();
    assert!(said[0].starts_with("podeip: the API server did not say which pods live: get pods default/web-5"));
    for words in [&scene.world.kube_url, "refused", "check that this node reaches"] {
        assert!(said[0].contains(words), "{words:?} is missing in {}", said[0]);
    }
    let summary =
        "podeip: 5 attachments are not finished (0 failed, 5 undecided); the records stay, so run `podeip gc` again";
    assert_eq!(said[1..], [summary]);
    assert_eq!((state(&scene), scene.world.cloud.state()), (before, eips));

    scene.world.bring_up(ServiceKind::Kube);
    assert_told(&scene.gc(), "web-5", "released", "the pod is gone");
}

#[test]
fn gc_without_the_cloud_fails_and_finishes_later() {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_del_timeout_seconds"] = json!(1));
    let pod = added(&scene, scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]));
    scene.delete_pod(&pod);
    scene.world.take_down(ServiceKind::Vpc);
    let answer = scene.podeip(&["gc"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let (result, why) = told(&answer, "web-0");
    assert_eq!(result, "failed");
    assert!(why.contains("DescribeEipAddresses") && why.contains("could not reach the service"), "{why}");
    assert_eq!(
        answer.stderr,
        "podeip: 1 attachment is not finished (1 failed, 0 undecided); the records stay, so run `podeip gc` again\n"
    );
    scene.world.bring_up(ServiceKind::Vpc);
    scene.gc();
    scene.assert_nothing_left();
}

#[test]
fn gc_without_a_kubeconfig_decides_nothing() {
    let scene = Scene::new();
    added(&scene, scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]));
    fs::remove_file(scene.path("kubeconfig")).unwrap();
    let answer = scene.podeip(&["gc"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert_told(&answer, "web-0", "left", "the API server did not say what became of the pod");
    assert!(answer.stderr.contains("does not exist; make one with the token"), "{}", answer.stderr);
}
