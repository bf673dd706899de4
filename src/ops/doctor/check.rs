//! A check: what it looks at, what it needs, and what it answers; and how a set of them is run.

use serde::Serialize;

use super::subject::Subject;
use crate::eip::at_once;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    /// Pods are served, but not as well as they could be, or not for long.
    Warn,
    Fail,
    /// It could not be looked at.
    Skip,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
            Verdict::Skip => "skip",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    pub reason: String,
    /// What helps; there whenever something is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    pub fn pass(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Pass, reason: reason.into(), remedy: None }
    }

    pub fn warn(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, reason: reason.into(), remedy: Some(remedy.into()) }
    }

    pub fn fail(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, reason: reason.into(), remedy: Some(remedy.into()) }
    }

    pub fn skip(reason: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skip, reason: reason.into(), remedy: None }
    }
}

/// One entry of the table of checks.
pub struct Check {
    pub name: &'static str,
    pub looks_at: &'static str,
    /// Checks that stand before this one in the table and without which it makes no sense.
    pub needs: &'static [&'static str],
    pub run: fn(&Subject) -> Finding,
}

/// Runs `asked` of `table`, and what they need; at once, as far as none needs another. The findings
/// stand in the order of the table.
pub fn run<'c>(table: &'c [Check], asked: &[String], subject: &Subject) -> Vec<(&'c Check, Finding)> {
    let mut due: Vec<&Check> = table.iter().filter(|check| is_wanted(check, table, asked)).collect();
    let mut found: Vec<(&Check, Finding)> = Vec::new();
    while !due.is_empty() {
        let waits = |check: &&Check| check.needs.iter().any(|need| due.iter().any(|it| it.name == *need));
        let (later, now): (Vec<&Check>, Vec<&Check>) = due.iter().partition(|check| waits(check));
        let findings = at_once::each(&now, |check| match unmet(check, &found) {
            Some(why) => Finding::skip(why),
            None => (check.run)(subject),
        });
        found.extend(now.into_iter().zip(findings));
        due = later;
    }
    found.sort_by_key(|(check, _)| table.iter().position(|it| it.name == check.name));
    found
}

/// Whether a check is asked for, or needed by one that is. No names ask for all.
fn is_wanted(check: &Check, table: &[Check], asked: &[String]) -> bool {
    asked.is_empty()
        || asked.iter().any(|name| name == check.name)
        || table.iter().any(|it| it.needs.contains(&check.name) && is_wanted(it, table, asked))
}

/// Why the check cannot be run, if what it needs is not there; where that is for want of something
/// else, that is the reason.
fn unmet(check: &Check, found: &[(&Check, Finding)]) -> Option<String> {
    let needed = found.iter().filter(|(it, _)| check.needs.contains(&it.name));
    let mut absent = needed.filter_map(|(it, finding)| match finding.verdict {
        Verdict::Fail => Some(format!("it needs {}, which failed", it.name)),
        Verdict::Skip => unmet(it, found).or_else(|| Some(format!("it needs {}, which was skipped", it.name))),
        Verdict::Pass | Verdict::Warn => None,
    });
    absent.next()
}
