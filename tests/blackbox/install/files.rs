//! What an installation makes on nodes of all kinds, and that taking it off leaves the primary's own bytes.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::site::{Site, files_in, with_key};
use crate::scene::{Answer, WITH_EIP, executable};

/// Primaries' files in `tests/fixtures/conflists`, and what runs in the end.
const PRIMARIES: [(&str, &[&str]); 11] = [
    ("05-aws-cilium-chained.conflist", &["aws-cni", "egress-cni", "portmap", "cilium-cni", "podeip"]),
    ("05-cilium.conflist", &["cilium-cni", "podeip"]),
    ("10-bridge-one-line.conflist", &["bridge", "portmap", "firewall", "tuning", "podeip"]),
    ("10-calico.conflist", &["calico", "bandwidth", "portmap", "podeip", "linkerd-cni"]),
    ("10-flannel.conflist", &["flannel", "portmap", "podeip"]),
    ("10-lone.conf", &["macvlan", "podeip"]),
    ("10-tabs.conflist", &["ptp", "podeip"]),
    ("10-terway-datapathv2.conflist", &["terway", "cilium-cni", "podeip", "istio-cni"]),
    ("10-terway-ipvlan.conflist", &["terway", "cilium-cni", "podeip"]),
    ("10-terway-veth.conflist", &["terway", "podeip"]),
    ("87-podman-bridge-crlf.conflist", &["bridge", "portmap", "podeip"]),
];

#[test]
fn every_primary_is_chained_and_left_as_it_was() {
    let fixtures = files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conflists"));
    assert_eq!(fixtures.keys().map(String::as_str).collect::<Vec<_>>(), PRIMARIES.map(|(name, _)| name));
    let site = Site::with_executable();
    fs::remove_file(site.conf("10-podnet.conflist")).unwrap();
    site.write_conf("calico-kubeconfig", "a file of somebody else");
    for (name, chain) in PRIMARIES {
        site.write_conf(name, &fixtures[name]);
        let before = site.conf_files();
        site.place_executable();
        site.install();
        assert_eq!(site.chain().unwrap(), chain, "{name}");
        let changed = site.conf_files();
        let taken = changed.keys().find(|name| name.ends_with(".conflist")).unwrap();
        assert_same_but_ours(&fixtures[name], &changed[taken]);

        // What is right is not written again: each write makes the runtime load its configuration anew.
        let stamps = || -> Vec<_> {
            let all = fs::read_dir(site.scene.path("net.d")).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
            all.map(|found| (found.ino(), found.ctime(), found.ctime_nsec())).collect()
        };
        let stamped = stamps();
        let again = site.install();
        assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", "everything is as it should be\n"), "{name}");
        assert_eq!(stamps(), stamped, "{name}");

        let answer = site.uninstall(&[]);
        assert_eq!(answer.code, Some(0), "{name}: {answer:?}");
        assert_eq!(site.conf_files(), before, "{name}");
        for file in ["eni_conf", "kubeconfig", "bin/podeip"] {
            assert!(!site.scene.path(file).exists(), "{file} after {name}");
        }
        fs::remove_file(site.conf(name)).unwrap();
    }
}

/// One that podeip cannot be put into stays as it is, and so does the next one, which the runtime does not take.
#[test]
fn a_configuration_of_unknown_shape_is_left_alone() {
    let site = Site::with_executable();
    for odd in ["{\"cniVersion\":\"0.4.0\",\"name\":\"odd\",\"kind\":{\"deep\":[1.50,null]}}", "{\"plugins\":", ""] {
        site.write_conf("05-odd.conf", odd);
        let before = site.conf_files();
        let refused = site.try_to_install();
        assert_eq!(refused.code, Some(1), "{odd:?}: {refused:?}");
        assert!(refused.stderr.contains("stanza failed") && refused.stderr.contains("05-odd.conf"), "{refused:?}");
        assert_eq!(site.conf_files(), before);
    }
    // Of Terway, the value for its ConfigMap is to be had, and nothing changes on the node.
    assert!(site.print_terway_conflist().stderr.contains("run this on a node with Terway"));
    site.write_conf(
        "10-terway.conflist",
        "{\"cniVersion\":\"0.4.0\",\"name\":\"t\",\"plugins\":[{\"type\":\"terway\"}]}",
    );
    let before = site.conf_files();
    let printed: Value = serde_json::from_str(&site.print_terway_conflist().stdout).unwrap();
    assert_eq!(printed["plugins"][1]["type"], "podeip");
    assert_eq!(site.conf_files(), before);
}

/// Whether `found` is the list, or the plugin made a list, with our stanza added and nothing else changed.
#[track_caller]
fn assert_same_but_ours(original: &str, found: &str) {
    let (original, mut found): (Value, Value) =
        (serde_json::from_str(original).unwrap(), serde_json::from_str(found).unwrap());
    found["plugins"].as_array_mut().unwrap().retain(|plugin| plugin["type"] != "podeip");
    if original.get("plugins").is_some() {
        assert_eq!(found, original);
        return;
    }
    assert_eq!((&found["name"], &found["cniVersion"]), (&original["name"], &original["cniVersion"]));
    for (key, value) in original.as_object().unwrap() {
        if !["name", "cniVersion"].contains(&key.as_str()) {
            assert_eq!(found["plugins"][0][key], *value, "{key}");
        }
    }
}

#[test]
fn a_pod_gets_its_eip_from_what_was_installed() {
    let site = Site::new();
    let answer = site.install();
    let told: Vec<&str> = answer.stdout.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!((told, answer.stderr.as_str()), (vec!["settings", "kubeconfig", "executable", "stanza"], ""));
    let modes = ["eni_conf", "kubeconfig", "bin/podeip"].map(|file| site.scene.path(file).metadata().unwrap().mode());
    assert_eq!(modes.map(|mode| mode & 0o7777), [0o600, 0o600, 0o755]);
    assert_eq!(fs::read(site.executable()).unwrap(), fs::read(executable()).unwrap());
    // Where the runtime passes no annotations, the API server is asked for them.
    let mut pod = site.scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    pod.annotations = None;
    site.scene.add(&pod).assert_added(&pod);
    site.scene.assert_served(&pod);
}

#[test]
fn what_another_user_owns_is_made_anew() {
    let site = Site::new();
    site.install();
    let files = ["eni_conf", "kubeconfig", "bin/podeip"].map(|file| site.scene.path(file));
    files.iter().for_each(|file| chown(file, Some(65534), Some(65534)).unwrap());
    let answer = site.install();
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for (file, mode) in files.iter().zip([0o600, 0o600, 0o755]) {
        let found = file.metadata().unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (0, mode), "{}: {answer:?}", file.display());
    }
}

#[test]
fn what_is_missing_keeps_the_stanza_out_and_what_is_broken_changes_nothing() {
    let site = Site::with_executable();
    let (settings, before) =
        (fs::read_to_string(site.settings.path().join("eni-config.json")).unwrap(), site.conf_files());
    // Something awaited is no failure of an init container: the agent goes on from there.
    site.account.renew(&[]);
    let waiting = site.install();
    assert!(waiting.stderr.contains("kubeconfig waits") && waiting.stderr.contains("is not touched"), "{waiting:?}");
    assert_eq!(site.conf_files(), before);
    site.rotate_in_mount(podeip_sim::cloud::defaults::KUBE_TOKEN);
    site.settings.renew(&[("eni-config.json", "{\"access_secret\": \"hidden")]);
    fs::remove_file(site.scene.path("eni_conf")).unwrap();
    let failed = site.try_to_install();
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("settings failed") && !failed.stderr.contains("hidden"), "{failed:?}");
    assert_eq!(site.conf_files(), before);

    site.settings.renew(&[("eni-config.json", &settings), ("podeip.json", &with_key("{}", "cluster_id", ""))]);
    fs::rename(site.conf("10-podnet.conflist"), site.conf("10-podnet.bak")).unwrap();
    let waiting = site.install();
    assert!(waiting.stderr.contains("stanza waits"), "{waiting:?}");
    fs::rename(site.conf("10-podnet.bak"), site.conf("10-podnet.conflist")).unwrap();
    site.install();
    assert!(site.is_chained());
    // An older rendering serves on.
    site.settings.renew(&[("eni-config.json", "[]")]);
    let broken = site.install();
    assert!(broken.stderr.contains("settings failed") && site.is_chained(), "{broken:?}");
    let pod = site.scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    site.scene.add(&pod).assert_added(&pod);
}

#[test]
fn the_add_on_token_comes_and_goes_with_its_secret() {
    let site = Site::with_executable();
    let settings = fs::read_to_string(site.settings.path().join("eni-config.json")).unwrap();
    let mounted = site.settings.path().join("token-config");
    let install =
        || -> Answer { site.installing(&["--addon-token-from", mounted.to_str().unwrap()]).output().unwrap().into() };
    let right = |answer: Answer| (answer.code, answer.stdout, answer.stderr);
    let as_it_should_be = (Some(0), String::new(), "everything is as it should be\n".to_owned());
    install();
    assert_eq!(right(install()), as_it_should_be, "a cluster without the Secret lacks nothing");

    site.settings.renew(&[("eni-config.json", &settings), ("token-config", "{}")]);
    install();
    assert_eq!(fs::read_to_string(site.scene.path("token-config")).unwrap(), "{}");
    // What is left of a token ends soon, and would be refused then.
    site.settings.renew(&[("eni-config.json", &settings)]);
    let answer = install();
    assert!(answer.stdout.contains("token-config removed"), "{answer:?}");
    assert!(!site.scene.path("token-config").exists());
    assert_eq!(right(install()), as_it_should_be);
}

#[test]
fn beside_multus_the_rest_is_installed_for_a_stanza_that_is_put_in_by_hand() {
    let site = Site::with_executable();
    let multus = r#"{"cniVersion": "0.4.0", "name": "m", "type": "multus-shim"}"#;
    site.write_conf("00-multus.conf", multus);
    let before = site.conf_files();
    let waiting = site.install();
    assert!(waiting.stderr.contains("put the podeip stanza into that list by hand"), "{waiting:?}");
    assert_eq!(site.conf_files(), before);
    assert!(site.scene.path("kubeconfig").exists(), "the agent that keeps it starts");

    fs::remove_file(site.conf("00-multus.conf")).unwrap();
    site.install();
    site.write_conf("00-multus.conf", multus);
    assert_eq!(site.install().stderr, "everything is as it should be\n");
    let mut doctor = Command::new(executable());
    doctor.env_clear().args(["doctor", "conflist", "--conf-dir"]).arg(site.scene.path("net.d"));
    let told = Answer::from(doctor.output().unwrap()).stdout;
    assert!(told.contains("plugin 2 of") && told.contains("10-podnet.conflist"), "{told}");
}
