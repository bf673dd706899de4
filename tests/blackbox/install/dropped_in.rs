//! The stanza in the folder that newer runtimes append to the primary's list, and the ways there and back.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use super::runtime::Runtime;
use super::site::{BRIDGE, Site, files_in};
use crate::scene::{WITH_EIP, await_true};

const DROP_IN: [&str; 2] = ["--stanza-in", "drop-in"];
const LIST: [&str; 2] = ["--stanza-in", "list"];

const READS: &str = "containerd://2.1.9";
const DOES_NOT: &str = "containerd://1.7.24";

const KILLS: u32 = 40;

/// What a runtime would read of the network's folder.
fn folder(site: &Site) -> BTreeMap<String, String> {
    let folder = site.conf("podnet");
    let mut files = if folder.is_dir() { files_in(&folder) } else { BTreeMap::new() };
    files.retain(|name, _| name.ends_with(".conf"));
    files
}

#[track_caller]
fn assert_in_list(site: &Site) {
    assert_eq!((site.chain().unwrap(), site.conf("podnet").exists()), (bridge_and_podeip(), false));
}

#[track_caller]
fn assert_dropped_in(site: &Site) {
    assert_eq!(site.conf_files().into_iter().collect::<Vec<_>>(), [("10-podnet.conflist".into(), BRIDGE.to_owned())]);
    assert_eq!(folder(site).into_keys().collect::<Vec<_>>(), ["podeip.conf"]);
    assert_eq!(site.chain_with_drop_ins().unwrap(), bridge_and_podeip());
}

fn bridge_and_podeip() -> Vec<String> {
    ["bridge", "podeip"].map(str::to_owned).to_vec()
}

#[test]
fn the_stanza_goes_from_the_list_into_the_folder_and_back_with_what_it_says_of_the_log() {
    let site = Site::with_executable();
    fs::set_permissions(site.conf("10-podnet.conflist"), Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(site.scene.path("net.d"), Permissions::from_mode(0o711)).unwrap();
    thread::scope(|scope| {
        let runtime = Runtime::start(scope, &site);
        let loads = |chain: Vec<String>| await_true("the runtime has loaded it", || runtime.chain() == chain);
        site.install_with(&DROP_IN);
        assert_dropped_in(&site);
        loads(bridge_and_podeip());
        let modes = ["podnet/podeip.conf", "podnet"].map(|name| site.conf(name).metadata().unwrap().mode() & 0o7777);
        assert_eq!(modes, [0o640, 0o711], "those of the list and its directory");

        site.install_with(&LIST);
        assert_in_list(&site);
        loads(bridge_and_podeip());
        let stanza = fs::read_to_string(site.conf("10-podnet.conflist")).unwrap();
        site.write_conf("10-podnet.conflist", &stanza.replace("\"config\"", "\"logLevel\":\"debug\",\"config\""));
        let moved = site.install_with(&DROP_IN);
        assert!(moved.stdout.contains("podnet/podeip.conf") && moved.stdout.contains("taken out of"), "{moved:?}");
        assert_dropped_in(&site);
        assert!(folder(&site)["podeip.conf"].contains("\"logLevel\": \"debug\""));
        loads(bridge_and_podeip());
        site.install_with(&LIST);
        assert!(fs::read_to_string(site.conf("10-podnet.conflist")).unwrap().contains("\"debug\""));
        loads(bridge_and_podeip());

        assert_eq!(site.uninstall(&[]).code, Some(0));
        loads(vec!["bridge".into()]);
    });
}

#[test]
fn what_is_right_is_not_written_again_and_what_is_wrong_is_put_right() {
    let site = Site::with_executable();
    site.install_with(&DROP_IN);
    let stamps = || {
        let files = [".", "10-podnet.conflist", "podnet", "podnet/podeip.conf"].map(|name| site.conf(name));
        files.map(|file| file.metadata().map(|found| (found.ino(), found.ctime(), found.ctime_nsec())).unwrap())
    };
    let stamped = stamps();
    assert_eq!(site.install_with(&DROP_IN).stderr, "everything is as it should be\n");
    assert_eq!(stamps(), stamped);

    let right = folder(&site);
    for wrong in ["", "{\"type\":", "{\"type\":\"podeip\",\"stateDir\":\"/elsewhere\"}"] {
        site.write_conf("podnet/podeip.conf", wrong);
        site.install_with(&DROP_IN);
        assert_eq!(folder(&site), right, "{wrong:?}");
    }
    // A second one by another name, and one for a network that the primary calls something else by now.
    site.write_conf("podnet/50-ours.conf", "{\"type\":\"podeip\"}");
    site.write_conf("podnet/60-other.conf", "{\"type\":\"tuning\"}");
    for (network, marker) in [("oldnet", ".made-by-podeip"), ("emptied", ".made-by-podeip"), ("theirs", "README")] {
        fs::create_dir(site.conf(network)).unwrap();
        site.write_conf(&format!("{network}/{marker}"), "");
    }
    site.write_conf("oldnet/podeip.conf", &right["podeip.conf"]);
    site.install_with(&DROP_IN);
    assert_eq!(folder(&site).into_keys().collect::<Vec<_>>(), ["60-other.conf", "podeip.conf"]);
    assert_eq!(["oldnet", "emptied", "theirs"].map(|name| site.conf(name).exists()), [false, false, true]);

    let answer = site.uninstall(&[]);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer:?}");
    assert_eq!(folder(&site).into_keys().collect::<Vec<_>>(), ["60-other.conf"], "somebody else's stays");
    // The folder goes with the last file in it, unless it was there before.
    fs::remove_dir_all(site.conf("podnet")).unwrap();
    for was_there in [false, true] {
        if was_there {
            fs::create_dir(site.conf("podnet")).unwrap();
        }
        site.place_executable();
        site.install_with(&DROP_IN);
        assert_dropped_in(&site);
        assert_eq!(site.uninstall(&[]).code, Some(0));
        let left = site.conf_files().into_iter().collect::<Vec<_>>();
        assert_eq!(left, [("10-podnet.conflist".into(), BRIDGE.to_owned())]);
        let folder = site.conf("podnet");
        assert_eq!((folder.exists(), folder.is_dir() && !files_in(&folder).is_empty()), (was_there, false));
    }
}

#[test]
fn auto_goes_by_what_the_node_tells_of_its_runtime() {
    let site = Site::with_executable();
    site.install();
    assert_in_list(&site);
    for (version, dropped_in) in [(DOES_NOT, false), (READS, true), ("cri-o://1.33.0", false), (READS, true)] {
        site.tell_runtime(version);
        site.install();
        if dropped_in { assert_dropped_in(&site) } else { assert_in_list(&site) }
    }
    // Nobody can be asked: a list and a folder, for a stanza that is called twice does no harm.
    site.scene.world.cluster.deny("get", "nodes");
    site.install();
    assert_eq!(site.chain_with_drop_ins().unwrap(), ["bridge", "podeip", "podeip"]);
    assert_eq!(site.install().stderr, "everything is as it should be\n");
    site.scene.world.cluster.allow_all();
    site.tell_runtime(DOES_NOT);
    site.install();
    assert_in_list(&site);
    site.scene.world.cluster.deny("get", "nodes");
    assert_eq!(site.install().stderr, "everything is as it should be\n");
    assert_in_list(&site);
}

#[test]
fn where_no_runtime_reads_a_folder_the_stanza_is_in_the_list() {
    let site = Site::with_executable();
    site.tell_runtime(READS);
    let whole = BRIDGE.replace("\"name\"", "\"loadOnlyInlinedPlugins\": true, \"name\"");
    let odd_name = BRIDGE.replace("podnet", "../podnet");
    for (name, content) in [
        ("10-podnet.conflist", whole.as_str()),
        ("10-podnet.conflist", &odd_name),
        ("10-podnet.conf", r#"{"cniVersion": "1.0.0", "name": "podnet", "type": "bridge"}"#),
    ] {
        fs::remove_file(site.conf("10-podnet.conflist")).unwrap();
        site.write_conf(name, content);
        for place in ["auto", "drop-in"] {
            site.install_with(&["--stanza-in", place]);
            assert_in_list(&site);
        }
        assert_eq!(site.uninstall(&[]).code, Some(0));
        site.place_executable();
        let _ = fs::remove_file(site.conf("10-podnet.conf"));
        site.write_conf("10-podnet.conflist", BRIDGE);
    }
    // A list that becomes whole takes the stanza back.
    site.install();
    assert_dropped_in(&site);
    site.write_conf("10-podnet.conflist", &whole);
    site.install();
    assert_in_list(&site);
    // Something that is no folder is in the way, and stays.
    site.write_conf("10-podnet.conflist", BRIDGE);
    site.write_conf("podnet", "a file");
    site.install();
    assert_eq!(
        (site.chain().unwrap(), fs::read_to_string(site.conf("podnet")).unwrap().as_str()),
        (bridge_and_podeip(), "a file")
    );
    // Terway's list has it from the ConfigMap.
    fs::remove_file(site.conf("10-podnet.conflist")).unwrap();
    site.write_conf("10-terway.conflist", &BRIDGE.replace("podnet", "terway-chainer"));
    site.install();
    assert_eq!((site.chain().unwrap(), site.conf("terway-chainer").exists()), (bridge_and_podeip(), false));
    site.install_with(&DROP_IN);
    assert_eq!(site.chain().unwrap(), ["bridge"], "who says so gets it");
    assert_eq!(site.chain_with_drop_ins().unwrap(), bridge_and_podeip());
}

#[test]
fn the_agent_keeps_it_where_it_is_to_be() {
    let site = Site::with_executable();
    site.tell_runtime(READS);
    let keeper = site.keeper();
    let is_right = || folder(&site).contains_key("podeip.conf") && site.chain().is_ok_and(|chain| chain == ["bridge"]);
    await_true("it is dropped in", is_right);
    let right = folder(&site);
    let undo: [fn(&Site); 5] = [
        |site| fs::remove_file(site.conf("podnet/podeip.conf")).unwrap(),
        |site| fs::remove_dir_all(site.conf("podnet")).unwrap(),
        |site| site.write_conf("podnet/podeip.conf", "{"),
        |site| site.write_conf("10-podnet.conflist", &BRIDGE.replace("}]", "},{\"type\":\"podeip\"}]")),
        |site| site.write_conf("10-podnet.conflist", BRIDGE),
    ];
    for undo in undo {
        undo(&site);
        await_true("it is put right", || is_right() && folder(&site) == right);
    }
    // A rewrite by the primary leaves no moment without the stanza.
    for mtu in 1000..1050 {
        fs::write(site.conf("rival.tmp"), BRIDGE.replace("1500", &mtu.to_string())).unwrap();
        fs::rename(site.conf("rival.tmp"), site.conf("10-podnet.conflist")).unwrap();
        assert_eq!(site.chain_with_drop_ins().unwrap(), bridge_and_podeip());
    }
    site.write_conf("10-podnet.conflist", BRIDGE);
    drop(keeper);
    // The node comes back with an older runtime.
    site.tell_runtime(DOES_NOT);
    let _keeper = site.keeper();
    await_true("it is in the list again", || site.is_chained() && !site.conf("podnet").exists());
    let log = site.agent_log();
    assert!(log.contains("containerd://1.7.24, is not known to read drop-in folders for ADD and DEL"), "{log}");
}

#[test]
fn killed_at_any_moment_on_the_way_the_runtime_has_the_stanza() {
    let site = Site::with_executable();
    site.install_with(&LIST);
    thread::scope(|scope| {
        let runtime = Runtime::start(scope, &site);
        let mut moved = BTreeMap::from([(true, 0), (false, 0)]);
        for nth in 0..KILLS {
            let there = nth % 2 == 0;
            // From a whole installation in the other place, which takes as long as this one will.
            let started = Instant::now();
            site.install_with(if there { &LIST } else { &DROP_IN });
            let whole = started.elapsed();
            await_true("the runtime has it", || runtime.chain() == bridge_and_podeip());
            let mut child = site.installing(if there { &DROP_IN } else { &LIST }).spawn().unwrap();
            thread::sleep(whole * 2 * (nth / 2) / (KILLS / 2));
            child.kill().unwrap();
            child.wait().unwrap();
            let found = site.chain_with_drop_ins().unwrap();
            let podeips = found.iter().filter(|name| *name == "podeip").count();
            assert!(found[0] == "bridge" && [1, 2].contains(&podeips) && found.len() == 1 + podeips, "{found:?}");
            // Or will, when the file that was on its way out is gone.
            let on_its_way = site.conf(".podeip-tmp-removed").exists();
            await_true("the runtime has heard of it", || on_its_way || runtime.chain() == found);
            *moved.get_mut(&there).unwrap() += u32::from(site.conf("podnet/podeip.conf").exists() == there);
        }
        assert!(moved.values().all(|times| *times > 0), "no kill came late enough: {moved:?}");
        site.install_with(&DROP_IN);
        assert_eq!(folder(&site).len(), 1);
        let list: Value = serde_json::from_str(&site.conf_files()["10-podnet.conflist"]).unwrap();
        assert_eq!(list["plugins"], json!([{"type": "bridge", "mtu": 1500}]));
    });
}

/// As with the list and the folder side by side, or one runtime's list that another has not loaded yet.
#[test]
fn a_stanza_that_is_called_twice_for_a_pod_gives_it_one_eip() {
    let site = Site::with_executable();
    site.install_with(&DROP_IN);
    let scene = &site.scene;
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    for _ in 0..2 {
        scene.add(&pod).assert_added(&pod);
    }
    scene.assert_served(&pod);
    assert_eq!(scene.on(pod.ip).len(), 1, "{}", scene.log());
    assert_eq!(scene.records().len(), 1);
    scene.delete_pod(&pod);
    for _ in 0..2 {
        scene.del(&pod);
    }
    scene.assert_nothing_left();
}
