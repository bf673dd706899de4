//! What the checks look at: this node's files, and the clients they lead to.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind};
use crate::eip::node::{Node, Paths};
use crate::kube::{Kube, Pod};
use crate::ops::cilium;
use crate::ops::cli::PathOptions;
use crate::ops::identity::Identity;
use crate::ops::paths::{self, Loaded};
use crate::settings::{Settings, SettingsError};
use crate::state::Store;
use crate::state::format::Attachment;

/// One question of one check. A person waits for it, and a service that needs longer is as good as down.
const ASK_TIME: Duration = Duration::from_secs(3);

/// A listing of the cluster or the account, which takes several questions in a large one.
const LIST_TIME: Duration = Duration::from_secs(20);

/// This node as the checks see it. What cannot be read is the finding of the check that reads it.
pub struct Subject {
    pub paths: Paths,
    /// Where the runtime looks for plugins.
    pub bin_dir: PathBuf,
    /// What the runtime loads; `None` when its directory has no network configuration.
    pub loaded: anyhow::Result<Option<Loaded>>,
    /// Configurations that Cilium renamed, so that the runtime does not load them.
    pub set_aside: Vec<PathBuf>,
    pub settings: Result<Settings, SettingsError>,
    identity: Result<Identity, Failure>,
    node: Result<Node, Failure>,
    kube: OnceLock<Kube>,
    pods: OnceLock<Vec<Pod>>,
}

impl Subject {
    /// Reads files and asks nobody.
    pub fn open(bin_dir: &Path, options: &PathOptions) -> Self {
        let paths = paths::as_far_as_readable(options);
        Self {
            loaded: paths::loaded(&options.conf_dir),
            // A directory that cannot be read shows in what is loaded.
            set_aside: cilium::set_aside(&options.conf_dir).unwrap_or_default(),
            settings: Settings::read(&paths.settings, |name| std::env::var(name).ok()),
            identity: Identity::read().map_err(|error| Failure::new(Kind::Configuration, format!("{error:#}"))),
            node: Node::open(&paths),
            kube: OnceLock::new(),
            pods: OnceLock::new(),
            bin_dir: bin_dir.to_owned(),
            paths,
        }
    }

    pub fn node(&self) -> Result<&Node, Failure> {
        self.node.as_ref().map_err(Clone::clone)
    }

    /// This node in the cluster.
    pub fn identity(&self) -> Result<&Identity, Failure> {
        self.identity.as_ref().map_err(Clone::clone)
    }

    /// One client for all checks, so that its clock has heard of the server.
    pub fn kube(&self) -> Result<&Kube, Failure> {
        if let Some(kube) = self.kube.get() {
            return Ok(kube);
        }
        let kube = Kube::from_kubeconfig(&self.paths.kubeconfig)?;
        Ok(self.kube.get_or_init(|| kube))
    }

    /// The pods of this node, listed once.
    pub fn pods(&self) -> Result<&[Pod], Failure> {
        if let Some(pods) = self.pods.get() {
            return Ok(pods);
        }
        let pods = self.kube()?.pods_of_node(&self.identity()?.node, self.list_deadline())?;
        Ok(self.pods.get_or_init(|| pods))
    }

    /// The records of this node; a broken file stays where it is.
    pub fn records(&self) -> Result<Vec<Attachment>, Failure> {
        Ok(Store::open(&self.paths.state_directory)?.inspect()?)
    }

    /// The end of a question that is asked now.
    pub fn deadline(&self) -> Deadline {
        Deadline::after(ASK_TIME)
    }

    /// The same of a listing.
    pub fn list_deadline(&self) -> Deadline {
        Deadline::after(LIST_TIME)
    }
}
