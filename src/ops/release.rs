//! `podeip release`: gives up the EIP that is held or kept for a pod that does not use it.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};

use super::cli::PathOptions;
use super::named::Named;
use super::paths;
use super::print::{or_dash, print, say};
use super::subject::{Records, namespace_hint, subject};
use crate::eip::detach::Ending;
use crate::eip::node::Node;
use crate::eip::release::{self, Target};
use crate::eip::views::{self, Remote};

const UNASKED: &str = "nothing is released, for the terminal cannot be asked; say --yes to do it unasked";

/// Asks unless `yes` says that this was done, and releases it.
///
/// Exit code 1 when it is not wanted after all.
///
/// # Errors
/// A living pod uses it; nobody can be asked; what is not podeip's or not known; what keeps it from being
/// released.
pub fn run(named: &Named, yes: bool, options: &PathOptions) -> anyhow::Result<ExitCode> {
    let paths = paths::resolve(options)?;
    let node = Node::open(&paths)?;
    let remote = Remote::open(&paths);
    let subject = match subject(named, &Records::of_node(&paths.state_directory), &remote)? {
        Ok(subject) => subject,
        Err(unfound) if unfound.certain => return Ok(nothing(named)),
        Err(unfound) => bail!("nothing is released, because not everything is known of {named}: {}", unfound.why),
    };
    let views = views::look(&remote, subject);
    let refused = |why| anyhow!("the EIP of {named} is not released: {why}");
    let Some(target) = release::judge(&views, node.cluster()?).map_err(refused)? else { return Ok(nothing(named)) };
    if !(yes || is_wanted(&target)?) {
        say("nothing was done");
        return Ok(ExitCode::FAILURE);
    }
    let ending = release::release(&node, target)?;
    print(&match ending {
        Ending::Released(eip) => format!("{eip} is released"),
        Ending::Nothing => "there was no EIP any more".into(),
        other => other.to_string(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn nothing(named: &Named) -> ExitCode {
    say(format_args!("no EIP is held or kept for {named}; nothing to do{}", namespace_hint(named)));
    ExitCode::SUCCESS
}

fn is_wanted(target: &Target) -> anyhow::Result<bool> {
    let what = described(target);
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        bail!("{what}; say --yes to do that where nobody can be asked");
    }
    let mut stderr = io::stderr();
    write!(stderr, "{what}. Go on? [y/N] ").and_then(|()| stderr.flush()).context(UNASKED)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context(UNASKED)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What would be done, as a sentence without its end.
fn described(target: &Target) -> String {
    let (id, address, pod) = match target {
        Target::Recorded(record) => {
            let eip = record.eip.as_ref();
            (or_dash(eip.map(|eip| &eip.id)), or_dash(eip.and_then(|eip| eip.address)), record.pod.to_string())
        }
        Target::Claimed { claim, eip, .. } => (
            claim.spec.allocation_id.to_string(),
            or_dash(eip.as_ref().and_then(|eip| eip.address)),
            format!("{}/{}", claim.namespace, claim.name),
        ),
        Target::Tagged { eip, pod } => (eip.id.to_string(), or_dash(eip.address), pod.to_string()),
    };
    let end = if target.is_static() { "unbound and stays its user's" } else { "released; its address is lost" };
    format!("{id} ({address}) of pod {pod} will be {end}")
}
