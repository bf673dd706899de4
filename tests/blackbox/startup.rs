//! What every pod on a node pays for podeip, in instructions and memory: they repeat from run to run, where times do not.
//!
//! `tests/fixtures/instructions.json` has the counts of the last change that meant to change them.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::node::{cannot_run, not_installed};
use crate::scene::{Answer, Sandbox, Scene, executable, start};
use crate::shipped;

/// Another version of Rust or of a library costs or spares as much. What is beyond, somebody decides about.
const SLACK: f64 = 0.08;

/// The instructions that this call of podeip executes, in user mode.
fn counted(scene: &Scene, verb: &str, pod: &Sandbox, stdin: &Value) -> u64 {
    let called = scene.command(verb, pod);
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(called.get_program()).env_clear();
    command.envs(called.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let answer = Answer::from(start(command, stdin).wait_with_output().unwrap());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let count = answer.stderr.lines().find_map(|line| line.split_once("Collected : "));
    count.expect("callgrind says what it counted").1.trim().parse().unwrap()
}

#[test]
fn a_pod_that_asks_for_nothing_pays_no_more_instructions_than_before() {
    if cannot_run(shipped::unlike_it().or_else(|| not_installed(&["valgrind"]))) {
        return;
    }
    let scene = Scene::new();
    let pod = scene.pod("plain", [10, 219, 0, 5], &[]);
    let result = || Some(pod.result());
    let counts: BTreeMap<&str, u64> = [
        ("VERSION", counted(&scene, "VERSION", &pod, &json!({"cniVersion": "1.0.0"}))),
        ("ADD", counted(&scene, "ADD", &pod, &scene.stdin(&pod, result()))),
        ("CHECK", counted(&scene, "CHECK", &pod, &scene.stdin(&pod, result()))),
        ("DEL", counted(&scene, "DEL", &pod, &scene.stdin(&pod, result()))),
    ]
    .into();
    println!("instructions: {counts:?}");
    let budget: BTreeMap<String, u64> = serde_json::from_str(include_str!("../fixtures/instructions.json")).unwrap();
    assert!(counts.keys().eq(budget.keys()), "{budget:?}");
    for (verb, count) in &counts {
        let change = *count as f64 / budget[*verb] as f64 - 1.0;
        let told = format!(
            "{verb}: {count} instructions, {:+.1} %; put the new count into the file if that is meant",
            100.0 * change
        );
        assert!(change.abs() <= SLACK, "{told}");
    }
}

/// Debian's, that finds nothing to do either.
const GO_PLUGIN: &str = "/usr/lib/cni/tuning";

/// Of the Go plugin's memory. Both are some MiB of which the kernel maps more or less at once, so this is a little more than
/// what the benchmark holds podeip to.
const MEMORY_OF_GO: f64 = 0.55;

/// The most memory that this executable had in one ADD, in KiB.
fn peak_kib(scene: &Scene, executable: &str, pod: &Sandbox, stdin: &Value) -> u64 {
    let report = scene.path("peak");
    let called = scene.command("ADD", pod);
    let mut command = Command::new("/usr/bin/time");
    command.args(["--format", "%M", "--output"]).arg(&report).arg(executable).env_clear();
    command.envs(called.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let answer = Answer::from(start(command, stdin).wait_with_output().unwrap());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    fs::read_to_string(report).unwrap().trim().parse().unwrap()
}

#[test]
fn a_pod_that_asks_for_nothing_pays_half_the_memory_of_a_go_plugin() {
    if cannot_run(shipped::unlike_it().or_else(|| not_installed(&["/usr/bin/time", GO_PLUGIN]))) {
        return;
    }
    let scene = Scene::new();
    let pod = scene.pod("plain", [10, 219, 0, 5], &[]);
    // The Go plugin enters it.
    let pod = Sandbox { netns: format!("/proc/{}/ns/net", std::process::id()), ..pod };
    let ours = peak_kib(&scene, executable(), &pod, &scene.stdin(&pod, Some(pod.result())));
    let stdin = json!({"cniVersion": "1.0.0", "name": "pods", "type": "tuning", "prevResult": pod.result()});
    let theirs = peak_kib(&scene, GO_PLUGIN, &pod, &stdin);
    println!("peak memory: {ours} KiB, {GO_PLUGIN}: {theirs} KiB");
    let why = "scripts/trace-startup puts the functions that run side by side";
    assert!(ours as f64 <= MEMORY_OF_GO * theirs as f64, "{ours} KiB, the Go plugin has {theirs}: {why}");
}
