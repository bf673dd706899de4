//! `podeip uninstall`: takes off this node what `podeip install` put there, the stanza first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::cli::PathOptions;
use super::install::conf_dir::ConfDir;
use super::install::kept::Kept;
use super::install::options::{NodeOptions, StanzaIn};
use super::install::{self, TERWAY_CONFLIST, executable, kubeconfig};
use super::paths;
use super::print::{or_dash, print, say};
use super::progress::Progress;
use super::stop;
use crate::deadline::Deadline;
use crate::durable;
use crate::eip::at_once;
use crate::eip::node::{CREDENTIAL_CACHE, Node, Paths};
use crate::eip::retire::{Terms, retire};
use crate::state::Store;
use crate::state::format::Attachment;

mod cached;

/// What the events of pods say that lose their EIP.
const WHY: &str = "podeip was taken off this node";

/// What `podeip uninstall` can be told.
#[derive(Args, Clone, Debug)]
pub struct UninstallOptions {
    /// Unbind the EIPs of this node's pods, and release them as at their pods' end: what a pod named, and
    /// what a lasting PodEIP keeps, stays
    #[arg(long, conflicts_with = "keep")]
    release: bool,
    /// Leave the EIPs of this node's pods bound, and their records where they are
    #[arg(long)]
    keep: bool,
    /// Wait for SIGTERM or SIGINT once it is done, as the container of a DaemonSet has to, which would be
    /// started again and again. A failure ends at once
    #[arg(long)]
    stay: bool,
    /// Where CNI keeps what each pod's network was made with
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cni/results")]
    cache_dir: PathBuf,
    #[command(flatten)]
    paths: PathOptions,
    #[command(flatten)]
    node: NodeOptions,
}

/// Takes everything off, and stays if it is to.
///
/// # Errors
/// As [`take_off`].
pub fn run(options: &UninstallOptions) -> anyhow::Result<ExitCode> {
    // Before the work: the first process of a container does not even hear of a signal that it does not hold back.
    let ends = options.stay.then(stop::hold_back).transpose()?;
    take_off(options)?;
    if let Some(ends) = ends {
        say("podeip is off this node; waiting to be ended");
        ends.wait().context("waiting for SIGTERM")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes everything off that is there; what is not there is no fault. State and log stay.
///
/// # Errors
/// An agent that lives; EIPs that the options do not decide about; what could not be removed or ended.
/// What was done until then is done, and the next run goes on.
fn take_off(options: &UninstallOptions) -> anyhow::Result<()> {
    let paths = paths::of_installation(&options.paths);
    let store = Store::open(&paths.state_directory)?;
    ensure!(
        !store.agent_alive(),
        "a podeip agent runs on this node and would put back what is taken off; end it first (delete the DaemonSet \
         podeip in kube-system)"
    );
    if !(options.release || options.keep) {
        refuse_undecided(&store, "nothing was done")?;
    }
    let conf_dir = ConfDir::new(&options.paths.conf_dir, &paths, StanzaIn::List);
    for what in conf_dir.take_out()? {
        print(&what)?;
    }
    ensure!(
        !conf_dir.conf_names_us()?,
        "a configuration in {} still names podeip; take it out there and run `podeip uninstall` again",
        options.paths.conf_dir.display()
    );
    if options.release {
        release_all(&paths, &store, options)?;
    } else if !options.keep {
        // An ADD that was under way when the stanza went has nobody to end it.
        refuse_undecided(&store, "only the stanza was taken out")?;
    }
    remove_files(&paths)?;
    remove_executable(options)?;
    if options.paths.conf_dir.join(TERWAY_CONFLIST).exists() {
        say(format_args!(
            "podeip: Terway writes {TERWAY_CONFLIST} anew at each start: if that key of the ConfigMap eni-config in \
             kube-system has the podeip stanza, take it out there too"
        ));
    }
    Ok(())
}

/// The refusal that names the pods and both ways on.
fn refuse_undecided(store: &Store, done: &str) -> anyhow::Result<()> {
    if let Some(file) = store.set_aside()?.first() {
        bail!(
            "records of pods may be lost with {}, and {done}; run `podeip gc` to rebuild them and delete that \
             file, or say --keep to leave all EIPs bound",
            file.display()
        );
    }
    let name = |record: &Attachment| format!("{} ({})", record.pod, or_dash(record.eip.as_ref().map(|eip| &eip.id)));
    let names: Vec<String> = store.inspect()?.iter().map(name).collect();
    ensure!(
        names.is_empty(),
        "pods of this node have EIPs, and {done}: {}; say --release to unbind these EIPs and release what no \
         PodEIP keeps, or --keep to leave them bound and recorded",
        names.join(", ")
    );
    Ok(())
}

/// Ends every attachment of the node. An ADD that was under way when the stanza went may add some.
fn release_all(paths: &Paths, store: &Store, options: &UninstallOptions) -> anyhow::Result<()> {
    let mut attachments = store.attachments()?;
    if attachments.is_empty() {
        return Ok(());
    }
    // The token of before went with the agent's pod. Outside of a container there is none to renew it from.
    if is_rendered(&paths.kubeconfig)
        && let Some(kubeconfig) = install::kubeconfig_part(&options.node, paths)?
    {
        kubeconfig.put_right()?;
    }
    let node = Node::open(paths)?;
    while !attachments.is_empty() {
        let progress = Progress::of(attachments.len(), "releasing");
        let end = |record: &Attachment| {
            let ended = retire(&node, record, Terms::AsAtPodsEnd, WHY, Deadline::after(node.recovery_time()));
            progress.step();
            ended
        };
        let outcomes = at_once::each(&attachments, end);
        drop(progress);
        let mut failed = 0;
        for (record, outcome) in attachments.iter().zip(outcomes) {
            match outcome {
                Ok(ending) => print(&format!("pod {}: {ending}", record.pod))?,
                Err(failure) => {
                    failed += 1;
                    say(format_args!(
                        "podeip: pod {} is not ended (EIP {}): {failure}",
                        record.pod,
                        or_dash(record.eip.as_ref().map(|eip| &eip.id))
                    ));
                }
            }
        }
        ensure!(
            failed == 0,
            "{failed} attachments are not ended; their records, the settings and the kubeconfig stay: run `podeip \
             uninstall --release` again (with --kubeconfig FILE where the token is not valid any more)"
        );
        attachments = store.attachments()?;
    }
    Ok(())
}

/// The files that runtimes do not look at.
fn remove_files(paths: &Paths) -> anyhow::Result<()> {
    remove(&paths.settings)?;
    remove(&install::token_mirror(paths))?;
    if is_rendered(&paths.kubeconfig) {
        remove(&paths.kubeconfig)?;
    } else {
        say(format_args!("podeip: {} stays, for it was not made by podeip", paths.kubeconfig.display()));
    }
    remove(&paths.state_directory.join(CREDENTIAL_CACHE))?;
    for file in [&paths.settings, &paths.kubeconfig] {
        if let Some(directory) = file.parent() {
            durable::sweep_leftovers(directory);
            // One that is not empty, or a container's mount, stays.
            let _ = fs::remove_dir(directory);
        }
    }
    Ok(())
}

/// Whether there is no kubeconfig but a rendered one. Another is an administrator's, given for this run.
fn is_rendered(path: &Path) -> bool {
    fs::read(path).map_or(true, |text| kubeconfig::is_rendering(&text))
}

/// The executable goes when nobody will run it any more: CRI-O and podman end a pod with the list that it
/// was made with, and a plugin of that which is missing would keep the pod from ending.
fn remove_executable(options: &UninstallOptions) -> anyhow::Result<()> {
    let executable = executable::in_directory(&options.node.bin_dir);
    let pods = cached::networks_with_us(&options.cache_dir);
    if pods > 0 && executable.exists() {
        say(format_args!(
            "podeip: {} stays, because {pods} networks of pods were made with podeip in their list ({}) and some \
             runtimes run it at their end; delete it, or run `podeip uninstall` again, when those pods are gone",
            executable.display(),
            options.cache_dir.display()
        ));
        return Ok(());
    }
    durable::sweep_leftovers(&options.node.bin_dir);
    remove(&executable)
}

/// Removes a file of ours, if it is there.
fn remove(path: &Path) -> anyhow::Result<()> {
    match durable::remove(path) {
        Ok(()) => print(&format!("{} removed", path.display())),
        Err(missing) if matches!(missing.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Err(error) => {
            Err(error).with_context(|| format!("cannot remove {}; its directory must be writable", path.display()))
        }
    }
}
