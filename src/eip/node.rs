//! What a verb works with on this node: settings, state, and the two clients, built when needed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cloud::{self, Cloud};
use crate::eip::bind::Timing;
use crate::eip::failure::{Failure, Kind};
use crate::eip::polls::LAST_LOOK;
use crate::eip::rrsa;
use crate::kube::Kube;
use crate::measure::Tally;
use crate::settings::Settings;
use crate::state::{Change, Store, ThrottleNote};

/// Twice the doubt ([`READ_LAG`](super::bind::READ_LAG)), and a second for the calls.
const LEAST_RECOVERY: Duration = Duration::from_secs(5);

/// How much longer binding may take than the last time.
const SLACK: f64 = 1.25;

/// Which part of ADD's time is kept for seeing its EIP bound, at most: a cloud that was slow once must be asked again.
const MOST_KEPT: u32 = 3;

/// In the state directory: the temporary credentials that the next process can use.
pub const CREDENTIAL_CACHE: &str = "credentials.json";

/// The files a verb is pointed at (the stanza's, or the defaults).
#[derive(Clone, Debug)]
pub struct Paths {
    pub settings: PathBuf,
    pub kubeconfig: PathBuf,
    pub state_directory: PathBuf,
}

/// This node. Building one reads the settings and nothing else.
pub struct Node {
    pub settings: Settings,
    pub store: Store,
    /// Counts the calls of both clients, and times the stages.
    pub tally: Arc<Tally>,
    kubeconfig: PathBuf,
    /// Whether the API server is asked no faster than the settings allow: a verb asks a few times
    /// and ends, an agent asks for ever.
    paced: bool,
    cloud: OnceLock<Cloud>,
    kube: OnceLock<Kube>,
}

impl Node {
    pub fn open(paths: &Paths) -> Result<Self, Failure> {
        let settings = Settings::read(&paths.settings, |name| std::env::var(name).ok())?;
        Ok(Self::with(settings, Store::open(&paths.state_directory)?, &paths.kubeconfig))
    }

    pub fn with(settings: Settings, store: Store, kubeconfig: &Path) -> Self {
        Self {
            settings,
            store,
            tally: Arc::default(),
            kubeconfig: kubeconfig.to_path_buf(),
            paced: false,
            cloud: OnceLock::new(),
            kube: OnceLock::new(),
        }
    }

    /// The same node for a process that stays.
    pub fn paced(self) -> Self {
        Self { paced: true, ..self }
    }

    /// How long finishing one pod's interrupted attachment may take. It must outlast the doubt about
    /// the last request of the process that died, however short a DEL is set to be.
    pub fn recovery_time(&self) -> Duration {
        self.settings.del_timeout.max(LEAST_RECOVERY)
    }

    /// The cluster's id, which every owner tag and token needs.
    pub fn cluster(&self) -> Result<&str, Failure> {
        Ok(self.settings.required_cluster_id()?)
    }

    /// What is known of how long the cloud takes.
    pub fn timing(&self) -> Timing<'_> {
        let pace = self.store.pace_note();
        let needed = pace.expected(Change::Bind).map_or(Duration::ZERO, |span| span.mul_f64(SLACK) + LAST_LOOK);
        let kept = needed.min(self.settings.add_timeout / MOST_KEPT);
        Timing { pace, tally: &self.tally, kept }
    }

    pub fn cloud(&self) -> Result<&Cloud, Failure> {
        if let Some(cloud) = self.cloud.get() {
            return Ok(cloud);
        }
        let config = cloud::Config {
            region: self.settings.region_id.clone(),
            vpc_id: self.settings.vpc_id.clone(),
            endpoints: self.settings.endpoints.clone(),
            access_key: self.settings.access_key.clone(),
            addon_token: self.settings.credential_path.clone(),
            rrsa: rrsa::configured(&self.settings, &self.kubeconfig, &self.tally, |name| std::env::var(name).ok())?,
            credential_cache: self.store.directory().join(CREDENTIAL_CACHE),
            tally: self.tally.clone(),
        };
        let cloud = Cloud::new(config, Box::new(self.store.throttle_note()))?;
        Ok(self.cloud.get_or_init(|| cloud))
    }

    pub fn kube(&self) -> Result<&Kube, Failure> {
        if let Some(kube) = self.kube.get() {
            return Ok(kube);
        }
        let mut kube = Kube::from_kubeconfig(&self.kubeconfig)?.counted_by(self.tally.clone());
        if self.paced {
            kube = kube.paced(self.settings.kube_client_qps, self.settings.kube_client_burst);
        }
        Ok(self.kube.get_or_init(|| kube))
    }
}

impl cloud::ThrottleNote for ThrottleNote {
    fn wait(&self, action: &str) -> Duration {
        ThrottleNote::wait(self, action)
    }

    fn throttled(&self, action: &str) {
        ThrottleNote::throttled(self, action);
    }
}

/// The failure of a thread that ended without an answer, which only a panic can cause.
pub fn panicked(doing: &str) -> Failure {
    Failure::new(Kind::CloudRefused, format!("{doing} broke off unexpectedly; please report it with the log"))
}
