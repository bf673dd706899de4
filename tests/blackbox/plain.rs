//! A pod that asks for nothing: no packet, no trace on disk; and what an earlier pod left on its address goes first.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use podeip_sim::calls::ServiceKind;
use serde_json::{Value, json};

use crate::durability::traced;
use crate::node::{on_node, run};
use crate::scene::{Answer, Sandbox, Scene, WITH_EIP, start};

const CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";
const IP: [u8; 4] = [10, 219, 0, 5];
const OTHER_IP: [u8; 4] = [10, 219, 0, 6];

/// What runtimes pass for a pod that asks for nothing.
fn plain_annotations() -> [Value; 4] {
    let off = json!({"k8s.aliyun.com/pod-with-eip": "false", "k8s.aliyun.com/eip-bandwidth": "7"});
    [Value::Null, json!({}), json!({"app.example/owner": "shop"}), off]
}

/// One call, with exactly these annotations.
fn call(scene: &Scene, verb: &str, sandbox: &Sandbox, annotations: &Value) -> Answer {
    let mut stdin = scene.stdin(sandbox, Some(sandbox.result()));
    stdin["runtimeConfig"][CAPABILITY] = annotations.clone();
    start(scene.command(verb, sandbox), &stdin).wait_with_output().unwrap().into()
}

/// A plain pod's whole life as containerd sees it.
fn live_and_die(scene: &Scene, sandbox: &Sandbox, annotations: &Value) {
    call(scene, "ADD", sandbox, annotations).assert_added(sandbox);
    for verb in ["CHECK", "DEL"] {
        let answer = call(scene, verb, sandbox, annotations);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), ""), "{verb}: {answer:?}");
    }
    scene.del(&sandbox.without_netns());
}

/// Inode, time of the last change in nanoseconds and content of everything below a path.
fn traces(path: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let metadata = fs::symlink_metadata(path).unwrap();
    let content = if metadata.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    found.insert(path.to_owned(), (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), content));
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| found.extend(traces(&entry.unwrap().path())));
    }
    found
}

/// The kernel's counters of this network namespace: they move with every packet, every connection
/// that is opened and every destination without a route.
fn counters() -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
    // Link-local housekeeping moves the other counters of IPv6.
    let v6 =
        read("snmp6").lines().filter(|line| line.starts_with("Udp6") || line.contains("NoRoutes")).collect::<String>();
    read("snmp") + &v6
}

/// Waits until the connections of earlier calls have said their last word.
fn await_quiet() {
    const LISTEN: &str = "0A";
    const TIME_WAIT: &str = "06";
    let deadline = Instant::now() + Duration::from_secs(20);
    let busy = |table: &str| {
        let sockets = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
        let mut states = sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        states.any(|state| state != LISTEN && state != TIME_WAIT)
    };
    while busy("tcp") || busy("tcp6") {
        assert!(Instant::now() < deadline, "connections stay open");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_needs_no_file_and_leaves_none() {
    for annotations in plain_annotations() {
        let scene = Scene::new();
        fs::remove_file(scene.path("eni_conf")).unwrap();
        fs::remove_file(scene.path("kubeconfig")).unwrap();
        let before = traces(&scene.path(""));
        live_and_die(&scene, &scene.pod("plain-0", IP, &[]), &annotations);
        assert_eq!(traces(&scene.path("")), before, "{annotations}");
        assert_eq!(scene.world.calls.mark(), 0, "{annotations}");
    }
}

#[test]
fn it_is_no_business_of_the_other_pods_attachments() {
    let scene = Scene::new();
    let served = scene.pod("web-0", OTHER_IP, &[WITH_EIP]);
    scene.add(&served).assert_added(&served);
    let held = scene.pod("web-1", [10, 219, 0, 7], &[WITH_EIP]);
    scene.add(&held).assert_added(&held);
    scene.del(&held);
    let (before, mark) = (traces(&scene.path("")), scene.world.calls.mark());
    let plain = scene.pod("plain-0", IP, &[]);
    for annotations in plain_annotations() {
        live_and_die(&scene, &plain.restarted(), &annotations);
        // The address of an EIP that is held for another pod carries nothing any more.
        live_and_die(&scene, &plain.restarted().at(held.ip.octets()), &annotations);
    }
    assert_eq!(traces(&scene.path("")), before);
    assert_eq!(scene.world.calls.since(mark).len(), 0);
    scene.assert_served(&served);
}

/// How often a verb opens the state file, and how often it reads from it.
fn looks(scene: &Scene, verb: &str, sandbox: &Sandbox) -> (usize, usize) {
    let mut stdin = scene.stdin(sandbox, (verb != "STATUS").then(|| sandbox.result()));
    stdin["cniVersion"] = json!(if verb == "STATUS" { "1.1.0" } else { "1.0.0" });
    let trace = traced(scene, &scene.command(verb, sandbox), &stdin, "openat,read");
    let count = |call: &str| trace.lines().filter(|line| line.contains(call) && line.contains("/state.json")).count();
    (count("openat("), count("read("))
}

#[test]
fn it_looks_at_the_state_once() {
    let scene = Scene::new();
    let served = scene.pod("web-0", OTHER_IP, &[WITH_EIP]);
    let (opened, _) = looks(&scene, "ADD", &served);
    assert_eq!(opened, 5, "an ADD with an EIP looks for its address and its name, and writes thrice");
    let plain = scene.pod("plain-0", IP, &[]);
    for verb in ["ADD", "CHECK", "DEL"] {
        let (opened, read) = looks(&scene, verb, &plain);
        assert_eq!(opened, 1, "{verb}");
        assert!(read > 0, "{verb}: the trace shows no reading");
    }
    assert_eq!(looks(&scene, "STATUS", &plain), (1, 0), "what it says is no business of STATUS");
}

#[test]
fn it_sends_no_packet() {
    on_node(&[], |_| {
        let scene = Scene::new();
        let served = scene.pod("web-0", OTHER_IP, &[WITH_EIP]);
        let untouched = counters();
        scene.add(&served).assert_added(&served);
        assert_ne!(counters(), untouched, "the counters see what a pod with an EIP causes");

        await_quiet();
        let before = counters();
        let plain = scene.pod("plain-0", IP, &[]);
        for annotations in plain_annotations() {
            live_and_die(&scene, &plain.restarted(), &annotations);
        }
        assert_eq!(counters(), before);

        // And without any interface that is up, which a connection would not survive.
        run(Command::new("ip").args(["link", "set", "lo", "down"])).unwrap();
        let before = counters();
        live_and_die(&scene, &plain.restarted(), &Value::Null);
        assert_eq!(counters(), before);
        scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(2));
        scene.add(&scene.pod("web-1", IP, &[WITH_EIP])).assert_error(11, &["get pods default/web-1", "timeout"]);
    });
}

#[test]
fn a_container_outside_kubernetes_and_a_switched_off_node_cause_no_call() {
    let scene = Scene::new();
    let asking = scene.pod("web-0", IP, &[WITH_EIP]);
    let mut command = scene.command("ADD", &asking);
    command.env_remove("CNI_ARGS");
    let answer: Answer =
        start(command, &scene.stdin(&asking, Some(asking.result()))).wait_with_output().unwrap().into();
    answer.assert_added(&asking);

    scene.configure(|settings| settings["enable_eip_pool"] = json!("false"));
    scene.add(&asking).assert_added(&asking);
    scene.del(&asking);
    assert_eq!(scene.world.calls.mark(), 0);
    assert!(!scene.state_dir().exists());
}

/// A pod whose EIP still stands on [`IP`], because its DEL found no cloud.
fn left_behind() -> Scene {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_del_timeout_seconds"] = json!(1));
    let earlier = scene.pod("earlier-0", IP, &[WITH_EIP]);
    scene.add(&earlier).assert_added(&earlier);
    scene.delete_pod(&earlier);
    scene.world.take_down(ServiceKind::Vpc);
    scene.del(&earlier);
    assert_eq!(scene.on(IP.into()).len(), 1, "{}", scene.log());
    scene
}

#[test]
fn a_stale_binding_on_its_address_is_removed_first() {
    let scene = left_behind();
    let plain = scene.pod("plain-0", IP, &[]);
    for annotations in plain_annotations() {
        let answer = call(&scene, "ADD", &plain, &annotations);
        answer.assert_error(11, &["an EIP of the earlier pod default/earlier-0 is still on this pod's address"]);
        scene.del(&plain);
    }
    // Other addresses have nothing to do with it, cloud or not.
    live_and_die(&scene, &scene.pod("plain-1", OTHER_IP, &[]), &Value::Null);

    scene.world.bring_up(ServiceKind::Vpc);
    call(&scene, "ADD", &plain, &Value::Null).assert_added(&plain);
    assert!(scene.on(plain.ip).is_empty());
    scene.assert_nothing_left();
}

#[test]
fn a_binding_whose_del_never_came_is_removed_too_and_the_living_owner_keeps_its_eip() {
    let scene = Scene::new();
    let earlier = scene.pod("earlier-0", IP, &[WITH_EIP]);
    scene.add(&earlier).assert_added(&earlier);
    let eip = scene.assert_served(&earlier);
    // The runtime lost the sandbox, and IPAM gave its address away.
    let plain = scene.pod("plain-0", IP, &[]);
    call(&scene, "ADD", &plain, &json!({})).assert_added(&plain);
    assert!(scene.on(IP.into()).is_empty());
    assert_eq!(scene.ours().len(), 1, "it is held for the pod that lives");

    let again = earlier.restarted().at(OTHER_IP);
    scene.add(&again).assert_added(&again);
    assert_eq!(scene.assert_served(&again).id, eip.id);
    assert_eq!(scene.ever_ours().len(), 1);
}

#[test]
fn the_same_sandbox_added_again_keeps_what_it_has() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    // The annotations were edited meanwhile; the same sandbox is ADDed once more.
    call(&scene, "ADD", &pod, &Value::Null).assert_added(&pod);
    scene.assert_served(&pod);
}
