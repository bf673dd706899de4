//! Strategic merge: as a merge patch, but lists with a merge key or of set type are merged.

use serde_json::{Map, Value};

/// How a list under a field of this name is merged. Field names are unambiguous among the
/// built-in resources of this server, so no path is needed.
enum ListRule {
    /// Items are objects, matched by this field.
    Keyed(&'static str),
    /// Items are texts; the union is kept.
    Set,
    /// The patch's list replaces the old one.
    Atomic,
}

fn list_rule(field: &str) -> ListRule {
    match field {
        "conditions" | "addresses" => ListRule::Keyed("type"),
        "ownerReferences" => ListRule::Keyed("uid"),
        "podIPs" | "hostIPs" | "hostAliases" => ListRule::Keyed("ip"),
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "secrets" => ListRule::Keyed("name"),
        "volumeMounts" => ListRule::Keyed("mountPath"),
        "volumeDevices" => ListRule::Keyed("devicePath"),
        "ports" => ListRule::Keyed("containerPort"),
        "topologySpreadConstraints" => ListRule::Keyed("topologyKey"),
        "finalizers" | "podCIDRs" => ListRule::Set,
        _ => ListRule::Atomic,
    }
}

/// Merges a patch into an object.
///
/// # Errors
/// What is wrong with the patch: an item without its merge key, an unknown directive.
pub fn merge(object: &mut Value, patch: &Value) -> Result<(), String> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err("a strategic merge patch and its object must be JSON objects".into());
    };
    merge_objects(object, patch)
}

fn merge_objects(object: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), String> {
    match patch.get("$patch").map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            object.clear();
            object.extend(patch.iter().filter(|(key, _)| *key != "$patch").map(|(k, v)| (k.clone(), v.clone())));
            return Ok(());
        }
        Some("delete") => {
            object.clear();
            return Ok(());
        }
        Some(other) => return Err(format!("Unknown patch type found: {other}")),
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            delete_from_set(object, field, value);
        }
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        merge_field(object, key, value)?;
    }
    Ok(())
}

fn merge_field(object: &mut Map<String, Value>, key: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Null => drop(object.remove(key)),
        Value::Object(patch) => {
            let inner = object.entry(key).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            merge_objects(inner.as_object_mut().expect("it was made an object above"), patch)?;
        }
        Value::Array(patch) => {
            let old = object.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            object.insert(key.into(), merge_lists(key, old, patch)?.into());
        }
        other => drop(object.insert(key.into(), other.clone())),
    }
    Ok(())
}

fn merge_lists(field: &str, mut old: Vec<Value>, patch: &[Value]) -> Result<Vec<Value>, String> {
    match list_rule(field) {
        ListRule::Atomic => Ok(patch.to_vec()),
        ListRule::Set => {
            let added: Vec<Value> = patch.iter().filter(|item| !old.contains(item)).cloned().collect();
            old.extend(added);
            Ok(old)
        }
        ListRule::Keyed(_) if patch.iter().any(|item| item.get("$patch").is_some_and(|d| d == "replace")) => {
            Ok(patch.iter().filter(|item| item.get("$patch").is_none()).cloned().collect())
        }
        ListRule::Keyed(merge_key) => {
            patch.iter().try_for_each(|item| merge_item(&mut old, item, merge_key))?;
            Ok(old)
        }
    }
}

fn merge_item(old: &mut Vec<Value>, item: &Value, merge_key: &str) -> Result<(), String> {
    let Some(fields) = item.as_object() else { return Err(format!("map: {item} is not an object")) };
    let Some(wanted) = fields.get(merge_key) else {
        return Err(format!("map: {item} does not contain declared merge key: {merge_key}"));
    };
    let position = old.iter().position(|candidate| &candidate[merge_key] == wanted);
    match (position, fields.get("$patch").and_then(Value::as_str)) {
        (Some(position), Some("delete")) => drop(old.remove(position)),
        (None, Some("delete")) => {}
        (Some(position), _) => merge(&mut old[position], item)?,
        (None, _) => {
            let mut new = Value::Object(Map::new());
            merge(&mut new, item)?;
            old.push(new);
        }
    }
    Ok(())
}

fn delete_from_set(object: &mut Map<String, Value>, field: &str, unwanted: &Value) {
    let unwanted = unwanted.as_array().cloned().unwrap_or_default();
    if let Some(items) = object.get_mut(field).and_then(Value::as_array_mut) {
        items.retain(|item| !unwanted.contains(item));
    }
}
