//! Running a command and measuring it from outside.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// One run of a process.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub wall: Duration,
    /// Of the process, in user and kernel mode.
    pub cpu: Duration,
}

/// A command that can be run again and again: its stdin is a file.
pub struct Repeatable {
    command: Command,
    stdin: std::path::PathBuf,
}

impl Repeatable {
    pub fn new(mut command: Command, stdin: &Path) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self { command, stdin: stdin.to_owned() }
    }

    /// One run, which has to succeed. Nothing else of this process may run children meanwhile.
    pub fn run(&mut self) -> Run {
        self.command.stdin(File::open(&self.stdin).unwrap());
        let before = children();
        let started = Instant::now();
        let status = self.command.status().unwrap();
        let wall = started.elapsed();
        assert!(status.success(), "{:?}: {status}", self.command);
        Run { wall, cpu: children() - before }
    }

    /// The most memory that one run had, in KiB.
    ///
    /// The kernel counts into a process's peak what its memory was before exec(2), so a small process starts it.
    pub fn peak_kib(&self) -> u64 {
        let report = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("/usr/bin/time");
        command.args(["--format", "%M", "--output"]).arg(report.path());
        command.arg(self.command.get_program()).args(self.command.get_args());
        command.env_clear().envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(File::open(&self.stdin).unwrap()).stdout(Stdio::null());
        let status = command.status().expect("Debian's package time is installed");
        assert!(status.success(), "{:?}: {status}", self.command);
        fs::read_to_string(report.path()).unwrap().trim().parse().unwrap()
    }
}

fn usage() -> Usage {
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap()
}

fn children() -> Duration {
    let usage = usage();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.try_into().unwrap())
}

/// The middle one; half of all are not longer.
pub fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

pub fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

pub fn ratio(ours: Duration, reference: Duration) -> f64 {
    ours.as_secs_f64() / reference.as_secs_f64()
}
