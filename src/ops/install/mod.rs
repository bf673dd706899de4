//! The parts of an installation on a node.

pub mod addon_token;
pub mod kept;
pub mod kubeconfig;
pub mod mounted;
mod secret_file;
pub mod settings;
