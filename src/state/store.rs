//! The store: reads and changes `state.json`, and hands out the directory's locks.
//!
//! Reading takes no lock, because the file is only ever replaced as a whole. A change is one read
//! and at most one write under `state.lock`, which is never replaced and never held during a call.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::unistd::{AccessFlags, access};
use serde::Deserialize;
use sha1::{Digest, Sha1};

use super::format::{Attachment, StateFile, VERSION};
use super::lock::{self, AgentLock, FileLock, LivingAgent, PodLock};
use super::records::{Records, escapes_letters, surely_lacks};
use super::{LookNote, PaceNote, RivalNote, StateError, ThrottleNote, directory};
use crate::crash;
use crate::deadline::Deadline;

pub(super) const STATE_FILE: &str = "state.json";
const STATE_LOCK: &str = "state.lock";
const AGENT_LOCK: &str = "agent.lock";
const POD_LOCKS: &str = "pods";
const LOOK_NOTE: &str = "looked.json";
const LOOK_LOCK: &str = "looked.lock";
const PACE_NOTE: &str = "pace.json";
const RIVAL_NOTE: &str = "rival.json";
const THROTTLE_NOTE: &str = "throttle.json";
const LOCK_EXTENSION: &str = "lock";
/// A state file that did not parse is renamed to this and a time.
const CORRUPT_PREFIX: &str = "state.json.corrupt-";

/// How long a reader that found a broken file waits for the lock to set it aside. Holders keep
/// it for one read and one write.
const SETTING_ASIDE: Duration = Duration::from_secs(2);

/// The state directory of this node. Cheap to clone; holds no file open.
#[derive(Clone, Debug)]
pub struct Store {
    directory: Arc<Path>,
}

impl Store {
    /// The store in `directory`, which need not exist: it is created with mode 0700 by the first
    /// lock or write.
    ///
    /// # Errors
    /// [`StateError::Untrusted`] when the directory belongs to another user than the effective one
    /// or everybody may write to it, [`StateError::Read`] when it cannot be looked at.
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        let store = Self { directory: directory.into() };
        directory::exists(directory)?;
        Ok(store)
    }

    /// Whether attachments could be recorded at all. Writes nothing but a missing directory.
    ///
    /// # Errors
    /// [`StateError::Untrusted`], [`StateError::Read`] and [`StateError::Write`]. A full disk is not noticed.
    pub fn ensure_usable(&self) -> Result<(), StateError> {
        directory::create(&self.directory)?;
        access(&*self.directory, AccessFlags::W_OK | AccessFlags::X_OK)
            .map_err(|errno| StateError::Write { path: self.directory.to_path_buf(), source: errno.into() })?;
        // What it says is for the verbs that need it.
        self.open_file().map(drop)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// All attachments as of one moment, without a lock and without creating anything. No file or
    /// no directory means none.
    ///
    /// # Errors
    /// [`StateError::NewerVersion`], [`StateError::Read`] and [`StateError::Untrusted`];
    /// [`StateError::Corrupt`] once, after the broken file was set aside (this alone takes the lock).
    pub fn attachments(&self) -> Result<Vec<Attachment>, StateError> {
        let Some(content) = self.content()? else { return Ok(Vec::new()) };
        self.parse_or_set_aside(&content)
    }

    /// As [`Store::attachments`], for one who only looks: a broken file stays where it is.
    ///
    /// # Errors
    /// As [`Store::attachments`], with [`StateError::Broken`] in place of [`StateError::Corrupt`].
    pub fn inspect(&self) -> Result<Vec<Attachment>, StateError> {
        let Some(content) = self.content()? else { return Ok(Vec::new()) };
        self.parse(&content).map(|file| file.attachments).map_err(|unusable| match unusable {
            Unusable::Newer(refusal) => refusal,
            Unusable::Corrupt(reason) => StateError::Broken { path: self.path(STATE_FILE), reason },
        })
    }

    /// Those in which some value is `text` (a private IP, a container id), or all where only a reading of all tells.
    /// The file is searched and the others are not parsed, which is ten times quicker and more: however many
    /// attachments a node has, a pod without one hardly notices.
    ///
    /// # Errors
    /// As [`Store::attachments`], but [`StateError::NewerVersion`] only when the file names `text`, and
    /// [`StateError::Corrupt`] only when it is not whole or one of those records is broken.
    pub fn attachments_naming(&self, text: &str) -> Result<Vec<Attachment>, StateError> {
        self.attachments_naming_any(&[text])
    }

    /// As [`Store::attachments_naming`], with one of several texts.
    ///
    /// # Errors
    /// As [`Store::attachments_naming`].
    pub fn attachments_naming_any(&self, texts: &[&str]) -> Result<Vec<Attachment>, StateError> {
        if !directory::exists(&self.directory)? {
            return Ok(Vec::new());
        }
        let Some(mut file) = self.open_file()? else { return Ok(Vec::new()) };
        let needles: Vec<String> = texts.iter().map(|text| serde_json::Value::from(*text).to_string()).collect();
        let content = unless_lacking(&mut file, &needles).map_err(|source| self.read_error(source))?;
        let Some(content) = content else { return Ok(Vec::new()) };
        match Records::of(&content).and_then(|records| records.naming(&needles)) {
            Some(named) => Ok(named),
            None => self.parse_or_set_aside(&content).or_else(|error| match error {
                StateError::NewerVersion { .. } if lacks(&content, &needles) => Ok(Vec::new()),
                error => Err(error),
            }),
        }
    }

    /// Whether there is no attachment at all.
    ///
    /// # Errors
    /// As [`Store::attachments`].
    pub fn is_empty(&self) -> Result<bool, StateError> {
        let Some(content) = self.content()? else { return Ok(true) };
        match Records::of(&content) {
            Some(records) => Ok(records.is_empty()),
            None => self.parse_or_set_aside(&content).map(|all| all.is_empty()),
        }
    }

    fn content(&self) -> Result<Option<Vec<u8>>, StateError> {
        if directory::exists(&self.directory)? { self.read() } else { Ok(None) }
    }

    fn parse_or_set_aside(&self, content: &[u8]) -> Result<Vec<Attachment>, StateError> {
        match self.parse(content) {
            Ok(file) => Ok(file.attachments),
            Err(Unusable::Newer(refusal)) => Err(refusal),
            // Whether it is still there and still broken is certain only under the lock.
            Err(Unusable::Corrupt(_)) => {
                let _lock = self.lock(Deadline::after(SETTING_ASIDE))?;
                Ok(self.load()?.1.attachments)
            }
        }
    }

    /// Serialises the verbs of one pod name on this node; waits until `deadline`.
    ///
    /// # Errors
    /// [`StateError::Locked`], [`StateError::Lock`], [`StateError::Write`], [`StateError::Untrusted`].
    pub fn lock_pod(&self, namespace: &str, name: &str, deadline: Deadline) -> Result<PodLock, StateError> {
        PodLock::wait(&self.pod_lock_path(namespace, name)?, deadline)
    }

    /// The pod's lock if it is free, `None` while somebody else holds it.
    ///
    /// # Errors
    /// As [`Store::lock_pod`], without `Locked`.
    pub fn try_lock_pod(&self, namespace: &str, name: &str) -> Result<Option<PodLock>, StateError> {
        PodLock::attempt(&self.pod_lock_path(namespace, name)?)
    }

    /// Removes the lock files that killed processes left behind and returns how many. Living
    /// holders keep theirs.
    ///
    /// # Errors
    /// [`StateError::Read`], [`StateError::Lock`] and [`StateError::Write`].
    pub fn sweep_pod_locks(&self) -> Result<usize, StateError> {
        let mut removed = 0;
        for path in directory::entries(&self.path(POD_LOCKS))? {
            // Taking the lock and letting it go removes the file.
            if path.extension() == Some(LOCK_EXTENSION.as_ref()) && PodLock::attempt(&path)?.is_some() {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Says that an agent lives on this node, until the guard goes. Waits until `deadline` for
    /// another agent to go.
    ///
    /// # Errors
    /// As [`Store::lock_pod`].
    pub fn lock_agent(&self, deadline: Deadline) -> Result<AgentLock, StateError> {
        directory::create(&self.directory)?;
        AgentLock::wait(&self.path(AGENT_LOCK), deadline)
    }

    /// Whether an agent lives on this node, that is: somebody holds `agent.lock`.
    pub fn agent_alive(&self) -> bool {
        lock::is_held(&self.path(AGENT_LOCK))
    }

    /// The agent that lives on this node. `None`: none does.
    pub fn living_agent(&self) -> Option<LivingAgent> {
        let path = self.path(AGENT_LOCK);
        let said = lock::is_held(&path).then(|| directory::read_regular(&path).ok().flatten().unwrap_or_default())?;
        Some(LivingAgent::said(&said))
    }

    pub fn look_note(&self) -> LookNote {
        LookNote::new(self.path(LOOK_NOTE), self.path(LOOK_LOCK))
    }

    pub fn pace_note(&self) -> PaceNote {
        PaceNote::new(self.path(PACE_NOTE))
    }

    pub fn rival_note(&self) -> RivalNote {
        RivalNote::new(self.path(RIVAL_NOTE))
    }

    pub fn throttle_note(&self) -> ThrottleNote {
        ThrottleNote::new(self.path(THROTTLE_NOTE))
    }

    /// Whether attachments may have been forgotten: a file was set aside, or the directory has been
    /// used and there is none.
    ///
    /// # Errors
    /// [`StateError::Read`].
    pub fn may_have_lost(&self) -> Result<bool, StateError> {
        let used = self.path(STATE_LOCK).exists() && !self.path(STATE_FILE).exists();
        Ok(used || !self.set_aside()?.is_empty())
    }

    /// State files that were set aside because they did not parse, oldest first. They are never
    /// removed by podeip: each says that attachments may have been forgotten.
    ///
    /// # Errors
    /// [`StateError::Read`].
    pub fn set_aside(&self) -> Result<Vec<PathBuf>, StateError> {
        let mut found = directory::entries(&self.directory)?;
        found.retain(|path| directory::name_starts_with(path, CORRUPT_PREFIX));
        found.sort();
        Ok(found)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn lock(&self, deadline: Deadline) -> Result<FileLock, StateError> {
        directory::create(&self.directory)?;
        FileLock::wait(&self.path(STATE_LOCK), deadline)
    }

    fn pod_lock_path(&self, namespace: &str, name: &str) -> Result<PathBuf, StateError> {
        directory::create(&self.directory)?;
        let pods = self.path(POD_LOCKS);
        match directory::make(&pods, 0o700) {
            Ok(_) => Ok(pods.join(pod_lock_name(namespace, name))),
            Err(source) => Err(StateError::Write { path: pods, source }),
        }
    }

    /// The file's bytes, `None` when there is no file.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, StateError> {
        directory::read_regular(&self.path(STATE_FILE)).map_err(|source| self.read_error(source))
    }

    fn open_file(&self) -> Result<Option<File>, StateError> {
        directory::open_to_read(&self.path(STATE_FILE)).map_err(|source| self.read_error(source))
    }

    fn read_error(&self, source: io::Error) -> StateError {
        StateError::Read { path: self.path(STATE_FILE), source }
    }

    /// The file under the lock, as bytes (empty when there is none) and parsed. One that does not
    /// parse is set aside.
    pub(super) fn load(&self) -> Result<(Vec<u8>, StateFile), StateError> {
        let Some(content) = self.read()? else {
            return Ok((Vec::new(), StateFile { version: VERSION, attachments: Vec::new() }));
        };
        match self.parse(&content) {
            Ok(file) => Ok((content, file)),
            Err(Unusable::Newer(refusal)) => Err(refusal),
            Err(Unusable::Corrupt(reason)) => Err(self.set_file_aside(reason)),
        }
    }

    pub(super) fn parse(&self, content: &[u8]) -> Result<StateFile, Unusable> {
        match serde_json::from_slice::<StateFile>(content) {
            Ok(file) if file.version == VERSION => Ok(file),
            parsed => Err(self.why_unusable(content, parsed)),
        }
    }

    fn why_unusable(&self, content: &[u8], parsed: serde_json::Result<StateFile>) -> Unusable {
        #[derive(Deserialize)]
        struct Header {
            version: u64,
        }
        let known = VERSION;
        match (serde_json::from_slice(content), parsed) {
            // A newer file need not parse as ours beyond its version.
            (Ok(Header { version: found }), _) if found > known.into() => {
                Unusable::Newer(StateError::NewerVersion { path: self.path(STATE_FILE), found, known })
            }
            _ if content.is_empty() => Unusable::Corrupt("it is empty".into()),
            (_, Err(error)) => Unusable::Corrupt(error.to_string()),
            (_, Ok(file)) => Unusable::Corrupt(format!("there never was a version {}", file.version)),
        }
    }

    /// Renames the file out of the way and returns the report of it.
    fn set_file_aside(&self, reason: String) -> StateError {
        let path = self.path(STATE_FILE);
        let moved_to = self.path(&format!("{CORRUPT_PREFIX}{}", Timestamp::now().strftime("%Y%m%dT%H%M%S.%9fZ")));
        let moved = fs::rename(&path, &moved_to).and_then(|()| File::open(&self.directory)?.sync_all());
        crash::point(format_args!("{STATE_FILE}: set aside"));
        match moved {
            Ok(()) => StateError::Corrupt { path, moved_to, reason },
            Err(source) => StateError::Write { path: moved_to, source },
        }
    }

    pub(super) fn write_error(&self, name: &str, source: io::Error) -> StateError {
        StateError::Write { path: self.path(name), source }
    }
}

/// Why a state file cannot be used.
pub(super) enum Unusable {
    Newer(StateError),
    Corrupt(String),
}

/// The whole of `file`, `None` when it has none of `needles`.
fn unless_lacking(file: &mut File, needles: &[String]) -> io::Result<Option<Vec<u8>>> {
    if surely_lacks(file, needles)? {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut content)?;
    Ok(Some(content))
}

/// True only when no string in `content` is one of `needles`.
fn lacks(content: &[u8], needles: &[String]) -> bool {
    let found = |needle: &String| memchr::memmem::find(content, needle.as_bytes()).is_some();
    !escapes_letters(content) && !needles.iter().any(found)
}

/// A file name for any namespace and name; neither can contain the slash that separates them.
fn pod_lock_name(namespace: &str, name: &str) -> String {
    let digest = Sha1::digest(format!("{namespace}/{name}"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.{LOCK_EXTENSION}")
}
