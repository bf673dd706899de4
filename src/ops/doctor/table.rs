//! The findings for people: a line for each check, and below them what helps.

use super::check::{Check, Finding};
use crate::ops::print::{columns, on_one_line};

pub fn text(findings: &[(&Check, Finding)]) -> String {
    let cells = |(check, finding): &(&Check, Finding)| {
        vec![check.name.to_owned(), finding.verdict.name().to_owned(), finding.reason.clone()]
    };
    let mut text = columns(&["CHECK", "VERDICT", "REASON"], findings.iter().map(cells));
    for (check, finding) in findings {
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("\n! {}: {}", check.name, on_one_line(remedy)));
        }
    }
    text
}
