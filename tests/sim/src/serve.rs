//! HTTP/1.1 servers on loopback, plain or TLS, for a [`Service`].

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::DATE;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::calls::ServiceKind;
use crate::clock::Clock;
use crate::conversation;
use crate::exchange::{Body, Reply, Request, Service};
use crate::outgoing::{Flushed, Outgoing, Reporting};
use crate::passage::{Passage, Verdict};

/// Connections are numbered over all servers of the process, so that a number says one thing.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// The longest wait for a listener to close or open; it takes microseconds unless the port was taken.
const SWITCHING: Duration = Duration::from_secs(2);

/// Connections that wait to be accepted; as many as the standard library has.
const BACKLOG: u32 = 128;

/// Set on requests whose TLS connection proved a client certificate of the world's CA; a header of
/// that name that a client sends itself is dropped.
pub(crate) const CERTIFICATE_HEADER: (&str, &str) = ("x-client-certificate", "verified");

/// A service and how its requests are treated on the way.
#[derive(Clone)]
pub(crate) struct Hosted {
    pub service: Arc<dyn Service>,
    /// Log, faults and gates; `None` for the control endpoint.
    pub watched: Option<(ServiceKind, Passage)>,
    /// The clock whose time the header `Date` tells; without one it is the machine's.
    pub dated_by: Option<Clock>,
}

/// A listening server. It keeps its port while it is down.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    up: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
}

impl Server {
    /// Listens at once, in the calling thread's network namespace; port 0 takes a free one.
    pub fn start(
        runtime: &Handle,
        host: IpAddr,
        port: u16,
        tls: Option<Arc<ServerConfig>>,
        hosted: Hosted,
    ) -> io::Result<Self> {
        let _entered = runtime.enter();
        let reserved = reserve(SocketAddr::new(host, port))?;
        let address = reserved.local_addr()?;
        let listener = bind(address)?.listen(BACKLOG)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (up, ordered) = watch::channel(true);
        let (reports, listening) = watch::channel(true);
        let tls = tls.map(TlsAcceptor::from);
        let listen = Listen { address, tls, hosted, up: ordered, reports, _reserved: reserved };
        runtime.spawn(listen.run(listener));
        Ok(Self { address, scheme, up, listening })
    }

    /// `http://127.0.0.1:port`, without a final slash.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Down: open connections are closed and new ones refused. Up: served again on the same port.
    /// Returns when it is so. Not to be called from the runtime's own threads.
    pub fn set_up(&self, up: bool) {
        self.up.send_replace(up);
        let end = Instant::now() + SWITCHING;
        while *self.listening.borrow() != up && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Takes a port without listening on it, so that nobody else gets it while the server is down: the
/// kernel soon hands a port that is free to the next one who wants any.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    // A shared port could be another simulator's, so it has to be free of its own accord first.
    drop(std::net::TcpListener::bind(address)?);
    bind(address)
}

/// A socket on a port that it shares with the reservation.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

struct Listen {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    hosted: Hosted,
    up: watch::Receiver<bool>,
    reports: watch::Sender<bool>,
    _reserved: TcpSocket,
}

impl Listen {
    async fn run(mut self, first: TcpListener) {
        let mut listener = first;
        loop {
            self.reports.send_replace(true);
            tokio::select! {
                () = accept(listener, self.tls.as_ref(), &self.hosted, &self.up) => {}
                ordered = down(self.up.clone()) => if !ordered { return },
            }
            self.reports.send_replace(false);
            if self.up.wait_for(|up| *up).await.is_err() {
                return;
            }
            listener = match bind(self.address).and_then(|socket| socket.listen(BACKLOG)) {
                Ok(listener) => listener,
                Err(error) => return eprintln!("podeip-sim: {} cannot be served again: {error}", self.address),
            };
        }
    }
}

/// Ends when the server is taken down (true) or dropped (false).
async fn down(mut up: watch::Receiver<bool>) -> bool {
    up.wait_for(|up| !*up).await.is_ok()
}

async fn accept(listener: TcpListener, tls: Option<&TlsAcceptor>, hosted: &Hosted, up: &watch::Receiver<bool>) {
    loop {
        // A failed accept is the client's haste (it is gone again): the next one is unaffected.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (tls, hosted, up) = (tls.cloned(), hosted.clone(), up.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = greet(stream, tls, hosted) => {}
                _ = down(up) => {}
            }
        });
    }
}

async fn greet(stream: TcpStream, tls: Option<TlsAcceptor>, hosted: Hosted) {
    // Answers are small; with Nagle's algorithm the second of two writes waits for an ACK.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, hosted, false).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                let certified = stream.get_ref().1.peer_certificates().is_some();
                serve(stream, hosted, certified).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, hosted: Hosted, certified: bool) {
    let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let flushed = Flushed::default();
    let io = TokioIo::new(Reporting::new(stream, flushed.clone()));
    let answer = service_fn(|mut incoming| {
        let (hosted, flushed) = (hosted.clone(), flushed.clone());
        async move {
            let clock = hosted.dated_by.clone();
            let upgrade = hyper::upgrade::on(&mut incoming);
            let mut response = respond(read(incoming, certified).await?, hosted, connection, flushed, upgrade).await?;
            clock.iter().for_each(|clock| date(&mut response, clock));
            Ok::<_, io::Error>(response)
        }
    });
    // The error is the client's end of the connection, or a cut that was ordered.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, answer).with_upgrades().await;
}

/// # Errors
/// The order to close the connection without an answer.
async fn respond(
    request: Request,
    hosted: Hosted,
    connection: u64,
    flushed: Flushed,
    upgrade: OnUpgrade,
) -> Result<hyper::Response<Outgoing>, io::Error> {
    let Some((kind, passage)) = hosted.watched else {
        let reply = tokio::task::spawn_blocking(move || hosted.service.answer(&request)).await;
        return Ok(Outgoing::response(reply.map_err(io::Error::other)?, None));
    };
    let key = request.header("sec-websocket-key").unwrap_or_default().to_owned();
    // In a task of its own: it goes on when the client dies and this future is dropped.
    let passing = tokio::spawn(passage.pass(kind, hosted.service, request, connection));
    match passing.await.map_err(io::Error::other)? {
        (Verdict::Answer(Reply { body: Body::Conversation(said), .. }), _) => {
            Ok(conversation::begin(said, &key, upgrade))
        }
        (Verdict::Answer(reply), delivery) => Ok(Outgoing::response(reply, Some((flushed, delivery)))),
        (Verdict::Truncated(reply), _) => Ok(Outgoing::truncated(reply)),
        (Verdict::Cut, _) => Err(io::ErrorKind::ConnectionAborted.into()),
        (Verdict::Hang, _) => {
            pending::<Infallible>().await;
            unreachable!("this future is dropped when the client closes the connection")
        }
    }
}

/// hyper adds the machine's time only where no `Date` is.
fn date(response: &mut hyper::Response<Outgoing>, clock: &Clock) {
    let now = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&clock.now());
    let now = now.expect("the world's year is between 0 and 9999");
    response.headers_mut().insert(DATE, now.try_into().expect("a date is plain ASCII"));
}

async fn read(incoming: hyper::Request<Incoming>, certified: bool) -> Result<Request, io::Error> {
    let (head, body) = incoming.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes().to_vec();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut headers: Vec<(String, String)> =
        head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let (name, value) = CERTIFICATE_HEADER;
    headers.retain(|(sent, _)| sent != name);
    if certified {
        headers.push((name.into(), value.into()));
    }
    Ok(Request {
        method: head.method.to_string(),
        path: percent_decode_str(head.uri.path()).decode_utf8_lossy().into_owned(),
        query: form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect(),
        headers,
        body,
    })
}
