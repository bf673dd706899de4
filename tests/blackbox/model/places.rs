//! Where a story takes place: the pods' names and what they ask for, the nodes and their addresses.

use std::fmt;

use podeip_sim::cloud::defaults;
use podeip_sim::kube::{Owner, PodSpec};

use crate::scene::{NODE, OTHER_NODE, Sandbox, Scene, WITH_EIP};

pub const NODES: usize = 2;
/// Few, so that they change hands often.
pub const ADDRESSES: u8 = 4;

/// What the pods of a name ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    Follow,
    /// Kept for ten minutes.
    Lasting,
    Never,
    Named,
    Packaged,
}

pub struct Slot {
    pub name: &'static str,
    pub wish: Wish,
}

pub const SLOTS: [Slot; 8] = [
    Slot { name: "web-0", wish: Wish::Follow },
    Slot { name: "web-1", wish: Wish::Follow },
    Slot { name: "lasting-0", wish: Wish::Lasting },
    Slot { name: "never-0", wish: Wish::Never },
    Slot { name: "named-0", wish: Wish::Named },
    Slot { name: "named-1", wish: Wish::Named },
    Slot { name: "packaged-0", wish: Wish::Packaged },
    Slot { name: "plain-0", wish: Wish::Nothing },
];

/// The slot whose pods ask for nothing.
pub const PLAIN: usize = SLOTS.len() - 1;

impl Wish {
    fn annotations(self) -> Vec<(&'static str, &'static str)> {
        const STRATEGY: &str = "network.alibabacloud.com/pod-eip-release-strategy";
        match self {
            Wish::Nothing => vec![],
            Wish::Follow => vec![WITH_EIP],
            Wish::Lasting => vec![WITH_EIP, (STRATEGY, "10m")],
            Wish::Never => vec![WITH_EIP, (STRATEGY, "Never")],
            Wish::Named => vec![("network.alibabacloud.com/pod-eip-instanceid", defaults::USER_EIP)],
            Wish::Packaged => {
                vec![WITH_EIP, ("network.alibabacloud.com/eip-common-bandwidth-package-id", defaults::PACKAGE)]
            }
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wish::Nothing => "asks for nothing",
            Wish::Follow => "an EIP",
            Wish::Lasting => "an EIP, kept 10m",
            Wish::Never => "an EIP, kept for ever",
            Wish::Named => "the user's EIP",
            Wish::Packaged => "an EIP in a bandwidth package",
        })
    }
}

pub fn node_name(node: usize) -> &'static str {
    [NODE, OTHER_NODE][node]
}

pub fn address(node: usize, nth: u8) -> [u8; 4] {
    [10, 219, [0, 2][node], 11 + nth]
}

/// A pod of this name on this node, in the API server.
pub fn create(scene: &Scene, slot: &Slot, node: usize) -> Sandbox {
    let owners = vec![Owner::new("StatefulSet", "set")];
    let spec = PodSpec { owners, node: node_name(node).into(), ..PodSpec::new("default", slot.name) };
    scene.pod_with(spec, address(node, 0), &slot.wish.annotations())
}
