//! Checks of the cloud as this node sees it.

use super::check::Finding;
use super::subject::Subject;
use crate::cloud::Trial;
use crate::eip::at_once;
use crate::eip::failure::{Failure, chain};
use crate::settings::Settings;

/// Hundredths of the quota from which on there is little left.
const QUOTA_NEARLY_USED: usize = 80;

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
        Err(failure) if subject.settings.as_ref().is_ok_and(does_without_metadata) => Finding::warn(
            format!(
                "{}; eni_conf says the region, the VPC and whose credentials, but every ADD that asks for an EIP has to \
                 look its ENI up in ECS",
                chain(&failure)
            ),
            REACH_METADATA,
        ),
        Err(failure) => Finding::fail(chain(&failure), REACH_METADATA),
    }
}

const REACH_METADATA: &str = "let this node reach 100.100.100.200 port 80 (routes, firewall, network policies), and \
                              switch the instance's metadata access on; the agent needs the host's network";

/// Whether all that metadata would say is in the settings.
fn does_without_metadata(settings: &Settings) -> bool {
    let credentials = settings.access_key.is_some() || settings.credential_path.is_some() || settings.enable_rrsa;
    settings.region_id.is_some() && settings.vpc_id.is_some() && credentials
}

pub fn ram_permissions(subject: &Subject) -> Finding {
    let cloud = match subject.node().and_then(|node| node.cloud()) {
        Ok(cloud) => cloud,
        Err(failure) => return Finding::skip(chain(&failure)),
    };
    let mut denied: Vec<Trial> = Vec::new();
    let answers = at_once::each(&Trial::ALL, |trial| cloud.permits(*trial, subject.deadline()));
    for (trial, answer) in Trial::ALL.into_iter().zip(answers) {
        match answer {
            Ok(true) => {}
            Ok(false) => denied.push(trial),
            Err(error) => {
                let failure = Failure::from(error);
                let hint = failure.hint.clone().unwrap_or("try again".into());
                return Finding::fail(failure.message, hint);
            }
        }
    }
    let named: Vec<&str> = denied.iter().map(|trial| trial.permission()).collect();
    let remedy = "attach the policy in install/ram-policy.json to the RAM role or user whose credentials podeip has";
    if denied.iter().any(|trial| trial.for_every_pod()) {
        Finding::fail(format!("not permitted: {}", named.join(", ")), remedy)
    } else if !denied.is_empty() {
        Finding::warn(format!("not permitted, so no pod gets into a bandwidth package: {}", named.join(", ")), remedy)
    } else {
        Finding::pass("permitted as far as it can be tried without effect: looking at EIPs and ENIs, and packages")
    }
}

pub fn quota(subject: &Subject) -> Finding {
    let ask = || -> Result<_, Failure> {
        let node = subject.node()?;
        let Some(quota) = node.settings.eip_quota else { return Ok(None) };
        Ok(Some((quota as usize, node.cloud()?.count_eips(subject.deadline())?)))
    };
    match ask() {
        Ok(None) => Finding::skip(
            "set \"eip_quota\" in eni_conf to the number of EIPs that the account may have in this region (Quota Center, \
             eip_quota_instances_num)",
        ),
        Ok(Some((_, None))) => Finding::skip("the cloud's answer has no number of EIPs"),
        Ok(Some((quota, Some(used)))) => headroom(used, quota),
        Err(failure) => Finding::skip(chain(&failure)),
    }
}

fn headroom(used: usize, quota: usize) -> Finding {
    let reason = format!("{used} of {quota} EIPs are used in this region");
    let remedy = "release EIPs that nobody uses, or raise eip_quota_instances_num in Quota Center and then eip_quota";
    match used * 100 {
        all if all >= quota * 100 => Finding::fail(reason, remedy),
        most if most >= quota * QUOTA_NEARLY_USED => Finding::warn(reason, remedy),
        _ => Finding::pass(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::check::Verdict;

    #[test]
    fn little_headroom_begins_at_four_fifths() {
        for (used, verdict) in
            [(0, Verdict::Pass), (79, Verdict::Pass), (80, Verdict::Warn), (99, Verdict::Warn), (100, Verdict::Fail)]
        {
            assert_eq!(headroom(used, 100).verdict, verdict, "{used}");
        }
        assert_eq!(headroom(8, 10).verdict, Verdict::Warn);
        assert_eq!(headroom(21, 20).verdict, Verdict::Fail);
    }
}
