//! A new pod's ADD meets whoever ends the EIP of the pod that had its name: it takes the EIP over,
//! or it waits and has one of its own. It never has one that is then released.

use std::collections::BTreeSet;
use std::process::Child;
use std::sync::OnceLock;
use std::thread;

use podeip_sim::cloud::{EipView, Status};
use serde_json::{Value, json};

use crate::arranged::serve;
use crate::crash::sweep::{Prepared, Sweep};
use crate::scene::{NODE, OTHER_NODE, Sandbox, Scene};
use crate::second_node::{THERE, join, web};
use crate::sweeper::minutes;

const HERE: [u8; 4] = [10, 219, 0, 5];
const ELSEWHERE_HERE: [u8; 4] = [10, 219, 0, 6];
/// Sweeps where neither of the pods was.
const THIRD_NODE: &str = "node-3";

/// A pod that is over, and the next one of its name.
struct Succession {
    scene: Scene,
    old: Sandbox,
    eip: String,
    /// The node and address of the next one.
    to: (&'static str, [u8; 4]),
    strategy: &'static str,
    next: OnceLock<Sandbox>,
}

impl Succession {
    /// The old pod is gone, and nobody has ended its EIP yet, which is still bound.
    fn new(to: (&'static str, [u8; 4]), strategy: &'static str) -> Self {
        let scene = Scene::new();
        scene.configure(|settings| settings["eip_orphan_grace_minutes"] = json!(0));
        join(&scene);
        let old = web(&scene, NODE, HERE, strategy);
        let eip = serve(&scene, &old);
        scene.delete_pod(&old);
        Self { scene, old, eip, to, strategy, next: OnceLock::new() }
    }

    /// So long ago that a sweep ends it.
    fn long_over(to: (&'static str, [u8; 4]), strategy: &'static str) -> Self {
        let all = Self::new(to, strategy);
        all.scene.world.clock.advance(minutes(11));
        all
    }

    /// The next pod is there; its ADD has not been called.
    fn with_next(self) -> Self {
        self.next();
        self
    }

    fn next(&self) -> &Sandbox {
        self.next.get_or_init(|| web(&self.scene, self.to.0, self.to.1, self.strategy).alive())
    }

    fn add(&self) {
        let answer = self.scene.add(self.next());
        assert_eq!(answer.code, Some(0), "{answer:?}\n{}", self.scene.log());
    }

    fn del(&self) {
        self.scene.del(&self.old);
    }

    fn old_round(&self) {
        self.scene.agent_once_on(NODE);
    }

    fn sweep(&self) {
        self.scene.agent_once_on(THIRD_NODE);
    }

    /// The next pod is served, the old one's EIP is its own or gone, and whatever comes later changes
    /// nothing.
    fn settle(&self) {
        self.assert_settled();
        assert!(self.scene.events(self.next(), "EIPDrifted").is_empty(), "{}", self.scene.log());
    }

    /// As [`Succession::settle`], where a call to unbind was on its way when the EIP was bound anew.
    /// Nobody promises that the cloud compares the places: then the agent puts the EIP back.
    fn settle_after_late_call(&self) {
        self.scene.agent_once_on(self.to.0);
        self.assert_settled();
    }

    fn assert_settled(&self) {
        let (scene, next) = (&self.scene, self.next());
        let served = scene.assert_served(next);
        scene.del(&self.old);
        scene.world.clock.advance(minutes(30));
        for node in BTreeSet::from([NODE, self.to.0]) {
            scene.agent_once_on(node);
        }
        assert_eq!(scene.assert_served(next).id, served.id, "{}", scene.log());
        let there = |eip: &EipView| {
            eip.tag("podeip-cluster").is_some() && !matches!(eip.status, Status::Released | Status::Releasing)
        };
        let left: Vec<String> = scene.world.cloud.eips().into_iter().filter(there).map(|eip| eip.id).collect();
        assert_eq!(left, [served.id], "{}", scene.log());
        for release in scene.world.calls.named("ReleaseEipAddress") {
            assert_eq!(release.parameter("AllocationId"), Some(self.eip.as_str()), "the new pod's EIP was released");
        }
        let pods: Vec<Value> = scene.records_of(&next.node).into_iter().map(|it| it["pod"]["uid"].clone()).collect();
        assert_eq!(pods, [json!(next.uid)], "{}", scene.log());
    }
}

impl Prepared for Succession {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn spawn(&self, verb: &str) -> Child {
        match verb {
            "ADD" => self.scene.spawn("ADD", self.next()),
            "DEL" => self.scene.spawn("DEL", &self.old),
            "round" => self.scene.agent_of(NODE, &["--once"]).spawn().unwrap(),
            _ => self.scene.agent_of(THIRD_NODE, &["--once"]).spawn().unwrap(),
        }
    }
}

const AT_ONCE: usize = 24;

/// Between the look at an EIP and the end of the call that unbinds it.
const UNBINDING: [&str; 2] = ["DescribeEipAddresses", "UnassociateEipAddress"];

/// Makes `test` of each of `cases`, side by side.
fn each<T: Copy + Send>(cases: &[T], test: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases.iter().copied() {
            let test = &test;
            scope.spawn(move || test(case));
        }
    });
}

#[test]
fn an_add_in_the_middle_of_a_sweep() {
    each(&[HERE, ELSEWHERE_HERE], |place| {
        let prepare = || Succession::long_over((NODE, place), "10m");
        let swept = Sweep::overtake("agent", &prepare, &Succession::add, &Succession::settle).at_once(AT_ONCE).run();
        swept.assert_covers(12, &["get pods", "delete podeips", "UnassociateEipAddress", "ReleaseEipAddress"]);
    });
}

#[test]
fn an_add_in_the_middle_of_a_sweep_that_unbinds_only() {
    // On the old pod's own address the EIP need not be moved, and looks as if nothing had happened.
    each(&[(OTHER_NODE, THERE), (NODE, HERE)], |to| {
        let prepare = || Succession::long_over(to, "Never");
        let calls = ["get pods", "patch podeips/status"];
        let sweep = Sweep::overtake("agent", &prepare, &Succession::add, &Succession::settle);
        sweep.only(&calls).at_once(AT_ONCE).run().assert_covers(2, &calls);
        // The PodEIP is read after the look.
        let unbinding = ["DescribeEipAddresses", "get podeips", "UnassociateEipAddress"];
        let sweep = Sweep::overtake("agent", &prepare, &Succession::add, &Succession::settle_after_late_call);
        sweep.only(&unbinding).at_once(AT_ONCE).run().assert_covers(3, &unbinding);
    });
}

#[test]
fn a_sweep_in_the_middle_of_an_add() {
    let prepare = || Succession::long_over((NODE, ELSEWHERE_HERE), "10m").with_next();
    let swept = Sweep::overtake("ADD", &prepare, &Succession::sweep, &Succession::settle).at_once(AT_ONCE).run();
    swept.assert_covers(8, &["get podeips", "patch podeips", "AssociateEipAddress", "patch podeips/status"]);
}

#[test]
fn an_add_elsewhere_while_the_old_node_ends_its_pod() {
    each(&[("DEL", "Follow"), ("DEL", "10m"), ("round", "Follow"), ("round", "10m")], |(process, strategy)| {
        let prepare = || Succession::new((OTHER_NODE, THERE), strategy);
        let calls: &[&str] = match strategy {
            "Follow" => &["get pods", "get podeips", "delete podeips", "ReleaseEipAddress", "patch podeips"],
            _ => &["get pods", "get podeips", "patch podeips/status"],
        };
        let sweep = Sweep::overtake(process, &prepare, &Succession::add, &Succession::settle);
        sweep.only(calls).at_once(AT_ONCE).run().assert_covers(calls.len(), calls);
        let sweep = Sweep::overtake(process, &prepare, &Succession::add, &Succession::settle_after_late_call);
        sweep.only(&UNBINDING).at_once(AT_ONCE).run().assert_covers(2, &UNBINDING);
    });
}

#[test]
fn the_old_node_ends_its_pod_in_the_middle_of_an_add_elsewhere() {
    let rivals: [fn(&Succession); 2] = [Succession::del, Succession::old_round];
    each(&[("Follow", 0), ("Follow", 1), ("10m", 0), ("10m", 1)], |(strategy, rival)| {
        let prepare = || Succession::new((OTHER_NODE, THERE), strategy).with_next();
        let swept = Sweep::overtake("ADD", &prepare, &rivals[rival], &Succession::settle).at_once(AT_ONCE).run();
        swept.assert_covers(8, &["get podeips", "patch podeips", "AssociateEipAddress", "UnassociateEipAddress"]);
    });
}
