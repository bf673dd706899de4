//! Where a command finds this node's files: options first, then our stanza, then the defaults.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cli::PathOptions;
use crate::cni::stanza::{Keys, PLUGIN_TYPE, Reading, Stanza};
use crate::eip::node::Paths;

/// Resolves the paths for one command.
///
/// # Errors
/// A stanza of ours that cannot be used.
pub fn resolve(options: &PathOptions) -> anyhow::Result<Paths> {
    let stanza = stanza_in(&options.conf_dir)?;
    Ok(Paths {
        settings: options.config.clone().unwrap_or(stanza.config),
        kubeconfig: options.kubeconfig.clone().unwrap_or(stanza.kubeconfig),
        state_directory: options.state_dir.clone().unwrap_or(stanza.state_dir),
    })
}

/// Our stanza in the first list that has one, in the order in which runtimes read the directory.
fn stanza_in(directory: &Path) -> anyhow::Result<Stanza> {
    let mut files: Vec<PathBuf> = match fs::read_dir(directory) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => return Ok(Stanza::default()),
    };
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conflist"));
    files.sort();
    for path in files {
        let Ok(list) =
            fs::read(&path).map_err(drop).and_then(|text| serde_json::from_slice::<Value>(&text).map_err(drop))
        else {
            continue;
        };
        let plugins = list.get("plugins").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if let Some(ours) =
            plugins.iter().find(|plugin| plugin.get("type").and_then(Value::as_str) == Some(PLUGIN_TYPE))
        {
            let text = ours.to_string();
            let keys = Keys::new(text.as_bytes())?;
            return Reading::of(&keys).strict().map_err(|error| anyhow::anyhow!("{}: {error}", path.display()));
        }
    }
    Ok(Stanza::default())
}
