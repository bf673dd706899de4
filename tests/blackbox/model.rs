//! A model of what podeip promises, held against the real code: random stories of pods, sandboxes, agents, people and
//! bad weather, with the promises looked at after each step. A story that breaks one is told again in fewer steps until
//! none can be left out, and printed.
//!
//! `PODEIP_MODEL_SEED` tells the story of one seed, or begins with it; `PODEIP_MODEL_STEPS` goes on for so many steps;
//! `PODEIP_MODEL_LOG` names a file for podeip's log.

mod ending;
mod field;
mod ledger;
mod places;
mod plot;
mod rules;
mod shrink;
mod step;
mod telling;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use log::LevelFilter;
use plot::story;
use step::Step;

/// Stories at once: nearly all of their time is waiting for the simulated cloud.
const AT_ONCE: usize = 48;

const STEPS_OF_A_STORY: usize = 40;

/// Of a run in which nobody asks for more.
const STEPS: usize = 2500;

const FIRST_SEED: u64 = 1;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Where podeip's log goes, if anybody wants it.
fn log_file() -> Option<String> {
    std::env::var("PODEIP_MODEL_LOG").ok()
}

/// The library logs where it is told to first, and each story would tell it another place.
fn settle_log() {
    podeip::logging::init(log_file().as_deref().unwrap_or("/dev/null").as_ref(), LevelFilter::Error);
}

/// What happened in the stories, to be printed: a model that nothing happens to proves nothing.
#[derive(Debug, Default)]
struct Counts {
    /// Verbs, rounds and collections that were begun.
    runs: AtomicUsize,
    killed: AtomicUsize,
    /// ADDs that gave a pod its EIP.
    served: AtomicUsize,
    released: AtomicUsize,
}

impl Counts {
    /// What happened in so many steps was worth telling.
    fn assert_eventful(self, steps: usize) {
        assert!(self.runs.into_inner() > steps / 3, "hardly any step runs podeip");
        assert!(self.served.into_inner() > steps / 20, "hardly any pod is served");
        assert!(self.killed.into_inner() > steps / 100, "hardly anything is killed");
        assert!(self.released.into_inner() > steps / 100, "hardly any EIP is released");
    }
}

/// Tells `steps`; a panic is told as a failure.
fn tell(steps: &[Step], counts: &Counts) -> Result<(), String> {
    thread::scope(|scope| match scope.spawn(|| telling::tell(steps, counts)).join() {
        Ok(told) => told,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Err(format!("it panicked: {}", text.unwrap_or_default()))
        }
    })
}

#[test]
fn stories_in_which_every_promise_is_kept() {
    settle_log();
    let began = Instant::now();
    let steps = number("PODEIP_MODEL_STEPS");
    let seed = number("PODEIP_MODEL_SEED");
    let wanted = steps.map_or(if seed.is_some() { 1 } else { STEPS }, |steps| steps as usize);
    let (told, stories, next) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(seed.unwrap_or(FIRST_SEED)));
    let broken: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
    let counts = Counts::default();
    let next_story = || {
        let broken = broken.lock().unwrap();
        let wanted = broken.is_empty() && told.load(Ordering::SeqCst) < wanted;
        wanted.then(|| {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            let steps = story(seed, STEPS_OF_A_STORY);
            told.fetch_add(steps.len(), Ordering::SeqCst);
            (seed, steps)
        })
    };
    let work = || {
        while let Some((seed, steps)) = next_story() {
            if let Err(how) = tell(&steps, &counts) {
                eprintln!("seed {seed}: {how}\nLooking for a shorter story.");
                broken.lock().unwrap().push((seed, how));
            }
            stories.fetch_add(1, Ordering::SeqCst);
        }
    };
    if wanted == 1 {
        story(next.load(Ordering::SeqCst), STEPS_OF_A_STORY).iter().for_each(|step| println!("- {step}"));
    }
    thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let told = told.into_inner();
    println!("{} stories, {told} steps in {:.0?}: {counts:?}", stories.into_inner(), began.elapsed());
    if let Some((seed, how)) = broken.into_inner().unwrap().first() {
        panic!("{}", shrink::minimal(*seed, &story(*seed, STEPS_OF_A_STORY), how));
    }
    if wanted >= STEPS {
        counts.assert_eventful(told);
    }
}
