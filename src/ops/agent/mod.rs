//! `podeip agent`: looks after this node, and after the cluster while it holds the Lease.
//!
//! One process a node. The main thread waits for signals and for changes of the state file; one thread
//! settles what a change means, one makes a round over the node every period, one sweeps. While it
//! lives it holds `agent.lock`, and DEL leaves to it what needs waiting. With `--keep-installed` another
//! thread keeps what `podeip install` made; how that goes does not touch the agent's health.

mod health;
mod metrics;
mod serve;
mod telemetry;
mod wait;

use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use super::cli::PathOptions;
use super::identity::Identity;
use super::install::keeper::Keeper;
use super::install::options::{InstallOptions, StanzaIn};
use super::install::{Installation, Look};
use super::paths;
use super::print::{columns, or_dash, print, say};
use crate::deadline::Deadline;
use crate::eip::failure::chain;
use crate::eip::node::{Node, Paths};
use crate::eip::sweep::{Finding, Report, Sweeper, Swept, What};
use crate::eip::upkeep::{Scope, Upkeep};
use crate::settings::Settings;
use crate::state::{AgentLock, StateError, Store};
use telemetry::{Served, Telemetry};
use wait::{Waiter, Woken};

/// A DaemonSet's update stops the old agent before it starts the new one, which gets 30 s for it.
const PREDECESSOR_TIME: Duration = Duration::from_secs(40);

/// The longest a round or a sweep goes on: with a remote system that hangs, the next one starts afresh.
const LONGEST_ROUND: Duration = Duration::from_secs(10 * 60);

/// A pass over what changed: it waits for the cloud's change of a binding, some seconds.
const PASS_TIME: Duration = Duration::from_secs(60);

/// When something is still under way after a pass, or in the hands of a verb: a DEL that left the rest
/// to the agent writes nothing more when it ends.
const SOON: Duration = Duration::from_millis(300);

/// Between two looks for settings that the installation has not been able to render yet.
const SETTINGS_PAUSE: Duration = Duration::from_secs(1);

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
    /// Where /metrics and /healthz are served: an IP address, with or without a port; or "off"
    #[arg(long, value_name = "ADDRESS", default_value_t)]
    metrics: Served,
    /// Keep what `podeip install` makes with these options: put it right whenever it is changed, and
    /// follow what it is made from. Nothing is taken away when the agent ends
    #[arg(long)]
    keep_installed: bool,
    #[command(flatten)]
    paths: PathOptions,
    #[command(flatten)]
    installation: InstallOptions,
}

/// Runs until SIGTERM or SIGINT, or once.
///
/// # Errors
/// Settings or a state that cannot be used, and another agent on this node.
pub fn run(options: &AgentOptions) -> anyhow::Result<ExitCode> {
    crate::logging::init_stderr(log::LevelFilter::Info);
    let identity = Identity::read()?;
    let paths =
        if options.keep_installed { paths::of_installation(&options.paths) } else { paths::resolve(&options.paths)? };
    if options.once {
        let _kept = keep_installed(options, |_| {})?;
        return once(&paths, &identity, options.report_only);
    }
    let store = Store::open(&paths.state_directory)?;
    // Before signals are held back: an agent that only waits for another one ends at the first.
    let mut alive = take_place(&store)?;
    if options.keep_installed {
        alive.note_keeping();
    }
    let waiter = Waiter::new(&store)?;
    log::info!("agent of node {} starts", identity.node);
    let telemetry = Telemetry::new(&store, &paths.kubeconfig, LONGEST_ROUND * 2);
    let _server = telemetry.serve(options.metrics);
    let kept = keep_installed(options, telemetry.teller_of_installation())?;
    if kept.is_none() || await_settings(&paths, &waiter) {
        while let Ended::SettingsChanged = serve(&paths, &identity, options.report_only, &waiter, &telemetry)? {
            log::info!("the settings changed and are read again");
        }
    }
    log::info!("agent of node {} ends", identity.node);
    Ok(ExitCode::SUCCESS)
}

fn keep_installed(options: &AgentOptions, told: impl Fn(&Look) + Send + 'static) -> anyhow::Result<Option<Keeper>> {
    let sources = &options.installation;
    if !options.keep_installed {
        let idle = sources.settings_from.is_empty()
            && sources.addon_token_from.is_none()
            && sources.stanza_in == StanzaIn::default();
        ensure!(idle, "--settings-from, --addon-token-from and --stanza-in do nothing without --keep-installed");
        return Ok(None);
    }
    Keeper::start(Installation::new(sources, &options.paths)?, told).map(Some)
}

/// Waits for settings that can be read. An agent that ended for want of them would not keep the rest of the
/// installation meanwhile. False when it is to stop.
fn await_settings(paths: &Paths, waiter: &Waiter) -> bool {
    let mut told = None;
    while let Err(lack) = Settings::read(&paths.settings, |name| std::env::var(name).ok()) {
        let lack = chain(&lack);
        if told.as_ref() != Some(&lack) {
            log::error!("waiting for settings: {lack}");
            told = Some(lack);
        }
        if waiter.wait(Instant::now() + SETTINGS_PAUSE) == Woken::Stop {
            return false;
        }
    }
    true
}

fn take_place(store: &Store) -> anyhow::Result<AgentLock> {
    if store.agent_alive() {
        log::warn!(
            "another podeip agent lives on this node; waiting up to {} s for it to end",
            PREDECESSOR_TIME.as_secs()
        );
    }
    store.lock_agent(Deadline::after(PREDECESSOR_TIME)).map_err(|error| match error {
        StateError::Locked { .. } => anyhow::Error::new(error).context(
            "another podeip agent lives on this node and does not end; end it, or see why it hangs, then start this one",
        ),
        error => error.into(),
    })
}

fn once(paths: &Paths, identity: &Identity, report_only: bool) -> anyhow::Result<ExitCode> {
    let node = Node::open(paths)?.paced();
    let until = Deadline::after(LONGEST_ROUND);
    let settled = Upkeep::new(&node, &identity.node).round(until)?;
    for (pod, failure) in &settled.unfinished {
        say(format_args!("podeip: pod {pod} is not finished and stays recorded for the next round: {failure}"));
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
fn serve(
    paths: &Paths,
    identity: &Identity,
    report_only: bool,
    waiter: &Waiter,
    telemetry: &Telemetry,
) -> anyhow::Result<Ended> {
    let node = Node::open(paths)?.paced();
    let upkeep = Upkeep::new(&node, &identity.node);
    let sweeper = Sweeper::new(&node, &identity.node, &identity.namespace, report_only);
    let period = node.settings.gc_period;
    let (stop_rounds, rounds_stopped) = mpsc::channel();
    let (stop_sweeps, sweeps_stopped) = mpsc::channel();
    // One change that waits to be looked at stands for all that follow it.
    let (changed, changes) = mpsc::sync_channel(1);
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| settle_on(&node, &upkeep, changes, telemetry));
        scope.spawn(|| every(period, rounds_stopped, || make_round(&node, &upkeep, telemetry)));
        if node.settings.enabled {
            scope.spawn(|| sweep_on(&node, &sweeper, sweeps_stopped, telemetry));
        } else {
            log::warn!("enable_eip_pool is off: only what is left of earlier pods is looked after");
        }
        let ended = wait(&node, paths, waiter, &changed);
        upkeep.stop();
        sweeper.stop();
        drop((stop_rounds, stop_sweeps, changed));
        ended
    });
    Ok(ended)
}

/// Waits for what ends this version of the settings, and passes on that the state file has changed.
fn wait(node: &Node, paths: &Paths, waiter: &Waiter, changed: &mpsc::SyncSender<()>) -> Ended {
    let mut next_reading = Instant::now() + node.settings.gc_period;
    loop {
        match waiter.wait(next_reading) {
            Woken::Stop => return Ended::Stopped,
            Woken::Change => drop(changed.try_send(())),
            Woken::Time => {
                next_reading = Instant::now() + node.settings.gc_period;
                if settings_changed(node, paths) {
                    return Ended::SettingsChanged;
                }
            }
        }
    }
}

/// Settles what each change means, until the sender hangs up.
fn settle_on(node: &Node, upkeep: &Upkeep, changes: mpsc::Receiver<()>, telemetry: &Telemetry) {
    let mut pending = false;
    loop {
        let woken = if pending { changes.recv_timeout(SOON) } else { changes.recv().map_err(Into::into) };
        if matches!(woken, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        pending = match upkeep.settle(Scope::Changed, None, Deadline::after(PASS_TIME)) {
            Ok(pass) => pass.pending,
            Err(failure) => {
                log::error!("what changed in state.json is not settled, and the next round tries again: {failure}");
                false
            }
        };
        telemetry.absorb(node);
    }
}

/// Does `work` now and every `period`, until `stopped` hangs up.
fn every(period: Duration, stopped: mpsc::Receiver<()>, work: impl Fn()) {
    loop {
        let started = Instant::now();
        work();
        let rest = period.saturating_sub(started.elapsed());
        if !matches!(stopped.recv_timeout(rest), Err(RecvTimeoutError::Timeout)) {
            return;
        }
    }
}

fn make_round(node: &Node, upkeep: &Upkeep, telemetry: &Telemetry) {
    telemetry.health.round_began();
    let outcome = upkeep.round(Deadline::after(LONGEST_ROUND)).map(|pass| pass.unfinished.is_empty());
    telemetry.absorb(node);
    telemetry.round_ended(outcome.map_err(|failure| {
        log::error!("the round over this node is not complete, and the next one tries again: {failure}");
        failure.to_string()
    }));
}

/// Settings that cannot be read are no reason to stop with those that could be.
fn settings_changed(node: &Node, paths: &Paths) -> bool {
    match Settings::read(&paths.settings, |name| std::env::var(name).ok()) {
        Ok(settings) => settings != node.settings,
        Err(error) => {
            log::error!("the settings of before stay in force until these can be read: {}", chain(&error));
            false
        }
    }
}

/// Sweeps every period, and gives the Lease back at the end.
fn sweep_on(node: &Node, sweeper: &Sweeper, stopped: mpsc::Receiver<()>, telemetry: &Telemetry) {
    every(node.settings.gc_period, stopped, || {
        let started = Instant::now();
        match sweeper.sweep(true, Deadline::after(LONGEST_ROUND)) {
            Ok(Swept::Done(report)) => {
                log_sweep(&report, started.elapsed());
                telemetry.swept(node, &report, started.elapsed());
            }
            Ok(Swept::HeldBy(_)) => telemetry.not_leading(),
            Err(failure) => log::warn!("the sweep is not complete, and the next one tries again: {failure}"),
        }
    });
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
