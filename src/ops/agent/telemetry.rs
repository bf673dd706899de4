//! What the agent makes known of its node: it reads what the verbs left, counts its own calls, and
//! serves both.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::health::Health;
use super::metrics::{Metrics, NodeGauges, SweepGauges};
use super::serve::{DEFAULT_ADDRESS, Server};
use crate::eip::node::Node;
use crate::eip::sweep::Report;
use crate::kube;
use crate::ops::install::kept::Repair;
use crate::ops::install::{KUBECONFIG, Look};
use crate::state::Store;
use crate::state::format::Phase;
use crate::state::measures::Position;

/// Where metrics and health are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    At(SocketAddr),
    Nowhere,
}

impl Default for Served {
    fn default() -> Self {
        Served::At(DEFAULT_ADDRESS)
    }
}

impl std::fmt::Display for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Served::At(address) => address.fmt(f),
            Served::Nowhere => f.write_str("off"),
        }
    }
}

impl FromStr for Served {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Served::Nowhere);
        }
        // A pod knows its node's address alone, and could not tell whether a port goes behind it with or without brackets.
        let at_usual_port = |ip: IpAddr| SocketAddr::new(ip, DEFAULT_ADDRESS.port());
        let address = text.parse().or_else(|_| text.parse().map(at_usual_port));
        address.map(Served::At).map_err(|_| "neither off nor an address such as 127.0.0.1:9110 or 10.0.0.7".into())
    }
}

/// The figures of one agent, whatever version of the settings it works with.
pub struct Telemetry {
    store: Store,
    metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    kubeconfig: PathBuf,
    read: Mutex<Position>,
}

impl Telemetry {
    /// Begins to count now. A round that takes longer than `patience` makes the agent unhealthy.
    pub fn new(store: &Store, kubeconfig: &Path, patience: Duration) -> Self {
        Self {
            store: store.clone(),
            metrics: Arc::default(),
            health: Arc::new(Health::new(patience)),
            kubeconfig: kubeconfig.to_owned(),
            read: Mutex::new(store.measures_end()),
        }
    }

    /// Serves them until the server is dropped. An address that cannot be had costs the figures and
    /// not the node's upkeep.
    pub fn serve(&self, served: Served) -> Option<Server> {
        let Served::At(address) = served else { return None };
        match Server::start(address, self.metrics.clone(), self.health.clone()) {
            Ok(server) => {
                log::info!("metrics and health are on http://{}", server.address());
                Some(server)
            }
            Err(error) => {
                log::error!("{error:#}");
                None
            }
        }
    }

    /// Takes up what verbs and agent have done since the last call, and how the node stands.
    pub fn absorb(&self, node: &Node) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        for measures in self.store.measures_since(&mut read) {
            self.metrics.absorb_verb(&measures);
        }
        self.metrics.absorb_calls(&node.tally.take());
        note_token(&self.metrics, &self.kubeconfig);
        let Ok(records) = self.store.attachments() else { return };
        let mut phases: BTreeMap<String, usize> = Phase::ALL.iter().map(|phase| (format!("{phase:?}"), 0)).collect();
        for record in &records {
            *phases.entry(format!("{:?}", record.phase)).or_default() += 1;
        }
        let held = records.iter().filter(|record| record.eip.is_some() && record.binding.is_none()).count();
        self.metrics.set_node(NodeGauges { eips_by_phase: phases, held });
    }

    /// Has the figures hear of every look at a part of the installation.
    pub fn teller_of_installation(&self) -> impl Fn(&Look) + Send + 'static {
        let (metrics, kubeconfig) = (self.metrics.clone(), self.kubeconfig.clone());
        move |look| {
            if matches!(look.outcome, Ok(Repair::Done(_))) {
                metrics.count_repair(look.part);
            }
            metrics.set_installed(look.part, matches!(look.outcome, Ok(Repair::Sound | Repair::Done(_))));
            // Looked at more often than there are rounds.
            if look.part == KUBECONFIG {
                note_token(&metrics, &kubeconfig);
            }
        }
    }

    /// A round over the node ended.
    pub fn round_ended(&self, outcome: Result<bool, String>) {
        self.metrics.count_round(match &outcome {
            Ok(true) => "ok",
            Ok(false) => "unfinished",
            Err(_) => "failed",
        });
        self.health.round_ended(outcome.map(drop));
    }

    /// A sweep ended well.
    pub fn swept(&self, node: &Node, report: &Report, took: Duration) {
        let Ok(kube) = node.kube() else { return };
        self.metrics.set_sweep(SweepGauges {
            leaked: report.unclaimed,
            leaked_oldest_seconds: report.unclaimed_longest.as_secs_f64(),
            account_eips: report.account_eips,
            eip_quota: node.settings.eip_quota,
            last_success: kube.now(),
            podeips: report.pod_eips,
            seconds: took.as_secs_f64(),
        });
    }

    /// Another agent sweeps.
    pub fn not_leading(&self) {
        self.metrics.set_sweep_leader(false);
    }
}

fn note_token(metrics: &Metrics, kubeconfig: &Path) {
    metrics.set_token_end(kube::token_life_in(kubeconfig).map(|life| life.ends()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_off() {
        assert_eq!("off".parse(), Ok(Served::Nowhere));
        assert_eq!(Served::default().to_string().parse(), Ok(Served::default()));
        let at = |text: &str| Served::At(text.parse().unwrap());
        assert_eq!("10.0.0.7".parse(), Ok(at("10.0.0.7:9110")));
        assert_eq!("fd00::7".parse(), Ok(at("[fd00::7]:9110")));
        assert_eq!("[fd00::7]:80".parse(), Ok(at("[fd00::7]:80")));
        for wrong in ["9110", "10.0.0.7:", "node:9110", ""] {
            assert!(wrong.parse::<Served>().is_err(), "{wrong}");
        }
    }
}
