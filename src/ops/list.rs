//! `podeip list`: the attachments of this node, from its own records.

use std::process::ExitCode;

use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use super::cli::{Output, PathOptions};
use super::paths;
use crate::state::Store;
use crate::state::format::Attachment;

/// One attachment as `-o json` prints it. This is a promise to scripts; the state file is not.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    pod: String,
    pod_uid: String,
    eip: Option<String>,
    address: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    phase: String,
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
        let phase = match (record.phase, record.published) {
            (crate::state::format::Phase::Bound, false) => "Bound (unpublished)".to_string(),
            (phase, _) => format!("{phase:?}"),
        };
        Row {
            namespace: record.pod.namespace,
            pod: record.pod.name,
            pod_uid: record.pod.uid.to_string(),
            eip: record.eip.as_ref().map(|eip| eip.id.to_string()),
            address: record.eip.as_ref().and_then(|eip| Some(eip.address?.to_string())),
            kind: record.eip.as_ref().map(|eip| eip.kind.to_string()),
            phase,
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
pub fn run(output: Output, options: &PathOptions) -> anyhow::Result<ExitCode> {
    let store = Store::open(&paths::resolve(options)?.state_directory)?;
    let mut rows: Vec<Row> = store.attachments()?.into_iter().map(Row::from).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.pod, &a.container_id).cmp(&(&b.namespace, &b.pod, &b.container_id)));
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Output::Table | Output::Wide if rows.is_empty() => eprintln!("no pod of this node has an EIP"),
        Output::Table => println!("{}", table(&rows, false)),
        Output::Wide => println!("{}", table(&rows, true)),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Row], wide: bool) -> Table {
    let mut table = plain_table();
    let mut header = vec!["NAMESPACE", "POD", "ADDRESS", "EIP", "TYPE", "PHASE", "PRIVATE-IP", "AGE"];
    if wide {
        header.extend(["STRATEGY", "ENI", "PACKAGE", "CONTAINER", "POD-UID", "LAST-ERROR"]);
    }
    table.set_header(header);
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    for row in rows {
        let mut cells = vec![
            row.namespace.clone(),
            row.pod.clone(),
            dash(&row.address),
            dash(&row.eip),
            dash(&row.kind),
            row.phase.clone(),
            dash(&row.private_ip),
            age(row.created_at),
        ];
        if wide {
            cells.extend([
                row.strategy.clone(),
                dash(&row.eni),
                dash(&row.bandwidth_package),
                row.container_id.chars().take(12).collect(),
                row.pod_uid.clone(),
                dash(&row.last_error),
            ]);
        }
        table.add_row(cells);
    }
    table
}

/// Columns without lines, as `kubectl` prints them.
pub fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
}

/// The largest unit that says enough: `45s`, `12m`, `5h`, `3d`.
fn age(since: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
