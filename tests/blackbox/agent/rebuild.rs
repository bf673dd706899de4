//! A state file that was lost or broken, and what the cluster and the cloud still know of it.

use std::fs;

use podeip_sim::cloud::defaults;
use podeip_sim::faults::{Effect, Rule, ServiceMatch};
use podeip_sim::gates::{Moment, Outcome};
use podeip_sim::kube::{Owner, PodSpec};
use serde_json::{Value, json};

use super::{IP, running};
use crate::scene::{PATIENCE, Sandbox, Scene, WITH_EIP, await_true};

const OTHER_IP: [u8; 4] = [10, 219, 0, 6];
const LASTING: (&str, &str) = ("network.alibabacloud.com/pod-eip-release-strategy", "Never");

fn lose(scene: &Scene) {
    fs::remove_file(scene.state_dir().join("state.json")).unwrap();
}

/// The only record.
fn record(scene: &Scene) -> Value {
    let records = scene.records();
    assert_eq!(records.len(), 1, "{records:?}");
    records[0].clone()
}

#[test]
fn gc_rebuilds_a_lost_file_and_says_so() {
    for broken in [false, true] {
        let scene = Scene::new();
        let pod = running(&scene, "web-0", IP, &[]);
        let over = scene.pod("over", OTHER_IP, &[WITH_EIP]);
        scene.add(&over).assert_added(&over);
        let file = scene.state_dir().join("state.json");
        if broken {
            fs::write(&file, "{\"version\":1,\"attach").unwrap();
        } else {
            lose(&scene);
        }
        let dry = scene.podeip(&["gc", "--dry-run"]);
        assert!(!file.exists(), "a dry run writes nothing");
        assert!(dry.stdout.is_empty() && dry.stderr.contains("podeip gc"), "{dry:?}");
        let answer = scene.gc();
        for pod in ["default/web-0", "default/over"] {
            let line = answer.stderr.lines().find(|line| line.contains(pod)).unwrap_or_default();
            assert!(line.contains("its record was lost and is rebuilt"), "{pod}: {answer:?}");
        }
        assert_eq!(dry.stderr.contains("could not be understood"), broken, "{dry:?}");
        assert_eq!(answer.stderr.contains("did not parse"), broken, "{answer:?}");
        assert_eq!(scene.records().len(), 2);
        scene.assert_served(&pod);
        assert_eq!(scene.ever_ours().len(), 2, "nothing was bought");
        // From now on it is as it was: the next round finds nothing lost.
        assert!(!scene.gc().stderr.contains("its record was lost"));
        for pod in [&pod, &over] {
            scene.delete_pod(pod);
        }
        scene.gc();
        scene.assert_nothing_left();
    }
}

/// A pod whose ADD failed after its EIP was bought, and whose DEL has come: the EIP is held.
fn held(scene: &Scene) -> (Sandbox, String) {
    let refusal = Effect::error(400, "OperationDenied.EniUnusable", "The network interface cannot be used.");
    let rule = scene.world.faults.add(Rule::on("AssociateEipAddress", refusal));
    let pod = scene.pod("web-0", IP, &[WITH_EIP, LASTING]);
    assert_eq!(scene.add(&pod).code, Some(1));
    scene.del(&pod);
    scene.world.faults.remove(rule);
    assert_eq!(record(scene)["phase"], "Held");
    let id = scene.ours().remove(0).id;
    (pod, id)
}

#[test]
fn a_held_eip_is_found_by_its_tags_and_taken_up_by_the_next_add() {
    for by_agent in [false, true] {
        let scene = Scene::new();
        let (pod, id) = held(&scene);
        scene.world.cluster.remove("podeips", "default", "web-0");
        lose(&scene);
        if by_agent {
            scene.agent_once();
        } else {
            scene.gc();
        }
        let rebuilt = record(&scene);
        assert_eq!((&rebuilt["phase"], &rebuilt["binding"]), (&json!("Held"), &Value::Null));
        assert_eq!((&rebuilt["eip"]["id"], &rebuilt["eip"]["type"]), (&json!(id), &json!("Auto")));
        assert_eq!(rebuilt["strategy"], "Never", "as the pod asks for it");
        // A late DEL of the old sandbox is not about that record.
        scene.del(&pod);
        scene.del(&pod.without_netns());
        assert_eq!(record(&scene), rebuilt);
        let next = pod.restarted().at(OTHER_IP).alive();
        scene.add(&next).assert_added(&next);
        assert_eq!(scene.assert_served(&next).id, id);
        assert_eq!(scene.ever_ours().len(), 1, "nothing was bought");
        assert_eq!(record(&scene)["containerId"], next.container_id);
    }
}

#[test]
fn a_held_eip_of_a_pod_that_is_gone_is_claimed_by_its_podeip_or_by_nobody() {
    for podeip_lost in [false, true] {
        let scene = Scene::new();
        let (pod, id) = held(&scene);
        lose(&scene);
        if podeip_lost {
            scene.world.cluster.remove("podeips", "default", "web-0");
        }
        scene.delete_pod(&pod);
        for _ in 0..2 {
            scene.agent_once();
            scene.world.clock.advance(std::time::Duration::from_secs(3600));
        }
        assert_eq!(scene.records(), [] as [Value; 0]);
        let left: Vec<String> = scene.ours().into_iter().map(|eip| eip.id).collect();
        assert_eq!(left, if podeip_lost { vec![] } else { vec![id] }, "its PodEIP says Never");
    }
}

#[test]
fn a_late_del_of_an_old_sandbox_does_not_touch_a_rebuilt_record() {
    let scene = Scene::new();
    let old = running(&scene, "web-0", OTHER_IP, &[]);
    scene.del(&old);
    let new = old.restarted().at(IP).alive();
    scene.add(&new).assert_added(&new);
    lose(&scene);
    scene.agent_once();
    let rebuilt = record(&scene);
    assert_eq!((&rebuilt["phase"], &rebuilt["binding"]["privateIp"]), (&json!("Bound"), &json!(new.ip)));
    scene.del(&old);
    scene.del(&old.without_netns());
    assert_eq!(record(&scene), rebuilt);
    let eip = scene.assert_served(&new);
    // CHECK and DEL of the sandbox that runs know it by the pod's UID and the address.
    let check = scene.call("CHECK", &new);
    assert_eq!(check.code, Some(0), "{check:?}");
    assert_eq!(scene.call("CHECK", &old).code, Some(1), "its address is another one");
    scene.del(&new);
    assert_eq!(record(&scene)["phase"], "Held");
    let next = new.restarted().alive();
    scene.add(&next).assert_added(&next);
    assert_eq!(scene.assert_served(&next).id, eip.id);
}

#[test]
fn a_rebuilt_record_keeps_strategy_and_package() {
    let scene = Scene::new();
    let owners = vec![Owner::new("StatefulSet", "web")];
    let package = ("k8s.aliyun.com/eip-common-bandwidth-package-id", defaults::PACKAGE);
    for podeip_lost in [false, true] {
        let spec = PodSpec { owners: owners.clone(), ..PodSpec::new("default", &format!("web-{podeip_lost}")) };
        let ip = if podeip_lost { IP } else { OTHER_IP };
        let pod = scene.pod_with(
            PodSpec { pod_ip: Some(ip.map(|byte| byte.to_string()).join(".")), ..spec },
            ip,
            &[WITH_EIP, LASTING, package],
        );
        let pod = pod.alive();
        scene.add(&pod).assert_added(&pod);
        lose(&scene);
        if podeip_lost {
            scene.world.cluster.remove("podeips", "default", &pod.name);
        }
        scene.agent_once();
        let rebuilt = record(&scene);
        assert_eq!(
            (&rebuilt["strategy"], &rebuilt["bandwidthPackage"]),
            (&json!("Never"), &json!(defaults::PACKAGE)),
            "PodEIP lost: {podeip_lost}"
        );
        assert_eq!(scene.assert_served(&pod).package.as_deref(), Some(defaults::PACKAGE));
        assert_eq!(scene.events(&pod, "AppliesAtCreation"), [] as [&str; 0]);
        scene.delete_pod(&pod);
        scene.del(&pod);
        let kept = scene.pod_eip(&pod).expect("the PodEIP stays");
        assert_eq!(kept["spec"]["allocationType"]["releaseStrategy"], "Never");
        assert_eq!(kept["spec"]["bandwidthPackageID"], defaults::PACKAGE);
    }
    assert_eq!(scene.ours().len(), 2, "both are kept");
}

#[test]
fn gc_without_an_api_server_says_that_nothing_was_looked_for() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    lose(&scene);
    scene.world.cluster.set_token(Some("another"));
    let answer = scene.podeip(&["gc"]);
    assert!(answer.stderr.contains("lost records of this node were not looked for"), "{answer:?}");
    assert_eq!(scene.on(pod.ip).len(), 1);
    scene.world.cluster.set_token(Some(defaults::KUBE_TOKEN));
    scene.gc();
    assert_eq!(record(&scene)["phase"], "Bound");
}

/// The record was lost, and the repeated ADD is turned away before it has bound anything: what was bound before is
/// bound still, and must not stay there.
#[test]
fn a_failed_add_without_its_record_leaves_nothing_on_the_address() {
    let named = ("network.alibabacloud.com/pod-eip-instanceid", defaults::USER_EIP);
    for annotation in [WITH_EIP, named] {
        let scene = Scene::new();
        scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(4));
        let pod = scene.pod("web-0", IP, &[annotation]).alive();
        scene.add(&pod).assert_added(&pod);
        lose(&scene);
        let throttled = Effect::error(400, "Throttling.User", "Request was denied due to user flow control.");
        scene.world.faults.add(Rule::on("AssociateEipAddress", throttled));
        scene.add(&pod).assert_error(11, &["Throttling.User"]);
        scene.world.faults.clear();
        scene.del(&pod);
        assert!(scene.on(pod.ip).is_empty(), "{annotation:?}: {:?}\n{}", scene.records(), scene.log());
        let heir = scene.pod("heir", IP, &[]);
        scene.add(&heir).assert_added(&heir);
        scene.delete_pod(&pod);
        scene.gc();
        scene.assert_nothing_left();
    }
}

/// The record of the pod before was lost, and the next of its name took the EIP over and died before it had moved it.
#[test]
fn what_a_pod_took_over_and_never_moved_is_unbound_at_its_end() {
    let named = ("network.alibabacloud.com/pod-eip-instanceid", defaults::USER_EIP);
    for (annotation, agent) in [(WITH_EIP, true), (named, false)] {
        let scene = Scene::new();
        let before = scene.pod("web-0", IP, &[annotation]);
        scene.add(&before).assert_added(&before);
        let eip = scene.on(before.ip).remove(0).id;
        lose(&scene);
        scene.delete_pod(&before);
        let next = scene.pod("web-0", OTHER_IP, &[annotation]);
        let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, "AssociateEipAddress", 1, Moment::AfterEffect);
        let mut add = scene.spawn("ADD", &next);
        assert!(gate.wait_reached(PATIENCE));
        await_true("it takes the PodEIP over", || {
            scene.pod_eip(&next).is_some_and(|it| it["metadata"]["annotations"]["podeip/pod-uid"] == next.uid)
        });
        add.kill().unwrap();
        add.wait().unwrap();
        gate.release(Outcome::Cut);
        assert_eq!(scene.on(before.ip).len(), 1, "it is still there");
        scene.delete_pod(&next);
        if agent {
            scene.agent_once();
        } else {
            scene.del(&next);
        }
        assert!(scene.on(before.ip).is_empty(), "{annotation:?}: {eip} stays\n{}", scene.log());
        scene.assert_nothing_left();
    }
}
