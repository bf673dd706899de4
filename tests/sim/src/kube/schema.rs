//! Structural schemas of custom resources: pruning, defaults and validation.

use serde_json::Value;

use super::status::FieldError;

/// The keywords this file acts on, and those that only describe.
const KNOWN: [&str; 22] = [
    "additionalProperties",
    "allOf",
    "default",
    "description",
    "enum",
    "example",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "nullable",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "externalDocs",
];

/// Keywords of a schema that this server does not act on, with their paths. A definition that
/// uses one is refused, so that no test relies on a rule that is not there.
pub fn unknown_keywords(schema: &Value, path: &str) -> Vec<String> {
    let Some(keywords) = schema.as_object() else { return vec![] };
    let mut unknown: Vec<String> =
        keywords.keys().filter(|key| !KNOWN.contains(&key.as_str())).map(|key| format!("{path}.{key}")).collect();
    for (name, inner) in keywords.get("properties").and_then(Value::as_object).into_iter().flatten() {
        unknown.extend(unknown_keywords(inner, &format!("{path}.{name}")));
    }
    for key in ["items", "additionalProperties"] {
        unknown.extend(keywords.get(key).map(|inner| unknown_keywords(inner, path)).unwrap_or_default());
    }
    for inner in keywords.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        unknown.extend(unknown_keywords(inner, path));
    }
    unknown
}

/// Drops the fields the schema does not know and says which; an object's own head is always known.
pub fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut dropped = Vec::new();
    let Some(fields) = object.as_object_mut() else { return dropped };
    fields.retain(|key, value| {
        if matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        keep(schema, key, key, value, &mut dropped)
    });
    dropped
}

/// Whether a field stays; if it does, its inside is pruned.
fn keep(schema: &Value, key: &str, path: &str, value: &mut Value, dropped: &mut Vec<String>) -> bool {
    if let Some(inner) = schema["properties"].get(key) {
        prune_value(inner, path, value, dropped);
        return true;
    }
    match &schema["additionalProperties"] {
        Value::Bool(true) => true,
        inner @ Value::Object(_) => {
            prune_value(inner, path, value, dropped);
            true
        }
        _ if schema["x-kubernetes-preserve-unknown-fields"] == true => true,
        _ => {
            dropped.push(path.to_owned());
            false
        }
    }
}

fn prune_value(schema: &Value, path: &str, value: &mut Value, dropped: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, inner| keep(schema, key, &format!("{path}.{key}"), inner, dropped));
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                prune_value(&schema["items"], &format!("{path}[{index}]"), item, dropped);
            }
        }
        _ => {}
    }
}

/// Fills in defaults, also where a null stands that the schema does not allow.
pub fn apply_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
                let missing = fields.get(key).is_none_or(|value| value.is_null() && inner["nullable"] != true);
                if let (true, Some(default)) = (missing, inner.get("default")) {
                    fields.insert(key.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(key) {
                    apply_defaults(inner, value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| apply_defaults(&schema["items"], item)),
        _ => {}
    }
}

/// What the schema refuses in a value that stands at `path`; the root's path is empty.
pub fn validate(schema: &Value, value: &Value, path: &str) -> Vec<FieldError> {
    if value.is_null() && schema["nullable"] == true {
        return vec![];
    }
    if let Some(wrong) = wrong_type(schema, value, path) {
        return vec![wrong];
    }
    let mut errors = validate_here(schema, value, path);
    match value {
        Value::Object(fields) => {
            for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(key) {
                    errors.push(FieldError::required(&child(path, key), ""));
                }
            }
            for (key, inner) in fields {
                let rule = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
                errors.extend(validate(rule, inner, &child(path, key)));
            }
        }
        Value::Array(items) => {
            let each = items.iter().enumerate();
            errors.extend(each.flat_map(|(index, item)| validate(&schema["items"], item, &format!("{path}[{index}]"))));
        }
        _ => {}
    }
    for inner in schema["allOf"].as_array().into_iter().flatten() {
        errors.extend(validate(inner, value, path));
    }
    errors
}

fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong_type(schema: &Value, value: &Value, path: &str) -> Option<FieldError> {
    let expected = schema["type"].as_str()?;
    let found = type_of(value);
    let fits = expected == found
        || (expected == "number" && found == "integer")
        || (schema["x-kubernetes-int-or-string"] == true && matches!(found, "integer" | "string"));
    (!fits).then(|| FieldError::type_invalid(path, found, expected))
}

/// Enumerations, limits and formats of one value.
fn validate_here(schema: &Value, value: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        errors.push(FieldError::not_supported(path, value, allowed));
    }
    let measured = match value {
        Value::String(text) => Some(("minLength", "maxLength", text.chars().count() as f64, "chars long")),
        Value::Array(items) => Some(("minItems", "maxItems", items.len() as f64, "items")),
        Value::Number(number) => number.as_f64().map(|number| ("minimum", "maximum", number, "")),
        _ => None,
    };
    if let Some((least, most, size, unit)) = measured {
        if let Some(limit) = schema[least].as_f64().filter(|limit| size < *limit) {
            let why = format!("{path} in body should be at least {limit} {unit}");
            errors.push(FieldError::invalid(path, value, why.trim_end()));
        }
        if let Some(limit) = schema[most].as_f64().filter(|limit| size > *limit) {
            let why = format!("{path} in body should be at most {limit} {unit}");
            errors.push(FieldError::invalid(path, value, why.trim_end()));
        }
    }
    if let (Some("date-time"), Some(text)) = (schema["format"].as_str(), value.as_str())
        && text.parse::<jiff::Timestamp>().is_err()
    {
        errors.push(FieldError::invalid(path, value, format!("{path} in body must be of type date-time: {text:?}")));
    }
    errors
}
