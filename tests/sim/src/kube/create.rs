//! Creating objects: decoding, admission, names, system fields, and what exists already.

use serde_json::{Value, json};
use uuid::Uuid;

use super::cluster::{Cluster, Origin, Place, namespace_key};
use super::data;
use super::metadata;
use super::object::{self, text};
use super::resources::{DEFINITIONS, Resource};
use super::rules;
use super::status::ApiError;
use crate::exchange::Request;

/// How a request wants unknown fields to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    Dropped,
    /// `fieldValidation=Strict`
    Refused,
}

impl UnknownFields {
    pub fn of(request: &Request) -> Self {
        match request.parameter("fieldValidation") {
            Some("Strict") => UnknownFields::Refused,
            _ => UnknownFields::Dropped,
        }
    }
}

/// Reads an object from a request's body and checks that it is what the path says.
pub fn decode(resource: &Resource, body: &[u8]) -> Result<Value, ApiError> {
    let mut object: Value = serde_json::from_slice(body).map_err(|why| {
        let kind = &resource.kind;
        ApiError::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why}"))
    })?;
    check_type(resource, &mut object)?;
    metadata::decode(&mut object).map_err(|why| unhandled(resource, &why))?;
    data::decode(resource, &mut object).map_err(|why| unhandled(resource, &why))?;
    Ok(object)
}

/// What a strict decoder says of fields it does not know.
pub fn strict_decoding_error(unknown: &[String]) -> String {
    let fields: Vec<String> = unknown.iter().map(|field| format!("unknown field \"{field}\"")).collect();
    format!("strict decoding error: {}", fields.join(", "))
}

/// A body that cannot be read as the resource's kind.
pub fn unhandled(resource: &Resource, why: &str) -> ApiError {
    let (kind, version) = (&resource.kind, &resource.version);
    ApiError::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
}

/// Built-in kinds may leave `kind` and `apiVersion` to the path; custom resources may not.
fn check_type(resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
    let expected = resource.api_version();
    let kind = text(object, "/kind").to_owned();
    let api_version = text(object, "/apiVersion").to_owned();
    if !object.is_object() || (resource.custom.is_some() && kind.is_empty()) {
        return Err(ApiError::bad_request(format!("Object 'Kind' is missing in '{object}'")));
    }
    if !(api_version == expected || (api_version.is_empty() && resource.custom.is_none())) {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    if !(kind == resource.kind || kind.is_empty()) {
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{}\" cannot be handled as a {}: converting to {} is not possible",
            resource.version, resource.kind, resource.kind
        )));
    }
    object["kind"] = resource.kind.as_str().into();
    object["apiVersion"] = expected.into();
    Ok(())
}

impl Cluster {
    pub fn create(
        &mut self,
        resource: &Resource,
        namespace: &str,
        mut new: Value,
        unknown: UnknownFields,
        origin: Origin,
    ) -> Result<Value, ApiError> {
        self.settle_namespace(resource, namespace, &mut new)?;
        self.admit(resource, &new)?;
        self.fill_system_fields(resource, &mut new, origin);
        if origin == Origin::Client {
            rules::prepare_new(resource, &mut new);
        }
        if origin == Origin::Client && resource.is("", "pods") {
            self.admit_pod(resource, &mut new)?;
        }
        let dropped = rules::coerce(resource, &mut new);
        if unknown == UnknownFields::Refused && !dropped.is_empty() {
            return Err(unhandled(resource, &strict_decoding_error(&dropped)));
        }
        let errors = [rules::validate(resource, &new), metadata::validate(resource, &new)].concat();
        if !errors.is_empty() {
            return Err(ApiError::invalid(resource, object::name(&new), &errors));
        }
        self.store_new(resource, new)
    }

    fn settle_namespace(&self, resource: &Resource, namespace: &str, new: &mut Value) -> Result<(), ApiError> {
        let expected = if resource.namespaced { namespace } else { "" };
        match object::namespace(new) {
            "" => {}
            given if given == expected => {}
            _ => {
                let why = "the namespace of the provided object does not match the namespace sent on the request";
                return Err(ApiError::bad_request(why));
            }
        }
        if resource.namespaced {
            object::set_metadata(new, "namespace", namespace);
        }
        Ok(())
    }

    /// Nothing is created in a namespace that is missing or on its way out.
    fn admit(&mut self, resource: &Resource, new: &Value) -> Result<(), ApiError> {
        if resource.custom.is_some() && self.is_definition_terminating(resource) {
            return Err(ApiError::definition_terminating());
        }
        if !resource.namespaced {
            return Ok(());
        }
        let namespace = object::namespace(new).to_owned();
        match self.namespace_object(&namespace) {
            Some(found) if object::is_deleting(found) => {
                Err(ApiError::namespace_terminating(resource, object::name(new), &namespace))
            }
            Some(_) => Ok(()),
            None if self.options.auto_create_namespaces => self.create_namespace(&namespace).map(drop),
            None => {
                let namespaces = self.resource("", "v1", "namespaces").expect("it is built in");
                Err(ApiError::not_found(&namespaces, &namespace))
            }
        }
    }

    fn is_definition_terminating(&self, resource: &Resource) -> bool {
        let mut definitions = self.store.of(DEFINITIONS.0, DEFINITIONS.1);
        definitions.any(|(key, it)| key.name == resource.qualified() && object::is_deleting(it))
    }

    pub fn create_namespace(&mut self, name: &str) -> Result<Value, ApiError> {
        let resource = self.resource("", "v1", "namespaces").expect("it is built in");
        let new = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.create(&resource, "", new, UnknownFields::Dropped, Origin::Client)
    }

    fn fill_system_fields(&self, resource: &Resource, new: &mut Value, origin: Origin) {
        let keep =
            |new: &Value, key: &str| origin == Origin::World && new.pointer(&format!("/metadata/{key}")).is_some();
        if !keep(new, "uid") {
            object::set_metadata(new, "uid", Uuid::new_v4().to_string());
        }
        if !keep(new, "creationTimestamp") {
            object::set_metadata(new, "creationTimestamp", self.now());
        }
        if origin == Origin::Client {
            for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
                object::metadata_mut(new).remove(key);
            }
        }
        if resource.generation && !keep(new, "generation") {
            object::set_metadata(new, "generation", 1);
        }
        let prefix = text(new, "/metadata/generateName").to_owned();
        if object::name(new).is_empty() && !prefix.is_empty() {
            object::set_metadata(new, "name", prefix + &random_suffix());
        }
    }

    fn store_new(&mut self, resource: &Resource, mut new: Value) -> Result<Value, ApiError> {
        let (name, namespace) = (object::name(&new).to_owned(), object::namespace(&new).to_owned());
        let place = Place { resource, namespace: &namespace, name: &name };
        if let Some(found) = self.store.get(&place.key()) {
            return Err(ApiError::already_exists(resource, &name, object::is_deleting(found)));
        }
        if !matches!(object::version(&new), "" | "0") {
            return Err(ApiError::internal("resourceVersion should not be set on objects to be created"));
        }
        if resource.is(DEFINITIONS.0, DEFINITIONS.1) {
            rules::establish(&mut new, &self.now());
        }
        if resource.is("", "namespaces") {
            new["spec"]["finalizers"] = json!(["kubernetes"]);
        }
        let stored = self.store.put(place.key(), new);
        if resource.is("", "namespaces") {
            self.create_default_account(&name);
        }
        Ok(stored)
    }

    /// Every namespace has its service account `default`.
    fn create_default_account(&mut self, namespace: &str) {
        let resource = self.resource("", "v1", "serviceaccounts").expect("it is built in");
        let mut account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": namespace },
        });
        self.fill_system_fields(&resource, &mut account, Origin::Client);
        let key = Place { resource: &resource, namespace, name: "default" }.key();
        if self.store.get(&namespace_key(namespace)).is_some() && self.store.get(&key).is_none() {
            self.store.put(key, account);
        }
    }
}

/// Five characters of the real server's alphabet, which has no vowels and no look-alikes.
fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes = Uuid::new_v4().into_bytes();
    bytes.iter().take(5).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}
