//! The kubeconfig file: which API server, whose certificates are believed, and who we are.
//!
//! It is read as a plain document, not into structs, for two reasons: an error names the key as
//! people find it (`users[name=node].user.token`), and no error can quote a secret's text.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use ureq::http::Uri;

use super::token::{self, Token};
use crate::bounded;
use crate::http::{Identity, Trust};

/// Why a kubeconfig cannot be used. Says the file, the key and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// There is no such file.
    #[error("the kubeconfig {} does not exist; make one with the token of the service account kube-system/podeip", path.display())]
    Missing { path: PathBuf },
    #[error("the kubeconfig {} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// Neither YAML nor JSON. The parser's own text could quote a secret and is left out.
    #[error("the kubeconfig {} is neither YAML nor JSON: see line {line}, column {column}", path.display())]
    Syntax { path: PathBuf, line: u64, column: u64 },
    /// A key is missing, wrong or not supported; `problem` ends with the remedy.
    #[error("the kubeconfig {}: {key} {problem}", path.display())]
    Key { path: PathBuf, key: String, problem: String },
    /// A file that the kubeconfig names cannot be used.
    #[error("the kubeconfig {}: {key} names {}, which cannot be read", path.display(), file.display())]
    File {
        path: PathBuf,
        key: String,
        file: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// The client certificate and its key do not belong together, or the key is of an unknown kind.
    #[error("the kubeconfig {}: the client certificate cannot be used with its key", path.display())]
    Identity {
        path: PathBuf,
        #[source]
        cause: rustls::Error,
    },
}

/// What the current context says.
pub(super) struct Kubeconfig {
    /// The API server's address without a slash at its end; it may have a path.
    pub server: String,
    pub trust: Trust,
    pub identity: Option<Identity>,
    pub token: Option<Token>,
}

/// Reads the file and the files it names. No network.
pub(super) fn load(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
    let text = bounded::read_to_string(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => KubeconfigError::Missing { path: path.into() },
        _ => KubeconfigError::Unreadable { path: path.into(), cause },
    })?;
    understood(path, &text)
}

/// As [`load`], from the file's text.
pub(super) fn understood(path: &Path, text: &str) -> Result<Kubeconfig, KubeconfigError> {
    let document = parse(path, text)?;
    let root = Node { file: path, key: String::new(), value: &document };
    let context = root.entry("contexts", root.needed("current-context")?, "context")?;
    let cluster = root.entry("clusters", context.needed("cluster")?, "cluster")?;
    cluster.refuse_unsupported_cluster_keys()?;
    let server = cluster.server()?;
    let (identity, token) = match context.text("user")? {
        None => (None, None),
        Some(name) => {
            let user = root.entry("users", name, "user")?;
            user.refuse_unsupported_user_keys()?;
            (user.identity()?, user.token()?)
        }
    };
    let trust = if server.starts_with("https://") { cluster.trust()? } else { Trust::Public };
    Ok(Kubeconfig { server, trust, identity, token })
}

fn parse(path: &Path, text: &str) -> Result<Value, KubeconfigError> {
    let syntax = |line, column| KubeconfigError::Syntax { path: path.into(), line, column };
    // JSON is YAML but for its tabs, so it has its own parser.
    let document: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|cause| syntax(cause.line() as u64, cause.column() as u64))?
    } else {
        serde_saphyr::from_str(text).map_err(|cause| {
            cause.location().map_or_else(|| syntax(1, 1), |place| syntax(place.line(), place.column()))
        })?
    };
    if document.is_object() { Ok(document) } else { Err(syntax(1, 1)) }
}

/// A place in the document, and how people find it.
struct Node<'a> {
    file: &'a Path,
    key: String,
    value: &'a Value,
}

/// Keys of a user that change who we are in ways we do not offer, and why.
const UNSUPPORTED_USER_KEYS: [(&str, &str); 8] = [
    ("exec", "starts a program, which a CNI plugin must not do; give a token, a tokenFile or a client certificate"),
    ("auth-provider", "is not supported; give a token, a tokenFile or a client certificate"),
    ("username", "is not supported, API servers dropped passwords in 1.19; give a token"),
    ("password", "is not supported, API servers dropped passwords in 1.19; give a token"),
    ("as", "(impersonation) is not supported; give the credentials of that user"),
    ("as-uid", "(impersonation) is not supported; give the credentials of that user"),
    ("as-groups", "(impersonation) is not supported; give the credentials of that user"),
    ("as-user-extra", "(impersonation) is not supported; give the credentials of that user"),
];

impl<'a> Node<'a> {
    fn refuse(&self, key: &str, problem: impl Into<String>) -> KubeconfigError {
        KubeconfigError::Key { path: self.file.into(), key: self.name_of(key), problem: problem.into() }
    }

    fn name_of(&self, key: &str) -> String {
        if self.key.is_empty() { key.into() } else { format!("{}.{key}", self.key) }
    }

    /// A key's value; absent and null are the same, as for every Kubernetes client.
    fn value(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// A text; an empty one counts as absent.
    fn text(&self, key: &str) -> Result<Option<&'a str>, KubeconfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.refuse(key, "must be a text; put it in quotes")),
        }
    }

    fn needed(&self, key: &str) -> Result<&'a str, KubeconfigError> {
        self.text(key)?.ok_or_else(|| self.refuse(key, "is missing; the file must say it"))
    }

    /// The `inner` part of the entry called `name` in one of the file's lists.
    fn entry(&self, list: &str, name: &str, inner: &str) -> Result<Node<'a>, KubeconfigError> {
        let entries = self.value(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let found = entries.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
        let Some(entry) = found else {
            return Err(self.refuse(list, format!("has no entry with the name \"{name}\"; add it or name another one")));
        };
        let value = entry.get(inner).unwrap_or(&Value::Null);
        Ok(Node { file: self.file, key: format!("{list}[name={name}].{inner}"), value })
    }

    fn refuse_unsupported_user_keys(&self) -> Result<(), KubeconfigError> {
        match UNSUPPORTED_USER_KEYS.iter().find(|(key, _)| self.given(key)) {
            Some((key, why)) => Err(self.refuse(key, *why)),
            None => Ok(()),
        }
    }

    fn refuse_unsupported_cluster_keys(&self) -> Result<(), KubeconfigError> {
        let insecure = "insecure-skip-tls-verify";
        if self.value(insecure).is_some_and(|value| value != &Value::Bool(false)) {
            return Err(self.refuse(
                insecure,
                "is refused, podeip never sends its token to a server it cannot verify; give certificate-authority-data",
            ));
        }
        if self.given("proxy-url") {
            return Err(
                self.refuse("proxy-url", "is not supported, podeip talks to the API server directly; remove it")
            );
        }
        Ok(())
    }

    fn given(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value != &Value::from(""))
    }

    fn server(&self) -> Result<String, KubeconfigError> {
        let text = self.needed("server")?;
        if text.contains('@') {
            // Not quoted: what stands before the @ may be a password.
            return Err(
                self.refuse("server", "holds a user name; give scheme, host and port, and the token as a user's")
            );
        }
        let refuse = |problem: &str| self.refuse("server", format!("is \"{text}\": {problem}"));
        let authority = match text.split_once("://") {
            Some(("https" | "http", rest)) => rest.split('/').next().unwrap_or_default(),
            _ => return Err(refuse("it must begin with https:// (or http:// for a test server)")),
        };
        if !authority.starts_with('[') && authority.matches(':').count() > 1 {
            return Err(refuse("an IPv6 address stands in brackets, such as https://[fd00::1]:6443"));
        }
        let uri: Uri = text.parse().map_err(|_| refuse("it is not a URL such as https://10.0.0.1:6443"))?;
        let host = uri.host().unwrap_or_default();
        if host.is_empty() || uri.query().is_some() || text.contains('#') {
            return Err(refuse("give scheme, host, port and perhaps a path, and nothing else"));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if self.text("tls-server-name")?.is_some_and(|name| name != bare) {
            return Err(self.refuse(
                "tls-server-name",
                "is not supported; write a server address that the API server's certificate names",
            ));
        }
        if text.starts_with("http://") && !matches!(bare, "localhost" | "127.0.0.1" | "::1") {
            log::warn!("the API server {text} is reached without TLS: tokens travel in clear text");
        }
        Ok(text.trim_end_matches('/').to_string())
    }

    /// The authorities that may have signed the API server's certificate; the public ones when
    /// the file names none.
    fn trust(&self) -> Result<Trust, KubeconfigError> {
        let Some(material) = self.material("certificate-authority")? else {
            return Ok(Trust::Public);
        };
        // ureq skips what it cannot use without a word, and then trusts nobody.
        let mut usable = Vec::new();
        for authority in self.certificates(&material)? {
            match RootCertStore::empty().add(authority.clone()) {
                Ok(()) => usable.push(authority),
                Err(cause) => {
                    log::warn!("{}: one certificate of {} is skipped: {cause}", self.file.display(), material.key)
                }
            }
        }
        if usable.is_empty() {
            let problem = "holds no certificate that can be used; write the cluster's CA in PEM";
            return Err(self.refuse(material.key, problem));
        }
        Ok(Trust::Only(usable))
    }

    fn identity(&self) -> Result<Option<Identity>, KubeconfigError> {
        match (self.material("client-certificate")?, self.material("client-key")?) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.refuse("client-key", "is missing beside client-certificate; give both")),
            (None, Some(_)) => Err(self.refuse("client-certificate", "is missing beside client-key; give both")),
            (Some(certificate), Some(key)) => {
                let chain = self.certificates(&certificate)?;
                Ok(Some(Identity { chain, key_pem: key.bytes }))
            }
        }
    }

    fn certificates(&self, material: &Material) -> Result<Vec<CertificateDer<'static>>, KubeconfigError> {
        let problem = "holds no PEM certificate; it must begin with -----BEGIN CERTIFICATE-----";
        match CertificateDer::pem_slice_iter(&material.bytes).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(self.refuse(material.key, problem)),
        }
    }

    /// `<key>-data` (base64), else the content of the file that `<key>` names.
    fn material(&self, key: &'static str) -> Result<Option<Material>, KubeconfigError> {
        let data_key = match key {
            "certificate-authority" => "certificate-authority-data",
            "client-certificate" => "client-certificate-data",
            _ => "client-key-data",
        };
        if let Some(data) = self.text(data_key)? {
            // YAML's folded texts carry spaces and line ends into the base64.
            let compact: String = data.split_whitespace().collect();
            let bytes = STANDARD.decode(compact);
            let bytes = bytes.map_err(|_| self.refuse(data_key, "is not base64; encode the PEM file with base64"))?;
            return Ok(Some(Material { key: data_key, bytes }));
        }
        let Some(file) = self.text(key)?.map(|file| self.beside(file)) else { return Ok(None) };
        match bounded::read(&file) {
            Ok(bytes) => Ok(Some(Material { key, bytes })),
            Err(cause) => Err(self.file_error(key, file, cause)),
        }
    }

    /// `tokenFile` goes before `token`, as for other clients.
    fn token(&self) -> Result<Option<Token>, KubeconfigError> {
        if let Some(file) = self.text("tokenFile")?.map(|file| self.beside(file)) {
            return match Token::in_file(file.clone()) {
                Ok(token) => Ok(Some(token)),
                Err(cause) => Err(self.file_error("tokenFile", file, cause)),
            };
        }
        match self.text("token")? {
            None => Ok(None),
            Some(text) => match token::parse(text) {
                Some(token) => Ok(Some(Token::in_kubeconfig(self.file.into(), token))),
                None => {
                    Err(self.refuse("token", "is not one word of printable ASCII; write the token as it was issued"))
                }
            },
        }
    }

    /// Relative paths count from the kubeconfig's own directory.
    fn beside(&self, file: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(file)
    }

    fn file_error(&self, key: &str, file: PathBuf, cause: io::Error) -> KubeconfigError {
        KubeconfigError::File { path: self.file.into(), key: self.name_of(key), file, cause }
    }
}

/// The bytes behind a certificate or key, and the key that gave them.
struct Material {
    key: &'static str,
    bytes: Vec<u8>,
}

#[cfg(test)]
mod tests;
