//! A node of its own for one test: network, mount and pid namespaces in which a container runtime may do what it likes.
//!
//! Everything a runtime starts lives in the pid namespace and dies with it; everything it writes goes to file systems
//! that exist in the mount namespace only. What outlives both are empty cgroup directories, which are removed by name.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// A fork shows up in /proc within microseconds; the rest is a machine that is busy.
const FORK_TIMEOUT: Duration = Duration::from_secs(10);
const CGROUP_PREFIX: &str = "podeip-test-";
static NODES: AtomicU32 = AtomicU32::new(0);

/// The namespaces, seen from the test thread, which is inside the network and the mount namespace.
pub struct Node {
    unshare: Child,
    init: Pid,
    cgroup: String,
}

/// Runs `test` on a thread inside a new node. Servers that the test starts as threads are on the node's loopback, and
/// the files they write below `/run` on the node's tmpfs.
///
/// Without root, or without one of `needs` (executables, or absolute paths), it prints what is missing and returns;
/// with `PODEIP_REQUIRE_ALL=1` it panics.
pub fn on_node(needs: &[&str], test: impl FnOnce(&Node) + Send) {
    if cannot_run(missing(needs)) {
        return;
    }
    // A thread of its own, because a thread cannot leave the namespaces again.
    let outcome = thread::scope(|scope| scope.spawn(|| test(&Node::enter())).join());
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Whether there is a reason; it is printed, and with `PODEIP_REQUIRE_ALL=1` it is a panic.
pub fn cannot_run(reason: Option<String>) -> bool {
    let Some(reason) = reason else { return false };
    assert!(std::env::var("PODEIP_REQUIRE_ALL").as_deref() != Ok("1"), "cannot run: {reason}");
    eprintln!("skipped: {reason}");
    true
}

fn missing(needs: &[&str]) -> Option<String> {
    if !geteuid().is_root() {
        return Some("not root".to_owned());
    }
    not_installed(&[needs, &["unshare", "nsenter", "ip"]].concat())
}

/// The first of `needs` (executables, or absolute paths) that is not there.
pub fn not_installed(needs: &[&str]) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let installed = |name: &str| match name.starts_with('/') {
        true => Path::new(name).exists(),
        false => path.split(':').any(|dir| Path::new(dir).join(name).exists()),
    };
    let absent = needs.iter().find(|name| !installed(name))?;
    Some(format!("{absent} is not installed (scripts/install-packages)"))
}

/// A script of the repository.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// What the command wrote to stderr, when it failed.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

impl Node {
    fn enter() -> Node {
        remove_cgroups_of_the_dead();
        let outer = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        run(Command::new(script("node-mounts")).arg(outer)).unwrap();
        run(Command::new("ip").args(["link", "set", "lo", "up"])).unwrap();

        // pid 1 of the pid namespace: it reaps what the runtimes leave to it, and its death is everybody's.
        let mut unshare = dies_with_its_starter(Command::new("unshare"))
            .args(["--pid", "--mount-proc", "--fork", "--kill-child"])
            .args(["sh", "-c", "echo ready; sleep infinity & wait"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // It complains when its child is killed, which is how it always ends.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(unshare.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "no pid namespace");
        let init = child_of(unshare.id());
        let cgroup = format!("{CGROUP_PREFIX}{}-{}", std::process::id(), NODES.fetch_add(1, Ordering::Relaxed));
        Node { unshare, init, cgroup }
    }

    /// A directory on the node's own tmpfs, short enough for sockets.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = Path::new("/run").join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The cgroup that every container of this node must be put below, as an absolute path.
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.cgroup)
    }

    /// A command that runs as a process of the node.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = dies_with_its_starter(Command::new("nsenter"));
        command.args(["--target", &self.init.to_string(), "--pid", "--mount", "--"]).arg(program);
        command
    }

    /// A file as a process of the node sees it: below its own root, by its pid inside the node.
    pub fn read_as(&self, pid: u64, path: &str) -> Option<String> {
        run(self.command("cat").arg(format!("/proc/{pid}/root{path}"))).ok()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The kernel kills every process of the namespace with its init; `unshare` ends when all of them are gone.
        let _ = kill(self.init, Signal::SIGKILL);
        let _ = self.unshare.wait();
        remove_cgroups(&self.cgroup);
    }
}

/// The process is killed when the thread that starts it ends, whichever way.
fn dies_with_its_starter(mut command: Command) -> Command {
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
    command
}

/// The only child of a process that forks once, such as `unshare --fork` and `nsenter --pid`.
pub fn child_of(parent: u32) -> Pid {
    let deadline = Instant::now() + FORK_TIMEOUT;
    while Instant::now() < deadline {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        if let Some(child) = children.split_whitespace().next() {
            return Pid::from_raw(child.parse().unwrap());
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("process {parent} has no child");
}

/// Cgroup roots: the one hierarchy of cgroup v2, and each controller's of v1.
fn cgroup_roots() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(root.to_owned()).chain(below.filter(|path| path.is_dir())).collect()
}

/// The cgroup directories of tests, by name.
pub fn test_cgroups() -> Vec<String> {
    let entries = cgroup_roots().into_iter().flat_map(|root| fs::read_dir(root).into_iter().flatten().flatten());
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with(CGROUP_PREFIX));
    names.sort();
    names.dedup();
    names
}

/// A test that was killed cannot remove its cgroups: the next one does.
fn remove_cgroups_of_the_dead() {
    for name in test_cgroups() {
        let pid = name[CGROUP_PREFIX.len()..].split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            remove_cgroups(&name);
        }
    }
}

fn remove_cgroups(name: &str) {
    for root in cgroup_roots() {
        remove_cgroup(&root.join(name));
    }
}

/// Removes a cgroup, leaves first; only directories can be removed, and only without processes in them.
fn remove_cgroup(cgroup: &Path) {
    let Ok(entries) = fs::read_dir(cgroup) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroup(&entry.path());
    }
    let _ = fs::remove_dir(cgroup);
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;

    use super::*;
    use crate::containerd::{Containerd, NEEDS, PodSpec, Setup};
    use crate::recorder::Plugin;

    /// Processes of this machine whose command line names the sandbox.
    fn processes_of(sandbox: &str) -> Vec<PathBuf> {
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
        processes
            .filter(|path| fs::read(path).is_ok_and(|line| String::from_utf8_lossy(&line).contains(sandbox)))
            .collect()
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < deadline, "still not so: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn nothing_of_a_node_is_left_when_its_test_panics() {
        let (tell, told) = mpsc::channel();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            on_node(&NEEDS, |node| {
                let containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
                let sandbox = containerd.run_pod(&PodSpec::new("left-behind")).unwrap();
                assert!(!processes_of(&sandbox).is_empty());
                tell.send((sandbox, node.cgroup.clone())).unwrap();
                panic!("a test that fails");
            })
        }));
        let Ok((sandbox, cgroup)) = told.try_recv() else {
            assert!(outcome.is_ok(), "the node did not come up");
            return; // skipped
        };
        assert!(outcome.is_err());
        let left = processes_of(&sandbox);
        assert!(left.is_empty(), "{left:?}");
        assert!(!test_cgroups().contains(&cgroup), "{cgroup} is left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains("/run/containerd-test"), "{mounts}");
        assert!(!Path::new("/run/containerd-test").exists());
    }

    /// Set in the process that [`no_process_survives_a_killed_test_and_the_next_node_removes_its_cgroups`] starts of
    /// itself: it holds a pod until it is killed.
    const HOLD: &str = "PODEIP_TEST_HOLDS_A_POD";

    fn hold_a_pod() {
        on_node(&NEEDS, |node| {
            let containerd = Containerd::start(node, &Setup::new(Plugin::StandIn));
            println!("holds {}", containerd.run_pod(&PodSpec::new("held")).unwrap());
            thread::sleep(Duration::from_secs(600));
        });
    }

    #[test]
    fn no_process_survives_a_killed_test_and_the_next_node_removes_its_cgroups() {
        if std::env::var_os(HOLD).is_some() {
            return hold_a_pod();
        }
        on_node(&NEEDS, |_| {
            let this = "node::tests::no_process_survives_a_killed_test_and_the_next_node_removes_its_cgroups";
            let mut holder = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture", this])
                .env(HOLD, "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
            let mut names = lines.filter_map(|line| line.unwrap().split_once("holds ").map(|(_, id)| id.to_owned()));
            let sandbox = names.next().unwrap();
            until("the pod runs", || !processes_of(&sandbox).is_empty());

            holder.kill().unwrap();
            holder.wait().unwrap();
            until("its processes are gone", || processes_of(&sandbox).is_empty());
            let prefix = format!("{CGROUP_PREFIX}{}-", holder.id());
            // A process that is gone from /proc may still be leaving its cgroup.
            until("its cgroups are removed", || {
                remove_cgroups_of_the_dead();
                test_cgroups().iter().all(|name| !name.starts_with(&prefix))
            });
        });
    }
}
