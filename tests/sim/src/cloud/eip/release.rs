//! ReleaseEipAddress and ModifyEipAddressAttribute.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cloud::eip::{Status, Turn, incorrect_status, rules};
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::state::State;

pub(crate) fn release(state: &mut State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    state.in_region_if_given(call)?;
    let at = state.eip(call.required("AllocationId")?)?;
    let eip = &state.eips[at];
    let facts = eip.facts();
    if facts.instance_charge_type != "PostPaid" {
        let message = "An EIP that is paid in advance cannot be released.";
        return Err(ApiError::bad("Forbidden.ChargeTypeIsPrepaid", message));
    }
    if facts.status != Status::Available || eip.due.is_some() {
        return Err(incorrect_status(eip));
    }
    if facts.deletion_protection {
        let message = "The EIP is protected against deletion.";
        return Err(ApiError::bad("InvalidOperation.DeletionProtection", message));
    }
    if facts.service_managed {
        let message = "The EIP belongs to a cloud service.";
        return Err(ApiError::bad("OperationUnsupported.ServiceManaged", message));
    }
    eip.unlocked()?;
    if let Some(package) = facts.package.as_ref().filter(|_| !state.settings.release_inside_package) {
        let message = format!("The EIP is in the bandwidth package {package}; remove it from there first.");
        return Err(ApiError::bad("IncorrectEipStatus", message));
    }
    let delay = state.settings.release_delay;
    let eip = &mut state.eips[at];
    eip.change(now, |facts| facts.status = Status::Releasing);
    eip.begin(now, delay, Turn::Gone);
    Ok(json!({}))
}

pub(crate) fn modify(state: &mut State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    state.in_region_if_given(call)?;
    let at = state.eip(call.required("AllocationId")?)?;
    let eip = &state.eips[at];
    if eip.due.is_some() || !matches!(eip.facts().status, Status::Available | Status::InUse) {
        return Err(incorrect_status(eip));
    }
    let bandwidth = match call.text("Bandwidth") {
        None => None,
        Some(_) if eip.facts().instance_charge_type != "PostPaid" => {
            let message = "The bandwidth of an EIP that is paid in advance cannot be changed.";
            return Err(ApiError::bad("Forbidden.ChargeTypeIsPrepaid", message));
        }
        Some(text) => {
            let most = if eip.facts().internet_charge_type == "PayByTraffic" { 200 } else { 500 };
            Some(rules::bandwidth(text, most)?)
        }
    };
    let name = call.text("Name").map(|_| rules::prose(call, "Name", 128, &state.settings)).transpose()?;
    let description =
        call.text("Description").map(|_| rules::prose(call, "Description", 256, &state.settings)).transpose()?;
    state.eips[at].change(now, |facts| {
        facts.bandwidth = bandwidth.unwrap_or(facts.bandwidth);
        facts.name = name.unwrap_or_else(|| facts.name.clone());
        facts.description = description.unwrap_or_else(|| facts.description.clone());
    });
    Ok(json!({}))
}
