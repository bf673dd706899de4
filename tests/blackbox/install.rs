//! `podeip install`, the agent that keeps what it made, and `podeip uninstall`, in directories of a scratch node.

mod dropped_in;
mod files;
mod keeping;
mod killed;
mod runtime;
pub mod site;
mod uninstalling;
