//! flock(2) locks of the state directory: waited for with a deadline, freed by the kernel when
//! their holder dies.
//!
//! fs2's methods are called by their full path: std's `File` has inherent ones of nearly the same
//! names, and method syntax would silently take those. A child that was forked without exec keeps
//! a lock alive after its parent's death, so nothing may fork like that while it holds one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use nix::fcntl::OFlag;

use super::StateError;
use crate::crash;
use crate::deadline::Deadline;

/// An exclusively locked file; dropping it frees the lock. The file itself stays.
#[must_use]
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
    path: PathBuf,
}

/// Serialises the verbs of one pod name. Dropping it, or the death of its process, frees the pod.
/// A thread that asks for the same pod twice waits for itself.
#[must_use = "the pod is free again as soon as this is dropped"]
#[derive(Debug)]
pub struct PodLock(FileLock);

/// Says to every podeip process of the node that an agent is alive. Held until dropped or dead.
#[must_use = "the agent counts as dead as soon as this is dropped"]
#[derive(Debug)]
pub struct AgentLock(FileLock);

impl FileLock {
    /// Waits for the lock until `deadline`; a free lock is taken even after it.
    pub(super) fn wait(path: &Path, deadline: Deadline) -> Result<Self, StateError> {
        let started = Instant::now();
        let file = open(path)?;
        let granted = match try_exclusive(&file) {
            Ok(true) => Some(file),
            Ok(false) => exclusive_before(file, deadline).map_err(|source| lock_error(path, source))?,
            Err(source) => return Err(lock_error(path, source)),
        };
        match granted {
            Some(file) => Ok(Self { file, path: path.to_owned() }),
            None => Err(StateError::Locked { path: path.to_owned(), waited: started.elapsed() }),
        }
    }

    /// The lock if it is free right now.
    fn attempt(path: &Path) -> Result<Option<Self>, StateError> {
        let file = open(path)?;
        match try_exclusive(&file) {
            Ok(true) => Ok(Some(Self { file, path: path.to_owned() })),
            Ok(false) => Ok(None),
            Err(source) => Err(lock_error(path, source)),
        }
    }

    /// Whether `path` still leads to the locked file. A file that its last holder removed excludes
    /// nobody who opens the path now.
    fn in_place(&self) -> bool {
        in_place(&self.file, &self.path)
    }
}

impl PodLock {
    pub(super) fn wait(path: &Path, deadline: Deadline) -> Result<Self, StateError> {
        let started = Instant::now();
        loop {
            let lock = FileLock::wait(path, deadline)?;
            if lock.in_place() {
                crash::point(format_args!("pod lock: taken"));
                return Ok(Self(lock));
            }
            if deadline.passed() {
                return Err(StateError::Locked { path: path.to_owned(), waited: started.elapsed() });
            }
        }
    }

    /// `None` when somebody else holds the pod.
    pub(super) fn attempt(path: &Path) -> Result<Option<Self>, StateError> {
        loop {
            match FileLock::attempt(path)? {
                None => return Ok(None),
                Some(lock) if lock.in_place() => return Ok(Some(Self(lock))),
                // Its holder removed it between our open and our lock: so it is free, look again.
                Some(_) => {}
            }
        }
    }
}

impl Drop for PodLock {
    /// Removes the file while the lock is still held. Whoever waits on it wakes up with a file
    /// that is not in place any more and opens the path again.
    fn drop(&mut self) {
        crash::point(format_args!("pod lock: to be removed"));
        if self.0.in_place()
            && let Err(error) = fs::remove_file(&self.0.path)
        {
            log::warn!("cannot remove the lock file {}: {error}", self.0.path.display());
        }
        crash::point(format_args!("pod lock: removed"));
    }
}

/// What a living agent says of itself. Older ones say less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivingAgent {
    /// Empty when it does not say.
    pub version: String,
    /// Whether it puts right what is installed on the node, and so its own version of it.
    pub keeps_installation: bool,
}

/// A line of `agent.lock`, after the version's.
const KEEPS: &str = "keeps the installation";

impl LivingAgent {
    pub(super) fn said(content: &[u8]) -> Self {
        let text = String::from_utf8_lossy(content);
        let mut lines = text.lines();
        let version = lines.next().unwrap_or_default().to_owned();
        Self { version, keeps_installation: lines.any(|line| line == KEEPS) }
    }
}

impl AgentLock {
    /// Has the file say that this agent keeps the installation.
    pub fn note_keeping(&mut self) {
        let FileLock { file, path } = &mut self.0;
        if let Err(error) = write!(file, "\n{KEEPS}\n") {
            log::warn!("cannot note in {} that the agent keeps the installation: {error}", path.display());
        }
    }

    /// Waits even for a lock that no agent holds, because [`is_held`] takes it for a moment.
    /// The file then says which version holds it. One that cannot be written holds all the same.
    pub(super) fn wait(path: &Path, deadline: Deadline) -> Result<Self, StateError> {
        let mut lock = FileLock::wait(path, deadline).map(Self)?;
        let file = &mut lock.0.file;
        if let Err(error) = file.set_len(0).and_then(|()| file.write_all(env!("CARGO_PKG_VERSION").as_bytes())) {
            log::warn!("cannot note the agent's version in {}: {error}", path.display());
        }
        Ok(lock)
    }
}

/// Whether somebody holds the lock at `path`. A missing file is held by nobody, and neither is
/// one that cannot be asked about.
pub(super) fn is_held(path: &Path) -> bool {
    // Without O_NONBLOCK a FIFO in its place would hang every DEL of the node.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) else {
        return false;
    };
    // Shared, so that two processes that ask at once do not take each other for the holder.
    try_shared(&file).is_ok_and(|granted| !granted)
}

/// Whether `path` still leads to the open `file`.
pub(super) fn in_place(file: &File, path: &Path) -> bool {
    let (Ok(opened), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (opened.dev(), opened.ino()) == (there.dev(), there.ino())
}

fn open(path: &Path) -> Result<File, StateError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(|source| StateError::Write { path: path.to_owned(), source })
}

pub(super) fn lock_error(path: &Path, source: io::Error) -> StateError {
    StateError::Lock { path: path.to_owned(), source }
}

/// False when somebody else holds the lock.
pub(super) fn try_exclusive(file: &File) -> io::Result<bool> {
    granted(fs2::FileExt::try_lock_exclusive(file))
}

/// False when somebody else holds the lock alone.
pub(super) fn try_shared(file: &File) -> io::Result<bool> {
    granted(fs2::FileExt::try_lock_shared(file))
}

fn granted(outcome: io::Result<()>) -> io::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(refused) if refused.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(refused) => Err(refused),
    }
}

/// Blocks in the kernel on a thread of its own: with many waiters a try-and-sleep loop starves
/// some of them. `None` when the deadline came first.
fn exclusive_before(file: File, deadline: Deadline) -> io::Result<Option<File>> {
    let (granting, granted) = mpsc::sync_channel(1);
    thread::Builder::new().name("flock".into()).spawn(move || {
        let outcome = loop {
            match fs2::FileExt::lock_exclusive(&file) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        // When the waiter has given up, the file is dropped here and a late lock with it.
        let _ = granting.send(outcome.map(|()| file));
    })?;
    granted.recv_timeout(deadline.left()).ok().transpose()
}
