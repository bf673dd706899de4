//! Processes that meet: two sweepers, a sweep and an ADD, an agent's round and the verbs of its node.

mod round;
mod succession;

use std::process::Child;
use std::thread;

use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Moment, Outcome};

use crate::everything::Cluster;
use crate::scene::{Answer, OTHER_NODE, PATIENCE, Scene, await_true};
use crate::sweeper::minutes;

const THIRD_NODE: &str = "node-3";

fn start(scene: &Scene, node: &str) -> Child {
    scene.agent_of(node, &["--once"]).spawn().unwrap()
}

fn end(child: Child) -> Answer {
    child.wait_with_output().unwrap().into()
}

/// The log says that it swept or that it did not, and why.
fn tells_of_the_lease(answer: &Answer, node: &str) -> bool {
    let holds = format!("podeip-sweeper: held by {node}_");
    let swept = answer.stderr.contains(&holds);
    assert!(swept || answer.stderr.contains("not sweeping: lease kube-system/podeip-sweeper is held by"), "{answer:?}");
    swept
}

#[test]
fn two_sweepers_at_once() {
    let meet = || {
        let cluster = Cluster::new();
        let agents = [OTHER_NODE, THIRD_NODE].map(|node| (node, start(&cluster.scene, node)));
        let swept = agents.map(|(node, child)| {
            let answer = end(child);
            assert_eq!(answer.code, Some(0), "{answer:?}");
            tells_of_the_lease(&answer, node)
        });
        assert!(swept.contains(&true));
        cluster.assert_swept();
        cluster.assert_asked_once();
        swept
    };
    let outcomes: Vec<[bool; 2]> = thread::scope(|scope| {
        let worlds: Vec<_> = (0..12).map(|_| scope.spawn(meet)).collect();
        worlds.into_iter().map(|world| world.join().unwrap()).collect()
    });
    println!(
        "{} of 12 times one found the other at work",
        outcomes.iter().filter(|swept| swept.contains(&false)).count()
    );
}

/// A sweeper stands still until its Lease has run out and another has swept everything; then it goes on.
fn loses_its_lease(call: &str, nth: u32, moment: Moment) {
    let cluster = Cluster::new();
    let world = &cluster.scene.world;
    let gate = world.faults.gate_on(ServiceMatch::Any, call, nth, moment);
    let first = start(&cluster.scene, OTHER_NODE);
    assert!(gate.wait_reached(PATIENCE), "{call} {nth}");
    let second = end(start(&cluster.scene, THIRD_NODE));
    assert_eq!(second.code, Some(0), "{second:?}");
    assert!(!tells_of_the_lease(&second, THIRD_NODE), "{second:?}");
    world.clock.advance(minutes(2));
    let second = end(start(&cluster.scene, THIRD_NODE));
    assert_eq!(second.code, Some(0), "{second:?}");
    assert!(tells_of_the_lease(&second, THIRD_NODE) && second.stderr.contains("has not renewed it"), "{second:?}");
    cluster.assert_swept();
    let lost = world.calls.mark();
    gate.release(Outcome::Continue);
    let first = end(first);
    assert!(tells_of_the_lease(&first, OTHER_NODE));
    assert!(
        first.stderr.contains("lease kube-system/podeip-sweeper was lost in the middle of a sweep"),
        "{call}: {first:?}"
    );
    let released = world.calls.since(lost).iter().any(|call| call.name == "ReleaseEipAddress");
    assert!(!released, "{call}: it goes on without its Lease");
    cluster.assert_swept();
}

#[test]
fn a_sweeper_that_loses_its_lease() {
    let points = [
        ("list podeips", 1, Moment::AfterEffect),
        ("list pods", 2, Moment::AfterEffect),
        ("delete podeips", 1, Moment::BeforeEffect),
        ("delete podeips", 1, Moment::AfterEffect),
        ("UnassociateEipAddress", 1, Moment::BeforeEffect),
        ("UnassociateEipAddress", 2, Moment::AfterEffect),
        ("ReleaseEipAddress", 1, Moment::BeforeEffect),
        ("ReleaseEipAddress", 1, Moment::AfterEffect),
        ("ReleaseEipAddress", 4, Moment::BeforeEffect),
        ("patch podeips", 1, Moment::BeforeEffect),
        ("patch podeips/status", 1, Moment::BeforeEffect),
    ];
    thread::scope(|scope| {
        for (call, nth, moment) in points {
            scope.spawn(move || loses_its_lease(call, nth, moment));
        }
    });
}

#[test]
fn an_orphan_that_a_pod_names_in_the_middle_of_a_sweep_is_left() {
    let cluster = Cluster::new();
    let (scene, world) = (&cluster.scene, &cluster.scene.world);
    // The sweep waits for the other orphan, and knows this one to be free.
    let unbound = world.faults.gate_on(ServiceMatch::Vpc, "UnassociateEipAddress", 3, Moment::AfterEffect);
    let sweep = start(scene, OTHER_NODE);
    assert!(unbound.wait_reached(PATIENCE));
    let pod = scene.pod("namer-0", [10, 219, 0, 30], &[("k8s.aliyun.com/pod-eip-instanceid", &cluster.lost)]).alive();
    let binding = world.faults.gate_on(ServiceMatch::Vpc, "AssociateEipAddress", 1, Moment::BeforeEffect);
    let add = scene.spawn("ADD", &pod);
    assert!(binding.wait_reached(PATIENCE));
    await_true("the pod claims it", || scene.pod_eip(&pod).is_some());
    unbound.release(Outcome::Continue);
    let sweep = end(sweep);
    assert_eq!(sweep.code, Some(0), "{sweep:?}");
    binding.release(Outcome::Continue);
    end(add).assert_added(&pod);
    assert_eq!(scene.assert_served(&pod).id, cluster.lost);
}
