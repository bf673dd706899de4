//! Commands in containers.

use super::super::exec::{Ended, Exec};
use super::*;

const TARGET: &str = "/api/v1/namespaces/default/pods/web-0/exec?container=main&command=cat&command=/a&stdout=true";

fn api_with_pod() -> KubeApi {
    let api = api();
    api.create_pod(&PodSpec { phase: "Running".into(), node: "node-1".into(), ..PodSpec::new("default", "web-0") });
    api.set_executor(|exec| {
        let expected = Exec {
            namespace: "default".into(),
            pod: "web-0".into(),
            container: "main".into(),
            command: vec!["cat".into(), "/a".into()],
        };
        assert_eq!(*exec, expected);
        Ended { code: 3, stdout: b"out".to_vec(), stderr: b"err".to_vec() }
    });
    api
}

fn asked(target: &str) -> Request {
    let upgraded = with_header(request("GET", target, &Value::Null), "upgrade", "websocket");
    with_header(upgraded, "sec-websocket-protocol", "v9.channel.k8s.io, v5.channel.k8s.io")
}

#[test]
fn what_a_command_printed_and_how_it_ended_is_said() {
    let reply = api_with_pod().answer(&asked(TARGET));
    let Body::Conversation(said) = reply.body else { panic!("{reply:?}") };
    assert_eq!((reply.status, said.protocol.as_str()), (101, "v5.channel.k8s.io"));
    let [out, err, outcome] = said.messages.as_slice() else { panic!("{said:?}") };
    assert_eq!((out.as_slice(), err.as_slice(), outcome[0]), (b"\x01out".as_slice(), b"\x02err".as_slice(), 3));
    let outcome: Value = serde_json::from_slice(&outcome[1..]).unwrap();
    assert_eq!((&outcome["status"], &outcome["reason"]), (&json!("Failure"), &json!("NonZeroExitCode")));
    assert_eq!(outcome["details"]["causes"], json!([{ "reason": "ExitCode", "message": "3" }]));
}

#[test]
fn what_cannot_be_run_is_refused() {
    let api = api_with_pod();
    let refusal = |request: Request| {
        let (code, status) = read(api.answer(&request));
        (code, status["message"].as_str().unwrap().to_owned())
    };
    for (part, other, code, why) in [
        ("web-0", "web-1", 404, "pods \"web-1\" not found"),
        ("main", "side", 400, "container side is not valid for pod web-0"),
        ("stdout=true", "stdin=true", 400, "simulates neither stdin nor a terminal"),
        ("&stdout=true", "", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("&command=cat&command=/a", "", 400, "you must specify a command"),
    ] {
        let (found, message) = refusal(asked(&TARGET.replace(part, other)));
        assert!(found == code && message.contains(why), "{found}: {message}");
    }
    let (code, message) = refusal(with_header(asked(TARGET), "upgrade", "SPDY/3.1"));
    assert!(code == 400 && message.contains("use kubectl 1.31"), "{message}");
    let (code, message) = refusal(request("GET", TARGET, &Value::Null));
    assert!(code == 400 && message.contains("Upgrade request required"), "{message}");
    api.deny("get", "pods/exec");
    assert_eq!(refusal(asked(TARGET)).0, 403);
}
