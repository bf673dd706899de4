//! The world's certificates: a CA made at start, a server certificate for loopback and a client
//! certificate for mutual TLS.

use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct PemPair {
    pub certificate: String,
    pub key: String,
}

/// The certificates of one world.
pub struct Certificates {
    /// The CA's certificate, PEM: what a client has to trust.
    pub ca: String,
    /// A client certificate that the CA signed: user `podeip`, group `system:nodes`.
    pub client: PemPair,
    ca_der: CertificateDer<'static>,
    server: (CertificateDer<'static>, Vec<u8>),
}

impl Certificates {
    pub fn make() -> anyhow::Result<Self> {
        let ca = CertifiedIssuer::self_signed(authority(), KeyPair::generate()?).context("making the CA")?;
        let (server, server_key) = signed(&ca, server_parameters()?).context("making the server certificate")?;
        let (client, client_key) = signed(&ca, client_parameters()?).context("making the client certificate")?;
        Ok(Self {
            ca: ca.pem(),
            client: PemPair { certificate: client.pem(), key: client_key.serialize_pem() },
            ca_der: ca.der().clone(),
            server: (server.der().clone(), server_key.serialize_der()),
        })
    }

    /// TLS for a server on loopback, with a `client_certificate` demanded, or taken if the client has one.
    pub fn server_config(&self, client_certificate: bool) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der.clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = if client_certificate { verifier } else { verifier.allow_unauthenticated() };
        let builder = builder.with_client_cert_verifier(verifier.build()?);
        let (certificate, key) = &self.server;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
        Ok(Arc::new(builder.with_single_cert(vec![certificate.clone()], key)?))
    }
}

fn authority() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    parameters.distinguished_name.push(DnType::CommonName, "podeip-sim CA");
    parameters
}

fn server_parameters() -> anyhow::Result<CertificateParams> {
    let mut parameters = CertificateParams::new(["127.0.0.1", "::1", "localhost"].map(String::from))?;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.distinguished_name.push(DnType::CommonName, "podeip-sim");
    Ok(parameters)
}

fn client_parameters() -> anyhow::Result<CertificateParams> {
    let mut parameters = CertificateParams::new(Vec::<String>::new())?;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters.distinguished_name.push(DnType::CommonName, "podeip");
    parameters.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    Ok(parameters)
}

fn signed(
    ca: &CertifiedIssuer<'_, KeyPair>,
    parameters: CertificateParams,
) -> anyhow::Result<(rcgen::Certificate, KeyPair)> {
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, ca)?;
    Ok((certificate, key))
}
