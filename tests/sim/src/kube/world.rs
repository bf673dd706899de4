//! What a test does to the cluster from outside the API: arranging, being the kubelet, looking in.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::auth::PolicyRule;
use super::cluster::{Cluster, Origin, Place};
use super::create::UnknownFields;
use super::delete::{DeleteOptions, Deleted};
use super::exec::{Ended, Exec, Executor};
use super::object::{self, text};
use super::resources::{DEFINITIONS, Resource};
use super::status::ApiError;
use super::store::Key;
use super::{KubeApi, metadata, rules};

/// The PodEIP definition as we ship it.
const PODEIP_DEFINITION: &str = include_str!("../../../../install/podeip-crd.yaml");

/// A pod to create. Empty fields take the defaults written beside them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// `default`
    pub namespace: String,
    pub name: String,
    /// A new one.
    pub uid: Option<String>,
    /// Empty: not scheduled.
    pub node: String,
    pub annotations: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub owners: Vec<Owner>,
    /// Condition types.
    pub readiness_gates: Vec<String>,
    /// `Pending`
    pub phase: String,
    pub host_network: bool,
    pub pod_ip: Option<String>,
    /// Makes it the mirror object of a static pod: the runtime knows the pod by this hash, the API
    /// server by `uid`.
    pub static_hash: Option<String>,
}

/// A controller that owns a pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

impl Owner {
    /// An owner of one of the usual kinds; kinds we do not know are taken for Kruise's.
    pub fn new(kind: &str, name: &str) -> Self {
        let api_version = match kind {
            "StatefulSet" | "Deployment" | "ReplicaSet" | "DaemonSet" => "apps/v1",
            "Job" => "batch/v1",
            "Node" => "v1",
            _ => "apps.kruise.io/v1beta1",
        };
        Self { api_version: api_version.into(), kind: kind.into(), name: name.into(), uid: format!("uid-of-{name}") }
    }
}

const MIRROR: [&str; 2] = ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"];

impl PodSpec {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into(), ..Self::default() }
    }

    /// The pod as the API server stores it.
    pub fn object(&self) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": self.name, "namespace": or(&self.namespace, "default") },
            "spec": { "containers": [{ "name": "main", "image": "registry.invalid/app:1" }] },
        });
        rules::prepare_pod(&mut pod);
        pod["status"]["phase"] = or(&self.phase, "Pending").into();
        if let Some(ip) = &self.pod_ip {
            pod["status"]["podIP"] = ip.as_str().into();
            pod["status"]["podIPs"] = json!([{ "ip": ip }]);
        }
        if !self.node.is_empty() {
            pod["spec"]["nodeName"] = self.node.as_str().into();
        }
        if self.host_network {
            pod["spec"]["hostNetwork"] = true.into();
        }
        let gates = self.readiness_gates.iter().map(|gate| json!({ "conditionType": gate }));
        set_list(&mut pod["spec"], "readinessGates", gates.collect());
        self.fill_metadata(&mut pod);
        pod
    }

    fn fill_metadata(&self, pod: &mut Value) {
        let mut annotations = self.annotations.clone();
        let mut owners = self.owners.clone();
        if let Some(hash) = &self.static_hash {
            annotations.extend(MIRROR.map(|key| (key.to_owned(), hash.clone())));
            annotations.insert("kubernetes.io/config.source".into(), "file".into());
            owners.push(Owner::new("Node", &self.node));
        }
        let owners = owners.iter().map(|owner| {
            json!({ "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
                "controller": true, "blockOwnerDeletion": true })
        });
        set_list(&mut pod["metadata"], "ownerReferences", owners.collect());
        for (key, map) in [("annotations", &annotations), ("labels", &self.labels)] {
            if !map.is_empty() {
                pod["metadata"][key] = json!(map);
            }
        }
        if let Some(uid) = &self.uid {
            pod["metadata"]["uid"] = uid.as_str().into();
        }
    }
}

fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default.into() } else { text.into() }
}

fn set_list(object: &mut Value, key: &str, items: Vec<Value>) {
    if !items.is_empty() {
        object[key] = items.into();
    }
}

impl KubeApi {
    /// Stores an object as it is given: UID, status and times are kept where they are set. The
    /// common rules (names, schema, existing objects) hold as they do for clients.
    pub fn create(&self, mut object: Value) -> Result<Value, ApiError> {
        let mut cluster = self.cluster();
        let resource = cluster.resource_of_object(&object)?;
        metadata::decode(&mut object).map_err(ApiError::bad_request)?;
        let namespace = or(object::namespace(&object), if resource.namespaced { "default" } else { "" });
        cluster.create(&resource, &namespace, object, UnknownFields::Refused, Origin::World)
    }

    /// An object by its resource's plural name (`pods`, `podeips`) or `podeips.alibabacloud.com`; the
    /// namespace is empty for cluster-scoped ones.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let cluster = self.cluster();
        let key = cluster.key(resource, namespace, name)?;
        cluster.store.get(&key).cloned()
    }

    /// All objects of a resource, in the order of their namespaces and names.
    pub fn list(&self, resource: &str) -> Vec<Value> {
        let cluster = self.cluster();
        let Some(of) = cluster.resource_named(resource) else { return vec![] };
        cluster.store.of(&of.group, &of.plural).map(|(_, object)| object.clone()).collect()
    }

    /// Merges a change (RFC 7386) into an object past all rules, status included. Nothing happens
    /// when the object does not exist.
    pub fn merge(&self, resource: &str, namespace: &str, name: &str, change: &Value) -> Option<Value> {
        let mut cluster = self.cluster();
        let key = cluster.key(resource, namespace, name)?;
        let mut object = cluster.store.get(&key)?.clone();
        json_patch::merge(&mut object, change);
        Some(cluster.store.put(key, object))
    }

    /// Removes an object past grace periods and finalizers, and returns its last state.
    pub fn remove(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let mut cluster = self.cluster();
        let key = cluster.key(resource, namespace, name)?;
        cluster.remove(&key)
    }

    /// # Panics
    /// When the pod cannot be created, because it exists already for instance: the test is wrong.
    pub fn create_pod(&self, pod: &PodSpec) -> Value {
        self.create(pod.object()).unwrap_or_else(|refusal| panic!("pod {}/{}: {refusal}", pod.namespace, pod.name))
    }

    /// What a `kubectl delete pod` does: the pod of a node is marked and stays until
    /// [`KubeApi::finish_deletion`]. Returns the pod as it was left; none when there is no such pod.
    pub fn begin_pod_deletion(&self, namespace: &str, name: &str) -> Option<Value> {
        self.delete_pod(namespace, name, &DeleteOptions::default())
    }

    /// The kubelet's last step: the pod goes, unless it has finalizers.
    pub fn finish_deletion(&self, namespace: &str, name: &str) -> Option<Value> {
        self.delete_pod(namespace, name, &DeleteOptions::at_once())
    }

    /// The pod is gone, whatever held it.
    pub fn remove_pod(&self, namespace: &str, name: &str) -> Option<Value> {
        self.remove("pods", namespace, name)
    }

    fn delete_pod(&self, namespace: &str, name: &str, options: &DeleteOptions) -> Option<Value> {
        let mut cluster = self.cluster();
        let resource = cluster.resource_named("pods")?;
        match cluster.delete(Place { resource: &resource, namespace, name }, options).ok()? {
            Deleted::Gone(pod) | Deleted::Pending(pod) => Some(pod),
        }
    }

    pub fn set_pod_phase(&self, namespace: &str, name: &str, phase: &str) -> Option<Value> {
        self.merge("pods", namespace, name, &json!({ "status": { "phase": phase } }))
    }

    /// The events about objects of this name, oldest first.
    pub fn events_for(&self, namespace: &str, name: &str) -> Vec<Value> {
        let about = |event: &Value| {
            text(event, "/involvedObject/namespace") == namespace && text(event, "/involvedObject/name") == name
        };
        let mut events: Vec<Value> = self.list("events").into_iter().filter(about).collect();
        events.sort_by_key(|event| object::version(event).parse::<u64>().unwrap_or(0));
        events
    }

    /// Every object: qualified resource name to list.
    pub fn dump(&self) -> Value {
        let mut all: Map<String, Value> = Map::new();
        for (key, object) in self.cluster().store.all() {
            let list = all.entry(super::status::qualified(&key.group, &key.plural)).or_insert_with(|| json!([]));
            list.as_array_mut().expect("it was made a list above").push(object.clone());
        }
        Value::Object(all)
    }

    /// Installs or uninstalls the PodEIP definition; uninstalling removes all PodEIPs.
    pub fn set_podeip_installed(&self, installed: bool) {
        let definition: Value = serde_saphyr::from_str(PODEIP_DEFINITION).expect("the file is valid YAML");
        let name = object::name(&definition).to_owned();
        if !installed {
            self.remove(DEFINITIONS.1, "", &name);
        } else if self.get(DEFINITIONS.1, "", &name).is_none() {
            self.create(definition).expect("the definition keeps the rules for definitions");
        }
    }

    /// What runs the commands of `kubectl exec`; without it they are refused.
    pub fn set_executor(&self, run: impl Fn(&Exec) -> Ended + Send + Sync + 'static) {
        self.cluster().executor = Some(Executor::new(run));
    }

    pub fn set_auto_create_namespaces(&self, on: bool) {
        self.cluster().options.auto_create_namespaces = on;
    }

    /// Rotates the token: the old one is refused from now on.
    pub fn set_token(&self, token: Option<&str>) {
        self.cluster().access.token = token.map(str::to_owned);
    }

    pub fn accept_client_certificate(&self, accept: bool) {
        self.cluster().access.accept_certificate = accept;
    }

    /// The claims of an unexpired token handed out by TokenRequest: the proof an identity provider
    /// asks for.
    pub fn token_claims(&self, token: &str) -> Option<Value> {
        let cluster = self.cluster();
        cluster.access.claims(token, cluster.clock.now())
    }

    /// Refuses a verb (`get`, `*`) on a resource (`pods`, `pods/status`, `*`) with 403 from now on.
    pub fn deny(&self, verb: &str, resource: &str) {
        self.cluster().access.deny(verb, resource);
    }

    /// Permits only what these rules permit, as RBAC would: for tests of the shipped roles.
    pub fn permit_only(&self, rules: Vec<PolicyRule>) {
        self.cluster().access.permit_only(rules);
    }

    /// From now on a service account with a token of its own may do only what the cluster's roles and bindings permit. The
    /// configured credentials stay an administrator's.
    pub fn let_roles_count(&self) {
        self.cluster().access.roles_count = true;
    }

    /// Takes back [`KubeApi::deny`] and [`KubeApi::permit_only`].
    pub fn allow_all(&self) {
        self.cluster().access.allow_all();
    }

    /// Closes all watches, as a server that restarts does.
    pub fn drop_watches(&self) {
        self.cluster().store.watchers.clear();
    }

    /// Forgets the past: watches from an older version and older continue tokens get 410.
    pub fn compact(&self) {
        self.cluster().store.compact();
    }
}

impl Cluster {
    fn resource_named(&self, name: &str) -> Option<Resource> {
        self.resources().into_iter().find(|resource| resource.plural == name || resource.qualified() == name)
    }

    fn key(&self, resource: &str, namespace: &str, name: &str) -> Option<Key> {
        let resource = self.resource_named(resource)?;
        Some(Place { resource: &resource, namespace, name }.key())
    }

    fn resource_of_object(&self, object: &Value) -> Result<Resource, ApiError> {
        let (kind, version) = (text(object, "/kind"), text(object, "/apiVersion"));
        let mut all = self.resources().into_iter();
        all.find(|resource| resource.kind == kind && resource.api_version() == version)
            .ok_or_else(|| ApiError::bad_request(format!("no matches for kind \"{kind}\" in version \"{version}\"")))
    }
}
