//! `kubectl` as the operator's tool: PodEIPs listed, described, edited, annotated, waited for and deleted, and what is
//! in `install/` applied. Any version that is on the path will do; the oldest that we met is Debian 12's 1.20.

use std::fs;
use std::process::{Child, Command, Stdio};

use podeip_sim::cloud::{Status, defaults};
use podeip_sim::kube::PodSpec;
use serde_json::{Value, json};

use crate::node::{cannot_run, not_installed};
use crate::samples::installed;
use crate::scene::{Answer, NODE, Sandbox, Scene, WITH_EIP, await_true};

const IP: [u8; 4] = [10, 219, 0, 5];
const OTHER_IP: [u8; 4] = [10, 219, 0, 6];
const NAMED: (&str, &str) = ("network.alibabacloud.com/pod-eip-instanceid", defaults::USER_EIP);

/// Runs `test` with a scene, unless there is no `kubectl`.
fn with_kubectl(test: impl FnOnce(&Scene)) {
    if !cannot_run(not_installed(&["kubectl"])) {
        let scene = Scene::new();
        fs::create_dir(scene.path("home")).unwrap();
        test(&scene);
    }
}

/// A command with this scene's kubeconfig; caches and temporary files stay in the scene.
fn kubectl(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .env("HOME", scene.path("home"))
        .env("TMPDIR", scene.path("home"))
        .env("KUBECONFIG", scene.path("kubeconfig"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a command printed, which has to succeed.
#[track_caller]
fn told(scene: &Scene, arguments: &[&str]) -> String {
    let answer: Answer = kubectl(scene, arguments).output().unwrap().into();
    assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
    answer.stdout
}

/// What a command complained of, which has to fail.
#[track_caller]
fn refused(scene: &Scene, arguments: &[&str]) -> String {
    let answer: Answer = kubectl(scene, arguments).output().unwrap().into();
    assert_eq!(answer.code, Some(1), "{arguments:?}: {answer:?}");
    answer.stderr
}

/// `kubectl edit`, with a person who makes this change (a script of `sed`) and then leaves the editor. Back in it after
/// a refusal, the person must find nothing to change: that ends the command.
fn edit(scene: &Scene, object: &str, change: &str) -> Answer {
    scene.write("change.sed", change);
    let editor = format!("sed -i -f {}", scene.path("change.sed").display());
    kubectl(scene, &["edit", object]).env("EDITOR", editor).output().unwrap().into()
}

fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

fn running(scene: &Scene, annotations: &[(&str, &str)]) -> Sandbox {
    let pod = scene.pod("web-0", IP, annotations).alive();
    scene.add(&pod).assert_added(&pod);
    pod
}

#[test]
fn podeips_are_listed_with_their_columns() {
    with_kubectl(|scene| {
        assert_eq!(told(scene, &["get", "podeips", "-A"]), "");
        running(scene, &[WITH_EIP]);
        let named = scene.pod_with(PodSpec::new("shop", "till"), OTHER_IP, &[NAMED]);
        scene.add(&named).assert_added(&named);
        let (ours, user) = (scene.ours().remove(0), scene.world.cloud.eip(defaults::USER_EIP).unwrap());
        let (ours, user) = (ours.address.to_string(), user.address.to_string());

        let table = told(scene, &["get", "podeips", "-A"]);
        let rows_of_all = rows(&table);
        let header = ["NAMESPACE", "NAME", "EIP", "STATUS", "TYPE", "STRATEGY", "PRIVATE-IP", "NODE", "AGE"];
        assert_eq!(rows_of_all[0], header);
        let (first, second) = (&rows_of_all[1], &rows_of_all[2]);
        assert_eq!(first[..8], ["default", "web-0", &ours, "InUse", "Auto", "Follow", "10.219.0.5", NODE]);
        assert_eq!(second[..8], ["shop", "till", &user, "InUse", "Static", "Follow", "10.219.0.6", NODE]);
        assert!(first[8].ends_with('s') && rows_of_all.len() == 3, "{table}");

        let short = told(scene, &["get", "peip"]);
        assert_eq!(rows(&short)[0], header[1..]);
        assert_eq!(rows(&short)[1][..7], first[1..8]);
        assert_eq!(told(scene, &["get", "podeip", "-o", "name"]), "podeip.alibabacloud.com/web-0\n");
        let address = ["get", "peip", "web-0", "-o", "jsonpath={.status.eipAddress}"];
        assert_eq!(told(scene, &address), ours);
    });
}

#[test]
fn a_description_shows_the_eip_and_what_happened() {
    with_kubectl(|scene| {
        running(scene, &[WITH_EIP]);
        let eip = scene.ours().remove(0);
        for of in ["podeip", "pod"] {
            let text = told(scene, &["describe", of, "web-0"]);
            assert!(text.contains(&eip.id) && text.contains(&eip.address.to_string()), "{text}");
            let events = text.split_once("Events:").expect(&text).1;
            assert!(events.contains("EIPBound") && events.contains("podeip"), "{text}");
        }
    });
}

#[test]
fn an_edited_strategy_decides_at_the_pods_end() {
    with_kubectl(|scene| {
        let pod = running(scene, &[WITH_EIP]);
        let answer = edit(scene, "podeip/web-0", "s/Follow$/Never/");
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "podeip.alibabacloud.com/web-0 edited\n"));
        assert_eq!(scene.pod_eip(&pod).unwrap()["spec"]["allocationType"]["releaseStrategy"], "Never");
        scene.agent_once();
        scene.delete_pod(&pod);
        scene.del(&pod);
        scene.agent_once();
        let kept = scene.ours().remove(0);
        assert_eq!(kept.status, Status::Available);
        assert_eq!(rows(&told(scene, &["get", "peip"]))[1][2..5], ["Available", "Auto", "Never"]);
    });
}

#[test]
fn a_wrong_edit_is_refused_with_the_servers_reason() {
    with_kubectl(|scene| {
        let pod = running(scene, &[WITH_EIP]);
        let before = scene.pod_eip(&pod);
        for (change, reason) in [
            ("s/Follow$/follow/", "supported values: \"Follow\", \"TTL\", \"Never\""),
            ("s/Auto$/Borrowed/", "spec.allocationType.type: Unsupported value: \"Borrowed\""),
            ("s/allocationID: eip-/allocationID: eip_/", "spec.allocationID in body should match '^eip-"),
            ("s/Follow$/TTL\\n    releaseAfter: 5d/", "spec.allocationType.releaseAfter in body should match"),
        ] {
            let answer = edit(scene, "peip/web-0", change);
            assert_eq!(answer.code, Some(1), "{change}: {answer:?}");
            // The reasons are comments in the file that the editor gets again, of which a copy is kept.
            let copy = answer.stderr.split('"').find(|part| part.ends_with(".yaml")).expect(&answer.stderr);
            let copy = fs::read_to_string(copy).unwrap();
            assert!(copy.contains("was not valid") && copy.contains(reason), "{change}: {copy}");
        }
        assert_eq!(scene.pod_eip(&pod), before);
    });
}

#[test]
fn a_wrong_object_is_not_applied() {
    with_kubectl(|scene| {
        let apply = |field: &str, value: &str| {
            let mut object = json!({"apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
                "metadata": {"name": "web-0", "namespace": "default"},
                "spec": {"allocationID": "eip-bp1abc", "allocationType": {"type": "Auto", "releaseStrategy": "TTL",
                    "releaseAfter": "10m"}}});
            let (parent, key) = field.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key] = value.into();
            scene.write("podeip.json", &object.to_string());
            refused(scene, &["apply", "-f", scene.path("podeip.json").to_str().unwrap()])
        };
        for (field, value, reason) in [
            ("/spec/allocationID", "203.0.113.10", "spec.allocationID in body should match '^eip-"),
            ("/spec/allocationType/releaseStrategy", "10m", "supported values: \"Follow\", \"TTL\", \"Never\""),
            ("/spec/allocationType/releaseAfter", "-10m", "spec.allocationType.releaseAfter in body should match"),
            // Old versions check this themselves, by the definition that the server publishes.
            ("/spec/allocationId", "eip-bp1abc", "unknown field \""),
        ] {
            let told = apply(field, value);
            assert!(told.contains(reason), "{field}: {told}");
        }
        assert_eq!(scene.world.cluster.list("podeips"), Vec::<Value>::new());
    });
}

#[test]
fn patches_and_annotations_are_taken() {
    with_kubectl(|scene| {
        let pod = running(scene, &[WITH_EIP]);
        let change = r#"{"spec":{"allocationType":{"releaseStrategy":"TTL","releaseAfter":"1.5h"}}}"#;
        told(scene, &["patch", "peip", "web-0", "--type", "merge", "-p", change]);
        told(scene, &["annotate", "peip", "web-0", "example.com/ticket=4711"]);
        let object = scene.pod_eip(&pod).unwrap();
        let expected = json!({"type": "Auto", "releaseStrategy": "TTL", "releaseAfter": "1.5h"});
        assert_eq!(object["spec"]["allocationType"], expected);
        assert_eq!(object["metadata"]["annotations"]["example.com/ticket"], "4711");
        let wrong = r#"[{"op":"replace","path":"/spec/allocationType/type","value":"auto"}]"#;
        let reason = refused(scene, &["patch", "peip", "web-0", "--type", "json", "-p", wrong]);
        assert!(reason.contains("supported values: \"Auto\", \"Static\""), "{reason}");
    });
}

#[test]
fn the_pods_condition_can_be_waited_for() {
    with_kubectl(|scene| {
        let gates = vec!["k8s.aliyun.com/eip".to_owned()];
        let spec = PodSpec { readiness_gates: gates, ..PodSpec::new("default", "web-0") };
        let pod = scene.pod_with(spec, IP, &[WITH_EIP]);
        let wait = ["wait", "--for=condition=k8s.aliyun.com/eip", "pod/web-0", "--timeout=20s"];
        let waiting = watching(scene, &wait, "pods");
        scene.add(&pod).assert_added(&pod);
        let answer: Answer = waiting.wait_with_output().unwrap().into();
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "pod/web-0 condition met\n"), "{answer:?}");
    });
}

/// Starts a command and returns once it watches this resource.
fn watching(scene: &Scene, arguments: &[&str], resource: &str) -> Child {
    let child = kubectl(scene, arguments).spawn().unwrap();
    let watch = format!("watch {resource}");
    await_true("kubectl watches", || scene.world.calls.all().iter().any(|call| call.name == watch));
    child
}

#[test]
fn a_deletion_lasts_until_the_eip_is_released() {
    with_kubectl(|scene| {
        let pod = scene.pod("web-0", IP, &[WITH_EIP, ("network.alibabacloud.com/pod-eip-release-strategy", "Never")]);
        scene.add(&pod).assert_added(&pod);
        scene.delete_pod(&pod);
        scene.del(&pod);
        scene.agent_once();
        assert_eq!(scene.ours().len(), 1, "it is kept");
        let mut deleting = watching(scene, &["delete", "peip", "web-0"], "podeips");
        assert_ne!(scene.pod_eip(&pod).unwrap()["metadata"]["deletionTimestamp"], Value::Null);
        assert!(deleting.try_wait().unwrap().is_none(), "the finalizer holds it");
        scene.agent_once();
        scene.assert_nothing_left();
        let answer: Answer = deleting.wait_with_output().unwrap().into();
        let deleted = answer.stdout.starts_with("podeip.alibabacloud.com \"web-0\" deleted");
        assert!(answer.code == Some(0) && deleted, "{answer:?}");
    });
}

#[test]
fn a_finalizer_can_be_cleared_by_hand() {
    with_kubectl(|scene| {
        let pod = running(scene, &[WITH_EIP]);
        told(scene, &["delete", "peip", "web-0", "--wait=false"]);
        let waiting = watching(scene, &["wait", "--for=delete", "peip/web-0", "--timeout=20s"], "podeips");
        told(scene, &["patch", "peip", "web-0", "--type", "merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
        let answer: Answer = waiting.wait_with_output().unwrap().into();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(scene.pod_eip(&pod), None);
        assert!(refused(scene, &["get", "peip", "web-0"]).contains("\"web-0\" not found"));
    });
}

#[test]
fn the_definition_is_applied_over_itself() {
    with_kubectl(|scene| {
        let pod = running(scene, &[WITH_EIP]);
        let before = scene.pod_eip(&pod);
        let apply = ["apply", "-f", installed("podeip-crd.yaml").to_str().unwrap()].map(str::to_owned);
        let apply: Vec<&str> = apply.iter().map(String::as_str).collect();
        assert!(told(scene, &apply).ends_with("/podeips.alibabacloud.com configured\n"));
        assert!(told(scene, &apply).ends_with("/podeips.alibabacloud.com unchanged\n"));
        assert_eq!(scene.pod_eip(&pod), before);
        assert!(told(scene, &["explain", "peip.spec.allocationType.releaseAfter"]).contains("such as 5m30s"));
    });
}

#[test]
fn the_definition_takes_the_place_of_another_tools() {
    with_kubectl(|scene| {
        let pod = running(scene, &[WITH_EIP]);
        // Without short names and columns, as the others ship it.
        let other = json!({"spec": {"names": {"shortNames": null}, "versions": [{"name": "v1beta1", "served": true,
            "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}});
        let definition = "podeips.alibabacloud.com";
        scene.world.cluster.merge("customresourcedefinitions", "", definition, &other).unwrap();
        assert_eq!(rows(&told(scene, &["get", "podeips"]))[0], ["NAME", "AGE"]);
        told(scene, &["apply", "-f", installed("podeip-crd.yaml").to_str().unwrap()]);
        let _ = fs::remove_dir_all(scene.path("home").join(".kube"));
        let table = told(scene, &["get", "peip"]);
        assert_eq!(rows(&table)[1][2..4], ["InUse", "Auto"], "{table}");
        scene.assert_served(&pod);
    });
}

#[test]
fn the_samples_are_applied() {
    with_kubectl(|scene| {
        let mut printed: Vec<String> =
            told(scene, &["apply", "-f", installed("samples").to_str().unwrap()]).lines().map(str::to_owned).collect();
        printed.sort();
        let expected = [
            "pod/gateway created",
            "pod/hello created",
            "pod/probe created",
            "podeip.alibabacloud.com/game-0 created",
            "statefulset.apps/game created",
        ];
        assert_eq!(printed, expected);
    });
}
