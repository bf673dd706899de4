//! Checks of the cluster: its API server, the PodEIPs and its clock.

use jiff::{SignedDuration, Timestamp};

use super::check::Finding;
use super::subject::Subject;
use crate::eip::failure::{Failure, chain};
use crate::kube::{Kube, KubeError};

/// The cloud and leases stand a few seconds; a minute apart, a fixed EIP's lifetime is judged wrongly.
const MOST_SKEW: SignedDuration = SignedDuration::from_secs(60);

const TO_THE_SERVER: &str =
    "check the network to the API server and the \"server\" of the kubeconfig, and see that the API server runs";

pub fn kubeconfig(subject: &Subject) -> Finding {
    let kube = match subject.kube() {
        Ok(kube) => kube,
        Err(failure) => return unusable(&failure, subject),
    };
    // No such pod: whatever the answer, it is one.
    match kube.pod("default", "podeip-doctor", subject.deadline()) {
        Ok(_) => Finding::pass(format!("{} answers", kube.server())),
        Err(error) => unanswered(kube, &error),
    }
}

fn unusable(failure: &Failure, subject: &Subject) -> Finding {
    let file = subject.paths.kubeconfig.display();
    Finding::fail(
        chain(failure),
        format!("write a kubeconfig with the token of the service account kube-system/podeip to {file}"),
    )
}

fn unanswered(kube: &Kube, error: &KubeError) -> Finding {
    match error.status() {
        // Whether it may be read is another question.
        Some(403) => Finding::pass(format!("{} answers", kube.server())),
        Some(401) => Finding::fail(
            chain(error),
            "its token has expired or is wrong: write the kubeconfig anew with a valid token of the service account",
        ),
        _ => Finding::fail(chain(error), TO_THE_SERVER),
    }
}

pub fn podeip_crd(subject: &Subject) -> Finding {
    let kube = match subject.kube() {
        Ok(kube) => kube,
        Err(failure) => return unusable(&failure, subject),
    };
    match kube.pod_eips(None, subject.deadline()) {
        Ok(pod_eips) => Finding::pass(format!("PodEIPs in the cluster: {}", pod_eips.len())),
        Err(error) => Finding::fail(
            chain(&error),
            match error.status() {
                Some(404) => "apply the CustomResourceDefinition podeips.alibabacloud.com of install/",
                Some(403) => "let the service account list podeips.alibabacloud.com: apply the ClusterRole of install/",
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
    if ahead.abs() <= MOST_SKEW {
        return Finding::pass("less than a minute apart");
    }
    let way = if ahead.is_positive() { "ahead of" } else { "behind" };
    Finding::warn(
        format!("this node is {} s {way} the API server", ahead.abs().as_secs()),
        "let a time service (chrony, systemd-timesyncd) set this node's clock, or see to that of the API server",
    )
}
