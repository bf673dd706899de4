//! The promises, as they can be seen from outside: looked at after every step.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use podeip_sim::cloud::{EipView, Status, defaults};
use serde_json::{Value, json};

use super::field::Field;
use super::ledger::{Ledger, Placed};
use super::places::{NODES, SLOTS, Wish, node_name};

/// What an EIP is kept for after its pod was seen last, where it is kept for a time.
const KEPT_FOR: Duration = Duration::from_secs(10 * 60);

/// The world after a step.
pub struct Seen {
    now: Timestamp,
    eips: BTreeMap<String, EipView>,
    /// By the pod's name.
    pod_eips: BTreeMap<String, Value>,
}

type Judged = Result<(), String>;

impl Seen {
    pub fn take(field: &Field) -> Self {
        let world = &field.scene.world;
        let by_id = |eip: EipView| (eip.id.clone(), eip);
        let by_name = |it: Value| (it["metadata"]["name"].as_str().unwrap().to_owned(), it);
        Self {
            eips: world.cloud.ever_allocated().into_iter().map(by_id).collect(),
            pod_eips: world.cluster.list("podeips").into_iter().map(by_name).collect(),
            now: world.clock.now(),
        }
    }

    fn ours(&self) -> impl Iterator<Item = &EipView> {
        self.eips.values().filter(|eip| eip.client_token.is_some())
    }

    /// Those that podeip bought and has not asked to release.
    pub fn standing(&self) -> impl Iterator<Item = &EipView> {
        self.ours().filter(|eip| !is_leaving(eip))
    }

    /// The PodEIP that speaks for this EIP.
    fn claim(&self, eip: &str) -> Option<&Value> {
        self.pod_eips.values().find(|it| it["spec"]["allocationID"] == eip)
    }

    /// The pod instance that this EIP belongs to.
    fn owner<'a>(&'a self, eip: &'a EipView) -> Option<&'a str> {
        let claimed = self.claim(&eip.id).and_then(|claim| claim["metadata"]["annotations"]["podeip/pod-uid"].as_str());
        claimed.or(eip.tag("podeip-uid"))
    }

    pub fn eip(&self, id: &str) -> Option<&EipView> {
        self.eips.get(id)
    }

    pub fn released(&self) -> usize {
        self.ours().filter(|eip| is_leaving(eip)).count()
    }

    pub fn kept(&self) -> Vec<String> {
        let ids = self.standing().map(|eip| eip.id.clone());
        ids.collect()
    }
}

fn is_leaving(eip: &EipView) -> bool {
    matches!(eip.status, Status::Releasing | Status::Released)
}

fn is_deleted(pod_eip: &Value) -> bool {
    !pod_eip["metadata"]["deletionTimestamp"].is_null()
}

fn on(eips: &Seen, ip: Ipv4Addr) -> Vec<&EipView> {
    let there = |eip: &&EipView| eip.binding.as_ref().is_some_and(|binding| binding.private_ip == ip);
    eips.eips.values().filter(|eip| !is_leaving(eip)).filter(there).collect()
}

/// Every promise that can be looked at between two steps.
pub fn judge(field: &Field, ledger: &Ledger, before: &Seen, after: &Seen) -> Judged {
    ledger.placed.iter().try_for_each(|placed| started_as_promised(placed, after))?;
    one_each(after)?;
    after.pod_eips.values().try_for_each(|pod_eip| names_what_exists(pod_eip, after))?;
    for eip in before.standing().filter(|eip| after.eip(&eip.id).is_some_and(is_leaving)) {
        released_rightly(ledger, eip, before, after)?;
    }
    users_eip_stands(after)?;
    (0..NODES).try_for_each(|node| records_agree(field, node))
}

/// In time, and nobody inherits an address: what runs has the EIP that it was started with and no other.
fn started_as_promised(placed: &Placed, after: &Seen) -> Judged {
    if !placed.started || !placed.runs || placed.ended > 0 {
        return Ok(());
    }
    let found = on(after, placed.sandbox.ip);
    let ids: Vec<&str> = found.iter().map(|eip| eip.id.as_str()).collect();
    let who = format!("pod {} ({}) on {}", placed.sandbox.name, placed.sandbox.uid, placed.sandbox.ip);
    match &placed.served {
        None if SLOTS[placed.slot].wish == Wish::Nothing && !ids.is_empty() => {
            Err(format!("{who} asks for nothing and has {found:?}"))
        }
        Some(served) if ids != [served.id.as_str()] => {
            Err(format!("{who} was given {}, and on its address is {found:?}", served.id))
        }
        Some(served) if found[0].status != Status::InUse => Err(format!("{who}: {} is {found:?}", served.id)),
        // Not even for a moment.
        Some(served) if served.history != found[0].history => {
            Err(format!("{who}: {} was touched: {:?}", served.id, found[0].history))
        }
        _ => Ok(()),
    }
}

/// Exactly one: no pod instance owns two EIPs that were bought for it.
fn one_each(after: &Seen) -> Judged {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for eip in after.standing() {
        let Some(owner) = eip.tag("podeip-uid") else { continue };
        if let Some(other) = owners.insert(owner, &eip.id) {
            return Err(format!("pod instance {owner} owns {other} and {}", eip.id));
        }
    }
    Ok(())
}

/// A PodEIP that is not being deleted names an EIP that nobody releases. One without a status is a claim of an ADD that
/// has not come to its end; the next one corrects it.
fn names_what_exists(pod_eip: &Value, after: &Seen) -> Judged {
    let id = pod_eip["spec"]["allocationID"].as_str().unwrap_or_default();
    let stands = after.eip(id).is_some_and(|eip| !is_leaving(eip));
    if stands || is_deleted(pod_eip) || pod_eip["status"].is_null() {
        return Ok(());
    }
    Err(format!("PodEIP {} names {id}, which is released: {pod_eip}", pod_eip["metadata"]["name"]))
}

/// Only ours, and none before its time. `eip` was there before the step and is released after it.
fn released_rightly(ledger: &Ledger, eip: &EipView, before: &Seen, after: &Seen) -> Judged {
    let owner = before.owner(eip).unwrap_or_default();
    if ledger.wanted(owner) {
        return Err(format!("{} was released, and its pod {owner} lives: {eip:?}", eip.id));
    }
    let Some(claim) = before.claim(&eip.id).filter(|claim| !is_deleted(claim)) else { return Ok(()) };
    let name = claim["metadata"]["name"].as_str().unwrap();
    let doomed = SLOTS.iter().zip(ledger.doomed).any(|(slot, doomed)| slot.name == name && doomed);
    let seen: Option<Timestamp> = claim["status"]["podLastSeen"].as_str().and_then(|text| text.parse().ok());
    match claim["spec"]["allocationType"]["releaseStrategy"].as_str() {
        _ if doomed => Ok(()),
        Some("Never") => Err(format!("{} is kept for ever by {claim}, and was released", eip.id)),
        // Times are whole seconds.
        Some("TTL") if seen.is_some_and(|seen| seen + KEPT_FOR > after.now + Duration::from_secs(1)) => {
            Err(format!("{} was released too early, at {}: {claim}", eip.id, after.now))
        }
        _ => Ok(()),
    }
}

fn users_eip_stands(after: &Seen) -> Judged {
    match after.eip(defaults::USER_EIP) {
        Some(eip) if !is_leaving(eip) => Ok(()),
        gone => Err(format!("the user's EIP is released: {gone:?}")),
    }
}

/// One attachment of a sandbox and of a pod instance.
fn records_agree(field: &Field, node: usize) -> Judged {
    let records = field.scene.records_of(node_name(node));
    for key in ["/containerId", "/pod/uid"] {
        let mut all: Vec<&str> = records.iter().map(|it| it.pointer(key).unwrap().as_str().unwrap()).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        if all.len() < count {
            return Err(format!("two records of one {key} on node {node}: {}", json!(records)));
        }
    }
    Ok(())
}

/// What ADD promises at the moment it succeeds: bound, published, and the only one.
pub fn served(field: &Field, placed: &Placed, after: &Seen) -> Result<Option<EipView>, String> {
    let (scene, sandbox, wish) = (&field.scene, &placed.sandbox, SLOTS[placed.slot].wish);
    let found = on(after, sandbox.ip);
    if wish == Wish::Nothing {
        return if found.is_empty() { Ok(None) } else { Err(format!("a plain pod was started on {found:?}")) };
    }
    let [eip] = found[..] else { return Err(format!("after ADD of {} {found:?} is on {}", sandbox.name, sandbox.ip)) };
    let eni = scene.eni_of(sandbox.ip);
    let no = |what: &str| Err(format!("after ADD of {} {what}: {eip:?}", sandbox.name));
    if !eip.is_bound_to(&eni, sandbox.ip) {
        return no("its EIP is not bound");
    }
    if (wish == Wish::Named) != (eip.id == defaults::USER_EIP) {
        return no("it has the wrong EIP");
    }
    if wish != Wish::Named && eip.tag("podeip-uid") != Some(sandbox.uid.as_str()) {
        return no("its EIP has not its tags");
    }
    if (wish == Wish::Packaged) != eip.package.is_some() {
        return no("its bandwidth package is wrong");
    }
    let pod = scene.world.cluster.get("pods", &sandbox.namespace, &sandbox.name);
    let shown = |key: &str| pod.as_ref().map(|pod| pod["metadata"]["annotations"][key].clone());
    if shown("network.alibabacloud.com/allocated-eip-id") != Some(json!(eip.id)) {
        return Err(format!("after ADD of {} the pod does not show {}: {pod:?}", sandbox.name, eip.id));
    }
    let claim = &scene.pod_eip(sandbox).unwrap_or_default();
    let told = [&claim["spec"]["allocationID"], &claim["status"]["privateIPAddress"], &claim["status"]["status"]];
    if told != [&json!(eip.id), &json!(sandbox.ip), &json!("InUse")] {
        return Err(format!("after ADD of {} its PodEIP says {claim}, and not {}", sandbox.name, eip.id));
    }
    Ok(Some(eip.clone()))
}
