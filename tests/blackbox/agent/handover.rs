//! DEL beside a living agent: it asks the cloud once and goes; the agent ends what it leaves.

use std::time::Duration;

use podeip_sim::calls::{Call, ServiceKind};
use podeip_sim::cloud::Status;
use serde_json::json;

use super::{Agent, IP, running};
use crate::scene::{Answer, Sandbox, Scene, await_true};

#[test]
fn del_leaves_the_waiting_to_a_living_agent() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let agent = Agent::start(&scene);
    scene.delete_pod(&pod);
    let mark = scene.world.calls.mark();
    scene.del(&pod);
    let calls: Vec<String> = scene.world.calls.since(mark).into_iter().map(|call| call.name).collect();
    assert_eq!(calls.iter().filter(|name| *name == "UnassociateEipAddress").count(), 1, "{calls:?}");
    await_true("the agent releases the EIP", || scene.ours().is_empty());
    await_true("the agent forgets the record", || scene.records().is_empty());
    scene.assert_nothing_left();
    let answer = agent.stop();
    assert_eq!(answer.code, Some(0), "{answer:?}");
}

#[test]
fn many_dels_at_once_are_ended_together() {
    const PODS: u8 = 10;
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.unassociate_delay = Duration::from_secs(3));
    let pods: Vec<Sandbox> =
        (0..PODS).map(|nth| running(&scene, &format!("web-{nth}"), [10, 219, 0, 20 + nth], &[])).collect();
    let agent = Agent::start(&scene);
    pods.iter().for_each(|pod| scene.delete_pod(pod));
    let mark = scene.world.calls.mark();
    let dels: Vec<_> = pods.iter().map(|pod| scene.spawn("DEL", pod)).collect();
    for del in dels {
        let answer: Answer = del.wait_with_output().unwrap().into();
        assert_eq!(answer.code, Some(0), "{answer:?}\n{}", scene.log());
    }
    let dels_ended = scene.world.calls.mark();
    let unbinding = scene.ours().iter().filter(|eip| eip.status == Status::Unassociating).count();
    assert_eq!(unbinding, usize::from(PODS), "no DEL waited for the cloud");
    await_true("the agent ends all of them", || scene.records().is_empty());
    scene.assert_nothing_left();

    let calls: Vec<Call> = scene.world.calls.since(mark);
    let named = |name: &'static str| calls.iter().filter(move |call| call.name == name);
    for eip in scene.ever_ours() {
        let of_eip = |call: &&Call| call.parameter("AllocationId") == Some(&eip.id);
        assert_eq!(named("UnassociateEipAddress").filter(of_eip).count(), 1, "{}", eip.id);
        assert_eq!(named("ReleaseEipAddress").filter(of_eip).count(), 1, "{}", eip.id);
    }
    assert!(named("ReleaseEipAddress").all(|call| call.seq > dels_ended));
    // One look of each DEL; the agent's looks, some eight in five seconds, are at all of them at once.
    let looks = named("DescribeEipAddresses").count();
    assert!(looks < 3 * usize::from(PODS), "{looks} looks at {PODS} EIPs");
    assert_eq!(agent.stop().code, Some(0));
}

#[test]
fn a_del_while_the_cloud_is_down_is_finished_when_it_is_back() {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_del_timeout_seconds"] = json!(2));
    let pod = running(&scene, "web-0", IP, &[]);
    let agent = Agent::start(&scene);
    scene.delete_pod(&pod);
    scene.world.take_down(ServiceKind::Vpc);
    scene.del(&pod);
    assert_eq!(scene.records()[0]["phase"], "Unbinding");
    assert_eq!(scene.on(pod.ip).len(), 1, "nobody could unbind it");
    drop(agent);
    scene.world.bring_up(ServiceKind::Vpc);
    scene.agent_once();
    scene.assert_nothing_left();
}

#[test]
fn the_next_pod_on_an_address_does_not_wait_for_the_agent() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let agent = Agent::start(&scene);
    scene.delete_pod(&pod);
    scene.world.take_down(ServiceKind::Kube);
    scene.del(&pod);
    scene.world.bring_up(ServiceKind::Kube);
    // A pod that asks for nothing gets the address.
    let next = scene.pod("next-0", IP, &[]);
    scene.add(&next).assert_added(&next);
    assert!(scene.on(IP.into()).is_empty(), "nobody inherits an address");
    await_true("the agent releases the EIP", || scene.ours().is_empty());
    drop(agent);
    scene.agent_once();
    scene.assert_nothing_left();
}
