//! `podeip install`, the agent that keeps what it made, and `podeip uninstall`, in directories of a scratch node.

mod files;
mod keeping;
mod killed;
pub mod site;
mod uninstalling;
