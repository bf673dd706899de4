//! Tests against the real kernel, each in a network and a mount namespace of its own.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_route::rule::RuleAction;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::netlink::{Kernel, ask};
use super::*;

const NONE: Option<&str> = None;
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

/// Runs `test` on a thread with an empty network and an empty directory. What it creates and
/// mounts goes with the thread, however that ends.
fn in_a_world_of_its_own(test: impl FnOnce(&Path) + Send) {
    let directory = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let apart = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
                .and_then(|()| mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE));
            match apart {
                Ok(()) => test(directory.path()),
                Err(error) => println!("skipped: no namespaces of our own here ({error}; needs root)"),
            }
        });
    });
}

/// A second network namespace, mounted on a file as container runtimes do.
fn sandbox(directory: &Path) -> PathBuf {
    let path = directory.join("cni-sandbox");
    File::create(&path).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            mount(Some("/proc/thread-self/ns/net"), &path, NONE, MsFlags::MS_BIND, NONE).unwrap();
        });
    });
    path
}

fn within<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        setns(File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// Runs `ip` with each line of `commands` in the calling thread's namespaces.
fn ip(commands: &str) {
    for line in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let ran = Command::new("ip").args(line.split_whitespace()).output().unwrap();
        assert!(ran.status.success(), "ip {line}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

/// A node as Terway leaves it: two ENIs, and policy rules for one pod on the second.
fn node() {
    ip("link set lo up
        link add eth0 address 00:16:3e:00:00:01 type veth peer name wire0
        link add eth1 address 00:16:3e:00:00:02 type veth peer name wire1
        link add cali1 type veth peer name pod1
        link set eth0 up
        link set wire0 up
        link set eth1 up
        link set wire1 up
        link set cali1 up
        link set pod1 up
        route add default via 10.0.255.253 dev eth0 onlink
        rule add to 10.0.0.5 lookup main priority 512");
}

fn looked_up(ip: Ipv4Addr) -> (Option<String>, Vec<String>) {
    let found = interface_by_policy_rule(ip).unwrap();
    (found.mac.map(|mac| mac.to_string()), found.looked_at)
}

const ETH1: &str = "00:16:3e:00:00:02";

#[test]
fn hardware_addresses_print_as_instance_metadata_does() {
    assert_eq!(Mac::of(&[0, 0x16, 0x3E, 0xAB, 0xC, 0xFF]).unwrap().to_string(), "00:16:3e:ab:0c:ff");
    assert_eq!(Mac::of(&[0; 6]), None);
    assert_eq!(Mac::of(&[1, 2, 3, 4]), None);
    assert_eq!(Mac::of(&[]), None);
}

#[test]
fn reads_an_interface_in_another_namespace_and_stays_in_its_own() {
    in_a_world_of_its_own(|directory| {
        let netns = sandbox(directory);
        ip("link add eth0 address 02:00:00:00:00:99 type veth peer name host0
            addr add 10.9.9.9/24 dev eth0");
        within(&netns, || {
            ip("link add eth0 address 00:16:3e:ab:cd:ef type veth peer name other
                link set eth0 up
                addr add 10.0.0.5/24 dev eth0
                addr add 10.0.0.6/32 dev eth0
                addr add 10.0.1.1 peer 10.0.1.2/32 dev eth0
                addr add fd00::5/64 dev eth0
                addr add 10.0.0.7/24 dev other");
        });
        let found = interface_in(&netns, "eth0").unwrap();
        assert_eq!(found.mac.unwrap().to_string(), "00:16:3e:ab:cd:ef");
        let addresses: Vec<_> = found.ipv4.iter().map(Ipv4Addr::to_string).collect();
        assert_eq!(addresses, ["10.0.0.5", "10.0.0.6", "10.0.1.1"]);
        assert!(found.up && found.index > 0);

        let down = interface_in(&netns, "other").unwrap();
        assert!(!down.up);
        assert_eq!(down.ipv4, [Ipv4Addr::new(10, 0, 0, 7)]);
        let loopback = interface_in(&netns, "lo").unwrap();
        assert_eq!((loopback.mac, loopback.ipv4), (None, vec![]));

        let own = interface_in(Path::new("/proc/thread-self/ns/net"), "eth0").unwrap();
        assert_eq!(own.ipv4, [Ipv4Addr::new(10, 9, 9, 9)]);
        assert!(!own_netns(&netns));
    });
}

#[test]
fn a_missing_interface_and_a_missing_namespace_are_told_apart() {
    in_a_world_of_its_own(|directory| {
        let netns = sandbox(directory);
        for absent in ["eth7", "", "a-name-of-more-than-15-characters", "nul\0"] {
            let error = interface_in(&netns, absent).unwrap_err();
            assert!(matches!(&error, NetError::NoInterface { ifname, .. } if ifname == absent), "{absent}: {error}");
        }
        let gone = |path: &Path| matches!(interface_in(path, "lo"), Err(NetError::NetnsGone { .. }));
        assert!(gone(&directory.join("never")));
        assert!(gone(Path::new("")));
        assert!(gone(&directory.join("cni-sandbox/below-a-file")));
        assert!(gone(directory));
        assert!(!gone(&netns));
        umount2(&netns, MntFlags::MNT_DETACH).unwrap();
        assert!(gone(&netns), "the runtime has unmounted it and the file is still there");

        let error = interface_in(Path::new("/proc/self/ns/uts"), "lo").unwrap_err();
        assert!(matches!(error, NetError::Netns { .. }), "{error}");
        assert!(error.to_string().contains("/proc/self/ns/uts"), "{error}");
    });
}

#[test]
fn knows_living_namespaces_from_what_is_left_of_them() {
    in_a_world_of_its_own(|directory| {
        let netns = sandbox(directory);
        let path = netns.to_str().unwrap();
        assert!(netns_exists(path) && !own_netns(path));
        assert!(netns_exists("/proc/thread-self/ns/net") && own_netns("/proc/thread-self/ns/net"));
        assert!(!own_netns("/proc/self/ns/net"), "the main thread's is another one");
        within(&netns, || assert!(own_netns(path)));
        umount2(&netns, MntFlags::MNT_DETACH).unwrap();
        assert!(netns.exists() && !netns_exists(path) && !own_netns(path));
    });
    for nothing in ["", "/nowhere/at/all", "/etc/passwd", "/etc/passwd/x", "/tmp", "\0"] {
        assert!(!netns_exists(nothing) && !own_netns(nothing), "{nothing:?}");
    }
}

#[test]
fn a_namespace_of_a_process_goes_with_the_process() {
    let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    let path = format!("/proc/{}/ns/net", child.id());
    assert!(netns_exists(&path) && own_netns(&path));
    child.kill().unwrap();
    let dead_soon = Instant::now() + Duration::from_secs(10);
    while netns_exists(&path) {
        assert!(Instant::now() < dead_soon, "a killed process that nobody waited for still counts");
        thread::sleep(Duration::from_millis(1));
    }
    child.wait().unwrap();
    assert!(!netns_exists(&path) && !own_netns(&path));
}

#[test]
fn follows_the_pods_rule_to_its_eni() {
    in_a_world_of_its_own(|_| {
        node();
        ip("rule add from 10.0.0.5 lookup 1003 priority 2048
            route add 10.0.0.5 dev cali1 table 1003
            route add 192.168.0.0/16 dev eth0 table 1003
            route add default via 10.0.255.253 dev eth1 onlink table 1003");
        let (mac, looked_at) = looked_up(POD);
        assert_eq!(mac.as_deref(), Some(ETH1));
        assert_eq!(looked_at, [format!("rule 2048 from 10.0.0.5 lookup 1003 -> default dev eth1 ({ETH1})")]);
        assert_eq!(looked_up(Ipv4Addr::new(10, 0, 0, 50)), (None, vec!["no rule from 10.0.0.50".to_owned()]));
    });
}

#[test]
fn the_callers_namespace_is_the_one_that_is_asked() {
    in_a_world_of_its_own(|directory| {
        node();
        ip("rule add from 10.0.0.5 lookup 1003 priority 2048
            route add default dev eth1 table 1003");
        let (mac, _) = within(&sandbox(directory), || looked_up(POD));
        assert_eq!(mac, None);
    });
}

#[test]
fn takes_the_first_rule_that_leads_to_a_device() {
    in_a_world_of_its_own(|_| {
        node();
        ip("rule add from 10.0.0.5 fwmark 0x10 lookup main priority 100
            rule add from 10.0.0.5 blackhole priority 200
            rule add from 10.0.0.5 lookup 77 priority 300
            route add blackhole default table 78
            rule add from 10.0.0.5 lookup 78 priority 400
            route add default dev lo table 79
            rule add from 10.0.0.5 lookup 79 priority 500
            route add default dev eth0 metric 20 table 1003
            route add default dev eth1 metric 10 table 1003
            rule add from 10.0.0.5 iif cali1 lookup 1003 priority 2048
            rule add from 10.0.0.5 lookup main priority 3000");
        let (mac, looked_at) = looked_up(POD);
        assert_eq!(mac.as_deref(), Some(ETH1));
        assert_eq!(
            looked_at,
            [
                "rule 100 from 10.0.0.5 lookup 254, which is for some packets only (fwmark)".to_owned(),
                "rule 200 from 10.0.0.5, which looks into no table".into(),
                "rule 300 from 10.0.0.5 lookup 77 -> no route in table 77".into(),
                "rule 400 from 10.0.0.5 lookup 78 -> no route in table 78".into(),
                "rule 500 from 10.0.0.5 lookup 79 -> default dev lo (no hardware address)".into(),
                format!("rule 2048 from 10.0.0.5 iif cali1 lookup 1003 -> default dev eth1 ({ETH1})"),
            ]
        );
    });
}

#[test]
fn without_a_default_route_another_one_will_do() {
    in_a_world_of_its_own(|_| {
        node();
        ip("route add 10.0.0.5 dev cali1 table 1003
            route add 10.2.0.0/16 dev eth1 table 1003
            rule add from 10.0.0.5 lookup 1003 priority 2048");
        let (mac, looked_at) = looked_up(POD);
        assert_eq!(mac.as_deref(), Some(ETH1));
        assert_eq!(looked_at, [format!("rule 2048 from 10.0.0.5 lookup 1003 -> 10.2.0.0/16 dev eth1 ({ETH1})")]);
    });
}

/// Ends those who [`come_and_go`], also when an assertion fails while they do.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does `turn` again and again in the caller's namespace until `done`.
fn come_and_go(done: &AtomicBool, turn: impl AsyncFn(&rtnetlink::Handle)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        while !done.load(Ordering::Relaxed) {
            turn(&handle).await;
        }
    });
}

fn ip_batch(directory: &Path, lines: impl Iterator<Item = String>) {
    let file = directory.join("batch");
    fs::write(&file, lines.collect::<String>()).unwrap();
    ip(&format!("-batch {}", file.display()));
}

#[test]
fn finds_the_rule_among_many_while_others_come_and_go() {
    in_a_world_of_its_own(|directory| {
        node();
        let others = |third: u8| (1..200).map(move |n| format!("rule add from 10.1.{third}.{n} lookup 1003\n"));
        ip_batch(directory, others(1));
        ip("route add default dev eth1 table 1003
            rule add from 10.0.0.5 lookup 1003");
        ip_batch(directory, others(2));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                come_and_go(&done, async |handle| {
                    let rule = handle.rule().add().v4().table_id(1003).priority(9).action(RuleAction::ToTable);
                    let mut rule = rule.source_prefix(Ipv4Addr::new(10, 2, 0, 1), 32);
                    let added = rule.message_mut().clone();
                    rule.execute().await.unwrap();
                    handle.rule().del(added).execute().await.unwrap();
                })
            });
            let _ending = Ending(&done);
            let seen: Vec<_> = (0..80).map(|_| looked_up(POD).0).collect();
            assert!(seen.iter().all(|mac| mac.as_deref() == Some(ETH1)), "{seen:?}");
        });
    });
}

#[test]
fn a_kernel_that_does_not_answer_holds_nobody_up() {
    let never = || ask::<(), _>("wait", None, async |_: &Kernel| std::future::pending().await);
    let stuck = || {
        ask("hang", None, async |_: &Kernel| {
            thread::sleep(Duration::from_secs(8));
            Ok(())
        })
    };
    thread::scope(|scope| {
        for question in [scope.spawn(never), scope.spawn(stuck)] {
            let started = Instant::now();
            let error = question.join().unwrap().unwrap_err();
            assert!(matches!(error, NetError::TimedOut { .. }), "{error}");
            assert!(started.elapsed() < Duration::from_secs(6));
        }
    });
}
