//! A cluster full of PodEIPs and orphans, and how many calls one sweep over it may make.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use podeip_sim::cloud::{Status, UserEip, defaults};
use podeip_sim::kube::PodSpec;
use serde_json::json;

use crate::scene::{Scene, WITH_EIP};

/// The first pod's address; the others follow it.
const FIRST_IP: u32 = u32::from_be_bytes([10, 230, 0, 0]);

/// The annotation that makes most pods as large as they are, besides their managed fields.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How much there is to sweep over.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// Each with a pod that lives on another node, and an EIP that is bound.
    pub pod_eips: usize,
    /// EIPs with our tags, not bound, whose pods are gone.
    pub orphans: usize,
    /// About the size of each pod object.
    pub pod_bytes: usize,
}

/// The kinds of sweep, in the order in which they follow each other in one world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// The orphans are new: each is reported.
    FirstSight,
    /// The grace of the orphans is over: each is released.
    GraceOver,
    /// New orphans and no grace: each is reported and released.
    NoGrace,
}

impl Sweep {
    pub const ALL: [Sweep; 3] = [Sweep::FirstSight, Sweep::GraceOver, Sweep::NoGrace];
}

impl Crowd {
    /// One call for each hundred of what is in order, two for each orphan, and what every sweep needs.
    pub fn calls_allowed(&self) -> usize {
        self.pod_eips / 100 + (self.pod_eips + self.orphans) / 100 + 2 * self.orphans + 20
    }

    /// Fills the world with pods, their EIPs and PodEIPs.
    pub fn move_in(&self, scene: &Scene) {
        let filler = last_applied(self.pod_bytes);
        for nth in 0..self.pod_eips {
            move_in(scene, nth, &filler);
        }
        // Nobody reads how the world was made, and each step of it holds a copy of its object.
        scene.world.cluster.compact();
    }

    /// Makes the world ready for this sweep. The one before it must have been run.
    pub fn prepare(&self, scene: &Scene, sweep: Sweep) {
        match sweep {
            Sweep::FirstSight => self.lose(scene, "first"),
            Sweep::GraceOver => scene.world.clock.advance(Duration::from_secs(11 * 60)),
            Sweep::NoGrace => {
                scene.configure(|settings| settings["eip_orphan_grace_minutes"] = json!(0));
                self.lose(scene, "second");
            }
        }
        self.say_that_all_live(scene);
    }

    /// The sweep did what it is for, and touched nothing else.
    pub fn assert_swept(&self, scene: &Scene, sweep: Sweep) {
        let eips = scene.world.cloud.eips();
        let ours: Vec<_> = eips.iter().filter(|eip| eip.tag("podeip-cluster").is_some()).collect();
        let count = |status| ours.iter().filter(|eip| eip.status == status).count();
        assert_eq!(count(Status::InUse), self.pod_eips, "{sweep:?}: EIPs of pods");
        let left = if sweep == Sweep::FirstSight { self.orphans } else { 0 };
        assert_eq!(count(Status::Available), left, "{sweep:?}: orphans");
        assert_eq!(scene.world.cluster.list("podeips").len(), self.pod_eips, "{sweep:?}: PodEIPs");
    }

    fn lose(&self, scene: &Scene, batch: &str) {
        for nth in 0..self.orphans {
            tagged_eip(scene, &namespace(nth), &format!("lost-{batch}-{nth}"), &format!("uid-{batch}-{nth}"));
        }
    }

    /// What the agents of their nodes do every period.
    fn say_that_all_live(&self, scene: &Scene) {
        let now = scene.world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let seen = json!({"status": {"podLastSeen": now}});
        for nth in 0..self.pod_eips {
            scene.world.cluster.merge("podeips", &namespace(nth), &name(nth), &seen).unwrap();
        }
        scene.world.cluster.compact();
    }
}

/// An EIP with the owner tags of a pod.
pub fn tagged_eip(scene: &Scene, namespace: &str, pod: &str, uid: &str) -> String {
    let tags = [
        ("podeip-cluster", defaults::CLUSTER),
        ("podeip-namespace", namespace),
        ("podeip-pod", pod),
        ("podeip-uid", uid),
        ("podeip-node", "node-9"),
    ];
    let tags: BTreeMap<String, String> = tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    scene.world.cloud.create_user_eip(UserEip { tags, ..UserEip::default() })
}

/// The calls after the one numbered `mark`, counted by name.
pub fn calls_since(scene: &Scene, mark: u64) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in scene.world.calls.since(mark) {
        *counts.entry(call.name).or_insert(0) += 1;
    }
    counts
}

fn namespace(nth: usize) -> String {
    format!("team-{}", nth % 20)
}

fn name(nth: usize) -> String {
    format!("web-{nth}")
}

fn move_in(scene: &Scene, nth: usize, filler: &str) {
    let (namespace, name, node) = (namespace(nth), name(nth), format!("node-{}", 100 + nth / 30));
    let ip = Ipv4Addr::from(FIRST_IP + u32::try_from(nth).unwrap());
    let annotations = [WITH_EIP, (LAST_APPLIED, filler)];
    let pod = scene.world.cluster.create_pod(&PodSpec {
        node: node.clone(),
        annotations: annotations.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        phase: "Running".into(),
        pod_ip: Some(ip.to_string()),
        ..PodSpec::new(&namespace, &name)
    });
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let id = tagged_eip(scene, &namespace, &name, uid);
    scene.world.cloud.bind_by_hand(&id, defaults::POD_ENI, ip).unwrap();
    let pod_eip = json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
        "metadata": {
            "namespace": namespace, "name": name,
            "annotations": {"podeip/pod-uid": uid, "podeip/node": node},
            "finalizers": ["podeip-controller.alibabacloud.com/finalizer"],
        },
        "spec": {"allocationID": id, "allocationType": {"type": "Auto", "releaseStrategy": "Follow"}},
        "status": {
            "networkInterfaceID": defaults::POD_ENI, "privateIPAddress": ip,
            "eipAddress": scene.world.cloud.eip(&id).unwrap().address,
            "isp": "BGP", "internetChargeType": "PayByTraffic", "status": "InUse",
        },
    });
    scene.world.cluster.create(pod_eip).unwrap();
}

/// JSON within JSON, so that reading it means undoing its escapes, as for real ones.
fn last_applied(bytes: usize) -> String {
    let entry = r#"{"name":"A_SETTING","value":"some text"},"#;
    format!("{{\"env\":[{}{{}}]}}", entry.repeat(bytes / entry.len()))
}
