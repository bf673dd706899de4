//! How an operator names a pod: by its name, its EIP, an address or its sandbox; and which attachments of
//! this node that means.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::eip::views::NamespacedName;
use crate::names::EipId;
use crate::state::format::Attachment;

/// The namespace of a pod that is named without one, as `kubectl` has it.
const DEFAULT_NAMESPACE: &str = "default";

/// Shorter beginnings of a container id are too often also something else.
const SHORTEST_CONTAINER_ID: usize = 4;

/// The argument of a command about one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// `namespace/name`.
    Pod(NamespacedName),
    /// The EIP's public address or the pod's private IP.
    Address(Ipv4Addr),
    /// In this order: an EIP's id, a pod's name, a container id or its beginning.
    Word(String),
}

/// What to ask cluster and cloud for when the node has no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    Pod(NamespacedName),
    Eip(EipId),
    Address(Ipv4Addr),
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let first = name.chars().next();
            first.is_some_and(|c| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
        };
        if let Ok(address) = text.parse() {
            return Ok(Named::Address(address));
        }
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Named::Pod(NamespacedName { namespace: namespace.into(), name: name.into() }))
            }
            None if is_name(text) => Ok(Named::Word(text.into())),
            _ => Err("neither NAMESPACE/NAME nor the name of a pod, an EIP, an IPv4 address or a container".into()),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::Pod(pod) => pod.fmt(f),
            Named::Address(address) => address.fmt(f),
            Named::Word(word) => word.fmt(f),
        }
    }
}

impl Named {
    /// The attachments that are meant. More than one is for a person to choose from.
    pub fn among<'a>(&self, records: &'a [Attachment]) -> Vec<&'a Attachment> {
        let all = |meant: &dyn Fn(&Attachment) -> bool| records.iter().filter(|record| meant(record)).collect();
        match self {
            Named::Pod(pod) => all(&|it| it.pod.namespace == pod.namespace && it.pod.name == pod.name),
            Named::Address(address) => all(&|it| {
                it.eip.as_ref().is_some_and(|eip| eip.address == Some(*address))
                    || it.binding.as_ref().is_some_and(|binding| binding.private_ip == *address)
            }),
            Named::Word(word) => {
                let long_enough = word.len() >= SHORTEST_CONTAINER_ID;
                let readings: [Vec<&Attachment>; 3] = [
                    all(&|it| it.eip.as_ref().is_some_and(|eip| eip.id.as_str() == word)),
                    all(&|it| it.pod.name == *word),
                    all(&|it| long_enough && it.container_id.as_str().starts_with(word.as_str())),
                ];
                readings.into_iter().find(|found| !found.is_empty()).unwrap_or_default()
            }
        }
    }

    /// What it means beyond this node.
    pub fn elsewhere(&self) -> Elsewhere {
        match self {
            Named::Pod(pod) => Elsewhere::Pod(pod.clone()),
            Named::Address(address) => Elsewhere::Address(*address),
            Named::Word(word) if word.starts_with("eip-") => Elsewhere::Eip(EipId::new(word)),
            Named::Word(word) => {
                Elsewhere::Pod(NamespacedName { namespace: DEFAULT_NAMESPACE.into(), name: word.clone() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ContainerId;
    use crate::state::format::StateFile;

    fn named(text: &str) -> Named {
        text.parse().unwrap()
    }

    /// Four attachments; the first, second and fourth have 47.0.0.1, the first two 10.0.0.5.
    fn records() -> Vec<Attachment> {
        let file: StateFile = serde_json::from_str(include_str!("../../tests/fixtures/state/guard.json")).unwrap();
        file.attachments
    }

    fn uids(text: &str, records: &[Attachment]) -> Vec<String> {
        named(text).among(records).iter().map(|record| record.pod.uid.to_string()).collect()
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for text in ["", "/", "a/", "/b", "a/b/c", "a b", "a,b", "-a", "a/-b", "x=y", "::1"] {
            assert!(text.parse::<Named>().is_err(), "{text}");
        }
        assert_eq!(named("10.0.0.5"), Named::Address(Ipv4Addr::new(10, 0, 0, 5)));
        assert_eq!(named("10.0.0.5.example"), Named::Word("10.0.0.5.example".into()));
    }

    #[test]
    fn every_way_to_name_an_attachment() {
        let records = records();
        for (text, expected) in [
            ("default/web-u3", &["u3"][..]),
            ("shop/web-u3", &[]),
            ("web-u3", &["u3"]),
            ("eip-u3", &["u3"]),
            ("10.0.0.7", &["u4"]),
            ("10.0.0.5", &["u1", "u2"]),
            ("held", &["u3"]),
            ("else", &["u4"]),
            ("els", &[]),
            ("47.0.0.2", &[]),
        ] {
            assert_eq!(uids(text, &records), expected, "{text}");
        }
    }

    #[test]
    fn a_pods_name_comes_before_a_container_id() {
        let mut records = records();
        records[0].container_id = ContainerId::new("web-u30123");
        assert_eq!(uids("web-u3", &records), ["u3"]);
        assert_eq!(uids("web-u30", &records), ["u1"]);
        records[1].pod.namespace = "shop".into();
        records[1].pod.name = "web-u3".into();
        assert_eq!(uids("web-u3", &records), ["u2", "u3"], "one of each namespace");
    }

    #[test]
    fn what_it_means_beyond_this_node() {
        let pod = |namespace: &str, name: &str| {
            Elsewhere::Pod(NamespacedName { namespace: namespace.into(), name: name.into() })
        };
        assert_eq!(named("web-0").elsewhere(), pod("default", "web-0"));
        assert_eq!(named("shop/eip-0").elsewhere(), pod("shop", "eip-0"));
        assert_eq!(named("eip-0").elsewhere(), Elsewhere::Eip(EipId::new("eip-0")));
    }
}
