//! The agent as a process: its lock, its waking, its end.

use serde_json::json;

use super::{Agent, IP, running};
use crate::scene::{Scene, await_true};

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
fn an_agent_gives_its_lease_back_at_the_end() {
    let scene = Scene::new();
    let agent = Agent::start(&scene);
    let holder = || {
        scene
            .world
            .cluster
            .get("leases", "kube-system", "podeip-sweeper")
            .map(|it| it["spec"]["holderIdentity"].clone())
    };
    await_true("the agent sweeps", || holder().is_some_and(|holder| holder != json!("")));
    assert_eq!(agent.stop().code, Some(0));
    assert_eq!(holder(), Some(json!("")));
    assert!(!scene.agent_lives());
}
