//! The simulated world with a node or two in it, and podeip called the way a runtime calls it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use podeip_sim::cloud::{EipView, EniSpec, Status};
use podeip_sim::kube::PodSpec;
use podeip_sim::world::{Options, World};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const WITH_EIP: (&str, &str) = ("network.alibabacloud.com/pod-with-eip", "true");
/// For what happens at once unless the machine is very busy.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const NODE: &str = "node-1";
/// Has a state of its own. Settings and kubeconfig are those of the cluster.
pub const OTHER_NODE: &str = "node-2";
const CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";

static SANDBOXES: AtomicU32 = AtomicU32::new(0);

/// What is tested: the executable that the environment's `PODEIP` names, such as the one that is shipped, or cargo's.
pub fn executable() -> &'static str {
    static NAMED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("PODEIP").ok());
    NAMED.as_deref().unwrap_or(env!("CARGO_BIN_EXE_podeip"))
}

/// A world and its nodes' files. Calls are fast and unlimited unless a test says otherwise.
pub struct Scene {
    pub world: World,
    files: TempDir,
}

/// One sandbox of a pod, as the runtime knows it.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub container_id: String,
    pub netns: String,
    pub ip: Ipv4Addr,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub node: String,
    /// Passed by the runtime; `None`: it does not pass any.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// How a call ended.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let world = World::start(options).unwrap();
        world.cloud.set(|settings| {
            let quick = Duration::from_millis(30);
            settings.associate_delay = quick;
            settings.unassociate_delay = quick;
            settings.release_delay = quick;
            settings.package_delay = quick;
            settings.throttling = false;
            settings.quota = 1000;
        });
        let scene = Self { world, files: tempfile::tempdir().unwrap() };
        scene.configure(|_| {});
        scene.write("kubeconfig", &scene.world.kubeconfig());
        scene
    }

    /// Writes `eni_conf` anew, changed by `change`.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let mut settings = self.world.eni_conf();
        // An agent's patience with the API server is not what most tests are about.
        settings["kube_client_qps"] = json!(1000);
        settings["kube_client_burst"] = json!(1000);
        change(&mut settings);
        self.write("eni_conf", &settings.to_string());
    }

    /// The node's RAM role instead of the AccessKey.
    pub fn use_ram_role(&self) {
        self.configure(|settings| {
            let settings = settings.as_object_mut().unwrap();
            settings.retain(|key, _| !["access_key", "access_secret", "region_id", "vpc_id"].contains(&key.as_str()));
        });
    }

    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub fn state_dir(&self) -> PathBuf {
        self.state_dir_of(NODE)
    }

    pub fn state_dir_of(&self, node: &str) -> PathBuf {
        self.path(&state_of(node))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("podeip.log")).unwrap_or_default()
    }

    /// Whether an agent holds its lock.
    pub fn agent_lives(&self) -> bool {
        let Ok(file) = fs::File::open(self.state_dir().join("agent.lock")) else { return false };
        file.try_lock_shared().is_err()
    }

    /// Whether some pod's lock is held on [`NODE`].
    pub fn holds_pod_lock(&self) -> bool {
        let Ok(locks) = fs::read_dir(self.state_dir().join("pods")) else { return false };
        let held = |path: PathBuf| fs::File::open(path).is_ok_and(|file| file.try_lock_shared().is_err());
        locks.filter_map(Result::ok).any(|lock| held(lock.path()))
    }

    /// The attachments in `state.json`.
    pub fn records(&self) -> Vec<Value> {
        self.records_of(NODE)
    }

    pub fn records_of(&self, node: &str) -> Vec<Value> {
        let Ok(text) = fs::read(self.state_dir_of(node).join("state.json")) else { return Vec::new() };
        let file: Value = serde_json::from_slice(&text).unwrap();
        file["attachments"].as_array().unwrap().clone()
    }

    /// Creates a pod in the API server and a sandbox for it that the runtime has just made.
    pub fn pod(&self, name: &str, ip: [u8; 4], annotations: &[(&str, &str)]) -> Sandbox {
        self.pod_with(PodSpec::new("default", name), ip, annotations)
    }

    /// On [`NODE`] unless `spec` says otherwise.
    pub fn pod_with(&self, spec: PodSpec, ip: [u8; 4], annotations: &[(&str, &str)]) -> Sandbox {
        let annotations: BTreeMap<String, String> =
            annotations.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let node = if spec.node.is_empty() { NODE.to_string() } else { spec.node.clone() };
        let spec = PodSpec { annotations: annotations.clone(), node: node.clone(), ..spec };
        let object = self.world.cluster.create_pod(&spec);
        let text = |value: &Value| value.as_str().unwrap().to_string();
        Sandbox {
            container_id: String::new(),
            netns: String::new(),
            ip: ip.into(),
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
            uid: text(&object["metadata"]["uid"]),
            node,
            annotations: Some(annotations),
        }
        .restarted()
    }

    /// Our object in the conflist of [`NODE`].
    pub fn stanza(&self) -> Value {
        self.stanza_of(NODE)
    }

    fn stanza_of(&self, node: &str) -> Value {
        json!({
            "type": "podeip",
            "capabilities": { CAPABILITY: true },
            "config": self.path("eni_conf"),
            "kubeconfig": self.path("kubeconfig"),
            "stateDir": self.state_dir_of(node),
            "logFile": self.path("podeip.log"),
            "logLevel": "debug",
        })
    }

    /// What libcni would write to stdin.
    pub fn stdin(&self, sandbox: &Sandbox, prev_result: Option<Value>) -> Value {
        let mut stdin = self.stanza_of(&sandbox.node);
        stdin["name"] = json!("pods");
        stdin["cniVersion"] = json!("1.0.0");
        if let Some(annotations) = &sandbox.annotations {
            let annotations = if annotations.is_empty() { Value::Null } else { json!(annotations) };
            stdin["runtimeConfig"] = json!({ CAPABILITY: annotations });
        }
        if let Some(result) = prev_result {
            stdin["prevResult"] = result;
        }
        stdin
    }

    /// The command of one verb, ready to be spawned with a piped stdin.
    pub fn command(&self, verb: &str, sandbox: &Sandbox) -> Command {
        let mut command = Command::new(executable());
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &sandbox.container_id)
            .env("CNI_NETNS", &sandbox.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("CNI_ARGS", sandbox.cni_args())
            // The living netns of a test's sandbox is the test's own.
            .env("CNI_NETNS_OVERRIDE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn spawn(&self, verb: &str, sandbox: &Sandbox) -> Child {
        let prev_result = (verb != "DEL" || !sandbox.netns.is_empty()).then(|| sandbox.result());
        start(self.command(verb, sandbox), &self.stdin(sandbox, prev_result))
    }

    pub fn call(&self, verb: &str, sandbox: &Sandbox) -> Answer {
        self.spawn(verb, sandbox).wait_with_output().unwrap().into()
    }

    pub fn add(&self, sandbox: &Sandbox) -> Answer {
        self.call("ADD", sandbox)
    }

    /// DEL as after a failed ADD or at a pod's end; it has to succeed.
    pub fn del(&self, sandbox: &Sandbox) {
        let answer = self.call("DEL", sandbox);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), ""), "{answer:?}\n{}", self.log());
    }

    /// A command of the operator, with this node's paths.
    pub fn podeip(&self, arguments: &[&str]) -> Answer {
        self.operator(arguments).output().unwrap().into()
    }

    /// The same, ready to be spawned.
    pub fn operator(&self, arguments: &[&str]) -> Command {
        self.operator_of(NODE, arguments)
    }

    /// The same on another node.
    pub fn operator_of(&self, node: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(executable());
        command.env_clear().env("NODE_NAME", node).args(arguments);
        if !arguments.contains(&"--help") {
            command.arg("--conf-dir").arg(self.path("no-conflist"));
            command.arg("--config").arg(self.path("eni_conf")).arg("--kubeconfig").arg(self.path("kubeconfig"));
            command.arg("--state-dir").arg(self.state_dir_of(node));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `podeip agent` on [`NODE`], ready to be spawned.
    pub fn agent(&self, arguments: &[&str]) -> Command {
        self.agent_of(NODE, arguments)
    }

    /// `podeip agent` with the name and the state of this node.
    pub fn agent_of(&self, node: &str, arguments: &[&str]) -> Command {
        self.agent_on(node, &state_of(node), arguments)
    }

    /// `podeip agent` under this name, with the state in this directory.
    pub fn agent_on(&self, node: &str, state: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(executable());
        command.env_clear().env("NODE_NAME", node).arg("agent").args(arguments);
        command.arg("--conf-dir").arg(self.path("no-conflist"));
        command.arg("--config").arg(self.path("eni_conf")).arg("--kubeconfig").arg(self.path("kubeconfig"));
        command.arg("--state-dir").arg(self.path(state));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// One round of the agent and one sweep, in which nothing may fail.
    pub fn agent_once(&self) -> Answer {
        self.agent_once_on(NODE)
    }

    pub fn agent_once_on(&self, node: &str) -> Answer {
        let answer: Answer = self.agent_of(node, &["--once"]).output().unwrap().into();
        assert_eq!(answer.code, Some(0), "{answer:?}\n{}", self.log());
        answer
    }

    /// `podeip gc`, which has to leave nothing unfinished.
    pub fn gc(&self) -> Answer {
        let answer = self.podeip(&["gc"]);
        assert_eq!(answer.code, Some(0), "{answer:?}\n{}", self.log());
        answer
    }

    /// The EIPs that podeip ever allocated.
    pub fn ever_ours(&self) -> Vec<EipView> {
        let ours = |eip: &EipView| eip.client_token.is_some();
        self.world.cloud.ever_allocated().into_iter().filter(ours).collect()
    }

    /// Those of them that still exist.
    pub fn ours(&self) -> Vec<EipView> {
        self.ever_ours()
            .into_iter()
            .filter(|eip| eip.released_at.is_none() && eip.status != Status::Releasing)
            .collect()
    }

    /// The EIPs the cloud shows in use on `ip`.
    pub fn on(&self, ip: Ipv4Addr) -> Vec<EipView> {
        let on_ip = |eip: &EipView| {
            eip.status == Status::InUse && eip.binding.as_ref().is_some_and(|binding| binding.private_ip == ip)
        };
        self.world.cloud.eips().into_iter().filter(on_ip).collect()
    }

    /// The network interface that has this private IP.
    pub fn eni_of(&self, ip: Ipv4Addr) -> String {
        let holds = |eni: &EniSpec| eni.primary_ip == ip || eni.private_ips.contains(&ip);
        self.world.cloud.enis().into_iter().find(holds).expect("the address is on an ENI").id
    }

    pub fn pod_object(&self, sandbox: &Sandbox) -> Value {
        self.world.cluster.get("pods", &sandbox.namespace, &sandbox.name).expect("the pod exists")
    }

    pub fn pod_eip(&self, sandbox: &Sandbox) -> Option<Value> {
        self.world.cluster.get("podeips", &sandbox.namespace, &sandbox.name)
    }

    /// The messages of the pod's events with this reason.
    pub fn events(&self, sandbox: &Sandbox, reason: &str) -> Vec<String> {
        self.events_of("Pod", sandbox, reason)
    }

    /// The same of its PodEIP.
    pub fn pod_eip_events(&self, sandbox: &Sandbox, reason: &str) -> Vec<String> {
        self.events_of("PodEIP", sandbox, reason)
    }

    fn events_of(&self, kind: &str, sandbox: &Sandbox, reason: &str) -> Vec<String> {
        let events = self.world.cluster.events_for(&sandbox.namespace, &sandbox.name);
        let wanted = |event: &&Value| event["reason"] == reason && event["involvedObject"]["kind"] == kind;
        events.iter().filter(wanted).map(|event| event["message"].as_str().unwrap().to_string()).collect()
    }

    pub fn delete_pod(&self, sandbox: &Sandbox) {
        self.world.cluster.remove_pod(&sandbox.namespace, &sandbox.name);
    }

    /// Promise 1 as seen from outside: bound, published, and the only one.
    pub fn assert_served(&self, sandbox: &Sandbox) -> EipView {
        let bound = self.on(sandbox.ip);
        assert_eq!(bound.len(), 1, "{bound:?}\n{}", self.log());
        let eip = bound.into_iter().next().unwrap();
        let annotations = &self.pod_object(sandbox)["metadata"]["annotations"];
        for key in [
            "k8s.aliyun.com/allocated-eipAddress",
            "network.alibabacloud.com/allocated-eipAddress",
            "network.alibabacloud.com/allocated-eip-address",
        ] {
            assert_eq!(annotations[key], eip.address.to_string(), "{key}\n{}", self.log());
        }
        assert_eq!(annotations["network.alibabacloud.com/allocated-eip-id"], eip.id);
        assert_eq!(annotations["k8s.aliyun.com/allocated-eipInstanceId"], eip.id);
        assert_eq!(annotations["network.alibabacloud.com/allocated-eni-id"], self.eni_of(sandbox.ip));
        let pod_eip = self.pod_eip(sandbox).expect("the PodEIP exists");
        assert_eq!(pod_eip["spec"]["allocationID"], eip.id);
        assert_eq!(pod_eip["status"]["eipAddress"], eip.address.to_string());
        assert_eq!(pod_eip["status"]["privateIPAddress"], sandbox.ip.to_string());
        assert_eq!(pod_eip["status"]["status"], "InUse");
        eip
    }

    /// Nothing of ours is left: not in the cloud, not in the cluster, not on the node.
    pub fn assert_nothing_left(&self) {
        assert!(self.ours().is_empty(), "{:?}\n{}", self.ours(), self.log());
        assert_eq!(self.records(), Vec::<Value>::new(), "{}", self.log());
        assert_eq!(self.world.cluster.list("podeips"), Vec::<Value>::new(), "{}", self.log());
    }
}

/// The name of a node's state directory.
fn state_of(node: &str) -> String {
    if node == NODE { "state".into() } else { node.replace("node", "state") }
}

impl Sandbox {
    /// The same pod in a new sandbox: another container id and netns.
    pub fn restarted(&self) -> Self {
        let nth = SANDBOXES.fetch_add(1, Ordering::Relaxed);
        let unique = format!("{:032x}{:032x}", std::process::id(), nth);
        Self { netns: format!("/run/netns/cni-{unique}"), container_id: unique, ..self.clone() }
    }

    /// As the second DEL of containerd names it: no netns, and with that no prevResult.
    pub fn without_netns(&self) -> Self {
        Self { netns: String::new(), ..self.clone() }
    }

    /// In a namespace that stands as long as this test: whoever asks sees a living sandbox. It is
    /// not one of the network, so that there is no interface in it to look at.
    pub fn alive(&self) -> Self {
        Self { netns: format!("/proc/{}/ns/uts", std::process::id()), ..self.clone() }
    }

    pub fn at(&self, ip: [u8; 4]) -> Self {
        Self { ip: ip.into(), ..self.clone() }
    }

    /// What ptp prints.
    pub fn result(&self) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "veth0", "mac": "aa:00:00:00:00:01"},
                           {"name": "eth0", "mac": "aa:00:00:00:00:02", "sandbox": self.netns}],
            "ips": [{"address": format!("{}/24", self.ip), "gateway": "10.219.0.1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {}
        })
    }

    pub fn cni_args(&self) -> String {
        format!(
            "K8S_POD_UID={};IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
            self.uid, self.namespace, self.name, self.container_id
        )
    }
}

impl Answer {
    /// The CNI error on stdout.
    pub fn error(&self) -> (u64, String) {
        assert_eq!(self.code, Some(1), "{self:?}");
        let error: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no error object: {self:?}"));
        let text = |key: &str| error[key].as_str().unwrap_or_else(|| panic!("no {key}: {self:?}")).to_string();
        (error["code"].as_u64().unwrap(), format!("{}; {}", text("msg"), text("details")))
    }

    #[track_caller]
    pub fn assert_error(&self, code: u64, words: &[&str]) {
        let (found, text) = self.error();
        assert_eq!(found, code, "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is missing in: {text}");
        }
    }

    #[track_caller]
    pub fn assert_added(&self, sandbox: &Sandbox) {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        let printed: Value = serde_json::from_str(&self.stdout).unwrap();
        assert_eq!(printed, sandbox.result());
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Starts `command` with `stdin`; a process that was killed before it read everything is no error.
pub fn start(mut command: Command, stdin: &Value) -> Child {
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.to_string().as_bytes());
    child
}

/// Waits until `holds`; fails after [`PATIENCE`].
pub fn await_true(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
