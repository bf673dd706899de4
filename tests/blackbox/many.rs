//! Many pods at once on one node: nobody waits for another pod's remote call, and whoever is killed leaves nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use podeip_sim::calls::{Call, Ending};
use podeip_sim::faults::{Effect, Rule, ServiceMatch, When};
use podeip_sim::gates::{Gate, Moment, Outcome};
use serde_json::json;

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};

/// Two cores start fifty processes in a few seconds; the rest is a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// The state lock is held for one read and one write. Waiting longer than this while its holder
/// can be in a call that lasts until we let it go on means that it is held across the call.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

fn pods(scene: &Scene, count: u8) -> Vec<Sandbox> {
    (0..count).map(|nth| scene.pod(&format!("web-{nth}"), [10, 219, 0, 10 + nth], &[WITH_EIP])).collect()
}

fn spawn_all(scene: &Scene, verb: &str, pods: &[Sandbox]) -> Vec<Child> {
    pods.iter().map(|pod| scene.spawn(verb, pod)).collect()
}

fn answers(children: Vec<Child>) -> Vec<Answer> {
    children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect()
}

fn at_once(scene: &Scene, verb: &str, pods: &[Sandbox]) -> Vec<Answer> {
    answers(spawn_all(scene, verb, pods))
}

fn add_all(scene: &Scene, pods: &[Sandbox]) {
    for (answer, pod) in at_once(scene, "ADD", pods).iter().zip(pods) {
        answer.assert_added(pod);
    }
}

fn del_all(scene: &Scene, pods: &[Sandbox]) {
    for answer in at_once(scene, "DEL", pods) {
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), ""), "{answer:?}");
    }
}

/// Each pod has one EIP of its own, and no other was ever bought.
fn assert_one_each(scene: &Scene, pods: &[Sandbox]) {
    let ids: BTreeSet<String> = pods.iter().map(|pod| scene.assert_served(pod).id).collect();
    assert_eq!(ids.len(), pods.len());
    assert_eq!(scene.ever_ours().len(), pods.len(), "{}", scene.log());
    assert_eq!(scene.world.cluster.list("podeips").len(), pods.len());
    assert_eq!(scene.records().len(), pods.len());
}

/// Takes the state lock as another process would, and lets it go. False when it is not to be had.
fn lock_is_free(scene: &Scene) -> bool {
    let path = scene.state_dir().join("state.lock");
    let Ok(file) = File::open(path) else { return true };
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(file.lock().is_ok()));
    told.recv_timeout(LOCK_PATIENCE) == Ok(true)
}

#[test]
fn fifty_pods_at_once_get_one_eip_each_and_lose_it() {
    let scene = Scene::new();
    let pods = pods(&scene, 50);
    add_all(&scene, &pods);
    assert_one_each(&scene, &pods);

    pods.iter().for_each(|pod| scene.delete_pod(pod));
    del_all(&scene, &pods);
    scene.assert_nothing_left();
    del_all(&scene, &pods.iter().map(Sandbox::without_netns).collect::<Vec<_>>());
    assert_eq!(scene.ever_ours().len(), 50);
}

/// Stops at every remote call of one verb and takes the state lock meanwhile. Returns the calls' names.
fn lock_at_every_call(scene: &Scene, verb: &str, pod: &Sandbox) -> Vec<String> {
    const MORE_THAN_ANY_VERB: u32 = 40;
    let gates: Vec<Gate> = (1..=MORE_THAN_ANY_VERB).map(|k| scene.world.faults.gate(k, Moment::BeforeEffect)).collect();
    let mark = scene.world.calls.mark();
    let child = scene.spawn(verb, pod);
    let over = AtomicBool::new(false);
    let answer: Answer = thread::scope(|scope| {
        scope.spawn(|| {
            for gate in &gates {
                while !gate.wait_reached(Duration::from_millis(20)) {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                }
                let free = lock_is_free(scene);
                gate.release(Outcome::Continue);
                assert!(free, "the state lock is held during call {:?}", gate.reached_by());
            }
        });
        let output = child.wait_with_output().unwrap();
        over.store(true, Ordering::SeqCst);
        output.into()
    });
    assert_eq!(answer.code, Some(0), "{answer:?}\n{}", scene.log());
    let calls = scene.world.calls.since(mark);
    assert!(calls.len() < MORE_THAN_ANY_VERB as usize, "{verb} makes {} calls", calls.len());
    calls.into_iter().map(|call| call.name).collect()
}

#[test]
fn the_state_lock_is_free_during_every_remote_call() {
    let scene = Scene::new();
    scene.use_ram_role();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let asked = lock_at_every_call(&scene, "ADD", &pod);
    for call in
        ["AllocateEipAddress", "AssociateEipAddress", "create podeips", "patch podeips/status", "patch pods/status"]
    {
        assert!(asked.iter().any(|name| name == call), "{call} was not stopped at: {asked:?}");
    }
    scene.assert_served(&pod);
    scene.delete_pod(&pod);
    let asked = lock_at_every_call(&scene, "DEL", &pod);
    for call in ["UnassociateEipAddress", "ReleaseEipAddress", "get pods", "delete podeips"] {
        assert!(asked.iter().any(|name| name == call), "{call} was not stopped at: {asked:?}");
    }
    scene.assert_nothing_left();
}

#[test]
fn fifty_adds_that_hang_in_the_cloud_hinder_nobody() {
    let scene = Scene::new();
    let mut pods = pods(&scene, 51);
    let gate = |k| scene.world.faults.gate_on(ServiceMatch::Vpc, "AllocateEipAddress", k, Moment::BeforeEffect);
    let gates: Vec<Gate> = (1..=50).map(gate).collect();
    let hanging = spawn_all(&scene, "ADD", &pods[..50]);
    for gate in &gates {
        assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    }
    // All fifty wait for the cloud and do nothing else, so the lock is free at the first try, always.
    for _ in 0..100 {
        let lock = File::open(scene.state_dir().join("state.lock")).unwrap();
        lock.try_lock().expect("nobody holds the state lock");
    }
    // And another pod comes and goes.
    let free = pods.pop().unwrap();
    scene.add(&free).assert_added(&free);
    scene.assert_served(&free);
    scene.delete_pod(&free);
    scene.del(&free);

    for gate in &gates {
        gate.release(Outcome::Continue);
    }
    for (answer, pod) in answers(hanging).iter().zip(&pods) {
        answer.assert_added(pod);
        scene.assert_served(pod);
    }
    assert_eq!(scene.ever_ours().len(), 51);
}

#[test]
fn fifty_slow_adds_take_little_longer_than_a_few() {
    let scene = Scene::new();
    scene.world.faults.slow("*", Duration::from_millis(250));
    let pods = pods(&scene, 52);
    let (alone, together) = pods.split_at(2);
    let started = Instant::now();
    for pod in alone {
        scene.add(pod).assert_added(pod);
    }
    let fifty_in_a_row = started.elapsed() * 25;
    let started = Instant::now();
    add_all(&scene, together);
    let at_once = started.elapsed();
    assert!(at_once * 3 < fifty_in_a_row, "{at_once:?} at once, {fifty_in_a_row:?} in a row");
}

/// The account's limits, tightened as the number of pods is: each call is refused many times.
fn throttle(scene: &Scene) {
    scene.world.cloud.set(|settings| {
        settings.throttling = true;
        settings.rates = [
            ("AllocateEipAddress", 5),
            ("AssociateEipAddress", 5),
            ("UnassociateEipAddress", 6),
            ("DescribeEipAddresses", 30),
            ("ReleaseEipAddress", 30),
        ]
        .map(|(action, rate)| (action.to_string(), rate))
        .into();
    });
}

#[test]
fn throttled_pods_all_get_their_eip_in_the_end_and_none_leaks() {
    let scene = Scene::new();
    scene.configure(|settings| {
        settings["eip_add_timeout_seconds"] = json!(5);
        settings["eip_del_timeout_seconds"] = json!(4);
    });
    throttle(&scene);
    let mut waiting = pods(&scene, 12);
    let mut served = Vec::new();
    let mut refused = 0;
    let started = Instant::now();
    while !waiting.is_empty() {
        assert!(started.elapsed() < PATIENCE, "{} pods still wait\n{}", waiting.len(), scene.log());
        let answers = at_once(&scene, "ADD", &waiting);
        let (done, again): (Vec<_>, Vec<_>) = waiting.into_iter().zip(answers).partition(|(_, it)| it.code == Some(0));
        served.extend(done.into_iter().map(|(pod, _)| pod));
        refused += again.len();
        for (_, answer) in &again {
            answer.assert_error(11, &[]);
        }
        // As containerd does: DEL at once, and later an ADD in a new sandbox. The next minute's limits are fresh.
        waiting = again.iter().map(|(pod, _)| pod.restarted()).collect();
        del_all(&scene, &again.into_iter().map(|(pod, _)| pod).collect::<Vec<_>>());
        scene.world.clock.advance(Duration::from_secs(60));
    }
    assert!(refused > 0, "the limits were never felt");
    assert_one_each(&scene, &served);

    served.iter().for_each(|pod| scene.delete_pod(pod));
    del_all(&scene, &served);
    while !scene.records().is_empty() {
        assert!(started.elapsed() < PATIENCE, "{}", scene.log());
        scene.world.clock.advance(Duration::from_secs(60));
        scene.podeip(&["gc"]);
    }
    scene.assert_nothing_left();
    assert_eq!(scene.ever_ours().len(), 12);
}

/// Thirty ADDs and DELs of ten pods, three at a time, each killed at a moment of its own. Returns
/// the scene and each pod's latest sandbox.
fn kill_storm(seed: u64) -> (Scene, Vec<Sandbox>) {
    let scene = Scene::new();
    scene.world.faults.slow("*", Duration::from_millis(15));
    // An effect and its answer are too close for a random moment between them, so some answers never come.
    let lost = Effect::Hang { when: When::AfterEffect };
    for call in ["AllocateEipAddress", "AssociateEipAddress", "UnassociateEipAddress", "create podeips"] {
        scene.world.faults.add(Rule::on(call, lost.clone()).skip(1).times(2));
    }
    let mut pods = pods(&scene, 10);
    let mut dice = fastrand::Rng::with_seed(seed);
    // A busy machine kills whatever has not begun; then the moments are later in each further ten.
    let mut rounds = 0;
    while rounds < 10 || (scene.ever_ours().is_empty() && rounds < 50) {
        let lateness = 1 << (rounds / 10);
        rounds += 1;
        let mut doomed: Vec<(Duration, Child)> = dice
            .choose_multiple(0..pods.len(), 3)
            .into_iter()
            .map(|nth| {
                let verb = if dice.u8(0..3) < 2 { "ADD" } else { "DEL" };
                if verb == "ADD" && dice.bool() {
                    pods[nth] = pods[nth].restarted();
                }
                (Duration::from_millis(dice.u64(20..600) * lateness), scene.spawn(verb, &pods[nth]))
            })
            .collect();
        doomed.sort_by_key(|(at, _)| *at);
        let started = Instant::now();
        for (at, mut child) in doomed {
            thread::sleep(at.saturating_sub(started.elapsed()));
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    // What a killed process sent is still carried out.
    let quiet = |calls: &[Call]| calls.iter().all(|call| call.ending != Ending::Pending);
    assert!(scene.world.calls.wait_until(PATIENCE, quiet));
    scene.world.faults.clear();
    assert!(!scene.ever_ours().is_empty(), "the storm (seed {seed}) reached the cloud");
    (scene, pods)
}

const SEEDS: [u64; 2] = [2026, 7];

#[test]
fn after_a_kill_storm_gc_leaves_nothing_of_dead_pods() {
    for seed in SEEDS {
        println!("seed {seed}");
        let (scene, pods) = kill_storm(seed);
        pods.iter().for_each(|pod| scene.delete_pod(pod));
        scene.gc();
        scene.assert_nothing_left();
    }
}

#[test]
fn after_a_kill_storm_living_pods_get_the_eip_that_was_bought_for_them() {
    for seed in SEEDS {
        println!("seed {seed}");
        let (scene, pods) = kill_storm(seed);
        scene.gc();
        let pods: Vec<Sandbox> = pods.iter().map(Sandbox::restarted).collect();
        add_all(&scene, &pods);
        assert_one_each(&scene, &pods);
    }
}
