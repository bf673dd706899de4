//! Remote systems that are down or hang: verbs end in time and say who was silent, and nothing is lost or inherited.

use std::thread;
use std::time::{Duration, Instant};

use podeip_sim::calls::ServiceKind;
use podeip_sim::faults::{Effect, Rule, ServiceMatch, When};
use serde_json::json;

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};

mod credentials;
mod pace;
pub mod rrsa;
mod sources;
mod throttle;

const ADD_TIMEOUT: Duration = Duration::from_secs(6);
const DEL_TIMEOUT: Duration = Duration::from_secs(3);
/// Starting the process, and a machine with too little of everything.
const MARGIN: Duration = Duration::from_secs(3);

/// A way for a service to be of no use.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// Connections are refused.
    Down,
    /// Requests are taken and never answered.
    Hangs,
}

const BOTH: [Outage; 2] = [Outage::Down, Outage::Hangs];

impl Outage {
    fn begin(self, scene: &Scene, service: ServiceKind) {
        match self {
            Outage::Down => scene.world.take_down(service),
            Outage::Hangs => {
                let hang = Rule::on("*", Effect::Hang { when: When::BeforeEffect }).service(matching(service));
                scene.world.faults.add(hang);
            }
        }
    }

    fn end(self, scene: &Scene, service: ServiceKind) {
        match self {
            Outage::Down => scene.world.bring_up(service),
            Outage::Hangs => scene.world.faults.clear(),
        }
    }
}

fn matching(service: ServiceKind) -> ServiceMatch {
    match service {
        ServiceKind::Vpc => ServiceMatch::Vpc,
        ServiceKind::Ecs => ServiceMatch::Ecs,
        ServiceKind::Sts => ServiceMatch::Sts,
        ServiceKind::Metadata => ServiceMatch::Metadata,
        ServiceKind::Kube => ServiceMatch::Kube,
    }
}

/// A scene whose verbs may take [`ADD_TIMEOUT`] and [`DEL_TIMEOUT`]; with the node's RAM role for metadata's sake.
fn impatient(ram_role: bool) -> Scene {
    let scene = Scene::new();
    scene.configure(|settings| {
        settings["eip_add_timeout_seconds"] = json!(ADD_TIMEOUT.as_secs());
        settings["eip_del_timeout_seconds"] = json!(DEL_TIMEOUT.as_secs());
        if ram_role {
            let own = ["access_key", "access_secret", "region_id", "vpc_id"];
            settings.as_object_mut().unwrap().retain(|key, _| !own.contains(&key.as_str()));
        }
    });
    scene
}

#[track_caller]
fn within<T>(span: Duration, what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let outcome = work();
    assert!(began.elapsed() <= span + MARGIN, "{what} took {:?}", began.elapsed());
    outcome
}

fn add(scene: &Scene, sandbox: &Sandbox) -> Answer {
    within(ADD_TIMEOUT, "ADD", || scene.add(sandbox))
}

fn del(scene: &Scene, sandbox: &Sandbox) {
    within(DEL_TIMEOUT, "DEL", || scene.del(sandbox));
}

/// ADD while `service` is out fails with 11 and `words`; afterwards the same pod is served, with one EIP in all.
fn add_during(service: ServiceKind, words: &[&str]) {
    for outage in BOTH {
        let scene = impatient(service == ServiceKind::Metadata);
        let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
        outage.begin(&scene, service);
        let answer = add(&scene, &pod);
        answer.assert_error(11, words);
        assert!(scene.on(pod.ip).is_empty());
        del(&scene, &pod);
        del(&scene, &pod.without_netns());
        outage.end(&scene, service);
        if service != ServiceKind::Kube {
            let events = scene.events(&pod, "EIPFailed");
            assert!(events.iter().any(|message| message.contains(words[0])), "{outage:?}: {events:?}");
        }

        let next = pod.restarted();
        scene.add(&next).assert_added(&next);
        scene.assert_served(&next);
        assert_eq!(scene.ever_ours().len(), 1, "{outage:?}");
        scene.delete_pod(&pod);
        scene.del(&next);
        scene.gc();
        scene.assert_nothing_left();
    }
}

#[test]
fn add_without_an_api_server() {
    add_during(ServiceKind::Kube, &["no answer from https://", "get pods", "check that this node reaches"]);
}

/// Each step of telling the cluster, and not merely the call that failed, names what it is about.
#[test]
fn an_eip_that_cannot_be_published_is_named_with_its_pod() {
    for call in ["create podeips", "patch podeips/status", "patch pods/status"] {
        let scene = Scene::new();
        let refusal = Effect::error(403, "Forbidden", "not you");
        let fault = scene.world.faults.add(Rule::on(call, refusal));
        let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
        scene.add(&pod).assert_error(107, &["publishing eip-", "of pod default/web-0", "not you"]);
        scene.world.faults.remove(fault);
        scene.delete_pod(&pod);
        scene.del(&pod);
        scene.gc();
        scene.assert_nothing_left();
    }
}

#[test]
fn add_without_the_vpc_endpoint() {
    add_during(ServiceKind::Vpc, &["EipAddress"]);
}

#[test]
fn add_without_the_ecs_endpoint() {
    add_during(ServiceKind::Ecs, &["DescribeNetworkInterfaces", "10.219.0.5"]);
}

#[test]
fn add_without_instance_metadata() {
    add_during(ServiceKind::Metadata, &["instance metadata"]);
}

#[test]
fn an_add_that_loses_the_cloud_halfway_keeps_its_eip_for_the_retry() {
    for call in ["AssociateEipAddress", "DescribeEipAddresses"] {
        let scene = impatient(false);
        let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
        let hang = |call| Rule::on(call, Effect::Hang { when: When::AfterEffect });
        // The first DescribeEipAddresses asks who is on the address; the EIP does not exist yet.
        scene.world.faults.add(hang("DescribeEipAddresses").skip(1));
        if call == "AssociateEipAddress" {
            scene.world.faults.add(hang(call));
        }
        add(&scene, &pod).assert_error(11, &[call]);
        assert_eq!(scene.ours().len(), 1);
        del(&scene, &pod);
        scene.world.faults.clear();
        let next = pod.restarted();
        scene.add(&next).assert_added(&next);
        scene.assert_served(&next);
        assert_eq!(scene.ever_ours().len(), 1, "{call}");
        scene.delete_pod(&pod);
        scene.del(&next);
        scene.assert_nothing_left();
    }
}

#[test]
fn an_association_without_an_answer_is_seen_in_the_time_that_is_kept_for_it() {
    let scene = impatient(false);
    pace::expect(&scene, &json!({ "bindMs": 2000 }));
    scene.world.faults.add(Rule::on("AssociateEipAddress", Effect::Hang { when: When::AfterEffect }));
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    add(&scene, &pod).assert_added(&pod);
    scene.assert_served(&pod);
}

/// How the next pod on the address is started.
#[derive(Clone, Copy, Debug)]
enum Next {
    Plain,
    WithEip,
}

impl Next {
    fn pod(self, scene: &Scene, ip: [u8; 4]) -> Sandbox {
        match self {
            Next::Plain => scene.pod("next-0", ip, &[]),
            Next::WithEip => scene.pod("next-0", ip, &[WITH_EIP]),
        }
    }
}

/// DEL while the cloud is out: it succeeds, and the address is not given to anybody before the old EIP is off it.
fn del_during(service: ServiceKind, outage: Outage, next: Next) {
    let scene = impatient(service == ServiceKind::Metadata);
    let old = scene.pod("old-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&old).assert_added(&old);
    let eip = scene.assert_served(&old);
    outage.begin(&scene, service);
    scene.delete_pod(&old);
    del(&scene, &old);
    del(&scene, &old.without_netns());
    assert_eq!(scene.records().len(), 1, "what is not finished stays recorded");
    assert_eq!(scene.on(old.ip).len(), 1);

    let heir = next.pod(&scene, [10, 219, 0, 5]);
    for _ in 0..2 {
        add(&scene, &heir).assert_error(11, &["earlier pod default/old-0", "still on this pod's address"]);
        del(&scene, &heir);
    }
    assert_eq!(scene.on(old.ip)[0].id, eip.id, "{outage:?}");
    outage.end(&scene, service);

    let heir = heir.restarted();
    scene.add(&heir).assert_added(&heir);
    let on_address: Vec<String> = scene.on(heir.ip).into_iter().map(|eip| eip.id).collect();
    match next {
        Next::Plain => assert!(on_address.is_empty(), "{on_address:?}"),
        Next::WithEip => assert_ne!(scene.assert_served(&heir).id, eip.id),
    }
    scene.gc();
    assert!(scene.ours().iter().all(|other| other.id != eip.id), "the old one is released");
    scene.delete_pod(&heir);
    scene.del(&heir);
    scene.gc();
    scene.assert_nothing_left();
}

#[test]
fn the_next_plain_pod_does_not_inherit_from_a_del_without_the_cloud() {
    for outage in BOTH {
        del_during(ServiceKind::Vpc, outage, Next::Plain);
    }
}

#[test]
fn the_next_pod_with_an_eip_does_not_inherit_from_a_del_without_the_cloud() {
    for outage in BOTH {
        del_during(ServiceKind::Vpc, outage, Next::WithEip);
    }
}

#[test]
fn nobody_inherits_from_a_del_without_instance_metadata() {
    del_during(ServiceKind::Metadata, Outage::Down, Next::Plain);
    del_during(ServiceKind::Metadata, Outage::Hangs, Next::WithEip);
}

#[test]
fn a_del_without_an_api_server_unbinds_and_gc_decides_later() {
    for outage in BOTH {
        let scene = impatient(false);
        let pod = scene.pod("old-0", [10, 219, 0, 5], &[WITH_EIP]);
        scene.add(&pod).assert_added(&pod);
        outage.begin(&scene, ServiceKind::Kube);
        del(&scene, &pod);
        assert_eq!((scene.on(pod.ip).len(), scene.ours().len(), scene.records().len()), (0, 1, 1), "{outage:?}");
        // The address is free, so the next pod need not wait for anybody.
        let heir = Sandbox { name: "next-0".into(), uid: "uid-next".into(), ..pod.restarted() };
        let plain = Sandbox { annotations: Some(Default::default()), ..heir };
        add(&scene, &plain).assert_added(&plain);
        let gc = within(2 * DEL_TIMEOUT + Duration::from_secs(2), "gc", || scene.podeip(&["gc"]));
        assert!(gc.stdout.contains("left") && gc.stdout.contains("API server did not say"), "{gc:?}");
        assert_eq!(scene.ours().len(), 1, "nothing is released on an unanswered question");
        outage.end(&scene, ServiceKind::Kube);

        scene.delete_pod(&pod);
        scene.gc();
        scene.assert_nothing_left();
    }
}

#[test]
fn gc_finishes_what_an_outage_of_everything_left() {
    for outage in BOTH {
        let scene = impatient(false);
        let pods: Vec<Sandbox> =
            (5..8).map(|last| scene.pod(&format!("web-{last}"), [10, 219, 0, last], &[WITH_EIP])).collect();
        for pod in &pods {
            scene.add(pod).assert_added(pod);
        }
        let all = [ServiceKind::Vpc, ServiceKind::Ecs, ServiceKind::Metadata, ServiceKind::Kube];
        all.iter().for_each(|service| outage.begin(&scene, *service));
        thread::scope(|scope| {
            for pod in &pods {
                scope.spawn(|| del(&scene, pod));
            }
        });
        assert_eq!(scene.records().len(), 3);
        all.iter().for_each(|service| outage.end(&scene, *service));
        pods.iter().for_each(|pod| scene.delete_pod(pod));
        scene.gc();
        scene.assert_nothing_left();
    }
}

#[test]
fn a_release_that_fails_is_taken_up_by_gc() {
    for call in ["UnassociateEipAddress", "ReleaseEipAddress"] {
        for when in [When::BeforeEffect, When::AfterEffect] {
            let scene = impatient(false);
            let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
            scene.add(&pod).assert_added(&pod);
            scene.world.faults.add(Rule::on(call, Effect::Hang { when }));
            scene.delete_pod(&pod);
            del(&scene, &pod);
            scene.world.faults.clear();
            scene.gc();
            scene.assert_nothing_left();
            assert_eq!(scene.ever_ours().len(), 1);
        }
    }
}

fn timed(call: impl FnOnce() -> Answer) -> (Answer, Duration) {
    let started = Instant::now();
    let answer = call();
    (answer, started.elapsed())
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
    assert!(took < Duration::from_secs(5), "{took:?}\n{}", scene.log());
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
    assert!(took < Duration::from_secs(5), "{took:?}\n{}", scene.log());
    scene.world.faults.remove(rule);
    scene.delete_pod(&pod);
    scene.gc();
    scene.assert_nothing_left();
}

/// Nothing could be read but the record: it says afterwards that its sandbox is over.
#[test]
fn a_del_that_could_do_nothing_leaves_its_mark() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    scene.write("eni_conf", "{");
    scene.del(&pod);
    assert_eq!(scene.records()[0]["phase"], "Unbinding");
    scene.configure(|_| {});
    // Even while nobody says what became of the pod.
    scene.world.take_down(ServiceKind::Kube);
    let _ = scene.podeip(&["gc"]);
    assert!(scene.on(pod.ip).is_empty(), "{}", scene.log());
}
