//! `podeip gc`: one round over this node's attachments, and a line about each.

use std::process::ExitCode;
use std::time::Duration;

use super::cli::PathOptions;
use super::identity::Identity;
use super::paths;
use super::print::{columns, or_dash, print, say};
use super::progress::Progress;
use crate::deadline::Deadline;
use crate::eip::collect::{self, Finding, Outcome};
use crate::eip::detach::Ending;
use crate::eip::node::Node;
use crate::eip::upkeep::Upkeep;
use crate::state::StateError;

/// One listing of the node's pods, and a look at each that has no record.
const REBUILD_TIME: Duration = Duration::from_secs(30);

/// Prints what was done, or would be done, about every attachment.
///
/// Exit code 1 when something could not be finished or decided; it stays recorded for the next round.
///
/// # Errors
/// Settings or a state that cannot be read.
pub fn run(dry_run: bool, options: &PathOptions) -> anyhow::Result<ExitCode> {
    let node = Node::open(&paths::resolve(options)?)?;
    rebuild_lost(&node, dry_run);
    let records = node.store.attachments()?;
    let progress = Progress::of(records.len(), "collecting");
    let findings = collect::collect(&node, records, dry_run, || progress.step());
    drop(progress);
    if !dry_run {
        node.store.sweep_pod_locks()?;
    }
    for file in node.store.set_aside()? {
        say(format_args!(
            "podeip: {} was set aside because it did not parse; what the cluster knows of it is rebuilt. Compare the \
             EIPs that carry the tag podeip-cluster with `podeip list`, and delete the file when none is missing",
            file.display()
        ));
    }
    if findings.is_empty() {
        say("no pod of this node has an EIP; nothing to do");
        return Ok(ExitCode::SUCCESS);
    }
    print(&columns(&["NAMESPACE", "POD", "EIP", "EIP-ID", "RESULT", "WHY"], findings.iter().map(row)))?;
    Ok(unfinished(&findings))
}

/// A lost state file is rebuilt first, or its EIPs would look like nobody's. A dry run only says that
/// one may be lost.
fn rebuild_lost(node: &Node, dry_run: bool) {
    // The first reading reports a file that does not parse and sets it aside.
    if let Err(error @ StateError::Corrupt { .. }) = node.store.attachments() {
        say(format_args!("podeip: {error}"));
    }
    if !node.settings.enabled || !node.store.may_have_lost().unwrap_or(true) {
        return;
    }
    if dry_run {
        say(
            "podeip: records of this node may be lost with its state file; `podeip gc` rebuilds what the cluster knows of them",
        );
        return;
    }
    let rebuilt = Identity::read()
        .and_then(|identity| Ok(Upkeep::new(node, identity.node).rebuild(Deadline::after(REBUILD_TIME))?));
    if let Err(error) = rebuilt {
        say(format_args!("podeip: lost records of this node were not looked for: {error:#}"));
    }
}

/// Says what was not finished or decided, and why it was not when nobody's row tells.
fn unfinished(findings: &[Finding]) -> ExitCode {
    let failed = findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Failed(_))).count();
    let answers = || {
        findings.iter().filter_map(|finding| match &finding.outcome {
            Outcome::Undecided { answer, .. } => Some(answer),
            _ => None,
        })
    };
    let undecided = answers().count();
    if failed + undecided == 0 {
        return ExitCode::SUCCESS;
    }
    // One answer speaks for all: a silent API server is asked once in a round.
    if let Some(answer) = answers().next() {
        say(format_args!("podeip: the API server did not say which pods live: {answer}"));
    }
    let are = if failed + undecided == 1 { "attachment is" } else { "attachments are" };
    say(format_args!(
        "podeip: {} {are} not finished ({failed} failed, {undecided} undecided); the records stay, so run \
         `podeip gc` again",
        failed + undecided
    ));
    ExitCode::FAILURE
}

fn row(finding: &Finding) -> Vec<String> {
    let eip = finding.record.eip.as_ref();
    let (result, why) = match &finding.outcome {
        Outcome::Left(why) | Outcome::Undecided { why, .. } => ("left".into(), why.clone()),
        Outcome::Would { what, why } => (format!("would {what}"), why.clone()),
        Outcome::Done { what, why } => done(what, why),
        Outcome::Failed(failure) => ("failed".into(), failure.to_string()),
    };
    vec![
        finding.record.pod.namespace.clone(),
        finding.record.pod.name.clone(),
        or_dash(eip.and_then(|eip| eip.address)),
        or_dash(eip.map(|eip| &eip.id)),
        result,
        why,
    ]
}

fn done(what: &Ending, why: &str) -> (String, String) {
    match what {
        Ending::Held(until) => ("held".into(), format!("{why}; unbound and held {until}")),
        Ending::Undecided(answer) => ("held".into(), format!("{why}; {answer}")),
        Ending::Bound => ("bound".into(), why.into()),
        Ending::Handed => ("unbinding".into(), why.into()),
        Ending::Kept(reason) => ("kept".into(), format!("{why}; {reason}")),
        Ending::Released(_) => ("released".into(), why.into()),
        Ending::Nothing => ("forgotten".into(), format!("{why}; it had no EIP")),
    }
}
