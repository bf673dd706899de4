//! Elastic IPs: their facts over time and the state machine of an EIP.

pub(crate) mod allocate;
pub(crate) mod associate;
pub(crate) mod describe;
pub(crate) mod release;
pub(crate) mod rules;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::settings::{BusyCode, Settings};

/// An EIP's state. The API never shows `Released`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Available,
    Associating,
    InUse,
    Unassociating,
    Releasing,
    Released,
}

impl Status {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Associating => "Associating",
            Self::InUse => "InUse",
            Self::Unassociating => "Unassociating",
            Self::Releasing => "Releasing",
            Self::Released => "Released",
        }
    }
}

/// Who made an EIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MadeBy {
    /// A call to AllocateEipAddress.
    Api,
    /// The test, in a user's place.
    Hand,
}

/// Where an EIP is, or is about to be, or is just no longer, bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// `eni-…`, or `i-…` for an instance.
    pub instance_id: String,
    /// `NetworkInterface` or `EcsInstance`.
    pub instance_type: String,
    pub private_ip: Ipv4Addr,
    /// It is the ENI's primary IP: the API then leaves PrivateIpAddress empty.
    pub primary: bool,
    pub mode: String,
}

/// What the cloud knows of an EIP at one time.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub status: Status,
    pub address: Ipv4Addr,
    pub name: String,
    pub description: String,
    /// Its own bandwidth in Mbit/s, which rests while it is in a package.
    pub bandwidth: u32,
    pub isp: String,
    pub internet_charge_type: String,
    pub instance_charge_type: String,
    pub binding: Option<Binding>,
    pub package: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub resource_group: String,
    pub address_pool: String,
    pub security_protection: Vec<String>,
    pub deletion_protection: bool,
    pub service_managed: bool,
    /// `financial` or `security`.
    pub lock: Option<String>,
}

/// A change that the cloud has accepted and not finished.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub at: Timestamp,
    pub turn: Turn,
}

#[derive(Clone, Debug)]
pub(crate) enum Turn {
    Bound,
    BindingFailed,
    Unbound,
    Gone,
    Joined(String),
    Left,
}

#[derive(Clone, Debug)]
pub(crate) struct Eip {
    pub id: String,
    pub made_by: MadeBy,
    pub client_token: Option<String>,
    /// Every version of the facts and when it came true; never empty, the newest last.
    pub versions: Vec<(Timestamp, Facts)>,
    pub due: Option<Due>,
}

impl Eip {
    pub fn facts(&self) -> &Facts {
        &self.versions.last().expect("an EIP is made with its first version").1
    }

    pub fn allocated_at(&self) -> Timestamp {
        self.versions[0].0
    }

    pub fn exists(&self) -> bool {
        self.facts().status != Status::Released
    }

    pub fn change(&mut self, at: Timestamp, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.facts().clone();
        change(&mut facts);
        self.versions.push((at, facts));
    }

    /// Finishes what is due by now, at the time it was due.
    pub fn settle(&mut self, now: Timestamp) {
        let Some(Due { at, turn }) = self.due.take_if(|due| due.at <= now) else { return };
        self.change(at, |facts| match turn {
            Turn::Bound => facts.status = Status::InUse,
            Turn::BindingFailed | Turn::Unbound => {
                facts.status = Status::Available;
                facts.binding = None;
            }
            Turn::Gone => {
                facts.status = Status::Released;
                facts.package = None;
            }
            Turn::Joined(package) => facts.package = Some(package),
            Turn::Left => facts.package = None,
        });
    }

    /// What a reader sees: nothing yet, nothing any more, or the facts as they were a lag ago.
    pub fn visible(&self, now: Timestamp, settings: &Settings) -> Option<&Facts> {
        if self.allocated_at() + settings.new_eip_lag > now {
            return None;
        }
        let seen = self.versions.iter().rev().find(|(at, _)| *at + settings.change_lag <= now);
        let facts = &seen.unwrap_or(&self.versions[0]).1;
        (facts.status != Status::Released).then_some(facts)
    }

    /// Bound, or on its way to or from there.
    pub fn occupies(&self, instance_id: &str, private_ip: Ipv4Addr) -> bool {
        self.facts()
            .binding
            .as_ref()
            .is_some_and(|binding| binding.instance_id == instance_id && binding.private_ip == private_ip)
    }

    /// Refuses while another operation on this EIP is unfinished.
    pub fn idle(&self, settings: &Settings) -> ApiResult<()> {
        if self.facts().status == Status::Releasing {
            return Err(incorrect_status(self));
        }
        match (&self.due, settings.busy_code) {
            (None, _) => Ok(()),
            (Some(_), BusyCode::TaskConflict) => Err(task_conflict()),
            (Some(_), BusyCode::IncorrectEipStatus) => Err(incorrect_status(self)),
        }
    }

    /// Refuses an EIP that arrears or a security incident have locked.
    pub fn unlocked(&self) -> ApiResult<()> {
        match &self.facts().lock {
            None => Ok(()),
            Some(reason) => Err(ApiError::bad("InvalidEIPStatus.BizDisabled", format!("The EIP is locked: {reason}."))),
        }
    }

    pub fn begin(&mut self, now: Timestamp, delay: Duration, turn: Turn) {
        self.due = Some(Due { at: now + delay, turn });
    }
}

pub(crate) fn task_conflict() -> ApiError {
    ApiError::bad("TaskConflict", "The operation is too frequent, please try again later. (operate too frequent)")
}

pub(crate) fn incorrect_status(eip: &Eip) -> ApiError {
    let message = format!("The status of the EIP does not allow the operation: {}.", eip.facts().status.text());
    ApiError::bad("IncorrectEipStatus", message)
}

#[cfg(test)]
mod tests;
