//! What `podeip install`, `podeip agent --keep-installed` and `podeip uninstall` can be told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What the files of the installation are made from. All other paths are the installation's own: what no
/// option names is at its default place, whatever a stanza that is there already says.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Installation")]
pub struct InstallOptions {
    /// A JSON object to render the settings from; may be given more than once. A value in a later file
    /// wins, and a file that is missing is passed over. Without it the settings stay as they are
    #[arg(long = "settings-from", value_name = "FILE")]
    pub settings_from: Vec<PathBuf>,
    /// The mounted Secret's encrypted add-on token, to be mirrored beside the settings
    #[arg(long, value_name = "FILE")]
    pub addon_token_from: Option<PathBuf>,
    /// Where in the runtime's network configuration the stanza is to be
    #[arg(long, value_enum, value_name = "PLACE", default_value_t)]
    pub stanza_in: StanzaIn,
    #[command(flatten)]
    pub node: NodeOptions,
}

/// Where the stanza is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StanzaIn {
    /// drop-in where the API server says that this node's runtime reads it (containerd 2.1 and newer), else
    /// list; list for Terway's own list, which has the stanza from its ConfigMap
    #[default]
    Auto,
    /// In the primary plugin's own list, behind its chain
    List,
    /// In a file of its own, podeip.conf in the folder of the network's name, which the runtime must read (so
    /// does CRI-O 1.33, but not when a pod ends); list where none does: beside a lone .conf, or with
    /// loadOnlyInlinedPlugins
    DropIn,
}

/// What every command needs that works on an installation.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Installation")]
pub struct NodeOptions {
    /// The mounted service account, "token" and "ca.crt", to make the kubeconfig from
    #[arg(long, value_name = "DIR", default_value = "/var/run/secrets/kubernetes.io/serviceaccount")]
    pub service_account: PathBuf,
    /// The API server for the kubeconfig [default: the cluster's, as a container of it knows]
    #[arg(long, value_name = "URL")]
    pub api_server: Option<String>,
    /// Where the runtime looks for plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,
}
