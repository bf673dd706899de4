//! Finishing what was interrupted: one small step of each attachment at a time, all of them side by side.
//!
//! No lock is held while the cloud or the API server is asked or waited for. A step that changes
//! something is taken under its pod's lock, and only if the record is still the one that the step
//! was decided upon: an ADD or DEL that came meanwhile goes first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::doubt::Doubts;
use super::pods::Pods;
use super::{Settling, Upkeep};
use crate::cloud::{Eip, EipFilter, EipStatus};
use crate::deadline::Deadline;
use crate::eip::at_once;
use crate::eip::bind::{self, sits_on};
use crate::eip::conclude::conclude;
use crate::eip::detach::{self, Ending, Fate};
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::publish;
use crate::eip::reconcile::{Plan, is_served, plan, sandbox_alive};
use crate::names::{EipId, PodRef, PodUid};
use crate::state::format::{Attachment, Phase};

/// One step: a call or two, which answer within a second each. A verb of the same pod waits as long.
pub(super) const STEP_TIME: Duration = Duration::from_secs(8);

/// Pauses between two steps, growing: the first is what a quick cloud needs, and the account may
/// describe 600 times a minute, all nodes together.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Which attachments are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Those that a verb has left, or begun to leave, since they were looked at last: what a change
    /// of the state file can mean.
    Changed,
}

/// What could not be finished, and why.
pub type Unfinished = Vec<(PodRef, Failure)>;

/// How a pass ended.
#[derive(Debug, Default)]
pub struct Settled {
    pub unfinished: Unfinished,
    /// Something is still under way, or in the hands of a verb: worth another pass soon.
    pub pending: bool,
}

/// Container id and interface, the runtime's key.
pub(super) type Identity = (String, String);

/// One attachment and what is known of it.
struct Case {
    record: Attachment,
    fate: Fate,
    plan: Plan,
    /// What the cloud shows of its EIP; `None` when that was not asked.
    seen: Option<Option<Eip>>,
    /// Whether that can be believed: no request of a process that died can be under way.
    believed: bool,
}

/// How far a step came.
enum Progress {
    /// Nothing is left to do for now.
    Settled,
    /// The next step may follow at once.
    Stepped,
    /// The next step may follow as soon as the cloud shows the effect of this one.
    Waiting,
    /// The cloud was asked for a change, and agreed or did not. The record was written at `written`.
    Asked { written: Timestamp, refusal: Option<Failure> },
}

impl Upkeep<'_> {
    /// Takes steps until every attachment in `scope` is settled or `until` has passed.
    ///
    /// # Errors
    /// Only when the state cannot be read; what fails for one attachment is in the result.
    pub fn settle(&self, scope: Scope, pods: Option<&Pods>, until: Deadline) -> Result<Settled, Failure> {
        let mut state = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pass = Settled::default();
        let mut fates = BTreeMap::new();
        let mut settled = BTreeSet::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let mut open = self.open(&mut state, scope)?;
            open.retain(|record| !settled.contains(&identity(record)));
            let all = open.len();
            // A verb's own pod is not looked at until the verb has ended; others do not wait for that.
            open.retain(|record| self.is_idle(record));
            pass.pending = open.len() < all;
            let mut under_way = false;
            let cases = self.cases(&mut state.doubts, open, pods, &mut fates, until);
            let steps = at_once::each(&cases, |case| step(self.node, case, until));
            if steps.iter().any(|step| matches!(step, Ok(Progress::Stepped))) {
                pause = FIRST_PAUSE;
            }
            for (case, outcome) in cases.iter().zip(steps) {
                let again = note(&mut state.doubts, case, outcome).unwrap_or_else(|failure| {
                    self.report(case, pods, &failure, until);
                    pass.unfinished.push((case.record.pod.clone(), failure));
                    false
                });
                under_way |= again;
                if !again {
                    settled.insert(identity(&case.record));
                    state.settled.insert(identity(&case.record), case.record.updated_at);
                }
            }
            pass.pending |= under_way;
            if !under_way || self.is_stopping() || !until.sleep(pause) {
                return Ok(pass);
            }
            pause = (pause * 8 / 5).min(LONGEST_PAUSE);
        }
    }

    /// The attachments in `scope`.
    fn open(&self, state: &mut Settling, scope: Scope) -> Result<Vec<Attachment>, Failure> {
        let mut records = self.node.store.attachments()?;
        state.doubts.keep(&records);
        let standing: BTreeSet<Identity> = records.iter().map(identity).collect();
        state.settled.retain(|identity, _| standing.contains(identity));
        if scope == Scope::Changed {
            records.retain(|record| {
                !is_served(record) && state.settled.get(&identity(record)) != Some(&record.updated_at)
            });
        }
        Ok(records)
    }

    /// To the log, and to the pod's events while the API server still has the pod.
    fn report(&self, case: &Case, pods: Option<&Pods>, failure: &Failure, until: Deadline) {
        log::warn!("pod {} is left for the next round: {failure}", case.record.pod);
        let pod = pods.and_then(|pods| pods.instance(&case.record.pod));
        if let (Some(pod), Ok(kube)) = (pod, self.node.kube()) {
            let notice = publish::warning(publish::UNBIND_FAILED, failure);
            self.reports.tell(kube, &[pod.reference()], &self.node_name, &[notice], until);
        }
    }

    fn is_idle(&self, record: &Attachment) -> bool {
        let lock = self.node.store.try_lock_pod(&record.pod.namespace, &record.pod.name);
        lock.is_ok_and(|lock| lock.is_some())
    }

    /// What is to be done about each record. Fates are asked once in a pass: those that end an
    /// attachment are final.
    fn cases(
        &self,
        doubts: &mut Doubts,
        open: Vec<Attachment>,
        pods: Option<&Pods>,
        fates: &mut BTreeMap<PodUid, Fate>,
        until: Deadline,
    ) -> Vec<Case> {
        let unknown: Vec<&Attachment> = open.iter().filter(|record| !fates.contains_key(&record.pod.uid)).collect();
        for (uid, fate) in fates_of(self.node, &unknown, pods, until) {
            fates.insert(uid, fate);
        }
        let with_plan = |record: Attachment| {
            let fate = fates.get(&record.pod.uid).cloned().unwrap_or(Fate::Unknown("it was not asked".into()));
            let plan = plan(&record, &fate, sandbox_alive(&record));
            Case { believed: doubts.believed(&record), record, fate, plan, seen: None }
        };
        let mut cases: Vec<Case> = open.into_iter().map(with_plan).collect();
        self.look(&mut cases, until);
        cases
    }

    /// Asks the cloud for the EIPs of all cases that are about to be unbound or bound, in one listing.
    fn look(&self, cases: &mut [Case], until: Deadline) {
        let wanted = |case: &Case| case.moves().then(|| case.record.eip.as_ref().map(|eip| eip.id.clone())).flatten();
        let ids: Vec<EipId> = cases.iter().filter_map(wanted).collect();
        if ids.is_empty() {
            return;
        }
        let listed = self.node.cloud().and_then(|cloud| Ok(cloud.describe_eips(&EipFilter::Ids(ids), until)?));
        match listed {
            Ok(eips) => {
                for case in cases.iter_mut().filter(|case| case.moves()) {
                    let id = case.record.eip.as_ref().map(|eip| &eip.id);
                    case.seen = Some(eips.iter().find(|eip| Some(&eip.id) == id).cloned());
                }
            }
            Err(failure) => log::warn!("the EIPs of this node's interrupted attachments are unknown: {failure}"),
        }
    }
}

/// Whether another step is to follow.
fn note(doubts: &mut Doubts, case: &Case, outcome: Result<Progress, Failure>) -> Result<bool, Failure> {
    match outcome? {
        Progress::Settled => Ok(false),
        Progress::Stepped | Progress::Waiting => Ok(true),
        Progress::Asked { written, refusal } => {
            let phase = if matches!(case.plan, Plan::Rebind(_)) { Phase::Binding } else { Phase::Unbinding };
            let record = Attachment { updated_at: written, phase, ..case.record.clone() };
            doubts.asked(&record, refusal.is_none());
            refusal.map_or(Ok(true), Err)
        }
    }
}

impl Case {
    /// Whether its EIP is to be unbound or bound.
    fn moves(&self) -> bool {
        !matches!(self.plan, Plan::Leave(_)) && self.record.binding.is_some() && self.record.eip.is_some()
    }
}

fn identity(record: &Attachment) -> Identity {
    (record.container_id.to_string(), record.ifname.clone())
}

/// What the API server says of the records' pods. A silent one is asked once for all of them.
fn fates_of(node: &Node, records: &[&Attachment], pods: Option<&Pods>, until: Deadline) -> Vec<(PodUid, Fate)> {
    let silent = OnceLock::new();
    let ask = |record: &&Attachment| {
        if let Some(pod) = pods.and_then(|pods| pods.instance(&record.pod)) {
            return Fate::told_by(Some(pod), &record.pod.uid);
        }
        if let Some(reason) = silent.get() {
            return Fate::Unknown(String::clone(reason));
        }
        let fate = match node.kube() {
            Ok(kube) => detach::fate_of(kube, record, until.within(STEP_TIME)),
            Err(failure) => Fate::Unknown(failure.to_string()),
        };
        if let Fate::Unknown(reason) = &fate {
            let _ = silent.set(reason.clone()); // the first reason speaks for all
        }
        fate
    };
    let fates = at_once::each(records, ask);
    records.iter().zip(fates).map(|(record, fate)| (record.pod.uid.clone(), fate)).collect()
}

fn step(node: &Node, case: &Case, until: Deadline) -> Result<Progress, Failure> {
    let deadline = until.within(STEP_TIME);
    match (&case.plan, &case.seen) {
        (Plan::Leave(_), _) => Ok(Progress::Settled),
        (Plan::Rebind(_), Some(seen)) => rebind(node, case, seen.as_ref()),
        (_, Some(seen)) => unbind(node, case, seen.as_ref()),
        _ if case.moves() => Err(Failure::new(Kind::TryAgain, "the cloud did not show its EIP")),
        (Plan::End(why), None) => end(node, case, why, deadline),
        _ => Ok(Progress::Settled),
    }
}

/// Unbinds, one look or request at a time.
fn unbind(node: &Node, case: &Case, seen: Option<&Eip>) -> Result<Progress, Failure> {
    let (Some(eip), Some(binding)) = (&case.record.eip, &case.record.binding) else { return Ok(Progress::Settled) };
    let here = seen.is_some_and(|seen| sits_on(seen, binding));
    match seen.map(|seen| &seen.status) {
        Some(EipStatus::InUse) if here => {
            let cloud = node.cloud()?;
            // Looked at once more, because the listing was for all attachments, and before the lock is taken.
            if !bind::stands(cloud, &eip.id, binding, Deadline::after(STEP_TIME))? {
                return Ok(Progress::Waiting);
            }
            ask(node, case, Phase::Unbinding, |deadline| bind::ask_once_to_unbind(cloud, &eip.id, binding, deadline))
        }
        None | Some(EipStatus::Available | EipStatus::InUse) if !case.believed => Ok(Progress::Waiting),
        None | Some(EipStatus::Available | EipStatus::Releasing | EipStatus::InUse) => {
            if let (Some(EipStatus::InUse), Some(seen)) = (seen.map(|seen| &seen.status), seen) {
                log::warn!("{} was not unbound, because it is {}", eip.id, bind::whereabouts(seen));
                leave_published(node, case)?;
            }
            locked(node, &case.record, |mut journal| detach::mark_unbound(&mut journal))?;
            Ok(Progress::Stepped)
        }
        // Under way: only time helps.
        _ => Ok(Progress::Waiting),
    }
}

/// Of a pod that is over nothing stays where its PodEIP shows it, if its record shows another place. This waits for
/// the cloud, once in a blue moon.
fn leave_published(node: &Node, case: &Case) -> Result<(), Failure> {
    if !matches!(case.plan, Plan::End(_)) {
        return Ok(());
    }
    let until = Deadline::after(STEP_TIME);
    let pod_eip = node.kube()?.pod_eip(&case.record.pod.namespace, &case.record.pod.name, until)?;
    locked(node, &case.record, |_| detach::unbind_published(node, &case.record, pod_eip.as_ref(), until))?;
    Ok(())
}

/// Puts the EIP of a running sandbox back, one look or request at a time.
fn rebind(node: &Node, case: &Case, seen: Option<&Eip>) -> Result<Progress, Failure> {
    let (Some(eip), Some(binding)) = (&case.record.eip, &case.record.binding) else { return Ok(Progress::Settled) };
    let here = seen.is_some_and(|seen| sits_on(seen, binding));
    match seen.map(|seen| &seen.status) {
        None | Some(EipStatus::Available | EipStatus::InUse) if !case.believed => Ok(Progress::Waiting),
        Some(EipStatus::InUse) if here => {
            locked(node, &case.record, |mut journal| journal.save(|record| record.phase = Phase::Bound))?;
            log::info!("pod {}: {} is bound again", case.record.pod, eip.id);
            Ok(Progress::Settled)
        }
        Some(EipStatus::Available) => ask(node, case, Phase::Binding, |deadline| {
            bind::ask_once_to_bind(node.cloud()?, &eip.id, binding, deadline)
        }),
        None | Some(EipStatus::InUse | EipStatus::Releasing) => Err(Failure::new(
            Kind::EipUnavailable,
            match seen {
                Some(seen) => format!("{} is not put back, because it is {}", eip.id, bind::whereabouts(seen)),
                None => format!("{} is not put back, because it does not exist any more", eip.id),
            },
        )),
        // Under way: only time helps.
        _ => Ok(Progress::Waiting),
    }
}

/// Writes the intent and makes one request, under the pod's lock.
fn ask(
    node: &Node,
    case: &Case,
    phase: Phase,
    request: impl FnOnce(Deadline) -> Result<(), Failure>,
) -> Result<Progress, Failure> {
    let asked = locked(node, &case.record, |mut journal| {
        if journal.record().phase != phase {
            journal.save(|record| record.phase = phase)?;
        }
        let refusal = request(Deadline::after(STEP_TIME)).err();
        Ok(Progress::Asked { written: journal.record().updated_at, refusal })
    })?;
    Ok(asked.unwrap_or(Progress::Settled))
}

/// Ends an attachment of which nothing is bound any more.
fn end(node: &Node, case: &Case, why: &str, deadline: Deadline) -> Result<Progress, Failure> {
    let pod_eip = node.kube()?.pod_eip(&case.record.pod.namespace, &case.record.pod.name, deadline)?;
    let ended = locked(node, &case.record, |mut journal| {
        let outcome = conclude(node, &mut journal, &case.fate, pod_eip, Deadline::after(STEP_TIME));
        detach::close(journal, outcome)
    })?;
    match ended {
        Some(Ending::Undecided(answer)) => Err(Failure::new(Kind::TryAgain, answer)),
        Some(ending) => {
            log::info!("pod {}: {why}; {ending}", case.record.pod);
            Ok(Progress::Settled)
        }
        None => Ok(Progress::Settled),
    }
}

/// Makes `change` under the lock of the record's pod, if the record is still as it was decided upon.
/// `None`: a verb of this pod is at work or has been; the next round sees what it made of it.
pub fn locked<T>(
    node: &Node,
    record: &Attachment,
    change: impl FnOnce(Journal) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let store = &node.store;
    let Some(_lock) = store.try_lock_pod(&record.pod.namespace, &record.pod.name)? else { return Ok(None) };
    match detach::find(store, &record.container_id, &record.ifname)? {
        Some(found) if found == *record => change(Journal::resume(store, found)).map(Some),
        _ => Ok(None),
    }
}
