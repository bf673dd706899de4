//! The VPC product's actions on EIPs and bandwidth packages (API version 2016-04-28).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::Deserialize;

use crate::deadline::Deadline;
use crate::names::{BandwidthPackageId, ClientToken, EipId, EniId};

use super::eip::{Allocated, Allocation, Eip, EipChange, EipFilter};
use super::retry::Effect;
use super::rpc::{Product, Rpc};
use super::wire::{Done, list, text};
use super::{Class, Cloud, CloudError};

/// The largest page that DescribeEipAddresses gives.
const PAGE: usize = 100;

/// As many ids, or addresses, as one DescribeEipAddresses takes.
const LISTED_PER_CALL: usize = 50;

/// Today's TagResources takes 50 resources, older endpoints 20.
const TAGGED_PER_CALL: usize = 20;

/// Bindings of ours are to ENIs only.
const TO_ENI: &str = "NetworkInterface";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AllocateAnswer {
    pub allocation_id: EipId,
    #[serde(default, deserialize_with = "text")]
    eip_address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeAnswer {
    #[serde(default, deserialize_with = "text")]
    pub total_count: String,
    // Not defaulted: an answer without it is cut, and must not read as "no such EIP".
    #[serde(deserialize_with = "list")]
    pub eip_addresses: Vec<Eip>,
}

impl Cloud {
    /// Buys a pay-as-you-go EIP. The same token with the same `wanted` gives the same EIP again.
    ///
    /// # Errors
    /// With [`CloudError::outcome_unknown`] there may be an EIP: repeat with the same token.
    pub fn allocate_eip(
        &self,
        wanted: &Allocation,
        token: &ClientToken,
        deadline: Deadline,
    ) -> Result<Allocated, CloudError> {
        let answer: AllocateAnswer = self.call(&allocation(wanted, token), deadline)?;
        Ok(Allocated { id: answer.allocation_id, address: answer.eip_address.parse().ok() })
    }

    /// All EIPs of the region that match. Pages are asked in order; an EIP that vanishes meanwhile can
    /// push another one past us, so absence from a listing of several pages proves nothing.
    pub fn describe_eips(&self, filter: &EipFilter, deadline: Deadline) -> Result<Vec<Eip>, CloudError> {
        let mut found = Vec::new();
        for rpc in queries(filter) {
            self.all_pages(&rpc, deadline, &mut found)?;
        }
        let mut seen = BTreeSet::new();
        found.retain(|eip| filter.matches(eip) && seen.insert(eip.id.clone()));
        Ok(found)
    }

    /// One EIP; None when the cloud lists none with that id. A new one may be missing for a moment.
    pub fn eip(&self, id: &EipId, deadline: Deadline) -> Result<Option<Eip>, CloudError> {
        Ok(self.describe_eips(&EipFilter::Ids(vec![id.clone()]), deadline)?.pop())
    }

    /// Asks to bind `id` to `private_ip` on `eni`. Success means `Associating`: poll until `InUse`.
    pub fn associate_eip(
        &self,
        id: &EipId,
        eni: &EniId,
        private_ip: Ipv4Addr,
        token: &ClientToken,
        deadline: Deadline,
    ) -> Result<(), CloudError> {
        let subject = format!("{id} to {private_ip} on {eni}");
        let rpc = binding("AssociateEipAddress", subject, id, eni, private_ip, token).with("Mode", "NAT");
        self.call::<Done>(&rpc, deadline).map(drop)
    }

    /// Asks to unbind `id` from `private_ip` on `eni`. Success means `Unassociating`: poll until `Available`.
    ///
    /// Whether the cloud compares ENI and private IP with the present binding is not documented, so
    /// describe the EIP first. An EIP that is not bound answers [`Class::Conflict`].
    pub fn unassociate_eip(
        &self,
        id: &EipId,
        eni: &EniId,
        private_ip: Ipv4Addr,
        token: &ClientToken,
        deadline: Deadline,
    ) -> Result<(), CloudError> {
        let subject = format!("{id} from {private_ip} on {eni}");
        let rpc = binding("UnassociateEipAddress", subject, id, eni, private_ip, token);
        self.call::<Done>(&rpc, deadline).map(drop)
    }

    /// Asks to unbind `eip` from whatever it was seen on: an instance, a NAT gateway, an ENI.
    pub fn detach_eip(&self, eip: &Eip, token: &ClientToken, deadline: Deadline) -> Result<(), CloudError> {
        let subject = format!("{} from {}", eip.id, eip.instance_id.as_deref().unwrap_or("its holder"));
        let rpc = Rpc::tokened("UnassociateEipAddress", token, subject)
            .with("AllocationId", &eip.id)
            .with_some("InstanceId", eip.instance_id.as_ref())
            .with_some("InstanceType", eip.instance_type.as_ref())
            .with_some("PrivateIpAddress", eip.private_ip.as_ref());
        self.call::<Done>(&rpc, deadline).map(drop)
    }

    /// Gives an unbound EIP back. One that is already gone is success.
    pub fn release_eip(&self, id: &EipId, deadline: Deadline) -> Result<(), CloudError> {
        let rpc = Rpc::new(Product::Vpc, "ReleaseEipAddress", Effect::Idempotent, id.as_str()).with("AllocationId", id);
        absent_is_success(self.call::<Done>(&rpc, deadline).map(drop), Class::Gone)
    }

    /// Changes what of an EIP can be changed at any time, bound or not. `None` leaves a thing as it is.
    pub fn modify_eip(&self, id: &EipId, change: &EipChange, deadline: Deadline) -> Result<(), CloudError> {
        let rpc = Rpc::new(Product::Vpc, "ModifyEipAddressAttribute", Effect::Idempotent, id.as_str())
            .with("AllocationId", id)
            .with_some("Bandwidth", change.bandwidth)
            .with_some("Name", change.name.as_ref())
            .with_some("Description", change.description.as_ref());
        self.call::<Done>(&rpc, deadline).map(drop)
    }

    /// How many EIPs the account has in this region, whoever made them: what counts against its quota.
    pub fn count_eips(&self, deadline: Deadline) -> Result<Option<usize>, CloudError> {
        let rpc = Rpc::new(Product::Vpc, "DescribeEipAddresses", Effect::Read, "of the whole account")
            .with("PageSize", 1)
            .with("PageNumber", 1);
        Ok(self.call::<DescribeAnswer>(&rpc, deadline)?.total_count.parse().ok())
    }

    /// Puts `eip` into the bandwidth package; `Eip::bandwidth_package` shows it once it is done.
    pub fn join_bandwidth_package(
        &self,
        package: &BandwidthPackageId,
        eip: &EipId,
        token: &ClientToken,
        deadline: Deadline,
    ) -> Result<(), CloudError> {
        let rpc = membership("AddCommonBandwidthPackageIp", format!("{eip} to {package}"), package, eip, token);
        self.call::<Done>(&rpc.with("IpType", "EIP"), deadline).map(drop)
    }

    /// Takes `eip` out of the bandwidth package. One that is not in it is success.
    pub fn leave_bandwidth_package(
        &self,
        package: &BandwidthPackageId,
        eip: &EipId,
        token: &ClientToken,
        deadline: Deadline,
    ) -> Result<(), CloudError> {
        let rpc = membership("RemoveCommonBandwidthPackageIp", format!("{eip} from {package}"), package, eip, token);
        absent_is_success(self.call::<Done>(&rpc, deadline).map(drop), Class::NotInPackage)
    }

    /// Sets these tags on each of the EIPs; other tags stay.
    pub fn tag_eips(
        &self,
        ids: &[EipId],
        tags: &BTreeMap<String, String>,
        deadline: Deadline,
    ) -> Result<(), CloudError> {
        if tags.is_empty() {
            return Ok(());
        }
        for batch in ids.chunks(TAGGED_PER_CALL) {
            let rpc = Rpc::new(Product::Vpc, "TagResources", Effect::Idempotent, joined(batch))
                .with("ResourceType", "EIP")
                .with_list("ResourceId", batch)
                .with_tags(tags);
            self.call::<Done>(&rpc, deadline)?;
        }
        Ok(())
    }

    fn all_pages(&self, rpc: &Query, deadline: Deadline, found: &mut Vec<Eip>) -> Result<(), CloudError> {
        let mut seen = 0;
        for page in 1.. {
            let answer: DescribeAnswer = self.call(&rpc.page(page), deadline)?;
            let entries = answer.eip_addresses.len();
            found.extend(answer.eip_addresses);
            seen += entries;
            let more = match answer.total_count.parse::<usize>() {
                Ok(total) => seen < total,
                Err(_) => entries == PAGE,
            };
            if entries == 0 || !more {
                break;
            }
        }
        Ok(())
    }
}

/// A listing: the parameters of its filter.
struct Query {
    subject: String,
    parameters: Vec<(&'static str, String)>,
    tags: BTreeMap<String, String>,
}

impl Query {
    fn page(&self, page: usize) -> Rpc {
        let rpc = Rpc::new(Product::Vpc, "DescribeEipAddresses", Effect::Read, self.subject.as_str())
            .with("PageSize", PAGE)
            .with("PageNumber", page)
            .with_tags(&self.tags);
        self.parameters.iter().fold(rpc, |rpc, (name, value)| rpc.with(*name, value))
    }
}

/// The listings that together answer `filter`; none when it asks for nothing.
fn queries(filter: &EipFilter) -> Vec<Query> {
    let query = |subject: String, parameters| Query { subject, parameters, tags: BTreeMap::new() };
    let listed = |name, texts: String| query(texts.clone(), vec![(name, texts)]);
    match filter {
        EipFilter::Ids(ids) => ids.chunks(LISTED_PER_CALL).map(|chunk| listed("AllocationId", joined(chunk))).collect(),
        EipFilter::Addresses(addresses) => {
            addresses.chunks(LISTED_PER_CALL).map(|chunk| listed("EipAddress", joined(chunk))).collect()
        }
        EipFilter::OnEni(eni) => vec![query(
            format!("on {eni}"),
            // Without the type the cloud looks for an ECS instance of that id.
            vec![("AssociatedInstanceType", TO_ENI.into()), ("AssociatedInstanceId", eni.to_string())],
        )],
        EipFilter::Tags(tags) if tags.is_empty() => vec![],
        EipFilter::Tags(tags) => {
            let shown: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            vec![Query { subject: format!("tagged {}", shown.join(" ")), parameters: vec![], tags: tags.clone() }]
        }
    }
}

fn allocation(wanted: &Allocation, token: &ClientToken) -> Rpc {
    let subject = wanted.tags.get("podeip-pod").map(|pod| format!("for pod {pod}")).unwrap_or_default();
    Rpc::tokened("AllocateEipAddress", token, subject)
        .with("Bandwidth", wanted.bandwidth)
        .with("InternetChargeType", &wanted.internet_charge_type)
        .with("InstanceChargeType", "PostPaid")
        .with_some("ISP", wanted.isp.as_ref())
        .with_some("Name", wanted.name.as_ref())
        .with_some("Description", wanted.description.as_ref())
        .with_some("ResourceGroupId", wanted.resource_group_id.as_ref())
        .with_some("PublicIpAddressPoolId", wanted.public_ip_address_pool_id.as_ref())
        .with_list("SecurityProtectionTypes", &wanted.security_protection_types)
        // An empty value is refused here, though TagResources takes it.
        .with_tags(wanted.tags.iter().filter(|(_, value)| !value.is_empty()))
}

fn binding(
    action: &'static str,
    subject: String,
    id: &EipId,
    eni: &EniId,
    private_ip: Ipv4Addr,
    token: &ClientToken,
) -> Rpc {
    Rpc::tokened(action, token, subject)
        .with("AllocationId", id)
        .with("InstanceId", eni)
        .with("InstanceType", TO_ENI)
        .with("PrivateIpAddress", private_ip)
}

fn membership(
    action: &'static str,
    subject: String,
    package: &BandwidthPackageId,
    eip: &EipId,
    token: &ClientToken,
) -> Rpc {
    Rpc::tokened(action, token, subject).with("BandwidthPackageId", package).with("IpInstanceId", eip)
}

fn absent_is_success(result: Result<(), CloudError>, absent: Class) -> Result<(), CloudError> {
    match result {
        Err(error) if error.class() == absent => Ok(()),
        result => result,
    }
}

fn joined(entries: &[impl ToString]) -> String {
    let texts: Vec<String> = entries.iter().map(ToString::to_string).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests;
