//! `podeip agent --keep-installed`: what others undo is put right, and what the kubelet renews is followed.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use podeip_sim::kube::PodSpec;

use super::site::{BRIDGE, Site, with_key};
use crate::arranged;
use crate::scene::{WITH_EIP, await_true, executable};

const REWRITES: usize = 200;

#[test]
fn two_hundred_rewrites_leave_a_valid_file_at_every_instant_and_the_stanza_in_the_end() {
    let site = Site::with_executable();
    let keeper = site.keeper();
    await_true("the stanza is put in", || site.is_chained());
    let (over, looks) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let chain = site.chain().unwrap();
                assert!(chain == ["bridge"] || chain == ["bridge", "podeip"], "{chain:?}");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        for nth in 0..REWRITES {
            // As primaries do that take care, and every write another one.
            let list = BRIDGE.replace("1500", &(1000 + nth).to_string());
            fs::write(site.conf("rival.tmp"), list).unwrap();
            fs::rename(site.conf("rival.tmp"), site.conf("10-podnet.conflist")).unwrap();
            thread::sleep(Duration::from_millis(10));
        }
        await_true("the stanza is back", || site.is_chained());
        over.store(true, Ordering::Relaxed);
    });
    assert!(looks.into_inner() > REWRITES);
    let list = fs::read_to_string(site.conf("10-podnet.conflist")).unwrap();
    assert!(list.contains(&(1000 + REWRITES - 1).to_string()), "the rival's last word stays: {list}");
    await_true("the rival is told of", || site.agent_log().contains("something on this node keeps undoing it"));
    let log = site.agent_log();
    assert_eq!(log.matches("keeps undoing it").count(), 1, "{log}");
    assert!(log.matches("stanza: ").count() <= 6, "no line for each repair: {log}");
    drop(keeper);
    assert!(site.is_chained(), "nothing is taken off when an agent ends");
}

#[test]
fn files_and_their_sources_are_followed() {
    let site = Site::new();
    let settings = fs::read_to_string(site.settings.path().join("eni-config.json")).unwrap();
    site.settings.renew(&[]);
    let _keeper = site.keeper();
    await_true("the agent waits", || site.agent_log().contains("waiting for settings: cannot read"));
    assert!(!site.is_chained(), "no stanza before the settings");
    site.settings.renew(&[("eni-config.json", &settings)]);
    await_true("all is installed", || site.is_chained());
    let mut pod = site.scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    pod.annotations = None;

    // The token expires; then the kubelet renews it.
    site.rotate_in_cluster("second");
    let refused = site.scene.add(&pod);
    refused.assert_error(107, &["HTTP 401", "the token was refused"]);
    assert_eq!(refused.stderr, "");
    site.rotate_in_mount("second");
    let shows = |file: &'static str, text: &'static str| {
        let path = site.scene.path(file);
        await_true(text, || fs::read_to_string(&path).is_ok_and(|content| content.contains(text)));
    };
    shows("kubeconfig", "\"second\"");
    site.scene.add(&pod).assert_added(&pod);
    site.scene.assert_served(&pod);

    site.settings.renew(&[("eni-config.json", &settings), ("podeip.json", &with_key("{}", "terways_own", "newer"))]);
    shows("eni_conf", "newer");
    for undo in [|path| fs::remove_file(path), |path| fs::write(path, "half an execut")] {
        // Written in place it would be busy if it was running.
        undo(site.executable()).unwrap();
        let copied = || {
            fs::metadata(site.executable()).is_ok_and(|found| found.len() == fs::metadata(executable()).unwrap().len())
        };
        await_true("the executable is back", copied);
    }
    // A directory that goes and comes, with the primary's file in it.
    fs::rename(site.scene.path("net.d"), site.scene.path("net.d.old")).unwrap();
    fs::create_dir(site.scene.path("net.d")).unwrap();
    site.write_conf("10-podnet.conflist", BRIDGE);
    site.write_conf("10-podnet.conflist", BRIDGE);
    await_true("the stanza is in the new directory", || site.is_chained());
}

/// The node boots: the primary writes its list anew, pods start, and the agent comes last.
#[test]
fn a_pod_that_starts_before_the_agent_at_boot_gets_its_eip_late() {
    let site = Site::with_executable();
    let settings = fs::read_to_string(site.settings.path().join("eni-config.json")).unwrap();
    site.settings.renew(&[("eni-config.json", &with_key(&settings, "late_attach", "attach"))]);
    let before = site.keeper();
    await_true("the stanza is put in", || site.is_chained());
    drop(before);
    assert!(site.is_chained(), "a shutdown takes nothing away: most pods find the chain");

    site.write_conf("10-podnet.conflist", BRIDGE);
    let pod = arranged::early(&site.scene, PodSpec::new("default", "web-0"), 5, &[WITH_EIP]);
    let _after = site.keeper();
    await_true("the stanza is back", || site.is_chained());
    await_true("the pod has its EIP", || site.scene.on(pod.ip).len() == 1 && site.scene.pod_eip(&pod).is_some());
}

#[test]
fn an_agent_of_another_version_is_told_of_before_it_undoes_an_installation_by_hand() {
    let site = Site::with_executable();
    let keeper = site.keeper();
    await_true("the stanza is put in", || site.is_chained());
    let note = site.scene.state_dir().join("agent.lock");
    let said = fs::read_to_string(&note).unwrap();
    assert!(!site.install().stderr.contains("the agent of this node"), "it is of this version");
    drop(keeper);

    let agent = fs::File::options().write(true).open(&note).unwrap();
    agent.lock().unwrap();
    fs::write(&note, said.replace(env!("CARGO_PKG_VERSION"), "0.0.9")).unwrap();
    let told = site.install().stderr;
    assert!(told.contains("version 0.0.9 and keeps the installation") && told.contains("DaemonSet"), "{told}");
    fs::write(&note, "0.0.9").unwrap();
    assert!(!site.install().stderr.contains("0.0.9"), "one that keeps nothing undoes nothing");
}
