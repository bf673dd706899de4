//! podman with its CNI backend: a second libcni, which probes with VERSION and runs ADD and DEL from two processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::chain::Primary;
use crate::node::{Node, on_node, run, script};
use crate::recorder::{Plugin, Recorder};

/// What [`on_node`] must find for podman. `conmon` is not on the path in Debian's package, but podman finds it.
pub const NEEDS: [&str; 5] = ["podman", "runc", "jq", "/bin/busybox", "/usr/lib/cni/ptp"];

/// podman, with storage, configuration and networks of its own.
pub struct Podman<'node> {
    node: &'node Node,
    dir: PathBuf,
    pub recorder: Recorder,
}

impl<'node> Podman<'node> {
    /// `stanza` holds the keys of our plugin's object in the conflist, besides `type`.
    pub fn prepare(node: &'node Node, primary: Primary, plugin: &Plugin, stanza: Value) -> Podman<'node> {
        let dir = node.dir("podman-test");
        run(Command::new(script("containerd-dir")).arg(&dir)).unwrap();
        let recorder = Recorder::install(&dir.join("bin"), dir.join("records"), plugin);
        let conflist = primary.conflist("1.0.0", &dir.join("ipam"), stanza);
        fs::write(dir.join("net.d/10-pods.conflist"), conflist.to_string()).unwrap();
        fs::write(dir.join("containers.conf"), containers_conf(&dir)).unwrap();
        Podman { node, dir, recorder }
    }

    /// Runs a container that looks at its address, and the plugin's verbs before and after it.
    pub fn run_and_look(&self) {
        let output = self.run("web", "ip -4 addr show eth0");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("10.219.0.2/24"));
        let mut commands = self.recorder.commands();
        commands.dedup();
        assert_eq!(commands, ["VERSION", "ADD", "VERSION", "DEL"]);
    }

    /// Runs a container in the foreground, to its end and removal.
    pub fn run(&self, name: &str, command: &str) -> Output {
        self.node
            .command("podman")
            .env("CONTAINERS_CONF", self.dir.join("containers.conf"))
            .arg("--root")
            .arg(self.dir.join("storage"))
            .arg("--runroot")
            .arg(self.dir.join("run"))
            .arg("--tmpdir")
            .arg(self.dir.join("tmp"))
            .args(["--storage-driver", "vfs", "run", "--rm", "--name", name, "--network", "pods"])
            .args(["--cgroup-parent", &self.node.cgroup_parent(), "--rootfs"])
            .arg(self.dir.join("rootfs"))
            .args(["/bin/sh", "-c", command])
            .output()
            .unwrap()
    }
}

/// runc, because crun refuses a hybrid cgroup hierarchy; small limits, because a CI container may not raise them.
pub fn containers_conf(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["{dir}/bin"]
network_config_dir = "{dir}/net.d"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"#
    )
}

#[test]
fn a_container_is_probed_added_and_deleted() {
    on_node(&NEEDS, |node| {
        let podman = Podman::prepare(node, Primary::Ptp, &Plugin::StandIn, json!({}));
        podman.run_and_look();
        let add = &podman.recorder.calls_of("ADD")[0];
        let del = &podman.recorder.calls_of("DEL")[0];
        assert_eq!(add.arg("K8S_POD_NAME"), Some("web"));
        assert_eq!(add.arg("K8S_POD_NAMESPACE"), None, "not a pod of a cluster");
        assert!(
            add.stdin
                .get("runtimeConfig")
                .is_none_or(|passed| passed.get("io.kubernetes.cri.pod-annotations").is_none())
        );
        assert_eq!(del.stdin["prevResult"], add.stdin["prevResult"]);
        assert_eq!(del.env["CNI_NETNS"], add.env["CNI_NETNS"]);
    });
}

#[test]
fn a_failed_add_is_told_to_the_user_and_followed_by_del() {
    on_node(&NEEDS, |node| {
        let podman = Podman::prepare(node, Primary::Ptp, &Plugin::StandIn, json!({}));
        podman.recorder.fail("ADD", 100, "pod-with-eip: \"maybe\" is neither true nor false");
        let output = podman.run("web", "true");
        assert_eq!(output.status.code(), Some(126));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("is neither true nor false"), "{told}");
        let dels = podman.recorder.calls_of("DEL");
        assert_eq!(dels.len(), 1);
        assert!(dels[0].stdin.get("prevResult").is_none());
    });
}
