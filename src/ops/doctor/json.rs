//! The findings for scripts. These keys are a promise; the wording of reasons and remedies is not.

use serde::Serialize;

use super::check::{Check, Finding, Verdict};

#[derive(Serialize)]
pub struct Row<'a> {
    name: &'a str,
    verdict: Verdict,
    reason: &'a str,
    remedy: Option<&'a str>,
}

pub fn rows<'a>(findings: &'a [(&Check, Finding)]) -> Vec<Row<'a>> {
    let row = |(check, finding): &'a (&Check, Finding)| Row {
        name: check.name,
        verdict: finding.verdict,
        reason: &finding.reason,
        remedy: finding.remedy.as_deref(),
    };
    findings.iter().map(row).collect()
}
