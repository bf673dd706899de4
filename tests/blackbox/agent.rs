//! The node agent: what it finishes, repairs, refreshes and follows, one round at a time and as a process.

mod conflicts;
mod handover;
mod identity;
mod late;
mod live;
pub mod metrics;
mod process;
mod rebuild;
mod repair;
mod seen;
mod too_late;

use std::collections::BTreeMap;
use std::process::Child;

use serde_json::{Value, json};

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};

pub const IP: [u8; 4] = [10, 219, 0, 5];

/// A pod that runs with its EIP; its sandbox lives as long as the test.
pub fn running(scene: &Scene, name: &str, ip: [u8; 4], annotations: &[(&str, &str)]) -> Sandbox {
    let pod = scene.pod(name, ip, &[&[WITH_EIP], annotations].concat()).alive();
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    pod
}

/// Sets (`Some`) and removes (`None`) annotations of the pod object, as `kubectl annotate` does.
pub fn annotate(scene: &Scene, pod: &Sandbox, changes: &[(&str, Option<&str>)]) {
    let changes: BTreeMap<_, _> = changes.iter().copied().collect();
    let patch = json!({"metadata": {"annotations": changes}});
    scene.world.cluster.merge("pods", &pod.namespace, &pod.name, &patch).unwrap();
}

/// The names of all calls since `mark`.
pub fn names_since(scene: &Scene, mark: u64) -> Vec<String> {
    scene.world.calls.since(mark).into_iter().map(|call| call.name).collect()
}

/// Kind of the object and type of each event of this reason, sorted.
pub fn kinds_told(scene: &Scene, pod: &Sandbox, reason: &str) -> Vec<String> {
    let events = scene.world.cluster.events_for(&pod.namespace, &pod.name);
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let of_reason = events.iter().filter(|event| event["reason"] == reason);
    let mut kinds: Vec<String> =
        of_reason.map(|event| format!("{} {}", text(&event["involvedObject"]["kind"]), text(&event["type"]))).collect();
    kinds.sort();
    kinds
}

/// An agent that runs until it is stopped.
pub struct Agent(Option<Child>);

impl Agent {
    pub fn start(scene: &Scene) -> Self {
        let agent = Self(Some(scene.agent(&["--metrics", "off"]).spawn().unwrap()));
        crate::scene::await_true("the agent holds agent.lock", || scene.agent_lives());
        agent
    }

    /// SIGTERM, and what it printed.
    pub fn stop(mut self) -> Answer {
        let child = self.0.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        child.wait_with_output().unwrap().into()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
