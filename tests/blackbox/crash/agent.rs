//! SIGKILL at every remote call of an agent: of a sweep with everything in it, and of a node's round.

use std::collections::BTreeSet;
use std::process::Child;

use podeip_sim::cloud::Status;
use serde_json::{Value, json};

use super::sweep::{Prepared, Sweep};
use crate::arranged::{change_record, served};
use crate::everything::{Cluster, assert_released, doom, status};
use crate::scene::{NODE, OTHER_NODE, Sandbox, Scene};
use crate::sweeper::minutes;

/// Each point waits seconds for the doubt about interrupted requests to pass.
pub const AT_ONCE: usize = 40;

/// The Lease of the agent that was killed runs out, and another agent sweeps.
fn sweep_again(cluster: &Cluster) {
    cluster.scene.world.clock.advance(minutes(2));
    cluster.scene.agent_once_on(OTHER_NODE);
    cluster.assert_swept();
}

impl Prepared for Cluster {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn spawn(&self, _: &str) -> Child {
        self.scene.agent_of(OTHER_NODE, &["--once"]).spawn().unwrap()
    }
}

#[test]
fn a_second_sweep_finds_nothing_to_do() {
    let cluster = Cluster::new();
    cluster.scene.agent_once_on(OTHER_NODE);
    cluster.assert_swept();
    let swept = cluster.scene.world.calls.mark();
    sweep_again(&cluster);
    let again: BTreeSet<String> = cluster.scene.world.calls.since(swept).into_iter().map(|call| call.name).collect();
    let looks = [
        "DescribeEipAddresses",
        "get configmaps",
        "get deployments",
        "get leases",
        "get pods",
        "list pods",
        "list podeips",
        "patch leases",
    ];
    assert_eq!(again, looks.map(String::from).into());
}

#[test]
fn a_sweep_of_everything() {
    let swept = Sweep::kill("agent", &Cluster::new, &sweep_again).at_once(AT_ONCE).run();
    swept.assert_covers(3 * 34, &["create leases", "patch leases", "list podeips", "delete podeips", "patch podeips"]);
    swept.assert_covers(3 * 34, &["UnassociateEipAddress", "ReleaseEipAddress", "list pods", "patch podeips/status"]);
}

/// All that a round over a node finishes, mends or follows.
pub struct Round {
    pub scene: Scene,
    /// ADD was killed while it bound.
    binding: (Sandbox, String),
    /// DEL was killed while it unbound; the pod is gone.
    unbinding: (Sandbox, String),
    /// DEL was killed while it released.
    releasing: (Sandbox, String),
    /// Somebody unbound it.
    drifted: (Sandbox, String),
    /// Somebody deleted its PodEIP, and took its owner tags away.
    robbed: (Sandbox, String),
    /// It is to have another bandwidth.
    widened: (Sandbox, String),
}

impl Round {
    pub fn new() -> Self {
        let scene = Scene::new();
        let all = Self {
            binding: served(&scene, "binding-0", 11, "Follow"),
            unbinding: served(&scene, "unbinding-0", 12, "Follow"),
            releasing: served(&scene, "releasing-0", 13, "Follow"),
            drifted: served(&scene, "drifted-0", 14, "Follow"),
            robbed: served(&scene, "robbed-0", 15, "Follow"),
            widened: served(&scene, "widened-0", 16, "Follow"),
            scene,
        };
        let (scene, cluster, cloud) = (&all.scene, &all.scene.world.cluster, &all.scene.world.cloud);
        change_record(scene, &all.binding.0, |record| {
            record["phase"] = json!("Binding");
            record["published"] = json!(false);
        });
        change_record(scene, &all.unbinding.0, |record| record["phase"] = json!("Unbinding"));
        change_record(scene, &all.releasing.0, |record| {
            record["phase"] = json!("Releasing");
            record["binding"] = Value::Null;
            record["published"] = json!(false);
        });
        for (gone, _) in [&all.unbinding, &all.releasing] {
            scene.delete_pod(gone);
        }
        cloud.unbind_by_hand(&all.releasing.1).unwrap();
        doom(scene, &all.releasing.0);
        cloud.unbind_by_hand(&all.drifted.1).unwrap();
        cloud.tag_by_hand(&all.robbed.1, Default::default()).unwrap();
        cluster.remove("podeips", "default", &all.robbed.0.name).unwrap();
        let wider = json!({"metadata": {"annotations": {"k8s.aliyun.com/eip-bandwidth": "20"}}});
        cluster.merge("pods", "default", &all.widened.0.name, &wider).unwrap();
        scene.world.clock.advance(minutes(1));
        all
    }

    pub fn recover(&self) {
        self.scene.agent_once();
        self.assert_settled();
    }

    fn assert_settled(&self) {
        let scene = &self.scene;
        assert_released(scene, &[&self.unbinding.1, &self.releasing.1]);
        for (ended, _) in [&self.unbinding, &self.releasing] {
            assert_eq!(scene.pod_eip(ended), None, "{}", ended.name);
        }
        assert_eq!(status(scene, &self.binding.1), (Status::Available, false), "held for the pod's next sandbox");
        for (pod, eip) in [&self.drifted, &self.robbed, &self.widened] {
            let served = scene.assert_served(pod);
            assert_eq!((&served.id, served.tag("podeip-uid")), (eip, Some(pod.uid.as_str())));
            assert_eq!(scene.pod_eip(pod).unwrap()["metadata"]["annotations"]["podeip/condition"], Value::Null);
        }
        assert_eq!(scene.world.cloud.eip(&self.widened.1).unwrap().bandwidth, 20);
        assert!(scene.world.calls.named("AllocateEipAddress").is_empty());
        let phases: BTreeSet<String> = scene
            .records_of(NODE)
            .iter()
            .map(|record| format!("{} {}", record["pod"]["name"], record["phase"]).replace('"', ""))
            .collect();
        let expected = ["binding-0 Held", "drifted-0 Bound", "robbed-0 Bound", "widened-0 Bound"];
        assert_eq!(phases, expected.map(String::from).into());
    }
}

impl Prepared for Round {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn spawn(&self, _: &str) -> Child {
        self.scene.agent(&["--once"]).spawn().unwrap()
    }
}

#[test]
fn a_round_over_a_node() {
    let swept = Sweep::kill("agent", &Round::new, &Round::recover).at_once(AT_ONCE).run();
    swept.assert_covers(3 * 40, &["list pods", "get pods", "get podeips", "create podeips", "patch podeips/status"]);
    let calls = ["AssociateEipAddress", "UnassociateEipAddress", "ReleaseEipAddress", "ModifyEipAddressAttribute"];
    swept.assert_covers(3 * 40, &calls);
    swept.assert_covers(3 * 40, &["DescribeEipAddresses", "TagResources", "delete podeips", "create events"]);
}
