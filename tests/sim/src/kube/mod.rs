//! A simulated Kubernetes API server that refuses what the real one refuses.
//!
//! A request is authenticated, authorized, aimed at a resource (`aim`), and answered by one verb's
//! file (`create`, `update`, `delete`, `list`, `watch`) over one store (`store`). What
//! single resources add is in `rules`; custom resources follow the schema of their definition,
//! which is an object of the cluster as any other. Tests arrange the world in `world`.
//!
//! Not simulated: server-side apply (415), `dryRun` (400), the watch list feature (422), webhooks,
//! quotas, controllers besides those of namespaces and definitions, and objects in protobuf (415 and
//! 406). Of `kubectl`, what sends JSON works (`get`, `describe`, `explain`, `apply -f`, `edit`, `patch`,
//! `annotate`, `delete`, `wait`, `rollout status`, and `exec` where a test plays the node); what sends protobuf (`create namespace`, `create token`,
//! `auth can-i`) is refused.

mod aim;
mod auth;
mod cluster;
mod create;
mod data;
mod delete;
mod discovery;
mod exec;
mod grants;
mod list;
mod metadata;
mod names;
mod object;
mod openapi;
mod openapi_proto;
mod patch;
mod podspec;
mod priority;
mod rbac;
mod resources;
mod rules;
mod schema;
mod selectors;
mod status;
mod store;
mod strategic;
mod table;
#[cfg(test)]
mod tests;
mod update;
mod watch;
mod workload;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use auth::{CERTIFICATE_HEADER, PolicyRule};
pub use exec::{Ended, Exec};
pub use status::ApiError;
pub use world::{Owner, PodSpec};

use aim::{Aim, ResourceAim};
use auth::User;
use cluster::{Cluster, Origin, Place};
use create::UnknownFields;
use delete::DeleteOptions;
use patch::Patch;
use resources::Resource;
use selectors::Filter;
use table::Rendering;
use update::{Edit, Manner};

use crate::clock::Clock;
use crate::exchange::{Reply, Request, Service};

/// What kind of cluster to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bearer token of `user`. Without a token and without client certificates everybody is let in.
    pub token: Option<String>,
    /// Whether `x-client-certificate: verified`, set by the TLS layer, authenticates as `user`.
    pub accept_client_certificate: bool,
    /// Whom the token and the certificate stand for, as RBAC names it.
    pub user: String,
    /// Creating an object creates its namespace. Real servers do not; tests find it convenient.
    pub auto_create_namespaces: bool,
    /// Whether the PodEIP definition is there from the start.
    pub podeip_installed: bool,
    /// How often a watch that asked for bookmarks gets one; the real server's minute by default.
    pub bookmark_every: Duration,
    /// `gitVersion` of `/version`.
    pub version: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: None,
            accept_client_certificate: false,
            user: "system:serviceaccount:kube-system:podeip".into(),
            auto_create_namespaces: true,
            podeip_installed: true,
            bookmark_every: Duration::from_secs(60),
            version: "v1.33.1".into(),
        }
    }
}

/// The API server. Clones share the cluster.
#[derive(Clone, Debug)]
pub struct KubeApi(Arc<Mutex<Cluster>>);

/// How exactly watches keep their timeouts and bookmarks.
const WATCH_TICK: Duration = Duration::from_millis(50);

impl KubeApi {
    /// A cluster with the namespaces `default` and `kube-system` and, if wanted, the PodEIP definition.
    pub fn new(clock: Clock, options: Options) -> Self {
        let with_podeip = options.podeip_installed;
        let api = Self(Arc::new(Mutex::new(Cluster::new(clock, options))));
        api.cluster().create_system_priorities();
        for namespace in ["default", "kube-system"] {
            api.cluster().create_namespace(namespace).expect("a new cluster has no namespace of this name");
        }
        api.set_podeip_installed(with_podeip);
        let shared = Arc::downgrade(&api.0);
        std::thread::spawn(move || tend_watches(&shared));
        api
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        // A test that panics while it arranges its world must not take the server with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until the last [`KubeApi`] is dropped.
fn tend_watches(shared: &Weak<Mutex<Cluster>>) {
    while let Some(cluster) = shared.upgrade() {
        cluster.lock().unwrap_or_else(PoisonError::into_inner).tend_watches(Instant::now());
        drop(cluster);
        std::thread::sleep(WATCH_TICK);
    }
}

impl Service for KubeApi {
    /// Verb and resource: `get pods`, `patch podeips/status`, `deletecollection events`; method and
    /// path for what is no resource: `get /version`.
    fn call_name(&self, request: &Request) -> String {
        match Aim::of(request) {
            Aim::Resource(aim) => format!("{} {}", aim.verb, aim.resource()),
            Aim::Path => format!("{} {}", request.method.to_lowercase(), request.path),
        }
    }

    fn answer(&self, request: &Request) -> Reply {
        let exec = self.cluster().admit_exec(request);
        match exec {
            Some(Ok(admitted)) => return admitted.answer(),
            Some(Err(refusal)) => return refusal.reply(),
            None => {}
        }
        self.cluster().answer(request).unwrap_or_else(|refusal| refusal.reply())
    }
}

impl Cluster {
    fn answer(&mut self, request: &Request) -> Result<Reply, ApiError> {
        let user = self.access.authenticate(request, self.clock.now())?;
        let Aim::Resource(aim) = Aim::of(request) else { return self.discover(request) };
        self.authorize(&user, &aim)?;
        let resource = self.resource_of(&aim)?;
        if request.parameter("dryRun").is_some() {
            return Err(ApiError::bad_request("podeip-sim does not simulate dryRun"));
        }
        match aim.subresource.as_str() {
            "" if resource.is_review() => self.answer_review(request, &resource, &aim, &user),
            "" => self.answer_resource(request, &resource, &aim),
            "status" if resource.has_status() && aim.verb != "delete" && aim.verb != "create" => {
                self.answer_object(request, &resource, &aim, true)
            }
            "token" if resource.is("", "serviceaccounts") && aim.verb == "create" => {
                self.answer_token(request, &resource, &aim)
            }
            known if resource.subresources().contains(&known) => Err(ApiError::method_not_allowed()),
            _ => Err(ApiError::unknown_resource()),
        }
    }

    fn answer_resource(
        &mut self,
        request: &Request,
        resource: &Resource,
        aim: &ResourceAim,
    ) -> Result<Reply, ApiError> {
        let everywhere = resource.namespaced && aim.namespace.is_empty();
        match aim.verb {
            "create" if aim.name.is_empty() && !everywhere => self.answer_create(request, resource, aim),
            "list" | "watch" | "deletecollection" => self.answer_collection(request, resource, aim),
            "get" | "update" | "patch" | "delete" if !aim.name.is_empty() && !everywhere => {
                self.answer_object(request, resource, aim, false)
            }
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    fn answer_create(&mut self, request: &Request, resource: &Resource, aim: &ResourceAim) -> Result<Reply, ApiError> {
        check_body_type(request)?;
        let rendering = Rendering::of(request, resource, self.clock.now())?;
        let new = create::decode(resource, &request.body)?;
        let created = self.create(resource, &aim.namespace, new, UnknownFields::of(request), Origin::Client)?;
        Ok(Reply::json(201, &rendering.object(created)))
    }

    fn answer_collection(
        &mut self,
        request: &Request,
        resource: &Resource,
        aim: &ResourceAim,
    ) -> Result<Reply, ApiError> {
        let namespace = if resource.namespaced { aim.namespace.as_str() } else { "" };
        let filter = Filter::of(request, resource, namespace)?;
        if aim.verb == "watch" {
            return self.watch(request, resource, filter);
        }
        let rendering = Rendering::of(request, resource, self.clock.now())?;
        let page = self.list(request, &filter)?;
        if aim.verb == "deletecollection" {
            let options = DeleteOptions::of(request)?;
            for item in &page.items {
                let place = Place { resource, namespace: object::namespace(item), name: object::name(item) };
                self.delete(place, &options)?;
            }
        }
        Ok(Reply::json(200, &rendering.page(page, resource)))
    }

    /// A verb on one object, or on its status.
    fn answer_object(
        &mut self,
        request: &Request,
        resource: &Resource,
        aim: &ResourceAim,
        through_status: bool,
    ) -> Result<Reply, ApiError> {
        let place = Place { resource, namespace: &aim.namespace, name: &aim.name };
        let rendering = Rendering::of(request, resource, self.clock.now())?;
        let edit = match aim.verb {
            "get" => return Ok(Reply::json(200, &rendering.object(self.get(place)?.clone()))),
            "delete" => {
                let deleted = self.delete(place, &DeleteOptions::of(request)?)?;
                return Ok(Reply::json(200, &deleted.answer(resource)));
            }
            "update" => {
                check_body_type(request)?;
                Edit::Put(create::decode(resource, &request.body)?)
            }
            "patch" => Edit::Patch(Patch::of(request, resource)?),
            _ => return Err(ApiError::method_not_allowed()),
        };
        let edited = self.edit(place, edit, Manner { through_status, unknown: UnknownFields::of(request) })?;
        Ok(Reply::json(if edited.created { 201 } else { 200 }, &rendering.object(edited.object)))
    }

    fn answer_review(
        &self,
        request: &Request,
        resource: &Resource,
        aim: &ResourceAim,
        user: &User,
    ) -> Result<Reply, ApiError> {
        if aim.verb != "create" {
            return Err(ApiError::method_not_allowed());
        }
        check_body_type(request)?;
        let mut review = create::decode(resource, &request.body)?;
        self.review(user, &mut review);
        Ok(Reply::json(201, &review))
    }

    fn answer_token(&mut self, request: &Request, resource: &Resource, aim: &ResourceAim) -> Result<Reply, ApiError> {
        let account = self.get(Place { resource, namespace: &aim.namespace, name: &aim.name })?.clone();
        check_body_type(request)?;
        let asked: Value = serde_json::from_slice(&request.body).ok().filter(Value::is_object).ok_or_else(|| {
            ApiError::bad_request("the object provided is unrecognized (must be of type TokenRequest)")
        })?;
        let now = self.clock.now();
        Ok(Reply::json(201, &self.access.issue(&account, asked, now)?))
    }
}

/// A body that is not JSON is refused; one without a content type is taken for JSON.
fn check_body_type(request: &Request) -> Result<(), ApiError> {
    let content_type = request.header("content-type").unwrap_or("application/json");
    match content_type.split(';').next().map(str::trim) {
        Some("application/json" | "") => Ok(()),
        _ => Err(ApiError::unsupported_media_type(&["application/json"])),
    }
}
