//! What one sweep of the agent costs in a large cluster: remote calls and memory, never time.
//!
//! `cargo bench --bench sweep` sweeps over 5,000 PodEIPs and 200 orphans; `-- 500 20` over fewer. It prints a
//! Markdown table and fails when a limit is exceeded.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::resource::{UsageWho, getrusage};

#[path = "../tests/blackbox/crowd.rs"]
mod crowd;
#[path = "../tests/blackbox/scene.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod scene;

use crowd::{Crowd, Sweep, calls_since};
use scene::Scene;

/// The agent takes this on every node, although only one at a time sweeps.
const MIB_ALLOWED: u64 = 64;

/// A pod with its managed fields is 10 to 30 KiB.
const POD_BYTES: usize = 20 << 10;

/// The first argument of the process that starts the agent and measures it.
const MEASURE: &str = "measure";

fn main() -> ExitCode {
    // cargo adds `--bench` of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [first, agent @ ..] = &arguments[..]
        && first == MEASURE
    {
        return measure(agent);
    }
    let sizes: Result<Vec<usize>, _> = arguments.iter().map(|argument| argument.parse()).collect();
    let crowd = match sizes.as_deref() {
        Ok([]) => Crowd { pod_eips: 5000, orphans: 200, pod_bytes: POD_BYTES },
        Ok(&[pod_eips, orphans]) => Crowd { pod_eips, orphans, pod_bytes: POD_BYTES },
        _ => {
            eprintln!("sweep: expected two numbers, of PodEIPs and of orphans, or none: {arguments:?}");
            return ExitCode::FAILURE;
        }
    };
    if sweep_over(crowd) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a row for each kind of sweep; false when one exceeds a limit.
fn sweep_over(crowd: Crowd) -> bool {
    let scene = Scene::new();
    crowd.move_in(&scene);
    println!("| sweep | PodEIPs | orphans | calls allowed | calls made | of which | MiB allowed | peak RSS, MiB |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut within = true;
    for sweep in Sweep::ALL {
        crowd.prepare(&scene, sweep);
        let mark = scene.world.calls.mark();
        let peak_kib = run_measured(&scene.agent_on("node-2", "state-2", &["--once"]));
        crowd.assert_swept(&scene, sweep);
        let calls = calls_since(&scene, mark);
        let (made, allowed) = (calls.values().sum::<usize>(), crowd.calls_allowed());
        let Crowd { pod_eips, orphans, .. } = crowd;
        let (kind, of_which, peak) = (words(sweep), listed(&calls), peak_kib as f64 / 1024.0);
        println!("| {kind} | {pod_eips} | {orphans} | {allowed} | {made} | {of_which} | {MIB_ALLOWED} | {peak:.1} |");
        within &= made <= allowed && peak_kib < MIB_ALLOWED * 1024;
    }
    if !within {
        eprintln!("sweep: a limit is exceeded: the calls allowed, or {MIB_ALLOWED} MiB");
    }
    within
}

fn words(sweep: Sweep) -> &'static str {
    match sweep {
        Sweep::FirstSight => "first sight of the orphans",
        Sweep::GraceOver => "their grace is over",
        Sweep::NoGrace => "new orphans, no grace",
    }
}

/// The most frequent first.
fn listed(calls: &BTreeMap<String, usize>) -> String {
    let mut calls: Vec<_> = calls.iter().collect();
    calls.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let calls: Vec<String> = calls.into_iter().map(|(name, count)| format!("{count} {name}")).collect();
    calls.join(", ")
}

/// Runs the agent to its end, which has to be a good one, and says how much memory it had at its peak.
///
/// The kernel counts into a process's peak what its memory was before exec(2), so it is not this process, with the
/// whole world in it, that may start the agent.
fn run_measured(agent: &Command) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(MEASURE).arg(agent.get_program()).args(agent.get_args()).env_clear();
    command.envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    stdout.lines().last().unwrap().parse().unwrap()
}

/// Starts the agent and prints its peak in KiB, after what the agent prints.
fn measure(agent: &[String]) -> ExitCode {
    let status = Command::new(&agent[0]).args(&agent[1..]).status().unwrap();
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss());
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
