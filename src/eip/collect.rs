//! Collecting this node's garbage: finish what was interrupted, drop what belongs to dead pods.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::eip::bind::{self, Bound, Timing};
use crate::eip::conclude;
use crate::eip::detach::{self, Ending, Fate};
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::reconcile::{Plan, plan, sandbox_alive};
use crate::names::ContainerId;
use crate::state::format::{Attachment, Phase};

/// Asking the API server for one pod.
const POD_TIME: Duration = Duration::from_secs(5);

/// CRI-O gives GC 30 s and blocks every pod operation meanwhile; what is left over waits for the
/// next round.
const GC_VERB_TIME: Duration = Duration::from_secs(20);

/// What a round did, or would do, about one attachment.
#[derive(Debug)]
pub struct Finding {
    pub record: Attachment,
    pub outcome: Outcome,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was done, and nothing needs to be, for this reason.
    Left(String),
    /// Nothing was done, because the API server did not say what became of the pod.
    Undecided { why: String, answer: String },
    /// This would be done, for this reason (dry run).
    Would { what: &'static str, why: String },
    /// This was done, for this reason.
    Done { what: Ending, why: String },
    /// This failed and stays recorded.
    Failed(Failure),
}

/// One round over `records`, which are all attachments of the node; each that is settled is told to `progress`.
pub fn collect(node: &Node, records: Vec<Attachment>, dry_run: bool, progress: impl Fn()) -> Vec<Finding> {
    let mut round = Round { node, dry_run, silent: None };
    let finding = |record| {
        let outcome = round.settle(&record);
        progress();
        Finding { record, outcome }
    };
    records.into_iter().map(finding).collect()
}

struct Round<'a> {
    node: &'a Node,
    dry_run: bool,
    /// Why the API server did not tell one pod's fate. It is not asked again in this round: with it
    /// down, a node full of pods would wait [`POD_TIME`] for each.
    silent: Option<String>,
}

impl Round<'_> {
    fn settle(&mut self, seen: &Attachment) -> Outcome {
        self.try_to_settle(seen).unwrap_or_else(Outcome::Failed)
    }

    fn try_to_settle(&mut self, seen: &Attachment) -> Result<Outcome, Failure> {
        let store = &self.node.store;
        let Some(_lock) = store.try_lock_pod(&seen.pod.namespace, &seen.pod.name)? else {
            return Ok(Outcome::Left("an ADD or DEL of this pod is running".into()));
        };
        let Some(record) = detach::find(store, &seen.container_id, &seen.ifname)? else {
            return Ok(Outcome::Left("ended meanwhile".into()));
        };
        let fate = self.fate_of(&record);
        match (plan(&record, &fate, sandbox_alive(&record)), self.dry_run) {
            (Plan::Leave(why), _) => Ok(match fate {
                Fate::Unknown(answer) => Outcome::Undecided { why, answer },
                _ => Outcome::Left(why),
            }),
            (Plan::Rebind(why), true) => Ok(Outcome::Would { what: "bind", why }),
            (Plan::UnbindAndHold(why), true) => Ok(Outcome::Would { what: "hold", why }),
            (Plan::End(why), true) => {
                Ok(match conclude::prospect(self.node.kube()?, &record, Deadline::after(POD_TIME)) {
                    Ok(what) => Outcome::Would { what, why },
                    Err(failure) => Outcome::Undecided { why, answer: failure.to_string() },
                })
            }
            (decided, false) => carry_out(self.node, Journal::resume(store, record), decided),
        }
    }

    fn fate_of(&mut self, record: &Attachment) -> Fate {
        if let Some(reason) = &self.silent {
            return Fate::Unknown(reason.clone());
        }
        let fate = match self.node.kube() {
            Ok(kube) => detach::fate_of(kube, record, Deadline::after(POD_TIME)),
            Err(failure) => Fate::Unknown(failure.to_string()),
        };
        if let Fate::Unknown(reason) = &fate {
            self.silent = Some(reason.clone());
        }
        fate
    }
}

fn carry_out(node: &Node, mut journal: Journal, decided: Plan) -> Result<Outcome, Failure> {
    let deadline = Deadline::after(node.recovery_time());
    match decided {
        Plan::Leave(why) => Ok(Outcome::Left(why)),
        Plan::UnbindAndHold(why) => {
            let unbound = detach::unbind_recorded(node, &mut journal, deadline);
            if let Err(failure) = unbound {
                let text = failure.to_string();
                journal.save(|record| record.last_error = Some(text))?;
                return Err(failure);
            }
            Ok(Outcome::Done { what: Ending::Held("for the pod's next sandbox".into()), why })
        }
        Plan::Rebind(why) => rebind(node, journal, deadline).map(|()| Outcome::Done { what: Ending::Bound, why }),
        Plan::End(why) => Ok(match detach::end(node, journal, deadline)? {
            Ending::Undecided(answer) => {
                let why = format!("{why}; unbound and held until the API server says what became of its PodEIP");
                Outcome::Undecided { why, answer }
            }
            what => Outcome::Done { what, why },
        }),
    }
}

/// Puts the EIP of a running sandbox back.
fn rebind(node: &Node, mut journal: Journal, deadline: Deadline) -> Result<(), Failure> {
    let (Some(eip), Some(binding)) = (journal.record().eip.clone(), journal.record().binding.clone()) else {
        return Ok(());
    };
    // One that comes late is not undone.
    let timing = Timing { kept: Duration::ZERO, ..node.timing() };
    match bind::bind(node.cloud()?, &eip.id, &binding, false, deadline, &mut |_| {}, &timing)? {
        Bound::Yes(_) => journal.save(|record| record.phase = Phase::Bound),
        Bound::Refused(failure) => Err(failure),
        Bound::Vanished => Err(Failure::new(Kind::EipUnavailable, format!("{} does not exist any more", eip.id))),
        Bound::Elsewhere(seen) | Bound::Occupied(seen) => {
            let place = format!("{} is {}", seen.id, bind::whereabouts(&seen));
            Err(Failure::new(Kind::EipUnavailable, format!("{} was not put back: {place}", eip.id)))
        }
    }
}

/// The GC verb: attachments outside `valid` whose sandbox is really gone are treated as DEL. A record that was
/// rebuilt does not know its sandbox, and is left to whoever asks for its pod.
///
/// # Errors
/// Only when the state cannot be read or written.
pub fn collect_invalid(node: &Node, valid: &[(ContainerId, String)]) -> Result<(), Failure> {
    let round = Deadline::after(GC_VERB_TIME);
    for record in node.store.attachments()? {
        let named = valid.iter().any(|(container_id, ifname)| record.is(container_id, ifname));
        if named || sandbox_alive(&record) || round.passed() {
            continue;
        }
        let deadline = round.within(node.recovery_time());
        match detach::detach(node, &record.container_id, &record.ifname, deadline) {
            Ok(ending) => log::info!("gc: pod {}: {ending}", record.pod),
            Err(failure) if failure.kind == Kind::LocalState => return Err(failure),
            Err(failure) => log::warn!("gc: pod {} is left for the next round: {failure}", record.pod),
        }
    }
    Ok(())
}
