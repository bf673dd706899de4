//! The check of RBAC: every verb that podeip uses, asked for as a SelfSubjectAccessReview.

use std::fmt;

use super::check::Finding;
use super::subject::Subject;
use crate::eip::failure::{Failure, chain};
use crate::eip::sweep;
use crate::eip::{at_once, coexist};
use crate::kube::{Operation, Resource, Verb};

/// Something that podeip does in the cluster. A test compares them with install/rbac.yaml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deed {
    verb: Verb,
    resource: Resource,
    place: Place,
}

/// Where it is done, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On any object of any namespace.
    Everywhere,
    /// On any object in the agent's own namespace.
    Own,
    /// On the object of this name there.
    Named(&'static str),
    /// On the object of this name where the cluster's own components are.
    OfCluster(&'static str),
}

const fn everywhere(verb: Verb, resource: Resource) -> Deed {
    Deed { verb, resource, place: Place::Everywhere }
}

const fn lease(verb: Verb) -> Deed {
    Deed { verb, resource: Resource::Leases, place: Place::Named(sweep::LEASE) }
}

const fn rival(resource: Resource, name: &'static str) -> Deed {
    Deed { verb: Verb::Get, resource, place: Place::OfCluster(name) }
}

/// The one in install/rbac.yaml.
const SERVICE_ACCOUNT: &str = "podeip";

static DEEDS: [Deed; 23] = [
    everywhere(Verb::Get, Resource::Pods),
    everywhere(Verb::List, Resource::Pods),
    everywhere(Verb::Patch, Resource::PodStatus),
    everywhere(Verb::Get, Resource::Nodes),
    everywhere(Verb::Create, Resource::Events),
    everywhere(Verb::Get, Resource::Events),
    everywhere(Verb::List, Resource::Events),
    everywhere(Verb::Patch, Resource::Events),
    everywhere(Verb::Get, Resource::PodEips),
    everywhere(Verb::List, Resource::PodEips),
    everywhere(Verb::Create, Resource::PodEips),
    everywhere(Verb::Patch, Resource::PodEips),
    everywhere(Verb::Delete, Resource::PodEips),
    everywhere(Verb::Patch, Resource::PodEipStatus),
    lease(Verb::Get),
    lease(Verb::Patch),
    Deed { verb: Verb::Create, resource: Resource::Leases, place: Place::Own },
    Deed { verb: Verb::Create, resource: Resource::ServiceAccountTokens, place: Place::Named(SERVICE_ACCOUNT) },
    rival(Resource::ConfigMaps, coexist::SETTINGS_MAP),
    rival(Resource::Deployments, coexist::ACK_EXTEND),
    rival(Resource::DaemonSets, coexist::TERWAYS[0]),
    rival(Resource::DaemonSets, coexist::TERWAYS[1]),
    rival(Resource::DaemonSets, coexist::TERWAYS[2]),
];

impl Deed {
    /// As it is done by an agent in `namespace`.
    fn operation(self, namespace: &str) -> Operation {
        let (namespace, name) = match self.place {
            Place::Everywhere => (None, None),
            Place::Own => (Some(namespace.to_owned()), None),
            Place::Named(name) => (Some(namespace.to_owned()), Some(name.to_owned())),
            Place::OfCluster(name) => (Some(coexist::NAMESPACE.to_owned()), Some(name.to_owned())),
        };
        Operation { verb: self.verb, resource: self.resource, namespace, name }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        match self.place {
            Place::Everywhere | Place::Own => Ok(()),
            Place::Named(name) | Place::OfCluster(name) => write!(f, " {name}"),
        }
    }
}

pub fn rbac(subject: &Subject) -> Finding {
    match refused(subject) {
        Ok(refused) if refused.is_empty() => Finding::pass(format!("all of its {} verbs are permitted", DEEDS.len())),
        Ok(refused) => Finding::fail(
            format!("not permitted: {}", refused.join(", ")),
            "apply install/rbac.yaml of this version, and see that the kubeconfig's token is of the service account \
             kube-system/podeip",
        ),
        Err(failure) => Finding::skip(chain(&failure)),
    }
}

fn refused(subject: &Subject) -> Result<Vec<String>, Failure> {
    let kube = subject.kube()?;
    let namespace = &subject.identity()?.namespace;
    let answers = at_once::each(&DEEDS, |deed| kube.may(&deed.operation(namespace), subject.deadline()));
    let mut refused = Vec::new();
    for (deed, answer) in DEEDS.iter().zip(answers) {
        if !answer? {
            refused.push(deed.to_string());
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::*;

    /// The files below `directory` that hold RBAC objects as Kubernetes reads them.
    fn manifests(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let of = |path: PathBuf| match path.is_dir() {
            true => manifests(&path),
            false => vec![path],
        };
        let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains("rbac");
        let plain = |path: &PathBuf| !std::fs::read_to_string(path).unwrap().contains("{{");
        entries.flat_map(of).filter(named).filter(plain).collect()
    }

    /// Whether it is for one namespace, the API group, and what is permitted.
    type Granted = (bool, String, String);

    fn granted(role: &Value) -> Vec<Granted> {
        let texts = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let mut found = Vec::new();
        for rule in role["rules"].as_array().unwrap() {
            let named: Vec<String> = texts(&rule["resourceNames"]).iter().map(|name| format!(" {name}")).collect();
            let objects = if named.is_empty() { vec![String::new()] } else { named };
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        let deed = |object: &String| format!("{verb} {resource}{object}");
                        found.extend(objects.iter().map(|it| (role["kind"] == "Role", group.clone(), deed(it))));
                    }
                }
            }
        }
        found
    }

    #[test]
    fn the_deeds_are_what_the_shipped_roles_permit() {
        let files = manifests(&Path::new(env!("CARGO_MANIFEST_DIR")).join("install"));
        assert!(!files.is_empty());
        let done: BTreeSet<Granted> = DEEDS
            .iter()
            .map(|deed| (deed.place != Place::Everywhere, deed.resource.group().to_owned(), deed.to_string()))
            .collect();
        assert_eq!(done.len(), DEEDS.len());
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            let roles = objects.iter().filter(|object| object["rules"].is_array());
            let permitted: BTreeSet<Granted> = roles.flat_map(granted).collect();
            assert_eq!(done, permitted, "what podeip does, and what {} permits", file.display());
        }
    }
}
