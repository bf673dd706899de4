//! What the credentials permit, tried without any effect.
//!
//! The actions that make, bind, unbind, change and release EIPs have no `DryRun`, so whether they are
//! permitted shows only when they are done.

use serde::Deserialize;

use super::retry::Effect;
use super::rpc::{Product, Rpc};
use super::{Class, Cloud, CloudError};
use crate::deadline::Deadline;

/// Ids that no resource has: if an endpoint did not know `DryRun`, nothing would be done either.
const NO_EIP: &str = "eip-podeipdoctor00000000";
const NO_PACKAGE: &str = "cbwp-podeipdoctor0000000";

/// How a call that was allowed and did nothing is answered.
const DRY_RUN_PASSED: &str = "DryRunOperation";

/// An action that can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    DescribeEips,
    DescribeEnis,
    JoinPackage,
    LeavePackage,
}

impl Trial {
    pub const ALL: [Trial; 4] = [Trial::DescribeEips, Trial::DescribeEnis, Trial::JoinPackage, Trial::LeavePackage];

    /// The action in RAM's words.
    pub fn permission(self) -> &'static str {
        match self {
            Trial::DescribeEips => "vpc:DescribeEipAddresses",
            Trial::DescribeEnis => "ecs:DescribeNetworkInterfaces",
            Trial::JoinPackage => "vpc:AddCommonBandwidthPackageIp",
            Trial::LeavePackage => "vpc:RemoveCommonBandwidthPackageIp",
        }
    }

    /// Whether every pod needs it, rather than those in a bandwidth package.
    pub fn for_every_pod(self) -> bool {
        matches!(self, Trial::DescribeEips | Trial::DescribeEnis)
    }

    fn rpc(self) -> Rpc {
        let trial = |product, action| Rpc::new(product, action, Effect::Read, "as a trial");
        let of_package = |action| {
            trial(Product::Vpc, action)
                .with("BandwidthPackageId", NO_PACKAGE)
                .with("IpInstanceId", NO_EIP)
                .with("DryRun", true)
        };
        match self {
            Trial::DescribeEips => trial(Product::Vpc, "DescribeEipAddresses").with("DryRun", true),
            // It has no DryRun, and does nothing anyhow.
            Trial::DescribeEnis => trial(Product::Ecs, "DescribeNetworkInterfaces").with("MaxResults", 10),
            Trial::JoinPackage => of_package("AddCommonBandwidthPackageIp").with("IpType", "EIP"),
            Trial::LeavePackage => of_package("RemoveCommonBandwidthPackageIp"),
        }
    }
}

/// Whatever it answers.
#[derive(Deserialize)]
struct Answer {}

impl Cloud {
    /// Whether the credentials permit an action. Permissions are looked at before parameters, so a
    /// complaint about the latter is a yes.
    ///
    /// # Errors
    /// The cloud does not say.
    pub fn permits(&self, trial: Trial, deadline: Deadline) -> Result<bool, CloudError> {
        match self.call::<Answer>(&trial.rpc(), deadline) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(DRY_RUN_PASSED) => Ok(true),
            Err(error) => match error.class() {
                Class::Permission => Ok(false),
                Class::Gone | Class::TargetGone | Class::NotInPackage => Ok(true),
                // Of ids that do not exist; what the others send is never wrong by itself.
                Class::BadCall if !trial.for_every_pod() => Ok(true),
                _ => Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::scripted::{Server, Step, deadline};
    use crate::cloud::tests::cloud;

    fn refusal(status: u16, code: &str) -> Step {
        Step::answer(status, &format!(r#"{{"RequestId":"R","Code":"{code}","Message":"no"}}"#))
    }

    #[test]
    fn every_trial_is_harmless_and_says_whether_it_was_permitted() {
        let script = || {
            vec![
                refusal(400, "DryRunOperation"),
                refusal(403, "Forbidden.RAM"),
                refusal(404, "InvalidIpInstanceId.NotFound"),
                Step::answer(200, r#"{"RequestId":"R"}"#),
                refusal(400, "Some.Thing"),
                refusal(400, "InvalidIpInstanceId.Malformed"),
            ]
        };
        for trial in Trial::ALL {
            let server = Server::start(script());
            let cloud = cloud(&server);
            let answers: Vec<Option<bool>> = (0..6).map(|_| cloud.permits(trial, deadline()).ok()).collect();
            let malformed = (!trial.for_every_pod()).then_some(true);
            assert_eq!(answers, [Some(true), Some(false), Some(true), Some(true), None, malformed], "{trial:?}");
            for request in server.requests() {
                let asked = |name| request.parameter(name);
                assert_eq!(asked("Action").as_deref(), trial.permission().split(':').nth(1));
                assert!(asked("DryRun").as_deref() == Some("true") || trial == Trial::DescribeEnis);
            }
        }
    }
}
