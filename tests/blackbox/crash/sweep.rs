//! Killing podeip at every remote call of a verb, on each side of the call's effect.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podeip_sim::calls::Call;
use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Gate, Moment, Outcome};

use crate::scene::Answer;
use crate::stage::Stage;

/// Points in work at once; nearly all of their time is waiting for the simulated cloud.
const AT_ONCE: usize = 10;

/// The longest a verb runs; its own deadline is 60 s.
const VERB_TIME: Duration = Duration::from_secs(75);

/// The last answer of a verb that has ended is noted within microseconds.
const LAST_ANSWER: Duration = Duration::from_secs(5);

const MOMENTS: [Moment; 3] = [Moment::BeforeEffect, Moment::AfterEffect, Moment::AfterAnswer];

/// One crash test, carried out at every remote call of a verb, each time in a world of its own.
pub struct Sweep<'a> {
    pub verb: &'static str,
    /// The names of the calls to sweep; empty for all of them.
    pub only: &'a [&'a str],
    /// Builds the world and everything up to the verb.
    pub prepare: &'a (dyn Fn() -> Stage + Sync),
    /// What comes after the crash, and what must be true then.
    pub recover: &'a (dyn Fn(&Stage) + Sync),
}

/// Which calls were crashed at.
pub struct Swept {
    pub points: usize,
    pub names: BTreeSet<String>,
}

/// The verb dies at its `nth` call of this name (1 is the first). Calls that run side by side arrive
/// in any order, so a number over all calls would not say which one it is.
#[derive(Clone, Debug)]
struct Point {
    call: String,
    nth: u32,
    moment: Moment,
}

impl Sweep<'_> {
    /// The calls are those that an undisturbed verb makes, so new ones are swept by themselves.
    pub fn run(&self) -> Swept {
        let mut calls = self.rehearse();
        calls.retain(|(call, _)| self.only.is_empty() || self.only.contains(&call.as_str()));
        let of_call =
            |(call, nth): &(String, u32)| MOMENTS.map(|moment| Point { call: call.clone(), nth: *nth, moment });
        let points: Vec<Point> = calls.iter().flat_map(of_call).collect();
        let next = AtomicUsize::new(0);
        let reached = Mutex::new(Vec::new());
        let work = || {
            while let Some(point) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
                if self.one(point) {
                    reached.lock().unwrap().push(point);
                }
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            let failed = workers.into_iter().filter_map(|worker| worker.join().err()).count();
            assert_eq!(failed, 0, "{failed} points of this sweep failed; each is named above");
        });
        let reached = reached.into_inner().unwrap();
        // How often a verb polls differs from run to run; that it makes a call at all does not.
        for point in points.iter().filter(|point| point.nth == 1) {
            assert!(reached.iter().any(|it| std::ptr::eq(*it, point)), "{} never came to {point:?}", self.verb);
        }
        let names: BTreeSet<String> = reached.iter().map(|point| point.call.clone()).collect();
        println!("{}: killed at {} of {} points, in {names:?}", self.verb, reached.len(), points.len());
        Swept { points: reached.len(), names }
    }

    /// The calls of an undisturbed verb, in their order, each with its number among those of its name.
    fn rehearse(&self) -> Vec<(String, u32)> {
        let stage = (self.prepare)();
        let earlier = stage.scene.world.calls.mark();
        let answer = stage.scene.call(self.verb, &stage.pod);
        assert_eq!(answer.code, Some(0), "{} that nothing disturbs: {answer:?}\n{}", self.verb, stage.scene.log());
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let number = |call: Call| {
            let count = counts.entry(call.name.clone()).or_default();
            *count += 1;
            (call.name, *count)
        };
        stage.scene.world.calls.since(earlier).into_iter().map(number).collect()
    }

    /// False when the verb ended without having come to the point.
    fn one(&self, point: &Point) -> bool {
        let _place = Place { verb: self.verb, point };
        let stage = (self.prepare)();
        let killed = crash(&stage, self.verb, point);
        if killed {
            (self.recover)(&stage);
        }
        killed
    }
}

impl Swept {
    /// The sweep saw at least so many points, and these calls among them.
    #[track_caller]
    pub fn assert_covers(&self, points: usize, names: &[&str]) {
        assert!(self.points >= points, "only {} points: {:?}", self.points, self.names);
        for name in names {
            assert!(self.names.contains(*name), "{name} is not among {:?}", self.names);
        }
    }
}

/// Says where a failed scenario had been killed.
struct Place<'a> {
    verb: &'static str,
    point: &'a Point,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("^ {} was killed at {:?}", self.verb, self.point);
        }
    }
}

fn crash(stage: &Stage, verb: &str, point: &Point) -> bool {
    let world = &stage.scene.world;
    let earlier = world.calls.mark();
    let gate = world.faults.gate_on(ServiceMatch::Any, &point.call, point.nth, point.moment);
    let mut child = stage.scene.spawn(verb, &stage.pod);
    let arrived = || world.calls.since(earlier).iter().filter(|call| call.name == point.call).count();
    if !reached(&gate, &mut child, || arrived() >= point.nth as usize) {
        let answer = Answer::from(child.wait_with_output().unwrap());
        assert_eq!(answer.code, Some(0), "{verb} that nothing disturbed: {answer:?}\n{}", stage.scene.log());
        return false;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    gate.release(match point.moment {
        // The request is carried out, whoever waits for the answer.
        Moment::AfterEffect => Outcome::Continue,
        // Neither this request nor those that were held behind its answer ever get through.
        Moment::BeforeEffect | Moment::AfterAnswer => Outcome::Cut,
    });
    true
}

/// Waits until the verb stands at the gate; false when it ended first.
fn reached(gate: &Gate, child: &mut Child, arrived: impl Fn() -> bool) -> bool {
    let end = Instant::now() + VERB_TIME;
    while !gate.wait_reached(Duration::from_millis(20)) {
        if child.try_wait().unwrap().is_some() {
            return arrived() && gate.wait_reached(LAST_ANSWER);
        }
        assert!(Instant::now() < end, "the verb neither came to the gate nor ended");
    }
    true
}
