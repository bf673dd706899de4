//! The sweeper: fixed EIPs whose time is over, PodEIPs that somebody deletes, EIPs that nothing claims.

mod cost;
mod orphans;
mod ttl;

use std::time::Duration;

use podeip_sim::kube::{Owner, PodSpec};
use serde_json::Value;

use crate::scene::{Answer, OTHER_NODE, Sandbox, Scene, WITH_EIP};

pub const IP: [u8; 4] = [10, 219, 0, 5];
pub const OTHER_IP: [u8; 4] = [10, 219, 0, 6];

/// A StatefulSet's pod `web-0` with this release strategy.
pub fn stateful(scene: &Scene, ip: [u8; 4], strategy: &str) -> Sandbox {
    let owners = vec![Owner::new("StatefulSet", "web")];
    let strategy = ("network.alibabacloud.com/pod-eip-release-strategy", strategy);
    scene.pod_with(PodSpec { owners, ..PodSpec::new("default", "web-0") }, ip, &[WITH_EIP, strategy])
}

pub fn added(scene: &Scene, pod: Sandbox) -> Sandbox {
    scene.add(&pod).assert_added(&pod);
    pod
}

/// The agent of a node that has none of the pods: with a state of its own.
pub fn elsewhere(scene: &Scene) -> Answer {
    scene.agent_once_on(OTHER_NODE)
}

/// The result that a sweep printed for an EIP.
pub fn told(answer: &Answer, eip: &str) -> Option<String> {
    let row = answer.stdout.lines().find(|line| line.contains(eip))?;
    Some(row.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).nth(4).unwrap().to_string())
}

pub fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub fn lease(scene: &Scene) -> Value {
    scene.world.cluster.get("leases", "kube-system", "podeip-sweeper").unwrap_or_default()
}
