//! The ECS product's look-up of network interfaces (API version 2014-05-26).

use std::net::Ipv4Addr;

use serde::Deserialize;

use crate::deadline::Deadline;
use crate::names::EniId;

use super::retry::Effect;
use super::rpc::{Product, Rpc};
use super::wire::{list, some, text};
use super::{Class, Cloud, CloudError};

/// One private IP of one VPC is on one ENI; more entries would be the cloud's own trouble.
const MOST_RESULTS: u32 = 100;

/// As many ids as one DescribeNetworkInterfaces takes.
const IDS_PER_CALL: usize = 100;

/// An elastic network interface.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "WireEni")]
pub struct Eni {
    pub id: EniId,
    /// Lower case, with colons.
    pub mac: String,
    pub primary_ip: Option<Ipv4Addr>,
    pub vpc_id: Option<String>,
    /// The ECS instance it is attached to.
    pub instance_id: Option<String>,
    /// All addresses, the primary one included.
    pub private_ips: Vec<Ipv4Addr>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireEni {
    network_interface_id: EniId,
    #[serde(default, deserialize_with = "text")]
    mac_address: String,
    #[serde(default, deserialize_with = "text")]
    private_ip_address: String,
    #[serde(default, deserialize_with = "text")]
    vpc_id: String,
    #[serde(default, deserialize_with = "text")]
    instance_id: String,
    #[serde(default)]
    attachment: Option<Attachment>,
    #[serde(default, deserialize_with = "list")]
    private_ip_sets: Vec<PrivateIp>,
}

/// Where a trunk's member ENI names its instance.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attachment {
    #[serde(default, deserialize_with = "text")]
    instance_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PrivateIp {
    #[serde(default, deserialize_with = "text")]
    private_ip_address: String,
}

impl From<WireEni> for Eni {
    fn from(wire: WireEni) -> Self {
        let attached_to = wire.attachment.and_then(|attachment| some(attachment.instance_id));
        Eni {
            id: wire.network_interface_id,
            mac: wire.mac_address.to_ascii_lowercase(),
            primary_ip: wire.private_ip_address.parse().ok(),
            vpc_id: some(wire.vpc_id),
            instance_id: some(wire.instance_id).or(attached_to),
            private_ips: wire.private_ip_sets.iter().filter_map(|ip| ip.private_ip_address.parse().ok()).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeAnswer {
    // Not defaulted: an answer without it is cut.
    #[serde(deserialize_with = "list")]
    pub network_interface_sets: Vec<Eni>,
}

impl Cloud {
    /// The ENIs of the node's VPC that carry `private_ip`: one, unless something is odd; none when
    /// the address is not an ENI's.
    pub fn enis_of_private_ip(&self, private_ip: Ipv4Addr, deadline: Deadline) -> Result<Vec<Eni>, CloudError> {
        // The list filter is documented for secondary addresses only.
        let enis = self.enis(private_ip, "PrivateIpAddress.1", deadline)?;
        if enis.is_empty() { self.enis(private_ip, "PrimaryIpAddress", deadline) } else { Ok(enis) }
    }

    /// Those of these ENIs that are in the node's VPC.
    pub fn enis_in_vpc(&self, ids: &[EniId], deadline: Deadline) -> Result<Vec<Eni>, CloudError> {
        let mut found = Vec::new();
        for batch in ids.chunks(IDS_PER_CALL) {
            let vpc = self.vpc_id(deadline)?;
            let rpc = Rpc::new(Product::Ecs, "DescribeNetworkInterfaces", Effect::Read, format!("of EIPs in {vpc}"))
                .with("VpcId", vpc)
                .with_list("NetworkInterfaceId", batch)
                .with("MaxResults", MOST_RESULTS);
            found.extend(self.call::<DescribeAnswer>(&rpc, deadline)?.network_interface_sets);
        }
        found.retain(|eni| ids.contains(&eni.id));
        Ok(found)
    }

    fn enis(&self, private_ip: Ipv4Addr, filter: &str, deadline: Deadline) -> Result<Vec<Eni>, CloudError> {
        let vpc = self.vpc_id(deadline)?;
        let subject = format!("of {private_ip} in {vpc}");
        let rpc = Rpc::new(Product::Ecs, "DescribeNetworkInterfaces", Effect::Read, subject)
            .with("VpcId", vpc)
            .with(filter, private_ip)
            .with("MaxResults", MOST_RESULTS);
        let mut enis = match self.call::<DescribeAnswer>(&rpc, deadline) {
            Ok(answer) => answer.network_interface_sets,
            Err(error) if error.class() == Class::TargetGone => vec![],
            Err(error) => return Err(error),
        };
        // An endpoint that ignores the filter lists the whole VPC.
        enis.retain(|eni| eni.primary_ip == Some(private_ip) || eni.private_ips.contains(&private_ip));
        Ok(enis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::scripted::{Server, Step, deadline};
    use crate::cloud::tests::cloud;

    const ENI: &str = r#"{"NetworkInterfaceId":"eni-1","MacAddress":"00:16:3E:AA:00:01","PrivateIpAddress":"10.0.0.5",
        "VpcId":"vpc-1","InstanceId":"","Attachment":{"InstanceId":"i-1","TrunkNetworkInterfaceId":null},
        "PrivateIpSets":{"PrivateIpSet":[{"PrivateIpAddress":"10.0.0.5","Primary":true},
        {"PrivateIpAddress":"10.0.0.9","Primary":false}]}}"#;

    fn page(enis: &str) -> Step {
        Step::answer(200, &format!(r#"{{"RequestId":"R","NetworkInterfaceSets":{{"NetworkInterfaceSet":[{enis}]}}}}"#))
    }

    #[test]
    fn finds_the_eni_of_a_secondary_address() {
        let server = Server::start(vec![page(ENI)]);
        let enis = cloud(&server).enis_of_private_ip(Ipv4Addr::new(10, 0, 0, 9), deadline()).unwrap();
        assert_eq!(enis.len(), 1);
        assert_eq!((enis[0].id.as_str(), enis[0].mac.as_str()), ("eni-1", "00:16:3e:aa:00:01"));
        assert_eq!(enis[0].primary_ip, Some(Ipv4Addr::new(10, 0, 0, 5)));
        assert_eq!(enis[0].instance_id.as_deref(), Some("i-1"));
        let request = &server.requests()[0];
        assert_eq!(request.parameter("VpcId").as_deref(), Some("vpc-1"));
        assert_eq!(request.parameter("PrivateIpAddress.1").as_deref(), Some("10.0.0.9"));
        assert_eq!(request.parameter("Version").as_deref(), Some("2014-05-26"));
        assert_eq!(request.parameter("RegionId").as_deref(), Some("cn-hangzhou"));
    }

    #[test]
    fn a_primary_address_is_asked_for_by_its_own_filter() {
        let server = Server::start(vec![page(""), page(ENI)]);
        let enis = cloud(&server).enis_of_private_ip(Ipv4Addr::new(10, 0, 0, 5), deadline()).unwrap();
        assert_eq!(enis.len(), 1);
        assert_eq!(server.requests()[1].parameter("PrimaryIpAddress").as_deref(), Some("10.0.0.5"));
    }

    #[test]
    fn enis_are_asked_for_by_their_ids_and_in_the_vpc() {
        let server = Server::start(vec![page(ENI)]);
        let ids = [EniId::new("eni-1"), EniId::new("eni-elsewhere")];
        let enis = cloud(&server).enis_in_vpc(&ids, deadline()).unwrap();
        assert_eq!(enis.len(), 1);
        let request = &server.requests()[0];
        assert_eq!(request.parameter("VpcId").as_deref(), Some("vpc-1"));
        assert_eq!(request.parameter("NetworkInterfaceId.2").as_deref(), Some("eni-elsewhere"));
        assert_eq!(cloud(&server).enis_in_vpc(&[], deadline()).unwrap(), []);
    }

    #[test]
    fn other_enis_and_not_found_are_nothing() {
        let absent = r#"{"RequestId":"R","Code":"InvalidEniId.NotFound","Message":"no"}"#;
        let server = Server::start(vec![page(ENI), Step::answer(404, absent)]);
        assert_eq!(cloud(&server).enis_of_private_ip(Ipv4Addr::new(10, 0, 0, 77), deadline()).unwrap(), []);
    }
}
