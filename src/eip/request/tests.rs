use proptest::collection::btree_map;
use proptest::prelude::{Strategy as _, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use serde_json::json;

use super::*;
use crate::strategy::GoDuration;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn requested(pairs: &[(&str, &str)]) -> Requested {
    read(&map(pairs)).unwrap().unwrap()
}

/// The parameters of an automatic EIP with `pairs` under the short prefix.
fn parameters(pairs: &[(&str, &str)]) -> Result<Parameters, Refusal> {
    let mut annotations = map(&[("k8s.aliyun.com/pod-with-eip", "true")]);
    annotations.extend(pairs.iter().map(|(key, value)| (format!("k8s.aliyun.com/{key}"), value.to_string())));
    match read(&annotations)?.unwrap().wish.source {
        Source::Allocate(parameters) => Ok(parameters),
        named => panic!("{named:?}"),
    }
}

fn refused(pairs: &[(&str, &str)]) -> String {
    parameters(pairs).unwrap_err().to_string()
}

fn default_parameters() -> Parameters {
    Parameters {
        bandwidth: Mbps(5),
        internet_charge_type: InternetChargeType::PayByTraffic,
        isp: None,
        bandwidth_package: None,
        address_pool: None,
        resource_group: None,
        name: None,
        description: None,
        security_protection: vec![],
        tags: BTreeMap::new(),
    }
}

#[test]
fn nothing_asked_for_is_nothing_checked() {
    for pairs in [
        &[][..],
        &[("k8s.aliyun.com/eip-bandwidth", "lots")],
        &[("k8s.aliyun.com/pod-with-eip", "")],
        &[("k8s.aliyun.com/pod-with-eip", "false"), ("k8s.aliyun.com/pod-eip-release-strategy", "never")],
        &[("k8s.aliyun.com/pod-with-eip", "false"), ("k8s.aliyun.com/eci-with-eip", "true")],
        &[("example.com/pod-with-eip", "true"), ("pod-with-eip", "true")],
        // Documented only under k8s.aliyun.com.
        &[("network.alibabacloud.com/eci-with-eip", "true")],
    ] {
        assert_eq!(read(&map(pairs)), Ok(None), "{pairs:?}");
    }
}

#[test]
fn each_switch_turns_it_on_with_the_defaults() {
    for key in ["network.alibabacloud.com/pod-with-eip", "k8s.aliyun.com/pod-with-eip", "k8s.aliyun.com/eci-with-eip"] {
        let expected = Requested {
            wish: Wish { source: Source::Allocate(default_parameters()), strategy: Strategy::Follow },
            notices: vec![],
        };
        assert_eq!(requested(&[(key, "true")]), expected);
    }
}

#[test]
fn other_texts_of_the_switch_are_refused() {
    for value in ["True", "1", " true", "yes"] {
        let refusal = read(&map(&[("k8s.aliyun.com/pod-with-eip", value)])).unwrap_err();
        let expected =
            format!("annotation k8s.aliyun.com/pod-with-eip: \"{value}\" is refused: allowed is \"true\" or \"false\"");
        assert_eq!(refusal.to_string(), expected);
    }
}

#[test]
fn the_first_text_wins_and_a_conflict_names_both_keys() {
    let requested = requested(&[
        ("network.alibabacloud.com/pod-with-eip", ""),
        ("k8s.aliyun.com/pod-with-eip", "true"),
        ("k8s.aliyun.com/eci-with-eip", "true"),
        ("network.alibabacloud.com/eip-internet-charge-type", "PayByBandwidth"),
        ("k8s.aliyun.com/eip-internet-charge-type", "PayByTraffic"),
        ("k8s.aliyun.com/eip-charge-type", "PayByBandwidth"),
    ]);
    let Source::Allocate(parameters) = requested.wish.source else { panic!() };
    assert_eq!(parameters.internet_charge_type, InternetChargeType::PayByBandwidth);
    let expected = Notice {
        reason: "AnnotationConflict",
        message: "network.alibabacloud.com/eip-internet-charge-type is \"PayByBandwidth\" and \
                  k8s.aliyun.com/eip-internet-charge-type is \"PayByTraffic\": \"PayByBandwidth\" is used"
            .into(),
        warning: true,
    };
    assert_eq!(requested.notices, [expected]);
}

#[test]
fn a_named_eip_turns_it_on_and_wins() {
    for key in [
        "network.alibabacloud.com/pod-eip-instanceid",
        "k8s.aliyun.com/pod-eip-instanceid",
        "k8s.aliyun.com/eci-eip-instanceid",
    ] {
        for switch in [&[][..], &[("k8s.aliyun.com/pod-with-eip", "true")]] {
            let requested = requested(&[switch, &[(key, "eip-bp1abc")]].concat());
            assert_eq!(requested.wish.source, Source::Named(EipId::new("eip-bp1abc")));
            assert_eq!(requested.notices, []);
        }
    }
}

#[test]
fn a_named_eip_outweighs_an_explicit_false_and_says_so() {
    let requested = requested(&[
        ("k8s.aliyun.com/pod-with-eip", "false"),
        ("k8s.aliyun.com/eci-eip-instanceid", "eip-1"),
        ("k8s.aliyun.com/eip-bandwidth", "lots"),
        ("network.alibabacloud.com/eip-common-bandwidth-package-id", "cbwp-1"),
        ("k8s.aliyun.com/pod-eip-release-strategy", "Never"),
    ]);
    assert_eq!(requested.wish, Wish { source: Source::Named(EipId::new("eip-1")), strategy: Strategy::Never });
    let [conflict, ignored] = &requested.notices[..] else { panic!("{:?}", requested.notices) };
    assert_eq!((conflict.reason, conflict.warning), ("AnnotationConflict", true));
    assert_eq!(
        conflict.message,
        "k8s.aliyun.com/pod-with-eip is \"false\" and k8s.aliyun.com/eci-eip-instanceid is eip-1: the named EIP is bound"
    );
    assert_eq!((ignored.reason, ignored.warning), ("ParametersIgnored", false));
    assert_eq!(
        ignored.message,
        "the pod names eip-1, which is bound as it is; ignored: k8s.aliyun.com/eip-bandwidth, \
         network.alibabacloud.com/eip-common-bandwidth-package-id"
    );
}

#[test]
fn reads_every_parameter() {
    let read = parameters(&[
        ("eip-bandwidth", "500"),
        ("eip-charge-type", "PayByBandwidth"),
        ("eip-instance-charge-type", "PostPaid"),
        ("eip-isp", "ChinaMobile_L2"),
        ("eip-common-bandwidth-package-id", "cbwp-bp1"),
        ("eip-public-ip-address-pool-id", "pippool-bp1"),
        ("eip-resource-group-id", "rg-acf"),
        ("eip-name", "team-a/pod 1"),
        ("eip-description", "ü\n"),
        ("eip-security-protection-types", "AntiDDoS_Enhanced, AntiDDoS_Enhanced"),
        ("eip-tags", r#"{"team":"a","b":"c/d"}"#),
    ]);
    let expected = Parameters {
        bandwidth: Mbps(500),
        internet_charge_type: InternetChargeType::PayByBandwidth,
        isp: Some(Isp::ChinaMobileL2),
        bandwidth_package: Some(BandwidthPackageId::new("cbwp-bp1")),
        address_pool: Some("pippool-bp1".into()),
        resource_group: Some("rg-acf".into()),
        name: Some("team-a/pod 1".into()),
        description: Some("ü\n".into()),
        security_protection: vec!["AntiDDoS_Enhanced".into()],
        tags: map(&[("team", "a"), ("b", "c/d")]),
    };
    assert_eq!(read, Ok(expected));
}

#[test]
fn bandwidth_has_the_range_of_its_charge_type() {
    for value in ["1", "200", "05"] {
        assert_eq!(parameters(&[("eip-bandwidth", value)]).unwrap().bandwidth, Mbps(value.parse().unwrap()));
    }
    for value in ["0", "201", "-1", "+5", "5.0", "5M", " 5", "٥", "99999999999"] {
        let text = refused(&[("eip-bandwidth", value)]);
        let expected = format!(
            "annotation k8s.aliyun.com/eip-bandwidth: \"{value}\" is refused: \
             allowed is a whole number of Mbit/s from 1 to 200 with PayByTraffic"
        );
        assert_eq!(text, expected);
    }
    let by_bandwidth = ("eip-internet-charge-type", "PayByBandwidth");
    assert!(parameters(&[by_bandwidth, ("eip-bandwidth", "500")]).is_ok());
    assert!(refused(&[by_bandwidth, ("eip-bandwidth", "501")]).contains("from 1 to 500 with PayByBandwidth"));
}

#[test]
fn charge_types_are_spelt_exactly() {
    assert!(
        refused(&[("eip-internet-charge-type", "paybytraffic")]).ends_with("allowed is PayByTraffic or PayByBandwidth")
    );
    assert!(refused(&[("eip-instance-charge-type", "PrePaid")]).contains("cannot be released with its pod"));
    assert!(refused(&[("eip-instance-charge-type", "postpaid")]).ends_with("allowed is PostPaid"));
}

#[test]
fn single_lines_need_pay_by_bandwidth() {
    let spellings = [
        "BGP",
        "BGP_PRO",
        "ChinaTelecom",
        "ChinaUnicom",
        "ChinaMobile",
        "ChinaTelecom_L2",
        "ChinaUnicom_L2",
        "ChinaMobile_L2",
        "BGP_FinanceCloud",
    ];
    for isp in spellings {
        let by_bandwidth = [("eip-isp", isp), ("eip-internet-charge-type", "PayByBandwidth")];
        let read = parameters(&by_bandwidth).unwrap().isp.unwrap();
        assert_eq!(read.as_str(), isp);
        assert_eq!(serde_json::to_value(read).unwrap(), json!(isp));
        assert_eq!(parameters(&by_bandwidth[..1]).is_ok(), isp.starts_with("BGP"), "{isp}");
    }
    assert!(
        refused(&[("eip-isp", "ChinaTelecom")]).contains("needs network.alibabacloud.com/eip-internet-charge-type")
    );
    assert!(refused(&[("eip-isp", "bgp")]).contains("allowed is BGP, BGP_PRO, ChinaTelecom"));
}

#[test]
fn ids_have_their_prefix() {
    for (key, prefix) in [
        ("eip-common-bandwidth-package-id", "cbwp-"),
        ("eip-public-ip-address-pool-id", "pippool-"),
        ("eip-resource-group-id", "rg-"),
        ("pod-eip-instanceid", "eip-"),
    ] {
        for value in
            ["x", prefix, "eni-1", " ", &format!("{prefix}a b"), &format!("{prefix}a&b"), &format!(" {prefix}a")]
        {
            let text = refused(&[(key, value)]);
            assert!(text.contains(&format!("allowed is an id such as {prefix}")), "{text}");
        }
    }
}

#[test]
fn strategies() {
    let strategy = |text: &str| {
        let pairs = [("k8s.aliyun.com/pod-with-eip", "true"), ("k8s.aliyun.com/pod-eip-release-strategy", text)];
        read(&map(&pairs)).map(|requested| requested.unwrap().wish.strategy)
    };
    assert_eq!(strategy("Follow"), Ok(Strategy::Follow));
    assert_eq!(strategy("Never"), Ok(Strategy::Never));
    assert_eq!(strategy("5m30s"), Ok(Strategy::After(GoDuration(std::time::Duration::from_secs(330)))));
    for text in ["never", "5", "0s", "-5m", "5d"] {
        let refusal = strategy(text).unwrap_err();
        assert_eq!((refusal.key, refusal.value.as_str()), ("k8s.aliyun.com/pod-eip-release-strategy", text));
        assert!(refusal.rule.ends_with("allowed is Follow, Never or a duration above zero such as 5m30s"));
    }
}

#[test]
fn unknown_protection_types_are_refused() {
    for value in ["AntiDDoS", ",", "AntiDDoS_Enhanced,", "antiddos_enhanced"] {
        let text = refused(&[("eip-security-protection-types", value)]);
        assert!(text.ends_with("allowed is a comma-separated list of AntiDDoS_Enhanced"), "{text}");
    }
}

#[test]
fn tags_leave_room_for_ours_and_keep_the_rules() {
    let many = |count: usize| {
        let tags: BTreeMap<_, _> = (0..count).map(|i| (format!("k{i}"), "v".to_owned())).collect();
        serde_json::to_string(&tags).unwrap()
    };
    assert_eq!(parameters(&[("eip-tags", &many(15))]).unwrap().tags.len(), 15);
    assert!(refused(&[("eip-tags", &many(16))]).contains("16 tags are too many: allowed is at most 15"));
    assert!(parameters(&[("eip-tags", "{}")]).unwrap().tags.is_empty());
    let long = "ü".repeat(128);
    assert!(parameters(&[("eip-tags", &json!({ &long: &long }).to_string())]).is_ok());
    let too_long = "ü".repeat(129);
    for tags in [
        json!({ "podeip-uid": "x" }),
        json!({ "aliyun-x": "x" }),
        json!({ "acs:x": "x" }),
        json!({ "x": "aliyun-x" }),
        json!({ "x": "acs:x" }),
        json!({ "x": "" }),
        json!({ "": "x" }),
        json!({ &too_long: "x" }),
        json!({ "x": &too_long }),
        json!({ "x": "see http://x" }),
        json!({ "https://x": "x" }),
    ] {
        let text = refused(&[("eip-tags", &tags.to_string())]);
        assert!(text.contains(" must "), "{text}");
    }
    for value in ["team=a", "[]", "{\"a\":1}", "{\"a\":null}", "null", "{\"a\":\"b\"} x"] {
        assert!(refused(&[("eip-tags", value)]).contains("allowed is a JSON object of strings"), "{value}");
    }
}

#[test]
fn a_refusal_fits_an_event() {
    let text = refused(&[("eip-tags", &format!("\n{}", "x".repeat(100_000)))]);
    assert!(text.len() < 300 && !text.contains('\n'), "{text}");
}

#[test]
fn parameters_survive_the_record() {
    let read = parameters(&[("eip-tags", r#"{"a":"b"}"#), ("eip-isp", "BGP_PRO"), ("eip-name", "n")]).unwrap();
    let stored = serde_json::to_value(&read).unwrap();
    assert_eq!(stored["internetChargeType"], "PayByTraffic");
    assert_eq!(serde_json::from_value::<Parameters>(stored).unwrap(), read);
}

const ALL: [Keys; 3] = [WITH_EIP, INSTANCE_ID, RELEASE_STRATEGY];

fn our_keys() -> Vec<&'static str> {
    ALL.iter().chain(&CREATION).flat_map(|keys| keys.iter().copied()).collect()
}

proptest! {
    #[test]
    fn any_texts_under_our_keys_are_read_or_refused(
        texts in btree_map(
            prop::sample::select(our_keys()).prop_map(str::to_owned),
            prop_oneof![any::<String>(), "true|false|eip-1|Never|5m|[0-9]{1,3}|PayBy(Traffic|Bandwidth)|BGP|\\{\"a\":\"b\"\\}"],
            0..8,
        ),
    ) {
        match read(&texts) {
            Ok(None) => {}
            Ok(Some(requested)) => prop_assert!(requested.notices.len() <= 2 * 14 + 2),
            Err(refusal) => prop_assert_eq!(&texts[refusal.key], &refusal.value),
        }
    }

    #[test]
    fn foreign_annotations_ask_for_nothing(texts in btree_map(any::<String>(), any::<String>(), 0..8)) {
        let foreign = texts.into_iter().filter(|(key, _)| !our_keys().contains(&key.as_str())).collect();
        prop_assert_eq!(read(&foreign), Ok(None));
    }
}
