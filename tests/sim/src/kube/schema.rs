//! Structural schemas of custom resources: pruning, defaults and validation.

use jiff::civil::Date;
use regex_lite::Regex;
use serde_json::Value;

use super::status::FieldError;

/// The keywords this file acts on, and those that only describe.
const KNOWN: [&str; 23] = [
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
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "externalDocs",
];

/// What is wrong with a schema itself: patterns that are none, and keywords that this server does not
/// act on. A definition that uses one is refused, so that no test relies on a rule that is not there.
pub fn validate_schema(schema: &Value, path: &str) -> Vec<FieldError> {
    let Some(keywords) = schema.as_object() else { return vec![] };
    let mut errors: Vec<FieldError> =
        keywords.iter().filter_map(|(key, value)| wrong_keyword(key, value, &format!("{path}.{key}"))).collect();
    for (name, inner) in keywords.get("properties").and_then(Value::as_object).into_iter().flatten() {
        errors.extend(validate_schema(inner, &format!("{path}.{name}")));
    }
    for key in ["items", "additionalProperties"] {
        errors.extend(keywords.get(key).map(|inner| validate_schema(inner, path)).unwrap_or_default());
    }
    for inner in keywords.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        errors.extend(validate_schema(inner, path));
    }
    errors
}

fn wrong_keyword(key: &str, value: &Value, path: &str) -> Option<FieldError> {
    match (key, value.as_str()) {
        // The real server's message goes on with what its own parser says.
        ("pattern", Some(pattern)) => Regex::new(pattern).err().map(|why| {
            FieldError::invalid(path, value, format!("must be a valid regular expression, but isn't: {why}"))
        }),
        ("format", Some(format)) if format != "date-time" => {
            Some(FieldError::forbidden(path, format!("podeip-sim does not act on the format {format}")))
        }
        _ if KNOWN.contains(&key) => None,
        _ => Some(FieldError::forbidden(path, "podeip-sim does not act on this keyword")),
    }
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

/// Drops nulls that the schema does not allow, except where a default takes their place. Go clients
/// send them for times that are not set.
pub fn drop_nulls(schema: &Value, value: &mut Value) {
    let of = |key: &str| schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
    match value {
        Value::Object(fields) => fields.retain(|key, value| {
            let rule = of(key);
            if value.is_null() && rule.is_object() && rule["nullable"] != true && rule.get("default").is_none() {
                return false;
            }
            drop_nulls(rule, value);
            true
        }),
        Value::Array(items) => items.iter_mut().for_each(|item| drop_nulls(&schema["items"], item)),
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
    if let Some(text) = value.as_str() {
        errors.extend(validate_text(schema, text, path));
    }
    errors
}

/// The pattern and the format of a text.
fn validate_text(schema: &Value, text: &str, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut refuse = |why: String| errors.push(FieldError::invalid(path, &text.into(), why));
    if let Some(pattern) = schema["pattern"].as_str() {
        let regex = Regex::new(pattern).expect("the definition's validation tried it");
        if !regex.is_match(text) {
            refuse(format!("{path} in body should match '{pattern}'"));
        }
    }
    if schema["format"] == "date-time" && !is_date_time(text) {
        refuse(format!("{path} in body must be of type date-time: {text:?}"));
    }
    errors
}

/// RFC 3339 as the real server reads it: a calendar's date, no leap second, small letters too.
fn is_date_time(text: &str) -> bool {
    const TIME: &str = r"(?i)^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](.[0-9]+)?(z|[+-][0-9]{2}:[0-9]{2})$";
    let time = Regex::new(TIME).expect("a constant");
    let Some((date, rest)) = text.split_once(['T', 't']) else { return false };
    date.len() == "2006-01-02".len() && date.parse::<Date>().is_ok() && time.is_match(rest)
}
