//! Roles and their bindings: what they must say, and what no update can change.

use serde_json::{Value, json};

use super::object::text;
use super::resources::{RBAC, Resource};
use super::status::FieldError;

/// Fills in the group that a binding may leave out.
pub fn apply_defaults(resource: &Resource, object: &mut Value) {
    if !is_binding(resource) {
        return;
    }
    let fill = |reference: &mut Value| {
        if text(reference, "/apiGroup").is_empty() && reference.is_object() {
            reference["apiGroup"] = RBAC.into();
        }
    };
    fill(&mut object["roleRef"]);
    let subjects = object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten();
    subjects.filter(|subject| matches!(text(subject, "/kind"), "User" | "Group")).for_each(fill);
}

fn is_binding(resource: &Resource) -> bool {
    resource.group == RBAC && resource.plural.ends_with("bindings")
}

/// What is wrong with a role or a binding.
pub fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    if is_binding(resource) {
        return validate_binding(resource, object);
    }
    let rules = object.get("rules").and_then(Value::as_array).into_iter().flatten();
    rules.enumerate().flat_map(|(at, rule)| validate_rule(resource, rule, &format!("rules[{at}]"))).collect()
}

fn validate_rule(resource: &Resource, rule: &Value, path: &str) -> Vec<FieldError> {
    let has = |key: &str| rule.get(key).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let mut errors = Vec::new();
    let mut need = |key: &str, why: &str| {
        if !has(key) {
            errors.push(FieldError::required(&format!("{path}.{key}"), why));
        }
    };
    need("verbs", "verbs must contain at least one value");
    if !has("nonResourceURLs") {
        need("apiGroups", "resource rules must supply at least one api group");
        need("resources", "resource rules must supply at least one resource");
        return errors;
    }
    let mut refuse = |why: &str| {
        errors.push(FieldError::invalid(&format!("{path}.nonResourceURLs"), &rule["nonResourceURLs"], why));
    };
    if resource.namespaced {
        refuse("namespaced rules cannot apply to non-resource URLs");
    }
    if ["apiGroups", "resources", "resourceNames"].into_iter().any(has) {
        refuse("rules cannot apply to both regular resources and non-resource URLs");
    }
    errors
}

fn validate_binding(resource: &Resource, binding: &Value) -> Vec<FieldError> {
    let role = &binding["roleRef"];
    let mut errors = Vec::new();
    errors.extend(supported(role, "roleRef", "apiGroup", &[RBAC]));
    let kinds: &[&str] = if resource.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    errors.extend(supported(role, "roleRef", "kind", kinds));
    if text(role, "/name").is_empty() {
        errors.push(FieldError::required("roleRef.name", ""));
    }
    let subjects = binding.get("subjects").and_then(Value::as_array).into_iter().flatten();
    let subjects = subjects.enumerate().flat_map(|(at, it)| validate_subject(resource, it, &format!("subjects[{at}]")));
    errors.extend(subjects);
    errors
}

fn validate_subject(resource: &Resource, subject: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut need = |key: &str| {
        if text(subject, &format!("/{key}")).is_empty() {
            errors.push(FieldError::required(&format!("{path}.{key}"), ""));
        }
    };
    need("name");
    let group = match text(subject, "/kind") {
        "ServiceAccount" => {
            if !resource.namespaced {
                need("namespace");
            }
            ""
        }
        "User" | "Group" => RBAC,
        _ => {
            errors.extend(supported(subject, path, "kind", &["ServiceAccount", "User", "Group"]));
            return errors;
        }
    };
    errors.extend(supported(subject, path, "apiGroup", &[group]));
    errors
}

/// What is wrong with a field that has one of a few values.
fn supported(object: &Value, path: &str, key: &str, allowed: &[&str]) -> Option<FieldError> {
    let found = text(object, &format!("/{key}"));
    let allowed_values: Vec<Value> = allowed.iter().map(|one| json!(one)).collect();
    (!allowed.contains(&found))
        .then(|| FieldError::not_supported(&format!("{path}.{key}"), &found.into(), &allowed_values))
}

/// A binding is for one role, for good.
pub fn validate_step(resource: &Resource, before: &Value, after: &Value) -> Vec<FieldError> {
    if !is_binding(resource) || before["roleRef"] == after["roleRef"] {
        return vec![];
    }
    vec![FieldError::invalid("roleRef", &after["roleRef"], "cannot change roleRef")]
}
