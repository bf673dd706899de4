//! The points of a build with the feature `crash-points`, chosen by the environment.
//!
//! `PODEIP_CRASH_AT=NTH:WHAT` kills the process when it comes to that point for the NTH time (1 is the first).
//! `PODEIP_CRASH_LOG=FILE` appends each point that the process comes to, a line each.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Arguments;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{Signal, raise};

const AT: &str = "PODEIP_CRASH_AT";
const LOG: &str = "PODEIP_CRASH_LOG";

static COUNTS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// The process is between two effects; `what` says of which subject, and what has just happened to it.
///
/// # Panics
/// When the points cannot be logged: a test would take the silence for a process without points.
pub fn point(what: Arguments<'_>) {
    let what = what.to_string();
    if let Some(log) = env::var_os(LOG) {
        let file = OpenOptions::new().create(true).append(true).open(log);
        file.and_then(|mut file| file.write_all(format!("{what}\n").as_bytes())).expect("the points are logged");
    }
    let Ok(at) = env::var(AT) else { return };
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry(what.clone()).or_default();
    *count += 1;
    if at == format!("{count}:{what}") {
        // As the kernel kills for memory: no destructor, no flush, no message. Other threads stop, too.
        let _ = raise(Signal::SIGKILL);
    }
}
