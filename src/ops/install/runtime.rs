//! Whether this node's container runtime reads drop-in folders, as the node's object in the cluster tells.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::deadline::Deadline;
use crate::kube::Kube;
use crate::ops::identity::Identity;

/// One small object. A pod that starts meanwhile is chained all the same where it was so before.
const ASK_TIME: Duration = Duration::from_secs(3);

/// A runtime is exchanged once in months; and all nodes ask one API server.
const PERIOD: Duration = Duration::from_secs(5 * 60);

/// After a question without an answer.
const RETRY: Duration = Duration::from_secs(30);

/// From these versions on they are built with libcni 1.3, which appends a drop-in folder to a list.
const FIRST_CONTAINERD: (u32, u32) = (2, 1);
const FIRST_CRI_O: (u32, u32) = (1, 33);

/// What a runtime does with a drop-in folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropIns {
    Reads,
    /// CRI-O ends a pod with the list that it was made with, as libcni keeps it: without what was dropped in.
    ReadsForAddOnly,
    /// An older version, or a runtime of which nothing is known.
    Ignores,
}

impl DropIns {
    /// By a node's `containerRuntimeVersion`, such as `containerd://2.1.9`.
    pub fn of(version: &str) -> Self {
        let Some((name, version)) = version.split_once("://") else { return Self::Ignores };
        let since = |first| numbers(version).is_some_and(|found| found >= first);
        match name {
            "containerd" if since(FIRST_CONTAINERD) => Self::Reads,
            "cri-o" if since(FIRST_CRI_O) => Self::ReadsForAddOnly,
            _ => Self::Ignores,
        }
    }
}

/// The first two numbers of `2.1.9` or `v2.1.0-rc.1`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What is known of the runtime, asked anew now and then.
pub struct Runtime {
    kubeconfig: PathBuf,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    reads: Option<bool>,
    next_question: Option<Instant>,
}

impl Runtime {
    /// Asks nobody yet.
    pub fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), known: Arc::default() }
    }

    /// Whether the runtime reads drop-in folders, for DEL too; `None` while nobody could be asked. Only the first call
    /// waits for the answer: those that follow must not keep a stanza from coming back.
    pub fn reads_drop_ins(&self) -> Option<bool> {
        let mut known = lock(&self.known);
        let is_first = known.next_question.is_none();
        let is_due = known.next_question.is_none_or(|at| at <= Instant::now());
        if !is_due {
            return known.reads;
        }
        known.next_question = Some(Instant::now() + RETRY);
        let last = known.reads;
        drop(known);
        let (kubeconfig, to_tell) = (self.kubeconfig.clone(), Arc::clone(&self.known));
        if is_first {
            learn(&kubeconfig, &to_tell);
            return lock(&self.known).reads;
        }
        if let Err(error) = thread::Builder::new().name("runtime".into()).spawn(move || learn(&kubeconfig, &to_tell)) {
            log::warn!("cannot start the thread that asks for the container runtime's version: {error}");
        }
        last
    }
}

/// A question that fails leaves what was known.
fn learn(kubeconfig: &Path, known: &Mutex<Known>) {
    match version(kubeconfig) {
        Ok(version) => {
            let reads = DropIns::of(&version) == DropIns::Reads;
            let mut known = lock(known);
            if known.reads != Some(reads) {
                let does = if reads { "reads" } else { "is not known to read" };
                log::info!("the container runtime, {version}, {does} drop-in folders for ADD and DEL");
            }
            *known = Known { reads: Some(reads), next_question: Some(Instant::now() + PERIOD) };
        }
        Err(error) => log::info!("whether the container runtime reads drop-in folders is not known: {error:#}"),
    }
}

fn version(kubeconfig: &Path) -> anyhow::Result<String> {
    let node = Identity::read()?.node;
    let version = Kube::from_kubeconfig(kubeconfig)?.runtime_of_node(&node, Deadline::after(ASK_TIME))?;
    version.with_context(|| format!("the API server does not tell of a runtime on node {node}; is NODE_NAME right?"))
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    // Two values that are written at once and cannot be half true.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_of_these_versions_do() {
        for version in
            ["containerd://2.1.0", "containerd://2.1.9-k3s1", "containerd://v2.10.0", "containerd://3.0.0-rc.1"]
        {
            assert_eq!(DropIns::of(version), DropIns::Reads, "{version}");
        }
        for version in ["cri-o://1.33.0", "cri-o://1.36.3", "cri-o://2.0"] {
            assert_eq!(DropIns::of(version), DropIns::ReadsForAddOnly, "{version}");
        }
        for old in ["containerd://2.0.7", "containerd://1.7.24", "containerd://1.6.20~ds1", "cri-o://1.32.8"] {
            assert_eq!(DropIns::of(old), DropIns::Ignores, "{old}");
        }
        for unknown in ["", "containerd", "containerd://", "containerd://two.one", "docker://27.3.1", "podman://5.4.2"]
        {
            assert_eq!(DropIns::of(unknown), DropIns::Ignores, "{unknown}");
        }
    }
}
