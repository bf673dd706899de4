//! containerd killed in the midst of an ADD. The plugin survives it as an orphan or dies too, and since the sandbox
//! was not known yet, no DEL comes for it: the pod's next sandbox or `podeip gc` brings the cloud to the right state.

use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Gate, Moment, Outcome};

use super::{PATIENCE, Stage, on_stage, spec, until};
use crate::scene::{Sandbox, WITH_EIP};

/// Where in ADD containerd is killed: after the purchase, before the binding, after the binding.
const PLACES: [(&str, Moment); 3] = [
    ("AllocateEipAddress", Moment::AfterEffect),
    ("AssociateEipAddress", Moment::BeforeEffect),
    ("AssociateEipAddress", Moment::AfterEffect),
];

/// An ADD whose runtime is dead, stopped at a gate.
struct Orphan {
    pid: u32,
    gate: Gate,
}

fn kill_containerd_in_add(stage: &mut Stage, pod: &Sandbox, (call, moment): (&str, Moment)) -> Orphan {
    let gate = stage.scene.world.faults.gate_on(ServiceMatch::Vpc, call, 1, moment);
    let mut cri = stage.containerd.begin_pod(&spec(pod, 0));
    assert!(gate.wait_reached(PATIENCE), "ADD has not come to {call}");
    let pid = stage.plugin_called(|it| it.command == "ADD" && it.arg("K8S_POD_UID") == Some(&pod.uid)).pid;
    stage.containerd.kill();
    assert!(!cri.wait().unwrap().success());
    assert!(stage.process_lives(pid), "the plugin was to outlive containerd");
    Orphan { pid, gate }
}

impl Orphan {
    fn runs_to_its_end(self, stage: &Stage) {
        self.gate.release(Outcome::Continue);
        until("the orphaned ADD has ended", || !stage.process_lives(self.pid));
    }

    /// Its request is on its way already: the cloud carries it out.
    fn dies(self, stage: &Stage) {
        stage.kill_process(self.pid);
        self.gate.release(Outcome::Continue);
    }
}

/// kubelet stops and removes what containerd still knows of a pod.
fn forget_sandboxes(stage: &Stage) {
    for sandbox in stage.containerd.sandboxes() {
        let id = sandbox["id"].as_str().unwrap();
        stage.containerd.stop(id).unwrap();
        stage.containerd.remove(id).unwrap();
    }
}

/// The pod is still wanted: kubelet makes it another sandbox.
fn next_sandbox_is_served(stage: &Stage, pod: &Sandbox, place: &str) {
    let sandbox = stage.run_again(pod, 1).unwrap();
    serves_alone(stage, pod, &sandbox, place);
}

/// One EIP was ever bought for this pod, it is on this sandbox, and it goes with the pod.
fn serves_alone(stage: &Stage, pod: &Sandbox, sandbox: &str, place: &str) {
    stage.scene.assert_served(&stage.placed(pod, sandbox));
    let of_pod = stage.scene.ever_ours().into_iter().filter(|eip| eip.tag("podeip-uid") == Some(&pod.uid));
    assert_eq!(of_pod.count(), 1, "{place}\n{}", stage.scene.log());
    stage.delete(pod, sandbox);
    stage.scene.assert_nothing_left();
}

/// The pod was deleted meanwhile: nobody asks for a sandbox of it again.
fn nothing_is_left_after_gc(stage: &Stage, pod: &Sandbox) {
    stage.scene.delete_pod(pod);
    forget_sandboxes(stage);
    stage.gc();
    stage.scene.assert_nothing_left();
}

fn at_every_place(mut test: impl FnMut(&mut Stage, &Sandbox, (&str, Moment)) + Send) {
    on_stage(|mut stage| {
        for (nth, place) in PLACES.into_iter().enumerate() {
            let pod = stage.pod(&format!("web-{nth}"), &[WITH_EIP]);
            test(&mut stage, &pod, place);
        }
    });
}

#[test]
fn an_orphaned_add_and_the_next_sandbox_end_with_one_eip() {
    at_every_place(|stage, pod, place| {
        let orphan = kill_containerd_in_add(stage, pod, place);
        orphan.runs_to_its_end(stage);
        stage.containerd.restart();
        next_sandbox_is_served(stage, pod, place.0);
    });
}

#[test]
fn a_next_sandbox_that_meets_the_orphaned_add_ends_with_one_eip() {
    at_every_place(|stage, pod, place| {
        let orphan = kill_containerd_in_add(stage, pod, place);
        stage.containerd.restart();
        let cri = stage.containerd.begin_pod(&spec(pod, 1));
        stage
            .plugin_called(|it| it.command == "ADD" && it.pid != orphan.pid && it.arg("K8S_POD_UID") == Some(&pod.uid));
        orphan.runs_to_its_end(stage);
        let output = cri.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}\n{}", stage.scene.log());
        let sandbox = String::from_utf8(output.stdout).unwrap();
        serves_alone(stage, pod, sandbox.trim(), place.0);
    });
}

#[test]
fn an_orphaned_add_of_a_deleted_pod_is_collected() {
    at_every_place(|stage, pod, place| {
        let orphan = kill_containerd_in_add(stage, pod, place);
        orphan.runs_to_its_end(stage);
        stage.containerd.restart();
        nothing_is_left_after_gc(stage, pod);
    });
}

#[test]
fn an_add_that_dies_with_containerd_and_the_next_sandbox_end_with_one_eip() {
    at_every_place(|stage, pod, place| {
        let orphan = kill_containerd_in_add(stage, pod, place);
        orphan.dies(stage);
        stage.containerd.restart();
        next_sandbox_is_served(stage, pod, place.0);
    });
}

#[test]
fn an_add_of_a_deleted_pod_that_dies_with_containerd_is_collected() {
    at_every_place(|stage, pod, place| {
        let orphan = kill_containerd_in_add(stage, pod, place);
        orphan.dies(stage);
        stage.containerd.restart();
        nothing_is_left_after_gc(stage, pod);
    });
}
