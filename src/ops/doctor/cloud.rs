//! Checks of the cloud as this node sees it.

use super::check::Finding;
use super::subject::Subject;
use crate::eip::failure::{Failure, chain};

pub fn metadata(subject: &Subject) -> Finding {
    let ask = || -> Result<Option<String>, Failure> {
        subject.node()?.cloud()?.instance_id(subject.deadline()).map_err(Failure::from)
    };
    match ask() {
        Ok(Some(instance)) => Finding::pass(format!("this is {instance}")),
        Ok(None) => Finding::warn(
            "it answers, but does not know this instance",
            "check that endpoints.metadata of eni_conf, if set, names the metadata service",
        ),
        Err(failure) => Finding::fail(
            chain(&failure),
            "let this node reach 100.100.100.200 port 80 (routes, firewall, network policies); the agent needs the \
             host's network",
        ),
    }
}
