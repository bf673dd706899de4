//! Our stanza in the network configuration that the node's runtime uses.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::super::{cilium, paths};
use super::TERWAY_CONFLIST;
use super::kept::{Kept, Repair};
use super::likeness::Likeness;
use super::options::StanzaIn;
use super::runtime::Runtime;
use crate::cni::conflist::{self, Unfit, Wanted};
use crate::durable;
use crate::eip::node::Paths;
use drop_in::Place;

mod drop_in;

/// A list that podeip made of a lone `.conf` or `.json` is named after it with this in place of the ending.
/// A hyphen sorts before a point, so that runtimes take the list, and the primary's file stays untouched.
const DERIVED_ENDING: &str = "-podeip.conflist";

/// How often a file that somebody else rewrites at the same moment is looked at again.
const ATTEMPTS: usize = 5;

/// The directory from which the runtime takes its network configuration.
pub struct ConfDir {
    directory: PathBuf,
    wanted: Wanted,
    stanza_in: StanzaIn,
    runtime: Runtime,
}

impl ConfDir {
    pub fn new(directory: &Path, paths: &Paths, stanza_in: StanzaIn) -> Self {
        let wanted = Wanted {
            config: paths.settings.clone(),
            kubeconfig: paths.kubeconfig.clone(),
            state_dir: paths.state_directory.clone(),
        };
        Self { directory: directory.to_owned(), wanted, stanza_in, runtime: Runtime::new(&paths.kubeconfig) }
    }

    /// Takes our stanza out of every list and folder and removes the lists that we made; says what was done.
    ///
    /// # Errors
    /// A file that cannot be read or written, and one in which nothing but podeip is.
    pub fn take_out(&self) -> anyhow::Result<Vec<String>> {
        let mut done = Vec::new();
        // What Cilium has set aside may come back by its old name.
        for path in self.files()?.into_iter().chain(cilium::set_aside(&self.directory)?) {
            if is_derived(&path) {
                remove(&path)?;
                done.push(format!("{} removed", path.display()));
            } else if self.edit(&path, |text| Ok(conflist::unchained(text).ok().flatten()))? {
                done.push(format!("podeip taken out of {}", path.display()));
            }
        }
        done.extend(self.remove_drop_ins(None)?);
        durable::sweep_leftovers(&self.directory);
        Ok(done)
    }

    /// Whether something that a runtime may take still names podeip.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn conf_names_us(&self) -> anyhow::Result<bool> {
        paths::names_us(&self.directory)
    }

    /// Terway's list of this node with our stanza, as a value of its key in the ConfigMap eni-config.
    ///
    /// # Errors
    /// A node without that list, or one that cannot carry our stanza.
    pub fn terway_value(&self) -> anyhow::Result<String> {
        let path = self.directory.join(TERWAY_CONFLIST);
        let text = fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}, which Terway writes at its start; run this on a node with Terway", path.display())
        })?;
        Ok(conflist::chained(&text, &self.wanted).map_err(|unfit| unusable(&path, &unfit))?.unwrap_or(text))
    }

    /// Puts our stanza where it is to be, and only then takes it away from where it is not.
    fn settle(&self, primary: &Path) -> anyhow::Result<Vec<String>> {
        let (text, _) = read(primary)?;
        let place = self.place(primary, &text);
        let mut done = match &place {
            Place::DropIn(file) => self.drop_in(primary, file)?,
            Place::List | Place::Both(_) => self.chain_in(primary)?.into_iter().collect(),
        };
        let stays = match &place {
            Place::DropIn(file) | Place::Both(file) => Some(file.as_path()),
            Place::List => None,
        };
        done.extend(self.remove_drop_ins(stays)?);
        Ok(done)
    }

    /// Puts the primary's own file right, or the list that we make of it.
    fn chain_in(&self, primary: &Path) -> anyhow::Result<Option<String>> {
        if primary.extension() == Some(OsStr::new("conflist")) {
            let chained = |text: &str| {
                let elsewhere = self.drop_in_beside(primary, text).and_then(|file| drop_in::ours(&file));
                conflist::chained_like(text, &self.wanted, elsewhere.as_deref())
            };
            let written = self.edit(primary, chained)?;
            let terway = primary.file_name() == Some(OsStr::new(TERWAY_CONFLIST));
            let lasting = "; Terway writes it anew at each start, so put it into the key 10-terway.conflist of the \
                           ConfigMap kube-system/eni-config (podeip install --print-terway-conflist prints the value)";
            let hint = match () {
                () if terway => lasting.to_owned(),
                () if cilium::owns(primary) && !cilium::set_aside(&self.directory)?.is_empty() => {
                    format!("; {}", cilium::REMEDY)
                }
                () => String::new(),
            };
            return Ok(written.then(|| format!("podeip put into {}{hint}", primary.display())));
        }
        let derived = derived_from(primary);
        let (text, like) = read(primary)?;
        let list = conflist::list_from_conf(&text, &self.wanted).map_err(|unfit| unusable(primary, &unfit))?;
        if fs::read(&derived).is_ok_and(|found| found == list.as_bytes()) {
            return Ok(None);
        }
        replace(&derived, &list, &like, || true)?;
        Ok(Some(format!("{} made of {}", derived.display(), primary.display())))
    }

    /// Replaces the content of `path` by what `change` makes of it. Says whether it did.
    fn edit(&self, path: &Path, change: impl Fn(&str) -> Result<Option<String>, Unfit>) -> anyhow::Result<bool> {
        for _ in 0..ATTEMPTS {
            let (text, like) = read(path)?;
            let Some(new) = change(&text).map_err(|unfit| unusable(path, &unfit))? else { return Ok(false) };
            // Somebody else's newer content must not be lost.
            let unchanged = || fs::read(path).is_ok_and(|now| now == text.as_bytes());
            if replace(path, &new, &like, unchanged)? {
                return Ok(true);
            }
        }
        bail!("{} changes all the time; end whatever rewrites it", path.display())
    }

    /// Whether the list that Multus calls has our stanza, which somebody put there. What has no list in this
    /// directory cannot be seen, and the rest of the installation serves it all the same.
    fn beside_multus(&self, multus: &Path) -> anyhow::Result<Repair> {
        let carries = |path: &PathBuf| {
            fs::read_to_string(path).is_ok_and(|text| matches!(conflist::chained(&text, &self.wanted), Ok(None)))
        };
        Ok(match self.files()?.iter().any(carries) {
            true => Repair::Sound,
            false => Repair::Waiting(format!("{}: {}", multus.display(), Unfit::Delegates)),
        })
    }

    /// Lists of ours whose `.conf` is not what runtimes would take any more. They would hide what is.
    fn remove_stale(&self, primary: Option<&Path>) -> anyhow::Result<Vec<String>> {
        let wanted = primary.map(derived_from);
        let all = self.files()?.into_iter().chain(cilium::set_aside(&self.directory)?);
        let stale = all.filter(|path| is_derived(path) && Some(path) != wanted.as_ref());
        stale.map(|path| remove(&path).map(|()| format!("{} removed", path.display()))).collect()
    }

    /// What a runtime would take if podeip had made nothing.
    fn primary(&self) -> anyhow::Result<Option<PathBuf>> {
        Ok(self.files()?.into_iter().find(|path| !is_derived(path)))
    }

    /// The folder beside the primary's list.
    fn folder(&self) -> Option<PathBuf> {
        let primary = self.primary().ok()??;
        let file = self.drop_in_beside(&primary, &fs::read_to_string(&primary).ok()?)?;
        file.parent().map(Path::to_owned)
    }

    /// What a runtime may take, in its order.
    fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        paths::files_in(&self.directory, &paths::RUNTIMES_EXTENSIONS)
    }
}

impl Kept for ConfDir {
    fn watched(&self) -> Vec<PathBuf> {
        let mut watched = vec![self.directory.clone()];
        // A folder that is not there yet makes itself heard when it comes.
        watched.extend(self.folder().filter(|_| self.stanza_in != StanzaIn::List));
        watched
    }

    /// Never makes a configuration where the primary has none: the node would be ready, and its pods without
    /// an address.
    fn put_right(&self) -> anyhow::Result<Repair> {
        durable::sweep_leftovers(&self.directory);
        let primary = self.primary()?;
        let multus = primary.as_deref().filter(|it| fs::read_to_string(it).is_ok_and(|it| conflist::delegates(&it)));
        let settled = primary.as_deref().filter(|_| multus.is_none()).map(|primary| self.settle(primary));
        // Also where the primary cannot carry our stanza: without that it works, and behind a stale list it is hidden.
        let removed = self.remove_stale(primary.as_deref())?;
        let mut done: Vec<String> = settled.transpose()?.into_iter().flatten().collect();
        done.extend(removed);
        if let Some(multus) = multus.filter(|_| done.is_empty()) {
            return self.beside_multus(multus);
        }
        Ok(match primary {
            _ if !done.is_empty() => Repair::Done(done.join("; ")),
            Some(_) => Repair::Sound,
            None => Repair::Waiting(format!("the primary plugin has no configuration in {}", self.directory.display())),
        })
    }
}

/// Also under the name that Cilium gives it.
fn is_derived(path: &Path) -> bool {
    let name = if cilium::is_set_aside(path) { path.file_stem() } else { path.file_name() };
    name.is_some_and(|name| name.as_encoded_bytes().ends_with(DERIVED_ENDING.as_bytes()))
}

/// Why a list that podeip made of a lone `.conf` is not what its primary wants any more, if it is one.
pub fn outdated(list: &Path) -> Option<String> {
    let parse = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
    let name = list.file_name()?.to_str()?.strip_suffix(DERIVED_ENDING)?;
    let made_of = ["conf", "json"].map(|ending| list.with_file_name(format!("{name}.{ending}")));
    let Some(conf) = made_of.iter().find(|conf| conf.exists()) else {
        return Some(format!("{} was made of a {name}.conf that is gone", list.display()));
    };
    let same = parse(list).and_then(|list| Some(list["plugins"][0] == parse(conf)?));
    (same == Some(false)).then(|| format!("{} differs from {}, of which it was made", list.display(), conf.display()))
}

fn derived_from(conf: &Path) -> PathBuf {
    let mut name = conf.file_stem().unwrap_or_default().to_owned();
    name.push(DERIVED_ENDING);
    conf.with_file_name(name)
}

fn read(path: &Path) -> anyhow::Result<(String, Likeness)> {
    let both = || Ok::<_, io::Error>((fs::read_to_string(path)?, Likeness::of(path)?));
    both().with_context(|| {
        format!("cannot read {}; see whether it is a file, in UTF-8, that root may read", path.display())
    })
}

/// A file that is being written is unfit for a moment, and runtimes differ in what they do with one that
/// stays so: the next one of the directory is not touched in its place.
fn unusable(path: &Path, unfit: &Unfit) -> anyhow::Error {
    anyhow!(
        "{} is the first network configuration of this node and podeip cannot be put into it: {unfit}",
        path.display()
    )
}

/// Gives `path` this content and else the looks of `like`, if `still` holds at the last moment.
fn replace(path: &Path, content: &str, like: &Likeness, still: impl Fn() -> bool) -> anyhow::Result<bool> {
    let written = || {
        let file = write_like(path, content, like)?;
        if !still() {
            return Ok(false);
        }
        durable::put(file.into_temp_path(), path).map(|()| true)
    };
    written().with_context(|| not_written(path))
}

/// A temporary file beside `path` with the looks of `like`.
fn write_like(path: &Path, content: &str, like: &Likeness) -> io::Result<NamedTempFile> {
    let file = durable::write_beside(path, content.as_bytes(), like.mode())?;
    like.give(file.as_file(), path);
    Ok(file)
}

fn not_written(path: &Path) -> String {
    format!("cannot write {}; its directory must be writable and its file system not full", path.display())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    durable::remove(path).with_context(|| format!("cannot remove {}; its directory must be writable", path.display()))
}

#[cfg(test)]
mod tests;
