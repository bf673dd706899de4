//! The state machine of an EIP, and the actions around it, seen through signed calls.

use serde_json::Value;

use super::*;
use crate::clock::Clock;
use crate::cloud::tests::call;
use crate::cloud::{CloudSim, EniSpec, RepeatCode, UserEip, defaults};

const SECOND: Duration = Duration::from_secs(1);
const POD_IP: &str = "10.219.0.7";
const REGION: (&str, &str) = ("RegionId", "cn-hangzhou");

struct World {
    clock: Clock,
    cloud: CloudSim,
}

fn world() -> World {
    let clock = Clock::standing();
    World { cloud: CloudSim::new(clock.clone()), clock }
}

impl World {
    fn call(&self, action: &str, parameters: &[(&str, &str)]) -> ApiResult<Value> {
        let mut all = vec![REGION];
        all.extend(parameters);
        call(&self.cloud, action, &all)
    }

    fn buy(&self) -> String {
        let answer = self.call("AllocateEipAddress", &[("InternetChargeType", "PayByTraffic")]).unwrap();
        answer["AllocationId"].as_str().unwrap().to_owned()
    }

    fn bind(&self, id: &str, ip: &str) -> String {
        let target = [
            ("AllocationId", id),
            ("InstanceId", defaults::POD_ENI),
            ("InstanceType", "NetworkInterface"),
            ("PrivateIpAddress", ip),
        ];
        code(self.call("AssociateEipAddress", &target))
    }

    fn unbind(&self, id: &str) -> String {
        code(self.call("UnassociateEipAddress", &[("AllocationId", id), ("InstanceType", "NetworkInterface")]))
    }

    fn release(&self, id: &str) -> String {
        code(self.call("ReleaseEipAddress", &[("AllocationId", id)]))
    }

    /// The entry that DescribeEipAddresses shows of one EIP.
    fn seen(&self, id: &str) -> Option<Value> {
        let answer = self.call("DescribeEipAddresses", &[("AllocationId", id)]).unwrap();
        answer["EipAddresses"]["EipAddress"].as_array().unwrap().first().cloned()
    }

    fn status(&self, id: &str) -> Option<String> {
        Some(self.seen(id)?["Status"].as_str().unwrap().to_owned())
    }

    fn listed(&self, parameters: &[(&str, &str)]) -> usize {
        let answer = self.call("DescribeEipAddresses", parameters).unwrap();
        answer["EipAddresses"]["EipAddress"].as_array().unwrap().len()
    }
}

fn code<T>(result: ApiResult<T>) -> String {
    result.err().map_or_else(|| "ok".into(), |error| error.code)
}

#[test]
fn an_eip_goes_round_and_away() {
    let world = world();
    let id = world.buy();
    assert_eq!(world.status(&id).as_deref(), Some("Available"));
    assert_eq!(world.unbind(&id), "IncorrectEipStatus");

    assert_eq!(world.bind(&id, POD_IP), "ok");
    assert_eq!(world.status(&id).as_deref(), Some("Associating"));
    assert_eq!([world.bind(&id, POD_IP), world.unbind(&id)], ["TaskConflict", "TaskConflict"]);
    assert_eq!(world.release(&id), "IncorrectEipStatus");
    world.clock.advance(SECOND);
    let seen = world.seen(&id).unwrap();
    assert_eq!(
        [&seen["Status"], &seen["InstanceId"], &seen["InstanceType"], &seen["PrivateIpAddress"]],
        ["InUse", defaults::POD_ENI, "NetworkInterface", POD_IP]
    );
    assert_eq!([world.bind(&id, POD_IP), world.release(&id)], ["IncorrectEipStatus", "IncorrectEipStatus"]);

    assert_eq!(world.unbind(&id), "ok");
    assert_eq!(world.status(&id).as_deref(), Some("Unassociating"));
    assert_eq!([world.bind(&id, POD_IP), world.unbind(&id)], ["TaskConflict", "TaskConflict"]);
    world.clock.advance(SECOND);
    assert_eq!(world.seen(&id).unwrap()["InstanceId"], "");

    assert_eq!(world.release(&id), "ok");
    assert_eq!(world.status(&id).as_deref(), Some("Releasing"));
    assert_eq!([world.release(&id), world.bind(&id, POD_IP)], ["IncorrectEipStatus", "IncorrectEipStatus"]);
    world.clock.advance(SECOND);
    assert_eq!(world.status(&id), None, "an unknown id is an empty list, not an error");
    assert_eq!(world.release(&id), "InvalidAllocationId.NotFound");
    let view = world.cloud.eip(&id).unwrap();
    assert!(view.released_at.is_some());
    assert_eq!(
        view.history.iter().map(|moment| moment.status).collect::<Vec<_>>(),
        [
            Status::Available,
            Status::Associating,
            Status::InUse,
            Status::Unassociating,
            Status::Available,
            Status::Releasing,
            Status::Released
        ]
    );
    assert!(world.cloud.eips().iter().all(|eip| eip.id != id));
    assert!(world.cloud.ever_allocated().iter().any(|eip| eip.id == id));
}

#[test]
fn one_eip_per_private_ip_from_the_first_moment() {
    let world = world();
    let (one, two) = (world.buy(), world.buy());
    assert_eq!(world.bind(&one, POD_IP), "ok");
    assert_eq!(world.bind(&two, POD_IP), "InvalidAssociation.Duplicated");
    world.clock.advance(SECOND);
    assert_eq!(world.bind(&two, POD_IP), "InvalidAssociation.Duplicated");
    assert_eq!(world.unbind(&one), "ok");
    assert_eq!(world.bind(&two, POD_IP), "InvalidAssociation.Duplicated", "still on its way from there");
    world.clock.advance(SECOND);
    assert_eq!(world.bind(&two, POD_IP), "ok");
}

#[test]
fn targets_that_do_not_exist_or_do_not_fit() {
    let world = world();
    let id = world.buy();
    world.cloud.add_eni(EniSpec {
        id: "eni-prefix".into(),
        prefixes: vec!["10.219.8.16/28".into()],
        ..EniSpec::default()
    });
    world.cloud.add_eni(EniSpec { id: "eni-moving".into(), status: Some("Attaching".into()), ..EniSpec::default() });
    let eni = defaults::POD_ENI;
    for (instance, kind, ip, expected) in [
        (eni, "NetworkInterface", "10.219.9.9", "InvalidParams.NotFound"),
        (eni, "NetworkInterface", "nonsense", "InvalidParameter"),
        (eni, "NetworkInterface", "", "MissingParameter"),
        (eni, "", POD_IP, "InvalidInstance.NotExist"),
        (eni, "SlbInstance", POD_IP, "InstanceType.NotSupport"),
        (eni, "Eni", POD_IP, "InvalidInstanceType.ValueNotSupported"),
        ("eni-none", "NetworkInterface", POD_IP, "InvalidInstanId.NotFound"),
        ("eni-prefix", "NetworkInterface", "10.219.8.17", "UnsupportedFeature.EipBindPrefixIp"),
        ("eni-moving", "NetworkInterface", "0.0.0.0", "InvalidStatus.EniStatusNotSupport"),
    ] {
        let target =
            [("AllocationId", id.as_str()), ("InstanceId", instance), ("InstanceType", kind), ("PrivateIpAddress", ip)];
        assert_eq!(code(world.call("AssociateEipAddress", &target)), expected, "{instance} {kind} {ip}");
    }
    for (mode, expected) in
        [("MULTI_BINDED", "OperationDenied.Unauthorized"), ("BINDED", "Eni.Attached"), ("X", "IllegalParam.Mode")]
    {
        let target = [
            ("AllocationId", id.as_str()),
            ("InstanceId", eni),
            ("InstanceType", "NetworkInterface"),
            ("PrivateIpAddress", POD_IP),
            ("Mode", mode),
        ];
        assert_eq!(code(world.call("AssociateEipAddress", &target)), expected);
    }
    assert_eq!(world.status(&id).as_deref(), Some("Available"), "a refusal has no effect");
}

#[test]
fn the_primary_ip_is_shown_as_nothing() {
    let world = world();
    let id = world.buy();
    assert_eq!(world.bind(&id, defaults::POD_ENI_PRIMARY_IP), "ok");
    world.clock.advance(SECOND);
    let seen = world.seen(&id).unwrap();
    assert_eq!((&seen["Status"], &seen["PrivateIpAddress"]), (&"InUse".into(), &"".into()));
    let view = world.cloud.eip(&id).unwrap();
    assert!(view.is_bound_to(defaults::POD_ENI, defaults::POD_ENI_PRIMARY_IP.parse().unwrap()));
}

#[test]
fn the_limit_of_an_eni_and_its_deletion() {
    let world = world();
    let (one, two) = (world.buy(), world.buy());
    world.cloud.set(|settings| settings.eips_per_eni = Some(1));
    assert_eq!(world.bind(&one, POD_IP), "ok");
    assert_eq!(world.bind(&two, "10.219.0.8"), "InvalidEip.EipQuotaExceeded");
    assert!(world.cloud.delete_eni(defaults::POD_ENI));
    assert_eq!(world.status(&one).as_deref(), Some("Available"));
    world.clock.advance(SECOND);
    assert_eq!(world.status(&one).as_deref(), Some("Available"), "what was under way is off");
}

#[test]
fn the_switches_of_the_state_machine() {
    let world = world();
    let (one, two) = (world.buy(), world.buy());
    world.cloud.set(|settings| settings.failing_associations = 1);
    assert_eq!(world.bind(&one, POD_IP), "ok");
    world.clock.advance(SECOND);
    assert_eq!(world.status(&one).as_deref(), Some("Available"), "failed in the background");
    world.cloud.set(|settings| {
        settings.busy_code = BusyCode::IncorrectEipStatus;
        settings.one_operation_per_eni = true;
        settings.repeat_code = RepeatCode::Duplicated;
    });
    assert_eq!([world.bind(&one, POD_IP), world.bind(&one, POD_IP)], ["ok", "IncorrectEipStatus"]);
    assert_eq!(world.bind(&two, "10.219.0.8"), "TaskConflict", "the ENI is busy");
    world.clock.advance(SECOND);
    assert_eq!(world.bind(&one, POD_IP), "InvalidAssociation.Duplicated");
    assert_eq!(world.bind(&one, "10.219.0.9"), "IncorrectEipStatus");
}

#[test]
fn unassociate_ignores_its_target_unless_told_otherwise() {
    let world = world();
    let id = world.buy();
    let elsewhere = [("AllocationId", id.as_str()), ("InstanceId", "eni-other"), ("PrivateIpAddress", POD_IP)];
    world.bind(&id, POD_IP);
    world.clock.advance(SECOND);
    world.cloud.set(|settings| settings.unassociate_checks_target = true);
    assert_eq!(code(world.call("UnassociateEipAddress", &elsewhere)), "InvalidBindInstance.NotFound");
    world.cloud.set(|settings| settings.unassociate_checks_target = false);
    assert_eq!(code(world.call("UnassociateEipAddress", &elsewhere)), "ok");
}

#[test]
fn readers_lag_behind() {
    let world = world();
    world.cloud.set(|settings| {
        settings.new_eip_lag = SECOND;
        settings.change_lag = SECOND * 2;
    });
    let id = world.buy();
    assert_eq!(world.status(&id), None);
    world.clock.advance(SECOND * 3);
    assert_eq!(world.status(&id).as_deref(), Some("Available"));
    assert_eq!(world.bind(&id, POD_IP), "ok");
    world.clock.advance(SECOND);
    assert_eq!(world.status(&id).as_deref(), Some("Available"), "bound, but not yet seen to be");
    assert_eq!(world.cloud.eip(&id).unwrap().status, Status::InUse);
    world.clock.advance(SECOND * 2);
    assert_eq!(world.status(&id).as_deref(), Some("InUse"));
}

#[test]
fn describe_filters_are_anded_and_pages_are_ten() {
    let world = world();
    for n in 0..12 {
        let tags = [("podeip-cluster", "c"), ("n", if n == 3 { "three" } else { "other" })];
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        world.cloud.create_user_eip(UserEip { id: format!("eip-{n}"), tags, ..UserEip::default() });
    }
    assert_eq!(world.listed(&[]), 10);
    assert_eq!(world.listed(&[("PageNumber", "2")]), 3);
    assert_eq!(world.listed(&[("PageSize", "100")]), 13);
    assert_eq!(world.listed(&[("AllocationId", "eip-1,eip-2,eip-none")]), 2);
    assert_eq!(world.listed(&[("Tag.1.Key", "podeip-cluster"), ("PageSize", "50")]), 12);
    let three = [("Tag.1.Key", "podeip-cluster"), ("Tag.1.Value", "c"), ("Tag.2.Key", "n"), ("Tag.2.Value", "three")];
    assert_eq!(world.listed(&three), 1);
    assert_eq!(world.listed(&[("AllocationId", "eip-1"), ("Tag.1.Key", "n"), ("Tag.1.Value", "three")]), 0);
    let address = world.cloud.eip("eip-3").unwrap().address.to_string();
    assert_eq!(world.listed(&[("EipAddress", &address), ("AllocationId", "eip-3")]), 1);
    assert_eq!(world.listed(&[("EipAddress", &address), ("AllocationId", "eip-4")]), 0);
    world.cloud.bind_by_hand("eip-5", defaults::POD_ENI, POD_IP.parse().unwrap()).unwrap();
    let on_eni = [("AssociatedInstanceType", "NetworkInterface"), ("AssociatedInstanceId", defaults::POD_ENI)];
    assert_eq!(world.listed(&on_eni), 1);
    assert_eq!(world.listed(&on_eni[1..]), 0, "the id alone means an ECS instance");
    assert_eq!(world.listed(&[("Status", "InUse")]), 1);
    let many = vec!["eip-1"; 51].join(",");
    assert_eq!(code(world.call("DescribeEipAddresses", &[("AllocationId", &many)])), "InstanceIdLength.Exceed");
    assert_eq!(code(world.call("DescribeEipAddresses", &[("PageSize", "ten")])), "InvalidParameter");
}

#[test]
fn allocation_keeps_what_it_was_given() {
    let world = world();
    let wanted = [
        ("Bandwidth", "7"),
        ("InternetChargeType", "PayByTraffic"),
        ("Name", "web-0"),
        ("Description", "of default/web-0"),
        ("Tag.1.Key", "podeip-uid"),
        ("Tag.1.Value", "u-1"),
        ("ResourceGroupId", defaults::OTHER_RESOURCE_GROUP),
        ("PublicIpAddressPoolId", defaults::ADDRESS_POOL),
        ("SecurityProtectionTypes.1", "AntiDDoS_Enhanced"),
    ];
    let answer = world.call("AllocateEipAddress", &wanted).unwrap();
    assert_eq!(answer["ResourceGroupId"], defaults::OTHER_RESOURCE_GROUP);
    let seen = world.seen(answer["AllocationId"].as_str().unwrap()).unwrap();
    for (field, value) in [
        ("Bandwidth", "7"),
        ("EipBandwidth", "7"),
        ("InternetChargeType", "PayByTraffic"),
        ("ChargeType", "PostPaid"),
        ("Name", "web-0"),
        ("Description", "of default/web-0"),
        ("PublicIpAddressPoolId", defaults::ADDRESS_POOL),
    ] {
        assert_eq!(seen[field], value, "{field}");
    }
    assert_eq!(seen["IpAddress"], answer["EipAddress"]);
    assert_eq!(seen["Tags"]["Tag"], serde_json::json!([{"Key": "podeip-uid", "Value": "u-1"}]));
    assert_eq!(seen["SecurityProtectionTypes"]["SecurityProtectionType"][0], "AntiDDoS_Enhanced");
    world.cloud.set(|settings| settings.ignore_tags_on_allocate = true);
    let answer = world.call("AllocateEipAddress", &wanted).unwrap();
    let seen = world.seen(answer["AllocationId"].as_str().unwrap()).unwrap();
    assert_eq!(seen["Tags"]["Tag"], serde_json::json!([]));
}

#[test]
fn allocation_refuses() {
    let world = world();
    for (parameters, expected) in [
        (vec![("Bandwidth", "201"), ("InternetChargeType", "PayByTraffic")], "InvalidParameter"),
        (vec![("ISP", "ChinaTelecom")], "IllegalParam.Isp"),
        (vec![("ResourceGroupId", "rg-none")], "InvalidResourceGroupId"),
        (vec![("PublicIpAddressPoolId", "pippool-none")], "ResourceNotFound.PublicIpAddressPool"),
        (
            vec![("PublicIpAddressPoolId", defaults::ADDRESS_POOL), ("Zone", "z")],
            "ExclusiveParam.ZoneAndPublicIpAddressPoolId",
        ),
        (vec![("Tag.1.Key", "a"), ("Tag.1.Value", "")], "MissingParam.TagValue"),
        (vec![("Netmode", "hybrid")], "InvalidParameter"),
        (vec![("SecurityProtectionTypes.1", "Strong")], "InvalidParameter"),
        (vec![("InstanceChargeType", "PrePaid")], "MissingParameter"),
        (vec![("InstanceChargeType", "PrePaid"), ("Period", "10")], "InvalidParameter"),
        (vec![("InstanceChargeType", "PrePaid"), ("Period", "1"), ("Name", "x")], "InvalidParameter"),
        (vec![("IpAddress", "47.0.0.1")], "OperationFailed.AllocateUnfamiliarIp"),
    ] {
        assert_eq!(code(world.call("AllocateEipAddress", &parameters)), expected, "{parameters:?}");
    }
    assert_eq!(world.cloud.ever_allocated().len(), 1, "only the user's own");
    world.cloud.set(|settings| settings.quota = 2);
    world.buy();
    assert_eq!(code(world.call("AllocateEipAddress", &[])), "QuotaExceeded.Eip");
}

#[test]
fn prepaid_is_an_order_until_it_is_paid_and_is_never_released() {
    let world = world();
    let order = [("InstanceChargeType", "PrePaid"), ("Period", "1")];
    let answer = world.call("AllocateEipAddress", &order).unwrap();
    assert!(answer["OrderId"].is_u64() && answer["AllocationId"].is_null());
    let paid = [order[0], order[1], ("AutoPay", "true")];
    let answer = world.call("AllocateEipAddress", &paid).unwrap();
    assert_eq!(world.release(answer["AllocationId"].as_str().unwrap()), "Forbidden.ChargeTypeIsPrepaid");
}

#[test]
fn a_released_address_can_be_had_again_for_a_week() {
    let world = world();
    let id = world.buy();
    let address = world.cloud.eip(&id).unwrap().address.to_string();
    let again = || world.call("AllocateEipAddressPro", &[("IpAddress", &address)]);
    assert_eq!(code(again()), "Ip.Allocated");
    world.release(&id);
    world.clock.advance(SECOND);
    let answer = again().unwrap();
    assert_eq!(answer["EipAddress"], address);
    assert_ne!(answer["AllocationId"], id);
    world.release(answer["AllocationId"].as_str().unwrap());
    world.clock.advance(SECOND * 3600 * 24 * 8);
    assert_eq!(code(again()), "OperationFailed.AllocateUnfamiliarIp");
}

#[test]
fn protected_locked_and_managed_eips_stay() {
    let world = world();
    let make = |change: fn(&mut UserEip)| {
        let mut wanted = UserEip::default();
        change(&mut wanted);
        world.cloud.create_user_eip(wanted)
    };
    let protected = make(|eip| eip.deletion_protection = true);
    let managed = make(|eip| eip.service_managed = true);
    let locked = make(|eip| eip.lock = Some("financial".into()));
    assert_eq!(world.release(&protected), "InvalidOperation.DeletionProtection");
    assert_eq!(world.release(&managed), "OperationUnsupported.ServiceManaged");
    assert_eq!(world.release(&locked), "InvalidEIPStatus.BizDisabled");
    assert_eq!(world.bind(&locked, POD_IP), "InvalidEIPStatus.BizDisabled");
    assert_eq!(world.seen(&locked).unwrap()["OperationLocks"]["LockReason"][0]["LockReason"], "financial");
}

#[test]
fn attributes_change() {
    let world = world();
    let id = world.buy();
    let modify = |name: &str, value: &str| {
        code(world.call("ModifyEipAddressAttribute", &[("AllocationId", id.as_str()), (name, value)]))
    };
    assert_eq!(modify("Bandwidth", "200"), "ok");
    assert_eq!(modify("Bandwidth", "201"), "InvalidParameter");
    assert_eq!(modify("Name", "new"), "ok");
    let seen = world.seen(&id).unwrap();
    assert_eq!((&seen["Bandwidth"], &seen["Name"]), (&"200".into(), &"new".into()));
    world.bind(&id, POD_IP);
    assert_eq!(modify("Name", "newer"), "IncorrectEipStatus");
}
