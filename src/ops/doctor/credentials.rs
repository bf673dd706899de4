//! The check of credentials: which source answers, and for whom.

use super::check::Finding;
use super::subject::Subject;
use crate::cloud::Identity;
use crate::eip::failure::{Failure, chain};

pub fn credentials(subject: &Subject) -> Finding {
    let ask = || -> Result<Identity, Failure> { Ok(subject.node()?.cloud()?.identity(subject.deadline())?) };
    match ask() {
        Ok(identity) => Finding::pass(said(&identity)),
        Err(failure) => {
            let remedy = failure.hint.clone();
            Finding::fail(chain(&failure), remedy.unwrap_or_else(|| "do what the reason says and look again".into()))
        }
    }
}

/// Nothing of it is secret.
fn said(Identity { source, skipped, expires, caller }: &Identity) -> String {
    let until = expires.map(|end| format!(" until {}, when podeip has newer ones", end.strftime("%Y-%m-%d %H:%M UTC")));
    let before = if skipped.is_empty() { String::new() } else { format!("; before it: {}", skipped.join("; ")) };
    format!("{source}: {} of account {}{}{before}", caller.arn, caller.account_id, until.unwrap_or_default())
}
