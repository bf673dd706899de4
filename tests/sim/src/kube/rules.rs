//! What single resources add to the common rules: pods, events, leases, definitions, custom resources.

use serde_json::{Value, json};

use super::object::{self, text};
use super::resources::{DEFINITIONS, PRIORITIES, Put, RBAC, Resource, StatusEndpoint};
use super::status::{ApiError, FieldError};
use super::{data, podspec, priority, rbac, schema, workload};

/// Brings an object a client creates into the state the server would store it in.
pub fn prepare_new(resource: &Resource, object: &mut Value) {
    if resource.has_status() && !resource.is("", "nodes") {
        object.as_object_mut().expect("a decoded object is a JSON object").remove("status");
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => prepare_pod(object),
        ("", "namespaces") => object["status"] = json!({ "phase": "Active" }),
        _ => {}
    }
}

/// The defaults of a pod that its life depends on.
pub fn prepare_pod(pod: &mut Value) {
    pod["status"] = json!({ "phase": "Pending", "qosClass": "BestEffort" });
    let Some(spec) = pod["spec"].as_object_mut() else { return };
    let defaults = [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("serviceAccountName", json!("default")),
        ("schedulerName", json!("default-scheduler")),
    ];
    for (key, value) in defaults {
        spec.entry(key).or_insert(value);
    }
}

/// Applies the schema of a custom resource and says which fields it dropped.
pub fn coerce(resource: &Resource, object: &mut Value) -> Vec<String> {
    let Some(custom) = &resource.custom else {
        rbac::apply_defaults(resource, object);
        return vec![];
    };
    let dropped = schema::prune(&custom.schema, object);
    schema::drop_nulls(&custom.schema, object);
    schema::apply_defaults(&custom.schema, object);
    dropped
}

/// What is wrong with an object besides its metadata.
pub fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    if let Some(custom) = &resource.custom {
        return schema::validate(&custom.schema, object, "");
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => podspec::validate(&object["spec"], "spec"),
        ("", "configmaps" | "secrets") => data::validate(object),
        ("apps", _) => workload::validate(object),
        (RBAC, _) => rbac::validate(resource, object),
        PRIORITIES => priority::validate(object),
        ("", "events") => validate_event(object),
        ("coordination.k8s.io", "leases") => validate_lease(object),
        DEFINITIONS => validate_definition(object),
        _ => vec![],
    }
}

/// As [`validate`], for what a write through the status endpoint can have changed.
pub fn validate_status(resource: &Resource, object: &Value) -> Vec<FieldError> {
    match &resource.custom {
        Some(custom) => schema::validate(&custom.schema["properties"]["status"], &object["status"], "status")
            .into_iter()
            .filter(|_| object.get("status").is_some())
            .collect(),
        None => vec![],
    }
}

/// The longest message, reason, action and reporter of an event with `eventTime`.
const EVENT_MESSAGE: usize = 1024;
const EVENT_WORD: usize = 128;

fn validate_event(event: &Value) -> Vec<FieldError> {
    let namespace = object::namespace(event);
    let involved = text(event, "/involvedObject/namespace");
    let is_new_style = !text(event, "/eventTime").is_empty();
    let agrees = match involved {
        "" if is_new_style => matches!(namespace, "default" | "kube-system"),
        "" => namespace == "default",
        _ => is_new_style || involved == namespace,
    };
    let mut errors = Vec::new();
    if !agrees {
        let why = "does not match event.namespace";
        errors.push(FieldError::invalid("involvedObject.namespace", &involved.into(), why));
    }
    if !is_new_style {
        return errors;
    }
    for (field, key) in [
        ("reportingController", "/reportingComponent"),
        ("reportingInstance", "/reportingInstance"),
        ("action", "/action"),
        ("reason", "/reason"),
    ] {
        match text(event, key).len() {
            0 => errors.push(FieldError::required(field, "")),
            length if length > EVENT_WORD => errors.push(at_most(field, EVENT_WORD)),
            _ => {}
        }
    }
    if text(event, "/message").len() > EVENT_MESSAGE {
        errors.push(at_most("message", EVENT_MESSAGE));
    }
    errors
}

fn at_most(field: &str, longest: usize) -> FieldError {
    FieldError::invalid(field, &"".into(), format!("can have at most {longest} characters"))
}

fn validate_lease(lease: &Value) -> Vec<FieldError> {
    let number = |key: &str| lease["spec"][key].as_i64();
    let mut errors = Vec::new();
    if let Some(seconds) = number("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", &seconds.into(), "must be greater than 0"));
    }
    if let Some(count) = number("leaseTransitions").filter(|count| *count < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("spec.leaseTransitions", &count.into(), why));
    }
    errors
}

fn validate_definition(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let expected = format!("{}.{}", text(definition, "/spec/names/plural"), text(definition, "/spec/group"));
    if object::name(definition) != expected {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", &object::name(definition).into(), why));
    }
    for field in ["spec.group", "spec.scope", "spec.names.plural", "spec.names.kind"] {
        if text(definition, &format!("/{}", field.replace('.', "/"))).is_empty() {
            errors.push(FieldError::required(field, ""));
        }
    }
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    for (index, version) in versions.into_iter().flatten().enumerate() {
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        let Some(schema) = version.pointer("/schema/openAPIV3Schema") else {
            errors.push(FieldError::required(&path, "schemas are required"));
            continue;
        };
        errors.extend(schema::validate_schema(schema, &path));
    }
    errors
}

/// Writes what the definition's controller would: the names are accepted, the resource is served.
pub fn establish(definition: &mut Value, now: &str) {
    let condition = |kind: &str, reason: &str| json!({ "type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now });
    let names = definition["spec"]["names"].clone();
    let versions = definition["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let stored: Vec<Value> = versions.iter().filter(|v| v["storage"] == true).map(|v| v["name"].clone()).collect();
    definition["status"] = json!({
        "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
        "acceptedNames": names, "storedVersions": stored,
    });
}

/// Puts back what a write through this endpoint cannot change.
pub fn keep_unwritable(resource: &Resource, before: &Value, after: &mut Value, through_status: bool) {
    if !through_status {
        if resource.has_status() {
            object::copy_field(after, before, "status");
        }
        return;
    }
    let status = after.get("status").cloned();
    match resource.status {
        StatusEndpoint::WithMetadata => {
            object::copy_metadata(after, before, "ownerReferences");
            object::copy_metadata(after, before, "deletionTimestamp");
            object::copy_field(after, before, "spec");
        }
        StatusEndpoint::StatusOnly | StatusEndpoint::Absent => {
            *after = before.clone();
            match status {
                Some(status) => after["status"] = status,
                None => drop(after.as_object_mut().expect("a stored object is a JSON object").remove("status")),
            }
        }
    }
}

/// What is wrong with the step from one state to the next, besides metadata.
pub fn validate_step(resource: &Resource, before: &Value, after: &Value) -> Vec<FieldError> {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => validate_pod_step(before, after),
        ("", "configmaps" | "secrets") => data::validate_step(before, after),
        ("apps", _) => workload::validate_step(resource, before, after),
        (RBAC, _) => rbac::validate_step(resource, before, after),
        PRIORITIES => priority::validate_step(before, after),
        _ => vec![],
    }
}

/// What of a pod's spec no update can change.
fn validate_pod_step(before: &Value, after: &Value) -> Vec<FieldError> {
    if without_mutable(&before["spec"]) == without_mutable(&after["spec"]) {
        return vec![];
    }
    let why = "pod updates may not change fields other than `spec.containers[*].image`,\
         `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
         tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    vec![FieldError::forbidden("spec", why)]
}

fn without_mutable(spec: &Value) -> Value {
    let mut rest = spec.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("activeDeadlineSeconds");
        fields.remove("tolerations");
        for list in ["containers", "initContainers"] {
            for container in fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                container.as_object_mut().map(|fields| fields.remove("image"));
            }
        }
    }
    rest
}

/// Whether a PUT of what is missing creates it.
pub fn creates_on_put(resource: &Resource) -> bool {
    matches!(resource.put, Put::CreatesOrNeedsVersion | Put::CreatesOrOverwrites)
}

/// Compares the `resourceVersion` an update names with the stored one; a write without one
/// overwrites where the resource allows that.
pub fn check_version(resource: &Resource, before: &Value, after: &Value) -> Result<(), ApiError> {
    let name = object::name(before);
    let asked = object::version(after);
    let asked = if asked.is_empty() { "0" } else { asked };
    let asked: u64 = asked
        .parse()
        .map_err(|_| ApiError::internal(format!("strconv.ParseUint: parsing {asked:?}: invalid syntax")))?;
    if asked == 0 {
        if matches!(resource.put, Put::Unconditional | Put::CreatesOrOverwrites) {
            return Ok(());
        }
        let field = "metadata.resourceVersion";
        let error = FieldError::invalid_raw(field, "0x0", "must be specified for an update");
        return Err(ApiError::invalid_kind(&resource.group, &resource.plural, name, &[error]));
    }
    if asked.to_string() != object::version(before) {
        return Err(ApiError::modified_meanwhile(resource, name));
    }
    Ok(())
}
