//! Why a call to the API server failed: what it was, who said so, what it proves, what helps.

use std::time::Duration;

use serde::Deserialize;

use super::request::{Operation, Resource};
use crate::http::{Answer, NoAnswer};
use crate::secret::Secret;

/// The most of an answer that is not Kubernetes' own that is worth printing.
const FOREIGN_TEXT: usize = 200;

/// Of a text in a `Status`. An API server names each field that it refuses, and webhooks say what they like.
const LONGEST_TEXT: usize = 1000;

/// A failed call, after the tries that the deadline allowed.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// Nobody answered, or the time was up.
    #[error("{operation}: no answer from {server} ({})", counted(*tries))]
    NoAnswer {
        operation: Box<Operation>,
        server: String,
        tries: u32,
        #[source]
        cause: NoAnswer,
    },
    /// The API server answered, and it was not a 2xx.
    #[error("{operation}: HTTP {} {}: {} ({})", refusal.status, refusal.reason, refusal.message, counted(*tries))]
    Refused { operation: Box<Operation>, refusal: Box<Refusal>, tries: u32 },
    /// A 2xx whose body is not the JSON that was asked for.
    #[error("{operation}: {server} answered, but not as an API server does")]
    Unreadable {
        operation: Box<Operation>,
        server: String,
        #[source]
        cause: serde_json::Error,
    },
    /// The object of that name is not the one that the caller decided upon: another UID, or its
    /// PodEIP was taken over by another instance of the pod.
    #[error("{operation}: the object was replaced or taken over meanwhile ({found})")]
    Superseded { operation: Box<Operation>, found: String },
}

fn counted(tries: u32) -> String {
    if tries == 1 { "1 try".into() } else { format!("{tries} tries") }
}

impl KubeError {
    /// What was tried.
    pub fn operation(&self) -> &Operation {
        match self {
            KubeError::NoAnswer { operation, .. }
            | KubeError::Refused { operation, .. }
            | KubeError::Unreadable { operation, .. }
            | KubeError::Superseded { operation, .. } => operation,
        }
    }

    /// Whether the API server was silent, overloaded or broken, rather than refusing: a later
    /// try can succeed without anyone changing anything.
    pub fn not_answered(&self) -> bool {
        match self {
            KubeError::NoAnswer { cause, .. } => !distrusted(cause),
            KubeError::Refused { refusal, .. } => refusal.overloaded(),
            KubeError::Unreadable { cause, .. } => !cause.is_data(),
            KubeError::Superseded { .. } => false,
        }
    }

    /// The HTTP status, if there was a refusal.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status)
    }

    /// The API server's refusal, if there was one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            KubeError::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// A precondition failed: the object changed, or is another one. Read it again and decide anew.
    pub fn is_conflict(&self) -> bool {
        match self {
            KubeError::Refused { refusal, .. } => refusal.conflict(),
            KubeError::Superseded { .. } => true,
            _ => false,
        }
    }

    /// The name is in use. After a lost answer the object may well be the caller's own.
    pub fn is_already_exists(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.status == 409 && refusal.reason == "AlreadyExists")
    }

    /// The object, or the object it would live in, does not exist. Not said of a missing CRD.
    pub fn is_not_found(&self) -> bool {
        self.refusal().is_some_and(Refusal::object_absent)
    }

    /// The object of that name has another UID, or belongs to another pod instance by now.
    pub fn is_superseded(&self) -> bool {
        match self {
            KubeError::Refused { refusal, .. } => refusal.other_uid(),
            KubeError::Superseded { .. } => true,
            _ => false,
        }
    }

    /// What the try before was refused with, when the last one only had no time for its answer: that tells why.
    pub(super) fn or_else_said(self, said: Option<KubeError>) -> KubeError {
        let silent = matches!(self, KubeError::NoAnswer { .. }) && self.not_answered();
        match said {
            Some(said @ KubeError::Refused { .. }) if silent => said,
            _ => self,
        }
    }

    /// What the operator can do about it, when that is known.
    pub fn hint(&self) -> Option<String> {
        let operation = self.operation();
        match self {
            KubeError::NoAnswer { server, cause, .. } => Some(unreachable(server, cause)),
            KubeError::Unreadable { .. } => Some(NOT_AN_API_SERVER.into()),
            KubeError::Superseded { .. } => None,
            KubeError::Refused { refusal, .. } => match refusal.status {
                300..=399 => Some(NOT_AN_API_SERVER.into()),
                401 => Some(
                    "the token was refused; put a valid one of the service account kube-system/podeip into the kubeconfig"
                        .into(),
                ),
                403 if !refusal.message.contains("being terminated") => Some(missing_rule(operation)),
                404 if refusal.object_absent() => None,
                404 if operation.resource.is_built_in() => Some(NOT_AN_API_SERVER.into()),
                404 => Some(format!(
                    "the CustomResourceDefinition podeips.{} is not installed; apply podeip's install/podeip-crd.yaml",
                    operation.resource.group()
                )),
                _ => None,
            },
        }
    }

    /// Whether another try of the same call, by this process, may bring another answer.
    pub(super) fn worth_repeating(&self) -> bool {
        self.not_answered()
    }

    /// How long the API server asked us to wait.
    pub(super) fn wait_wanted(&self) -> Option<Duration> {
        self.refusal().and_then(|refusal| refusal.retry_after)
    }
}

const NOT_AN_API_SERVER: &str = "the cluster's server in the kubeconfig does not seem to be a Kubernetes API server";

fn unreachable(server: &str, cause: &NoAnswer) -> String {
    if distrusted(cause) {
        format!(
            "{server} and the kubeconfig do not trust each other: compare its certificate authority and client certificate"
        )
    } else {
        format!("check that this node reaches {server}, the cluster's server in the kubeconfig")
    }
}

/// One side does not believe the other's certificate. ureq and rustls say so only in their text;
/// the alerts are what servers answer to a client certificate that another authority signed.
fn distrusted(cause: &NoAnswer) -> bool {
    let text = cause.to_string().to_ascii_lowercase();
    ["certificate", "alert: unknownca", "alert: decrypterror"].iter().any(|sign| text.contains(sign))
}

fn missing_rule(operation: &Operation) -> String {
    let group = match operation.resource.group() {
        "" => "the core API group".into(),
        group => format!("API group {group}"),
    };
    let resource: Resource = operation.resource;
    format!(
        "the RBAC role of podeip lacks verb {} on {resource} in {group}; apply podeip's install/rbac.yaml",
        operation.verb
    )
}

/// A refusal, from the `Status` object in the answer's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Machine-readable, such as `Conflict`; empty if the answer was not a `Status` object.
    pub reason: String,
    /// The API server's text, or the beginning of whatever was answered instead.
    pub message: String,
    /// Whether the body was a `Status` object, so that Kubernetes itself answered.
    is_status: bool,
    /// The fields that were found wrong (422).
    fields: Vec<String>,
    retry_after: Option<Duration>,
}

#[derive(Default, Deserialize)]
struct WireStatus {
    #[serde(default)]
    kind: String,
    reason: Option<String>,
    message: Option<String>,
    details: Option<WireDetails>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDetails {
    causes: Option<Vec<WireCause>>,
    retry_after_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct WireCause {
    field: Option<String>,
}

impl Refusal {
    /// Without the token of the request, which some gateways' pages quote.
    pub(super) fn from_answer(answer: &Answer, token: Option<&Secret>) -> Self {
        let hidden = |text: String| match token {
            Some(token) => text.replace(token.reveal(), "(token)"),
            None => text,
        };
        let told = |text: String| hidden(text).chars().take(LONGEST_TEXT).collect();
        let wire: WireStatus = serde_json::from_slice(&answer.body).unwrap_or_default();
        let is_status = wire.kind == "Status";
        // Before it is cut, which could leave the first part of a token.
        let page = || beginning(&hidden(String::from_utf8_lossy(&answer.body).into_owned()));
        let message = wire.message.filter(|_| is_status).map_or_else(page, told);
        let (causes, retry_after) = match wire.details {
            Some(details) => (details.causes.unwrap_or_default(), details.retry_after_seconds),
            None => (Vec::new(), None),
        };
        Self {
            status: answer.status,
            reason: wire.reason.filter(|_| is_status).map(told).unwrap_or_default(),
            message,
            is_status,
            fields: causes.into_iter().filter_map(|cause| cause.field).collect(),
            retry_after: retry_after.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        }
    }

    /// 429 and 5xx: the server could not, rather than would not.
    fn overloaded(&self) -> bool {
        self.status == 429 || self.status >= 500
    }

    /// An answer about an object, not about a type that the server does not know: for that it says
    /// "the server could not find the requested resource" or sends the plain text of a bare router.
    fn object_absent(&self) -> bool {
        self.status == 404 && self.is_status && !self.message.contains("could not find the requested resource")
    }

    /// A `metadata.uid` that differs is 422 for a patch (the field is immutable) and 409 for a
    /// deletion's precondition.
    fn other_uid(&self) -> bool {
        match self.status {
            409 => self.message.contains("UID in precondition"),
            422 => self.fields.iter().any(|field| field == "metadata.uid") || self.message.contains("metadata.uid"),
            _ => false,
        }
    }

    fn conflict(&self) -> bool {
        (self.status == 409 && self.reason != "AlreadyExists") || self.other_uid()
    }
}

/// The beginning of an answer that is not a `Status`, on one line.
fn beginning(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        return "(empty answer)".into();
    }
    words.join(" ").chars().take(FOREIGN_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::super::request::Verb;
    use super::*;

    fn refused(resource: Resource, status: u16, body: &str) -> KubeError {
        let answer = Answer { status, date: None, body: body.as_bytes().to_vec() };
        KubeError::Refused {
            operation: Box::new(Operation::on(Verb::Patch, resource, "shop", "web-0")),
            refusal: Box::new(Refusal::from_answer(&answer, None)),
            tries: 1,
        }
    }

    fn status(code: u16, reason: &str, message: &str) -> String {
        serde_json::json!({"kind": "Status", "reason": reason, "message": message, "code": code}).to_string()
    }

    #[test]
    fn no_part_of_the_token_is_in_what_a_gateway_answers() {
        let token = Secret::new("hush-hush-hush-hush");
        let hidden = |status, body: String| {
            let answer = Answer { status, date: None, body: body.into_bytes() };
            format!("{:?}", Refusal::from_answer(&answer, Some(&token)))
        };
        for before in [FOREIGN_TEXT - 12, FOREIGN_TEXT - 1, 0] {
            let page = hidden(502, format!("{} {} after", "x".repeat(before), token.reveal()));
            assert!(!page.contains("hush"), "{page}");
        }
        let quoted = hidden(401, status(401, token.reveal(), token.reveal()));
        assert!(!quoted.contains("hush") && quoted.contains("(token)"), "{quoted}");
    }

    #[test]
    fn a_long_status_is_cut() {
        let long = "x".repeat(100_000);
        let shown = refused(Resource::Pods, 403, &status(403, &long, &long)).to_string();
        assert!(shown.len() < 2 * LONGEST_TEXT + 100, "{} bytes", shown.len());
    }

    #[test]
    fn a_refusal_names_call_object_and_reason() {
        let error = refused(Resource::PodStatus, 403, &status(403, "Forbidden", "pods \"web-0\" is forbidden"));
        let text = "patch pods/status shop/web-0: HTTP 403 Forbidden: pods \"web-0\" is forbidden (1 try)";
        assert_eq!(error.to_string(), text);
        let rule = "the RBAC role of podeip lacks verb patch on pods/status in the core API group; \
                    apply podeip's install/rbac.yaml";
        assert_eq!(error.hint().unwrap(), rule);
        assert!(!error.not_answered() && error.status() == Some(403));
    }

    #[test]
    fn a_missing_crd_is_not_a_missing_object() {
        let object = refused(Resource::PodEips, 404, &status(404, "NotFound", "podeips \"web-0\" not found"));
        assert!(object.is_not_found() && object.hint().is_none());
        let unknown = status(404, "NotFound", "the server could not find the requested resource");
        for body in [unknown.as_str(), "404 page not found\n"] {
            let kind = refused(Resource::PodEips, 404, body);
            assert!(!kind.is_not_found());
            assert!(kind.hint().unwrap().contains("podeips.alibabacloud.com is not installed"), "{kind}");
        }
    }

    #[test]
    fn conflicts_of_version_uid_and_name_are_told_apart() {
        let version = refused(Resource::PodEips, 409, &status(409, "Conflict", "the object has been modified"));
        assert!(version.is_conflict() && !version.is_superseded() && !version.is_already_exists());
        let deletion = status(409, "Conflict", "Precondition failed: UID in precondition: a, UID in object meta: b");
        assert!(refused(Resource::PodEips, 409, &deletion).is_superseded());
        let field = serde_json::json!({"kind": "Status", "reason": "Invalid", "message": "Pod \"web-0\" is invalid",
            "details": {"causes": [{"field": "metadata.uid"}]}});
        let patch = refused(Resource::Pods, 422, &field.to_string());
        assert!(patch.is_conflict() && patch.is_superseded());
        let name = refused(Resource::PodEips, 409, &status(409, "AlreadyExists", "already exists"));
        assert!(name.is_already_exists() && !name.is_conflict());
        let invalid = refused(Resource::PodEips, 422, &status(422, "Invalid", "spec.allocationID: Required value"));
        assert!(!invalid.is_conflict() && !invalid.not_answered());
    }

    #[test]
    fn a_last_try_without_time_does_not_hide_the_refusal_before_it() {
        let busy = || refused(Resource::Pods, 429, &status(429, "TooManyRequests", "busy"));
        let silent = || KubeError::NoAnswer {
            operation: Box::new(busy().operation().clone()),
            server: "https://api".into(),
            tries: 4,
            cause: NoAnswer::Unanswered("timeout".into()),
        };
        assert_eq!(silent().or_else_said(Some(busy())).status(), Some(429));
        assert_eq!(silent().or_else_said(Some(silent())).status(), None);
        let other = refused(Resource::Pods, 503, "down");
        assert_eq!(other.or_else_said(Some(busy())).status(), Some(503));
    }

    #[test]
    fn overload_is_no_refusal() {
        let busy = serde_json::json!({"kind": "Status", "reason": "TooManyRequests", "message": "busy",
            "details": {"retryAfterSeconds": 2}});
        let error = refused(Resource::Pods, 429, &busy.to_string());
        assert!(error.not_answered());
        assert_eq!(error.wait_wanted(), Some(Duration::from_secs(2)));
        let error = refused(Resource::Pods, 502, "<html>\n  Bad   Gateway</html>");
        assert!(error.not_answered());
        assert!(error.to_string().ends_with("HTTP 502 : <html> Bad Gateway</html> (1 try)"), "{error}");
    }

    #[test]
    fn a_namespace_that_goes_is_no_missing_rule() {
        let text = "unable to create new content in namespace shop because it is being terminated";
        assert_eq!(refused(Resource::PodEips, 403, &status(403, "Forbidden", text)).hint(), None);
    }
}
