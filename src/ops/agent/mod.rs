//! `podeip agent`: looks after this node, and after the cluster while it holds the Lease.
//!
//! One process a node. The main thread works on the node whenever the state file changes and every
//! period; a second thread sweeps. While it lives it holds `agent.lock`, and DEL leaves to it what
//! needs waiting.

mod wait;

use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use super::cli::PathOptions;
use super::identity::Identity;
use super::paths;
use super::print::{columns, or_dash, print, say};
use crate::deadline::Deadline;
use crate::eip::node::{Node, Paths};
use crate::eip::sweep::{Finding, Report, Sweeper, Swept, What};
use crate::eip::upkeep::{Scope, Settled, Upkeep};
use crate::settings::Settings;
use crate::state::Store;
use wait::{Waiter, Woken};

/// A DaemonSet's update stops the old agent before it starts the new one, which gets 30 s for it.
const PREDECESSOR_TIME: Duration = Duration::from_secs(40);

/// The longest a round or a sweep goes on: with a remote system that hangs, the next one starts afresh.
const LONGEST_ROUND: Duration = Duration::from_secs(10 * 60);

/// A pass over what changed: it waits for the cloud's change of a binding, some seconds.
const PASS_TIME: Duration = Duration::from_secs(60);

/// When something is still under way after a pass.
const SOON: Duration = Duration::from_secs(1);

/// Giving the Lease back, at the end.
const RESIGN_TIME: Duration = Duration::from_secs(3);

/// What `podeip agent` can be told.
#[derive(Args, Clone, Debug)]
pub struct AgentOptions {
    /// Do one round, and one sweep if the Lease is to be had, and exit
    #[arg(long)]
    once: bool,
    /// Report EIPs and PodEIPs that nothing wants, and leave them alone
    #[arg(long)]
    report_only: bool,
    #[command(flatten)]
    paths: PathOptions,
}

/// Runs until SIGTERM or SIGINT, or once.
///
/// # Errors
/// Settings or a state that cannot be used, and another agent on this node.
pub fn run(options: &AgentOptions) -> anyhow::Result<ExitCode> {
    crate::logging::init_stderr(log::LevelFilter::Info);
    let paths = paths::resolve(&options.paths)?;
    let identity = Identity::read()?;
    if options.once {
        return once(&paths, &identity, options.report_only);
    }
    let store = Store::open(&paths.state_directory)?;
    let waiter = Waiter::new(&store)?;
    let _alive = store
        .lock_agent(Deadline::after(PREDECESSOR_TIME))
        .context("another podeip agent lives on this node, or has not ended yet")?;
    log::info!("agent of node {} starts", identity.node);
    while let Ended::SettingsChanged = serve(&paths, &identity, options.report_only, &waiter)? {
        log::info!("the settings changed and are read again");
    }
    log::info!("agent of node {} ends", identity.node);
    Ok(ExitCode::SUCCESS)
}

fn once(paths: &Paths, identity: &Identity, report_only: bool) -> anyhow::Result<ExitCode> {
    let node = Node::open(paths)?.paced();
    let until = Deadline::after(LONGEST_ROUND);
    let settled = Upkeep::new(&node, &identity.node).round(until)?;
    for (pod, failure) in &settled.unfinished {
        say(format_args!("podeip: pod {pod} is not finished: {failure}"));
    }
    let mut clean = settled.unfinished.is_empty();
    if node.settings.enabled {
        let sweeper = Sweeper::new(&node, &identity.node, &identity.namespace, report_only);
        match sweeper.sweep(false, until)? {
            Swept::Done(report) => clean &= tell(&report)?,
            Swept::HeldBy(holder) => say(format_args!("podeip: not swept: {holder} holds the Lease")),
        }
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what a sweep did; false when something failed.
fn tell(report: &Report) -> anyhow::Result<bool> {
    let row = |finding: &Finding| {
        vec![
            finding.namespace.clone(),
            finding.name.clone(),
            or_dash(finding.address),
            finding.eip.to_string(),
            finding.what.to_string(),
            finding.why.clone(),
        ]
    };
    if !report.findings.is_empty() {
        print(&columns(&["NAMESPACE", "POD", "EIP", "EIP-ID", "RESULT", "WHY"], report.findings.iter().map(row)))?;
    }
    Ok(!report.findings.iter().any(|finding| matches!(finding.what, What::Failed(_))))
}

enum Ended {
    Stopped,
    SettingsChanged,
}

/// Works with one version of the settings.
fn serve(paths: &Paths, identity: &Identity, report_only: bool, waiter: &Waiter) -> anyhow::Result<Ended> {
    let node = Node::open(paths)?.paced();
    let sweeper = Sweeper::new(&node, &identity.node, &identity.namespace, report_only);
    let (stop, stopped) = mpsc::channel::<()>();
    let ended = std::thread::scope(|scope| {
        if node.settings.enabled {
            scope.spawn(|| sweep_on(&sweeper, node.settings.gc_period, stopped));
        } else {
            log::warn!("enable_eip_pool is off: only what is left of earlier pods is looked after");
        }
        let ended = look_after(&node, paths, identity, waiter);
        sweeper.stop();
        drop(stop);
        ended
    });
    Ok(ended)
}

/// The node's work, until something ends it.
fn look_after(node: &Node, paths: &Paths, identity: &Identity, waiter: &Waiter) -> Ended {
    let period = node.settings.gc_period;
    let mut upkeep = Upkeep::new(node, &identity.node);
    let mut next_round = Instant::now();
    loop {
        let round_is_due = Instant::now() >= next_round;
        let pass = if round_is_due {
            next_round = Instant::now() + period;
            upkeep.round(Deadline::after(LONGEST_ROUND))
        } else {
            upkeep.settle(Scope::Changed, None, Deadline::after(PASS_TIME))
        };
        let pass = pass.unwrap_or_else(|failure| {
            log::error!("{failure}");
            Settled::default()
        });
        let wake = if pass.pending { next_round.min(Instant::now() + SOON) } else { next_round };
        match waiter.wait(wake) {
            Woken::Stop => return Ended::Stopped,
            Woken::Change | Woken::Time => {}
        }
        if round_is_due && settings_changed(node, paths) {
            return Ended::SettingsChanged;
        }
    }
}

/// Settings that cannot be read are no reason to stop with those that could be.
fn settings_changed(node: &Node, paths: &Paths) -> bool {
    match Settings::read(&paths.settings, |name| std::env::var(name).ok()) {
        Ok(settings) => settings != node.settings,
        Err(error) => {
            log::error!("the settings of before stay in force: {error}");
            false
        }
    }
}

/// Sweeps every period until `stopped` hangs up.
fn sweep_on(sweeper: &Sweeper, period: Duration, stopped: mpsc::Receiver<()>) {
    loop {
        let started = Instant::now();
        match sweeper.sweep(true, Deadline::after(LONGEST_ROUND)) {
            Ok(Swept::Done(report)) => log_sweep(&report, started.elapsed()),
            Ok(Swept::HeldBy(_)) => {}
            Err(failure) => log::warn!("sweep: {failure}"),
        }
        if !matches!(stopped.recv_timeout(period.saturating_sub(started.elapsed())), Err(RecvTimeoutError::Timeout)) {
            break;
        }
    }
    if let Err(failure) = sweeper.resign(Deadline::after(RESIGN_TIME)) {
        log::warn!("the Lease was not given back and runs out by itself: {failure}");
    }
}

fn log_sweep(report: &Report, took: Duration) {
    for finding in &report.findings {
        let Finding { namespace, name, eip, what, why, .. } = finding;
        log::info!("sweep: {namespace}/{name} {eip}: {what}; {why}");
    }
    log::info!(
        "sweep: {} PodEIPs, {} unclaimed EIPs, {} findings in {took:.1?}",
        report.pod_eips,
        report.unclaimed,
        report.findings.len()
    );
}
