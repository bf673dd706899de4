//! Requests whose effect or whose sight comes late: a dead process's last call, a lost answer, listings that lag.

use std::collections::BTreeSet;
use std::process::Child;
use std::time::Duration;

use podeip_sim::cloud::defaults;
use podeip_sim::faults::{Effect, Rule, ServiceMatch, When};
use podeip_sim::gates::{Moment, Outcome};
use serde_json::json;

use crate::scene::{PATIENCE, Sandbox, Scene, WITH_EIP, await_true};

/// Starts `verb`, kills it at the answer to its first `action`, and lets that call have its effect.
fn killed_after(scene: &Scene, verb: &str, sandbox: &Sandbox, action: &str) {
    let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, action, 1, Moment::AfterEffect);
    let mut plugin = scene.spawn(verb, sandbox);
    assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    plugin.kill().unwrap();
    plugin.wait().unwrap();
    gate.release(Outcome::Continue);
}

/// Kills `adding` once the cloud has an association from it that it carries out a second later, and
/// lets the runtime give the sandbox up.
fn killed_while_binding(scene: &Scene, pod: &Sandbox, start_adding: impl FnOnce() -> Child) {
    scene.world.cloud.set(|settings| {
        settings.processing.insert("AssociateEipAddress".into(), 1000);
    });
    let mark = scene.world.calls.mark();
    let mut adding = start_adding();
    let asked = |calls: &[podeip_sim::calls::Call]| {
        calls.iter().any(|call| call.seq > mark && call.name == "AssociateEipAddress" && call.code().is_none())
    };
    assert!(scene.world.calls.wait_until(PATIENCE, asked), "{}", scene.log());
    adding.kill().unwrap();
    adding.wait().unwrap();
    scene.del(pod);
    std::thread::sleep(Duration::from_millis(1300)); // past the call's processing time
    assert!(scene.on(pod.ip).is_empty(), "{:?}\n{}", scene.records(), scene.log());
}

#[test]
fn a_binding_that_listings_do_not_show_yet_is_undone() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| {
        settings.new_eip_lag = Duration::from_millis(1200);
        settings.change_lag = Duration::from_millis(500);
    });
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    killed_after(&scene, "ADD", &pod, "AssociateEipAddress");
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn an_unbinding_under_way_does_not_undo_the_next_binding() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    scene.world.cloud.set(|settings| {
        settings.processing.insert("UnassociateEipAddress".into(), 700);
    });
    let mut unbinding = scene.spawn("DEL", &pod);
    let sent = |calls: &[podeip_sim::calls::Call]| calls.iter().any(|call| call.name == "UnassociateEipAddress");
    assert!(scene.world.calls.wait_until(PATIENCE, sent), "{}", scene.log());
    unbinding.kill().unwrap();
    unbinding.wait().unwrap();
    // The same pod comes back at once, on the same address.
    let pod = pod.restarted();
    scene.add(&pod).assert_added(&pod);
    std::thread::sleep(Duration::from_millis(900)); // past the first call's processing time
    scene.assert_served(&pod);
}

#[test]
fn a_binding_that_a_second_try_asked_for_is_undone() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, "AssociateEipAddress", 1, Moment::BeforeEffect);
    let mut first = scene.spawn("ADD", &pod);
    assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    first.kill().unwrap();
    first.wait().unwrap();
    gate.release(Outcome::Cut);
    std::thread::sleep(Duration::from_millis(2100)); // the first try's binding is not in doubt any more
    let pod = pod.restarted();
    killed_while_binding(&scene, &pod, || scene.spawn("ADD", &pod));
}

#[test]
fn a_binding_that_was_asked_for_again_and_again_is_undone() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let busy = scene.world.faults.add(Rule::on("AssociateEipAddress", Effect::error(400, "TaskConflict", "busy")));
    let adding = scene.spawn("ADD", &pod);
    await_true("the first call is refused", || scene.world.faults.hits(busy) > 0);
    std::thread::sleep(Duration::from_millis(2100)); // the first call is not in doubt any more
    killed_while_binding(&scene, &pod, || {
        scene.world.faults.remove(busy);
        adding
    });
}

#[test]
fn a_binding_without_an_answer_is_undone_although_add_is_out_of_time() {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(4));
    scene.world.cloud.set(|settings| {
        settings.processing.insert("AssociateEipAddress".into(), 3000); // ADD tries for 3 s, its other calls included
    });
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_error(11, &["AssociateEipAddress"]);
    scene.del(&pod);
    std::thread::sleep(Duration::from_millis(1500)); // past the call's processing time
    assert!(scene.on(pod.ip).is_empty(), "{:?}\n{}", scene.records(), scene.log());
}

#[test]
fn an_eip_that_listings_show_late_is_waited_for_and_not_bought_again() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.new_eip_lag = Duration::from_secs(6));
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    assert_eq!(scene.ever_ours().len(), 1, "{}", scene.log());
}

#[test]
fn an_eip_bought_without_an_answer_goes_when_the_pod_names_another() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    killed_after(&scene, "ADD", &pod, "AllocateEipAddress");
    scene.del(&pod);
    let mut named = pod.restarted();
    named
        .annotations
        .as_mut()
        .unwrap()
        .insert("network.alibabacloud.com/pod-eip-instanceid".into(), defaults::USER_EIP.into());
    scene.add(&named).assert_added(&named);
    assert_eq!(scene.assert_served(&named).id, defaults::USER_EIP);
    assert!(scene.ours().is_empty(), "{:?}", scene.ours());
}

#[test]
fn a_robbed_eip_is_waited_for_while_listings_lag() {
    let scene = Scene::new();
    scene.configure(|settings| settings["allow_eip_rob"] = json!(true));
    scene.world.cloud.bind_by_hand(defaults::USER_EIP, defaults::POD_ENI, [10, 219, 0, 99].into()).unwrap();
    scene.world.cloud.set(|settings| settings.change_lag = Duration::from_millis(800));
    let named = ("network.alibabacloud.com/pod-eip-instanceid", defaults::USER_EIP);
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[named]);
    std::thread::sleep(Duration::from_millis(900)); // until the binding by hand is shown
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    assert!(scene.world.calls.named("UnassociateEipAddress").len() <= 2, "{}", scene.log());
}

/// Repeats inside one call leave no trace in the record.
fn killed_after_refusals(code: u16, name: &str, times: u32) {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let refusal = Rule::on("AssociateEipAddress", Effect::error(code, name, "simulated")).times(times);
    let busy = scene.world.faults.add(refusal);
    let adding = scene.spawn("ADD", &pod);
    await_true("refused", || scene.world.faults.hits(busy) >= times);
    killed_while_binding(&scene, &pod, || adding);
}

#[test]
fn a_binding_asked_for_after_trouble_is_undone() {
    killed_after_refusals(503, "ServiceUnavailable", 3);
}

#[test]
fn a_binding_asked_for_after_throttling_is_undone() {
    killed_after_refusals(400, "Throttling.User", 2);
}

/// How many ClientTokens the associations of one ADD carried, of which the first meets `first` and all
/// others meet `rest`.
fn tokens_of(first: Effect, rest: Effect) -> usize {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(8));
    scene.world.faults.add(Rule::on("AssociateEipAddress", first).once());
    scene.world.faults.add(Rule::on("AssociateEipAddress", rest));
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_error(11, &["AssociateEipAddress"]);
    let calls = scene.world.calls.named("AssociateEipAddress");
    assert!(calls.len() > 3, "{}", scene.log());
    calls.iter().map(|call| call.parameter("ClientToken").unwrap()).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_binding_without_an_answer_is_asked_for_again_with_the_same_token() {
    let cut = || Effect::Cut { when: When::BeforeEffect };
    assert_eq!(tokens_of(cut(), cut()), 1);
}

/// Throttling comes before the token is looked at, so the first request may still be at work.
#[test]
fn a_throttled_repeat_of_a_binding_without_an_answer_keeps_its_token() {
    let throttled = Effect::error(400, "Throttling.User", "simulated");
    assert_eq!(tokens_of(Effect::Cut { when: When::BeforeEffect }, throttled), 1);
}

#[test]
fn a_binding_asked_for_after_throttling_is_undone_although_listings_lag() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.change_lag = Duration::from_millis(1500));
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.world.faults.add(Rule::on("AssociateEipAddress", Effect::error(400, "Throttling.User", "x")).times(2));
    let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, "AssociateEipAddress", 3, Moment::AfterEffect);
    let mut plugin = scene.spawn("ADD", &pod);
    assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    plugin.kill().unwrap();
    plugin.wait().unwrap();
    gate.release(Outcome::Continue);
    scene.del(&pod);
    let heir = scene.pod("heir", [10, 219, 0, 5], &[]);
    scene.add(&heir).assert_added(&heir);
    std::thread::sleep(Duration::from_millis(2000));
    assert!(scene.on(pod.ip).is_empty(), "{:?}\n{:?}\n{}", scene.on(pod.ip), scene.records(), scene.log());
}

#[test]
fn an_unbinding_that_comes_late_does_not_undo_the_next_binding() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    scene.world.faults.add(Rule::on("UnassociateEipAddress", Effect::latency(Duration::from_millis(1800))).once());
    let mut unbinding = scene.spawn("DEL", &pod);
    let sent = |calls: &[podeip_sim::calls::Call]| calls.iter().any(|call| call.name == "UnassociateEipAddress");
    assert!(scene.world.calls.wait_until(PATIENCE, sent), "{}", scene.log());
    unbinding.kill().unwrap();
    unbinding.wait().unwrap();
    let pod = pod.restarted();
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    std::thread::sleep(Duration::from_millis(2000));
    scene.assert_served(&pod);
}
