//! Checks of this node's own files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::check::{Finding, Verdict};
use super::subject::Subject;
use crate::cni::conflist;
use crate::cni::stanza::POD_ANNOTATIONS;
use crate::eip::compare::phase_text;
use crate::eip::failure::{Failure, chain};
use crate::ops::cilium;
use crate::ops::install::conf_dir;
use crate::ops::install::runtime::DropIns;
use crate::ops::paths::{Loaded, Ours};
use crate::ops::print::{age, or_dash};
use crate::state::format::{Attachment, Phase};

/// A verb takes a minute at most, and the agent mends what it left within some rounds.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_mins(10);

pub fn settings(subject: &Subject) -> Finding {
    let settings = match &subject.settings {
        Ok(settings) => settings,
        Err(error) => return Finding::fail(chain(error), "correct the ConfigMap eni-config in kube-system"),
    };
    match (&settings.access_key, others_may_read(&settings.path)) {
        (Some(_), Some(open)) => open,
        _ => Finding::pass(settings.path.display().to_string()),
    }
}

/// A warning, if the file is there and not its owner's alone.
pub fn others_may_read(file: &Path) -> Option<Finding> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then(|| {
        Finding::warn(
            format!("others may use {} (mode {mode:04o})", file.display()),
            format!("run `chmod 0600 {}`", file.display()),
        )
    })
}

pub fn feature_switch(subject: &Subject) -> Finding {
    let settings = match &subject.settings {
        Ok(settings) => settings,
        Err(error) => return Finding::skip(chain(error)),
    };
    if !settings.enabled {
        return Finding::fail(
            "enable_eip_pool is off, so that no pod gets an EIP",
            "set \"enable_eip_pool\" to \"true\" in the ConfigMap eni-config of kube-system",
        );
    }
    match settings.required_cluster_id() {
        Ok(_) => Finding::pass("enable_eip_pool is on"),
        Err(error) => Finding::fail(chain(&error), "set \"cluster_id\" to the cluster's id in the same ConfigMap"),
    }
}

pub fn conflist(subject: &Subject) -> Finding {
    let loaded = match &subject.loaded {
        Ok(Some(loaded)) => loaded,
        Ok(None) if !subject.set_aside.is_empty() => {
            return Finding::fail(
                format!("{}, and nothing is left to load", renamed(&subject.set_aside)),
                cilium::REMEDY,
            );
        }
        Ok(None) => {
            return Finding::fail(
                "the directory has no network configuration that a runtime could load",
                "see that the primary plugin writes its configuration, then put the podeip stanza into it",
            );
        }
        Err(error) => return Finding::fail(format!("{error:#}"), "name the runtime's directory with --conf-dir"),
    };
    let lone = cilium::owns(&loaded.file) && !subject.set_aside.is_empty();
    match &loaded.ours {
        Some(ours) => match chained(ours, loaded, subject) {
            sound if lone && sound.verdict == Verdict::Pass => Finding::warn(
                format!("{}; {} and undoes what is put into its own list", sound.reason, renamed(&subject.set_aside)),
                cilium::REMEDY,
            ),
            finding => finding,
        },
        None if lone => Finding::fail(
            format!("{} has no podeip stanza; {}", loaded.file.display(), renamed(&subject.set_aside)),
            cilium::REMEDY,
        ),
        None => Finding::fail(
            format!("{}, which the runtime loads first, has no podeip stanza", loaded.file.display()),
            "put the podeip stanza into that file, after the primary plugin; cni-conf/ has examples",
        ),
    }
}

fn renamed(files: &[PathBuf]) -> String {
    format!("Cilium has set other configurations aside ({})", cilium::named(files))
}

fn chained(ours: &Ours, loaded: &Loaded, subject: &Subject) -> Finding {
    if ours.place == 0 {
        return Finding::fail(
            format!("in {} the podeip stanza stands before every other plugin", loaded.file.display()),
            "move the podeip stanza behind the primary plugin, which gives the pod its address",
        );
    }
    if let Some(outdated) = conf_dir::outdated(&loaded.file) {
        return Finding::fail(
            format!("{outdated}, so that pods are set up by a primary plugin of before"),
            "run `podeip install`, and see that the agent runs, which has the list follow",
        );
    }
    let oddity = fs::read_to_string(&loaded.file).map(|text| conflist::oddity(&text)).unwrap_or(Ok(None));
    if let Err(unfit) = oddity {
        return Finding::fail(
            format!("{} cannot carry the podeip stanza: {unfit}", loaded.file.display()),
            "have the primary plugin write a list of CNI 0.3.0 to 1.1.0, or take the podeip stanza out",
        );
    }
    if !ours.faults.is_empty() {
        return Finding::fail(
            format!("the podeip stanza in {}: {}", ours.file.display(), ours.faults.join("; ")),
            "correct these keys of the stanza, or remove them to use the defaults",
        );
    }
    if !loaded.skipped.is_empty() {
        return Finding::fail(
            loaded.skipped.join("; "),
            "remove or correct these files: containerd loads nothing at all beside one that it cannot read, and CRI-O the \
             next one",
        );
    }
    if !ours.unknown_keys.is_empty() {
        return Finding::warn(
            format!(
                "the podeip stanza in {} has keys that are unknown and ignored: {}",
                ours.file.display(),
                ours.unknown_keys.join(", ")
            ),
            "correct their spelling (config, kubeconfig, stateDir, logFile, logLevel) or remove them",
        );
    }
    if !ours.wants_annotations {
        return Finding::warn(
            format!(
                "the podeip stanza in {} does not have the runtime pass annotations, so that the API server is asked \
                 for every pod",
                ours.file.display()
            ),
            format!("put \"capabilities\": {{\"{POD_ANNOTATIONS}\": true}} into the stanza"),
        );
    }
    if let Ok(Some(oddity)) = oddity {
        return Finding::warn(
            format!("in {} {oddity}", loaded.file.display()),
            "run `podeip install`, which puts one stanza behind them, or do so by hand",
        );
    }
    if let Some(again) = &ours.again_in {
        return Finding::warn(
            format!("the podeip stanza is in {} and in {}", ours.file.display(), again.display()),
            "it does no harm; `podeip install` leaves one, when the API server tells it whether this node's runtime \
             reads the second, or when --stanza-in says where it is to be",
        );
    }
    if ours.file != loaded.file {
        return dropped_in(ours, loaded, subject);
    }
    Finding::pass(format!("plugin {} of {}", ours.place + 1, loaded.file.display()))
}

const PUT_INTO_LIST: &str =
    "run `podeip install --stanza-in list`, or take a --stanza-in drop-in out of the DaemonSet's arguments";

/// A stanza that only some runtimes read.
fn dropped_in(ours: &Ours, loaded: &Loaded, subject: &Subject) -> Finding {
    let file = ours.file.display();
    match runtime(subject) {
        Ok(Some(version)) => match DropIns::of(&version) {
            DropIns::Reads => Finding::pass(format!("{file}, which {version} appends to {}", loaded.file.display())),
            DropIns::ReadsForAddOnly => Finding::warn(
                format!("{version} does not read {file} when a pod ends, so that only the agent takes back its EIP"),
                PUT_INTO_LIST,
            ),
            DropIns::Ignores => Finding::fail(
                format!("the podeip stanza is in {file} alone, and {version} is not known to read that"),
                PUT_INTO_LIST,
            ),
        },
        Ok(None) => Finding::warn(
            format!("whether this node's runtime reads {file} is not known: its node does not tell of a runtime"),
            "see that NODE_NAME is the node's name in the cluster",
        ),
        Err(failure) => Finding::warn(
            format!("whether this node's runtime reads {file} is not known: {}", chain(&failure)),
            "see the checks kubeconfig and rbac",
        ),
    }
}

fn runtime(subject: &Subject) -> Result<Option<String>, Failure> {
    Ok(subject.kube()?.runtime_of_node(&subject.identity()?.node, subject.deadline())?)
}

pub fn state_file(subject: &Subject) -> Finding {
    let records = match subject.records() {
        Ok(records) => records,
        Err(failure) => {
            return Finding::fail(
                chain(&failure),
                "see what the reason advises; `podeip agent` and `podeip gc` set a broken file aside and start anew \
                 from PodEIPs and tags",
            );
        }
    };
    let file = subject.paths.state_directory.join("state.json");
    others_may_read(&file).unwrap_or_else(|| Finding::pass(format!("attachments: {}", records.len())))
}

pub fn held_eips(subject: &Subject) -> Finding {
    let records = match subject.records() {
        Ok(records) => records,
        Err(failure) => return Finding::skip(chain(&failure)),
    };
    let waiting: Vec<&Attachment> = records.iter().filter(|record| record.phase != Phase::Bound).collect();
    let named: Vec<String> = waiting.iter().map(|record| in_words(record)).collect();
    let old = |record: &&Attachment| Timestamp::now().duration_since(record.updated_at) > ON_ITS_WAY;
    if waiting.iter().any(old) {
        return Finding::warn(
            named.join(", "),
            "run `podeip gc`, and see that `podeip agent` runs; `podeip show POD` says what is in the way",
        );
    }
    Finding::pass(if named.is_empty() { "every record is Bound".into() } else { named.join(", ") })
}

fn in_words(record: &Attachment) -> String {
    let eip = or_dash(record.eip.as_ref().map(|eip| &eip.id));
    format!("{} {eip} {} for {}", record.pod, phase_text(record.phase, record.published), age(record.updated_at))
}
