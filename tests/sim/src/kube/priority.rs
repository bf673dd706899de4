//! Priority classes, and what admission makes of a pod that names one.

use serde_json::{Value, json};

use super::cluster::{Cluster, Place};
use super::object::{self, text};
use super::resources::{PRIORITIES, Resource};
use super::status::{ApiError, FieldError};

/// The classes that every cluster has.
const SYSTEM: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

const HIGHEST_OF_USERS: i64 = 1_000_000_000;

/// What is wrong with a class that a client makes.
pub fn validate(class: &Value) -> Vec<FieldError> {
    let name = object::name(class);
    let mut errors = Vec::new();
    let value = class["value"].as_i64();
    if SYSTEM.iter().any(|(system, of)| *system == name && value == Some(*of)) {
        return errors;
    }
    if name.starts_with("system-") {
        let why = "priority class names with 'system-' prefix are reserved for system use only";
        errors.push(FieldError::forbidden("metadata.name", why));
    }
    if value.unwrap_or(0) > HIGHEST_OF_USERS {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}");
        errors.push(FieldError::forbidden("value", why));
    }
    errors
}

/// A class keeps its value.
pub fn validate_step(before: &Value, after: &Value) -> Vec<FieldError> {
    if before["value"] == after["value"] {
        return vec![];
    }
    vec![FieldError::forbidden("value", "may not be changed in an update.")]
}

impl Cluster {
    pub fn create_system_priorities(&mut self) {
        let resource = self.resource(PRIORITIES.0, "v1", PRIORITIES.1).expect("it is built in");
        for (name, value) in SYSTEM {
            let class = json!({
                "apiVersion": resource.api_version(), "kind": resource.kind, "metadata": { "name": name },
                "value": value, "preemptionPolicy": "PreemptLowerPriority",
            });
            self.store.put(Place { resource: &resource, namespace: "", name }.key(), class);
        }
    }

    /// A pod's service account and priority class must be there before it.
    pub fn admit_pod(&self, pods: &Resource, pod: &mut Value) -> Result<(), ApiError> {
        let (namespace, name) = (object::namespace(pod).to_owned(), object::name(pod).to_owned());
        let account = text(pod, "/spec/serviceAccountName");
        let accounts = self.resource("", "v1", "serviceaccounts").expect("it is built in");
        let place = Place { resource: &accounts, namespace: &namespace, name: account };
        if self.store.get(&place.key()).is_none() {
            let why = format!(
                "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
            );
            return Err(ApiError::forbidden(pods, &name, why));
        }
        let class = text(pod, "/spec/priorityClassName").to_owned();
        if class.is_empty() {
            return Ok(());
        }
        let classes = self.resource(PRIORITIES.0, "v1", PRIORITIES.1).expect("it is built in");
        let place = Place { resource: &classes, namespace: "", name: &class };
        let Some(found) = self.store.get(&place.key()) else {
            return Err(ApiError::forbidden(pods, &name, format!("no PriorityClass with name {class} was found")));
        };
        pod["spec"]["priority"] = found["value"].clone();
        Ok(())
    }
}
