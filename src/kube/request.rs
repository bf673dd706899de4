//! One call to the API server: verb, resource, object, and the URL they make.

use std::fmt::{self, Write as _};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// Everything but RFC 3986's unreserved characters is escaped, in paths and in queries.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a call does, in RBAC's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Create,
    Patch,
    Delete,
}

impl Verb {
    pub(super) fn method(self) -> &'static str {
        match self {
            Verb::Get | Verb::List => "GET",
            Verb::Create => "POST",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Create => "create",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
        })
    }
}

/// The resources we touch, as an RBAC rule spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Pods,
    PodStatus,
    Nodes,
    Events,
    PodEips,
    PodEipStatus,
    Leases,
    AccessReviews,
    ServiceAccountTokens,
    ConfigMaps,
    DaemonSets,
    Deployments,
}

impl Resource {
    /// The API group; the core group is empty.
    pub fn group(self) -> &'static str {
        match self {
            Resource::Pods
            | Resource::PodStatus
            | Resource::Nodes
            | Resource::Events
            | Resource::ServiceAccountTokens
            | Resource::ConfigMaps => "",
            Resource::DaemonSets | Resource::Deployments => "apps",
            Resource::PodEips | Resource::PodEipStatus => "alibabacloud.com",
            Resource::Leases => "coordination.k8s.io",
            Resource::AccessReviews => "authorization.k8s.io",
        }
    }

    /// Whether every API server serves it, without a CustomResourceDefinition.
    pub(super) fn is_built_in(self) -> bool {
        self.group() != "alibabacloud.com"
    }

    fn root(self) -> &'static str {
        match self.group() {
            "" => "/api/v1",
            "alibabacloud.com" => "/apis/alibabacloud.com/v1beta1",
            "apps" => "/apis/apps/v1",
            "authorization.k8s.io" => "/apis/authorization.k8s.io/v1",
            _ => "/apis/coordination.k8s.io/v1",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::Pods => "pods",
            Resource::PodStatus => "pods/status",
            Resource::Nodes => "nodes",
            Resource::Events => "events",
            Resource::PodEips => "podeips",
            Resource::PodEipStatus => "podeips/status",
            Resource::Leases => "leases",
            Resource::AccessReviews => "selfsubjectaccessreviews",
            Resource::ServiceAccountTokens => "serviceaccounts/token",
            Resource::ConfigMaps => "configmaps",
            Resource::DaemonSets => "daemonsets",
            Resource::Deployments => "deployments",
        })
    }
}

/// What a call was about, for people: `patch pods/status default/web-0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub verb: Verb,
    pub resource: Resource,
    /// `None` is the whole cluster.
    pub namespace: Option<String>,
    /// `None` for a list.
    pub name: Option<String>,
}

impl Operation {
    /// A verb on one object.
    pub(super) fn on(verb: Verb, resource: Resource, namespace: &str, name: &str) -> Self {
        Self { verb, resource, namespace: Some(namespace.into()), name: Some(name.into()) }
    }

    pub(super) fn list(resource: Resource, namespace: Option<&str>) -> Self {
        Self { verb: Verb::List, resource, namespace: namespace.map(Into::into), name: None }
    }

    /// Path below the server's address. A creation goes to the collection, or to a subresource of what is there.
    pub(super) fn path(&self) -> String {
        let resource = self.resource.to_string();
        let (plural, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
        let mut path = String::from(self.resource.root());
        let mut step = |text: &str| {
            // Writing to a String cannot fail.
            let _ = write!(path, "/{}", utf8_percent_encode(text, ESCAPED));
        };
        if let Some(namespace) = &self.namespace {
            step("namespaces");
            step(namespace);
        }
        step(plural);
        if let Some(name) = self.name.as_deref().filter(|_| self.verb != Verb::Create || !subresource.is_empty()) {
            step(name);
        }
        if !subresource.is_empty() {
            step(subresource);
        }
        path
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (Some(namespace), None) => write!(f, " in {namespace}"),
            (None, Some(name)) => write!(f, " {name}"),
            (None, None) => Ok(()),
        }
    }
}

/// Content types of what we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    /// RFC 7386.
    MergePatch,
    /// Kubernetes' own patch, which merges lists by key; custom resources do not have it.
    StrategicPatch,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::MergePatch => "application/merge-patch+json",
            Format::StrategicPatch => "application/strategic-merge-patch+json",
        }
    }
}

/// A call as it is sent, once or several times.
pub(super) struct Request {
    pub operation: Operation,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<(Format, Value)>,
}

impl Request {
    pub fn read(operation: Operation) -> Self {
        Self { operation, query: Vec::new(), body: None }
    }

    pub fn write(operation: Operation, format: Format, body: Value) -> Self {
        Self { operation, query: Vec::new(), body: Some((format, body)) }
    }

    /// The path with its query, to be appended to the server's address.
    pub fn target(&self) -> String {
        let mut target = self.operation.path();
        for (index, (key, value)) in self.query.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            // Writing to a String cannot fail.
            let _ = write!(target, "{separator}{key}={}", utf8_percent_encode(value, ESCAPED));
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_api_conventions() {
        let path = |verb, resource| Operation::on(verb, resource, "shop", "web-0").path();
        assert_eq!(path(Verb::Get, Resource::Pods), "/api/v1/namespaces/shop/pods/web-0");
        assert_eq!(path(Verb::Patch, Resource::PodStatus), "/api/v1/namespaces/shop/pods/web-0/status");
        assert_eq!(path(Verb::Create, Resource::Events), "/api/v1/namespaces/shop/events");
        let token = "/api/v1/namespaces/shop/serviceaccounts/web-0/token";
        assert_eq!(path(Verb::Create, Resource::ServiceAccountTokens), token);
        let status = "/apis/alibabacloud.com/v1beta1/namespaces/shop/podeips/web-0/status";
        assert_eq!(path(Verb::Patch, Resource::PodEipStatus), status);
        assert_eq!(Operation::list(Resource::PodEips, None).path(), "/apis/alibabacloud.com/v1beta1/podeips");
    }

    #[test]
    fn nothing_leaves_its_place_in_a_url() {
        let path = Operation::on(Verb::Get, Resource::Pods, "a/b", "c?d#e").path();
        assert_eq!(path, "/api/v1/namespaces/a%2Fb/pods/c%3Fd%23e");
        let mut request = Request::read(Operation::list(Resource::Pods, None));
        request.query = vec![("fieldSelector", "spec.nodeName=n-1".into()), ("continue", "a+b==".into())];
        assert_eq!(request.target(), "/api/v1/pods?fieldSelector=spec.nodeName%3Dn-1&continue=a%2Bb%3D%3D");
    }

    #[test]
    fn operations_read_as_rbac_does() {
        let operation = Operation::on(Verb::Patch, Resource::PodEipStatus, "shop", "web-0");
        assert_eq!(operation.to_string(), "patch podeips/status shop/web-0");
        assert_eq!(Operation::list(Resource::PodEips, Some("shop")).to_string(), "list podeips in shop");
        assert_eq!(Operation::list(Resource::Pods, None).to_string(), "list pods");
    }
}
