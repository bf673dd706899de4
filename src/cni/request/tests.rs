use serde_json::{Value, json};

use super::*;

const ADD: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "0f3c"),
    ("CNI_NETNS", "/var/run/netns/cni-1"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_ARGS", "K8S_POD_UID=u-1;IgnoreUnknown=1;K8S_POD_NAMESPACE=team-a;K8S_POD_NAME=pod1"),
];

/// Reads with the variables of `ADD`, changed by `changes` (an empty value removes one).
fn read_raw(changes: &[(&str, &str)], stdin: &str) -> Result<Request, CniError> {
    let variable = |name: &str| {
        let changed = changes.iter().chain(&ADD).find(|(key, _)| *key == name);
        changed.map(|(_, value)| value.to_string())
    };
    read(variable, &mut stdin.as_bytes())
}

fn read_json(changes: &[(&str, &str)], stdin: Value) -> Result<Request, CniError> {
    read_raw(changes, &stdin.to_string())
}

fn config() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "recnet", "type": "podeip",
        "capabilities": { POD_ANNOTATIONS: true },
        "prevResult": { "ips": [{ "address": "10.1.0.3/24" }] },
        "runtimeConfig": { POD_ANNOTATIONS: { "a": "{\"b\": \"c;d=e\"}\nf" }, "cgroupPath": "/x" },
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut config = config();
    config[key] = value;
    config
}

fn without(key: &str) -> Value {
    let mut config = config();
    config.as_object_mut().unwrap().remove(key);
    config
}

fn refused(changes: &[(&str, &str)], stdin: Value) -> (u32, String) {
    let error = read_json(changes, stdin).unwrap_err();
    (error.code.number(), error.msg)
}

fn answered_version(error: &CniError) -> Value {
    serde_json::from_str::<Value>(&error.to_json()).unwrap()["cniVersion"].clone()
}

#[test]
fn reads_a_whole_add() {
    let request = read_json(&[], config()).unwrap();
    assert_eq!(request.command, Command::Add);
    assert_eq!((request.cni_version.as_str(), request.name.as_str()), ("1.0.0", "recnet"));
    assert_eq!((request.container_id.as_str(), request.ifname.as_str()), ("0f3c", "eth0"));
    assert_eq!(request.netns, "/var/run/netns/cni-1");
    let pod = request.args.pod().unwrap();
    assert_eq!((pod.to_string().as_str(), pod.uid), ("team-a/pod1", Some(&PodUid::new("u-1"))));
    assert_eq!(
        request.annotations,
        Annotations::Passed(BTreeMap::from([("a".into(), "{\"b\": \"c;d=e\"}\nf".into())]))
    );
    assert_eq!(request.prev_result.unwrap().pod_ipv4("eth0").unwrap().to_string(), "10.1.0.3");
    assert_eq!(request.valid_attachments, None);
    assert_eq!(request.stanza, Stanza::default());
}

#[test]
fn keeps_prev_result_as_it_came() {
    let raw = "{ \"z\" : 1.0,\n\t\"a\":[\"\\u003c\"], \"ips\":null }";
    let stdin = format!("\n {{\"name\":\"n\", \"prevResult\" : {raw} , \"cniVersion\":\"0.3.1\"}}\n");
    assert_eq!(read_raw(&[], &stdin).unwrap().prev_result.unwrap().json(), raw);
}

#[test]
fn names_every_missing_variable() {
    let missing = |command, gone: &[&str]| {
        let changes: Vec<_> =
            [("CNI_COMMAND", command)].into_iter().chain(gone.iter().map(|name| (*name, ""))).collect();
        refused(&changes, config())
    };
    let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
    let expected = "required environment variables missing: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME";
    assert_eq!(missing("ADD", &all), (4, expected.into()));
    assert_eq!(missing("CHECK", &all), (4, expected.into()));
    let expected = "required environment variables missing: CNI_CONTAINERID, CNI_IFNAME";
    assert_eq!(missing("DEL", &all), (4, expected.into()));
    assert_eq!(missing("", &[]), (4, "required environment variables missing: CNI_COMMAND".into()));
    assert_eq!(missing("add", &[]), (4, "unknown CNI_COMMAND \"add\"".into()));
}

#[test]
fn checks_container_id_and_ifname() {
    for id in ["-a", ".", "a/b", "a b", "ä", "../x", "a\n"] {
        assert_eq!(refused(&[("CNI_CONTAINERID", id)], config()).0, 4, "{id}");
    }
    for ifname in [".", "..", "a/b", "a:b", "a b", "1234567890123456", "a\u{a0}b"] {
        assert_eq!(refused(&[("CNI_IFNAME", ifname)], config()).0, 4, "{ifname}");
    }
    for (id, ifname) in [("default-t1", "net1"), ("0", "123456789012345"), ("A_.-", "eth0.5")] {
        assert!(read_json(&[("CNI_CONTAINERID", id), ("CNI_IFNAME", ifname)], config()).is_ok());
    }
}

#[test]
fn the_environment_is_judged_before_stdin_and_errors_carry_its_version() {
    let error = read_raw(&[("CNI_IFNAME", "")], "{").unwrap_err();
    assert_eq!((error.code, answered_version(&error)), (Code::BadEnvironment, "1.1.0".into()));
    let error = read_json(&[("CNI_COMMAND", "PUT")], with("cniVersion", json!("0.4.0"))).unwrap_err();
    assert_eq!((error.code, answered_version(&error)), (Code::BadEnvironment, "0.4.0".into()));
    let error = read_json(&[], with("logLevel", json!(3))).unwrap_err();
    assert_eq!((error.code, answered_version(&error)), (Code::Configuration, "1.0.0".into()));
    let error = read_json(&[], with("cniVersion", json!("7.0.0"))).unwrap_err();
    assert_eq!((error.code, answered_version(&error)), (Code::IncompatibleVersion, "7.0.0".into()));
}

#[test]
fn refuses_what_is_not_json() {
    for stdin in ["", "{", "null", "[]", "{} x", "{\"a\":}", "{\"name\":\"n\",\"cniVersion\":1,\"prevResult\":{}}"] {
        assert_eq!(read_raw(&[], stdin).unwrap_err().code, Code::Decoding, "{stdin}");
    }
    for (key, value) in [
        ("prevResult", json!([])),
        ("runtimeConfig", json!("x")),
        ("runtimeConfig", json!({ POD_ANNOTATIONS: ["a"] })),
        ("runtimeConfig", json!({ POD_ANNOTATIONS: { "a": 1 } })),
        ("name", json!(4)),
    ] {
        let (code, msg) = refused(&[], with(key, value));
        assert_eq!(code, 6, "{msg}");
    }
}

#[test]
fn refuses_endless_input() {
    let mut stdin = std::io::repeat(b' ');
    let error = read(|name| ADD.iter().find(|(key, _)| *key == name).map(|(_, v)| v.to_string()), &mut stdin);
    assert_eq!(error.unwrap_err().msg, "stdin is longer than 4194304 bytes");
}

#[test]
fn versions_without_chains_are_refused() {
    for version in [json!("0.1.0"), json!("0.2.0"), json!(""), Value::Null, json!("1.2.0")] {
        let (code, msg) = refused(&[], with("cniVersion", version));
        assert_eq!(code, 1);
        assert!(msg.contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{msg}");
    }
    for (command, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")] {
        assert_eq!(refused(&[("CNI_COMMAND", command)], with("cniVersion", json!(version))).0, 1, "{command}");
    }
}

#[test]
fn every_command_but_version_needs_a_network_name() {
    for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
        let mut config = with("cniVersion", json!("1.1.0"));
        for name in [Value::Null, json!(""), json!("../x"), json!("a b")] {
            config["name"] = name;
            assert_eq!(refused(&[("CNI_COMMAND", command)], config.clone()).0, 7, "{command}");
        }
    }
}

#[test]
fn add_without_prev_result_names_the_remedy() {
    for config in [without("prevResult"), with("prevResult", Value::Null)] {
        let (code, msg) = refused(&[], config);
        assert_eq!(code, 7);
        assert!(msg.contains("podeip must stand after the primary network plugin"), "{msg}");
    }
}

#[test]
fn annotations_not_passed_differ_from_none() {
    let annotations = |config| read_json(&[], config).unwrap().annotations;
    assert_eq!(annotations(without("runtimeConfig")), Annotations::NotPassed);
    assert_eq!(annotations(with("runtimeConfig", Value::Null)), Annotations::NotPassed);
    assert_eq!(annotations(with("runtimeConfig", json!({ "portMappings": [] }))), Annotations::NotPassed);
    for none in [Value::Null, json!({})] {
        let passed = annotations(with("runtimeConfig", json!({ POD_ANNOTATIONS: none })));
        assert_eq!(passed, Annotations::Passed(BTreeMap::new()));
    }
}

#[test]
fn del_is_served_with_what_there_is() {
    let del = |stdin| read_json(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")], stdin);
    let mut config = json!({ "name": "n", "stateDir": "/s" });
    for version in ["0.1.0", "0.3.0", "0.4.0", "1.1.0", "1.9.0"] {
        config["cniVersion"] = json!(version);
        let request = del(config.clone()).unwrap();
        assert_eq!((request.netns.as_str(), request.prev_result.is_none()), ("", true));
        assert_eq!(request.stanza.state_dir, std::path::Path::new("/s"));
    }
    config["logLevel"] = json!("loud");
    config["runtimeConfig"] = json!([]);
    config["prevResult"] = json!(5);
    assert!(del(config.clone()).is_ok());
    config["stateDir"] = json!("s");
    assert_eq!(del(config).unwrap_err().code, Code::Configuration);
}

#[test]
fn gc_tells_nothing_said_from_nothing_valid() {
    let gc = |key: &str, value: Value| {
        let mut config = json!({ "name": "n", "cniVersion": "1.1.0" });
        config[key] = value;
        read_json(&[("CNI_COMMAND", "GC"), ("CNI_CONTAINERID", ""), ("CNI_IFNAME", "")], config)
    };
    let valid = |key, value| gc(key, value).unwrap().valid_attachments;
    let key = "cni.dev/valid-attachments";
    assert_eq!(valid("other", json!(1)), None);
    assert_eq!(valid(key, Value::Null), Some(vec![]));
    assert_eq!(valid(key, json!([])), Some(vec![]));
    let listed = json!([{ "containerID": "c1", "ifname": "eth0", "later": 1 }]);
    let expected = Some(vec![(ContainerId::new("c1"), "eth0".to_owned())]);
    assert_eq!(valid(key, listed.clone()), expected);
    assert_eq!(valid("cni.dev/attachments", listed), expected);
    // Half an entry must not read as "not valid".
    assert_eq!(gc(key, json!([{ "containerID": "c1" }])).unwrap_err().code, Code::Decoding);
}

#[test]
fn version_is_answered_for_any_stdin() {
    let asked = |stdin: &str| {
        let dummies =
            [("CNI_COMMAND", "VERSION"), ("CNI_CONTAINERID", ""), ("CNI_NETNS", "dummy"), ("CNI_IFNAME", "dummy")];
        let request = read_raw(&dummies, stdin).unwrap();
        assert_eq!(request.command, Command::Version);
        request.cni_version
    };
    assert_eq!(asked(""), "1.1.0");
    assert_eq!(asked("{"), "1.1.0");
    assert_eq!(asked(r#"{"cniVersion":"0.4.0"}"#), "0.4.0");
    assert_eq!(asked(r#"{"cniVersion":"2.0.0"}"#), "2.0.0");
    assert_eq!(asked(r#"{"cniVersion":2}"#), "1.1.0");
}

#[test]
fn args_in_any_order_and_shape() {
    let args = PodArgs::of(";;junk;=x;K8S_POD_NAME=a=b;K8S_POD_NAMESPACE=;IP=1.2.3.4;K8S_POD_UID=u");
    assert_eq!(args, PodArgs { namespace: None, name: Some("a=b".into()), uid: Some(PodUid::new("u")) });
    assert_eq!(args.pod(), None);
    // podman
    assert_eq!(PodArgs::of("IgnoreUnknown=1;K8S_POD_NAME=web").pod(), None);
    // Runtimes before 2021 send no UID.
    let args = PodArgs::of("K8S_POD_NAME=web;K8S_POD_NAMESPACE=d");
    assert_eq!(args.pod(), Some(KubernetesPod { namespace: "d", name: "web", uid: None }));
    assert_eq!(PodArgs::of(""), PodArgs::default());
}

proptest::proptest! {
    #[test]
    fn any_input_gets_an_answer(command in "ADD|DEL|CHECK|GC|STATUS|VERSION|X", args in ".*", stdin in ".*") {
        let _ = read_raw(&[("CNI_COMMAND", &command), ("CNI_ARGS", &args)], &stdin);
    }
}
