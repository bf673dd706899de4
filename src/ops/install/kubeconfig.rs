//! The plugin's kubeconfig on the node, made from the agent's service account.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::kept::{Kept, Repair};
use super::{mounted, secret_file};
use crate::kube;

/// Name of the only cluster, user and context.
const ENTRY: &str = "podeip";

/// The rendering of the kubeconfig, and what it is made from.
pub struct RenderedKubeconfig {
    /// The API server's URL.
    pub server: String,
    /// The mounted service account: `token` and `ca.crt`.
    pub service_account: PathBuf,
    pub target: PathBuf,
}

/// The API server's URL as the kubelet gives it to every container.
///
/// # Errors
/// A variable that is missing: this is no container of a cluster.
pub fn server_in_cluster(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let needed = |name: &str| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.with_context(|| format!("{name} is not set, so the API server is unknown; name it with --api-server"))
    };
    let host = needed("KUBERNETES_SERVICE_HOST")?;
    let port = needed("KUBERNETES_SERVICE_PORT")?;
    let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
    Ok(if is_bare_ipv6 { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") })
}

/// A kubeconfig that needs no other file. It is JSON, which is YAML too.
fn render(server: &str, token: &str, authority_pem: &[u8]) -> String {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": ENTRY,
            "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(authority_pem)},
        }],
        "users": [{"name": ENTRY, "user": {"token": token}}],
        "contexts": [{"name": ENTRY, "context": {"cluster": ENTRY, "user": ENTRY}}],
        "current-context": ENTRY,
    });
    format!("{kubeconfig:#}\n")
}

/// Whether `text` is a rendering, and not what somebody else put there.
pub fn is_rendering(text: &[u8]) -> bool {
    serde_json::from_slice(text).is_ok_and(|found: Value| found["current-context"] == ENTRY)
}

impl Kept for RenderedKubeconfig {
    fn watched(&self) -> Vec<PathBuf> {
        let target = self.target.parent().map(Path::to_owned);
        [self.service_account.clone()].into_iter().chain(target).collect()
    }

    fn put_right(&self) -> anyhow::Result<Repair> {
        let account = self.service_account.display();
        let files = mounted::read_together(&self.service_account, ["token", "ca.crt"])
            .with_context(|| format!("cannot read the service account in {account}; check the pod's volume"))?;
        let [Some(token), Some(authority)] = files else {
            return Ok(Repair::Waiting(format!(
                "{} is not rendered: token or ca.crt is missing in {account}",
                self.target.display()
            )));
        };
        let Some(token) = str::from_utf8(&token).ok().and_then(kube::token_in) else {
            bail!("{account}/token is not one word of printable ASCII; mount the service account's token there");
        };
        // Without an authority of the cluster the public ones would be believed.
        if !matches!(CertificateDer::pem_slice_iter(&authority).next(), Some(Ok(_))) {
            bail!("{account}/ca.crt holds no PEM certificate; mount the cluster's authority there");
        }
        let text = render(&self.server, token, &authority);
        if secret_file::keep(&self.target, text.as_bytes(), |old| old == text.as_bytes())? {
            Ok(Repair::Done(format!("{} rendered from {account} for {}", self.target.display(), self.server)))
        } else {
            Ok(Repair::Sound)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::super::mounted::tests::Mount;
    use super::*;
    use crate::kube::Kube;

    fn authority() -> String {
        rcgen::generate_simple_self_signed(["kubernetes".to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn the_server_comes_from_the_kubelets_variables() {
        let server = |host: &str, port: &str| {
            server_in_cluster(|name| match name {
                "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
                "KUBERNETES_SERVICE_PORT" => Some(port.to_owned()),
                _ => None,
            })
        };
        assert_eq!(server("172.16.0.1", "443").unwrap(), "https://172.16.0.1:443");
        assert_eq!(server("fd00::1", "6443").unwrap(), "https://[fd00::1]:6443");
        assert_eq!(server("[fd00::1]", "6443").unwrap(), "https://[fd00::1]:6443");
        assert_eq!(server("api.example", "443").unwrap(), "https://api.example:443");
        assert!(server("", "443").unwrap_err().to_string().contains("KUBERNETES_SERVICE_HOST"));
        assert!(server("10.0.0.1", "").unwrap_err().to_string().contains("--api-server"));
    }

    #[test]
    fn follows_the_service_account() {
        let node = tempfile::tempdir().unwrap();
        let (first, second) = (authority(), authority());
        let mut account = Mount::new(&[("ca.crt", &first)]);
        let kubeconfig = RenderedKubeconfig {
            server: "https://[fd00::1]:6443".into(),
            service_account: account.path().to_owned(),
            target: node.path().join("podeip/kubeconfig"),
        };
        assert_eq!(kubeconfig.watched(), [account.path().to_owned(), node.path().join("podeip")]);
        assert!(matches!(kubeconfig.put_right().unwrap(), Repair::Waiting(_)));
        assert!(!kubeconfig.target.exists());

        for (token, authority) in [("one\n", &first), ("two", &first), ("two", &second)] {
            account.renew(&[("token", token), ("ca.crt", authority)]);
            assert!(matches!(kubeconfig.put_right().unwrap(), Repair::Done(_)), "{token}");
            assert_eq!(kubeconfig.put_right().unwrap(), Repair::Sound, "{token}");
            assert_eq!(kubeconfig.target.metadata().unwrap().mode() & 0o7777, 0o600);
            assert_eq!(Kube::from_kubeconfig(&kubeconfig.target).unwrap().server(), kubeconfig.server);
            let text = fs::read_to_string(&kubeconfig.target).unwrap();
            assert!(is_rendering(text.as_bytes()));
            assert!(text.contains(&format!("\"{}\"", token.trim())), "{text}");
            assert!(text.contains(&STANDARD.encode(authority)), "{text}");
        }

        let sound = fs::read(&kubeconfig.target).unwrap();
        for (token, authority) in [("hidden words", second.as_str()), ("", &second), ("three", "no PEM")] {
            account.renew(&[("token", token), ("ca.crt", authority)]);
            let error = format!("{:#}", kubeconfig.put_right().unwrap_err());
            assert!(!error.contains("hidden"), "{error}");
            assert_eq!(fs::read(&kubeconfig.target).unwrap(), sound);
        }
        account.renew(&[("token", "four")]);
        assert!(matches!(kubeconfig.put_right().unwrap(), Repair::Waiting(_)));
        assert_eq!(fs::read(&kubeconfig.target).unwrap(), sound);
    }
}
