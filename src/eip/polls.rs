//! When to look at the cloud again while it carries out a change: early enough for the pod that waits, and seldom enough for
//! the account, which may look 600 times a minute with all its nodes together.

use std::time::Duration;

use crate::deadline::Deadline;

/// The first pause where nothing is known. Binding takes seconds at best, but a fast answer must not wait for a slow look.
const FIRST: Duration = Duration::from_millis(200);

/// No pause is longer: by then nobody can say what the cloud is doing.
const SLOWEST: Duration = Duration::from_secs(2);

/// How much of the expected time goes by between the first looks around its end: what a pod waits too long at worst.
const STEP: f64 = 0.05;

/// A look takes about as long itself.
const FINEST: Duration = Duration::from_millis(40);

/// How much longer each pause is than the one before.
const GROWTH: f64 = 1.6;

/// The same around the end that is expected, where looks are most likely to see something.
const SLOW_GROWTH: f64 = 1.25;

/// Pauses between looks.
pub struct Polls {
    next: Duration,
    then: Duration,
    growth: f64,
}

impl Polls {
    /// Of a change that takes as long as it takes.
    pub fn new() -> Self {
        Self { next: FIRST, then: FIRST.mul_f64(GROWTH), growth: GROWTH }
    }

    /// Of one that was accepted just now and is not done before `least`, if that is known.
    pub fn expecting(least: Option<Duration>) -> Self {
        let Some(least) = least else { return Self::new() };
        let step = least.mul_f64(STEP).clamp(FINEST, FIRST);
        // What was seen last time was seen a little late.
        Self { next: least.saturating_sub(step / 2), then: step, growth: SLOW_GROWTH }
    }

    /// Sleeps until the next look. False when the deadline passed.
    pub fn pause(&mut self, deadline: Deadline) -> bool {
        deadline.sleep(self.step())
    }

    fn step(&mut self) -> Duration {
        let pause = self.next;
        self.next = self.then;
        self.then = self.then.mul_f64(self.growth).min(SLOWEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// When a change that takes `span` is seen, and by which look.
    fn seen(mut polls: Polls, span: Duration) -> (Duration, usize) {
        let mut at = Duration::ZERO;
        for look in 1.. {
            at += polls.step();
            if at >= span {
                return (at, look);
            }
        }
        unreachable!("looks go on for ever")
    }

    #[test]
    fn a_change_that_takes_as_long_as_the_last_one_is_seen_at_once() {
        for span in [300, 500, 1000, 2000, 5000, 10_000] {
            let (at, looks) = seen(Polls::expecting(Some(ms(span))), ms(span));
            assert!(at <= ms(span).mul_f64(1.03) + ms(20) && looks <= 2, "{span}: {at:?}, {looks} looks");
        }
    }

    #[test]
    fn one_that_takes_longer_costs_few_looks_and_is_not_seen_much_later() {
        for (least, span) in [(1000, 1500), (2000, 3000), (2000, 4000), (5000, 7000)] {
            let (at, looks) = seen(Polls::expecting(Some(ms(least))), ms(span));
            assert!(at <= ms(span).mul_f64(1.15) && looks <= 10, "{least}, {span}: {at:?}, {looks} looks");
        }
    }

    #[test]
    fn where_nothing_is_known_looks_thin_out() {
        let (at, looks) = seen(Polls::expecting(None), ms(10_000));
        assert!(at <= ms(12_000) && looks <= 9, "{at:?}, {looks} looks");
        assert_eq!(Polls::new().step(), FIRST);
    }
}
