//! An agent's round meets the verbs of its node: neither holds the other up, and what the round has
//! read by then undoes nothing that they did.

use std::process::Child;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Moment, Outcome};
use serde_json::{Value, json};

use crate::arranged::{change_record, pod, served};
use crate::crash::sweep::{Prepared, Sweep};
use crate::scene::{Answer, PATIENCE, Sandbox, Scene, WITH_EIP, await_true};
use crate::sweeper::minutes;

const AT_ONCE: usize = 24;

/// What a round only reads; at none of these does it hold a pod's lock.
const READS: [&str; 7] = [
    "DescribeEipAddresses",
    "get configmaps",
    "get deployments",
    "get leases",
    "get pods",
    "list podeips",
    "list pods",
];

/// Pods of all sorts, and what the runtime is about to do with them.
struct Node {
    scene: Scene,
    /// Runs, and is about to be deleted.
    leaving: Sandbox,
    /// Runs, and is about to get another sandbox.
    restarting: (Sandbox, String),
    /// ADD was killed while it bound; the next one is about to come.
    interrupted: (Sandbox, String),
    /// DEL was killed while it unbound, and is about to be repeated.
    over: Sandbox,
    /// No ADD was called yet.
    fresh: Sandbox,
}

impl Node {
    fn new() -> Self {
        let scene = Scene::new();
        scene.configure(|settings| settings["eip_orphan_grace_minutes"] = json!(0));
        let node = Self {
            leaving: served(&scene, "leaving-0", 11, "Follow").0,
            restarting: served(&scene, "restarting-0", 12, "Follow"),
            interrupted: served(&scene, "interrupted-0", 13, "Follow"),
            over: served(&scene, "over-0", 14, "Follow").0,
            fresh: pod(&scene, "fresh-0", 15, &[WITH_EIP]),
            scene,
        };
        change_record(&node.scene, &node.interrupted.0, |record| {
            record["phase"] = json!("Binding");
            record["published"] = json!(false);
        });
        change_record(&node.scene, &node.over, |record| record["phase"] = json!("Unbinding"));
        node.scene.delete_pod(&node.over);
        node.scene.world.clock.advance(minutes(1));
        node
    }

    fn add(&self, sandbox: &Sandbox) {
        let answer = self.scene.add(sandbox);
        assert_eq!(answer.code, Some(0), "{answer:?}\n{}", self.scene.log());
    }

    /// The runtime's verbs, of all pods at the same time.
    fn verbs(&self) {
        thread::scope(|scope| {
            scope.spawn(|| {
                self.scene.delete_pod(&self.leaving);
                self.scene.del(&self.leaving);
            });
            scope.spawn(|| {
                self.scene.del(&self.restarting.0);
                self.add(&self.restarted());
            });
            scope.spawn(|| self.add(&self.resumed()));
            scope.spawn(|| self.scene.del(&self.over));
            scope.spawn(|| self.add(&self.fresh));
        });
    }

    fn restarted(&self) -> Sandbox {
        Sandbox { container_id: "2".repeat(64), ..self.restarting.0.at([10, 219, 0, 22]) }
    }

    fn resumed(&self) -> Sandbox {
        Sandbox { container_id: "3".repeat(64), ..self.interrupted.0.at([10, 219, 0, 23]) }
    }

    fn settle(&self) {
        self.assert_right();
        self.scene.agent_once();
        self.assert_right();
        assert!(self.scene.pod_eip(&self.leaving).is_none() && self.scene.pod_eip(&self.over).is_none());
        assert_eq!(self.scene.records().len(), 3, "{:?}", self.scene.records());
    }

    fn assert_right(&self) {
        let scene = &self.scene;
        assert_eq!(scene.assert_served(&self.restarted()).id, self.restarting.1);
        assert_eq!(scene.assert_served(&self.resumed()).id, self.interrupted.1);
        scene.assert_served(&self.fresh);
        assert_eq!(scene.ever_ours().len(), 1, "{}", scene.log());
        for gone in [&self.leaving, &self.over, &self.restarting.0, &self.interrupted.0] {
            assert!(scene.on(gone.ip).is_empty(), "{}", gone.name);
        }
        for pod in [&self.restarting.0, &self.interrupted.0, &self.fresh] {
            assert!(scene.events(pod, "EIPDrifted").is_empty(), "{:?}", scene.events(pod, "EIPDrifted"));
            let condition = &scene.pod_eip(pod).unwrap()["metadata"]["annotations"]["podeip/condition"];
            assert_eq!(*condition, Value::Null);
        }
    }
}

impl Prepared for Node {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn spawn(&self, verb: &str) -> Child {
        match verb {
            "ADD" => self.scene.spawn("ADD", &self.fresh),
            "DEL" => self.scene.spawn("DEL", &self.over),
            _ => self.scene.agent(&["--once"]).spawn().unwrap(),
        }
    }
}

#[test]
fn verbs_in_the_middle_of_a_round() {
    let swept =
        Sweep::overtake("agent", &Node::new, &Node::verbs, &Node::settle).unlocked(&READS).at_once(AT_ONCE).run();
    swept.assert_covers(20, &READS);
    swept.assert_covers(20, &["get podeips", "patch podeips/status", "UnassociateEipAddress"]);
}

/// A node with a pod whose ADD or DEL is about to come, beside one that runs.
struct Quiet {
    scene: Scene,
    running: Sandbox,
    coming: Sandbox,
    going: Sandbox,
}

impl Quiet {
    fn new() -> Self {
        let scene = Scene::new();
        scene.configure(|settings| settings["eip_orphan_grace_minutes"] = json!(0));
        let quiet = Self {
            running: served(&scene, "running-0", 11, "Follow").0,
            going: served(&scene, "going-0", 12, "Follow").0,
            coming: pod(&scene, "coming-0", 13, &[WITH_EIP]),
            scene,
        };
        quiet.scene.delete_pod(&quiet.going);
        quiet
    }

    fn round(&self) {
        self.scene.agent_once();
    }
}

impl Prepared for Quiet {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn spawn(&self, verb: &str) -> Child {
        self.scene.spawn(verb, if verb == "ADD" { &self.coming } else { &self.going })
    }
}

#[test]
fn a_round_in_the_middle_of_an_add() {
    let settle = |quiet: &Quiet| {
        let own = quiet.scene.assert_served(&quiet.coming).id;
        for call in ["UnassociateEipAddress", "ReleaseEipAddress"] {
            let touched = quiet.scene.world.calls.named(call);
            assert!(touched.iter().all(|call| call.parameter("AllocationId") != Some(&own)), "{}", quiet.scene.log());
        }
        assert_eq!(quiet.scene.ever_ours().len(), 1);
        quiet.scene.agent_once();
        for pod in [&quiet.coming, &quiet.running] {
            quiet.scene.assert_served(pod);
            assert!(quiet.scene.events(pod, "EIPDrifted").is_empty());
        }
    };
    let calls =
        ["AllocateEipAddress", "AssociateEipAddress", "create podeips", "patch podeips/status", "patch pods/status"];
    let sweep = Sweep::overtake("ADD", &Quiet::new, &Quiet::round, &settle);
    sweep.at_once(AT_ONCE).run().assert_covers(9, &calls);
}

#[test]
fn a_round_in_the_middle_of_a_del() {
    let settle = |quiet: &Quiet| {
        quiet.scene.agent_once();
        assert_eq!(quiet.scene.pod_eip(&quiet.going), None);
        assert!(quiet.scene.on(quiet.going.ip).is_empty());
        quiet.scene.assert_served(&quiet.running);
        let pods: Vec<Value> = quiet.scene.records().iter().map(|record| record["pod"]["uid"].clone()).collect();
        assert_eq!(pods, [json!(quiet.running.uid)], "{}", quiet.scene.log());
    };
    let calls = ["DescribeEipAddresses", "UnassociateEipAddress", "get pods", "delete podeips", "ReleaseEipAddress"];
    let sweep = Sweep::overtake("DEL", &Quiet::new, &Quiet::round, &settle);
    sweep.at_once(AT_ONCE).run().assert_covers(5, &calls);
}

#[test]
fn a_round_does_not_wait_for_a_verb() {
    let quiet = Quiet::new();
    let world = &quiet.scene.world;
    let gate = world.faults.gate_on(ServiceMatch::Vpc, "AllocateEipAddress", 1, Moment::BeforeEffect);
    let add = quiet.scene.spawn("ADD", &quiet.coming);
    assert!(gate.wait_reached(PATIENCE));
    // So that it does not give up either.
    let pid = Pid::from_raw(add.id() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    thread::scope(|scope| {
        let round = scope.spawn(|| quiet.round());
        // It gives half a minute to what is under way.
        await_true("the round ends", || round.is_finished());
    });
    assert!(quiet.scene.holds_pod_lock());
    gate.release(Outcome::Continue);
    kill(pid, Signal::SIGCONT).unwrap();
    Answer::from(add.wait_with_output().unwrap()).assert_added(&quiet.coming);
    quiet.scene.assert_served(&quiet.coming);
}
