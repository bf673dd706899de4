//! `podeip show`: what is known of one pod's EIP, side by side, and where the sides disagree.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::cli::{PathOptions, ShowOutput};
use super::named::{Elsewhere, Named};
use super::paths;
use super::print::{columns, or_dash, print};
use crate::cloud::EipFilter;
use crate::eip::compare::{Settings, compare, phase_text};
use crate::eip::failure::chain;
use crate::eip::views::{self, Found, NamespacedName, Remote, Subject, View, Views};
use crate::kube::PodEip;
use crate::state::Store;
use crate::state::format::Attachment;
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
    let records = Store::open(&paths.state_directory).and_then(|store| store.attachments());
    let records = Records(records.map_err(|error| chain(&error)));
    let views = views::look(&remote, subject(named, &records, &remote)?);
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

fn is_nothing(views: &Views) -> bool {
    views.record.known().is_none()
        && views.pod_eip.known().is_none()
        && views.pod.known().is_none()
        && views.cloud.known().is_none()
}

fn namespace_hint(named: &Named) -> String {
    match (named, named.elsewhere()) {
        (Named::Word(_), Elsewhere::Pod(pod)) => {
            format!("; it was looked for as pod {pod}, and NAMESPACE/NAME names any other")
        }
        _ => String::new(),
    }
}

/// The attachments of this node, or why they cannot be read.
struct Records(Result<Vec<Attachment>, String>);

impl Records {
    /// The attachment that is `named`.
    ///
    /// # Errors
    /// It means several.
    fn of(&self, named: &Named) -> anyhow::Result<View<Attachment>> {
        let records = match &self.0 {
            Ok(records) => named.among(records),
            Err(reason) => return Ok(View::Unknown(reason.clone())),
        };
        match records.as_slice() {
            [] => Ok(View::Absent),
            [record] => Ok(View::Known((*record).clone())),
            several => bail!(
                "{named} means {} attachments of this node; choose one by what it has alone:\n{}",
                several.len(),
                candidates(several)
            ),
        }
    }
}

fn candidates(records: &[&Attachment]) -> String {
    let cells = |record: &&Attachment| {
        let eip = record.eip.as_ref();
        vec![
            record.pod.to_string(),
            or_dash(eip.map(|eip| &eip.id)),
            or_dash(eip.and_then(|eip| eip.address)),
            or_dash(record.binding.as_ref().map(|binding| binding.private_ip)),
            phase_text(record.phase, record.published),
            record.container_id.to_string(),
        ]
    };
    columns(&["POD", "EIP-ID", "EIP", "PRIVATE-IP", "PHASE", "CONTAINER"], records.iter().map(cells))
}

/// What to look at: an attachment of this node, or else what cluster and cloud know under that name.
fn subject(named: &Named, records: &Records, remote: &Remote) -> anyhow::Result<Subject> {
    let record = records.of(named)?;
    if let View::Known(found) = &record {
        let pod = NamespacedName { namespace: found.pod.namespace.clone(), name: found.pod.name.clone() };
        return Ok(Subject { pod: Some(pod), record, eip: None });
    }
    let found = match named.elsewhere() {
        Elsewhere::Pod(pod) => return Ok(Subject { pod: Some(pod), record, eip: None }),
        Elsewhere::Eip(id) => views::find(remote, &EipFilter::Ids(vec![id.clone()]), |it| it.spec.allocation_id == id),
        Elsewhere::Address(address) => {
            let has_it = |it: &PodEip| {
                let status = it.status.as_ref();
                status.is_some_and(|it| [it.eip_address, it.private_ip_address].contains(&Some(address)))
            };
            views::find(remote, &EipFilter::Addresses(vec![address]), has_it)
        }
    };
    let eip = found.eip.known().cloned();
    match found.pods(remote.cluster()).as_slice() {
        [] if eip.is_some() => Ok(Subject { pod: None, record, eip }),
        [] => bail!("nothing is known of {named}: {}", nowhere(&record, &found)),
        // It may be of this node and have no EIP in its record yet.
        [pod] => Ok(Subject { pod: Some(pod.clone()), record: records.of(&Named::Pod(pod.clone()))?, eip }),
        several => {
            let pods: Vec<String> = several.iter().map(NamespacedName::to_string).collect();
            bail!("{named} means the pods {}; name one of them", pods.join(" and "))
        }
    }
}

/// Why neither this node nor cloud and cluster know it.
fn nowhere(record: &View<Attachment>, found: &Found) -> String {
    let record = match record {
        View::Unknown(reason) => format!("the records of this node are unknown: {reason}"),
        _ => "no record of this node has it".into(),
    };
    let cloud = match &found.eip {
        View::Unknown(reason) => format!("the cloud is unknown: {reason}"),
        _ => "the cloud has no such EIP".into(),
    };
    let claims = match &found.claims {
        View::Unknown(reason) => format!("the PodEIPs are unknown: {reason}"),
        _ => "no PodEIP names it".into(),
    };
    format!("{record}; {cloud}; {claims}")
}
