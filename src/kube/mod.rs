//! Kubernetes: the pod, its PodEIP and its events.
//!
//! A small synchronous client over [`crate::http`]: one kubeconfig, one keep-alive connection
//! pool, a handful of verbs. Every call may be repeated safely, because creations are named,
//! patches are fenced by UID or resourceVersion, and deletions by both. So every call is
//! repeated until the deadline when the API server did not answer or said that it could not.

mod access;
mod claims;
mod client;
mod clock;
mod error;
mod event;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod kubeconfig;
mod lease;
mod node;
mod pace;
mod pod;
mod podeip;
mod podeip_calls;
mod request;
#[cfg(test)]
mod scripted;
mod service_account;
#[cfg(test)]
mod tests;
mod token;
mod wire;

pub use claims::{TokenLife, token_life_in};
pub use client::Kube;
pub use error::{KubeError, Refusal};
pub use event::{Event, ObjectRef, RecordedEvent};
pub use kubeconfig::KubeconfigError;
pub use lease::{Holding, Lease};
pub use pod::{Owner, Pod, PodCondition};
pub use podeip::{
    CONDITION_ANNOTATION, FINALIZER, NODE_ANNOTATION, NewPodEip, POD_UID_ANNOTATION, PodEip, PodEipSpec, PodEipStatus,
};
pub use request::{Operation, Resource, Verb};
pub use service_account::TokenError;
pub use token::word as token_in;
