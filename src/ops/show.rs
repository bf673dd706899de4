//! `podeip show`: what is known of one pod's EIP, side by side, and where the sides disagree.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::cli::{PathOptions, ShowOutput};
use super::named::Named;
use super::paths;
use super::print::print;
use super::subject::{Records, is_nothing, namespace_hint, subject};
use crate::eip::compare::{Settings, compare};
use crate::eip::views::{self, Remote, Views};
use crate::state::Store;
use crate::state::measures::VerbMeasures;

mod json;
mod table;

/// A pod's ADD, its retries and its DEL.
const MOST_VERBS: usize = 5;

/// Prints the views of the pod that is `named`.
///
/// Exit code 0 when anything is known of it, whatever is down; differences are no failure.
///
/// # Errors
/// A stanza that cannot be used, a name that means several pods or attachments, and one of which
/// nothing is known.
pub fn run(named: &Named, output: ShowOutput, options: &PathOptions) -> anyhow::Result<ExitCode> {
    let paths = paths::resolve(options)?;
    let remote = Remote::open(&paths);
    let records = Records::of_node(&paths.state_directory);
    let subject = match subject(named, &records, &remote)? {
        Ok(subject) => subject,
        Err(unfound) => bail!("nothing is known of {named}: {}", unfound.why),
    };
    let views = views::look(&remote, subject);
    if is_nothing(&views) {
        bail!("nothing is known of {named}: {}{}", table::gaps(&views).join("; "), namespace_hint(named));
    }
    let verbs = verbs(&views, &paths.state_directory);
    let settings = Settings { cluster: remote.cluster(), stateful_kinds: remote.stateful_kinds() };
    let comparison = compare(&views, &settings);
    print(&match output {
        ShowOutput::Table => table::text(&views, &comparison, &verbs),
        ShowOutput::Json => serde_json::to_string_pretty(&json::object(views, comparison.differences, verbs))?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What the last verbs about this pod's name measured on this node, oldest first.
fn verbs(views: &Views, state_directory: &Path) -> Vec<VerbMeasures> {
    let Some(name) = &views.name else { return Vec::new() };
    let left = Store::open(state_directory).map(|store| store.measures_of(&name.namespace, &name.name));
    let mut verbs = left.unwrap_or_default();
    verbs.drain(..verbs.len().saturating_sub(MOST_VERBS));
    verbs
}
