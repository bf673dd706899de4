//! Whether the agent does its work, for a probe: the last round went well and none is overdue.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The rounds of an agent, as they begin and end. Shared by reference between threads.
#[derive(Debug)]
pub struct Health {
    /// How long a round may take, and how long none may begin.
    patience: Duration,
    rounds: Mutex<Rounds>,
}

#[derive(Debug)]
struct Rounds {
    /// When the last round began or ended, or the agent did.
    since: Instant,
    running: bool,
    /// Why the last round that ended failed.
    failure: Option<String>,
}

impl Health {
    /// Healthy for now: the first round gets its time.
    pub fn new(patience: Duration) -> Self {
        let rounds = Rounds { since: Instant::now(), running: false, failure: None };
        Self { patience, rounds: Mutex::new(rounds) }
    }

    pub fn round_began(&self) {
        let mut rounds = self.rounds();
        (rounds.since, rounds.running) = (Instant::now(), true);
    }

    /// A failure stands, also while the next round runs, until a round goes well.
    pub fn round_ended(&self, outcome: Result<(), String>) {
        *self.rounds() = Rounds { since: Instant::now(), running: false, failure: outcome.err() };
    }

    /// # Errors
    /// What is wrong, in one line.
    pub fn verdict(&self) -> Result<(), String> {
        let rounds = self.rounds();
        let age = rounds.since.elapsed();
        if age > self.patience {
            let seconds = age.as_secs();
            return Err(match rounds.running {
                true => format!("the node's round has been running for {seconds} s"),
                false => format!("no round of the node has begun for {seconds} s"),
            });
        }
        match &rounds.failure {
            Some(failure) => Err(format!("the last round of the node failed: {}", on_one_line(failure))),
            None => Ok(()),
        }
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLE: Duration = Duration::from_secs(600);

    #[test]
    fn a_failure_stands_until_a_round_goes_well() {
        let health = Health::new(AMPLE);
        assert_eq!(health.verdict(), Ok(()), "the first round is awaited");
        health.round_began();
        assert_eq!(health.verdict(), Ok(()));
        health.round_ended(Err("state.json cannot\n be read".into()));
        let failed = Err("the last round of the node failed: state.json cannot be read".into());
        assert_eq!(health.verdict(), failed);
        health.round_began();
        assert_eq!(health.verdict(), failed);
        health.round_ended(Ok(()));
        assert_eq!(health.verdict(), Ok(()));
    }

    #[test]
    fn an_agent_that_hangs_or_rests_too_long_is_not_healthy() {
        let health = Health::new(Duration::ZERO);
        let verdict = || {
            std::thread::sleep(Duration::from_millis(1));
            health.verdict().unwrap_err()
        };
        assert_eq!(verdict(), "no round of the node has begun for 0 s");
        health.round_began();
        assert_eq!(verdict(), "the node's round has been running for 0 s");
        health.round_ended(Ok(()));
        assert_eq!(verdict(), "no round of the node has begun for 0 s");
    }
}
