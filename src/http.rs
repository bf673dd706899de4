//! The only builder of HTTP clients: timeouts, proxy policy, trust and what a failure proves.
//!
//! A status is data, not an error. Redirects are never followed and the environment's proxy
//! variables are never read: a runtime's service file often exports them to its plugins.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::config::Config;
use ureq::http::{Request, Uri};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport};
use ureq::{Agent, AsSendBody, Error};

use crate::deadline::Deadline;

/// A TCP and TLS handshake inside one region takes milliseconds; a host that does not answer in
/// this time is down, and the caller's time is better spent on another try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// More than any answer we ask for: a page of 100 EIPs is about 150 KiB.
const LARGEST_ANSWER: u64 = 16 << 20;

/// ureq's 128 KiB buffers cost half a megabyte of memory per process; our messages are small.
const BUFFER: usize = 16 << 10;

/// Whose certificates are believed.
pub enum Trust {
    /// The public authorities (the cloud's endpoints).
    Public,
    /// These authorities only (an API server's CA bundle).
    Only(Vec<CertificateDer<'static>>),
}

/// A client certificate: chain, leaf first, and its key as PEM.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key_pem: Vec<u8>,
}

/// One request. `body` is content type and bytes.
pub struct Call<'a> {
    pub method: &'a str,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<(&'a str, &'a [u8])>,
}

/// Any answer with a status line, 2xx or not.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The `Date` header: the server's own time.
    pub date: Option<String>,
    pub body: Vec<u8>,
}

/// Why there is no answer, by what it proves about the request.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The server cannot have seen the request: it may be sent again whatever it does.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The request may have been carried out.
    #[error("sent, but not answered: {0}")]
    Unanswered(String),
}

/// A keep-alive client for one trust domain. Build it once per process and domain.
pub struct Http {
    agent: Agent,
}

impl Http {
    /// # Errors
    /// A client certificate that does not belong to its key, or a key of an unsupported kind.
    pub fn new(trust: Trust, identity: Option<Identity>) -> Result<Self, rustls::Error> {
        resolve_names_without_plugins();
        let roots = match trust {
            Trust::Public => RootCerts::WebPki,
            Trust::Only(authorities) => RootCerts::Specific(Arc::new(authorities.iter().map(owned).collect())),
        };
        let client_certificate = identity.as_ref().map(checked).transpose()?;
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(roots)
            .client_cert(client_certificate)
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .user_agent(concat!("podeip/", env!("CARGO_PKG_VERSION"), " Kubernetes.Alicloud"))
            .tls_config(tls)
            .build();
        Ok(Self { agent: Agent::with_parts(config, Connecting::default(), AddressFirst(DefaultResolver::default())) })
    }

    /// Sends one request and reads the whole answer before `deadline`.
    ///
    /// # Errors
    /// [`NoAnswer`] says whether the request can have had an effect.
    pub fn send(&self, call: &Call, deadline: Deadline) -> Result<Answer, NoAnswer> {
        if deadline.passed() {
            return Err(NoAnswer::NotSent("no time left".into()));
        }
        let mut request = Request::builder().method(call.method).uri(call.url);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let answer = match call.body {
            Some((content_type, bytes)) => {
                let request = request.header("Content-Type", content_type).body(bytes);
                request.map_err(Error::Http).and_then(|request| self.run(request, deadline))
            }
            None => request.body(()).map_err(Error::Http).and_then(|request| self.run(request, deadline)),
        };
        let mut answer = answer.map_err(|failure| classify(&failure))?;
        let body = answer.body_mut().with_config().limit(LARGEST_ANSWER).read_to_vec();
        // The status line was seen but not the rest: the server certainly had the request.
        let body = body.map_err(|failure| NoAnswer::Unanswered(failure.to_string()))?;
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: answer.status().as_u16(), date, body })
    }

    fn run(
        &self,
        request: Request<impl AsSendBody>,
        deadline: Deadline,
    ) -> Result<ureq::http::Response<ureq::Body>, Error> {
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(deadline.left()))
            .allow_non_standard_methods(true)
            .build();
        self.agent.run(request)
    }
}

fn owned(der: &CertificateDer<'_>) -> Certificate<'static> {
    Certificate::from_der(der).to_owned()
}

/// ureq panics on a key that does not match its certificate, so rustls is asked first.
fn checked(identity: &Identity) -> Result<ClientCert, rustls::Error> {
    let unreadable = |cause: &dyn std::fmt::Display| rustls::Error::General(format!("unreadable private key: {cause}"));
    let key = PrivateKeyDer::from_pem_slice(&identity.key_pem).map_err(|cause| unreadable(&cause))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_auth_cert(identity.chain.clone(), key)?;
    let chain: Vec<_> = identity.chain.iter().map(owned).collect();
    let key = PrivateKey::from_pem(&identity.key_pem).map_err(|cause| unreadable(&cause))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// What a failure before the first answer byte proves. Only what is certain counts as not sent.
fn classify(failure: &Error) -> NoAnswer {
    match failure {
        Error::Other(cause) if cause.is::<NoConnection>() => NoAnswer::NotSent(cause.to_string()),
        Error::BadUri(_) | Error::Http(_) => NoAnswer::NotSent(failure.to_string()),
        _ => NoAnswer::Unanswered(failure.to_string()),
    }
}

/// Why there is no connection, after lookup, TCP and TLS handshake: nothing of a request is written
/// before all three are done. The same cause (a reset, a timeout) proves nothing later on, so it is
/// marked where it is known.
#[derive(Debug)]
struct NoConnection(Error);

impl NoConnection {
    fn mark(cause: Error) -> Error {
        Error::Other(Box::new(Self(cause)))
    }
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NoConnection {}

/// ureq's own connector, whose failures are marked.
#[derive(Debug, Default)]
struct Connecting(DefaultConnector);

impl Connector for Connecting {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, before: Option<()>) -> Result<Option<Self::Out>, Error> {
        self.0.connect(details, before).map_err(NoConnection::mark)
    }
}

/// In a static executable glibc would load the NSS modules that the host's nsswitch.conf names
/// (`resolve`, `myhostname`, …), and these crash in a process of another glibc. Names are looked up
/// only through an [`Http`], so the first one comes early enough.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
fn resolve_names_without_plugins() {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: both texts end with a zero byte and live for ever. The call may not run beside a
    // lookup, and there is none before the first `Http` is made, which waits for this.
    ONCE.call_once(|| unsafe {
        __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr());
    });
}

#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
fn resolve_names_without_plugins() {}

/// ureq's own resolver starts a thread per connection once a timeout is set, even for an address;
/// most of our hosts (metadata, API server) are addresses.
#[derive(Debug)]
struct AddressFirst(DefaultResolver);

impl Resolver for AddressFirst {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) => {
                let mut addresses = self.empty();
                addresses.push(SocketAddr::new(address, port));
                Ok(addresses)
            }
            Err(_) => self.0.resolve(uri, config, timeout).map_err(NoConnection::mark),
        }
    }
}

#[cfg(test)]
mod verification;

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_redirect_is_an_answer_and_is_not_followed() {
        let [first, second] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        second.set_nonblocking(true).unwrap();
        let url = format!("http://{}/", first.local_addr().unwrap());
        let location = second.local_addr().unwrap();
        let redirecting = std::thread::spawn(move || {
            let (mut stream, _) = first.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{location}/\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let call = Call { method: "GET", url: &url, headers: &[("Authorization", "Bearer secret")], body: None };
        let http = Http::new(Trust::Public, None).unwrap();
        let answer = http.send(&call, Deadline::after(Duration::from_secs(20))).unwrap();
        redirecting.join().unwrap();
        assert_eq!(answer.status, 302);
        assert_eq!(second.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    fn failure(url: &str, time: Duration) -> NoAnswer {
        let call = Call { method: "POST", url, headers: &[], body: Some(("text/plain", b"hello")) };
        Http::new(Trust::Public, None).unwrap().send(&call, Deadline::after(time)).unwrap_err()
    }

    const ENOUGH: Duration = Duration::from_secs(10);

    /// A server that reads something of its first connection, writes `answer` and hangs up.
    fn server_that_says(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer).unwrap();
        });
        address
    }

    #[test]
    fn a_request_is_not_sent_before_there_is_a_connection() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // A label of more than 63 letters is no name, so that no resolver has to be asked.
        let mut urls = vec![format!("http://{closed}/"), format!("https://{}.invalid/", "x".repeat(64))];
        // A fatal alert: handshake_failure.
        let refusals: [&[u8]; 3] = [b"\x15\x03\x03\0\x02\x02\x28", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""];
        urls.extend(refusals.map(|answer| format!("https://{}/", server_that_says(answer))));
        for url in urls {
            let failure = failure(&url, ENOUGH);
            assert!(matches!(failure, NoAnswer::NotSent(_)), "{url}: {failure:?}");
        }
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/", silent.local_addr().unwrap());
        let failure = failure(&url, Duration::from_millis(300));
        assert!(matches!(failure, NoAnswer::NotSent(_)), "{failure:?}");
    }

    #[test]
    fn what_a_connection_took_may_have_been_carried_out() {
        for answer in [&b""[..], b"HTTP/1.1 2", b"nonsense\r\n\r\n"] {
            let failure = failure(&format!("http://{}/", server_that_says(answer)), ENOUGH);
            assert!(matches!(failure, NoAnswer::Unanswered(_)), "{answer:?}: {failure:?}");
        }
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let failure = failure(&format!("http://{}/", silent.local_addr().unwrap()), Duration::from_millis(300));
        assert!(matches!(failure, NoAnswer::Unanswered(_)), "{failure:?}");
    }
}
