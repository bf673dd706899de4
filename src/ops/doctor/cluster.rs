//! Checks of the cluster: its API server, the PodEIPs and its clock.

use jiff::{SignedDuration, Timestamp};

use super::check::Finding;
use super::node::others_may_read;
use super::subject::Subject;
use super::token;
use crate::eip::coexist;
use crate::eip::failure::{Failure, chain};
use crate::kube::{Kube, KubeError};
use crate::settings::Coexistence;
use crate::state::Rival;

/// Times that nodes share are the API server's, so a minute harms nothing; but a clock that is so far
/// off is set by nobody.
const GOOD_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// The cloud refuses signatures that are older, or from the future, by this (by its older text; by the
/// newer, twice this).
const MOST_SKEW: SignedDuration = SignedDuration::from_mins(15);

const TO_THE_SERVER: &str =
    "check the network to the API server and the \"server\" of the kubeconfig, and see that the API server runs";

pub fn kubeconfig(subject: &Subject) -> Finding {
    let kube = match subject.kube() {
        Ok(kube) => kube,
        Err(failure) => return unusable(&failure, subject),
    };
    // No such pod: whatever the answer, it is one.
    let answer = kube.pod("default", "podeip-doctor", subject.deadline());
    if let Err(error) = answer.as_ref()
        // Whether it may be read is what rbac is about.
        && error.status() != Some(403)
    {
        return unanswered(error, kube);
    }
    if let Some(finding) = kube.token_life().and_then(|life| token::judge(&life, kube.now())) {
        return finding;
    }
    let reason = format!("{} answers", kube.server());
    others_may_read(&subject.paths.kubeconfig).unwrap_or_else(|| Finding::pass(reason))
}

fn unusable(failure: &Failure, subject: &Subject) -> Finding {
    let file = subject.paths.kubeconfig.display();
    Finding::fail(
        chain(failure),
        format!("run `podeip install`, or write a kubeconfig with the token of the service account to {file}"),
    )
}

fn unanswered(error: &KubeError, kube: &Kube) -> Finding {
    match error.status() {
        Some(401) => token::refused(error, kube.token_life().as_ref(), kube.now()),
        _ => Finding::fail(chain(error), TO_THE_SERVER),
    }
}

pub fn podeip_crd(subject: &Subject) -> Finding {
    let kube = match subject.kube() {
        Ok(kube) => kube,
        Err(failure) => return unusable(&failure, subject),
    };
    match kube.pod_eips(None, subject.list_deadline()) {
        Ok(pod_eips) => Finding::pass(format!("PodEIPs in the cluster: {}", pod_eips.len())),
        // The API server looks at permissions first.
        Err(error) if error.status() == Some(403) => Finding::skip("PodEIPs may not be listed, which rbac is about"),
        Err(error) => Finding::fail(
            chain(&error),
            match error.status() {
                Some(404) => "apply install/podeip-crd.yaml, the CustomResourceDefinition podeips.alibabacloud.com",
                _ => TO_THE_SERVER,
            },
        ),
    }
}

/// The API server's time is of the answer that `kubeconfig` got.
pub fn clock_skew(subject: &Subject) -> Finding {
    let kube = match subject.kube() {
        Ok(kube) => kube,
        Err(failure) => return unusable(&failure, subject),
    };
    let ahead = Timestamp::now().duration_since(kube.now());
    if ahead.abs() <= GOOD_SKEW {
        return Finding::pass("less than a minute apart");
    }
    let way = if ahead.is_positive() { "ahead of" } else { "behind" };
    let reason = format!("this node is {} s {way} the API server", ahead.abs().as_secs());
    let remedy =
        "let a time service (chrony, systemd-timesyncd) set this node's clock, or see to that of the API server";
    if ahead.abs() <= MOST_SKEW {
        return Finding::warn(reason, remedy);
    }
    Finding::fail(format!("{reason}; the cloud refuses what a clock so far off signs"), remedy)
}

/// What the agent noted keeps ADDs from allocating; what is seen only now will.
pub fn coexistence(subject: &Subject) -> Finding {
    let note = || -> Result<_, Failure> {
        let node = subject.node()?;
        Ok((node.store.rival_note().read()?, node.settings.coexistence))
    };
    let (noted, setting) = match note() {
        Ok(found) => found,
        Err(failure) => {
            let remedy = failure.hint.unwrap_or("remove rival.json; the agent writes it anew".into());
            return Finding::fail(failure.message, remedy);
        }
    };
    let seen = match noted {
        Some(rival) => Ok(Some(rival)),
        None => rival_now(subject),
    };
    match (seen, setting) {
        (Ok(None), _) => Finding::pass("no other is seen"),
        (Ok(Some(rival)), Coexistence::Refuse) => {
            Finding::fail(coexist::told(&rival), coexist::remedy(rival.sighting.who))
        }
        (Ok(Some(rival)), Coexistence::Ignore) => Finding::warn(
            format!("{}; \"coexistence\" is \"ignore\"", coexist::told(&rival)),
            "see that it serves none of the pods that podeip serves, or they have, and pay for, two EIPs each",
        ),
        (Err(failure), _) => Finding::skip(chain(&failure)),
    }
}

fn rival_now(subject: &Subject) -> Result<Option<Rival>, Failure> {
    let kube = subject.kube()?;
    let pod_eips = match kube.pod_eips(None, subject.list_deadline()) {
        // Where PodEIPs are not served, nobody writes any.
        Err(error) if error.status() == Some(404) => Vec::new(),
        listed => listed?,
    };
    let sighting = coexist::look(kube, &pod_eips, subject.deadline())?;
    Ok(sighting.map(|sighting| Rival { sighting, since: kube.now() }))
}
