//! One RPC call: parameters, signature, sending, decoding, and the loop that repeats it.
//!
//! Everything is POSTed as an urlencoded body: tags, names and tokens can outgrow a URL, and a URL
//! finds its way into proxies' logs and error texts while a body does not.

use std::fmt::Display;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::deadline::Deadline;
use crate::http::{Answer, Call, Http, NoAnswer};
use crate::names::ClientToken;

use super::class::classify;
use super::credentials::Credentials;
use super::error::{CloudError, Failure, Refusal};
use super::retry::{Attempts, Effect, Next, courtesy, try_budget, worth_sending};
use super::signature::{Parameter, canonical, encode, sign, string_to_sign};
use super::{Class, Cloud};

/// On a wrong signature the cloud's message ends with this and the text it signed, which holds the token.
const SIGNED_TEXT: &str = "server string to sign is:";

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Product {
    Vpc,
    Ecs,
    Sts,
}

impl Product {
    fn version(self) -> &'static str {
        match self {
            Product::Vpc => "2016-04-28",
            Product::Ecs => "2014-05-26",
            Product::Sts => "2015-04-01",
        }
    }

    /// The host that nodes inside a VPC of `region` reach without internet access.
    pub fn url(self, region: &str, plain_http: bool) -> String {
        let (name, region) = match self {
            Product::Vpc => ("vpc", region),
            Product::Ecs => ("ecs", region),
            // The finance region has no STS of its own.
            Product::Sts if region == "cn-hangzhou-finance" => ("sts", "cn-hangzhou"),
            Product::Sts => ("sts", region),
        };
        let scheme = if plain_http { "http" } else { "https" };
        format!("{scheme}://{name}-vpc.{region}.aliyuncs.com")
    }
}

/// A call before it is signed.
pub(super) struct Rpc {
    product: Product,
    action: &'static str,
    /// For messages: whom it is about.
    subject: String,
    effect: Effect,
    parameters: Vec<Parameter>,
}

impl Rpc {
    pub fn new(product: Product, action: &'static str, effect: Effect, subject: impl Into<String>) -> Self {
        Self { product, action, subject: subject.into(), effect, parameters: Vec::new() }
    }

    /// A call of the VPC product that carries an idempotency token.
    pub fn tokened(action: &'static str, token: &ClientToken, subject: impl Into<String>) -> Self {
        Self::new(Product::Vpc, action, Effect::Tokened, subject).with("ClientToken", token)
    }

    pub fn with(mut self, name: impl Into<String>, value: impl Display) -> Self {
        self.parameters.push((name.into(), value.to_string()));
        self
    }

    /// Left out when there is no value.
    pub fn with_some(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// `Name.1`, `Name.2`, …
    pub fn with_list(self, name: &str, values: impl IntoIterator<Item = impl Display>) -> Self {
        values.into_iter().enumerate().fold(self, |rpc, (at, value)| rpc.with(format!("{name}.{}", at + 1), value))
    }

    /// `Tag.1.Key`, `Tag.1.Value`, …
    pub fn with_tags<'a>(self, tags: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        tags.into_iter().enumerate().fold(self, |rpc, (at, (key, value))| {
            let at = at + 1;
            rpc.with(format!("Tag.{at}.Key"), key).with(format!("Tag.{at}.Value"), value)
        })
    }
}

impl Cloud {
    /// Sends `rpc` until it is answered well, answered for good, or the deadline is too near.
    pub(super) fn call<T: DeserializeOwned>(&self, rpc: &Rpc, deadline: Deadline) -> Result<T, CloudError> {
        let mut attempts = Attempts::default();
        let mut said = None;
        loop {
            let unsettled = attempts.outcome_unknown();
            let ready = self.region(deadline).and_then(|region| Ok((region, self.credentials.current(deadline)?)));
            let (region, credentials) = ready.map_err(|error| error.with_unknown_outcome(unsettled))?;
            self.hold_back(rpc.action, deadline);
            let tried = self.try_once(rpc, region, &credentials, deadline);
            self.tally.call(rpc.action, &tried.as_ref().map_or_else(Failure::code, |_| "OK".into()));
            let failure = match tried {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if failure.class() == Class::Throttled {
                self.note.throttled(rpc.action);
            }
            let next = attempts.failed(failure.class(), rpc.effect, fastrand::f64());
            log::debug!("{} {}: try {}: {failure}: {next:?}", rpc.action, rpc.subject, attempts.tries());
            let again = match next {
                Next::Again(pause) => {
                    worth_sending(rpc.effect, deadline.left().saturating_sub(pause)) && deadline.sleep(pause)
                }
                Next::Renew => self.renewed(&credentials, deadline),
                Next::Stop => false,
            };
            if !again {
                let error = CloudError::new(rpc.action, rpc.subject.clone(), attempts.tries(), told(failure, said));
                return Err(error.with_unknown_outcome(attempts.outcome_unknown()));
            }
            said = matches!(next, Next::Again(_)).then_some(failure);
        }
    }

    /// Waits as long as the other processes of the node ask for, and a little more by chance, so that
    /// they do not all knock at the end of the same wait.
    fn hold_back(&self, action: &str, deadline: Deadline) {
        let wait = self.note.wait(action);
        if !wait.is_zero() {
            deadline.sleep(courtesy(wait.mul_f64(1.0 + fastrand::f64() / 4.0), deadline.left()));
        }
    }

    fn renewed(&self, refused: &Arc<Credentials>, deadline: Deadline) -> bool {
        match self.credentials.renew(refused, deadline) {
            Ok(credentials) => credentials.is_some(),
            Err(failure) => {
                log::warn!("the cloud refused the credentials, and they were not renewed: {failure}");
                false
            }
        }
    }

    fn try_once<T: DeserializeOwned>(
        &self,
        rpc: &Rpc,
        region: &str,
        credentials: &Credentials,
        deadline: Deadline,
    ) -> Result<T, Failure> {
        if !worth_sending(rpc.effect, deadline.left()) {
            return Err(Failure::NotTried("not sent, because no time was left for its answer".into()));
        }
        let parameters = signed_parameters(rpc, region, credentials);
        let text = string_to_sign("POST", &parameters);
        let signature = encode(&sign(&text, &credentials.key.secret));
        let body = format!("{}&Signature={signature}", canonical(&parameters));
        let base = self.place.base(rpc.product, region);
        let answer = post(&self.http, &base, &body, deadline.within(try_budget(rpc.effect, deadline.left())));
        answer.map_err(|failure| clean(failure, &text, credentials))
    }
}

/// A try that came too late to be sent tells less than the one before it.
fn told(failure: Failure, said: Option<Failure>) -> Failure {
    match (failure, said) {
        (Failure::NotTried(_), Some(said)) => said,
        (failure, _) => failure,
    }
}

/// Sends the parameters of one try and reads what it is answered.
pub(super) fn post<T: DeserializeOwned>(http: &Http, base: &str, body: &str, deadline: Deadline) -> Result<T, Failure> {
    let call = Call {
        method: "POST",
        url: &format!("{base}/"),
        headers: &[("Accept", "application/json")],
        body: Some(("application/x-www-form-urlencoded", body.as_bytes())),
    };
    match http.send(&call, deadline) {
        Ok(answer) => decode(&answer),
        Err(NoAnswer::NotSent(reason)) => Err(Failure::NotSent(reason)),
        Err(NoAnswer::Unanswered(reason)) => Err(Failure::Unanswered(reason)),
    }
}

/// What every call carries, signed or not. Nonce and timestamp are new on every try.
pub(super) fn common_parameters(rpc: &Rpc) -> Vec<Parameter> {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let nonce = uuid::Uuid::new_v4().to_string();
    let common = [
        ("Action", rpc.action),
        ("Version", rpc.product.version()),
        ("Format", "JSON"),
        ("SignatureNonce", &nonce),
        ("Timestamp", &now),
    ];
    let common = common.into_iter().map(|(name, value)| (name.into(), value.into()));
    rpc.parameters.iter().cloned().chain(common).collect()
}

/// Everything but the signature.
fn signed_parameters(rpc: &Rpc, region: &str, credentials: &Credentials) -> Vec<Parameter> {
    let mut parameters = common_parameters(rpc);
    let mut add = |name: &str, value: &str| parameters.push((name.into(), value.into()));
    add("AccessKeyId", &credentials.key.id);
    add("SignatureMethod", "HMAC-SHA1");
    add("SignatureType", "");
    add("SignatureVersion", "1.0");
    if rpc.product != Product::Sts {
        add("RegionId", region);
    }
    if let Some(token) = &credentials.token {
        add("SecurityToken", token.reveal());
    }
    parameters
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WireRefusal {
    request_id: Option<String>,
    code: Option<String>,
    message: Option<String>,
    access_denied_detail: Option<AccessDenied>,
}

/// Which permission was missing for whom.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AccessDenied {
    auth_action: Option<String>,
    auth_principal_type: Option<String>,
    auth_principal_display_name: Option<String>,
    no_permission_type: Option<String>,
    policy_type: Option<String>,
}

impl Display for AccessDenied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
        write!(
            f,
            "{} for {} {}: {} by {}",
            shown(&self.auth_action),
            shown(&self.auth_principal_type),
            shown(&self.auth_principal_display_name),
            shown(&self.no_permission_type),
            shown(&self.policy_type)
        )
    }
}

pub(super) fn decode<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    let garbled = |reason| Failure::Garbled { status: answer.status, reason };
    if (200..300).contains(&answer.status) {
        return object(&answer.body).map_err(garbled);
    }
    let refusal: WireRefusal = match object(&answer.body) {
        Ok(refusal) => refusal,
        // A gateway's page: the call may be running behind it.
        Err(reason) if answer.status >= 500 => return Err(garbled(reason)),
        Err(_) => WireRefusal::default(),
    };
    let prose = refusal.message.as_deref().unwrap_or_default();
    Err(Failure::Refused(Refusal {
        class: classify(refusal.code.as_deref().unwrap_or_default(), answer.status, prose),
        status: answer.status,
        code: refusal.code.filter(|code| !code.is_empty()),
        message: refusal.message.filter(|message| !message.is_empty()),
        request_id: refusal.request_id,
        denied: refusal.access_denied_detail.map(|detail| detail.to_string()),
    }))
}

/// Reads a JSON object. The reason it gives is ours: the parser's may quote the answer, which for
/// STS holds secrets.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    // serde would take an array for a struct.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err("not a JSON object".into());
    }
    serde_json::from_slice(body).map_err(|cause| {
        format!("{:?} error in its JSON at line {} column {}", cause.classify(), cause.line(), cause.column())
    })
}

/// Takes what must not be printed out of what the cloud says: a message quotes the request, and whatever stands between
/// us and the cloud may quote it anywhere.
pub(super) fn clean(failure: Failure, signed: &str, credentials: &Credentials) -> Failure {
    let Failure::Refused(refusal) = failure else { return failure };
    Failure::Refused(
        refusal.cleaned(|text| {
            without_signature(&without_secrets(without_signed_text(text, signed), credentials.secrets()))
        }),
    )
}

/// Takes secrets out of a message, however often they are encoded in it.
pub(super) fn without_secrets<'s>(message: String, secrets: impl Iterator<Item = &'s str>) -> String {
    secrets.filter(|secret| !secret.is_empty()).fold(message, |message, secret| {
        let once = encode(secret);
        [encode(&once), once, secret.to_string()]
            .iter()
            .fold(message, |message, form| message.replace(form, "(secret)"))
    })
}

/// Takes the signature out of a request that the cloud quotes.
fn without_signature(message: &str) -> String {
    let mut parts = message.split("Signature=");
    let before = parts.next().unwrap_or_default().to_string();
    parts.fold(before, |cleaned, part| {
        let value = part.find(|c: char| c == '&' || c.is_whitespace()).unwrap_or(part.len());
        cleaned + "(signature)" + &part[value..]
    })
}

/// Replaces the text that the cloud signed by what it tells: a wrong secret, or a wrong encoding.
fn without_signed_text(message: &str, signed: &str) -> String {
    let Some((before, theirs)) = message.split_once(SIGNED_TEXT) else { return message.to_string() };
    let verdict = if theirs.trim().starts_with(signed) {
        "the cloud signed the same text, so the access secret is not the one of this AccessKey"
    } else {
        "the cloud signed another text than podeip did"
    };
    format!("{}: {verdict}", before.trim_end_matches([' ', ',', ':', '.']))
}

#[cfg(test)]
mod tests;
