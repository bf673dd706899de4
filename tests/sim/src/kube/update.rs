//! Changing objects: PUT and PATCH, on the object and on its status.

use serde_json::Value;

use super::cluster::{Cluster, Origin, Place};
use super::create::{self, UnknownFields};
use super::object::{self, text};
use super::patch::Patch;
use super::rules;
use super::status::{ApiError, FieldError};
use super::{data, metadata};

/// The change a client asks for.
#[derive(Debug)]
pub enum Edit {
    Put(Value),
    Patch(Patch),
}

/// How it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// At the status endpoint.
    pub through_status: bool,
    pub unknown: UnknownFields,
}

/// What became of it.
#[derive(Debug)]
pub struct Edited {
    pub object: Value,
    /// A PUT created the object.
    pub created: bool,
}

impl Cluster {
    pub fn edit(&mut self, place: Place<'_>, edit: Edit, manner: Manner) -> Result<Edited, ApiError> {
        if let Edit::Put(new) = &edit {
            check_place(place, new)?;
        }
        let Some(before) = self.store.get(&place.key()).cloned() else {
            return self.create_by_put(place, edit, manner);
        };
        let mut after = match edit {
            Edit::Put(new) => replaced(place, new, &before, manner.unknown)?,
            Edit::Patch(patch) => patched(place, &patch, &before, manner.unknown)?,
        };
        rules::check_version(place.resource, &before, &after)?;
        settle(place, &before, &mut after, manner.through_status)?;
        let object = self.store_step(place, &before, after);
        Ok(Edited { object, created: false })
    }

    /// A PUT of something missing creates it where the resource allows that.
    fn create_by_put(&mut self, place: Place<'_>, edit: Edit, manner: Manner) -> Result<Edited, ApiError> {
        let creates = rules::creates_on_put(place.resource) && !manner.through_status;
        let (Edit::Put(mut new), true) = (edit, creates) else {
            return Err(ApiError::not_found(place.resource, place.name));
        };
        if !object::uid(&new).is_empty() {
            let why = precondition_text(place, object::uid(&new), "");
            return Err(ApiError::conflict(place.resource, place.name, why));
        }
        object::metadata_mut(&mut new).remove("resourceVersion");
        let object = self.create(place.resource, place.namespace, new, manner.unknown, Origin::Client)?;
        Ok(Edited { object, created: true })
    }

    /// Stores a validated step, unless it changes nothing; a deleting object that lost its last
    /// finalizer is removed instead.
    fn store_step(&mut self, place: Place<'_>, before: &Value, mut after: Value) -> Value {
        let waits_only_for_finalizers = object::is_deleting(before) && object::grace_seconds(before).unwrap_or(0) == 0;
        if waits_only_for_finalizers && object::finalizers(&after).is_empty() {
            self.remove(&place.key());
            return after;
        }
        object::copy_metadata(&mut after, before, "resourceVersion");
        if after == *before {
            return after;
        }
        self.store.put(place.key(), after)
    }
}

/// The name and the namespace of an object must be those of the path.
fn check_place(place: Place<'_>, new: &Value) -> Result<(), ApiError> {
    let (name, namespace) = (object::name(new), object::namespace(new));
    if name != place.name {
        let url = place.name;
        let why = format!("the name of the object ({name}) does not match the name on the URL ({url})");
        return Err(ApiError::bad_request(why));
    }
    let expected = if place.resource.namespaced { place.namespace } else { "" };
    if !namespace.is_empty() && namespace != expected {
        let why = format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({expected})"
        );
        return Err(ApiError::bad_request(why));
    }
    Ok(())
}

/// A PUT that names a UID means that object and no other of its name.
fn check_uid_precondition(place: Place<'_>, before: &Value, new: &Value) -> Result<(), ApiError> {
    let asked = object::uid(new);
    if asked.is_empty() || asked == object::uid(before) {
        return Ok(());
    }
    let why = precondition_text(place, asked, object::uid(before));
    Err(ApiError::conflict(place.resource, place.name, why))
}

fn precondition_text(place: Place<'_>, asked: &str, found: &str) -> String {
    let key = place.key();
    let path = [key.group.as_str(), &key.plural, &key.namespace, &key.name];
    let path: Vec<&str> = path.into_iter().filter(|part| !part.is_empty()).collect();
    format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {asked}, UID in object meta: {found}",
        path.join("/")
    )
}

/// What a PUT makes of an object.
fn replaced(place: Place<'_>, mut new: Value, before: &Value, unknown: UnknownFields) -> Result<Value, ApiError> {
    check_uid_precondition(place, before, &new)?;
    let dropped = rules::coerce(place.resource, &mut new);
    if unknown == UnknownFields::Refused && !dropped.is_empty() {
        return Err(create::unhandled(place.resource, &create::strict_decoding_error(&dropped)));
    }
    Ok(new)
}

/// What a patch makes of an object. Unlike a PUT, a patch has no precondition: a UID that differs is
/// found by the validation of the result, and refused there as a change of an immutable field.
fn patched(place: Place<'_>, patch: &Patch, before: &Value, unknown: UnknownFields) -> Result<Value, ApiError> {
    let mut after = patch.apply(before)?;
    let unreadable = |after: &Value, why: String| {
        let error = FieldError::invalid("patch", &after.to_string().into(), why);
        ApiError::invalid_kind("", "", "", &[error])
    };
    metadata::decode(&mut after).map_err(|why| unreadable(&after, why))?;
    data::decode(place.resource, &mut after).map_err(|why| unreadable(&after, why))?;
    check_place(place, &after)?;
    let dropped = rules::coerce(place.resource, &mut after);
    if unknown == UnknownFields::Refused && !dropped.is_empty() {
        return Err(unreadable(&after, create::strict_decoding_error(&dropped)));
    }
    Ok(after)
}

/// Puts back what an update cannot change, counts the generation, and validates the step.
fn settle(place: Place<'_>, before: &Value, after: &mut Value, through_status: bool) -> Result<(), ApiError> {
    for key in ["kind", "apiVersion"] {
        object::copy_field(after, before, key);
    }
    for key in ["generation", "creationTimestamp", "namespace", "generateName"] {
        object::copy_metadata(after, before, key);
    }
    rules::keep_unwritable(place.resource, before, after, through_status);
    if place.resource.generation && !through_status && without_metadata(before) != without_metadata(after) {
        object::set_metadata(after, "generation", object::generation(before) + 1);
    }
    if object::uid(after).is_empty() {
        object::copy_metadata(after, before, "uid");
    }
    if object::is_deleting(before) {
        object::copy_metadata(after, before, "deletionTimestamp");
        if object::grace_seconds(after).is_none() {
            object::copy_metadata(after, before, "deletionGracePeriodSeconds");
        }
    }
    let errors = validate(place, before, after, through_status);
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(place.resource, text(after, "/metadata/name"), &errors))
    }
}

fn validate(place: Place<'_>, before: &Value, after: &Value, through_status: bool) -> Vec<FieldError> {
    let resource = place.resource;
    let mut errors = metadata::validate(resource, after);
    errors.extend(metadata::validate_step(before, after));
    if through_status {
        errors.extend(rules::validate_status(resource, after));
    } else {
        errors.extend(rules::validate(resource, after));
        errors.extend(rules::validate_step(resource, before, after));
    }
    errors
}

fn without_metadata(object: &Value) -> Value {
    let mut rest = object.clone();
    rest.as_object_mut().map(|fields| fields.remove("metadata"));
    rest
}
