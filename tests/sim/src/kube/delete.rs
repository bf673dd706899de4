//! Deleting objects: preconditions, grace periods, finalizers, and the end of a namespace.

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cluster::{Cluster, Place, namespace_key};
use super::object::{self, text};
use super::resources::{self, DEFINITIONS, Resource};
use super::status::ApiError;
use super::store::Key;
use crate::exchange::Request;

/// Holds a definition until its instances are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// `DeleteOptions`, as far as they matter here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Option<Preconditions>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// From the body, or from the query when there is no body.
    pub fn of(request: &Request) -> Result<Self, ApiError> {
        if !request.body.is_empty() {
            let options = serde_json::from_slice(&request.body);
            return options.map_err(|why| ApiError::bad_request(format!("couldn't decode DeleteOptions: {why}")));
        }
        let seconds = request.parameter("gracePeriodSeconds").map(str::parse).transpose();
        let seconds = seconds.map_err(|why| ApiError::bad_request(format!("gracePeriodSeconds: {why}")))?;
        Ok(Self { grace_period_seconds: seconds, ..Self::default() })
    }

    pub fn at_once() -> Self {
        Self { grace_period_seconds: Some(0), ..Self::default() }
    }
}

/// How far a deletion got.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone; this is its last state.
    Gone(Value),
    /// It stays, marked, until its grace period or its finalizers end.
    Pending(Value),
}

impl Deleted {
    /// The answer the real server gives.
    pub fn answer(self, resource: &Resource) -> Value {
        match self {
            Deleted::Pending(object) => object,
            Deleted::Gone(object) if resource.returns_deleted => object,
            Deleted::Gone(object) => {
                let mut details =
                    json!({ "name": object::name(&object), "kind": resource.plural, "uid": object::uid(&object) });
                if !resource.group.is_empty() {
                    details["group"] = resource.group.as_str().into();
                }
                json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
            }
        }
    }
}

impl Cluster {
    pub fn delete(&mut self, place: Place<'_>, options: &DeleteOptions) -> Result<Deleted, ApiError> {
        let mut found = self.get(place)?.clone();
        if let Some(asked) = &options.preconditions {
            check_preconditions(place, &found, asked)?;
        }
        if place.resource.is("", "namespaces") {
            return Ok(self.terminate_namespace(&found));
        }
        if place.resource.is(DEFINITIONS.0, DEFINITIONS.1) {
            return Ok(self.terminate_definition(place, &found));
        }
        let seconds = grace(place.resource, &found, options);
        if object::is_deleting(&found) && seconds >= object::grace_seconds(&found).unwrap_or(0) && seconds > 0 {
            return Ok(Deleted::Pending(found)); // a deletion can only be hastened
        }
        if seconds == 0 && object::finalizers(&found).is_empty() {
            let last = self.remove(&place.key()).unwrap_or(found);
            return Ok(Deleted::Gone(last));
        }
        if object::is_deleting(&found) && object::grace_seconds(&found) == Some(seconds) {
            return Ok(Deleted::Pending(found)); // only the finalizers are missing, as before
        }
        if !object::is_deleting(&found) && object::generation(&found) > 0 {
            let next = object::generation(&found) + 1;
            object::set_metadata(&mut found, "generation", next);
        }
        let end = self.clock.now() + SignedDuration::from_secs(seconds);
        object::set_metadata(&mut found, "deletionTimestamp", object::time(end));
        object::set_metadata(&mut found, "deletionGracePeriodSeconds", seconds);
        Ok(Deleted::Pending(self.store.put(place.key(), found)))
    }

    /// Removes an object whatever holds it, and whatever lived through it.
    pub fn remove(&mut self, key: &Key) -> Option<Value> {
        let last = self.store.remove(key)?;
        if (key.group.as_str(), key.plural.as_str()) == DEFINITIONS {
            self.remove_instances(&last);
        }
        self.finish_namespace(&key.namespace);
        self.finish_definitions();
        Some(last)
    }

    fn remove_instances(&mut self, definition: &Value) {
        for resource in resources::of_definition(definition) {
            let instances = self.store.all().map(|(key, _)| key);
            let instances = instances.filter(|key| resource.is(&key.group, &key.plural));
            for key in instances.cloned().collect::<Vec<_>>() {
                self.store.remove(&key);
            }
        }
    }

    /// Marks a definition and deletes what it defines, as its controller does. It goes with the last instance, which may
    /// have finalizers.
    fn terminate_definition(&mut self, place: Place<'_>, found: &Value) -> Deleted {
        let mut marked = found.clone();
        if !object::is_deleting(found) {
            object::set_metadata(&mut marked, "deletionTimestamp", self.now());
            object::set_metadata(&mut marked, "finalizers", json!([CLEANUP]));
            marked = self.store.put(place.key(), marked);
        }
        for resource in resources::of_definition(found) {
            let keys: Vec<Key> = self.store.of(&resource.group, &resource.plural).map(|(key, _)| key.clone()).collect();
            for key in keys {
                let instance = Place { resource: &resource, namespace: &key.namespace, name: &key.name };
                // Another version of the definition may have shown it before.
                let _gone_or_pending = self.delete(instance, &DeleteOptions::default());
            }
        }
        self.finish_definitions();
        Deleted::Pending(marked)
    }

    fn finish_definitions(&mut self) {
        let is_empty = |definition: &Value| {
            let mut served = resources::of_definition(definition).into_iter();
            served.all(|resource| self.store.of(&resource.group, &resource.plural).next().is_none())
        };
        let terminating = self.store.of(DEFINITIONS.0, DEFINITIONS.1).filter(|(_, it)| object::is_deleting(it));
        let ended: Vec<Key> = terminating.filter(|(_, it)| is_empty(it)).map(|(key, _)| key.clone()).collect();
        ended.iter().for_each(|key| drop(self.store.remove(key)));
    }

    /// Marks a namespace and deletes what is in it, as the namespace controller does. The namespace
    /// itself goes with the last of its objects.
    fn terminate_namespace(&mut self, found: &Value) -> Deleted {
        let name = object::name(found).to_owned();
        let mut marked = found.clone();
        if !object::is_deleting(found) {
            object::set_metadata(&mut marked, "deletionTimestamp", self.now());
            marked["status"] = json!({ "phase": "Terminating" });
            marked = self.store.put(namespace_key(&name), marked);
        }
        let served = self.resources();
        let contents: Vec<Key> =
            self.store.all().map(|(key, _)| key.clone()).filter(|key| key.namespace == name).collect();
        for key in contents {
            let Some(resource) = served.iter().find(|resource| resource.is(&key.group, &key.plural)) else { continue };
            let place = Place { resource, namespace: &name, name: &key.name };
            // What went meanwhile, with the namespace itself perhaps, needs no deletion.
            let _gone_or_pending = self.delete(place, &DeleteOptions::default());
        }
        self.finish_namespace(&name);
        Deleted::Pending(marked)
    }

    fn finish_namespace(&mut self, name: &str) {
        let terminating = self.namespace_object(name).is_some_and(object::is_deleting);
        if terminating && !self.store.all().any(|(key, _)| key.namespace == name) {
            self.store.remove(&namespace_key(name));
        }
    }
}

fn check_preconditions(place: Place<'_>, found: &Value, asked: &Preconditions) -> Result<(), ApiError> {
    let failed = |what: &str, asked: &str, found: &str, why: &str| {
        let text =
            format!("the {what} in the precondition ({asked}) does not match the {what} in record ({found}). {why}");
        Err(ApiError::precondition_failed(place.resource, place.name, text))
    };
    match (&asked.uid, &asked.resource_version) {
        (Some(uid), _) if uid != object::uid(found) => {
            failed("UID", uid, object::uid(found), "The object might have been deleted and then recreated")
        }
        (_, Some(version)) if version != object::version(found) => {
            failed("ResourceVersion", version, object::version(found), "The object might have been modified")
        }
        _ => Ok(()),
    }
}

/// Seconds of grace; only pods that run on a node have any.
fn grace(resource: &Resource, found: &Value, options: &DeleteOptions) -> i64 {
    let finished = matches!(text(found, "/status/phase"), "Succeeded" | "Failed");
    if !resource.is("", "pods") || text(found, "/spec/nodeName").is_empty() || finished {
        return 0;
    }
    let default = object::grace_seconds(found)
        .or_else(|| found.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64))
        .unwrap_or(30);
    match options.grace_period_seconds.unwrap_or(default) {
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}
