//! The fields every object has, read and written on plain JSON.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The text at a JSON pointer; empty when there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

pub fn version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

pub fn generation(object: &Value) -> u64 {
    object.pointer("/metadata/generation").and_then(Value::as_u64).unwrap_or_default()
}

pub fn is_deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// Seconds a graceful deletion still grants; zero when the object only waits for its finalizers.
pub fn grace_seconds(object: &Value) -> Option<i64> {
    object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64)
}

pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The metadata, created when there is none; the shape check has made sure that it is an object.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("it was made an object above")
}

pub fn set_metadata(object: &mut Value, key: &str, value: impl Into<Value>) {
    metadata_mut(object).insert(key.into(), value.into());
}

/// Writes a metadata field as another object has it: absent stays absent.
pub fn copy_metadata(object: &mut Value, from: &Value, key: &str) {
    match from.pointer(&format!("/metadata/{key}")) {
        Some(value) => set_metadata(object, key, value.clone()),
        None => drop(metadata_mut(object).remove(key)),
    }
}

/// A top-level field as another object has it: absent stays absent.
pub fn copy_field(object: &mut Value, from: &Value, key: &str) {
    let fields = object.as_object_mut().expect("a stored or decoded object is a JSON object");
    match from.get(key) {
        Some(value) => drop(fields.insert(key.into(), value.clone())),
        None => drop(fields.remove(key)),
    }
}

/// A time as `metav1.Time` is written: whole seconds, `Z`.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
