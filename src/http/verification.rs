//! Tests: which server certificates are believed. A server that is not believed learns nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::{Call, Http, NoAnswer, Trust};
use crate::deadline::Deadline;

const PATIENCE: Duration = Duration::from_secs(10);
const SECRET: &str = "Bearer secret";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `name` that ends with `year`, and its key; signed by itself without an authority.
fn leaf(authority: Option<&Authority>, name: &str, year: i32) -> (CertificateDer<'static>, KeyPair) {
    let mut parameters = CertificateParams::new([name.to_string()]).unwrap();
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(year, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = match authority {
        Some(authority) => parameters.signed_by(&key, authority),
        None => parameters.self_signed(&key),
    };
    (certificate.unwrap().der().clone(), key)
}

/// Serves one connection, and says in the end what it has read of a request.
fn serve((certificate, key): (CertificateDer<'static>, KeyPair)) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let serving = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap_or(0);
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (address, serving)
}

#[test]
fn a_certificate_must_be_signed_named_and_in_time() {
    let (ours, theirs) = (authority(), authority());
    let only_ours = || Trust::Only(vec![ours.der().clone()]);
    let public = || Trust::Public;
    let cases: [(&str, (CertificateDer, KeyPair), Trust, bool); 6] = [
        ("sound", leaf(Some(&ours), "127.0.0.1", 2100), only_ours(), true),
        ("of another authority", leaf(Some(&theirs), "127.0.0.1", 2100), only_ours(), false),
        ("signed by itself", leaf(None, "127.0.0.1", 2100), only_ours(), false),
        ("of another host", leaf(Some(&ours), "127.0.0.2", 2100), only_ours(), false),
        ("ended", leaf(Some(&ours), "127.0.0.1", 2021), only_ours(), false),
        ("of an authority that is not public", leaf(Some(&ours), "127.0.0.1", 2100), public(), false),
    ];
    for (what, certificate, trust, believed) in cases {
        let (address, serving) = serve(certificate);
        let url = format!("https://{address}/");
        let call = Call { method: "GET", url: &url, headers: &[("Authorization", SECRET)], body: None };
        let answer = Http::new(trust, None).unwrap().send(&call, Deadline::after(PATIENCE));
        assert_eq!(serving.join().unwrap().contains(SECRET), believed, "{what}: {answer:?}");
        match answer {
            Ok(answer) => assert!(believed && answer.status == 204, "{what}: {answer:?}"),
            Err(NoAnswer::NotSent(why)) => assert!(!believed && why.contains("certificate"), "{what}: {why}"),
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
}
