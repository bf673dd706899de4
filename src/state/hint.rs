//! A few words that the podeip processes of a node leave each other in a file: read and written without a lock, and losing
//! them costs a call to the cloud or two.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bounded;
use crate::durable;

/// A file of the state directory. Whoever cannot write it goes on without.
#[derive(Clone, Debug)]
pub(super) struct Hint {
    path: PathBuf,
    /// Completes the sentence "cannot note in FILE …" of the log.
    about: &'static str,
}

impl Hint {
    pub fn new(path: PathBuf, about: &'static str) -> Self {
        Self { path, about }
    }

    /// What was noted last; the default when that is missing or not understood.
    pub fn read<T: DeserializeOwned + Default>(&self) -> T {
        bounded::read(&self.path).ok().and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default()
    }

    /// False when that failed. It is not flushed to the disk: nobody misses it after a crash of the node.
    pub fn write(&self, content: &impl Serialize) -> bool {
        let written = serde_json::to_vec(content)
            .map_err(Into::into)
            .and_then(|content| durable::replace_unsynced(&self.path, &content, 0o600));
        if let Err(error) = &written {
            log::warn!("cannot note in {} {}: {error}", self.path.display(), self.about);
        }
        written.is_ok()
    }
}
