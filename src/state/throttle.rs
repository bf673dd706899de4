//! Which cloud calls were throttled lately, shared by the podeip processes of this node so that
//! they do not all knock at once.
//!
//! Nothing in the note can delay anybody by more than [`LONGEST`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::hint::Hint;

/// The first pause after a quiet time: long enough for a burst of a few calls to thin out.
const FIRST: Duration = Duration::from_millis(300);

/// The longest pause. The cloud's windows are 60 s, but a verb has that long in all.
const LONGEST: Duration = Duration::from_secs(5);

/// A pause that ended longer ago than this says nothing any more: the next one starts at [`FIRST`].
const QUIET: Duration = Duration::from_secs(30);

/// `throttle.json` of the state directory.
#[derive(Clone, Debug)]
pub struct ThrottleNote(Hint);

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Pauses(BTreeMap<String, Pause>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pause {
    until: Timestamp,
    length_ms: u64,
}

impl ThrottleNote {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(Hint::new(path, "which calls were throttled"))
    }

    /// How long to wait before `action` (an API's action name) is called: zero unless it was
    /// throttled just now, at most 5 s, and spread at random among those who ask.
    pub fn wait(&self, action: &str) -> Duration {
        self.0.read::<Pauses>().wait(action, Timestamp::now(), fastrand::f64())
    }

    /// Records that `action` was answered with throttling just now. Throttled again after having
    /// waited means a longer pause next time.
    pub fn throttled(&self, action: &str) {
        let mut pauses: Pauses = self.0.read();
        if pauses.lengthen(action, Timestamp::now()) {
            self.0.write(&pauses);
        }
    }
}

impl Pauses {
    /// `chance` in 0..1 places the caller somewhere within one pause after its end.
    pub fn wait(&self, action: &str, now: Timestamp, chance: f64) -> Duration {
        let Some(pause) = self.0.get(action) else { return Duration::ZERO };
        match pause.left(now) {
            Some(left) => (left + pause.length().mul_f64(chance)).min(LONGEST),
            None => Duration::ZERO,
        }
    }

    /// Starts the next pause of `action`, unless one is running: that one was begun by a call
    /// that went out together with this one. False when nothing changed.
    pub fn lengthen(&mut self, action: &str, now: Timestamp) -> bool {
        let length = match self.0.get(action) {
            Some(pause) if pause.left(now).is_some() => return false,
            Some(pause) if pause.ended_within(QUIET, now) => (pause.length() * 2).clamp(FIRST, LONGEST),
            _ => FIRST,
        };
        self.0.retain(|_, pause| pause.left(now).is_some() || pause.ended_within(QUIET, now));
        self.0.insert(action.to_owned(), Pause { until: now + length, length_ms: length.as_millis() as u64 });
        true
    }
}

impl Pause {
    fn length(&self) -> Duration {
        Duration::from_millis(self.length_ms).min(LONGEST)
    }

    /// What is left of the pause. `None` once it is over, and for an end that no pause can have:
    /// then the clock was set back, or the note is broken.
    fn left(&self, now: Timestamp) -> Option<Duration> {
        let left = Duration::try_from(self.until.duration_since(now)).ok()?;
        (!left.is_zero() && left <= LONGEST).then_some(left)
    }

    fn ended_within(&self, span: Duration, now: Timestamp) -> bool {
        let since = now.duration_since(self.until);
        since >= SignedDuration::ZERO && since.unsigned_abs() <= span
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ACTION: &str = "AllocateEipAddress";
    const FILE: &str = "throttle.json";

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    fn note() -> (tempfile::TempDir, ThrottleNote) {
        let directory = tempfile::tempdir().unwrap();
        let note = ThrottleNote::new(directory.path().join(FILE));
        (directory, note)
    }

    #[test]
    fn grows_only_when_a_pause_did_not_help() {
        let mut pauses = Pauses::default();
        let mut now = 0;
        let mut lengths = Vec::new();
        for _ in 0..7 {
            assert!(pauses.lengthen(ACTION, at(now)));
            // Others that were throttled in the same burst.
            assert!(!pauses.lengthen(ACTION, at(now + 1)));
            lengths.push(pauses.0[ACTION].length_ms);
            now += pauses.0[ACTION].length_ms as i64 + 10;
        }
        assert_eq!(lengths, [300, 600, 1200, 2400, 4800, 5000, 5000]);
        assert!(pauses.lengthen(ACTION, at(now + 60_000)));
        assert_eq!(pauses.0[ACTION].length_ms, 300, "a quiet time forgives");
    }

    #[test]
    fn waits_for_the_rest_of_the_pause_and_a_share_of_chance() {
        let mut pauses = Pauses::default();
        pauses.lengthen(ACTION, at(0));
        assert_eq!(pauses.wait(ACTION, at(100), 0.0), Duration::from_millis(200));
        assert_eq!(pauses.wait(ACTION, at(100), 0.5), Duration::from_millis(350));
        assert_eq!(pauses.wait(ACTION, at(300), 0.5), Duration::ZERO);
        assert_eq!(pauses.wait("ReleaseEipAddress", at(100), 0.5), Duration::ZERO);
        pauses.0.insert(ACTION.into(), Pause { until: at(5000), length_ms: 5000 });
        assert_eq!(pauses.wait(ACTION, at(1), 0.99), LONGEST);
    }

    #[test]
    fn forgets_actions_that_are_quiet() {
        let mut pauses = Pauses::default();
        pauses.lengthen("ReleaseEipAddress", at(0));
        pauses.lengthen(ACTION, at(60_000));
        assert_eq!(pauses.0.keys().collect::<Vec<_>>(), [ACTION]);
    }

    #[test]
    fn a_throttled_answer_is_seen_by_the_next_process() {
        let (_directory, note) = note();
        assert_eq!(note.wait(ACTION), Duration::ZERO);
        note.throttled(ACTION);
        let wait = note.clone().wait(ACTION);
        assert!(wait > Duration::ZERO && wait <= FIRST * 2, "{wait:?}");
    }

    #[test]
    fn an_old_future_or_broken_note_delays_nobody() {
        let (directory, note) = note();
        let never = serde_json::json!({ ACTION: { "until": "2999-01-01T00:00:00Z", "lengthMs": u64::MAX } });
        let past = serde_json::json!({ ACTION: { "until": "2020-01-01T00:00:00Z", "lengthMs": 5000 } });
        for content in [&never.to_string(), &past.to_string(), "", "{", "[]", "\u{0}"] {
            fs::write(directory.path().join(FILE), content).unwrap();
            assert_eq!(note.wait(ACTION), Duration::ZERO, "{content}");
            note.throttled(ACTION);
            assert!(note.wait(ACTION) > Duration::ZERO, "{content}: a new answer counts all the same");
        }
    }

    #[test]
    fn a_note_that_cannot_be_written_is_no_error() {
        let note = ThrottleNote::new("/proc/nowhere/throttle.json".into());
        note.throttled(ACTION);
        assert_eq!(note.wait(ACTION), Duration::ZERO);
    }
}
