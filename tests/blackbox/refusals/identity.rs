//! Which pod it is and what it asks for, where runtimes tell less: `CNI_ARGS`, annotations, static pods.

use std::time::{Duration, Instant};

use podeip_sim::calls::ServiceKind;
use podeip_sim::kube::PodSpec;
use serde_json::json;

use super::{EIP_POD, fed};
use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};

fn add_as(scene: &Scene, sandbox: &Sandbox, args: &str) -> Answer {
    let mut command = scene.command("ADD", sandbox);
    command.env("CNI_ARGS", args);
    fed(command, &scene.stdin(sandbox, Some(sandbox.result())).to_string())
}

/// What a runtime without the annotations capability sends.
fn not_passed(sandbox: &Sandbox) -> Sandbox {
    Sandbox { annotations: None, ..sandbox.clone() }
}

#[test]
fn the_order_and_the_company_of_cni_args_mean_nothing() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", EIP_POD, &[WITH_EIP]);
    let (uid, id) = (&pod.uid, &pod.container_id);
    let mut sandbox = pod.clone();
    for args in [
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID={uid}"
        ),
        format!("K8S_POD_UID={uid};K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=default"),
        format!(";;K8S_POD_NAME=web-0;nonsense;=;K8S_POD_UID={uid};A=b=c;K8S_POD_NAMESPACE=default;"),
    ] {
        sandbox = sandbox.restarted();
        add_as(&scene, &sandbox, &args).assert_added(&sandbox);
        let eip = scene.assert_served(&sandbox);
        assert_eq!(eip.tag("podeip-uid"), Some(pod.uid.as_str()));
        scene.del(&sandbox);
    }
    assert_eq!(scene.ever_ours().len(), 1);
}

#[test]
fn a_runtime_that_does_not_give_the_uid() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", EIP_POD, &[WITH_EIP]);
    add_as(&scene, &pod, "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0").assert_added(&pod);
    let eip = scene.assert_served(&pod);
    assert_eq!(eip.tag("podeip-uid"), Some(pod.uid.as_str()));
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

/// As Multus calls the chain of a further network, with the pod's annotations.
#[test]
fn a_further_interface_of_a_pod_is_passed_through() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", EIP_POD, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod);
    let further = Sandbox { ip: [10, 219, 0, 6].into(), ..pod.clone() };
    for verb in ["ADD", "CHECK", "DEL"] {
        let mut command = scene.command(verb, &further);
        command.env("CNI_IFNAME", "net1");
        let stdin = scene.stdin(&further, Some(further.result()));
        let answer = fed(command, &stdin.to_string());
        assert_eq!(answer.code, Some(0), "{verb}: {answer:?}");
        assert_eq!(scene.assert_served(&pod).id, eip.id, "{verb}");
        assert_eq!((scene.ever_ours().len(), scene.records().len()), (1, 1), "{verb}");
    }
}

#[test]
fn a_container_that_is_no_kubernetes_pod() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", EIP_POD, &[WITH_EIP]);
    for args in [
        "",
        "IgnoreUnknown=1;K8S_POD_NAME=web-0",
        "K8S_POD_NAMESPACE=default",
        "IgnoreUnknown=1;NERDCTL_CNI_DHCP_HOSTNAME=x",
    ] {
        for sandbox in [&pod, &not_passed(&pod)] {
            add_as(&scene, sandbox, args).assert_added(sandbox);
        }
    }
    assert!(scene.world.calls.all().is_empty(), "{:?}", scene.world.calls.all());
    assert!(!scene.state_dir().exists());
}

#[test]
fn a_static_pod_is_known_by_its_manifests_hash() {
    let scene = Scene::new();
    let hash = "0123456789abcdef0123456789abcdef";
    let spec = PodSpec { static_hash: Some(hash.into()), ..PodSpec::new("kube-system", "etcd-node-1") };
    let mirror = scene.pod_with(spec, EIP_POD, &[WITH_EIP]);
    let sandbox = Sandbox { uid: hash.into(), ..mirror.clone() };
    scene.add(&sandbox).assert_added(&sandbox);
    let eip = scene.assert_served(&sandbox);
    assert_eq!(eip.tag("podeip-uid"), Some(hash));
    assert_eq!(scene.records()[0]["pod"]["uid"], hash);
    let pod_eip = scene.pod_eip(&sandbox).unwrap();
    assert_eq!(pod_eip["metadata"]["annotations"]["podeip/pod-uid"], hash);
    let patches = scene.world.calls.named("patch pods/status");
    assert!(!patches.is_empty());
    for patch in patches {
        assert_eq!(patch.body.unwrap()["metadata"]["uid"], mirror.uid, "fenced with the API object's UID");
    }
    // A sandbox restart, then the end: kubelet removes the mirror object with the manifest.
    scene.del(&sandbox);
    assert_eq!((scene.on(sandbox.ip).len(), scene.ours().len()), (0, 1));
    let next = sandbox.restarted();
    scene.add(&next).assert_added(&next);
    assert_eq!(scene.assert_served(&next).id, eip.id);
    scene.delete_pod(&sandbox);
    scene.del(&next);
    scene.assert_nothing_left();
}

#[test]
fn another_instance_of_the_name_is_not_served_for_this_one() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", EIP_POD, &[WITH_EIP]);
    let old = Sandbox { uid: "8f6e-of-an-earlier-instance".into(), ..pod.restarted() };
    scene.assert_refused(&scene.add(&old), 11, &["another instance", &pod.uid, &old.uid]);
    assert!(scene.pod_object(&pod)["metadata"]["annotations"].get("k8s.aliyun.com/allocated-eipAddress").is_none());
}

#[test]
fn annotations_come_from_the_api_server_when_the_runtime_does_not_pass_them() {
    let scene = Scene::new();
    let pod = not_passed(&scene.pod("web-0", EIP_POD, &[WITH_EIP, ("k8s.aliyun.com/eip-bandwidth", "9")]));
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.assert_served(&pod).bandwidth, 9);
    let plain = not_passed(&scene.pod("plain-0", [10, 219, 0, 6], &[]));
    let mark = scene.world.calls.mark();
    scene.add(&plain).assert_added(&plain);
    let calls: Vec<String> = scene.world.calls.since(mark).into_iter().map(|call| call.name).collect();
    assert_eq!(calls, ["get pods"]);
    let wrong = not_passed(&scene.pod("wrong-0", [10, 219, 0, 7], &[("k8s.aliyun.com/pod-with-eip", "perhaps")]));
    scene.add(&wrong).assert_error(100, &["perhaps"]);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn nobody_knows_what_a_pod_wants_while_the_api_server_is_silent() {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(2));
    let plain = not_passed(&scene.pod("plain-0", EIP_POD, &[]));
    scene.world.take_down(ServiceKind::Kube);
    let began = Instant::now();
    let answer = scene.add(&plain);
    assert!(began.elapsed() < Duration::from_millis(3500), "{:?}", began.elapsed());
    scene.assert_refused(&answer, 11, &["default/plain-0", "no answer", &scene.world.kube_url]);
    scene.world.bring_up(ServiceKind::Kube);
    scene.add(&plain).assert_added(&plain);

    scene.world.cluster.deny("get", "pods");
    let answer = scene.add(&plain);
    scene.assert_refused(&answer, 107, &["default/plain-0", "403", "RBAC", "get on pods"]);
    scene.world.cluster.allow_all();
    scene.world.cluster.set_token(Some("another token"));
    scene.world.cluster.accept_client_certificate(false);
    scene.assert_refused(&scene.add(&plain), 107, &["401", "token was refused", "kube-system/podeip"]);
    scene.world.cluster.set_token(Some(podeip_sim::cloud::defaults::KUBE_TOKEN));
    scene.delete_pod(&plain);
    scene.assert_refused(&scene.add(&plain), 11, &["no pod default/plain-0"]);
    assert!(!scene.state_dir().join("state.json").exists());
}
