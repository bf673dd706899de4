//! DescribeVSwitches: the vSwitches that the network interfaces are in.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cloud::defaults;
use crate::cloud::eni::{Eni, EniSpec};
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::state::{State, api_time};

const LARGEST_PAGE: u64 = 50;

pub(crate) fn describe(state: &State, call: &Rpc) -> ApiResult<Value> {
    if call.text("VpcId").is_none() {
        state.in_region(call)?;
    }
    state.in_region_if_given(call)?;
    let size = call.number("PageSize")?.unwrap_or(10).clamp(1, LARGEST_PAGE);
    let number = call.number("PageNumber")?.unwrap_or(1).max(1);
    let switches: BTreeMap<&str, &Eni> = state.enis.values().map(|eni| (eni.spec.vswitch_id.as_str(), eni)).collect();
    let found: Vec<Value> =
        switches.into_values().filter(|eni| takes(call, &eni.spec)).map(|eni| entry(state, eni)).collect();
    let from = usize::try_from((number - 1).saturating_mul(size)).unwrap_or(usize::MAX);
    let shown: Vec<&Value> = found.iter().skip(from).take(usize::try_from(size).unwrap_or(0)).collect();
    if call.flag("DryRun")? {
        return Err(ApiError::dry_run());
    }
    Ok(json!({"PageNumber": number, "PageSize": size, "TotalCount": found.len(), "VSwitches": {"VSwitch": shown}}))
}

fn takes(call: &Rpc, eni: &EniSpec) -> bool {
    let wanted = |name: &str, value: &str| call.text(name).is_none_or(|text| text == value);
    wanted("VpcId", &eni.vpc_id) && wanted("VSwitchId", &eni.vswitch_id) && wanted("ZoneId", &eni.zone_id)
}

fn entry(state: &State, eni: &Eni) -> Value {
    let spec = &eni.spec;
    let members = state.enis.values().filter(|other| other.spec.vswitch_id == spec.vswitch_id);
    let used: usize = members.map(|eni| eni.addresses().count()).sum();
    json!({
        "VSwitchId": spec.vswitch_id, "VpcId": spec.vpc_id, "ZoneId": spec.zone_id, "Status": "Available",
        "CidrBlock": spec.vswitch_cidr, "Ipv6CidrBlock": "", "EnabledIpv6": false,
        "AvailableIpAddressCount": size(&spec.vswitch_cidr).saturating_sub(used),
        "VSwitchName": "", "Description": "", "CreationTime": api_time(eni.made_at), "IsDefault": false,
        "ResourceGroupId": defaults::RESOURCE_GROUP, "NetworkAclId": "", "OwnerId": defaults::ACCOUNT,
        "ShareType": "", "RouteTable": {"RouteTableId": "vtb-bp1sim00000000000001", "RouteTableType": "System"},
        "Tags": {"Tag": []},
    })
}

/// Usable addresses of a block: the first and the last three belong to the system.
fn size(cidr: &str) -> usize {
    let length: u32 = cidr.split_once('/').and_then(|(_, length)| length.parse().ok()).unwrap_or(32);
    1_usize.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0).saturating_sub(4)
}
