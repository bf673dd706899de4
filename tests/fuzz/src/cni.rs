//! What a runtime passes: environment and stdin.

use std::collections::BTreeMap;

use libfuzzer_sys::Corpus;
use podeip::cni::error::CniError;
use podeip::cni::request::{self, Command, Request};
use serde_json::Value;

/// What go-cni takes for success in the answer to DEL.
const MISREAD: [&str; 2] = ["not found", "no such file or directory"];

/// Lines `NAME=value`, an empty line, and stdin.
pub fn stdin(data: &[u8]) -> Corpus {
    let Some(end) = data.windows(2).position(|two| two == b"\n\n") else { return Corpus::Reject };
    let Ok(head) = std::str::from_utf8(&data[..end]) else { return Corpus::Reject };
    // No variable can hold one.
    if head.contains('\0') {
        return Corpus::Reject;
    }
    let variables: BTreeMap<&str, &str> = head.lines().filter_map(|line| line.split_once('=')).collect();
    let body = &data[end + 2..];
    let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    match request::read(variable, &mut &body[..]) {
        Ok(request) => check_request(&request, body),
        Err(error) => check_error(&error, variables.get("CNI_COMMAND") == Some(&"DEL")),
    }
    Corpus::Keep
}

fn check_error(error: &CniError, deleting: bool) {
    let answer = error.to_json();
    let parsed: Value = serde_json::from_str(&answer).unwrap_or_else(|cause| panic!("{answer}: {cause}"));
    assert_eq!(parsed["code"], error.code.number());
    assert!(!parsed["msg"].as_str().unwrap_or_default().is_empty());
    assert!(!answer.contains('\n'));
    if deleting {
        let lower = answer.to_lowercase();
        assert!(!MISREAD.iter().any(|words| lower.contains(words)), "containerd takes this for success: {answer}");
    }
}

fn check_request(request: &Request, stdin: &[u8]) {
    let stanza = &request.stanza;
    for path in [&stanza.config, &stanza.kubeconfig, &stanza.state_dir, &stanza.log_file] {
        assert!(path.is_absolute(), "{path:?} counts from the runtime's directory");
    }
    // They become file names.
    for name in [request.container_id.as_str(), &request.ifname, &request.name] {
        assert!(!name.contains(['/', '\0']) && name != "." && name != "..", "{name:?} walks through directories");
    }
    let Some(result) = &request.prev_result else {
        assert!(request.command != Command::Add, "an ADD without a result");
        return;
    };
    let _ = result.pod_ipv4(&request.ifname);
    let text = result.json();
    assert!(text.starts_with('{'));
    let position = stdin.windows(text.len()).position(|part| part == text.as_bytes());
    assert!(position.is_some(), "the result is not echoed as it came: {text}");
    // Values keep the last of a key that is there twice, as we do.
    if let (Ok(whole), Ok(echoed)) = (serde_json::from_slice::<Value>(stdin), serde_json::from_str::<Value>(text)) {
        assert_eq!(whole["prevResult"], echoed);
    }
}

/// `CNI_ARGS` alone.
pub fn cni_args(data: &[u8]) -> Corpus {
    let Ok(args) = std::str::from_utf8(data) else { return Corpus::Reject };
    let read = |args: &str| {
        let variable = |name: &str| match name {
            "CNI_COMMAND" => Some("DEL".to_owned()),
            "CNI_CONTAINERID" => Some("c0ffee".to_owned()),
            "CNI_IFNAME" => Some("eth0".to_owned()),
            "CNI_ARGS" => Some(args.to_owned()),
            _ => None,
        };
        let stdin = br#"{"cniVersion":"1.0.0","name":"net","type":"podeip"}"#;
        // Only the arguments vary, and nothing in them is an error.
        request::read(variable, &mut &stdin[..]).unwrap().args
    };
    let found = read(args);
    let parts = [
        ("K8S_POD_NAMESPACE", found.namespace.as_deref()),
        ("K8S_POD_NAME", found.name.as_deref()),
        ("K8S_POD_UID", found.uid.as_ref().map(|uid| uid.as_str())),
    ];
    let again: Vec<String> =
        parts.iter().filter_map(|(key, value)| value.map(|value| format!("{key}={value}"))).collect();
    assert_eq!(read(&again.join(";")), found);
    if let Some(pod) = found.pod() {
        assert!(!pod.namespace.is_empty() && !pod.name.is_empty());
    }
    Corpus::Keep
}
