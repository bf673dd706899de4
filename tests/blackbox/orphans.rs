//! Verbs that outlive their sandbox, and verbs that wait for one another.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use podeip_sim::calls::Call;
use podeip_sim::cloud::defaults;
use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Moment, Outcome};

use crate::scene::{Answer, PATIENCE, Sandbox, Scene, WITH_EIP, await_true};

/// A process whose network namespace stands for the sandbox's.
struct Netns(Child);

impl Netns {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.end();
    }
}

fn waits_for_a_lock(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    threads
        .filter_map(Result::ok)
        .any(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() == "flock"))
}

#[test]
fn an_orphaned_add_does_not_take_the_eip_from_the_next_sandbox() {
    let scene = Scene::new();
    let mut netns = Netns::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let orphan = Sandbox { netns: netns.path(), ..pod.restarted() };
    let next = pod.restarted().at([10, 219, 0, 6]);

    let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, "AllocateEipAddress", 1, Moment::BeforeEffect);
    let adding = scene.spawn("ADD", &next);
    assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    let orphaned = scene.spawn("ADD", &orphan);
    await_true("the orphan waits for the pod", || waits_for_a_lock(orphaned.id()));
    netns.end();
    gate.release(Outcome::Continue);

    let answer = |child: Child| -> Answer { child.wait_with_output().unwrap().into() };
    answer(adding).assert_added(&next);
    answer(orphaned).assert_error(11, &["went away", &orphan.container_id]);
    scene.assert_served(&next);
    assert!(scene.on(orphan.ip).is_empty());
}

#[test]
fn a_sandbox_that_ended_while_its_eip_was_bought_is_not_bound() {
    let scene = Scene::new();
    let mut netns = Netns::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let pod = Sandbox { netns: netns.path(), ..pod };
    let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, "AllocateEipAddress", 1, Moment::BeforeEffect);
    let adding = scene.spawn("ADD", &pod);
    assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    netns.end();
    gate.release(Outcome::Continue);
    Answer::from(adding.wait_with_output().unwrap()).assert_error(11, &["went away"]);
    assert!(scene.world.calls.named("AssociateEipAddress").is_empty(), "its address may be another pod's by now");
}

#[test]
fn an_address_is_cleared_although_its_record_was_handed_over() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let heir = scene.pod("heir", [10, 219, 0, 5], &[]);
    let next = pod.restarted().at([10, 219, 0, 6]);
    let unbinding = scene.world.faults.gate_on(ServiceMatch::Vpc, "UnassociateEipAddress", 1, Moment::BeforeEffect);
    let mut del = scene.spawn("DEL", &pod);
    assert!(unbinding.wait_reached(PATIENCE), "{}", scene.log());
    let mut adding = scene.spawn("ADD", &next);
    await_true("the next sandbox waits", || waits_for_a_lock(adding.id()));
    let locating = scene.world.faults.gate_on(ServiceMatch::Ecs, "DescribeNetworkInterfaces", 1, Moment::BeforeEffect);
    let waiting = scene.spawn("ADD", &heir);
    await_true("the heir waits", || waits_for_a_lock(waiting.id()));
    del.kill().unwrap();
    del.wait().unwrap();
    unbinding.release(Outcome::Cut);
    assert!(locating.wait_reached(Duration::from_secs(5)), "{}", scene.log());
    adding.kill().unwrap();
    adding.wait().unwrap();
    locating.release(Outcome::Cut);
    let answer: Answer = waiting.wait_with_output().unwrap().into();
    answer.assert_added(&heir);
    assert!(scene.on(heir.ip).is_empty(), "{:?}\n{}", scene.on(heir.ip), scene.log());
}

#[test]
fn an_orphan_does_not_bind_on_an_address_that_has_an_heir() {
    let scene = Scene::new();
    let mut netns = Netns::new();
    let package = ("network.alibabacloud.com/eip-common-bandwidth-package-id", defaults::PACKAGE);
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP, package]);
    let pod = Sandbox { netns: netns.path(), ..pod };
    let heir = scene.pod("heir", [10, 219, 0, 5], &[]);
    let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, "AddCommonBandwidthPackageIp", 1, Moment::BeforeEffect);
    let mut adding = scene.spawn("ADD", &pod);
    assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    netns.end();
    scene.add(&heir).assert_added(&heir);
    let mark = Instant::now();
    gate.release(Outcome::Continue);
    while scene.on(heir.ip).is_empty() && mark.elapsed() < Duration::from_secs(4) {
        std::thread::sleep(Duration::from_millis(2));
    }
    adding.kill().unwrap();
    adding.wait().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(scene.on(heir.ip).is_empty(), "{:?}\n{}", scene.on(heir.ip), scene.log());
}

#[test]
fn the_heir_of_an_address_waits_for_the_earlier_pods_verb() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let gate = scene.world.faults.gate_on(ServiceMatch::Kube, "patch pods/status", 1, Moment::BeforeEffect);
    let add = scene.spawn("ADD", &pod);
    assert!(gate.wait_reached(PATIENCE));
    let plain = scene.pod("plain-0", [10, 219, 0, 5], &[]);
    let next = scene.spawn("ADD", &plain);
    await_true("next waits", || waits_for_a_lock(next.id()));
    assert!(scene.world.calls.named("UnassociateEipAddress").is_empty());
    gate.release(Outcome::Continue);
    Answer::from(add.wait_with_output().unwrap()).assert_added(&pod);
    Answer::from(next.wait_with_output().unwrap()).assert_added(&plain);
    assert!(scene.on(pod.ip).is_empty());
}

#[test]
fn a_del_that_waited_leaves_what_was_handed_over() {
    for _ in 0..4 {
        let scene = Scene::new();
        let old = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
        scene.add(&old).assert_added(&old);
        let gate = scene.world.faults.gate_on(ServiceMatch::Kube, "get pods", 1, Moment::BeforeEffect);
        let again = scene.spawn("ADD", &old);
        assert!(gate.wait_reached(PATIENCE));
        let new = old.restarted();
        let add = scene.spawn("ADD", &new);
        await_true("add waits", || waits_for_a_lock(add.id()));
        let del = scene.spawn("DEL", &old);
        await_true("del waits", || waits_for_a_lock(del.id()));
        gate.release(Outcome::Continue);
        for child in [again, add, del] {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}\n{}", scene.log());
        }
        scene.assert_served(&new);
        assert_eq!(scene.records().len(), 1, "{:?}", scene.records());
    }
}

#[test]
fn a_del_waits_for_the_add_of_its_sandbox() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let gate = scene.world.faults.gate_on(ServiceMatch::Kube, "patch pods/status", 1, Moment::BeforeEffect);
    let add = scene.spawn("ADD", &pod);
    assert!(gate.wait_reached(PATIENCE));
    let del = scene.spawn("DEL", &pod);
    await_true("del waits", || waits_for_a_lock(del.id()));
    assert!(scene.world.calls.named("UnassociateEipAddress").is_empty());
    gate.release(Outcome::Continue);
    Answer::from(add.wait_with_output().unwrap()).assert_added(&pod);
    assert!(del.wait_with_output().unwrap().status.success());
    assert!(scene.on(pod.ip).is_empty());
}

#[test]
fn an_orphan_whose_sandbox_ends_while_it_waits_for_the_cloud_does_not_publish() {
    let scene = Scene::new();
    let mut netns = Netns::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let pod = Sandbox { netns: netns.path(), ..pod };
    let associated = |calls: &[Call]| calls.iter().any(|call| call.name == "AssociateEipAddress");
    scene.world.faults.slow("AssociateEipAddress", Duration::from_millis(500));
    let adding = scene.spawn("ADD", &pod);
    assert!(scene.world.calls.wait_until(PATIENCE, associated), "{}", scene.log());
    netns.end();
    Answer::from(adding.wait_with_output().unwrap()).assert_error(11, &["went away"]);
    assert!(scene.on(pod.ip).is_empty(), "{}", scene.log());
}
