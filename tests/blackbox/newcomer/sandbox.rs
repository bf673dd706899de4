//! The runtime's part: the chain of plugins that the node's configuration names, run for a pod. Terway's is played.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use super::cluster::{name, namespace, uid};
use super::container;
use super::kubelet::Kubelet;
use crate::scene::{Answer, NODE, Sandbox, start};

const ADDRESS: [u8; 4] = [10, 219, 0, 5];

const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// A sandbox for a pod, with an address of an ENI, as Terway gives it.
pub fn of(kubelet: &Kubelet, pod: &Value) -> Sandbox {
    let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let sandbox = Sandbox {
        container_id: String::new(),
        netns: String::new(),
        ip: ADDRESS.into(),
        namespace: namespace(pod).into(),
        name: name(pod).into(),
        uid: uid(pod).into(),
        node: NODE.into(),
        annotations: Some(annotations.map(|(key, value)| (key.clone(), value.as_str().unwrap().into())).collect()),
    }
    .restarted();
    container::make_netns(kubelet.node, &kubelet.root(), &sandbox.netns);
    sandbox
}

/// The list that a runtime would take from the node's directory.
pub fn list(kubelet: &Kubelet) -> Value {
    let mut lists: Vec<_> = fs::read_dir(kubelet.root().join("etc/cni/net.d"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "conflist"))
        .collect();
    lists.sort();
    serde_json::from_slice(&fs::read(&lists[0]).unwrap()).unwrap()
}

/// One verb for all plugins that are not the primary.
pub fn call(kubelet: &Kubelet, verb: &str, sandbox: &Sandbox) -> Answer {
    let list = list(kubelet);
    let mut answer = Answer { code: Some(0), stdout: String::new(), stderr: String::new() };
    for stanza in list["plugins"].as_array().unwrap().iter().skip(1) {
        let mut stdin = stanza.clone();
        stdin["name"] = list["name"].clone();
        stdin["cniVersion"] = list["cniVersion"].clone();
        stdin["prevResult"] = sandbox.result();
        stdin["prevResult"]["cniVersion"] = list["cniVersion"].clone();
        if stanza["capabilities"][ANNOTATIONS] == true {
            stdin["runtimeConfig"] = json!({ANNOTATIONS: sandbox.annotations});
        }
        let mut command = container::plugin(kubelet.node, &kubelet.root(), stanza["type"].as_str().unwrap());
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &sandbox.container_id)
            .env("CNI_NETNS", &sandbox.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("CNI_ARGS", sandbox.cni_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        answer = start(command, &stdin).wait_with_output().unwrap().into();
        if answer.code != Some(0) {
            return answer;
        }
    }
    answer
}
