//! One interface inside a network namespace: its hardware address and its IPv4 addresses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::{Entrance, Kernel, ask};
use super::{Mac, NetError, netns};

/// The kernel's `IFNAMSIZ` without the final zero byte: no interface has a longer name.
const LONGEST_NAME: usize = 15;

/// An interface as its namespace sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetnsInterface {
    pub index: u32,
    /// For ipvlan and for an ENI that was moved into the pod this is the ENI's; for veth it is not.
    pub mac: Option<Mac>,
    /// In the kernel's order, which is the order in which they were added.
    pub ipv4: Vec<Ipv4Addr>,
    /// Whether it was switched on; says nothing about the cable.
    pub up: bool,
}

/// The interface `ifname` of the namespace at `netns`. The calling thread stays where it is.
///
/// # Errors
/// [`NetError::NetnsGone`] and [`NetError::NoInterface`] when one of them is missing; the others
/// when the kernel could not be asked, [`NetError::TimedOut`] after a few seconds.
pub fn interface_in(netns: &Path, ifname: &str) -> Result<NetnsInterface, NetError> {
    let entrance = Entrance { path: netns.to_owned(), namespace: netns::open(netns)? };
    let absent = NetError::NoInterface { netns: netns.to_owned(), ifname: ifname.to_owned() };
    if ifname.is_empty() || ifname.len() > LONGEST_NAME || ifname.contains('\0') {
        return Err(absent);
    }
    let ifname = ifname.to_owned();
    ask("read the addresses of a pod's interface", Some(entrance), async move |kernel: &Kernel| {
        let Some(link) = kernel.link_by_name(&ifname).await? else { return Err(absent) };
        // Not filtered by index: of such a dump the kernel does not say that it was interrupted,
        // and a pod's namespace has few addresses.
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet;
        let request = RouteNetlinkMessage::GetAddress(request);
        let mut ipv4 = kernel.dump(request, |answer| ipv4_of(link.index, answer)).await?;
        // An address that was listed again because one in front of it was added meanwhile.
        let mut seen = HashSet::new();
        ipv4.retain(|ip| seen.insert(*ip));
        Ok(NetnsInterface { index: link.index, mac: link.mac, ipv4, up: link.up })
    })
}

/// The address in one message of a dump, if it is on interface `index`.
fn ipv4_of(index: u32, answer: RouteNetlinkMessage) -> Option<Ipv4Addr> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    if message.header.index != index {
        return None;
    }
    // On a point-to-point link `Address` is the other end.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(IpAddr::V4(ip)) => Some(*ip),
            _ => None,
        })
    })
}
