//! `podeip install`: the parts of an installation on a node, put right in an order that keeps pods safe.

pub mod addon_token;
mod alarm;
pub mod conf_dir;
mod contention;
pub mod executable;
pub mod keeper;
pub mod kept;
pub mod kubeconfig;
mod likeness;
pub mod mounted;
pub mod options;
pub mod runtime;
mod secret_file;
pub mod settings;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use addon_token::MirroredToken;
use anyhow::ensure;
use conf_dir::ConfDir;
use executable::CopiedExecutable;
use kept::{Kept, Repair};
use kubeconfig::{RenderedKubeconfig, server_in_cluster};
use options::{InstallOptions, NodeOptions, StanzaIn};
use settings::RenderedSettings;

use super::cli::PathOptions;
use super::paths;
use super::print::{print, say};
use crate::durable;
use crate::eip::node::Paths;
use crate::kube::Kube;
use crate::settings::Settings;
use crate::state::Store;

/// The list that Terway writes at each start from the key of this name in the ConfigMap eni-config.
pub const TERWAY_CONFLIST: &str = "10-terway.conflist";

/// The part that follows the agent's token.
pub const KUBECONFIG: &str = "kubeconfig";

const THIS: &str = env!("CARGO_PKG_VERSION");

const TOKEN_MIRROR: &str = "token-config";

/// One part under its name.
struct Part {
    name: &'static str,
    kept: Box<dyn Kept>,
}

/// How a look at one part ended.
#[derive(Debug)]
pub struct Look {
    pub part: &'static str,
    pub outcome: anyhow::Result<Repair>,
}

/// All parts of the installation on this node.
pub struct Installation {
    /// In this order: no pod may meet a stanza without the executable and the files that it names.
    files: Vec<Part>,
    stanza: Part,
    paths: Paths,
    executable: PathBuf,
}

impl Installation {
    /// What is to be kept on this node; nothing is looked at yet.
    ///
    /// # Errors
    /// In a container that does not know its API server.
    pub fn new(options: &InstallOptions, path_options: &PathOptions) -> anyhow::Result<Self> {
        let paths = paths::of_installation(path_options);
        let mirror = options.addon_token_from.as_ref().map(|_| token_mirror(&paths));
        let mut files = Vec::new();
        let mut add = |name, kept: Box<dyn Kept>| files.push(Part { name, kept });
        if !options.settings_from.is_empty() {
            let sources = options.settings_from.clone();
            let target = paths.settings.clone();
            add("settings", Box::new(RenderedSettings { sources, addon_token: mirror.clone(), target }));
        }
        if let Some((source, target)) = options.addon_token_from.clone().zip(mirror) {
            add("addon-token", Box::new(MirroredToken { source, target }));
        }
        if let Some(kubeconfig) = kubeconfig_part(&options.node, &paths)? {
            add(KUBECONFIG, Box::new(kubeconfig));
        }
        add("executable", Box::new(CopiedExecutable::in_directory(&options.node.bin_dir)));
        let conf_dir = ConfDir::new(&path_options.conf_dir, &paths, options.stanza_in);
        let stanza = Part { name: "stanza", kept: Box::new(conf_dir) };
        Ok(Self { files, stanza, paths, executable: executable::in_directory(&options.node.bin_dir) })
    }

    /// Looks at every part and puts right what can be, the stanza last and only if the plugin could work.
    pub fn put_right(&self) -> Vec<Look> {
        let look = |part: &Part| Look { part: part.name, outcome: part.kept.put_right() };
        let mut looks: Vec<Look> = self.files.iter().map(look).collect();
        let stanza = match self.is_ready() {
            Ok(()) => look(&self.stanza),
            Err(lack) => Look { part: self.stanza.name, outcome: without_stanza(lack, &looks) },
        };
        looks.push(stanza);
        looks
    }

    /// Directories in which a change is worth a look.
    pub fn watched(&self) -> BTreeSet<PathBuf> {
        self.files.iter().chain([&self.stanza]).flat_map(|part| part.kept.watched()).collect()
    }

    /// Removes what installers left that were killed. In the runtime's configuration its own part does it.
    pub fn sweep_leftovers(&self) {
        let files = [&self.paths.settings, &self.paths.kubeconfig, &self.executable];
        let directories: BTreeSet<&Path> = files.into_iter().filter_map(|file| file.parent()).collect();
        directories.iter().for_each(|directory| durable::sweep_leftovers(directory));
    }

    /// Whether the plugin could serve a pod, from whatever it was made.
    ///
    /// # Errors
    /// What is missing.
    fn is_ready(&self) -> anyhow::Result<()> {
        Settings::read(&self.paths.settings, |_| None)?;
        Kube::from_kubeconfig(&self.paths.kubeconfig)?;
        let executable = self.executable.display();
        ensure!(
            executable::is_runnable(&self.executable),
            "{executable} is no executable; see what is said of the part \"executable\""
        );
        Ok(())
    }
}

/// What keeps the stanza out is no fault while a part only waits for what it is made from.
fn without_stanza(lack: anyhow::Error, files: &[Look]) -> anyhow::Result<Repair> {
    let lack = lack.context("the runtime's configuration is not touched, because the plugin could not work");
    let failed = files.iter().any(|look| look.outcome.is_err());
    let waits = files.iter().any(|look| matches!(look.outcome, Ok(Repair::Waiting(_))));
    if waits && !failed { Ok(Repair::Waiting(format!("{lack:#}"))) } else { Err(lack) }
}

/// The kubeconfig is left to whoever made it where there is no service account to make it from.
pub fn kubeconfig_part(options: &NodeOptions, paths: &Paths) -> anyhow::Result<Option<RenderedKubeconfig>> {
    let server = match &options.api_server {
        Some(server) => server.clone(),
        None if options.service_account.is_dir() => server_in_cluster(|name| std::env::var(name).ok())?,
        None => return Ok(None),
    };
    let (service_account, target) = (options.service_account.clone(), paths.kubeconfig.clone());
    Ok(Some(RenderedKubeconfig { server, service_account, target }))
}

/// The mirror of the add-on token stands beside the settings, which name it.
pub fn token_mirror(paths: &Paths) -> PathBuf {
    paths.settings.with_file_name(TOKEN_MIRROR)
}

/// Puts everything right once and says what was done. Exit code 0 when the stanza stands, or will as soon
/// as what is awaited is there: the agent goes on from here. Parts that failed while an older one serves
/// are no reason to keep the agent from starting, which refreshes the kubeconfig.
///
/// # Errors
/// As [`Installation::new`].
pub fn run(options: &InstallOptions, path_options: &PathOptions) -> anyhow::Result<ExitCode> {
    let installation = Installation::new(options, path_options)?;
    warn_of_other_keeper(&installation.paths);
    installation.sweep_leftovers();
    let looks = installation.put_right();
    for Look { part, outcome } in &looks {
        match outcome {
            Ok(Repair::Sound) => {}
            Ok(Repair::Done(what)) => print(&format!("{part}: {what}"))?,
            Ok(Repair::Waiting(what)) => say(format_args!("podeip: {part} waits: {what}")),
            Err(error) => say(format_args!("podeip: {part} failed: {error:#}")),
        }
    }
    if looks.iter().all(|look| matches!(look.outcome, Ok(Repair::Sound))) {
        say("everything is as it should be");
    }
    let stands_or_will = looks.last().is_some_and(|stanza| stanza.outcome.is_ok());
    Ok(if stands_or_will { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An agent that keeps the installation keeps its own version of it.
fn warn_of_other_keeper(paths: &Paths) {
    let agent = Store::open(&paths.state_directory).ok().and_then(|store| store.living_agent());
    if let Some(agent) = agent.filter(|agent| agent.keeps_installation && agent.version != THIS) {
        say(format_args!(
            "podeip: the agent of this node is version {} and keeps the installation: it puts its own executable back in \
             place of this one ({THIS}). Update the DaemonSet to {THIS}, or end the agent, to stay with this version",
            agent.version
        ));
    }
}

/// Prints what belongs into the ConfigMap on a Terway cluster: Terway's list of this node with the stanza.
///
/// # Errors
/// A node without that list, and one that cannot carry the stanza.
pub fn print_terway_conflist(path_options: &PathOptions) -> anyhow::Result<ExitCode> {
    let paths = paths::of_installation(path_options);
    print(ConfDir::new(&path_options.conf_dir, &paths, StanzaIn::List).terway_value()?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
