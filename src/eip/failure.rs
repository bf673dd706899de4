//! Why a verb failed, sorted by what the caller can do about it.

use std::fmt;

use crate::cloud::{Class, CloudError};
use crate::eip::request::Refusal;
use crate::kube::{KubeError, KubeconfigError};
use crate::settings::SettingsError;
use crate::state::StateError;

/// What kind of failure it is; each kind has one CNI error code (README, "When something is wrong").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A retry can mend it.
    TryAgain,
    /// The pod asks for something that is not allowed.
    Annotation,
    /// `eni_conf`, the stanza or the kubeconfig is unusable.
    Configuration,
    /// No credentials, or they may not do this.
    Credentials,
    /// A quota is used up or the account has no money.
    Quota,
    /// The EIP does not exist or belongs to someone else.
    EipUnavailable,
    /// The pod's address is not on an ENI.
    NetworkMode,
    /// The cloud refused for another reason.
    CloudRefused,
    /// The API server refused.
    Kubernetes,
    /// The node's state cannot be read or written.
    LocalState,
}

impl Kind {
    /// As measures and metrics spell it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::TryAgain => "tryAgain",
            Kind::Annotation => "annotation",
            Kind::Configuration => "configuration",
            Kind::Credentials => "credentials",
            Kind::Quota => "quota",
            Kind::EipUnavailable => "eipUnavailable",
            Kind::NetworkMode => "networkMode",
            Kind::CloudRefused => "cloudRefused",
            Kind::Kubernetes => "kubernetes",
            Kind::LocalState => "localState",
        }
    }
}

/// One failure in words for the pod's events: what happened and, apart from it, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    pub fn hinting(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was being done in front of the message.
    pub fn during(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{}; {hint}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

impl From<CloudError> for Failure {
    fn from(error: CloudError) -> Self {
        let kind = match error.class() {
            Class::Throttled
            | Class::ServerTrouble
            | Class::Conflict
            | Class::TokenInFlight
            | Class::TokenMisuse
            | Class::AlreadyBound
            | Class::Gone
            | Class::TargetGone
            | Class::Stock
            | Class::Unanswered
            | Class::NotSent => Kind::TryAgain,
            Class::Quota | Class::Money => Kind::Quota,
            Class::Unfit => Kind::NetworkMode,
            Class::Permission
            | Class::CredentialExpired
            | Class::CredentialWrong
            | Class::NoCredentials
            | Class::Clock => Kind::Credentials,
            _ => Kind::CloudRefused,
        };
        let hint = error.hint().map(str::to_string);
        Self { kind, message: error.to_string(), hint }
    }
}

impl From<KubeError> for Failure {
    fn from(error: KubeError) -> Self {
        // A conflict is a refusal too, but the next try starts from what is there by then.
        let passing = error.not_answered() || error.is_conflict();
        let kind = if passing { Kind::TryAgain } else { Kind::Kubernetes };
        Self { kind, message: chain(&error), hint: error.hint() }
    }
}

impl From<KubeconfigError> for Failure {
    fn from(error: KubeconfigError) -> Self {
        Self::new(Kind::Configuration, chain(&error))
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(Kind::Configuration, chain(&error))
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let kind = if matches!(error, StateError::Locked { .. }) { Kind::TryAgain } else { Kind::LocalState };
        Self::new(kind, chain(&error))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(Kind::Annotation, refusal.to_string())
    }
}

/// An error and its causes in one line, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
