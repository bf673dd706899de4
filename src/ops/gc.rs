//! `podeip gc`: one round over this node's attachments, and a line about each.

use std::process::ExitCode;

use super::cli::PathOptions;
use super::list::plain_table;
use super::paths;
use crate::eip::collect::{self, Finding, Outcome};
use crate::eip::detach::Ending;
use crate::eip::node::Node;

/// Exit code 1 when something could not be finished; it stays recorded for the next round.
pub fn run(dry_run: bool, options: &PathOptions) -> anyhow::Result<ExitCode> {
    let node = Node::open(&paths::resolve(options)?)?;
    let findings = collect::collect(&node, dry_run)?;
    if findings.is_empty() {
        eprintln!("no pod of this node has an EIP; nothing to do");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = plain_table();
    table.set_header(["POD", "EIP", "ADDRESS", "DONE", "WHY"]);
    for finding in &findings {
        table.add_row(row(finding));
    }
    println!("{table}");
    let failed = findings.iter().any(|finding| matches!(finding.outcome, Outcome::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn row(finding: &Finding) -> [String; 5] {
    let eip = finding.record.eip.as_ref();
    let (done, why) = match &finding.outcome {
        Outcome::Left(why) => ("left".into(), why.clone()),
        Outcome::Would(what) => ("would".into(), what.clone()),
        Outcome::Done { what, why } => (ending(what), why.clone()),
        Outcome::Failed(failure) => ("failed".into(), failure.to_string()),
    };
    [
        finding.record.pod.to_string(),
        eip.map_or("-".into(), |eip| eip.id.to_string()),
        eip.and_then(|eip| eip.address).map_or("-".into(), |address| address.to_string()),
        done,
        why,
    ]
}

fn ending(what: &Ending) -> String {
    match what {
        Ending::Held(_) => "unbound, held".into(),
        Ending::Kept(reason) => format!("unbound, kept: {reason}"),
        Ending::Released(_) => "released".into(),
        Ending::Nothing => "forgotten".into(),
    }
}
