//! `podeip doctor`: a healthy node passes, and of each fault exactly the check that is about it tells.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use podeip_sim::cloud::{UserEip, defaults};
use podeip_sim::faults::{Effect, Rule};
use podeip_sim::kube::PodSpec;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::arranged;
use crate::node::{on_node, run};
use crate::scene::{Answer, NODE, OTHER_NODE, Sandbox, Scene, WITH_EIP, executable};

const CHECKS: [&str; 19] = [
    "settings",
    "feature-switch",
    "conflist",
    "state-file",
    "held-eips",
    "executable",
    "kubeconfig",
    "rbac",
    "node-name",
    "podeip-crd",
    "clock-skew",
    "coexistence",
    "pods-without-eip",
    "metadata",
    "credentials",
    "ram-permissions",
    "quota",
    "leaked-eips",
    "egress-route",
];

const QUOTA: usize = 100;
/// The pod of EIPs that nothing claims.
const LOST: &str = "lost-0";

/// A node on which podeip is installed and runs.
struct Clinic {
    scene: Scene,
    /// Held in the agent's place.
    agent: Option<File>,
    /// A pod with its EIP, whose sandbox is gone.
    served: Sandbox,
    records: Vec<u8>,
}

/// One entry of what `-o json` prints.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    name: String,
    verdict: String,
    reason: String,
    remedy: Option<String>,
}

impl Clinic {
    fn new() -> Self {
        let scene = Scene::new();
        for directory in ["net.d", "bin"] {
            fs::create_dir(scene.path(directory)).unwrap();
        }
        let served = scene.pod_with(PodSpec::new("default", "web-0"), [10, 219, 0, 5], &[WITH_EIP]);
        scene.add(&served).assert_added(&served);
        scene.world.cluster.set_pod_phase("default", "web-0", "Running");
        for _ in 0..2 {
            scene.world.cloud.create_user_eip(UserEip::default());
        }
        let records = fs::read(scene.state_dir().join("state.json")).unwrap();
        let mut clinic = Self { scene, agent: None, served, records };
        clinic.heal();
        clinic
    }

    fn executable(&self) -> PathBuf {
        self.scene.path("bin").join("podeip")
    }

    fn write_files(&self) {
        let scene = &self.scene;
        scene.configure(|settings| settings["eip_quota"] = json!(QUOTA));
        scene.write("kubeconfig", &scene.world.kubeconfig());
        self.write_list(&[json!({"type": "bridge"}), scene.stanza()]);
        self.restrict();
        chmod(&scene.state_dir(), 0o700);
        scene.write("state/state.json", std::str::from_utf8(&self.records).unwrap());
        chmod(&scene.path("state/state.json"), 0o600);
        let _ = fs::remove_file(self.executable());
        symlink(executable(), self.executable()).unwrap();
    }

    fn restrict(&self) {
        for file in ["eni_conf", "kubeconfig"] {
            chmod(&self.scene.path(file), 0o600);
        }
    }

    /// The conflist, with these plugins.
    fn write_list(&self, plugins: &[Value]) {
        let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins});
        self.scene.write("net.d/10-pods.conflist", &list.to_string());
    }

    /// Cilium with `cni-exclusive` sets the list aside and writes its own, with these plugins.
    fn let_cilium_in(&self, plugins: &[Value]) {
        let list = self.scene.path("net.d/10-pods.conflist");
        fs::rename(&list, list.with_extension("conflist.cilium_bak")).unwrap();
        let own = json!({"cniVersion": "0.3.1", "name": "cilium", "plugins": plugins});
        self.scene.write("net.d/05-cilium.conflist", &own.to_string());
    }

    /// Our stanza in the network's folder, and these plugins behind the primary in the list.
    fn drop_in(&self, listed: &[Value]) {
        self.write_list(&[&[json!({"type": "bridge"})], listed].concat());
        fs::create_dir(self.scene.path("net.d/pods")).unwrap();
        self.scene.write("net.d/pods/podeip.conf", &self.scene.stanza().to_string());
    }

    fn tell_runtime(&self, version: &str) {
        let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        node["status"] = json!({"nodeInfo": {"containerRuntimeVersion": version}});
        self.scene.world.cluster.create(node).unwrap();
    }

    /// One that podeip made of a `.conf`, which is another by now.
    fn write_list_of_a_conf(&self, by_now: Option<&str>) {
        let conf = |kind: &str| json!({"cniVersion": "1.0.0", "name": "lone", "type": kind});
        let mut list = conf("ptp");
        list["plugins"] = json!([conf("ptp"), self.scene.stanza()]);
        self.scene.write("net.d/05-lone-podeip.conflist", &list.to_string());
        if let Some(kind) = by_now {
            self.scene.write("net.d/05-lone.conf", &conf(kind).to_string());
        }
    }

    /// The agent of this version lives.
    fn hold_agent_lock(&mut self, version: &str) {
        self.agent = None;
        let mut file = File::create(self.scene.state_dir().join("agent.lock")).unwrap();
        file.write_all(version.as_bytes()).unwrap();
        file.lock().unwrap();
        self.agent = Some(file);
    }

    fn configure(&self, change: impl FnOnce(&mut Value)) {
        self.scene.configure(|settings| {
            settings["eip_quota"] = json!(QUOTA);
            change(settings);
        });
        self.restrict();
    }

    fn install_script(&self, text: &str) {
        fs::remove_file(self.executable()).unwrap();
        fs::write(self.executable(), format!("#!/bin/sh\n{text}\n")).unwrap();
        chmod(&self.executable(), 0o755);
    }

    /// The kubeconfig is of this token.
    fn give_token(&self, token: &str) {
        let kubeconfig = self.scene.world.kubeconfig();
        self.scene.write("kubeconfig", &kubeconfig.replace(defaults::KUBE_TOKEN, token));
        self.restrict();
    }

    /// Everything is as it was before a fault, but for the world's clock.
    fn heal(&mut self) {
        self.write_files();
        for file in [
            "state/rival.json",
            "net.d/05-first.conflist",
            "net.d/05-lone.conf",
            "net.d/05-lone-podeip.conflist",
            "net.d/05-cilium.conflist",
            "net.d/10-pods.conflist.cilium_bak",
        ] {
            let _ = fs::remove_file(self.scene.path(file));
        }
        let _ = fs::remove_dir_all(self.scene.path("net.d/pods"));
        self.hold_agent_lock(env!("CARGO_PKG_VERSION"));
        let world = &self.scene.world;
        world.cluster.remove("nodes", "", NODE);
        world.faults.clear();
        world.cloud.set(|settings| {
            settings.metadata_enabled = true;
            settings.access_key_inactive = false;
        });
        world.cluster.allow_all();
        world.cluster.set_podeip_installed(true);
        world.cluster.set_token(Some(defaults::KUBE_TOKEN));
        let here = json!({"spec": {"nodeName": NODE}});
        world.cluster.merge("pods", "default", "web-0", &here).unwrap();
        for name in ["early-0", "beginning-0", "ended-0", "plain-0"] {
            world.cluster.remove_pod("default", name);
        }
        for lost in world.cloud.eips().into_iter().filter(|eip| eip.tag("podeip-pod") == Some(LOST)) {
            world.cloud.release_by_hand(&lost.id).unwrap();
        }
    }

    fn doctor(&self, arguments: &[&str]) -> Answer {
        let scene = &self.scene;
        let mut command = Command::new(executable());
        command.env_clear().env("NODE_NAME", NODE).arg("doctor").args(arguments);
        command.arg("--conf-dir").arg(scene.path("net.d")).arg("--bin-dir").arg(scene.path("bin"));
        command.arg("--config").arg(scene.path("eni_conf")).arg("--kubeconfig").arg(scene.path("kubeconfig"));
        command.arg("--state-dir").arg(scene.state_dir()).output().unwrap().into()
    }

    /// What all checks find. The exit code says whether one failed, and stderr says nothing.
    #[track_caller]
    fn findings(&self) -> Vec<Finding> {
        let answer = self.doctor(&["-o", "json"]);
        assert_eq!(answer.stderr, "", "{answer:?}");
        let findings: Vec<Finding> = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(findings.iter().map(|finding| finding.name.as_str()).collect::<Vec<_>>(), CHECKS);
        for finding in &findings {
            let to_do = matches!(finding.verdict.as_str(), "warn" | "fail");
            assert_eq!(finding.remedy.is_some(), to_do, "{finding:?}");
        }
        let failed = findings.iter().any(|finding| finding.verdict == "fail");
        assert_eq!(answer.code, Some(i32::from(failed)), "{findings:?}");
        findings
    }

    #[track_caller]
    fn assert_healthy(&self) {
        let ill: Vec<Finding> = self.findings().into_iter().filter(|finding| finding.verdict != "pass").collect();
        assert!(ill.is_empty(), "{ill:#?}");
    }
}

struct Fault {
    inject: fn(&mut Clinic),
    check: &'static str,
    verdict: &'static str,
    /// In the reason.
    why: &'static str,
    /// In the remedy.
    remedy: &'static str,
}

const fn fails(check: &'static str, why: &'static str, remedy: &'static str, inject: fn(&mut Clinic)) -> Fault {
    Fault { inject, check, verdict: "fail", why, remedy }
}

const fn warns(check: &'static str, why: &'static str, remedy: &'static str, inject: fn(&mut Clinic)) -> Fault {
    Fault { inject, check, verdict: "warn", why, remedy }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn deny(clinic: &mut Clinic, action: &str) {
    let refusal = Effect::error(403, "Forbidden.RAM", "User not authorized to operate on the specified resource.");
    clinic.scene.world.faults.add(Rule::on(action, refusal));
}

fn note_rival(clinic: &mut Clinic) {
    let rival = json!({"who": "Terway", "how": "enable_eip_pool is true", "since": "2026-05-04T03:02:01Z"});
    clinic.scene.write("state/rival.json", &rival.to_string());
}

const FAULTS: &[Fault] = &[
    fails("settings", "are not JSON", "ConfigMap eni-config", |it| it.scene.write("eni_conf", "{")),
    warns("settings", "mode 0640", "chmod 0600", |it| chmod(&it.scene.path("eni_conf"), 0o640)),
    fails("feature-switch", "enable_eip_pool is off", "to \"true\"", |it| {
        it.configure(|settings| settings["enable_eip_pool"] = json!("false"));
    }),
    fails("feature-switch", "\"cluster_id\" is missing", "set \"cluster_id\"", |it| {
        it.configure(|settings| settings["cluster_id"] = Value::Null);
    }),
    fails("conflist", "has no podeip stanza", "after the primary plugin", |it| {
        it.write_list(&[json!({"type": "bridge"})]);
    }),
    fails("conflist", "before every other plugin", "behind the primary", |it| {
        it.write_list(&[it.scene.stanza(), json!({"type": "bridge"})]);
    }),
    fails("conflist", "\"logLevel\" must be", "correct these keys", |it| {
        let mut stanza = it.scene.stanza();
        stanza["logLevel"] = json!("loud");
        it.write_list(&[json!({"type": "bridge"}), stanza]);
    }),
    fails("conflist", "its cniVersion is \"0.2.0\"", "0.3.0 to 1.1.0", |it| {
        let list = json!({"cniVersion": "0.2.0", "name": "pods", "plugins": [{"type": "bridge"}, it.scene.stanza()]});
        it.scene.write("net.d/10-pods.conflist", &list.to_string());
    }),
    warns("conflist", "before a plugin of the primary's own chain", "podeip install", |it| {
        it.write_list(&[json!({"type": "terway"}), it.scene.stanza(), json!({"type": "cilium-cni"})]);
    }),
    warns("conflist", "stands more than once", "podeip install", |it| {
        it.write_list(&[json!({"type": "bridge"}), it.scene.stanza(), it.scene.stanza()]);
    }),
    fails("conflist", "05-lone.conf that is gone", "podeip install", |it| it.write_list_of_a_conf(None)),
    fails("conflist", "05-lone.conf, of which it was made", "podeip install", |it| {
        it.write_list_of_a_conf(Some("macvlan"));
    }),
    fails("conflist", "has no network configuration", "primary plugin", |it| {
        fs::remove_file(it.scene.path("net.d/10-pods.conflist")).unwrap();
    }),
    fails("conflist", "05-cilium.conflist has no podeip stanza; Cilium has set other", "cni.exclusive=false", |it| {
        it.let_cilium_in(&[json!({"type": "cilium-cni"})]);
    }),
    warns("conflist", "set other configurations aside (10-pods.conflist.cilium_bak) and undoes", "customConf", |it| {
        it.let_cilium_in(&[json!({"type": "cilium-cni"}), it.scene.stanza()]);
    }),
    fails("conflist", "(10-pods.conflist.cilium_bak), and nothing is left to load", "cni.exclusive=false", |it| {
        it.let_cilium_in(&[]);
        fs::remove_file(it.scene.path("net.d/05-cilium.conflist")).unwrap();
    }),
    warns("conflist", "unknown and ignored: state_dir", "correct their spelling", |it| {
        let mut stanza = it.scene.stanza();
        stanza["state_dir"] = json!("/x");
        it.write_list(&[json!({"type": "bridge"}), stanza]);
    }),
    warns("conflist", "API server is asked for every pod", "io.kubernetes.cri.pod-annotations", |it| {
        let mut stanza = it.scene.stanza();
        stanza["capabilities"] = Value::Null;
        it.write_list(&[json!({"type": "bridge"}), stanza]);
    }),
    fails("conflist", "05-first.conflist is skipped, because it is not JSON", "containerd loads nothing", |it| {
        it.scene.write("net.d/05-first.conflist", "{");
    }),
    fails("conflist", "containerd://1.7.24 is not known to read that", "--stanza-in list", |it| {
        it.drop_in(&[]);
        it.tell_runtime("containerd://1.7.24");
    }),
    warns("conflist", "cri-o://1.33.1 does not read", "--stanza-in list", |it| {
        it.drop_in(&[]);
        it.tell_runtime("cri-o://1.33.1");
    }),
    warns("conflist", "does not tell of a runtime", "NODE_NAME", |it| it.drop_in(&[])),
    warns("conflist", "net.d/10-pods.conflist and in ", "podeip install", |it| it.drop_in(&[it.scene.stanza()])),
    fails("executable", "cannot find", "podeip install", |it| fs::remove_file(it.executable()).unwrap()),
    fails("executable", "is not an executable file", "podeip install", |it| {
        it.install_script("echo podeip 0.0.9");
        chmod(&it.executable(), 0o644);
    }),
    fails("executable", "podeip is 0.0.9, and the running agent is", "podeip install", |it| {
        it.install_script("echo podeip 0.0.9");
    }),
    fails("executable", "is not podeip", "podeip install", |it| it.install_script("echo flannel v1")),
    fails("executable", "and the running agent is 0.0.9", "podeip install", |it| it.hold_agent_lock("0.0.9")),
    fails("executable", "that it does not tell", "podeip install", |it| it.hold_agent_lock("")),
    fails("executable", "and this podeip, which looks at it, is", "podeip install", |it| {
        it.install_script("echo podeip 0.0.9");
        it.hold_agent_lock("0.0.9");
    }),
    warns("executable", "no agent runs on this node", "DaemonSet", |it| it.agent = None),
    fails("kubeconfig", "HTTP 401", "write the kubeconfig anew", |it| {
        it.scene.world.cluster.set_token(Some("another"));
    }),
    fails("kubeconfig", "HTTP 401", "it was made for sts.aliyuncs.com", |it| {
        it.give_token(&arranged::token(-60, 3600, &json!({"aud": ["sts.aliyuncs.com"]})));
    }),
    fails("kubeconfig", "its token expired 2h ago", "--keep-installed", |it| {
        it.give_token(&arranged::token(-10_800, -7260, &json!({})));
    }),
    warns("kubeconfig", "its token is refused in 4m, and nobody has replaced it", "--keep-installed", |it| {
        let token = arranged::token(-3307, 299, &json!({}));
        it.give_token(&token);
        it.scene.world.cluster.set_token(Some(&token));
    }),
    warns("kubeconfig", "was to be replaced 2h ago, and is refused in 364d", "--keep-installed", |it| {
        let due = jiff::Timestamp::now().as_second() - 7260;
        let token = arranged::token(-10_860, 31_525_200, &json!({"kubernetes.io": {"warnafter": due}}));
        it.give_token(&token);
        it.scene.world.cluster.set_token(Some(&token));
    }),
    fails("kubeconfig", "does not exist", "podeip install", |it| fs::remove_file(it.scene.path("kubeconfig")).unwrap()),
    warns("kubeconfig", "mode 0644", "chmod 0600", |it| chmod(&it.scene.path("kubeconfig"), 0o644)),
    fails("rbac", "not permitted: patch pods/status, get leases podeip-sweeper", "install/rbac.yaml", |it| {
        it.scene.world.cluster.deny("patch", "pods/status");
        it.scene.world.cluster.deny("get", "leases");
    }),
    fails("node-name", "no pod on a node named node-1", "set NODE_NAME", |it| {
        let elsewhere = json!({"spec": {"nodeName": OTHER_NODE}});
        it.scene.world.cluster.merge("pods", "default", "web-0", &elsewhere).unwrap();
    }),
    fails("podeip-crd", "HTTP 404", "install/podeip-crd.yaml", |it| it.scene.world.cluster.set_podeip_installed(false)),
    fails("coexistence", "Terway allocates EIPs in this cluster too", "\"coexistence\"", note_rival),
    fails("coexistence", "rival.json", "the agent writes it anew", |it| it.scene.write("state/rival.json", "{")),
    warns("coexistence", "\"coexistence\" is \"ignore\"", "serves none of the pods", |it| {
        note_rival(it);
        it.configure(|settings| settings["coexistence"] = json!("ignore"));
    }),
    fails("metadata", "instance metadata", "100.100.100.200", |it| {
        it.scene.use_ram_role();
        it.restrict();
        it.scene.world.cloud.set(|settings| settings.metadata_enabled = false);
    }),
    warns("metadata", "look its ENI up in ECS", "100.100.100.200", |it| {
        it.scene.world.cloud.set(|settings| settings.metadata_enabled = false);
    }),
    fails("ram-permissions", "not permitted: vpc:DescribeEipAddresses", "install/ram-policy.json", |it| {
        deny(it, "DescribeEipAddresses");
    }),
    fails("credentials", "InvalidAccessKeyId.Inactive", "access_key", |it| {
        it.scene.world.cloud.set(|settings| settings.access_key_inactive = true);
    }),
    warns("ram-permissions", "no pod gets into a bandwidth package", "install/ram-policy.json", |it| {
        deny(it, "AddCommonBandwidthPackageIp");
    }),
    fails("quota", "4 of 4 EIPs", "eip_quota_instances_num", |it| {
        it.configure(|settings| settings["eip_quota"] = json!(4));
    }),
    warns("quota", "4 of 5 EIPs", "eip_quota_instances_num", |it| {
        it.configure(|settings| settings["eip_quota"] = json!(5));
    }),
    fails("state-file", "could not be understood", "`podeip gc`", |it| it.scene.write("state/state.json", "{")),
    fails("state-file", "everybody may write to it", "what the reason advises", |it| {
        chmod(&it.scene.state_dir(), 0o777)
    }),
    warns("state-file", "mode 0604", "chmod 0600", |it| chmod(&it.scene.path("state/state.json"), 0o604)),
    warns("held-eips", "Held for 2h", "`podeip gc`", |it| {
        let long_ago = jiff::Timestamp::now() - Duration::from_secs(7300);
        let held = |record: &mut Value| {
            record["phase"] = json!("Held");
            record["binding"] = Value::Null;
            record["updatedAt"] = json!(long_ago);
        };
        arranged::change_record(&it.scene, &it.served, held);
    }),
    warns("pods-without-eip", "run without: default/early-0", "create them again", |it| {
        for (name, phase, annotations) in [
            ("early-0", "Running", &[WITH_EIP][..]),
            ("beginning-0", "Pending", &[WITH_EIP]),
            ("ended-0", "Succeeded", &[WITH_EIP]),
            ("plain-0", "Running", &[]),
        ] {
            it.scene.pod_with(
                PodSpec { phase: phase.into(), ..PodSpec::new("default", name) },
                [10, 219, 0, 9],
                annotations,
            );
        }
    }),
    warns("leaked-eips", "claims eip-", "eip_orphan_grace_minutes", |it| {
        arranged::tagged_eip(&it.scene, LOST, "uid-of-lost", NODE);
        // Not this node's business, and not lost.
        arranged::tagged_eip(&it.scene, LOST, "uid-of-other", OTHER_NODE);
        arranged::tagged_eip(&it.scene, LOST, &it.served.uid, NODE);
    }),
    // The last ones, for nobody sets the world's clock back.
    warns("clock-skew", " s behind the API server", "chrony", |it| {
        it.scene.world.clock.advance(Duration::from_secs(120))
    }),
    fails("clock-skew", "refuses what a clock so far off signs", "chrony", |it| {
        it.scene.world.clock.advance(Duration::from_secs(900))
    }),
];

/// `verdict` and remedy of the one check that is about a fault; of the others only those are not
/// passed that cannot go on without it, and they say so.
#[track_caller]
fn assert_only(clinic: &Clinic, fault: &Fault) {
    let because = format!("it needs {}, which failed", fault.check);
    for finding in clinic.findings() {
        if finding.name == fault.check {
            assert_eq!(finding.verdict, fault.verdict, "{finding:?}");
            assert!(finding.reason.contains(fault.why), "{:?} is missing in {finding:?}", fault.why);
            let remedy = finding.remedy.as_deref().unwrap();
            assert!(remedy.contains(fault.remedy), "{:?} is missing in {finding:?}", fault.remedy);
        } else if finding.verdict != "pass" {
            assert_eq!((finding.verdict.as_str(), &finding.reason), ("skip", &because), "{} {finding:?}", fault.why);
        }
    }
}

#[test]
fn each_fault_is_told_by_the_check_that_is_about_it() {
    let mut clinic = Clinic::new();
    clinic.assert_healthy();
    for fault in FAULTS {
        (fault.inject)(&mut clinic);
        assert_only(&clinic, fault);
        clinic.heal();
    }
    let told: Vec<&str> = FAULTS.iter().map(|fault| fault.check).collect();
    let untold: Vec<&&str> = CHECKS.iter().filter(|check| !told.contains(check)).collect();
    assert_eq!(untold, [&"egress-route"], "which has a test of its own");
}

#[test]
fn a_stanza_in_the_folder_is_fine_where_the_runtime_reads_it() {
    let clinic = Clinic::new();
    clinic.drop_in(&[]);
    clinic.tell_runtime("containerd://2.1.9");
    clinic.assert_healthy();
    let answer = clinic.doctor(&["conflist"]);
    assert!(answer.stdout.contains("podeip.conf, which containerd://2.1.9 appends to"), "{answer:?}");
}

#[test]
fn the_agent_is_asked_for_and_the_table_is_for_people() {
    let mut clinic = Clinic::new();
    clinic.agent = None;
    clinic.scene.configure(|settings| settings["eip_gc_period_minutes"] = json!(60));
    clinic.restrict();
    // The sandbox of the served pod is gone, which the agent would see to.
    clinic.scene.write("state/state.json", "{\"version\":1,\"attachments\":[]}");
    clinic.scene.delete_pod(&clinic.served);
    let agent = Agent::start(&clinic.scene);
    let answer = clinic.doctor(&["executable", "quota"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer:?}");
    let rows = super::cells(&answer.stdout);
    assert_eq!(rows[0], ["CHECK", "VERDICT", "REASON"]);
    let version = env!("CARGO_PKG_VERSION");
    let same = format!("{} is {version}, as is the running agent", clinic.executable().display());
    assert_eq!(rows[1], ["executable", "pass", &same]);
    assert_eq!(rows[2][..2], ["quota", "skip"]);
    assert!(rows[2][2].contains("set \"eip_quota\" in eni_conf"), "{rows:?}");
    assert_eq!(rows.len(), 3);
    agent.stop();

    // What is needed and failed is told though nobody asked for it, with its remedy.
    clinic.scene.world.cluster.set_token(Some("another"));
    let answer = clinic.doctor(&["rbac"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(1), ""), "{answer:?}");
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert!(lines[1].starts_with("kubeconfig") && lines[2].starts_with("rbac"), "{lines:?}");
    assert!(lines[2].ends_with("it needs kubeconfig, which failed"), "{lines:?}");
    assert!(lines[3].starts_with("! kubeconfig: its token has expired"), "{lines:?}");
    assert_eq!(lines.len(), 4);

    let refused = clinic.doctor(&["route"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
    let help = clinic.doctor(&["--help"]).stdout;
    assert!(CHECKS.iter().all(|check| help.contains(&format!("- {check}:"))), "{help}");
}

/// Of every pod's device on the host; each has a link of its own.
const HOST_SIDE_MAC: &str = "ee:ee:ee:ee:ee:ee";

fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split(' '))).unwrap_or_else(|error| panic!("ip {arguments}: {error}"));
}

/// A pod with its EIP, in the network namespace of its name, with a default route over eth0.
fn routed(scene: &Scene, name: &str, address: [u8; 4], mac: &str) {
    ip(&format!("netns add {name}"));
    ip(&format!("link add host-{name} address {HOST_SIDE_MAC} type veth peer name eth0 address {mac} netns {name}"));
    ip(&format!("link set host-{name} up"));
    ip(&format!("-n {name} link set eth0 up"));
    ip(&format!("-n {name} address add {}/24 dev eth0", std::net::Ipv4Addr::from(address)));
    ip(&format!("-n {name} route add default dev eth0"));
    let pod = Sandbox { netns: format!("/run/netns/{name}"), ..scene.pod(name, address, &[WITH_EIP]) };
    scene.add(&pod).assert_added(&pod);
}

#[test]
fn a_pod_that_sends_by_another_way_than_its_enis_is_told() {
    on_node(&["iptables"], |_| {
        let clinic = Clinic::new();
        let scene = &clinic.scene;
        for (device, mac) in [("eth0", defaults::PRIMARY_MAC), ("eth1", defaults::POD_ENI_MAC)] {
            ip(&format!("link add {device} address {mac} type veth peer name fabric-{device}"));
            ip(&format!("link set {device} up"));
        }
        ip("route add default dev eth0");
        ip("route add default dev eth1 table 1001");
        ip("rule add from 10.219.0.7 lookup 1001");
        // As ipvlan on the ENI shows it, and a veth pair.
        routed(scene, "inside", [10, 219, 0, 6], defaults::POD_ENI_MAC);
        routed(scene, "outside", [10, 219, 0, 7], "aa:00:00:00:00:07");
        let egress = || clinic.findings().pop().unwrap();
        let passed = egress();
        assert_eq!(
            (passed.verdict.as_str(), passed.reason.as_str()),
            ("pass", "2 of 2 pods with an EIP leave by its ENI")
        );

        let assert_told = |words: &[&str], remedy: &str| {
            let told = egress();
            assert_eq!(told.verdict, "fail", "{told:?}");
            assert!(words.iter().all(|word| told.reason.contains(word)), "{told:?}");
            assert!(told.remedy.as_ref().unwrap().contains(remedy), "{told:?}");
        };
        ip("rule del from 10.219.0.7 lookup 1001");
        let by_main = ["default/outside sends by", defaults::PRIMARY_ENI, "from all lookup 254", defaults::POD_ENI];
        assert_told(&by_main, "policy rule");
        ip("route del default dev eth0");
        assert_told(&["default/outside sends by no ENI", "no route in table 254"], "policy rule");
        ip("rule add from 10.219.0.7 lookup 1001");

        ip("-n inside link add net1 type veth peer name far1");
        ip("-n inside link set net1 up");
        ip("-n inside route replace default dev net1");
        assert_told(&["default/inside has its default route over net1"], "chained on");
        ip("-n inside route replace default dev eth0");
        assert_eq!(egress().verdict, "pass");

        masquerade("outside", "10.219.0.7");
        assert_told(&["default/outside", "masqueraded as 10.219.1.10"], "ip-masq-agent");
    });
}

/// Has the node masquerade what comes from `address`, and the pod send a packet to the internet.
fn masquerade(pod: &str, address: &str) {
    ip(&format!("address add {}/24 dev eth1", defaults::PRIMARY_IP));
    ip(&format!("route add {address} dev host-{pod}"));
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    let rule = ["-t", "nat", "-A", "POSTROUTING", "-s", address, "-j", "MASQUERADE"];
    run(Command::new("iptables").args(rule)).unwrap();
    ip(&format!("-n {pod} neighbour add 47.1.2.3 lladdr {HOST_SIDE_MAC} dev eth0"));
    let send = "exec 3>/dev/udp/47.1.2.3/9; echo >&3";
    run(Command::new("ip").args(["netns", "exec", pod, "bash", "-c", send])).unwrap();
}
