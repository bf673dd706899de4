//! SIGKILL at every remote call of ADD and DEL, and every way in which a node goes on from there.

mod agent;
#[cfg(feature = "crash-points")]
mod points;
pub mod sweep;

use std::process::Child;
use std::thread;
use std::time::Duration;

use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Gate, Moment, Outcome};
use sweep::{Prepared, Sweep, Swept};

use crate::scene::{Scene, WITH_EIP};
use crate::stage::{ADDRESS, Case, OTHER_ADDRESS, Stage};

const ADD_CALLS: [&str; 7] = [
    "AllocateEipAddress",
    "AssociateEipAddress",
    "DescribeEipAddresses",
    "DescribeNetworkInterfaces",
    "create podeips",
    "patch podeips/status",
    "patch pods/status",
];
const DEL_CALLS: [&str; 5] =
    ["DescribeEipAddresses", "UnassociateEipAddress", "ReleaseEipAddress", "get pods", "delete podeips"];

/// Each call is a point three times.
const ADD_POINTS: usize = 3 * 10;
const DEL_POINTS: usize = 3 * 7;

impl Prepared for Stage {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn spawn(&self, verb: &str) -> Child {
        self.scene.spawn(verb, &self.pod)
    }
}

fn killed_in_add(case: Case, recover: impl Fn(&Stage) + Sync) -> Swept {
    Sweep::kill("ADD", &|| Stage::new(case), &recover).run()
}

fn killed_in_del(prepare: impl Fn() -> Stage + Sync, recover: impl Fn(&Stage) + Sync) -> Swept {
    Sweep::kill("DEL", &prepare, &recover).run()
}

/// The runtime repeats the very same ADD.
fn add_again(stage: &Stage) {
    stage.add(&stage.pod);
    stage.assert_served(&stage.pod);
    stage.finish(&stage.pod);
}

/// The runtime gives the sandbox up and makes another one for the same pod.
fn new_sandbox(stage: &Stage, address: [u8; 4]) {
    stage.scene.del(&stage.pod);
    let next = stage.pod.restarted().at(address);
    stage.add(&next);
    stage.assert_served(&next);
    // DEL of the old sandbox comes a second time.
    stage.scene.del(&stage.pod.without_netns());
    stage.assert_served(&next);
    stage.finish(&next);
}

fn new_sandbox_elsewhere(stage: &Stage) {
    new_sandbox(stage, OTHER_ADDRESS);
}

/// Nobody calls podeip for this pod any more.
fn pod_deleted_and_collected(stage: &Stage) {
    stage.scene.delete_pod(&stage.pod);
    stage.scene.gc();
    stage.assert_ended_early();
}

fn del_again(stage: &Stage) {
    stage.scene.delete_pod(&stage.pod);
    stage.scene.del(&stage.pod);
    stage.scene.del(&stage.pod.without_netns());
    stage.assert_ended();
}

fn collected(stage: &Stage) {
    stage.scene.delete_pod(&stage.pod);
    stage.scene.gc();
    stage.assert_ended();
}

#[test]
fn add_then_the_same_add() {
    killed_in_add(Case::Plain, add_again).assert_covers(ADD_POINTS, &ADD_CALLS);
}

#[test]
fn add_then_a_new_sandbox_with_another_address() {
    killed_in_add(Case::Plain, new_sandbox_elsewhere).assert_covers(ADD_POINTS, &ADD_CALLS);
}

#[test]
fn add_then_a_new_sandbox_with_the_same_address() {
    killed_in_add(Case::Plain, |stage| new_sandbox(stage, ADDRESS)).assert_covers(ADD_POINTS, &ADD_CALLS);
}

#[test]
fn add_then_a_new_sandbox_without_a_del() {
    let recover = |stage: &Stage| {
        let next = stage.pod.restarted().at(OTHER_ADDRESS);
        stage.add(&next);
        stage.assert_served(&next);
        assert!(stage.scene.on(stage.pod.ip).is_empty());
        stage.scene.del(&stage.pod);
        stage.assert_served(&next);
        stage.finish(&next);
    };
    killed_in_add(Case::Plain, recover).assert_covers(ADD_POINTS, &ADD_CALLS);
}

#[test]
fn add_then_the_pod_is_deleted() {
    killed_in_add(Case::Plain, pod_deleted_and_collected).assert_covers(ADD_POINTS, &ADD_CALLS);
}

/// The address goes to a pod that asks for nothing: it must not inherit the EIP.
#[test]
fn add_then_another_pod_has_the_address() {
    let recover = |stage: &Stage| {
        stage.scene.delete_pod(&stage.pod);
        let heir = stage.scene.pod("heir", ADDRESS, &[]);
        stage.add(&heir);
        assert!(stage.scene.on(heir.ip).is_empty(), "{}", stage.scene.log());
        stage.scene.gc();
        stage.assert_ended();
    };
    killed_in_add(Case::Plain, recover).assert_covers(ADD_POINTS, &ADD_CALLS);
}

#[test]
fn del_then_the_same_del() {
    let swept = killed_in_del(|| Stage::deleted(Case::Plain), del_again);
    swept.assert_covers(DEL_POINTS, &DEL_CALLS);
}

#[test]
fn del_of_a_living_pod_then_a_new_sandbox() {
    let swept = killed_in_del(|| Stage::added(Case::Plain), new_sandbox_elsewhere);
    swept.assert_covers(3 * 4, &["DescribeEipAddresses", "UnassociateEipAddress", "get pods"]);
}

#[test]
fn del_of_a_terminating_pod_then_gc() {
    let swept = killed_in_del(|| Stage::terminating(Case::Plain), collected);
    swept.assert_covers(DEL_POINTS, &DEL_CALLS);
}

#[test]
fn del_then_another_pod_has_the_address() {
    let recover = |stage: &Stage| {
        let heir = stage.scene.pod("heir", ADDRESS, &[]);
        stage.add(&heir);
        assert!(stage.scene.on(heir.ip).is_empty(), "{}", stage.scene.log());
        stage.scene.gc();
        stage.assert_ended();
    };
    killed_in_del(|| Stage::deleted(Case::Plain), recover).assert_covers(DEL_POINTS, &DEL_CALLS);
}

/// The next pod of the same name gets the same address: an EIP of its own, and the old one goes.
#[test]
fn del_then_the_next_pod_of_that_name() {
    let recover = |stage: &Stage| {
        let next = stage.successor().alive();
        stage.add(&next);
        let eip = stage.assert_bound(&next);
        stage.scene.del(&stage.pod);
        stage.scene.gc();
        stage.assert_bound(&next);
        let left: Vec<String> = stage.scene.ours().into_iter().map(|eip| eip.id).collect();
        assert_eq!(left, [eip.id], "{}", stage.scene.log());
        stage.finish(&next);
    };
    killed_in_del(|| Stage::deleted(Case::Plain), recover).assert_covers(DEL_POINTS, &DEL_CALLS);
}

#[test]
fn with_the_nodes_ram_role() {
    let swept = killed_in_add(Case::RamRole, new_sandbox_elsewhere);
    swept.assert_covers(ADD_POINTS + 3 * 3, &ADD_CALLS);
    // The credentials that ADD has cached are gone: DEL asks for them, too.
    let fresh = || {
        let stage = Stage::deleted(Case::RamRole);
        std::fs::remove_file(stage.scene.state_dir().join("credentials.json")).unwrap();
        stage
    };
    killed_in_del(fresh, collected).assert_covers(DEL_POINTS + 3, &DEL_CALLS);
}

#[test]
fn with_a_named_eip_in_add() {
    let calls = ["AssociateEipAddress", "create podeips", "patch podeips/status", "patch pods/status"];
    killed_in_add(Case::Named, add_again).assert_covers(3 * 8, &calls);
    killed_in_add(Case::Named, pod_deleted_and_collected).assert_covers(3 * 8, &calls);
}

#[test]
fn with_a_named_eip_in_del() {
    let calls = ["DescribeEipAddresses", "UnassociateEipAddress", "get pods", "delete podeips"];
    let swept = killed_in_del(|| Stage::deleted(Case::Named), del_again);
    swept.assert_covers(3 * 6, &calls);
    assert!(!swept.names.contains("ReleaseEipAddress"));
    killed_in_del(|| Stage::terminating(Case::Named), collected).assert_covers(3 * 6, &calls);
}

#[test]
fn with_a_bandwidth_package_in_add() {
    let swept = killed_in_add(Case::Packaged, new_sandbox_elsewhere);
    swept.assert_covers(ADD_POINTS, &ADD_CALLS);
    swept.assert_covers(ADD_POINTS, &["AddCommonBandwidthPackageIp"]);
    killed_in_add(Case::Packaged, pod_deleted_and_collected).assert_covers(ADD_POINTS, &ADD_CALLS);
}

#[test]
fn with_a_bandwidth_package_in_del() {
    let swept = killed_in_del(|| Stage::deleted(Case::Packaged), del_again);
    swept.assert_covers(DEL_POINTS, &DEL_CALLS);
    swept.assert_covers(DEL_POINTS, &["RemoveCommonBandwidthPackageIp"]);
}

#[test]
fn with_an_endpoint_that_ignores_tags() {
    let swept = killed_in_add(Case::Untagged, add_again);
    swept.assert_covers(ADD_POINTS, &ADD_CALLS);
    swept.assert_covers(ADD_POINTS, &["TagResources"]);
    killed_in_add(Case::Untagged, pod_deleted_and_collected).assert_covers(ADD_POINTS, &ADD_CALLS);
}

#[test]
fn with_a_lasting_eip_in_add() {
    killed_in_add(Case::Lasting, new_sandbox_elsewhere).assert_covers(ADD_POINTS, &ADD_CALLS);
    killed_in_add(Case::Lasting, pod_deleted_and_collected).assert_covers(ADD_POINTS, &ADD_CALLS);
}

#[test]
fn with_a_lasting_eip_in_del() {
    let calls = ["UnassociateEipAddress", "patch podeips/status"];
    let swept = killed_in_del(|| Stage::deleted(Case::Lasting), del_again);
    swept.assert_covers(3 * 5, &calls);
    assert!(!swept.names.contains("ReleaseEipAddress"));
    let next_pod = |stage: &Stage| {
        let next = stage.successor();
        stage.add(&next);
        let kept = stage.assert_bound(&next);
        assert_eq!(stage.scene.ever_ours().len(), 1, "the kept EIP {} is taken up", kept.id);
        stage.scene.del(&stage.pod);
        stage.assert_served(&next);
        stage.finish(&next);
    };
    killed_in_del(|| Stage::deleted(Case::Lasting), next_pod).assert_covers(3 * 5, &calls);
}

#[test]
fn where_a_repeated_association_is_called_a_duplicate() {
    killed_in_add(Case::Duplicated, add_again).assert_covers(ADD_POINTS, &ADD_CALLS);
}

/// The calls that change something are enough here: each point costs seconds of lag.
#[test]
fn where_changes_are_seen_late() {
    let changes = ["AllocateEipAddress", "AssociateEipAddress", "patch podeips/status"];
    let prepare = || Stage::new(Case::Lagging);
    for recover in [new_sandbox_elsewhere, add_again, pod_deleted_and_collected] {
        let sweep = Sweep::kill("ADD", &prepare, &recover).only(&changes);
        sweep.run().assert_covers(9, &changes);
    }
    let changes = ["UnassociateEipAddress", "ReleaseEipAddress"];
    let prepare = || Stage::deleted(Case::Lagging);
    for recover in [del_again, collected] {
        let sweep = Sweep::kill("DEL", &prepare, &recover).only(&changes);
        sweep.run().assert_covers(6, &changes);
    }
}

/// Kills `verb` at its first call of this name, which stays at the gate.
fn kill_at(stage: &Stage, verb: &str, call: &str, moment: Moment) -> Gate {
    let gate = stage.scene.world.faults.gate_on(ServiceMatch::Any, call, 1, moment);
    let mut child = stage.scene.spawn(verb, &stage.pod);
    assert!(gate.wait_reached(Duration::from_secs(20)), "{verb} never called {call}");
    child.kill().unwrap();
    child.wait().unwrap();
    gate
}

/// The sandbox of which ADD was killed just before publishing, given up for a new one without a DEL.
fn given_up() -> Stage {
    let mut stage = Stage::new(Case::Plain);
    kill_at(&stage, "ADD", "patch pods/status", Moment::BeforeEffect).release(Outcome::Cut);
    stage.pod = stage.pod.restarted().at(OTHER_ADDRESS);
    stage
}

#[test]
fn add_twice() {
    let recover = |stage: &Stage| {
        let third = stage.pod.restarted().at([10, 219, 0, 7]);
        stage.add(&third);
        stage.assert_served(&third);
        for other in [ADDRESS, OTHER_ADDRESS] {
            assert!(stage.scene.on(other.into()).is_empty(), "{}", stage.scene.log());
        }
        stage.scene.del(&stage.pod);
        stage.finish(&third);
    };
    let swept = Sweep::kill("ADD", &given_up, &recover).run();
    swept.assert_covers(3 * 10, &["UnassociateEipAddress", "AssociateEipAddress", "patch pods/status"]);
}

/// The pod of which DEL never came left its EIP on the address: the next pod's ADD takes it off, and
/// is killed itself.
#[test]
fn add_that_clears_the_address() {
    let prepare = || {
        let mut stage = Stage::deleted(Case::Plain);
        stage.pod = stage.scene.pod("heir", ADDRESS, &[WITH_EIP]).alive();
        stage
    };
    let recover = |stage: &Stage| {
        stage.add(&stage.pod);
        // What is unbound is out of this pod's way; the rest of it is for the next round.
        stage.scene.gc();
        let eip = stage.assert_bound(&stage.pod);
        let left: Vec<String> = stage.scene.ours().into_iter().map(|eip| eip.id).collect();
        assert_eq!((left, stage.scene.ever_ours().len()), (vec![eip.id], 2), "{}", stage.scene.log());
        stage.finish(&stage.pod);
    };
    let swept = Sweep::kill("ADD", &prepare, &recover).run();
    swept.assert_covers(ADD_POINTS + DEL_POINTS, &ADD_CALLS);
    swept.assert_covers(ADD_POINTS + DEL_POINTS, &DEL_CALLS);
}

/// A request that was on its way when podeip was killed takes effect while the next verb already works.
fn late(call: &str) {
    let stage = Stage::new(Case::Plain);
    let world = &stage.scene.world;
    let gate = kill_at(&stage, "ADD", call, Moment::BeforeEffect);
    let killed = world.calls.mark();
    thread::scope(|scope| {
        stage.scene.delete_pod(&stage.pod);
        let del = scope.spawn(|| stage.scene.del(&stage.pod));
        let looked = world.calls.wait_until(Duration::from_secs(10), |calls| {
            calls.iter().any(|call| call.seq > killed && call.name == "DescribeEipAddresses" && call.delivered)
        });
        gate.release(Outcome::Continue);
        assert!(looked);
        del.join().unwrap();
    });
    let through = |calls: &[podeip_sim::calls::Call]| {
        calls.iter().any(|it| it.name == call && it.seq <= killed && it.reached_service && it.ended.is_some())
    };
    assert!(world.calls.wait_until(Duration::from_secs(10), through));
    stage.assert_ended();
    assert_eq!(stage.scene.ever_ours().len(), 1);
}

#[test]
fn an_association_that_arrives_late_is_undone() {
    late("AssociateEipAddress");
}

#[test]
fn an_allocation_that_arrives_late_is_no_second_one() {
    late("AllocateEipAddress");
}

/// ADD dies with an association on its way that nobody sees yet, and so does whoever comes to undo it.
#[test]
fn an_association_that_is_seen_late_survives_no_second_kill() {
    for second in ["DEL", "ADD"] {
        let mut stage = Stage::new(Case::Lagging);
        kill_at(&stage, "ADD", "AssociateEipAddress", Moment::AfterEffect).release(Outcome::Continue);
        if second == "ADD" {
            stage.pod = stage.pod.restarted().at(OTHER_ADDRESS);
        }
        kill_at(&stage, second, "DescribeEipAddresses", Moment::BeforeEffect).release(Outcome::Cut);
        new_sandbox(&stage, [10, 219, 0, 7]);
    }
}
