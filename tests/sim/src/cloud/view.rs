//! What tests and the control endpoint see of the cloud: the truth, without lag and quirks.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cloud::defaults;
use crate::cloud::eip::{Binding, Eip, Facts, MadeBy, Status};

/// One EIP as it is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EipView {
    pub id: String,
    pub address: Ipv4Addr,
    pub status: Status,
    /// Also while the EIP is on its way there or from there.
    pub binding: Option<Binding>,
    pub made_by: MadeBy,
    /// ClientToken of the call that allocated it.
    pub client_token: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub name: String,
    pub description: String,
    /// Its own bandwidth, Mbit/s.
    pub bandwidth: u32,
    pub isp: String,
    pub internet_charge_type: String,
    pub instance_charge_type: String,
    /// The bandwidth package it is a member of.
    pub package: Option<String>,
    pub resource_group: String,
    pub address_pool: String,
    pub security_protection: Vec<String>,
    pub deletion_protection: bool,
    pub lock: Option<String>,
    pub allocated_at: Timestamp,
    pub released_at: Option<Timestamp>,
    /// Every state it was in, and every place it was bound to, with the time it came true.
    pub history: Vec<Moment>,
}

/// One step of an EIP's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    pub at: Timestamp,
    pub status: Status,
    pub binding: Option<Binding>,
}

impl EipView {
    pub(crate) fn of(eip: &Eip) -> Self {
        let facts = eip.facts().clone();
        let mut history: Vec<Moment> = eip
            .versions
            .iter()
            .map(|(at, facts)| Moment { at: *at, status: facts.status, binding: facts.binding.clone() })
            .collect();
        history.dedup_by(|next, before| next.status == before.status && next.binding == before.binding);
        let released = history.last().filter(|moment| moment.status == Status::Released);
        Self {
            id: eip.id.clone(),
            address: facts.address,
            status: facts.status,
            binding: facts.binding,
            made_by: eip.made_by,
            client_token: eip.client_token.clone(),
            tags: facts.tags,
            name: facts.name,
            description: facts.description,
            bandwidth: facts.bandwidth,
            isp: facts.isp,
            internet_charge_type: facts.internet_charge_type,
            instance_charge_type: facts.instance_charge_type,
            package: facts.package,
            resource_group: facts.resource_group,
            address_pool: facts.address_pool,
            security_protection: facts.security_protection,
            deletion_protection: facts.deletion_protection,
            lock: facts.lock,
            allocated_at: eip.allocated_at(),
            released_at: released.map(|moment| moment.at),
            history,
        }
    }

    /// `InUse` on this network interface and private IP.
    pub fn is_bound_to(&self, eni: &str, private_ip: Ipv4Addr) -> bool {
        self.status == Status::InUse
            && self.binding.as_ref().is_some_and(|held| held.instance_id == eni && held.private_ip == private_ip)
    }

    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.get(key).map(String::as_str)
    }
}

/// An EIP that a user makes by hand. Empty texts take the API's defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct UserEip {
    /// A new one when empty.
    pub id: String,
    /// A new one when absent.
    pub address: Option<Ipv4Addr>,
    pub name: String,
    pub description: String,
    pub bandwidth: u32,
    pub isp: String,
    pub internet_charge_type: String,
    pub instance_charge_type: String,
    pub package: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub deletion_protection: bool,
    pub service_managed: bool,
    /// `financial` or `security`.
    pub lock: Option<String>,
}

impl Default for UserEip {
    fn default() -> Self {
        Self {
            id: String::new(),
            address: None,
            name: String::new(),
            description: String::new(),
            bandwidth: 5,
            isp: "BGP".into(),
            internet_charge_type: "PayByTraffic".into(),
            instance_charge_type: "PostPaid".into(),
            package: None,
            tags: BTreeMap::new(),
            deletion_protection: false,
            service_managed: false,
            lock: None,
        }
    }
}

impl UserEip {
    pub(crate) fn facts(self, address: Ipv4Addr) -> Facts {
        Facts {
            status: Status::Available,
            address,
            name: self.name,
            description: self.description,
            bandwidth: self.bandwidth,
            isp: self.isp,
            internet_charge_type: self.internet_charge_type,
            instance_charge_type: self.instance_charge_type,
            binding: None,
            package: self.package,
            tags: self.tags,
            resource_group: defaults::RESOURCE_GROUP.into(),
            address_pool: String::new(),
            security_protection: Vec::new(),
            deletion_protection: self.deletion_protection,
            service_managed: self.service_managed,
            lock: self.lock,
        }
    }
}
