//! The command line: what can be asked, and with which options.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::install::{self, options::InstallOptions};
use super::migrate::{self, MigrateOptions};
use super::named::Named;
use super::print::say;
use super::uninstall::{self, UninstallOptions};
use super::{agent, doctor, gc, list, manual, release, show};
use crate::logging;

/// Gives a Kubernetes pod its own Alibaba Cloud elastic IP while its network is set up.
///
/// A container runtime runs this executable as a chained CNI plugin (CNI_COMMAND is set); these
/// commands are for operators of the node.
#[derive(Parser)]
#[command(name = "podeip", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the EIP attachments of this node
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        #[command(flatten)]
        options: PathOptions,
    },
    /// Show what record, PodEIP, pod and cloud say of one pod's EIP, and where they disagree
    Show {
        /// The pod: NAMESPACE/NAME, or NAME alone; or its EIP's id or address, its private IP, or the
        /// beginning of its sandbox's container id
        #[arg(value_name = "POD")]
        named: Named,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: ShowOutput,
        #[command(flatten)]
        options: PathOptions,
    },
    /// Check this node, its cluster and its cloud, and say what helps
    ///
    /// Exit code 1 when a check failed.
    Doctor {
        /// The checks to run, with those that they need [default: all]
        #[arg(value_name = "CHECK", value_parser = PossibleValuesParser::new(check_names()))]
        checks: Vec<String>,
        /// How to print what was found
        #[arg(short, long, value_enum, default_value_t)]
        output: DoctorOutput,
        /// Where the runtime looks for plugins
        #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
        #[command(flatten)]
        options: PathOptions,
    },
    /// Finish what was interrupted on this node and drop what belongs to pods that are gone
    Gc {
        /// Report what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        options: PathOptions,
    },
    /// Release the EIP that is held or kept for a pod that does not use it
    ///
    /// Its PodEIP goes too, whatever its strategy. An EIP that the pod named is only unbound. Nothing that
    /// is known of the pod is success.
    Release {
        /// The pod, as `podeip show` takes it
        #[arg(value_name = "POD")]
        named: Named,
        /// Ask nothing; needed where nobody can be asked
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        options: PathOptions,
    },
    /// Take over the EIPs of this node's pods from the system that podeip replaces, or hand them back
    ///
    /// No EIP is bound or unbound. Run it on each node; what was done is not done again. Exit code 1 when
    /// something was refused or failed.
    Migrate(MigrateOptions),
    /// Look after this node's EIPs, and after the cluster's while holding the Lease podeip-sweeper
    ///
    /// NODE_NAME is the node's name in the cluster (the host's name if unset), POD_NAMESPACE the
    /// namespace of the Lease (kube-system if unset).
    Agent(agent::AgentOptions),
    /// Put the executable, its files and its stanza in place on this node, once
    ///
    /// The stanza comes last and goes into the configuration that the runtime uses, after the primary
    /// plugin; nothing else in it changes. What is right already is not written. `podeip agent
    /// --keep-installed` with the same options keeps it so. Paths that no option names are the defaults
    /// of the stanza, whatever a stanza that is there says.
    ///
    /// Exit code 0 when the stanza stands, or will as soon as what is awaited (a primary plugin's
    /// configuration, for one) is there.
    Install {
        /// Print Terway's configuration with the stanza in it, for the key 10-terway.conflist of the
        /// ConfigMap eni-config in kube-system, and do nothing else
        #[arg(long)]
        print_terway_conflist: bool,
        #[command(flatten)]
        paths: PathOptions,
        #[command(flatten)]
        options: InstallOptions,
    },
    /// Take podeip off this node: its stanza first, then its files, the executable last
    Uninstall(UninstallOptions),
    /// Print a script that completes commands and options in a shell
    ///
    /// For the shell that runs now: source <(podeip completion bash)
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page podeip(8)
    ///
    /// To read it: podeip man | man -l -
    Man {
        /// Write it and a page for each command to this directory instead
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

fn check_names() -> impl Iterator<Item = PossibleValue> {
    doctor::names().map(|(name, looks_at)| PossibleValue::new(name).help(looks_at))
}

/// How `podeip doctor` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DoctorOutput {
    /// A line for each check, and the remedies below
    #[default]
    Table,
    /// The checks as a JSON array
    Json,
}

/// How `podeip list` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// The columns most people want
    #[default]
    Table,
    /// All columns
    Wide,
    /// The attachments as a JSON array
    Json,
}

/// How `podeip show` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ShowOutput {
    /// Side by side, with the differences in words
    #[default]
    Table,
    /// One JSON object
    Json,
}

/// Where this node's files are. Without an option the conflist says, and without a conflist the
/// installation's defaults hold.
#[derive(Args, Clone, Debug)]
pub struct PathOptions {
    /// The runtime's network configuration, where the paths of the options below are looked up in
    /// the podeip stanza
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
    /// The settings, eni_conf [default: "config" of the stanza, else /etc/podeip/eni_conf]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to reach the API server [default: "kubeconfig" of the stanza, else /etc/podeip/kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where attachments are recorded [default: "stateDir" of the stanza, else /var/lib/cni/podeip]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Runs the command of this process's arguments. A command that failed has said so on stderr.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    logging::init_stderr(log::LevelFilter::Warn);
    let outcome = match cli.command {
        Command::List { output, options } => list::run(output, &options),
        Command::Show { named, output, options } => show::run(&named, output, &options),
        Command::Doctor { checks, output, bin_dir, options } => doctor::run(&checks, output, &bin_dir, &options),
        Command::Gc { dry_run, options } => gc::run(dry_run, &options),
        Command::Release { named, yes, options } => release::run(&named, yes, &options),
        Command::Migrate(options) => migrate::run(&options),
        Command::Agent(options) => agent::run(&options),
        Command::Install { print_terway_conflist: true, paths, .. } => install::print_terway_conflist(&paths),
        Command::Install { options, paths, .. } => install::run(&options, &paths),
        Command::Uninstall(options) => uninstall::run(&options),
        Command::Completion { shell } => manual::completion(Cli::command(), shell),
        Command::Man { output } => manual::man(Cli::command(), output.as_deref()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("podeip: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
