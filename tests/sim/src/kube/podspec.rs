//! What a pod's specification must say, in a pod and in a template.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::names;
use super::object::text;
use super::status::FieldError;

const HOST_PATH_TYPES: [&str; 8] =
    ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];

/// What is wrong with a specification at `path`.
pub fn validate(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let volumes = validate_volumes(spec, path, &mut errors);
    let mut names = BTreeSet::new();
    for list in ["initContainers", "containers"] {
        let containers = spec.get(list).and_then(Value::as_array).filter(|list| !list.is_empty());
        if containers.is_none() && list == "containers" {
            errors.push(FieldError::required(&format!("{path}.containers"), ""));
        }
        for (at, container) in containers.into_iter().flatten().enumerate() {
            let path = format!("{path}.{list}[{at}]");
            validate_name(container, &path, &mut names, &mut errors);
            if text(container, "/image").is_empty() {
                errors.push(FieldError::required(&format!("{path}.image"), ""));
            }
            validate_mounts(container, &path, &volumes, &mut errors);
        }
    }
    for (key, allowed) in [
        ("restartPolicy", ["Always", "OnFailure", "Never"].as_slice()),
        ("dnsPolicy", ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"].as_slice()),
    ] {
        errors.extend(one_of(&spec[key], &format!("{path}.{key}"), allowed));
    }
    errors
}

/// A name that is missing, malformed or taken.
fn validate_name(object: &Value, path: &str, taken: &mut BTreeSet<String>, errors: &mut Vec<FieldError>) {
    let (name, field) = (text(object, "/name"), format!("{path}.name"));
    if name.is_empty() {
        errors.push(FieldError::required(&field, ""));
    } else if let Some(why) = names::dns_label(name) {
        errors.push(FieldError::invalid(&field, &name.into(), why));
    } else if !taken.insert(name.to_owned()) {
        errors.push(FieldError::duplicate(&field, &name.into()));
    }
}

/// The names of the volumes.
fn validate_volumes(spec: &Value, path: &str, errors: &mut Vec<FieldError>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let volumes = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    for (at, volume) in volumes.enumerate() {
        let path = format!("{path}.volumes[{at}]");
        validate_name(volume, &path, &mut names, errors);
        let sources = volume.as_object().map_or(0, |fields| fields.keys().filter(|key| *key != "name").count());
        if sources > 1 {
            errors.push(FieldError::forbidden(&path, "may not specify more than 1 volume type"));
        }
        let Some(host) = volume.get("hostPath") else { continue };
        let directory = text(host, "/path");
        let field = format!("{path}.hostPath.path");
        if directory.is_empty() {
            errors.push(FieldError::required(&field, ""));
        } else if directory.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(&field, &directory.into(), "must not contain '..'"));
        }
        errors.extend(one_of(&host["type"], &format!("{path}.hostPath.type"), &HOST_PATH_TYPES));
    }
    names
}

fn validate_mounts(container: &Value, path: &str, volumes: &BTreeSet<String>, errors: &mut Vec<FieldError>) {
    let mut places = BTreeSet::new();
    let mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
    for (at, mount) in mounts.enumerate() {
        let path = format!("{path}.volumeMounts[{at}]");
        let (name, place) = (text(mount, "/name"), text(mount, "/mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(&format!("{path}.name"), ""));
        } else if !volumes.contains(name) {
            errors.push(FieldError::not_found(&format!("{path}.name"), &name.into()));
        }
        let field = format!("{path}.mountPath");
        if place.is_empty() {
            errors.push(FieldError::required(&field, ""));
        } else if !places.insert(place.to_owned()) {
            errors.push(FieldError::invalid(&field, &place.into(), "must be unique"));
        }
    }
}

/// A value that may be left out and is one of a few.
fn one_of(value: &Value, field: &str, allowed: &[&str]) -> Option<FieldError> {
    if value.is_null() || value.as_str().is_some_and(|found| allowed.contains(&found)) {
        return None;
    }
    let allowed: Vec<Value> = allowed.iter().map(|one| json!(one)).collect();
    Some(FieldError::not_supported(field, value, &allowed))
}
