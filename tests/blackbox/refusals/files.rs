//! Files that podeip is pointed at: what stands in their place holds no pod up, and what is too much is not read.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use podeip_sim::cloud::defaults;
use serde_json::json;

use crate::scene::{Answer, Scene, executable};

/// More than a pipe's time; the rest is the machine's.
const SOON: Duration = Duration::from_secs(12);

/// More than any file may be long.
const TOO_LONG: usize = 5 << 20;

/// ADD is refused in time with these words; DEL ends, and nothing was bought.
#[track_caller]
fn assert_turned_away(scene: &Scene, code: u64, words: &[&str]) {
    let pod = scene.asking_pod();
    let began = Instant::now();
    scene.assert_refused(&scene.add(&pod), code, words);
    assert!(began.elapsed() < SOON, "{words:?}: {:?}", began.elapsed());
    scene.del(&pod);
    assert!(began.elapsed() < 2 * SOON, "{words:?}: {:?}", began.elapsed());
}

/// Puts a pipe that nobody writes, a device without an end and a file without measure at `name`, and tries each.
fn refuses_all(arrange: impl Fn(&Scene, &str), name: &str, words: &[&str]) {
    for (target, why) in
        [("pipe", "pipe that nobody writes"), ("/dev/zero", "neither a regular file"), ("long", "longer than")]
    {
        let scene = Scene::new();
        mkfifo(&scene.path("pipe"), Mode::S_IRWXU).unwrap();
        scene.write("long", &" ".repeat(TOO_LONG));
        arrange(&scene, name);
        let _ = fs::remove_file(scene.path(name));
        // As a mounted ConfigMap is: by a link.
        std::os::unix::fs::symlink(scene.path(target), scene.path(name)).unwrap();
        assert_turned_away(&scene, 101, &[words, &[why]].concat());
    }
}

#[test]
fn settings_that_are_no_file() {
    refuses_all(|_, _| {}, "eni_conf", &["cannot read the settings in"]);
}

#[test]
fn a_kubeconfig_that_is_no_file() {
    refuses_all(|_, _| {}, "kubeconfig", &["kubeconfig", "cannot be read"]);
}

/// A kubeconfig whose user, or whose cluster, names a file.
fn naming(scene: &Scene, cluster: &serde_json::Value, user: &serde_json::Value) {
    let mut cluster = cluster.clone();
    cluster["server"] = json!(scene.world.kube_url);
    let config = json!({
        "current-context": "node",
        "clusters": [{"name": "node", "cluster": cluster}],
        "users": [{"name": "podeip", "user": user}],
        "contexts": [{"name": "node", "context": {"cluster": "node", "user": "podeip"}}],
    });
    scene.write("kubeconfig", &config.to_string());
}

#[test]
fn a_certificate_authority_that_is_no_file() {
    let arrange = |scene: &Scene, name: &str| {
        naming(scene, &json!({"certificate-authority": name}), &json!({"token": defaults::KUBE_TOKEN}));
    };
    refuses_all(arrange, "ca.crt", &["certificate-authority names", "cannot be read"]);
}

#[test]
fn a_token_file_that_is_none() {
    let arrange = |scene: &Scene, name: &str| naming(scene, &json!({}), &json!({"tokenFile": name}));
    refuses_all(arrange, "token", &["tokenFile names", "cannot be read"]);
}

#[test]
fn a_person_may_give_a_kubeconfig_by_a_pipe() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    scene.add(&pod).assert_added(&pod);
    let script = r#""$0" show default/web-0 --config "$1/eni_conf" --state-dir "$2" --kubeconfig <(sleep 0.2; cat "$1/kubeconfig")"#;
    let mut command = Command::new("bash");
    command.args(["-c", script, executable()]).arg(scene.path("")).arg(scene.state_dir());
    let answer: Answer = command.env("NODE_NAME", crate::scene::NODE).output().unwrap().into();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.contains("no differences"), "{answer:?}");
}

#[test]
fn a_generation_at_its_end_does_not_stop_a_pod() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    // Refused, with a record that stays.
    let refused = podeip_sim::faults::Effect::error(400, "Forbidden.Test", "no");
    let rule = podeip_sim::faults::Rule::on("AllocateEipAddress", refused);
    let id = scene.world.faults.add(rule.clone());
    assert_ne!(scene.add(&pod).code, Some(0));
    let file = scene.state_dir().join("state.json");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"generation\":1"), "{text}");
    fs::write(&file, text.replace("\"generation\":1", &format!("\"generation\":{}", u32::MAX))).unwrap();
    scene.add(&pod).assert_error(102, &["Forbidden.Test"]);
    assert_eq!(scene.records()[0]["generation"], 1);
    scene.world.faults.remove(id);
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}
