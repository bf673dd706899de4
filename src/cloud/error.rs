//! The one error of this module: which call on what failed, how often it was tried, what the cloud said.

use std::borrow::Cow;
use std::fmt;

use super::class::Class;
use super::rrsa;

/// Of a text in an answer: those of the cloud have a sentence or two, but whatever answers in its place may say more than
/// an event, a log line or a CNI error should hold.
pub(super) const LONGEST_TEXT: usize = 500;

/// A call that failed for good, after the repeats that its failure allows.
///
/// Its text names subject, action, code, message and RequestId, and holds no secret.
#[derive(Debug)]
pub struct CloudError(Box<Failed>);

#[derive(Debug)]
struct Failed {
    action: &'static str,
    subject: String,
    tries: u32,
    outcome_unknown: bool,
    failure: Failure,
}

/// Why one try brought no result.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The reason, without address details that could hold a secret.
    NotSent(String),
    /// Not even tried, for a reason of this process's own; otherwise as `NotSent`.
    NotTried(String),
    Unanswered(String),
    /// Answered, but not with what this action answers.
    Garbled {
        status: u16,
        reason: String,
    },
    Refused(Refusal),
    /// Which sources were asked, and what each said.
    NoCredentials(String),
    /// A configured source is there and cannot be used, so none after it is asked.
    BrokenSource(String),
}

/// An answered refusal.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub class: Class,
    pub status: u16,
    pub code: Option<String>,
    pub message: Option<String>,
    pub request_id: Option<String>,
    /// Which permission is missing for whom, when the cloud tells.
    pub denied: Option<String>,
}

impl Refusal {
    /// All that comes from the answer and is printed, as `clean` leaves it, and cut after that: before it, a part
    /// of a secret could stay.
    pub fn cleaned(mut self, clean: impl Fn(&str) -> String) -> Self {
        let texts = [&mut self.code, &mut self.message, &mut self.request_id, &mut self.denied];
        texts.into_iter().flatten().for_each(|text| *text = cut(&clean(text)));
        self
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Failure {
    pub fn class(&self) -> Class {
        match self {
            Failure::NotSent(_) | Failure::NotTried(_) => Class::NotSent,
            Failure::Unanswered(_) | Failure::Garbled { .. } => Class::Unanswered,
            Failure::Refused(refusal) => refusal.class,
            Failure::NoCredentials(_) | Failure::BrokenSource(_) => Class::NoCredentials,
        }
    }

    /// One word for counting: the cloud's code, or what is known instead.
    pub fn code(&self) -> Cow<'_, str> {
        match self {
            Failure::NotSent(_) | Failure::NotTried(_) => "NotSent".into(),
            Failure::Unanswered(_) => "Unanswered".into(),
            Failure::Garbled { .. } => "Garbled".into(),
            Failure::NoCredentials(_) | Failure::BrokenSource(_) => "NoCredentials".into(),
            Failure::Refused(Refusal { code: Some(code), .. }) => code.into(),
            Failure::Refused(refusal) => format!("HTTP{}", refusal.status).into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotSent(reason) => write!(f, "could not reach the service: {reason}"),
            Failure::NotTried(reason) => f.write_str(reason),
            Failure::Unanswered(reason) => write!(f, "sent but not answered: {reason}"),
            Failure::Garbled { status, reason } => write!(f, "unreadable answer (HTTP {status}): {reason}"),
            Failure::Refused(refusal) => refusal.fmt(f),
            Failure::NoCredentials(why) | Failure::BrokenSource(why) => write!(f, "no cloud credentials: {why}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => f.write_str(code)?,
            None => write!(f, "HTTP {}", self.status)?,
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(denied) = &self.denied {
            write!(f, " [{denied}]")?;
        }
        Ok(())
    }
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed { action, subject, tries, failure, .. } = &*self.0;
        write!(f, "{action}")?;
        if !subject.is_empty() {
            write!(f, " {subject}")?;
        }
        write!(f, ": {failure} (")?;
        if let Some(id) = self.request_id() {
            write!(f, "RequestId {id}, ")?;
        }
        let plural = if *tries == 1 { "try" } else { "tries" };
        write!(f, "{tries} {plural})")
    }
}

impl std::error::Error for CloudError {}

impl CloudError {
    pub(super) fn new(action: &'static str, subject: impl Into<String>, tries: u32, failure: Failure) -> Self {
        Self(Box::new(Failed { action, subject: subject.into(), tries, outcome_unknown: false, failure }))
    }

    pub(super) fn with_unknown_outcome(mut self, unknown: bool) -> Self {
        self.0.outcome_unknown = unknown;
        self
    }

    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        self.0.failure.class()
    }

    /// The API action, such as `AllocateEipAddress`.
    pub fn action(&self) -> &'static str {
        self.0.action
    }

    /// The cloud's code, such as `QuotaExceeded.Eip`, when it answered with one.
    pub fn code(&self) -> Option<&str> {
        self.refusal()?.code.as_deref()
    }

    /// The cloud's prose; it is not stable, so branch on class or code.
    pub fn message(&self) -> Option<&str> {
        self.refusal()?.message.as_deref()
    }

    /// What Alibaba Cloud's support asks for.
    pub fn request_id(&self) -> Option<&str> {
        self.refusal()?.request_id.as_deref()
    }

    /// How many requests were sent, or were tried to be sent.
    pub fn tries(&self) -> u32 {
        self.0.tries
    }

    /// Whether a change may have been made although this call failed: some try was sent and never
    /// answered, answered 5xx, or still runs. Repeat it with the same token, or look. A refusal of
    /// a later try does not settle it, since the refusal may have come before the token was looked at.
    /// Always false for calls that only read.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// What was `said` before, when this one only came too late to be sent: that tells why there was no time.
    pub fn or_else_said(self, said: Option<CloudError>) -> CloudError {
        match said {
            Some(said) if self.class() == Class::NotSent => said,
            _ => self,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self.code() {
            Some("IpInstanceId.QuotaExceeded") => {
                return Some("the bandwidth package is full: raise its quota of EIPs or use another package");
            }
            Some("InvalidEip.EipQuotaExceeded") => {
                return Some("this ENI carries as many EIPs as it has private IPs");
            }
            Some("OperationDenied.NotOpenDdosOriginProtectService") => {
                return Some("open the Anti-DDoS Origin service, or drop the security-protection annotation");
            }
            _ if self.action() == "instance metadata" && self.class() == Class::Other => {
                return Some(
                    "see that nothing stands between podeip and the ECS metadata service, or set region_id, vpc_id, access_key and access_secret in eni_conf",
                );
            }
            _ if self.action() == "instance metadata" && self.class() == Class::Permission => {
                return Some(
                    "switch the instance's metadata access on, or set region_id, vpc_id, access_key and access_secret in eni_conf",
                );
            }
            _ if self.action() == rrsa::ACTION => return rrsa_hint(&self.0.failure),
            _ => {}
        }
        match self.0.failure {
            Failure::NotTried(_) => None,
            Failure::BrokenSource(_) => {
                Some("replace the file that is named, or remove credential_path from eni_conf to use the next source")
            }
            _ => hint(self.class()),
        }
    }

    fn refusal(&self) -> Option<&Refusal> {
        match &self.0.failure {
            Failure::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

fn rrsa_hint(failure: &Failure) -> Option<&'static str> {
    match failure {
        Failure::Refused(Refusal { code: Some(code), .. }) if code == rrsa::EXPIRED => Some(
            "the newest token has ended, too: set the node's clock (NTP), and where ALIBABA_CLOUD_OIDC_TOKEN_FILE is set, \
             see that kubelet renews that file",
        ),
        Failure::Refused(Refusal { class: Class::Permission | Class::BadCall, .. }) => Some(
            "check rrsa_role_name and cluster_id in eni_conf (or ALIBABA_CLOUD_ROLE_ARN and ALIBABA_CLOUD_OIDC_PROVIDER_ARN \
             where they are set), that RRSA is enabled for the cluster, and that the role's trust policy names its OIDC \
             provider and podeip's service account with the audience sts.aliyuncs.com",
        ),
        // The reason says what to do.
        Failure::BrokenSource(_) | Failure::NotTried(_) => None,
        other => hint(other.class()),
    }
}

fn hint(class: Class) -> Option<&'static str> {
    Some(match class {
        Class::Throttled => {
            "the account's call rate for this action is used up; it is counted per minute and can be raised in Quota Center"
        }
        Class::ServerTrouble | Class::Unanswered => "the cloud has trouble: the next try takes up where this one ended",
        Class::NotSent => {
            "check the node's route, DNS and security rules to this endpoint, and region_id and endpoints in eni_conf"
        }
        Class::Quota => "release EIPs that are not used, or raise the quota eip_quota_instances_num in Quota Center",
        Class::Stock => "the cloud is out of such addresses now: try later, or another line type or address pool",
        Class::Money => "settle the account's balance",
        Class::Permission => {
            "grant the action to the RAM role or user that podeip uses (the smallest policy is in install/), or ask the account's owner to lift the restriction"
        }
        Class::CredentialExpired => {
            "the temporary credentials expired and their source gave no newer ones: check the RAM role and the node's clock"
        }
        Class::CredentialWrong => "check access_key and access_secret in eni_conf, or the RAM role of the node",
        Class::NoCredentials => {
            "set access_key and access_secret or enable_rrsa in eni_conf, or attach a RAM role to the node"
        }
        Class::Clock => "set the node's clock (NTP); the cloud accepts a few minutes of difference",
        Class::BadCall => "check the value that the message names, and region_id in eni_conf",
        Class::Unfit => {
            "this address cannot carry an EIP: check for IP prefixes on the ENI, its EIP mode and the VPC's IPv4 gateway"
        }
        Class::Locked => "the EIP is locked, protected, prepaid or managed by a service: only its owner can lift that",
        Class::AlreadyBound => "the private IP already has a public address: unbind that one first",
        Class::AlreadyInPackage => "remove the EIP from its present bandwidth package first",
        Class::TargetGone => "check that the ENI or bandwidth package exists in this region",
        Class::Conflict
        | Class::TokenInFlight
        | Class::TokenMisuse
        | Class::Gone
        | Class::NotInPackage
        | Class::Other => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(class: Class, code: &str) -> CloudError {
        let refusal = Refusal {
            class,
            status: 403,
            code: Some(code.into()),
            message: Some("User not authorized.".into()),
            request_id: Some("9736ED45".into()),
            denied: Some("vpc:AllocateEipAddress for KubernetesWorkerRole: ImplicitDeny".into()),
        };
        CloudError::new("AllocateEipAddress", "for default/web-0", 2, Failure::Refused(refusal))
    }

    #[test]
    fn the_text_names_everything_once() {
        let error = refused(Class::Permission, "Forbidden.RAM");
        assert_eq!(
            error.to_string(),
            "AllocateEipAddress for default/web-0: Forbidden.RAM: User not authorized. \
             [vpc:AllocateEipAddress for KubernetesWorkerRole: ImplicitDeny] (RequestId 9736ED45, 2 tries)"
        );
        assert_eq!(error.code(), Some("Forbidden.RAM"));
        assert_eq!(error.message(), Some("User not authorized."));
        assert_eq!(error.request_id(), Some("9736ED45"));
        assert!(error.hint().is_some_and(|hint| hint.contains("grant the action")));
    }

    #[test]
    fn failures_without_an_answer() {
        let error = CloudError::new("DescribeEipAddresses", "", 1, Failure::Unanswered("timeout: global".into()));
        assert_eq!(error.to_string(), "DescribeEipAddresses: sent but not answered: timeout: global (1 try)");
        assert_eq!((error.class(), error.code()), (Class::Unanswered, None));
        let garbled = Failure::Garbled { status: 200, reason: "not JSON".into() };
        assert_eq!(garbled.class(), Class::Unanswered);
    }

    #[test]
    fn a_call_that_came_too_late_does_not_hide_what_was_said() {
        let late = || CloudError::new("AllocateEipAddress", "", 1, Failure::NotTried("no time".into()));
        let said = late().or_else_said(Some(refused(Class::Conflict, "TaskConflict")));
        assert_eq!(said.code(), Some("TaskConflict"));
        assert_eq!(late().or_else_said(None).class(), Class::NotSent);
        let newer = refused(Class::Quota, "QuotaExceeded.Eip").or_else_said(Some(said));
        assert_eq!(newer.code(), Some("QuotaExceeded.Eip"));
    }

    #[test]
    fn a_code_can_have_a_hint_of_its_own() {
        assert!(refused(Class::Quota, "IpInstanceId.QuotaExceeded").hint().unwrap().contains("package"));
        assert!(refused(Class::Quota, "QuotaExceeded.Eip").hint().unwrap().contains("eip_quota_instances_num"));
        assert_eq!(refused(Class::Conflict, "TaskConflict").hint(), None);
    }
}
