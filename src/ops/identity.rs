//! Who this node is in the cluster, as the environment says.

use anyhow::Context;

/// The node's name and the namespace podeip lives in.
pub struct Identity {
    /// `spec.nodeName` of this node's pods: `NODE_NAME`, else the host's name.
    pub node: String,
    /// Where the Lease is: `POD_NAMESPACE`, else `kube-system`.
    pub namespace: String,
}

impl Identity {
    /// # Errors
    /// Neither the environment nor the host has a name for the node.
    pub fn read() -> anyhow::Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let node = match variable("NODE_NAME") {
            Some(node) => node,
            None => nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .context("this host has no usable name; set NODE_NAME to the node's name in the cluster")?,
        };
        Ok(Self { node, namespace: variable("POD_NAMESPACE").unwrap_or("kube-system".into()) })
    }
}
