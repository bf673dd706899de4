//! How the server refuses: `Status` objects, and the field errors inside those of reason `Invalid`.

use std::fmt;

use serde_json::{Map, Value, json};

use super::resources::Resource;
use crate::exchange::Reply;

/// A refusal as the real server words it.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub code: u16,
    /// The machine-readable reason (`NotFound`, `Conflict`, …); empty where the real server gives none.
    pub reason: &'static str,
    pub message: String,
    details: Option<Map<String, Value>>,
    /// Paths that no API serves are answered by the bare HTTP server, without a `Status`.
    plain: bool,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.reason, self.message)
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, plain: false }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let mut details = Map::new();
        for (key, text) in [("name", name), ("group", group), ("kind", kind)] {
            if !text.is_empty() {
                details.insert(key.into(), text.into());
            }
        }
        self.details = Some(details);
        self
    }

    fn detail(mut self, key: &str, value: Value) -> Self {
        self.details.get_or_insert_default().insert(key.into(), value);
        self
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden(resource: &Resource, name: &str, why: impl fmt::Display) -> Self {
        Self::forbidden_by_name(&resource.group, &resource.plural, name, why)
    }

    /// As [`ApiError::forbidden`], for what was asked about a resource that need not exist.
    pub fn forbidden_by_name(group: &str, plural: &str, name: &str, why: impl fmt::Display) -> Self {
        let subject = qualified(group, plural);
        let quoted = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
        Self::new(403, "Forbidden", format!("{subject}{quoted} is forbidden: {why}")).about(group, plural, name)
    }

    pub fn namespace_terminating(resource: &Resource, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        Self::forbidden(resource, name, why).detail(
            "causes",
            json!([{ "reason": "NamespaceTerminating", "field": "metadata.namespace",
                "message": format!("namespace {namespace} is being terminated") }]),
        )
    }

    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.qualified());
        Self::new(404, "NotFound", message).about(&resource.group, &resource.plural, name)
    }

    /// An API group version is served, but it has no such resource.
    pub fn unknown_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").about("", "", "")
    }

    /// Nothing is served at this path; resources of a CRD that is not installed look like this.
    pub fn unknown_path() -> Self {
        Self { plain: true, ..Self::new(404, "NotFound", "404 page not found\n") }
    }

    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message).about("", "", "")
    }

    pub fn definition_terminating() -> Self {
        let message = "create not allowed while custom resource definition is terminating";
        Self::new(405, "MethodNotAllowed", message).about("", "", "")
    }

    pub fn not_acceptable() -> Self {
        let types = "application/json, application/json;as=Table;v=v1;g=meta.k8s.io";
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {types}"))
    }

    pub fn already_exists(resource: &Resource, name: &str, deleting: bool) -> Self {
        let prefix = if deleting { "object is being deleted: " } else { "" };
        let message = format!("{prefix}{} \"{name}\" already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message).about(&resource.group, &resource.plural, name)
    }

    pub fn conflict(resource: &Resource, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified());
        Self::new(409, "Conflict", message).about(&resource.group, &resource.plural, name)
    }

    pub fn modified_meanwhile(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// A precondition of a deletion failed; here the real server names the kind, not the resource.
    pub fn precondition_failed(resource: &Resource, name: &str, why: impl fmt::Display) -> Self {
        let subject = qualified(&resource.group, &resource.kind);
        let message = format!("Operation cannot be fulfilled on {subject} \"{name}\": {why}");
        Self::new(409, "Conflict", message).about(&resource.group, &resource.kind, name)
    }

    /// The resource version, or the continue token, is older than what the server remembers.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_kind(&resource.group, &resource.kind, name, errors)
    }

    pub fn invalid_kind(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for text in errors.iter().map(FieldError::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let reasons = if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
        let message = format!("{} \"{name}\" is invalid: {reasons}", qualified(group, kind));
        let causes = errors.iter().map(FieldError::cause).collect();
        Self::new(422, "Invalid", message).about(group, kind, name).detail("causes", Value::Array(causes))
    }

    /// A JSON patch could not be applied; the real server does not say why.
    pub fn patch_not_applicable() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::new(422, "Invalid", message).about("", "", "")
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    pub fn too_large_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let causes = json!([{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }]);
        Self::new(504, "Timeout", message).detail("causes", causes).detail("retryAfterSeconds", json!(1))
    }

    /// The `Status` object.
    pub fn object(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = Value::Object(details.clone());
        }
        status
    }

    pub fn reply(&self) -> Reply {
        if self.plain { Reply::text(self.code, self.message.clone()) } else { Reply::json(self.code, &self.object()) }
    }
}

/// `pods`, `podeips.alibabacloud.com`.
pub fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// One field the server did not like.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    kind: &'static str,
    field: String,
    /// The text after the field's name.
    body: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body)
    }
}

impl FieldError {
    fn new(kind: &'static str, field: &str, body: String) -> Self {
        Self { kind, field: field.to_owned(), body }
    }

    pub fn required(field: &str, detail: &str) -> Self {
        let tail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        Self::new("FieldValueRequired", field, format!("Required value{tail}"))
    }

    pub fn invalid(field: &str, value: &Value, detail: impl fmt::Display) -> Self {
        Self::new("FieldValueInvalid", field, format!("Invalid value: {value}: {detail}"))
    }

    /// As [`FieldError::invalid`], for a value whose notation is not JSON's.
    pub fn invalid_raw(field: &str, value: &str, detail: &str) -> Self {
        Self::new("FieldValueInvalid", field, format!("Invalid value: {value}: {detail}"))
    }

    /// A value of another JSON type than the schema's.
    pub fn type_invalid(field: &str, found: &str, expected: &str) -> Self {
        let detail = format!("{field} in body must be of type {expected}: \"{found}\"");
        Self::new("FieldValueTypeInvalid", field, format!("Invalid value: \"{found}\": {detail}"))
    }

    pub fn not_supported(field: &str, value: &Value, allowed: &[Value]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let body = format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
        Self::new("FieldValueNotSupported", field, body)
    }

    pub fn not_found(field: &str, value: &Value) -> Self {
        Self::new("FieldValueNotFound", field, format!("Not found: {value}"))
    }

    pub fn duplicate(field: &str, value: &Value) -> Self {
        Self::new("FieldValueDuplicate", field, format!("Duplicate value: {value}"))
    }

    pub fn forbidden(field: &str, detail: impl fmt::Display) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {detail}"))
    }

    pub fn too_long(field: &str, longest: usize) -> Self {
        Self::new("FieldValueTooLong", field, format!("Too long: may not be more than {longest} bytes"))
    }

    fn cause(&self) -> Value {
        json!({ "reason": self.kind, "message": self.body, "field": self.field })
    }
}
