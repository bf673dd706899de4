//! Carrying a migration out. Each pod's record reaches the disk before anything else is written: a run that is
//! killed is finished by the next one, and a pod that ends meanwhile is ended like any other.

use std::collections::BTreeMap;

use super::STEP_TIME;
use super::plan::Decision;
use super::survey::Step;
use crate::cloud::Eip;
use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::owner;
use crate::eip::publish;
use crate::eip::reconcile::is_served;
use crate::eip::request::Notice;
use crate::kube::{Kube, NODE_ANNOTATION, POD_UID_ANNOTATION, Pod, PodEip};
use crate::names::{EipKind, PodRef, PodUid};
use crate::state::format::Attachment;

/// Event reason: the EIP was another system's.
const MIGRATED: &str = "EIPMigrated";

/// Does what was decided about one pod or PodEIP; most decisions are to do nothing.
///
/// # Errors
/// What keeps it from being finished; another run goes on from there.
pub fn carry_out(node: &Node, node_name: &str, step: &Step) -> Result<(), Failure> {
    let until = Deadline::after(STEP_TIME);
    match (&step.decision, &step.pod, &step.eip, &step.pod_eip) {
        (Decision::TakeOver { record, .. }, Some(pod), Some(eip), pod_eip) => {
            take_over(node, node_name, pod, record, pod_eip.as_ref(), eip, until)
        }
        (Decision::Mark, _, eip, Some(pod_eip)) => mark(node, node_name, pod_eip, eip.as_ref(), until),
        _ => Ok(()),
    }
}

fn take_over(
    node: &Node,
    node_name: &str,
    pod: &Pod,
    planned: &Attachment,
    pod_eip: Option<&PodEip>,
    eip: &Eip,
    until: Deadline,
) -> Result<(), Failure> {
    let kube = node.kube()?;
    let _lock = node.store.lock_pod(&pod.namespace, &pod.name, until)?;
    let recorded = node.store.attachments()?.into_iter().find(|it| pod.is_instance(&it.pod.uid));
    let record = match recorded {
        Some(record) if is_served(&record) => record,
        Some(_) => return Err(Failure::new(Kind::TryAgain, "an ADD or DEL of the pod has begun meanwhile")),
        None => {
            let mut journal = Journal::prepare(&node.store, planned.clone());
            journal.save(|_| {})?;
            journal.record().clone()
        }
    };
    let Some(binding) = &record.binding else { return Ok(()) };
    if record.eip.as_ref().is_some_and(|eip| eip.kind == EipKind::Auto) {
        tag(node, node_name, eip, &record.pod, until)?;
    }
    let pod_eip = pod_eip.map(|it| as_ours_if_doomed(kube, pod, it, &record, until)).transpose()?;
    let claim = publish::claim(kube, pod, &record, pod_eip, until)?;
    publish::publish(kube, pod, &claim, eip, binding, until)?;
    let notice =
        Notice { reason: MIGRATED, message: format!("podeip looks after {} from now on", eip.id), warning: false };
    publish::tell_both(kube, pod, &claim, &notice, &[], until);
    Ok(())
}

/// A PodEIP that somebody has deleted while its pod lives goes when the pod goes; it is not waited for.
fn as_ours_if_doomed(
    kube: &Kube,
    pod: &Pod,
    pod_eip: &PodEip,
    record: &Attachment,
    until: Deadline,
) -> Result<PodEip, Failure> {
    if !pod_eip.deleting {
        return Ok(pod_eip.clone());
    }
    let uid = record.pod.uid.as_str();
    let marks = BTreeMap::from([(POD_UID_ANNOTATION, Some(uid)), (NODE_ANNOTATION, pod.node.as_deref())]);
    Ok(kube.update_pod_eip_spec(pod_eip, &pod_eip.spec, &marks, until)?)
}

/// Has podeip's sweep know a PodEIP whose pod is over. Nobody knows that pod's UID any more; the PodEIP's own
/// stands for it. The mark comes first, because it fails where a new pod has taken the PodEIP over.
fn mark(node: &Node, node_name: &str, pod_eip: &PodEip, eip: Option<&Eip>, until: Deadline) -> Result<(), Failure> {
    let uid = pod_eip.pod_uid().unwrap_or_else(|| PodUid::new(&pod_eip.uid));
    let marks = BTreeMap::from([(POD_UID_ANNOTATION, Some(uid.as_str()))]);
    node.kube()?.update_pod_eip_spec(pod_eip, &pod_eip.spec, &marks, until)?;
    match eip.filter(|_| pod_eip.spec.kind == EipKind::Auto) {
        None => Ok(()),
        Some(eip) => {
            let pod = PodRef { namespace: pod_eip.namespace.clone(), name: pod_eip.name.clone(), uid: uid.clone() };
            tag(node, node_name, eip, &pod, until)
        }
    }
}

fn tag(node: &Node, node_name: &str, eip: &Eip, pod: &PodRef, until: Deadline) -> Result<(), Failure> {
    let mut lacking = owner::tags(node.cluster()?, pod, node_name);
    lacking.retain(|key, value| eip.tags.get(key) != Some(value));
    Ok(node.cloud()?.tag_eips(std::slice::from_ref(&eip.id), &lacking, until)?)
}
