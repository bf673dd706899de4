//! Each chain, with annotations from the runtime and without: what befalls a pod's sandbox, and what the cloud has then.

use crate::chain::Primary;
use crate::containerd::{NEEDS, SandboxId};
use crate::node::on_node;
use crate::podman::{self, Podman};
use crate::recorder::{Call, Plugin};
use crate::scene::{Sandbox, Scene, WITH_EIP, executable};

use super::Stage;

const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// Runs every story on one node, one after the other: each begins and ends with an empty cloud.
fn stories(primary: Primary, annotations: bool) {
    on_node(&NEEDS, |node| {
        let mut stage = Stage::start(node, Scene::new(), |setup| {
            setup.primary = primary;
            setup.capability = annotations;
            setup.stanza.as_object_mut().unwrap().remove("capabilities");
        });
        the_runtime_restarts(&mut stage);
        the_sandbox_is_killed(&stage);
        a_successor_is_added_before_the_old_del(&stage);
        del_is_repeated_without_netns(&stage);
        for add in stage.containerd.recorder.calls_of("ADD") {
            assert_eq!(!add.stdin["runtimeConfig"][ANNOTATIONS].is_null(), annotations, "{}", add.stdin);
        }
    });
}

fn the_runtime_restarts(stage: &mut Stage) {
    let pod = stage.pod("restarted", &[WITH_EIP]);
    let sandbox = stage.run(&pod).unwrap();
    let eip = stage.scene.assert_served(&stage.placed(&pod, &sandbox));
    stage.containerd.kill();
    stage.containerd.restart();
    assert_eq!(stage.scene.assert_served(&stage.placed(&pod, &sandbox)).id, eip.id);
    let other = stage.pod("after", &[WITH_EIP]);
    let its_sandbox = stage.run(&other).unwrap();
    stage.scene.assert_served(&stage.placed(&other, &its_sandbox));
    stage.delete(&other, &its_sandbox);
    ends(stage, &pod, &sandbox);
}

fn the_sandbox_is_killed(stage: &Stage) {
    let pod = stage.pod("killed", &[WITH_EIP]);
    let first = stage.run(&pod).unwrap();
    let eip = stage.scene.assert_served(&stage.placed(&pod, &first));
    stage.kill_process(stage.containerd.first_process(&first));
    stage.containerd.stop(&first).unwrap();
    let second = stage.run_again(&pod, 1).unwrap();
    stage.containerd.remove(&first).unwrap();
    assert_eq!(stage.scene.assert_served(&stage.placed(&pod, &second)).id, eip.id);
    ends(stage, &pod, &second);
}

/// `kubectl delete pod --force`: the name is free while the old sandbox still runs.
fn a_successor_is_added_before_the_old_del(stage: &Stage) {
    let old = stage.pod("forced", &[WITH_EIP]);
    let old_sandbox = stage.run(&old).unwrap();
    let eip = stage.scene.assert_served(&stage.placed(&old, &old_sandbox));
    stage.scene.delete_pod(&old);
    let new = stage.pod("forced", &[WITH_EIP]);
    let sandbox = stage.run(&new).unwrap();
    let placed = stage.placed(&new, &sandbox);
    assert_eq!(stage.scene.assert_served(&placed).id, eip.id, "it takes the EIP along");
    stage.containerd.stop(&old_sandbox).unwrap();
    stage.containerd.remove(&old_sandbox).unwrap();
    assert_eq!(stage.scene.assert_served(&placed).id, eip.id, "the late DEL leaves it there");
    ends(stage, &new, &sandbox);
}

fn del_is_repeated_without_netns(stage: &Stage) {
    let pod = stage.pod("repeated", &[WITH_EIP]);
    let sandbox = stage.run(&pod).unwrap();
    stage.scene.delete_pod(&pod);
    stage.containerd.stop(&sandbox).unwrap();
    stage.scene.assert_nothing_left();
    let calls = stage.scene.world.calls.mark();
    // kubelet stops a sandbox as often as it finds it there.
    stage.containerd.stop(&sandbox).unwrap();
    stage.containerd.stop(&sandbox).unwrap();
    stage.containerd.remove(&sandbox).unwrap();
    let calls = stage.scene.world.calls.since(calls);
    assert!(calls.is_empty(), "{calls:?}");
    let has_netns = |del: &Call| !del.env["CNI_NETNS"].is_empty();
    let dels = stage.containerd.recorder.calls_of("DEL");
    let dels: Vec<bool> = dels.iter().filter(|del| del.env["CNI_CONTAINERID"] == sandbox).map(has_netns).collect();
    assert_eq!(dels, [true, false, false, false]);
    stage.scene.assert_nothing_left();
}

fn ends(stage: &Stage, pod: &Sandbox, sandbox: &SandboxId) {
    stage.delete(pod, sandbox);
    stage.scene.assert_nothing_left();
    assert!(stage.containerd.sandboxes().is_empty());
}

#[test]
fn behind_ptp_with_annotations() {
    stories(Primary::Ptp, true);
}

#[test]
fn behind_ptp_without_annotations() {
    stories(Primary::Ptp, false);
}

#[test]
fn behind_a_bridge_with_annotations() {
    stories(Primary::Bridge, true);
}

#[test]
fn behind_a_bridge_without_annotations() {
    stories(Primary::Bridge, false);
}

/// A network of podman's has no pods: the name of its container is no name of a Kubernetes pod.
#[test]
fn podman_probes_the_version_and_its_container_passes_through() {
    for primary in [Primary::Ptp, Primary::Bridge] {
        on_node(&podman::NEEDS, |node| {
            let scene = Scene::new();
            let podman = Podman::prepare(node, primary, &Plugin::Executable(executable().into()), scene.stanza());
            podman.run_and_look();
            assert!(scene.world.calls.all().is_empty(), "{:?}", scene.world.calls.all());
            assert!(!scene.state_dir().join("state.json").exists());
        });
    }
}
