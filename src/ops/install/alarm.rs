//! An event on the node that tells of a rival: where an operator looks who reads neither logs nor figures.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::kube::{Event, Kube, ObjectRef};
use crate::ops::identity::Identity;

/// Nobody waits for it, and the log has it anyway.
const TELL_TIME: Duration = Duration::from_secs(10);

const REASON: &str = "InstallationContested";

/// What to do about a part that somebody keeps undoing.
pub const REMEDY: &str = "find what else writes there (Terway's own list is in the ConfigMap kube-system/eni-config, and \
                          `podeip install --print-terway-conflist` prints what to put there)";

/// Tells of it in a thread of its own: what is undone must be put right meanwhile, API server or not.
pub fn tell_node(kubeconfig: &Path, part: &'static str) {
    let kubeconfig = kubeconfig.to_owned();
    let telling = move || {
        if let Err(error) = tell(&kubeconfig, part) {
            log::warn!("event {REASON} of this node was not recorded: {error:#}");
        }
    };
    if let Err(error) = thread::Builder::new().name("alarm".into()).spawn(telling) {
        log::warn!("cannot start the thread that records the event {REASON}: {error}");
    }
}

/// The text has no figures, so that a repeat counts up the event that is there.
fn tell(kubeconfig: &Path, part: &str) -> anyhow::Result<()> {
    let node = Identity::read()?.node;
    let message = format!(
        "podeip's {part} is put right again and again, because something on this node keeps undoing it, and pods that \
         start in between go without podeip: {REMEDY}"
    );
    let event = Event { warning: true, reason: REASON.into(), message, node: Some(node.clone()) };
    let kube = Kube::from_kubeconfig(kubeconfig)?;
    Ok(kube.record_event(&ObjectRef::node(&node), &event, Deadline::after(TELL_TIME))?)
}
