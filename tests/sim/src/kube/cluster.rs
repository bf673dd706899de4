//! The cluster behind the server: its objects, its doors, and which resources it serves.

use serde_json::Value;

use super::Options;
use super::aim::ResourceAim;
use super::auth::Access;
use super::exec::Executor;
use super::object;
use super::resources::{self, DEFINITIONS, Resource};
use super::status::ApiError;
use super::store::{Key, Store};
use crate::clock::Clock;

/// Who asks: a client, who is held to every rule, or the test arranging its world, who may set
/// what a client cannot (UIDs, statuses, times).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Client,
    World,
}

#[derive(Debug)]
pub struct Cluster {
    pub store: Store,
    pub access: Access,
    pub clock: Clock,
    pub options: Options,
    /// Runs what `exec` asks for.
    pub executor: Option<Executor>,
    built_in: Vec<Resource>,
}

/// One object of one resource.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub resource: &'a Resource,
    pub namespace: &'a str,
    pub name: &'a str,
}

impl Place<'_> {
    pub fn key(&self) -> Key {
        Key {
            group: self.resource.group.clone(),
            plural: self.resource.plural.clone(),
            namespace: if self.resource.namespaced { self.namespace.into() } else { String::new() },
            name: self.name.into(),
        }
    }
}

impl Cluster {
    pub fn new(clock: Clock, options: Options) -> Self {
        let mut access = Access::default();
        access.token.clone_from(&options.token);
        access.user.clone_from(&options.user);
        access.accept_certificate = options.accept_client_certificate;
        Self { store: Store::default(), access, clock, options, executor: None, built_in: resources::built_in() }
    }

    pub fn now(&self) -> String {
        object::time(self.clock.now())
    }

    /// All resources served now; custom ones exist as long as their definition does.
    pub fn resources(&self) -> Vec<Resource> {
        let definitions = self.store.of(DEFINITIONS.0, DEFINITIONS.1);
        let custom = definitions.flat_map(|(_, definition)| resources::of_definition(definition));
        self.built_in.iter().cloned().chain(custom).collect()
    }

    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Resource> {
        self.resources().into_iter().find(|resource| resource.is(group, plural) && resource.version == version)
    }

    /// The resource a request aims at.
    ///
    /// # Errors
    /// A built-in group version without that resource is answered with a `Status`; a path of no
    /// built-in group, so every missing custom resource, by the bare HTTP server.
    pub fn resource_of(&self, aim: &ResourceAim) -> Result<Resource, ApiError> {
        let known = self.built_in.iter().any(|one| one.group == aim.group && one.version == aim.version);
        let missing = if known { ApiError::unknown_resource() } else { ApiError::unknown_path() };
        let resource = self.resource(&aim.group, &aim.version, &aim.plural).ok_or(missing.clone())?;
        let misplaced = !resource.namespaced && resource.plural != "namespaces" && !aim.namespace.is_empty();
        if misplaced { Err(missing) } else { Ok(resource) }
    }

    pub fn get(&self, place: Place<'_>) -> Result<&Value, ApiError> {
        self.store.get(&place.key()).ok_or_else(|| ApiError::not_found(place.resource, place.name))
    }

    pub fn namespace_object(&self, name: &str) -> Option<&Value> {
        self.store.get(&namespace_key(name))
    }
}

pub fn namespace_key(name: &str) -> Key {
    Key { group: String::new(), plural: "namespaces".into(), namespace: String::new(), name: name.into() }
}
