//! A state directory that is full or cannot be written: nothing is bought that could not be remembered, nothing is lost,
//! and as soon as there is room everything goes on.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use podeip_sim::faults::ServiceMatch;
use podeip_sim::gates::{Moment, Outcome};

use crate::scene::{Answer, Scene};
use crate::stage::{ADDRESS, Case, OTHER_ADDRESS, Stage};

/// What is free in the file system: pages of 4 KiB, and files beside the root directory.
#[derive(Clone, Copy, Debug)]
struct Room {
    pages: u32,
    files: u32,
}

const ENOUGH: Room = Room { pages: 256, files: 256 };
const FULL: Room = Room { pages: 0, files: 0 };
/// Far more than one call of an ADD needs.
const PATIENCE: Duration = Duration::from_secs(15);
/// More than one verb ever has at once.
const MOST: u32 = 7;

/// Runs `test` where what it mounts is nobody else's, and goes with it.
fn with_own_mounts(test: impl FnOnce() + Send) {
    assert!(geteuid().is_root(), "mounting needs root");
    let work = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        test();
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap());
}

/// The stage, with the state directory on a file system of its own.
fn mounted(stage: Stage) -> Stage {
    let directory = stage.scene.state_dir();
    let before: Vec<_> = files(&stage.scene);
    fs::create_dir_all(&directory).unwrap();
    mount_state(&stage.scene, ENOUGH, MsFlags::empty());
    for (name, content) in before {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::write(directory.join(&name), content).unwrap();
        fs::set_permissions(directory.join(&name), mode).unwrap();
    }
    stage
}

fn files(scene: &Scene) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(scene.state_dir()) else { return Vec::new() };
    let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn mount_state(scene: &Scene, Room { pages, files }: Room, flags: MsFlags) {
    let options = format!("mode=700,size={}k,nr_inodes={}", pages * 4, files + 1);
    mount(Some("tmpfs"), &scene.state_dir(), Some("tmpfs"), flags, Some(options.as_str())).unwrap();
}

/// Leaves this much room beside what is there.
fn leave(scene: &Scene, room: Room) {
    let found = nix::sys::statvfs::statvfs(&scene.state_dir()).unwrap();
    let used = u32::try_from(found.blocks() - found.blocks_free()).unwrap();
    let there = u32::try_from(found.files() - found.files_free()).unwrap();
    mount_state(scene, Room { pages: used + room.pages, files: there - 1 + room.files }, MsFlags::MS_REMOUNT);
}

/// Every amount of room that may be too little, of either kind.
fn scarce() -> impl Iterator<Item = Room> {
    let pages = (1..MOST).map(|pages| Room { pages, ..ENOUGH });
    pages.chain((0..MOST).map(|files| Room { files, ..ENOUGH }))
}

fn assert_told(answer: &Answer, scene: &Scene) {
    let (_, text) = answer.error();
    for words in ["No space left on device", scene.state_dir().to_str().unwrap()] {
        assert!(text.contains(words), "{words:?} is missing in: {text}");
    }
}

/// There is room again: the runtime goes on with a new sandbox, and the pod ends as any other.
fn goes_on(stage: &Stage) {
    leave(&stage.scene, ENOUGH);
    stage.scene.del(&stage.pod);
    let next = stage.pod.restarted().at(OTHER_ADDRESS);
    stage.add(&next);
    stage.assert_served(&next);
    stage.finish(&next);
}

#[test]
fn add_buys_nothing_that_it_could_not_remember() {
    with_own_mounts(|| {
        let (mut failed, mut served) = (0, 0);
        for room in scarce() {
            let stage = mounted(Stage::new(Case::Plain));
            leave(&stage.scene, room);
            let answer = stage.scene.add(&stage.pod);
            if answer.code == Some(0) {
                served += 1;
                stage.assert_served(&stage.pod);
            } else {
                failed += 1;
                assert_told(&answer, &stage.scene);
                let bought = stage.scene.ours().len();
                assert!(bought <= stage.scene.records().len(), "{room:?}: {bought} bought, and no record of it");
            }
            goes_on(&stage);
        }
        println!("ADD with little room: {failed} refused, {served} served");
        assert!(failed >= 3 && served >= 3, "{failed} refused, {served} served");
    });
}

/// The EIP is bound when the disk fills up: ADD fails, and nobody keeps the EIP whom the runtime takes for failed.
#[test]
fn add_that_cannot_remember_its_end_is_undone() {
    with_own_mounts(|| {
        let stage = mounted(Stage::new(Case::Plain));
        let scene = &stage.scene;
        let gate = scene.world.faults.gate_on(ServiceMatch::Kube, "patch pods/status", 1, Moment::BeforeEffect);
        let adding = scene.spawn("ADD", &stage.pod);
        assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
        assert_eq!(scene.on(ADDRESS.into()).len(), 1);
        leave(scene, FULL);
        gate.release(Outcome::Continue);
        assert_told(&Answer::from(adding.wait_with_output().unwrap()), scene);
        assert!(scene.on(ADDRESS.into()).is_empty(), "{}", scene.log());
        goes_on(&stage);
    });
}

/// What DEL cannot write down it reports, so that the runtime tries again.
#[test]
fn del_loses_nothing() {
    with_own_mounts(|| {
        let mut failed = 0;
        for room in scarce() {
            let stage = mounted(Stage::deleted(Case::Plain));
            leave(&stage.scene, room);
            let answer = stage.scene.call("DEL", &stage.pod);
            if answer.code != Some(0) {
                failed += 1;
                assert_told(&answer, &stage.scene);
            }
            leave(&stage.scene, ENOUGH);
            stage.scene.del(&stage.pod);
            stage.scene.gc();
            stage.assert_ended();
        }
        println!("DEL with little room: {failed} refused");
        assert!(failed >= 2, "{failed} refused");
    });
}

#[test]
fn a_state_directory_that_cannot_be_written_keeps_no_plain_pod_from_starting() {
    with_own_mounts(|| {
        let stage = mounted(Stage::new(Case::Plain));
        let scene = &stage.scene;
        mount_state(scene, ENOUGH, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        let other = scene.pod("plain", [10, 219, 0, 9], &[]);
        scene.add(&other).assert_added(&other);
        scene.del(&other);

        let refused = scene.add(&stage.pod);
        let (_, text) = refused.error();
        assert!(text.contains("Read-only file system") && text.contains(scene.state_dir().to_str().unwrap()), "{text}");
        assert!(scene.world.calls.named("AllocateEipAddress").is_empty());

        mount_state(scene, ENOUGH, MsFlags::MS_REMOUNT);
        goes_on(&stage);
    });
}

#[test]
fn a_state_directory_that_becomes_read_only_loses_no_eip() {
    with_own_mounts(|| {
        let stage = mounted(Stage::deleted(Case::Plain));
        let scene = &stage.scene;
        mount_state(scene, ENOUGH, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        let refused = scene.call("DEL", &stage.pod);
        assert!(refused.error().1.contains("Read-only file system"), "{refused:?}");
        assert_ne!(scene.podeip(&["gc"]).code, Some(0));
        assert_eq!(scene.on(ADDRESS.into()).len(), 1, "nothing was done that could not be written down");
        mount_state(scene, ENOUGH, MsFlags::MS_REMOUNT);
        scene.del(&stage.pod);
        stage.assert_ended();
    });
}
