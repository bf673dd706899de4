//! AllocateEipAddress and AllocateEipAddressPro.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cloud::defaults;
use crate::cloud::eip::{Eip, Facts, MadeBy, Status, rules};
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::state::State;

/// How long an account may ask for an address that it released.
const RECLAIM: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) fn allocate(state: &mut State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    state.in_region(call)?;
    let facts = wanted(state, call)?;
    let reclaimed = reclaimed(state, now, call)?;
    if facts.instance_charge_type == "PrePaid" && !prepaid(call)? {
        // An order that nobody has paid: there is no EIP yet.
        return Ok(json!({"OrderId": order_id(state)}));
    }
    if facts.instance_charge_type == "PostPaid" && post_paid(state) >= state.settings.quota {
        let message = "The number of EIPs has reached the quota of this account.";
        return Err(ApiError::bad("QuotaExceeded.Eip", message));
    }
    let address = match reclaimed {
        Some(address) => address,
        None => state.fresh_address(),
    };
    let facts = Facts { address, ..facts };
    let id = format!("eip-bp1s{:016}", state.next_serial());
    let mut answer = json!({"AllocationId": id, "EipAddress": address, "ResourceGroupId": facts.resource_group});
    if facts.instance_charge_type == "PrePaid" {
        answer["OrderId"] = order_id(state).into();
    }
    let client_token = call.text("ClientToken").map(str::to_owned);
    state.eips.push(Eip { id, made_by: MadeBy::Api, client_token, versions: vec![(now, facts)], due: None });
    Ok(answer)
}

fn order_id(state: &mut State) -> u64 {
    200_000_000_000_000 + u64::from(state.next_serial())
}

fn post_paid(state: &State) -> usize {
    state.living_eips().filter(|eip| eip.facts().instance_charge_type == "PostPaid").count()
}

/// The parameters as facts of a new EIP; the address is still to be found.
fn wanted(state: &State, call: &Rpc) -> ApiResult<Facts> {
    let settings = &state.settings;
    let charge = rules::charge(call)?;
    let isp = rules::isp(call, &charge, &state.region, settings)?;
    let name = rules::prose(call, "Name", 128, settings)?;
    let description = rules::prose(call, "Description", 256, settings)?;
    if charge.instance == "PrePaid" && !(name.is_empty() && description.is_empty()) {
        return Err(ApiError::invalid("Name", "a PrePaid EIP takes neither Name nor Description when it is bought"));
    }
    if !matches!(call.text("Netmode"), None | Some("public")) {
        return Err(ApiError::invalid("Netmode", "only public is known"));
    }
    let tags = if settings.ignore_tags_on_allocate { Default::default() } else { rules::tags(call, false, settings)? };
    Ok(Facts {
        status: Status::Available,
        address: Ipv4Addr::UNSPECIFIED,
        name,
        description,
        bandwidth: charge.bandwidth,
        isp,
        internet_charge_type: charge.internet,
        instance_charge_type: charge.instance,
        binding: None,
        package: None,
        tags,
        resource_group: resource_group(state, call)?,
        address_pool: address_pool(state, call)?,
        security_protection: rules::security_protection(call, settings)?,
        deletion_protection: false,
        service_managed: false,
        lock: None,
    })
}

fn resource_group(state: &State, call: &Rpc) -> ApiResult<String> {
    let group = call.text("ResourceGroupId").unwrap_or(defaults::RESOURCE_GROUP);
    if !state.settings.resource_groups.contains(group) {
        return Err(ApiError::bad("InvalidResourceGroupId", "The specified ResourceGroupId is invalid."));
    }
    Ok(group.into())
}

fn address_pool(state: &State, call: &Rpc) -> ApiResult<String> {
    let Some(pool) = call.text("PublicIpAddressPoolId") else {
        return match call.text("Zone") {
            None => Ok(String::new()),
            Some(_) => {
                let message = "EIPs of a zone are not offered in this region.";
                Err(ApiError::bad("UnsupportedFeature.AllocateEipAddressWithZone", message))
            }
        };
    };
    if call.text("Zone").is_some() {
        let message = "Zone and PublicIpAddressPoolId exclude each other.";
        return Err(ApiError::bad("ExclusiveParam.ZoneAndPublicIpAddressPoolId", message));
    }
    if !state.settings.address_pools.contains(pool) {
        let message = format!("The specified address pool does not exist: {pool}.");
        return Err(ApiError::bad("ResourceNotFound.PublicIpAddressPool", message));
    }
    Ok(pool.into())
}

/// Checks the subscription; true when it is paid by itself.
fn prepaid(call: &Rpc) -> ApiResult<bool> {
    let period = call.number("Period")?.ok_or_else(|| ApiError::missing("Period"))?;
    let most = match call.text("PricingCycle").unwrap_or("Month") {
        "Month" => 9,
        "Year" => 5,
        _ => return Err(ApiError::invalid("PricingCycle", "Month or Year is wanted")),
    };
    if !(1..=most).contains(&period) {
        return Err(ApiError::invalid("Period", format!("it has to be 1 to {most} for this PricingCycle")));
    }
    call.flag("AutoPay")
}

/// The formerly held address that the caller asks for by `IpAddress` or `InstanceId`.
fn reclaimed(state: &State, now: Timestamp, call: &Rpc) -> ApiResult<Option<Ipv4Addr>> {
    let (ip, id) = (call.text("IpAddress"), call.text("InstanceId"));
    if ip.is_some() && id.is_some() {
        return Err(ApiError::invalid("InstanceId", "IpAddress and InstanceId exclude each other"));
    }
    if ip.is_none() && id.is_none() {
        return Ok(None);
    }
    let address =
        ip.map(str::parse::<Ipv4Addr>).transpose().map_err(|_| ApiError::invalid("IpAddress", "no address"))?;
    let asked = |eip: &&Eip| match (address, id) {
        (Some(address), _) => eip.facts().address == address,
        (None, id) => Some(eip.id.as_str()) == id,
    };
    let unfamiliar = || {
        let message = "This account did not hold the address within the last 7 days.";
        ApiError::bad("OperationFailed.AllocateUnfamiliarIp", message)
    };
    let former = state.eips.iter().rev().find(asked).ok_or_else(unfamiliar)?;
    let address = former.facts().address;
    if state.living_eips().any(|eip| eip.facts().address == address) {
        return Err(ApiError::bad("Ip.Allocated", "The address is allocated."));
    }
    let released_at = former.versions.last().map_or(now, |(at, _)| *at);
    if released_at + RECLAIM < now {
        return Err(unfamiliar());
    }
    Ok(Some(address))
}
