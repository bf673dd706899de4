//! How long the cloud took lately to bind and to unbind, shared by the podeip processes of this node so that they look when
//! there is something to see.
//!
//! The note is a hint: it is read and written without a lock, and what is lost costs some looks.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::durable;

/// So many of the last ones count. A cloud that has become slower is believed after as many.
const KEPT: usize = 8;

/// One that is as near to what was expected teaches nothing, and is not written: most are.
const NEAR: f64 = 0.1;

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

/// Milliseconds, the oldest first.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Spans {
    bind: Vec<u64>,
    unbind: Vec<u64>,
}

impl PaceNote {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The least that `change` took lately; `None` where nothing is known.
    pub fn expected(&self, change: Change) -> Option<Duration> {
        self.read().expected(change)
    }

    /// Records that `change` was done `span` after it had been accepted.
    pub fn took(&self, change: Change, span: Duration) {
        let mut spans = self.read();
        if !spans.learn(change, span) {
            return;
        }
        let written = serde_json::to_vec(&spans)
            .map_err(Into::into)
            .and_then(|content| durable::replace(&self.path, &content, 0o600));
        if let Err(error) = written {
            log::warn!("cannot note in {} how long the cloud took: {error}", self.path.display());
        }
    }

    /// The note, empty when it is missing or not understood.
    fn read(&self) -> Spans {
        fs::read(&self.path).ok().and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default()
    }
}

impl Spans {
    fn expected(&self, change: Change) -> Option<Duration> {
        let spans = match change {
            Change::Bind => &self.bind,
            Change::Unbind => &self.unbind,
        };
        spans.iter().min().map(|least| Duration::from_millis(*least))
    }

    /// False when it is no news.
    fn learn(&mut self, change: Change, span: Duration) -> bool {
        let near = |expected: Duration| span.abs_diff(expected) <= expected.mul_f64(NEAR);
        if self.expected(change).is_some_and(near) {
            return false;
        }
        let spans = match change {
            Change::Bind => &mut self.bind,
            Change::Unbind => &mut self.unbind,
        };
        spans.push(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        spans.drain(..spans.len().saturating_sub(KEPT));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_least_of_the_last_ones_is_expected() {
        let mut spans = Spans::default();
        assert_eq!(spans.expected(Change::Bind), None);
        for (span, news, expected) in [(2000, true, 2000), (2150, false, 2000), (3000, true, 2000), (1000, true, 1000)]
        {
            assert_eq!(spans.learn(Change::Bind, ms(span)), news, "{span}");
            assert_eq!(spans.expected(Change::Bind), Some(ms(expected)), "{span}");
        }
        for _ in 0..KEPT {
            spans.learn(Change::Bind, ms(5000));
        }
        assert_eq!((spans.bind.len(), spans.expected(Change::Bind)), (KEPT, Some(ms(5000))));
        assert_eq!(spans.expected(Change::Unbind), None);
    }

    #[test]
    fn a_note_that_is_missing_or_broken_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let note = PaceNote::new(directory.path().join("pace.json"));
        assert_eq!(note.expected(Change::Unbind), None);
        note.took(Change::Unbind, ms(700));
        assert_eq!(note.expected(Change::Unbind), Some(ms(700)));
        for content in ["", "[]", r#"{"unbind": ["x"]}"#] {
            fs::write(&note.path, content).unwrap();
            assert_eq!(note.expected(Change::Unbind), None, "{content}");
        }
    }
}
