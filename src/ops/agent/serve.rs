//! The agent's HTTP server: `/metrics` for Prometheus and `/healthz` for a probe, in a thread of its own.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::{Either, select};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::health::Health;
use super::metrics::Metrics;

/// Loopback: what a node does is nobody else's business until whoever runs the agent says so.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9110);

/// One Prometheus, one probe and a curious person come at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;

/// A scraper sends its few lines at once.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// From connecting to the last byte read; each connection is for one request. It is Prometheus' own
/// default for a scrape.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// Enough for any request line and headers of a scraper (hyper's least is 8 KiB).
const HEADER_BYTES: usize = 16 << 10;

/// How long answers that are being sent may delay the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// After an accept that failed for want of file descriptors, which come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// OpenMetrics, as Prometheus asks for it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// What is served.
struct Sources {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

/// The running server; dropping it ends it and frees the port.
#[must_use = "the server ends as soon as this is dropped"]
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    /// Dropping the sender is the order to end.
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at once; port 0 takes a free one.
    ///
    /// # Errors
    /// An address that is not this node's, or a port that is taken.
    pub fn start(address: SocketAddr, metrics: Arc<Metrics>, health: Arc<Health>) -> anyhow::Result<Self> {
        let listening = || {
            let listener = StdListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>((listener.local_addr()?, listener))
        };
        let (address, listener) = listening().with_context(|| {
            format!("cannot serve metrics and health on {address}: end what listens there, or choose another address")
        })?;
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the metrics server")?;
        let (stop, stopped) = oneshot::channel();
        let sources = Arc::new(Sources { metrics, health });
        let thread = thread::Builder::new()
            .name("metrics".into())
            .spawn(move || run(&runtime, listener, sources, stopped))
            .context("cannot start the thread of the metrics server")?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the metrics server on {} broke off; please report it with the log", self.address);
        }
    }
}

fn run(runtime: &Runtime, listener: StdListener, sources: Arc<Sources>, stopped: oneshot::Receiver<Infallible>) {
    runtime.block_on(async {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                return log::error!(
                    "the metrics server cannot watch its socket, so there are no metrics until the agent starts anew: {error}"
                );
            }
        };
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let accepting = Box::pin(accept(listener, sources, slots.clone()));
        // What `stopped` says is that its sender is gone.
        if let Either::Right((_, accepting)) = select(accepting, stopped).await {
            drop(accepting);
            // All slots are free when every answer is out.
            let _ = timeout(FAREWELL, slots.acquire_many(CONNECTIONS as u32)).await;
        }
    });
}

async fn accept(listener: TcpListener, sources: Arc<Sources>, slots: Arc<Semaphore>) {
    // It fails only when the semaphore is closed, which nobody does.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, sources.clone(), slot))),
            Err(error) => {
                log::debug!("the metrics server cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one request, as long as the slot is held. However it ends is the client's business.
async fn converse(stream: TcpStream, sources: Arc<Sources>, _slot: OwnedSemaphorePermit) {
    let answering = service_fn(|request| answered(answer(&request, &sources)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answering);
    let _ = timeout(CONNECTION_TIME, connection).await;
}

fn answered(answer: Response<String>) -> impl Future<Output = Result<Response<String>, Infallible>> {
    std::future::ready(Ok(answer))
}

fn answer(request: &Request<Incoming>, sources: &Sources) -> Response<String> {
    let known = ["/metrics", "/healthz"].contains(&request.uri().path());
    if !known {
        return text(StatusCode::NOT_FOUND, "not found: there are /metrics and /healthz\n");
    }
    if request.method() != Method::GET {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refusal;
    }
    match request.uri().path() {
        "/metrics" => match sources.metrics.encode() {
            Ok(metrics) => of_type(StatusCode::OK, OPEN_METRICS, metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        },
        _ => match sources.health.verdict() {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n")),
        },
    }
}

fn text(status: StatusCode, body: &str) -> Response<String> {
    of_type(status, PLAIN_TEXT, body.into())
}

fn of_type(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
