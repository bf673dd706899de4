//! Tests of the measures' file: its bound, its readers, and many writers at once.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::measure::Tally;
use crate::names::PodUid;

/// A reader that needs this long for a few thousand lines has died.
const AMPLE: Duration = Duration::from_secs(20);

fn temporary() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("podeip")).unwrap();
    (directory, store)
}

/// An ADD of about the length of a real one, told from others by its pod's name.
fn measures(name: &str) -> VerbMeasures {
    let tally = Tally::default();
    tally.stage(Stage::Wait, Duration::from_micros(1_234_567));
    for action in ["AllocateEipAddress", "AssociateEipAddress", "get pods", "patch podeips/status"] {
        tally.call(action, "OK");
    }
    let pod = PodRef { namespace: "shop".into(), name: name.into(), uid: PodUid::new("uid") };
    VerbMeasures::now(Verb::Add, "ok", Some(pod), Instant::now(), tally.take())
}

fn note(store: &Store, name: impl ToString) {
    store.note_measures(&measures(&name.to_string()));
}

fn names(all: Vec<VerbMeasures>) -> Vec<String> {
    all.into_iter().map(|of| of.pod.unwrap().name).collect()
}

fn numbers(all: Vec<VerbMeasures>) -> Vec<usize> {
    names(all).iter().map(|name| name.parse().unwrap()).collect()
}

fn file(store: &Store) -> std::path::PathBuf {
    store.path(FILE)
}

fn length(store: &Store) -> usize {
    fs::metadata(file(store)).unwrap().len() as usize
}

#[test]
fn a_line_has_the_agreed_shape() {
    let of = VerbMeasures { at: "2026-11-22T14:55:00Z".parse().unwrap(), seconds: 3.5, ..measures("web-0") };
    let line = serde_json::json!({
        "at": "2026-11-22T14:55:00Z",
        "verb": "ADD",
        "outcome": "ok",
        "pod": {"namespace": "shop", "name": "web-0", "uid": "uid"},
        "seconds": 3.5,
        "stages": {"wait": 1.234567},
        "calls": {"AllocateEipAddress": {"OK": 1}, "AssociateEipAddress": {"OK": 1}, "get pods": {"OK": 1},
                  "patch podeips/status": {"OK": 1}},
    });
    assert_eq!(serde_json::to_value(&of).unwrap(), line);
    for verb in [Verb::Add, Verb::Del, Verb::Gc] {
        assert_eq!(serde_json::to_value(verb).unwrap(), verb.name());
    }
}

#[test]
fn what_was_noted_is_read_once_by_each_reader_and_is_its_owners_alone() {
    let (_keep, store) = temporary();
    let mut position = Position::default();
    assert_eq!(store.measures_since(&mut position), []);
    assert!(!store.directory().exists(), "reading creates nothing");
    let first = measures("web-0");
    store.note_measures(&first);
    assert_eq!(fs::metadata(file(&store)).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(store.measures_since(&mut position), [first]);
    assert_eq!(store.measures_since(&mut position), []);
    note(&store, "web-1");
    let mut late = store.measures_end();
    note(&store, "web-0");
    assert_eq!(names(store.measures_since(&mut position)), ["web-1", "web-0"]);
    assert_eq!(names(store.measures_since(&mut late)), ["web-0"]);
    assert_eq!(store.measures_of("shop", "web-0").len(), 2);
    assert_eq!(store.measures_of("default", "web-0"), []);
}

#[test]
fn lines_that_are_not_ours_are_passed_over() {
    let (_keep, store) = temporary();
    note(&store, "web-0");
    let mut content = fs::read(file(&store)).unwrap();
    content.extend(b"\n{\"at\":\"20\0\xff\n{\"verb\":\"ADD\"}\n[]\n");
    fs::write(file(&store), &content).unwrap();
    note(&store, "web-1");
    let mut position = Position::default();
    assert_eq!(names(store.measures_since(&mut position)), ["web-0", "web-1"]);

    // A line that is being written is read when it is whole.
    let whole = serde_json::to_string(&measures("web-2")).unwrap() + "\n";
    let (half, rest) = whole.split_at(40);
    let append = |text: &str| {
        let mut file = OpenOptions::new().append(true).open(file(&store)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append(half);
    assert_eq!(store.measures_since(&mut position), []);
    append(rest);
    assert_eq!(names(store.measures_since(&mut position)), ["web-2"]);
}

#[test]
fn the_file_never_outgrows_its_bound_and_keeps_its_newest_lines() {
    let (_keep, store) = temporary();
    let mut position = Position::default();
    let mut seen = Vec::new();
    let mut halvings = 0;
    for number in 0..3000 {
        let before = if number > 0 { length(&store) } else { 0 };
        note(&store, number);
        assert!(length(&store) <= LARGEST, "after {number}");
        if length(&store) < before {
            halvings += 1;
            assert!((KEPT - 1000..=KEPT + 100).contains(&length(&store)), "{}", length(&store));
        }
        // A reader that comes now and then, and over halvings too.
        if number % 100 == 0 {
            seen.extend(numbers(store.measures_since(&mut position)));
        }
    }
    assert!(halvings > 2, "{halvings}");
    seen.extend(numbers(store.measures_since(&mut position)));
    assert_eq!(seen, (0..3000).collect::<Vec<_>>(), "it came in time for every line");
    assert_eq!(fs::metadata(file(&store)).unwrap().permissions().mode() & 0o7777, 0o600);
    let left = numbers(store.measures_since(&mut Position::default()));
    assert_eq!(left, (3000 - left.len()..3000).collect::<Vec<_>>(), "the newest without a gap");
}

#[test]
fn a_reader_that_comes_too_late_misses_only_what_was_dropped() {
    let (_keep, store) = temporary();
    note(&store, 0);
    let mut position = store.measures_end();
    (1..3000).for_each(|number| note(&store, number));
    let seen = numbers(store.measures_since(&mut position));
    assert!(seen.len() > 100 && seen.len() < 1000, "{}", seen.len());
    assert_eq!(seen, (3000 - seen.len()..3000).collect::<Vec<_>>());
    assert_eq!(store.measures_since(&mut position), []);
}

#[test]
fn nothing_is_lost_or_read_twice_while_many_write_and_the_file_is_halved() {
    const WRITERS: usize = 8;
    const EACH: usize = 300;
    let (_keep, store) = temporary();
    let (writing, written, read) = (AtomicBool::new(true), AtomicUsize::new(0), AtomicUsize::new(0));
    let reading = Deadline::after(AMPLE);
    let mut seen = Vec::new();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut seen, mut position) = (Vec::new(), Position::default());
            while writing.load(Ordering::SeqCst) {
                seen.extend(numbers(store.measures_since(&mut position)));
                read.store(seen.len(), Ordering::SeqCst);
            }
            seen.extend(numbers(store.measures_since(&mut position)));
            seen
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                // As another process has it: a store, files and locks of its own.
                let own = Store::open(store.directory()).unwrap();
                let (written, read) = (&written, &read);
                scope.spawn(move || {
                    for number in 0..EACH {
                        note(&own, writer * EACH + number);
                        // No more than half a file ahead of the reader, however slow it is.
                        let ahead = written.fetch_add(1, Ordering::SeqCst);
                        while ahead > read.load(Ordering::SeqCst) + 200 && !reading.passed() {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        writing.store(false, Ordering::SeqCst);
        seen = reader.join().unwrap();
    });
    assert_eq!(seen.len(), WRITERS * EACH);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
    assert!(fs::read(file(&store)).unwrap().starts_with(b"{\"dropped\":"), "it was halved");
    assert!(length(&store) <= LARGEST + 2 * WRITERS * 1000, "{}", length(&store));
}

#[test]
fn while_another_appends_the_file_may_grow_and_the_next_one_halves_it() {
    let (_keep, store) = temporary();
    (0..200).for_each(|number| note(&store, number));
    let appending = open_shared(&file(&store)).unwrap();
    let mut number = 200;
    while length(&store) <= LARGEST {
        note(&store, number);
        number += 1;
    }
    assert!(!fs::read(file(&store)).unwrap().starts_with(b"{\"dropped\":"));
    drop(appending);
    note(&store, number);
    assert!(length(&store) <= KEPT + 100);
    assert_eq!(numbers(store.measures_since(&mut Position::default())).last(), Some(&number));
}

#[test]
fn a_line_waits_for_whoever_halves_the_file_and_goes_into_the_new_one() {
    let (_keep, store) = temporary();
    note(&store, 0);
    let held = File::open(file(&store)).unwrap();
    let opened_before = File::open(file(&store)).unwrap();
    assert!(lock::try_exclusive(&held).unwrap());
    assert_eq!(turn(&opened_before, &file(&store)).unwrap(), Turn::Busy);
    thread::scope(|scope| {
        let late = scope.spawn(|| note(&store, 1));
        thread::sleep(LOCK_PAUSE * 3);
        let content = fs::read(file(&store)).unwrap();
        assert!(!late.is_finished() && numbers(parse(&content)) == [0]);
        durable::replace(&file(&store), &newest_half(&content), 0o600).unwrap();
        drop(held);
        late.join().unwrap();
    });
    assert_eq!(turn(&opened_before, &file(&store)).unwrap(), Turn::Replaced);
    assert_eq!(numbers(store.measures_since(&mut Position::default())), [0, 1]);
}

#[test]
fn a_lock_that_is_not_given_back_costs_the_line_and_no_more() {
    let (_keep, store) = temporary();
    note(&store, 0);
    let held = File::open(file(&store)).unwrap();
    assert!(lock::try_exclusive(&held).unwrap());
    let refused = store.append(&measures("1")).unwrap_err();
    assert!(matches!(refused, StateError::Locked { waited, .. } if waited >= LOCK_WAIT), "{refused}");
    note(&store, 2);
    assert_eq!(numbers(store.measures_since(&mut Position::default())), [0], "readers need no lock");
}

#[test]
fn a_file_that_was_removed_starts_anew_for_its_reader() {
    let (_keep, store) = temporary();
    (0..10).for_each(|number| note(&store, number));
    let mut position = store.measures_end();
    fs::remove_file(file(&store)).unwrap();
    note(&store, 10);
    assert_eq!(numbers(store.measures_since(&mut position)), [10]);
    assert_eq!(store.measures_since(&mut position), []);
    fs::remove_file(file(&store)).unwrap();
    assert_eq!(store.measures_since(&mut position), []);
    (11..30).for_each(|number| note(&store, number));
    assert_eq!(numbers(store.measures_since(&mut position)), (11..30).collect::<Vec<_>>());
}

#[test]
fn what_stands_in_its_place_is_left_alone() {
    let in_its_place: [fn(&Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("elsewhere", path).unwrap(),
        |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
    ];
    for put in in_its_place {
        let (_keep, store) = temporary();
        directory::create(store.directory()).unwrap();
        put(&file(&store));
        assert!(matches!(store.append(&measures("web-0")), Err(StateError::Write { .. })));
        assert_eq!(store.measures_since(&mut Position::default()), []);
        assert!(!file(&store).symlink_metadata().unwrap().is_file());
        assert!(!store.directory().join("elsewhere").exists());
    }
}

#[test]
fn the_newest_half_are_whole_lines_and_the_header_adds_up() {
    let lines = |count: usize| "0123456789abcde\n".repeat(count).into_bytes();
    let half = |content: &[u8]| {
        let half = newest_half(content);
        let (dropped, lines) = split(&half);
        (dropped as usize, lines.to_vec())
    };
    assert_eq!(half(b""), (0, Vec::new()));
    assert_eq!(half(b"a\nb"), (0, b"a\nb".to_vec()));
    let fitting = KEPT / 16;
    assert_eq!(half(&lines(fitting)), (0, lines(fitting)), "what fits exactly stays");
    assert_eq!(half(&lines(fitting + 3)), (48, lines(fitting)));
    let mut odd = b"x\n".to_vec();
    odd.extend(lines(fitting));
    assert_eq!(half(&odd), (2, lines(fitting)));
    odd.push(b'y');
    assert_eq!(half(&odd), (18, [lines(fitting - 1), b"y".to_vec()].concat()));
    assert_eq!(half(&vec![b'x'; LARGEST]), (LARGEST, Vec::new()), "a line without an end is no line");
    let again = [newest_half(&lines(fitting + 3)), lines(2)].concat();
    assert_eq!(half(&again), (48 + 32, lines(fitting)));
}

#[test]
fn a_header_that_counts_too_much_hides_no_line() {
    let content = format!("{{\"dropped\":{}}}\nx\ny\n", u64::MAX);
    let mut position = Position::default();
    assert_eq!(unread(content.as_bytes(), &mut position), b"x\ny\n");
    assert_eq!(split(&newest_half(content.as_bytes())), (u64::MAX, &b"x\ny\n"[..]));
}
