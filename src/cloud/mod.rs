//! Alibaba Cloud: signed RPC calls, credentials, instance metadata.
//!
//! [`Cloud`] has one method per operation, in our words. Each repeats what may be repeated
//! (see `retry`) until its deadline, and otherwise hands a [`CloudError`] with its [`Class`] to the
//! caller, who alone knows whether to look, to take a new token or to give up.

mod addon_token;
mod class;
mod credential_cache;
mod credentials;
mod ecs;
mod eip;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod metadata;
mod permission;
mod place;
mod retry;
mod rpc;
mod rrsa;
#[cfg(test)]
mod scripted;
mod signature;
mod sts;
mod turn;
mod vpc;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::http::{Http, Trust};
use crate::measure::Tally;

pub use class::Class;
pub use ecs::Eni;
pub use eip::{Allocated, Allocation, Eip, EipChange, EipFilter, EipStatus};
pub use error::CloudError;
pub use metadata::MetadataEni;
pub use permission::Trial;
pub use rrsa::{AUDIENCE, NoToken, OidcTokens, Rrsa, SessionName};
pub use sts::{CallerIdentity, Identity};

pub use crate::settings::{AccessKey, Endpoints};

use credentials::{Chain, Sources};
use error::Failure;
use metadata::Metadata;
use place::Place;
use rrsa::Exchange;

const METADATA: &str = "http://100.100.100.200";

/// What `eni_conf` and the environment say about the cloud.
#[derive(Clone, Debug)]
pub struct Config {
    /// Such as `cn-hangzhou`; None asks instance metadata.
    pub region: Option<String>,
    /// Such as `vpc-…`; None asks instance metadata.
    pub vpc_id: Option<String>,
    pub endpoints: Endpoints,
    /// A long-lived key; None (or an empty one) means the rest of the chain.
    pub access_key: Option<AccessKey>,
    /// The file with ACK's add-on token; asked after the key and before the node's RAM role.
    pub addon_token: Option<PathBuf>,
    /// A role for the service account's token; asked after the file and before the node's RAM role.
    pub rrsa: Option<Rrsa>,
    /// `<stateDir>/credentials.json`, for temporary credentials only.
    pub credential_cache: PathBuf,
    /// Counts the tries of every call to the APIs; instance metadata does not count.
    pub tally: Arc<Tally>,
}

/// What the podeip processes of a node tell each other about throttling.
pub trait ThrottleNote: Send + Sync {
    /// How long to hold back before `action` for the others' sake; zero means go.
    fn wait(&self, action: &str) -> Duration;

    /// The cloud just refused `action` because of its rate.
    fn throttled(&self, action: &str);
}

/// The account's cloud, as seen from this node. Shared by reference between threads.
pub struct Cloud {
    place: Arc<Place>,
    metadata: Arc<Metadata>,
    credentials: Chain,
    http: Arc<Http>,
    note: Box<dyn ThrottleNote>,
    tally: Arc<Tally>,
}

impl Cloud {
    /// Does no I/O.
    ///
    /// # Errors
    /// When no TLS client can be built.
    pub fn new(config: Config, note: Box<dyn ThrottleNote>) -> Result<Self, CloudError> {
        let no_client = |cause: rustls::Error| {
            CloudError::new("TLS client", "for the cloud", 0, Failure::NotTried(cause.to_string()))
        };
        let http = Arc::new(Http::new(Trust::Public, None).map_err(no_client)?);
        let base = config.endpoints.metadata.as_deref().unwrap_or(METADATA);
        let metadata = Arc::new(Metadata::new(base, http.clone()));
        let place = Arc::new(Place::new(config.region, config.vpc_id, config.endpoints, metadata.clone()));
        let exchange = config.rrsa.map(|rrsa| Exchange::new(rrsa, place.clone(), http.clone(), config.tally.clone()));
        let sources = Sources { access_key: config.access_key, addon_token: config.addon_token, exchange };
        let credentials = Chain::new(sources, metadata.clone(), config.credential_cache);
        Ok(Self { place, metadata, credentials, http, note, tally: config.tally })
    }

    /// Learns region and credentials, so that the first call need not. Worth a thread of its own.
    ///
    /// # Errors
    /// Metadata does not answer, or no source has credentials.
    pub fn prepare(&self, deadline: Deadline) -> Result<(), CloudError> {
        self.region(deadline)?;
        self.credentials.current(deadline)?;
        Ok(())
    }

    /// The region's id: configuration, else instance metadata.
    pub fn region(&self, deadline: Deadline) -> Result<&str, CloudError> {
        self.place.region(deadline)
    }

    /// The node's VPC: configuration, else instance metadata.
    pub fn vpc_id(&self, deadline: Deadline) -> Result<&str, CloudError> {
        self.place.vpc_id(deadline)
    }

    /// The ENI of this node with that MAC, from instance metadata; None when the node has none such.
    pub fn eni_of_mac(&self, mac: &str, deadline: Deadline) -> Result<Option<MetadataEni>, CloudError> {
        self.metadata.eni_of_mac(mac, deadline)
    }

    /// This instance's id, from instance metadata; None when metadata does not know it.
    pub fn instance_id(&self, deadline: Deadline) -> Result<Option<String>, CloudError> {
        self.metadata.text("instance-id", deadline)
    }
}

#[cfg(test)]
mod tests;
