//! Where a command finds this node's files: options first, then our stanza, then the defaults.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::cli::PathOptions;
use crate::cni::error::CniError;
use crate::cni::stanza::{Keys, PLUGIN_TYPE, Reading, Stanza};
use crate::eip::node::Paths;

/// All paths, for a command that acts.
///
/// # Errors
/// A directory of network configuration that cannot be read, and a stanza of ours that cannot be
/// used, unless the options make it needless.
pub fn resolve(options: &PathOptions) -> anyhow::Result<Paths> {
    if let (Some(config), Some(kubeconfig), Some(state_dir)) =
        (&options.config, &options.kubeconfig, &options.state_dir)
    {
        return Ok(Paths {
            settings: config.clone(),
            kubeconfig: kubeconfig.clone(),
            state_directory: state_dir.clone(),
        });
    }
    let stanza = stanza_in(&options.conf_dir, Reading::strict)?;
    Ok(Paths {
        settings: options.config.clone().unwrap_or(stanza.config),
        kubeconfig: options.kubeconfig.clone().unwrap_or(stanza.kubeconfig),
        state_directory: options.state_dir.clone().unwrap_or(stanza.state_dir),
    })
}

/// The state directory alone, for a command that only looks: faults in other keys do not matter.
///
/// # Errors
/// As [`resolve`].
pub fn state_directory(options: &PathOptions) -> anyhow::Result<PathBuf> {
    match &options.state_dir {
        Some(directory) => Ok(directory.clone()),
        None => Ok(stanza_in(&options.conf_dir, Reading::for_state)?.state_dir),
    }
}

/// Our stanza in the first list that has one, in the order in which runtimes read the directory;
/// the defaults when there is none.
fn stanza_in(directory: &Path, accept: impl Fn(Reading) -> Result<Stanza, CniError>) -> anyhow::Result<Stanza> {
    for path in lists_in(directory)? {
        let Some(ours) = read_list(&path).as_ref().and_then(our_stanza).map(Value::to_string) else { continue };
        let reading = Reading::of(&Keys::new(ours.as_bytes())?);
        return accept(reading).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()));
    }
    Ok(Stanza::default())
}

fn lists_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "cannot read {}; name the files with --config, --kubeconfig and --state-dir",
                    directory.display()
                )
            });
        }
    };
    let mut lists: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    lists.retain(|path| path.extension().is_some_and(|extension| extension == "conflist"));
    lists.sort();
    Ok(lists)
}

/// A list that cannot be read is skipped, as runtimes do; it may have been ours, so it is named.
fn read_list(path: &Path) -> Option<Value> {
    let text = fs::read(path).inspect_err(|error| log::warn!("{} is skipped: {error}", path.display())).ok()?;
    let list = serde_json::from_slice(&text);
    list.inspect_err(|error| log::warn!("{} is skipped, because it is not JSON: {error}", path.display())).ok()
}

fn our_stanza(list: &Value) -> Option<&Value> {
    let plugins = list.get("plugins")?.as_array()?;
    plugins.iter().find(|plugin| plugin.get("type").and_then(Value::as_str) == Some(PLUGIN_TYPE))
}
