//! Every fault of cloud and cluster, one cell each: what the verb says, and that in good weather nothing is left of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podeip_sim::faults::{Effect, Rule};
use serde_json::json;

use crate::scene::{Answer, Sandbox, Scene};

mod adding;
mod agent;
mod cluster;
mod ending;
mod lost;
mod manners;
mod refusals;
mod sources;

/// Cells in work at once; nearly all of their time is waiting for the simulated cloud.
const AT_ONCE: usize = 16;

pub const IP: [u8; 4] = [10, 219, 0, 5];

/// Of a fault that does not pass: long enough for a few repeats, short enough for many cells.
const IMPATIENT_SECONDS: u64 = 5;

/// A DEL in good weather takes a tenth of this, unless the machine is so busy that it runs out of time.
const BUSY: Duration = Duration::from_secs(4);

/// One fault at one call, with all that has to come of it.
pub struct Cell<'a> {
    name: String,
    play: Box<dyn Fn() + Sync + Send + 'a>,
}

impl<'a> Cell<'a> {
    pub fn new(name: impl Into<String>, play: impl Fn() + Sync + Send + 'a) -> Self {
        Self { name: name.into(), play: Box::new(play) }
    }
}

/// Plays all cells and names each one that failed.
#[track_caller]
pub fn play(what: &str, least: usize, cells: &[Cell]) {
    assert!(cells.len() >= least, "{what}: only {} cells", cells.len());
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(&cell.play)) {
                        failed.lock().unwrap().push(format!("{}: {}", cell.name, said(&*panic)));
                    }
                }
            });
        }
    });
    println!("{what}: {} cells", cells.len());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} cells failed:\n{}", failed.len(), cells.len(), failed.join("\n"));
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(ToString::to_string));
    // The rest is the log of the world, which is printed where it happened.
    text.unwrap_or_default().lines().next().unwrap_or_default().chars().take(900).collect()
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Once,
    /// The first call passes, the next one does not.
    Later,
    ForGood,
}

impl Span {
    fn rule(self, call: &str, effect: Effect) -> Rule {
        let rule = Rule::on(call, effect);
        match self {
            Span::Once => rule.once(),
            Span::Later => rule.skip(1).once(),
            Span::ForGood => rule,
        }
    }
}

/// Verbs that give up soon where the fault does not pass.
fn configure(scene: &Scene, span: Span) {
    if span == Span::ForGood {
        scene.configure(|settings| {
            settings["eip_add_timeout_seconds"] = json!(IMPATIENT_SECONDS);
            settings["eip_del_timeout_seconds"] = json!(IMPATIENT_SECONDS);
        });
    }
}

/// A failed ADD: the code, the words, and no secret.
#[track_caller]
fn assert_refused(scene: &Scene, answer: &Answer, code: u64, words: &[&str]) {
    answer.assert_error(code, words);
    let (_, text) = answer.error();
    for secret in ["simulatedSecret", "Signature=", "simulated-service-account-token"] {
        assert!(!text.contains(secret), "{text}");
        assert!(!scene.log().contains(secret), "the log holds {secret}");
    }
}

/// The weather is good again: the pod's next sandbox is served by the one EIP that ever was, and nothing outlives it.
#[track_caller]
fn recovers(scene: &Scene, pod: &Sandbox) {
    scene.world.faults.clear();
    scene.configure(|_| {});
    scene.del(pod);
    let next = pod.restarted();
    scene.add(&next).assert_added(&next);
    scene.assert_served(&next);
    ends(scene, &next);
}

/// The pod, which was served, goes, and with it all that it had.
#[track_caller]
fn ends(scene: &Scene, pod: &Sandbox) {
    leaves_nothing(scene, pod);
    assert_eq!(scene.ever_ours().len(), 1, "EIPs were bought: {:?}", scene.ever_ours());
}

/// The pod goes, served or not.
#[track_caller]
fn leaves_nothing(scene: &Scene, pod: &Sandbox) {
    scene.world.faults.clear();
    scene.delete_pod(pod);
    let began = Instant::now();
    scene.del(pod);
    if !scene.records().is_empty() {
        assert!(began.elapsed() > BUSY, "DEL had time and left {:?}\n{}", scene.records(), scene.log());
        scene.gc();
    }
    scene.assert_nothing_left();
    assert!(scene.ever_ours().len() <= 1, "EIPs were bought: {:?}", scene.ever_ours());
}
