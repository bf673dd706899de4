//! What `state.json` holds. Version 1 is the first; bump [`VERSION`] with the field that needs it.
//!
//! Fields this executable does not know are dropped by its next write, and a phase it does not know
//! makes the file count as broken. That is safe only because of the bump: a file of a higher version
//! is neither written nor set aside. So every new field, phase or meaning needs one, with a fixture
//! in `tests/fixtures/state/` and, for the versions before it, a reading that fills what they lack.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{BandwidthPackageId, ClientToken, ContainerId, EipId, EipKind, EniId, PodRef};
use crate::strategy::Strategy;

/// The version this executable writes. A file with a higher one is never overwritten.
pub const VERSION: u32 = 1;

/// How far an attachment has come. Written before the call that makes it true.
///
/// `Intent → Allocated → Binding → Bound → Unbinding → Held | Releasing → (gone)`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// An allocation with this record's token may have been sent.
    Intent,
    /// The EIP exists (or was named by the user) and was not asked to bind.
    Allocated,
    /// Binding may have been asked for.
    Binding,
    /// The cloud said `InUse` on this binding.
    Bound,
    /// Unbinding may have been asked for; the binding may still stand.
    Unbinding,
    /// Unbound, and kept for the next sandbox of the same pod.
    Held,
    /// Release may have been asked for.
    Releasing,
}

impl Phase {
    pub const ALL: [Phase; 7] = [
        Phase::Intent,
        Phase::Allocated,
        Phase::Binding,
        Phase::Bound,
        Phase::Unbinding,
        Phase::Held,
        Phase::Releasing,
    ];
}

/// An EIP of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedEip {
    pub id: EipId,
    pub address: Option<Ipv4Addr>,
    #[serde(rename = "type")]
    pub kind: EipKind,
}

/// Where an EIP is, or may be, bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    pub eni: EniId,
    pub private_ip: Ipv4Addr,
    /// Whether `private_ip` is the ENI's primary one: the cloud then reports the binding without an address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub primary: bool,
}

/// One sandbox interface and its EIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    pub container_id: ContainerId,
    pub ifname: String,
    /// The netns path of ADD; it may be gone by now.
    pub netns: String,
    pub pod: PodRef,
    pub phase: Phase,
    /// Token of the allocation in `allocation`; a function of cluster, pod UID, interface and `generation`.
    pub client_token: ClientToken,
    /// Counts answered refusals of the allocation: the next try uses a new token.
    #[serde(default)]
    pub generation: u32,
    /// The allocation's parameters as they were sent with `client_token`; opaque here. A repeat sends the same ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eip: Option<AttachedEip>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    #[serde(default)]
    pub strategy: Strategy,
    /// The package the EIP joined, or may have joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_package: Option<BandwidthPackageId>,
    /// Whether PodEIP and pod carry this EIP. False with `Bound` means ADD did not finish.
    #[serde(default)]
    pub published: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Attachment {
    /// Whether this is the attachment of that sandbox interface (the runtime's key).
    pub fn is(&self, container_id: &ContainerId, ifname: &str) -> bool {
        self.container_id == *container_id && self.ifname == ifname
    }
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFile {
    pub version: u32,
    #[serde(default)]
    pub attachments: Vec<Attachment>,
}
