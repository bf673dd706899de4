//! The way to the API server: whom podeip believes, who it says it is, and what it must be permitted.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podeip_sim::calls::ServiceKind;
use podeip_sim::cloud::defaults;
use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Moment, Outcome};
use podeip_sim::kube::{Owner, PodSpec, PolicyRule};
use podeip_sim::tls::Certificates;
use podeip_sim::world::Options;
use serde_json::{Value, json};

use crate::install::site::Site;
use crate::outages::rrsa::with_rrsa;
use crate::scene::{Answer, Sandbox, Scene, WITH_EIP, start};

const IP: [u8; 4] = [10, 219, 0, 5];
const GATE_TIMEOUT: Duration = Duration::from_secs(20);

/// A kubeconfig with these entries under `cluster` and `user`.
fn kubeconfig(scene: &Scene, cluster: &Value, user: &Value) -> String {
    let mut cluster = cluster.clone();
    cluster["server"] = json!(scene.world.kube_url);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "node",
        "clusters": [{"name": "node", "cluster": cluster}],
        "users": [{"name": "podeip", "user": user}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": "podeip"}}],
    })
    .to_string()
}

fn authority(scene: &Scene) -> Value {
    json!({"certificate-authority-data": STANDARD.encode(&scene.world.certificates.ca)})
}

/// A pod's whole way, and nothing of it left.
fn comes_and_goes(scene: &Scene) {
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

/// ADD is refused with 107 and these words, and nothing was bought.
#[track_caller]
fn assert_kept_out(scene: &Scene, words: &[&str]) {
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_error(107, &[&[scene.world.kube_url.as_str()], words].concat());
    assert!(scene.ever_ours().is_empty());
    scene.del(&pod);
}

#[test]
fn a_bearer_token_over_tls_with_the_clusters_authority() {
    let scene = Scene::new();
    assert!(scene.world.kube_url.starts_with("https://"));
    comes_and_goes(&scene);
}

#[test]
fn files_beside_the_kubeconfig() {
    let scene = Scene::new();
    scene.write("ca.crt", &scene.world.certificates.ca);
    scene.write("token", defaults::KUBE_TOKEN);
    let cluster = json!({"certificate-authority": "ca.crt"});
    scene.write("kubeconfig", &kubeconfig(&scene, &cluster, &json!({"tokenFile": "token"})));
    comes_and_goes(&scene);
}

#[test]
fn an_ipv6_address() {
    let scene = Scene::with(Options { ipv6: true, ..Options::default() });
    assert!(scene.world.kube_url.starts_with("https://[::1]:"));
    comes_and_goes(&scene);
}

#[test]
fn a_client_certificate() {
    let scene = Scene::with(Options { require_client_certificate: true, ..Options::default() });
    scene.world.cluster.set_token(None);
    let client = &scene.world.certificates.client;
    let identity = json!({
        "client-certificate-data": STANDARD.encode(&client.certificate),
        "client-key-data": STANDARD.encode(&client.key),
    });
    scene.write("kubeconfig", &kubeconfig(&scene, &authority(&scene), &identity));
    comes_and_goes(&scene);

    // Somebody else's certificate, and none at all.
    let stranger = Certificates::make().unwrap().client;
    let identity = json!({
        "client-certificate-data": STANDARD.encode(&stranger.certificate),
        "client-key-data": STANDARD.encode(&stranger.key),
    });
    for user in [identity, json!({"token": defaults::KUBE_TOKEN})] {
        let scene = Scene::with(Options { require_client_certificate: true, ..Options::default() });
        scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(4));
        scene.write("kubeconfig", &kubeconfig(&scene, &authority(&scene), &user));
        assert_kept_out(&scene, &["certificate", "compare its certificate authority and client certificate"]);
    }
}

#[test]
fn a_server_of_another_authority_never_sees_the_token() {
    let scene = Scene::new();
    let foreign = json!({"certificate-authority-data": STANDARD.encode(Certificates::make().unwrap().ca)});
    scene.write("kubeconfig", &kubeconfig(&scene, &foreign, &json!({"token": defaults::KUBE_TOKEN})));
    assert_kept_out(&scene, &["invalid peer certificate", "compare its certificate authority and client certificate"]);
    assert!(scene.world.calls.all().iter().all(|call| call.service != ServiceKind::Kube));
}

#[test]
fn a_refused_token_is_named_with_the_way_out() {
    let scene = Scene::new();
    scene.world.cluster.set_token(Some("another-token"));
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_error(
        107,
        &["get pods default/web-0: HTTP 401 Unauthorized", "the token was refused; put a valid one"],
    );
    assert!(scene.ever_ours().is_empty());
}

#[test]
fn a_rotated_token_is_taken_up_between_the_verbs_and_within_one() {
    let scene = Scene::new();
    scene.write("token", defaults::KUBE_TOKEN);
    let tokens = json!({"tokenFile": scene.path("token")});
    scene.write("kubeconfig", &kubeconfig(&scene, &authority(&scene), &tokens));
    let rotate = |token: &str| {
        scene.write("token", token);
        scene.world.cluster.set_token(Some(token));
    };
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let gate = scene.world.faults.gate_on(ServiceMatch::Kube, "create podeips", 1, Moment::BeforeEffect);
    let adding = scene.spawn("ADD", &pod);
    assert!(gate.wait_reached(GATE_TIMEOUT), "{}", scene.log());
    rotate("second-token");
    gate.release(Outcome::Continue);
    Answer::from(adding.wait_with_output().unwrap()).assert_added(&pod);
    scene.assert_served(&pod);
    rotate("third-token");
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn a_kubeconfig_that_is_rewritten_during_a_verb_is_read_again() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let gate = scene.world.faults.gate_on(ServiceMatch::Kube, "get pods", 1, Moment::BeforeEffect);
    let adding = scene.spawn("ADD", &pod);
    assert!(gate.wait_reached(GATE_TIMEOUT), "{}", scene.log());
    scene.world.cluster.set_token(Some("newer"));
    scene.write("kubeconfig", &kubeconfig(&scene, &authority(&scene), &json!({"token": "newer"})));
    gate.release(Outcome::Continue);
    Answer::from(adding.wait_with_output().unwrap()).assert_added(&pod);
    scene.assert_served(&pod);
}

#[test]
fn the_environments_proxy_does_not_apply() {
    let scene = Scene::new();
    scene.use_ram_role();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let mut command = scene.command("ADD", &pod);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        // The discard port: nobody is there.
        command.env(name, "http://127.0.0.1:9");
    }
    let output = start(command, &scene.stdin(&pod, Some(pod.result()))).wait_with_output().unwrap();
    Answer::from(output).assert_added(&pod);
}

#[test]
fn an_unusable_kubeconfig_is_a_configuration_error_that_names_the_key() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let token = json!({"token": defaults::KUBE_TOKEN});
    let file = scene.path("kubeconfig").display().to_string();
    for (content, words) in [
        (None, vec!["does not exist; make one with the token"]),
        (Some("{".to_string()), vec!["is neither YAML nor JSON"]),
        (
            Some(kubeconfig(&scene, &json!({"certificate-authority": "none.crt"}), &token)),
            vec!["none.crt", "cannot be read"],
        ),
        (
            Some(kubeconfig(&scene, &json!({"insecure-skip-tls-verify": true}), &token)),
            vec!["insecure-skip-tls-verify"],
        ),
        (
            Some(kubeconfig(&scene, &authority(&scene), &json!({"exec": {"command": "x"}}))),
            vec!["users[name=podeip].user.exec"],
        ),
        (
            Some(kubeconfig(&scene, &authority(&scene), &json!({"tokenFile": "none"}))),
            vec!["tokenFile", "cannot be read"],
        ),
    ] {
        match content {
            Some(content) => scene.write("kubeconfig", &content),
            None => std::fs::remove_file(scene.path("kubeconfig")).unwrap(),
        }
        scene.add(&pod).assert_error(101, &[&words[..], &[&file]].concat());
        scene.del(&pod);
    }
    assert!(scene.ever_ours().is_empty());
}

#[test]
fn a_silent_server_is_worth_a_retry() {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(2));
    scene.world.take_down(ServiceKind::Kube);
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_error(11, &["get pods default/web-0", &scene.world.kube_url, "refused"]);
    scene.world.bring_up(ServiceKind::Kube);
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.ever_ours().len(), 1);
}

// What podeip must be permitted.

const NEVER: (&str, &str) = ("k8s.aliyun.com/pod-eip-release-strategy", "Never");

/// One thing that podeip does in the cluster: what has to be there, and the verb that does it.
struct Deed {
    verb: &'static str,
    resource: &'static str,
    arrange: fn(&Scene) -> Sandbox,
}

fn simple(scene: &Scene) -> Sandbox {
    scene.pod("web-0", IP, &[WITH_EIP])
}

/// The second pod of a stateful set's name, whose first one had the EIP.
fn inheriting(scene: &Scene) -> Sandbox {
    let of_set = || PodSpec { owners: vec![Owner::new("StatefulSet", "web")], ..PodSpec::new("default", "web-0") };
    let first = scene.pod_with(of_set(), [10, 219, 0, 9], &[WITH_EIP, NEVER]);
    scene.add(&first).assert_added(&first);
    scene.delete_pod(&first);
    scene.del(&first);
    scene.pod_with(of_set(), IP, &[WITH_EIP, NEVER])
}

/// A pod that may take the EIP it names from whoever has it.
fn robbing(scene: &Scene) -> Sandbox {
    scene.configure(|settings| settings["allow_eip_rob"] = json!("true"));
    scene.world.cloud.bind_by_hand(defaults::USER_EIP, defaults::POD_ENI, [10, 219, 0, 9].into()).unwrap();
    scene.pod("web-0", IP, &[("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP)])
}

const DEEDS_OF_ADD: [Deed; 7] = [
    Deed { verb: "get", resource: "pods", arrange: simple },
    Deed { verb: "patch", resource: "pods/status", arrange: simple },
    Deed { verb: "get", resource: "podeips", arrange: simple },
    Deed { verb: "create", resource: "podeips", arrange: simple },
    Deed { verb: "patch", resource: "podeips/status", arrange: simple },
    Deed { verb: "patch", resource: "podeips", arrange: inheriting },
    Deed { verb: "list", resource: "podeips", arrange: robbing },
];

#[test]
fn a_missing_permission_is_named_by_verb_and_resource() {
    // Side by side, because each failed ADD waits for the cloud to show that nothing is bound.
    thread::scope(|scope| DEEDS_OF_ADD.iter().for_each(|deed| drop(scope.spawn(|| is_named_when_missing(deed)))));
}

fn is_named_when_missing(Deed { verb, resource, arrange }: &Deed) {
    let scene = Scene::new();
    let pod = arrange(&scene);
    scene.world.cluster.deny(verb, resource);
    let rule = format!("the RBAC role of podeip lacks verb {verb} on {resource} in ");
    let call = format!("{verb} {resource}");
    scene.add(&pod).assert_error(107, &[&call, "HTTP 403 Forbidden", &rule, "apply podeip's install/rbac.yaml"]);
    assert!(scene.on(IP.into()).is_empty(), "{verb} {resource}: the failed ADD was undone");
    scene.del(&pod);

    scene.world.cluster.allow_all();
    let again = pod.restarted();
    scene.add(&again).assert_added(&again);
    assert_eq!(scene.on(IP.into()).len(), 1, "{verb} {resource}");
    assert!(scene.ever_ours().len() <= 1, "{verb} {resource}: nothing was bought twice");
}

#[test]
fn events_that_may_not_be_written_cost_nothing_but_the_events() {
    for verb in ["create", "get", "patch"] {
        let scene = Scene::new();
        let pod = simple(&scene);
        scene.world.cluster.deny(verb, "events");
        // The second time the event is there already.
        for _ in 0..2 {
            scene.add(&pod).assert_added(&pod);
        }
        scene.assert_served(&pod);
        assert!(
            scene.log().contains("event EIPBound of Pod default/web-0 was not recorded"),
            "{verb}\n{}",
            scene.log()
        );
        scene.delete_pod(&pod);
        scene.del(&pod);
        scene.assert_nothing_left();
    }
}

#[test]
fn events_that_may_not_be_read_cost_show_nothing_but_the_events() {
    let scene = Scene::new();
    let pod = simple(&scene);
    scene.add(&pod).assert_added(&pod);
    scene.world.cluster.deny("list", "events");
    let answer = scene.podeip(&["show", "web-0"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let rule = "the RBAC role of podeip lacks verb list on events in the core API group";
    assert!(answer.stdout.contains("no differences\n") && answer.stdout.contains(rule), "{answer:?}");
}

#[test]
fn a_del_that_may_not_look_or_delete_succeeds_and_gc_finishes_it() {
    for (verb, resource) in [("get", "pods"), ("get", "podeips"), ("delete", "podeips"), ("patch", "podeips")] {
        let scene = Scene::new();
        let pod = simple(&scene);
        scene.add(&pod).assert_added(&pod);
        scene.delete_pod(&pod);
        scene.world.cluster.deny(verb, resource);
        scene.del(&pod);
        assert!(scene.on(IP.into()).is_empty(), "{verb} {resource}: unbound all the same");
        assert_eq!(scene.records().len(), 1, "{verb} {resource}");
        assert!(
            scene.log().contains(&format!("lacks verb {verb} on {resource}")),
            "{verb} {resource}\n{}",
            scene.log()
        );
        let answer = scene.podeip(&["gc"]);
        assert_eq!(answer.code, Some(1), "{verb} {resource}: {answer:?}");
        scene.world.cluster.allow_all();
        scene.gc();
        scene.assert_nothing_left();
    }
}

/// `verb resource` of every rule in a role, and the rules.
fn shipped_rules() -> (BTreeSet<String>, Vec<PolicyRule>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("install/rbac.yaml");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    assert_eq!(objects.len(), 5);
    assert_eq!(of_kind("ServiceAccount")["metadata"], json!({"name": "podeip", "namespace": "kube-system"}));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for (role, binding) in [("ClusterRole", "ClusterRoleBinding"), ("Role", "RoleBinding")] {
        let (role, binding) = (of_kind(role), of_kind(binding));
        assert_eq!(
            binding["roleRef"],
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": "podeip"})
        );
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "name": "podeip", "namespace": "kube-system"}])
        );
        let namespace = role["metadata"]["namespace"].as_str().map(str::to_owned);
        let granted: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone()).unwrap();
        rules.extend(granted.into_iter().map(|rule| PolicyRule { namespace: namespace.clone(), ..rule }));
    }
    let pairs = rules.iter().flat_map(|rule| {
        rule.verbs.iter().flat_map(move |verb| rule.resources.iter().map(move |resource| format!("{verb} {resource}")))
    });
    (pairs.collect(), rules)
}

#[test]
fn the_shipped_role_is_enough_and_no_more_than_that() {
    let (permitted, rules) = shipped_rules();
    let mut used = BTreeSet::new();
    let mut note = |scene: &Scene| {
        let calls = scene.world.calls.all().into_iter().filter(|call| call.service == ServiceKind::Kube);
        for call in calls {
            assert!(call.code() != Some("Forbidden"), "{} was refused", call.name);
            used.insert(call.name);
        }
    };
    for Deed { arrange, .. } in DEEDS_OF_ADD {
        let scene = Scene::new();
        scene.world.cluster.permit_only(rules.clone());
        // Annotations may be passed or not.
        let pod = Sandbox { annotations: None, ..arrange(&scene) };
        // What is told twice is one event, counted up.
        for _ in 0..2 {
            scene.add(&pod).assert_added(&pod);
        }
        assert_eq!(scene.podeip(&["show", "default/web-0"]).code, Some(0));
        scene.world.cluster.begin_pod_deletion("default", "web-0");
        scene.del(&pod);
        scene.delete_pod(&pod);
        scene.gc();
        assert_eq!(scene.records(), Vec::<Value>::new());
        note(&scene);
    }
    let scene = Scene::new();
    scene.world.cluster.permit_only(rules.clone());
    let pod = simple(&scene).alive();
    scene.add(&pod).assert_added(&pod);
    // Whether Terway's version has the feature is asked for only where it is switched on.
    let switched_on = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "eni-config", "namespace": "kube-system"},
        "data": {"eni_conf": "{\"enable_eip_pool\": true}"},
    });
    scene.world.cluster.create(switched_on).unwrap();
    scene.agent_once();
    scene.delete_pod(&pod);
    scene.agent_once();
    scene.assert_nothing_left();
    note(&scene);
    let site = Site::with_executable();
    site.scene.world.cluster.permit_only(rules.clone());
    site.install();
    note(&site.scene);
    let scene = with_rrsa();
    scene.world.cluster.permit_only(rules);
    let pod = simple(&scene);
    scene.add(&pod).assert_added(&pod);
    note(&scene);
    assert_eq!(used, permitted, "what is used, and what install/rbac.yaml permits");
}
