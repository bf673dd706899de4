//! Input that is meant to do harm: too much of it, paths that lead elsewhere, links, a directory of somebody else's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{add_with, fed};
use crate::scene::{Scene, WITH_EIP};

/// More than stdin may be long.
const TOO_LONG: usize = 5 << 20;

/// A call that only refuses takes milliseconds; the rest is the machine's.
const AT_ONCE: Duration = Duration::from_secs(10);

fn nothing_recorded(scene: &Scene) -> bool {
    !scene.state_dir().join("state.json").exists()
}

#[test]
fn more_than_any_runtime_sends_is_refused_at_once() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    let honest = scene.stdin(&pod, Some(pod.result())).to_string();
    let honest = honest.strip_suffix('}').unwrap();
    for key in ["name", "podeip", "runtimeConfig"] {
        let long = format!("{honest},\"{key}\":\"{}\"}}", "n".repeat(TOO_LONG));
        let began = Instant::now();
        scene.assert_refused(&fed(scene.command("ADD", &pod), &long), 6, &["longer than"]);
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }
    assert!(nothing_recorded(&scene));
}

#[test]
fn deep_nesting_and_long_annotations_break_nothing() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    let depth = 100_000;
    let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let stdin = scene.stdin(&pod, None).to_string();
    let stdin = stdin.strip_suffix('}').unwrap();
    let as_result = fed(scene.command("ADD", &pod), &format!("{stdin},\"prevResult\":{{\"ips\":{nested}}}}}"));
    scene.assert_refused(&as_result, 105, &[]);
    let as_annotations = format!("{stdin},\"prevResult\":{},\"runtimeConfig\":{nested}}}", pod.result());
    scene.assert_refused(&fed(scene.command("ADD", &pod), &as_annotations), 6, &["runtimeConfig"]);

    // As long as the API server lets one be, and told in an event of a thousand bytes.
    let long = "1h\n".repeat(80_000);
    let answer = add_with(&scene, &pod, |stdin| {
        let annotations = &mut stdin["runtimeConfig"]["io.kubernetes.cri.pod-annotations"];
        annotations["k8s.aliyun.com/pod-eip-release-strategy"] = long.as_str().into();
    });
    scene.assert_refused(&answer, 100, &["pod-eip-release-strategy"]);
    assert!(answer.stdout.len() < 1024, "{} bytes", answer.stdout.len());
}

#[test]
fn a_netns_that_is_none_is_never_entered_and_del_ends_all_the_same() {
    let scene = Scene::new();
    let fifo = scene.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let far = "/".repeat(8192);
    for (nth, netns) in
        ["../../etc/passwd", "/etc/passwd", "/dev/zero", "/", fifo.to_str().unwrap(), &far].iter().enumerate()
    {
        let last = 30 + u8::try_from(nth).unwrap();
        let pod = scene.pod(&format!("odd-{nth}"), [10, 219, 0, last], &[WITH_EIP]);
        let began = Instant::now();
        for verb in ["ADD", "DEL"] {
            let mut command = scene.command(verb, &pod);
            command.env("CNI_NETNS", netns);
            let answer = fed(command, &scene.stdin(&pod, Some(pod.result())).to_string());
            // Whether it is served or refused is the address' business; DEL never fails for it.
            assert!(answer.code == Some(0) || verb == "ADD", "{verb} {netns}: {answer:?}");
            assert!(answer.code.is_some(), "{verb} {netns} was ended by a signal: {answer:?}");
        }
        assert!(began.elapsed() < AT_ONCE, "{netns}: {:?}", began.elapsed());
        scene.delete_pod(&pod);
    }
    scene.gc();
    scene.assert_nothing_left();
}

#[test]
fn names_that_walk_through_directories_become_no_files() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    for (name, value) in [
        ("CNI_CONTAINERID", "../../../etc/passwd"),
        ("CNI_CONTAINERID", ".."),
        ("CNI_CONTAINERID", "a/../../b"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "../x"),
    ] {
        for verb in ["ADD", "CHECK", "DEL"] {
            let mut command = scene.command(verb, &pod);
            command.env(name, value);
            let answer = fed(command, &scene.stdin(&pod, Some(pod.result())).to_string());
            scene.assert_refused(&answer, 4, &[name, value]);
        }
    }
    // A pod's name is no file's: its lock is called by a hash.
    let args = "K8S_POD_NAMESPACE=../../..;K8S_POD_NAME=../../x;K8S_POD_UID=u";
    let mut command = scene.command("ADD", &pod);
    command.env("CNI_ARGS", args);
    let answer = fed(command, &scene.stdin(&pod, Some(pod.result())).to_string());
    assert!(answer.code.is_some_and(|code| code != 0), "{answer:?}");
    for key in ["config", "kubeconfig", "stateDir", "logFile"] {
        let answer = add_with(&scene, &pod, |stdin| stdin[key] = json!("../../etc/x"));
        scene.assert_refused(&answer, 101, &[key, "absolute"]);
    }
    assert!(nothing_recorded(&scene));
}

#[test]
fn a_state_directory_of_another_user_is_not_used() {
    let scene = Scene::new();
    let (pod, plain) = (scene.asking_pod(), scene.plain_pod());
    fs::create_dir(scene.state_dir()).unwrap();
    fs::set_permissions(scene.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    chown(scene.state_dir(), Some(65534), Some(65534)).unwrap();
    let words = ["cannot be trusted", "belongs to user 65534"];
    scene.assert_refused(&scene.add(&pod), 108, &words);
    scene.add(&plain).assert_added(&plain);
    let gc = scene.podeip(&["gc"]);
    assert!(gc.code != Some(0) && gc.stderr.contains(words[1]), "{gc:?}");
    // By a link it is still his.
    let his = scene.path("his");
    fs::rename(scene.state_dir(), &his).unwrap();
    symlink(&his, scene.state_dir()).unwrap();
    scene.assert_refused(&scene.add(&pod), 108, &words);
    assert_eq!(fs::read_dir(&his).unwrap().count(), 0);
}

#[test]
fn links_in_the_state_directory_lead_nowhere() {
    for name in [
        "state.json",
        "state.lock",
        "credentials.json",
        "throttle.json",
        "measures.jsonl",
        "rival.json",
        "looked.json",
        "looked.lock",
    ] {
        let scene = Scene::new();
        scene.use_ram_role();
        let pod = scene.asking_pod();
        fs::create_dir(scene.state_dir()).unwrap();
        fs::set_permissions(scene.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
        let victim = victim(&scene);
        symlink(&victim, scene.state_dir().join(name)).unwrap();
        let answer = scene.add(&pod);
        scene.call("DEL", &pod);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name}: {answer:?}");
        assert!(!answer.stdout.contains("precious"), "{answer:?}");
    }
}

#[test]
fn a_log_that_is_a_link_is_not_written() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    let victim = victim(&scene);
    let log = scene.path("linked.log");
    symlink(&victim, &log).unwrap();
    let answer = add_with(&scene, &pod, |stdin| stdin["logFile"] = json!(log));
    // What cannot be logged there is told to whoever reads stderr.
    assert!(answer.code == Some(0) && answer.stderr.contains("is bound to"), "{answer:?}");
    scene.assert_served(&pod);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

fn victim(scene: &Scene) -> std::path::PathBuf {
    scene.write("victim", "precious");
    let victim = scene.path("victim");
    assert!(Path::new(&victim).is_file());
    victim
}
