//! containerd as the container runtime, driven over CRI the way kubelet drives it; and what it does to a chained plugin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::chain::Primary;
use crate::node::{Node, child_of, run, script};
use crate::recorder::{Plugin, Recorder};

mod facts;

/// What [`crate::node::on_node`] must find for a containerd.
pub const NEEDS: [&str; 6] =
    ["containerd", "runc", "jq", "/bin/busybox", "/usr/lib/cni/ptp", "/usr/lib/python3/dist-packages/grpc"];

/// It takes 0.15 s alone; a loaded two-core machine is what this is for.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// kubelet would wait four minutes for a sandbox; a test that needs this long has failed.
const RUN_POD_TIMEOUT: Duration = Duration::from_secs(60);
/// The first process is a shell script with next to nothing to do.
const FIRST_PROCESS_TIMEOUT: Duration = Duration::from_secs(20);

/// How the node's network is chained.
pub struct Setup {
    pub primary: Primary,
    pub plugin: Plugin,
    /// Keys of our plugin's object in the conflist, besides `type` and `capabilities`.
    pub stanza: Value,
    /// Whether our object asks for the pod's annotations.
    pub capability: bool,
    pub cni_version: &'static str,
    /// Shell text that a pod's first process runs; see [`Containerd::first_process_output`].
    pub first_process: String,
}

impl Setup {
    pub fn new(plugin: Plugin) -> Setup {
        let stanza = json!({});
        let first_process = ":".to_owned();
        Setup { primary: Primary::Ptp, plugin, stanza, capability: true, cni_version: "1.0.0", first_process }
    }

    fn conflist(&self, dir: &Path) -> Value {
        let mut ours = self.stanza.clone();
        if self.capability {
            ours["capabilities"] = json!({ "io.kubernetes.cri.pod-annotations": true });
        }
        self.primary.conflist(self.cni_version, &dir.join("ipam"), ours)
    }
}

/// What kubelet tells the runtime about a pod.
#[derive(Clone, Default)]
pub struct PodSpec {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub annotations: Vec<(String, String)>,
    pub attempt: u32,
}

impl PodSpec {
    /// A pod in the namespace `default`, its UID made of the name.
    pub fn new(name: &str) -> PodSpec {
        PodSpec {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            uid: format!("uid-{name}"),
            ..PodSpec::default()
        }
    }

    pub fn annotated(mut self, key: &str, value: &str) -> PodSpec {
        self.annotations.push((key.to_owned(), value.to_owned()));
        self
    }
}

pub type SandboxId = String;

/// A running containerd. It ends, with every pod, when its node does.
pub struct Containerd<'node> {
    node: &'node Node,
    dir: PathBuf,
    daemon: Daemon,
    pub recorder: Recorder,
}

impl<'node> Containerd<'node> {
    pub fn start(node: &'node Node, setup: &Setup) -> Containerd<'node> {
        let dir = node.dir("containerd-test");
        run(Command::new(script("containerd-dir")).arg(&dir).arg(&setup.first_process)).unwrap();
        let recorder = Recorder::install(&dir.join("bin"), dir.join("records"), &setup.plugin);
        fs::write(dir.join("net.d/10-pods.conflist"), setup.conflist(&dir).to_string()).unwrap();

        let daemon = Daemon::spawn(node, &dir);
        let containerd = Containerd { node, dir, daemon, recorder };
        containerd.wait_until_ready();
        run(containerd.ctr().args(["-n", "k8s.io", "images", "import"]).arg(containerd.dir.join("pause.tar"))).unwrap();
        containerd
    }

    /// Kills containerd, as an OOM killer would; pods and plugins under way keep running.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts it again after [`Containerd::kill`].
    pub fn restart(&mut self) {
        self.daemon = Daemon::spawn(self.node, &self.dir);
        self.wait_until_ready();
    }

    /// The conflist in use; the directory is watched.
    pub fn conflist(&self) -> PathBuf {
        self.dir.join("net.d/10-pods.conflist")
    }

    pub fn run_pod(&self, pod: &PodSpec) -> Result<SandboxId, String> {
        self.run_pod_within(pod, RUN_POD_TIMEOUT)
    }

    /// RunPodSandbox with a deadline, at which containerd kills the plugin.
    pub fn run_pod_within(&self, pod: &PodSpec, timeout: Duration) -> Result<SandboxId, String> {
        run(&mut self.run_pod_command(pod, timeout)).map(|id| id.trim().to_owned())
    }

    /// RunPodSandbox without waiting for its end.
    pub fn begin_pod(&self, pod: &PodSpec) -> Child {
        let mut cri = self.run_pod_command(pod, RUN_POD_TIMEOUT);
        cri.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run_pod_command(&self, pod: &PodSpec, timeout: Duration) -> Command {
        let mut cri = self.cri("run");
        cri.args(["--name", &pod.name, "--namespace", &pod.namespace, "--uid", &pod.uid])
            .args(["--attempt", &pod.attempt.to_string(), "--cgroup-parent", &self.node.cgroup_parent()])
            .args(["--timeout", &timeout.as_secs_f64().to_string()]);
        for (key, value) in &pod.annotations {
            cri.arg("--annotation").arg(format!("{key}={value}"));
        }
        cri
    }

    pub fn stop(&self, sandbox: &str) -> Result<(), String> {
        run(self.cri("stop").arg(sandbox)).map(drop)
    }

    pub fn remove(&self, sandbox: &str) -> Result<(), String> {
        run(self.cri("remove").arg(sandbox)).map(drop)
    }

    /// Starts a container in a sandbox, with a directory of the node as `/shared`.
    pub fn run_container(&self, sandbox: &str, shared: &Path, command: &[&str]) -> Result<(), String> {
        let mount = format!("{}:/shared", shared.display());
        let mut cri = self.cri("run-container");
        cri.args([sandbox, "--cgroup-parent", &self.node.cgroup_parent(), "--mount", &mount, "--"]).args(command);
        run(&mut cri).map(drop)
    }

    /// The sandboxes containerd knows: `[{id, name, namespace, uid, attempt, state}]`.
    pub fn sandboxes(&self) -> Vec<Value> {
        serde_json::from_str(&run(&mut self.cri("list")).unwrap()).unwrap()
    }

    /// CRI status with its verbose part; `info.cniconfig` is the configuration containerd has really loaded.
    pub fn status(&self) -> Value {
        serde_json::from_str(&run(&mut self.cri("status")).unwrap()).unwrap()
    }

    /// What the pod's first process printed, once it has ended its [`Setup::first_process`].
    pub fn first_process_output(&self, sandbox: &str) -> String {
        let pid = self.first_process(sandbox);
        let deadline = Instant::now() + FIRST_PROCESS_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(output) = self.node.read_as(pid, "/dev/first-process") {
                return output;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("the first process of sandbox {sandbox} has not ended");
    }

    /// The pid of the pod's first process, as the node counts.
    pub fn first_process(&self, sandbox: &str) -> u64 {
        let inspected: Value = serde_json::from_str(&run(self.cri("inspect").arg(sandbox)).unwrap()).unwrap();
        inspected["info"]["pid"].as_u64().unwrap()
    }

    fn cri(&self, verb: &str) -> Command {
        let mut command = self.node.command(script("cri"));
        command.arg(self.dir.join("c.sock")).arg(verb);
        command
    }

    fn ctr(&self) -> Command {
        let mut command = self.node.command("ctr");
        command.arg("--address").arg(self.dir.join("c.sock"));
        command
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + READY_TIMEOUT;
        while run(self.ctr().arg("version")).is_err() {
            assert!(Instant::now() < deadline, "containerd is not ready: {}", self.log_tail());
            thread::sleep(Duration::from_millis(30));
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("containerd's last words:\n{}", self.log_tail());
        }
        self.daemon.kill();
    }
}

/// The process, and the wrapper that has entered the node to start it and will reap it.
struct Daemon {
    wrapper: Child,
    pid: Pid,
}

impl Daemon {
    fn spawn(node: &Node, dir: &Path) -> Daemon {
        let log = fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let wrapper = node
            .command("containerd")
            .arg("--config")
            .arg(dir.join("containerd.toml"))
            // Plugins inherit this environment: a proxy of the developer's is not for them.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let pid = child_of(wrapper.id());
        Daemon { wrapper, pid }
    }

    fn kill(&mut self) {
        if let Ok(None) = self.wrapper.try_wait() {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.wrapper.wait();
        }
    }
}
