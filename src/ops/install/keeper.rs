//! Keeping the installation right while the agent runs: on every change, and now and then anyway.

use std::collections::BTreeMap;
use std::io::PipeWriter;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::alarm::{self, REMEDY};
use super::contention::{Contention, WINDOW};
use super::kept::Repair;
use super::watch::{Watch, Woken};
use super::{Installation, Look};

/// A change that nobody noticed is found after this: a watch can lose events, and a directory can appear
/// that was not there to be watched.
const PERIOD: Duration = Duration::from_secs(30);

/// From a change to the look: a primary writes several files in a row. Pods that start meanwhile go without
/// the plugin, so it is short.
const CALM: Duration = Duration::from_millis(50);

/// The same while somebody keeps undoing the repairs: two that fight at full speed would burn the node's
/// processor, and each write makes the runtime load its configuration anew. Still the stanza is back within
/// a second.
const CONTESTED: Duration = Duration::from_millis(500);

/// The thread that keeps the installation; dropping it ends the thread and takes nothing off the node.
#[must_use = "nothing is kept any more as soon as this is dropped"]
#[derive(Debug)]
pub struct Keeper {
    /// Closing it is the order to end.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Puts everything right and goes on to do so in a thread of its own. `told` hears of every look.
    ///
    /// # Errors
    /// No pipe or thread is to be had.
    pub fn start(installation: Installation, told: impl Fn(&Look) + Send + 'static) -> anyhow::Result<Self> {
        let (stopped, stop) = std::io::pipe().context("cannot make the pipe of the installation's keeper")?;
        let mut round = Round { installation, told, tidings: Tidings::default() };
        let watch = Watch::new(stopped);
        round.look(&watch);
        let thread = thread::Builder::new()
            .name("keeper".into())
            .spawn(move || round.go_on(&watch))
            .context("cannot start the thread of the installation's keeper")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the installation's keeper broke off; please report it with the log");
        }
    }
}

struct Round<T> {
    installation: Installation,
    told: T,
    tidings: Tidings,
}

impl<T: Fn(&Look)> Round<T> {
    fn go_on(&mut self, watch: &Watch) {
        loop {
            match watch.wait(Instant::now() + PERIOD) {
                Woken::Stop => return,
                Woken::Time => self.installation.sweep_leftovers(),
                Woken::Change => {
                    let pause = if self.tidings.contested(Instant::now()) { CONTESTED } else { CALM };
                    if !watch.gather(pause) {
                        return;
                    }
                }
            }
            self.look(watch);
        }
    }

    fn look(&mut self, watch: &Watch) {
        // Before the look, so that what changes during it wakes the watch.
        self.installation.watched().iter().for_each(|directory| watch.cover(directory));
        for look in self.installation.put_right() {
            if self.tidings.take(&look, Instant::now()) == Rival::New {
                alarm::tell_node(&self.installation.paths.kubeconfig, look.part);
            }
            (self.told)(&look);
        }
    }
}

/// Whether somebody who keeps undoing the repairs is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rival {
    /// There is none, or it was told not long ago.
    Nothing,
    New,
}

/// What has been said of each part, so that the log says it once.
#[derive(Default)]
struct Tidings {
    trouble: BTreeMap<&'static str, String>,
    contentions: BTreeMap<&'static str, Contention>,
}

impl Tidings {
    fn take(&mut self, look: &Look, now: Instant) -> Rival {
        let part = look.part;
        let mut rival = Rival::Nothing;
        let (level, trouble) = match &look.outcome {
            Ok(Repair::Sound) => (log::Level::Info, None),
            Ok(Repair::Done(what)) => {
                rival = self.repaired(part, what, now);
                (log::Level::Info, None)
            }
            Ok(Repair::Waiting(what)) => (log::Level::Warn, Some(format!("{part} waits: {what}"))),
            Err(error) => (log::Level::Error, Some(format!("{part} failed: {error:#}"))),
        };
        match trouble {
            None if self.trouble.remove(part).is_some() => log::info!("{part} is right again"),
            None => {}
            Some(text) if self.trouble.get(part) == Some(&text) => {}
            Some(text) => {
                log::log!(level, "{text}");
                self.trouble.insert(part, text);
            }
        }
        rival
    }

    fn repaired(&mut self, part: &'static str, what: &str, now: Instant) -> Rival {
        let contention = self.contentions.entry(part).or_default();
        let too_many = contention.repaired(now);
        if let Some(times) = too_many {
            let seconds = WINDOW.as_secs();
            log::warn!(
                "{part} was put right {times} times within {seconds} s, because something on this node keeps undoing \
                 it (last: {what}); {REMEDY}"
            );
            return Rival::New;
        }
        if !contention.stands(now) {
            log::info!("{part}: {what}");
        }
        Rival::Nothing
    }

    fn contested(&mut self, now: Instant) -> bool {
        self.contentions.values_mut().any(|contention| contention.stands(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stanza_is_back_within_a_second_of_a_rewrite() {
        assert!(CALM < CONTESTED && CONTESTED + Duration::from_millis(200) < Duration::from_secs(1));
    }

    #[test]
    fn trouble_is_told_when_it_changes_and_when_it_ends() {
        let mut tidings = Tidings::default();
        let mut take = |outcome| {
            let look = Look { part: "settings", outcome };
            tidings.take(&look, Instant::now());
            tidings.trouble.get("settings").cloned()
        };
        assert_eq!(take(Err(anyhow::anyhow!("broken"))).as_deref(), Some("settings failed: broken"));
        assert_eq!(take(Ok(Repair::Waiting("none".into()))).as_deref(), Some("settings waits: none"));
        assert_eq!(take(Ok(Repair::Sound)), None);
    }
}
