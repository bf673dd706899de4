//! Carrying out what the story says, against the simulated world. Most runs of podeip are calls of its library, so that
//! a story costs no processes; those that are killed are processes.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, thread};

use podeip::cni::dispatch;
use podeip::deadline::Deadline;
use podeip::eip::collect::{self, Outcome as Collected};
use podeip::eip::node::{Node, Paths};
use podeip::eip::sweep::{Sweeper, Swept, What};
use podeip::eip::upkeep::Upkeep;
use podeip_sim::calls::{Call, Ending};
use podeip_sim::cloud::EniSpec;
use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Moment, Outcome as GateOutcome};
use podeip_sim::world::Options;
use serde_json::{Value, json};

use super::places::{ADDRESSES, NODES, address, node_name};
use super::step::Death;
use crate::scene::{PATIENCE, Sandbox, Scene, start};

/// Verbs end early, so that an outage costs a story little.
const ADD_TIMEOUT: Duration = Duration::from_secs(6);
const DEL_TIMEOUT: Duration = Duration::from_secs(3);

/// A round of an agent, likewise.
const ROUND_TIME: Duration = Duration::from_secs(8);

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(10);

/// How long a dead process's call is on its way; less than what podeip reckons with.
const LATENESS: Duration = Duration::from_millis(700);

/// The same in good weather, on a machine that is busy.
const PATIENT: Duration = Duration::from_secs(60);

static ENIS: AtomicU64 = AtomicU64::new(1);

/// One run of podeip that is about to happen.
#[derive(Clone, Debug)]
pub enum Deed {
    Cni { verb: &'static str, at: usize, sandbox: Sandbox },
    GcVerb { node: usize, valid: Vec<String> },
    Gc(usize),
    Round(usize),
}

impl Deed {
    /// The sandbox whose ADD this is.
    pub fn added(&self) -> Option<usize> {
        match self {
            Deed::Cni { verb: "ADD", at, .. } => Some(*at),
            _ => None,
        }
    }
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub ok: bool,
    pub died: bool,
    pub text: String,
}

pub struct Field {
    pub scene: Scene,
    /// Calls of processes that are dead, still on their way.
    late: Mutex<Vec<JoinHandle<()>>>,
    round_time: Duration,
    log_level: &'static str,
}

impl Field {
    pub fn new() -> Self {
        let scene = Scene::with(Options { kube_plain_http: true, ..Options::default() });
        let log_level = if super::log_file().is_some() { "debug" } else { "error" };
        let mut field = Self { scene, late: Mutex::default(), round_time: ROUND_TIME, log_level };
        field.hurry(true);
        (0..NODES).for_each(|node| field.plug_in(node));
        field
    }

    /// Whether verbs give up early.
    pub fn hurry(&mut self, early: bool) {
        self.round_time = if early { ROUND_TIME } else { PATIENT };
        self.scene.configure(|settings| {
            settings["eip_orphan_grace_minutes"] = json!(0);
            if early {
                settings["eip_add_timeout_seconds"] = json!(ADD_TIMEOUT.as_secs());
                settings["eip_del_timeout_seconds"] = json!(DEL_TIMEOUT.as_secs());
            }
        });
    }

    /// Gives the node a network interface with the pods' addresses, in place of what had them.
    pub fn plug_in(&self, node: usize) {
        let cloud = &self.scene.world.cloud;
        let ips: Vec<_> = (0..ADDRESSES).map(|nth| address(node, nth).into()).collect();
        for old in cloud.enis().into_iter().filter(|eni| eni.private_ips.contains(&ips[0])) {
            cloud.delete_eni(&old.id);
        }
        let serial = ENIS.fetch_add(1, Ordering::Relaxed);
        let [a, b, c, _] = address(node, 0);
        cloud.add_eni(EniSpec {
            id: format!("eni-bp1model{serial:012}"),
            mac: format!("00:16:3f:{:02x}:{:02x}:{:02x}", serial >> 16 & 255, serial >> 8 & 255, serial & 255),
            primary_ip: [a, b, c, 10].into(),
            private_ips: ips,
            ..EniSpec::default()
        });
    }

    /// The pod's next sandbox, whose netns is there.
    pub fn sandbox(&self, mould: &Sandbox, ip: [u8; 4]) -> Sandbox {
        let mut sandbox = mould.restarted().at(ip);
        let link = self.scene.path(&sandbox.container_id);
        symlink(format!("/proc/{}/ns/uts", std::process::id()), &link).unwrap();
        sandbox.netns = link.to_str().unwrap().to_owned();
        sandbox
    }

    /// Its netns goes.
    pub fn unmake(&self, sandbox: &Sandbox) {
        let _ = fs::remove_file(self.scene.path(&sandbox.container_id));
    }

    pub fn paths(&self, node: usize) -> Paths {
        Paths {
            settings: self.scene.path("eni_conf"),
            kubeconfig: self.scene.path("kubeconfig"),
            state_directory: self.state_dir(node),
        }
    }

    pub fn records(&self, node: usize) -> Vec<Value> {
        self.scene.records_of(node_name(node))
    }

    pub fn state_dir(&self, node: usize) -> PathBuf {
        self.scene.state_dir_of(node_name(node))
    }

    /// Carries it out here.
    pub fn perform(&self, deed: &Deed) -> Outcome {
        match deed {
            Deed::Cni { verb, sandbox, .. } => self.call(verb, sandbox),
            Deed::GcVerb { node, valid } => self.gc_verb(*node, valid),
            Deed::Gc(node) => self.gc(*node),
            Deed::Round(node) => self.round(*node),
        }
    }

    /// All at the same moment.
    pub fn perform_all(&self, deeds: &[Deed]) -> Vec<Outcome> {
        thread::scope(|scope| {
            let running: Vec<_> = deeds.iter().map(|deed| scope.spawn(|| self.perform(deed))).collect();
            running.into_iter().map(|it| it.join().unwrap_or_else(|_| panic!("podeip panicked"))).collect()
        })
    }

    fn call(&self, verb: &str, sandbox: &Sandbox) -> Outcome {
        let told = self.run(&variables(&self.scene.command(verb, sandbox)), &self.stdin(verb, sandbox));
        let printed = serde_json::from_str(&told).unwrap_or(Value::Null);
        let ok = if verb == "ADD" { printed == sandbox.result() } else { told.is_empty() };
        Outcome { ok, died: false, text: told }
    }

    fn stdin(&self, verb: &str, sandbox: &Sandbox) -> Value {
        let prev_result = (verb != "DEL" || !sandbox.netns.is_empty()).then(|| sandbox.result());
        let mut stdin = self.scene.stdin(sandbox, prev_result);
        stdin["logLevel"] = json!(self.log_level);
        stdin
    }

    fn run(&self, variables: &BTreeMap<String, String>, stdin: &Value) -> String {
        let mut stdout = Vec::new();
        dispatch::run(|name| variables.get(name).cloned(), &mut stdin.to_string().as_bytes(), &mut stdout);
        String::from_utf8(stdout).unwrap()
    }

    fn gc_verb(&self, node: usize, valid: &[String]) -> Outcome {
        let (command, stdin) = self.gc_verb_process(node, valid);
        let text = self.run(&variables(&command), &stdin);
        Outcome { ok: text.is_empty(), died: false, text }
    }

    fn gc_verb_process(&self, node: usize, valid: &[String]) -> (Command, Value) {
        let nobody = Sandbox {
            container_id: String::new(),
            netns: String::new(),
            ip: [0; 4].into(),
            namespace: String::new(),
            name: String::new(),
            uid: String::new(),
            node: node_name(node).into(),
            annotations: None,
        };
        let mut stdin = self.stdin("DEL", &nobody);
        let listed = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"}));
        stdin["cni.dev/valid-attachments"] = listed.collect();
        stdin["cniVersion"] = json!("1.1.0");
        let mut command = self.scene.command("GC", &nobody);
        for of_attachment in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
            command.env_remove(of_attachment);
        }
        (command, stdin)
    }

    fn gc(&self, node: usize) -> Outcome {
        let opened = Node::open(&self.paths(node)).unwrap();
        if opened.store.may_have_lost().unwrap() {
            let _ = Upkeep::new(&opened, node_name(node)).rebuild(Deadline::after(self.round_time));
        }
        let findings = collect::collect(&opened, opened.store.attachments().unwrap(), false, || {});
        opened.store.sweep_pod_locks().unwrap();
        let failed = |outcome: &Collected| matches!(outcome, Collected::Failed(_) | Collected::Undecided { .. });
        let ok = !findings.iter().any(|finding| failed(&finding.outcome));
        Outcome { ok, died: false, text: format!("{:?}", findings.iter().map(|it| &it.outcome).collect::<Vec<_>>()) }
    }

    /// As `podeip agent --once`.
    fn round(&self, node: usize) -> Outcome {
        let opened = Node::open(&self.paths(node)).unwrap().paced();
        let until = Deadline::after(self.round_time);
        let unfinished = Upkeep::new(&opened, node_name(node)).round(until).unwrap().unfinished;
        let swept = Sweeper::new(&opened, node_name(node), "kube-system", false).sweep(false, until);
        let failed = match swept {
            Ok(Swept::Done(report)) => report
                .findings
                .into_iter()
                .filter(|it| matches!(it.what, What::Failed(_)))
                .map(|it| it.what.to_string())
                .collect(),
            Ok(Swept::HeldBy(_)) => vec![],
            Err(failure) => vec![failure.to_string()],
        };
        let ok = unfinished.is_empty() && failed.is_empty();
        Outcome { ok, died: false, text: format!("{unfinished:?} {failed:?}") }
    }

    /// Carries it out in a process of its own, which dies there if it comes to it, and in any case when it takes long.
    pub fn perform_and_die(&self, deed: &Deed, death: &Death) -> Outcome {
        let (command, stdin) = self.process(deed);
        let outcome = match death {
            Death::Call(call, nth, moment) => {
                let gate = self.scene.world.faults.gate_on(ServiceMatch::Any, call, *nth, *moment);
                let outcome = ended_by(start(command, &stdin), || gate.wait_reached(LOOK));
                // What was held up behind the call's answer never gets through.
                gate.release(if *moment == Moment::AfterEffect { GateOutcome::Continue } else { GateOutcome::Cut });
                outcome
            }
            Death::Late(call) => {
                let gate = self.scene.world.faults.gate_on(ServiceMatch::Vpc, call, 1, Moment::BeforeEffect);
                let outcome = ended_by(start(command, &stdin), || gate.wait_reached(LOOK));
                self.late.lock().unwrap().push(thread::spawn(move || {
                    thread::sleep(LATENESS);
                    gate.release(GateOutcome::Continue);
                }));
                outcome
            }
            #[cfg(feature = "crash-points")]
            Death::Point(point, nth) => {
                // That of this build: the executable that is shipped has no points.
                let mut doomed = Command::new(env!("CARGO_BIN_EXE_podeip"));
                doomed.env_clear().args(command.get_args()).envs(variables(&command));
                doomed.env("PODEIP_CRASH_AT", format!("{nth}:{point}"));
                doomed.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let wait = || {
                    thread::sleep(LOOK);
                    false
                };
                ended_by(start(doomed, &stdin), wait)
            }
        };
        if !matches!(death, Death::Late(_)) {
            self.quieten();
        }
        outcome
    }

    /// Waits for what processes that died have sent.
    pub fn quieten(&self) {
        self.late.lock().unwrap().drain(..).for_each(|late| late.join().unwrap());
        let quiet = |calls: &[Call]| calls.iter().all(|call| call.ending != Ending::Pending);
        assert!(self.scene.world.calls.wait_until(PATIENCE, quiet));
    }

    fn process(&self, deed: &Deed) -> (Command, Value) {
        let (mut command, stdin) = match deed {
            Deed::Cni { verb, sandbox, .. } => (self.scene.command(verb, sandbox), self.stdin(verb, sandbox)),
            Deed::GcVerb { node, valid } => self.gc_verb_process(*node, valid),
            Deed::Gc(node) => (self.scene.operator_of(node_name(*node), &["gc"]), Value::Null),
            Deed::Round(node) => (self.scene.agent_of(node_name(*node), &["--once"]), Value::Null),
        };
        command.stdin(Stdio::piped());
        (command, stdin)
    }
}

fn variables(command: &Command) -> BTreeMap<String, String> {
    let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
    command.get_envs().filter_map(|(key, value)| Some((text(key), text(value?)))).collect()
}

/// Waits for the end of a process, which is killed as soon as `doomed` is true.
fn ended_by(mut child: Child, doomed: impl Fn() -> bool) -> Outcome {
    let end = Instant::now() + ROUND_TIME;
    while child.try_wait().unwrap().is_none() {
        if doomed() || Instant::now() > end {
            child.kill().unwrap();
        }
    }
    let output = child.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Outcome { ok: output.status.success(), died: output.status.code().is_none(), text }
}
