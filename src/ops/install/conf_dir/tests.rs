use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::*;

const LIST: &str = r#"{"cniVersion":"0.4.0","name":"n","plugins":[{"type":"terway"}]}"#;
const CONF: &str = r#"{"cniVersion":"0.4.0","name":"n","type":"ptp"}"#;

struct Fixture {
    root: TempDir,
    conf_dir: ConfDir,
}

fn fixture(files: &[(&str, &str)]) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(root.path().join(name), content).unwrap();
    }
    let paths = Paths {
        settings: "/etc/podeip/eni_conf".into(),
        kubeconfig: "/etc/podeip/kubeconfig".into(),
        state_directory: "/var/lib/cni/podeip".into(),
    };
    let conf_dir = ConfDir::new(root.path(), &paths, StanzaIn::List);
    Fixture { root, conf_dir }
}

impl Fixture {
    fn put_right(&self) -> Repair {
        self.conf_dir.put_right().unwrap()
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.root.path().join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn plugins(&self, name: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(&self.read(name)).unwrap();
        list["plugins"].as_array().unwrap().iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn the_first_list_gets_the_stanza_once_and_keeps_mode_owner_and_label() {
    let node =
        fixture(&[("10-x.conflist", LIST), ("87-podman.conflist", LIST), ("05-old.bak", "{"), ("kubeconfig", "x")]);
    let path = node.root.path().join("10-x.conflist");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&path, Some(7), Some(8)).unwrap();
    let label = b"system_u:object_r:container_file_t:s0\0";
    xattr::set(&path, "security.selinux", label).unwrap();
    assert!(matches!(node.put_right(), Repair::Done(what) if what.contains("10-x.conflist")));
    assert_eq!(node.plugins("10-x.conflist"), ["terway", "podeip"]);
    assert_eq!(node.read("87-podman.conflist"), LIST);
    let found = path.metadata().unwrap();
    assert_eq!((found.permissions().mode() & 0o7777, found.uid(), found.gid()), (0o640, 7, 8));
    assert_eq!(xattr::get(&path, "security.selinux").unwrap(), Some(label.to_vec()));
    assert!(node.conf_dir.conf_names_us().unwrap());

    let inode = found.ino();
    assert_eq!(node.put_right(), Repair::Sound);
    assert_eq!(path.metadata().unwrap().ino(), inode, "nothing is written without need");

    assert_eq!(node.conf_dir.take_out().unwrap().len(), 1);
    assert_eq!(node.read("10-x.conflist"), LIST);
    assert!(!node.conf_dir.conf_names_us().unwrap());
    assert_eq!(node.conf_dir.take_out().unwrap().len(), 0);
}

#[test]
fn a_lone_conf_gets_a_list_beside_it_which_follows_it() {
    let node = fixture(&[("10-ptp.conf", CONF)]);
    node.put_right();
    let list = "10-ptp-podeip.conflist";
    assert_eq!(node.names(), [list, "10-ptp.conf"], "runtimes take the first");
    assert_eq!(node.plugins(list), ["ptp", "podeip"]);
    assert_eq!(node.put_right(), Repair::Sound);

    node.write("10-ptp.conf", &CONF.replace("ptp", "macvlan"));
    node.put_right();
    assert_eq!(node.plugins(list), ["macvlan", "podeip"]);

    fs::remove_file(node.root.path().join("10-ptp.conf")).unwrap();
    node.write("20-new.conflist", LIST);
    node.put_right();
    assert_eq!(node.names(), ["20-new.conflist"], "a list of a primary that went would hide the new one");
    assert_eq!(node.plugins("20-new.conflist"), ["terway", "podeip"]);

    node.write("10-ptp.conf", CONF);
    node.put_right();
    node.conf_dir.take_out().unwrap();
    assert_eq!(node.names(), ["10-ptp.conf", "20-new.conflist"]);
    assert_eq!((node.read("10-ptp.conf"), node.read("20-new.conflist")), (CONF.to_owned(), LIST.to_owned()));
}

#[test]
fn cilium_is_named_where_it_takes_the_directory_for_itself() {
    let cilium = LIST.replace("terway", "cilium-cni");
    let alone = fixture(&[("05-cilium.conflist", &cilium)]);
    assert!(matches!(alone.put_right(), Repair::Done(what) if !what.contains("exclusive")));

    let node = fixture(&[("05-cilium.conflist", &cilium), ("10-ptp.conf", CONF)]);
    let chained = conflist::chained(LIST, &node.conf_dir.wanted).unwrap().unwrap();
    for name in ["10-x.conflist.cilium_bak", "10-ptp-podeip.conflist.cilium_bak"] {
        node.write(name, &chained);
    }
    assert!(matches!(node.put_right(), Repair::Done(what) if what.contains("cni.exclusive=false")));
    assert_eq!(node.plugins("05-cilium.conflist"), ["cilium-cni", "podeip"]);
    assert_eq!(node.names(), ["05-cilium.conflist", "10-ptp.conf", "10-x.conflist.cilium_bak"], "ours is removed");
    assert_eq!(node.put_right(), Repair::Sound);

    node.conf_dir.take_out().unwrap();
    assert_eq!(node.read("10-x.conflist.cilium_bak"), LIST, "it may come back when podeip is gone");
    assert_eq!(node.read("05-cilium.conflist"), cilium);
}

#[test]
fn a_primary_that_cannot_carry_the_stanza_is_not_hidden_by_the_list_of_an_earlier_one() {
    let multus = r#"{"cniVersion":"0.4.0","name":"m","type":"multus"}"#;
    let old_version = LIST.replace("0.4.0", "0.2.0");
    assert_ne!(old_version, LIST);
    for (name, content) in [("00-multus.conf", multus), ("20-new.conflist", &old_version)] {
        let node = fixture(&[("10-ptp.conf", CONF)]);
        node.put_right();
        fs::remove_file(node.root.path().join("10-ptp.conf")).unwrap();
        node.write(name, content);
        let told = node.conf_dir.put_right();
        assert_eq!(told.is_ok(), content == multus, "{told:?}");
        assert_eq!(node.names(), [name]);
    }
}

#[test]
fn without_a_primary_nothing_is_made() {
    let node = fixture(&[("10-ptp-podeip.conflist", LIST)]);
    assert!(matches!(node.put_right(), Repair::Done(_)));
    assert!(matches!(node.put_right(), Repair::Waiting(_)));
    assert_eq!(node.names(), [""; 0]);
}

#[test]
fn a_first_file_that_is_unfit_is_named_and_no_other_touched() {
    for (name, content) in [("10-x.conflist", ""), ("10-x.conflist", r#"{"plugins"#), ("10-x.conf", r#"{"shape":1}"#)] {
        let node = fixture(&[(name, content), ("20-y.conflist", LIST)]);
        let error = format!("{:#}", node.conf_dir.put_right().unwrap_err());
        assert!(error.contains(name), "{error}");
        assert_eq!((node.read(name), node.read("20-y.conflist")), (content.to_owned(), LIST.to_owned()));
        assert_eq!(node.conf_dir.take_out().unwrap().len(), 0);
    }
    let node = fixture(&[("10-x.conflist", r#"{"plugins":[{"type":"podeip"}]}"#)]);
    assert_eq!(node.conf_dir.take_out().unwrap().len(), 0);
    assert!(node.conf_dir.conf_names_us().unwrap());
}

#[test]
fn somebody_elses_newer_content_is_not_lost() {
    let node = fixture(&[("10-x.conflist", LIST)]);
    let path = node.root.path().join("10-x.conflist");
    let newer = LIST.replace("terway", "newer");
    let edited = node.conf_dir.edit(&path, |text| {
        if text == LIST {
            fs::write(&path, &newer).unwrap();
        }
        Ok(Some(text.replace("}]", "},1]")))
    });
    assert!(edited.unwrap());
    assert_eq!(node.read("10-x.conflist"), newer.replace("}]", "},1]"));
    assert_eq!(node.names(), ["10-x.conflist"], "no temporary file stays");
}

#[test]
fn readers_always_find_a_whole_list() {
    let node = fixture(&[("10-x.conflist", LIST)]);
    let path = node.root.path().join("10-x.conflist");
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let list: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
                assert_eq!(list["plugins"][0]["type"], "terway");
            }
        });
        for _ in 0..200 {
            durable::replace(&path, LIST.as_bytes(), 0o600).unwrap();
            node.put_right();
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert_eq!(node.plugins("10-x.conflist"), ["terway", "podeip"]);
}

#[test]
fn terways_value_is_its_list_with_the_stanza() {
    let node = fixture(&[(TERWAY_CONFLIST, LIST)]);
    let value = node.conf_dir.terway_value().unwrap();
    assert!(value.starts_with(&LIST[..LIST.len() - 2]) && value.contains("podeip"), "{value}");
    assert_eq!(node.read(TERWAY_CONFLIST), LIST);
    assert!(matches!(node.put_right(), Repair::Done(what) if what.contains("--print-terway-conflist")));
    assert_eq!(node.conf_dir.terway_value().unwrap(), value);
    assert!(fixture(&[]).conf_dir.terway_value().is_err());
}
