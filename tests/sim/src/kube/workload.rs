//! Deployments, StatefulSets and DaemonSets: selector and template.

use serde_json::{Value, json};

use super::object::text;
use super::podspec;
use super::resources::Resource;
use super::status::FieldError;

/// What of a StatefulSet may change.
const MUTABLE_OF_STATEFUL_SET: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// What is wrong with a workload.
pub fn validate(workload: &Value) -> Vec<FieldError> {
    let spec = &workload["spec"];
    let mut errors = Vec::new();
    let selector = &spec["selector"];
    let chosen = selector["matchLabels"].as_object().filter(|labels| !labels.is_empty());
    let expressions = selector["matchExpressions"].as_array().filter(|list| !list.is_empty());
    let labels = &spec["template"]["metadata"]["labels"];
    if selector.is_null() {
        errors.push(FieldError::required("spec.selector", ""));
    } else if chosen.is_none() && expressions.is_none() {
        errors.push(FieldError::invalid("spec.selector", selector, "empty selector is invalid for a workload"));
    }
    if !selects(selector, labels) {
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", labels, why));
    }
    errors.extend(podspec::validate(&spec["template"]["spec"], "spec.template.spec"));
    let policy = text(spec, "/template/spec/restartPolicy");
    if !matches!(policy, "" | "Always") {
        let field = "spec.template.spec.restartPolicy";
        errors.push(FieldError::not_supported(field, &policy.into(), &[json!("Always")]));
    }
    errors
}

/// What no update of a workload can change.
pub fn validate_step(resource: &Resource, before: &Value, after: &Value) -> Vec<FieldError> {
    if resource.plural == "statefulsets" {
        let fixed = |workload: &Value| {
            let mut spec = workload["spec"].clone();
            if let Some(fields) = spec.as_object_mut() {
                fields.retain(|key, _| !MUTABLE_OF_STATEFUL_SET.contains(&key.as_str()));
            }
            spec
        };
        let list = MUTABLE_OF_STATEFUL_SET.map(|field| format!("'{field}'"));
        let (last, others) = list.split_last().expect("the list is not empty");
        let why =
            format!("updates to statefulset spec for fields other than {} and {last} are forbidden", others.join(", "));
        return if fixed(before) == fixed(after) { vec![] } else { vec![FieldError::forbidden("spec", why)] };
    }
    if before["spec"]["selector"] == after["spec"]["selector"] {
        return vec![];
    }
    vec![FieldError::invalid("spec.selector", &after["spec"]["selector"], "field is immutable")]
}

/// Whether a label selector, as objects have it, selects these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let fits = |expression: &Value| {
        let found = labels.get(text(expression, "/key"));
        let among = expression["values"].as_array().is_some_and(|values| found.is_some_and(|it| values.contains(it)));
        match text(expression, "/operator") {
            "In" => among,
            "NotIn" => !among,
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    };
    let equal = |(key, value): (&String, &Value)| labels.get(key) == Some(value);
    !selector.is_null()
        && selector["matchLabels"].as_object().is_none_or(|wanted| wanted.iter().all(equal))
        && selector["matchExpressions"].as_array().is_none_or(|wanted| wanted.iter().all(fits))
}
