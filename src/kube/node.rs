//! Nodes: what one tells of its container runtime.

use serde::Deserialize;

use super::client::Kube;
use super::error::KubeError;
use super::request::{Operation, Resource, Verb};
use crate::deadline::Deadline;

#[derive(Deserialize)]
struct WireNode {
    status: Option<WireStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus {
    node_info: Option<WireInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireInfo {
    container_runtime_version: Option<String>,
}

impl Kube {
    /// `status.nodeInfo.containerRuntimeVersion`, such as `containerd://2.1.9`; `None` when there is no node
    /// of that name, or its kubelet has not told yet.
    pub fn runtime_of_node(&self, name: &str, deadline: Deadline) -> Result<Option<String>, KubeError> {
        let operation =
            Operation { verb: Verb::Get, resource: Resource::Nodes, namespace: None, name: Some(name.into()) };
        let node = self.find(operation, deadline, |body| serde_json::from_slice::<WireNode>(body))?;
        let version = node.and_then(|node| node.status?.node_info?.container_runtime_version);
        Ok(version.filter(|version| !version.is_empty()))
    }
}
