//! Which pods may keep their EIP beyond their own life.

use crate::eip::request::Notice;
use crate::kube::Pod;
use crate::strategy::Strategy;

/// Replaces a lasting strategy by `Follow` for a pod whose name does not come back: one that is
/// owned by anything but a StatefulSet or one of `stateful_kinds`. Bare pods may keep theirs.
pub fn fall_back(strategy: &mut Strategy, pod: &Pod, stateful_kinds: &[String]) -> Option<Notice> {
    let stateful = |kind: &str| {
        kind.eq_ignore_ascii_case("StatefulSet") || stateful_kinds.iter().any(|it| it.eq_ignore_ascii_case(kind))
    };
    let owner = pod.owners.first()?;
    if !strategy.lasting() || pod.owners.iter().any(|owner| stateful(&owner.kind)) {
        return None;
    }
    let wanted = std::mem::replace(strategy, Strategy::Follow);
    Some(Notice {
        reason: "ReleaseStrategyIgnored",
        message: format!(
            "release strategy {wanted} is for stateful workloads and bare pods; this pod is owned by a {}, so Follow is used",
            owner.kind
        ),
        warning: true,
    })
}
