//! The sandbox an EIP is for, and the ENI that carries its private IP.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::cloud::Cloud;
use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind, chain};
use crate::eip::node::Node;
use crate::kube::Pod;
use crate::names::{ContainerId, EniId, PodRef};
use crate::net::{self, Mac};
use crate::state::format::{Attachment, Binding};

/// The interface that kubelet's runtimes give a pod its address on. An EIP is for this one: a second
/// interface, as Multus adds them, would take the EIP away from the first.
pub const POD_INTERFACE: &str = "eth0";

/// One interface of one sandbox of a Kubernetes pod, as the runtime describes it.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub container_id: ContainerId,
    pub ifname: String,
    /// Empty when nobody has told it.
    pub netns: String,
    /// Whether a namespace was there when the verb began.
    pub had_netns: bool,
    pub pod: PodRef,
    pub private_ip: Ipv4Addr,
}

impl Sandbox {
    /// Whether `record` is about this interface of this pod instance, in whichever sandbox.
    pub fn is_recorded_by(&self, record: &Attachment) -> bool {
        record.pod.uid == self.pod.uid && record.ifname == self.ifname
    }

    /// The kernel is asked, and about a sandbox that only the API server has told of, that.
    ///
    /// # Errors
    /// [`Kind::TryAgain`] when the namespace went away under the verb: the runtime has given this
    /// sandbox up (its own restart leaves an ADD behind as an orphan), its address may belong to
    /// another pod by now, and its pod to another sandbox.
    pub fn still_there(&self, node: &Node, deadline: Deadline) -> Result<(), Failure> {
        let stands = match self.netns.is_empty() {
            true => self.is_shown(node, deadline)?,
            false => !self.had_netns || net::netns_exists(&self.netns),
        };
        if stands {
            return Ok(());
        }
        Err(Failure::new(
            Kind::TryAgain,
            format!("sandbox {} of pod {} went away while its EIP was being set up", self.container_id, self.pod),
        ))
    }

    /// A pod that is being deleted shows that before the runtime ends its sandbox.
    fn is_shown(&self, node: &Node, deadline: Deadline) -> Result<bool, Failure> {
        let shown = node.kube()?.pod(&self.pod.namespace, &self.pod.name, deadline)?;
        let runs = |pod: Pod| pod.is_instance(&self.pod.uid) && !pod.terminating && !pod.finished();
        Ok(shown.filter(|pod| pod.ips.contains(&self.private_ip)).is_some_and(runs))
    }

    /// Where this sandbox's EIP has to be bound.
    ///
    /// The kernel is asked first, because that costs no API call: the interface's own MAC (an ENI
    /// of the pod's own, or ipvlan on one), then the host's policy rule for the address. ECS is
    /// asked last.
    ///
    /// # Errors
    /// [`Kind::NetworkMode`] with everything that was looked at, when nothing knows the address.
    pub fn locate_eni(&self, cloud: &Cloud, deadline: Deadline) -> Result<Binding, Failure> {
        let mut looked_at = Vec::new();
        if let Some(binding) = self.eni_of_pod_interface(cloud, deadline, &mut looked_at)? {
            return Ok(binding);
        }
        if let Some(binding) = self.eni_of_policy_rule(cloud, deadline, &mut looked_at)? {
            return Ok(binding);
        }
        self.eni_by_ecs(cloud, deadline, &mut looked_at)
    }

    fn eni_of_pod_interface(
        &self,
        cloud: &Cloud,
        deadline: Deadline,
        looked_at: &mut Vec<String>,
    ) -> Result<Option<Binding>, Failure> {
        match net::interface_in(Path::new(&self.netns), &self.ifname) {
            Ok(interface) => match interface.mac {
                Some(mac) => self.eni_of_mac(cloud, &mac, deadline, looked_at, &format!("{} in the pod", self.ifname)),
                None => {
                    looked_at.push(format!("{} in the pod (has no MAC)", self.ifname));
                    Ok(None)
                }
            },
            Err(error) => {
                looked_at.push(chain(&error));
                Ok(None)
            }
        }
    }

    fn eni_of_policy_rule(
        &self,
        cloud: &Cloud,
        deadline: Deadline,
        looked_at: &mut Vec<String>,
    ) -> Result<Option<Binding>, Failure> {
        match net::interface_by_policy_rule(self.private_ip) {
            Ok(lookup) => {
                let way = lookup.looked_at.join(", ");
                match lookup.mac {
                    Some(mac) => self.eni_of_mac(cloud, &mac, deadline, looked_at, &way),
                    None => {
                        looked_at.push(way);
                        Ok(None)
                    }
                }
            }
            Err(error) => {
                looked_at.push(chain(&error));
                Ok(None)
            }
        }
    }

    fn eni_of_mac(
        &self,
        cloud: &Cloud,
        mac: &Mac,
        deadline: Deadline,
        looked_at: &mut Vec<String>,
        way: &str,
    ) -> Result<Option<Binding>, Failure> {
        match cloud.eni_of_mac(&mac.to_string(), deadline) {
            Ok(Some(eni)) if eni.primary_ip.is_some() => Ok(Some(self.on(eni.id, eni.primary_ip))),
            // Without its primary address a binding there could not be recognised.
            Ok(Some(eni)) => {
                looked_at.push(format!("{way} ({} shows no primary address)", eni.id));
                Ok(None)
            }
            Ok(None) => {
                looked_at.push(format!("{way} ({mac} is no ENI of this instance)"));
                Ok(None)
            }
            // ECS may still know; without it, this is what the user needs to read.
            Err(error) => {
                looked_at.push(format!("{way} ({mac}: {error})"));
                Ok(None)
            }
        }
    }

    fn eni_by_ecs(&self, cloud: &Cloud, deadline: Deadline, looked_at: &mut Vec<String>) -> Result<Binding, Failure> {
        let address = self.private_ip;
        let mut enis = cloud
            .enis_of_private_ip(address, deadline)
            .map_err(|error| Failure::from(error).during(format!("looking for the ENI that carries {address}")))?;
        looked_at.push(format!("ECS DescribeNetworkInterfaces for {address} ({} ENIs)", enis.len()));
        match (enis.pop(), enis.is_empty()) {
            (Some(eni), true) => Ok(self.on(eni.id, eni.primary_ip)),
            _ => Err(Failure::new(
                Kind::NetworkMode,
                format!(
                    "no single ENI carries the address {address} of pod {}; looked at: {}",
                    self.pod,
                    looked_at.join("; ")
                ),
            )
            .hinting(
                "EIPs need a pod address on an ENI: use Terway in ENI or ENIMultiIP mode, not VPC routes or an overlay",
            )),
        }
    }

    fn on(&self, eni: EniId, primary_ip: Option<Ipv4Addr>) -> Binding {
        Binding { eni, private_ip: self.private_ip, primary: primary_ip == Some(self.private_ip) }
    }
}
