//! What a token says of itself, for people and figures. Nobody verifies it here: the API server does.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::Kube;
use super::kubeconfig;
use crate::secret::Secret;

/// How long a token is good for, and for whom it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLife {
    issued: Option<Timestamp>,
    /// From then on it is refused.
    pub expires: Timestamp,
    /// Where the API server extends tokens of pods to a year: when this one was to be replaced all the same.
    pub replace_by: Option<Timestamp>,
    pub audiences: Vec<String>,
}

impl TokenLife {
    /// When another one has to be there.
    pub fn ends(&self) -> Timestamp {
        self.replace_by.map_or(self.expires, |replace_by| replace_by.min(self.expires))
    }

    /// Whether it is later than anybody would replace it: a kubelet does with a fifth of the life left, and
    /// needs a minute or two for it.
    pub fn is_late(&self, now: Timestamp) -> bool {
        let life = self.issued.map_or(SignedDuration::ZERO, |issued| self.ends().duration_since(issued));
        self.ends().duration_since(now) < life / 10
    }
}

impl Kube {
    /// The life of the token that is sent now; `None` when there is none, or it does not say.
    pub fn token_life(&self) -> Option<TokenLife> {
        self.bearer().as_ref().and_then(life)
    }
}

/// The life of the token in a kubeconfig, as it is on the disk now.
pub fn token_life_in(kubeconfig: &Path) -> Option<TokenLife> {
    life(&kubeconfig::load(kubeconfig).ok()?.token?.current())
}

#[derive(Deserialize)]
struct Times {
    exp: f64,
    iat: Option<f64>,
    aud: Option<Audiences>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<OfKubernetes>,
}

#[derive(Deserialize)]
struct OfKubernetes {
    warnafter: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

fn life(token: &Secret) -> Option<TokenLife> {
    let times: Times = claims(token)?;
    let at = |seconds: f64| Timestamp::from_second(seconds as i64).ok();
    Some(TokenLife {
        issued: times.iat.and_then(at),
        expires: at(times.exp)?,
        replace_by: times.kubernetes.and_then(|of| of.warnafter).and_then(at),
        audiences: match times.aud {
            None => Vec::new(),
            Some(Audiences::One(one)) => vec![one],
            Some(Audiences::Many(all)) => all,
        },
    })
}

/// The payload of a JWT, unless the token is something else.
pub(super) fn claims<T: DeserializeOwned>(token: &Secret) -> Option<T> {
    let payload = token.reveal().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn token(payload: &str) -> Secret {
        Secret::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload)))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_says_when_it_ends() {
        let bound = life(&token(r#"{"iat":1000,"exp":4600,"aud":["https://kubernetes.default.svc"]}"#)).unwrap();
        assert_eq!((bound.ends(), bound.expires), (at(4600), at(4600)));
        assert_eq!(bound.audiences, ["https://kubernetes.default.svc"]);
        // A kubelet replaces it at 3880.
        assert!(!bound.is_late(at(4200)) && bound.is_late(at(4300)));

        let extended = r#"{"iat":1000,"exp":31537000,"aud":"a","kubernetes.io":{"warnafter":4607,"namespace":"n"}}"#;
        let extended = life(&token(extended)).unwrap();
        assert_eq!((extended.ends(), extended.expires), (at(4607), at(31_537_000)));
        assert!(extended.is_late(at(5000)));

        let bare = life(&token(r#"{"exp":4600.5}"#)).unwrap();
        assert!(!bare.is_late(at(4599)) && bare.is_late(at(4601)));
    }

    #[test]
    fn a_token_without_an_end_says_nothing() {
        for payload in [r#"{"sub":"system:serviceaccount:a:b"}"#, r#"{"exp":"soon"}"#, r#"{"exp":1e300}"#, "[", ""] {
            assert_eq!(life(&token(payload)), None, "{payload}");
        }
        assert_eq!(life(&Secret::new("opaque")), None);
    }
}
