//! `podeip uninstall` on a node whose pods have EIPs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podeip_sim::cloud::defaults;
use serde_json::{Value, json};

use super::site::Site;
use crate::arranged;
use crate::scene::{Answer, NODE, Sandbox, await_true};

/// Pods of all kinds: what is allocated goes, what is named or fixed stays.
struct Pods {
    follow: Sandbox,
    fixed: (Sandbox, String),
    named: Sandbox,
}

fn with_pods() -> (Site, Pods) {
    let site = Site::with_executable();
    site.install();
    let (follow, _) = arranged::served(&site.scene, "follow", 5, "Follow");
    let fixed = arranged::served(&site.scene, "fixed", 6, "10m");
    let named = arranged::served_by_name(&site.scene, "named", 7, defaults::USER_EIP, "Follow");
    (site, Pods { follow, fixed, named })
}

#[test]
fn eips_of_pods_are_decided_about_first() {
    let (site, pods) = with_pods();
    let before = (site.conf_files(), site.scene.world.cloud.state(), site.scene.records());
    let refused = site.uninstall(&[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    for word in ["default/follow", &pods.fixed.1, "default/named", "--release", "--keep"] {
        assert!(refused.stderr.contains(word), "{word}: {refused:?}");
    }
    let keeper = site.keeper();
    for way in ["--keep", "--release"] {
        let refused = site.uninstall(&[way]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("a podeip agent runs on this node"), "{refused:?}");
    }
    drop(keeper);
    assert_eq!(site.uninstall(&["--keep", "--release"]).code, Some(2));
    assert_eq!((site.conf_files(), site.scene.world.cloud.state(), site.scene.records()), before);

    // The EIPs stay where they are, and the next installation goes on with them.
    let kept = site.uninstall(&["--keep"]);
    assert_eq!(kept.code, Some(0), "{kept:?}");
    site.assert_gone();
    assert_eq!((site.scene.world.cloud.state(), site.scene.records()), (before.1, before.2));
    let again = site.uninstall(&["--keep"]);
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), ""), "{again:?}");
    site.place_executable();
    site.install();
    site.scene.delete_pod(&pods.follow);
    site.scene.del(&pods.follow);
    assert!(site.scene.on(pods.follow.ip).is_empty(), "{}", site.scene.log());
}

#[test]
fn release_gives_back_what_no_pod_named_and_no_pod_eip_keeps() {
    let (site, pods) = with_pods();
    fs::write(site.scene.state_dir().join("credentials.json"), "{}").unwrap();
    // The token went with the agent's pod; this run's service account has a new one.
    site.rotate_in_cluster("second");
    let stuck = site.uninstall(&["--release"]);
    assert_eq!(stuck.code, Some(1), "{stuck:?}");
    assert!(
        stuck.stderr.contains("pod default/follow is not ended") && stuck.stderr.contains("--kubeconfig"),
        "{stuck:?}"
    );
    assert_eq!((site.chain().unwrap(), site.scene.records().len()), (vec!["bridge".to_owned()], 3));
    site.rotate_in_mount("second");
    let answer = site.uninstall(&["--release"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer:?}");
    site.assert_gone();

    let scene = &site.scene;
    assert_eq!(scene.records(), Vec::<Value>::new());
    for pod in [&pods.follow, &pods.fixed.0, &pods.named] {
        assert!(scene.on(pod.ip).is_empty(), "{}", pod.name);
        let annotations = scene.pod_object(pod)["metadata"]["annotations"].clone();
        assert!(annotations.as_object().unwrap().keys().all(|key| !key.contains("allocated")), "{annotations}");
        assert_eq!(scene.events(pod, "EIPWithdrawn").len(), 1, "{}", pod.name);
    }
    assert!(scene.pod_eip(&pods.follow).is_none() && scene.pod_eip(&pods.named).is_none());
    let kept = scene.pod_eip(&pods.fixed.0).unwrap();
    assert_eq!((&kept["spec"]["allocationID"], &kept["status"]["status"]), (&json!(pods.fixed.1), &json!("Available")));
    assert!(scene.world.cloud.eip(&pods.fixed.1).is_some() && scene.world.cloud.eip(defaults::USER_EIP).is_some());
    let tagged = |eip: &podeip_sim::cloud::EipView| eip.tag("podeip-node") == Some(NODE) && eip.id != pods.fixed.1;
    // The release was asked for; the cloud takes a moment.
    await_true("the release", || !scene.world.cloud.eips().iter().any(tagged));
}

/// A DaemonSet starts a container that ended again: it must end only where that is wanted.
#[test]
fn one_that_is_to_stay_waits_for_its_end() {
    let site = Site::with_executable();
    site.install();
    let mut staying = site.uninstalling(&["--keep", "--stay"]).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(staying.stderr.take().unwrap()).read_line(&mut told).unwrap();
    assert!(told.contains("podeip is off this node"), "{told}");
    site.assert_gone();
    assert!(staying.try_wait().unwrap().is_none());
    kill(Pid::from_raw(staying.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(staying.wait().unwrap().code(), Some(0));

    site.place_executable();
    site.install();
    let keeper = site.keeper();
    let refused = site.uninstall(&["--keep", "--stay"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("a podeip agent runs on this node"), "{refused:?}");
    drop(keeper);
}

/// CRI-O and podman run the plugins of the list that a pod was made with when it ends.
#[test]
fn the_executable_stays_while_a_pods_list_names_it() {
    let site = Site::with_executable();
    site.install();
    let list = fs::read(site.conf("10-podnet.conflist")).unwrap();
    let entry = json!({"kind": "cniCacheV1", "containerId": "c", "config": STANDARD.encode(list), "ifName": "eth0"});
    fs::write(site.scene.path("results/podnet-c-eth0"), entry.to_string()).unwrap();
    let answer = site.uninstall(&[]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stderr.contains("bin/podeip stays") && site.executable().exists(), "{answer:?}");
    assert!(!site.scene.path("eni_conf").exists());
    // It does no harm at that pod's end.
    let pod = site.scene.pod("web-0", [10, 219, 0, 5], &[]);
    site.scene.del(&pod);
    fs::remove_file(site.scene.path("results/podnet-c-eth0")).unwrap();
    assert_eq!(site.uninstall(&[]).code, Some(0));
    site.assert_gone();
}

#[test]
fn an_add_that_was_under_way_when_the_stanza_went_is_decided_about_too() {
    let site = Site::with_executable();
    site.install();
    // Reading it stops the uninstallation behind its first look at the records.
    let pipe = site.conf("99-slow.conflist");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let uninstalling = site.uninstalling(&[]).spawn().unwrap();
    let mut slow = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let (pod, _) = arranged::served(&site.scene, "follow", 5, "Follow");
    site.write_conf("slow", "{}");
    fs::rename(site.conf("slow"), &pipe).unwrap();
    slow.write_all(b"{}").unwrap();
    drop(slow);
    let answer: Answer = uninstalling.wait_with_output().unwrap().into();
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("default/follow") && answer.stderr.contains("only the stanza"), "{answer:?}");
    assert_eq!(site.chain().unwrap(), ["bridge"]);
    assert!(site.scene.path("eni_conf").exists() && site.executable().exists());

    let answer = site.uninstall(&["--release"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(site.scene.on(pod.ip).is_empty());
    fs::remove_file(&pipe).unwrap();
    site.assert_gone();
}
