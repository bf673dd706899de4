//! When to look at the cloud again while it carries out a change: early enough for the pod that waits, and seldom enough for
//! the account, which may look 600 times a minute with all its nodes together.

use std::time::{Duration, Instant};

use crate::deadline::Deadline;

/// The first pause where nothing is known. Binding takes seconds at best, but a fast answer must not wait for a slow look.
const FIRST: Duration = Duration::from_millis(200);

/// No pause is longer where nobody can say any more what the cloud is doing.
const SLOWEST: Duration = Duration::from_secs(2);

/// How much of the expected time goes by between the first looks around its end: what a pod waits too long at worst.
const STEP: f64 = 0.05;

/// A look takes about as long itself.
const FINEST: Duration = Duration::from_millis(40);

/// How much longer each pause is than the one before.
const GROWTH: f64 = 1.5;

/// The same around the end that is expected, where looks are most likely to see something.
const SLOW_GROWTH: f64 = 1.25;

/// What was done by the look at the expected end may have been done before. The next process finds out.
const SOONER: f64 = 0.9;

/// No change is expected to take longer, whatever one of a bad hour took: the first look comes after half of it, and a
/// DEL has 15 s in all.
const LONGEST: Duration = Duration::from_secs(10);

/// Before the deadline there is a last look, and this is what it takes. Without it a change that was done long ago would
/// count as late.
pub const LAST_LOOK: Duration = Duration::from_millis(500);

/// Pauses between looks.
pub struct Polls {
    since: Instant,
    expected: Option<Duration>,
    pause: Duration,
    /// The last look, and when the one before began: it has seen nothing yet.
    looked: Option<Look>,
    unseen: Duration,
}

#[derive(Clone, Copy)]
struct Look {
    /// Counted from the start.
    began: Duration,
    /// Whether that was the expected end.
    at_end: bool,
}

impl Polls {
    /// Of a change that takes as long as it takes.
    pub fn new() -> Self {
        Self::expecting(None)
    }

    /// Of one that was accepted just now and is expected to take so long.
    pub fn expecting(expected: Option<Duration>) -> Self {
        let expected = expected.map(|it| it.min(LONGEST));
        Self { since: Instant::now(), expected, pause: FIRST, looked: None, unseen: Duration::ZERO }
    }

    /// Sleeps until the next look. False when the deadline passed.
    pub fn pause(&mut self, deadline: Deadline) -> bool {
        let (step, at_end) = self.step(self.since.elapsed());
        let in_time = deadline.sleep(sooner_than_late(step, deadline.left()));
        self.looks(Look { began: self.since.elapsed(), at_end });
        in_time
    }

    fn looks(&mut self, look: Look) {
        if let Some(before) = self.looked.replace(look) {
            self.unseen = before.began;
        }
    }

    /// How long the next change is to be expected to take, when the last look has seen that this one is done; `None`
    /// when there was no pause before it.
    pub fn learnt(&self) -> Option<Duration> {
        let Look { began, at_end } = self.looked?;
        Some(match self.expected {
            // The pauses were long by then: it may have been done long before.
            None => self.unseen + (began - self.unseen) / 2,
            Some(_) if at_end => began.mul_f64(SOONER),
            Some(_) => began,
        })
    }

    /// How long to wait at this time, and whether that ends when the change is expected to end.
    fn step(&mut self, passed: Duration) -> (Duration, bool) {
        match self.expected {
            Some(expected) => self.around(expected, passed),
            None => (self.widening(GROWTH), false),
        }
    }

    /// Half-way, in case the cloud has become faster; at the end; and from there on at short intervals.
    fn around(&mut self, expected: Duration, passed: Duration) -> (Duration, bool) {
        let to_half = (expected / 2).saturating_sub(passed);
        let to_end = expected.saturating_sub(passed);
        if to_half >= FIRST {
            return (to_half, false);
        }
        if !to_end.is_zero() {
            self.pause = expected.mul_f64(STEP).clamp(FINEST, FIRST);
            return (to_end, true);
        }
        (self.widening(if passed < expected * 3 / 2 { SLOW_GROWTH } else { GROWTH }), false)
    }

    fn widening(&mut self, growth: f64) -> Duration {
        let pause = self.pause;
        self.pause = pause.mul_f64(growth).min(SLOWEST);
        pause
    }
}

/// `step`, or less if no time for a look would be left.
fn sooner_than_late(step: Duration, left: Duration) -> Duration {
    match left.checked_sub(LAST_LOOK) {
        Some(until_last) if !until_last.is_zero() => step.min(until_last),
        _ => step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// When a change that takes `span` is seen, by which look, and what is learnt of that.
    fn seen(expected: Option<Duration>, span: Duration) -> (Duration, usize, Duration) {
        let mut polls = Polls::expecting(expected);
        let mut passed = Duration::ZERO;
        for look in 1.. {
            let (step, at_end) = polls.step(passed);
            passed += step;
            polls.looks(Look { began: passed, at_end });
            if passed >= span {
                return (passed, look, polls.learnt().unwrap());
            }
        }
        unreachable!("looks go on for ever")
    }

    /// The same, again and again, with what each learns of the one before.
    fn many(mut expected: Option<Duration>, span: Duration) -> Vec<(Duration, usize)> {
        let one = |_| {
            let (at, looks, learnt) = seen(expected, span);
            expected = Some(learnt);
            (at, looks)
        };
        (0..40).map(one).collect()
    }

    #[test]
    fn a_steady_cloud_is_looked_at_seldom_and_hardly_too_late() {
        for span in [300, 1000, 2000, 5000, 10_000] {
            let settled = &many(None, ms(span))[20..];
            let late = settled.iter().map(|(at, _)| *at - ms(span)).sum::<Duration>() / 20;
            let looks = settled.iter().map(|(_, looks)| looks).sum::<usize>() as f64 / 20.0;
            assert!(late <= ms(span).mul_f64(0.06) + ms(15) && looks <= 5.0, "{span}: {late:?} late, {looks} looks");
        }
    }

    #[test]
    fn a_cloud_that_has_become_faster_or_slower_is_followed() {
        for (expected, span) in [(8000, 500), (4000, 2500), (500, 6000), (2000, 3000)] {
            let followed = many(Some(ms(expected)), ms(span));
            let (first, looks) = followed[0];
            assert!(first <= ms(expected / 2).max(ms(span)).mul_f64(1.7) && looks <= 15, "{first:?}, {looks} looks");
            let (last, _) = followed[39];
            assert!(last <= ms(span).mul_f64(1.12) + ms(15), "{expected} to {span}: {last:?}");
        }
    }

    #[test]
    fn where_nothing_is_known_looks_thin_out() {
        let (at, looks, learnt) = seen(None, ms(10_000));
        assert!(at <= ms(12_000) && looks <= 9, "{at:?}, {looks} looks");
        assert!(learnt < at && learnt >= ms(9000), "{learnt:?}");
        assert_eq!(Polls::new().step(Duration::ZERO), (FIRST, false));
        assert_eq!(Polls::new().learnt(), None, "nothing was waited for");
    }

    #[test]
    fn an_hour_long_change_is_forgotten_by_the_next_one() {
        let (at, looks, learnt) = seen(Some(Duration::from_secs(3600)), ms(1000));
        assert!(at <= LONGEST / 2 && looks == 1 && learnt == at, "{at:?}, {looks} looks, {learnt:?}");
    }

    #[test]
    fn there_is_a_last_look_before_the_deadline() {
        for (step, left, waited) in
            [(5000, 2000, 1500), (5000, 6000, 5000), (300, 400, 300), (300, 500, 300), (300, 0, 300)]
        {
            assert_eq!(sooner_than_late(ms(step), ms(left)), ms(waited), "{step} of {left}");
        }
    }
}
