//! Whether what a pod sends leaves by the ENI that its EIP is bound on. Answers that leave elsewhere
//! carry another public address, or none.
//!
//! Seen are interfaces, policy rules and routes, and what netfilter does to the connections of now.
//! Not seen are eBPF programs, and rules that no connection has met yet.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::cloud::Cloud;
use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind, chain};
use crate::names::EniId;
use crate::net::{self, Mac, NetError, conntrack};
use crate::state::format::Binding;

/// Where a pod's packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// As they should.
    ByItsEni,
    /// By this ENI of the node, found in this way.
    ByOther { eni: EniId, how: String },
    /// By no ENI of this node.
    ByNone { how: String },
    /// By another interface of the pod than the one that the EIP is for.
    ByOtherInterface { name: String },
    /// The node replaces their source address by this one.
    Masqueraded { source: Ipv4Addr },
}

/// Follows the packets of the pod with interface `ifname` in `netns`.
///
/// # Errors
/// The kernel or instance metadata could not be asked, so nothing is known.
pub fn of_pod(
    cloud: &Cloud,
    netns: &str,
    ifname: &str,
    binding: &Binding,
    deadline: Deadline,
) -> Result<Egress, Failure> {
    let netns = Path::new(netns);
    let interface = net::interface_in(netns, ifname).map_err(unknown)?;
    match net::default_device_in(netns).map_err(unknown)? {
        Some(name) if name != ifname => return Ok(Egress::ByOtherInterface { name }),
        _ => {}
    }
    let eni_of = |mac: Mac| cloud.eni_of_mac(&mac.to_string(), deadline).map(|eni| eni.map(|eni| eni.id));
    let judge = |eni: EniId, how: String| match eni == binding.eni {
        true => Egress::ByItsEni,
        false => Egress::ByOther { eni, how },
    };
    // An ENI of the pod's own, or a part of one: the host has no say in it.
    if let Some(mac) = interface.mac
        && let Some(eni) = eni_of(mac)?
    {
        return Ok(judge(eni, format!("{ifname} in the pod")));
    }
    let routed = net::interface_by_routing(binding.private_ip).map_err(unknown)?;
    let how = routed.looked_at.join(", ");
    let egress = match routed.mac.map(eni_of).transpose()?.flatten() {
        Some(eni) => judge(eni, how),
        None => Egress::ByNone { how },
    };
    // Instance metadata does not list a trunk's member ENIs, which are the pod's own as well.
    if egress != Egress::ByItsEni && is_mac_of(cloud, interface.mac, binding, deadline)? {
        return Ok(Egress::ByItsEni);
    }
    // Without the table nothing is known of it, which is no reason to doubt.
    match conntrack::rewritten_source(binding.private_ip).ok().flatten() {
        Some(source) if egress == Egress::ByItsEni => Ok(Egress::Masqueraded { source }),
        _ => Ok(egress),
    }
}

fn is_mac_of(cloud: &Cloud, mac: Option<Mac>, binding: &Binding, deadline: Deadline) -> Result<bool, Failure> {
    let Some(mac) = mac.map(|mac| mac.to_string()) else { return Ok(false) };
    let enis = cloud.enis_of_private_ip(binding.private_ip, deadline)?;
    Ok(enis.iter().any(|eni| eni.id == binding.eni && eni.mac == mac))
}

fn unknown(error: NetError) -> Failure {
    Failure::new(Kind::LocalState, chain(&error))
}
