//! What the check of the kubeconfig says about its token's life.

use jiff::Timestamp;

use super::check::Finding;
use crate::eip::failure::chain;
use crate::kube::{KubeError, TokenLife};
use crate::ops::print::span;

/// Where a token that is not replaced gets stuck.
const FOLLOW_IT: &str = "see that the agent runs with --keep-installed and that its log names no trouble with the kubeconfig, \
                         and that the kubelet renews the agent's token (its log, \"token\"); where no agent keeps the \
                         kubeconfig, write it anew with a new token";

/// A finding, if the token is over, or nobody has replaced it in time.
pub fn judge(life: &TokenLife, now: Timestamp) -> Option<Finding> {
    if life.expires <= now {
        return Some(Finding::fail(format!("its token expired {} ago", since(life.expires, now)), FOLLOW_IT));
    }
    if !life.is_late(now) {
        return None;
    }
    let left = span(life.expires.duration_since(now));
    Some(Finding::warn(
        match life.replace_by.filter(|due| *due <= now) {
            Some(due) => format!("its token was to be replaced {} ago, and is refused in {left}", since(due, now)),
            None => format!("its token is refused in {left}, and nobody has replaced it yet"),
        },
        FOLLOW_IT,
    ))
}

/// The API server did not take the token: the finding says what is wrong with it, as far as it tells.
pub fn refused(error: &KubeError, life: Option<&TokenLife>, now: Timestamp) -> Finding {
    if let Some(over) = life.filter(|life| life.expires <= now) {
        return Finding::fail(
            format!("its token expired {} ago: {}", since(over.expires, now), chain(error)),
            FOLLOW_IT,
        );
    }
    let why = match life {
        None => "has expired or is wrong".into(),
        Some(life) if life.audiences.is_empty() => "is wrong, or was taken back".into(),
        Some(life) => format!("is wrong, or was taken back (it was made for {})", life.audiences.join(", ")),
    };
    let remedy = format!("its token {why}: write the kubeconfig anew with a valid token of the service account");
    Finding::fail(chain(error), remedy)
}

fn since(then: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(then))
}
