//! The chains that real runtimes run here: a primary plugin of Debian's, and podeip behind it.

use std::path::Path;

use serde_json::{Value, json};

use crate::recorder::PLUGIN_TYPE;

/// Pods get their addresses from here, in order, starting with `.2`.
const POD_SUBNET: &str = "10.219.0.0/24";
/// The node, as a pod reaches it: servers on the node that pods shall reach must listen on all addresses.
pub const GATEWAY: &str = "10.219.0.1";

/// Which plugin makes the pod's interface.
#[derive(Clone, Copy, Debug)]
pub enum Primary {
    /// A cable from the node to the pod. Its result names two interfaces.
    Ptp,
    /// The pod's cable ends in a bridge of the node. Its result names three interfaces.
    Bridge,
}

impl Primary {
    fn object(self) -> Value {
        match self {
            Self::Ptp => json!({ "type": "ptp" }),
            Self::Bridge => json!({ "type": "bridge", "bridge": "pods0", "isGateway": true }),
        }
    }

    /// The network `pods`. `ours` has the keys of our plugin's object besides `type`.
    pub fn conflist(self, cni_version: &str, ipam_dir: &Path, mut ours: Value) -> Value {
        ours["type"] = json!(PLUGIN_TYPE);
        let mut primary = self.object();
        primary["ipam"] = json!({ "type": "host-local", "dataDir": ipam_dir, "ranges": [[{ "subnet": POD_SUBNET }]],
                                  "routes": [{ "dst": "0.0.0.0/0" }] });
        json!({ "cniVersion": cni_version, "name": "pods", "plugins": [primary, ours] })
    }
}
