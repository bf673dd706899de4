//! `podeip doctor`: a table of checks of this node, its cluster and its cloud, each with a remedy.

use std::path::Path;
use std::process::ExitCode;

use super::cli::{DoctorOutput, PathOptions};
use super::print::print;

mod check;
mod cloud;
mod cluster;
mod credentials;
mod executable;
mod json;
mod leaks;
mod node;
mod pods;
mod rbac;
mod route;
mod subject;
mod table;
mod token;

use check::{Check, Verdict};
use subject::Subject;

/// Cheap ones first. What stands in `needs` stands above it.
static CHECKS: &[Check] = &[
    Check {
        name: "settings",
        looks_at: "eni_conf can be read, and its key by nobody else",
        needs: &[],
        run: node::settings,
    },
    Check {
        name: "feature-switch",
        looks_at: "eni_conf turns the feature on and names the cluster",
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
        name: "executable",
        looks_at: "the installed executable runs, and is the running agent's version",
        needs: &["state-file"],
        run: executable::executable,
    },
    Check {
        name: "kubeconfig",
        looks_at: "the kubeconfig can be used, its API server answers, and its token lasts",
        needs: &[],
        run: cluster::kubeconfig,
    },
    Check {
        name: "rbac",
        looks_at: "the service account may do all that podeip does",
        needs: &["kubeconfig"],
        run: rbac::rbac,
    },
    Check {
        name: "node-name",
        looks_at: "the API server has pods on a node of this one's name",
        needs: &["kubeconfig"],
        run: pods::node_name,
    },
    Check { name: "podeip-crd", looks_at: "PodEIPs are served", needs: &["kubeconfig"], run: cluster::podeip_crd },
    Check {
        name: "clock-skew",
        looks_at: "this node's clock against the API server's",
        needs: &["kubeconfig"],
        run: cluster::clock_skew,
    },
    Check {
        name: "coexistence",
        looks_at: "no other EIP feature of the cluster is active",
        needs: &["feature-switch", "state-file", "kubeconfig"],
        run: cluster::coexistence,
    },
    Check {
        name: "pods-without-eip",
        looks_at: "running pods of this node that ask for an EIP have one",
        needs: &["feature-switch", "state-file", "node-name", "podeip-crd"],
        run: pods::pods_without_eip,
    },
    Check {
        name: "metadata",
        looks_at: "the instance metadata service answers",
        needs: &["settings", "state-file"],
        run: cloud::metadata,
    },
    Check {
        name: "credentials",
        looks_at: "where the credentials come from, and whom the cloud sees behind them",
        needs: &["metadata"],
        run: credentials::credentials,
    },
    Check {
        name: "ram-permissions",
        looks_at: "the credentials permit what can be tried without effect",
        needs: &["credentials"],
        run: cloud::ram_permissions,
    },
    Check {
        name: "quota",
        looks_at: "how many EIPs the account has, of those it may have",
        needs: &["ram-permissions"],
        run: cloud::quota,
    },
    Check {
        name: "leaked-eips",
        looks_at: "every EIP that was bought on this node has a record or a PodEIP",
        needs: &["feature-switch", "node-name", "podeip-crd", "ram-permissions"],
        run: leaks::leaked_eips,
    },
    Check {
        name: "egress-route",
        looks_at: "what pods with an EIP send leaves by the ENI that it is bound on",
        needs: &["metadata"],
        run: route::egress_route,
    },
];

/// What can be asked for, and what each looks at.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    CHECKS.iter().map(|check| (check.name, check.looks_at))
}

/// Runs the checks that are `asked` for (none: all) and prints their findings. Exit code 1 when one
/// of them, or one that they need, failed.
///
/// # Errors
/// Only of printing.
pub fn run(asked: &[String], output: DoctorOutput, bin_dir: &Path, options: &PathOptions) -> anyhow::Result<ExitCode> {
    let subject = Subject::open(bin_dir, options);
    let mut findings = check::run(CHECKS, asked, &subject);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_check_needs_stands_above_it() {
        for (at, check) in CHECKS.iter().enumerate() {
            let above = |need: &&str| CHECKS[..at].iter().any(|it| it.name == *need);
            assert!(check.needs.iter().all(above), "{}", check.name);
        }
    }

    #[test]
    fn every_check_is_in_the_manual() {
        let manual = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctor.md"));
        for (name, _) in names() {
            assert!(manual.contains(&format!("\n| `{name}` |")), "docs/doctor.md lacks {name}");
        }
    }
}
