//! What becomes of an EIP that is not bound any more: held, kept with its PodEIP, or released.

use std::time::Duration;

use crate::cloud::{Class, Cloud, CloudError, Eip, EipStatus};
use crate::deadline::Deadline;
use crate::eip::allocate;
use crate::eip::bind;
use crate::eip::detach::{Ending, Fate};
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::package;
use crate::eip::publish::{self, is_claim_of};
use crate::eip::request::Notice;
use crate::kube::{Kube, PodEip};
use crate::names::{EipId, EipKind};
use crate::state::format::{Attachment, Phase};

/// A release is refused while a change of the EIP is still settling; the next try is soon.
const RELEASE_PAUSE: Duration = Duration::from_millis(300);

/// Decides over an unbound attachment and carries the decision out.
pub fn conclude(
    node: &Node,
    journal: &mut Journal,
    fate: &Fate,
    pod_eip: Option<PodEip>,
    deadline: Deadline,
) -> Result<Ending, Failure> {
    match fate {
        Fate::Wanted => return hold(journal, Ending::Held("for the pod's next sandbox".into())),
        Fate::Unknown(answer) => return hold(journal, Ending::Undecided(answer.clone())),
        Fate::Terminating | Fate::Over(_) => {}
    }
    resolve_intent(node, journal, deadline)?;
    let record = journal.record().clone();
    let Some(eip) = &record.eip else { return Ok(Ending::Nothing) };
    let doomed = match settle_claim(node, &record, &eip.id, *fate == Fate::Terminating, pod_eip, deadline)? {
        Settled::Kept(ending) => return Ok(ending),
        Settled::Doomed(doomed) => doomed,
    };
    let release = release_recorded(node, journal, deadline)?;
    if let Some(doomed) = doomed {
        node.kube()?.finish_pod_eip_deletion(*doomed, deadline)?;
    }
    Ok(match release {
        Release::Done => Ending::Released(eip.id.clone()),
        Release::NotOurs => Ending::Kept(format!("{} was named by the pod and is never released", eip.id)),
    })
}

/// What the PodEIP of an ending attachment comes to.
enum Settled {
    /// It, or its new owner, keeps the EIP.
    Kept(Ending),
    /// Nobody keeps the EIP. The PodEIP that stands for it, if there is one, is marked as being
    /// deleted and stays until the EIP has been dealt with.
    Doomed(Option<Box<PodEip>>),
}

/// Has the PodEIP say what becomes of the EIP, before it does. The mark comes first, because a
/// PodEIP that is not being deleted may be taken over at any moment, from any node, and its EIP
/// with it.
fn settle_claim(
    node: &Node,
    record: &Attachment,
    id: &EipId,
    pod_stands: bool,
    mut pod_eip: Option<PodEip>,
    deadline: Deadline,
) -> Result<Settled, Failure> {
    let kube = node.kube()?;
    loop {
        let moved = match claim_on(id, record, pod_eip.as_ref()) {
            Claim::Newer => {
                let newer = format!("{id} now belongs to a newer pod {}", record.pod);
                return Ok(Settled::Kept(Ending::Kept(newer)));
            }
            Claim::Lasting(kept) => match publish::unpublish_binding(kube, kept, pod_stands, deadline) {
                Ok(()) => return Ok(Settled::Kept(kept_with(kube, id, record, kept, deadline))),
                Err(error) => error,
            },
            Claim::Ending(None) => return Ok(Settled::Doomed(None)),
            Claim::Ending(Some(own)) => match kube.begin_pod_eip_deletion(own, deadline) {
                Ok(doomed) => return Ok(Settled::Doomed(doomed.map(Box::new))),
                Err(error) => error,
            },
        };
        if !moved.is_conflict() || deadline.passed() {
            return Err(Failure::from(moved).during(publish::publishing(id, &record.pod)));
        }
        pod_eip = kube.pod_eip(&record.pod.namespace, &record.pod.name, deadline)?;
    }
}

/// Tells that the EIP stays with its PodEIP.
fn kept_with(kube: &Kube, id: &EipId, record: &Attachment, kept: &PodEip, deadline: Deadline) -> Ending {
    let message = format!("{id} stays with PodEIP {} ({})", record.pod, kept.spec.strategy);
    let notice = Notice { reason: "EIPKept", message: message.clone(), warning: false };
    publish::record(kube, &kept.reference(), &notice, None, deadline);
    Ending::Kept(message)
}

/// Whose the EIP of an attachment that ends is, by the PodEIP of its pod's name.
enum Claim<'a> {
    /// Another instance of the pod took it over.
    Newer,
    /// The PodEIP outlives its pod. What it says now counts, since its strategy can be edited.
    Lasting(&'a PodEip),
    /// It ends with the attachment, and so does this PodEIP, if it stands for the EIP.
    Ending(Option<&'a PodEip>),
}

fn claim_on<'a>(id: &EipId, record: &Attachment, pod_eip: Option<&'a PodEip>) -> Claim<'a> {
    match pod_eip.filter(|it| it.spec.allocation_id == *id) {
        Some(taken) if !is_claim_of(taken, record) && taken.pod_uid().is_some() => Claim::Newer,
        // A lasting one that is being deleted waits for this.
        Some(kept) if kept.spec.strategy.lasting() && !kept.deleting => Claim::Lasting(kept),
        own => Claim::Ending(own),
    }
}

/// What ending the attachment would do to its EIP: `release`, `keep`, or just `forget` the record.
///
/// # Errors
/// When the API server does not tell the PodEIP.
pub fn prospect(kube: &Kube, record: &Attachment, deadline: Deadline) -> Result<&'static str, Failure> {
    let Some(eip) = &record.eip else {
        // One may have been bought without an answer.
        return Ok(if record.allocation.is_some() { "release" } else { "forget" });
    };
    if eip.kind == EipKind::Static {
        return Ok("keep");
    }
    let pod_eip = kube.pod_eip(&record.pod.namespace, &record.pod.name, deadline)?;
    let ending = matches!(claim_on(&eip.id, record, pod_eip.as_ref()), Claim::Ending(_));
    Ok(if ending { "release" } else { "keep" })
}

fn hold(journal: &mut Journal, ending: Ending) -> Result<Ending, Failure> {
    let record = journal.record();
    // After an answered refusal the generation is kept: the next try needs a token of its own.
    if record.eip.is_none() && record.allocation.is_none() && record.generation == 0 {
        return Ok(Ending::Nothing);
    }
    if record.eip.is_some() && record.phase != Phase::Held {
        journal.save(|record| record.phase = Phase::Held)?;
    }
    Ok(ending)
}

/// An intent without an EIP: the allocation may have been carried out and its answer lost. The
/// owner tags find it; where they were ignored, the same token yields the same EIP again.
pub fn resolve_intent(node: &Node, journal: &mut Journal, deadline: Deadline) -> Result<(), Failure> {
    let record = journal.record();
    if record.eip.is_some() {
        return Ok(());
    }
    let Some(sent) = allocate::recorded(journal)? else { return Ok(()) };
    let (cloud, cluster) = (node.cloud()?, node.cluster()?);
    if let Some(eip) = allocate::allocated_before(cloud, cluster, &record.pod, deadline)? {
        return allocate::adopt(journal, &eip);
    }
    match allocate::allocate(cloud, cluster, journal, sent, deadline, &mut Vec::new()) {
        // Refused for good: then the first call cannot have bought anything either.
        Err(_) if journal.record().allocation.is_none() => Ok(()),
        outcome => outcome,
    }
}

/// How the release of a recorded EIP ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing of it is left in the cloud.
    Done,
    /// The user's EIPs are never released.
    NotOurs,
}

/// Releases the recorded EIP, which is not bound on our account any more, if it is ours.
pub fn release_recorded(node: &Node, journal: &mut Journal, deadline: Deadline) -> Result<Release, Failure> {
    let record = journal.record();
    let Some(eip) = record.eip.clone().filter(|eip| eip.kind == EipKind::Auto) else { return Ok(Release::NotOurs) };
    let cloud = node.cloud()?;
    if record.phase != Phase::Releasing {
        journal.save(|record| record.phase = Phase::Releasing)?;
    }
    if let Some(package) = journal.record().bandwidth_package.clone() {
        package::leave(cloud, &package, &eip.id, deadline)?;
    }
    let settled_by = Deadline::after(bind::READ_LAG);
    let mut refused: Option<CloudError> = None;
    loop {
        let error = match cloud.release_eip(&eip.id, deadline) {
            Ok(()) => return Ok(Release::Done),
            Err(error) if error.class() == Class::Conflict => error,
            Err(error) => return Err(error.or_else_said(refused).into()),
        };
        if settled_by.passed() {
            make_releasable(cloud, &eip.id, deadline)?;
        }
        if !deadline.sleep(RELEASE_PAUSE) {
            return Err(error.into());
        }
        refused = Some(error);
    }
}

/// For an EIP of ours that somebody bound elsewhere or put into a bandwidth package: waiting does
/// not free it.
fn make_releasable(cloud: &Cloud, id: &EipId, deadline: Deadline) -> Result<(), Failure> {
    match cloud.eip(id, deadline)? {
        Some(eip) if eip.status == EipStatus::InUse => Err(Failure::new(
            Kind::EipUnavailable,
            format!("{id} is {} by somebody else, so it is not released", bind::whereabouts(&eip)),
        )
        .hinting("unbind it there; the next `podeip gc` then releases it")),
        Some(Eip { bandwidth_package: Some(package), .. }) => package::leave(cloud, &package, id, deadline),
        _ => Ok(()),
    }
}
