//! Which addresses of an ENI carried an EIP at the last look, shared by the podeip processes of this node: pods that start
//! at once look once or twice together, since the account may look only 600 times a minute with all its nodes.
//!
//! The note is a hint that only ever says "free": of the time shortly before, to one process for each address. That somebody
//! binds an EIP there meanwhile is possible after a look of one's own too, and the cloud then refuses the second.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::hint::Hint;
use super::lock::FileLock;
use crate::deadline::Deadline;
use crate::names::EniId;

/// A look takes some hundred milliseconds. Whoever hangs in one, or is throttled, keeps nobody waiting.
const PATIENCE: Duration = Duration::from_secs(1);

/// A look that began longer ago than this serves nobody any more.
const FRESH: SignedDuration = SignedDuration::from_secs(2);

/// `looked.json` of the state directory, and the lock of whoever looks.
#[derive(Clone, Debug)]
pub struct LookNote {
    hint: Hint,
    lock: PathBuf,
}

/// Dropping it lets the next one look.
#[must_use]
pub struct LookTurn(#[expect(dead_code, reason = "held")] FileLock);

/// When something happened, by both clocks: one of them can be set, the other begins anew when the node boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    wall: Timestamp,
    uptime_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Look {
    began: Moment,
    /// `None` is the ENI's primary address.
    occupied: Vec<Option<Ipv4Addr>>,
}

type Looks = BTreeMap<EniId, Look>;

impl Moment {
    pub fn now() -> Self {
        let uptime_ms = clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map_or(0, |time| time.tv_sec().saturating_mul(1000).saturating_add(time.tv_nsec() / 1_000_000));
        Self { wall: Timestamp::now(), uptime_ms }
    }

    /// Never after a boot, nor across a change of the clock.
    fn is_near(self, other: Self) -> bool {
        let apart = self.wall.duration_since(other.wall).abs();
        apart < FRESH && u128::from(self.uptime_ms.abs_diff(other.uptime_ms)) < FRESH.unsigned_abs().as_millis()
    }
}

impl LookNote {
    pub(super) fn new(path: PathBuf, lock: PathBuf) -> Self {
        Self { hint: Hint::new(path, "which addresses are free"), lock }
    }

    /// Waits, for a while, for whoever looks now. `None`: look all the same.
    pub fn turn(&self, deadline: Deadline) -> Option<LookTurn> {
        FileLock::wait(&self.lock, deadline.within(PATIENCE)).ok().map(LookTurn)
    }

    /// Whether a look of a moment ago saw no EIP on this address. Says so once: whoever asks is about to bind one there.
    pub fn take_free(&self, eni: &EniId, address: Ipv4Addr, primary: bool, now: Moment) -> bool {
        let mut looks: Looks = self.hint.read();
        let Some(look) = looks.get_mut(eni).filter(|look| look.began.is_near(now)) else { return false };
        if look.occupied.iter().any(|it| it.map_or(primary, |it| it == address)) {
            return false;
        }
        look.occupied.push(Some(address));
        self.hint.write(&looks)
    }

    /// Tells the others what a look that began then has seen.
    pub fn saw(&self, eni: &EniId, began: Moment, occupied: Vec<Option<Ipv4Addr>>) {
        let mut looks: Looks = self.hint.read();
        looks.retain(|_, look| look.began.is_near(began));
        looks.insert(eni.clone(), Look { began, occupied });
        self.hint.write(&looks);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FILE: &str = "looked.json";
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn at(wall_ms: i64, uptime_ms: i64) -> Moment {
        Moment { wall: Timestamp::from_millisecond(1_800_000_000_000 + wall_ms).unwrap(), uptime_ms }
    }

    fn note() -> (tempfile::TempDir, LookNote) {
        let directory = tempfile::tempdir().unwrap();
        let note = LookNote::new(directory.path().join(FILE), directory.path().join("looked.lock"));
        (directory, note)
    }

    #[test]
    fn a_look_serves_each_address_once_and_for_a_moment() {
        let (_directory, note) = note();
        let eni = EniId::new("eni-1");
        note.saw(&eni, at(500, 1500), vec![Some(Ipv4Addr::new(10, 0, 0, 6))]);
        for (now, why) in [
            (at(2500, 3500), "too late"),
            (at(600, 3600), "too late, and the clock was set back"),
            (at(-9000, 1600), "the clock was set back"),
            (at(600, 100_000), "another boot"),
        ] {
            assert!(!note.take_free(&eni, ADDRESS, false, now), "{why}");
        }
        assert!(!note.take_free(&EniId::new("eni-2"), ADDRESS, false, at(600, 1600)));
        assert!(note.take_free(&eni, ADDRESS, false, at(600, 1600)));
        assert!(!note.take_free(&eni, ADDRESS, false, at(600, 1600)), "somebody is about to bind there");
    }

    #[test]
    fn an_occupied_address_is_never_free() {
        let (_directory, note) = note();
        let eni = EniId::new("eni-1");
        note.saw(&eni, at(500, 1500), vec![None, Some(ADDRESS)]);
        assert!(!note.take_free(&eni, ADDRESS, false, at(600, 1600)));
        let other = Ipv4Addr::new(10, 0, 0, 7);
        assert!(!note.take_free(&eni, other, true, at(600, 1600)), "the primary one is taken");
        assert!(note.take_free(&eni, other, false, at(600, 1600)));
    }

    #[test]
    fn whoever_looks_too_long_is_not_waited_for() {
        let (_directory, note) = note();
        let first = note.turn(Deadline::after(Duration::from_secs(1)));
        assert!(first.is_some());
        assert!(note.turn(Deadline::after(Duration::from_millis(20))).is_none());
        drop(first);
        assert!(note.turn(Deadline::after(Duration::from_millis(20))).is_some());
    }

    #[test]
    fn a_broken_note_says_nothing_and_is_replaced() {
        let (directory, note) = note();
        let eni = EniId::new("eni-1");
        for content in ["", "[]", r#"{"eni-1": 1}"#] {
            fs::write(directory.path().join(FILE), content).unwrap();
            assert!(!note.take_free(&eni, ADDRESS, false, at(0, 0)), "{content}");
            note.saw(&eni, at(1, 1), Vec::new());
            assert!(note.take_free(&eni, ADDRESS, false, at(0, 0)));
        }
    }
}
