//! `measures.jsonl`: what the last verbs of this node measured, a line each, for the agent and for people.
//!
//! A verb appends its line with one write under a shared lock of the file. Whoever sees that the file
//! has grown too long takes the lock alone and puts a new file with the newest half in its place. That
//! file begins with a line that says how many bytes went before, so that a [`Position`] counts from
//! the very first byte ever written and outlives any number of such halvings.
//!
//! No line is given out twice. What can be lost: lines that were dropped before the agent read them;
//! the line of a verb that got no lock within a second; a line that was cut short by a full disk or
//! a killed process, and the one after it; and, when somebody removes the file, what was not read of
//! it and as much of the next one as its reader had read before.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{StateError, Store, directory, lock};
use crate::deadline::Deadline;
use crate::durable;
use crate::measure::{Calls, Measured, Stage};
use crate::names::PodRef;

const FILE: &str = "measures.jsonl";

/// Some three hundred verbs: more than a node's agent can miss between two rounds.
const LARGEST: usize = 256 << 10;

/// What is kept of a file that has outgrown [`LARGEST`].
const KEPT: usize = LARGEST / 2;

/// Only a process that halves the file excludes the others, for two syncs. A measure is worth no
/// longer wait.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Between two looks at a lock that is held.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A CNI verb that leaves measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    Add,
    Del,
    Gc,
}

impl Verb {
    /// As the runtime calls it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Gc => "GC",
        }
    }
}

/// One call of the runtime, as a line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerbMeasures {
    /// When it ended.
    pub at: Timestamp,
    pub verb: Verb,
    /// `ok`, or the kind of failure. A DEL that leaves work for a later round says why, although the
    /// runtime was told that it succeeded.
    pub outcome: String,
    /// `None` for GC, and where the runtime named no UID and the API server did not tell.
    pub pod: Option<PodRef>,
    pub seconds: f64,
    /// Seconds of each stage that was reached.
    pub stages: BTreeMap<Stage, f64>,
    pub calls: Calls,
}

impl VerbMeasures {
    /// Of a verb that began at `began` and ends now.
    pub fn now(verb: Verb, outcome: &str, pod: Option<PodRef>, began: Instant, measured: Measured) -> Self {
        Self {
            at: Timestamp::now(),
            verb,
            outcome: outcome.into(),
            pod,
            seconds: seconds(began.elapsed()),
            stages: measured.stages.into_iter().map(|(stage, took)| (stage, seconds(took))).collect(),
            calls: measured.calls,
        }
    }
}

/// In whole microseconds: what is finer says nothing and makes long lines.
fn seconds(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e6
}

/// How far a reader has come, in bytes since the file began. The default is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position(u64);

/// First line of a file that was halved: how many bytes of lines were dropped so far.
#[derive(Serialize, Deserialize)]
struct Header {
    dropped: u64,
}

impl Store {
    /// Appends one line. A failure is logged and no more: no verb fails for its measures.
    pub fn note_measures(&self, measures: &VerbMeasures) {
        if let Err(error) = self.append(measures) {
            log::warn!("the measures of this {} are lost: {error}", measures.verb.name());
        }
    }

    /// What was written since `position`, which moves on. A file that cannot be read says nothing.
    pub fn measures_since(&self, position: &mut Position) -> Vec<VerbMeasures> {
        let path = self.path(FILE);
        let content = match directory::read_regular(&path) {
            Ok(content) => content.unwrap_or_default(),
            Err(error) => {
                log::warn!("cannot read {}: {error}", path.display());
                return Vec::new();
            }
        };
        parse(unread(&content, position))
    }

    /// The position behind everything written so far: an agent that starts anew begins there, because
    /// an earlier one counted what was before.
    pub fn measures_end(&self) -> Position {
        let mut position = Position::default();
        self.measures_since(&mut position);
        position
    }

    /// What is left of the verbs of one pod name, oldest first.
    pub fn measures_of(&self, namespace: &str, name: &str) -> Vec<VerbMeasures> {
        let mut all = self.measures_since(&mut Position::default());
        all.retain(|of| of.pod.as_ref().is_some_and(|pod| pod.namespace == namespace && pod.name == name));
        all
    }

    fn append(&self, measures: &VerbMeasures) -> Result<(), StateError> {
        let failed = |source| self.write_error(FILE, source);
        let mut line = serde_json::to_vec(measures).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        directory::create(self.directory())?;
        let path = self.path(FILE);
        let mut file = open_shared(&path)?;
        file.write_all(&line).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() > LARGEST as u64 {
            halve(&file, &path)?;
        }
        Ok(())
    }
}

/// The file that `path` leads to, locked against being replaced meanwhile.
fn open_shared(path: &Path) -> Result<File, StateError> {
    let (started, deadline) = (Instant::now(), Deadline::after(LOCK_WAIT));
    loop {
        let file = directory::open_regular(path, OpenOptions::new().append(true).create(true).mode(0o600))
            .map_err(|source| StateError::Write { path: path.into(), source })?;
        match turn(&file, path)? {
            Turn::Ours => return Ok(file),
            Turn::Replaced => {}
            Turn::Busy if deadline.sleep(LOCK_PAUSE) => {}
            Turn::Busy => return Err(StateError::Locked { path: path.into(), waited: started.elapsed() }),
        }
    }
}

/// Whether a line may be appended to a file that was just opened.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Ours,
    /// Somebody is halving it.
    Busy,
    /// It was replaced between our open and our lock: nobody would read the line.
    Replaced,
}

fn turn(file: &File, path: &Path) -> Result<Turn, StateError> {
    let shared = lock::try_shared(file).map_err(|source| lock::lock_error(path, source))?;
    Ok(match (shared, lock::in_place(file, path)) {
        (false, _) => Turn::Busy,
        (true, false) => Turn::Replaced,
        (true, true) => Turn::Ours,
    })
}

/// Puts the newest half of the file in its place, unless somebody is appending to it: the next one who
/// sees its length does it then. The lock of `file` is given up or taken alone.
fn halve(file: &File, path: &Path) -> Result<(), StateError> {
    let alone = lock::try_exclusive(file).map_err(|source| lock::lock_error(path, source))?;
    if !alone || !lock::in_place(file, path) {
        return Ok(());
    }
    let read = |source| StateError::Read { path: path.into(), source };
    let content = directory::read_regular(path).map_err(read)?.unwrap_or_default();
    let write = |source| StateError::Write { path: path.into(), source };
    durable::replace(path, &newest_half(&content), 0o600).map_err(write)
}

/// As many of the newest lines as fit into [`KEPT`], behind a header.
pub(super) fn newest_half(content: &[u8]) -> Vec<u8> {
    let (dropped, lines) = split(content);
    let cut = match lines.len().checked_sub(KEPT + 1) {
        None => 0,
        Some(before) => memchr::memchr(b'\n', &lines[before..]).map_or(lines.len(), |end| before + end + 1),
    };
    let header = Header { dropped: dropped.saturating_add(cut as u64) };
    let mut half = format!("{}\n", serde_json::json!(header)).into_bytes();
    half.extend_from_slice(&lines[cut..]);
    half
}

/// The bytes that were dropped before the first line, and the lines.
fn split(content: &[u8]) -> (u64, &[u8]) {
    let first = memchr::memchr(b'\n', content).map(|end| content.split_at(end + 1));
    match first.and_then(|(line, lines)| Some((serde_json::from_slice::<Header>(line).ok()?, lines))) {
        Some((header, lines)) => (header.dropped, lines),
        None => (0, content),
    }
}

/// The whole lines behind `position`, which moves to their end.
pub(super) fn unread<'a>(content: &'a [u8], position: &mut Position) -> &'a [u8] {
    let (dropped, lines) = split(content);
    // What follows the last line end is still being written.
    let whole = &lines[..memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1)];
    let end = dropped.saturating_add(whole.len() as u64);
    // One that is beyond the end comes from a file that was removed: nothing of this one was read.
    let seen = if position.0 > end { 0 } else { position.0.saturating_sub(dropped) };
    position.0 = end;
    // It is within `whole`, which is in memory.
    &whole[seen as usize..]
}

/// Lines that are not ours, or of another version, are passed over.
pub(super) fn parse(lines: &[u8]) -> Vec<VerbMeasures> {
    lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[cfg(test)]
mod tests;
