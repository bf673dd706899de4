//! The resources this server knows: the built-in table, and what custom resource definitions add.

use serde_json::Value;

use super::object::text;
use super::status::qualified;

/// What a `/status` endpoint may change besides `.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusEndpoint {
    Absent,
    /// `.status` alone, as custom resources and workloads have it.
    StatusOnly,
    /// Labels, annotations and finalizers too: pods and nodes, whose kubelets write both at once.
    WithMetadata,
}

/// What a PUT may do besides replacing an object whose `resourceVersion` it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    NeedsVersion,
    /// Without a `resourceVersion` it overwrites.
    Unconditional,
    /// It creates what is missing, but overwrites only with a `resourceVersion`: leases.
    CreatesOrNeedsVersion,
    /// It creates what is missing and overwrites without a `resourceVersion`: events.
    CreatesOrOverwrites,
}

/// One resource of one API group version.
#[derive(Clone, Debug)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    pub namespaced: bool,
    pub status: StatusEndpoint,
    /// Counts changes of everything but metadata and status in `metadata.generation`.
    pub generation: bool,
    pub put: Put,
    /// A deletion that removed the object answers with the object instead of a `Status`.
    pub returns_deleted: bool,
    pub custom: Option<Custom>,
}

/// What only a custom resource has.
#[derive(Clone, Debug)]
pub struct Custom {
    /// `openAPIV3Schema` of the version.
    pub schema: Value,
    /// `additionalPrinterColumns` of the version.
    pub columns: Vec<Value>,
}

impl Resource {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, `podeips.alibabacloud.com`.
    pub fn qualified(&self) -> String {
        qualified(&self.group, &self.plural)
    }

    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    pub fn has_status(&self) -> bool {
        self.status != StatusEndpoint::Absent
    }

    pub fn subresources(&self) -> Vec<&'static str> {
        let mut all = Vec::new();
        if self.has_status() {
            all.push("status");
        }
        if self.is("", "serviceaccounts") {
            all.push("token");
        }
        if self.is("", "pods") {
            all.push("exec");
        }
        all
    }

    /// Reviews are questions, not objects: they can only be created, and nothing is stored.
    pub fn is_review(&self) -> bool {
        self.group == "authorization.k8s.io"
    }
}

pub const REVIEWS: (&str, &str) = ("authorization.k8s.io", "selfsubjectaccessreviews");
pub const RBAC: &str = "rbac.authorization.k8s.io";
pub const PRIORITIES: (&str, &str) = ("scheduling.k8s.io", "priorityclasses");
pub const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");

struct Row {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static str,
    namespaced: bool,
    status: StatusEndpoint,
    generation: bool,
    put: Put,
    returns_deleted: bool,
}

const PLAIN: Row = Row {
    group: "",
    version: "v1",
    plural: "",
    kind: "",
    short: "",
    namespaced: true,
    status: StatusEndpoint::Absent,
    generation: false,
    put: Put::Unconditional,
    returns_deleted: false,
};

const WORKLOAD: Row = Row { group: "apps", status: StatusEndpoint::StatusOnly, generation: true, ..PLAIN };

const RBAC_ROW: Row = Row { group: RBAC, ..PLAIN };

const BUILT_IN: &[Row] = &[
    Row {
        plural: "namespaces",
        kind: "Namespace",
        short: "ns",
        namespaced: false,
        status: StatusEndpoint::StatusOnly,
        ..PLAIN
    },
    Row {
        plural: "pods",
        kind: "Pod",
        short: "po",
        status: StatusEndpoint::WithMetadata,
        generation: true,
        returns_deleted: true,
        ..PLAIN
    },
    Row { plural: "events", kind: "Event", short: "ev", put: Put::CreatesOrOverwrites, ..PLAIN },
    Row {
        plural: "nodes",
        kind: "Node",
        short: "no",
        namespaced: false,
        status: StatusEndpoint::WithMetadata,
        ..PLAIN
    },
    Row { plural: "configmaps", kind: "ConfigMap", short: "cm", ..PLAIN },
    Row { plural: "secrets", kind: "Secret", ..PLAIN },
    Row { plural: "serviceaccounts", kind: "ServiceAccount", short: "sa", returns_deleted: true, ..PLAIN },
    Row { plural: "statefulsets", kind: "StatefulSet", short: "sts", ..WORKLOAD },
    Row { plural: "deployments", kind: "Deployment", short: "deploy", ..WORKLOAD },
    Row { plural: "daemonsets", kind: "DaemonSet", short: "ds", ..WORKLOAD },
    Row { group: "coordination.k8s.io", plural: "leases", kind: "Lease", put: Put::CreatesOrNeedsVersion, ..PLAIN },
    Row {
        group: DEFINITIONS.0,
        plural: DEFINITIONS.1,
        kind: "CustomResourceDefinition",
        short: "crd",
        namespaced: false,
        status: StatusEndpoint::StatusOnly,
        generation: true,
        put: Put::NeedsVersion,
        ..PLAIN
    },
    Row { plural: "roles", kind: "Role", ..RBAC_ROW },
    Row { plural: "rolebindings", kind: "RoleBinding", ..RBAC_ROW },
    Row { plural: "clusterroles", kind: "ClusterRole", namespaced: false, ..RBAC_ROW },
    Row { plural: "clusterrolebindings", kind: "ClusterRoleBinding", namespaced: false, ..RBAC_ROW },
    Row { group: PRIORITIES.0, plural: PRIORITIES.1, kind: "PriorityClass", short: "pc", namespaced: false, ..PLAIN },
    Row { group: REVIEWS.0, plural: REVIEWS.1, kind: "SelfSubjectAccessReview", namespaced: false, ..PLAIN },
];

/// The resources every cluster has.
pub fn built_in() -> Vec<Resource> {
    BUILT_IN.iter().map(resource_of_row).collect()
}

fn resource_of_row(row: &Row) -> Resource {
    Resource {
        group: row.group.into(),
        version: row.version.into(),
        plural: row.plural.into(),
        singular: row.kind.to_lowercase(),
        kind: row.kind.into(),
        list_kind: format!("{}List", row.kind),
        short_names: if row.short.is_empty() { vec![] } else { vec![row.short.into()] },
        namespaced: row.namespaced,
        status: row.status,
        generation: row.generation,
        put: row.put,
        returns_deleted: row.returns_deleted,
        custom: None,
    }
}

/// The resources one CustomResourceDefinition serves, one for each served version.
pub fn of_definition(definition: &Value) -> Vec<Resource> {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let served = versions.into_iter().flatten().filter(|version| version["served"] == true);
    served.map(|version| custom_resource(definition, version)).collect()
}

fn custom_resource(definition: &Value, version: &Value) -> Resource {
    let named = |part: &str| text(definition, &format!("/spec/names/{part}")).to_owned();
    let or = |given: String, fallback: String| if given.is_empty() { fallback } else { given };
    let short = definition.pointer("/spec/names/shortNames").and_then(Value::as_array);
    let has_status = version.pointer("/subresources/status").is_some();
    Resource {
        group: text(definition, "/spec/group").into(),
        version: text(version, "/name").into(),
        plural: named("plural"),
        singular: or(named("singular"), named("kind").to_lowercase()),
        kind: named("kind"),
        list_kind: or(named("listKind"), named("kind") + "List"),
        short_names: short.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        namespaced: text(definition, "/spec/scope") == "Namespaced",
        status: if has_status { StatusEndpoint::StatusOnly } else { StatusEndpoint::Absent },
        generation: true,
        put: Put::NeedsVersion,
        returns_deleted: false,
        custom: Some(Custom {
            schema: version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default(),
            columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
        }),
    }
}
