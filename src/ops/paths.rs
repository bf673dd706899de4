//! Where a command finds this node's files: options first, then our stanza, then the defaults.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

use super::cli::PathOptions;
use crate::bounded;
use crate::cni::conflist;
use crate::cni::drop_in;
use crate::cni::error::CniError;
use crate::cni::stanza::{Keys, PLUGIN_TYPE, POD_ANNOTATIONS, Reading, Stanza, unknown_keys};
use crate::eip::node::Paths;

/// What runtimes take for network configuration.
pub(super) const RUNTIMES_EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];

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
    let stanza = stanza_in(&options.conf_dir, Reading::strict, &mut complain)?;
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
        None => Ok(stanza_in(&options.conf_dir, Reading::for_state, &mut complain)?.state_dir),
    }
}

/// What is ignored may have been meant.
fn complain(oddity: String) {
    log::warn!("{oddity}");
}

/// All paths, for a command that says what is wrong: defaults stand in for what cannot be read, and
/// [`loaded`] says what was ignored.
pub fn as_far_as_readable(options: &PathOptions) -> Paths {
    let stanza = stanza_in(&options.conf_dir, |reading| Ok(reading.stanza), &mut drop).unwrap_or_default();
    Paths {
        settings: options.config.clone().unwrap_or(stanza.config),
        kubeconfig: options.kubeconfig.clone().unwrap_or(stanza.kubeconfig),
        state_directory: options.state_dir.clone().unwrap_or(stanza.state_dir),
    }
}

/// The paths of an installation: what no option names is at its default place, for what a stanza says is
/// what the installation made it say.
pub fn of_installation(options: &PathOptions) -> Paths {
    let defaults = Stanza::default();
    Paths {
        settings: options.config.clone().unwrap_or(defaults.config),
        kubeconfig: options.kubeconfig.clone().unwrap_or(defaults.kubeconfig),
        state_directory: options.state_dir.clone().unwrap_or(defaults.state_dir),
    }
}

/// The network configuration that a runtime takes: the first file that can be used.
#[derive(Debug)]
pub struct Loaded {
    pub file: PathBuf,
    pub ours: Option<Ours>,
    /// Files before it that runtimes cannot use, each with its reason.
    pub skipped: Vec<String>,
}

/// Our stanza in it.
#[derive(Debug)]
pub struct Ours {
    /// The list itself, or the file dropped in beside it.
    pub file: PathBuf,
    /// How many plugins stand before it.
    pub place: usize,
    pub faults: Vec<String>,
    pub unknown_keys: Vec<String>,
    /// Whether the runtime is asked to pass the pod's annotations.
    pub wants_annotations: bool,
    /// A file in the folder beside the list that has our stanza, while the list has it too.
    pub again_in: Option<PathBuf>,
}

/// What a runtime loads from `directory`; where that is Multus's, the file that Multus loads.
///
/// # Errors
/// A directory that cannot be read.
pub fn loaded(directory: &Path) -> anyhow::Result<Option<Loaded>> {
    let mut skipped = Vec::new();
    let mut multus = None;
    for file in files_in(directory, &RUNTIMES_EXTENSIONS)? {
        let Some(content) = read_json(&file, &mut |oddity| skipped.push(oddity)) else { continue };
        let inlined = content.get("plugins").and_then(Value::as_array);
        let is_list = file.extension().is_some_and(|found| found == "conflist");
        let ours = if is_list && inlined.is_some_and(|plugins| !plugins.is_empty()) {
            match stanza_of(directory, file.clone(), &content, &mut drop)? {
                Some((path, stanza)) => {
                    let found = ours(path, &stanza, inlined.map_or(&[], Vec::as_slice))?;
                    let dropped_in = dropped_in(directory, &content, &mut drop)?.map(|(path, _)| path);
                    Some(Ours { again_in: dropped_in.filter(|path| *path != found.file), ..found })
                }
                None => None,
            }
        } else if !is_list && content.get("type").is_some_and(Value::is_string) {
            if is_ours(&content) { Some(ours(file.clone(), &content, &[])?) } else { None }
        } else {
            continue;
        };
        let calls_another = ours.is_none() && conflist::delegates(&content.to_string());
        let found = Loaded { file, ours, skipped: skipped.clone() };
        if !calls_another {
            return Ok(Some(found));
        }
        multus.get_or_insert(found);
    }
    Ok(multus)
}

/// Whether any file that a runtime may take from `directory` names us, be it one that it does not take now.
///
/// # Errors
/// A directory that cannot be read.
pub fn names_us(directory: &Path) -> anyhow::Result<bool> {
    let mut unread = |_| {};
    for file in files_in(directory, &RUNTIMES_EXTENSIONS)? {
        let Some(content) = read_json(&file, &mut unread) else { continue };
        if is_ours(&content) || stanza_of(directory, file, &content, &mut unread)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn ours(file: PathBuf, stanza: &Value, inlined: &[Value]) -> anyhow::Result<Ours> {
    let text = stanza.to_string();
    let keys = Keys::new(text.as_bytes())?;
    Ok(Ours {
        file,
        // What is dropped in comes after all that is inlined.
        place: inlined.iter().take_while(|plugin| !is_ours(plugin)).count(),
        faults: Reading::of(&keys).faults.iter().map(ToString::to_string).collect(),
        unknown_keys: unknown_keys(&keys).into_iter().map(str::to_owned).collect(),
        wants_annotations: stanza["capabilities"][POD_ANNOTATIONS] == true,
        again_in: None,
    })
}

/// Our stanza in the first list that has one, in the order in which runtimes read the directory;
/// the defaults when there is none. `complain` hears what is ignored.
fn stanza_in(
    directory: &Path,
    accept: impl Fn(Reading) -> Result<Stanza, CniError>,
    complain: &mut impl FnMut(String),
) -> anyhow::Result<Stanza> {
    for list_path in files_in(directory, &["conflist"])? {
        let Some(list) = read_json(&list_path, complain) else { continue };
        let Some((path, ours)) = stanza_of(directory, list_path, &list, complain)? else { continue };
        let ours = ours.to_string();
        let keys = Keys::new(ours.as_bytes())?;
        for key in unknown_keys(&keys) {
            complain(format!("{}: the podeip stanza's key \"{key}\" is unknown and ignored", path.display()));
        }
        return accept(Reading::of(&keys)).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()));
    }
    Ok(Stanza::default())
}

/// Our stanza in `list`, or in the folder beside it that libcni 1.3 and newer append to it (CNI 1.1,
/// `loadOnlyInlinedPlugins`), and the file it is in.
fn stanza_of(
    directory: &Path,
    list_path: PathBuf,
    list: &Value,
    complain: &mut impl FnMut(String),
) -> anyhow::Result<Option<(PathBuf, Value)>> {
    let inlined = list.get("plugins").and_then(Value::as_array);
    if let Some(ours) = inlined.and_then(|plugins| plugins.iter().find(|plugin| is_ours(plugin))) {
        return Ok(Some((list_path, ours.clone())));
    }
    dropped_in(directory, list, complain)
}

/// Our stanza in the folder beside `list`, and the file that it is in.
fn dropped_in(
    directory: &Path,
    list: &Value,
    complain: &mut impl FnMut(String),
) -> anyhow::Result<Option<(PathBuf, Value)>> {
    let list_text = list.to_string();
    let Some(name) = Keys::new(list_text.as_bytes()).ok().and_then(|keys| drop_in::folder(&keys)) else {
        return Ok(None);
    };
    let files = files_in(&directory.join(name), &["conf"])?.into_iter();
    Ok(files
        .filter_map(|path| Some((read_json(&path, complain)?, path)))
        .find_map(|(plugin, path)| is_ours(&plugin).then_some((path, plugin))))
}

fn is_ours(plugin: &Value) -> bool {
    plugin.get("type").and_then(Value::as_str) == Some(PLUGIN_TYPE)
}

/// In the order in which runtimes read them; none when there is no such directory.
pub(super) fn files_in(directory: &Path, extensions: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = entries_of(directory)?;
    files.retain(|path| path.extension().is_some_and(|found| extensions.iter().any(|one| found == *one)));
    Ok(files)
}

/// The directories in one that may not be there.
pub(super) fn folders_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut folders = entries_of(directory)?;
    folders.retain(|path| path.is_dir());
    Ok(folders)
}

fn entries_of(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
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
    files.sort();
    Ok(files)
}

/// A file that cannot be read is skipped, as runtimes do; it may have been ours, so it is named.
fn read_json(path: &Path, complain: &mut impl FnMut(String)) -> Option<Value> {
    let mut skipped = |why: String| complain(format!("{} is skipped{why}", path.display()));
    let text = bounded::read(path).inspect_err(|error| skipped(format!(": {error}"))).ok()?;
    serde_json::from_slice(&text).inspect_err(|error| skipped(format!(", because it is not JSON: {error}"))).ok()
}
