//! OpenAPI documents, which `kubectl` reads before it writes: custom resources with the schemas of their
//! definitions, as the real server publishes them. Of built-in kinds they say only that they can be
//! patched, because this server does not know their fields; `kubectl` then checks nothing by itself.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use prost::Message;
use serde_json::{Map, Value, json};

use super::cluster::Cluster;
use super::openapi_proto::Document;
use super::resources::Resource;
use super::status::ApiError;
use crate::exchange::{Body, Reply, Request};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Where the documents of a version keep their schemas.
const V2: &str = "#/definitions/";
const V3: &str = "#/components/schemas/";

impl Cluster {
    /// `/openapi/v2`: one document, in the encoding that is asked for.
    pub fn openapi_v2(&self, request: &Request) -> Reply {
        let definitions = definitions(self.resources().iter(), V2);
        // Older clients spell the type with an `@`.
        if request.header("accept").is_some_and(|types| types.contains("proto-openapi.spec.v2")) {
            let document = Document::new(&self.options.version, &definitions);
            return Reply {
                status: 200,
                content_type: PROTOBUF.into(),
                location: None,
                body: Body::Whole(document.encode_to_vec()),
            };
        }
        let info = json!({ "title": "Kubernetes", "version": self.options.version });
        Reply::json(200, &json!({ "swagger": "2.0", "info": info, "paths": {}, "definitions": definitions }))
    }

    /// `/openapi/v3`: one document for each group version. Clients keep them by this URL, so that it has
    /// to change with the document.
    pub fn openapi_v3_index(&self) -> Value {
        let all = self.resources();
        let versions: BTreeSet<(&str, &str)> = all.iter().map(|one| (&*one.group, &*one.version)).collect();
        let entry = |(group, version): (&str, &str)| {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            let mut hasher = DefaultHasher::new();
            self.openapi_v3(group, version).map(|document| document.to_string()).unwrap_or_default().hash(&mut hasher);
            let url = format!("/openapi/v3/{path}?hash={:016X}", hasher.finish());
            (path, json!({ "serverRelativeURL": url }))
        };
        json!({ "paths": versions.into_iter().map(entry).collect::<Map<_, _>>() })
    }

    pub fn openapi_v3(&self, group: &str, version: &str) -> Result<Value, ApiError> {
        let mut here = self.resources();
        here.retain(|one| one.group == group && one.version == version);
        if here.is_empty() {
            return Err(ApiError::unknown_path());
        }
        Ok(json!({
            "openapi": "3.0.0",
            "info": { "title": "Kubernetes", "version": self.options.version },
            "paths": here.iter().filter(|one| !one.is_review()).map(patch_path).collect::<Map<_, _>>(),
            "components": { "schemas": definitions(here.iter(), V3) },
        }))
    }
}

fn kind_of(resource: &Resource) -> Value {
    json!({ "group": resource.group, "version": resource.version, "kind": resource.kind })
}

/// The path of one object, with the operation by which clients learn which parameters writes have.
fn patch_path(resource: &Resource) -> (String, Value) {
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let namespace = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
    let path = format!("{root}/{}/{namespace}{}/{{name}}", resource.api_version(), resource.plural);
    let parameter = |name: &str, place: &str| json!({ "name": name, "in": place, "required": place == "path", "schema": { "type": "string" } });
    let mut parameters = vec![parameter("name", "path"), parameter("fieldValidation", "query")];
    if resource.namespaced {
        parameters.push(parameter("namespace", "path"));
    }
    let patch = json!({
        "operationId": format!("patch{}", resource.kind), "parameters": parameters,
        "responses": { "200": { "description": "OK" } },
        "x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": kind_of(resource),
    });
    (path, json!({ "patch": patch }))
}

/// The schemas of these resources as far as they are known, and what those refer to.
fn definitions<'a>(resources: impl Iterator<Item = &'a Resource>, place: &str) -> Map<String, Value> {
    let mut all: Map<String, Value> = resources.filter_map(|resource| published(resource, place)).collect();
    if !all.is_empty() {
        all.insert(OBJECT_META.into(), object_meta());
    }
    all
}

/// The name and the schema of a custom resource.
fn published(resource: &Resource, place: &str) -> Option<(String, Value)> {
    let custom = resource.custom.as_ref()?;
    let mut schema = custom.schema.clone();
    if place == V2 {
        simplify(&mut schema);
    }
    for key in ["apiVersion", "kind"] {
        schema["properties"][key] = json!({ "type": "string" });
    }
    schema["properties"]["metadata"] = json!({ "$ref": format!("{place}{OBJECT_META}") });
    schema["x-kubernetes-group-version-kind"] = json!([kind_of(resource)]);
    let mut name: Vec<&str> = resource.group.split('.').rev().collect();
    name.extend([resource.version.as_str(), resource.kind.as_str()]);
    Some((name.join("."), schema))
}

/// Takes away what version 2 does not have, and the inside of values that may hold anything, where
/// `kubectl` would refuse what is not named.
fn simplify(schema: &mut Value) {
    let Some(keywords) = schema.as_object_mut() else { return };
    keywords.remove("allOf");
    let nullable = keywords.remove("nullable").is_some_and(|value| value == true);
    if nullable || keywords.get(PRESERVE).is_some_and(|value| value == true) {
        keywords.retain(|key, _| !matches!(key.as_str(), "type" | "items" | "properties"));
    }
    for inner in keywords.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        simplify(inner.1);
    }
    for key in ["items", "additionalProperties"] {
        keywords.get_mut(key).map(simplify);
    }
}

fn object_meta() -> Value {
    let text = || json!({ "type": "string" });
    let time = || json!({ "type": "string", "format": "date-time" });
    let number = || json!({ "type": "integer", "format": "int64" });
    let texts_by_key = || json!({ "type": "object", "additionalProperties": text() });
    let objects = || json!({ "type": "array", "items": { "type": "object" } });
    let properties = json!({
        "name": text(), "generateName": text(), "namespace": text(), "uid": text(), "resourceVersion": text(),
        "selfLink": text(), "creationTimestamp": time(), "deletionTimestamp": time(), "generation": number(),
        "deletionGracePeriodSeconds": number(), "labels": texts_by_key(), "annotations": texts_by_key(),
        "finalizers": { "type": "array", "items": text() }, "ownerReferences": objects(), "managedFields": objects(),
    });
    json!({ "type": "object", "properties": properties })
}
