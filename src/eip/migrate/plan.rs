//! What a migration does about each pod of this node. Pure.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Peer;
use crate::cloud::{Eip, EipStatus, Eni};
use crate::eip::bind::whereabouts;
use crate::eip::lasting;
use crate::eip::owner::{self, HANDED_BACK, TAG_CLUSTER};
use crate::eip::publish::{self, is_claim_of};
use crate::eip::reconcile::is_served;
use crate::eip::request::{self, Parameters, Refusal, Source, Wish};
use crate::eip::upkeep::unsandboxed;
use crate::kube::{Pod, PodEip};
use crate::names::{BandwidthPackageId, EipKind, EniId, PodRef};
use crate::state::format::{Attachment, Binding, Phase};
use crate::strategy::{GoDuration, Strategy};

/// How long Terway keeps the EIP of a stateful pod for the next one of its name; its own migration writes
/// the same.
const TERWAYS_STICK: GoDuration = GoDuration(Duration::from_secs(5 * 60));

/// What holds for all pods of a migration.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub from: Peer,
    pub cluster: &'a str,
    /// Those of the node's VPC that carry one of the EIPs.
    pub enis: &'a [Eni],
    pub stateful_kinds: &'a [String],
}

/// All that is known of one pod's EIP.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub pod: &'a Pod,
    pub record: Option<&'a Attachment>,
    pub pod_eip: Option<&'a PodEip>,
    pub eip: Option<&'a Eip>,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The pod goes on with the EIP that it has. This is its record; what is odd about it is in words.
    TakeOver { record: Box<Attachment>, note: Option<String> },
    /// No living pod has the name of this PodEIP. It gets podeip's mark, so that the sweep ends it as its
    /// strategy says and the next pod of the name takes it over.
    Mark,
    /// It is podeip's already.
    Ours,
    /// There is nothing to take over, and why.
    Without(String),
    /// It stays as it is, and why.
    Refused(String),
}

/// Decides for one pod. Traffic follows the cloud, so whatever contradicts it is refused.
pub fn judge(case: &Case, rules: &Rules) -> Decision {
    if let Some(record) = case.record {
        return of_record(case, record, rules.cluster);
    }
    let Some(eip) = case.eip else { return without_eip(case, rules.from) };
    adopt(case, eip, rules).unwrap_or_else(Decision::Refused)
}

/// An earlier run may have been interrupted after it wrote the record.
fn of_record(case: &Case, record: &Attachment, cluster: &str) -> Decision {
    let of_other = case.pod_eip.and_then(PodEip::pod_uid).is_some_and(|uid| uid != record.pod.uid);
    match case.eip {
        Some(eip) if is_served(record) && !of_other && !is_complete(case, record, eip, cluster) => {
            Decision::TakeOver { record: Box::new(record.clone()), note: None }
        }
        _ => Decision::Ours,
    }
}

fn is_complete(case: &Case, record: &Attachment, eip: &Eip, cluster: &str) -> bool {
    let is_static = record.eip.as_ref().is_some_and(|eip| eip.kind == EipKind::Static);
    let shown = case.pod.annotations.get(publish::ID_KEYS[0]);
    case.pod_eip.is_some_and(|claim| is_claim_of(claim, record) && claim.status.is_some())
        && (is_static || owner::belongs_to(eip, cluster, &record.pod.uid))
        && shown.is_some_and(|id| id == eip.id.as_str())
}

fn without_eip(case: &Case, from: Peer) -> Decision {
    match case.pod_eip {
        Some(pod_eip) => {
            Decision::Refused(format!("{}, which its PodEIP names, does not exist", pod_eip.spec.allocation_id))
        }
        None => Decision::Without(format!("{from} has given it none")),
    }
}

fn adopt(case: &Case, eip: &Eip, rules: &Rules) -> Result<Decision, String> {
    check_pod_eip(case)?;
    if case.pod.finished() {
        return Err("the pod has finished, and its address may be another pod's: delete it".into());
    }
    if let Some(other) = eip.tags.get(TAG_CLUSTER).filter(|it| *it != rules.cluster && *it != HANDED_BACK) {
        return Err(format!("{} belongs to cluster {other} by its tags", eip.id));
    }
    let binding = place(case.pod, eip, rules.enis)?;
    let (kind, mut note) = kind(case, eip);
    let wish = wish(case);
    if let Err(refusal) = &wish {
        note = Some(format!("its next sandbox will not start: {refusal}"));
    }
    let instance =
        PodRef { namespace: case.pod.namespace.clone(), name: case.pod.name.clone(), uid: case.pod.runtime_uid() };
    let mut record = unsandboxed(rules.cluster, instance, eip, kind);
    record.binding = Some(binding);
    record.phase = Phase::Bound;
    // The pod knows the address already. A record that says otherwise is one of an interrupted ADD, whose EIP
    // is taken off again.
    record.published = true;
    record.strategy = strategy(case, rules, wish.as_ref().ok().and_then(Option::as_ref));
    record.bandwidth_package = package(case, eip, wish.ok().flatten());
    Ok(Decision::TakeOver { record: Box::new(record), note })
}

fn check_pod_eip(case: &Case) -> Result<(), String> {
    let Some(pod_eip) = case.pod_eip else { return Ok(()) };
    if let Some(problem) = &pod_eip.problem {
        return Err(format!("its PodEIP is not understood: {problem}"));
    }
    match pod_eip.pod_uid() {
        Some(uid) if !case.pod.is_instance(&uid) => Err(format!("its PodEIP belongs to an earlier pod, {uid}")),
        _ => Ok(()),
    }
}

/// Where the cloud shows the EIP, which has to be an address of the pod.
fn place(pod: &Pod, eip: &Eip, enis: &[Eni]) -> Result<Binding, String> {
    let elsewhere = || format!("{} is {}, not on the pod's address", eip.id, whereabouts(eip));
    if eip.status != EipStatus::InUse {
        return Err(format!("{} is {}, not InUse", eip.id, eip.status));
    }
    let Some(id) = interface(eip) else { return Err(elsewhere()) };
    let Some(eni) = enis.iter().find(|eni| eni.id == id) else {
        return Err(format!("{} is bound to {id}, which is not an ENI of this node's VPC", eip.id));
    };
    let private_ip: Option<Ipv4Addr> = eip.private_ip.or(eni.primary_ip);
    let private_ip = private_ip.filter(|it| pod.ips.contains(it)).ok_or_else(elsewhere)?;
    if eni.primary_ip != Some(private_ip) && !eni.private_ips.contains(&private_ip) {
        return Err(format!("{} is bound to {private_ip}, which is not an address of {id}", eip.id));
    }
    Ok(Binding { eni: id, private_ip, primary: eip.private_ip.is_none() })
}

/// The network interface that carries the EIP.
pub fn interface(eip: &Eip) -> Option<EniId> {
    let id = eip.instance_id.as_ref().filter(|_| eip.instance_type.as_deref() == Some("NetworkInterface"))?;
    Some(EniId::new(id.as_str()))
}

/// `Auto` only where something says that the peer bought it, since it is released one day.
fn kind(case: &Case, eip: &Eip) -> (EipKind, Option<String>) {
    if request::names_eip(&case.pod.annotations) {
        return (EipKind::Static, None);
    }
    match case.pod_eip {
        Some(pod_eip) => (pod_eip.spec.kind, None),
        // Terway takes any EIP that it finds on a pod's address for its own, and gives its own neither.
        None if eip.name.is_some() || eip.description.is_some() => {
            let note = "it has a name or a description, which Terway gives to none, so it is never released";
            (EipKind::Static, Some(note.into()))
        }
        None => (EipKind::Auto, None),
    }
}

fn wish(case: &Case) -> Result<Option<Wish>, Refusal> {
    Ok(request::read(&case.pod.annotations)?.map(|requested| requested.wish))
}

fn strategy(case: &Case, rules: &Rules, wish: Option<&Wish>) -> Strategy {
    if let Some(pod_eip) = case.pod_eip {
        return pod_eip.spec.strategy;
    }
    let asked = wish.map_or(Strategy::Follow, |wish| wish.strategy);
    let has_owner = !case.pod.owners.is_empty();
    let mut strategy = if has_owner && asked == Strategy::Follow { Strategy::After(TERWAYS_STICK) } else { asked };
    lasting::fall_back(&mut strategy, case.pod, rules.stateful_kinds);
    strategy
}

fn package(case: &Case, eip: &Eip, wish: Option<Wish>) -> Option<BandwidthPackageId> {
    if let Some(pod_eip) = case.pod_eip {
        return pod_eip.spec.bandwidth_package_id.clone();
    }
    match wish?.source {
        Source::Allocate(Parameters { bandwidth_package, .. }) => {
            bandwidth_package.filter(|it| eip.bandwidth_package.as_ref() == Some(it))
        }
        Source::Named(_) => None,
    }
}

/// Whether a PodEIP without a living pod is still the peer's, in part at least.
pub fn is_left_behind(pod_eip: &PodEip, eip: Option<&Eip>, cluster: &str) -> bool {
    let tagged = eip.is_none_or(|eip| pod_eip.spec.kind == EipKind::Static || owner::is_ours(eip, cluster));
    pod_eip.pod_uid().is_none() || !tagged
}

#[cfg(test)]
mod tests;
