//! The image that `scripts/image` builds, and the DaemonSet of `install/` with it: podman runs its containers as the
//! manifest says, on a node whose directories have the paths that they have on every node.

mod kubelet;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use podeip_sim::cloud::defaults;
use serde_json::{Value, json};

use crate::install::site::{BRIDGE, files_in};
use crate::node::{Node, cannot_run, on_node, run, script};
use crate::samples::installed;
use crate::scene::{Answer, Sandbox, Scene, WITH_EIP, await_true, executable, start};
use crate::shipped;
use kubelet::{Kubelet, Object};

const NEEDS: [&str; 3] = ["buildah", "podman", "runc"];

/// The name under which the node finds itself, where the simulated endpoints listen.
const CLOUD: &str = "cloud.test";

const CONF_DIR: &str = "/etc/cni/net.d";

/// Runs `test` on a node, with an executable that an image can hold.
fn with_static_executable(test: impl FnOnce(&Node) + Send) {
    if !cannot_run(shipped::unlike_it()) {
        on_node(&NEEDS, test);
    }
}

fn manifest(name: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(installed(name)).unwrap()).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// The image that the kustomization puts into the DaemonSet.
fn image_of_manifests() -> String {
    let image = &manifest("kustomization.yaml")["images"][0];
    format!("{}:{}", image["newName"].as_str().unwrap(), image["newTag"].as_str().unwrap())
}

#[test]
fn it_holds_the_executable_alone_and_is_the_same_again() {
    with_static_executable(|node| {
        let dir = node.dir("images");
        let indexes = ["one", "two"].map(|name| {
            let file = dir.join(format!("{name}.tar"));
            let said = run(node.command(script("image")).env("PODEIP", executable()).arg(&file)).unwrap();
            assert_eq!(said.trim(), format!("localhost/{}", image_of_manifests()));
            let unpacked = dir.join(name);
            fs::create_dir(&unpacked).unwrap();
            run(node.command("tar").arg("-xf").arg(&file).arg("-C").arg(&unpacked)).unwrap();
            json_file(&unpacked.join("index.json"))
        });
        assert_eq!(indexes[0], indexes[1]);

        let blob = |digest: &Value| dir.join("one/blobs/sha256").join(&digest.as_str().unwrap()["sha256:".len()..]);
        let image = json_file(&blob(&indexes[0]["manifests"][0]["digest"]));
        let config = json_file(&blob(&image["config"]["digest"]));
        assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!(architecture())));
        assert_eq!((&config["config"]["Entrypoint"], &config["config"]["User"]), (&json!(["/podeip"]), &json!("0:0")));
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(labels["org.opencontainers.image.licenses"], env!("CARGO_PKG_LICENSE"));
        assert_eq!(image["layers"].as_array().unwrap().len(), 1);
        let layer = blob(&image["layers"][0]["digest"]);
        let listed = run(node.command("tar").args(["--numeric-owner", "-tvzf"]).arg(&layer)).unwrap();
        let words: Vec<&str> = listed.split_whitespace().collect();
        assert_eq!((words[0], words[1], words[5], words.len()), ("-rwxr-xr-x", "0/0", "podeip", 6), "{listed}");
    });
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
}

#[test]
fn an_executable_that_needs_libraries_is_refused() {
    on_node(&NEEDS, |node| {
        let file = node.dir("images").join("file.tar");
        let refused = run(node.command(script("image")).env("PODEIP", "/bin/bash").arg(&file)).unwrap_err();
        assert!(refused.contains("/bin/bash is not linked statically"), "{refused}");
        assert!(!file.exists());
    });
}

/// A node of the cluster with the image, and the DaemonSet's pod on it.
struct Cluster<'node> {
    scene: Scene,
    kubelet: Kubelet<'node>,
    image: String,
}

impl<'node> Cluster<'node> {
    fn new(node: &'node Node) -> Self {
        let scene = Scene::new();
        // As systemd leaves it: what is mounted below is seen by those who have a part of it.
        run(node.command("mount").args(["--make-rshared", "/run"])).unwrap();
        fs::write("/etc/hosts", format!("127.0.0.1 localhost {CLOUD}\n")).unwrap();
        let account = [("token", defaults::KUBE_TOKEN), ("ca.crt", &scene.world.certificates.ca)];
        let kubelet = Kubelet::new(node, manifest("daemonset.yaml"), &account, &scene.world.kube_url);
        kubelet.project(&settings(&scene));
        for leftover in files_in(Path::new(CONF_DIR)).keys() {
            fs::remove_file(Path::new(CONF_DIR).join(leftover)).unwrap();
        }
        fs::write(Path::new(CONF_DIR).join("10-podnet.conflist"), BRIDGE).unwrap();
        run(kubelet.command(script("image")).env("PODEIP", executable())).unwrap();
        Self { scene, kubelet, image: image_of_manifests() }
    }

    fn install(&self) {
        for container in self.kubelet.containers("initContainers") {
            let answer = self.kubelet.run(&container, &self.image, &["--rm"]);
            assert_eq!(answer.code, Some(0), "{answer:?}");
        }
    }

    /// Starts the agent, and waits until its probes succeed.
    fn start_agent(&self) -> Agent<'_> {
        let container = self.kubelet.containers("containers").remove(0);
        let answer = self.kubelet.run(&container, &self.image, &["--detach"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let agent = Agent { kubelet: &self.kubelet, name: container["name"].as_str().unwrap().to_owned() };
        for probe in ["livenessProbe", "readinessProbe"] {
            await_true(&format!("{probe}: {:?}", agent.log()), || succeeds(&container[probe]["httpGet"]));
        }
        agent
    }

    /// A pod in this sandbox that gets its EIP by the stanza that was installed.
    fn add(&self, last: u8, netns: &str) -> Sandbox {
        let pod = self.scene.pod(&format!("web-{last}"), [10, 219, 0, last], &[WITH_EIP]);
        let pod = Sandbox { netns: netns.to_owned(), ..pod };
        let mut stdin = self.scene.stdin(&pod, Some(pod.result()));
        let of_scene = self.scene.stanza();
        let keys = stdin.as_object_mut().unwrap();
        keys.retain(|key, _| of_scene.get(key).is_none());
        keys.extend(conflist()["plugins"][1].as_object().unwrap().clone());
        let answer: Answer = start(self.scene.command("ADD", &pod), &stdin).wait_with_output().unwrap().into();
        answer.assert_added(&pod);
        self.scene.assert_served(&pod);
        pod
    }

    /// What `podeip gc` in the agent's container prints, which has nothing to complain of.
    fn collected(&self, agent: &Agent) -> String {
        let answer = self.kubelet.podman(&["exec", &agent.name, "/podeip", "gc"]);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer:?}");
        answer.stdout
    }
}

fn conflist() -> Value {
    json_file(&Path::new(CONF_DIR).join("10-podnet.conflist"))
}

/// What a cluster with Terway has, with `install/configmap.yaml` filled in and a Secret.
fn settings(scene: &Scene) -> [Object; 3] {
    let mut terways = scene.world.eni_conf();
    let mut take = |keys: &[&str]| -> Value {
        keys.iter().map(|key| ((*key).to_owned(), terways.as_object_mut().unwrap().remove(*key).unwrap())).collect()
    };
    let ours = take(&["enable_eip_pool", "cluster_id"]);
    let credential = take(&["access_key", "access_secret"]);
    let mut shipped: Value =
        serde_json::from_str(manifest("configmap.yaml")["data"]["eni_conf"].as_str().unwrap()).unwrap();
    shipped.as_object_mut().unwrap().extend(ours.as_object().unwrap().clone());
    let object = |kind, name, content: Value| Object { kind, name, key: "eni_conf", content: content.to_string() };
    // Found by name, which a static executable does without any library.
    for endpoint in terways["endpoints"].as_object_mut().unwrap().values_mut() {
        *endpoint = endpoint.as_str().unwrap().replace("127.0.0.1", CLOUD).into();
    }
    [
        object("configMap", "eni-config", terways),
        object("configMap", "podeip", shipped),
        object("secret", "podeip-credential", credential),
    ]
}

struct Agent<'cluster> {
    kubelet: &'cluster Kubelet<'cluster>,
    name: String,
}

impl Agent<'_> {
    fn log(&self) -> String {
        self.kubelet.podman(&["logs", &self.name]).stderr
    }

    fn inspect(&self, what: &str) -> String {
        self.kubelet.podman(&["inspect", "--format", what, &self.name]).stdout.trim().to_owned()
    }
}

fn succeeds(probe: &Value) -> bool {
    fetch(probe, probe["path"].as_str().unwrap()).starts_with("HTTP/1.1 200 ")
}

/// From the host and port of a probe; nothing while nobody listens.
fn fetch(probe: &Value, path: &str) -> String {
    let address = format!("{}:{}", probe["host"].as_str().unwrap(), probe["port"]);
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_string(&mut answer).unwrap();
    }
    answer
}

/// What was installed on the node: content and mode of each file.
fn installation() -> BTreeMap<&'static str, (Vec<u8>, u32)> {
    let files =
        ["/opt/cni/bin/podeip", "/etc/podeip/eni_conf", "/etc/podeip/kubeconfig", "/etc/cni/net.d/10-podnet.conflist"];
    let look = |file| (file, (fs::read(file).unwrap(), fs::metadata(file).unwrap().mode() & 0o7777));
    files.map(look).into()
}

#[test]
fn the_daemonsets_containers_serve_their_node_without_any_capability() {
    with_static_executable(|node| {
        let cluster = Cluster::new(node);
        cluster.install();
        let installed = installation();
        assert_whole(&installed);
        let agent = cluster.start_agent();
        assert_confined(node, &agent);

        // Made after the agent started.
        run(node.command("ip").args(["netns", "add", "late"])).unwrap();
        // What the agent may not look into, which is how Docker names a sandbox.
        let process = Process::start(node);
        let netns = ["/run/netns/late", "/var/run/netns/late", &format!("/proc/{}/ns/net", process.pid)];
        let pods: Vec<Sandbox> = (5..).zip(netns).map(|(last, netns)| cluster.add(last, netns)).collect();
        let probe = &cluster.kubelet.containers("containers")[0]["readinessProbe"]["httpGet"];
        await_true("the EIPs are counted", || fetch(probe, "/metrics").contains("podeip_eips{phase=\"Bound\"} 3\n"));
        let collected = cluster.collected(&agent);
        assert_eq!(collected.matches("left").count(), 3, "{collected}");
        assert!(!agent.log().contains("cannot look at"), "{}", agent.log());

        let began = Instant::now();
        let grace = cluster.kubelet.grace();
        assert_eq!(cluster.kubelet.podman(&["stop", "--time", &grace.to_string(), &agent.name]).code, Some(0));
        assert!(began.elapsed() < Duration::from_secs(grace / 2), "{}", agent.log());
        assert_eq!(agent.inspect("{{.State.ExitCode}}"), "0", "{}", agent.log());
        assert_eq!(installation(), installed, "its end takes nothing off the node");
        pods.iter().for_each(|pod| drop(cluster.scene.assert_served(pod)));
    });
}

/// All that a runtime needs is there, and what is secret is root's.
fn assert_whole(installed: &BTreeMap<&str, (Vec<u8>, u32)>) {
    assert_eq!(installed["/opt/cni/bin/podeip"], (fs::read(executable()).unwrap(), 0o755));
    assert_eq!(installed["/etc/podeip/eni_conf"].1, 0o600);
    assert_eq!(installed["/etc/podeip/kubeconfig"].1, 0o600);
    let rendered: Value = serde_json::from_slice(&installed["/etc/podeip/eni_conf"].0).unwrap();
    assert_eq!(rendered["access_key"], defaults::ACCESS_KEY_ID, "the Secret's");
    let list = conflist();
    let types: Vec<&Value> = list["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["type"]).collect();
    assert_eq!(types, ["bridge", "podeip"]);
}

/// One of the node's, with a network namespace and all capabilities.
struct Process {
    child: Child,
    /// As the node's processes know it.
    pid: String,
}

impl Process {
    fn start(node: &Node) -> Self {
        let mut command = node.command("unshare");
        command.args(["--net", "sh", "-c", "echo $$; exec sleep 600"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        Self { child, pid: pid.trim().to_owned() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Root in name only, on file systems that it may not write.
fn assert_confined(node: &Node, agent: &Agent) {
    let pid = agent.inspect("{{.State.Pid}}");
    let of_agent = |file: &str| run(node.command("cat").arg(format!("/proc/{pid}/{file}"))).unwrap();
    let status = of_agent("status");
    for line in
        ["Uid:\t0\t0\t0\t0", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        assert!(status.lines().any(|shown| shown == line), "{line} is missing in: {status}");
    }
    let mounts = of_agent("mounts");
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.split(' ').nth(3).unwrap().split(',').any(|option| option == "ro"), "{root}");
}
