//! Joining and leaving a bandwidth package.

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::cloud::tests::call;
use crate::cloud::{CloudSim, UserEip, defaults};

fn code<T>(result: ApiResult<T>) -> String {
    result.err().map_or_else(|| "ok".into(), |error| error.code)
}

#[test]
fn membership_rests_the_own_bandwidth_and_hinders_release() {
    let clock = Clock::default();
    let cloud = CloudSim::new(clock.clone());
    let eip = cloud.create_user_eip(UserEip::default());
    let act = |action: &str| {
        let pair =
            [("RegionId", "cn-hangzhou"), ("BandwidthPackageId", defaults::PACKAGE), ("IpInstanceId", eip.as_str())];
        code(call(&cloud, action, &pair))
    };
    let seen = || {
        let answer = call(&cloud, "DescribeEipAddresses", &[("RegionId", "cn-hangzhou"), ("AllocationId", &eip)]);
        answer.unwrap()["EipAddresses"]["EipAddress"][0].clone()
    };
    let release = || code(call(&cloud, "ReleaseEipAddress", &[("AllocationId", &eip)]));
    let (add, remove) = ("AddCommonBandwidthPackageIp", "RemoveCommonBandwidthPackageIp");

    assert_eq!(act(remove), "OperationUnsupported.IpNotInCbwp");
    assert_eq!(act(add), "ok");
    assert_eq!(
        [act(add), act(remove), release()],
        ["IncorrectStatus.Eip", "IncorrectStatus.Eip", "IncorrectEipStatus"]
    );
    assert_eq!(seen()["BandwidthPackageId"], "", "it is a member only after a while");
    clock.advance(Duration::from_secs(1));
    let joined = seen();
    assert_eq!(joined["BandwidthPackageId"], defaults::PACKAGE);
    assert_eq!((&joined["Bandwidth"], &joined["EipBandwidth"]), (&"100".into(), &"5".into()));
    assert_eq!([act(add), release()], ["IpInstanceId.AlreadyInBandwidthPackage", "IncorrectEipStatus"]);
    assert_eq!(act(remove), "ok");
    clock.advance(Duration::from_secs(1));
    assert_eq!((&seen()["Bandwidth"], &seen()["BandwidthPackageId"]), (&"5".into(), &"".into()));
    assert_eq!(release(), "ok");
}

#[test]
fn what_cannot_join() {
    let cloud = CloudSim::new(Clock::default());
    let add = |package: &str, wanted: UserEip| {
        let eip = cloud.create_user_eip(wanted);
        let pair = [("RegionId", "cn-hangzhou"), ("BandwidthPackageId", package), ("IpInstanceId", eip.as_str())];
        code(call(&cloud, "AddCommonBandwidthPackageIp", &pair))
    };
    let eip = UserEip::default;
    assert_eq!(add("cbwp-none", eip()), "InvalidBandwidthPackageId.NotFound");
    assert_eq!(add(defaults::PACKAGE, UserEip { isp: "BGP_PRO".into(), ..eip() }), "OperationUnsupported.IpType");
    let prepaid = UserEip { instance_charge_type: "PrePaid".into(), ..eip() };
    assert_eq!(add(defaults::PACKAGE, prepaid), "IpInstanceId.ChargeType.NotSupport");
    cloud.set(|settings| settings.eips_per_package = 1);
    assert_eq!([add(defaults::PACKAGE, eip()), add(defaults::PACKAGE, eip())], ["ok", "IpInstanceId.QuotaExceeded"]);
    let gone = [("RegionId", "cn-hangzhou"), ("BandwidthPackageId", defaults::PACKAGE), ("IpInstanceId", "eip-none")];
    assert_eq!(code(call(&cloud, "AddCommonBandwidthPackageIp", &gone)), "InvalidIpInstanceId.NotFound");
}

#[test]
fn a_dry_run_is_judged_as_the_call_and_changes_nothing() {
    let cloud = CloudSim::new(Clock::default());
    let eip = cloud.create_user_eip(UserEip::default());
    let tried = |action: &str, eip: &str| {
        let region = ("RegionId", "cn-hangzhou");
        let pair = [("BandwidthPackageId", defaults::PACKAGE), ("IpInstanceId", eip), ("DryRun", "true")];
        code(call(&cloud, action, &[&[region], &pair[..]].concat()))
    };
    let (add, remove) = ("AddCommonBandwidthPackageIp", "RemoveCommonBandwidthPackageIp");
    for _ in 0..2 {
        assert_eq!(tried(add, &eip), "DryRunOperation");
        assert_eq!(tried(remove, &eip), "OperationUnsupported.IpNotInCbwp");
        assert_eq!(tried(add, "eip-none"), "InvalidIpInstanceId.NotFound");
    }
}
