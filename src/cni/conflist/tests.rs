use std::fs;
use std::path::Path;

use serde_json::Value;

use super::*;

fn wanted() -> Wanted {
    Wanted {
        config: "/etc/podeip/eni_conf".into(),
        kubeconfig: "/etc/podeip/kubeconfig".into(),
        state_dir: "/var/lib/cni/podeip".into(),
    }
}

fn sample(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conflists");
    fs::read_to_string(directory.join(name)).unwrap()
}

fn types(list: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(list).unwrap();
    list["plugins"].as_array().unwrap().iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
}

/// Samples of primaries' lists, and the plugins of each when ours has come in.
const SAMPLES: [(&str, &[&str]); 10] = [
    ("10-terway-veth.conflist", &["terway", "podeip"]),
    ("10-terway-ipvlan.conflist", &["terway", "cilium-cni", "podeip"]),
    ("10-terway-datapathv2.conflist", &["terway", "cilium-cni", "podeip", "istio-cni"]),
    ("05-cilium.conflist", &["cilium-cni", "podeip"]),
    ("05-aws-cilium-chained.conflist", &["aws-cni", "egress-cni", "portmap", "cilium-cni", "podeip"]),
    ("10-calico.conflist", &["calico", "bandwidth", "portmap", "podeip", "linkerd-cni"]),
    ("10-flannel.conflist", &["flannel", "portmap", "podeip"]),
    ("10-bridge-one-line.conflist", &["bridge", "portmap", "firewall", "tuning", "podeip"]),
    ("87-podman-bridge-crlf.conflist", &["bridge", "portmap", "podeip"]),
    ("10-tabs.conflist", &["ptp", "podeip"]),
];

#[test]
fn our_stanza_comes_after_the_primarys_chain_and_goes_without_a_trace() {
    for (name, expected) in SAMPLES {
        let original = sample(name);
        let list = chained(&original, &wanted()).unwrap().unwrap();
        assert_eq!(types(&list), expected, "{name}");
        let ours = list.len() - original.len();
        let at = (0..=original.len()).rev().find(|at| list.starts_with(&original[..*at])).unwrap();
        assert_eq!(list[at + ours..], original[at..], "{name}: every other byte is as it was");
        assert_eq!(chained(&list, &wanted()).unwrap(), None, "{name}: and stays");
        assert_eq!(unchained(&list).unwrap().as_deref(), Some(original.as_str()), "{name}");
        assert_eq!(unchained(&original).unwrap(), None, "{name}");
    }
}

#[test]
fn the_stanza_is_written_in_the_style_of_the_list() {
    let list = |name| chained(&sample(name), &wanted()).unwrap().unwrap();
    let tabs = list("10-tabs.conflist");
    assert!(
        tabs.contains("\t\t},\n\t\t{\n\t\t\t\"type\": \"podeip\",\n\t\t\t\"capabilities\": {\n\t\t\t\t\""),
        "{tabs}"
    );
    let windows = list("87-podman-bridge-crlf.conflist");
    assert!(windows.contains("},\r\n      {\r\n         \"type\": \"podeip\",\r\n"), "{windows}");
    assert!(!windows.replace("\r\n", "").contains('\n'));
    let one_line = list("10-bridge-one-line.conflist");
    assert!(one_line.contains(r#", {"type":"podeip","capabilities":{"#), "{one_line}");
}

#[test]
fn a_stanza_that_is_wrong_is_put_right() {
    let right = r#"{"type":"podeip","config":"/etc/podeip/eni_conf","logFile":"/l","logLevel":"debug"}"#;
    let list = |plugins: &str| format!(r#"{{"cniVersion":"0.4.0","name":"n","plugins":[{plugins}],"x":1e400}}"#);
    let repaired = |plugins: &str| chained(&list(plugins), &wanted()).unwrap();
    let in_place = [
        format!(r#"{{"type":"a"}},{right}"#),
        format!(r#"{{"type":"a"}},{right},{{"type":"unknown"}}"#),
        format!(r#"{{"type":"a"}},{{"type":"istio-cni"}},{right}"#),
    ];
    for plugins in in_place {
        assert_eq!(repaired(&plugins), None, "{plugins}");
    }
    let written = r#"{"type":"podeip","capabilities":{"io.kubernetes.cri.pod-annotations":true},"config":"/etc/podeip/eni_conf","kubeconfig":"/etc/podeip/kubeconfig","stateDir":"/var/lib/cni/podeip","logFile":"/l","logLevel":"debug"}"#;
    let out_of_place = [
        (format!(r#"{right}, {{"type":"a"}}"#), r#"{"type":"a"}"#),
        (format!(r#"{{"type":"a"}},{right},{right}"#), r#"{"type":"a"}"#),
        (format!(r#"{{"type":"a"}},{right},{{"type":"portmap"}}"#), r#"{"type":"a"},{"type":"portmap"}"#),
        (format!(r#"{{"type":"a"}},{}"#, right.replace("/etc/podeip", "/elsewhere")), r#"{"type":"a"}"#),
        (format!(r#"{{"type":"a"}},{}"#, right.replace("\"config\"", "\"stateDir\":7,\"config\"")), r#"{"type":"a"}"#),
    ];
    for (plugins, others) in out_of_place {
        assert_eq!(repaired(&plugins).unwrap(), list(&format!("{others},{written}")), "{plugins}");
    }
    let bad_log = right.replace(r#""debug""#, r#""loud""#).replace("/etc/podeip", "/e");
    let rewritten = repaired(&format!(r#"{{"type":"a"}},{bad_log}"#)).unwrap();
    assert!(rewritten.contains(r#""logFile":"/l""#) && !rewritten.contains("logLevel"), "{rewritten}");
}

#[test]
fn a_text_that_cannot_carry_it_is_refused_with_the_reason() {
    let cases = [
        ("", "not valid JSON"),
        ("{\"plugins\":[", "not valid JSON"),
        ("// c\n{}", "not valid JSON"),
        (r#"{"cniVersion":"1.0.0","plugins":[{"type":"a"},]}"#, "not valid JSON"),
        (r#"{"cniVersion":"1.0.0","name":"n"}"#, "no \"plugins\""),
        (r#"{"cniVersion":"1.0.0","plugins":null}"#, "no \"plugins\""),
        (r#"{"cniVersion":"1.0.0","plugins":{"type":"a"}}"#, "no array"),
        (r#"{"cniVersion":"1.0.0","plugins":[]}"#, "empty"),
        (r#"{"cniVersion":"1.0.0","plugins":["a"]}"#, "no \"type\""),
        (r#"{"cniVersion":"1.0.0","plugins":[{"type":"podeip"},{"type":"podeip"}]}"#, "the only plugin"),
        (r#"{"cniVersion":"1.0.0","plugins":[{"type":"multus-shim"}]}"#, "Multus"),
        (r#"{"plugins":[{"type":"a"}]}"#, "cniVersion is missing"),
        (r#"{"cniVersion":"0.2.0","plugins":[{"type":"a"}]}"#, "cniVersion is \"0.2.0\""),
        (r#"{"cniVersion":"1.2.0","plugins":[{"type":"a"}]}"#, "cniVersion is \"1.2.0\""),
    ];
    for (text, reason) in cases {
        let error = chained(text, &wanted()).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    // Out it goes whatever the version.
    let old = r#"{"plugins":[{"type":"a"},{"type":"podeip"}]}"#;
    assert_eq!(unchained(old).unwrap().as_deref(), Some(r#"{"plugins":[{"type":"a"}]}"#));
    assert!(matches!(unchained(r#"{"plugins":[{"type":"podeip"}]}"#), Err(Unfit::OnlyOurs)));
}

#[test]
fn a_lone_conf_becomes_a_list() {
    let conf = sample("10-lone.conf");
    let list = list_from_conf(&conf, &wanted()).unwrap();
    assert_eq!(types(&list), ["macvlan", "podeip"]);
    assert!(list.contains(conf.trim()), "as it is spelt: {list}");
    let (list, conf): (Value, Value) = (serde_json::from_str(&list).unwrap(), serde_json::from_str(&conf).unwrap());
    assert_eq!((&list["name"], &list["cniVersion"]), (&conf["name"], &conf["cniVersion"]));

    let cases = [
        (r#"{"cniVersion":"1.0.0","name":"n","shape":"unknown"}"#, "no \"type\""),
        (r#"{"cniVersion":"1.0.0","type":"a"}"#, "no \"name\""),
        (r#"{"cniVersion":"1.0.0","name":"n","type":"a","plugins":[]}"#, "content of a list"),
        (r#"{"cniVersion":"0.1.0","name":"n","type":"a"}"#, "cniVersion is \"0.1.0\""),
        (r#"{"cniVersion":"1.0.0","name":"n","type":"multus","delegates":[]}"#, "Multus"),
        (r#"{"cniVersion":"1.0.0","name":"n","type":"podeip"}"#, "the only plugin"),
    ];
    for (text, reason) in cases {
        let error = list_from_conf(text, &wanted()).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}
