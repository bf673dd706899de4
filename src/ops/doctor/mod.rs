//! `podeip doctor`: a table of checks of this node, its cluster and its cloud, each with a remedy.

use std::process::ExitCode;

use super::cli::{DoctorOutput, PathOptions};
use super::print::print;

mod check;
mod cloud;
mod cluster;
mod json;
mod node;
mod subject;
mod table;

use check::{Check, Verdict};
use subject::Subject;

/// What stands in `needs` stands above it.
static CHECKS: [Check; 9] = [
    Check {
        name: "settings",
        looks_at: "eni_conf can be read, and the stanza has no key that is not known",
        needs: &[],
        run: node::settings,
    },
    Check {
        name: "feature-switch",
        looks_at: "eni_conf turns the feature on",
        needs: &["settings"],
        run: node::feature_switch,
    },
    Check {
        name: "conflist",
        looks_at: "what the runtime loads first has the podeip stanza after a primary plugin",
        needs: &[],
        run: node::conflist,
    },
    Check {
        name: "state-file",
        looks_at: "the records of this node can be read, and by nobody else",
        needs: &[],
        run: node::state_file,
    },
    Check {
        name: "held-eips",
        looks_at: "records that are long on their way",
        needs: &["state-file"],
        run: node::held_eips,
    },
    Check {
        name: "kubeconfig",
        looks_at: "the kubeconfig can be used, and its API server answers",
        needs: &[],
        run: cluster::kubeconfig,
    },
    Check {
        name: "podeip-crd",
        looks_at: "PodEIPs are served and may be listed",
        needs: &["kubeconfig"],
        run: cluster::podeip_crd,
    },
    Check {
        name: "clock-skew",
        looks_at: "this node's clock against the API server's",
        needs: &["kubeconfig"],
        run: cluster::clock_skew,
    },
    Check {
        name: "metadata",
        looks_at: "the instance metadata service answers",
        needs: &["settings", "state-file"],
        run: cloud::metadata,
    },
];

/// What can be asked for.
pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|check| check.name)
}

/// Runs the checks that are `asked` for (none: all) and prints their findings. Exit code 1 when one
/// of them, or one that they need, failed.
///
/// # Errors
/// Only of printing.
pub fn run(asked: &[String], output: DoctorOutput, options: &PathOptions) -> anyhow::Result<ExitCode> {
    let subject = Subject::open(options);
    let mut findings = check::run(&CHECKS, asked, &subject);
    let failed = findings.iter().any(|(_, finding)| finding.verdict == Verdict::Fail);
    // What is needed and failed is worth a line, for it is where the remedy is.
    findings.retain(|(check, finding)| {
        asked.is_empty() || asked.iter().any(|name| name == check.name) || finding.verdict == Verdict::Fail
    });
    print(&match output {
        DoctorOutput::Table => table::text(&findings),
        DoctorOutput::Json => serde_json::to_string_pretty(&json::rows(&findings))?,
    })?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
