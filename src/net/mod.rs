//! Network namespaces and netlink: which interface carries a private IP, from the kernel alone.
//!
//! Nothing here changes the network. The kernel is asked on a thread of its own: entering a
//! namespace moves a whole thread, and a thread that hangs in the kernel can be left behind.

pub mod conntrack;
mod error;
mod interface;
mod netlink;
mod netns;
mod route;

use std::fmt;

pub use error::NetError;
pub use interface::{NetnsInterface, interface_in};
pub use netns::{netns_exists, own_netns};
pub use route::{RuleLookup, default_device_in, interface_by_policy_rule, interface_by_routing};

/// An Ethernet hardware address. Prints in lower case with colons, as instance metadata does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address of a link. `None` for links without one: the loopback's is all zeros, tunnels
    /// have other lengths.
    fn of(link_address: &[u8]) -> Option<Self> {
        match <[u8; 6]>::try_from(link_address) {
            Ok(octets) if octets != [0; 6] => Some(Self(octets)),
            _ => None,
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests;
