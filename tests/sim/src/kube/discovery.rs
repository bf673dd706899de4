//! Discovery and health: which groups, versions and resources there are, as `kubectl` asks for them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::resources::Resource;
use super::status::ApiError;
use crate::exchange::{Reply, Request};

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl Cluster {
    /// Answers a path that aims at no resource.
    pub fn discover(&self, request: &Request) -> Result<Reply, ApiError> {
        if request.method != "GET" {
            return Err(ApiError::method_not_allowed());
        }
        let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
        let answer = match parts.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => return Ok(Reply::text(200, "ok")),
            ["version"] => self.version_object(),
            ["api"] => json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
            ["api", version] => self.group_version("", version)?,
            ["apis"] => json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": self.groups() }),
            ["apis", group] => self.group(group)?,
            ["apis", group, version] => self.group_version(group, version)?,
            ["openapi", "v2"] => return Ok(self.openapi_v2(request)),
            ["openapi", "v3"] => self.openapi_v3_index(),
            ["openapi", "v3", "api", version] => self.openapi_v3("", version)?,
            ["openapi", "v3", "apis", group, version] => self.openapi_v3(group, version)?,
            _ => return Err(ApiError::unknown_path()),
        };
        Ok(Reply::json(200, &answer))
    }

    fn version_object(&self) -> Value {
        let version = &self.options.version;
        let mut numbers = version.trim_start_matches('v').split('.');
        let mut next = || numbers.next().unwrap_or_default().to_owned();
        let (major, minor) = (next(), next());
        json!({
            "major": major, "minor": minor, "gitVersion": version, "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "2025-05-15T00:00:00Z", "goVersion": "go1.24.2", "compiler": "gc", "platform": "linux/amd64",
        })
    }

    fn groups(&self) -> Vec<Value> {
        let names: BTreeSet<String> = self.resources().into_iter().map(|resource| resource.group).collect();
        names.iter().filter(|name| !name.is_empty()).filter_map(|name| self.group(name).ok()).collect()
    }

    fn group(&self, group: &str) -> Result<Value, ApiError> {
        let versions: BTreeSet<String> =
            self.resources().into_iter().filter(|resource| resource.group == group).map(|r| r.version).collect();
        let versions: Vec<Value> =
            versions.iter().map(|v| json!({ "groupVersion": format!("{group}/{v}"), "version": v })).collect();
        let preferred = versions.last().ok_or_else(ApiError::unknown_path)?;
        Ok(json!({
            "kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": versions, "preferredVersion": preferred,
        }))
    }

    fn group_version(&self, group: &str, version: &str) -> Result<Value, ApiError> {
        let all = self.resources();
        let here: Vec<&Resource> = all.iter().filter(|one| one.group == group && one.version == version).collect();
        let first = here.first().ok_or_else(ApiError::unknown_path)?;
        let resources: Vec<Value> = here.iter().flat_map(|resource| entries(resource)).collect();
        Ok(json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(), "resources": resources,
        }))
    }
}

/// A resource and its subresources.
fn entries(resource: &Resource) -> Vec<Value> {
    let verbs: Vec<&str> = if resource.is_review() { vec!["create"] } else { VERBS.into() };
    let mut all = vec![json!({
        "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
        "kind": resource.kind, "verbs": verbs, "shortNames": resource.short_names,
    })];
    for subresource in resource.subresources() {
        let (kind, verbs) = match subresource {
            "token" => ("TokenRequest", vec!["create"]),
            "exec" => ("PodExecOptions", vec!["create", "get"]),
            _ => (resource.kind.as_str(), vec!["get", "patch", "update"]),
        };
        all.push(json!({
            "name": format!("{}/{subresource}", resource.plural), "singularName": "", "kind": kind, "verbs": verbs,
            "namespaced": resource.namespaced,
        }));
    }
    all
}
