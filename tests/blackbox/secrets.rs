//! What must stay secret stays secret: in no output, log, event, object or file but the one that is made for it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::stat::{Mode, umask};
use podeip_sim::cloud::defaults;
use podeip_sim::faults::{Effect, Rule, ServiceMatch};
use podeip_sim::gates::{Moment, Outcome};
use serde_json::{Value, json};

use crate::agent::metrics::Serving;
use crate::outages::rrsa;
use crate::scene::{Answer, Sandbox, Scene, WITH_EIP, await_true, start};

const IP: [u8; 4] = [10, 219, 0, 5];
const GATE_TIMEOUT: Duration = Duration::from_secs(20);

/// Files that hold secrets by their purpose.
const KEEPERS: [&str; 4] = ["eni_conf", "kubeconfig", "token", "credentials.json"];

/// A scene whose every output is kept, and the secrets that must not be in it.
struct Watched {
    scene: Scene,
    pod: Sandbox,
    outputs: String,
    secrets: BTreeSet<String>,
}

impl Watched {
    fn new() -> Self {
        Self::of(Scene::new())
    }

    fn of(scene: Scene) -> Self {
        scene.configure(|settings| {
            settings["eip_add_timeout_seconds"] = json!(3);
            settings["eip_del_timeout_seconds"] = json!(2);
        });
        let pod = scene.pod("web-0", IP, &[WITH_EIP]);
        let secrets = [defaults::ACCESS_KEY_SECRET, defaults::KUBE_TOKEN].map(String::from).into();
        Self { scene, pod, outputs: String::new(), secrets }
    }

    fn with_ram_role() -> Self {
        let watched = Self::new();
        watched.scene.use_ram_role();
        watched
    }

    fn also(mut self, secret: &str) -> Self {
        self.secrets.insert(secret.into());
        self
    }

    fn keep(&mut self, answer: Answer) -> Answer {
        self.outputs += &answer.stdout;
        self.outputs += &answer.stderr;
        self.learn_temporary();
        answer
    }

    /// One verb, with everything logged that can be.
    fn call(&mut self, verb: &str) -> Answer {
        let mut stdin = self.scene.stdin(&self.pod, Some(self.pod.result()));
        stdin["logLevel"] = json!("trace");
        let child = start(self.scene.command(verb, &self.pod), &stdin);
        self.keep(child.wait_with_output().unwrap().into())
    }

    fn podeip(&mut self, arguments: &[&str]) -> Answer {
        let answer = self.scene.podeip(arguments);
        self.keep(answer)
    }

    /// The temporary credentials of the moment.
    fn learn_temporary(&mut self) {
        let Ok(text) = fs::read(self.scene.state_dir().join("credentials.json")) else { return };
        let held: Value = serde_json::from_slice(&text).unwrap();
        for key in ["accessKeySecret", "securityToken"] {
            self.secrets.insert(held[key].as_str().unwrap().into());
        }
    }

    /// Every way a secret may be written down: itself, encoded for a URL once and twice, and in base64.
    /// What an encoder would change is cut off, so that no spelling of it escapes.
    fn needles(&self) -> Vec<String> {
        let plain =
            |secret: &String| secret.chars().take_while(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect();
        let encoded = |secret: &String| STANDARD.encode(secret).trim_end_matches('=').to_string();
        let of_secrets = self.secrets.iter().flat_map(|secret| [plain(secret), encoded(secret)]);
        of_secrets.chain(["Signature=".into(), "Signature%3D".into()]).collect()
    }

    /// The secrets that the cloud can quote, for it is sent them or knows them: those of the node's role.
    fn quoted(&self) -> String {
        let known = |secret: &&String| *secret != defaults::KUBE_TOKEN && *secret != defaults::ACCESS_KEY_SECRET;
        let twice = |secret: &String| format!("{secret} {}", escaped(secret));
        self.secrets.iter().filter(known).map(twice).collect::<Vec<_>>().join(" ")
    }

    /// Everything that a person could get to see.
    fn seen(&self) -> Vec<(String, String)> {
        let files = files_below(&self.scene.path(""));
        let files = files.into_iter().filter(|path| !KEEPERS.iter().any(|keeper| path.ends_with(keeper)));
        let text = |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let mut seen: Vec<_> = files.map(|path| (path.display().to_string(), text(&path))).collect();
        seen.push(("the cluster".into(), self.scene.world.cluster.dump().to_string()));
        seen.push(("stdout and stderr".into(), self.outputs.clone()));
        seen
    }

    /// Ends the story and looks everywhere.
    fn assert_kept(mut self) {
        for arguments in [
            &["list", "-o", "wide"][..],
            &["list", "-o", "json"],
            &["show", "default/web-0"],
            &["show", "default/web-0", "-o", "json"],
            &["gc", "--dry-run"],
            &["gc"],
        ] {
            self.podeip(arguments);
        }
        self.call("DEL");
        assert!(self.needles().iter().all(|needle| needle.len() > 6), "{:?}", self.needles());
        for (place, text) in self.seen() {
            for needle in self.needles() {
                let leak = text.lines().find(|line| line.contains(&needle));
                assert!(leak.is_none(), "{needle:?} is in {place}: {}", leak.unwrap());
            }
        }
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn when_all_goes_well() {
    let mut watched = Watched::new();
    let pod = watched.pod.clone();
    watched.call("ADD").assert_added(&pod);
    assert_eq!(watched.call("CHECK").code, Some(0));
    let log = watched.scene.log();
    assert!(!log.is_empty(), "there is a log to look into");
    assert!(watched.scene.state_dir().join("measures.jsonl").exists(), "and measures");
    assert!(!watched.scene.state_dir().join("credentials.json").exists(), "long-lived keys are not copied");
    watched.assert_kept();
}

#[test]
fn when_an_agents_figures_are_read() {
    let mut watched = Watched::with_ram_role();
    let pod = watched.pod.clone();
    watched.call("ADD").assert_added(&pod);
    let quoted = watched.quoted();
    // As code, message and all: a code becomes a label.
    let refusal = Effect::error(403, &quoted, &quoted);
    watched.scene.world.faults.add(Rule::on("*", refusal).service(ServiceMatch::Cloud));
    let agent = Serving::start(&watched.scene);
    let counted = "action=\"DescribeEipAddresses\",code=\"Other\"";
    await_true("the refusal is counted", || agent.fetch("/metrics").1.contains(counted));
    for path in ["/metrics", "/healthz", "/", "/debug/pprof/", "/../eni_conf"] {
        let (status, body) = agent.fetch(path);
        watched.outputs += &format!("{status}\n{body}\n");
    }
    drop(agent);
    watched.scene.world.faults.clear();
    watched.assert_kept();
}

#[test]
fn when_the_access_secret_is_wrong() {
    let mut watched = Watched::new().also("wrongSecretKey0000000000000002");
    watched.scene.configure(|settings| settings["access_secret"] = json!("wrongSecretKey0000000000000002"));
    let words = ["SignatureDoesNotMatch", "the access secret is not the one of this AccessKey"];
    watched.call("ADD").assert_error(102, &words);
    watched.assert_kept();
}

#[test]
fn when_the_credentials_are_the_nodes_role_and_expire() {
    let mut watched = Watched::with_ram_role();
    let pod = watched.pod.clone();
    watched.call("ADD").assert_added(&pod);
    assert_eq!(watched.secrets.len(), 4, "secret and token of the role are known to this test");
    watched.scene.world.cloud.expire_credentials();
    assert_eq!(watched.call("DEL").code, Some(0));
    assert_eq!(watched.secrets.len(), 6, "they were renewed");

    // Expired, and nobody has newer ones.
    watched.scene.world.cloud.expire_credentials();
    watched.scene.world.cloud.set(|settings| settings.metadata_enabled = false);
    watched.scene.configure(|settings| {
        settings["eip_add_timeout_seconds"] = json!(3);
        settings.as_object_mut().unwrap().retain(|key, _| !key.starts_with("access_"));
    });
    watched.pod = watched.pod.restarted();
    watched.call("ADD").assert_error(102, &["InvalidSecurityToken.Expired"]);
    watched.assert_kept();
}

#[test]
fn when_the_credentials_are_a_role_for_the_service_account() {
    let own = rrsa::token(&json!({"sub": rrsa::ACCOUNT}));
    let mut watched = Watched::of(rrsa::with_rrsa()).also(&own);
    rrsa::configure(&watched.scene, |settings| settings["eip_add_timeout_seconds"] = json!(3));
    let sent = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = sent.clone();
    // Only STS sees the tokens that are asked for here.
    watched.scene.world.cloud.verify_oidc_signatures_with(move |token| {
        seen.lock().unwrap().insert(token.to_owned());
        true
    });
    let pod = watched.pod.clone();
    watched.call("ADD").assert_added(&pod);
    watched.podeip(&["doctor", "credentials"]);
    watched.scene.world.cloud.expire_credentials();
    assert_eq!(watched.call("DEL").code, Some(0));
    assert_eq!(watched.secrets.len(), 7, "secret and token of the role, twice");

    watched.scene.world.cloud.expire_credentials();
    watched.scene.world.cloud.set(|settings| settings.oidc[0].subjects = vec!["another".into()]);
    fs::remove_file(watched.scene.state_dir().join("credentials.json")).unwrap();
    watched.pod = watched.pod.restarted();
    watched.call("ADD").assert_error(102, &["AuthenticationFail.NoPermission"]);
    watched.podeip(&["doctor", "credentials"]);
    // An answer that cannot be read is no reason to show what was sent.
    for effect in [Effect::Truncated, Effect::Garbage] {
        let id = watched.scene.world.faults.add(Rule::on(rrsa::ASSUME, effect).once());
        assert_eq!(watched.call("ADD").code, Some(1));
        assert_eq!(watched.scene.world.faults.hits(id), 1);
    }
    assert!(sent.lock().unwrap().len() >= 4, "each exchange had a token of its own");
    watched.secrets.extend(sent.lock().unwrap().iter().cloned());
    watched.assert_kept();
}

#[test]
fn when_the_node_has_no_role() {
    let mut watched = Watched::with_ram_role();
    watched.scene.world.cloud.set(|settings| settings.role = None);
    watched.call("ADD").assert_error(102, &["the node has no RAM role"]);
    watched.assert_kept();
}

#[test]
fn when_metadata_answers_in_garbage() {
    for effect in [Effect::Truncated, Effect::Garbage] {
        let mut watched = Watched::with_ram_role();
        let pod = watched.pod.clone();
        let rule = Rule::on(format!("get ram/security-credentials/{}", defaults::ROLE), effect);
        let id = watched.scene.world.faults.add(rule);
        assert_eq!(watched.call("ADD").code, Some(1));
        assert!(watched.scene.world.faults.hits(id) > 0);
        watched.scene.world.faults.remove(id);
        // Now they are known, so that they can be looked for.
        watched.call("ADD").assert_added(&pod);
        assert_eq!(watched.secrets.len(), 4);
        watched.assert_kept();
    }
}

#[test]
fn when_the_cloud_refuses_and_quotes_the_request() {
    let mut watched = Watched::with_ram_role();
    let pod = watched.pod.clone();
    watched.call("ADD").assert_added(&pod);
    let quoted = watched.quoted();
    let message = format!("refused: ?Action=X&Signature=bm90IGEgcmVhbCBvbmU%3D&Timestamp=now {quoted}");
    let refusal = Effect::error(403, "Forbidden.RAM", &message);
    watched.scene.world.faults.add(Rule::on("*", refusal).service(ServiceMatch::Cloud));
    watched.pod = watched.pod.restarted();
    watched.call("ADD").assert_error(102, &["Forbidden.RAM", "Timestamp=now", "grant the action"]);
    watched.call("DEL");
    watched.assert_kept();
}

fn escaped(text: &str) -> String {
    text.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D")
}

#[test]
fn when_the_api_server_refuses_the_token_and_quotes_it() {
    let mut watched = Watched::new();
    watched.scene.world.cluster.set_token(Some("another-token"));
    watched.call("ADD").assert_error(107, &["HTTP 401"]);
    let message = format!("no such user: Authorization: Bearer {}", defaults::KUBE_TOKEN);
    let refusal = Effect::error(403, "Forbidden", &message);
    watched.scene.world.faults.add(Rule::on("*", refusal).service(ServiceMatch::Kube));
    watched.call("ADD").assert_error(107, &["HTTP 403", "no such user: Authorization: Bearer (token)"]);
    watched.assert_kept();
}

#[test]
fn when_the_kubeconfig_is_broken_around_its_token() {
    let token = "broken-token-4711-abcdef";
    let key = STANDARD.encode(token);
    let whole = Scene::new().world.kubeconfig();
    let line = format!("token: \"{}\"", defaults::KUBE_TOKEN);
    for spoilt in [
        format!("token: \"{token}"),
        format!("token: [{token}]"),
        format!("token: {{value: {token}}}"),
        format!("token: \"{token} {token}\""),
        format!("token: \"{token}\"\n    username: {token}\n    password: {token}"),
        format!("client-key-data: \"{key}\"\n    client-certificate-data: \"{key}\""),
        format!("client-key-data: \"{token}\"\n    client-certificate-data: \"{token}\""),
        format!("{token}: {token}: {token}"),
    ] {
        let mut watched = Watched::new().also(token).also(&key);
        watched.scene.write("kubeconfig", &whole.replace(&line, &spoilt));
        let (code, text) = watched.call("ADD").error();
        assert_eq!(code, 101, "{spoilt}: {text}");
        watched.assert_kept();
    }
    let mut watched = Watched::new().also(token);
    watched.scene.write("kubeconfig", &whole.replace("https://", &format!("https://podeip:{token}@")));
    watched.call("ADD").assert_error(101, &["holds a user name"]);
    watched.assert_kept();
}

#[test]
fn when_the_settings_are_broken_around_the_secret() {
    let secret = "brokenSecretKey000000000000003";
    for spoilt in [
        format!(r#"{{"access_key": "LTAI", "access_secret": "{secret}" "region_id": "cn-hangzhou"}}"#),
        format!(r#"{{"access_key": "LTAI", "access_secret": "{secret}"#),
        format!(r#"{{"access_key": "LTAI", "access_secret": ["{secret}"]}}"#),
        format!(r#"{{"access_key": {{"{secret}": 1}}, "access_secret": "{secret}"}}"#),
        format!(r#""{secret}""#),
        secret.to_string(),
    ] {
        let mut watched = Watched::new().also(secret);
        watched.scene.write("eni_conf", &spoilt);
        let (code, text) = watched.call("ADD").error();
        assert_eq!(code, 101, "{spoilt}: {text}");
        watched.assert_kept();
    }
}

#[test]
fn when_cloud_and_cluster_are_down() {
    let mut watched = Watched::new();
    let pod = watched.pod.clone();
    watched.call("ADD").assert_added(&pod);
    watched.scene.world.faults.add(Rule::on("*", Effect::Garbage));
    watched.call("DEL");
    watched.pod = watched.pod.restarted();
    watched.call("ADD").assert_error(11, &[]);
    watched.scene.world.faults.clear();
    watched.assert_kept();
}

#[test]
fn a_secret_in_an_output_would_be_found() {
    let leak = |text: &str| {
        let mut watched = Watched::new();
        watched.outputs += text;
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watched.assert_kept())).is_err()
    };
    assert!(!leak("nothing of interest"));
    for text in [
        defaults::ACCESS_KEY_SECRET,
        &format!("x{}x", STANDARD.encode(defaults::KUBE_TOKEN)),
        "POST /?Signature=abc",
        &format!("Authorization: Bearer {}", defaults::KUBE_TOKEN),
    ] {
        assert!(leak(text), "{text}");
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

/// Every directory below and with `directory` is 0700, every file 0600. Returns the files' names.
fn assert_private(directory: &Path) -> BTreeSet<String> {
    assert_eq!(mode(directory), 0o700, "{}", directory.display());
    let mut names = BTreeSet::new();
    for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            names.extend(assert_private(&path));
        } else {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            names.insert(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    names
}

#[test]
fn every_file_is_its_owners_alone_whatever_the_umask() {
    let scene = Scene::new();
    scene.use_ram_role();
    let throttled = Effect::error(400, "Throttling.User", "Request was denied due to user flow control.");
    scene.world.faults.add(Rule::on("AllocateEipAddress", throttled).once());
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let gate = scene.world.faults.gate_on(ServiceMatch::Vpc, "AssociateEipAddress", 1, Moment::BeforeEffect);
    let mut command = scene.command("ADD", &pod);
    // SAFETY: umask is async-signal-safe and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| {
            umask(Mode::empty());
            Ok(())
        });
    }
    let adding = start(command, &scene.stdin(&pod, Some(pod.result())));
    assert!(gate.wait_reached(GATE_TIMEOUT), "{}", scene.log());
    let during = assert_private(&scene.state_dir());
    for name in ["state.json", "state.lock", "credentials.json", "throttle.json", "looked.json", "looked.lock"] {
        assert!(during.contains(name), "{name} is missing in {during:?}");
    }
    assert_eq!(during.len(), 7, "and the lock of the pod: {during:?}");
    gate.release(Outcome::Continue);
    Answer::from(adding.wait_with_output().unwrap()).assert_added(&pod);
    assert!(assert_private(&scene.state_dir()).contains("measures.jsonl"));
    assert_eq!(mode(&scene.path("podeip.log")), 0o600);
}
