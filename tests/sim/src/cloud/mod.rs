//! The simulated Alibaba Cloud: one account, one region, and a test's hand in it.

mod credentials;
pub mod defaults;
mod eip;
mod eni;
pub(crate) mod error;
mod gateway;
mod limits;
mod metadata;
mod package;
mod rpc;
mod settings;
mod signature;
mod state;
mod sts;
mod tags;
mod tokens;
mod view;
mod vswitch;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

pub use eip::{Binding, MadeBy, Status};
pub use eni::{EniKind, EniSpec};
pub use gateway::{Endpoint, Product};
pub use metadata::Metadata;
pub use package::Package;
pub use settings::{BusyCode, OidcTrust, RepeatCode, Settings};
pub use view::{EipView, Moment, UserEip};

use crate::clock::Clock;
use eip::Eip;
use eni::Eni;
use state::State;

/// The cloud. The services over it share one; its methods act at once and are not in the call log.
pub struct CloudSim {
    clock: Clock,
    state: Mutex<State>,
}

impl CloudSim {
    /// An empty cloud: an account with its AccessKey, no network interface, no EIP.
    pub fn empty(clock: Clock, region: &str) -> Self {
        Self { clock, state: Mutex::new(State::new(region)) }
    }

    /// The default world of [`defaults`]: a node with eth0 and the pods' ENI, a bandwidth package,
    /// an EIP of the user's.
    pub fn new(clock: Clock) -> Self {
        let cloud = Self::empty(clock, defaults::REGION);
        cloud.add_eni(EniSpec {
            id: defaults::PRIMARY_ENI.into(),
            mac: defaults::PRIMARY_MAC.into(),
            primary_ip: defaults::PRIMARY_IP.parse().expect("an address"),
            kind: EniKind::Primary,
            ..EniSpec::default()
        });
        cloud.add_eni(EniSpec {
            id: defaults::POD_ENI.into(),
            mac: defaults::POD_ENI_MAC.into(),
            primary_ip: defaults::POD_ENI_PRIMARY_IP.parse().expect("an address"),
            private_ips: (2..=254).map(|last| Ipv4Addr::new(10, 219, 0, last)).collect(),
            ..EniSpec::default()
        });
        cloud.add_package(Package {
            id: defaults::PACKAGE.into(),
            isp: "BGP".into(),
            bandwidth: 100,
            security_protection: Vec::new(),
        });
        cloud.create_user_eip(UserEip {
            id: defaults::USER_EIP.into(),
            name: "user-made".into(),
            ..UserEip::default()
        });
        cloud
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The state as of now.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        state.settle(self.clock.now());
        state
    }

    pub fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// Changes switches, from the next call on.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.lock().settings);
    }

    /// Adds a network interface, or replaces the one with this id.
    pub fn add_eni(&self, spec: EniSpec) {
        let now = self.now();
        self.lock().enis.insert(spec.id.clone(), Eni::new(spec, now));
    }

    pub fn enis(&self) -> Vec<EniSpec> {
        self.lock().enis.values().map(|eni| eni.spec.clone()).collect()
    }

    /// Assigns secondary private IPs.
    ///
    /// # Errors
    /// No such network interface.
    pub fn add_private_ips(&self, eni: &str, ips: &[Ipv4Addr]) -> anyhow::Result<()> {
        let now = self.now();
        let mut state = self.lock();
        let eni = state.enis.get_mut(eni).with_context(|| format!("there is no network interface {eni}"))?;
        ips.iter().for_each(|ip| eni.add_private_ip(*ip, now));
        Ok(())
    }

    /// Changes an interface's MAC, so that it is the one of a link that the test made.
    ///
    /// # Errors
    /// No such network interface.
    pub fn set_mac(&self, eni: &str, mac: &str) -> anyhow::Result<()> {
        let mut state = self.lock();
        let eni = state.enis.get_mut(eni).with_context(|| format!("there is no network interface {eni}"))?;
        eni.spec.mac = mac.to_lowercase();
        Ok(())
    }

    /// Deletes a network interface; its EIPs are `Available` at once. False when there was none.
    pub fn delete_eni(&self, id: &str) -> bool {
        let now = self.now();
        let mut state = self.lock();
        for eip in state.eips.iter_mut().filter(|eip| eip.exists()) {
            if eip.facts().binding.as_ref().is_some_and(|binding| binding.instance_id == id) {
                eip.due = None;
                eip.change(now, |facts| {
                    facts.status = Status::Available;
                    facts.binding = None;
                });
            }
        }
        state.enis.remove(id).is_some()
    }

    pub fn add_package(&self, package: Package) {
        self.lock().packages.insert(package.id.clone(), package);
    }

    /// The EIPs that exist now, oldest first.
    pub fn eips(&self) -> Vec<EipView> {
        self.lock().living_eips().map(EipView::of).collect()
    }

    /// Every EIP that ever was, oldest first: released ones and those made by hand too.
    pub fn ever_allocated(&self) -> Vec<EipView> {
        self.lock().eips.iter().map(EipView::of).collect()
    }

    /// An EIP by its id, also after its release.
    pub fn eip(&self, id: &str) -> Option<EipView> {
        self.lock().eips.iter().rev().find(|eip| eip.id == id).map(EipView::of)
    }

    /// Makes an EIP in the user's name; the quota does not hinder it. Returns its id.
    pub fn create_user_eip(&self, wanted: UserEip) -> String {
        let now = self.now();
        let mut state = self.lock();
        let address = wanted.address.unwrap_or_else(|| state.fresh_address());
        let id = match wanted.id.as_str() {
            "" => format!("eip-bp1u{:016}", state.next_serial()),
            id => id.to_owned(),
        };
        let versions = vec![(now, wanted.facts(address))];
        state.eips.push(Eip { id: id.clone(), made_by: MadeBy::Hand, client_token: None, versions, due: None });
        id
    }

    /// Binds an EIP at once, as a person in the console does, whatever is bound there.
    ///
    /// # Errors
    /// No such EIP or network interface.
    pub fn bind_by_hand(&self, eip: &str, eni: &str, private_ip: Ipv4Addr) -> anyhow::Result<()> {
        let now = self.now();
        let mut state = self.lock();
        let Some(holder) = state.enis.get(eni) else { bail!("there is no network interface {eni}") };
        let binding = Binding {
            instance_id: eni.into(),
            instance_type: "NetworkInterface".into(),
            private_ip,
            primary: holder.spec.primary_ip == private_ip,
            mode: "NAT".into(),
        };
        state.change_by_hand(eip, now, Status::InUse, Some(binding))
    }

    /// Takes an EIP off whatever it is bound to, at once.
    ///
    /// # Errors
    /// No such EIP.
    pub fn unbind_by_hand(&self, eip: &str) -> anyhow::Result<()> {
        let now = self.now();
        self.lock().change_by_hand(eip, now, Status::Available, None)
    }

    /// Releases an EIP at once, whatever its state.
    ///
    /// # Errors
    /// No such EIP.
    pub fn release_by_hand(&self, eip: &str) -> anyhow::Result<()> {
        let now = self.now();
        self.lock().change_by_hand(eip, now, Status::Released, None)
    }

    /// Sets an EIP's tags to exactly these, at once.
    ///
    /// # Errors
    /// No such EIP.
    pub fn tag_by_hand(&self, eip: &str, tags: BTreeMap<String, String>) -> anyhow::Result<()> {
        let now = self.now();
        let mut state = self.lock();
        let at = state.eip(eip).map_err(|missing| anyhow::anyhow!("{missing}"))?;
        state.eips[at].change(now, |facts| facts.tags = tags);
        Ok(())
    }

    /// All temporary credentials given out so far are expired from now on.
    pub fn expire_credentials(&self) {
        let now = self.now();
        self.lock().temporaries.iter_mut().for_each(|temporary| temporary.expires = temporary.expires.min(now));
    }

    /// All metadata tokens given out so far are stale from now on.
    pub fn expire_metadata_tokens(&self) {
        self.lock().metadata_tokens.clear();
    }

    /// Has the signatures of OIDC tokens checked by `genuine`; without it any signature passes.
    pub fn verify_oidc_signatures_with(&self, genuine: impl Fn(&str) -> bool + Send + 'static) {
        self.lock().verify_oidc = Some(Box::new(genuine));
    }

    /// Everything, for people and for tests in other languages.
    pub fn state(&self) -> Value {
        let packages: Vec<Package> = self.lock().packages.values().cloned().collect();
        json!({"region": self.lock().region, "eips": self.ever_allocated(), "enis": self.enis(),
               "packages": packages, "settings": self.settings()})
    }

    /// Changes the switches named in a JSON object; see [`Settings`].
    ///
    /// # Errors
    /// A switch that is not known, or a value of the wrong type; nothing is changed then.
    pub fn set_json(&self, changes: &Value) -> anyhow::Result<()> {
        ensure!(changes.is_object(), "the settings have to be a JSON object");
        let mut state = self.lock();
        let mut merged = serde_json::to_value(&state.settings)?;
        for (key, value) in changes.as_object().into_iter().flatten() {
            ensure!(merged.get(key).is_some(), "there is no setting {key}");
            merged[key] = value.clone();
        }
        state.settings = serde_json::from_value(merged).context("reading the settings")?;
        Ok(())
    }
}

impl State {
    fn change_by_hand(
        &mut self,
        eip: &str,
        now: Timestamp,
        status: Status,
        binding: Option<Binding>,
    ) -> anyhow::Result<()> {
        let at = self.eip(eip).map_err(|missing| anyhow::anyhow!("{missing}"))?;
        let eip = &mut self.eips[at];
        eip.due = None;
        eip.change(now, |facts| {
            facts.status = status;
            facts.binding = binding;
        });
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
