//! A pod that comes back on another node: its EIP goes with it, whatever the old node still does.

use std::net::Ipv4Addr;

use podeip_sim::cloud::{EniSpec, Moment, Status};
use podeip_sim::kube::{Owner, PodSpec};
use serde_json::Value;

use crate::scene::{NODE, OTHER_NODE, Sandbox, Scene, WITH_EIP};
use crate::sweeper::minutes;

const HERE: [u8; 4] = [10, 219, 0, 5];
/// On the ENI of the other node's pods.
pub const THERE: [u8; 4] = [10, 219, 2, 5];
const OTHER_ENI: &str = "eni-bp1sim00000000000009";

/// Gives [`OTHER_NODE`] its network.
pub fn join(scene: &Scene) {
    scene.world.cloud.add_eni(EniSpec {
        id: OTHER_ENI.into(),
        mac: "00:16:3e:00:00:09".into(),
        primary_ip: Ipv4Addr::new(10, 219, 2, 1),
        private_ips: vec![THERE.into(), Ipv4Addr::new(10, 219, 2, 6)],
        instance_id: Some("i-bp1sim00000000000002".into()),
        ..EniSpec::default()
    });
}

/// A pod `web-0` of a StatefulSet on this node, whose EIP is to be kept for so long.
pub fn web(scene: &Scene, node: &str, ip: [u8; 4], strategy: &str) -> Sandbox {
    let owners = vec![Owner::new("StatefulSet", "web")];
    let spec = PodSpec { owners, node: node.into(), ..PodSpec::new("default", "web-0") };
    scene.pod_with(spec, ip, &[WITH_EIP, ("network.alibabacloud.com/pod-eip-release-strategy", strategy)])
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The new pod's ADD, on its node.
    Add,
    /// The old pod's DEL, on its node.
    Del,
    /// The old node's agent makes a round, and sweeps.
    OldAgent,
    NewAgent,
}

use Step::{Add, Del, NewAgent, OldAgent};

/// The pod is gone from the first node; its next instance is made on the second. Then `steps` happen.
fn comes_back(steps: &[Step]) -> (Scene, Sandbox) {
    let scene = Scene::new();
    join(&scene);
    let old = web(&scene, NODE, HERE, "10m");
    scene.add(&old).assert_added(&old);
    let eip = scene.assert_served(&old);
    scene.delete_pod(&old);
    scene.world.clock.advance(minutes(9));
    let new = web(&scene, OTHER_NODE, THERE, "10m").alive();
    for step in steps {
        match step {
            Add => {
                scene.add(&new).assert_added(&new);
                scene.assert_served(&new);
            }
            Del => scene.del(&old),
            OldAgent => drop(scene.agent_once_on(NODE)),
            NewAgent => drop(scene.agent_once_on(OTHER_NODE)),
        }
    }
    let served = scene.assert_served(&new);
    assert_eq!(served.id, eip.id, "{steps:?}");
    let there = |moment: &&Moment| {
        let at_new = moment.binding.as_ref().is_some_and(|binding| binding.private_ip == new.ip);
        moment.status == Status::InUse && at_new
    };
    assert_eq!(served.history.iter().filter(there).count(), 1, "{steps:?}: {:?}", served.history);
    assert_eq!(scene.ever_ours().len(), 1, "{steps:?}");
    assert!(scene.world.calls.named("ReleaseEipAddress").is_empty(), "{steps:?}");
    assert_eq!(scene.records_of(NODE), Vec::<Value>::new(), "{steps:?}: the old node forgets it\n{}", scene.log());
    assert_eq!(scene.records_of(OTHER_NODE).len(), 1, "{steps:?}");
    assert!(scene.events(&new, "EIPDrifted").is_empty(), "{steps:?}");
    (scene, new)
}

#[test]
fn a_pod_that_comes_back_elsewhere_in_time_has_its_eip() {
    for steps in [
        [Del, Add, Del, OldAgent],
        [Add, Del, Del, OldAgent],
        [Add, OldAgent, Del, NewAgent],
        [OldAgent, Add, Del, OldAgent],
        [NewAgent, Add, OldAgent, Del],
        [Add, NewAgent, OldAgent, Del],
    ] {
        comes_back(&steps);
    }
}

#[test]
fn its_time_begins_anew_at_its_second_end() {
    let (scene, new) = comes_back(&[Add, OldAgent, Del, NewAgent]);
    scene.delete_pod(&new);
    scene.del(&new);
    scene.world.clock.advance(minutes(9));
    scene.agent_once();
    assert_eq!(scene.ours().len(), 1, "kept");
    scene.world.clock.advance(minutes(2));
    scene.agent_once();
    scene.assert_nothing_left();
    assert_eq!(scene.records_of(OTHER_NODE), Vec::<Value>::new());
}

#[test]
fn a_pod_that_comes_back_too_late_has_another_eip() {
    let scene = Scene::new();
    join(&scene);
    let old = web(&scene, NODE, HERE, "10m");
    scene.add(&old).assert_added(&old);
    let eip = scene.assert_served(&old);
    scene.delete_pod(&old);
    scene.world.clock.advance(minutes(11));
    scene.agent_once_on(OTHER_NODE);
    let new = web(&scene, OTHER_NODE, THERE, "10m").alive();
    scene.add(&new).assert_added(&new);
    assert_ne!(scene.assert_served(&new).id, eip.id);
    scene.del(&old);
    scene.agent_once_on(NODE);
    scene.assert_served(&new);
    assert_eq!((scene.ours().len(), scene.records_of(NODE)), (1, Vec::new()));
}
