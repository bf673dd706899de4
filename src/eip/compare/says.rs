//! What each side says of each fact, in words that can be compared.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Fact, Settings, Side};
use crate::cloud::{Allocation, Eip};
use crate::eip::lasting;
use crate::eip::owner;
use crate::eip::publish::{ADDRESS_KEYS, ENI_KEY, ID_KEYS};
use crate::eip::request::{self, Source, Wish};
use crate::eip::views::Views;
use crate::kube::{Pod, PodEip};
use crate::names::{BandwidthPackageId, EipKind};
use crate::state::format::{Attachment, Phase};

/// What one side says; a fact that it says nothing of is not in it.
pub type Says = BTreeMap<Fact, String>;

pub fn of(side: Side, views: &Views, settings: &Settings) -> Says {
    let said = match side {
        Side::Record => views.record.known().map(of_record),
        Side::PodEip => views.pod_eip.known().map(of_pod_eip),
        Side::Pod => views.pod.known().map(|pod| of_pod(pod, views.record.known(), settings)),
        Side::Cloud => views.cloud.known().map(|eip| of_cloud(eip, settings)),
    };
    said.unwrap_or_default()
}

fn gathered<const N: usize>(facts: [(Fact, Option<String>); N]) -> Says {
    facts.into_iter().filter_map(|(fact, text)| Some((fact, text?))).collect()
}

fn text(value: Option<&impl ToString>) -> Option<String> {
    value.map(ToString::to_string)
}

fn time(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// A package, or the statement that there is none.
fn package(id: Option<&BandwidthPackageId>) -> String {
    id.map_or_else(|| "none".into(), BandwidthPackageId::to_string)
}

/// A phase for people.
pub fn phase_text(phase: Phase, published: bool) -> String {
    match (phase, published) {
        (Phase::Bound, false) => "Bound (unpublished)".into(),
        (phase, _) => format!("{phase:?}"),
    }
}

fn of_record(record: &Attachment) -> Says {
    let eip = record.eip.as_ref();
    let ours = eip.is_some_and(|eip| eip.kind == EipKind::Auto);
    let sent = record.allocation.clone().and_then(|it| serde_json::from_value::<Allocation>(it).ok());
    let sent = sent.as_ref();
    // Nothing is known of the package of an EIP that the user owns.
    let joined = record.bandwidth_package.as_ref();
    let joined = (ours || joined.is_some()).then(|| package(joined));
    gathered([
        (Fact::Pod, Some(record.pod.to_string())),
        (Fact::EipId, eip.map(|eip| eip.id.to_string())),
        (Fact::Address, eip.and_then(|eip| text(eip.address.as_ref()))),
        (Fact::Status, Some(phase_text(record.phase, record.published))),
        (Fact::PrivateIp, record.binding.as_ref().map(|binding| binding.private_ip.to_string())),
        (Fact::Eni, record.binding.as_ref().map(|binding| binding.eni.to_string())),
        (Fact::Type, eip.map(|eip| eip.kind.to_string())),
        (Fact::Strategy, Some(record.strategy.to_string())),
        (Fact::Bandwidth, sent.map(|sent| sent.bandwidth.to_string())),
        (Fact::BandwidthPackage, joined),
        (Fact::ChargeType, sent.map(|sent| sent.internet_charge_type.clone())),
        (Fact::Isp, sent.and_then(|sent| sent.isp.clone())),
        (Fact::Name, sent.and_then(|sent| sent.name.clone())),
        (Fact::PodUid, Some(record.pod.uid.to_string())),
        (Fact::LastSeen, Some(time(record.updated_at))),
    ])
}

fn of_pod_eip(pod_eip: &PodEip) -> Says {
    let status = pod_eip.status.clone().unwrap_or_default();
    let spec = &pod_eip.spec;
    let packages = [&spec.bandwidth_package_id, &status.bandwidth_package_id];
    let packages = distinct(packages.into_iter().flatten().map(BandwidthPackageId::to_string));
    let own = spec.kind == EipKind::Auto;
    gathered([
        (Fact::Pod, Some(format!("{}/{}", pod_eip.namespace, pod_eip.name))),
        (Fact::EipId, Some(spec.allocation_id.to_string()).filter(|id| !id.is_empty())),
        (Fact::Address, text(status.eip_address.as_ref())),
        (Fact::Status, ending(status.status, pod_eip.deleting)),
        (Fact::PrivateIp, text(status.private_ip_address.as_ref())),
        (Fact::Eni, text(status.network_interface_id.as_ref())),
        (Fact::Type, Some(spec.kind.to_string())),
        (Fact::Strategy, Some(spec.strategy.to_string())),
        (Fact::BandwidthPackage, packages.or_else(|| own.then(|| package(None)))),
        (Fact::ChargeType, status.internet_charge_type),
        (Fact::Isp, status.isp),
        (Fact::Name, status.name),
        (Fact::PodUid, text(pod_eip.pod_uid().as_ref())),
        (Fact::Node, pod_eip.node().map(str::to_string)),
        (Fact::LastSeen, status.pod_last_seen.map(time)),
    ])
}

/// A status, with the word that its object is on its way out.
fn ending(status: Option<String>, deleting: bool) -> Option<String> {
    match (status, deleting) {
        (Some(status), true) => Some(format!("{status} (being deleted)")),
        (None, true) => Some("being deleted".into()),
        (status, false) => status,
    }
}

/// What the pod carries of its EIP, and what it asks for.
fn of_pod(pod: &Pod, record: Option<&Attachment>, settings: &Settings) -> Says {
    let published = |keys: &[&str]| distinct(keys.iter().filter_map(|key| pod.annotations.get(*key).cloned()));
    // The runtime knows a static pod by its manifest's hash.
    let uid = record.map(|record| &record.pod.uid).filter(|uid| pod.is_instance(uid));
    let mut says = gathered([
        (Fact::Pod, Some(format!("{}/{}", pod.namespace, pod.name))),
        (Fact::EipId, published(&ID_KEYS)),
        (Fact::Address, published(&ADDRESS_KEYS)),
        (Fact::Status, ending(Some(pod.phase.clone()).filter(|phase| !phase.is_empty()), pod.terminating)),
        (Fact::Eni, published(&[ENI_KEY])),
        (Fact::PodUid, Some(uid.map_or_else(|| pod.uid.clone(), ToString::to_string))),
        (Fact::Node, pod.node.clone()),
    ]);
    if let Ok(Some(requested)) = request::read(&pod.annotations) {
        let mut wish = requested.wish;
        lasting::fall_back(&mut wish.strategy, pod, settings.stateful_kinds);
        says.extend(of_wish(&wish, says.get(&Fact::EipId)));
    }
    says
}

fn of_wish(wish: &Wish, published: Option<&String>) -> Says {
    let mut says = gathered([(Fact::Strategy, Some(wish.strategy.to_string()))]);
    match &wish.source {
        Source::Named(id) => {
            says.extend([(Fact::Type, EipKind::Static.to_string())]);
            says.extend(distinct(published.cloned().into_iter().chain([id.to_string()])).map(|ids| (Fact::EipId, ids)));
        }
        Source::Allocate(wanted) => says.extend(gathered([
            (Fact::Bandwidth, Some(wanted.bandwidth.to_string())),
            (Fact::BandwidthPackage, text(wanted.bandwidth_package.as_ref())),
            (Fact::ChargeType, Some(wanted.internet_charge_type.as_str().into())),
            (Fact::Isp, wanted.isp.map(|isp| isp.as_str().into())),
            (Fact::Name, wanted.name.clone()),
        ])),
    }
    says
}

fn of_cloud(eip: &Eip, settings: &Settings) -> Says {
    let tag = |key| eip.tags.get(key).cloned();
    let locked = if eip.locked.is_empty() { String::new() } else { format!(" (locked: {})", eip.locked.join(", ")) };
    let primary = eip.instance_id.as_ref().map(|_| "primary".to_string());
    gathered([
        (Fact::Pod, owner_of(eip, settings)),
        (Fact::EipId, Some(eip.id.to_string())),
        (Fact::Address, text(eip.address.as_ref())),
        (Fact::Status, Some(format!("{}{locked}", eip.status))),
        (Fact::PrivateIp, text(eip.private_ip.as_ref()).or(primary)),
        (Fact::Eni, eip.instance_id.clone()),
        (Fact::Bandwidth, text(eip.bandwidth.as_ref())),
        (Fact::BandwidthPackage, Some(package(eip.bandwidth_package.as_ref()))),
        (Fact::ChargeType, eip.internet_charge_type.clone()),
        (Fact::Isp, eip.isp.clone()),
        (Fact::Name, eip.name.clone()),
        (Fact::PodUid, tag(owner::TAG_UID)),
        (Fact::Node, tag(owner::TAG_NODE)),
    ])
}

/// The pod for which the EIP was allocated, by its tags.
fn owner_of(eip: &Eip, settings: &Settings) -> Option<String> {
    let tag = |key| eip.tags.get(key);
    let pod = format!("{}/{}", tag(owner::TAG_NAMESPACE)?, tag(owner::TAG_POD)?);
    let cluster = tag(owner::TAG_CLUSTER)?;
    match settings.cluster {
        Some(ours) if ours != cluster => Some(format!("{pod} of cluster {cluster}")),
        _ => Some(pod),
    }
}

/// What several places of one side say of the same fact: once, if they agree.
fn distinct(texts: impl Iterator<Item = String>) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    for text in texts {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    (!all.is_empty()).then(|| all.join(", "))
}
