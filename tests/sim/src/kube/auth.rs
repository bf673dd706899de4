//! Who may do what: bearer tokens, client certificates, RBAC rules, and the two APIs about them
//! (SelfSubjectAccessReview and TokenRequest).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::aim::ResourceAim;
use super::object::{self, text};
use super::status::{ApiError, FieldError};
use crate::exchange::Request;

/// The header by which the TLS layer says that it verified a client certificate.
pub const CERTIFICATE_HEADER: (&str, &str) = ("x-client-certificate", "verified");

/// The audience of tokens that this API server itself accepts.
const OWN_AUDIENCE: &str = "https://kubernetes.default.svc";

/// One rule of a Role or ClusterRole; `namespace` restricts it as a Role's binding does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PolicyRule {
    pub namespace: Option<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub verbs: Vec<String>,
    pub resource_names: Vec<String>,
}

fn covers(list: &[String], asked: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == asked)
}

impl PolicyRule {
    pub fn permits(&self, aim: &ResourceAim) -> bool {
        let any_of_sub = format!("*/{}", aim.subresource);
        covers(&self.verbs, aim.verb)
            && covers(&self.api_groups, &aim.group)
            && (covers(&self.resources, &aim.resource()) || self.resources.contains(&any_of_sub))
            && (self.resource_names.is_empty() || self.resource_names.contains(&aim.name))
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == aim.namespace)
    }
}

/// A token that this server handed out by TokenRequest.
#[derive(Clone, Debug)]
struct Issued {
    token: String,
    user: String,
    claims: Value,
    expires: Timestamp,
}

/// Who is behind a request.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    /// It came with a token that this server issued. The configured credentials are an administrator's too, whatever
    /// their name.
    pub is_service_account: bool,
}

impl User {
    pub fn forbidden(&self, aim: &ResourceAim) -> ApiError {
        let place = match aim.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace \"{namespace}\""),
        };
        let (user, verb, resource, group) = (&self.name, aim.verb, aim.resource(), &aim.group);
        let why = format!("User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}");
        ApiError::forbidden_by_name(group, &aim.plural, &aim.name, why)
    }
}

/// The server's doors.
#[derive(Debug, Default)]
pub struct Access {
    pub token: Option<String>,
    pub accept_certificate: bool,
    /// Whom the configured token and a client certificate stand for.
    pub user: String,
    /// Service accounts may do only what roles and bindings of the cluster permit.
    pub roles_count: bool,
    issued: Vec<Issued>,
    denied: Vec<(String, String)>,
    permitted: Option<Vec<PolicyRule>>,
}

impl Access {
    /// The user behind a request. Without any configured credentials everybody is the user.
    pub fn authenticate(&self, request: &Request, now: Timestamp) -> Result<User, ApiError> {
        let configured = || User { name: self.user.clone(), is_service_account: false };
        if self.token.is_none() && !self.accept_certificate {
            return Ok(configured());
        }
        if self.accept_certificate && request.header(CERTIFICATE_HEADER.0) == Some(CERTIFICATE_HEADER.1) {
            return Ok(configured());
        }
        let presented = request.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
        let presented = presented.map(str::trim).ok_or_else(ApiError::unauthorized)?;
        if self.token.as_deref() == Some(presented) {
            return Ok(configured());
        }
        let own = |issued: &&Issued| {
            issued.token == presented && issued.expires > now && issued.claims["aud"] == json!([OWN_AUDIENCE])
        };
        let found = self.issued.iter().find(own).ok_or_else(ApiError::unauthorized)?;
        Ok(User { name: found.user.clone(), is_service_account: true })
    }

    pub fn deny(&mut self, verb: &str, resource: &str) {
        self.denied.push((verb.into(), resource.into()));
    }

    /// Takes every [`Access::deny`] back.
    pub fn allow_all(&mut self) {
        self.denied.clear();
        self.permitted = None;
    }

    /// Permits only what a rule permits, as RBAC does.
    pub fn permit_only(&mut self, rules: Vec<PolicyRule>) {
        self.permitted = Some(rules);
    }

    pub fn permits(&self, aim: &ResourceAim) -> bool {
        let resource = aim.resource();
        let fits = |(verb, denied): &(String, String)| {
            (verb == "*" || verb == aim.verb) && (denied == "*" || *denied == resource)
        };
        // Every authenticated user may ask about itself.
        let about_itself = aim.is_review();
        let permitted = self.permitted.as_ref().is_none_or(|rules| rules.iter().any(|rule| rule.permits(aim)));
        !self.denied.iter().any(fits) && (permitted || about_itself)
    }

    pub fn authorize(&self, user: &User, aim: &ResourceAim) -> Result<(), ApiError> {
        if self.permits(aim) { Ok(()) } else { Err(user.forbidden(aim)) }
    }

    /// Answers a SelfSubjectAccessReview of a user to whom this is granted.
    pub fn review(&self, review: &mut Value, is_granted: impl Fn(&ResourceAim) -> bool) {
        let asked = review.pointer("/spec/resourceAttributes").cloned().unwrap_or_default();
        let part = |key: &str| text(&asked, &format!("/{key}")).to_owned();
        let aim = ResourceAim {
            verb: VERBS.into_iter().find(|verb| *verb == part("verb")).unwrap_or("*"),
            group: part("group"),
            version: part("version"),
            plural: part("resource"),
            namespace: part("namespace"),
            name: part("name"),
            subresource: part("subresource"),
        };
        let allowed = self.permits(&aim) && is_granted(&aim);
        review["status"] = if allowed { json!({ "allowed": true }) } else { json!({ "allowed": false, "reason": "" }) };
    }

    /// Answers a TokenRequest for a service account that exists.
    pub fn issue(&mut self, account: &Value, mut request: Value, now: Timestamp) -> Result<Value, ApiError> {
        let seconds = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
        if seconds < 600 {
            let why = "may not specify a duration less than 10 minutes";
            let error = FieldError::invalid("spec.expirationSeconds", &seconds.into(), why);
            return Err(ApiError::invalid_kind("authentication.k8s.io", "TokenRequest", "", &[error]));
        }
        let expires = now + SignedDuration::from_secs(seconds);
        let audiences =
            request.pointer("/spec/audiences").filter(|list| list.as_array().is_some_and(|l| !l.is_empty()));
        let audiences = audiences.cloned().unwrap_or_else(|| json!([OWN_AUDIENCE]));
        let user = format!("system:serviceaccount:{}:{}", object::namespace(account), object::name(account));
        let claims = json!({
            "iss": OWN_AUDIENCE, "sub": user, "aud": audiences, "jti": Uuid::new_v4().to_string(),
            "iat": now.as_second(), "nbf": now.as_second(), "exp": expires.as_second(),
            "kubernetes.io": {
                "namespace": object::namespace(account),
                "serviceaccount": { "name": object::name(account), "uid": object::uid(account) },
            },
        });
        let token = web_token(&claims);
        self.issued.push(Issued { token: token.clone(), user, claims, expires });
        request["kind"] = "TokenRequest".into();
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["spec"]["audiences"] = audiences;
        request["spec"]["expirationSeconds"] = seconds.into();
        request["status"] = json!({ "token": token, "expirationTimestamp": object::time(expires) });
        Ok(request)
    }

    /// The claims of a token this server issued and that has not expired: what an OpenID Connect
    /// provider's keys would prove.
    pub fn claims(&self, token: &str, now: Timestamp) -> Option<Value> {
        let issued = self.issued.iter().find(|issued| issued.token == token && issued.expires > now)?;
        Some(issued.claims.clone())
    }
}

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// A JSON web token of the usual form. Nobody checks its signature with a key: who needs proof asks
/// [`Access::claims`].
fn web_token(claims: &Value) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = encode(br#"{"alg":"RS256","kid":"podeip-sim"}"#);
    let signature = encode(&[*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat());
    format!("{header}.{}.{signature}", encode(claims.to_string().as_bytes()))
}
