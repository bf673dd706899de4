//! A small played control plane for one node: DaemonSet controller, scheduler, kubelet and runtime. It looks at all objects
//! again and again; what containers do is done by the built executable itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podeip_sim::kube::{Ended, Exec};
use serde_json::{Value, json};

use super::cluster::{self, SYSTEM, name, namespace, uid};
use super::container::{self, Mount, Run, Running};
use super::sandbox;
use crate::install::site;
use crate::node::Node;
use crate::scene::{NODE, Sandbox, Scene};

/// Between two looks. What failed is tried again at the next.
const PAUSE: Duration = Duration::from_millis(50);

/// A kubelet's default for a probe.
const PROBE_TIME: Duration = Duration::from_secs(1);

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The played node and what runs on it.
pub struct Kubelet<'a> {
    pub node: &'a Node,
    pub scene: &'a Scene,
    pods: BTreeMap<String, Pod>,
}

/// A pod that has been begun.
#[derive(Default)]
struct Pod {
    volumes: BTreeMap<String, (site::Mount, Vec<(String, String)>)>,
    account: Option<site::Mount>,
    /// Init containers that are through.
    initialized: usize,
    running: Vec<Running>,
    sandbox: Option<Sandbox>,
}

impl<'a> Kubelet<'a> {
    pub fn new(node: &'a Node, scene: &'a Scene) -> Self {
        let kubelet = Self { node, scene, pods: BTreeMap::new() };
        fs::create_dir(scene.path("logs")).unwrap();
        container::make_node_root(node, &kubelet.root());
        kubelet
    }

    pub fn root(&self) -> PathBuf {
        root(self.scene)
    }

    /// Plays until it is to stop.
    pub fn play(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.control();
            for pod in self.scene.world.cluster.list("pods") {
                self.tend(&pod);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The controller's part: a pod for each DaemonSet, none without.
    fn control(&self) {
        let cluster = &self.scene.world.cluster;
        let pods = cluster.list("pods");
        let owner = |pod: &Value| pod["metadata"]["ownerReferences"][0]["uid"].clone();
        let sets = cluster.list("daemonsets");
        for set in &sets {
            let own = pods.iter().find(|pod| owner(pod) == set["metadata"]["uid"]);
            match own {
                None => cluster::create_pod_of(self.scene, set),
                Some(pod) => {
                    let ready = u8::from(is_ready(pod));
                    let status = json!({"status": {"observedGeneration": set["metadata"]["generation"],
                        "desiredNumberScheduled": 1, "currentNumberScheduled": 1, "updatedNumberScheduled": 1,
                        "numberMisscheduled": 0, "numberReady": ready, "numberAvailable": ready,
                        "numberUnavailable": 1 - ready}});
                    self.show("daemonsets", set, &status);
                }
            }
        }
        let is_left =
            |pod: &&Value| !owner(pod).is_null() && sets.iter().all(|set| set["metadata"]["uid"] != owner(pod));
        for pod in pods.iter().filter(is_left) {
            cluster.begin_pod_deletion(namespace(pod), name(pod));
        }
    }

    /// Writes what changed.
    fn show(&self, resource: &str, object: &Value, change: &Value) {
        let mut changed = object.clone();
        json_merge(&mut changed, change);
        if changed != *object {
            self.scene.world.cluster.merge(resource, namespace(object), name(object), change);
        }
    }

    fn tend(&mut self, pod: &Value) {
        if pod["spec"]["nodeName"] != NODE {
            return self.show("pods", pod, &json!({"spec": {"nodeName": NODE}}));
        }
        let mut known = self.pods.remove(uid(pod)).unwrap_or_default();
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            self.end(known);
            self.scene.world.cluster.finish_deletion(namespace(pod), name(pod));
            return;
        }
        if pod["spec"]["hostNetwork"] == true {
            if self.prepare(pod, &mut known) && self.initialize(pod, &mut known) {
                self.run(pod, &mut known);
            }
        } else if known.sandbox.is_none() {
            known.sandbox = self.add(pod);
        }
        self.pods.insert(uid(pod).to_owned(), known);
    }

    /// Volumes and the service account; kept up to date while the pod lives. False while something is missing.
    fn prepare(&self, pod: &Value, known: &mut Pod) -> bool {
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            let Some(sources) = volume.pointer("/projected/sources") else { continue };
            let Some(files) = cluster::projected(self.scene, sources) else { return false };
            let name = volume["name"].as_str().unwrap();
            let texts: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            match known.volumes.get_mut(name) {
                Some((_, before)) if *before == files => {}
                Some((mount, before)) => {
                    mount.renew(&texts);
                    *before = files;
                }
                None => {
                    let path = self.scene.path(&format!("volume-{name}-{}", uid(pod)));
                    known.volumes.insert(name.into(), (site::Mount::new(path, &texts), files));
                }
            }
        }
        known.account.get_or_insert_with(|| {
            let token = cluster::token_of(self.scene, pod);
            let files = [("token", token.as_str()), ("ca.crt", self.scene.world.certificates.ca.as_str())];
            site::Mount::new(self.scene.path(&format!("account-{}", uid(pod))), &files)
        });
        true
    }

    /// Init containers, one after the other. False while one fails: it is tried again.
    fn initialize(&self, pod: &Value, known: &mut Pod) -> bool {
        let containers = pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
        while let Some(next) = containers.get(known.initialized) {
            if self.run_of(pod, next, known).start(self.node).wait() != 0 {
                return false;
            }
            known.initialized += 1;
        }
        true
    }

    /// The containers themselves, started again when they end, and what the pod's status says of them.
    fn run(&self, pod: &Value, known: &mut Pod) {
        let containers = pod["spec"]["containers"].as_array().unwrap();
        for (at, container) in containers.iter().enumerate() {
            let stands = known.running.get_mut(at).map(|running| running.ended().is_none());
            if stands == Some(true) {
                continue;
            }
            let started = self.run_of(pod, container, known).start(self.node);
            self.note(pod, container, &started);
            match known.running.get_mut(at) {
                None => known.running.push(started),
                Some(ended) => *ended = started,
            }
        }
        let ready: Vec<bool> = containers.iter().map(probe).collect();
        self.show("pods", pod, &running_status(pod, &ready, "127.0.0.1"));
    }

    /// Where commands for this container find it.
    fn note(&self, pod: &Value, container: &Value, running: &Running) {
        let file = self.scene.path(&pid_file(owner_name(pod), container["name"].as_str().unwrap()));
        let new = file.with_extension("new");
        fs::write(&new, running.pid().to_string()).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn run_of<'c>(&self, pod: &Value, container: &'c Value, known: &Pod) -> Run<'c> {
        let name = container["name"].as_str().unwrap();
        let mut mounts: Vec<Mount> =
            container["volumeMounts"].as_array().unwrap().iter().map(|mount| self.mount(pod, mount, known)).collect();
        let account = known.account.as_ref().unwrap().path().to_owned();
        mounts.push(Mount { source: account, target: ACCOUNT.into(), read_only: true, follows_node: false });
        Run {
            container,
            root: self.scene.path(&format!("root-{name}-{}", uid(pod))),
            mounts,
            environment: self.environment(pod, container),
            log: self.scene.path(&format!("logs/{}-{name}", owner_name(pod))),
        }
    }

    fn mount(&self, pod: &Value, mount: &Value, known: &Pod) -> Mount {
        let wanted = mount["name"].as_str().unwrap();
        let volume = pod["spec"]["volumes"].as_array().unwrap().iter().find(|it| it["name"] == wanted).unwrap();
        let source = match volume["hostPath"]["path"].as_str() {
            Some(path) => {
                assert_eq!(volume["hostPath"]["type"], "DirectoryOrCreate", "{volume}");
                self.root().join(path.trim_start_matches('/'))
            }
            None => known.volumes[wanted].0.path().to_owned(),
        };
        fs::create_dir_all(&source).unwrap();
        Mount {
            source,
            target: mount["mountPath"].as_str().unwrap().into(),
            read_only: mount["readOnly"] == true,
            follows_node: mount["mountPropagation"] == "HostToContainer",
        }
    }

    fn environment(&self, pod: &Value, container: &Value) -> Vec<(String, String)> {
        let server = self.scene.world.kube_url.trim_start_matches("https://");
        let (host, port) = server.rsplit_once(':').unwrap();
        let mut all = vec![
            ("KUBERNETES_SERVICE_HOST".to_owned(), host.to_owned()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_owned()),
        ];
        for variable in container["env"].as_array().into_iter().flatten() {
            let path = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap();
            let value = pod.pointer(&format!("/{}", path.replace('.', "/"))).unwrap().as_str().unwrap();
            all.push((variable["name"].as_str().unwrap().into(), value.into()));
        }
        all
    }

    /// The runtime's part for a pod of the pod network: a sandbox, if the chain makes one.
    fn add(&self, pod: &Value) -> Option<Sandbox> {
        let made = sandbox::of(self, pod);
        let answer = sandbox::call(self, "ADD", &made);
        if answer.code != Some(0) {
            eprintln!("ADD: {answer:?}");
            sandbox::call(self, "DEL", &made);
            return None;
        }
        self.show("pods", pod, &running_status(pod, &[true], &made.ip.to_string()));
        Some(made)
    }

    fn end(&self, known: Pod) {
        known.running.iter().for_each(Running::terminate);
        for mut running in known.running {
            running.wait();
        }
        if let Some(sandbox) = &known.sandbox {
            sandbox::call(self, "DEL", sandbox);
        }
    }
}

/// The process of a container of a DaemonSet, in the test's directory.
pub fn pid_file(set: &str, container: &str) -> String {
    format!("pid-{set}-{container}")
}

/// Runs a command in a container: what the runtime does for `kubectl exec`.
pub fn execute(files: &Path, exec: &Exec) -> Ended {
    let (set, _) = exec.pod.rsplit_once('-').unwrap();
    let pid = fs::read_to_string(files.join(pid_file(set, &exec.container))).unwrap();
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid, "--mount", "--root", "--wd", "--"]).args(&exec.command).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    Ended { code: status.code().unwrap_or(-1), stdout, stderr }
}

/// Where the node's host paths are.
pub fn root(scene: &Scene) -> PathBuf {
    scene.path("node")
}

/// What containers of a DaemonSet are called in files: its pods have other names each time.
fn owner_name(pod: &Value) -> &str {
    pod["metadata"]["ownerReferences"][0]["name"].as_str().unwrap()
}

/// What a readiness probe finds; a container without one is ready.
fn probe(container: &Value) -> bool {
    let Some(asked) = container.pointer("/readinessProbe/httpGet") else { return true };
    let [host, path] = ["host", "path"].map(|key| asked[key].as_str().unwrap());
    fetch(host, asked["port"].as_u64().unwrap(), path).is_some_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

/// What somebody on the node is answered, head and all.
pub fn fetch(host: &str, port: u64, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((host, u16::try_from(port).ok()?)).ok()?;
    stream.set_read_timeout(Some(PROBE_TIME)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"))
}

fn running_status(pod: &Value, ready: &[bool], ip: &str) -> Value {
    let containers = pod["spec"]["containers"].as_array().unwrap().iter().zip(ready);
    let statuses: Vec<Value> = containers
        .map(|(it, ready)| json!({"name": it["name"], "image": it["image"], "ready": ready, "restartCount": 0}))
        .collect();
    let all_ready = if ready.iter().all(|it| *it) { "True" } else { "False" };
    json!({"status": {"phase": "Running", "podIP": ip, "containerStatuses": statuses,
        "conditions": [{"type": "Ready", "status": all_ready}]}})
}

fn json_merge(object: &mut Value, change: &Value) {
    match (object, change) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (key, value) in changes {
                json_merge(fields.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (object, change) => *object = change.clone(),
    }
}

/// The pods of the control plane's own namespace.
pub fn system_pods(scene: &Scene) -> Vec<Value> {
    scene.world.cluster.list("pods").into_iter().filter(|pod| namespace(pod) == SYSTEM).collect()
}
