//! Ending EIPs of which this node has no record: unbind side by side, wait once, release.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::STEP_TIME;
use super::lease::Hold;
use crate::cloud::{Class, Cloud, Eip, EipFilter, EipStatus};
use crate::deadline::Deadline;
use crate::eip::bind::whereabouts;
use crate::eip::failure::{Failure, Kind};
use crate::eip::package;
use crate::names::{ClientToken, EipId, EniId};

/// For what this sweep unbinds to become free. What takes longer is released by the next sweep.
const UNBIND_TIME: Duration = Duration::from_secs(15);

/// Between two looks at all of them.
const UNBIND_POLL: Duration = Duration::from_millis(500);

/// The binding that an EIP may be taken from; on anything else it is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where a PodEIP published it.
    Published { eni: EniId, private_ip: Ipv4Addr },
    /// Any network interface: nobody claims it at all.
    AnyInterface,
    /// Nowhere.
    Unbound,
}

/// One EIP that is to become free.
#[derive(Clone, Debug)]
pub struct Leaving {
    pub id: EipId,
    pub from: Place,
}

/// Where an EIP stands that was to become free.
#[derive(Clone, Debug, PartialEq)]
pub enum Left {
    /// It may be released.
    Free(Box<Eip>),
    /// It does not exist (any more).
    Gone,
    /// It is on something that it must not be taken from.
    Elsewhere(String),
    /// A pod has taken it over.
    Overtaken,
    /// It is still on its way, or the cloud refused.
    NotYet(Failure),
}

/// Unbinds what stands in `leaving` and says how each came out. `still` is asked between the look
/// at an EIP and the call, whether it may be taken from there: nobody promises that the cloud
/// compares the place that is named with where the EIP is by then.
///
/// # Errors
/// The cloud does not answer, or the Lease is lost, or `still` fails.
pub fn unbind(
    cloud: &Cloud,
    hold: &mut Hold,
    leaving: &[Leaving],
    still: impl Fn(&EipId) -> Result<bool, Failure>,
    deadline: Deadline,
) -> Result<BTreeMap<EipId, Left>, Failure> {
    let mut leaving: Vec<&Leaving> = leaving.iter().collect();
    let mut states = look(cloud, &leaving, deadline)?;
    let mut overtaken = BTreeSet::new();
    for one in &leaving {
        let Some(Seen::Bound(eip)) = states.get(&one.id) else { continue };
        hold.keep(deadline)?;
        if still(&one.id)? {
            detach(cloud, eip, deadline.within(STEP_TIME));
        } else {
            overtaken.insert(one.id.clone());
        }
    }
    states.retain(|id, _| !overtaken.contains(id));
    leaving.retain(|one| !overtaken.contains(&one.id));
    let free_by = deadline.within(UNBIND_TIME);
    while states.values().any(|seen| matches!(seen, Seen::Bound(_) | Seen::Moving(_))) && free_by.sleep(UNBIND_POLL) {
        states = look(cloud, &leaving, deadline)?;
    }
    let left = states.into_iter().map(|(id, seen)| (id, seen.into()));
    Ok(left.chain(overtaken.into_iter().map(|id| (id, Left::Overtaken))).collect())
}

/// Whatever comes of it, the next look tells.
fn detach(cloud: &Cloud, eip: &Eip, deadline: Deadline) {
    if let Err(error) = cloud.detach_eip(eip, &ClientToken::random(), deadline)
        && !error.outcome_unknown()
        && !matches!(error.class(), Class::Conflict | Class::Gone | Class::TargetGone)
    {
        log::warn!("{} is not unbound: {error}", eip.id);
    }
}

enum Seen {
    Free(Box<Eip>),
    Gone,
    Bound(Box<Eip>),
    Moving(Box<Eip>),
    Elsewhere(String),
}

impl From<Seen> for Left {
    fn from(seen: Seen) -> Self {
        match seen {
            Seen::Free(eip) => Left::Free(eip),
            Seen::Gone => Left::Gone,
            Seen::Elsewhere(place) => Left::Elsewhere(place),
            Seen::Bound(eip) | Seen::Moving(eip) => {
                Left::NotYet(Failure::new(Kind::TryAgain, format!("{} is still {}", eip.id, whereabouts(&eip))))
            }
        }
    }
}

fn look(cloud: &Cloud, leaving: &[&Leaving], deadline: Deadline) -> Result<BTreeMap<EipId, Seen>, Failure> {
    let ids: Vec<EipId> = leaving.iter().map(|one| one.id.clone()).collect();
    let mut eips: BTreeMap<EipId, Eip> =
        cloud.describe_eips(&EipFilter::Ids(ids), deadline)?.into_iter().map(|eip| (eip.id.clone(), eip)).collect();
    Ok(leaving.iter().map(|one| (one.id.clone(), seen(one, eips.remove(&one.id)))).collect())
}

fn seen(one: &Leaving, eip: Option<Eip>) -> Seen {
    let Some(eip) = eip else { return Seen::Gone };
    match eip.status {
        EipStatus::Available => Seen::Free(Box::new(eip)),
        EipStatus::Releasing => Seen::Gone,
        EipStatus::InUse if one.from.is_of(&eip) => Seen::Bound(Box::new(eip)),
        EipStatus::InUse => Seen::Elsewhere(whereabouts(&eip)),
        _ => Seen::Moving(Box::new(eip)),
    }
}

impl Place {
    fn is_of(&self, eip: &Eip) -> bool {
        match self {
            // The cloud shows no address for an ENI's primary one.
            Place::Published { eni, private_ip } => {
                eip.instance_id.as_deref() == Some(eni.as_str()) && eip.private_ip.is_none_or(|it| it == *private_ip)
            }
            Place::AnyInterface => eip.instance_type.as_deref() == Some("NetworkInterface"),
            Place::Unbound => false,
        }
    }
}

/// Gives a free EIP of ours back.
pub fn release(cloud: &Cloud, eip: &Eip, deadline: Deadline) -> Result<(), Failure> {
    if let Some(package) = &eip.bandwidth_package {
        package::leave(cloud, package, &eip.id, deadline)?;
    }
    log::info!("releasing {}", eip.id);
    Ok(cloud.release_eip(&eip.id, deadline)?)
}
