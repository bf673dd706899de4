//! What should be there and is not: objects, the pod's annotations and condition, sense.

use super::{Difference, Fact, Settings, Side};
use crate::cloud::Eip;
use crate::eip::owner;
use crate::eip::publish::{ADDRESS_KEYS, ENI_KEY, ID_KEYS, READINESS_GATE};
use crate::eip::request;
use crate::eip::views::Views;
use crate::kube::{Pod, PodEip};
use crate::names::{EipId, EniId};
use crate::state::format::{Attachment, Phase};
use crate::strategy::Strategy;

fn difference(facts: &[Fact], side: Side, message: String) -> Difference {
    Difference { facts: facts.to_vec(), sides: vec![side], message }
}

/// A pod, a PodEIP or an owner that somebody counts on.
pub fn objects(views: &Views, settings: &Settings) -> Vec<Difference> {
    let Some(name) = &views.name else { return Vec::new() };
    let record = views.record.known();
    let recorded = record.and_then(|record| record.eip.as_ref()).map(|eip| &eip.id);
    let mut lacking = Vec::new();
    if views.pod.is_absent() {
        let holder = match (recorded, views.pod_eip.known()) {
            (Some(id), _) => Some(format!("the record holds {id} for it")),
            (None, Some(it)) if it.spec.strategy == Strategy::Follow => {
                Some(format!("its PodEIP ({}) still names {}", it.spec.strategy, it.spec.allocation_id))
            }
            _ => None,
        };
        lacking.extend(holder.map(|holder| {
            difference(&[Fact::Status], Side::Pod, format!("the API server has no pod {name}, but {holder}"))
        }));
    }
    if let (true, Some(record), Some(id)) = (views.pod_eip.is_absent(), record, recorded)
        && served(record)
    {
        let message = format!("there is no PodEIP {name}, but the record says that {id} is published in one");
        lacking.push(difference(&[Fact::EipId], Side::PodEip, message));
    }
    if !views.more_eips.is_empty() {
        let more: Vec<&str> = views.more_eips.iter().map(EipId::as_str).collect();
        let message = format!("the cloud shows more EIPs that were allocated for pod {name}: {}", more.join(", "));
        lacking.push(difference(&[Fact::EipId], Side::Cloud, message));
    }
    lacking.extend(unclaimed(views, settings));
    lacking
}

/// An EIP of a pod that nothing but its tags connects with it, and a pod without the EIP it asks for.
fn unclaimed(views: &Views, settings: &Settings) -> Option<Difference> {
    if !(views.record.is_absent() && views.pod_eip.is_absent()) {
        return None;
    }
    let ours = |eip: &&Eip| settings.cluster.is_some_and(|cluster| owner::is_ours(eip, cluster));
    if let Some(eip) = views.cloud.known().filter(ours) {
        let name = views.name.as_ref()?;
        return Some(difference(
            &[Fact::EipId],
            Side::Cloud,
            format!(
                "the cloud shows {} allocated for pod {name}, but neither a record of this node nor a PodEIP claims it",
                eip.id
            ),
        ));
    }
    let asks = |pod: &&Pod| !pod.finished() && matches!(request::read(&pod.annotations), Ok(Some(_)));
    let pod = views.pod.known().filter(asks).filter(|_| views.cloud.is_absent())?;
    let why = if pod.host_network { ": it is on the host network, where podeip is not called" } else { "" };
    let message = format!("the pod asks for an EIP, but neither this node, a PodEIP nor the cloud has one{why}");
    Some(difference(&[Fact::EipId], Side::Pod, message))
}

fn served(record: &Attachment) -> bool {
    record.phase == Phase::Bound && record.published
}

/// The EIP that the pod should carry, and the ENI it should name.
fn publishable(views: &Views, pod: &Pod) -> Option<(EipId, EniId)> {
    let of_record = |record: &Attachment| {
        let instance = served(record) && pod.is_instance(&record.pod.uid);
        instance.then_some((record.eip.as_ref()?.id.clone(), record.binding.as_ref()?.eni.clone()))
    };
    let of_pod_eip = |pod_eip: &PodEip| {
        let status = pod_eip.status.as_ref().filter(|status| status.status.as_deref() == Some("InUse"))?;
        let instance = pod_eip.pod_uid().is_some_and(|uid| pod.is_instance(&uid));
        instance.then_some((pod_eip.spec.allocation_id.clone(), status.network_interface_id.clone()?))
    };
    match views.record.known() {
        Some(record) => of_record(record),
        None => views.pod_eip.known().and_then(of_pod_eip),
    }
}

/// Annotations and condition of a pod whose EIP is in place. Ids and addresses that are there but
/// wrong are literal differences.
pub fn publication(views: &Views) -> Vec<Difference> {
    let Some(pod) = views.pod.known() else { return Vec::new() };
    let Some((id, eni)) = publishable(views, pod) else { return Vec::new() };
    let mut lacking = Vec::new();
    let keys = [(Fact::EipId, &ID_KEYS[..]), (Fact::Address, &ADDRESS_KEYS), (Fact::Eni, &[ENI_KEY])];
    let missing = |keys: &[&'static str]| -> Vec<&'static str> {
        keys.iter().copied().filter(|key| !pod.annotations.contains_key(*key)).collect()
    };
    let missing: Vec<_> = keys.into_iter().map(|(fact, keys)| (fact, missing(keys))).collect();
    let facts: Vec<Fact> = missing.iter().filter(|(_, keys)| !keys.is_empty()).map(|(fact, _)| *fact).collect();
    if !facts.is_empty() {
        let keys = missing.into_iter().flat_map(|(_, keys)| keys).collect::<Vec<_>>().join(", ");
        lacking.push(difference(&facts, Side::Pod, format!("the pod does not carry {id} in its annotations {keys}")));
    }
    if let Some(other) = pod.annotations.get(ENI_KEY).filter(|other| *other != eni.as_str()) {
        lacking.push(difference(&[Fact::Eni], Side::Pod, format!("the pod says ENI {other}, but {id} is on {eni}")));
    }
    let gated = pod.readiness_gates.iter().any(|gate| gate == READINESS_GATE);
    let met = pod.conditions.get(READINESS_GATE).is_some_and(|status| status == "True");
    if gated && !met {
        let message = format!("the pod waits for its condition {READINESS_GATE}, but {id} is in place");
        lacking.push(difference(&[Fact::Status], Side::Pod, message));
    }
    lacking
}

/// What a person wrote and podeip does not understand.
pub fn sense(views: &Views) -> Vec<Difference> {
    let problem = views.pod_eip.known().and_then(|it| it.problem.as_ref());
    let problem = problem.map(|problem| {
        difference(&[Fact::Type, Fact::Strategy], Side::PodEip, format!("the PodEIP is wrong: {problem}"))
    });
    let refusal = views.pod.known().and_then(|pod| request::read(&pod.annotations).err());
    let refusal = refusal.map(|refusal| difference(&[], Side::Pod, format!("the pod's wish is wrong: {refusal}")));
    problem.into_iter().chain(refusal).collect()
}
