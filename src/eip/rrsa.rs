//! The RAM role of the node's service account: which, and where its tokens come from (design section 7, RRSA).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bounded;
use crate::cloud::{AUDIENCE, NoToken, OidcTokens, Rrsa, SessionName};
use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind};
use crate::kube::{Kube, TokenError};
use crate::measure::Tally;
use crate::secret::Secret;
use crate::settings::Settings;

/// What ACK's pod-identity webhook puts into a container.
const ROLE_VARIABLE: &str = "ALIBABA_CLOUD_ROLE_ARN";
const PROVIDER_VARIABLE: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
const TOKEN_VARIABLE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
const SESSION_VARIABLE: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";

/// The environment's role if it names one whole, else the one of the settings.
///
/// # Errors
/// `enable_rrsa` without a role or a cluster.
pub fn configured(
    settings: &Settings,
    kubeconfig: &Path,
    tally: &Arc<Tally>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Rrsa>, Failure> {
    let variable = |name| variable(name).filter(|text| !text.is_empty());
    let session = SessionName::new(&variable(SESSION_VARIABLE).unwrap_or_else(own_session));
    if let (Some(role), Some(provider), Some(file)) =
        (variable(ROLE_VARIABLE), variable(PROVIDER_VARIABLE), variable(TOKEN_VARIABLE))
    {
        return Ok(Some(Rrsa { role, provider, session, tokens: Arc::new(TokenFile(file.into())) }));
    }
    if !settings.enable_rrsa {
        return Ok(None);
    }
    let Some(role) = settings.rrsa_role_name.clone() else {
        let what = format!("the settings in {}: \"enable_rrsa\" needs \"rrsa_role_name\"", settings.path.display());
        return Err(Failure::new(Kind::Configuration, what));
    };
    let provider = format!("ack-rrsa-{}", settings.required_cluster_id()?);
    let tokens = Arc::new(Requested { kubeconfig: kubeconfig.to_owned(), tally: tally.clone() });
    Ok(Some(Rrsa { role, provider, session, tokens }))
}

/// So that the account's audit trail tells the nodes apart.
fn own_session() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("podeip@{}", host.to_string_lossy())
}

/// A file that kubelet renews: read anew for each role that is taken.
#[derive(Debug)]
struct TokenFile(PathBuf);

impl OidcTokens for TokenFile {
    fn token(&self, _: Deadline) -> Result<Secret, NoToken> {
        let text = bounded::read_to_string(&self.0).map_err(|error| {
            NoToken::Refused(format!("cannot read {}, which {TOKEN_VARIABLE} names: {error}", self.0.display()))
        })?;
        match text.trim() {
            "" => Err(NoToken::Refused(format!("{}, which {TOKEN_VARIABLE} names, is empty", self.0.display()))),
            token => Ok(Secret::new(token)),
        }
    }
}

/// Asked of the API server, for the service account of the kubeconfig. A client of its own: the one of a
/// verb may belong to a thread that waits for these credentials.
#[derive(Debug)]
struct Requested {
    kubeconfig: PathBuf,
    tally: Arc<Tally>,
}

impl OidcTokens for Requested {
    fn token(&self, deadline: Deadline) -> Result<Secret, NoToken> {
        let kube = Kube::from_kubeconfig(&self.kubeconfig)
            .map_err(|error| NoToken::Refused(format!("{:#}", anyhow::Error::from(error))))?;
        kube.counted_by(self.tally.clone()).token_for(AUDIENCE, deadline).map_err(|error| self.no_token(error))
    }
}

impl Requested {
    fn no_token(&self, error: TokenError) -> NoToken {
        let kubeconfig = self.kubeconfig.display();
        match error {
            TokenError::NoServiceAccount => NoToken::Refused(format!(
                "{kubeconfig} has no token of a service account, and RRSA needs one; use the token of \
                 kube-system/podeip there, or switch enable_rrsa off"
            )),
            TokenError::Kube(refused) if refused.status().is_some_and(|status| status < 500) => NoToken::Refused(
                format!("{refused}; apply install/rbac.yaml, which lets podeip ask for a token of its own"),
            ),
            TokenError::Kube(error) => NoToken::Unanswered(format!("{:#}", anyhow::Error::from(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rrsa(settings: Value, variables: &[(&str, &str)]) -> Result<Option<Rrsa>, String> {
        let settings = Settings::parse(settings.to_string().as_bytes(), Path::new("/eni_conf"), |_| None).unwrap();
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).into());
        configured(&settings, Path::new("/kubeconfig"), &Arc::default(), variable).map_err(|failure| failure.message)
    }

    #[test]
    fn the_environment_names_the_role_else_the_settings() {
        let whole = [(ROLE_VARIABLE, "acs:r"), (PROVIDER_VARIABLE, "acs:p"), (TOKEN_VARIABLE, "/t")];
        let settings = json!({ "enable_rrsa": true, "rrsa_role_name": "role", "cluster_id": "c1" });
        for given in [json!({}), settings.clone()] {
            let found = rrsa(given, &whole).unwrap().unwrap();
            assert_eq!((found.role.as_str(), found.provider.as_str()), ("acs:r", "acs:p"));
        }
        assert!(rrsa(json!({}), &whole[..2]).unwrap().is_none());
        let empty = [whole[0], whole[1], (TOKEN_VARIABLE, "")];
        let found = rrsa(settings, &empty).unwrap().unwrap();
        assert_eq!((found.role.as_str(), found.provider.as_str()), ("role", "ack-rrsa-c1"));
        assert!(rrsa(json!({ "enable_rrsa": true, "cluster_id": "c" }), &[]).unwrap_err().contains("rrsa_role_name"));
        assert!(rrsa(json!({ "enable_rrsa": true, "rrsa_role_name": "r" }), &[]).unwrap_err().contains("cluster_id"));
    }
}
