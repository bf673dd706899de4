//! What podeip costs a pod that asks for nothing, beside what Go plugins cost that find nothing to do either.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::measured::{Repeatable, Run, in_rounds, median, millis};
use crate::scene::{Sandbox, Scene, executable};

/// Where Debian's containernetworking-plugins are.
const PLUGINS: &str = "/usr/lib/cni";
const GO_PLUGINS: [&str; 2] = ["tuning", "bandwidth"];

/// Medians of this many runs each.
const ROUNDS: usize = 300;

pub fn measure() -> Value {
    let scene = Scene::new();
    // The Go plugins enter the network namespace, so it has to be one; nothing is changed in it.
    let pod = scene.pod("plain", [10, 219, 0, 5], &[]).alive();
    let pod = Sandbox { netns: format!("/proc/{}/ns/net", std::process::id()), ..pod };
    let stdin = scene.stdin(&pod, Some(pod.result()));
    let mut commands: Vec<(String, Repeatable)> = Vec::new();
    // As an installation leaves it, and a package the others: a file that was written from one end to the other is in larger
    // pieces in memory than what a linker has left there.
    let installed = scene.path("podeip");
    fs::copy(executable(), &installed).unwrap();
    commands.push(("podeip".into(), repeatable(&scene, like(&installed, &scene, &pod), "podeip", &stdin)));
    for plugin in GO_PLUGINS {
        let executable = Path::new(PLUGINS).join(plugin);
        assert!(executable.exists(), "{} is missing: install containernetworking-plugins", executable.display());
        let stdin = json!({"cniVersion": "1.0.0", "name": "pods", "type": plugin, "prevResult": pod.result()});
        commands.push((plugin.into(), repeatable(&scene, like(&executable, &scene, &pod), plugin, &stdin)));
    }
    let (names, commands): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
    let runs = in_rounds(&commands, ROUNDS);
    let rows = names.iter().zip(&commands).zip(runs).map(|((name, command), runs)| {
        let part = |of: fn(&Run) -> Duration| millis(median(runs.iter().map(of).collect()));
        json!({
            "plugin": name,
            "wall_ms": part(|run| run.wall),
            "cpu_ms": part(|run| run.cpu),
            "peak_rss_kib": command.peak_kib(),
        })
    });
    json!({ "rounds": ROUNDS, "plugins": rows.collect::<Vec<_>>() })
}

/// ADD by another executable.
fn like(executable: &Path, scene: &Scene, pod: &Sandbox) -> Command {
    let ours = scene.command("ADD", pod);
    let mut command = Command::new(executable);
    command.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn repeatable(scene: &Scene, command: Command, name: &str, stdin: &Value) -> Repeatable {
    let file = format!("{name}.stdin");
    scene.write(&file, &stdin.to_string());
    Repeatable::new(command, &scene.path(&file))
}
