//! What bad input gets: a CNI error with the right code and a sentence that names the thing and the remedy. Nothing is
//! allocated and nothing is lost.

use std::fs;
use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP, start};

mod files;
mod hostile;
mod identity;
mod state;
mod wire;

const EIP_POD: [u8; 4] = [10, 219, 0, 5];

/// Runs `command` with exactly these bytes on stdin.
fn fed(mut command: Command, stdin: &str) -> Answer {
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap().into()
}

/// ADD with a stdin that `change` made different.
fn add_with(scene: &Scene, sandbox: &Sandbox, change: impl FnOnce(&mut Value)) -> Answer {
    let mut stdin = scene.stdin(sandbox, Some(sandbox.result()));
    change(&mut stdin);
    start(scene.command("ADD", sandbox), &stdin).wait_with_output().unwrap().into()
}

impl Scene {
    /// The refusal is one whole CNI error object, and the cloud was left alone.
    #[track_caller]
    fn assert_refused(&self, answer: &Answer, code: u64, words: &[&str]) {
        answer.assert_error(code, words);
        let error: Value = serde_json::from_str(&answer.stdout).unwrap();
        let keys: Vec<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["cniVersion", "code", "details", "msg"], "{answer:?}");
        assert!(self.ever_ours().is_empty(), "{:?}", self.ever_ours());
    }

    fn asking_pod(&self) -> Sandbox {
        self.pod("web-0", EIP_POD, &[WITH_EIP])
    }

    fn plain_pod(&self) -> Sandbox {
        self.pod("plain-0", [10, 219, 0, 6], &[])
    }
}

#[test]
fn an_environment_that_no_runtime_sends() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    type Change<'a> = &'a dyn Fn(&mut Command) -> &mut Command;
    let with = |verb: &str, change: Change| {
        let mut command = scene.command(verb, &pod);
        change(&mut command);
        fed(command, &scene.stdin(&pod, Some(pod.result())).to_string())
    };
    scene.assert_refused(&with("UPDATE", &|command| command), 4, &["CNI_COMMAND", "UPDATE"]);
    scene.assert_refused(&with("add", &|command| command), 4, &["CNI_COMMAND", "add"]);
    for verb in ["ADD", "CHECK"] {
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
        for name in names {
            scene.assert_refused(&with(verb, &|command| command.env_remove(name)), 4, &[name]);
            scene.assert_refused(&with(verb, &|command| command.env(name, "")), 4, &[name]);
        }
        let all = with(verb, &|command| names.iter().fold(command, |command, name| command.env_remove(name)));
        scene.assert_refused(&all, 4, &names);
    }
    for name in ["CNI_CONTAINERID", "CNI_IFNAME"] {
        scene.assert_refused(&with("DEL", &|command| command.env_remove(name)), 4, &[name]);
    }
    for (name, value) in [("CNI_IFNAME", "a/b"), ("CNI_IFNAME", "sixteen-letters-"), ("CNI_CONTAINERID", "../../x")] {
        scene.assert_refused(&with("ADD", &|command| command.env(name, value)), 4, &[name, value]);
    }
    assert!(!scene.state_dir().exists());
}

#[test]
fn a_configuration_that_is_not_one_json_object() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    for stdin in ["", "{", "[]", "null", "nonsense", "{} {}", "{\"cniVersion\":\"1.0.0\"} trailing"] {
        for verb in ["ADD", "CHECK"] {
            scene.assert_refused(&fed(scene.command(verb, &pod), stdin), 6, &["stdin", "JSON"]);
        }
    }
    scene.assert_refused(&add_with(&scene, &pod, |stdin| stdin["prevResult"] = json!("x")), 6, &["prevResult"]);
    let annotations = json!({ "io.kubernetes.cri.pod-annotations": ["x"] });
    let answer = add_with(&scene, &pod, |stdin| stdin["runtimeConfig"] = annotations);
    scene.assert_refused(&answer, 6, &["io.kubernetes.cri.pod-annotations"]);
}

#[test]
fn a_list_that_cannot_chain() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    let refused = |code, words: &[&str], change: &dyn Fn(&mut Value)| {
        scene.assert_refused(&add_with(&scene, &pod, change), code, words);
    };
    // First in the list: nobody before us reported an address.
    refused(7, &["prevResult", "after the primary", "conflist"], &|stdin| {
        stdin.as_object_mut().unwrap().remove("prevResult");
    });
    refused(7, &["prevResult"], &|stdin| stdin["prevResult"] = Value::Null);
    refused(7, &["name"], &|stdin| stdin["name"] = json!(""));
    for version in ["0.1.0", "0.2.0", "1.2.0", "9.9.9", "x"] {
        refused(1, &[version, "1.0.0"], &|stdin| stdin["cniVersion"] = json!(version));
    }
    refused(1, &["0.1.0"], &|stdin| drop(stdin.as_object_mut().unwrap().remove("cniVersion")));
}

#[test]
fn keys_of_our_stanza_with_a_wrong_type_are_named() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    for key in ["config", "kubeconfig", "stateDir", "logFile", "logLevel"] {
        for wrong in [json!(7), json!(["/x"]), json!("relative/or/unknown")] {
            scene.assert_refused(&add_with(&scene, &pod, |stdin| stdin[key] = wrong), 101, &["stanza", key]);
        }
    }
    let answer = add_with(&scene, &pod, |stdin| {
        stdin["config"] = json!(1);
        stdin["logLevel"] = json!("loud");
    });
    scene.assert_refused(&answer, 101, &["\"config\" must be a text", "\"logLevel\" must be off, error"]);
    // DEL has to work with whatever does not keep it from the state.
    let del = |key: &str| {
        let mut stdin = scene.stdin(&pod, None);
        stdin[key] = json!(7);
        Answer::from(start(scene.command("DEL", &pod), &stdin).wait_with_output().unwrap())
    };
    for key in ["config", "kubeconfig", "logFile", "logLevel"] {
        assert_eq!((del(key).code, del(key).stdout.as_str()), (Some(0), ""), "{key}");
    }
    del("stateDir").assert_error(101, &["stateDir"]);
    let answer = add_with(&scene, &pod, |stdin| stdin["aKeyOfLater"] = json!({"x": [1]}));
    answer.assert_added(&pod);
}

#[test]
fn a_pod_without_an_ipv4_address() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    let only_v6 = json!([{"address": "fd00:10:219::5/64", "interface": 1}]);
    for ips in [json!([]), Value::Null, only_v6.clone()] {
        let answer = add_with(&scene, &pod, |stdin| stdin["prevResult"]["ips"] = ips);
        scene.assert_refused(&answer, 105, &["default/web-0", "IPv4", "eth0", "after the plugin that gives"]);
    }
    assert!(!scene.events(&pod, "EIPFailed").is_empty());
    assert!(scene.world.calls.all().iter().all(|call| !call.service.is_cloud()));
    // Without an EIP it is nobody's business.
    let plain = scene.plain_pod();
    assert_eq!(add_with(&scene, &plain, |stdin| stdin["prevResult"]["ips"] = only_v6).code, Some(0));
}

#[test]
fn settings_that_cannot_be_used() {
    let scene = Scene::new();
    let (pod, plain) = (scene.asking_pod(), scene.plain_pod());
    let path = scene.path("eni_conf").display().to_string();
    fs::remove_file(&path).unwrap();
    let mut told = 0;
    let mut refused = |words: &[&str]| {
        let words: Vec<&str> = words.iter().copied().chain([path.as_str()]).collect();
        let answer = scene.add(&pod);
        scene.assert_refused(&answer, 101, &words);
        let (_, text) = answer.error();
        assert!(!text.contains("simulatedSecret"), "{text}");
        scene.add(&plain).assert_added(&plain);
        assert!(scene.log().contains(words[0]), "the log does not say it: {}", scene.log());
        let events = scene.events(&pod, "EIPFailed");
        assert!(events.len() > told && events.last().unwrap().contains(words[0]), "{events:?}");
        told = events.len();
    };
    refused(&["cannot read the settings", "kube-system/eni-config"]);
    scene.write("eni_conf", "{\"access_secret\": \"simulatedSecretKey\", ");
    refused(&["not JSON"]);
    scene.write("eni_conf", "[\"simulatedSecretKey\"]");
    refused(&["not a JSON object"]);
    scene.configure(|settings| settings["enable_eip_pool"] = json!("yes"));
    refused(&["\"enable_eip_pool\"", "true or false"]);
    scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(0));
    refused(&["\"eip_add_timeout_seconds\"", "whole number"]);
    scene.configure(|settings| settings["access_secret"] = json!({"is": "simulatedSecretKey"}));
    refused(&["\"access_secret\"", "must be a text"]);
    scene.configure(|settings| settings["endpoints"]["vpc"] = json!("https://u:simulatedSecret@vpc"));
    refused(&["\"endpoints.vpc\"", "URL"]);
    scene.configure(|settings| drop(settings.as_object_mut().unwrap().remove("cluster_id")));
    refused(&["\"cluster_id\"", "owner tags"]);
    assert!(scene.world.calls.all().iter().all(|call| !call.service.is_cloud()), "{:?}", scene.world.calls.all());

    scene.configure(|_| {});
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
}

#[test]
fn annotations_that_break_a_rule() {
    let scene = Scene::new();
    let wrong: [(&str, &str, &str); 20] = [
        ("network.alibabacloud.com/pod-with-eip", "yes", "\"true\" or \"false\""),
        ("k8s.aliyun.com/eip-bandwidth", "0", "1 to 200"),
        ("k8s.aliyun.com/eip-bandwidth", "201", "1 to 200"),
        ("network.alibabacloud.com/eip-bandwidth", "5M", "whole number"),
        ("k8s.aliyun.com/eip-charge-type", "PayLater", "PayByTraffic"),
        ("k8s.aliyun.com/eip-instance-charge-type", "PrePaid", "PostPaid"),
        ("k8s.aliyun.com/eip-isp", "BGP2", "BGP"),
        ("k8s.aliyun.com/eip-isp", "ChinaTelecom", "PayByBandwidth"),
        ("k8s.aliyun.com/eip-common-bandwidth-package-id", "package", "cbwp-"),
        ("k8s.aliyun.com/eip-public-ip-address-pool-id", "pool", "pippool-"),
        ("k8s.aliyun.com/eip-resource-group-id", "group", "rg-"),
        ("k8s.aliyun.com/pod-eip-instanceid", "eni-1", "eip-"),
        ("k8s.aliyun.com/eip-security-protection-types", "AntiDDoS", "AntiDDoS_Enhanced"),
        ("k8s.aliyun.com/eip-tags", "[]", "JSON object"),
        ("k8s.aliyun.com/eip-tags", "{\"podeip-uid\":\"x\"}", "podeip-"),
        ("k8s.aliyun.com/eip-tags", "{\"acs:x\":\"x\"}", "acs:"),
        ("k8s.aliyun.com/pod-eip-release-strategy", "never", "Follow, Never"),
        ("k8s.aliyun.com/pod-eip-release-strategy", "0s", "duration"),
        ("k8s.aliyun.com/pod-eip-release-strategy", "5", "duration"),
        ("k8s.aliyun.com/pod-eip-release-strategy", "-5m", "duration"),
    ];
    for (nth, (key, value, allowed)) in wrong.into_iter().enumerate() {
        let pod = scene.pod(&format!("web-{nth}"), EIP_POD, &[("k8s.aliyun.com/pod-with-eip", "true"), (key, value)]);
        let shown = format!("{value:?}");
        scene.assert_refused(&scene.add(&pod), 100, &[key, &shown, allowed]);
        let events = scene.events(&pod, "EIPFailed");
        assert!(events.len() == 1 && events[0].contains(key) && events[0].contains(allowed), "{events:?}");
        scene.del(&pod);
    }
    assert!(scene.world.calls.all().iter().all(|call| !call.service.is_cloud()), "{:?}", scene.world.calls.all());
    assert!(scene.records().is_empty());
    assert!(scene.world.cluster.list("podeips").is_empty());
}

#[test]
fn a_kubeconfig_that_cannot_be_used() {
    let scene = Scene::new();
    let (pod, plain) = (scene.asking_pod(), scene.plain_pod());
    let path = scene.path("kubeconfig").display().to_string();
    fs::remove_file(&path).unwrap();
    let refused = |words: &[&str]| {
        let words: Vec<&str> = words.iter().copied().chain([path.as_str()]).collect();
        scene.assert_refused(&scene.add(&pod), 101, &words);
        scene.add(&plain).assert_added(&plain);
        // A DEL needs it even less.
        scene.del(&pod);
    };
    refused(&["does not exist", "kube-system/podeip"]);
    scene.write("kubeconfig", "a: [b");
    refused(&["neither YAML nor JSON"]);
    scene.write("kubeconfig", "apiVersion: v1\nkind: Config\n");
    refused(&["current-context"]);
    scene.write("kubeconfig", &scene.world.kubeconfig().replace("server: https", "server: gopher"));
    refused(&["server"]);
    let users_at = |key: &str| scene.world.kubeconfig().replace("    token: ", &format!("    {key}: "));
    scene.write("kubeconfig", &users_at("exec"));
    refused(&["exec", "must not"]);
    scene.write("kubeconfig", &users_at("tokenFile").replace("simulated-service-account-token", "/nowhere/token"));
    refused(&["/nowhere/token"]);
}

#[test]
fn del_of_the_unknown_is_success_and_leaves_no_trace() {
    let scene = Scene::new();
    let unknown = scene.pod("never-added", EIP_POD, &[WITH_EIP]);
    let with = |sandbox: &Sandbox, change: &dyn Fn(&mut Value)| {
        let mut stdin = scene.stdin(sandbox, None);
        change(&mut stdin);
        let answer: Answer = start(scene.command("DEL", sandbox), &stdin).wait_with_output().unwrap().into();
        assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (Some(0), "", ""), "{stdin}");
    };
    let changes: [&dyn Fn(&mut Value); 7] = [
        &|_| {},
        &|stdin| stdin["prevResult"] = json!({"ips": [{"address": "10.219.0.5/24"}]}),
        &|stdin| stdin["prevResult"] = json!("not a result"),
        &|stdin| stdin["cniVersion"] = json!("0.2.0"),
        &|stdin| stdin["cniVersion"] = json!("7.0.0"),
        &|stdin| stdin["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": 5}),
        &|stdin| stdin["config"] = json!("/nowhere/eni_conf"),
    ];
    for change in changes {
        for _ in 0..2 {
            with(&unknown, change);
            with(&unknown.without_netns(), change);
        }
    }
    let mut command = scene.command("DEL", &unknown);
    command.env("CNI_ARGS", "");
    assert_eq!(fed(command, &scene.stdin(&unknown, None).to_string()).code, Some(0));

    // Another sandbox of a served pod is as unknown.
    assert!(!scene.state_dir().exists());
    assert!(scene.world.calls.all().is_empty());
    scene.add(&unknown).assert_added(&unknown);
    let eip = scene.assert_served(&unknown);
    scene.del(&unknown.restarted());
    assert_eq!(scene.assert_served(&unknown).id, eip.id);
}

#[test]
fn the_switch_is_off() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    let wrong = scene.pod("wrong-0", [10, 219, 0, 7], &[("k8s.aliyun.com/pod-with-eip", "perhaps")]);
    let not_passed = Sandbox { annotations: None, ..pod.clone() };
    for off in [json!(false), json!("false"), json!("False"), json!(""), Value::Null] {
        scene.configure(|settings| settings["enable_eip_pool"] = off);
        for sandbox in [&pod, &wrong, &not_passed] {
            scene.add(sandbox).assert_added(sandbox);
            scene.del(sandbox);
        }
    }
    assert!(scene.world.calls.all().is_empty(), "{:?}", scene.world.calls.all());
    assert!(!scene.state_dir().exists());

    // Switched off later: what was bound is still taken back.
    scene.configure(|_| {});
    scene.add(&pod).assert_added(&pod);
    scene.configure(|settings| settings["enable_eip_pool"] = json!(false));
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
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
