//! What containerd does to a chained plugin: the facts podeip's ADD and DEL are built on. The plugin is a stand-in.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Containerd, NEEDS, PodSpec, Setup};
use crate::chain::GATEWAY;
use crate::node::on_node;
use crate::recorder::Plugin;

#[test]
fn add_carries_the_pods_identity_its_annotations_and_the_previous_result() {
    on_node(&NEEDS, |node| {
        let containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
        let pod = PodSpec::new("web-0").annotated("k8s.aliyun.com/pod-with-eip", "true").annotated("odd", "a=b;c\"<é");
        let id = containerd.run_pod(&pod).unwrap();

        let adds = containerd.recorder.calls_of("ADD");
        let [add] = &adds[..] else { panic!("{} ADDs", adds.len()) };
        assert_eq!(add.arg("K8S_POD_NAME"), Some("web-0"));
        assert_eq!(add.arg("K8S_POD_NAMESPACE"), Some("default"));
        assert_eq!(add.arg("K8S_POD_UID"), Some("uid-web-0"));
        assert_eq!(add.arg("K8S_POD_INFRA_CONTAINER_ID"), Some(id.as_str()));
        assert_eq!(add.env["CNI_CONTAINERID"], id);
        assert_eq!(add.env["CNI_IFNAME"], "eth0");
        assert!(add.env["CNI_NETNS"].starts_with("/var/run/netns/cni-"), "{}", add.env["CNI_NETNS"]);

        let annotations = &add.stdin["runtimeConfig"]["io.kubernetes.cri.pod-annotations"];
        assert_eq!(annotations["k8s.aliyun.com/pod-with-eip"], "true");
        assert_eq!(annotations["odd"], "a=b;c\"<é");
        assert_eq!(add.stdin["cniVersion"], "1.0.0");
        assert_eq!(add.stdin["name"], "pods");
        assert_eq!(add.stdin["prevResult"]["ips"][0]["address"], "10.219.0.2/24");
    });
}

#[test]
fn a_pod_without_annotations_has_null_for_them() {
    on_node(&NEEDS, |node| {
        let containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
        containerd.run_pod(&PodSpec::new("plain")).unwrap();
        let add = &containerd.recorder.calls_of("ADD")[0];
        let passed = add.stdin["runtimeConfig"].as_object().unwrap();
        assert!(passed["io.kubernetes.cri.pod-annotations"].is_null());
    });
}

#[test]
fn without_the_capability_no_annotations_are_passed() {
    on_node(&NEEDS, |node| {
        let setup = Setup { capability: false, cni_version: "0.3.1", ..Setup::new(Plugin::StandIn) };
        let containerd = Containerd::start(node, &setup);
        let id = containerd.run_pod(&PodSpec::new("web-0").annotated("k8s.aliyun.com/pod-with-eip", "true")).unwrap();
        containerd.stop(&id).unwrap();
        assert!(containerd.recorder.calls_of("ADD")[0].stdin.get("runtimeConfig").is_none());
        let del = &containerd.recorder.calls_of("DEL")[0];
        assert!(del.stdin.get("prevResult").is_none(), "below 0.4.0 DEL has no prevResult");
    });
}

#[test]
fn del_comes_twice_and_the_second_time_without_netns_and_previous_result() {
    on_node(&NEEDS, |node| {
        let containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
        let id = containerd.run_pod(&PodSpec::new("web-0").annotated("k8s.aliyun.com/pod-with-eip", "true")).unwrap();
        containerd.stop(&id).unwrap();
        containerd.remove(&id).unwrap();

        assert_eq!(containerd.recorder.commands(), ["ADD", "DEL", "DEL"]);
        let calls = containerd.recorder.calls();
        let (add, stop, remove) = (&calls[0], &calls[1], &calls[2]);
        assert_eq!(stop.env["CNI_NETNS"], add.env["CNI_NETNS"]);
        assert_eq!(stop.stdin["prevResult"], add.stdin["prevResult"]);
        assert_eq!(remove.env["CNI_NETNS"], "");
        assert!(remove.stdin.get("prevResult").is_none());
        for del in [stop, remove] {
            assert_eq!(del.env["CNI_CONTAINERID"], id);
            assert_eq!(del.arg("K8S_POD_UID"), Some("uid-web-0"));
            assert_eq!(del.stdin["runtimeConfig"], add.stdin["runtimeConfig"]);
        }
        assert!(containerd.sandboxes().is_empty());
    });
}

#[test]
fn a_failed_add_reaches_the_caller_word_by_word_and_is_followed_by_del_at_once() {
    on_node(&NEEDS, |node| {
        let containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
        containerd.recorder.fail("ADD", 11, "pod default/web-0: no EIP left, ask for quota");
        let refusal = containerd.run_pod(&PodSpec::new("web-0")).unwrap_err();
        assert!(refusal.contains(r#"plugin type="podeip""#), "{refusal}");
        assert!(refusal.contains("pod default/web-0: no EIP left, ask for quota"), "{refusal}");

        assert_eq!(containerd.recorder.commands(), ["ADD", "DEL"], "11 is not retried by the runtime");
        let calls = containerd.recorder.calls();
        let (add, del) = (&calls[0], &calls[1]);
        assert_eq!(del.env["CNI_CONTAINERID"], add.env["CNI_CONTAINERID"]);
        assert_eq!(del.env["CNI_NETNS"], add.env["CNI_NETNS"]);
        assert!(del.stdin.get("prevResult").is_none());
        assert!(containerd.sandboxes().is_empty());
    });
}

#[test]
fn a_failing_del_keeps_the_sandbox_and_the_primarys_address() {
    on_node(&NEEDS, |node| {
        let containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
        let id = containerd.run_pod(&PodSpec::new("web-0")).unwrap();
        containerd.recorder.fail("DEL", 108, "disk full");
        let refusal = containerd.stop(&id).unwrap_err();
        assert!(refusal.contains("disk full"), "{refusal}");
        assert!(containerd.remove(&id).is_err());
        assert_eq!(containerd.sandboxes().len(), 1);
        let second = PodSpec::new("web-1");
        containerd.run_pod(&second).unwrap();
        let adds = containerd.recorder.calls_of("ADD");
        assert_eq!(adds[1].stdin["prevResult"]["ips"][0]["address"], "10.219.0.3/24", "web-0 still holds .2");
    });
}

#[test]
fn a_deadline_kills_the_plugin_and_del_follows() {
    on_node(&NEEDS, |node| {
        let containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
        containerd.recorder.slow("ADD", 20);
        let started = Instant::now();
        let refusal = containerd.run_pod_within(&PodSpec::new("web-0"), Duration::from_secs(2)).unwrap_err();
        assert!(refusal.contains("DEADLINE_EXCEEDED"), "{refusal}");
        while containerd.recorder.calls_of("DEL").is_empty() {
            assert!(started.elapsed() < Duration::from_secs(15), "no DEL after a killed ADD");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn the_first_process_runs_after_add_and_reaches_the_node() {
    on_node(&NEEDS, |node| {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let url = format!("http://{GATEWAY}:{}/", listener.local_addr().unwrap().port());
        let setup = Setup { first_process: format!("wget -q -O - {url}"), ..Setup::new(Plugin::StandIn) };
        let containerd = Containerd::start(node, &setup);
        containerd.recorder.slow("ADD", 1);

        std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (mut client, peer) = listener.accept().unwrap();
                let _ = client.read(&mut [0; 1024]).unwrap();
                client.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nbehind").unwrap();
                (Instant::now(), peer.ip().to_string())
            });
            let started = Instant::now();
            let id = containerd.run_pod(&PodSpec::new("web-0")).unwrap();
            assert_eq!(containerd.first_process_output(&id), "behind");
            let (arrived, peer) = server.join().unwrap();
            assert_eq!(peer, "10.219.0.2");
            assert!(arrived - started > Duration::from_secs(1), "a process of the pod ran before ADD had ended");
        });
    });
}

#[test]
fn a_killed_containerd_finds_its_pods_again_and_sends_their_del() {
    on_node(&NEEDS, |node| {
        let mut containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
        let id = containerd.run_pod(&PodSpec::new("web-0")).unwrap();
        containerd.kill();
        containerd.restart();
        assert_eq!(containerd.sandboxes()[0]["state"], "READY");
        containerd.stop(&id).unwrap();
        assert_eq!(containerd.recorder.commands(), ["ADD", "DEL"]);
        assert!(containerd.recorder.calls()[1].stdin.get("prevResult").is_some());
    });
}

#[test]
fn it_loads_the_chain_as_written() {
    on_node(&NEEDS, |node| {
        let containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
        let status = containerd.status();
        assert_eq!(status["conditions"]["NetworkReady"]["status"], true);
        let networks = status["info"]["cniconfig"]["Networks"].as_array().unwrap();
        let pods = networks.iter().find(|network| network["Config"]["Name"] == "pods").unwrap();
        let types: Vec<&str> = pods["Config"]["Plugins"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["Network"]["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, ["ptp", "podeip"]);
        assert!(containerd.conflist().exists());
    });
}

/// The recorder becomes a real plugin: `tuning` changes the MTU of the interface that the primary has made.
#[test]
fn a_chained_executable_does_its_work_behind_the_recorder() {
    on_node(&NEEDS, |node| {
        let tuning = Plugin::Executable("/usr/lib/cni/tuning".into());
        let stanza = json!({ "mtu": 1234 });
        let setup = Setup { stanza, first_process: "ip link show eth0".to_owned(), ..Setup::new(tuning) };
        let containerd = Containerd::start(node, &setup);
        let id = containerd.run_pod(&PodSpec::new("web-0")).unwrap();
        let shown = containerd.first_process_output(&id);
        assert!(shown.contains("mtu 1234"), "{shown}");
        containerd.stop(&id).unwrap();
        assert_eq!(containerd.recorder.commands(), ["ADD", "DEL"]);
    });
}

#[test]
fn a_container_shares_its_sandboxs_network() {
    on_node(&NEEDS, |node| {
        let containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
        let id = containerd.run_pod(&PodSpec::new("web-0")).unwrap();
        let shared = node.dir("shared");
        let look = "ip -4 addr show eth0 >/shared/part && busybox mv /shared/part /shared/seen";
        containerd.run_container(&id, &shared, &["sh", "-c", look]).unwrap();
        let started = Instant::now();
        while !shared.join("seen").exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "the container has written nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(std::fs::read_to_string(shared.join("seen")).unwrap().contains("10.219.0.2/24"));
        assert_eq!(containerd.recorder.commands(), ["ADD"], "a container's start is no business of the network");
    });
}
