//! Every change of the state is on the disk, and so is its name in the directory, before the next thing happens.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::scene::{Answer, Scene, WITH_EIP, start};

/// What strace prints of these system calls of one verb, which succeeds.
pub fn traced(scene: &Scene, plugin: &Command, stdin: &Value, calls: &str) -> String {
    let trace = scene.path("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-e", &format!("trace={calls}"), "-o"]).arg(&trace).arg(plugin.get_program());
    strace.env_clear().envs(plugin.get_envs().filter_map(|(key, value)| Some((key, value?))));
    for pipe in [Command::stdin, Command::stdout, Command::stderr] {
        pipe(&mut strace, std::process::Stdio::piped());
    }
    let answer = Answer::from(start(strace, stdin).wait_with_output().unwrap());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    fs::read_to_string(trace).unwrap()
}

/// The system calls of one ADD that make a file last, in their order: `fsync PATH` and `rename`.
fn traced_add(scene: &Scene) -> Vec<String> {
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let (plugin, stdin) = (scene.command("ADD", &pod), scene.stdin(&pod, Some(pod.result())));
    traced(scene, &plugin, &stdin, "fsync,rename,renameat,renameat2").lines().filter_map(lasting).collect()
}

fn lasting(line: &str) -> Option<String> {
    let (_, call) = line.split_once(' ')?;
    let call = call.trim_start();
    if call.starts_with("rename") {
        return call.contains("/state.json\"").then(|| "rename".into());
    }
    let path = call.strip_prefix("fsync(")?.split_once('<')?.1.split_once('>')?.0;
    Some(format!("fsync {path}"))
}

#[test]
fn every_write_of_the_state_is_synced_before_and_after_its_rename() {
    let scene = Scene::new();
    let calls = traced_add(&scene);
    let directory = format!("fsync {}", scene.state_dir().canonicalize().unwrap().display());
    let temporary = format!("{directory}/.podeip-tmp-");
    let mut renames = 0;
    for at in calls.iter().enumerate().filter_map(|(at, call)| (call == "rename").then_some(at)) {
        assert!(at > 0 && calls[at - 1].starts_with(&temporary), "{calls:#?}");
        assert_eq!(calls.get(at + 1), Some(&directory), "{calls:#?}");
        renames += 1;
    }
    assert_eq!(renames, 3, "an ADD passes through more states: {calls:#?}");
}
