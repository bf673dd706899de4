//! What the fuzzer calls: the kubeconfig, and every decoder of an answer without the network before it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::access::WireReview;
use super::client::Page;
use super::clock::ServerClock;
use super::error::{KubeError, Refusal};
use super::event::{RecordedEvent, WireEvent, WireRecorded, count_patch};
use super::pace::Pace;
use super::pod::{Pod, WirePod};
use super::request::{Operation, Resource, Verb};
use super::service_account::{issued, subject};
use super::{Holding, KubeconfigError, Lease, PodEip, PodEipSpec, kubeconfig};
use crate::http::{Answer, Http};
use crate::secret::Secret;

/// What an answer, or an entry of a list, can be read as.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Pod,
    PodEip,
    Lease,
    Event,
    RecordedEvent,
    Token,
    Review,
}

/// An object read as `shape`, as it is logged.
///
/// # Errors
/// As the callers print it.
pub fn object(shape: Shape, body: &[u8]) -> Result<String, KubeError> {
    decoded(shape, body).map_err(|cause| KubeError::Unreadable {
        operation: Box::new(operation()),
        server: "https://10.0.0.1:6443".into(),
        cause,
    })
}

fn decoded(shape: Shape, body: &[u8]) -> serde_json::Result<String> {
    Ok(match shape {
        Shape::Pod => format!("{:?}", Pod::from(serde_json::from_slice::<WirePod>(body)?)),
        Shape::PodEip => format!("{:?}", serde_json::from_slice::<PodEip>(body)?),
        Shape::Lease => format!("{:?}", serde_json::from_slice::<Lease>(body)?),
        Shape::Event => count_patch(&serde_json::from_slice::<WireEvent>(body)?, Timestamp::UNIX_EPOCH).to_string(),
        Shape::RecordedEvent => {
            format!("{:?}", RecordedEvent::from(serde_json::from_slice::<WireRecorded>(body)?))
        }
        Shape::Token => format!("{:?}", issued(body)?),
        Shape::Review => serde_json::from_slice::<WireReview>(body)?.status.allowed.to_string(),
    })
}

/// A page of a list: how many entries were read, and with what the next page is asked for.
///
/// # Errors
/// A body that is no list.
pub fn page(shape: Shape, body: &[u8]) -> serde_json::Result<(usize, Option<String>)> {
    let page = Page::read(body, &operation(), |item| decoded(shape, item.as_bytes()).map(Some))?;
    Ok((page.objects.len(), page.proceed))
}

/// What is made of an answer that is not a 2xx, to a call with `token`.
pub fn refused(status: u16, body: &[u8], token: &str) -> KubeError {
    let answer = Answer { status, date: None, body: body.to_vec() };
    let refusal = Box::new(Refusal::from_answer(&answer, Some(&Secret::new(token))));
    KubeError::Refused { operation: Box::new(operation()), refusal, tries: 1 }
}

/// The server's time after an answer with that `Date`.
pub fn server_time(date: &str) -> Timestamp {
    let clock = ServerClock::default();
    clock.heard(Some(date));
    clock.now()
}

/// The spec as we write it.
pub fn spec_on_the_wire(spec: &PodEipSpec) -> Value {
    spec.patch()
}

/// What is written to take that Lease.
pub fn taken(lease: &Lease) -> Value {
    let holding = Holding { holder: Some("fuzz"), duration: Duration::from_secs(60), annotations: BTreeMap::new() };
    holding.spec(Some(lease), Timestamp::UNIX_EPOCH)
}

/// Namespace and name in a service account's token.
pub fn account(token: &str) -> Option<(String, String)> {
    subject(&Secret::new(token))
}

/// What a kubeconfig says.
#[derive(Debug)]
pub struct Found {
    pub server: String,
    pub token: Option<String>,
    /// Whether a client can be made of it.
    pub usable: bool,
}

/// A kubeconfig's text read as if it were the file at `path`.
///
/// # Errors
/// As [`Kube::from_kubeconfig`](super::Kube::from_kubeconfig).
pub fn kubeconfig(path: &Path, text: &str) -> Result<Found, KubeconfigError> {
    let found = kubeconfig::understood(path, text)?;
    let token = found.token.map(|token| token.current().reveal().to_owned());
    Ok(Found { server: found.server, token, usable: Http::new(found.trust, found.identity).is_ok() })
}

/// How long the first calls of a client with that rate wait.
pub fn paced(qps: f64, burst: u32) -> Duration {
    let pace = Pace::new(qps, burst);
    let now = std::time::Instant::now();
    (0..4).map(|_| pace.place(now)).fold(Duration::ZERO, Duration::max)
}

fn operation() -> Operation {
    Operation::on(Verb::Get, Resource::Pods, "shop", "web-0")
}
