//! What a request aims at, read from its method and path as the real server's request info is.

use crate::exchange::Request;

/// A request's aim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    Resource(ResourceAim),
    /// Anything else: discovery, version, health.
    Path,
}

/// A verb on a resource. `namespace` is empty for all namespaces and for cluster-scoped resources;
/// `name` is empty for collections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceAim {
    pub verb: &'static str,
    pub group: String,
    pub version: String,
    pub plural: String,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
}

impl ResourceAim {
    /// `pods`, `pods/status`: what RBAC rules and the call log call it.
    pub fn resource(&self) -> String {
        if self.subresource.is_empty() { self.plural.clone() } else { format!("{}/{}", self.plural, self.subresource) }
    }
}

impl ResourceAim {
    /// A question that everybody may ask about himself.
    pub fn is_review(&self) -> bool {
        self.group == "authorization.k8s.io" && self.verb == "create"
    }
}

impl Aim {
    pub fn of(request: &Request) -> Self {
        let parts: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Aim::Path,
        };
        let (namespace, rest) = split_namespace(rest);
        let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        let aim = ResourceAim {
            verb: "",
            group: group.into(),
            version: version.into(),
            plural: part(0),
            namespace: namespace.into(),
            name: part(1),
            subresource: rest.get(2..).unwrap_or_default().join("/"),
        };
        Aim::Resource(ResourceAim { verb: verb(request, &aim.name), ..aim })
    }
}

/// `namespaces/a/pods/b` is a pod in a namespace; `namespaces/a` and `namespaces/a/status` are the
/// namespace itself.
fn split_namespace<'a, 'b>(rest: &'b [&'a str]) -> (&'a str, &'b [&'a str]) {
    match rest {
        ["namespaces", namespace, "status" | "finalize"] => (namespace, rest),
        ["namespaces", namespace, inner @ ..] if !inner.is_empty() => (namespace, inner),
        ["namespaces", namespace] => (namespace, rest),
        _ => ("", rest),
    }
}

fn verb(request: &Request, name: &str) -> &'static str {
    let watching = matches!(request.parameter("watch"), Some("true" | "1" | ""));
    match (request.method.as_str(), name.is_empty()) {
        ("GET" | "HEAD", true) if watching => "watch",
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => "unknown",
    }
}
