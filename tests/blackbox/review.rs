//! What the first review of the verbs found: each test failed before its mend.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use podeip_sim::calls::ServiceKind;
use podeip_sim::cloud::{Status, defaults};
use podeip_sim::faults::{Effect, Rule, ServiceMatch, When};
use podeip_sim::gates::{Moment, Outcome};
use podeip_sim::kube::{Owner, PodSpec};
use serde_json::{Value, json};

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP, start};

const PATIENCE: Duration = Duration::from_secs(20);
const NEVER: (&str, &str) = ("k8s.aliyun.com/pod-eip-release-strategy", "Never");

/// Starts `verb`, kills it at the answer to its first `action`, and lets that call have its effect.
fn killed_after(scene: &Scene, verb: &str, sandbox: &Sandbox, action: &str) {
    let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, action, 1, Moment::AfterEffect);
    let mut plugin = scene.spawn(verb, sandbox);
    assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    plugin.kill().unwrap();
    plugin.wait().unwrap();
    gate.release(Outcome::Continue);
}

fn timed(call: impl FnOnce() -> Answer) -> (Answer, Duration) {
    let started = Instant::now();
    let answer = call();
    (answer, started.elapsed())
}

#[test]
fn a_sandbox_in_the_plugins_own_netns_is_refused() {
    let scene = Scene::new();
    let mut pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    pod.netns = "/proc/self/ns/net".into();
    let call = |verb: &str, meant: Option<&str>| -> Answer {
        let mut command = scene.command(verb, &pod);
        command.env_remove("CNI_NETNS_OVERRIDE");
        command.envs(meant.map(|value| ("CNI_NETNS_OVERRIDE", value)));
        start(command, &scene.stdin(&pod, Some(pod.result()))).wait_with_output().unwrap().into()
    };
    for verb in ["ADD", "CHECK"] {
        call(verb, None).assert_error(8, &["/proc/self/ns/net", "CNI_NETNS_OVERRIDE"]);
    }
    assert_eq!(scene.world.calls.all().len(), 0, "nothing was touched");
    call("ADD", Some("TRUE")).assert_added(&pod);
    scene.delete_pod(&pod);
    // The path may name a process of the host by now; that must not hold up the primary plugin's DEL.
    assert_eq!(call("DEL", None).code, Some(0));
    scene.assert_nothing_left();
}

#[test]
fn every_failure_reaches_the_pods_events_and_the_log() {
    let scene = Scene::new();
    let told = |pod: &Sandbox, words: &str| {
        let events = scene.events(pod, "EIPFailed");
        assert!(events.len() == 1 && events[0].contains(words), "{events:?}\n{}", scene.log());
        assert!(scene.log().contains("ERROR [") && scene.log().contains(words), "{}", scene.log());
    };
    // Before anything is recorded.
    scene.configure(|settings| drop(settings.as_object_mut().unwrap().remove("cluster_id")));
    let pod = scene.pod("no-cluster", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_error(101, &["cluster_id"]);
    told(&pod, "cluster_id");
    // While cluster and cloud are asked.
    scene.configure(|_| {});
    let pod = scene.pod("no-eni", [172, 16, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_error(105, &["172.16.0.5"]);
    told(&pod, "172.16.0.5");
    scene.configure(|settings| settings["access_secret"] = json!("wrong"));
    let pod = scene.pod("no-credentials", [10, 219, 0, 6], &[WITH_EIP]);
    scene.add(&pod).assert_error(102, &["SignatureDoesNotMatch"]);
    told(&pod, "SignatureDoesNotMatch");
}

#[test]
fn a_silent_api_server_is_named_with_the_cause() {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(2));
    let pod = Sandbox { annotations: None, ..scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]) };
    scene.world.take_down(ServiceKind::Kube);
    scene.add(&pod).assert_error(11, &["get pods default/web-0", "not sent"]);
}

#[test]
fn one_deadline_covers_everything_an_add_does() {
    let scene = Scene::new();
    let earlier = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&earlier).assert_added(&earlier);
    scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(2));
    let next = scene.pod("web-1", [10, 219, 0, 5], &[WITH_EIP]);
    scene.world.faults.add(Rule::on("*", Effect::Hang { when: When::BeforeEffect }).service(ServiceMatch::Vpc));
    let (answer, took) = timed(|| scene.add(&next));
    answer.assert_error(11, &["default/web-0"]);
    assert!(took < Duration::from_millis(2700), "{took:?}\n{}", scene.log());
}

#[test]
fn del_ends_in_its_time_when_everything_hangs() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    scene.configure(|settings| settings["eip_del_timeout_seconds"] = json!(2));
    let hang = Effect::Hang { when: When::BeforeEffect };
    let rule = scene.world.faults.add(Rule::on("*", hang));
    let (answer, took) = timed(|| scene.call("DEL", &pod));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(took < Duration::from_millis(2700), "{took:?}\n{}", scene.log());
    scene.world.faults.remove(rule);
    scene.delete_pod(&pod);
    scene.gc();
    scene.assert_nothing_left();
}

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

fn add_in_shared_netns(scene: &Scene, pod: &Sandbox) -> Child {
    scene.spawn("ADD", pod)
}

fn await_true(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
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
    let orphaned = add_in_shared_netns(&scene, &orphan);
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
    let adding = add_in_shared_netns(&scene, &pod);
    assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    netns.end();
    gate.release(Outcome::Continue);
    Answer::from(adding.wait_with_output().unwrap()).assert_error(11, &["went away"]);
    assert!(scene.world.calls.named("AssociateEipAddress").is_empty(), "its address may be another pod's by now");
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
fn a_binding_without_an_answer_is_asked_for_again_with_the_same_token() {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(10));
    // Nobody knows that none of them arrives.
    scene.world.faults.add(Rule::on("AssociateEipAddress", Effect::Cut { when: When::BeforeEffect }));
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_error(11, &["AssociateEipAddress"]);
    let calls = scene.world.calls.all();
    let asked = calls.iter().filter(|call| call.name == "AssociateEipAddress");
    let tokens: Vec<_> = asked.map(|call| call.parameter("ClientToken").unwrap().to_string()).collect();
    assert!(tokens.len() > 4, "{}", scene.log());
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
}

#[test]
fn an_eip_that_someone_moved_away_is_not_waited_for() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod).id;
    let elsewhere = [10, 219, 0, 99].into();
    scene.world.cloud.unbind_by_hand(&eip).unwrap();
    scene.world.cloud.bind_by_hand(&eip, defaults::POD_ENI, elsewhere).unwrap();
    scene.delete_pod(&pod);
    let (answer, took) = timed(|| scene.call("DEL", &pod));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(scene.records()[0]["phase"], "Releasing", "{}", scene.log());
    assert!(scene.world.cloud.eip(&eip).unwrap().is_bound_to(defaults::POD_ENI, elsewhere));
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

fn pod_eip(name: &str, allocation_id: &str) -> Value {
    json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"allocationID": allocation_id, "allocationType": {"type": "Auto", "releaseStrategy": "Follow"}},
    })
}

#[test]
fn an_eip_that_only_a_foreign_pod_eip_names_is_never_released() {
    let scene = Scene::new();
    scene.world.cluster.create(pod_eip("web-0", defaults::USER_EIP)).unwrap();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.assert_served(&pod).id, defaults::USER_EIP);
    scene.del(&pod);
    let pod = pod.restarted();
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.assert_served(&pod).id, defaults::USER_EIP, "it is still the pod's in its next sandbox");
    assert!(scene.ever_ours().is_empty());
    scene.delete_pod(&pod);
    scene.del(&pod);
    assert_eq!(scene.world.cloud.eip(defaults::USER_EIP).unwrap().status, Status::Available);
    scene.assert_nothing_left();
}

#[test]
fn a_pod_eip_that_changed_meanwhile_is_claimed_all_the_same() {
    let scene = Scene::new();
    scene.world.cluster.create(pod_eip("web-0", "eip-bp1gone0000000000001")).unwrap();
    let conflict = Effect::error(409, "Conflict", "the object has been modified; please apply your changes");
    let rule = scene.world.faults.add(Rule::on("patch podeips", conflict).once());
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    scene.assert_served(&pod);
}

#[test]
fn deleting_a_lasting_pod_eip_releases_it_when_its_pod_goes() {
    let scene = Scene::new();
    let spec = PodSpec { owners: vec![Owner::new("StatefulSet", "web")], ..PodSpec::new("default", "web-0") };
    let pod = scene.pod_with(spec, [10, 219, 0, 5], &[WITH_EIP, NEVER]);
    scene.add(&pod).assert_added(&pod);
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}});
    scene.world.cluster.merge("podeips", "default", "web-0", &deleted).unwrap();
    // A sandbox restart of the living pod keeps its EIP.
    scene.del(&pod);
    let pod = pod.restarted();
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn a_wrong_bandwidth_package_is_named() {
    let scene = Scene::new();
    let package = ("network.alibabacloud.com/eip-common-bandwidth-package-id", "cbwp-bp1nosuchpackage0001");
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP, package]);
    scene.add(&pod).assert_error(106, &["cbwp-bp1nosuchpackage0001", "eip-common-bandwidth-package-id"]);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn owner_tags_are_set_once_the_binding_stands() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.ignore_tags_on_allocate = true);
    let busy = Effect::error(400, "TaskConflict", "operate too frequent");
    let rule = scene.world.faults.add(Rule::on("TagResources", busy).once());
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    assert_eq!(scene.assert_served(&pod).tag("podeip-uid"), Some(pod.uid.as_str()));
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

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let mut command = Command::new(env!("CARGO_BIN_EXE_podeip"));
    command.arg("list").arg("--conf-dir").arg(scene.path("none")).arg("--state-dir").arg(scene.state_dir());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
