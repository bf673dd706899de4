//! The parts of an installation on a node.

pub mod addon_token;
pub mod conf_dir;
pub mod kept;
pub mod kubeconfig;
pub mod mounted;
mod secret_file;
pub mod settings;

/// The list that Terway writes at each start from the key of this name in the ConfigMap eni-config.
pub const TERWAY_CONFLIST: &str = "10-terway.conflist";
