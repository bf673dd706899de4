//! What one process measures: how long its stages took, and how its remote calls were answered.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The longest code that is kept as it is; the cloud's longest are about 50 characters.
const LONGEST_CODE: usize = 64;

/// What a code counts as that no service would answer with.
const ODD_CODE: &str = "Other";

/// The stages of an ADD. Some run side by side, so their times may add up to more than the verb's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Region and credentials.
    Credentials,
    /// Which ENI carries the pod's address.
    Eni,
    /// Buying the EIP, or finding the one that the pod already has.
    Allocate,
    /// Asking the cloud to bind it.
    Associate,
    /// Looking until the cloud shows it bound.
    Wait,
    /// PodEIP status, pod annotations, condition.
    Publish,
}

impl Stage {
    /// As the files and the metrics spell it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Credentials => "credentials",
            Stage::Eni => "eni",
            Stage::Allocate => "allocate",
            Stage::Associate => "associate",
            Stage::Wait => "wait",
            Stage::Publish => "publish",
        }
    }
}

/// How often each action was answered with each code.
pub type Calls = BTreeMap<String, BTreeMap<String, u64>>;

/// What was measured since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    pub stages: BTreeMap<Stage, Duration>,
    pub calls: Calls,
}

/// Adds up what the threads of a process measure.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Measured>);

impl Tally {
    /// A stage that is gone through twice counts with both times.
    pub fn stage(&self, stage: Stage, took: Duration) {
        *self.measured().stages.entry(stage).or_default() += took;
    }

    /// Does `work` as (a part of) `stage`.
    pub fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let outcome = work();
        self.stage(stage, began.elapsed());
        outcome
    }

    /// Counts one try of a remote call. `code` is what was answered (`OK`, the cloud's code, an HTTP
    /// status), or what is known instead (`Unanswered`, `NotSent`).
    pub fn call(&self, action: &str, code: &str) {
        let mut measured = self.measured();
        *measured.calls.entry(action.into()).or_default().entry(plain(code).into()).or_default() += 1;
    }

    /// Everything since the last time, and starts anew.
    pub fn take(&self) -> Measured {
        mem::take(&mut self.measured())
    }

    /// Whatever a thread that panicked was adding, the sums are whole.
    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A remote's code is written down only if it looks like one: it ends up in files and metrics.
fn plain(code: &str) -> &str {
    let expected = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let usual = !code.is_empty() && code.len() <= LONGEST_CODE && code.chars().all(expected);
    if usual { code } else { ODD_CODE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn adds_up_over_threads_and_starts_anew_when_taken() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    tally.stage(Stage::Wait, MS(10));
                    tally.call("AllocateEipAddress", "OK");
                });
            }
        });
        tally.call("AllocateEipAddress", "Throttling.User");
        tally.call("patch podeips/status", "409");
        let measured = tally.take();
        assert_eq!(measured.stages, BTreeMap::from([(Stage::Wait, MS(80))]));
        let count = |action: &str, code: &str| measured.calls[action].get(code).copied();
        assert_eq!(count("AllocateEipAddress", "OK"), Some(8));
        assert_eq!(count("AllocateEipAddress", "Throttling.User"), Some(1));
        assert_eq!(count("patch podeips/status", "409"), Some(1));
        assert_eq!(tally.take(), Measured::default());
    }

    #[test]
    fn times_what_it_does_and_hands_on_what_came_of_it() {
        let tally = Tally::default();
        let outcome: Result<(), &str> = tally.time(Stage::Eni, || {
            std::thread::sleep(MS(5));
            Err("no ENI")
        });
        assert_eq!(outcome, Err("no ENI"));
        assert!(tally.take().stages[&Stage::Eni] >= MS(5), "a stage that failed took its time too");
    }

    #[test]
    fn a_panic_elsewhere_spoils_nothing() {
        let tally = Tally::default();
        tally.call("ReleaseEipAddress", "OK");
        let panicked = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _held = tally.0.lock().unwrap();
                    panic!("while it holds the lock");
                })
                .join()
        });
        assert!(panicked.is_err() && tally.0.is_poisoned());
        tally.call("ReleaseEipAddress", "OK");
        assert_eq!(tally.take().calls["ReleaseEipAddress"]["OK"], 2);
    }

    #[test]
    fn what_is_no_code_is_not_written_down() {
        let tally = Tally::default();
        for odd in ["", "<html>", "two words", "a\"b", "弹性", &"x".repeat(LONGEST_CODE + 1)] {
            tally.call("DescribeEipAddresses", odd);
        }
        let usual = ["InvalidAllocationId.NotFound", "500", &"x".repeat(LONGEST_CODE)];
        usual.iter().for_each(|code| tally.call("DescribeEipAddresses", code));
        let codes = tally.take().calls.remove("DescribeEipAddresses").unwrap();
        assert_eq!(codes.get(ODD_CODE), Some(&6));
        assert!(usual.iter().all(|code| codes.get(*code) == Some(&1)), "{codes:?}");
    }

    #[test]
    fn stages_are_spelt_alike_everywhere() {
        use Stage::*;
        for stage in [Credentials, Eni, Allocate, Associate, Wait, Publish] {
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.name());
        }
    }
}
