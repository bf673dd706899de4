//! DescribeEipAddresses: filters, pages, and the real answer's shape.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cloud::eip::{Eip, Facts, Status, rules};
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::state::{State, api_time};

/// Ids and addresses in one comma list.
const LIST: usize = 50;
const LARGEST_PAGE: u64 = 100;
const STATES: [Status; 5] =
    [Status::Associating, Status::Unassociating, Status::InUse, Status::Available, Status::Releasing];
const INSTANCE_TYPES: [&str; 6] = ["EcsInstance", "SlbInstance", "Nat", "HaVip", "NetworkInterface", "IpAddress"];

pub(crate) fn describe(state: &State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    state.in_region(call)?;
    let filter = Filter::of(call)?;
    let (number, size) = page(call)?;
    if call.flag("DryRun")? {
        return Err(ApiError::dry_run());
    }
    let seen = state.eips.iter().filter_map(|eip| Some((eip, eip.visible(now, &state.settings)?)));
    let found: Vec<(&Eip, &Facts)> = seen.filter(|(eip, facts)| filter.takes(eip, facts)).collect();
    let from = usize::try_from((number - 1).saturating_mul(size)).unwrap_or(usize::MAX);
    let shown = found.iter().skip(from).take(usize::try_from(size).unwrap_or(usize::MAX));
    let entries: Vec<Value> = shown.map(|(eip, facts)| entry(state, eip, facts)).collect();
    Ok(json!({"PageNumber": number, "PageSize": size, "TotalCount": found.len(),
              "EipAddresses": {"EipAddress": entries}}))
}

/// Number and size of the page.
fn page(call: &Rpc) -> ApiResult<(u64, u64)> {
    let number = call.number("PageNumber")?.unwrap_or(1);
    let size = call.number("PageSize")?.unwrap_or(10);
    if number == 0 {
        return Err(ApiError::invalid("PageNumber", "pages are counted from 1"));
    }
    if size == 0 {
        return Err(ApiError::invalid("PageSize", "a page has at least one entry"));
    }
    Ok((number, size.min(LARGEST_PAGE)))
}

/// The fact that a single-valued filter is compared with.
type FactText = fn(&Facts) -> String;

struct Filter {
    ids: Option<Vec<String>>,
    addresses: Option<Vec<String>>,
    /// Wanted value and the fact it is compared with.
    exact: Vec<(String, FactText)>,
    tags: Vec<(String, Option<String>)>,
    service_managed: Option<bool>,
    made_from: Option<Timestamp>,
    made_until: Option<Timestamp>,
}

const EXACT: [(&str, FactText); 11] = [
    ("Status", |facts| facts.status.text().into()),
    ("AssociatedInstanceId", |facts| bound(facts, |binding| binding.instance_id.clone())),
    ("EipName", |facts| facts.name.clone()),
    ("ISP", |facts| facts.isp.clone()),
    ("ChargeType", |facts| facts.instance_charge_type.clone()),
    ("ResourceGroupId", |facts| facts.resource_group.clone()),
    ("LockReason", |facts| facts.lock.clone().unwrap_or_default()),
    ("PublicIpAddressPoolId", |facts| facts.address_pool.clone()),
    ("SegmentInstanceId", |_| String::new()),
    ("BandwidthPackageId", |facts| facts.package.clone().unwrap_or_default()),
    ("SecurityProtectionEnabled", |facts| (!facts.security_protection.is_empty()).to_string()),
];

fn bound(facts: &Facts, field: impl FnOnce(&super::Binding) -> String) -> String {
    facts.binding.as_ref().map(field).unwrap_or_default()
}

impl Filter {
    fn of(call: &Rpc) -> ApiResult<Self> {
        check_values(call)?;
        let mut exact: Vec<(String, FactText)> =
            EXACT.iter().filter_map(|(name, fact)| Some((call.text(name)?.to_owned(), *fact))).collect();
        if let Some(kind) = instance_type(call)? {
            exact.push((kind, |facts| bound(facts, |binding| binding.instance_type.clone())));
        }
        let (made_from, made_until) = made_between(call)?;
        Ok(Self {
            ids: comma_list(call, "AllocationId")?,
            addresses: comma_list(call, "EipAddress")?,
            exact,
            tags: rules::wanted_tags(call)?,
            service_managed: call.text("ServiceManaged").map(|_| call.flag("ServiceManaged")).transpose()?,
            made_from,
            made_until,
        })
    }

    fn takes(&self, eip: &Eip, facts: &Facts) -> bool {
        let listed =
            |list: &Option<Vec<String>>, text: &str| list.as_ref().is_none_or(|list| list.iter().any(|x| x == text));
        listed(&self.ids, &eip.id)
            && listed(&self.addresses, &facts.address.to_string())
            && self.exact.iter().all(|(wanted, fact)| fact(facts) == *wanted)
            && rules::has_tags(&facts.tags, &self.tags)
            && self.service_managed.is_none_or(|wanted| wanted == facts.service_managed)
            && self.made_from.is_none_or(|from| eip.allocated_at() >= from)
            && self.made_until.is_none_or(|until| eip.allocated_at() <= until)
    }
}

fn check_values(call: &Rpc) -> ApiResult<()> {
    if let Some(status) = call.text("Status")
        && !STATES.iter().any(|known| known.text() == status)
    {
        return Err(ApiError::invalid("Status", "no such state"));
    }
    if let Some(kind) = call.text("ChargeType")
        && !matches!(kind, "PostPaid" | "PrePaid")
    {
        return Err(ApiError::bad("InvalidChargeType.ValueNotSupported", "The specified ChargeType is not supported."));
    }
    if let Some(reason) = call.text("LockReason")
        && !matches!(reason, "financial" | "security")
    {
        return Err(ApiError::not_found("InvalidLockReason.NotFound", "The specified LockReason is not known."));
    }
    Ok(())
}

/// AssociatedInstanceType; an AssociatedInstanceId alone means the default type, EcsInstance.
fn instance_type(call: &Rpc) -> ApiResult<Option<String>> {
    match call.text("AssociatedInstanceType") {
        Some(kind) if INSTANCE_TYPES.contains(&kind) => Ok(Some(kind.into())),
        Some(_) => Err(ApiError::bad(
            "InvalidIAssociatedInstanceType.ValueNotSupported",
            "The specified AssociatedInstanceType is not supported.",
        )),
        None => Ok(call.text("AssociatedInstanceId").map(|_| "EcsInstance".into())),
    }
}

fn comma_list(call: &Rpc, name: &str) -> ApiResult<Option<Vec<String>>> {
    let Some(text) = call.text(name) else { return Ok(None) };
    let list: Vec<String> = text.split(',').map(str::to_owned).collect();
    if list.len() > LIST {
        return Err(ApiError::bad("InstanceIdLength.Exceed", format!("{name} takes at most {LIST} entries.")));
    }
    Ok(Some(list))
}

fn made_between(call: &Rpc) -> ApiResult<(Option<Timestamp>, Option<Timestamp>)> {
    let (mut from, mut until) = (None, None);
    for filter in call.structs("Filter", 2)? {
        let value = filter.get("Value").map_or("", String::as_str);
        let malformed = || ApiError::not_found("InvalidFilterValue", format!("The filter value is not valid: {value}"));
        let minute: Timestamp = value.parse().map_err(|_| malformed())?;
        match filter.get("Key").map(String::as_str) {
            Some("CreationStartTime") => from = Some(minute),
            Some("CreationEndTime") => until = Some(minute + Duration::from_secs(59)),
            _ => return Err(ApiError::not_found("InvalidFilterKey.NotFound", "The filter key is not known.")),
        }
    }
    Ok((from, until))
}

fn entry(state: &State, eip: &Eip, facts: &Facts) -> Value {
    let package = facts.package.as_ref().and_then(|id| state.packages.get(id));
    let effective = package.map_or(facts.bandwidth, |package| package.bandwidth);
    let tags: Vec<Value> = facts.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    let locks: Vec<Value> = facts.lock.iter().map(|reason| json!({"LockReason": reason})).collect();
    // The primary IP of an ENI is shown as an empty text: Terway relies on it.
    let private_ip = facts.binding.as_ref().filter(|binding| !binding.primary);
    let is_bound = facts.binding.is_some();
    json!({
        "AllocationId": eip.id, "IpAddress": facts.address, "Status": facts.status.text(), "RegionId": state.region,
        "InstanceId": bound(facts, |binding| binding.instance_id.clone()),
        "InstanceType": bound(facts, |binding| binding.instance_type.clone()),
        "InstanceRegionId": if is_bound { state.region.as_str() } else { "" },
        // Documented for InstanceType IpAddress only.
        "VpcId": "",
        "PrivateIpAddress": private_ip.map_or(String::new(), |binding| binding.private_ip.to_string()),
        "Mode": facts.binding.as_ref().map_or("NAT", |binding| &binding.mode),
        "Bandwidth": effective.to_string(), "EipBandwidth": facts.bandwidth.to_string(),
        "BandwidthPackageBandwidth": package.map_or(String::new(), |package| package.bandwidth.to_string()),
        "BandwidthPackageId": facts.package.as_deref().unwrap_or_default(),
        "BandwidthPackageType": if facts.package.is_some() { "CommonBandwidthPackage" } else { "" },
        "HDMonitorStatus": "OFF", "HasReservationData": "false",
        "InternetChargeType": facts.internet_charge_type, "ChargeType": facts.instance_charge_type,
        "ISP": facts.isp, "Netmode": "public", "BizType": "Default",
        "AllocationTime": api_time(eip.allocated_at()), "ExpiredTime": "",
        "Name": facts.name, "Description": facts.description, "Descritpion": facts.description,
        "Tags": {"Tag": tags},
        "ResourceGroupId": facts.resource_group, "PublicIpAddressPoolId": facts.address_pool,
        "SegmentInstanceId": "",
        "SecurityProtectionTypes": {"SecurityProtectionType": facts.security_protection},
        "OperationLocks": {"LockReason": locks},
        "BusinessStatus": if facts.lock.is_some() { "OperationLock" } else { "Normal" },
        "ServiceManaged": u8::from(facts.service_managed), "ServiceID": 0,
        "DeletionProtection": facts.deletion_protection, "SecondLimited": false,
    })
}
