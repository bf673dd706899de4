//! A pod's containers, run by podman as a kubelet has them run: every field of the manifest becomes a flag or is known to
//! need none. One that is unknown here is a panic, so that no part of a manifest goes untested by being overlooked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::install::site::Mount;
use crate::node::{Node, run};
use crate::podman::containers_conf;
use crate::scene::{Answer, NODE};

/// Where a kubelet mounts the service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Keys of a ConfigMap or a Secret in the cluster.
pub struct Object {
    pub kind: &'static str,
    pub name: &'static str,
    pub key: &'static str,
    pub content: String,
}

/// One pod on one node, and podman with a storage of its own.
pub struct Kubelet<'node> {
    node: &'node Node,
    dir: PathBuf,
    manifest: Value,
    spec: Value,
    account: Mount,
    /// The API server's address and port, as the pod is told them.
    server: (String, String),
}

impl<'node> Kubelet<'node> {
    /// For a pod of this DaemonSet, whose directories on the node are made here.
    pub fn new(node: &'node Node, manifest: Value, account: &[(&str, &str)], api_server: &str) -> Self {
        let dir = node.dir("kubelet");
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{dir}/storage\"\nrunroot = \"{dir}/run\"\n",
            dir = dir.display()
        );
        fs::write(dir.join("storage.conf"), storage).unwrap();
        fs::write(dir.join("containers.conf"), containers_conf(&dir)).unwrap();
        // It names directories of CNI, which have to be there although every pod here is on the host's network.
        ["bin", "net.d"].iter().for_each(|name| fs::create_dir(dir.join(name)).unwrap());
        let (host, port) = api_server.strip_prefix("https://").unwrap().rsplit_once(':').unwrap();
        let server = (host.to_owned(), port.to_owned());
        let spec = manifest["spec"]["template"]["spec"].clone();
        let kubelet = Self { node, account: Mount::new(dir.join("account"), account), dir, manifest, spec, server };
        kubelet.volumes().for_each(|volume| kubelet.make(volume));
        kubelet
    }

    /// A program of the node that uses podman's storage and settings.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.node.command(program.as_ref());
        command
            .env("CONTAINERS_STORAGE_CONF", self.dir.join("storage.conf"))
            .env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        command
    }

    pub fn podman(&self, arguments: &[&str]) -> Answer {
        self.command("podman").args(arguments).output().unwrap().into()
    }

    /// The containers under `initContainers` or `containers`.
    pub fn containers(&self, which: &str) -> Vec<Value> {
        self.spec[which].as_array().unwrap().clone()
    }

    /// Runs a container with these flags before those that its manifest asks for.
    pub fn run(&self, container: &Value, image: &str, flags: &[&str]) -> Answer {
        let mut arguments: Vec<String> = ["run", "--pull", "never"].map(str::to_owned).into();
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        arguments.extend(["--cgroup-parent".into(), self.node.cgroup_parent()]);
        arguments.extend(self.pod_flags());
        arguments.extend(self.container_flags(container));
        arguments.push(image.to_owned());
        arguments.extend(texts(&container["args"]));
        self.podman(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// How long a container gets for its end.
    pub fn grace(&self) -> u64 {
        self.spec["terminationGracePeriodSeconds"].as_u64().unwrap()
    }

    /// Mounts the objects' keys as a projected volume shows them.
    pub fn project(&self, objects: &[Object]) {
        for volume in self.volumes().filter(|volume| !volume["projected"].is_null()) {
            let sources = volume["projected"]["sources"].as_array().unwrap();
            let files: Vec<_> = sources.iter().flat_map(|source| projected(source, objects)).collect();
            let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
            let mount = Mount::new(self.source(volume["name"].as_str().unwrap()), &files);
            run(Command::new("chmod").args(["-R", "u=rX,go="]).arg(mount.path())).unwrap();
        }
    }

    fn volumes(&self) -> impl Iterator<Item = &Value> {
        self.spec["volumes"].as_array().unwrap().iter()
    }

    fn make(&self, volume: &Value) {
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            assert_eq!(volume["hostPath"]["type"], "DirectoryOrCreate", "{volume}");
            fs::create_dir_all(path).unwrap();
        }
    }

    /// What of the node is mounted for a volume.
    fn source(&self, name: &str) -> PathBuf {
        let volume = self.volumes().find(|volume| volume["name"] == name).expect(name);
        match volume["hostPath"]["path"].as_str() {
            Some(path) => path.into(),
            None => self.dir.join(format!("volume-{name}")),
        }
    }

    fn pod_flags(&self) -> Vec<String> {
        let mut flags = self.account_flags();
        for (key, value) in self.spec.as_object().unwrap() {
            match key.as_str() {
                "hostNetwork" if *value == true => flags.push("--network=host".into()),
                "hostPID" if *value == true => flags.push("--pid=host".into()),
                "securityContext" => flags.extend(security_flags(value)),
                // Of the scheduler and the kubelet; podman gives a container the node's resolv.conf as `Default` does.
                "serviceAccountName" | "priorityClassName" | "nodeSelector" | "affinity" | "tolerations" => {}
                "dnsPolicy" | "terminationGracePeriodSeconds" | "initContainers" | "containers" | "volumes" => {}
                _ => panic!("what does a kubelet do with {key}: {value}?"),
            }
        }
        flags
    }

    /// Every container gets the service account and the API server's address.
    fn account_flags(&self) -> Vec<String> {
        let (host, port) = &self.server;
        vec![
            format!("--volume={}:{ACCOUNT}:ro", self.account.path().display()),
            format!("--env=KUBERNETES_SERVICE_HOST={host}"),
            format!("--env=KUBERNETES_SERVICE_PORT={port}"),
        ]
    }

    fn container_flags(&self, container: &Value) -> Vec<String> {
        let mut flags = Vec::new();
        for (key, value) in container.as_object().unwrap() {
            match key.as_str() {
                "name" => flags.push(format!("--name={}", value.as_str().unwrap())),
                "env" => flags.extend(value.as_array().unwrap().iter().map(|variable| self.variable(variable))),
                "volumeMounts" => flags.extend(value.as_array().unwrap().iter().map(|mount| self.mount(mount))),
                "securityContext" => flags.extend(security_flags(value)),
                // The test asks what the probes ask.
                "image" | "imagePullPolicy" | "args" | "resources" | "readinessProbe" | "livenessProbe" => {}
                _ => panic!("what does a kubelet do with {key}: {value}?"),
            }
        }
        flags
    }

    fn variable(&self, variable: &Value) -> String {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("spec.nodeName") => NODE,
            Some("metadata.namespace") => self.manifest["metadata"]["namespace"].as_str().unwrap(),
            _ => panic!("what does a kubelet put into {variable}?"),
        };
        format!("--env={}={value}", variable["name"].as_str().unwrap())
    }

    fn mount(&self, mount: &Value) -> String {
        let mut options = vec![if mount["readOnly"] == true { "ro" } else { "rw" }];
        match mount["mountPropagation"].as_str() {
            None => options.push("rprivate"),
            Some("HostToContainer") => options.push("rslave"),
            Some(other) => panic!("what is propagation {other}?"),
        }
        let source = self.source(mount["name"].as_str().unwrap());
        format!("--volume={}:{}:{}", source.display(), mount["mountPath"].as_str().unwrap(), options.join(","))
    }
}

fn security_flags(context: &Value) -> Vec<String> {
    let mut flags = Vec::new();
    for (key, value) in context.as_object().unwrap() {
        match key.as_str() {
            "runAsUser" => flags.push(format!("--user={value}")),
            "allowPrivilegeEscalation" if *value == false => flags.push("--security-opt=no-new-privileges".into()),
            // podman would put writable file systems on /run and /tmp; no kubelet does.
            "readOnlyRootFilesystem" if *value == true => {
                flags.extend(["--read-only".into(), "--read-only-tmpfs=false".into()]);
            }
            "capabilities" => {
                flags.extend(texts(&value["drop"]).map(|name| format!("--cap-drop={name}")));
                flags.extend(texts(&value["add"]).map(|name| format!("--cap-add={name}")));
            }
            "seLinuxOptions" => {
                let labels = value.as_object().unwrap().iter();
                flags.extend(
                    labels.map(|(part, label)| format!("--security-opt=label={part}:{}", label.as_str().unwrap())),
                );
            }
            // podman's default.
            "seccompProfile" if value["type"] == "RuntimeDefault" => {}
            _ => panic!("what does a kubelet do with {key}: {value}?"),
        }
    }
    flags
}

fn texts(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned())
}

/// The files that one source of a projected volume gives: path and content.
fn projected(source: &Value, objects: &[Object]) -> Vec<(String, String)> {
    let (kind, from) = source.as_object().unwrap().iter().next().unwrap();
    let items = from["items"].as_array().unwrap().iter();
    let file = |item: &Value| {
        let object = objects.iter().find(|it| it.kind == kind && from["name"] == it.name && item["key"] == it.key);
        assert!(object.is_some() || from["optional"] == true, "no pod would start without {source}");
        Some((item["path"].as_str().unwrap().to_owned(), object?.content.clone()))
    };
    items.filter_map(file).collect()
}
