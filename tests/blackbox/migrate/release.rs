//! `podeip release`: what may be given up, what is asked first, and what is refused.

use std::io::Write;
use std::process::{Command, Stdio};

use podeip_sim::cloud::{UserEip, defaults};
use serde_json::json;

use super::peers;
use crate::arranged::{served, served_by_name, tagged_eip};
use crate::node::{cannot_run, not_installed};
use crate::scene::{Answer, NODE, OTHER_NODE, Sandbox, Scene, WITH_EIP};

const LASTING: (&str, &str) = ("network.alibabacloud.com/pod-eip-release-strategy", "Never");

fn release(scene: &Scene, pod: &str) -> Answer {
    scene.podeip(&["release", pod, "--yes"])
}

#[track_caller]
fn assert_said(answer: &Answer, code: i32, words: &[&str]) {
    assert_eq!(answer.code, Some(code), "{answer:?}");
    let text = format!("{}{}", answer.stdout, answer.stderr);
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is missing in {text}"));
}

fn is_gone(scene: &Scene, eip: &str) -> bool {
    peers::living(scene, eip).is_none()
}

#[test]
fn what_no_pod_uses_is_given_up_whoever_speaks_for_it() {
    let scene = Scene::new();
    // Its pod waits for its next sandbox.
    let (held, of_held) = served(&scene, "held-0", 11, "Never");
    scene.del(&held);
    // Only the PodEIP is left of these.
    let (kept, of_kept) = served(&scene, "kept-0", 12, "Never");
    scene.delete_pod(&kept);
    scene.del(&kept);
    let (lost, of_lost) = served(&scene, "lost-0", 13, "10m");
    scene.delete_pod(&lost);
    std::fs::rename(scene.state_dir().join("state.json"), scene.path("kept.json")).unwrap();
    let named = scene.world.cloud.create_user_eip(UserEip::default());
    // The node of this one is gone.
    let users = served_by_name(&scene, "users-0", 14, &named, "Never");
    scene.delete_pod(&users);
    std::fs::rename(scene.path("kept.json"), scene.state_dir().join("state.json")).unwrap();
    let orphan = tagged_eip(&scene, "orphan-0", "u-9", NODE);
    let strayed = peers::outliving(&scene, "strayed-0", "Never");
    scene.world.cluster.merge(
        "podeips",
        "default",
        "strayed-0",
        &json!({"metadata": {"annotations": {"podeip/pod-uid": "u-8"}}}),
    );
    scene.world.cloud.release_by_hand(&strayed).unwrap();

    let cases = [
        ("held-0", &of_held, "is released"),
        ("default/kept-0", &of_kept, "is released"),
        ("lost-0", &of_lost, "is released"),
        ("users-0", &named, "never released"),
        (&orphan, &orphan, "is released"),
        ("strayed-0", &strayed, "no EIP any more"),
    ];
    for (pod, eip, word) in cases {
        assert_said(&release(&scene, pod), 0, &[word]);
        assert_eq!(is_gone(&scene, eip), *eip != named, "{pod}");
        assert_said(&release(&scene, pod), 0, &["nothing to do"]);
    }
    assert!(scene.world.cloud.eip(&named).unwrap().binding.is_none());
    assert!(scene.world.cluster.list("podeips").is_empty(), "{:?}", scene.world.cluster.list("podeips"));
    assert!(scene.records().is_empty(), "{:?}", scene.records());
    // The pod that waited gets another one.
    let next = held.restarted().alive();
    scene.add(&next).assert_added(&next);
    assert_ne!(scene.assert_served(&next).id, of_held);
}

#[test]
fn an_eip_that_leaked_is_given_up_without_the_one_that_its_pods_name_keeps() {
    let scene = Scene::new();
    let (held, of_held) = served(&scene, "held-0", 11, "Follow");
    scene.del(&held);
    let (kept, of_kept) = served(&scene, "kept-0", 12, "Never");
    scene.delete_pod(&kept);
    scene.del(&kept);
    served(&scene, "used-0", 13, "Follow");
    let others = (scene.records(), scene.world.cluster.list("podeips"));
    for name in ["held-0", "kept-0", "used-0"] {
        for by_address in [false, true] {
            let leaked = tagged_eip(&scene, name, "u-9", NODE);
            let address = scene.world.cloud.eip(&leaked).unwrap().address.to_string();
            assert_said(&release(&scene, if by_address { &address } else { &leaked }), 0, &[&leaked, "is released"]);
            assert!(is_gone(&scene, &leaked), "{name}");
        }
    }
    assert!(!is_gone(&scene, &of_held) && !is_gone(&scene, &of_kept));
    assert_eq!((scene.records(), scene.world.cluster.list("podeips")), others);
}

#[test]
fn what_is_used_or_not_podeips_or_not_known_is_refused() {
    let scene = Scene::new();
    let (used, of_used) = served(&scene, "used-0", 11, "Never");
    let elsewhere =
        Sandbox { node: OTHER_NODE.into(), ..scene.pod("elsewhere-0", [10, 219, 0, 12], &[WITH_EIP, LASTING]) };
    scene.add(&elsewhere).assert_added(&elsewhere);
    peers::outliving(&scene, "theirs-0", "Never");
    let before = (scene.world.cloud.state(), scene.world.cluster.dump(), scene.records());
    for (pod, words) in [
        ("used-0", &["default/used-0 lives and uses it"][..]),
        (&of_used, &["lives and uses it"]),
        ("elsewhere-0", &["lives and uses it"]),
        ("theirs-0", &["another tool's", "podeip migrate"]),
        (defaults::USER_EIP, &["nothing says that podeip allocated"]),
    ] {
        assert_said(&release(&scene, pod), 1, words);
    }
    scene.world.cluster.deny("get", "podeips");
    assert_said(&release(&scene, "used-1"), 1, &["the PodEIP is unknown"]);
    scene.world.cluster.allow_all();
    assert_eq!((scene.world.cloud.state(), scene.world.cluster.dump(), scene.records()), before);
    scene.assert_served(&used);
}

/// What the command prints, and answers, where stdin, stdout and stderr are a terminal at which this is typed.
fn at_a_terminal(scene: &Scene, arguments: &[&str], typed: &str) -> Answer {
    let command = scene.operator(arguments);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]).env("NODE_NAME", NODE);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{typed}\n").as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn it_asks_at_a_terminal_and_nowhere_else_and_there_long_work_shows_its_progress() {
    let scene = Scene::new();
    let (kept, eip) = served(&scene, "kept-0", 12, "Never");
    scene.delete_pod(&kept);
    scene.del(&kept);
    let silent = scene.podeip(&["release", "kept-0"]);
    assert_said(&silent, 1, &[&eip, "default/kept-0", "--yes"]);
    if cannot_run(not_installed(&["script"])) {
        return;
    }
    for (typed, code, word) in [("n", 1, "nothing was done"), ("", 1, "nothing was done"), ("y", 0, "is released")] {
        assert!(!is_gone(&scene, &eip));
        assert_said(&at_a_terminal(&scene, &["release", "kept-0"], typed), code, &["Go on? [y/N]", word]);
    }
    assert!(is_gone(&scene, &eip));

    served(&scene, "used-0", 11, "Follow");
    let shown = at_a_terminal(&scene, &["gc"], "");
    assert_said(&shown, 0, &["collecting", "1/1", "in use"]);
    assert!(scene.gc().stderr.is_empty());
}
