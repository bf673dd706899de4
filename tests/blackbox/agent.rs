//! The node agent: what it finishes, repairs, refreshes and follows, one round at a time and as a process.

mod process;
mod repair;

use std::process::Child;

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};

pub const IP: [u8; 4] = [10, 219, 0, 5];

/// A pod that runs with its EIP; its sandbox lives as long as the test.
pub fn running(scene: &Scene, name: &str, ip: [u8; 4], annotations: &[(&str, &str)]) -> Sandbox {
    let pod = scene.pod(name, ip, &[&[WITH_EIP], annotations].concat()).alive();
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    pod
}

/// An agent that runs until it is stopped.
pub struct Agent(Option<Child>);

impl Agent {
    pub fn start(scene: &Scene) -> Self {
        let agent = Self(Some(scene.agent(&[]).spawn().unwrap()));
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
