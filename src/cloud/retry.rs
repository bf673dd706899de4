//! When a failed call is sent again: by what is known about the failure, never blindly. Pure.
//!
//! Not sent: again. Sent and unanswered: again, because every call of ours is a read, carries a
//! ClientToken or changes nothing the second time. Answered: by class. Time is bounded by the
//! caller's deadline; the numbers of tries below bound callers whose deadline is far away.

use std::time::Duration;

use super::class::Class;

/// Why a call may be sent again when its outcome is unknown. There is no variant for a call that
/// may not: none of ours is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changes nothing.
    Read,
    /// It carries a ClientToken, which stays the same over all tries.
    Tokened,
    /// Doing it twice is doing it once (release, tags).
    Idempotent,
}

/// Reads answer within a second; one that does not is better asked anew.
const READ_TRY: Duration = Duration::from_secs(6);

/// Allocations have been seen to take seconds, and giving up on one early costs a
/// `LastTokenProcessing` round; the SDKs wait 16 s, which a 15 s DEL cannot.
const WRITE_TRY: Duration = Duration::from_secs(10);

/// Below this a try is not split in two: half of it would hardly see an answer.
const LEAST_TRY: Duration = Duration::from_secs(1);

/// With less time than this no answer would be seen, and a change that was asked for all the same
/// would come about behind the back of whoever recovers from it.
const LEAST_CHANGE: Duration = Duration::from_millis(300);

/// Whether a call is worth sending when `left` remains.
pub(super) fn worth_sending(effect: Effect, left: Duration) -> bool {
    if effect == Effect::Read { !left.is_zero() } else { left >= LEAST_CHANGE }
}

/// How long one try may take when `left` remains: never so long that a hanging first try leaves
/// no time for a second.
pub(super) fn try_budget(effect: Effect, left: Duration) -> Duration {
    let longest = if effect == Effect::Read { READ_TRY } else { WRITE_TRY };
    if left < 2 * LEAST_TRY { left } else { longest.min(left / 2) }
}

/// How much of a wait for other processes' sake is worth waiting: one try must still fit.
pub(super) fn courtesy(wait: Duration, left: Duration) -> Duration {
    wait.min(left.saturating_sub(LEAST_TRY))
}

/// Growing pauses with an end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub first: Duration,
    pub factor: f64,
    pub longest: Duration,
    /// Pauses in all.
    pub pauses: u32,
}

impl Backoff {
    /// The pause after `earlier` pauses, or none when it is enough. `roll` in 0..1 spreads callers
    /// that failed together over the upper half of the pause.
    pub fn pause(&self, earlier: u32, roll: f64) -> Option<Duration> {
        if earlier >= self.pauses {
            return None;
        }
        let grown = self.first.as_secs_f64() * self.factor.powi(earlier as i32);
        let whole = grown.min(self.longest.as_secs_f64());
        Some(Duration::from_secs_f64(whole * (0.5 + roll / 2.0)))
    }
}

/// A connection that fails now often works a moment later (a node that just booted, DNS).
const NOT_SENT: Backoff =
    Backoff { first: Duration::from_millis(200), factor: 2.0, longest: Duration::from_secs(3), pauses: 7 };

/// The effect may be there already; the same token finds out.
const UNANSWERED: Backoff =
    Backoff { first: Duration::from_millis(200), factor: 2.0, longest: Duration::from_secs(3), pauses: 7 };

/// A server in trouble is not helped by haste.
const TROUBLE: Backoff =
    Backoff { first: Duration::from_millis(500), factor: 2.0, longest: Duration::from_secs(5), pauses: 7 };

/// The cloud counts calls in windows of 60 s, so pauses soon become seconds.
const THROTTLED: Backoff =
    Backoff { first: Duration::from_millis(1500), factor: 1.7, longest: Duration::from_secs(10), pauses: 10 };

/// The first request with our token is still at work: it ends within seconds.
const IN_FLIGHT: Backoff =
    Backoff { first: Duration::from_millis(500), factor: 1.5, longest: Duration::from_secs(3), pauses: 15 };

/// What to do after a failed try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// Send it again after this pause.
    Again(Duration),
    /// Get new credentials past every cache, then send it again.
    Renew,
    /// Hand the failure to the caller.
    Stop,
}

/// What happened to one call so far.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    tries: u32,
    not_sent: u32,
    unanswered: u32,
    trouble: u32,
    throttled: u32,
    in_flight: u32,
    renewed: bool,
    clock: bool,
    outcome_unknown: bool,
}

impl Attempts {
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Sticky: a later refusal may have come before the cloud looked at the token.
    pub fn outcome_unknown(&self) -> bool {
        self.outcome_unknown
    }

    /// Notes that a try ended with `class` and decides. `roll` in 0..1 is the jitter.
    pub fn failed(&mut self, class: Class, effect: Effect, roll: f64) -> Next {
        self.tries += 1;
        let maybe_done = matches!(class, Class::Unanswered | Class::ServerTrouble | Class::TokenInFlight);
        self.outcome_unknown |= maybe_done && effect != Effect::Read;
        match class {
            Class::NotSent => again(&NOT_SENT, &mut self.not_sent, roll),
            Class::Unanswered => again(&UNANSWERED, &mut self.unanswered, roll),
            Class::ServerTrouble => again(&TROUBLE, &mut self.trouble, roll),
            // What is in the way of a mere look goes by.
            Class::Conflict if effect == Effect::Read => again(&TROUBLE, &mut self.trouble, roll),
            Class::Throttled => again(&THROTTLED, &mut self.throttled, roll),
            Class::TokenInFlight => again(&IN_FLIGHT, &mut self.in_flight, roll),
            Class::CredentialExpired | Class::CredentialWrong if !std::mem::replace(&mut self.renewed, true) => {
                Next::Renew
            }
            Class::Clock if !std::mem::replace(&mut self.clock, true) => Next::Again(Duration::ZERO),
            _ => Next::Stop,
        }
    }
}

fn again(backoff: &Backoff, earlier: &mut u32, roll: f64) -> Next {
    let pause = backoff.pause(*earlier, roll);
    *earlier += 1;
    pause.map_or(Next::Stop, Next::Again)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn pauses_grow_are_spread_and_end() {
        let backoff = Backoff { first: S(1), factor: 2.0, longest: S(3), pauses: 3 };
        assert_eq!(backoff.pause(0, 0.0), Some(Duration::from_millis(500)));
        assert_eq!(backoff.pause(0, 1.0), Some(S(1)));
        assert_eq!(backoff.pause(1, 1.0), Some(S(2)));
        assert_eq!(backoff.pause(2, 1.0), Some(S(3)));
        assert_eq!(backoff.pause(3, 1.0), None);
    }

    #[test]
    fn a_hanging_try_leaves_time_for_another() {
        assert_eq!(try_budget(Effect::Tokened, S(60)), WRITE_TRY);
        assert_eq!(try_budget(Effect::Idempotent, S(15)), Duration::from_millis(7500));
        assert_eq!(try_budget(Effect::Read, S(60)), READ_TRY);
        assert_eq!(try_budget(Effect::Read, S(2)), S(1));
        assert_eq!(try_budget(Effect::Tokened, Duration::from_millis(1900)), Duration::from_millis(1900));
    }

    #[test]
    fn courtesy_always_leaves_one_try() {
        assert_eq!(courtesy(S(5), S(60)), S(5));
        assert_eq!(courtesy(S(5), S(3)), S(2));
        assert_eq!(courtesy(S(5), Duration::from_millis(500)), Duration::ZERO);
    }

    #[test]
    fn what_is_repeated_and_what_is_the_callers_matter() {
        use Class::*;
        let next = |class| Attempts::default().failed(class, Effect::Tokened, 1.0);
        for class in [NotSent, Unanswered, ServerTrouble, Throttled, TokenInFlight] {
            assert!(matches!(next(class), Next::Again(pause) if !pause.is_zero()), "{class:?}");
        }
        assert_eq!(next(Clock), Next::Again(Duration::ZERO));
        assert_eq!(next(CredentialExpired), Next::Renew);
        assert_eq!(next(CredentialWrong), Next::Renew);
        for class in [
            Conflict,
            TokenMisuse,
            Gone,
            TargetGone,
            Quota,
            Stock,
            Money,
            Permission,
            BadCall,
            AlreadyBound,
            AlreadyInPackage,
            NotInPackage,
            Unfit,
            Locked,
            NoCredentials,
            Other,
        ] {
            assert_eq!(next(class), Next::Stop, "{class:?}");
        }
    }

    #[test]
    fn credentials_and_nonces_get_one_more_chance_each() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.failed(Class::CredentialExpired, Effect::Read, 0.5), Next::Renew);
        assert_eq!(attempts.failed(Class::Clock, Effect::Read, 0.5), Next::Again(Duration::ZERO));
        assert_eq!(attempts.failed(Class::CredentialWrong, Effect::Read, 0.5), Next::Stop);
        assert_eq!(attempts.failed(Class::Clock, Effect::Read, 0.5), Next::Stop);
        assert_eq!(attempts.tries(), 4);
    }

    #[test]
    fn repeats_end_even_without_a_deadline() {
        for class in [Class::NotSent, Class::Unanswered, Class::ServerTrouble, Class::Throttled, Class::TokenInFlight] {
            let mut attempts = Attempts::default();
            while attempts.failed(class, Effect::Tokened, 0.0) != Next::Stop {
                assert!(attempts.tries() < 100, "{class:?}");
            }
        }
    }

    #[test]
    fn an_unknown_outcome_stays_unknown() {
        let after = |classes: &[Class], effect| {
            let mut attempts = Attempts::default();
            for class in classes {
                attempts.failed(*class, effect, 0.0);
            }
            attempts.outcome_unknown()
        };
        assert!(after(&[Class::Unanswered, Class::NotSent], Effect::Tokened));
        assert!(after(&[Class::Unanswered, Class::Conflict], Effect::Tokened));
        assert!(after(&[Class::ServerTrouble], Effect::Idempotent));
        assert!(after(&[Class::TokenInFlight, Class::Throttled], Effect::Tokened));
        assert!(!after(&[Class::NotSent, Class::Throttled, Class::Quota], Effect::Tokened));
        assert!(!after(&[Class::Unanswered, Class::ServerTrouble], Effect::Read));
    }
}
