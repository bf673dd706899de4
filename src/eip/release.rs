//! Giving up the EIP of a pod that does not use it, on an operator's order.

use std::time::Duration;

use crate::cloud::{Eip, EipStatus};
use crate::deadline::Deadline;
use crate::eip::bind::whereabouts;
use crate::eip::detach::Ending;
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::STATE_LOCK_WAIT;
use crate::eip::node::Node;
use crate::eip::owner;
use crate::eip::retire::{Terms, retire};
use crate::eip::upkeep::{outliving, unsandboxed};
use crate::eip::views::{View, Views};
use crate::kube::{Pod, PodEip};
use crate::names::{EipKind, PodRef, PodUid};
use crate::state::format::Attachment;

/// A person waits; unbinding and releasing take seconds.
const RELEASE_TIME: Duration = Duration::from_secs(60);

/// What the events of a pod say that waits for its next sandbox.
const WHY: &str = "an operator released it";

/// What is to be released, and who speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// This node's record.
    Recorded(Attachment),
    /// A PodEIP without a record here; `None`: its EIP does not exist any more.
    Claimed { claim: Box<PodEip>, uid: PodUid, eip: Option<Eip> },
    /// The owner tags alone.
    Tagged { eip: Eip, pod: PodRef },
}

/// What may be released of what is seen; `None`: there is nothing.
///
/// # Errors
/// Why not, in words: a living pod uses it, it is not podeip's, or a side that has to be known is not.
pub fn judge(views: &Views, cluster: &str) -> Result<Option<Target>, String> {
    let pod = told("the pod", &views.pod)?;
    let claim = told("the PodEIP", &views.pod_eip)?;
    let living = pod.filter(|pod| !pod.finished());
    // One that was named may have been left behind by an earlier pod of a name that has another by now.
    let named = views.cloud.known();
    let record = told("this node's record", &views.record)?.filter(|record| named.is_none_or(|it| has(record, it)));
    let claim = claim.filter(|claim| named.is_none_or(|it| claim.spec.allocation_id == it.id));
    if let Some(record) = record {
        let own = living.is_some_and(|pod| pod.is_instance(&record.pod.uid));
        return if own && record.binding.is_some() {
            Err(uses(&record.pod))
        } else {
            Ok(Some(Target::Recorded(record.clone())))
        };
    }
    match claim {
        Some(claim) => of_claim(claim, living, told("the cloud", &views.cloud)?).map(Some),
        None => {
            let left = told("the cloud", &views.cloud)?.filter(|eip| eip.status != EipStatus::Releasing);
            left.map(|eip| of_tags(eip, living, cluster)).transpose()
        }
    }
}

/// Whether `record` is about `eip`; one that was just bought need not be recorded yet.
fn has(record: &Attachment, eip: &Eip) -> bool {
    match &record.eip {
        Some(own) => own.id == eip.id,
        None => eip.tags.get(owner::TAG_UID).is_some_and(|uid| uid == record.pod.uid.as_str()),
    }
}

fn told<'a, T>(side: &str, view: &'a View<T>) -> Result<Option<&'a T>, String> {
    match view {
        View::Known(it) => Ok(Some(it)),
        View::Absent => Ok(None),
        View::Unknown(reason) => Err(format!("{side} is unknown: {reason}")),
    }
}

fn uses(pod: &impl std::fmt::Display) -> String {
    format!("pod {pod} lives and uses it; it goes, or stays, as its strategy says when the pod is deleted")
}

fn of_claim(claim: &PodEip, living: Option<&Pod>, eip: Option<&Eip>) -> Result<Target, String> {
    let name = format!("{}/{}", claim.namespace, claim.name);
    if let Some(problem) = &claim.problem {
        return Err(format!("PodEIP {name} is not understood: {problem}"));
    }
    let Some(uid) = claim.pod_uid() else {
        return Err(format!(
            "PodEIP {name} is another tool's; take it over with `podeip migrate`, or leave it to that tool"
        ));
    };
    if living.is_some() {
        return Err(uses(&name));
    }
    Ok(Target::Claimed { claim: Box::new(claim.clone()), uid, eip: eip.cloned() })
}

fn of_tags(eip: &Eip, living: Option<&Pod>, cluster: &str) -> Result<Target, String> {
    let tag = |key: &str| eip.tags.get(key).cloned().filter(|_| owner::is_ours(eip, cluster));
    let pod = tag(owner::TAG_NAMESPACE).zip(tag(owner::TAG_POD)).zip(tag(owner::TAG_UID));
    let Some(((namespace, name), uid)) = pod else {
        return Err(format!("nothing says that podeip allocated {} in this cluster", eip.id));
    };
    let pod = PodRef { namespace, name, uid: PodUid::new(uid) };
    if living.is_some_and(|living| living.is_instance(&pod.uid)) {
        return Err(uses(&pod));
    }
    if eip.status != EipStatus::Available {
        return Err(format!(
            "no PodEIP says that {} may be taken from where it is: it is {}",
            eip.id,
            whereabouts(eip)
        ));
    }
    Ok(Target::Tagged { eip: eip.clone(), pod })
}

impl Target {
    /// Whether the EIP is the user's, which is unbound and never released.
    pub fn is_static(&self) -> bool {
        match self {
            Target::Recorded(record) => record.eip.as_ref().is_some_and(|eip| eip.kind == EipKind::Static),
            Target::Claimed { claim, .. } => claim.spec.kind == EipKind::Static,
            Target::Tagged { .. } => false,
        }
    }
}

/// Releases it. The PodEIP is marked as being deleted before anything else, so that no pod takes it over; what
/// has no record gets one, so that this node finishes what is interrupted.
///
/// # Errors
/// What keeps it from being released; another try, or the agent, goes on from there.
pub fn release(node: &Node, target: Target) -> Result<Ending, Failure> {
    let until = Deadline::after(RELEASE_TIME);
    let (kube, cluster) = (node.kube()?, node.cluster()?);
    let record = match target {
        Target::Recorded(record) => return retire(node, &record, Terms::ForGood, WHY, until),
        Target::Tagged { eip, pod } => unsandboxed(cluster, pod, &eip, EipKind::Auto),
        Target::Claimed { claim, uid, eip } => {
            let doomed = kube.begin_pod_eip_deletion(&claim, until).map_err(|error| match error.is_conflict() {
                true => Failure::new(Kind::TryAgain, format!("{error}; a pod may have taken it over: look again")),
                false => error.into(),
            })?;
            let Some(doomed) = doomed else { return Ok(Ending::Nothing) };
            let Some(eip) = eip else {
                kube.finish_pod_eip_deletion(doomed, until)?;
                return Ok(Ending::Nothing);
            };
            outliving(cluster, uid, &doomed, &eip)
        }
    };
    refuse_to_forget_another(node, &record)?;
    node.store.put(Deadline::after(STATE_LOCK_WAIT), &record)?;
    retire(node, &record, Terms::ForGood, WHY, until)
}

/// A record of an unknown sandbox is found by its pod alone, and a pod can have had two EIPs.
fn refuse_to_forget_another(node: &Node, record: &Attachment) -> Result<(), Failure> {
    let named = node.store.attachments_naming(record.container_id.as_str())?;
    let other = named.into_iter().find(|other| other.is(&record.container_id, &record.ifname));
    let own = record.eip.as_ref().map(|eip| &eip.id);
    match other.and_then(|other| other.eip).filter(|eip| Some(&eip.id) != own) {
        Some(eip) => Err(Failure::new(Kind::TryAgain, format!("{} of pod {} is not ended yet", eip.id, record.pod))
            .hinting("run `podeip gc`, then try again")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
