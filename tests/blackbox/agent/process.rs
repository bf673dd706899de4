//! The agent as a process: its lock, its waking, its end.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{Agent, IP, names_since, running};
use crate::scene::{PATIENCE, Sandbox, Scene, WITH_EIP, await_true};

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

#[test]
fn a_second_agent_says_at_once_what_it_waits_for_and_can_be_stopped() {
    let scene = Scene::new();
    let first = Agent::start(&scene);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut second = scene.agent(&[]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(second.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("another podeip agent lives on this node; waiting up to"), "{line}");
        let told = Instant::now();
        kill(Pid::from_raw(second.id() as i32), signal).unwrap();
        assert_eq!(second.wait().unwrap().signal(), Some(signal as i32));
        assert!(told.elapsed() < PATIENCE, "it waited for the first one all the same");
    }
    assert!(scene.agent_lives());
    assert_eq!(first.stop().code, Some(0));
}

#[test]
fn a_successor_takes_over_when_the_first_agent_ends() {
    let scene = Scene::new();
    let first = Agent::start(&scene);
    let mut second = scene.agent(&[]).spawn().unwrap();
    let mut lines = BufReader::new(second.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("waiting"));
    assert_eq!(first.stop().code, Some(0));
    assert!(lines.next().unwrap().contains("agent of node node-1 starts"));
    assert!(scene.agent_lives());
    kill(Pid::from_raw(second.id() as i32), Signal::SIGTERM).unwrap();
    assert!(lines.any(|line| line.contains("agent of node node-1 ends")));
    assert_eq!(second.wait().unwrap().code(), Some(0));
}

#[test]
fn a_killed_agent_leaves_everything_to_del() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let agent = Agent::start(&scene);
    drop(agent); // SIGKILL
    assert!(!scene.agent_lives());
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

/// A pod that is over, whose DEL has asked to unbind its EIP; then the agent that was to release it
/// was killed.
fn handed_over_and_killed() -> (Scene, Sandbox) {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let long = Duration::from_secs(3);
    scene.world.cloud.set(|settings| settings.unassociate_delay = long);
    let agent = Agent::start(&scene);
    scene.delete_pod(&pod);
    scene.del(&pod);
    drop(agent);
    assert_eq!((scene.ours().len(), scene.records().len()), (1, 1));
    scene.world.clock.advance(long);
    (scene, pod)
}

#[test]
fn what_a_killed_agent_was_to_release_gc_releases() {
    let (scene, _) = handed_over_and_killed();
    scene.gc();
    scene.assert_nothing_left();
}

#[test]
fn what_a_killed_agent_was_to_release_the_next_agent_releases() {
    let (scene, _) = handed_over_and_killed();
    scene.agent_once();
    scene.assert_nothing_left();
}

#[test]
fn what_a_killed_agent_was_to_release_the_second_del_releases() {
    let (scene, pod) = handed_over_and_killed();
    scene.del(&pod.without_netns());
    scene.assert_nothing_left();
}

#[test]
fn with_the_feature_off_earlier_pods_are_finished_and_nothing_else_is_done() {
    let scene = Scene::new();
    let over = running(&scene, "over", [10, 219, 0, 6], &[]);
    let runs = running(&scene, "runs", IP, &[]);
    scene.delete_pod(&over);
    let eip = scene.on(runs.ip).remove(0);
    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    scene.world.cluster.remove("podeips", "default", "runs");
    let trying = scene.pod("trying", [10, 219, 0, 7], &[WITH_EIP]);
    scene.configure(|settings| settings["enable_eip_pool"] = json!("false"));
    scene.add(&trying).assert_added(&trying);
    let mark = scene.world.calls.mark();
    scene.agent_once();
    let left: Vec<String> = scene.ours().into_iter().map(|eip| eip.id).collect();
    assert_eq!(left, [eip.id], "the EIP of the pod that is over is gone");
    let asked = names_since(&scene, mark);
    for name in ["AllocateEipAddress", "AssociateEipAddress", "create podeips", "create leases"] {
        assert!(!asked.iter().any(|asked| asked == name), "{name} in {asked:?}");
    }
    assert!(scene.on(runs.ip).is_empty() && scene.pod_eip(&runs).is_none());
    scene.delete_pod(&runs);
    scene.agent_once();
    scene.assert_nothing_left();
}
