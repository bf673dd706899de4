//! `podeip agent --keep-installed`: what others undo is put right, and what the kubelet renews is followed.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podeip_sim::kube::PodSpec;
use serde_json::json;

use super::site::{BRIDGE, Site, with_key};
use crate::arranged;
use crate::scene::{NODE, WITH_EIP, await_true, executable};

const REWRITES: usize = 200;

/// Half of the rewrites are mended faster than this. A machine that does much else may be late now and then.
const BACK_SOON: Duration = Duration::from_secs(1);
const BACK_AT_LAST: Duration = Duration::from_secs(15);

#[test]
fn two_hundred_rewrites_leave_a_valid_file_at_every_instant_and_the_stanza_is_back_within_a_second() {
    let site = Site::with_executable();
    let keeper = site.keeper();
    await_true("the stanza is put in", || site.is_chained());
    let over = AtomicBool::new(false);
    let (written, seen) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let chain = site.chain().unwrap();
                assert!(chain == ["bridge"] || chain == ["bridge", "podeip"], "{chain:?}");
                seen.push((Instant::now(), chain.len() == 2));
            }
            seen
        });
        let written: Vec<Instant> = (0..REWRITES).map(|nth| rewrite(&site, nth)).collect();
        await_true("the stanza is back", || site.is_chained());
        // The reader has to see it too.
        thread::sleep(Duration::from_millis(100));
        over.store(true, Ordering::Relaxed);
        (written, reader.join().unwrap())
    });
    assert!(seen.len() > REWRITES / 10, "the reader looked {} times", seen.len());
    assert_back_in_time(&written, &seen);
    let list = fs::read_to_string(site.conf("10-podnet.conflist")).unwrap();
    assert!(list.contains(&(1000 + REWRITES - 1).to_string()), "the rival's last word stays: {list}");
    assert_rival_is_told_of(&site);
    drop(keeper);
    assert!(site.is_chained(), "nothing is taken off when an agent ends");
}

/// As primaries do that take care, and every write another one.
fn rewrite(site: &Site, nth: usize) -> Instant {
    thread::sleep(Duration::from_millis(25));
    let list = BRIDGE.replace("1500", &(1000 + nth).to_string());
    fs::write(site.conf("rival.tmp"), list).unwrap();
    fs::rename(site.conf("rival.tmp"), site.conf("10-podnet.conflist")).unwrap();
    Instant::now()
}

/// From each rewrite to when a reader first saw the stanza again.
#[track_caller]
fn assert_back_in_time(written: &[Instant], seen: &[(Instant, bool)]) {
    let back = |at: &Instant| seen.iter().find(|(when, chained)| *chained && when >= at).unwrap().0;
    let mut delays: Vec<Duration> = written.iter().map(|at| back(at).duration_since(*at)).collect();
    delays.sort_unstable();
    let (median, worst) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    assert!(median < BACK_SOON && worst < BACK_AT_LAST, "median {median:?}, worst {worst:?}");
}

/// In the log, once, and on the node, where `kubectl describe node` shows it.
fn assert_rival_is_told_of(site: &Site) {
    await_true("the rival is told of", || site.agent_log().contains("something on this node keeps undoing it"));
    let log = site.agent_log();
    assert_eq!(log.matches("keeps undoing it").count(), 1, "{log}");
    assert!(log.matches("stanza: ").count() <= 6, "no line for each repair: {log}");
    let events = || site.scene.world.cluster.events_for("", NODE);
    await_true("the node has an event", || !events().is_empty());
    let [event] = &events()[..] else { panic!("{:?}", events()) };
    let involved = json!({"apiVersion": "v1", "kind": "Node", "name": NODE, "namespace": "", "uid": NODE});
    assert_eq!((&event["involvedObject"], &event["reason"]), (&involved, &json!("InstallationContested")), "{event}");
    assert!(event["message"].as_str().unwrap().contains("podeip's stanza is put right again and again"), "{event}");
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
