//! Stopping podeip at every remote call of a verb or an agent's round, on each side of the call's
//! effect: it is killed there, or held up while another process goes ahead.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use podeip_sim::calls::Call;
use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Gate, Moment, Outcome};

use crate::scene::{Answer, Scene};

/// Points in work at once; nearly all of their time is waiting for the simulated cloud.
const AT_ONCE: usize = 10;

/// The longest a verb runs; its own deadline is 60 s.
const VERB_TIME: Duration = Duration::from_secs(75);

/// The last answer of a verb that has ended is noted within microseconds.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// The threads beside the one that stands at the call end their steps within this. A read that stands
/// is asked anew after 4 s.
const STEP_TIME: Duration = Duration::from_secs(3);

/// How long a process is held up for its rival. One that has not ended by then waits for it.
const RIVAL_TIME: Duration = Duration::from_secs(4);

/// A world with everything in it up to the process that is stopped.
pub trait Prepared: Sync {
    fn scene(&self) -> &Scene;

    /// Starts that process: `verb` of the runtime, or an agent.
    fn spawn(&self, verb: &str) -> Child;
}

type Deed<'a, P> = &'a (dyn Fn(&P) + Sync);

/// One test, carried out at every remote call of a process, each time in a world of its own.
pub struct Sweep<'a, P> {
    verb: &'static str,
    at_once: usize,
    only: &'a [&'a str],
    fate: Fate<'a, P>,
    prepare: &'a (dyn Fn() -> P + Sync),
    /// What comes afterwards, and what must be true then.
    recover: Deed<'a, P>,
}

/// What happens at the call.
enum Fate<'a, P> {
    Killed,
    /// A rival comes. It may have to wait for the process, but not at the calls `unlocked`, at which
    /// no pod's lock is held; in the end both succeed.
    Overtaken {
        rival: Deed<'a, P>,
        unlocked: &'a [&'a str],
    },
}

/// Which calls were stopped at.
pub struct Swept {
    pub points: usize,
    pub names: BTreeSet<String>,
}

/// The process stops at its `nth` call of this name (1 is the first). Calls that run side by side
/// arrive in any order, so a number over all calls would not say which one it is.
#[derive(Clone, Debug)]
struct Point {
    call: String,
    nth: u32,
    moment: Moment,
}

impl<'a, P: Prepared> Sweep<'a, P> {
    /// SIGKILL at the call.
    pub fn kill(verb: &'static str, prepare: &'a (dyn Fn() -> P + Sync), recover: Deed<'a, P>) -> Self {
        Self { verb, at_once: AT_ONCE, only: &[], fate: Fate::Killed, prepare, recover }
    }

    /// A rival goes ahead while the process stands at the call.
    pub fn overtake(
        verb: &'static str,
        prepare: &'a (dyn Fn() -> P + Sync),
        rival: Deed<'a, P>,
        recover: Deed<'a, P>,
    ) -> Self {
        let fate = Fate::Overtaken { rival, unlocked: &[] };
        Self { verb, at_once: AT_ONCE, only: &[], fate, prepare, recover }
    }

    /// The calls to stop at, instead of all.
    pub fn only(self, only: &'a [&'a str]) -> Self {
        Self { only, ..self }
    }

    /// For points that do little but wait.
    pub fn at_once(self, at_once: usize) -> Self {
        Self { at_once, ..self }
    }

    /// The calls at which the process holds no pod's lock, so that the rival does not wait for it.
    pub fn unlocked(self, calls: &'a [&'a str]) -> Self {
        let fate = match self.fate {
            Fate::Overtaken { rival, .. } => Fate::Overtaken { rival, unlocked: calls },
            Fate::Killed => Fate::Killed,
        };
        Self { fate, ..self }
    }

    /// The calls are those that an undisturbed process makes, so new ones are swept by themselves.
    pub fn run(&self) -> Swept {
        let mut calls = self.rehearse();
        calls.retain(|(call, _)| self.only.is_empty() || self.only.contains(&call.as_str()));
        let points: Vec<Point> = calls.iter().flat_map(|(call, nth)| self.points(call, *nth)).collect();
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
            let workers: Vec<_> = (0..self.at_once).map(|_| scope.spawn(work)).collect();
            let failed = workers.into_iter().filter_map(|worker| worker.join().err()).count();
            assert_eq!(failed, 0, "{failed} points of this sweep failed; each is named above");
        });
        let reached = reached.into_inner().unwrap();
        // How often a verb polls differs from run to run; that it makes a call at all does not.
        for point in points.iter().filter(|point| point.nth == 1) {
            assert!(reached.iter().any(|it| std::ptr::eq(*it, point)), "{} never came to {point:?}", self.verb);
        }
        let names: BTreeSet<String> = reached.iter().map(|point| point.call.clone()).collect();
        println!("{}: stopped at {} of {} points, in {names:?}", self.verb, reached.len(), points.len());
        Swept { points: reached.len(), names }
    }

    fn points(&self, call: &str, nth: u32) -> Vec<Point> {
        let moments: &[Moment] = match self.fate {
            Fate::Killed => &[Moment::BeforeEffect, Moment::AfterEffect, Moment::AfterAnswer],
            // What was read is out of date when the process goes on, and so is what it decided.
            Fate::Overtaken { .. } if is_read(call) => &[Moment::AfterEffect],
            Fate::Overtaken { .. } => &[Moment::BeforeEffect],
        };
        moments.iter().map(|moment| Point { call: call.into(), nth, moment: *moment }).collect()
    }

    /// The calls of an undisturbed process, in their order, each with its number among those of its
    /// name.
    fn rehearse(&self) -> Vec<(String, u32)> {
        let prepared = (self.prepare)();
        let earlier = prepared.scene().world.calls.mark();
        self.assert_succeeds(&prepared, prepared.spawn(self.verb));
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let number = |call: Call| {
            let count = counts.entry(call.name.clone()).or_default();
            *count += 1;
            (call.name, *count)
        };
        prepared.scene().world.calls.since(earlier).into_iter().map(number).collect()
    }

    /// False when the process ended without having come to the point.
    fn one(&self, point: &Point) -> bool {
        let _place = Place { verb: self.verb, point };
        let prepared = (self.prepare)();
        let world = &prepared.scene().world;
        let earlier = world.calls.mark();
        let gate = world.faults.gate_on(ServiceMatch::Any, &point.call, point.nth, point.moment);
        let mut child = prepared.spawn(self.verb);
        let arrived = || world.calls.since(earlier).iter().filter(|call| call.name == point.call).count();
        if !reached(&gate, &mut child, || arrived() >= point.nth as usize) {
            self.assert_succeeds(&prepared, child);
            return false;
        }
        match self.fate {
            Fate::Killed => kill(child, &gate, point.moment),
            Fate::Overtaken { rival, unlocked } => {
                let free = !unlocked.contains(&point.call.as_str()) || unlocks(prepared.scene());
                assert!(free, "a pod's lock is held in the call");
                thread::scope(|scope| {
                    let rival = scope.spawn(|| rival(&prepared));
                    await_end(&rival, RIVAL_TIME);
                    gate.release(Outcome::Continue);
                });
                self.assert_succeeds(&prepared, child);
            }
        }
        (self.recover)(&prepared);
        true
    }

    fn assert_succeeds(&self, prepared: &P, process: Child) {
        let answer = Answer::from(process.wait_with_output().unwrap());
        assert_eq!(answer.code, Some(0), "{}: {answer:?}\n{}", self.verb, prepared.scene().log());
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

/// Says where the process of a failed scenario had been stopped.
struct Place<'a> {
    verb: &'static str,
    point: &'a Point,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("^ {} was stopped at {:?}", self.verb, self.point);
        }
    }
}

fn is_read(call: &str) -> bool {
    ["get ", "list ", "Describe"].iter().any(|reads| call.starts_with(reads))
}

fn kill(mut child: Child, gate: &Gate, moment: Moment) {
    child.kill().unwrap();
    child.wait().unwrap();
    gate.release(match moment {
        // The request is carried out, whoever waits for the answer.
        Moment::AfterEffect => Outcome::Continue,
        // Neither this request nor those that were held behind its answer ever get through.
        Moment::BeforeEffect | Moment::AfterAnswer => Outcome::Cut,
    });
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

/// Whether no pod's lock stays held.
fn unlocks(scene: &Scene) -> bool {
    let end = Instant::now() + STEP_TIME;
    while scene.holds_pod_lock() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    !scene.holds_pod_lock()
}

fn await_end(rival: &ScopedJoinHandle<()>, longest: Duration) {
    let end = Instant::now() + longest;
    while !rival.is_finished() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
}
