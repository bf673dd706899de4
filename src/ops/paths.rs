//! Where a command finds this node's files: options first, then our stanza, then the defaults.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::cli::PathOptions;
use crate::cni::error::CniError;
use crate::cni::stanza::{Keys, PLUGIN_TYPE, Reading, Stanza, unknown_keys};
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
    for list_path in files_in(directory, "conflist")? {
        let Some(list) = read_json(&list_path) else { continue };
        let Some((path, ours)) = stanza_of(directory, list_path, &list)? else { continue };
        let ours = ours.to_string();
        let keys = Keys::new(ours.as_bytes())?;
        for key in unknown_keys(&keys) {
            log::warn!("{}: the podeip stanza's key \"{key}\" is unknown and ignored", path.display());
        }
        return accept(Reading::of(&keys)).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()));
    }
    Ok(Stanza::default())
}

/// Our stanza in `list`, or in the folder beside it that libcni 1.3 and newer append to it (CNI 1.1,
/// `loadOnlyInlinedPlugins`), and the file it is in.
fn stanza_of(directory: &Path, list_path: PathBuf, list: &Value) -> anyhow::Result<Option<(PathBuf, Value)>> {
    let inlined = list.get("plugins").and_then(Value::as_array);
    if let Some(ours) = inlined.and_then(|plugins| plugins.iter().find(|plugin| is_ours(plugin))) {
        return Ok(Some((list_path, ours.clone())));
    }
    let name = list.get("name").and_then(Value::as_str).filter(|name| !name.is_empty() && !name.contains('/'));
    let inlined_only = list.get("loadOnlyInlinedPlugins").and_then(Value::as_bool).unwrap_or(false);
    let Some(name) = name.filter(|_| !inlined_only) else { return Ok(None) };
    let dropped_in = files_in(&directory.join(name), "conf")?.into_iter();
    Ok(dropped_in
        .filter_map(|path| Some((read_json(&path)?, path)))
        .find_map(|(plugin, path)| is_ours(&plugin).then_some((path, plugin))))
}

fn is_ours(plugin: &Value) -> bool {
    plugin.get("type").and_then(Value::as_str) == Some(PLUGIN_TYPE)
}

/// In the order in which runtimes read them; none when there is no such directory.
fn files_in(directory: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
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
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    Ok(files)
}

/// A file that cannot be read is skipped, as runtimes do; it may have been ours, so it is named.
fn read_json(path: &Path) -> Option<Value> {
    let text = fs::read(path).inspect_err(|error| log::warn!("{} is skipped: {error}", path.display())).ok()?;
    let json = serde_json::from_slice(&text);
    json.inspect_err(|error| log::warn!("{} is skipped, because it is not JSON: {error}", path.display())).ok()
}
