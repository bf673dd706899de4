//! AssociateEipAddress and UnassociateEipAddress.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cloud::eip::{Binding, Eip, Status, Turn, incorrect_status, task_conflict};
use crate::cloud::eni::{Eni, EniKind};
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::settings::RepeatCode;
use crate::cloud::state::State;

const KNOWN_TYPES: [&str; 6] = ["EcsInstance", "SlbInstance", "Nat", "HaVip", "NetworkInterface", "IpAddress"];

pub(crate) fn associate(state: &mut State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    state.in_region(call)?;
    let id = call.required("AllocationId")?;
    call.required("InstanceId")?;
    let at = state.eip(id)?;
    let wanted = target(state, call)?;
    ready(state, at, &wanted)?;
    vacant(state, &wanted)?;
    let failing = state.settings.failing_associations > 0;
    state.settings.failing_associations -= u32::from(failing);
    let (delay, turn) = (state.settings.associate_delay, if failing { Turn::BindingFailed } else { Turn::Bound });
    let eip = &mut state.eips[at];
    eip.change(now, |facts| {
        facts.status = Status::Associating;
        facts.binding = Some(wanted);
    });
    eip.begin(now, delay, turn);
    Ok(json!({}))
}

/// The EIP's side: it has to be `Available` and in no other operation.
fn ready(state: &State, at: usize, wanted: &Binding) -> ApiResult<()> {
    let eip = &state.eips[at];
    eip.idle(&state.settings)?;
    eip.unlocked()?;
    if eip.facts().status == Status::Available {
        return Ok(());
    }
    let repeated = eip.occupies(&wanted.instance_id, wanted.private_ip);
    match state.settings.repeat_code {
        RepeatCode::Duplicated if repeated => Err(duplicated(wanted)),
        _ => Err(incorrect_status(eip)),
    }
}

fn duplicated(wanted: &Binding) -> ApiError {
    let message = format!("{} of {} already has an EIP.", wanted.private_ip, wanted.instance_id);
    ApiError::bad("InvalidAssociation.Duplicated", message)
}

/// The target's side: one EIP per private IP, and no more than it has room for.
fn vacant(state: &State, wanted: &Binding) -> ApiResult<()> {
    let there: Vec<&Eip> = state
        .living_eips()
        .filter(|eip| eip.facts().binding.as_ref().is_some_and(|held| held.instance_id == wanted.instance_id))
        .collect();
    if state.settings.one_operation_per_eni && there.iter().any(|eip| eip.due.is_some()) {
        return Err(task_conflict());
    }
    if there.iter().any(|eip| eip.occupies(&wanted.instance_id, wanted.private_ip)) {
        return Err(duplicated(wanted));
    }
    let other_mode = |eip: &&Eip| eip.facts().binding.as_ref().is_some_and(|held| held.mode != wanted.mode);
    if there.iter().any(other_mode) {
        return Err(ApiError::bad("Mode.Conflict", "The network interface has an EIP of another mode."));
    }
    let room = state.enis.get(&wanted.instance_id).map_or(1, |eni| eni.addresses().count());
    if there.len() >= state.settings.eips_per_eni.unwrap_or(room).min(room) {
        let message = "The network interface has as many EIPs as it can have.";
        return Err(ApiError::bad("InvalidEip.EipQuotaExceeded", message));
    }
    Ok(())
}

fn target(state: &State, call: &Rpc) -> ApiResult<Binding> {
    if call.text("InstanceRegionId").is_some_and(|region| region != state.region) {
        let message = "The EIP and the instance are in different regions.";
        return Err(ApiError::bad("InvalidParameter.Mismatch", message));
    }
    match call.text("InstanceType").unwrap_or("EcsInstance") {
        "NetworkInterface" => network_interface(state, call),
        "EcsInstance" => instance(state, call),
        known if KNOWN_TYPES.contains(&known) => {
            Err(ApiError::bad("InstanceType.NotSupport", "This simulated cloud has no instances of that type."))
        }
        _ => {
            Err(ApiError::bad("InvalidInstanceType.ValueNotSupported", "The specified InstanceType is not supported."))
        }
    }
}

fn network_interface(state: &State, call: &Rpc) -> ApiResult<Binding> {
    let id = call.required("InstanceId")?;
    let eni = state.enis.get(id).ok_or_else(|| {
        ApiError::not_found("InvalidInstanId.NotFound", format!("The specified InstanceId does not exist: {id}."))
    })?;
    if !matches!(eni.status(), "InUse" | "Available") {
        let message = format!("The network interface is {}.", eni.status());
        return Err(ApiError::bad("InvalidStatus.EniStatusNotSupport", message));
    }
    let private_ip = private_ip(state, call, eni)?;
    let mode = mode(call, eni)?;
    Ok(Binding {
        instance_id: id.into(),
        instance_type: "NetworkInterface".into(),
        private_ip,
        primary: private_ip == eni.spec.primary_ip,
        mode,
    })
}

fn private_ip(state: &State, call: &Rpc, eni: &Eni) -> ApiResult<Ipv4Addr> {
    let Some(text) = call.text("PrivateIpAddress") else {
        return match state.settings.private_ip_optional {
            true => Ok(eni.spec.primary_ip),
            false => Err(ApiError::missing("PrivateIpAddress")),
        };
    };
    let ip = text.parse().map_err(|_| ApiError::invalid("PrivateIpAddress", "no IPv4 address"))?;
    if eni.holds(ip) {
        return Ok(ip);
    }
    if eni.prefix_holds(ip) {
        let message = "An EIP cannot be bound to an address of an IP prefix.";
        return Err(ApiError::bad("UnsupportedFeature.EipBindPrefixIp", message));
    }
    let message = format!("The specified PrivateIpAddress {ip} is not assigned to {}.", eni.spec.id);
    Err(ApiError::bad("InvalidParams.NotFound", message))
}

fn mode(call: &Rpc, eni: &Eni) -> ApiResult<String> {
    let mode = call.text("Mode").unwrap_or("NAT");
    match mode {
        "NAT" => Ok(mode.into()),
        "BINDED" if eni.spec.instance_id.is_some() => {
            Err(ApiError::bad("Eni.Attached", "BINDED wants a detached network interface."))
        }
        "BINDED" if !eni.spec.private_ips.is_empty() => {
            Err(ApiError::bad("Eni.HasSubIp", "BINDED wants a network interface without secondary addresses."))
        }
        "BINDED" => Ok(mode.into()),
        "MULTI_BINDED" => Err(ApiError::bad("OperationDenied.Unauthorized", "MULTI_BINDED is closed to this account.")),
        _ => Err(ApiError::bad("IllegalParam.Mode", "The specified Mode is not valid.")),
    }
}

/// An instance: its EIP is bound to its eth0's primary IP.
fn instance(state: &State, call: &Rpc) -> ApiResult<Binding> {
    let id = call.required("InstanceId")?;
    let eth0 = state
        .enis
        .values()
        .find(|eni| eni.spec.kind == EniKind::Primary && eni.spec.instance_id.as_deref() == Some(id))
        .ok_or_else(|| ApiError::bad("InvalidInstance.NotExist", format!("There is no instance {id}.")))?;
    Ok(Binding {
        instance_id: id.into(),
        instance_type: "EcsInstance".into(),
        private_ip: eth0.spec.primary_ip,
        primary: true,
        mode: "NAT".into(),
    })
}

pub(crate) fn unassociate(state: &mut State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    state.in_region_if_given(call)?;
    let at = state.eip(call.required("AllocationId")?)?;
    if call.text("InstanceType").is_some_and(|kind| !KNOWN_TYPES.contains(&kind)) {
        let message = "The specified InstanceType is not supported.";
        return Err(ApiError::bad("InvalidInstanceType.ValueNotSupported", message));
    }
    call.flag("Force")?;
    let eip = &state.eips[at];
    eip.idle(&state.settings)?;
    eip.unlocked()?;
    let Some(binding) = eip.facts().binding.clone().filter(|_| eip.facts().status == Status::InUse) else {
        return Err(incorrect_status(eip));
    };
    if state.settings.unassociate_checks_target && !names(call, &binding) {
        let message = "The EIP is not bound to the specified instance.";
        return Err(ApiError::not_found("InvalidBindInstance.NotFound", message));
    }
    let busy = state.living_eips().any(|other| {
        other.due.is_some()
            && other.facts().binding.as_ref().is_some_and(|held| held.instance_id == binding.instance_id)
    });
    if state.settings.one_operation_per_eni && busy {
        return Err(task_conflict());
    }
    let delay = state.settings.unassociate_delay;
    let eip = &mut state.eips[at];
    eip.change(now, |facts| facts.status = Status::Unassociating);
    eip.begin(now, delay, Turn::Unbound);
    Ok(json!({}))
}

/// Do the given parts of the call name this binding?
fn names(call: &Rpc, binding: &Binding) -> bool {
    call.text("InstanceId").is_none_or(|id| id == binding.instance_id)
        && call.text("PrivateIpAddress").is_none_or(|ip| ip == binding.private_ip.to_string())
}
