//! `podeip migrate`: takes over what another system has given this node's pods, or hands it back.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::cli::PathOptions;
use super::identity::Identity;
use super::paths;
use super::print::{columns, or_dash, print, say};
use super::progress::Progress;
use crate::eip::at_once;
use crate::eip::failure::Failure;
use crate::eip::migrate::{self, Decision, Handover, Peer, Step};
use crate::eip::node::Node;
use crate::kube::PodEip;
use crate::names::EipKind;
use crate::strategy::Strategy;

const COLUMNS: [&str; 8] = ["NAMESPACE", "POD", "EIP", "EIP-ID", "TYPE", "STRATEGY", "PLAN", "WHY"];

/// What `podeip migrate` can be told.
#[derive(Args, Clone, Debug)]
#[group(id = "direction", required = true, multiple = false, args = ["from", "to"])]
pub struct MigrateOptions {
    /// The system whose EIPs podeip takes over; it must not be active any more
    #[arg(long, value_enum, value_name = "SYSTEM")]
    from: Option<Former>,
    /// The system that gets them back; podeip must be switched off
    #[arg(long, value_enum, value_name = "SYSTEM")]
    to: Option<Next>,
    /// Print the plan and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How to print plan and result
    #[arg(short, long, value_enum, default_value_t)]
    output: MigrateOutput,
    #[command(flatten)]
    paths: PathOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Former {
    /// Terway's own EIP feature, of before Terway 1.7
    Terway,
    /// ack-extend-network-controller
    AckExtend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Next {
    /// ack-extend-network-controller
    AckExtend,
}

/// How `podeip migrate` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum MigrateOutput {
    /// The plan, and below it what came of it
    #[default]
    Table,
    /// What came of the plan as a JSON array; with --dry-run the plan
    Json,
}

/// One pod, or one PodEIP that outlives its pod, as `-o json` prints it. This is a promise to scripts.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    pod: String,
    eip_id: Option<String>,
    eip_address: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    strategy: Option<String>,
    plan: Plan,
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Plan {
    TakeOver,
    /// A PodEIP whose pod is over.
    TakeOverPodEip,
    HandBack,
    /// It is podeip's already.
    Ours,
    /// There is no EIP.
    None,
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Outcome {
    Done,
    /// Nothing was to be done.
    Left,
    Refused,
    Failed,
}

/// Prints the plan, carries it out unless `--dry-run` is given, and prints what came of it.
///
/// # Errors
/// Settings or a state that cannot be read; a system that is active and must not be; an API server or a
/// cloud that does not say what there is.
pub fn run(options: &MigrateOptions) -> anyhow::Result<ExitCode> {
    let node = Node::open(&paths::resolve(&options.paths)?)?;
    match options.from {
        Some(from) => {
            let name = Identity::read()?.node;
            let (steps, elsewhere) = migrate::survey(&node, &name, from.into())?;
            tell_elsewhere(elsewhere);
            let carry_out = |step: &Step| migrate::carry_out(&node, &name, step);
            options.go(&steps, "migrating", planned, carry_out)
        }
        None => {
            let (handovers, elsewhere) = migrate::plan_hand_back(&node)?;
            tell_elsewhere(elsewhere);
            options.go(&handovers, "handing back", handed, |handover| migrate::hand_back(&node, handover))
        }
    }
}

fn tell_elsewhere(count: usize) {
    if count > 0 {
        let are = if count == 1 { "1 pod of another node is" } else { &format!("{count} pods of other nodes are") };
        say(format_args!("{are} not this node's to migrate; run the same command there"));
    }
}

impl MigrateOptions {
    fn go<T: Sync>(
        &self,
        items: &[T],
        doing: &'static str,
        planned: impl Fn(&T) -> Row,
        carry_out: impl Fn(&T) -> Result<(), Failure> + Sync,
    ) -> anyhow::Result<ExitCode> {
        let mut rows: Vec<Row> = items.iter().map(planned).collect();
        if rows.is_empty() {
            say("there is nothing to migrate on this node");
        }
        if self.dry_run || self.output == MigrateOutput::Table {
            self.print(&rows)?;
        }
        if !self.dry_run {
            let progress = Progress::of(items.len(), doing);
            let outcomes = at_once::each(items, |item| {
                let outcome = carry_out(item);
                progress.step();
                outcome
            });
            drop(progress);
            rows.iter_mut().zip(outcomes).for_each(|(row, outcome)| row.end(outcome));
            if self.output == MigrateOutput::Table && !rows.is_empty() {
                print("")?;
            }
            self.print(&rows)?;
        }
        Ok(conclusion(&rows))
    }

    fn print(&self, rows: &[Row]) -> anyhow::Result<()> {
        match self.output {
            MigrateOutput::Json => print(&serde_json::to_string_pretty(rows)?),
            MigrateOutput::Table if rows.is_empty() => Ok(()),
            MigrateOutput::Table => {
                let mut header = COLUMNS;
                if rows.iter().any(|row| row.result.is_some()) {
                    header[6] = "RESULT";
                }
                print(&columns(&header, rows.iter().map(Row::cells)))
            }
        }
    }
}

fn conclusion(rows: &[Row]) -> ExitCode {
    let refused = rows.iter().filter(|row| row.plan == Plan::Refuse).count();
    let failed = rows.iter().filter(|row| row.result == Some(Outcome::Failed)).count();
    if refused + failed == 0 {
        return ExitCode::SUCCESS;
    }
    say(format_args!(
        "podeip: {refused} refused, {failed} failed; mend what the table says and run the same command again, which \
         goes on with the rest"
    ));
    ExitCode::FAILURE
}

fn planned(step: &Step) -> Row {
    let (plan, terms, why) = match &step.decision {
        Decision::TakeOver { record, note } => {
            let kind = record.eip.as_ref().map(|eip| eip.kind);
            (Plan::TakeOver, kind.map(|kind| (kind, record.strategy)), note.clone())
        }
        Decision::Mark => {
            let terms = step.pod_eip.as_ref().map(|it| (it.spec.kind, it.spec.strategy));
            (Plan::TakeOverPodEip, terms, Some("its pod is over; its strategy says what becomes of it".into()))
        }
        Decision::Ours => (Plan::Ours, None, None),
        Decision::Without(why) => (Plan::None, None, Some(why.clone())),
        Decision::Refused(why) => (Plan::Refuse, None, Some(why.clone())),
    };
    let named = step.pod_eip.as_ref().map(|it| it.spec.allocation_id.to_string());
    Row {
        eip_id: step.eip.as_ref().map(|eip| eip.id.to_string()).or(named),
        eip_address: step.eip.as_ref().and_then(|eip| Some(eip.address?.to_string())),
        why,
        ..Row::of(&step.namespace, &step.name, plan, terms)
    }
}

fn handed(handover: &Handover) -> Row {
    let terms = |claim: &PodEip| (claim.spec.kind, claim.spec.strategy);
    match handover {
        Handover::Attachment { record, pod_eip, refusal } => {
            let plan = if refusal.is_some() { Plan::Refuse } else { Plan::HandBack };
            Row {
                eip_id: record.eip.as_ref().map(|eip| eip.id.to_string()),
                eip_address: record.eip.as_ref().and_then(|eip| Some(eip.address?.to_string())),
                why: refusal.clone(),
                ..Row::of(&record.pod.namespace, &record.pod.name, plan, pod_eip.as_ref().map(terms))
            }
        }
        Handover::Outliving(claim) => Row {
            eip_id: Some(claim.spec.allocation_id.to_string()),
            eip_address: claim.status.as_ref().and_then(|status| Some(status.eip_address?.to_string())),
            ..Row::of(&claim.namespace, &claim.name, Plan::HandBack, Some(terms(claim)))
        },
    }
}

impl Row {
    fn of(namespace: &str, pod: &str, plan: Plan, terms: Option<(EipKind, Strategy)>) -> Self {
        Self {
            namespace: namespace.into(),
            pod: pod.into(),
            eip_id: None,
            eip_address: None,
            kind: terms.map(|(kind, _)| kind.to_string()),
            strategy: terms.map(|(_, strategy)| strategy.to_string()),
            plan,
            why: None,
            result: None,
        }
    }

    fn end(&mut self, outcome: Result<(), Failure>) {
        self.result = Some(match (outcome, self.plan) {
            (Err(failure), _) => {
                self.why = Some(failure.to_string());
                Outcome::Failed
            }
            (Ok(()), Plan::Refuse) => Outcome::Refused,
            (Ok(()), Plan::Ours | Plan::None) => Outcome::Left,
            (Ok(()), Plan::TakeOver | Plan::TakeOverPodEip | Plan::HandBack) => Outcome::Done,
        });
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            self.pod.clone(),
            or_dash(self.eip_address.as_ref()),
            or_dash(self.eip_id.as_ref()),
            or_dash(self.kind.as_ref()),
            or_dash(self.strategy.as_ref()),
            self.word().into(),
            or_dash(self.why.as_ref()),
        ]
    }

    /// Of the plan, and once there is one of the result.
    fn word(&self) -> &'static str {
        match (self.plan, self.result) {
            (_, Some(Outcome::Failed)) => "failed",
            (Plan::TakeOver | Plan::TakeOverPodEip, None) => "take over",
            (Plan::TakeOver | Plan::TakeOverPodEip, Some(_)) => "taken over",
            (Plan::HandBack, None) => "hand back",
            (Plan::HandBack, Some(_)) => "handed back",
            (Plan::Ours, _) => "podeip's already",
            (Plan::None, _) => "nothing",
            (Plan::Refuse, None) => "refuse",
            (Plan::Refuse, Some(_)) => "refused",
        }
    }
}

impl From<Former> for Peer {
    fn from(system: Former) -> Self {
        match system {
            Former::Terway => Peer::Terway,
            Former::AckExtend => Peer::AckExtend,
        }
    }
}
