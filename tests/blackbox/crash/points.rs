//! Dying between two effects: podeip is built with named points around every file operation and every change of a record,
//! and is killed at each of them.

mod node;
mod verbs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{Answer, Scene, start};

/// Deaths in work at once; nearly all of their time is waiting for the simulated cloud.
const AT_ONCE: usize = 12;

/// The process comes to `what` for the `nth` time (1 is the first).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    what: String,
    nth: u32,
}

/// What the node does next, and its name.
type Recovery<'a, P> = (&'static str, &'a (dyn Fn(&P) + Sync));

/// A process in a world of its own, and what comes after its death.
struct Deaths<'a, P> {
    name: &'static str,
    at_once: usize,
    scene: fn(&P) -> &Scene,
    prepare: &'a (dyn Fn() -> P + Sync),
    /// The process and its stdin.
    process: &'a (dyn Fn(&P) -> (Command, Value) + Sync),
    /// Each of them is tried after each death, and asserts what must be true in the end.
    recoveries: &'a [Recovery<'a, P>],
}

impl<P> Deaths<'_, P> {
    /// The points are those that an undisturbed process comes to, so new ones are swept by themselves.
    fn sweep(&self) -> BTreeSet<String> {
        let points = self.rehearse();
        let deaths: Vec<(&Point, usize)> =
            (0..self.recoveries.len()).flat_map(|way| points.iter().map(move |point| (point, way))).collect();
        let next = AtomicUsize::new(0);
        let died = Mutex::new(Vec::new());
        let work = || {
            while let Some((point, way)) = deaths.get(next.fetch_add(1, Ordering::SeqCst)) {
                if self.one(point, *way) {
                    died.lock().unwrap().push((*point).clone());
                }
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.at_once).map(|_| scope.spawn(work)).collect();
            let failed = workers.into_iter().filter_map(|worker| worker.join().err()).count();
            assert_eq!(failed, 0, "{}: {failed} deaths were not recovered from; each is named above", self.name);
        });
        let died = died.into_inner().unwrap();
        // How often a process looks again differs from run to run; that it comes to a point at all does not.
        for point in points.iter().filter(|point| point.nth == 1) {
            assert!(died.contains(point), "{} never came to {point:?}", self.name);
        }
        println!(
            "{}: died {} times at {} points, recovered in {} ways",
            self.name,
            died.len(),
            points.len(),
            self.recoveries.len()
        );
        points.into_iter().map(|point| point.what).collect()
    }

    fn rehearse(&self) -> Vec<Point> {
        let prepared = (self.prepare)();
        let log = self.path(&prepared, "points");
        let child = self.start(&prepared, "PODEIP_CRASH_LOG", log.to_str().unwrap());
        self.assert_succeeds(&prepared, child);
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let text = fs::read_to_string(log).expect("the executable under test has points");
        let number = |what: &str| {
            let nth = counts.entry(what.to_owned()).and_modify(|count| *count += 1).or_insert(1);
            Point { what: what.to_owned(), nth: *nth }
        };
        text.lines().map(number).collect()
    }

    /// False when the process ended without having come to the point.
    fn one(&self, point: &Point, way: usize) -> bool {
        let (recovery, recover) = self.recoveries[way];
        let _place = Place { name: self.name, point, recovery };
        let prepared = (self.prepare)();
        let at = format!("{}:{}", point.nth, point.what);
        let child = self.start(&prepared, "PODEIP_CRASH_AT", &at);
        let output = child.wait_with_output().unwrap();
        if output.status.signal() != Some(Signal::SIGKILL as i32) {
            let answer = Answer::from(output);
            assert_eq!(answer.code, Some(0), "{answer:?}\n{}", (self.scene)(&prepared).log());
            return false;
        }
        recover(&prepared);
        true
    }

    /// Starts the process from the executable that has the points, with this in its environment.
    fn start(&self, prepared: &P, key: &str, value: &str) -> Child {
        let (command, stdin) = (self.process)(prepared);
        let mut changed = Command::new(env!("CARGO_BIN_EXE_podeip"));
        changed.env_clear().args(command.get_args());
        changed.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        changed.env(key, value).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        start(changed, &stdin)
    }

    fn assert_succeeds(&self, prepared: &P, process: Child) {
        let answer = Answer::from(process.wait_with_output().unwrap());
        assert_eq!(answer.code, Some(0), "{}: {answer:?}\n{}", self.name, (self.scene)(prepared).log());
    }

    fn path(&self, prepared: &P, name: &str) -> PathBuf {
        (self.scene)(prepared).path(name)
    }
}

/// Says where the process of a failed scenario had died.
struct Place<'a> {
    name: &'static str,
    point: &'a Point,
    recovery: &'static str,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("^ {} died at {:?}, and then: {}", self.name, self.point, self.recovery);
        }
    }
}

#[track_caller]
fn assert_has(points: &BTreeSet<String>, wanted: &[&str]) {
    for point in wanted {
        assert!(points.contains(*point), "{point:?} is not among {points:#?}");
    }
}
