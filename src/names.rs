//! The identifiers every module speaks in: cloud ids, pods, bandwidth. Types over strings.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// An elastic IP's instance id, `eip-…` (the API's `AllocationId`).
    EipId
);
identifier!(
    /// An elastic network interface's id, `eni-…`.
    EniId
);
identifier!(
    /// An Internet Shared Bandwidth instance's id, `cbwp-…`.
    BandwidthPackageId
);
identifier!(
    /// A pod's UID as the runtime knows it. For a static pod this is the manifest's hash,
    /// not the UID of the mirror object in the API server.
    PodUid
);
identifier!(
    /// A container runtime's id of one sandbox (`CNI_CONTAINERID`).
    ContainerId
);
identifier!(
    /// Idempotency token of one cloud operation: ASCII, at most 64 characters.
    ClientToken
);

impl ClientToken {
    /// A token nobody used before, for operations that need no memory of it.
    pub fn random() -> Self {
        Self::new(uuid::Uuid::new_v4().to_string())
    }
}

/// A bandwidth in whole Mbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mbps(pub u32);

impl fmt::Display for Mbps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One pod instance: the name that people use and the UID that tells two pods of that name apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: PodUid,
}

impl PodRef {
    /// Whether both are instances of the same name, whatever their UIDs.
    pub fn same_name(&self, other: &PodRef) -> bool {
        self.namespace == other.namespace && self.name == other.name
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where an EIP came from: `Auto` was allocated by us and may be released by us,
/// `Static` was named by the user and is never released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EipKind {
    Auto,
    Static,
}

impl fmt::Display for EipKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EipKind::Auto => "Auto",
            EipKind::Static => "Static",
        })
    }
}
