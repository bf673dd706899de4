//! The wire: what podeip reads and prints for every version and verb, byte for byte.

use std::fs;
use std::process::{Command, Stdio};

use podeip_sim::calls::ServiceKind;
use serde_json::{Value, json};

use super::{EIP_POD, fed};
use crate::scene::{Answer, Sandbox, Scene, WITH_EIP, executable, start};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Results of real primaries, as text, since key order, spacing and number spelling have to survive. `IP` stands for
/// the pod's address.
const RESULTS: [&str; 6] = [
    // Terway: the sandbox is a container id, no MAC, no routes.
    r#"{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"0f3c"}],"ips":[{"version":"4","interface":0,"address":"IP/32","gateway":"10.219.0.253"}],"dns":{}}"#,
    // Calico: the host's side first, with empty texts.
    r#"{"cniVersion":"0.3.1","interfaces":[{"name":"cali0123","mac":"","sandbox":""}],"ips":[{"version":"4","address":"IP/32"}],"routes":null}"#,
    // AWS: a dummy interface that carries numbers.
    r#"{"interfaces":[{"name":"eni1"},{"name":"eth0","sandbox":"/run/netns/x"},{"name":"dummy0","mac":"0","sandbox":"2"}],"ips":[{"address":"IP/32","interface":1}]}"#,
    // Spacing, escapes, numbers that a decoder would spell otherwise, keys of nobody we know.
    "{ \"ips\" : [ {\"address\":\"fd00::5/64\"},\t{\"address\":\"IP/24\",\"x\":1.50} ],\n \"z\":12345678901234567890123, \"a\":\"\\u003c\\/\u{e9}\", \"a2\":{\"b\":[null,{}]}, \"dns\":{\"nameservers\":[]} }",
    // 1.1.0's own fields.
    r#"{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mac":"aa:bb:cc:dd:ee:ff","mtu":1500,"sandbox":"/x","socketPath":"/s","pciID":"0000:00"}],"ips":[{"address":"IP/24","interface":0}],"routes":[{"dst":"0.0.0.0/0","mtu":1400,"advmss":1360,"priority":3,"table":9,"scope":253}]}"#,
    r#"{"ips":[{"address":"IP"}],"interfaces":null,"cniVersion":"1.0.0"}"#,
];

/// ADD with this text as the previous result, in a list of this version.
fn add(scene: &Scene, sandbox: &Sandbox, version: &str, result: &str) -> Answer {
    let mut stdin = scene.stdin(sandbox, None);
    stdin["cniVersion"] = json!(version);
    let stdin = stdin.to_string();
    let stdin = format!("{},\"prevResult\":{result}}}", stdin.strip_suffix('}').unwrap());
    fed(scene.command("ADD", sandbox), &stdin)
}

fn call(scene: &Scene, verb: &str, sandbox: &Sandbox, change: impl FnOnce(&mut Value)) -> Answer {
    let mut stdin = scene.stdin(sandbox, Some(sandbox.result()));
    stdin["cniVersion"] = json!("1.1.0");
    change(&mut stdin);
    start(scene.command(verb, sandbox), &stdin).wait_with_output().unwrap().into()
}

fn assert_fine(answer: &Answer) {
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), ""), "{answer:?}");
}

#[test]
fn the_previous_result_is_printed_as_it_was_received() {
    let scene = Scene::new();
    let plain = scene.pod("plain-0", [10, 219, 0, 6], &[]);
    for version in VERSIONS {
        for result in RESULTS {
            let result = result.replace("IP", "10.219.0.6");
            let answer = add(&scene, &plain, version, &result);
            assert_eq!((answer.code, answer.stdout), (Some(0), format!("{result}\n")), "{version}");
        }
    }
    for (nth, result) in RESULTS.iter().enumerate() {
        let last = 10 + u8::try_from(nth).unwrap();
        let pod = scene.pod(&format!("web-{nth}"), [10, 219, 0, last], &[WITH_EIP]);
        let result = result.replace("IP", &pod.ip.to_string());
        let answer = add(&scene, &pod, VERSIONS[nth % VERSIONS.len()], &result);
        assert_eq!((answer.code, answer.stdout), (Some(0), format!("{result}\n")), "{}", answer.stderr);
        scene.assert_served(&pod);
    }
}

#[test]
fn errors_carry_the_lists_version() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", EIP_POD, &[("k8s.aliyun.com/pod-with-eip", "perhaps")]);
    for version in VERSIONS {
        let answer = add(&scene, &pod, version, r#"{"ips":[{"address":"10.219.0.5/24"}]}"#);
        answer.assert_error(100, &["perhaps"]);
        let error: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(error["cniVersion"], version);
    }
}

#[test]
fn version_is_answered_whatever_is_asked() {
    let scene = Scene::new();
    for (stdin, echoed) in [
        (r#"{"cniVersion":"1.1.0"}"#, "1.1.0"),
        (r#"{"cniVersion":"0.4.0","name":"x"}"#, "0.4.0"),
        (r#"{"cniVersion":"2.3.4"}"#, "2.3.4"),
        ("{}", "1.1.0"),
        ("", "1.1.0"),
    ] {
        let mut command = Command::new(executable());
        command.env_clear().env("CNI_COMMAND", "VERSION");
        for name in ["CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
            command.env(name, "dummy");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let answer = fed(command, stdin);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer:?}");
        let printed: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(printed, json!({"cniVersion": echoed, "supportedVersions": VERSIONS}));
    }
    assert!(!scene.state_dir().exists());
}

#[test]
fn check_compares_record_and_result() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", EIP_POD, &[WITH_EIP]);
    let check = |sandbox: &Sandbox| call(&scene, "CHECK", sandbox, |_| {});
    check(&pod).assert_error(108, &["no record", "delete the pod"]);
    scene.add(&pod).assert_added(&pod);
    let mark = scene.world.calls.mark();
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        assert_fine(&call(&scene, "CHECK", &pod, |stdin| stdin["cniVersion"] = json!(version)));
    }
    call(&scene, "CHECK", &pod, |stdin| stdin["cniVersion"] = json!("0.3.1")).assert_error(1, &["0.3.1", "CHECK"]);
    check(&pod.at([10, 219, 0, 99])).assert_error(108, &["10.219.0.99", "10.219.0.5"]);
    check(&pod.restarted()).assert_error(108, &["no record"]);
    let plain = scene.pod("plain-0", [10, 219, 0, 6], &[]);
    assert_fine(&check(&plain));
    assert_eq!(scene.world.calls.mark(), mark, "CHECK is local");

    // A sandbox whose EIP was taken away by a DEL.
    scene.del(&pod);
    check(&pod).assert_error(108, &["phase"]);
    scene.configure(|settings| settings["enable_eip_pool"] = json!(false));
    assert_fine(&check(&pod.restarted()));
}

#[test]
fn status_fails_only_when_no_add_could_work() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", EIP_POD, &[WITH_EIP]);
    let status = || {
        let mut stdin = scene.stdin(&pod, None);
        stdin["cniVersion"] = json!("1.1.0");
        stdin.as_object_mut().unwrap().remove("runtimeConfig");
        let mut command = scene.command("STATUS", &pod);
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
            command.env(name, "");
        }
        fed(command, &stdin.to_string())
    };
    assert_fine(&status());
    scene.write("eni_conf", "{");
    status().assert_error(50, &["eni_conf", "not JSON"]);
    scene.configure(|settings| settings["enable_eip_pool"] = json!("perhaps"));
    status().assert_error(50, &["enable_eip_pool"]);
    scene.configure(|_| {});
    // Remote systems are none of its business.
    for service in [ServiceKind::Kube, ServiceKind::Vpc, ServiceKind::Metadata] {
        scene.world.take_down(service);
    }
    fs::remove_file(scene.path("kubeconfig")).unwrap();
    assert_fine(&status());
    fs::remove_dir_all(scene.state_dir()).unwrap();
    scene.write("state", "not a directory");
    status().assert_error(50, &["not a directory"]);
    fs::remove_file(scene.state_dir()).unwrap();
    fs::create_dir_all(scene.state_dir().join("state.json")).unwrap();
    status().assert_error(50, &["state.json"]);
    assert!(scene.world.calls.all().is_empty());
}

/// Two served pods: one whose netns is gone, one whose netns stands.
fn gone_and_standing(scene: &Scene) -> (Sandbox, Sandbox) {
    let gone = scene.pod("gone-0", [10, 219, 0, 5], &[WITH_EIP]);
    let standing = scene.pod("standing-0", [10, 219, 0, 6], &[WITH_EIP]);
    let standing = Sandbox { netns: format!("/proc/{}/ns/net", std::process::id()), ..standing };
    for pod in [&gone, &standing] {
        scene.add(pod).assert_added(pod);
        scene.delete_pod(pod);
    }
    (gone, standing)
}

fn gc(scene: &Scene, any: &Sandbox, change: impl FnOnce(&mut Value)) {
    let mut stdin = scene.stdin(any, None);
    stdin["cniVersion"] = json!("1.1.0");
    stdin.as_object_mut().unwrap().remove("runtimeConfig");
    change(&mut stdin);
    let mut command = scene.command("GC", any);
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
        command.env(name, "");
    }
    assert_fine(&fed(command, &stdin.to_string()));
}

#[test]
fn gc_ends_what_is_neither_valid_nor_alive() {
    let scene = Scene::new();
    let (gone, standing) = gone_and_standing(&scene);
    let bound = || (scene.on(gone.ip).len(), scene.on(standing.ip).len());
    gc(&scene, &gone, |_| {});
    assert_eq!(bound(), (1, 1), "an absent key says nothing");
    let entry = |pod: &Sandbox| json!({"containerID": pod.container_id, "ifname": "eth0"});
    gc(&scene, &gone, |stdin| stdin["cni.dev/valid-attachments"] = json!([entry(&gone), entry(&standing)]));
    assert_eq!(bound(), (1, 1), "both are valid");
    gc(&scene, &gone, |stdin| stdin["cni.dev/attachments"] = json!([entry(&gone)]));
    assert_eq!(bound(), (1, 1), "the netns stands");
    gc(&scene, &gone, |stdin| stdin["cni.dev/valid-attachments"] = json!([entry(&standing)]));
    assert_eq!(bound(), (0, 1));
    assert_eq!(scene.ours().len(), 1);

    let later = scene.pod("later-0", [10, 219, 0, 7], &[WITH_EIP]);
    scene.add(&later).assert_added(&later);
    // Go's empty list. The pod lives on, so its EIP is held for its next sandbox.
    gc(&scene, &gone, |stdin| stdin["cni.dev/valid-attachments"] = Value::Null);
    assert_eq!((scene.on(later.ip).len(), scene.on(standing.ip).len(), scene.ours().len()), (0, 1, 2));
    let next = later.restarted();
    scene.add(&next).assert_added(&next);
    scene.assert_served(&next);
    assert_eq!(scene.ever_ours().len(), 3);
    // Another interface of the same sandbox keeps nothing alive.
    let other = json!([{"containerID": next.container_id, "ifname": "net1"}]);
    gc(&scene, &gone, |stdin| stdin["cni.dev/valid-attachments"] = other);
    assert!(scene.on(next.ip).is_empty());
    scene.delete_pod(&later);
    scene.del(&standing);
    gc(&scene, &gone, |stdin| stdin["cni.dev/valid-attachments"] = json!([]));
    scene.assert_nothing_left();
}

/// Its record names a stand-in for the container id, which no runtime lists.
#[test]
fn gc_leaves_a_running_pod_whose_record_was_rebuilt() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]).alive();
    scene.add(&pod).assert_added(&pod);
    fs::remove_file(scene.state_dir().join("state.json")).unwrap();
    scene.agent_once();
    assert_eq!(scene.records().len(), 1, "it is rebuilt");
    let valid = json!([{"containerID": pod.container_id, "ifname": "eth0"}]);
    gc(&scene, &pod, |stdin| stdin["cni.dev/valid-attachments"] = valid);
    scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn gc_that_cannot_read_the_list_ends_nothing() {
    let scene = Scene::new();
    let (gone, _) = gone_and_standing(&scene);
    for list in [json!({}), json!([{"containerID": 7}]), json!(["x"])] {
        let answer = call(&scene, "GC", &gone, |stdin| stdin["cni.dev/valid-attachments"] = list);
        answer.assert_error(6, &["cni.dev/valid-attachments"]);
    }
    assert_eq!(scene.ours().len(), 2);
    assert_eq!(scene.on(gone.ip).len(), 1);
}

#[test]
fn stdout_carries_one_document_and_nothing_else() {
    let scene = Scene::new();
    // The log is nowhere to be written, so everything goes to stderr, which is closed: whoever opens the next file
    // must not end up there, nor on stdout.
    let run = |verb: &str, sandbox: &Sandbox| {
        let inner = scene.command(verb, sandbox);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$0\" 2>&-"]).arg(inner.get_program()).env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut stdin = scene.stdin(sandbox, Some(sandbox.result()));
        stdin["logLevel"] = json!("trace");
        stdin["logFile"] = json!("/proc/nowhere/podeip.log");
        stdin["cniVersion"] = json!("1.1.0");
        fed(command, &stdin.to_string())
    };
    let pod = scene.pod("web-0", EIP_POD, &[WITH_EIP]);
    let refused = scene.pod("wrong-0", [10, 219, 0, 6], &[("k8s.aliyun.com/pod-with-eip", "perhaps")]);
    let added = run("ADD", &pod);
    added.assert_added(&pod);
    assert_eq!(added.stdout, format!("{}\n", pod.result()));
    run("ADD", &refused).assert_error(100, &["perhaps"]);
    for verb in ["CHECK", "STATUS", "DEL", "DEL"] {
        assert_fine(&run(verb, &pod));
    }
    let version: Value = serde_json::from_str(&run("VERSION", &pod).stdout).unwrap();
    assert_eq!(version["cniVersion"], "1.1.0");
}
