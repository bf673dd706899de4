//! Running a command and measuring it from outside.
//!
//! Of what takes less than a millisecond the starting is most, and takes longest where the process that starts it has
//! threads, as a simulated world has. So a process of its own does that: this one, started again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

/// One run of a process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Run {
    pub wall: Duration,
    /// Of the process, in user and kernel mode.
    pub cpu: Duration,
}

/// How often memory is measured.
const PEAKS: usize = 9;

/// The first argument of the process that runs commands in rounds; the second is [`Rounds`].
const ROUNDS: &str = "rounds";

/// A command that can be run again and again: its stdin is a file.
pub struct Repeatable {
    command: Command,
    stdin: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Rounds {
    count: usize,
    commands: Vec<Described>,
}

/// A command's program, environment and stdin.
#[derive(Serialize, Deserialize)]
struct Described {
    program: PathBuf,
    environment: BTreeMap<String, String>,
    stdin: PathBuf,
}

/// The runs of each command. In each round every command has its turn, so that a busy moment hits all.
pub fn in_rounds(commands: &[Repeatable], count: usize) -> Vec<Vec<Run>> {
    let rounds = Rounds { count, commands: commands.iter().map(Repeatable::describe).collect() };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(ROUNDS).arg(serde_json::to_string(&rounds).unwrap()).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    assert!(output.status.success(), "the rounds: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What this process is to do if [`in_rounds`] started it.
pub fn as_helper(arguments: &[String]) -> Option<ExitCode> {
    let [ROUNDS, rounds] = [arguments.first()?.as_str(), arguments.get(1)?] else { return None };
    let Rounds { count, commands } = serde_json::from_str(rounds).unwrap();
    let mut commands: Vec<_> = commands.into_iter().map(Repeatable::from).collect();
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); commands.len()];
    for round in 0..count {
        for turn in 0..commands.len() {
            // Each command comes behind each other one equally often.
            let nth = (turn * (1 + round % 2) + round) % commands.len();
            runs[nth].push(commands[nth].run());
        }
    }
    println!("{}", serde_json::to_string(&runs).unwrap());
    Some(ExitCode::SUCCESS)
}

impl From<Described> for Repeatable {
    fn from(described: Described) -> Self {
        let mut command = Command::new(described.program);
        command.env_clear().envs(described.environment);
        Self::new(command, &described.stdin)
    }
}

impl Repeatable {
    pub fn new(command: Command, stdin: &Path) -> Self {
        Self { command, stdin: stdin.to_owned() }
    }

    fn describe(&self) -> Described {
        let text = |text: &OsStr| text.to_str().unwrap().to_owned();
        let environment =
            self.command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect();
        Described { program: self.command.get_program().into(), environment, stdin: self.stdin.clone() }
    }

    /// One run, which has to succeed. Nothing else of this process may run children meanwhile.
    pub fn run(&mut self) -> Run {
        let nowhere = || File::options().write(true).open("/dev/null").unwrap();
        self.command.stdin(File::open(&self.stdin).unwrap()).stdout(nowhere()).stderr(nowhere());
        let before = children();
        let started = Instant::now();
        let status = self.command.status().unwrap();
        let wall = started.elapsed();
        assert!(status.success(), "{:?}: {status}", self.command);
        Run { wall, cpu: children() - before }
    }

    /// The most memory that a run had, in KiB: the median of some.
    pub fn peak_kib(&self) -> u64 {
        let mut peaks = [(); PEAKS].map(|()| self.peak_of_one());
        peaks.sort();
        peaks[PEAKS / 2]
    }

    /// The kernel counts into a process's peak what its memory was before exec(2), so a small process starts it.
    fn peak_of_one(&self) -> u64 {
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
