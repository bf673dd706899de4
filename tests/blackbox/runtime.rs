//! podeip behind ptp or bridge under a real containerd, beside the simulated world: what a pod, its user and the cloud see.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::containerd::{Containerd, NEEDS, PodSpec, SandboxId, Setup};
use crate::node::{Node, on_node, run};
use crate::recorder::{Call, Plugin};
use crate::scene::{Answer, Sandbox, Scene, executable};

mod chains;
mod crashes;
mod failures;
mod pods;

/// Longer than anything awaited here takes on a busy machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node on which containerd runs the chain ptp, podeip.
struct Stage<'node> {
    node: &'node Node,
    scene: Scene,
    containerd: Containerd<'node>,
}

fn on_stage(test: impl FnOnce(Stage) + Send) {
    on_node(&NEEDS, |node| test(Stage::start(node, Scene::new(), |_| {})));
}

impl<'node> Stage<'node> {
    /// Starts containerd, set up for `scene` and changed by `change`.
    fn start(node: &'node Node, scene: Scene, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup::new(Plugin::Executable(executable().into()));
        setup.stanza = scene.stanza();
        change(&mut setup);
        let containerd = Containerd::start(node, &setup);
        Self { node, scene, containerd }
    }

    /// A pod in the API server; its address is ptp's to choose.
    fn pod(&self, name: &str, annotations: &[(&str, &str)]) -> Sandbox {
        self.scene.pod(name, [0, 0, 0, 0], annotations)
    }

    fn run(&self, pod: &Sandbox) -> Result<SandboxId, String> {
        self.containerd.run_pod(&spec(pod, 0))
    }

    /// A further sandbox of a pod, as kubelet asks for one.
    fn run_again(&self, pod: &Sandbox, attempt: u32) -> Result<SandboxId, String> {
        self.containerd.run_pod(&spec(pod, attempt))
    }

    /// The pod in this sandbox: at the address that ptp gave it.
    fn placed(&self, pod: &Sandbox, sandbox: &str) -> Sandbox {
        let adds = self.containerd.recorder.calls_of("ADD");
        let add = adds.iter().find(|add| add.env["CNI_CONTAINERID"] == sandbox).expect("the sandbox had its ADD");
        let address = add.stdin["prevResult"]["ips"][0]["address"].as_str().unwrap();
        let ip = address.split('/').next().unwrap().parse().unwrap();
        let netns = add.env["CNI_NETNS"].clone();
        Sandbox { container_id: sandbox.to_owned(), netns, ip, ..pod.clone() }
    }

    /// What kubelet does for `kubectl delete pod`: the object goes when the sandbox is gone.
    fn delete(&self, pod: &Sandbox, sandbox: &str) {
        let cluster = &self.scene.world.cluster;
        cluster.begin_pod_deletion(&pod.namespace, &pod.name).expect("the pod exists");
        self.containerd.stop(sandbox).unwrap();
        cluster.finish_deletion(&pod.namespace, &pod.name);
        self.containerd.remove(sandbox).unwrap();
    }

    /// A user edits the pod's annotations.
    fn annotate(&self, pod: &Sandbox, annotations: &[(&str, &str)]) -> Sandbox {
        let annotations: BTreeMap<String, String> =
            annotations.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let change = json!({ "metadata": { "annotations": annotations } });
        self.scene.world.cluster.merge("pods", &pod.namespace, &pod.name, &change).expect("the pod exists");
        let mut edited = pod.clone();
        edited.annotations.get_or_insert_default().extend(annotations);
        edited
    }

    /// Waits for the plugin's call that `wanted` describes.
    fn plugin_called(&self, wanted: impl Fn(&Call) -> bool) -> Call {
        let mut found = None;
        until("the plugin is called", || {
            found = self.containerd.recorder.calls().into_iter().find(&wanted);
            found.is_some()
        });
        found.expect("it was awaited")
    }

    /// `podeip gc` as an operator of the node runs it.
    fn gc(&self) -> Answer {
        let conf_dir = self.containerd.conflist().parent().unwrap().to_owned();
        let output = self.node.command(executable()).arg("gc").arg("--conf-dir").arg(conf_dir).output().unwrap();
        let answer = Answer::from(output);
        assert_eq!(answer.code, Some(0), "{answer:?}\n{}", self.scene.log());
        answer
    }

    fn process_lives(&self, pid: u32) -> bool {
        run(self.node.command("test").args(["-d", &format!("/proc/{pid}")])).is_ok()
    }

    fn kill_process(&self, pid: impl ToString) {
        run(self.node.command("kill").args(["-9", &pid.to_string()])).unwrap();
    }
}

/// What kubelet tells the runtime about a pod of the API server.
fn spec(pod: &Sandbox, attempt: u32) -> PodSpec {
    let annotations = pod.annotations.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    PodSpec { name: pod.name.clone(), namespace: pod.namespace.clone(), uid: pod.uid.clone(), annotations, attempt }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
