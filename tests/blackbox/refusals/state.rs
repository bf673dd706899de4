//! State that cannot be used: of a newer podeip, with something else in its place, or broken. None of it is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::scene::Scene;

#[test]
fn state_of_a_newer_podeip_is_left_alone() {
    let scene = Scene::new();
    let (pod, plain) = (scene.asking_pod(), scene.plain_pod());
    fs::create_dir(scene.state_dir()).unwrap();
    fs::set_permissions(scene.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    let file = scene.state_dir().join("state.json");
    let newer =
        json!({"version": 2, "attachments": {"of": "another shape"}, "ip": pod.ip, "of": pod.container_id}).to_string();
    fs::write(&file, &newer).unwrap();
    let words = ["state.json", "version 2", "install the newer podeip"];
    for _ in 0..2 {
        scene.assert_refused(&scene.add(&pod), 108, &words);
        scene.assert_refused(&scene.call("CHECK", &pod), 108, &words);
        // What it had cannot be known, so neither can it be undone.
        scene.assert_refused(&scene.call("DEL", &pod), 108, &words);
        scene.add(&plain).assert_added(&plain);
        // Of this sandbox it had nothing, in whatever shape.
        scene.del(&plain);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), newer);
    assert!(scene.events(&pod, "EIPFailed").iter().any(|message| message.contains("version 2")));
    let gc = scene.podeip(&["gc"]);
    assert!(gc.code != Some(0) && gc.stderr.contains("version 2"), "{gc:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), newer);
}

#[test]
fn something_in_the_states_place() {
    let scene = Scene::new();
    let (pod, plain) = (scene.asking_pod(), scene.plain_pod());
    let file = scene.state_dir().join("state.json");
    fs::create_dir_all(&file).unwrap();
    fs::set_permissions(scene.state_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(file.join("keep"), "me").unwrap();
    let refused = |words: &[&str]| {
        scene.assert_refused(&scene.add(&pod), 108, words);
        scene.add(&plain).assert_added(&plain);
        let del = scene.call("DEL", &pod);
        del.assert_error(108, words);
        // go-cni takes these words for success.
        assert!(!del.stdout.to_lowercase().contains("no such file") && !del.stdout.contains("not found"), "{del:?}");
    };
    refused(&["state.json", "regular file", "move that away"]);
    assert_eq!(fs::read_to_string(file.join("keep")).unwrap(), "me");
    fs::remove_dir_all(&file).unwrap();

    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    refused(&["state.json", "move that away"]);
    fs::remove_file(&file).unwrap();

    fs::set_permissions(scene.state_dir(), fs::Permissions::from_mode(0o777)).unwrap();
    refused(&["cannot be trusted", "everybody may write", "chmod 0700"]);
    fs::remove_dir_all(scene.state_dir()).unwrap();

    scene.write("state", "a file");
    refused(&["cannot be trusted", "not a directory"]);
    fs::remove_file(scene.state_dir()).unwrap();
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
}

#[test]
fn broken_state_is_set_aside_and_the_pod_keeps_its_eip() {
    for garbage in ["", "{", "\u{0}\u{0}\u{0}", "{\"version\":0,\"attachments\":[]}"] {
        let scene = Scene::new();
        let pod = scene.asking_pod();
        scene.add(&pod).assert_added(&pod);
        let eip = scene.assert_served(&pod);
        let file = scene.state_dir().join("state.json");
        fs::write(&file, garbage).unwrap();

        let again = pod.restarted();
        scene.add(&again).assert_error(108, &["state.json", "could not be understood", "moved to"]);
        let aside: Vec<_> = fs::read_dir(scene.state_dir())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("corrupt"))
            .collect();
        assert_eq!(aside.len(), 1, "{aside:?}");
        assert_eq!(fs::read_to_string(&aside[0]).unwrap(), garbage);

        scene.add(&again).assert_added(&again);
        assert_eq!(scene.assert_served(&again).id, eip.id);
        assert_eq!(scene.ever_ours().len(), 1);
        let gc = scene.gc();
        assert!(gc.stderr.contains(aside[0].to_str().unwrap()), "it is mentioned until it is removed: {gc:?}");
        scene.delete_pod(&pod);
        scene.del(&again);
        scene.assert_nothing_left();
    }
}

/// A verb reads its own record and no other: a broken one among them is found by who reads all.
#[test]
fn a_broken_record_is_nobody_elses_trouble() {
    let scene = Scene::new();
    let pod = scene.asking_pod();
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod);
    let file = scene.state_dir().join("state.json");
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, whole.replace("[{", "[{},{")).unwrap();

    let again = pod.restarted();
    scene.add(&again).assert_added(&again);
    assert_eq!(scene.assert_served(&again).id, eip.id);
    let gc = scene.gc();
    assert!(gc.stderr.contains("could not be understood"), "{gc:?}");
    scene.delete_pod(&pod);
    scene.del(&again);
    scene.gc();
    assert!(scene.ours().is_empty(), "{}", scene.log());
}
