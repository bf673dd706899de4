//! How long the cloud takes to bind and to unbind, shared by the podeip processes of this node so that they look when there
//! is something to see.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hint::Hint;

/// What the cloud takes its time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Bind,
    Unbind,
}

/// `pace.json` of the state directory.
#[derive(Clone, Debug)]
pub struct PaceNote(Hint);

/// In milliseconds.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spans {
    bind_ms: Option<u64>,
    unbind_ms: Option<u64>,
}

impl PaceNote {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(Hint::new(path, "how long the cloud takes"))
    }

    /// How long `change` is expected to take; `None` where nothing is known.
    pub fn expected(&self, change: Change) -> Option<Duration> {
        self.0.read::<Spans>().of(change).map(Duration::from_millis)
    }

    /// Has the next process expect that `change` takes `span`.
    pub fn expect(&self, change: Change, span: Duration) {
        let mut spans: Spans = self.0.read();
        *spans.of(change) = u64::try_from(span.as_millis()).ok();
        self.0.write(&spans);
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
        let path = directory.path().join("pace.json");
        let note = PaceNote::new(path.clone());
        assert_eq!(note.expected(Change::Unbind), None);
        note.expect(Change::Unbind, ms(700));
        note.expect(Change::Bind, ms(1900));
        assert_eq!([Change::Bind, Change::Unbind].map(|it| note.expected(it)), [Some(ms(1900)), Some(ms(700))]);
        for content in ["", "[]", r#"{"unbindMs": "x"}"#] {
            fs::write(&path, content).unwrap();
            assert_eq!(note.expected(Change::Unbind), None, "{content}");
        }
    }
}
