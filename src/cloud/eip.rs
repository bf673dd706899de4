//! EIPs in our words: what is asked for, what the cloud says it has, and which ones are wanted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::names::{BandwidthPackageId, EipId, EniId, Mbps};

use super::wire::{Tag, list, some, text};

/// The parameters of an allocation. Kept with its token, since a repeat must send the same ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    pub bandwidth: Mbps,
    /// `PayByTraffic` or `PayByBandwidth`; the API's own default is the second.
    pub internet_charge_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ip_address_pool_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_protection_types: Vec<String>,
    /// At most 20. Not every endpoint takes tags here, and none takes empty values: look afterwards.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// What is to become of an EIP that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EipChange {
    pub bandwidth: Option<Mbps>,
    pub name: Option<String>,
    pub description: Option<String>,
}

/// A new EIP. It is `Available`, though listings may miss it for a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocated {
    pub id: EipId,
    pub address: Option<Ipv4Addr>,
}

/// Which EIPs are wanted. A filter without ids, addresses or tags finds nothing, never everything.
#[derive(Clone, Debug, PartialEq)]
pub enum EipFilter {
    Ids(Vec<EipId>),
    /// Public addresses.
    Addresses(Vec<Ipv4Addr>),
    /// Bound, being bound or being unbound there.
    OnEni(EniId),
    /// All of these tags, key and value.
    Tags(BTreeMap<String, String>),
}

impl EipFilter {
    /// Checked again on what came back: an endpoint that ignores a filter lists the whole account.
    pub(super) fn matches(&self, eip: &Eip) -> bool {
        match self {
            EipFilter::Ids(ids) => ids.contains(&eip.id),
            EipFilter::Addresses(addresses) => eip.address.is_some_and(|address| addresses.contains(&address)),
            EipFilter::OnEni(eni) => eip.instance_id.as_deref() == Some(eni.as_str()),
            EipFilter::Tags(tags) => {
                !tags.is_empty() && tags.iter().all(|(key, value)| eip.tags.get(key) == Some(value))
            }
        }
    }
}

/// Where an EIP is on its way (reference: DescribeEipAddresses, `Status`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EipStatus {
    Available,
    Associating,
    InUse,
    Unassociating,
    Releasing,
    /// A status we do not know.
    Other(String),
}

impl EipStatus {
    fn parse(text: String) -> Self {
        match text.as_str() {
            "Available" => EipStatus::Available,
            "Associating" => EipStatus::Associating,
            "InUse" => EipStatus::InUse,
            "Unassociating" => EipStatus::Unassociating,
            "Releasing" => EipStatus::Releasing,
            _ => EipStatus::Other(text),
        }
    }

    /// The API's word.
    pub fn as_str(&self) -> &str {
        match self {
            EipStatus::Available => "Available",
            EipStatus::Associating => "Associating",
            EipStatus::InUse => "InUse",
            EipStatus::Unassociating => "Unassociating",
            EipStatus::Releasing => "Releasing",
            EipStatus::Other(text) => text,
        }
    }
}

impl std::fmt::Display for EipStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// An EIP as the cloud describes it. Fields that the answer leaves out or empty are None.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "WireEip")]
pub struct Eip {
    pub id: EipId,
    pub address: Option<Ipv4Addr>,
    pub status: EipStatus,
    /// The ENI, instance, gateway, … that it is bound to.
    pub instance_id: Option<String>,
    /// `NetworkInterface` for an ENI.
    pub instance_type: Option<String>,
    /// The bound private IP; None means the ENI's primary one when `instance_id` is an ENI.
    pub private_ip: Option<Ipv4Addr>,
    pub bandwidth_package: Option<BandwidthPackageId>,
    pub isp: Option<String>,
    pub internet_charge_type: Option<String>,
    pub resource_group_id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub public_ip_address_pool_id: Option<String>,
    /// The EIP's own bandwidth, also while a package's holds.
    pub bandwidth: Option<Mbps>,
    pub security_protection: Vec<String>,
    pub tags: BTreeMap<String, String>,
    /// Why it is locked (`financial`, `security`, …); empty when it is not.
    pub locked: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireEip {
    allocation_id: EipId,
    #[serde(default, deserialize_with = "text")]
    ip_address: String,
    #[serde(default, deserialize_with = "text")]
    status: String,
    #[serde(default, deserialize_with = "text")]
    instance_id: String,
    #[serde(default, deserialize_with = "text")]
    instance_type: String,
    #[serde(default, deserialize_with = "text")]
    private_ip_address: String,
    #[serde(default, deserialize_with = "text")]
    bandwidth_package_id: String,
    #[serde(default, rename = "ISP", deserialize_with = "text")]
    isp: String,
    #[serde(default, deserialize_with = "text")]
    internet_charge_type: String,
    #[serde(default, deserialize_with = "text")]
    resource_group_id: String,
    #[serde(default, deserialize_with = "text")]
    name: String,
    #[serde(default, deserialize_with = "text")]
    description: String,
    #[serde(default, deserialize_with = "text")]
    public_ip_address_pool_id: String,
    #[serde(default, deserialize_with = "text")]
    bandwidth: String,
    #[serde(default, deserialize_with = "text")]
    eip_bandwidth: String,
    #[serde(default, deserialize_with = "list")]
    security_protection_types: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    tags: Vec<Tag>,
    #[serde(default, deserialize_with = "list")]
    operation_locks: Vec<Lock>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lock {
    #[serde(default, deserialize_with = "text")]
    lock_reason: String,
}

impl From<WireEip> for Eip {
    fn from(wire: WireEip) -> Self {
        let bandwidth_package = some(wire.bandwidth_package_id).map(BandwidthPackageId::new);
        // In a package `Bandwidth` is the package's; outside, `EipBandwidth` may be missing.
        let mbps = |text: &String| text.parse().ok().map(Mbps);
        let bandwidth = match bandwidth_package {
            Some(_) => mbps(&wire.eip_bandwidth).or(mbps(&wire.bandwidth)),
            None => mbps(&wire.bandwidth).or(mbps(&wire.eip_bandwidth)),
        };
        Eip {
            id: wire.allocation_id,
            address: wire.ip_address.parse().ok(),
            status: EipStatus::parse(wire.status),
            instance_id: some(wire.instance_id),
            instance_type: some(wire.instance_type),
            private_ip: wire.private_ip_address.parse().ok(),
            bandwidth_package,
            isp: some(wire.isp),
            internet_charge_type: some(wire.internet_charge_type),
            resource_group_id: some(wire.resource_group_id),
            name: some(wire.name),
            description: some(wire.description),
            public_ip_address_pool_id: some(wire.public_ip_address_pool_id),
            bandwidth,
            security_protection: wire.security_protection_types,
            tags: wire.tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
            locked: wire.operation_locks.into_iter().map(|lock| lock.lock_reason).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_bound_eip() {
        let eip: Eip = serde_json::from_str(
            r#"{"AllocationId":"eip-1","IpAddress":"47.1.2.3","Status":"InUse","InstanceId":"eni-1",
                "InstanceType":"NetworkInterface","PrivateIpAddress":"10.0.0.9","BandwidthPackageId":"cbwp-1",
                "Bandwidth":1000,"EipBandwidth":"5","ISP":"BGP","InternetChargeType":"PayByTraffic","Name":"web",
                "HDMonitorStatus":false,"ServiceManaged":0,"ResourceGroupId":"rg-1","PublicIpAddressPoolId":"",
                "Tags":{"Tag":[{"Key":"podeip-uid","Value":"u-1"}]},
                "OperationLocks":{"LockReason":[{"LockReason":"financial"}]}}"#,
        )
        .unwrap();
        assert_eq!((eip.id.as_str(), &eip.status), ("eip-1", &EipStatus::InUse));
        assert_eq!(eip.private_ip, Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(eip.bandwidth, Some(Mbps(5)));
        assert_eq!(eip.tags["podeip-uid"], "u-1");
        assert_eq!(eip.locked, ["financial"]);
        assert_eq!(eip.public_ip_address_pool_id, None);
    }

    #[test]
    fn missing_and_empty_fields_are_none() {
        let eip: Eip =
            serde_json::from_str(r#"{"AllocationId":"eip-1","InstanceId":"","PrivateIpAddress":"","Status":"New"}"#)
                .unwrap();
        assert_eq!((eip.instance_id, eip.private_ip, eip.address), (None, None, None));
        assert_eq!(eip.status, EipStatus::Other("New".into()));
        assert!(serde_json::from_str::<Eip>(r#"{"IpAddress":"47.1.2.3"}"#).is_err());
    }

    #[test]
    fn an_allocation_survives_the_state_file() {
        let wanted = Allocation {
            bandwidth: Mbps(5),
            internet_charge_type: "PayByTraffic".into(),
            isp: Some("BGP_PRO".into()),
            name: None,
            description: None,
            resource_group_id: None,
            public_ip_address_pool_id: None,
            security_protection_types: vec!["AntiDDoS_Enhanced".into()],
            tags: BTreeMap::from([("podeip-uid".into(), "u-1".into())]),
        };
        let kept = serde_json::to_value(&wanted).unwrap();
        assert_eq!(kept.get("name"), None);
        assert_eq!(serde_json::from_value::<Allocation>(kept).unwrap(), wanted);
        let least = r#"{"bandwidth":5,"internetChargeType":"PayByTraffic"}"#;
        assert!(serde_json::from_str::<Allocation>(least).unwrap().tags.is_empty());
    }
}
