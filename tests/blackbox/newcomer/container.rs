//! Containers of the played kubelet: real processes of the built executable, in a root of their own that holds it and what
//! the manifest mounts there, read-only where it says so, as root without capabilities where it says so.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::node::{Node, child_of, run};
use crate::scene::executable;

/// Gives a root what an executable needs that is not static, as cargo's is: libraries, and the kernel's file systems.
const FURNISH: &str = r#"
furnish() {
    for dir in bin lib lib64; do
        [ -e "/$dir" ] || continue
        if [ -L "/$dir" ]; then cp -P "/$dir" "$1/"; else mkdir -p "$1/$dir" && mount --bind "/$dir" "$1/$dir"; fi
    done
    for dir in usr proc dev; do mkdir -p "$1/$dir"; mount --rbind "/$dir" "$1/$dir"; done
}
"#;

/// In a mount namespace of its own: the root, the mounts, and then nothing but the container's own process.
/// Arguments: the root, the executable, the number of mounts, `source target options` of each, and the process.
const CONTAIN: &str = r#"
set -e
root=$1 executable=$2 count=$3; shift 3
mkdir -p "$root"; mount --bind "$root" "$root"; furnish "$root"
touch "$root/podeip"; mount --bind "$executable" "$root/podeip"
while [ "$count" -gt 0 ]; do
    mkdir -p "$root$2"; mount --rbind "$1" "$root$2"
    case "$3" in *slave*) ;; *) mount --make-private "$root$2" ;; esac
    case "$3" in *ro*) mount -o remount,bind,ro "$root$2" ;; esac
    shift 3; count=$((count - 1))
done
mount -o remount,bind,ro "$root"
exec chroot "$root" /usr/bin/env -i "$@"
"#;

/// A directory of the node in a container.
pub struct Mount {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
    /// Mounts that the node makes there later are seen too.
    pub follows_node: bool,
}

/// What a container of a manifest is run with.
pub struct Run<'a> {
    pub container: &'a Value,
    pub root: PathBuf,
    pub mounts: Vec<Mount>,
    pub environment: Vec<(String, String)>,
    pub log: PathBuf,
}

/// A container's process.
pub struct Running(Child);

impl Run<'_> {
    pub fn start(&self, node: &Node) -> Running {
        let script = format!("{FURNISH}{CONTAIN}");
        let mut command = node.command("unshare");
        command.args(["--mount", "--propagation", "slave", "sh", "-c", &script, "container"]);
        command.arg(&self.root).arg(executable()).arg(self.mounts.len().to_string());
        for Mount { source, target, read_only, follows_node } in &self.mounts {
            let options =
                format!("{}{}", if *read_only { "ro" } else { "rw" }, if *follows_node { ",slave" } else { "" });
            command.arg(source).arg(target).arg(options);
        }
        command.args(self.environment.iter().map(|(key, value)| format!("{key}={value}")));
        command.args(self.privileges()).arg("/podeip").args(texts(&self.container["args"]));
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        Running(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    /// What takes from the process the rights that the manifest does not leave it.
    fn privileges(&self) -> Vec<String> {
        let context = &self.container["securityContext"];
        assert_eq!(context["runAsUser"], 0, "the played node runs all containers as root");
        assert_eq!(context["readOnlyRootFilesystem"], true, "the played node mounts all roots read-only");
        let mut rights = vec!["/usr/bin/setpriv".to_owned()];
        if context["allowPrivilegeEscalation"] == false {
            rights.push("--no-new-privs".into());
        }
        if texts(&context["capabilities"]["drop"]) == ["ALL"] {
            rights.extend(["--bounding-set=-all", "--inh-caps=-all"].map(str::to_owned));
        }
        rights
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

impl Running {
    pub fn ended(&mut self) -> Option<i32> {
        self.0.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    pub fn wait(&mut self) -> i32 {
        self.0.wait().unwrap().code().unwrap_or(-1)
    }

    /// The container's own process, while it runs.
    pub fn pid(&self) -> Pid {
        child_of(self.0.id())
    }

    /// SIGTERM, as at a pod's end.
    pub fn terminate(&self) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
    }
}

/// The root of the node: where its host paths are, and what its runtime's plugins see as theirs.
pub fn make_node_root(node: &Node, root: &Path) {
    for directory in ["opt/cni/bin", "etc/cni/net.d", "run/netns", "var/log"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let script = format!(
        "{FURNISH}\nset -e; furnish \"$1\"; mount --bind \"$1/run/netns\" \"$1/run/netns\"; mount --make-shared \
         \"$1/run/netns\""
    );
    run(node.command("sh").args(["-c", &script, "node"]).arg(root)).unwrap();
}

/// Something that stands as long as the test at `path` of the node, as a sandbox's network namespace does. It is not one of
/// the network, so that there is no interface in it to look at.
pub fn make_netns(node: &Node, root: &Path, path: &str) {
    let script = r#"touch "$1" && mount --bind /proc/self/ns/uts "$1""#;
    let file = root.join(path.trim_start_matches('/'));
    run(node.command("sh").args(["-c", script, "node"]).arg(file)).unwrap();
}

/// A plugin of the node, as its runtime runs it.
pub fn plugin(node: &Node, root: &Path, name: &str) -> Command {
    let mut command = node.command("chroot");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg(root).arg(format!("/opt/cni/bin/{name}"));
    command
}
