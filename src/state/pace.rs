//! How long the cloud takes to bind and to unbind, shared by the podeip processes of this node so that they look when there
//! is something to see.
//!
//! The note is a hint: it is read and written without a lock, and what is lost costs some looks.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::durable;

/// What the cloud takes its time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Bind,
    Unbind,
}

/// `pace.json` of the state directory.
#[derive(Clone, Debug)]
pub struct PaceNote {
    path: PathBuf,
}

/// In milliseconds.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spans {
    bind_ms: Option<u64>,
    unbind_ms: Option<u64>,
}

impl PaceNote {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// How long `change` is expected to take; `None` where nothing is known.
    pub fn expected(&self, change: Change) -> Option<Duration> {
        self.read().of(change).map(Duration::from_millis)
    }

    /// Has the next process expect that `change` takes `span`.
    pub fn expect(&self, change: Change, span: Duration) {
        let mut spans = self.read();
        *spans.of(change) = u64::try_from(span.as_millis()).ok();
        let written = serde_json::to_vec(&spans)
            .map_err(Into::into)
            .and_then(|content| durable::replace_unsynced(&self.path, &content, 0o600));
        if let Err(error) = written {
            log::warn!("cannot note in {} how long the cloud takes: {error}", self.path.display());
        }
    }

    /// The note, empty when it is missing or not understood.
    fn read(&self) -> Spans {
        bounded::read(&self.path).ok().and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default()
    }
}

impl Spans {
    fn of(&mut self, change: Change) -> &mut Option<u64> {
        match change {
            Change::Bind => &mut self.bind_ms,
            Change::Unbind => &mut self.unbind_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_is_noted_is_expected_and_a_broken_note_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let note = PaceNote::new(directory.path().join("pace.json"));
        assert_eq!(note.expected(Change::Unbind), None);
        note.expect(Change::Unbind, ms(700));
        note.expect(Change::Bind, ms(1900));
        assert_eq!([Change::Bind, Change::Unbind].map(|it| note.expected(it)), [Some(ms(1900)), Some(ms(700))]);
        for content in ["", "[]", r#"{"unbindMs": "x"}"#] {
            fs::write(&note.path, content).unwrap();
            assert_eq!(note.expected(Change::Unbind), None, "{content}");
        }
    }
}
