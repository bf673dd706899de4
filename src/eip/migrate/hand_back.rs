//! Handing EIPs back to ack-extend-network-controller: podeip forgets them, and they stay bound.

use std::collections::BTreeMap;

use super::{LISTING_TIME, STEP_TIME};
use crate::deadline::Deadline;
use crate::eip::detach;
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::owner;
use crate::eip::publish::is_claim_of;
use crate::eip::reconcile::is_served;
use crate::kube::{CONDITION_ANNOTATION, NODE_ANNOTATION, POD_UID_ANNOTATION, Pod, PodEip};
use crate::names::{EipId, EipKind};
use crate::state::format::Attachment;

/// What is handed over.
#[derive(Clone, Debug)]
pub enum Handover {
    /// The EIP of a pod of this node, unless something refuses it.
    Attachment { record: Box<Attachment>, pod_eip: Option<PodEip>, refusal: Option<String> },
    /// A PodEIP whose pod is over.
    Outliving(PodEip),
}

/// All that this node can hand over. Tells how many pods of other nodes wait for theirs, too.
///
/// # Errors
/// podeip is switched on here and would go on, or the API server does not say.
pub fn plan_hand_back(node: &Node) -> Result<(Vec<Handover>, usize), Failure> {
    if node.settings.enabled {
        let message = "nothing is handed back while podeip is switched on, for it would serve the pods that start";
        return Err(Failure::new(Kind::Configuration, message)
            .hinting("set its \"enable_eip_pool\" to \"false\" first; pods keep their EIPs meanwhile"));
    }
    let (kube, until) = (node.kube()?, Deadline::after(LISTING_TIME));
    let pod_eips = kube.pod_eips(None, until)?;
    let records = node.store.attachments()?;
    let of_record = |it: &PodEip, record: &Attachment| is_of(it, &record.pod.namespace, &record.pod.name);
    let attachment = |record: &Attachment| {
        let pod_eip = pod_eips.iter().find(|it| of_record(it, record)).cloned();
        Handover::Attachment { refusal: refusal(record, pod_eip.as_ref()), record: Box::new(record.clone()), pod_eip }
    };
    let mut handovers: Vec<Handover> = records.iter().map(attachment).collect();
    let unrecorded = |it: &&PodEip| it.pod_uid().is_some() && !records.iter().any(|record| of_record(it, record));
    let loose: Vec<&PodEip> = pod_eips.iter().filter(unrecorded).collect();
    if loose.is_empty() {
        return Ok((handovers, 0));
    }
    let named = |pod: &Pod| loose.iter().any(|it| is_of(it, &pod.namespace, &pod.name));
    let living = kube.pods_where(|pod| !pod.finished() && named(pod), until)?;
    let has_pod = |it: &&PodEip| living.iter().any(|pod| is_of(it, &pod.namespace, &pod.name));
    let (elsewhere, over): (Vec<&PodEip>, Vec<&PodEip>) = loose.into_iter().partition(has_pod);
    handovers.extend(over.into_iter().cloned().map(Handover::Outliving));
    Ok((handovers, elsewhere.len()))
}

fn is_of(pod_eip: &PodEip, namespace: &str, name: &str) -> bool {
    pod_eip.namespace == namespace && pod_eip.name == name
}

/// The controller takes what its PodEIP says for true: one that is missing, or says something else, is not for
/// it to find out.
fn refusal(record: &Attachment, pod_eip: Option<&PodEip>) -> Option<String> {
    if !is_served(record) {
        return Some(format!("it is on its way ({:?}); let `podeip gc` finish it", record.phase));
    }
    match pod_eip {
        None => Some("it has no PodEIP; the agent writes it again while podeip is switched on".into()),
        // An earlier run was interrupted after it took the mark off.
        Some(own) if is_claim_of(own, record) || own.pod_uid().is_none() => None,
        Some(_) => Some("its PodEIP belongs to another pod".into()),
    }
}

/// Hands over one of them. What says that there is something to hand over goes last, so that a run that was
/// killed is repeated: the record, and where there is none the mark on the PodEIP.
///
/// # Errors
/// What keeps it from being finished; another run goes on from there.
pub fn hand_back(node: &Node, handover: &Handover) -> Result<(), Failure> {
    let until = Deadline::after(STEP_TIME);
    let (seen, pod_eip) = match handover {
        Handover::Outliving(pod_eip) => return unmark(node, pod_eip, until),
        Handover::Attachment { record, pod_eip: Some(pod_eip), refusal: None } => (record, pod_eip),
        Handover::Attachment { .. } => return Ok(()),
    };
    let _lock = node.store.lock_pod(&seen.pod.namespace, &seen.pod.name, until)?;
    let Some(record) = detach::find(&node.store, &seen.container_id, &seen.ifname)? else { return Ok(()) };
    if record.phase != seen.phase {
        return Err(Failure::new(Kind::TryAgain, "a DEL of the pod has begun meanwhile"));
    }
    unmark(node, pod_eip, until)?;
    Journal::resume(&node.store, record).forget()
}

fn unmark(node: &Node, pod_eip: &PodEip, until: Deadline) -> Result<(), Failure> {
    if pod_eip.spec.kind == EipKind::Auto {
        disown(node, &pod_eip.spec.allocation_id, until)?;
    }
    if pod_eip.pod_uid().is_some() {
        let marks = [POD_UID_ANNOTATION, NODE_ANNOTATION, CONDITION_ANNOTATION].map(|key| (key, None));
        node.kube()?.update_pod_eip_spec(pod_eip, &pod_eip.spec, &BTreeMap::from(marks), until)?;
    }
    Ok(())
}

/// Has nobody take the EIP for podeip's. Its other tags stay: taking tags off needs a permission of its own.
fn disown(node: &Node, eip: &EipId, until: Deadline) -> Result<(), Failure> {
    let tags = BTreeMap::from([(owner::TAG_CLUSTER.to_string(), owner::HANDED_BACK.to_string())]);
    match node.cloud()?.eip(eip, until)? {
        Some(eip) if owner::is_ours(&eip, node.cluster()?) => Ok(node.cloud()?.tag_eips(&[eip.id], &tags, until)?),
        _ => Ok(()),
    }
}
