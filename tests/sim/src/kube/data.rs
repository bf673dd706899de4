//! ConfigMaps and Secrets: keys, values, and what is sealed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::resources::Resource;
use super::status::FieldError;

/// All values of one object together.
const MOST_BYTES: usize = 1024 * 1024;

const KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
     'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

const FIELDS: [&str; 3] = ["data", "binaryData", "stringData"];

fn holds_data(resource: &Resource) -> bool {
    resource.is("", "configmaps") || resource.is("", "secrets")
}

/// Makes the data what the real server's decoder would.
///
/// # Errors
/// A value that is no text, and one that should be base64 and is not.
pub fn decode(resource: &Resource, object: &mut Value) -> Result<(), String> {
    if !holds_data(resource) {
        return Ok(());
    }
    let kind = &resource.kind;
    for field in FIELDS {
        if object[field].is_null() {
            object.as_object_mut().map(|fields| fields.remove(field));
            continue;
        }
        let Some(entries) = object[field].as_object() else {
            return Err(format!(
                "json: cannot unmarshal into Go struct field {kind}.{field} of type map[string]string"
            ));
        };
        for value in entries.values() {
            let Some(text) = value.as_str() else {
                return Err(format!("json: cannot unmarshal into Go struct field {kind}.{field} of type string"));
            };
            let encoded = field == "binaryData" || (field == "data" && kind == "Secret");
            if encoded && STANDARD.decode(text).is_err() {
                return Err(format!("illegal base64 data in {kind}.{field}"));
            }
        }
    }
    if kind == "Secret" {
        seal(object);
    }
    Ok(())
}

/// What a client writes as text is stored encoded.
fn seal(secret: &mut Value) {
    if let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|fields| fields.remove("stringData")) {
        if !secret["data"].is_object() {
            secret["data"] = json!({});
        }
        for (key, text) in texts {
            secret["data"][key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
        }
    }
    if secret["type"].is_null() {
        secret["type"] = "Opaque".into();
    }
}

/// What is wrong with keys and size.
pub fn validate(object: &Value) -> Vec<FieldError> {
    let is_key = |key: &str| {
        let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        plain && !key.is_empty() && key.len() <= 253 && !matches!(key, "." | "..")
    };
    let mut errors = Vec::new();
    let mut bytes = 0;
    for field in FIELDS {
        for (key, value) in object.get(field).and_then(Value::as_object).into_iter().flat_map(Map::iter) {
            bytes += value.as_str().map_or(0, str::len);
            if !is_key(key) {
                errors.push(FieldError::invalid(&format!("{field}[{key}]"), &key.as_str().into(), KEY));
            }
        }
    }
    if bytes > MOST_BYTES {
        errors.push(FieldError::too_long("data", MOST_BYTES));
    }
    errors
}

/// One that is marked immutable is so, the mark included; a Secret's type always is.
pub fn validate_step(before: &Value, after: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if before["type"] != after["type"] {
        errors.push(FieldError::invalid("type", &after["type"], "field is immutable"));
    }
    if before["immutable"] == true {
        for field in ["immutable", "data", "binaryData"] {
            if before[field] != after[field] {
                errors.push(FieldError::forbidden(field, "field is immutable when `immutable` is set"));
            }
        }
    }
    errors
}
