//! A newcomer's path: the commands of `docs/installation.md`, typed as they stand there, with the real `kubectl` against
//! the simulated API server and a played node on which the built executable runs as the manifests say.
//!
//! `kubectl exec` before 1.29 speaks only SPDY, which the simulated API server does not: there, and only there, a script in
//! its place runs the command behind `--` in the container.

mod cluster;
mod container;
mod document;
mod kubelet;
mod sandbox;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use podeip_sim::cloud::Status;
use serde_json::{Value, json};

use crate::node::{on_node, run};
use crate::samples::installed;
use crate::scene::{Answer, NODE, Sandbox, Scene, await_true};
use cluster::SYSTEM;
use document::{Block, Document};
use kubelet::Kubelet;

const NEEDS: [&str; 5] = ["kubectl", "bash", "timeout", "/usr/bin/setpriv", "/usr/bin/env"];
/// Seconds for one command. `kubectl rollout status` would wait for ever.
const PATIENCE: &str = "20";
const FIRST_POD: &str = "## First pod in nine commands";
const TAKING_OFF: &str = "## Taking it off for good";
const TERWAYS_LIST: &str = "10-terway.conflist";

/// A cluster with Terway on one node, a person with a checkout, and nothing of podeip.
struct Newcomer<'a> {
    scene: &'a Scene,
}

/// Tells the played node to end, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn with_newcomer(test: impl FnOnce(&Newcomer) + Send) {
    on_node(&NEEDS, |node| {
        let scene = Scene::new();
        let newcomer = Newcomer::arrive(&scene);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let kubelet = Kubelet::new(node, &scene);
            newcomer.terway_writes(&terways_list());
            let _stop = Stop(&stop);
            scope.spawn(|| kubelet.play(&stop));
            test(&newcomer);
        });
    });
}

/// What Terway makes of its ConfigMap when that has no list.
fn terways_list() -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conflists");
    fs::read_to_string(fixtures.join("10-terway-veth.conflist")).unwrap()
}

impl<'a> Newcomer<'a> {
    fn arrive(scene: &'a Scene) -> Self {
        let newcomer = Self { scene };
        let cluster = &scene.world.cluster;
        cluster.set_auto_create_namespaces(false);
        cluster.set_podeip_installed(false);
        cluster.let_roles_count();
        // The endpoints are what makes it this world; the nodes' RAM role and instance metadata say the rest.
        let mut settings = scene.world.eni_conf();
        settings.as_object_mut().unwrap().retain(|key, _| ["version", "endpoints"].contains(&key.as_str()));
        let terway = json!({"type": "terway", "name": "terway", "cniVersion": "0.4.0"});
        cluster
            .create(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "eni-config", "namespace": SYSTEM},
                "data": {"eni_conf": settings.to_string(), "10-terway.conf": terway.to_string()},
            }))
            .unwrap();
        for directory in ["home", "checkout", "path"] {
            fs::create_dir(scene.path(directory)).unwrap();
        }
        run(Command::new("cp").arg("-r").arg(installed("")).arg(scene.path("checkout/install"))).unwrap();
        let files = scene.path("");
        cluster.set_executor(move |exec| kubelet::execute(&files, exec));
        if kubectl_minor() < 29 {
            newcomer.stand_in_for_old_exec();
        }
        newcomer
    }

    /// A `kubectl` that is the real one, but for `exec`.
    fn stand_in_for_old_exec(&self) {
        let real = run(Command::new("sh").args(["-c", "command -v kubectl"])).unwrap();
        let pid = self.scene.path(&kubelet::pid_file("podeip", "agent"));
        let script = format!(
            r#"#!/bin/sh
case " $* " in
*" exec daemonset/podeip -c agent -- "*)
    while [ "$1" != -- ]; do shift; done
    shift
    exec nsenter --target "$(cat {})" --mount --root --wd -- "$@" ;;
esac
exec {} "$@"
"#,
            pid.display(),
            real.trim()
        );
        self.scene.write("path/kubectl", &script);
        fs::set_permissions(self.scene.path("path/kubectl"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Types one command, in the checkout.
    #[track_caller]
    fn types(&self, command: &str) -> String {
        let path = format!("{}:{}", self.scene.path("path").display(), std::env::var("PATH").unwrap());
        let answer: Answer = Command::new("timeout")
            .args([PATIENCE, "bash", "-euc", command])
            .current_dir(self.scene.path("checkout"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.scene.path("home"))
            .env("TMPDIR", self.scene.path("home"))
            .env("KUBECONFIG", self.scene.path("kubeconfig"))
            // 1.29 and 1.30 can, but do not of their own accord.
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "true")
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into();
        assert_eq!(answer.code, Some(0), "{command}\n{answer:?}\n{}", self.logs());
        self.suit_old_kubectl();
        answer.stdout
    }

    /// As the document says of versions before 1.21, which know no other word.
    fn suit_old_kubectl(&self) {
        let file = self.scene.path("checkout/cluster/kustomization.yaml");
        if let Ok(text) = fs::read_to_string(&file)
            && kubectl_minor() < 21
        {
            fs::write(file, text.replace("\nresources:", "\nbases:")).unwrap();
        }
    }

    fn logs(&self) -> String {
        let files = fs::read_dir(self.scene.path("logs")).unwrap().map(|entry| entry.unwrap().path());
        files.map(|file| format!("{}:\n{}", file.display(), fs::read_to_string(&file).unwrap())).collect()
    }

    /// What Terway does at its start.
    fn terway_writes(&self, list: &str) {
        fs::write(self.on_node("etc/cni/net.d").join(TERWAYS_LIST), list).unwrap();
    }

    fn on_node(&self, path: &str) -> PathBuf {
        kubelet::root(self.scene).join(path)
    }

    /// The pod of the document.
    fn hello(&self) -> Sandbox {
        let pod = self.scene.world.cluster.get("pods", "default", "hello").unwrap();
        Sandbox {
            container_id: String::new(),
            netns: String::new(),
            ip: pod["status"]["podIP"].as_str().unwrap().parse().unwrap(),
            namespace: "default".into(),
            name: "hello".into(),
            uid: cluster::uid(&pod).into(),
            node: NODE.into(),
            annotations: None,
        }
    }

    fn eni_config(&self) -> Value {
        self.scene.world.cluster.get("configmaps", SYSTEM, "eni-config").unwrap()["data"].clone()
    }
}

/// The `kubectl` of this machine is 1.this.
fn kubectl_minor() -> u32 {
    static MINOR: LazyLock<u32> = LazyLock::new(|| {
        let version = run(Command::new("kubectl").args(["version", "--client", "-o", "json"])).unwrap();
        let version: Value = serde_json::from_str(&version).unwrap();
        version["clientVersion"]["minor"].as_str().unwrap().trim_end_matches('+').parse().unwrap()
    });
    *MINOR
}

fn chain(list: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(list).unwrap();
    list["plugins"].as_array().unwrap().iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
}

fn first_pod() -> Block {
    let mut blocks = Document::read("docs/installation.md").blocks(FIRST_POD);
    assert_eq!(blocks.len(), 1);
    blocks.remove(0)
}

#[test]
fn the_first_pod_has_an_eip_after_nine_commands() {
    let commands = first_pod().commands();
    assert_eq!(commands.len(), 9, "{commands:#?}");
    with_newcomer(|newcomer| {
        let scene = newcomer.scene;
        let before = newcomer.eni_config();
        let printed: Vec<String> = commands.iter().map(|command| newcomer.types(command)).collect();

        let hello = newcomer.hello();
        let eip = scene.assert_served(&hello);
        assert_eq!((scene.ever_ours().len(), eip.tag("podeip-cluster")), (1, Some("c0123456789abcdef")));
        let row: Vec<&str> = printed[8].lines().nth(1).unwrap().split_whitespace().collect();
        let expected = ["hello", &eip.address.to_string(), "InUse", "Auto", "Follow", &hello.ip.to_string(), NODE];
        assert_eq!(row[..7], expected, "{}", printed[8]);

        // Terway has its list from its ConfigMap, whose other keys are as they were.
        let mut after = newcomer.eni_config();
        let list = after.as_object_mut().unwrap().remove(TERWAYS_LIST).unwrap();
        assert_eq!(after, before);
        assert_eq!(chain(list.as_str().unwrap()), ["terway", "podeip"]);
        newcomer.terway_writes(list.as_str().unwrap());

        newcomer.types("kubectl delete pod hello");
        await_true("the EIP is released", || scene.ours().is_empty());
        await_true("nothing is left", || scene.world.cluster.list("podeips").is_empty());
        let agents = kubelet::system_pods(scene);
        assert_eq!(agents.len(), 1, "{agents:?}");
    });
}

/// The checkout's own words: a reader of either has the same commands.
#[test]
fn readme_and_document_have_the_same_commands() {
    assert_eq!(Document::read("README.md").blocks(FIRST_POD), [first_pod()]);
}

/// All of the first section, and then the blocks of the second.
fn takes_off(newcomer: &Newcomer, change: impl FnOnce(&mut Vec<String>, &[Block])) {
    first_pod().commands().iter().for_each(|command| drop(newcomer.types(command)));
    let blocks = Document::read("docs/installation.md").blocks(TAKING_OFF);
    let [commands, others @ ..] = blocks.as_slice() else { panic!("there are no commands") };
    let mut commands = commands.commands();
    change(&mut commands, others);
    commands.iter().for_each(|command| drop(newcomer.types(command)));

    assert_eq!(fs::read_to_string(newcomer.on_node("etc/cni/net.d").join(TERWAYS_LIST)).unwrap(), terways_list());
    assert_eq!(newcomer.eni_config().get(TERWAYS_LIST), None);
    for directory in ["etc/cni/net.d", "opt/cni/bin", "etc/podeip"] {
        let mut left: Vec<_> =
            fs::read_dir(newcomer.on_node(directory)).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.retain(|name| name != TERWAYS_LIST);
        assert!(left.is_empty(), "{directory}: {left:?}");
    }
    let cluster = &newcomer.scene.world.cluster;
    for resource in ["daemonsets", "roles", "rolebindings", "clusterroles", "clusterrolebindings", "leases"] {
        assert_eq!(cluster.list(resource), Vec::<Value>::new(), "{resource}");
    }
    assert!(cluster.get("configmaps", SYSTEM, "podeip").is_none());
    assert!(cluster.get("serviceaccounts", SYSTEM, "podeip").is_none());
    await_true("no pod of ours is left", || kubelet::system_pods(newcomer.scene).is_empty());
}

/// Whether the agent that runs now has been through all pods of its node.
fn made_a_round() -> bool {
    let metrics = kubelet::fetch("127.0.0.1", 9110, "/metrics").unwrap_or_default();
    metrics.lines().any(|line| line.starts_with("podeip_rounds_total") && !line.ends_with(" 0"))
}

#[test]
fn taken_off_for_good_it_leaves_the_eips_of_running_pods() {
    with_newcomer(|newcomer| {
        let scene = newcomer.scene;
        takes_off(newcomer, |_, _| {
            // An agent that comes later knows from its mounts that the pod's sandbox stands, and leaves it alone.
            newcomer.types("kubectl -n kube-system delete pod -l app.kubernetes.io/name=podeip");
            await_true("the next agent has looked at the node", made_a_round);
            scene.assert_served(&newcomer.hello());
        });
        let kept = scene.assert_served(&newcomer.hello());
        // The pod is not ended by a plugin that is gone, and nobody releases its EIP.
        newcomer.types("kubectl delete pod hello");
        assert_eq!(scene.world.cloud.eip(&kept.id).unwrap().status, Status::InUse);
    });
}

#[test]
fn taken_off_for_good_it_releases_them_when_told_to() {
    with_newcomer(|newcomer| {
        takes_off(newcomer, |commands, others| {
            let [release, definition] = others else { panic!("{others:?}") };
            commands[2] = release.0.clone();
            commands.push(definition.0.clone());
        });
        let scene = newcomer.scene;
        assert!(scene.on(newcomer.hello().ip).is_empty());
        await_true("the EIP is released", || scene.ours().is_empty());
        assert!(scene.world.cluster.get("customresourcedefinitions", "", "podeips.alibabacloud.com").is_none());
    });
}
