//! Our stanza in the folder beside the list that the runtime takes: where, and how it gets there and away.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::super::likeness::Likeness;
use super::{ConfDir, TERWAY_CONFLIST, not_written, read, unusable, write_like};
use crate::cni::{conflist, drop_in, stanza::Keys};
use crate::durable::{self, TEMP_PREFIX};
use crate::ops::install::options::StanzaIn;
use crate::ops::paths;

/// Runtimes append the files of the folder in the order of their names; ours hands on what it was given, so
/// that any place among them will do.
const FILE: &str = "podeip.conf";

/// In a folder that podeip made, which goes when there is nothing else in it. No runtime loads it.
const MADE_BY_US: &str = ".made-by-podeip";

/// Where our stanza is to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    List,
    DropIn(PathBuf),
    /// In both, which calls podeip twice for a pod and does no harm: nobody could be asked whether the
    /// runtime reads the file that is there.
    Both(PathBuf),
}

impl ConfDir {
    /// Where our stanza is to be on this node, whose runtime takes the list `text` in `primary`.
    pub(super) fn place(&self, primary: &Path, text: &str) -> Place {
        let Some(file) = self.drop_in_beside(primary, text) else { return Place::List };
        match self.stanza_in {
            StanzaIn::List => Place::List,
            StanzaIn::DropIn => Place::DropIn(file),
            // Terway's own list has the stanza from its ConfigMap at each start; it would be taken out each time.
            StanzaIn::Auto if primary.file_name() == Some(OsStr::new(TERWAY_CONFLIST)) => Place::List,
            StanzaIn::Auto => match self.runtime.reads_drop_ins() {
                Some(true) => Place::DropIn(file),
                Some(false) => Place::List,
                None if ours(&file).is_some() => Place::Both(file),
                None => Place::List,
            },
        }
    }

    /// The file for our stanza beside the list `text`; `None` where no runtime would read it: beside a lone
    /// `.conf`, beside a list that is whole, and where something else is in the way.
    pub(super) fn drop_in_beside(&self, primary: &Path, text: &str) -> Option<PathBuf> {
        let is_list = primary.extension() == Some(OsStr::new("conflist"));
        let name = drop_in::folder(&Keys::new(text.as_bytes()).ok()?).filter(|_| is_list)?;
        let folder = self.directory.join(name);
        let in_the_way = fs::metadata(&folder).is_ok_and(|found| !found.is_dir());
        (!in_the_way).then(|| folder.join(FILE))
    }

    /// Puts our stanza into `file` and takes it out of the list, in this order: for a moment it is in both.
    pub(super) fn drop_in(&self, primary: &Path, file: &Path) -> anyhow::Result<Vec<String>> {
        let (text, like) = read(primary)?;
        let unfit = |unfit| unusable(primary, &unfit);
        // What a list cannot carry, a file that is appended to it would break as well.
        conflist::chained(&text, &self.wanted).map_err(unfit)?;
        let mut done = Vec::new();
        let inlined = conflist::inlined(&text).map_err(unfit)?;
        if inlined.is_some() {
            // Two that name different states would give one pod two EIPs.
            done.extend(self.chain_in(primary)?);
        }
        if let Some(content) = drop_in::content(ours(file).as_deref(), inlined, &self.wanted).map_err(unfit)? {
            self.write_drop_in(file, &content, &like).with_context(|| not_written(file))?;
            done.push(format!(
                "podeip put into {}, which the runtime appends to {}",
                file.display(),
                primary.display()
            ));
        }
        if self.edit(primary, conflist::unchained)? {
            done.push(format!("podeip taken out of {}", primary.display()));
        }
        Ok(done)
    }

    /// Runtimes watch this directory and not the folder. So the file is written here and moved there: of what
    /// leaves the directory they hear, and then load everything anew. There is no moment at which the file
    /// is in its place and the runtime will not be told.
    fn write_drop_in(&self, file: &Path, content: &str, like: &Likeness) -> io::Result<()> {
        let folder = file.parent().ok_or(ErrorKind::InvalidInput)?;
        self.make(folder)?;
        let written = write_like(&self.directory.join(FILE), content, like)?;
        durable::put(written.into_temp_path(), file)?;
        durable::sync_directory_of(folder)
    }

    /// The folder, open to whom this directory is open.
    fn make(&self, folder: &Path) -> io::Result<()> {
        match fs::create_dir(folder) {
            Err(there) if there.kind() == ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        let mode = fs::metadata(&self.directory)?.permissions().mode() & 0o777;
        fs::set_permissions(folder, Permissions::from_mode(mode))?;
        File::create(folder.join(MADE_BY_US))?.sync_all()?;
        durable::sync_directory_of(folder)
    }

    /// Removes every stanza of ours from the folders, but for the file `wanted`, and what podeip made of folders
    /// that are empty then.
    pub(super) fn remove_drop_ins(&self, wanted: Option<&Path>) -> anyhow::Result<Vec<String>> {
        self.finish_removal()?;
        let mut done = Vec::new();
        for file in self.drop_ins()?.into_iter().filter(|file| Some(file.as_path()) != wanted) {
            let moved = synced_unless_gone(&file, |file| fs::rename(file, self.removed()));
            moved.with_context(|| format!("cannot remove {}", file.display()))?;
            self.finish_removal()?;
            done.push(format!("{} removed", file.display()));
        }
        let in_use = wanted.and_then(Path::parent);
        for folder in paths::folders_in(&self.directory)?.iter().filter(|folder| Some(folder.as_path()) != in_use) {
            remove_if_empty(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(done)
    }

    /// Where a file is between its folder and nowhere: the runtime does not hear of what leaves a folder or
    /// comes here, but of what goes from here. So it is told by the step that leaves nothing to be done.
    fn removed(&self) -> PathBuf {
        self.directory.join(format!("{TEMP_PREFIX}removed"))
    }

    /// The second step, which one that was killed may have left.
    fn finish_removal(&self) -> anyhow::Result<()> {
        let file = self.removed();
        synced_unless_gone(&file, |file| fs::remove_file(file))
            .with_context(|| format!("cannot remove {}", file.display()))
    }

    /// The stanzas of ours in all folders beside the lists, be they read or not.
    fn drop_ins(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for folder in paths::folders_in(&self.directory)? {
            found.extend(paths::files_in(&folder, &["conf"])?.into_iter().filter(|file| ours(file).is_some()));
        }
        Ok(found)
    }
}

/// Removes a folder that podeip made and nobody else uses.
fn remove_if_empty(folder: &Path) -> io::Result<()> {
    let is_marker = |entry: io::Result<fs::DirEntry>| Ok::<_, io::Error>(entry?.file_name() == MADE_BY_US);
    let entries = match fs::read_dir(folder) {
        Err(gone) if gone.kind() == ErrorKind::NotFound => return Ok(()),
        listing => listing?.map(is_marker).collect::<io::Result<Vec<_>>>()?,
    };
    if entries != [true] {
        return Ok(());
    }
    synced_unless_gone(&folder.join(MADE_BY_US), |file| fs::remove_file(file))?;
    synced_unless_gone(folder, |folder| fs::remove_dir(folder))
}

/// Takes `file` from its directory for good. Another process of ours may have been faster.
fn synced_unless_gone(file: &Path, take: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    match take(file) {
        Err(gone) if gone.kind() == ErrorKind::NotFound => Ok(()),
        taken => taken.and_then(|()| durable::sync_directory_of(file)),
    }
}

/// The stanza of ours that `file` holds.
pub(super) fn ours(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().filter(|text| drop_in::is_ours(text))
}
