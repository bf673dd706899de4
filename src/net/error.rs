//! Why the kernel could not say what an interface or a namespace is like.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// A failed question about the node's network. An I/O cause is the `source`.
#[derive(Debug, Error)]
pub enum NetError {
    /// The sandbox has ended: no network namespace is at the path, at most a file left behind.
    #[error("there is no network namespace at {path} any more")]
    NetnsGone { path: PathBuf },

    /// The namespace is there and cannot be entered.
    #[error("cannot enter the network namespace {path}: podeip must run as root in the host's namespaces")]
    Netns { path: PathBuf, source: io::Error },

    /// The namespace is there, the interface is not.
    #[error("there is no interface {ifname} in the network namespace {netns}")]
    NoInterface { netns: PathBuf, ifname: String },

    /// The kernel refused a question, or no socket or thread could be had to ask it.
    #[error("cannot {operation}")]
    Refused { operation: &'static str, source: io::Error },

    /// Something changed the tables all the time while they were read.
    #[error("cannot {operation}: they changed during each of {attempts} readings")]
    Unsteady { operation: &'static str, attempts: u32 },

    #[error("cannot {operation}: the kernel did not answer within {waited:?}")]
    TimedOut { operation: &'static str, waited: Duration },
}
