//! Whose EIP it is: named ones, those bound by hand, and what a pod keeps when it goes.

use std::time::{Duration, Instant};

use podeip_sim::cloud::{EipView, Status, defaults};
use podeip_sim::faults::{Effect, Rule};
use serde_json::json;

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};

mod locate;
mod parameters;
mod strategy;

const NAMED: (&str, &str) = ("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP);
/// An address of the pods' ENI that no test gives to a pod.
const ELSEWHERE: [u8; 4] = [10, 219, 0, 200];

impl Scene {
    fn user_eip(&self) -> EipView {
        self.world.cloud.eip(defaults::USER_EIP).unwrap()
    }

    fn bind_by_hand(&self, eip: &str, ip: [u8; 4]) {
        self.world.cloud.bind_by_hand(eip, defaults::POD_ENI, ip.into()).unwrap();
    }

    fn allow_rob(&self) {
        self.configure(|settings| settings["allow_eip_rob"] = json!("true"));
    }

    fn calls_of(&self, name: &str) -> usize {
        self.world.calls.named(name).len()
    }
}

/// A refusal that is final is not waited for.
fn refused_at_once(scene: &Scene, pod: &Sandbox, words: &[&str]) -> Answer {
    let began = Instant::now();
    let answer = scene.add(pod);
    answer.assert_error(104, words);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(scene.ever_ours().is_empty());
    answer
}

#[test]
fn a_named_eip_is_bound_and_never_released() {
    let scene = Scene::new();
    let ignored = [("k8s.aliyun.com/eip-bandwidth", "77"), ("k8s.aliyun.com/eip-name", "mine")];
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[NAMED, ignored[0], ignored[1]]);
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod);
    assert_eq!((eip.id.as_str(), eip.bandwidth, eip.name.as_str()), (defaults::USER_EIP, 5, "user-made"));
    assert!(eip.tags.is_empty(), "the user's tags are the user's");
    assert_eq!(scene.pod_eip(&pod).unwrap()["spec"]["allocationType"]["type"], "Static");
    let events = scene.events(&pod, "ParametersIgnored");
    assert!(events.len() == 1 && ignored.iter().all(|(key, _)| events[0].contains(key)), "{events:?}");

    // A sandbox restart, a finished pod, and the end.
    scene.del(&pod);
    assert_eq!(scene.user_eip().status, Status::Available);
    let next = pod.restarted();
    scene.add(&next).assert_added(&next);
    scene.assert_served(&next);
    scene.delete_pod(&pod);
    scene.del(&next);
    scene.del(&next.without_netns());
    scene.gc();
    assert_eq!(scene.user_eip().status, Status::Available);
    scene.assert_nothing_left();
    assert!(scene.ever_ours().is_empty());
    assert_eq!((scene.calls_of("AllocateEipAddress"), scene.calls_of("ReleaseEipAddress")), (0, 0));
}

#[test]
fn a_named_eip_survives_gc_and_a_failed_add() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[NAMED]);
    let refusal = Effect::error(403, "Forbidden.RAM", "User not authorized to operate on the specified resource.");
    let fault = scene.world.faults.add(Rule::on("patch podeips/status", Effect::error(500, "InternalError", "etcd")));
    scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(2));
    assert_eq!(scene.add(&pod).code, Some(1));
    assert_eq!(scene.user_eip().status, Status::Available, "a failed ADD unbinds");
    scene.del(&pod);
    scene.world.faults.remove(fault);
    scene.configure(|_| {});

    let next = pod.restarted();
    scene.add(&next).assert_added(&next);
    // The record is all that is left of the sandbox: no DEL comes.
    scene.delete_pod(&pod);
    let gc = scene.gc();
    assert!(gc.stdout.contains("never released"), "{gc:?}");
    assert_eq!(scene.user_eip().status, Status::Available);
    scene.assert_nothing_left();

    let denied = scene.pod("web-1", [10, 219, 0, 6], &[NAMED]);
    scene.world.faults.add(Rule::on("AssociateEipAddress", refusal));
    scene.add(&denied).assert_error(102, &["Forbidden.RAM", "AssociateEipAddress", "RequestId", "grant the action"]);
    scene.delete_pod(&denied);
    scene.del(&denied);
    assert_eq!(scene.calls_of("ReleaseEipAddress"), 0);
    scene.assert_nothing_left();
}

#[test]
fn a_named_eip_that_does_not_exist_buys_nothing() {
    let scene = Scene::new();
    let missing = ("k8s.aliyun.com/pod-eip-instanceid", "eip-bp1nowhere");
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP, missing]);
    refused_at_once(&scene, &pod, &["eip-bp1nowhere", "does not exist", "default/web-0", "pod-eip-instanceid"]);
    assert!(!scene.events(&pod, "EIPFailed").is_empty());
    scene.del(&pod);
    scene.delete_pod(&pod);
    scene.gc();
    scene.assert_nothing_left();
    assert_eq!(scene.calls_of("AllocateEipAddress"), 0);
}

#[test]
fn a_named_eip_that_is_busy_is_refused_with_its_holder() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[NAMED]);
    scene.bind_by_hand(defaults::USER_EIP, ELSEWHERE);
    refused_at_once(&scene, &pod, &[defaults::USER_EIP, "10.219.0.200", defaults::POD_ENI, "allow_eip_rob"]);
    scene.world.cloud.bind_by_hand(defaults::USER_EIP, defaults::PRIMARY_ENI, [10, 219, 1, 10].into()).unwrap();
    refused_at_once(&scene, &pod, &[defaults::USER_EIP, defaults::PRIMARY_ENI]);
    scene.del(&pod);
    scene.delete_pod(&pod);
    scene.gc();
    assert_eq!(scene.user_eip().binding.unwrap().instance_id, defaults::PRIMARY_ENI, "the holder keeps it");
    assert_eq!(scene.calls_of("UnassociateEipAddress"), 0);
    scene.assert_nothing_left();
}

#[test]
fn with_rob_a_named_eip_is_taken_from_a_binding_by_hand() {
    let scene = Scene::new();
    scene.allow_rob();
    let places = [(defaults::POD_ENI, ELSEWHERE), (defaults::PRIMARY_ENI, [10, 219, 1, 10])];
    for (nth, (eni, ip)) in places.into_iter().enumerate() {
        scene.world.cloud.bind_by_hand(defaults::USER_EIP, eni, ip.into()).unwrap();
        let pod = scene.pod(&format!("web-{nth}"), [10, 219, 0, 5], &[NAMED]);
        scene.add(&pod).assert_added(&pod);
        assert_eq!(scene.assert_served(&pod).id, defaults::USER_EIP);
        scene.delete_pod(&pod);
        scene.del(&pod);
        scene.assert_nothing_left();
    }
}

#[test]
fn rob_spares_living_pods_and_only_those() {
    let scene = Scene::new();
    scene.allow_rob();
    let holder = scene.pod("holder-0", [10, 219, 0, 5], &[NAMED]);
    let robber = scene.pod("robber-0", [10, 219, 0, 6], &[NAMED]);
    scene.add(&holder).assert_added(&holder);
    let spared = |answer: &Answer| {
        answer.assert_error(104, &[defaults::USER_EIP, "default/holder-0", "living"]);
        assert_eq!(scene.assert_served(&holder).id, defaults::USER_EIP);
    };
    spared(&scene.add(&robber));
    scene.del(&robber);
    scene.world.cluster.begin_pod_deletion("default", "holder-0");
    spared(&scene.add(&robber));
    scene.del(&robber);

    scene.world.cluster.finish_deletion("default", "holder-0");
    // Its sandbox stands, or gc would take the EIP back.
    let robber = Sandbox { netns: format!("/proc/{}/ns/net", std::process::id()), ..robber.restarted() };
    scene.add(&robber).assert_added(&robber);
    assert_eq!(scene.assert_served(&robber).id, defaults::USER_EIP);
    // The old holder's DEL comes late, and touches nothing that is the new one's.
    scene.del(&holder);
    scene.gc();
    assert_eq!(scene.assert_served(&robber).id, defaults::USER_EIP);

    scene.world.cluster.set_pod_phase("default", "robber-0", "Succeeded");
    let last = scene.pod("last-0", [10, 219, 0, 7], &[NAMED]);
    scene.add(&last).assert_added(&last);
    assert_eq!(scene.assert_served(&last).id, defaults::USER_EIP, "a finished pod holds nothing");
    scene.del(&robber);
    assert_eq!(scene.assert_served(&last).id, defaults::USER_EIP);
    scene.delete_pod(&last);
    scene.del(&last);
    scene.gc();
    scene.assert_nothing_left();
    assert_eq!(scene.user_eip().status, Status::Available);
}

#[test]
fn a_pod_that_only_wished_for_an_eip_does_not_hold_it() {
    let scene = Scene::new();
    scene.bind_by_hand(defaults::USER_EIP, ELSEWHERE);
    let waiting = scene.pod("waiting-0", [10, 219, 0, 5], &[NAMED]);
    refused_at_once(&scene, &waiting, &[defaults::USER_EIP]);
    assert!(scene.pod_eip(&waiting).is_none(), "a PodEIP would claim what the pod never had");
    scene.allow_rob();
    let robber = scene.pod("robber-0", [10, 219, 0, 6], &[NAMED]);
    scene.add(&robber).assert_added(&robber);
    assert_eq!(scene.assert_served(&robber).id, defaults::USER_EIP);
}

#[test]
fn a_foreign_eip_on_the_pods_address_is_left_there() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.bind_by_hand(defaults::USER_EIP, [10, 219, 0, 5]);
    for rob in [false, true] {
        scene.configure(|settings| settings["allow_eip_rob"] = json!(rob));
        refused_at_once(&scene, &pod, &[defaults::USER_EIP, "10.219.0.5", "default/web-0", "unbind it by hand"]);
        scene.del(&pod);
    }
    scene.delete_pod(&pod);
    scene.gc();
    assert!(scene.user_eip().is_bound_to(defaults::POD_ENI, pod.ip));
    assert_eq!((scene.calls_of("AllocateEipAddress"), scene.calls_of("UnassociateEipAddress")), (0, 0));
    scene.assert_nothing_left();
}

#[test]
fn naming_the_eip_that_is_bound_there_already_takes_it_over() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[NAMED]);
    scene.bind_by_hand(defaults::USER_EIP, [10, 219, 0, 5]);
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.assert_served(&pod).id, defaults::USER_EIP);
    scene.delete_pod(&pod);
    scene.del(&pod);
    assert_eq!(scene.user_eip().status, Status::Available);
    scene.assert_nothing_left();
}

#[test]
fn an_eip_bound_by_hand_in_ours_place_stays() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let ours = scene.assert_served(&pod).id;
    scene.world.cloud.unbind_by_hand(&ours).unwrap();
    scene.bind_by_hand(defaults::USER_EIP, [10, 219, 0, 5]);
    scene.delete_pod(&pod);
    scene.del(&pod);
    assert!(scene.user_eip().is_bound_to(defaults::POD_ENI, pod.ip), "it was never ours to unbind");
    scene.assert_nothing_left();
    assert_eq!(scene.calls_of("UnassociateEipAddress"), 0);
}

#[test]
fn our_eip_that_was_moved_by_hand_serves_on_where_it_is() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let ours = scene.assert_served(&pod).id;
    scene.bind_by_hand(&ours, ELSEWHERE);
    scene.delete_pod(&pod);
    let began = Instant::now();
    scene.del(&pod);
    assert!(began.elapsed() < Duration::from_secs(5), "DEL tried to release what is in use: {:?}", began.elapsed());
    let moved = || scene.world.cloud.eip(&ours).unwrap().is_bound_to(defaults::POD_ENI, ELSEWHERE.into());
    assert!(moved());
    let gc = scene.podeip(&["gc"]);
    assert!(moved() && gc.code == Some(1) && gc.stdout.contains("10.219.0.200"), "{gc:?}");
    assert_eq!(scene.calls_of("UnassociateEipAddress"), 0);
    // Nothing on the pod's address keeps the next pod from it.
    let next = scene.pod("next-0", [10, 219, 0, 5], &[]);
    scene.add(&next).assert_added(&next);

    // Once it is free, it is released like any of ours.
    scene.world.cloud.unbind_by_hand(&ours).unwrap();
    scene.gc();
    scene.assert_nothing_left();
}

#[test]
fn a_named_eip_that_was_moved_by_hand_stays_there() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[NAMED]);
    scene.add(&pod).assert_added(&pod);
    scene.bind_by_hand(defaults::USER_EIP, ELSEWHERE);
    scene.delete_pod(&pod);
    scene.del(&pod);
    assert!(scene.user_eip().is_bound_to(defaults::POD_ENI, ELSEWHERE.into()));
    scene.assert_nothing_left();
}
