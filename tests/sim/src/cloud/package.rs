//! Internet Shared Bandwidth packages: EIPs join and leave them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::eip::{Eip, Turn};
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::state::State;

/// A bandwidth package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Package {
    pub id: String,
    pub isp: String,
    /// Mbit/s, shared by all members.
    pub bandwidth: u32,
    #[serde(default)]
    pub security_protection: Vec<String>,
}

/// AddCommonBandwidthPackageIp: accepted now, a member after the delay.
pub(crate) fn add(state: &mut State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    let (package, at) = targets(state, call)?;
    if !matches!(call.text("IpType"), None | Some("EIP")) {
        return Err(ApiError::bad("OperationUnsupported.IpType", "The specified IpType is not supported."));
    }
    if state.eips[at].facts().package.is_some() {
        let message = "The EIP is already in a bandwidth package.";
        return Err(ApiError::bad("IpInstanceId.AlreadyInBandwidthPackage", message));
    }
    idle(&state.eips[at])?;
    state.eips[at].unlocked()?;
    fits(&package, &state.eips[at])?;
    if members(state, &package.id) >= state.settings.eips_per_package {
        return Err(ApiError::bad("IpInstanceId.QuotaExceeded", "The bandwidth package is full."));
    }
    if call.flag("DryRun")? {
        return Err(ApiError::dry_run());
    }
    let delay = state.settings.package_delay;
    state.eips[at].begin(now, delay, Turn::Joined(package.id));
    Ok(json!({}))
}

/// RemoveCommonBandwidthPackageIp.
pub(crate) fn remove(state: &mut State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    let (package, at) = targets(state, call)?;
    idle(&state.eips[at])?;
    if state.eips[at].facts().package.as_ref() != Some(&package.id) {
        let message = "The EIP is not in the bandwidth package.";
        return Err(ApiError::bad("OperationUnsupported.IpNotInCbwp", message));
    }
    state.eips[at].unlocked()?;
    if call.flag("DryRun")? {
        return Err(ApiError::dry_run());
    }
    let delay = state.settings.package_delay;
    state.eips[at].begin(now, delay, Turn::Left);
    Ok(json!({}))
}

fn targets(state: &State, call: &Rpc) -> ApiResult<(Package, usize)> {
    state.in_region(call)?;
    let id = call.text("BandwidthPackageId").ok_or_else(|| {
        ApiError::bad("MissingParam.BandwidthPackageId", "The parameter BandwidthPackageId is mandatory.")
    })?;
    let eip = call.required("IpInstanceId")?;
    let package = state.packages.get(id).ok_or_else(|| {
        let message = format!("The specified bandwidth package does not exist: {id}.");
        ApiError::not_found("InvalidBandwidthPackageId.NotFound", message)
    })?;
    let at = state.eip(eip).map_err(|_| {
        let message = format!("The specified IpInstanceId does not exist: {eip}.");
        ApiError::not_found("InvalidIpInstanceId.NotFound", message)
    })?;
    Ok((package.clone(), at))
}

fn idle(eip: &Eip) -> ApiResult<()> {
    if eip.due.is_some() {
        return Err(ApiError::bad("IncorrectStatus.Eip", "The EIP is being changed by another operation."));
    }
    Ok(())
}

fn fits(package: &Package, eip: &Eip) -> ApiResult<()> {
    let facts = eip.facts();
    if facts.instance_charge_type != "PostPaid" {
        let message = "Only PostPaid EIPs can join a bandwidth package.";
        return Err(ApiError::bad("IpInstanceId.ChargeType.NotSupport", message));
    }
    if facts.isp != package.isp {
        let message = format!("The EIP's ISP {} is not the package's {}.", facts.isp, package.isp);
        return Err(ApiError::bad("OperationUnsupported.IpType", message));
    }
    if facts.security_protection != package.security_protection {
        let message = "The EIP's security protection is not the package's.";
        return Err(ApiError::bad("OperationDenied.SecurityProtectionTypesInconsistent", message));
    }
    Ok(())
}

fn members(state: &State, package: &str) -> usize {
    let joining = |eip: &Eip| matches!(&eip.due, Some(due) if matches!(&due.turn, Turn::Joined(id) if id == package));
    state.living_eips().filter(|eip| eip.facts().package.as_deref() == Some(package) || joining(eip)).count()
}

#[cfg(test)]
mod tests;
