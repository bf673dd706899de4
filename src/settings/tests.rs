use serde_json::json;

use super::*;

const PATH: &str = "/etc/podeip/eni_conf";

fn parse_with(json: Value, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
    Settings::parse(json.to_string().as_bytes(), Path::new(PATH), variable)
}

fn parse(json: Value) -> Result<Settings, SettingsError> {
    parse_with(json, &[])
}

fn refused(json: Value) -> String {
    parse(json.clone()).map(|_| panic!("{json} was accepted")).unwrap_err().to_string()
}

/// As an ACK cluster has it, with our keys added.
const REALISTIC: &str = r#"{
  "version": "1",
  "max_pool_size": 5,
  "min_pool_size": 0,
  "credential_path": "/var/addon/token-config",
  "access_key": "",
  "access_secret": "",
  "vswitches": {"cn-hangzhou-i": ["vsw-bp1a", "vsw-bp1b"]},
  "eni_tags": {"ack.aliyun.com": "c2a5"},
  "service_cidr": "172.21.0.0/20",
  "security_group": "sg-bp1x",
  "security_groups": null,
  "ip_stack": "ipv4",
  "enable_eni_trunking": false,
  "vswitch_selection_policy": "ordered",
  "eni_cap_ratio": 1,
  "enable_eip_pool": "true",
  "allow_eip_rob": "false",
  "custom_stateful_workload_kinds": ["CloneSet"],
  "kube_client_qps": 20,
  "kube_client_burst": "30",
  "cluster_id": "c2a5",
  "eip_add_timeout_seconds": "90"
}"#;

#[test]
fn reads_a_realistic_terway_file() {
    let settings = Settings::parse(REALISTIC.as_bytes(), Path::new(PATH), |_| None).unwrap();
    assert!(settings.enabled && !settings.allow_rob && !settings.enable_rrsa);
    assert_eq!(settings.credential_path.as_deref(), Some(Path::new("/var/addon/token-config")));
    assert_eq!(settings.access_key, None);
    assert_eq!(settings.custom_stateful_workload_kinds, ["CloneSet"]);
    assert_eq!((settings.kube_client_qps, settings.kube_client_burst), (20.0, 30));
    assert_eq!(settings.required_cluster_id().unwrap(), "c2a5");
    assert_eq!(settings.add_timeout, Duration::from_secs(90));
}

#[test]
fn an_empty_file_has_the_defaults() {
    let settings = parse(json!({})).unwrap();
    let expected = Settings {
        enabled: false,
        allow_rob: false,
        region_id: None,
        vpc_id: None,
        cluster_id: None,
        access_key: None,
        credential_path: None,
        enable_rrsa: false,
        rrsa_role_name: None,
        custom_stateful_workload_kinds: vec![],
        gc_period: Duration::from_secs(60),
        add_timeout: Duration::from_secs(60),
        del_timeout: Duration::from_secs(15),
        orphan_grace: Duration::from_secs(600),
        kube_client_qps: 5.0,
        kube_client_burst: 10,
        coexistence: Coexistence::Refuse,
        late_attach: LateAttach::Event,
        eip_quota: None,
        endpoints: Endpoints::default(),
        path: PATH.into(),
    };
    assert_eq!(settings, expected);
    assert_eq!(
        settings.required_cluster_id().unwrap_err().to_string(),
        "the settings in /etc/podeip/eni_conf: key \"cluster_id\" is missing: it is written into the owner tags, so \
         \"enable_eip_pool\" needs it"
    );
}

#[test]
fn switches_are_bools_or_texts() {
    for (value, on) in [(json!(true), true), (json!("true"), true), (json!("True"), true), (json!("false"), false)] {
        assert_eq!(parse(json!({ "enable_eip_pool": value })).unwrap().enabled, on);
    }
    for absent in [json!(null), json!(""), json!(false)] {
        assert!(!parse(json!({ "enable_eip_pool": absent })).unwrap().enabled);
    }
    assert_eq!(
        refused(json!({ "allow_eip_rob": "yes" })),
        "the settings in /etc/podeip/eni_conf: key \"allow_eip_rob\" must be true or false, not \"yes\""
    );
    assert!(refused(json!({ "enable_rrsa": 1 })).contains("\"enable_rrsa\""));
}

#[test]
fn a_quota_may_be_unknown() {
    for (given, quota) in [(json!(null), None), (json!(""), None), (json!(300), Some(300)), (json!("300"), Some(300))] {
        assert_eq!(parse(json!({ "eip_quota": given })).unwrap().eip_quota, quota);
    }
    assert!(refused(json!({ "eip_quota": 0 })).ends_with("\"eip_quota\" must be a whole number from 1 on, not 0"));
}

#[test]
fn choices_are_words() {
    for (word, choice) in [("refuse", Coexistence::Refuse), ("ignore", Coexistence::Ignore)] {
        assert_eq!(parse(json!({ "coexistence": word })).unwrap().coexistence, choice);
    }
    for (word, choice) in [("event", LateAttach::Event), ("attach", LateAttach::Attach), ("off", LateAttach::Off)] {
        assert_eq!(parse(json!({ "late_attach": word })).unwrap().late_attach, choice);
    }
    let absent = parse(json!({ "coexistence": null, "late_attach": "" })).unwrap();
    assert_eq!((absent.coexistence, absent.late_attach), (Coexistence::Refuse, LateAttach::Event));
    for wrong in [json!("Ignore"), json!("off"), json!(true), json!(0)] {
        let expected = format!(
            "the settings in /etc/podeip/eni_conf: key \"coexistence\" must be \"refuse\" or \"ignore\", not {wrong}"
        );
        assert_eq!(refused(json!({ "coexistence": wrong })), expected);
    }
    assert_eq!(
        refused(json!({ "late_attach": false })),
        "the settings in /etc/podeip/eni_conf: key \"late_attach\" must be \"event\" or \"attach\" or \"off\", not false"
    );
}

#[test]
fn numbers_without_sense_are_refused_by_name() {
    let above_zero = [
        "eip_gc_period_minutes",
        "eip_add_timeout_seconds",
        "eip_del_timeout_seconds",
        "kube_client_burst",
        "kube_client_qps",
    ];
    for key in above_zero {
        for value in [json!(0), json!("0"), json!(-1), json!("-1"), json!("soon"), json!([]), json!(true), json!("5s")]
        {
            assert!(refused(json!({ key: value })).contains(&format!("key \"{key}\" must be")), "{key} {value}");
        }
        assert!(parse(json!({ key: 7 })).is_ok() && parse(json!({ key: "7" })).is_ok(), "{key}");
    }
    for value in ["NaN", "inf"] {
        refused(json!({ "kube_client_qps": value }));
    }
    assert_eq!(parse(json!({ "kube_client_qps": 0.5 })).unwrap().kube_client_qps, 0.5);
    assert_eq!(parse(json!({ "eip_orphan_grace_minutes": 0 })).unwrap().orphan_grace, Duration::ZERO);
    assert_eq!(
        refused(json!({ "eip_orphan_grace_minutes": 1.5 })),
        "the settings in /etc/podeip/eni_conf: key \"eip_orphan_grace_minutes\" must be a whole number from 0 on, not 1.5"
    );
}

#[test]
fn the_longest_times_do_not_overflow() {
    let settings = parse(json!({ "eip_gc_period_minutes": u32::MAX, "eip_add_timeout_seconds": u32::MAX })).unwrap();
    assert!(crate::deadline::Deadline::after(settings.gc_period).left() > settings.add_timeout);
}

#[test]
fn a_secret_is_never_in_an_error_or_debug_text() {
    let secret = "hunter2hunter2";
    for json in [
        json!({ "access_key": "LTAI", "access_secret": [secret] }),
        json!({ "access_key": { "k": secret }, "access_secret": "x" }),
        json!({ "endpoints": { "vpc": format!("https://user:{secret}@host") } }),
        json!({ "endpoints": [secret] }),
        json!([secret]),
        json!(secret),
    ] {
        let error = parse(json).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret));
    }
    let broken = format!("{{\"access_secret\": \"{secret}\" \"x\": 1}}");
    let error = anyhow::Error::new(Settings::parse(broken.as_bytes(), Path::new(PATH), |_| None).unwrap_err());
    assert!(!format!("{error:#} {error:?}").contains(secret));
    let settings = parse(json!({ "access_key": "LTAI", "access_secret": secret })).unwrap();
    assert!(!format!("{settings:?}").contains(secret));
    assert_eq!(settings.access_key.unwrap().secret.reveal(), secret);
}

#[test]
fn half_an_access_key_is_none() {
    assert_eq!(parse(json!({ "access_key": "LTAI", "access_secret": "" })).unwrap().access_key, None);
    assert_eq!(parse(json!({ "access_secret": "s" })).unwrap().access_key, None);
}

#[test]
fn texts_of_the_wrong_kind_are_refused() {
    for json in [
        json!({ "region_id": 7 }),
        json!({ "region_id": "cn hangzhou" }),
        json!({ "region_id": "evil.example/?" }),
        json!({ "cluster_id": "aliyun-1" }),
        json!({ "credential_path": "token" }),
        json!({ "rrsa_role_name": true }),
        json!({ "custom_stateful_workload_kinds": "CloneSet" }),
        json!({ "custom_stateful_workload_kinds": [1] }),
    ] {
        let key = json.as_object().unwrap().keys().next().unwrap().clone();
        assert!(refused(json).contains(&format!("key \"{key}\"")));
    }
}

#[test]
fn endpoints_become_base_urls() {
    let endpoints = json!({ "vpc": "https://vpc.example/", "ecs": "http://127.0.0.1:8080", "sts": "sts.example:443",
        "metadata": "100.100.100.200", "later": 1 });
    let read = parse(json!({ "endpoints": endpoints })).unwrap().endpoints;
    let expected = Endpoints {
        vpc: Some("https://vpc.example".into()),
        ecs: Some("http://127.0.0.1:8080".into()),
        sts: Some("https://sts.example:443".into()),
        metadata: Some("http://100.100.100.200".into()),
        plain_http: false,
    };
    assert_eq!(read, expected);
    let ipv6 = parse(json!({ "endpoints": { "vpc": "http://[::1]:80" } })).unwrap().endpoints.vpc;
    assert_eq!(ipv6.as_deref(), Some("http://[::1]:80"));
    for url in [
        "ftp://x",
        "https://",
        "https://a/b",
        "https://a?b",
        "a b",
        "https://a#b",
        "https://u@a",
        "https://a:x",
        "https://a:",
    ] {
        assert!(
            refused(json!({ "endpoints": { "vpc": url } })).contains("key \"endpoints.vpc\" must be a URL"),
            "{url}"
        );
    }
}

#[test]
fn terways_variables_give_host_and_port_only() {
    let variables = [
        ("VPC_ENDPOINT", "https://vpc.example:81"),
        ("ECS_ENDPOINT", "ecs.example"),
        ("ALICLOUD_CLIENT_SCHEME", "HTTP"),
    ];
    let read = parse_with(json!({}), &variables).unwrap().endpoints;
    assert_eq!(read.vpc.as_deref(), Some("http://vpc.example:81"));
    assert_eq!(read.ecs.as_deref(), Some("http://ecs.example"));
    assert!(read.plain_http);

    let read = parse_with(json!({}), &[("VPC_ENDPOINT", "http://vpc.example"), ("ALICLOUD_CLIENT_SCHEME", "http")]);
    assert_eq!(read.unwrap().endpoints.vpc.as_deref(), Some("https://vpc.example"));

    let explicit = json!({ "endpoints": { "vpc": "https://mine.example" } });
    let read = parse_with(explicit, &variables).unwrap().endpoints;
    assert_eq!(read.vpc.as_deref(), Some("https://mine.example"));
    assert_eq!(read.ecs.as_deref(), Some("http://ecs.example"));

    let error = parse_with(json!({}), &[("VPC_ENDPOINT", "u:p@host/x")]).unwrap_err().to_string();
    assert!(error.starts_with("environment variable VPC_ENDPOINT must be a URL"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = Settings::read(Path::new("/nowhere/eni_conf"), |_| None).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read the settings in /nowhere/eni_conf"));
    assert_eq!(refused(json!([])), "the settings in /etc/podeip/eni_conf are not a JSON object");
}

#[test]
fn an_error_repeats_no_list_no_object_and_no_long_text() {
    let rest = json!({ "access_secret": "hush", "kinds": ["hush"] });
    for key in ["enable_eip_pool", "coexistence", "kube_client_qps", "eip_gc_period_minutes"] {
        for (value, told) in [(rest.clone(), "not an object"), (json!([rest]), "not a list")] {
            let error = refused(json!({ key: value }));
            assert!(error.ends_with(told) && !error.contains("hush"), "{error}");
        }
        let error = refused(json!({ key: "é".repeat(9999) }));
        assert!(error.len() < 400 && error.contains("éé…"), "{error}");
    }
}
