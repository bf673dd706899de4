//! Tests of the store: real threads, processes and kills, broken files, full disks.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::format::{Attachment, Phase, StateFile, VERSION};
use super::lock::LivingAgent;
use super::{StateError, Store};
use crate::deadline::Deadline;
use crate::durable;
use crate::names::{ClientToken, ContainerId, PodRef, PodUid};
use crate::strategy::Strategy;

/// Names what a test wants the test binary to do when it starts it again.
const ROLE: &str = "PODEIP_TEST_ROLE";
const DIRECTORY: &str = "PODEIP_TEST_DIRECTORY";

/// Far more than a loaded machine needs; nothing waits for it when all is well.
const AMPLE: Duration = Duration::from_secs(60);
const BRIEF: Duration = Duration::from_millis(50);

fn soon() -> Deadline {
    Deadline::after(AMPLE)
}

fn temporary() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("podeip")).unwrap();
    (directory, store)
}

fn attachment(id: &str) -> Attachment {
    Attachment {
        container_id: ContainerId::new(id),
        ifname: "eth0".into(),
        netns: "/var/run/netns/x".into(),
        pod: PodRef { namespace: "default".into(), name: "web".into(), uid: PodUid::new("uid") },
        phase: Phase::Intent,
        client_token: ClientToken::new("token"),
        generation: 0,
        allocation: None,
        eip: None,
        binding: None,
        strategy: Strategy::Follow,
        bandwidth_package: None,
        published: false,
        created_at: "2026-11-22T14:55:00Z".parse().unwrap(),
        updated_at: "2026-11-22T14:55:00Z".parse().unwrap(),
        last_error: None,
    }
}

impl Store {
    /// What the store's own changes do with a file that is not searched record by record: any change, of the whole.
    fn update<R>(&self, deadline: Deadline, change: impl FnOnce(&mut Vec<Attachment>) -> R) -> Result<R, StateError> {
        let _lock = self.lock_to_write(deadline)?;
        self.change_all(change)
    }
}

fn add(store: &Store, id: &str) {
    store.update(soon(), |all| all.push(attachment(id))).unwrap();
}

fn ids(store: &Store) -> Vec<String> {
    store.attachments().unwrap().iter().map(|attachment| attachment.container_id.to_string()).collect()
}

fn state_file(store: &Store) -> std::path::PathBuf {
    store.directory().join("state.json")
}

fn write_state(store: &Store, content: impl AsRef<[u8]>) {
    add(store, "before");
    fs::write(state_file(store), content).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

/// Starts this test binary again to play `role` on the store.
fn play(role: &str, store: &Store) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "state::tests::role_of_a_child_process", "--nocapture"])
        .env(ROLE, role)
        .env(DIRECTORY, store.directory())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Starts a child and waits until it says that it holds what it is to hold.
fn holding(role: &str, store: &Store) -> Child {
    let mut child = play(role, store);
    let said = BufReader::new(child.stdout.take().unwrap()).lines().any(|line| line.unwrap().contains("HOLDING"));
    assert!(said, "the child ended without holding");
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Not a test by itself: what [`play`] runs in the child.
#[test]
fn role_of_a_child_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let store = Store::open(Path::new(&std::env::var(DIRECTORY).unwrap())).unwrap();
    let hold = || {
        println!("HOLDING");
        thread::sleep(AMPLE);
    };
    match role.as_str() {
        "hold pod" => {
            let _lock = store.lock_pod("default", "web", soon()).unwrap();
            hold();
        }
        "hold agent" => {
            let _lock = store.lock_agent(soon()).unwrap();
            hold();
        }
        "hold state" => store.update(soon(), |_| hold()).unwrap(),
        "add five" => (0..5).for_each(|n| add(&store, &format!("process {} {n}", std::process::id()))),
        "add for ever" => {
            println!("HOLDING");
            for n in 0..usize::MAX {
                store.update(soon(), |all| *all = vec![attachment(&n.to_string()); 1 + n % 50]).unwrap();
            }
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn a_missing_directory_is_empty_and_is_not_created_by_reading() {
    let (_keep, store) = temporary();
    assert_eq!(store.attachments().unwrap(), []);
    assert!(!store.agent_alive());
    assert_eq!(store.throttle_note().wait("AllocateEipAddress"), Duration::ZERO);
    assert_eq!(store.set_aside().unwrap(), [] as [std::path::PathBuf; 0]);
    assert_eq!(store.sweep_pod_locks().unwrap(), 0);
    assert!(!store.directory().exists());
}

#[test]
fn what_was_put_in_is_there_for_the_next_process_with_tight_modes() {
    let (_keep, store) = temporary();
    let old = store.update(soon(), |all| {
        all.push(attachment("a"));
        all.len()
    });
    assert_eq!(old.unwrap(), 1);
    assert_eq!(ids(&Store::open(store.directory()).unwrap()), ["a"]);
    let _pod = store.lock_pod("default", "web", soon()).unwrap();
    assert_eq!(mode(store.directory()), 0o700);
    assert_eq!(mode(&store.directory().join("pods")), 0o700);
    assert_eq!(mode(&state_file(&store)), 0o600);
    assert_eq!(mode(&store.directory().join("state.lock")), 0o600);
    let pod_lock = fs::read_dir(store.directory().join("pods")).unwrap().next().unwrap().unwrap();
    assert_eq!(mode(&pod_lock.path()), 0o600);
    // printf default/web | sha1sum
    assert_eq!(pod_lock.file_name(), "5887b1109c74d4c10c85c67277713f1db62d8bae.lock");
}

#[test]
fn nothing_is_written_when_nothing_changed_and_the_lock_file_stays_the_same() {
    let (_keep, store) = temporary();
    store.update(soon(), |_| ()).unwrap();
    assert!(!state_file(&store).exists());
    add(&store, "a");
    let inode = |name: &str| store.directory().join(name).metadata().unwrap().ino();
    let (file, lock) = (inode("state.json"), inode("state.lock"));
    store.update(soon(), |all| all[0].last_error = None).unwrap();
    assert_eq!(inode("state.json"), file);
    add(&store, "b");
    assert_ne!(inode("state.json"), file);
    assert_eq!(inode("state.lock"), lock);
}

#[test]
fn one_record_is_changed_as_it_is_by_then_and_the_others_are_not_read() {
    let (_keep, store) = temporary();
    store.update(soon(), |all| all.extend(["a", "b"].map(attachment))).unwrap();
    // A reading of all would find this one broken.
    let broken = fs::read_to_string(state_file(&store)).unwrap().replacen("\"Intent\"", "\"Intend\"", 1);
    fs::write(state_file(&store), &broken).unwrap();
    let amend = |id: &str, phase| {
        let change = |record: &mut Attachment| record.phase = phase;
        store.amend(soon(), (&ContainerId::new(id), "eth0"), change).unwrap();
    };
    let inode = || state_file(&store).metadata().unwrap().ino();
    let before = inode();
    amend("b", Phase::Intent);
    assert_eq!(inode(), before, "nothing changed");
    amend("b", Phase::Held);
    assert_eq!(fs::read_to_string(state_file(&store)).unwrap(), broken.replace("\"Intent\"", "\"Held\""));

    fs::write(state_file(&store), broken.replace("\"Intend\"", "\"Intent\"").replace(',', ", ")).unwrap();
    amend("a", Phase::Bound);
    amend("c", Phase::Bound);
    let phases: Vec<Phase> = store.attachments().unwrap().iter().map(|record| record.phase).collect();
    assert_eq!(phases, [Phase::Bound, Phase::Intent], "and however it is written");
}

#[test]
fn version_one_keeps_its_shape() {
    let fixture = include_str!("../../../tests/fixtures/state/v1.json");
    let file: StateFile = serde_json::from_str(fixture).unwrap();
    assert_eq!(file.version, VERSION);
    assert_eq!(file.attachments[0].binding.as_ref().unwrap().private_ip.to_string(), "10.0.3.17");
    assert_eq!(file.attachments[0].strategy.to_string(), "5m30s");
    assert_eq!(file.attachments[1].phase, Phase::Unbinding);
    assert_eq!(file.attachments[2].eip, None);
    let written: serde_json::Value = serde_json::to_value(&file).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(fixture).unwrap());

    let (_keep, store) = temporary();
    write_state(&store, fixture);
    assert_eq!(store.attachments().unwrap(), file.attachments);
    store.update(soon(), |all| all[0].published = false).unwrap();
    assert_eq!(store.attachments().unwrap()[1..], file.attachments[1..]);
}

#[test]
fn a_search_by_value_finds_whole_values_and_hides_no_trouble() {
    let (_keep, store) = temporary();
    assert_eq!(store.attachments_naming("10.0.3.17").unwrap(), []);
    store.update(soon(), |all| all.extend([attachment("10.0.3.17"), attachment("a\"b")])).unwrap();
    for (present, count) in [("10.0.3.17", 1), ("a\"b", 1), ("eth0", 2)] {
        assert_eq!(store.attachments_naming(present).unwrap().len(), count, "{present}");
    }
    for absent in ["10.0.3.1", "0.3.17", "10.0.3.170", "a"] {
        assert_eq!(store.attachments_naming(absent).unwrap(), [], "{absent}");
    }
    let escaped = fs::read_to_string(state_file(&store)).unwrap().replace("10.0.3.17", "\\u0031\\u0030.0.3.17");
    fs::write(state_file(&store), escaped).unwrap();
    assert_eq!(store.attachments_naming("10.0.3.17").unwrap().len(), 2);
    fs::write(state_file(&store), r#"{"version":2,"attachments":["present"]}"#).unwrap();
    assert_eq!(store.attachments_naming("absent").unwrap(), []);
    assert!(matches!(store.attachments_naming("present"), Err(StateError::NewerVersion { .. })));
    fs::write(state_file(&store), r#"{"version":1,"attachments":[{"#).unwrap();
    assert!(matches!(store.attachments_naming("absent"), Err(StateError::Corrupt { .. })));
}

#[test]
fn every_phase_has_its_name() {
    use Phase::*;
    let names = serde_json::to_string(&[Intent, Allocated, Binding, Bound, Unbinding, Held, Releasing]).unwrap();
    assert_eq!(names, r#"["Intent","Allocated","Binding","Bound","Unbinding","Held","Releasing"]"#);
}

#[test]
fn a_broken_file_is_set_aside_once_and_the_state_starts_empty() {
    let half = br#"{"version":1,"attachments":[{"contai"#;
    let unknown_phase = include_str!("../../../tests/fixtures/state/v1.json").replace("\"Bound\"", "\"Bond\"");
    let broken: [&[u8]; 6] = [b"", half, b"\0\0\0\0", b"{\"version\":0}", b"[]", unknown_phase.as_bytes()];
    for content in broken {
        for by_reading in [true, false] {
            let (_keep, store) = temporary();
            write_state(&store, content);
            let error = if by_reading {
                store.attachments().unwrap_err()
            } else {
                store.update(soon(), |_| panic!("changed a broken file")).unwrap_err()
            };
            let StateError::Corrupt { path, moved_to, .. } = &error else { panic!("{error}") };
            assert_eq!(*path, state_file(&store));
            assert_eq!(fs::read(moved_to).unwrap(), content);
            assert_eq!(&store.set_aside().unwrap(), std::slice::from_ref(moved_to));
            let text = error.to_string();
            assert!(text.contains("state.json ") && text.contains(".corrupt-20"), "{text}");
            assert_eq!(store.attachments().unwrap(), []);
            add(&store, "after");
            assert_eq!(ids(&store), ["after"]);
        }
    }
}

#[test]
fn readers_that_find_a_broken_file_at_once_set_it_aside_once() {
    let (_keep, store) = temporary();
    write_state(&store, "{");
    let reports = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| match store.attachments() {
                Ok(all) => assert_eq!(all, []),
                Err(StateError::Corrupt { .. }) => {
                    reports.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) => panic!("{error}"),
            });
        }
    });
    assert_eq!(reports.into_inner(), 1);
    assert_eq!(store.set_aside().unwrap().len(), 1);
}

#[test]
fn a_newer_file_is_never_touched() {
    let newer = [
        r#"{"version":2,"attachments":[]}"#,
        r#"{"attachments":{"by":"name"},"version":2}"#,
        r#"{"version":4294967298}"#,
    ];
    for content in newer {
        let (_keep, store) = temporary();
        write_state(&store, content);
        for _ in 0..2 {
            let read = store.attachments().unwrap_err();
            let changed = store.update(soon(), |_| panic!("changed a newer file")).unwrap_err();
            for error in [read, changed] {
                assert!(matches!(error, StateError::NewerVersion { known: VERSION, .. }), "{error}");
                assert!(error.to_string().contains("install the newer podeip again"), "{error}");
            }
        }
        assert_eq!(fs::read_to_string(state_file(&store)).unwrap(), content);
    }
}

#[test]
fn what_cannot_be_read_is_reported_and_left_alone() {
    let in_its_place: [fn(&Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/etc/passwd", path).unwrap(),
        |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
    ];
    for put in in_its_place {
        let (_keep, store) = temporary();
        fs::create_dir(store.directory()).unwrap();
        put(&state_file(&store));
        let read = store.attachments().unwrap_err();
        let changed = store.update(soon(), |_| panic!("changed what cannot be read")).unwrap_err();
        for error in [read, changed] {
            assert!(matches!(&error, StateError::Read { path, .. } if *path == state_file(&store)), "{error}");
            assert!(error.to_string().contains("not a regular file"), "{error}");
        }
        assert!(!state_file(&store).symlink_metadata().unwrap().is_file());
        assert!(store.set_aside().unwrap().is_empty());
    }
}

#[test]
fn a_directory_that_others_can_change_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("everybody may write to it (mode 1777)"), "{error}");

    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let store = Store::open(directory.path()).unwrap();
    add(&store, "a");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(store.attachments(), Err(StateError::Untrusted { .. })));
    assert!(matches!(store.update(soon(), |_| ()), Err(StateError::Untrusted { .. })));
    assert!(matches!(store.try_lock_pod("a", "b"), Err(StateError::Untrusted { .. })));

    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    match std::os::unix::fs::chown(directory.path(), Some(65534), None) {
        Ok(()) => {
            let error = Store::open(directory.path()).unwrap_err();
            assert!(error.to_string().contains("belongs to user 65534, and podeip runs as user 0"), "{error}");
        }
        Err(error) => println!("skipped the foreign owner: {error}"),
    }
}

#[test]
fn a_file_in_the_directorys_place_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open(file.path()).unwrap_err();
    assert!(error.to_string().contains("it is not a directory"), "{error}");
}

#[test]
fn a_lock_file_that_is_a_link_is_refused() {
    let (keep, store) = temporary();
    fs::create_dir(store.directory()).unwrap();
    symlink(keep.path().join("elsewhere"), store.directory().join("state.lock")).unwrap();
    assert!(matches!(store.update(soon(), |_| ()), Err(StateError::Write { .. })));
    assert!(!keep.path().join("elsewhere").exists());
}

#[test]
fn two_live_guards_of_a_pod_exclude_each_other() {
    let (_keep, store) = temporary();
    let held = store.lock_pod("default", "web", soon()).unwrap();
    assert!(store.try_lock_pod("default", "web").unwrap().is_none());
    let started = Instant::now();
    let error = store.lock_pod("default", "web", Deadline::after(BRIEF)).unwrap_err();
    assert!(matches!(error, StateError::Locked { waited, .. } if waited >= BRIEF), "{error}");
    assert!(error.to_string().contains("lslocks"), "{error}");
    assert!(started.elapsed() < AMPLE / 2);
    assert!(store.try_lock_pod("default", "web-2").unwrap().is_some(), "another pod is free");
    drop(held);
    assert!(store.try_lock_pod("default", "web").unwrap().is_some());
    assert_eq!(fs::read_dir(store.directory().join("pods")).unwrap().count(), 0, "the last holder removes the file");
}

#[test]
fn a_wait_that_was_given_up_does_not_take_the_lock_later() {
    let (_keep, store) = temporary();
    let held = store.lock_agent(soon()).unwrap();
    store.lock_agent(Deadline::after(BRIEF)).unwrap_err();
    drop(held);
    // The abandoned thread gets the lock now and must give it back.
    let _mine = store.lock_agent(soon()).unwrap();
}

#[test]
fn a_free_lock_is_taken_even_after_the_deadline() {
    let (_keep, store) = temporary();
    let passed = Deadline::after(Duration::ZERO);
    store.update(passed, |all| all.push(attachment("late"))).unwrap();
    let _lock = store.lock_pod("default", "web", passed).unwrap();
    assert_eq!(ids(&store), ["late"]);
}

#[test]
fn a_killed_holder_frees_the_pod_and_its_file_is_swept() {
    let (_keep, store) = temporary();
    let child = holding("hold pod", &store);
    assert!(store.try_lock_pod("default", "web").unwrap().is_none());
    assert_eq!(store.sweep_pod_locks().unwrap(), 0, "a living holder keeps its file");
    kill(child);
    assert_eq!(store.sweep_pod_locks().unwrap(), 1);
    assert_eq!(fs::read_dir(store.directory().join("pods")).unwrap().count(), 0);
    assert!(store.try_lock_pod("default", "web").unwrap().is_some());
}

#[test]
fn a_waiter_gets_the_pod_when_its_holder_is_killed() {
    let (_keep, store) = temporary();
    let child = holding("hold pod", &store);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| store.lock_pod("default", "web", soon()));
        thread::sleep(BRIEF);
        assert!(!waiter.is_finished());
        kill(child);
        drop(waiter.join().unwrap().unwrap());
    });
}

#[test]
fn a_change_waits_for_another_process_no_longer_than_allowed() {
    let (_keep, store) = temporary();
    add(&store, "a");
    let child = holding("hold state", &store);
    let error = store.update(Deadline::after(BRIEF), |_| panic!("changed without the lock")).unwrap_err();
    assert!(matches!(error, StateError::Locked { .. }), "{error}");
    assert_eq!(ids(&store), ["a"], "reading needs no lock");
    kill(child);
    add(&store, "b");
    assert_eq!(ids(&store), ["a", "b"]);
}

#[test]
fn an_agent_is_alive_as_long_as_its_process() {
    let (_keep, store) = temporary();
    let child = holding("hold agent", &store);
    assert!(store.agent_alive());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(store.agent_alive()));
        }
    });
    kill(child);
    assert!(!store.agent_alive());
    assert_eq!(store.living_agent(), None, "what a dead one has written does not count");
    fs::write(store.directory().join("agent.lock"), "a version with a very long name").unwrap();
    let mut mine = store.lock_agent(soon()).unwrap();
    let says = |keeps_installation| LivingAgent { version: env!("CARGO_PKG_VERSION").into(), keeps_installation };
    assert_eq!(store.living_agent(), Some(says(false)));
    mine.note_keeping();
    assert_eq!(store.living_agent(), Some(says(true)));
    assert!(store.agent_alive(), "whoever holds it, even in this process");
}

#[test]
fn a_pipe_in_the_place_of_the_agents_lock_is_no_agent_and_holds_nobody_up() {
    let (_keep, store) = temporary();
    fs::create_dir(store.directory()).unwrap();
    nix::unistd::mkfifo(&store.directory().join("agent.lock"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let asked = store.clone();
    thread::spawn(move || tell.send((asked.agent_alive(), asked.living_agent())));
    assert_eq!(told.recv_timeout(AMPLE / 12), Ok((false, None)));
}

#[test]
fn asking_for_an_agent_never_looks_like_one() {
    let (_keep, store) = temporary();
    drop(store.lock_agent(soon()).unwrap());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| assert!(!store.agent_alive())));
        }
    });
}

#[test]
fn changes_from_many_threads_and_processes_at_once_lose_nothing() {
    let (_keep, store) = temporary();
    let children: Vec<Child> = (0..8).map(|_| play("add five", &store)).collect();
    thread::scope(|scope| {
        for thread in 0..50 {
            let store = &store;
            scope.spawn(move || (0..3).for_each(|n| add(store, &format!("thread {thread} {n}"))));
        }
    });
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let all = ids(&store);
    assert_eq!(all.len(), 8 * 5 + 50 * 3);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn a_writer_killed_at_any_moment_leaves_a_whole_file() {
    let (_keep, store) = temporary();
    for round in 0..12 {
        let child = holding("add for ever", &store);
        thread::sleep(Duration::from_millis(1 + 3 * round));
        kill(child);
        let seen = ids(&store);
        assert!(seen.iter().all(|id| *id == seen[0]), "one writer's change is all or nothing");
        store.update(soon(), |all| assert_eq!(all.len(), seen.len())).unwrap();
    }
    assert!(store.set_aside().unwrap().is_empty());
}

#[test]
fn old_leftovers_are_swept_and_young_ones_are_somebodys() {
    let (_keep, store) = temporary();
    add(&store, "a");
    let leftover = |name: &str, age: u64| {
        let path = store.directory().join(name);
        let file = File::create(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        path
    };
    let old = leftover(&format!("{}old", durable::TEMP_PREFIX), 3600);
    let young = leftover(&format!("{}young", durable::TEMP_PREFIX), 0);
    let foreign = leftover("credentials.json", 3600);
    store.attachments().unwrap();
    assert!(old.exists(), "never without the lock");
    store.update(soon(), |_| ()).unwrap();
    assert_eq!([old.exists(), young.exists(), foreign.exists()], [false, true, true]);
}

#[test]
fn a_pod_lock_never_has_two_holders_while_its_file_comes_and_goes() {
    let (_keep, store) = temporary();
    let inside = AtomicUsize::new(0);
    let turns = AtomicUsize::new(0);
    let stay = || {
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders at once");
        thread::yield_now();
        turns.fetch_add(1, Ordering::SeqCst);
        inside.fetch_sub(1, Ordering::SeqCst);
    };
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..60 {
                    let _lock = store.lock_pod("default", "web", soon()).unwrap();
                    stay();
                }
            });
            scope.spawn(|| {
                for _ in 0..200 {
                    if let Some(_lock) = store.try_lock_pod("default", "web").unwrap() {
                        stay();
                    }
                }
            });
        }
    });
    assert!(turns.into_inner() >= 8 * 60);
    assert_eq!(fs::read_dir(store.directory().join("pods")).unwrap().count(), 0);
}

#[test]
fn a_lock_file_taken_away_by_hand_is_not_removed_from_its_next_holder() {
    let (_keep, store) = temporary();
    let first = store.lock_pod("default", "web", soon()).unwrap();
    let path = fs::read_dir(store.directory().join("pods")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(&path).unwrap();
    let _second = store.lock_pod("default", "web", soon()).unwrap();
    drop(first);
    assert!(path.exists());
    assert!(store.try_lock_pod("default", "web").unwrap().is_none());
}

/// Runs `work` on a thread that has a small file system of its own in an empty directory.
fn on_a_tiny_disk(work: impl FnOnce(&Path) + Send) {
    let directory = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let none = None::<&str>;
            let mounted = unshare(CloneFlags::CLONE_NEWNS)
                .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
                .and_then(|()| {
                    let options = Some("size=64k,mode=0700");
                    mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), options)
                });
            match mounted {
                Ok(()) => work(directory.path()),
                Err(error) => println!("skipped: no tmpfs of our own here ({error}; needs root)"),
            }
        });
    });
}

#[test]
fn a_full_disk_leaves_the_old_file_and_says_so() {
    on_a_tiny_disk(|directory| {
        let store = Store::open(directory).unwrap();
        let mut written = 0;
        let error = loop {
            match store.update(soon(), |all| all.push(attachment(&format!("{written:01000}")))) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 64, "the disk never filled up");
        };
        assert!(written > 5, "{error}");
        assert!(matches!(&error, StateError::Write { path, .. } if *path == state_file(&store)), "{error}");
        assert!(error.to_string().contains("disk full"), "{error}");
        assert_eq!(store.attachments().unwrap().len(), written);
        let names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "no temporary file stays: {names:?}");
        store.update(soon(), |all| all.truncate(1)).unwrap();
        assert_eq!(store.attachments().unwrap().len(), 1, "giving room back works while the disk is nearly full");
    });
}

#[test]
fn a_read_only_disk_can_be_read_and_says_so_when_written() {
    on_a_tiny_disk(|directory| {
        let store = Store::open(directory).unwrap();
        add(&store, "a");
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, directory, None::<&str>, flags, None::<&str>).unwrap();
        let error = store.update(soon(), |all| all.clear()).unwrap_err();
        assert!(matches!(error, StateError::Write { .. }), "{error}");
        assert!(error.to_string().contains("read-only"), "{error}");
        assert_eq!(ids(&store), ["a"]);
    });
}

#[test]
fn a_store_travels_between_threads() {
    fn travels<T: Send + Sync + Clone + 'static>() {}
    travels::<Store>();
}
