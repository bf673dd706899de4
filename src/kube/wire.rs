//! What all Kubernetes objects have in common on the wire, read leniently.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// `metadata`. Only the name and the UID are needed; `null` is the same as absent everywhere.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireMeta {
    pub name: String,
    pub uid: String,
    pub namespace: Option<String>,
    pub resource_version: Option<String>,
    pub creation_timestamp: Option<String>,
    pub deletion_timestamp: Option<String>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub finalizers: Option<Vec<String>>,
    pub owner_references: Option<Vec<WireOwner>>,
}

#[derive(Deserialize)]
pub(super) struct WireOwner {
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub name: String,
}

/// Changes to a map for a merge patch: `None` takes the key away.
pub(super) fn changes(changes: &BTreeMap<&str, Option<&str>>) -> Value {
    let entry = |(key, value): (&&str, &Option<&str>)| (key.to_string(), Value::from(*value));
    Value::Object(changes.iter().map(entry).collect())
}

/// A time as Kubernetes keeps it: RFC 3339 in whole seconds.
pub(super) fn time_text(time: Timestamp) -> String {
    whole_seconds(time).to_string()
}

pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    // A second that came out of a Timestamp is inside its range.
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Go's zero time and other texts that are no time we could use are `None`.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// `value` without its null members, for a creation: there a null is not "absent".
pub(super) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        other => other,
    }
}
