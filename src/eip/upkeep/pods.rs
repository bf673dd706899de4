//! The pods of this node, as one listing shows them.

use std::collections::BTreeMap;

use crate::deadline::Deadline;
use crate::eip::failure::Failure;
use crate::eip::node::Node;
use crate::kube::Pod;
use crate::names::PodRef;

/// Positive knowledge only: a pod that is not listed may still be there, if this node goes by
/// another name in the cluster than it believes.
#[derive(Debug, Default)]
pub struct Pods(BTreeMap<(String, String), Pod>);

impl Pods {
    pub fn of_node(node: &Node, name: &str, deadline: Deadline) -> Result<Self, Failure> {
        let listed = node.kube()?.pods_of_node(name, deadline)?;
        Ok(Self(listed.into_iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod)).collect()))
    }

    /// The pod object of this very instance.
    pub fn instance(&self, pod: &PodRef) -> Option<&Pod> {
        self.0.get(&(pod.namespace.clone(), pod.name.clone())).filter(|found| found.is_instance(&pod.uid))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.0.values()
    }
}
