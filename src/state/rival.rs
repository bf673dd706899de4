//! `rival.json`: which other EIP feature of the cluster the agent found active.
//!
//! ADD has no time to look for one itself, so the agent leaves word here. The note is written and
//! read without a lock: there is one agent, and it replaces the file as a whole.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{StateError, directory};
use crate::durable;

/// A system that gives pods EIPs as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RivalSystem {
    #[serde(rename = "ack-extend-network-controller")]
    AckExtend,
    Terway,
}

impl fmt::Display for RivalSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RivalSystem::AckExtend => "ack-extend-network-controller",
            RivalSystem::Terway => "Terway",
        })
    }
}

/// A rival, and what gave it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    pub who: RivalSystem,
    /// To be read by people.
    pub how: String,
}

/// What the file holds. Unknown fields are passed over, so that a newer agent may say more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rival {
    #[serde(flatten)]
    pub sighting: Sighting,
    /// When it was first seen in this way.
    pub since: Timestamp,
}

/// `rival.json` of the state directory.
#[derive(Clone, Debug)]
pub struct RivalNote {
    path: PathBuf,
}

impl RivalNote {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The rival, `None` when the agent saw none or never looked. Creates nothing.
    ///
    /// # Errors
    /// [`StateError::Read`], also for a file that is not understood: taking it for none would risk a
    /// second EIP for the pod.
    pub fn read(&self) -> Result<Option<Rival>, StateError> {
        let failed = |source| StateError::Read { path: self.path.clone(), source };
        let Some(content) = directory::read_regular(&self.path).map_err(failed)? else { return Ok(None) };
        let rival = serde_json::from_slice(&content);
        rival.map(Some).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    /// Notes that it is active; says whether that is news. What is noted already stays as it is, with its time.
    ///
    /// # Errors
    /// [`StateError::Untrusted`] and [`StateError::Write`].
    pub fn record(&self, sighting: &Sighting, now: Timestamp) -> Result<bool, StateError> {
        // One that cannot be read is to be replaced.
        if let Ok(Some(noted)) = self.read()
            && noted.sighting == *sighting
        {
            return Ok(false);
        }
        if let Some(parent) = self.path.parent() {
            directory::create(parent)?;
        }
        let rival = Rival { sighting: sighting.clone(), since: now };
        let written = serde_json::to_vec(&rival)
            .map_err(Into::into)
            .and_then(|content| durable::replace(&self.path, &content, 0o600));
        written.map_err(|source| StateError::Write { path: self.path.clone(), source })?;
        Ok(true)
    }

    /// Notes that there is no rival any more; says whether there was one.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn clear(&self) -> Result<bool, StateError> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StateError::Write { path: self.path.clone(), source: error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HOW: &str = "enable_eip_pool is true in kube-system/eni-config";

    fn note() -> (tempfile::TempDir, RivalNote) {
        let directory = tempfile::tempdir().unwrap();
        let note = RivalNote::new(directory.path().join("state/rival.json"));
        (directory, note)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn sighting(who: RivalSystem) -> Sighting {
        Sighting { who, how: HOW.into() }
    }

    #[test]
    fn a_rival_is_noted_until_it_is_gone() {
        let (_directory, note) = note();
        let (terway, ack_extend) = (sighting(RivalSystem::Terway), sighting(RivalSystem::AckExtend));
        assert_eq!(note.read().unwrap(), None);
        assert!(!note.clear().unwrap());
        assert!(!note.path.parent().unwrap().exists(), "reading and clearing create nothing");

        assert!(note.record(&terway, at(0)).unwrap());
        assert_eq!(note.read().unwrap(), Some(Rival { sighting: terway.clone(), since: at(0) }));
        assert_eq!(note.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        assert!(!note.record(&terway, at(60)).unwrap());
        assert_eq!(note.read().unwrap().unwrap().since, at(0), "the same rival is not noted anew");
        assert!(note.record(&ack_extend, at(120)).unwrap());
        assert_eq!(note.read().unwrap(), Some(Rival { sighting: ack_extend, since: at(120) }));

        assert!(note.clear().unwrap());
        assert_eq!(note.read().unwrap(), None);
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_is_written_over() {
        let (_directory, note) = note();
        fs::create_dir(note.path.parent().unwrap()).unwrap();
        for content in ["", "{", "[]", r#"{"who": "Someone", "how": "x", "since": "2026-01-01T00:00:00Z"}"#] {
            fs::write(&note.path, content).unwrap();
            let error = note.read().unwrap_err().to_string();
            assert!(error.contains("rival.json") && error.contains("remove it"), "{error}");
        }
        note.record(&sighting(RivalSystem::AckExtend), at(0)).unwrap();
        assert_eq!(note.read().unwrap().unwrap().sighting.who, RivalSystem::AckExtend);
        fs::write(&note.path, r#"{"who": "Terway", "how": "x", "since": "2026-01-01T00:00:00Z", "later": 1}"#).unwrap();
        assert_eq!(note.read().unwrap().unwrap().sighting.who, RivalSystem::Terway);
    }

    #[test]
    fn something_in_the_files_place_is_an_error() {
        let (_directory, note) = note();
        fs::create_dir_all(&note.path).unwrap();
        assert!(matches!(note.read(), Err(StateError::Read { .. })));
        assert!(matches!(note.clear(), Err(StateError::Write { .. })));
        assert!(matches!(note.record(&sighting(RivalSystem::Terway), at(0)), Err(StateError::Write { .. })));
    }
}
