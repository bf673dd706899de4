//! The operator's commands: what they print, where they look, and what they answer to a wrong call.

mod doctor;
mod gc;
mod manual;
mod show;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use podeip_sim::cloud::{EipView, defaults};
use podeip_sim::faults::{Effect, Rule};
use podeip_sim::kube::PodSpec;
use serde_json::{Value, json};

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP, executable};

/// The executable with these arguments and nothing else.
fn bare(arguments: &[&str]) -> Answer {
    Command::new(executable()).env_clear().args(arguments).output().unwrap().into()
}

/// The cells of every line; columns are three blanks apart, and no cell has so many.
fn cells(printed: &str) -> Vec<Vec<String>> {
    let row = |line: &str| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).map(Into::into).collect();
    printed.lines().map(row).collect()
}

fn added(scene: &Scene, sandbox: Sandbox) -> Sandbox {
    scene.add(&sandbox).assert_added(&sandbox);
    sandbox
}

fn state(scene: &Scene) -> Vec<u8> {
    fs::read(scene.state_dir().join("state.json")).unwrap()
}

/// stdout is empty and stderr is one line that names everything in `words`.
#[track_caller]
fn assert_refused(answer: &Answer, words: &[&str]) {
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{answer:?}");
    assert!(answer.stderr.starts_with("podeip: ") && answer.stderr.lines().count() == 1, "{answer:?}");
    for word in words {
        assert!(answer.stderr.contains(word), "{word:?} is missing in {}", answer.stderr);
    }
}

#[test]
fn a_node_without_attachments_says_so_and_prints_no_data() {
    let scene = Scene::new();
    for (arguments, stdout, stderr) in [
        (&["list"][..], "", "no pod of this node has an EIP\n"),
        (&["list", "-o", "wide"], "", "no pod of this node has an EIP\n"),
        (&["list", "-o", "json"], "[]\n", ""),
        (&["gc"], "", "no pod of this node has an EIP; nothing to do\n"),
        (&["gc", "--dry-run"], "", "no pod of this node has an EIP; nothing to do\n"),
    ] {
        let answer = scene.podeip(arguments);
        assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (Some(0), stdout, stderr));
    }
    assert!(!scene.state_dir().exists(), "looking creates nothing");
    assert_eq!(scene.world.calls.mark(), 0);
}

#[test]
fn list_shows_each_attachment_on_a_line_in_order() {
    let scene = Scene::new();
    let named = [("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP)];
    let in_shop = added(&scene, scene.pod_with(PodSpec::new("shop", "web-0"), [10, 219, 0, 7], &named));
    let second = added(&scene, scene.pod("web-1", [10, 219, 0, 6], &[WITH_EIP]));
    let first = added(&scene, scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]));
    scene.del(&second); // and its pod lives: held

    let table = scene.podeip(&["list"]);
    assert_eq!((table.code, table.stderr.as_str()), (Some(0), ""));
    let rows = cells(&table.stdout);
    assert_eq!(rows[0], ["NAMESPACE", "POD", "EIP", "EIP-ID", "TYPE", "PHASE", "PRIVATE-IP", "AGE"]);
    let [of_first, of_second] = [&first, &second].map(|pod| {
        let eips = scene.ours();
        eips.into_iter().find(|eip| eip.tag("podeip-uid") == Some(&pod.uid)).unwrap()
    });
    let user_address = scene.world.cloud.eip(defaults::USER_EIP).unwrap().address.to_string();
    let shown = |row: &[String]| row[..7].to_vec();
    let address = |eip: &EipView| eip.address.to_string();
    assert_eq!(
        rows[1..].iter().map(|row| shown(row)).collect::<Vec<_>>(),
        [
            ["default", "web-0", &address(&of_first), &of_first.id, "Auto", "Bound", "10.219.0.5"],
            ["default", "web-1", &address(&of_second), &of_second.id, "Auto", "Held", "-"],
            ["shop", "web-0", &user_address, defaults::USER_EIP, "Static", "Bound", "10.219.0.7"],
        ]
    );
    assert!(rows[1][7].ends_with('s'), "{rows:?}");
    assert!(table.stdout.lines().all(|line| line == line.trim_end()), "no blanks at the ends");

    let wide = cells(&scene.podeip(&["list", "-o", "wide"]).stdout);
    assert_eq!(wide[0][8..], ["STRATEGY", "ENI", "PACKAGE", "CONTAINER", "POD-UID", "LAST-ERROR"]);
    let more = ["Follow", defaults::POD_ENI, "-", &in_shop.container_id[..13], &in_shop.uid, "-"];
    assert_eq!(wide[3][8..], more);
}

#[test]
fn list_as_json_is_made_for_scripts() {
    let scene = Scene::new();
    let pod = added(&scene, scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]));
    let eip = scene.assert_served(&pod);
    let answer = scene.podeip(&["list", "--output", "json"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""));
    let mut printed: Value = serde_json::from_str(&answer.stdout).unwrap();
    for key in ["createdAt", "updatedAt"] {
        let time = printed[0].as_object_mut().unwrap().remove(key).unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'), "{key}: {time}");
    }
    assert_eq!(
        printed,
        json!([{
            "namespace": "default", "pod": "web-0", "podUid": pod.uid,
            "eipId": eip.id, "eipAddress": eip.address, "type": "Auto",
            "phase": "Bound", "published": true, "strategy": "Follow",
            "privateIp": "10.219.0.5", "eni": defaults::POD_ENI, "bandwidthPackage": null,
            "containerId": pod.container_id, "ifname": "eth0", "lastError": null,
        }])
    );
}

#[test]
fn list_shows_why_an_add_failed() {
    let scene = Scene::new();
    let refusal = Effect::error(403, "Forbidden.RAM", "not\nauthorized \u{1b}[2J");
    scene.world.faults.add(Rule::on("AssociateEipAddress", refusal));
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_error(102, &["AssociateEipAddress", "Forbidden.RAM"]);
    let answer = scene.podeip(&["list", "-o", "wide"]);
    assert_eq!(answer.stdout.lines().count(), 2, "a message of two lines stays in its row: {}", answer.stdout);
    assert!(!answer.stdout.contains('\u{1b}') && answer.stdout.contains(r"not\nauthorized"), "{}", answer.stdout);
    assert_eq!(cells(&answer.stdout)[1][5], "Held");
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_failure() {
    let scene = Scene::new();
    added(&scene, scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(executable())
        .args(["list", "--state-dir"])
        .arg(scene.state_dir())
        .stdout(Stdio::from(writer))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    let answer = Answer::from(output);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""));
}

/// A directory of network configuration whose third file is ours.
fn conf_dir(scene: &Scene, stanza: &Value) -> PathBuf {
    let directory = scene.path("net.d");
    fs::create_dir_all(&directory).unwrap();
    let list = |plugins: Value| json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}).to_string();
    fs::write(directory.join("00-half.conflist"), r#"{"plugins": ["#).unwrap();
    fs::write(directory.join("05-other.conflist"), list(json!([{"type": "bridge"}]))).unwrap();
    fs::write(directory.join("06-note.txt"), list(json!([{"type": "podeip", "stateDir": "/nowhere"}]))).unwrap();
    fs::write(directory.join("10-pods.conflist"), list(json!([{"type": "bridge"}, stanza]))).unwrap();
    fs::write(directory.join("99-late.conflist"), list(json!([{"type": "podeip", "stateDir": "/nowhere"}]))).unwrap();
    directory
}

fn with_conf_dir(directory: &Path, arguments: &[&str]) -> Answer {
    let directory = directory.to_str().unwrap();
    bare(&[arguments, &["--conf-dir", directory]].concat())
}

#[test]
fn the_conflist_says_where_the_files_are() {
    let scene = Scene::new();
    let pod = added(&scene, scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]));
    let paths = json!({"type": "podeip", "config": scene.path("eni_conf"), "kubeconfig": scene.path("kubeconfig"),
        "stateDir": scene.state_dir()});
    let directory = conf_dir(&scene, &paths);
    let answer = with_conf_dir(&directory, &["list", "-o", "json"]);
    assert!(answer.stdout.contains(&pod.uid), "{answer:?}");
    let skipped = format!("{} is skipped, because it is not JSON", directory.join("00-half.conflist").display());
    assert!(answer.stderr.contains(&skipped), "{answer:?}");

    let elsewhere = scene.path("elsewhere");
    let answer = with_conf_dir(&directory, &["list", "-o", "json", "--state-dir", elsewhere.to_str().unwrap()]);
    assert_eq!(answer.stdout, "[]\n", "an option overrides the stanza");

    scene.delete_pod(&pod);
    let answer = with_conf_dir(&directory, &["gc"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    scene.assert_nothing_left();
}

#[test]
fn a_faulty_stanza_is_named_where_it_matters() {
    let scene = Scene::new();
    let directory = conf_dir(&scene, &json!({"type": "podeip", "config": 7, "stateDir": scene.state_dir()}));
    fs::remove_file(directory.join("00-half.conflist")).unwrap();
    let file = directory.join("10-pods.conflist");
    let answer = with_conf_dir(&directory, &["gc"]);
    assert_refused(&answer, &[file.to_str().unwrap(), "key \"config\" must be a text"]);
    let answer = with_conf_dir(&directory, &["list", "-o", "json"]);
    assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (Some(0), "[]\n", ""));

    fs::write(&file, json!({"plugins": [{"type": "podeip", "stateDir": "here"}]}).to_string()).unwrap();
    let answer = with_conf_dir(&directory, &["list"]);
    assert_refused(&answer, &[file.to_str().unwrap(), "key \"stateDir\" must be an absolute path"]);
    let not_a_directory = scene.path("eni_conf");
    let answer = with_conf_dir(&not_a_directory, &["list"]);
    assert_refused(&answer, &[not_a_directory.to_str().unwrap(), "--state-dir"]);
}

#[test]
fn a_stanza_in_the_drop_in_folder_counts_like_one_in_the_list() {
    let scene = Scene::new();
    added(&scene, scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]));
    let directory = scene.path("dropped-in");
    let folder = directory.join("pods");
    fs::create_dir_all(&folder).unwrap();
    let list = |inlined_only| {
        let list = json!({"name": "pods", "loadOnlyInlinedPlugins": inlined_only, "plugins": [{"type": "bridge"}]});
        fs::write(directory.join("10-pods.conflist"), list.to_string()).unwrap();
    };
    list(false);
    fs::write(folder.join("00-other.conf"), r#"{"type": "tuning", "stateDir": "/nowhere"}"#).unwrap();
    let stanza = json!({"type": "podeip", "stateDir": scene.state_dir(), "state_dir": "/misspelt"});
    fs::write(folder.join("podeip.conf"), stanza.to_string()).unwrap();
    let answer = with_conf_dir(&directory, &["list"]);
    assert!(answer.stdout.contains("web-0"), "{answer:?}");
    assert!(answer.stderr.contains("key \"state_dir\" is unknown and ignored"), "{answer:?}");
    list(true);
    assert!(!with_conf_dir(&directory, &["list"]).stdout.contains("web-0"), "runtimes do not read the folder");
}

#[test]
fn what_cannot_be_read_is_one_clear_sentence() {
    let scene = Scene::new();
    let pod = added(&scene, scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]));
    let state_file = scene.state_dir().join("state.json");
    let good = state(&scene);

    for (content, words) in [
        (None, ["cannot read the settings in", "ConfigMap kube-system/eni-config"]),
        (Some("{"), ["the settings in", "are not JSON"]),
        (Some(r#"{"allow_eip_rob": "perhaps"}"#), ["key \"allow_eip_rob\"", "must be true or false"]),
    ] {
        match content {
            Some(content) => scene.write("eni_conf", content),
            None => fs::remove_file(scene.path("eni_conf")).unwrap(),
        }
        let answer = scene.podeip(&["gc"]);
        assert_refused(&answer, &words);
        assert!(answer.stderr.contains(scene.path("eni_conf").to_str().unwrap()), "{}", answer.stderr);
        assert_eq!(scene.podeip(&["list"]).code, Some(0), "list needs no settings");
    }
    scene.configure(|_| {});

    fs::write(&state_file, r#"{"version":7,"attachments":"new"}"#).unwrap();
    for command in ["list", "gc"] {
        assert_refused(&scene.podeip(&[command]), &["has version 7", "install the newer podeip again"]);
    }
    fs::write(&state_file, "{").unwrap();
    assert_refused(&scene.podeip(&["list"]), &["could not be understood", "moved to", "state starts empty"]);
    assert_eq!(scene.podeip(&["list"]).stderr, "no pod of this node has an EIP\n", "reported once");

    fs::write(&state_file, good).unwrap();
    fs::set_permissions(scene.state_dir(), fs::Permissions::from_mode(0o777)).unwrap();
    for command in ["list", "gc"] {
        let answer = scene.podeip(&[command]);
        assert_refused(&answer, &["cannot be trusted", "everybody may write to it", "chmod 0700"]);
    }
    fs::set_permissions(scene.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    scene.delete_pod(&pod);
    scene.gc();
    scene.assert_nothing_left();
}

#[test]
fn help_and_version_are_complete() {
    let version = bare(&["--version"]);
    let expected = format!("podeip {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.stdout, version.stderr.as_str()), (Some(0), expected, ""));

    let paths = ["--conf-dir <DIR>", "--config <FILE>", "--kubeconfig <FILE>", "--state-dir <DIR>", "-h, --help"];
    let defaults = ["/etc/cni/net.d", "/etc/podeip/eni_conf", "/etc/podeip/kubeconfig", "/var/lib/cni/podeip"];
    let of_command = [&paths[..], &defaults].concat();
    for (arguments, words) in [
        (&["--help"][..], vec!["elastic IP", "CNI_COMMAND", "Usage: podeip", "list", "show", "gc", "--version"]),
        (
            &["list", "--help"],
            [&["Usage: podeip list", "--output <OUTPUT>", "table", "wide", "json"], &of_command[..]].concat(),
        ),
        (
            &["show", "--help"],
            [&["Usage: podeip show", "<POD>", "NAMESPACE/NAME", "--output <OUTPUT>", "table", "json"], &of_command[..]]
                .concat(),
        ),
        (&["gc", "--help"], [&["Usage: podeip gc", "--dry-run"], &of_command[..]].concat()),
    ] {
        let answer = bare(arguments);
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        for word in words {
            assert!(answer.stdout.contains(word), "{arguments:?}: {word:?} is missing in\n{}", answer.stdout);
        }
    }
}

#[test]
fn what_the_command_line_does_not_know_is_refused_with_2() {
    for (arguments, word) in [
        (&[][..], "Usage: podeip"),
        (&["lst"], "lst"),
        (&["list", "--wide"], "--wide"),
        (&["list", "-o", "yaml"], "yaml"),
        (&["gc", "--dryrun"], "--dryrun"),
        (&["gc", "web-0"], "web-0"),
        (&["gc", "--state-dir"], "--state-dir"),
    ] {
        let answer = bare(arguments);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(answer.stderr.contains(word), "{arguments:?}: {}", answer.stderr);
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let mut command = Command::new(executable());
    command.arg("list").arg("--conf-dir").arg(scene.path("none")).arg("--state-dir").arg(scene.state_dir());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
