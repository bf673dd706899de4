//! Verbs that fail and are repeated, run at once or come out of order: one EIP for one pod instance.

use std::collections::BTreeSet;
use std::fs;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use podeip_sim::cloud::Status;
use podeip_sim::faults::{Effect, Rule, ServiceMatch, When};
use podeip_sim::gates::{Moment, Outcome};

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};
use crate::stage::{ADDRESS, Case, OTHER_ADDRESS, Stage};

const SOON: Duration = Duration::from_secs(20);

fn refused(code: &str) -> Effect {
    Effect::error(400, code, "simulated refusal")
}

fn cut(when: When) -> Effect {
    Effect::Cut { when }
}

fn hang(when: When) -> Effect {
    Effect::Hang { when }
}

fn broken(when: When) -> Effect {
    Effect::Error { status: 500, code: "InternalError".into(), message: "simulated".into(), when }
}

/// ADDs that really fail need not take a minute.
fn impatient() -> Stage {
    let stage = Stage::new(Case::Plain);
    stage.scene.configure(|settings| settings["eip_add_timeout_seconds"] = 2.into());
    stage
}

/// As [`impatient`], where the call in question comes late and others of the test take the CPU meanwhile.
fn less_impatient() -> Stage {
    let stage = Stage::new(Case::Plain);
    stage.scene.configure(|settings| settings["eip_add_timeout_seconds"] = 8.into());
    stage
}

fn patient(stage: &Stage) {
    stage.scene.configure(|_| {});
}

/// ADD while every such call meets `effect`, and then the DEL that a runtime sends after a failure.
fn disturbed(stage: &Stage, sandbox: &Sandbox, call: &str, effect: &Effect) -> Answer {
    let faults = &stage.scene.world.faults;
    let rule = faults.add(Rule::on(call, effect.clone()));
    let began = Instant::now();
    let mut answer = stage.scene.add(sandbox);
    // On a machine with too little of everything the verb's time can end before the call.
    while faults.hits(rule) == 0 && answer.code != Some(0) && began.elapsed() < SOON {
        stage.scene.del(sandbox);
        answer = stage.scene.add(sandbox);
    }
    assert!(faults.hits(rule) > 0, "{call} was not called: {}", stage.scene.log());
    faults.remove(rule);
    stage.scene.del(sandbox);
    assert!(stage.scene.on(sandbox.ip).is_empty(), "{effect:?}\n{}", stage.scene.log());
    answer
}

/// The next sandbox of the same pod, on the next address.
fn next(sandbox: &Sandbox) -> Sandbox {
    let [a, b, c, d] = sandbox.ip.octets();
    sandbox.restarted().at([a, b, c, d + 1])
}

fn wait(child: Child) -> Answer {
    child.wait_with_output().unwrap().into()
}

#[test]
fn association_fails_again_and_again() {
    let stage = impatient();
    let mut pod = stage.pod.clone();
    let mut failures = 0;
    for effect in [
        refused("Throttling.User"),
        refused("TaskConflict"),
        cut(When::BeforeEffect),
        cut(When::AfterEffect),
        broken(When::BeforeEffect),
        broken(When::AfterEffect),
        refused("IncorrectEipStatus"),
        hang(When::AfterEffect),
    ] {
        let answer = disturbed(&stage, &pod, "AssociateEipAddress", &effect);
        // A lost answer can be made good by a look at the cloud.
        if answer.code != Some(0) {
            failures += 1;
            answer.assert_error(11, &["eip-"]);
        }
        assert_eq!(stage.scene.ever_ours().len(), 1, "{effect:?}\n{}", stage.scene.log());
        assert_eq!(stage.scene.records().len(), 1);
        pod = next(&pod);
    }
    assert!(failures >= 5, "only {failures} ADDs failed:\n{}", stage.scene.log());
    patient(&stage);
    stage.add(&pod);
    stage.assert_served(&pod);
    stage.finish(&pod);
}

#[test]
fn association_fails_in_the_background() {
    let stage = impatient();
    stage.scene.world.cloud.set(|settings| settings.failing_associations = 1000);
    let mut pod = stage.pod.clone();
    for _ in 0..2 {
        stage.scene.add(&pod).assert_error(11, &["eip-", "10.219.0."]);
        stage.scene.del(&pod);
        pod = next(&pod);
    }
    stage.scene.world.cloud.set(|settings| settings.failing_associations = 1);
    patient(&stage);
    stage.add(&pod);
    stage.assert_served(&pod);
    stage.finish(&pod);
}

#[test]
fn allocation_fails_again_and_again() {
    let stage = impatient();
    let mut pod = stage.pod.clone();
    stage.scene.world.cloud.set(|settings| settings.quota = 0);
    stage.scene.add(&pod).assert_error(103, &["QuotaExceeded.Eip", "RequestId"]);
    stage.scene.del(&pod);
    // The user's own EIP counts, too.
    stage.scene.world.cloud.set(|settings| settings.quota = 2);
    let refused_tokens = tokens(&stage);
    assert_eq!(refused_tokens.len(), 1, "{refused_tokens:?}");
    for effect in [
        refused("Throttling.User"),
        cut(When::BeforeEffect),
        broken(When::BeforeEffect),
        cut(When::AfterEffect),
        broken(When::AfterEffect),
        hang(When::AfterEffect),
        Effect::Garbage,
        refused("LastTokenProcessing"),
    ] {
        pod = next(&pod);
        let answer = disturbed(&stage, &pod, "AllocateEipAddress", &effect);
        answer.assert_error(11, &["AllocateEipAddress"]);
        assert!(stage.scene.ever_ours().len() <= 1, "{effect:?}\n{}", stage.scene.log());
    }
    let unanswered: BTreeSet<String> = tokens(&stage).difference(&refused_tokens).cloned().collect();
    assert_eq!(unanswered.len(), 1, "an unanswered allocation is repeated with its token");
    pod = next(&pod);
    patient(&stage);
    stage.add(&pod);
    stage.assert_served(&pod);
    assert_eq!(tokens(&stage).len(), 2);
    assert_eq!(stage.scene.ever_ours()[0].client_token.as_ref(), unanswered.first());
    stage.finish(&pod);
}

/// The ClientTokens of all allocations that were asked for.
fn tokens(stage: &Stage) -> BTreeSet<String> {
    let calls = stage.scene.world.calls.named("AllocateEipAddress");
    calls.iter().map(|call| call.parameter("ClientToken").unwrap().to_string()).collect()
}

#[test]
fn a_refused_allocation_is_a_new_one_next_time() {
    let stage = Stage::new(Case::Plain);
    stage.scene.world.cloud.set(|settings| {
        settings.quota = 0;
        settings.token_remembers_failure = true;
    });
    stage.scene.add(&stage.pod).assert_error(103, &["QuotaExceeded.Eip"]);
    stage.scene.world.cloud.set(|settings| settings.quota = 2);
    stage.add(&stage.pod);
    stage.assert_served(&stage.pod);
    assert_eq!(tokens(&stage).len(), 2);
    stage.finish(&stage.pod);
}

/// The pod goes while nobody knows whether its EIP was allocated.
#[test]
fn an_unanswered_allocation_of_a_deleted_pod_is_released() {
    for effect in [cut(When::BeforeEffect), cut(When::AfterEffect), broken(When::AfterEffect)] {
        let stage = impatient();
        disturbed(&stage, &stage.pod, "AllocateEipAddress", &effect).assert_error(11, &["AllocateEipAddress"]);
        stage.finish(&stage.pod);
    }
}

fn publishing_fails(call: &str) {
    let forbidden = Effect::error(403, "Forbidden", "simulated refusal");
    let effects = [
        (forbidden, 107),
        (broken(When::BeforeEffect), 11),
        (broken(When::AfterEffect), 11),
        (cut(When::BeforeEffect), 11),
        (cut(When::AfterEffect), 11),
        (hang(When::BeforeEffect), 11),
        (hang(When::AfterEffect), 11),
    ];
    thread::scope(|scope| {
        for (effect, code) in effects {
            scope.spawn(move || {
                let stage = less_impatient();
                let answer = disturbed(&stage, &stage.pod, call, &effect);
                let (resource, _) = call.split_once('/').unwrap_or((call, ""));
                answer.assert_error(code, &[resource]);
                let pod = next(&stage.pod);
                patient(&stage);
                stage.add(&pod);
                stage.assert_served(&pod);
                stage.finish(&pod);
            });
        }
    });
}

#[test]
fn the_podeip_cannot_be_created() {
    publishing_fails("create podeips");
}

#[test]
fn the_podeips_status_cannot_be_written() {
    publishing_fails("patch podeips/status");
}

#[test]
fn the_pods_annotations_cannot_be_written() {
    publishing_fails("patch pods/status");
}

/// The EIP is off the address when a failed ADD returns, not only after the DEL that follows.
#[test]
fn a_failed_add_has_unbound_and_holds_its_eip() {
    let stage = Stage::new(Case::Plain);
    stage.scene.world.faults.add(Rule::on("patch pods/status", Effect::error(403, "Forbidden", "simulated")).once());
    stage.scene.add(&stage.pod).assert_error(107, &["pods"]);
    assert_eq!(stage.scene.ours()[0].status, Status::Available, "{}", stage.scene.log());
    let record = &stage.scene.records()[0];
    assert_eq!((&record["phase"], &record["binding"]), (&"Held".into(), &serde_json::Value::Null));
    assert_eq!(stage.scene.events(&stage.pod, "EIPFailed").len(), 1);
    stage.add(&stage.pod);
    stage.assert_served(&stage.pod);
    stage.finish(&stage.pod);
}

#[test]
fn two_adds_of_one_sandbox_at_once() {
    let stage = Stage::new(Case::Plain);
    let adds = [(); 2].map(|()| stage.scene.spawn("ADD", &stage.pod));
    for add in adds {
        wait(add).assert_added(&stage.pod);
    }
    stage.assert_served(&stage.pod);
    stage.finish(&stage.pod);
}

/// Waits until `child` has the lock file of a pod open: it stands before the lock, or behind it.
fn wait_for_lock(child: &Child) {
    let at_lock = || {
        let files = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().flatten();
        files.flat_map(|file| fs::read_link(file.path())).any(|target| target.to_string_lossy().contains("/pods/"))
    };
    let end = Instant::now() + SOON;
    while !at_lock() {
        assert!(Instant::now() < end, "the verb never came to its pod's lock");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn add_is_killed_while_the_next_sandbox_waits_for_it() {
    for call in ["AllocateEipAddress", "AssociateEipAddress", "patch pods/status"] {
        let stage = Stage::new(Case::Plain);
        let gate = stage.scene.world.faults.gate_on(ServiceMatch::Any, call, 1, Moment::AfterEffect);
        let mut first = stage.scene.spawn("ADD", &stage.pod);
        assert!(gate.wait_reached(SOON), "{call}");
        let other = stage.pod.restarted().at(OTHER_ADDRESS);
        let second = stage.scene.spawn("ADD", &other);
        wait_for_lock(&second);
        first.kill().unwrap();
        first.wait().unwrap();
        gate.release(Outcome::Continue);
        wait(second).assert_added(&other);
        stage.assert_served(&other);
        assert!(stage.scene.on(stage.pod.ip).is_empty(), "{call}");
        stage.scene.del(&stage.pod);
        stage.assert_served(&other);
        stage.finish(&other);
    }
}

/// A sandbox restart in which DEL comes last: it is none of the new sandbox's business.
#[test]
fn del_of_the_old_sandbox_comes_after_add_of_the_new_one() {
    for address in [ADDRESS, OTHER_ADDRESS] {
        let stage = Stage::added(Case::Plain);
        let new = stage.pod.restarted().at(address);
        stage.add(&new);
        stage.assert_served(&new);
        let before = stage.scene.world.calls.mark();
        stage.scene.del(&stage.pod);
        stage.scene.del(&stage.pod.without_netns());
        let calls = stage.scene.world.calls.since(before);
        assert!(calls.is_empty(), "a DEL that knows nothing asks nobody: {calls:?}");
        stage.assert_served(&new);
        stage.finish(&new);
    }
}

/// `kubectl delete pod --force` on a StatefulSet's pod: the next one of that name starts elsewhere on
/// the node while the old sandbox still runs. It takes the EIP along, and the late DEL leaves it there.
#[test]
fn a_forced_successor_takes_the_eip_along() {
    for case in [Case::Plain, Case::Lasting] {
        for late_twice in [false, true] {
            let stage = Stage::added(case);
            stage.scene.delete_pod(&stage.pod);
            let new = stage.successor().at(OTHER_ADDRESS);
            stage.add(&new);
            stage.assert_bound(&new);
            assert_eq!(stage.scene.ever_ours().len(), 1, "nothing is bought");
            assert!(stage.scene.on(stage.pod.ip).is_empty());
            assert_eq!(stage.scene.events(&new, "EIPTakenOver").len(), 1);
            stage.scene.del(&stage.pod);
            if late_twice {
                stage.scene.del(&stage.pod.without_netns());
            }
            stage.assert_served(&new);
            stage.finish(&new);
        }
    }
}

#[test]
fn a_forced_successor_and_the_old_del_at_once() {
    let stage = Stage::added(Case::Plain);
    stage.scene.delete_pod(&stage.pod);
    let new = stage.successor().at(OTHER_ADDRESS);
    let (add, del) = (stage.scene.spawn("ADD", &new), stage.scene.spawn("DEL", &stage.pod));
    assert_eq!(wait(del).code, Some(0));
    wait(add).assert_added(&new);
    let eip = stage.assert_bound(&new);
    let left: Vec<String> = stage.scene.ours().into_iter().map(|eip| eip.id).collect();
    assert_eq!(left, [eip.id], "{}", stage.scene.log());
    stage.finish(&new);
}

#[test]
fn where_changes_are_seen_late() {
    let stage = Stage::added(Case::Lagging);
    stage.assert_served(&stage.pod);
    let restarted = stage.pod.restarted().at(OTHER_ADDRESS);
    stage.scene.del(&stage.pod);
    stage.add(&restarted);
    stage.assert_served(&restarted);
    stage.finish(&restarted);
}

#[test]
fn a_lost_association_where_changes_are_seen_late() {
    let lost = |when: When| {
        let stage = Stage::new(Case::Lagging);
        stage.scene.configure(|settings| settings["eip_add_timeout_seconds"] = 3.into());
        let mut pod = stage.pod.clone();
        for _ in 0..2 {
            disturbed(&stage, &pod, "AssociateEipAddress", &cut(when));
            assert_eq!(stage.scene.ever_ours().len(), 1, "{}", stage.scene.log());
            pod = next(&pod);
        }
        patient(&stage);
        stage.add(&pod);
        stage.assert_served(&pod);
        stage.finish(&pod);
    };
    thread::scope(|scope| {
        scope.spawn(|| lost(When::BeforeEffect));
        scope.spawn(|| lost(When::AfterEffect));
    });
}

#[test]
fn a_refused_allocation_is_not_repeated_with_its_token() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| {
        settings.token_remembers_failure = true;
        settings.quota = 0;
    });
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_error(103, &["QuotaExceeded"]);
    scene.del(&pod);
    scene.world.cloud.set(|settings| settings.quota = 10);
    let pod = pod.restarted();
    scene.add(&pod).assert_added(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}
