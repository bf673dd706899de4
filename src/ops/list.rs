//! `podeip list`: the attachments of this node, from its own records.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::cli::{Output, PathOptions};
use super::paths;
use super::print::{age, columns, or_dash, print, say};
use crate::eip::compare::phase_text;
use crate::state::Store;
use crate::state::format::{Attachment, Phase};

const COLUMNS: [&str; 8] = ["NAMESPACE", "POD", "EIP", "EIP-ID", "TYPE", "PHASE", "PRIVATE-IP", "AGE"];
const MORE_COLUMNS: [&str; 6] = ["STRATEGY", "ENI", "PACKAGE", "CONTAINER", "POD-UID", "LAST-ERROR"];

/// As much of a container id as the runtimes' own tools show.
const SHORT_ID: usize = 13;

/// One attachment as `-o json` prints it, here and in `podeip show`. This is a promise to scripts;
/// the state file is not.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    namespace: String,
    pod: String,
    pod_uid: String,
    eip_id: Option<String>,
    eip_address: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    phase: Phase,
    /// Whether pod and PodEIP carry the EIP.
    published: bool,
    strategy: String,
    private_ip: Option<String>,
    eni: Option<String>,
    bandwidth_package: Option<String>,
    container_id: String,
    ifname: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    last_error: Option<String>,
}

impl From<Attachment> for Row {
    fn from(record: Attachment) -> Self {
        Row {
            namespace: record.pod.namespace,
            pod: record.pod.name,
            pod_uid: record.pod.uid.to_string(),
            eip_id: record.eip.as_ref().map(|eip| eip.id.to_string()),
            eip_address: record.eip.as_ref().and_then(|eip| Some(eip.address?.to_string())),
            kind: record.eip.as_ref().map(|eip| eip.kind.to_string()),
            phase: record.phase,
            published: record.published,
            strategy: record.strategy.to_string(),
            private_ip: record.binding.as_ref().map(|binding| binding.private_ip.to_string()),
            eni: record.binding.as_ref().map(|binding| binding.eni.to_string()),
            bandwidth_package: record.bandwidth_package.map(|package| package.to_string()),
            container_id: record.container_id.to_string(),
            ifname: record.ifname,
            created_at: record.created_at,
            updated_at: record.updated_at,
            last_error: record.last_error,
        }
    }
}

/// Prints the attachments, ordered by namespace and name.
///
/// # Errors
/// A state that cannot be read.
pub fn run(output: Output, options: &PathOptions) -> anyhow::Result<ExitCode> {
    let store = Store::open(&paths::state_directory(options)?)?;
    let mut rows: Vec<Row> = store.attachments()?.into_iter().map(Row::from).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.pod, &a.container_id).cmp(&(&b.namespace, &b.pod, &b.container_id)));
    match output {
        Output::Json => print(&serde_json::to_string_pretty(&rows)?)?,
        Output::Table | Output::Wide if rows.is_empty() => say("no pod of this node has an EIP"),
        Output::Table => print(&columns(&COLUMNS, rows.iter().map(cells)))?,
        Output::Wide => {
            let header = [&COLUMNS[..], &MORE_COLUMNS].concat();
            print(&columns(&header, rows.iter().map(|row| [cells(row), more_cells(row)].concat())))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &Row) -> Vec<String> {
    vec![
        row.namespace.clone(),
        row.pod.clone(),
        or_dash(row.eip_address.as_ref()),
        or_dash(row.eip_id.as_ref()),
        or_dash(row.kind.as_ref()),
        phase_text(row.phase, row.published),
        or_dash(row.private_ip.as_ref()),
        age(row.created_at),
    ]
}

fn more_cells(row: &Row) -> Vec<String> {
    vec![
        row.strategy.clone(),
        or_dash(row.eni.as_ref()),
        or_dash(row.bandwidth_package.as_ref()),
        row.container_id.chars().take(SHORT_ID).collect(),
        row.pod_uid.clone(),
        or_dash(row.last_error.as_ref()),
    ]
}
