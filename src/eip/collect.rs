//! Collecting this node's garbage: finish what was interrupted, drop what belongs to dead pods.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::eip::detach::{self, Ending, Fate};
use crate::eip::failure::Failure;
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::reconcile::{Plan, plan};
use crate::names::ContainerId;
use crate::net;
use crate::state::format::Attachment;

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
    /// Nothing was done, for this reason.
    Left(String),
    /// This would be done (dry run).
    Would(String),
    /// This was done, for this reason.
    Done { what: Ending, why: String },
    /// This failed and stays recorded.
    Failed(Failure),
}

/// One round over all attachments of the node.
///
/// # Errors
/// When the state cannot be read; what fails for one attachment is in its finding.
pub fn collect(node: &Node, dry_run: bool) -> Result<Vec<Finding>, Failure> {
    let records = node.store.attachments()?;
    Ok(records.into_iter().map(|record| Finding { outcome: collect_one(node, &record, dry_run), record }).collect())
}

fn collect_one(node: &Node, seen: &Attachment, dry_run: bool) -> Outcome {
    let attempt = || -> Result<Outcome, Failure> {
        let Some(_lock) = node.store.try_lock_pod(&seen.pod.namespace, &seen.pod.name)? else {
            return Ok(Outcome::Left("an ADD or DEL of this pod is running".into()));
        };
        let Some(record) = detach::find(&node.store, &seen.container_id, &seen.ifname)? else {
            return Ok(Outcome::Left("ended meanwhile".into()));
        };
        let fate = match node.kube() {
            Ok(kube) => detach::fate_of(kube, &record, Deadline::after(POD_TIME)),
            Err(failure) => Fate::Unknown(failure.to_string()),
        };
        let decided = plan(&record, &fate, net::netns_exists(&record.netns));
        if dry_run {
            return Ok(match decided {
                Plan::Leave(why) => Outcome::Left(why),
                Plan::UnbindAndHold(why) => Outcome::Would(format!("unbind and hold: {why}")),
                Plan::End(why) => Outcome::Would(format!("unbind and {}: {why}", fate_of_eip(&record))),
            });
        }
        carry_out(node, Journal::resume(&node.store, record), decided)
    };
    attempt().unwrap_or_else(Outcome::Failed)
}

fn fate_of_eip(record: &Attachment) -> &'static str {
    use crate::names::EipKind::{Auto, Static};
    match (&record.eip, record.strategy.lasting()) {
        (Some(eip), _) if eip.kind == Static => "keep",
        (Some(eip), true) if eip.kind == Auto => "keep",
        _ => "release",
    }
}

fn carry_out(node: &Node, mut journal: Journal, decided: Plan) -> Result<Outcome, Failure> {
    let deadline = Deadline::after(node.settings.del_timeout);
    match decided {
        Plan::Leave(why) => Ok(Outcome::Left(why)),
        Plan::UnbindAndHold(why) => {
            detach::unbind_recorded(node.cloud()?, &mut journal, deadline)?;
            Ok(Outcome::Done { what: Ending::Held("for the pod's next sandbox".into()), why })
        }
        Plan::End(why) => {
            let what = detach::end(node, journal, deadline)?;
            Ok(Outcome::Done { what, why })
        }
    }
}

/// The GC verb: attachments outside `valid` whose sandbox is really gone are treated as DEL.
///
/// # Errors
/// Only when the state cannot be read or written.
pub fn collect_invalid(node: &Node, valid: &[(ContainerId, String)]) -> Result<(), Failure> {
    let round = Deadline::after(GC_VERB_TIME);
    for record in node.store.attachments()? {
        let named = valid.iter().any(|(container_id, ifname)| record.is(container_id, ifname));
        if named || net::netns_exists(&record.netns) || round.passed() {
            continue;
        }
        let deadline = Deadline::after(node.settings.del_timeout);
        match detach::detach(node, &record.container_id, &record.ifname, deadline) {
            Ok(ending) => log::info!("gc: pod {}: {ending:?}", record.pod),
            Err(failure) => log::warn!("gc: pod {} is left for the next round: {failure}", record.pod),
        }
    }
    Ok(())
}
