//! What an installation makes on nodes of all kinds, and that taking it off leaves the primary's own bytes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use super::site::{Site, with_key};
use crate::scene::WITH_EIP;

/// A primary's file, and the chain that is right for it. Some are spaced as no tool of ours would.
const PRIMARIES: [(&str, &str, &[&str]); 9] = [
    (
        "10-terway.conflist",
        "{\n  \"cniVersion\":\"0.4.0\",\"name\":\"terway-chainer\",\n  \"plugins\": [\n    {\"type\":\"terway\",\"eniip_virtual_type\":\"veth\",\
         \"capabilities\":{\"bandwidth\":true}}\n  ]\n}\n",
        &["terway", "podeip"],
    ),
    (
        "10-terway.conflist",
        "{\"cniVersion\":\"0.4.0\",\"name\":\"terway-chainer\",\"plugins\":[{\"type\":\"terway\",\"eniip_virtual_type\":\"ipvlan\",\
         \"host_stack_cidrs\":[\"169.254.20.10/32\"]},{\"type\":\"cilium-cni\",\"enable-debug\":false}]}",
        &["terway", "cilium-cni", "podeip"],
    ),
    (
        "10-terway.conflist",
        "{\"plugins\":[{\"type\":\"terway\",\"eniip_virtual_type\":\"datapathv2\",\"x\":9007199254740993},{\"type\":\"cilium-cni\",\
         \"data-path\":\"datapathv2\"}],\"name\":\"terway-chainer\",\"cniVersion\":\"0.4.0\"}",
        &["terway", "cilium-cni", "podeip"],
    ),
    (
        "05-cilium.conflist",
        "{\n\t\"cniVersion\": \"0.3.1\",\n\t\"name\": \"cilium\",\n\t\"plugins\": [\n\t\t{\n\t\t\t\"type\": \"cilium-cni\",\n\t\t\t\
         \"enable-debug\": false\n\t\t}\n\t]\n}",
        &["cilium-cni", "podeip"],
    ),
    (
        "10-calico.conflist",
        "{\"name\":\"k8s-pod-network\",\"cniVersion\":\"0.3.1\",\"plugins\":[{\"type\":\"calico\",\"mtu\":0,\"kubernetes\":{\"kubeconfig\":\
         \"/etc/cni/net.d/calico-kubeconfig\"}},{\"type\":\"portmap\",\"snat\":true,\"capabilities\":{\"portMappings\":true}}]}",
        &["calico", "portmap", "podeip"],
    ),
    (
        "10-flannel.conflist",
        "{\"name\":\"cbr0\",\"cniVersion\":\"0.3.1\",\"plugins\":[{\"type\":\"flannel\",\"delegate\":{\"hairpinMode\":true}}]}",
        &["flannel", "podeip"],
    ),
    (
        "87-podman-bridge.conflist",
        "{\"cniVersion\":\"0.4.0\",\"name\":\"podman\",\"plugins\":[{\"type\":\"bridge\",\"bridge\":\"cni0\"},{\"type\":\"firewall\"}]}",
        &["bridge", "firewall", "podeip"],
    ),
    (
        "10-bridge.conf",
        "{\"cniVersion\":\"0.2.0\",\"name\":\"lone\",\"type\":\"bridge\",\"ipam\":{\"type\":\"host-local\"}}\n",
        &["bridge", "podeip"],
    ),
    (
        "10-odd.conf",
        "{\"cniVersion\":\"0.4.0\",\"name\":\"odd\",\"type\":\"some-vendors\",\"unknown\":{\"deep\":[1.50,null]},\"plugin\":[]}",
        &["some-vendors", "podeip"],
    ),
];

#[test]
fn every_primary_is_chained_and_left_as_it_was() {
    let site = Site::with_executable();
    fs::remove_file(site.conf("10-podnet.conflist")).unwrap();
    for (name, content, chain) in PRIMARIES {
        site.write_conf(name, content);
        site.write_conf("calico-kubeconfig", "a file of somebody else");
        let before = site.conf_files();
        site.place_executable();
        site.install();
        assert_eq!(site.chain().unwrap(), chain, "{name}");
        let changed = site.conf_files();
        let file = changed.iter().find(|(name, _)| name.ends_with(".conflist")).unwrap().1;
        assert_same_but_ours(content, file);

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
    assert_eq!(fs::read(site.executable()).unwrap(), fs::read(super::site::EXECUTABLE).unwrap());
    // Where the runtime passes no annotations, the API server is asked for them.
    let mut pod = site.scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    pod.annotations = None;
    site.scene.add(&pod).assert_added(&pod);
    site.scene.assert_served(&pod);
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
