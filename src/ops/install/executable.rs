//! The executable on the node: a copy of the one that runs.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use nix::unistd::geteuid;

use super::kept::{Kept, Repair};
use crate::cni::stanza::PLUGIN_TYPE;
use crate::durable;

/// The running executable, also after its file was replaced or removed.
const RUNNING: &str = "/proc/self/exe";

/// A runtime may run as another user than root.
const MODE: u32 = 0o755;

/// The copy in the directory of the runtime's plugins.
pub struct CopiedExecutable {
    source: PathBuf,
    target: PathBuf,
    /// The copy as it was compared last: it is some megabytes, and is looked at every half minute.
    compared: Mutex<Option<Stamp>>,
}

/// What tells one state of a file from the next without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    changed: (i64, i64),
}

impl CopiedExecutable {
    /// Of the running executable, in the plugins' `directory`.
    pub fn in_directory(directory: &Path) -> Self {
        Self::of(Path::new(RUNNING), directory)
    }

    fn of(source: &Path, directory: &Path) -> Self {
        Self { source: source.to_owned(), target: in_directory(directory), compared: Mutex::default() }
    }

    /// `None` when nothing is there. A link is not followed: what it leads to is somebody else's.
    fn found(&self) -> io::Result<Option<Metadata>> {
        match fs::symlink_metadata(&self.target) {
            Ok(found) => Ok(Some(found)),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether `found` is a copy that needs nothing. `running` is read only when it must be.
    fn is_sound(&self, found: &Metadata) -> io::Result<bool> {
        let running = fs::metadata(&self.source)?;
        if (running.dev(), running.ino()) == (found.dev(), found.ino()) {
            return Ok(true);
        }
        // Its owner could change it later, and runtimes run it as root.
        let ours = found.uid() == geteuid().as_raw();
        if !found.is_file() || !ours || found.mode() & 0o7777 != MODE || found.size() != running.size() {
            return Ok(false);
        }
        let stamp = Stamp::of(found);
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if *compared != Some(stamp) {
            if fs::read(&self.target)? != fs::read(&self.source)? {
                return Ok(false);
            }
            *compared = Some(stamp);
        }
        Ok(true)
    }

    fn copy(&self) -> anyhow::Result<()> {
        let content = fs::read(&self.source).context("cannot read the running executable")?;
        // Closed before it is run, or the kernel would call it busy.
        let copy = durable::write_beside(&self.target, &content, MODE)?.into_temp_path();
        answers(&copy)?;
        Ok(durable::put(copy, &self.target)?)
    }
}

/// Where runtimes look for us among the plugins of `directory`.
pub fn in_directory(directory: &Path) -> PathBuf {
    directory.join(PLUGIN_TYPE)
}

/// Whether a runtime could run what is at `path`.
pub fn is_runnable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            mode: found.mode(),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

impl Kept for CopiedExecutable {
    fn watched(&self) -> Vec<PathBuf> {
        self.target.parent().map(Path::to_owned).into_iter().collect()
    }

    fn put_right(&self) -> anyhow::Result<Repair> {
        let target = self.target.display();
        let found = self
            .found()
            .with_context(|| format!("cannot look at {target}; see whether root may enter its directory"))?;
        if let Some(found) = &found
            && self.is_sound(found).with_context(|| {
                format!("cannot compare {target} with the running executable; see whether root may read both")
            })?
        {
            return Ok(Repair::Sound);
        }
        if let Some(directory) = self.target.parent()
            && !directory.is_dir()
        {
            bail!("there is no directory {}; name that of the runtime's plugins with --bin-dir", directory.display());
        }
        self.copy().with_context(|| {
            format!("cannot install {target}; its directory must be writable and its file system have room")
        })?;
        let what = if found.is_some() { "replaced" } else { "installed" };
        Ok(Repair::Done(format!("{target} {what} (version {})", env!("CARGO_PKG_VERSION"))))
    }
}

/// Runs `executable` once, the way a runtime does, before a runtime can: a file system may forbid it
/// (`noexec`), and a copy for another machine would take the one that works.
fn answers(executable: &Path) -> anyhow::Result<()> {
    let mut probe = Command::new(executable);
    probe.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = probe.status().context("the copy cannot be run (is its file system mounted noexec?)")?;
    ensure!(status.success(), "the copy does not answer CNI VERSION: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn write(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, Permissions::from_mode(MODE)).unwrap();
    }

    #[track_caller]
    fn assert_copied(copied: &CopiedExecutable) {
        assert!(matches!(copied.put_right().unwrap(), Repair::Done(_)));
        assert_eq!(fs::read(&copied.target).unwrap(), fs::read(&copied.source).unwrap());
        let found = copied.target.symlink_metadata().unwrap();
        assert!(found.is_file() && found.mode() & 0o7777 == MODE);
        assert_eq!(copied.put_right().unwrap(), Repair::Sound);
    }

    #[test]
    fn whatever_stands_in_its_place_is_replaced_and_a_sound_copy_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (source, bin) = (root.path().join("running"), root.path().join("bin"));
        write(&source, "#!/bin/sh\nexit 0\n");
        let copied = CopiedExecutable::of(&source, &bin);
        assert!(format!("{:#}", copied.put_right().unwrap_err()).contains("--bin-dir"));
        fs::create_dir(&bin).unwrap();
        assert_copied(&copied);
        let disturbances: [fn(&CopiedExecutable); 4] = [
            |copied| write(&copied.target, "#!/bin/sh\nexit 1\n"),
            |copied| fs::set_permissions(&copied.target, Permissions::from_mode(0o644)).unwrap(),
            |copied| fs::remove_file(&copied.target).unwrap(),
            |copied| {
                fs::remove_file(&copied.target).unwrap();
                symlink(&copied.source, &copied.target).unwrap();
            },
        ];
        for disturb in disturbances {
            disturb(&copied);
            assert_copied(&copied);
        }
        fs::remove_file(&copied.target).unwrap();
        fs::hard_link(&source, &copied.target).unwrap();
        assert_eq!(copied.put_right().unwrap(), Repair::Sound, "it is the running one itself");
    }

    #[test]
    fn a_copy_that_does_not_run_replaces_nothing() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("running");
        let copied = CopiedExecutable::of(&source, root.path());
        write(&copied.target, "#!/bin/sh\nexit 0\n");
        for broken in ["#!/bin/sh\nexit 7\n", "#!/no/such/interpreter\n"] {
            write(&source, broken);
            copied.put_right().unwrap_err();
            assert_eq!(fs::read_to_string(&copied.target).unwrap(), "#!/bin/sh\nexit 0\n");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "no temporary file stays");
    }
}
