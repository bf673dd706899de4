//! Keeping what runs as it should be: the binding, what is published of it, and what the pod asks for now.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Upkeep;
use super::drift::Drift;
use super::live::{self, Change};
use super::pods::Pods;
use super::settle::{STEP_TIME, Unfinished, locked};
use crate::cloud::{Cloud, Eip, EipFilter};
use crate::deadline::Deadline;
use crate::eip::at_once;
use crate::eip::bind::{self, READ_LAG};
use crate::eip::detach::Fate;
use crate::eip::failure::Failure;
use crate::eip::journal::Journal;
use crate::eip::lasting;
use crate::eip::owner;
use crate::eip::publish::{self, is_claim_of};
use crate::eip::reconcile::{is_served, sandbox_alive};
use crate::eip::request::{self, Notice, Source};
use crate::kube::{CONDITION_ANNOTATION, Kube, Pod, PodEip, PodEipStatus};
use crate::names::{EipId, EipKind};
use crate::state::format::{AttachedEip, Attachment, Binding, Phase};

/// For one pod, however slow the API server is; the next round is not far.
const TEND_TIME: Duration = Duration::from_secs(20);

/// A running pod and its EIP.
struct Served<'a> {
    record: &'a Attachment,
    eip: &'a AttachedEip,
    binding: &'a Binding,
    pod: &'a Pod,
    /// `None`: the cloud did not answer. `Some(None)`: it has no such EIP.
    seen: Option<Option<Eip>>,
}

impl Served<'_> {
    fn drift(&self) -> Option<Drift> {
        self.seen.as_ref().and_then(|seen| Drift::judge(seen.as_ref(), self.binding))
    }
}

/// What a look at the running pods came to.
#[derive(Default)]
pub struct Tended {
    pub unfinished: Unfinished,
    /// Some EIP is being bound again.
    pub rebinding: bool,
}

impl Upkeep<'_> {
    /// Looks after every attachment whose sandbox runs.
    ///
    /// # Errors
    /// Only when the state cannot be read.
    pub fn tend(&self, pods: &Pods, until: Deadline) -> Result<Tended, Failure> {
        let records = self.node.store.attachments()?;
        let mut served: Vec<Served> = records.iter().filter_map(|record| served(record, pods)).collect();
        let mut tended = Tended::default();
        self.see_waiting(&records, pods, until);
        if served.is_empty() {
            return Ok(tended);
        }
        self.see_all(&mut served, until);
        let outcomes = at_once::each(&served, |one| match self.is_stopping() {
            true => Ok(false),
            false => self.tend_one(one, until.within(TEND_TIME)),
        });
        for (one, outcome) in served.iter().zip(outcomes) {
            match outcome {
                Ok(rebinding) => tended.rebinding |= rebinding,
                Err(failure) => {
                    log::warn!("pod {}: {failure}", one.record.pod);
                    tended.unfinished.push((one.record.pod.clone(), failure));
                }
            }
        }
        Ok(tended)
    }

    /// Says that pods live whose EIP waits for their next sandbox: what outlasts a pod does so from its
    /// last sign of life.
    fn see_waiting(&self, records: &[Attachment], pods: &Pods, until: Deadline) {
        let waiting: Vec<&Attachment> =
            records.iter().filter(|record| record.phase == Phase::Held && is_wanted(record, pods)).collect();
        at_once::each(&waiting, |record| {
            let until = until.within(TEND_TIME);
            let seen = self.node.kube().and_then(|kube| {
                let claim = kube.pod_eip(&record.pod.namespace, &record.pod.name, until)?;
                let own = claim.filter(|claim| is_claim_of(claim, record) && claim.status.is_some());
                own.map_or(Ok(()), |own| publish::refresh(kube, &own, until))
            });
            if let Err(failure) = seen {
                log::warn!("pod {}: {failure}", record.pod);
            }
        });
    }

    /// Asks the cloud for all EIPs at once, and for those that are not where they should be once
    /// more: a listing may lag behind.
    fn see_all(&self, served: &mut [Served], until: Deadline) {
        let listed = self.node.cloud().and_then(|cloud| {
            let until = until.within(TEND_TIME);
            see(cloud, served, |_| true, until)?;
            if served.iter().any(|one| one.drift().is_some()) && until.sleep(READ_LAG) {
                see(cloud, served, |one| one.drift().is_some(), until)?;
            }
            Ok(())
        });
        if let Err(failure) = listed {
            log::warn!("the EIPs of this node's pods are unknown in this round: {failure}");
        }
    }

    /// True when the EIP is being bound again.
    fn tend_one(&self, one: &Served, until: Deadline) -> Result<bool, Failure> {
        let kube = self.node.kube()?;
        let mut notices = Vec::new();
        let found = kube.pod_eip(&one.record.pod.namespace, &one.record.pod.name, until)?;
        let claim = match found {
            // Another instance of the pod has taken the EIP over: this one's DEL is on its way.
            Some(other) if !is_claim_of(&other, one.record) => return Ok(false),
            Some(own) => own,
            None => match self.recreate(one, until)? {
                Some(claim) => claim,
                None => return Ok(false),
            },
        };
        if claim.deleting {
            notices.push(waiting(&one.eip.id));
        }
        // What was read is not held against an ADD or DEL that has come since and moved the EIP.
        let tended = locked(self.node, one.record, |journal| {
            let until = until.within(STEP_TIME);
            match (one.drift(), &one.seen) {
                (Some(drift), _) => self.answer(one, &claim, &drift, journal, &mut notices, until),
                (None, Some(Some(eip))) => self.show(one, &claim, eip, &mut notices, until).map(|()| false),
                _ => publish::refresh(kube, &claim, until).map(|()| false),
            }
        })?;
        let Some(rebinding) = tended else { return Ok(false) };
        if let (None, Some(Some(eip))) = (one.drift(), &one.seen) {
            self.keep(one, &claim, eip, &mut notices, until)?;
        }
        self.reports.tell(kube, &[one.pod.reference(), claim.reference()], &self.node_name, &notices, until);
        Ok(rebinding)
    }

    /// Writes a lost PodEIP again.
    fn recreate(&self, one: &Served, until: Deadline) -> Result<Option<PodEip>, Failure> {
        let kube = self.node.kube()?;
        let soon = until.within(STEP_TIME);
        let claim = locked(self.node, one.record, |_| publish::claim(kube, one.pod, one.record, None, soon))?;
        if let Some(claim) = &claim {
            log::warn!("pod {}: its PodEIP was lost and is written again", one.record.pod);
            let notice = Notice {
                reason: "PodEIPRecreated",
                message: format!("the PodEIP of {} was gone and is written again", one.eip.id),
                warning: true,
            };
            self.reports.tell(kube, &[one.pod.reference(), claim.reference()], &self.node_name, &[notice], until);
        }
        Ok(claim)
    }

    /// Reports that the EIP is not where it should be, and begins to put it back if that is safe.
    fn answer(
        &self,
        one: &Served,
        claim: &PodEip,
        drift: &Drift,
        mut journal: Journal,
        notices: &mut Vec<Notice>,
        until: Deadline,
    ) -> Result<bool, Failure> {
        let kube = self.node.kube()?;
        let notice = drift.notice(&one.eip.id, one.binding);
        log::warn!("pod {}: {}", one.record.pod, notice.message);
        set_condition(kube, claim, Some(&notice.message), until)?;
        let status = PodEipStatus {
            status: one.seen.as_ref().and_then(|seen| Some(seen.as_ref()?.status.to_string())),
            pod_last_seen: Some(kube.now()),
            ..claim.status.clone().unwrap_or_default()
        };
        kube.patch_pod_eip_status(claim, &status, until)?;
        publish::close_gate(kube, one.pod, &one.eip.id, &notice, until)?;
        notices.push(notice);
        if *drift != Drift::Unbound {
            return Ok(false);
        }
        journal.save(|record| record.phase = Phase::Binding)?;
        bind::ask_once_to_bind(self.node.cloud()?, &one.eip.id, one.binding, until)?;
        Ok(true)
    }

    /// Has the cluster show an EIP that is in its place.
    fn show(
        &self,
        one: &Served,
        claim: &PodEip,
        eip: &Eip,
        notices: &mut Vec<Notice>,
        until: Deadline,
    ) -> Result<(), Failure> {
        let kube = self.node.kube()?;
        publish::publish(kube, one.pod, claim, eip, one.binding, until)?;
        if claim.annotations.contains_key(CONDITION_ANNOTATION) && !claim.deleting {
            set_condition(kube, claim, None, until)?;
            let message = format!("{} is bound to {} again", eip.id, one.binding.private_ip);
            notices.push(Notice { reason: "EIPRestored", message, warning: false });
        } else if claim.deleting {
            set_condition(kube, claim, Some(&waiting(&eip.id).message), until)?;
        }
        Ok(())
    }

    /// Keeps an EIP that is in its place as podeip and the pod want it.
    fn keep(
        &self,
        one: &Served,
        claim: &PodEip,
        eip: &Eip,
        notices: &mut Vec<Notice>,
        until: Deadline,
    ) -> Result<(), Failure> {
        if one.eip.kind == EipKind::Auto {
            self.keep_tags(one, eip, notices, until);
        }
        self.follow_wishes(one, claim, eip, notices, until);
        self.keep_package_in_spec(one, claim, until)
    }

    /// Puts lost owner tags back: without them the sweep would not know the EIP.
    fn keep_tags(&self, one: &Served, eip: &Eip, notices: &mut Vec<Notice>, until: Deadline) {
        let outcome = self.node.cluster().and_then(|cluster| {
            let mut lost = owner::tags(cluster, &one.record.pod, one.pod.node.as_deref().unwrap_or_default());
            lost.retain(|key, value| eip.tags.get(key) != Some(value));
            if lost.is_empty() {
                return Ok(None);
            }
            self.node.cloud()?.tag_eips(std::slice::from_ref(&eip.id), &lost, until)?;
            Ok(Some(lost))
        });
        match outcome {
            Ok(None) => {}
            Ok(Some(lost)) => {
                let keys: Vec<String> = lost.into_keys().collect();
                let message = format!("owner tags of {} were lost and are back: {}", eip.id, keys.join(", "));
                notices.push(Notice { reason: "EIPTagsRestored", message, warning: true });
            }
            Err(failure) => log::warn!("{} lacks owner tags, so the sweep cannot recognise it: {failure}", eip.id),
        }
    }

    /// Has the EIP be what the pod's annotations ask for by now.
    fn follow_wishes(&self, one: &Served, claim: &PodEip, eip: &Eip, notices: &mut Vec<Notice>, until: Deadline) {
        let kinds = &self.node.settings.custom_stateful_workload_kinds;
        let mut changed = Vec::new();
        for change in wishes(one, claim, eip, kinds, notices) {
            match change.carry_out(self.node, one.record, &eip.id, until) {
                Ok(otherwise) => {
                    changed.push(change.to_string());
                    notices.extend(otherwise);
                }
                Err(failure) => {
                    let message = format!("{} was not changed ({change}): {failure}", eip.id);
                    log::warn!("pod {}: {message}", one.record.pod);
                    notices.push(Notice { reason: live::CHANGE_FAILED, message, warning: true });
                }
            }
        }
        if !changed.is_empty() {
            let message = format!("{}: {}", eip.id, changed.join(", "));
            log::info!("pod {}: {message}", one.record.pod);
            notices.push(Notice { reason: live::CHANGED, message, warning: false });
        }
    }

    /// The PodEIP's spec names the package that the record names. Whatever somebody else changes in the
    /// spec meanwhile stays.
    fn keep_package_in_spec(&self, one: &Served, claim: &PodEip, until: Deadline) -> Result<(), Failure> {
        let now = crate::eip::detach::find(&self.node.store, &one.record.container_id, &one.record.ifname)?;
        let Some(now) = now.filter(|now| now.bandwidth_package != claim.spec.bandwidth_package_id) else {
            return Ok(());
        };
        let kube = self.node.kube()?;
        loop {
            let found = kube.pod_eip(&claim.namespace, &claim.name, until)?;
            let own = found.filter(|it| is_claim_of(it, &now) && it.problem.is_none() && !it.deleting);
            let Some(fresh) = own else { return Ok(()) };
            let mut spec = fresh.spec.clone();
            spec.bandwidth_package_id.clone_from(&now.bandwidth_package);
            match kube.update_pod_eip_spec(&fresh, &spec, &BTreeMap::new(), until) {
                Err(moved) if moved.is_conflict() && !until.passed() => {}
                written => return Ok(written.map(drop)?),
            }
        }
    }
}

fn served<'a>(record: &'a Attachment, pods: &'a Pods) -> Option<Served<'a>> {
    let pod = pods.instance(&record.pod)?;
    if !is_wanted(record, pods) || !is_served(record) || !sandbox_alive(record) {
        return None;
    }
    Some(Served { record, eip: record.eip.as_ref()?, binding: record.binding.as_ref()?, pod, seen: None })
}

fn is_wanted(record: &Attachment, pods: &Pods) -> bool {
    let pod = pods.instance(&record.pod);
    pod.is_some_and(|pod| Fate::told_by(Some(pod), &record.pod.uid) == Fate::Wanted)
}

/// Asks for the EIPs of those that `choose` picks.
fn see(cloud: &Cloud, served: &mut [Served], choose: impl Fn(&Served) -> bool, until: Deadline) -> Result<(), Failure> {
    let ids: Vec<EipId> = served.iter().filter(|one| choose(one)).map(|one| one.eip.id.clone()).collect();
    let eips = cloud.describe_eips(&EipFilter::Ids(ids.clone()), until)?;
    for one in served.iter_mut().filter(|one| ids.contains(&one.eip.id)) {
        one.seen = Some(eips.iter().find(|eip| eip.id == one.eip.id).cloned());
    }
    Ok(())
}

/// What the pod asks for now; what cannot be had is noted.
fn wishes(one: &Served, claim: &PodEip, eip: &Eip, kinds: &[String], notices: &mut Vec<Notice>) -> Vec<Change> {
    let Served { record, pod, .. } = one;
    let requested = match request::read(&pod.annotations) {
        Ok(Some(requested)) => requested,
        Ok(None) => {
            notices.push(live::creation_only("pod-with-eip", "off", eip.id.as_str()));
            return Vec::new();
        }
        Err(refusal) => {
            notices.push(Notice { reason: live::CHANGE_FAILED, message: refusal.to_string(), warning: true });
            return Vec::new();
        }
    };
    let mut strategy = requested.wish.strategy;
    lasting::fall_back(&mut strategy, pod, kinds);
    let present = request::present(&pod.annotations);
    // What somebody has written into the PodEIP is in force, and no wish of the pod's.
    if present.strategy && strategy != record.strategy && strategy != claim.spec.strategy {
        let is = format!("{} (to change it, edit the PodEIP's spec.allocationType)", claim.spec.strategy);
        notices.push(live::creation_only("pod-eip-release-strategy", &strategy.to_string(), &is));
    }
    match &requested.wish.source {
        Source::Named(id) if *id != eip.id => {
            notices.push(live::creation_only("pod-eip-instanceid", id.as_str(), eip.id.as_str()));
            Vec::new()
        }
        Source::Allocate(wanted) if one.eip.kind == EipKind::Auto => {
            notices.extend(live::too_late(eip, wanted, present));
            live::changes(record, eip, wanted, present)
        }
        // The user's own EIP is bound as it is.
        _ => Vec::new(),
    }
}

fn waiting(id: &EipId) -> Notice {
    let message = format!("this PodEIP is being deleted; {id} stays with the running pod and goes when the pod goes");
    Notice { reason: "PodEIPWaiting", message, warning: false }
}

/// The schema of PodEIPs has no conditions, so an annotation carries ours.
fn set_condition(kube: &Kube, claim: &PodEip, condition: Option<&str>, until: Deadline) -> Result<(), Failure> {
    if claim.annotations.get(CONDITION_ANNOTATION).map(String::as_str) != condition {
        kube.annotate_pod_eip(claim, &BTreeMap::from([(CONDITION_ANNOTATION, condition)]), until)?;
    }
    Ok(())
}
