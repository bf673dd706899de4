//! Label and field selectors of lists and watches.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;
use super::object::text;
use super::resources::Resource;
use super::status::ApiError;
use super::store::Key;
use crate::exchange::Request;

/// What of a resource a list or a watch shows.
#[derive(Clone, Debug)]
pub struct Filter {
    pub group: String,
    pub plural: String,
    /// Empty for all namespaces.
    namespace: String,
    labels: Vec<Requirement>,
    fields: Vec<FieldTerm>,
}

impl Filter {
    pub fn of(request: &Request, resource: &Resource, namespace: &str) -> Result<Self, ApiError> {
        Ok(Self {
            group: resource.group.clone(),
            plural: resource.plural.clone(),
            namespace: namespace.into(),
            labels: parse_labels(request.parameter("labelSelector").unwrap_or_default())?,
            fields: parse_fields(request.parameter("fieldSelector").unwrap_or_default(), resource)?,
        })
    }

    /// Whether there is a selector besides the namespace.
    pub fn selects(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    pub fn shows(&self, key: &Key, object: &Value) -> bool {
        key.group == self.group
            && key.plural == self.plural
            && (self.namespace.is_empty() || key.namespace == self.namespace)
            && self.labels.iter().all(|requirement| requirement.fits(object))
            && self.fields.iter().all(|term| term.fits(object))
    }
}

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    rule: LabelRule,
}

#[derive(Clone, Debug)]
enum LabelRule {
    Exists,
    Absent,
    In(BTreeSet<String>),
    /// Objects without the label fit too.
    NotIn(BTreeSet<String>),
}

impl Requirement {
    fn fits(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        let value = labels.and_then(|labels| labels.get(&self.key)).and_then(Value::as_str);
        match (&self.rule, value) {
            (LabelRule::Exists, value) => value.is_some(),
            (LabelRule::Absent, value) => value.is_none(),
            (LabelRule::In(values), value) => value.is_some_and(|value| values.contains(value)),
            (LabelRule::NotIn(values), value) => value.is_none_or(|value| !values.contains(value)),
        }
    }
}

/// Splits at commas outside parentheses.
fn split_terms(selector: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = selector.split(move |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn parse_labels(selector: &str) -> Result<Vec<Requirement>, ApiError> {
    split_terms(selector).into_iter().map(parse_requirement).collect()
}

fn parse_requirement(term: &str) -> Result<Requirement, ApiError> {
    let (key, rule) = if let Some(key) = term.strip_prefix('!') {
        (key, LabelRule::Absent)
    } else if let Some((key, value)) = term.split_once("!=") {
        (key, LabelRule::NotIn(BTreeSet::from([value.trim().into()])))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, LabelRule::In(BTreeSet::from([value.trim().into()])))
    } else if let Some((head, values)) = term.split_once('(') {
        set_requirement(head, values).ok_or_else(|| unparsable(term, "expected: ',' or ')'"))?
    } else {
        (term, LabelRule::Exists)
    };
    let key = key.trim();
    if let Some(why) = names::qualified_name(key) {
        return Err(unparsable(term, &format!("key: Invalid value: {key:?}: {why}")));
    }
    if let LabelRule::In(values) | LabelRule::NotIn(values) = &rule
        && let Some(why) = values.iter().find_map(|value| names::label_value(value))
    {
        return Err(unparsable(term, &format!("values: Invalid value: {why}")));
    }
    Ok(Requirement { key: key.into(), rule })
}

/// `zone in (a, b)` with the parenthesis split off.
fn set_requirement<'a>(head: &'a str, values: &str) -> Option<(&'a str, LabelRule)> {
    let values: BTreeSet<String> = values.strip_suffix(')')?.split(',').map(|value| value.trim().into()).collect();
    let mut words = head.split_whitespace();
    let rule = match (words.next()?, words.next()?, words.next()) {
        (key, "in", None) => (key, LabelRule::In(values)),
        (key, "notin", None) => (key, LabelRule::NotIn(values)),
        _ => return None,
    };
    Some(rule)
}

fn unparsable(term: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!("unable to parse requirement: {why} in {term:?}"))
}

#[derive(Clone, Debug)]
struct FieldTerm {
    pointer: String,
    value: String,
    equal: bool,
}

impl FieldTerm {
    fn fits(&self, object: &Value) -> bool {
        (text(object, &self.pointer) == self.value) == self.equal
    }
}

fn parse_fields(selector: &str, resource: &Resource) -> Result<Vec<FieldTerm>, ApiError> {
    let parse = |term: &str| {
        let (label, value, equal) = if let Some((label, value)) = term.split_once("!=") {
            (label, value, false)
        } else if let Some((label, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (label, value, true)
        } else {
            return Err(ApiError::bad_request(format!("invalid field selector {term:?}: can't understand {term:?}")));
        };
        check_label(label, resource)?;
        Ok(FieldTerm { pointer: format!("/{}", label.replace('.', "/")), value: value.into(), equal })
    };
    selector.split(',').filter(|term| !term.is_empty()).map(parse).collect()
}

/// The fields by which a resource can be selected, besides its name and namespace.
fn selectable(resource: &Resource) -> &'static [&'static str] {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "type",
        ],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        _ => &[],
    }
}

fn check_label(label: &str, resource: &Resource) -> Result<(), ApiError> {
    let always = label == "metadata.name" || (label == "metadata.namespace" && resource.namespaced);
    if always || selectable(resource).contains(&label) {
        return Ok(());
    }
    let has_own = resource.custom.is_some() || !selectable(resource).is_empty();
    Err(ApiError::bad_request(if has_own {
        format!("field label not supported: {label}")
    } else {
        format!("\"{label}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    }))
}
