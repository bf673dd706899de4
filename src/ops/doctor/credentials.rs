//! The check of credentials: which source answers, and for whom.

use super::check::Finding;
use super::subject::Subject;
use crate::cloud::Identity;
use crate::eip::failure::{Failure, chain};

pub fn credentials(subject: &Subject) -> Finding {
    match subject.node().and_then(|node| node.cloud()) {
        Ok(cloud) => judged(cloud.identity(subject.deadline())),
        Err(failure) => failed(&failure, "", ""),
    }
}

/// Nothing of it is secret.
fn judged(Identity { skipped, source, expires, caller }: Identity) -> Finding {
    let source = source.map(|source| format!("{source}: ")).unwrap_or_default();
    let before = if skipped.is_empty() { String::new() } else { format!("; before it: {}", skipped.join("; ")) };
    match caller {
        Ok(caller) => {
            let end = expires.map(|end| end.strftime("%Y-%m-%d %H:%M UTC"));
            let until = end.map(|end| format!(" until {end}, when podeip has newer ones")).unwrap_or_default();
            Finding::pass(format!("{source}{} of account {}{until}{before}", caller.arn, caller.account_id))
        }
        Err(error) => failed(&error.into(), &source, &before),
    }
}

fn failed(failure: &Failure, source: &str, before: &str) -> Finding {
    let remedy = failure.hint.clone().unwrap_or_else(|| "do what the reason says and look again".into());
    Finding::fail(format!("{source}{}{before}", chain(failure)), remedy)
}
