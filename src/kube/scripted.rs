//! For tests: an HTTP server on loopback that answers from a script and remembers what it was asked.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// What happens to one request.
pub enum Reply {
    Json(u16, Value),
    /// The world changes while the request is under way; then as `Json`.
    Meanwhile(Box<dyn FnOnce() + Send>, u16, Value),
    Text(u16, &'static str),
    /// The request is read, and the connection closed without an answer.
    Cut,
    /// The request is read and nothing follows.
    Hang,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method and target, such as `GET /api/v1/pods?limit=100`.
    pub line: String,
    pub authorization: Option<String>,
    pub content_type: Option<String>,
    pub body: Value,
}

#[derive(Default)]
struct Shared {
    replies: VecDeque<Reply>,
    seen: Vec<Seen>,
    connections: usize,
}

/// Answers each request with the next reply of its script. A request beyond the script is
/// answered with 418, which no caller repeats, and shows in [`Scripted::lines`].
pub struct Scripted {
    pub address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Scripted {
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::listen("127.0.0.1:0", replies, None)
    }

    /// With TLS, at an IPv6 address, for holders of a client certificate of `authority` only.
    pub fn secure(replies: impl IntoIterator<Item = Reply>, authority: &Authority) -> Self {
        Self::listen("[::1]:0", replies, Some(Arc::new(authority.server_config())))
    }

    fn listen(address: &str, replies: impl IntoIterator<Item = Reply>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared { replies: replies.into_iter().collect(), ..Shared::default() };
        let shared = Arc::new(Mutex::new(shared));
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, tls) = (serving.clone(), tls.clone());
                shared.lock().unwrap().connections += 1;
                std::thread::spawn(move || match tls {
                    None => converse(stream, &shared),
                    Some(tls) => converse(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &shared),
                });
            }
        });
        Self { address, shared }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().unwrap().seen.clone()
    }

    /// Method and target of every request so far.
    pub fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    pub fn connections(&self) -> usize {
        self.shared.lock().unwrap().connections
    }
}

/// Serves one connection until either side ends it.
fn converse(stream: impl Read + Write, shared: &Mutex<Shared>) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read_request(&mut stream) {
        let reply = {
            let mut shared = shared.lock().unwrap();
            shared.seen.push(seen);
            shared.replies.pop_front().unwrap_or(Reply::Text(418, "beyond the script"))
        };
        let (status, kind, text) = match reply {
            Reply::Json(status, body) => (status, "application/json", body.to_string()),
            Reply::Meanwhile(change, status, body) => {
                change();
                (status, "application/json", body.to_string())
            }
            Reply::Text(status, text) => (status, "text/plain", text.to_string()),
            Reply::Cut => return,
            Reply::Hang => return std::thread::sleep(Duration::from_secs(60)),
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", text.len());
        if stream.get_mut().write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let (mut length, mut chunked) = (0, false);
    let (mut authorization, mut content_type) = (None, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "transfer-encoding" => chunked = true,
            "authorization" => authorization = Some(value.to_string()),
            "content-type" => content_type = Some(value.to_string()),
            _ => {}
        }
    }
    assert!(!chunked, "the client knows the length of what it sends");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_string();
    Some(Seen { line, authorization, content_type, body })
}

/// A `Status` object as the API server refuses with.
pub fn status(code: u16, reason: &str, message: &str) -> Reply {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": message});
    Reply::Json(code, body)
}

/// A private certificate authority, as a cluster has one.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for `name` and its key, both PEM.
    pub fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_string()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn server_config(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let (certificate, key) = self.sign("::1");
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
            .unwrap()
    }
}
