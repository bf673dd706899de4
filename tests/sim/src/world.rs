//! A whole simulated world inside one process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;

use crate::calls::{CallLog, ServiceKind};
use crate::clock::Clock;
use crate::cloud::{CloudSim, Endpoint, Metadata, Product, defaults};
use crate::control::Control;
use crate::exchange::Service;
use crate::faults::Faults;
use crate::kube::{self, KubeApi};
use crate::passage::Passage;
use crate::serve::{Hosted, Server};
use crate::tls::Certificates;

/// The longest wait for the servers' threads at the end: a handler may be in the midst of a
/// simulated processing time.
const STOPPING: Duration = Duration::from_millis(200);

/// Room for calls that are in their processing time at once, besides the servers themselves.
const HANDLER_THREADS: usize = 64;

/// The Kubernetes API server of a world.
#[derive(Clone)]
pub struct Kube {
    pub service: Arc<dyn Service>,
    /// The bearer token it accepts, for the kubeconfig and the control endpoint.
    pub token: Option<String>,
}

/// How to start a world. The default is plain HTTP for the cloud (podeip believes only public
/// authorities there) and TLS for the Kubernetes API, on free ports of 127.0.0.1.
#[derive(Clone, Default)]
pub struct Options {
    /// The world's clock; a [`Kube`] that was made with a clone of it lives in the same time.
    pub clock: Clock,
    /// Another service in place of the world's own API server.
    pub kube: Option<Kube>,
    pub kube_plain_http: bool,
    /// The Kubernetes API demands a client certificate of the world's CA.
    pub require_client_certificate: bool,
    /// TLS for the RPC endpoints too, with a certificate of the world's CA.
    pub cloud_tls: bool,
    /// Listen on `[::1]`.
    pub ipv6: bool,
    /// The first of six consecutive ports: VPC, ECS, STS, metadata, Kubernetes, control.
    pub first_port: Option<u16>,
}

/// A running world. Dropping it stops everything.
pub struct World {
    pub cloud: Arc<CloudSim>,
    pub faults: Arc<Faults>,
    pub calls: Arc<CallLog>,
    pub clock: Clock,
    pub certificates: Certificates,
    /// What the Kubernetes API serves.
    pub kube: Kube,
    /// The world's own cluster, for tests to arrange and to look into.
    pub cluster: KubeApi,
    /// All URLs are without a final slash.
    pub vpc_url: String,
    pub ecs_url: String,
    pub sts_url: String,
    pub metadata_url: String,
    pub kube_url: String,
    servers: Arc<Servers>,
    more: Vec<Server>,
    host: IpAddr,
    control_port: u16,
    runtime: Option<Runtime>,
}

pub(crate) struct Servers(Vec<(ServiceKind, Server)>);

impl Servers {
    pub fn set_up(&self, kind: ServiceKind, up: bool) {
        self.0.iter().filter(|(served, _)| *served == kind).for_each(|(_, server)| server.set_up(up));
    }

    fn url(&self, kind: ServiceKind) -> String {
        self.0.iter().find(|(served, _)| *served == kind).map(|(_, server)| server.url()).unwrap_or_default()
    }
}

impl World {
    /// Starts the default world ([`defaults`]). The servers' threads are started by the calling
    /// thread and so live in its network namespace.
    ///
    /// # Errors
    /// A port that is taken, or no threads.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(HANDLER_THREADS)
            .thread_name("podeip-sim")
            .enable_all()
            .build()
            .context("starting the servers' threads")?;
        let clock = options.clock.clone();
        let cloud = Arc::new(CloudSim::new(clock.clone()));
        let calls = Arc::new(CallLog::new(clock.clone()));
        let faults = Arc::new(Faults::default());
        let certificates = Certificates::make()?;
        let token = Some(defaults::KUBE_TOKEN.to_owned());
        let cluster = KubeApi::new(
            clock.clone(),
            kube::Options { token: token.clone(), accept_client_certificate: true, ..kube::Options::default() },
        );
        let genuine = cluster.clone();
        cloud.verify_oidc_signatures_with(move |token| genuine.token_claims(token).is_some());
        let kube = options.kube.clone().unwrap_or_else(|| Kube { service: Arc::new(cluster.clone()), token });
        let passage = Passage { calls: calls.clone(), faults: faults.clone() };
        let start = Start { runtime: &runtime, options: &options, certificates: &certificates, passage };
        let servers = Arc::new(start.all(&cloud, &kube)?);
        Ok(Self {
            vpc_url: servers.url(ServiceKind::Vpc),
            ecs_url: servers.url(ServiceKind::Ecs),
            sts_url: servers.url(ServiceKind::Sts),
            metadata_url: servers.url(ServiceKind::Metadata),
            kube_url: servers.url(ServiceKind::Kube),
            host: options.host(),
            control_port: options.port(5),
            cloud,
            faults,
            calls,
            clock,
            certificates,
            kube,
            cluster,
            servers,
            more: Vec::new(),
            runtime: Some(runtime),
        })
    }

    /// Takes a service down: its connections are closed and new ones refused.
    pub fn take_down(&self, service: ServiceKind) {
        self.servers.set_up(service, false);
    }

    /// Serves it again, on the same port.
    pub fn bring_up(&self, service: ServiceKind) {
        self.servers.set_up(service, true);
    }

    /// The URL of another instance's metadata. Its calls are logged and disturbed as the first's.
    ///
    /// # Errors
    /// No free port.
    pub fn metadata_of(&mut self, instance: &str) -> anyhow::Result<String> {
        let service: Arc<dyn Service> = Arc::new(Metadata::new(self.cloud.clone(), instance));
        let passage = Passage { calls: self.calls.clone(), faults: self.faults.clone() };
        let hosted = Hosted { service, watched: Some((ServiceKind::Metadata, passage)), dated_by: None };
        let server = Server::start(self.runtime().handle(), self.host, 0, None, hosted)?;
        let url = server.url();
        self.more.push(server);
        Ok(url)
    }

    /// Starts the control endpoint and says its URL.
    ///
    /// # Errors
    /// A port that is taken.
    pub fn serve_control(&mut self) -> anyhow::Result<String> {
        let control = Control::new(
            self.cloud.clone(),
            self.faults.clone(),
            self.calls.clone(),
            self.clock.clone(),
            self.kube.clone(),
            self.servers.clone(),
        );
        let hosted = Hosted { service: Arc::new(control), watched: None, dated_by: None };
        let server = Server::start(self.runtime().handle(), self.host, self.control_port, None, hosted)
            .context("starting the control endpoint")?;
        let url = server.url();
        self.more.push(server);
        Ok(url)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken only when the world is dropped")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(STOPPING);
        }
    }
}

impl Options {
    fn host(&self) -> IpAddr {
        if self.ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
    }

    fn port(&self, nth: u16) -> u16 {
        self.first_port.map_or(0, |first| first.saturating_add(nth))
    }
}

struct Start<'a> {
    runtime: &'a Runtime,
    options: &'a Options,
    certificates: &'a Certificates,
    passage: Passage,
}

impl Start<'_> {
    fn all(&self, cloud: &Arc<CloudSim>, kube: &Kube) -> anyhow::Result<Servers> {
        let endpoint = |product| Arc::new(Endpoint::new(cloud.clone(), product)) as Arc<dyn Service>;
        let services = [
            (ServiceKind::Vpc, endpoint(Product::Vpc)),
            (ServiceKind::Ecs, endpoint(Product::Ecs)),
            (ServiceKind::Sts, endpoint(Product::Sts)),
            (ServiceKind::Metadata, Arc::new(Metadata::new(cloud.clone(), defaults::INSTANCE))),
            (ServiceKind::Kube, kube.service.clone()),
        ];
        let ports = (0..).map(|nth| self.options.port(nth));
        let started = services.into_iter().zip(ports).map(|((kind, service), port)| {
            let server = self.one(kind, service, port).with_context(|| format!("starting the {kind:?} service"))?;
            Ok((kind, server))
        });
        Ok(Servers(started.collect::<anyhow::Result<_>>()?))
    }

    fn one(&self, kind: ServiceKind, service: Arc<dyn Service>, port: u16) -> anyhow::Result<Server> {
        let options = self.options;
        let tls = match kind {
            ServiceKind::Metadata => None,
            ServiceKind::Kube if options.kube_plain_http => None,
            ServiceKind::Kube => Some(self.certificates.server_config(options.require_client_certificate)?),
            _ if options.cloud_tls => Some(self.certificates.server_config(false)?),
            _ => None,
        };
        // Clients take the API server's Date for the time that all nodes share.
        let dated_by = (kind == ServiceKind::Kube).then(|| options.clock.clone());
        let hosted = Hosted { service, watched: Some((kind, self.passage.clone())), dated_by };
        Ok(Server::start(self.runtime.handle(), options.host(), port, tls, hosted)?)
    }
}

#[cfg(test)]
mod tests;
