//! Whom podeip believes: TLS is always verified, and nobody sends it elsewhere with what it knows.

use std::io::ErrorKind;
use std::net::TcpListener;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podeip_sim::calls::ServiceKind;
use podeip_sim::cloud::defaults;
use podeip_sim::faults::{Effect, Rule, ServiceMatch};
use podeip_sim::world::Options;
use serde_json::json;

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP, start};

fn pod(scene: &Scene) -> Sandbox {
    scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(3));
    scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP])
}

/// ADD with what many programs take for more authorities, or for less verification.
fn add_persuaded(scene: &Scene, pod: &Sandbox) -> Answer {
    scene.write("ca.crt", &scene.world.certificates.ca);
    let mut command = scene.command("ADD", pod);
    command.env("SSL_CERT_FILE", scene.path("ca.crt")).env("SSL_CERT_DIR", scene.path(""));
    for variable in ["CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "KUBERNETES_CA_FILE"] {
        command.env(variable, scene.path("ca.crt"));
    }
    command.env("INSECURE", "true").env("INSECURE_SKIP_TLS_VERIFY", "true");
    start(command, &scene.stdin(pod, Some(pod.result()))).wait_with_output().unwrap().into()
}

#[test]
fn a_cloud_of_an_authority_that_is_not_public_sees_no_call() {
    let scene = Scene::with(Options { cloud_tls: true, ..Options::default() });
    assert!(scene.world.vpc_url.starts_with("https://"));
    let pod = pod(&scene);
    add_persuaded(&scene, &pod).assert_error(11, &["invalid peer certificate"]);
    assert!(scene.world.calls.all().iter().all(|call| call.service == ServiceKind::Kube));
}

#[test]
fn an_api_server_is_verified_by_authority_and_by_name() {
    let authority = |scene: &Scene| json!(STANDARD.encode(&scene.world.certificates.ca));
    let kubeconfig = |scene: &Scene, server: &str, named: bool| {
        let mut cluster = json!({"server": server});
        if named {
            cluster["certificate-authority-data"] = authority(scene);
        }
        json!({
            "current-context": "node",
            "clusters": [{"name": "node", "cluster": cluster}],
            "users": [{"name": "podeip", "user": {"token": defaults::KUBE_TOKEN}}],
            "contexts": [{"name": "node", "context": {"cluster": "node", "user": "podeip"}}],
        })
        .to_string()
    };
    // This machine too, and not named by the certificate.
    let elsewhere = |scene: &Scene| scene.world.kube_url.replace("127.0.0.1", "0.0.0.0");
    for (named, other_name, accepted) in [(true, false, true), (true, true, false), (false, false, false)] {
        let scene = Scene::new();
        let server = if other_name { elsewhere(&scene) } else { scene.world.kube_url.clone() };
        scene.write("kubeconfig", &kubeconfig(&scene, &server, named));
        let pod = pod(&scene);
        let answer = add_persuaded(&scene, &pod);
        if accepted {
            answer.assert_added(&pod);
            continue;
        }
        answer.assert_error(107, &["invalid peer certificate", "do not trust each other"]);
        assert!(scene.world.calls.all().iter().all(|call| call.service != ServiceKind::Kube), "{server}");
        assert!(scene.ever_ours().is_empty());
    }
}

#[test]
fn nobody_sends_podeip_elsewhere() {
    let services = [(ServiceMatch::Kube, "*"), (ServiceMatch::Cloud, "*"), (ServiceMatch::Metadata, "get *")];
    for (service, call) in services {
        for status in [301, 302, 303, 307, 308] {
            let scene = Scene::new();
            scene.use_ram_role();
            let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
            let thief = TcpListener::bind("127.0.0.1:0").unwrap();
            thief.set_nonblocking(true).unwrap();
            let location = format!("http://{}/?x", thief.local_addr().unwrap());
            let redirect = Effect::Redirect { status, location };
            let id = scene.world.faults.add(Rule::on(call, redirect).service(service));
            let mut command = scene.command("ADD", &pod);
            command.env("NO_PROXY", "");
            let mut stdin = scene.stdin(&pod, Some(pod.result()));
            stdin["logLevel"] = json!("trace");
            let answer: Answer = start(command, &stdin).wait_with_output().unwrap().into();
            assert_ne!(answer.code, Some(0), "{service:?} {status}: {answer:?}");
            assert!(scene.world.faults.hits(id) > 0, "{service:?} {status}");
            assert_eq!(thief.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "{service:?} {status}");
            assert!(scene.ever_ours().is_empty(), "{service:?} {status}");
        }
    }
}

/// Any answer to the request for a token that is none leads to the plain mode; one that asks for patience does not.
#[test]
fn metadata_is_asked_without_a_token_only_where_there_is_none() {
    for (status, plain) in [(404, true), (403, true), (405, true), (429, false), (500, false)] {
        let scene = Scene::new();
        scene.use_ram_role();
        let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
        let no_token = Rule::on("put token", Effect::error(status, "", "")).service(ServiceMatch::Metadata);
        scene.world.faults.add(if plain { no_token } else { no_token.once() });
        scene.add(&pod).assert_added(&pod);
        let calls = scene.world.calls.all();
        let mut asked = calls.iter().filter(|call| call.service == ServiceKind::Metadata);
        assert_eq!(asked.next().unwrap().name, "put token", "first of all");
        let hardened =
            asked.filter(|call| call.name != "put token").map(|call| call.parameter("hardened") == Some("true"));
        assert!(hardened.clone().count() > 0);
        assert!({ hardened }.all(|hardened| hardened != plain), "HTTP {status}");
    }
}
