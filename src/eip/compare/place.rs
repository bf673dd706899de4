//! Where each side says that the EIP is bound.

use std::fmt;
use std::net::Ipv4Addr;

use super::{Difference, Fact, Group, Side, grouped, speakers};
use crate::cloud::{Eip, EipStatus};
use crate::eip::bind;
use crate::eip::views::{View, Views};
use crate::kube::PodEip;
use crate::names::{EipId, EniId};
use crate::state::format::{Attachment, Binding, Phase};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// On an ENI or whatever else; no address means the ENI's primary one.
    On(String, Option<Ipv4Addr>),
    Unbound,
    /// The EIP does not exist.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::On(holder, Some(address)) => write!(f, "bound on {holder} ({address})"),
            Place::On(holder, None) => write!(f, "bound on {holder}"),
            Place::Unbound => f.write_str("unbound"),
            Place::Nowhere => f.write_str("gone"),
        }
    }
}

impl Place {
    fn of(binding: &Binding) -> Self {
        Place::On(binding.eni.to_string(), Some(binding.private_ip))
    }

    /// The facts that make it another place than `other`.
    fn facts_unlike(&self, other: &Place) -> Vec<Fact> {
        match (self, other) {
            (Place::On(holder, _), Place::On(trusted, _)) if holder == trusted => vec![Fact::PrivateIp],
            (Place::On(_, address), Place::On(_, trusted)) if address == trusted => vec![Fact::Eni],
            (Place::On(..), Place::On(..)) => vec![Fact::PrivateIp, Fact::Eni],
            _ => vec![Fact::Status, Fact::PrivateIp, Fact::Eni],
        }
    }
}

/// Who contradicts the record, or else the PodEIP, about where the EIP is. Nobody does while a
/// record is between two places.
pub fn compare(views: &Views) -> Vec<Difference> {
    let record = views.record.known();
    let recorded = record.and_then(of_record);
    if record.is_some() && recorded.is_none() {
        return Vec::new();
    }
    let named = record.and_then(|record| record.eip.as_ref()).map(|eip| &eip.id);
    let claimed = views.pod_eip.known().map(|it| &it.spec.allocation_id).filter(|id| !id.as_str().is_empty());
    let Some(id) = named.or(claimed) else { return Vec::new() };
    // What a PodEIP says of another EIP is another difference.
    let pod_eip = views.pod_eip.known().filter(|it| it.spec.allocation_id == *id);
    let binding = record.and_then(|record| record.binding.clone()).or_else(|| pod_eip.and_then(binding_of));
    let claims = [
        (Side::Record, recorded),
        (Side::PodEip, pod_eip.and_then(of_pod_eip)),
        (Side::Cloud, of_cloud(&views.cloud, id, binding.as_ref())),
    ];
    let mut groups = grouped(claims.into_iter().filter_map(|(side, place)| Some((side, place?)))).into_iter();
    let Some(trusted) = groups.next() else { return Vec::new() };
    if trusted.sides == [Side::Cloud] {
        return Vec::new();
    }
    groups.map(|other| difference(id, other, &trusted)).collect()
}

fn difference(id: &EipId, other: Group<Place>, trusted: &Group<Place>) -> Difference {
    let said = match (other.sides.as_slice(), &other.value) {
        ([Side::Cloud], Place::Nowhere) => format!("the cloud has no {id}"),
        ([Side::Cloud], place) => format!("the cloud shows {id} {place}"),
        (sides, place) => format!("{} {id} is {place}", speakers(sides)),
    };
    Difference {
        facts: other.value.facts_unlike(&trusted.value),
        message: format!("{said}, but {} it is {}", speakers(&trusted.sides), trusted.value),
        sides: other.sides,
    }
}

fn of_record(record: &Attachment) -> Option<Place> {
    record.eip.as_ref()?;
    match (record.phase, &record.binding) {
        (Phase::Bound, Some(binding)) => Some(Place::of(binding)),
        (Phase::Held, None) => Some(Place::Unbound),
        _ => None,
    }
}

/// Where the PodEIP's status has the EIP. It does not say whether the address is the ENI's primary
/// one, so either counts.
fn binding_of(pod_eip: &PodEip) -> Option<Binding> {
    let status = pod_eip.status.as_ref()?;
    let eni: EniId = status.network_interface_id.clone()?;
    Some(Binding { eni, private_ip: status.private_ip_address?, primary: true })
}

fn of_pod_eip(pod_eip: &PodEip) -> Option<Place> {
    match pod_eip.status.as_ref()?.status.as_deref()? {
        "InUse" => binding_of(pod_eip).as_ref().map(Place::of),
        "Available" => Some(Place::Unbound),
        _ => None,
    }
}

fn of_cloud(cloud: &View<Eip>, id: &EipId, binding: Option<&Binding>) -> Option<Place> {
    let eip = match cloud {
        View::Absent => return Some(Place::Nowhere),
        View::Known(eip) if eip.id == *id => eip,
        View::Known(_) | View::Unknown(_) => return None,
    };
    match eip.status {
        EipStatus::Available => Some(Place::Unbound),
        EipStatus::InUse => Some(match binding.filter(|binding| bind::sits_on(eip, binding)) {
            Some(binding) => Place::of(binding),
            None => Place::On(eip.instance_id.clone().unwrap_or_else(|| "something".into()), eip.private_ip),
        }),
        _ => None,
    }
}
