//! `podeip completion` and `podeip man`: the command line as shells and `man` want to have it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::print::print;
use crate::cni::stanza::Stanza;

/// Programs for the system's administrator.
const SECTION: &str = "8";

const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "The command did what it was asked to do."),
    (
        "1",
        "It did not, or not all of it, or a check of doctor failed; stderr says why. As a CNI plugin: stdout has the \
         error, as JSON.",
    ),
    ("2", "The command line could not be understood."),
];

const ENVIRONMENT: [(&str, &str); 10] = [
    (
        "CNI_COMMAND",
        "Set by a container runtime: podeip is a CNI plugin then, reads its configuration from stdin and no arguments.",
    ),
    ("NODE_NAME", "The node's name in the cluster; the host's name if unset."),
    ("POD_NAMESPACE", "The namespace of the Lease podeip-sweeper; kube-system if unset."),
    ("VPC_ENDPOINT", "Where the VPC service is, if eni_conf does not say."),
    ("ECS_ENDPOINT", "Where the ECS service is, if eni_conf does not say."),
    ("ALIBABA_CLOUD_ROLE_ARN", "RRSA: the RAM role, instead of the one that eni_conf names."),
    ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "RRSA: the identity provider of that role."),
    ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "RRSA: the token of the service account."),
    (
        "KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT",
        "install and agent, in a container of the cluster: the API server for the kubeconfig that they write.",
    ),
    ("ALICLOUD_CLIENT_SCHEME", "HTTP: endpoints that follow from the region are called without TLS."),
];

/// Prints the completion script for `shell`.
///
/// # Errors
/// Only of printing.
pub fn completion(mut command: Command, shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    generate(shell, &mut command, name, &mut script);
    print(str::from_utf8(&script)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the page podeip(8), or writes it and a page for each command into `directory`.
///
/// # Errors
/// A directory that cannot be written to.
pub fn man(command: Command, directory: Option<&Path>) -> anyhow::Result<ExitCode> {
    // `podeip help` is what `podeip --help` is.
    let mut command = command.disable_help_subcommand(true).subcommand_help_heading("COMMANDS");
    command = command.subcommand_value_name("COMMAND");
    command.build();
    let Some(directory) = directory else {
        print(str::from_utf8(&page(&command, &command)?)?.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}; name a directory that you may write", directory.display()))?;
    for described in std::iter::once(&command).chain(command.get_subcommands()) {
        let file = directory.join(format!("{}.{SECTION}", name_of(described)));
        fs::write(&file, page(&command, described)?).with_context(|| {
            format!("cannot write {}; its directory must be writable and its file system not full", file.display())
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The page about `described`, which is `whole` or one of its commands. The sections stand in the
/// order that man-pages(7) recommends.
fn page(whole: &Command, described: &Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // Not `render_title`: it leaves out an empty date, and what follows would move up into its place.
    let version = whole.get_version().unwrap_or_default();
    writeln!(text, ".TH {} {SECTION} \"\" \"podeip {version}\"", name_of(described).to_uppercase())?;
    let generated = Man::new(described.clone()).section(SECTION);
    generated.render_name_section(&mut text)?;
    generated.render_synopsis_section(&mut text)?;
    generated.render_description_section(&mut text)?;
    if described.has_subcommands() {
        generated.render_subcommands_section(&mut text)?;
    }
    generated.render_options_section(&mut text)?;
    let mut ours = Roff::new();
    if described.has_subcommands() {
        section(&mut ours, "EXIT STATUS", &EXIT_STATUS.map(|(code, means)| (code.into(), means)));
        section(&mut ours, "ENVIRONMENT", &ENVIRONMENT.map(|(name, means)| (name.into(), means)));
        section(&mut ours, "FILES", &files());
    } else {
        ours.control("SH", ["SEE ALSO"]);
        ours.text([bold(name_of(whole)), roman(format!("({SECTION}) for exit status, environment and files"))]);
    }
    ours.to_writer(&mut text)?;
    Ok(text)
}

/// `podeip`, or `podeip-list`.
fn name_of(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn section(roff: &mut Roff, heading: &str, entries: &[(String, &str)]) {
    roff.control("SH", [heading]);
    for (term, text) in entries {
        roff.control("TP", []);
        roff.text([bold(term)]);
        roff.text([roman(*text)]);
    }
}

fn files() -> [(String, &'static str); 7] {
    let Stanza { config, kubeconfig, state_dir, log_file, .. } = Stanza::default();
    [
        ("/opt/cni/bin/podeip".into(), "The executable, where container runtimes look for CNI plugins."),
        ("/etc/cni/net.d/*.conflist".into(), "The network configuration; its podeip stanza may name other files."),
        (config.display().to_string(), "The settings, as JSON."),
        (kubeconfig.display().to_string(), "How to reach the API server."),
        (state_dir.join("state.json").display().to_string(), "The attachments of this node."),
        (
            state_dir.join("credentials.json").display().to_string(),
            "Temporary credentials for the cloud, until they expire.",
        ),
        (log_file.display().to_string(), "What the plugin did; the commands and the agent log to stderr."),
    ]
}
