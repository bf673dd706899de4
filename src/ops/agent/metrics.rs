//! What the agent tells a Prometheus server: the verbs of its node, the EIPs it has seen, its own rounds, and
//! the parts of the installation that it keeps.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::measure::{Calls, Measured};
use crate::state::measures::VerbMeasures;

/// Upper bounds in seconds: from a look at the kernel to the whole time of an ADD.
const BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Names and values.
type Labels<const N: usize> = [(&'static str, String); N];

/// Everything the agent has counted since it started, and what it saw last. Shared by reference
/// between threads.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    verbs: Family<Labels<2>, Counter>,
    verb_seconds: Family<Labels<1>, Histogram>,
    stage_seconds: Family<Labels<1>, Histogram>,
    calls: Family<Labels<2>, Counter>,
    rounds: Family<Labels<1>, Counter>,
    install_repairs: Family<Labels<1>, Counter>,
    installed: Family<Labels<1>, Gauge>,
    seen: Arc<Seen>,
}

/// This node's attachments, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeGauges {
    /// Every phase that is to be shown, also with none in it.
    pub eips_by_phase: BTreeMap<String, usize>,
    /// Kept without a running sandbox.
    pub held: usize,
}

/// What the sweep that succeeded last found in the whole cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepGauges {
    /// EIPs tagged with our cluster that nothing claims.
    pub leaked: usize,
    /// How long the oldest of them has been unclaimed.
    pub leaked_oldest_seconds: f64,
    /// All EIPs of the account in the region, which its quota counts; `None` while unknown.
    pub account_eips: Option<usize>,
    /// `eip_quota` of the settings.
    pub eip_quota: Option<u32>,
    pub last_success: Timestamp,
    /// PodEIPs of the cluster.
    pub podeips: usize,
    /// How long it took.
    pub seconds: f64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("podeip");
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let metrics = Self {
            verbs: Family::default(),
            verb_seconds: Family::new_with_constructor(histogram),
            stage_seconds: Family::new_with_constructor(histogram),
            calls: Family::default(),
            rounds: Family::default(),
            install_repairs: Family::default(),
            installed: Family::default(),
            seen: Arc::default(),
            registry: Registry::default(),
        };
        // The encoder appends `_info`, `_total` and the unit.
        registry.register("build", "The running podeip", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("verbs", "CNI calls about pods with an EIP, by their outcome", metrics.verbs.clone());
        registry.register_with_unit(
            "verb_duration",
            "Time of a CNI call about a pod with an EIP",
            Unit::Seconds,
            metrics.verb_seconds.clone(),
        );
        registry.register_with_unit(
            "stage_duration",
            "Time of one stage of an ADD; some run side by side",
            Unit::Seconds,
            metrics.stage_seconds.clone(),
        );
        registry.register("api_calls", "Tries of calls to the cloud and the API server", metrics.calls.clone());
        registry.register("rounds", "Rounds of this agent over its node, by their outcome", metrics.rounds.clone());
        registry.register(
            "install_repairs",
            "Parts of the installation that were put right",
            metrics.install_repairs.clone(),
        );
        registry.register(
            "installed",
            "Whether a part of the installation is as it should be",
            metrics.installed.clone(),
        );
        registry.register_collector(Box::new(metrics.seen.clone()));
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// One line that a verb left.
    pub fn absorb_verb(&self, measures: &VerbMeasures) {
        let verb = ("verb", measures.verb.name().to_owned());
        self.verbs.get_or_create(&[verb.clone(), ("outcome", measures.outcome.clone())]).inc();
        self.verb_seconds.get_or_create(&[verb]).observe(measures.seconds);
        for (stage, seconds) in &measures.stages {
            self.stage_seconds.get_or_create(&[("stage", stage.name().into())]).observe(*seconds);
        }
        self.count(&measures.calls);
    }

    /// The agent's own calls.
    pub fn absorb_calls(&self, measured: &Measured) {
        self.count(&measured.calls);
    }

    /// One round over the node ended, `ok` or with the kind of its failure.
    pub fn count_round(&self, outcome: &str) {
        self.rounds.get_or_create(&[("outcome", outcome.into())]).inc();
    }

    /// A part of the installation was missing or wrong.
    pub fn count_repair(&self, part: &'static str) {
        self.install_repairs.get_or_create(&[("part", part.into())]).inc();
    }

    /// Whether a part of the installation is right now.
    pub fn set_installed(&self, part: &'static str, right: bool) {
        self.installed.get_or_create(&[("part", part.into())]).set(right.into());
    }

    /// Replaces what was seen of this node.
    pub fn set_node(&self, node: NodeGauges) {
        self.seen.lock().node = Some(node);
    }

    /// When another token has to be in the kubeconfig; `None` where it does not say.
    pub fn set_token_end(&self, ends: Option<Timestamp>) {
        self.seen.lock().token_ends = ends;
    }

    /// Whether this agent holds the Lease. What it found is another's business as soon as it does not.
    pub fn set_sweep_leader(&self, leads: bool) {
        let mut seen = self.seen.lock();
        seen.leads = leads;
        seen.sweep = seen.sweep.take().filter(|_| leads);
    }

    /// Replaces what the last sweep found; only its leader knows.
    pub fn set_sweep(&self, sweep: SweepGauges) {
        let mut seen = self.seen.lock();
        seen.leads = true;
        seen.sweep = Some(sweep);
    }

    /// Everything, in the OpenMetrics text format.
    ///
    /// # Errors
    /// Never, as writing to a String does not fail; the encoder only cannot know.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn count(&self, calls: &Calls) {
        for (action, codes) in calls {
            for (code, tries) in codes {
                let labels = [("action", action.clone()), ("code", code.clone())];
                self.calls.get_or_create(&labels).inc_by(*tries);
            }
        }
    }
}

/// What was seen last, put into words at each scrape: so all of it is of one moment, and what is not
/// known is absent instead of zero.
#[derive(Debug, Default)]
struct Seen(Mutex<Sights>);

#[derive(Debug, Default)]
struct Sights {
    node: Option<NodeGauges>,
    token_ends: Option<Timestamp>,
    leads: bool,
    sweep: Option<SweepGauges>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Sights> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let seen = self.lock();
        if let Some(node) = &seen.node {
            encode_node(&mut encoder, node)?;
        }
        if let Some(ends) = seen.token_ends {
            let help = "When the kubeconfig's token ends, or was to be replaced where it is extended";
            gauge(&mut encoder, "kubeconfig_token_expiry_timestamp_seconds", help, ends.as_second())?;
        }
        gauge(&mut encoder, "sweep_leader", "Whether this agent sweeps the cluster", u64::from(seen.leads))?;
        match &seen.sweep {
            Some(sweep) => encode_sweep(&mut encoder, sweep),
            None => Ok(()),
        }
    }
}

fn encode_node(encoder: &mut DescriptorEncoder, node: &NodeGauges) -> fmt::Result {
    let mut phases = described(encoder, "eips", "Attachments of this node, by their phase")?;
    for (phase, count) in &node.eips_by_phase {
        ConstGauge::new(*count).encode(phases.encode_family(&[("phase", phase.as_str())])?)?;
    }
    gauge(encoder, "held_eips", "EIPs of this node that are kept for a pod's next sandbox", node.held)
}

fn encode_sweep(encoder: &mut DescriptorEncoder, sweep: &SweepGauges) -> fmt::Result {
    gauge(encoder, "leaked_eips", "EIPs of this cluster that nothing claims", sweep.leaked)?;
    let oldest = sweep.leaked_oldest_seconds;
    gauge(encoder, "leaked_eip_oldest_seconds", "How long the oldest of them has been unclaimed", oldest)?;
    if let Some(count) = sweep.account_eips {
        gauge(encoder, "account_eips", "EIPs of the account in this region: the quota that is used", count)?;
    }
    if let Some(quota) = sweep.eip_quota {
        gauge(encoder, "eip_quota", "EIPs that the account may have in this region, by eip_quota of eni_conf", quota)?;
    }
    gauge(encoder, "podeips", "PodEIP objects of the cluster", sweep.podeips)?;
    let ended = sweep.last_success.as_second();
    gauge(encoder, "last_sweep_timestamp_seconds", "When the last sweep that succeeded ended", ended)?;
    gauge(encoder, "last_sweep_duration_seconds", "How long it took", sweep.seconds)
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
    ConstGauge::new(value).encode(described(encoder, name, help)?)
}

/// The registry puts its prefix before the names of a collector too, but no full stop behind its help.
fn described<'a>(
    encoder: &'a mut DescriptorEncoder,
    name: &'a str,
    help: &str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)
}

#[cfg(test)]
mod tests;
