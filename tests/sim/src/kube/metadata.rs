//! Metadata: its shape, what the server validates in it, and what no update can change.

use serde_json::{Map, Value};

use super::names::{self, NameRule};
use super::object::{self, text};
use super::resources::{RBAC, Resource};
use super::status::FieldError;

/// The fields of `ObjectMeta`; others are dropped. `managedFields` is known and not kept.
const FIELDS: [&str; 13] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
];

/// All annotations of one object together.
const ANNOTATION_BYTES: usize = 256 * 1024;

/// Makes metadata what the real server's decoder would: unknown fields, nulls and empty
/// collections are dropped, and a value of a wrong JSON type is refused with its reason.
pub fn decode(object: &mut Value) -> Result<(), String> {
    if !object.is_object() {
        return Err(format!("json: cannot unmarshal {} into Go value of type v1.ObjectMeta", go_type(object)));
    }
    if object["metadata"].is_null() {
        object["metadata"] = Value::Object(Map::new());
    }
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return Err(mismatch(&object["metadata"], "metadata", "v1.ObjectMeta"));
    };
    metadata.retain(|key, value| FIELDS.contains(&key.as_str()) && !is_empty(value));
    for (key, value) in metadata.iter_mut() {
        match key.as_str() {
            "labels" | "annotations" => decode_texts_by_key(value, key)?,
            "finalizers" => decode_texts(value, key)?,
            "ownerReferences" if value.is_array() => {}
            "generation" | "deletionGracePeriodSeconds" if value.is_i64() || value.is_u64() => {}
            "ownerReferences" => return Err(mismatch(value, "metadata.ownerReferences", "[]v1.OwnerReference")),
            "generation" | "deletionGracePeriodSeconds" => return Err(mismatch(value, key, "int64")),
            _ if value.is_string() => {}
            _ => return Err(mismatch(value, &format!("metadata.{key}"), "string")),
        }
    }
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn decode_texts_by_key(value: &mut Value, key: &str) -> Result<(), String> {
    let field = format!("metadata.{key}");
    let Some(map) = value.as_object_mut() else { return Err(mismatch(value, &field, "map[string]string")) };
    for text in map.values_mut() {
        match text {
            Value::String(_) => {}
            Value::Null => *text = "".into(),
            other => return Err(mismatch(other, &field, "string")),
        }
    }
    Ok(())
}

fn decode_texts(value: &Value, key: &str) -> Result<(), String> {
    let field = format!("metadata.{key}");
    let Some(items) = value.as_array() else { return Err(mismatch(value, &field, "[]string")) };
    match items.iter().find(|item| !item.is_string()) {
        Some(other) => Err(mismatch(other, &field, "string")),
        None => Ok(()),
    }
}

fn mismatch(value: &Value, field: &str, expected: &str) -> String {
    format!("json: cannot unmarshal {} into Go struct field ObjectMeta.{field} of type {expected}", go_type(value))
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn name_rule(resource: &Resource) -> NameRule {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") => names::dns_label,
        ("", "events") | (RBAC, _) => names::path_segment,
        _ => names::dns_subdomain,
    }
}

/// What is wrong with an object's metadata, whether it is new or not.
pub fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = object::name(object);
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if let Some(why) = name_rule(resource)(name) {
        errors.push(FieldError::invalid("metadata.name", &name.into(), why));
    }
    errors.extend(validate_labels(object));
    errors.extend(validate_annotations(object));
    errors.extend(validate_owners(object));
    for finalizer in object::finalizers(object) {
        let why = names::qualified_name(finalizer);
        errors.extend(why.map(|why| FieldError::invalid("metadata.finalizers", &finalizer.into(), why)));
    }
    errors
}

fn entries<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a str)> {
    let map = object["metadata"].get(key).and_then(Value::as_object);
    map.into_iter().flatten().map(|(key, value)| (key, value.as_str().unwrap_or_default()))
}

fn validate_labels(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in entries(object, "labels") {
        let why = names::qualified_name(key);
        errors.extend(why.map(|why| FieldError::invalid("metadata.labels", &key.as_str().into(), why)));
        let why = names::label_value(value);
        errors.extend(why.map(|why| FieldError::invalid("metadata.labels", &value.into(), why)));
    }
    errors
}

fn validate_annotations(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in entries(object, "annotations") {
        bytes += key.len() + value.len();
        let why = names::qualified_name(&key.to_lowercase());
        errors.extend(why.map(|why| FieldError::invalid("metadata.annotations", &key.as_str().into(), why)));
    }
    if bytes > ANNOTATION_BYTES {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATION_BYTES));
    }
    errors
}

fn validate_owners(object: &Value) -> Vec<FieldError> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let missing = |owner: &Value| {
        let absent = ["apiVersion", "kind", "name", "uid"]
            .into_iter()
            .filter(|key| owner[key].as_str().is_none_or(str::is_empty));
        let report = |key: &str| {
            let why = if key == "apiVersion" { "version must not be empty" } else { "must not be empty" };
            FieldError::invalid(&format!("metadata.ownerReferences.{key}"), &"".into(), why)
        };
        absent.map(report).collect::<Vec<_>>()
    };
    owners.into_iter().flatten().flat_map(missing).collect()
}

/// What is wrong with the step from one state of an object's metadata to the next.
pub fn validate_step(before: &Value, after: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object::is_deleting(before) {
        let known = object::finalizers(before);
        let added: Vec<String> = object::finalizers(after)
            .into_iter()
            .filter(|new| !known.contains(new))
            .map(|new| format!("{new:?}"))
            .collect();
        if !added.is_empty() {
            let list = format!("[]string{{{}}}", added.join(", "));
            let why = "no new finalizers can be added if the object is being deleted, found new finalizers";
            errors.push(FieldError::forbidden("metadata.finalizers", format!("{why} {list}")));
        }
    }
    if object::grace_seconds(before) != object::grace_seconds(after) {
        let value = after["metadata"]["deletionGracePeriodSeconds"].clone();
        errors.push(FieldError::invalid("metadata.deletionGracePeriodSeconds", &value, "field is immutable"));
    }
    for key in ["name", "namespace", "uid", "deletionTimestamp"] {
        let pointer = format!("/metadata/{key}");
        if text(before, &pointer) != text(after, &pointer) {
            let field = format!("metadata.{key}");
            errors.push(FieldError::invalid(&field, &text(after, &pointer).into(), "field is immutable"));
        }
    }
    errors
}
