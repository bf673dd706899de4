//! The actions' parameters and answers against a scripted server.

use super::*;
use crate::cloud::eip::EipStatus;
use crate::cloud::scripted::{Seen, Server, Step, deadline};
use crate::cloud::tests::cloud;
use crate::names::Mbps;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

fn done() -> Step {
    Step::answer(200, r#"{"RequestId":"R-1"}"#)
}

fn refusal(status: u16, code: &str) -> Step {
    Step::answer(status, &format!(r#"{{"RequestId":"R-9","Code":"{code}","Message":"m"}}"#))
}

/// A page of EIPs `eip-<n>` on `eni-1` and tagged `owner=us`.
fn page(total: usize, numbers: std::ops::Range<usize>) -> Step {
    let eips: Vec<String> = numbers
        .map(|n| {
            format!(
                r#"{{"AllocationId":"eip-{n}","IpAddress":"47.0.0.1","Status":"InUse","InstanceId":"eni-1",
                    "Tags":{{"Tag":[{{"Key":"owner","Value":"us"}}]}}}}"#
            )
        })
        .collect();
    Step::answer(
        200,
        &format!(r#"{{"RequestId":"R","TotalCount":{total},"EipAddresses":{{"EipAddress":[{}]}}}}"#, eips.join(",")),
    )
}

fn ids(count: usize) -> Vec<EipId> {
    (0..count).map(|n| EipId::new(format!("eip-{n}"))).collect()
}

fn assert_sent(request: &Seen, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(request.parameter(name).as_deref(), Some(*value), "{name}");
    }
}

fn wanted() -> Allocation {
    Allocation {
        bandwidth: Mbps(5),
        internet_charge_type: "PayByTraffic".into(),
        isp: Some("BGP".into()),
        name: None,
        description: Some("a b".into()),
        resource_group_id: Some("rg-1".into()),
        public_ip_address_pool_id: None,
        security_protection_types: vec!["AntiDDoS_Enhanced".into()],
        tags: BTreeMap::from([
            ("podeip-empty".into(), String::new()),
            ("podeip-pod".into(), "web-0".into()),
            ("podeip-uid".into(), "u-1".into()),
        ]),
    }
}

#[test]
fn allocates_with_owner_tags_and_token() {
    let server = Server::start(vec![Step::answer(
        200,
        r#"{"RequestId":"R","AllocationId":"eip-1","EipAddress":"47.1.2.3","ResourceGroupId":"rg-1"}"#,
    )]);
    let allocated = cloud(&server).allocate_eip(&wanted(), &ClientToken::new("t-1"), deadline()).unwrap();
    assert_eq!(allocated, Allocated { id: EipId::new("eip-1"), address: Some(Ipv4Addr::new(47, 1, 2, 3)) });
    let request = &server.requests()[0];
    assert_sent(
        request,
        &[
            ("Action", "AllocateEipAddress"),
            ("Bandwidth", "5"),
            ("InternetChargeType", "PayByTraffic"),
            ("InstanceChargeType", "PostPaid"),
            ("ISP", "BGP"),
            ("Description", "a b"),
            ("ResourceGroupId", "rg-1"),
            ("SecurityProtectionTypes.1", "AntiDDoS_Enhanced"),
            ("Tag.1.Key", "podeip-pod"),
            ("Tag.1.Value", "web-0"),
            ("Tag.2.Key", "podeip-uid"),
            ("ClientToken", "t-1"),
        ],
    );
    for absent in ["Name", "PublicIpAddressPoolId", "Tag.3.Key"] {
        assert_eq!(request.parameter(absent), None, "{absent}");
    }
}

#[test]
fn an_allocation_without_an_id_is_asked_again_not_believed() {
    let server = Server::start(vec![
        done(),
        Step::answer(200, r#"{"RequestId":"R","AllocationId":"eip-1","EipAddress":"47.1.2.3"}"#),
    ]);
    let allocated = cloud(&server).allocate_eip(&wanted(), &ClientToken::new("t-1"), deadline()).unwrap();
    assert_eq!(allocated.id.as_str(), "eip-1");
    let requests = server.requests();
    assert_eq!(requests[0].parameter("ClientToken"), requests[1].parameter("ClientToken"));
}

#[test]
fn a_refused_allocation_names_the_pod() {
    let server = Server::start(vec![refusal(400, "QuotaExceeded.Eip")]);
    let error = cloud(&server).allocate_eip(&wanted(), &ClientToken::new("t-1"), deadline()).unwrap_err();
    assert_eq!(error.to_string(), "AllocateEipAddress for pod web-0: QuotaExceeded.Eip: m (RequestId R-9, 1 try)");
    assert_eq!(error.class(), Class::Quota);
}

#[test]
fn all_pages_are_read_in_order() {
    let server = Server::start(vec![page(250, 0..100), page(250, 100..200), page(250, 200..250)]);
    let filter = EipFilter::OnEni(EniId::new("eni-1"));
    let eips = cloud(&server).describe_eips(&filter, deadline()).unwrap();
    assert_eq!(eips.len(), 250);
    let requests = server.requests();
    for (at, request) in requests.iter().enumerate() {
        assert_sent(
            request,
            &[
                ("PageNumber", &(at + 1).to_string()),
                ("PageSize", "100"),
                ("AssociatedInstanceType", "NetworkInterface"),
                ("AssociatedInstanceId", "eni-1"),
            ],
        );
    }
    assert_eq!(requests.len(), 3);
}

#[test]
fn a_page_that_shifted_is_not_counted_twice() {
    let server = Server::start(vec![page(150, 0..100), page(150, 99..149)]);
    let eips = cloud(&server).describe_eips(&EipFilter::OnEni(EniId::new("eni-1")), deadline()).unwrap();
    assert_eq!(eips.len(), 149);
}

#[test]
fn ids_go_fifty_at_a_time() {
    let server = Server::start(vec![page(50, 0..50), page(9, 50..59)]);
    let eips = cloud(&server).describe_eips(&EipFilter::Ids(ids(60)), deadline()).unwrap();
    assert_eq!(eips.len(), 59);
    let requests = server.requests();
    assert_eq!(requests[0].parameter("AllocationId").unwrap().split(',').count(), 50);
    assert_eq!(requests[1].parameter("AllocationId").unwrap().split(',').count(), 10);
}

#[test]
fn addresses_go_fifty_at_a_time() {
    let server = Server::start(vec![page(1, 0..1), page(0, 0..0)]);
    let addresses = (0..60).map(|n| Ipv4Addr::new(47, 0, 0, n)).collect();
    let eips = cloud(&server).describe_eips(&EipFilter::Addresses(addresses), deadline()).unwrap();
    assert_eq!(eips.iter().map(|eip| eip.id.as_str()).collect::<Vec<_>>(), ["eip-0"]);
    let requests = server.requests();
    assert!(requests[0].parameter("EipAddress").unwrap().starts_with("47.0.0.0,47.0.0.1,"));
    assert_eq!(requests[1].parameter("EipAddress").unwrap().split(',').count(), 10);
}

#[test]
fn a_filter_that_the_endpoint_ignores_still_filters() {
    let server = Server::start(vec![page(2, 0..2), page(2, 0..2), page(2, 0..2), page(2, 0..2)]);
    let cloud = cloud(&server);
    let ours = EipFilter::Tags(BTreeMap::from([("owner".into(), "us".into()), ("podeip-uid".into(), "u-1".into())]));
    assert_eq!(cloud.describe_eips(&ours, deadline()).unwrap(), []);
    assert_sent(&server.requests()[0], &[("Tag.1.Key", "owner"), ("Tag.2.Value", "u-1")]);
    assert_eq!(cloud.describe_eips(&EipFilter::OnEni(EniId::new("eni-2")), deadline()).unwrap(), []);
    let nobodys = EipFilter::Addresses(vec![Ipv4Addr::new(47, 0, 0, 2)]);
    assert_eq!(cloud.describe_eips(&nobodys, deadline()).unwrap(), []);
    let eip = cloud.eip(&EipId::new("eip-1"), deadline()).unwrap().unwrap();
    assert_eq!((eip.id.as_str(), eip.status), ("eip-1", EipStatus::InUse));
}

#[test]
fn an_empty_filter_asks_nobody() {
    let server = Server::start(vec![]);
    let cloud = cloud(&server);
    assert_eq!(cloud.describe_eips(&EipFilter::Ids(vec![]), deadline()).unwrap(), []);
    assert_eq!(cloud.describe_eips(&EipFilter::Addresses(vec![]), deadline()).unwrap(), []);
    assert_eq!(cloud.describe_eips(&EipFilter::Tags(BTreeMap::new()), deadline()).unwrap(), []);
}

#[test]
fn an_unknown_id_is_none_but_a_cut_answer_is_not() {
    let server = Server::start(vec![done(), page(0, 0..0)]);
    assert_eq!(cloud(&server).eip(&EipId::new("eip-1"), deadline()).unwrap(), None);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn binding_names_eni_and_private_ip_both_ways() {
    let server = Server::start(vec![done(), done()]);
    let cloud = cloud(&server);
    let (eip, eni, token) = (EipId::new("eip-1"), EniId::new("eni-1"), ClientToken::new("t-1"));
    cloud.associate_eip(&eip, &eni, ADDRESS, &token, deadline()).unwrap();
    cloud.unassociate_eip(&eip, &eni, ADDRESS, &token, deadline()).unwrap();
    let requests = server.requests();
    for (request, action) in requests.iter().zip(["AssociateEipAddress", "UnassociateEipAddress"]) {
        assert_sent(
            request,
            &[
                ("Action", action),
                ("AllocationId", "eip-1"),
                ("InstanceId", "eni-1"),
                ("InstanceType", "NetworkInterface"),
                ("PrivateIpAddress", "10.0.0.9"),
                ("ClientToken", "t-1"),
            ],
        );
    }
    assert_eq!(requests[0].parameter("Mode").as_deref(), Some("NAT"));
    assert_eq!(requests[1].parameter("Mode"), None);
}

#[test]
fn releasing_what_is_gone_is_success() {
    let server = Server::start(vec![Step::HangUp, refusal(404, "InvalidAllocationId.NotFound")]);
    cloud(&server).release_eip(&EipId::new("eip-1"), deadline()).unwrap();
    let requests = server.requests();
    assert_sent(&requests[1], &[("Action", "ReleaseEipAddress"), ("AllocationId", "eip-1")]);
    assert_eq!(requests[1].parameter("ClientToken"), None);
}

#[test]
fn a_bound_eip_is_not_released() {
    let server = Server::start(vec![refusal(400, "IncorrectEipStatus")]);
    let error = cloud(&server).release_eip(&EipId::new("eip-1"), deadline()).unwrap_err();
    assert_eq!((error.class(), error.action()), (Class::Conflict, "ReleaseEipAddress"));
}

#[test]
fn packages_are_joined_and_left() {
    let server = Server::start(vec![
        done(),
        refusal(400, "OperationUnsupported.IpNotInCbwp"),
        refusal(400, "IpInstanceId.AlreadyInBandwidthPackage"),
    ]);
    let cloud = cloud(&server);
    let (package, eip, token) = (BandwidthPackageId::new("cbwp-1"), EipId::new("eip-1"), ClientToken::new("t-1"));
    cloud.join_bandwidth_package(&package, &eip, &token, deadline()).unwrap();
    cloud.leave_bandwidth_package(&package, &eip, &token, deadline()).unwrap();
    let error = cloud.join_bandwidth_package(&package, &eip, &token, deadline()).unwrap_err();
    assert_eq!(error.class(), Class::AlreadyInPackage);
    let expected = [("BandwidthPackageId", "cbwp-1"), ("IpInstanceId", "eip-1"), ("ClientToken", "t-1")];
    server.requests().iter().for_each(|request| assert_sent(request, &expected));
    assert_sent(&server.requests()[1], &[("Action", "RemoveCommonBandwidthPackageIp")]);
}

#[test]
fn tags_go_twenty_eips_at_a_time() {
    let server = Server::start(vec![done(), done()]);
    let cloud = cloud(&server);
    let tags = BTreeMap::from([("podeip-uid".to_string(), "u-1".to_string())]);
    cloud.tag_eips(&ids(25), &tags, deadline()).unwrap();
    cloud.tag_eips(&[], &tags, deadline()).unwrap();
    cloud.tag_eips(&ids(1), &BTreeMap::new(), deadline()).unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_sent(
        &requests[0],
        &[
            ("Action", "TagResources"),
            ("ResourceType", "EIP"),
            ("ResourceId.1", "eip-0"),
            ("ResourceId.20", "eip-19"),
            ("Tag.1.Key", "podeip-uid"),
            ("Tag.1.Value", "u-1"),
        ],
    );
    assert_eq!(requests[0].parameter("ResourceId.21"), None);
    assert_sent(&requests[1], &[("ResourceId.5", "eip-24")]);
}
