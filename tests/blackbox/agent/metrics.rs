//! What a running agent serves: its node's verbs, EIPs and rounds, and the sweep's figures.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;

use podeip_sim::cloud::defaults;
use serde_json::Value;

use super::{IP, running};
use crate::arranged;
use crate::samples::installed;
use crate::scene::{Scene, WITH_EIP, await_true};

/// An agent on a free port, and the address it says it serves on.
pub struct Serving {
    agent: Child,
    address: String,
}

impl Serving {
    pub fn start(scene: &Scene) -> Self {
        Self::with(scene, "--metrics=127.0.0.1:0")
    }

    fn with(scene: &Scene, option: &str) -> Self {
        let mut agent = scene.agent(&[option]).spawn().unwrap();
        let mut said = BufReader::new(agent.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("http://") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "the agent ended");
        }
        // Whoever stops reading would stop the agent's log.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let address = line.split("http://").nth(1).unwrap().trim().to_string();
        Self { agent, address }
    }

    /// Status line and body.
    pub fn fetch(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_string(), body.to_string())
    }

    fn shows(&self, line: &str) -> bool {
        self.fetch("/metrics").1.lines().any(|shown| shown == line)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

#[test]
fn a_running_agent_tells_verbs_eips_calls_and_sweeps() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let agent = Serving::start(&scene);
    for line in [
        "podeip_eips{phase=\"Bound\"} 1",
        "podeip_held_eips 0",
        "podeip_rounds_total{outcome=\"ok\"} 1",
        "podeip_sweep_leader 1",
        "podeip_leaked_eips 0",
        "podeip_podeips 1",
        // The user's, and the pod's.
        "podeip_account_eips 2",
    ] {
        await_true(line, || agent.shows(line));
    }
    assert_eq!(agent.fetch("/healthz"), ("HTTP/1.1 200 OK".into(), "ok\n".into()));
    let (status, metrics) = agent.fetch("/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(metrics.contains("podeip_api_calls_total{action=\"DescribeEipAddresses\",code=\"OK\"}"), "{metrics}");
    assert!(!metrics.contains("podeip_verbs_total{"), "what was before the agent is not counted: {metrics}");

    let failing = scene.pod("failing", [10, 219, 0, 6], &[WITH_EIP, ("k8s.aliyun.com/eip-bandwidth", "0")]);
    scene.add(&failing).assert_error(100, &["eip-bandwidth"]);
    scene.delete_pod(&pod);
    scene.del(&pod);
    for line in [
        "podeip_verbs_total{verb=\"ADD\",outcome=\"annotation\"} 1",
        "podeip_verbs_total{verb=\"DEL\",outcome=\"ok\"} 1",
        "podeip_verb_duration_seconds_count{verb=\"DEL\"} 1",
        "podeip_eips{phase=\"Bound\"} 0",
    ] {
        await_true(line, || agent.shows(line));
    }
    assert!(agent.fetch("/other").0.contains("404"));
}

#[test]
fn without_an_address_only_the_node_itself_is_told() {
    let help = Scene::new().podeip(&["agent", "--help"]);
    assert!(help.stdout.contains("[default: 127.0.0.1:9110]"), "{help:?}");
}

#[test]
fn the_address_of_the_node_is_served_as_the_manifest_says() {
    /// Of a loopback network that no other test uses, for the port is a fixed one.
    const HOST_IP: &str = "127.91.10.7";
    let patch = fs::read_to_string(installed("monitoring/metrics.yaml")).unwrap();
    let patch: Value = serde_saphyr::from_str(&patch).unwrap();
    let added = |path: &str| {
        let path = format!("/spec/template/spec/containers/0/{path}");
        let operation = patch.as_array().unwrap().iter().find(|operation| operation["path"] == *path);
        operation.unwrap_or_else(|| panic!("{path}"))["value"].clone()
    };
    let host = &added("env/-");
    assert_eq!(host["valueFrom"]["fieldRef"]["fieldPath"], "status.hostIP");
    let variable = format!("$({})", host["name"].as_str().unwrap());
    let option = added("args/-").as_str().unwrap().replace(&variable, HOST_IP);

    let scene = Scene::new();
    let agent = Serving::with(&scene, &option);
    assert_eq!(agent.address, format!("{HOST_IP}:{}", added("ports")[0]["containerPort"]));
    assert_eq!(agent.fetch("/metrics").0, "HTTP/1.1 200 OK");
}

#[test]
fn the_end_of_the_kubeconfigs_token_is_told() {
    let scene = Scene::new();
    let ends = jiff::Timestamp::now().as_second() + 1800;
    let token = arranged::token(-1800, 1800, &serde_json::json!({}));
    scene.world.cluster.set_token(Some(&token));
    scene.write("kubeconfig", &scene.world.kubeconfig().replace(defaults::KUBE_TOKEN, &token));
    let agent = Serving::start(&scene);
    let told = || {
        let shown = agent.fetch("/metrics").1;
        let line =
            shown.lines().find_map(|line| line.strip_prefix("podeip_kubeconfig_token_expiry_timestamp_seconds "));
        line.map(|end| end.parse::<i64>().unwrap())
    };
    await_true("the token's end", || told().is_some());
    let told = told().unwrap();
    assert!((ends..=ends + 10).contains(&told), "{told} instead of {ends}");
}
