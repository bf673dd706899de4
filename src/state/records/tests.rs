//! Every way to search and to change the file record by record, against reading and writing all of it.

use super::*;
use crate::state::format::StateFile;

fn file() -> StateFile {
    let mut file: StateFile = serde_json::from_str(include_str!("../../../tests/fixtures/state/v1.json")).unwrap();
    file.attachments[1].last_error = Some(r#"said {"containerId":"a", "10.0.3.17"} and "]}""#.to_owned());
    file
}

fn quoted(text: &str) -> [String; 1] {
    [serde_json::to_string(text).unwrap()]
}

fn bytes(file: &StateFile) -> Vec<u8> {
    serde_json::to_vec(file).unwrap()
}

#[test]
fn every_single_change_is_the_same_as_one_of_the_whole() {
    let file = file();
    let content = bytes(&file);
    let records = Records::of(&content).unwrap();
    for (nth, record) in file.attachments.iter().enumerate() {
        let Attachment { container_id, ifname, .. } = record;
        let mut fewer = file.clone();
        fewer.attachments.remove(nth);
        assert_eq!(records.without(container_id, ifname).unwrap().concat(), bytes(&fewer));

        let mut changed = file.clone();
        changed.attachments[nth].last_error = Some("changed".to_owned());
        let put = serde_json::to_vec(&changed.attachments[nth]).unwrap();
        assert_eq!(records.with(&put, container_id, ifname).unwrap().concat(), bytes(&changed));
    }
    let Attachment { container_id, .. } = &file.attachments[0];
    assert_eq!(records.without(container_id, "eth9").unwrap().concat(), content);
    let Attachment { container_id, .. } = &file.attachments[2];
    assert!(records.without(container_id, "eth9").is_none(), "its pod has the same name, which is as good as a doubt");
    let mut more = file.clone();
    more.attachments.push(Attachment { ifname: "eth9".to_owned(), ..file.attachments[0].clone() });
    let put = serde_json::to_vec(more.attachments.last().unwrap()).unwrap();
    let with = records.with(&put, &file.attachments[0].container_id, "eth9").unwrap().concat();
    assert_eq!(with, bytes(&more));
}

#[test]
fn the_first_comes_and_the_last_goes() {
    let file = file();
    let one = StateFile { attachments: file.attachments[..1].to_vec(), ..file };
    let none = StateFile { attachments: Vec::new(), ..one.clone() };
    let Attachment { container_id, ifname, .. } = &one.attachments[0];
    let put = serde_json::to_vec(&one.attachments[0]).unwrap();
    let (empty, full) = (bytes(&none), bytes(&one));
    assert!(Records::of(&empty).unwrap().is_empty() && !Records::of(&full).unwrap().is_empty());
    assert_eq!(Records::of(&empty).unwrap().with(&put, container_id, ifname).unwrap().concat(), full);
    assert_eq!(Records::of(&full).unwrap().without(container_id, ifname).unwrap().concat(), empty);
}

#[test]
fn a_search_finds_what_reading_all_finds() {
    let file = file();
    let content = bytes(&file);
    let records = Records::of(&content).unwrap();
    for text in ["10.0.3.17", "eth0", "nothing", file.attachments[2].container_id.as_str()] {
        let named = |record: &&Attachment| serde_json::to_string(record).unwrap().contains(&quoted(text)[0]);
        let expected: Vec<Attachment> = file.attachments.iter().filter(named).cloned().collect();
        assert_eq!(records.naming(&quoted(text)).unwrap(), expected, "{text}");
    }
}

/// What a pod's `eip-tags` can put into its record.
fn posing(tags: serde_json::Value) -> StateFile {
    let mut file = file();
    file.attachments[0].allocation = Some(serde_json::json!({ "bandwidth": 5, "tags": tags }));
    file
}

#[test]
fn a_search_for_several_finds_each_record_once() {
    let file = file();
    let content = bytes(&file);
    let naming = |texts: [&str; 3]| {
        let needles: Vec<String> = texts.iter().flat_map(|text| quoted(text)).collect();
        Records::of(&content).unwrap().naming(&needles).unwrap()
    };
    assert_eq!(naming(["fresh", "static", "net1"]), file.attachments[1..]);
    assert_eq!(naming(["eth0", "10.0.3.17", "version"]), [file.attachments[0].clone(), file.attachments[2].clone()]);
    assert_eq!(naming(["nothing", "no", "Bind"]), []);
}

#[test]
fn a_record_is_found_wherever_it_is_in_a_large_file() {
    let pattern = file().attachments.remove(0);
    let record = |nth: usize| Attachment { container_id: ContainerId::new(format!("id-{nth}")), ..pattern.clone() };
    let count = 3 * TAIL / bytes(&file()).len() * 3;
    let mut file = StateFile { attachments: (0..count).map(record).collect(), ..file() };
    for nth in (0..count).step_by(count / 50) {
        let content = bytes(&file);
        let Attachment { container_id, ifname, .. } = file.attachments[nth].clone();
        assert_eq!(Records::of(&content).unwrap().has(&container_id, &ifname), Some(true));
        let without = Records::of(&content).unwrap().without(&container_id, &ifname).unwrap().concat();
        let one = file.attachments.remove(nth);
        assert!(without == bytes(&file), "{nth}");
        assert_eq!(Records::of(&without).unwrap().has(&container_id, &ifname), Some(false));
        file.attachments.insert(nth, one);
    }
}

#[test]
fn tags_do_not_pose_as_a_record() {
    let Attachment { container_id, .. } = &file().attachments[1];
    let file = posing(serde_json::json!({ "containerId": container_id, "ifname": "net1", "podeip-uid": "u" }));
    let content = bytes(&file);
    assert!(String::from_utf8_lossy(&content).contains(r#""tags":{"containerId":"#), "not the first key");
    let records = Records::of(&content).unwrap();
    let mut fewer = file.clone();
    let removed = fewer.attachments.remove(1);
    let (container_id, ifname) = (&removed.container_id, removed.ifname.as_str());
    assert_eq!(records.without(container_id, ifname).unwrap().concat(), bytes(&fewer));
    let put = serde_json::to_vec(&removed).unwrap();
    assert_eq!(records.with(&put, container_id, ifname).unwrap().concat(), content);
    assert_eq!(records.naming(&quoted(container_id.as_str())).unwrap(), file.attachments[..2]);

    let fewer = bytes(&fewer);
    let without_it = Records::of(&fewer).unwrap();
    assert!(without_it.has(container_id, ifname) != Some(true), "there are only tags of that name");
    assert!(without_it.without(container_id, ifname).is_none_or(|parts| parts.concat() == fewer));
}

#[test]
fn a_search_goes_past_tags() {
    let file = posing(serde_json::json!({ "containerId": "mine", "zone": "z" }));
    let content = bytes(&file);
    for text in ["z", "mine", "podeip-9b1f4c7e2d6a", "203.0.113.7"] {
        assert_eq!(Records::of(&content).unwrap().naming(&quoted(text)).unwrap(), file.attachments[..1], "{text}");
    }
}

#[test]
fn arrays_within_a_record_are_left_to_the_parser() {
    let mut file = file();
    let Attachment { container_id, ifname, .. } = file.attachments[1].clone();
    let posing = serde_json::json!({ "containerId": container_id, "ifname": ifname });
    file.attachments[0].allocation = Some(serde_json::json!([posing, posing]));
    let content = bytes(&file);
    let records = Records::of(&content).unwrap();
    assert!(records.without(&container_id, &ifname).is_none() && records.with(b"{}", &container_id, &ifname).is_none());
    assert!(records.naming(&quoted("203.0.113.7")).is_none());
}

#[test]
fn no_space_between_records_breaks_a_change() {
    let file = file();
    let [first, second] = [0, 1].map(|nth| serde_json::to_string(&file.attachments[nth]).unwrap());
    let put = serde_json::to_string(&file.attachments[2]).unwrap();
    for attachments in [
        format!("[{first}, {second}]}}"),
        format!("[{first} ,{second}]}}"),
        format!("[{first},{second} ]}}"),
        format!("[ {first},{second}]}}"),
        format!("[{first} ]}}"),
        "[ ]}".to_owned(),
        format!("[{first}],\"x\":[]}}"),
        format!("[{first}],\"x\":[{{\"y\":1}}]}}"),
    ] {
        let content = format!("{{\"version\":1,\"attachments\":{attachments}");
        let before: StateFile = serde_json::from_str(&content).unwrap();
        let records = Records::of(content.as_bytes()).unwrap();
        for Attachment { container_id, ifname, .. } in &file.attachments {
            let Some(parts) = records.without(container_id, ifname) else { continue };
            let after: StateFile = serde_json::from_slice(&parts.concat()).expect(&content);
            let rest = before.attachments.iter().filter(|other| !other.is(container_id, ifname));
            assert_eq!(after.attachments, rest.cloned().collect::<Vec<_>>(), "{content}");
        }
        let Attachment { container_id, ifname, .. } = &file.attachments[2];
        let Some(parts) = records.with(put.as_bytes(), container_id, ifname) else { continue };
        let after: StateFile = serde_json::from_slice(&parts.concat()).expect(&content);
        assert_eq!(after.attachments.last(), Some(&file.attachments[2]), "{content}");
    }
}

#[test]
fn only_an_escape_that_podeip_does_not_write_leaves_a_search_to_the_parser() {
    let mut file = file();
    file.attachments[0].last_error = Some("C:\\users \\\\u0031 \u{1}\u{1f}\u{7f} \"".to_owned());
    let content = bytes(&file);
    let escaped = String::from_utf8_lossy(&content).matches("\\u").count();
    assert_eq!(escaped, 4, "{}", String::from_utf8_lossy(&content));
    assert_eq!(Records::of(&content).unwrap().naming(&quoted("203.0.113.7")).unwrap(), file.attachments[..1]);
    for letter in ["\\u0031", "\\\\\\u0031", "\\u00e9", "\\u002f", "\\u1000"] {
        let other = String::from_utf8_lossy(&content).replace("C:", letter);
        assert!(Records::of(other.as_bytes()).unwrap().naming(&quoted("203.0.113.7")).is_none(), "{letter}");
    }
}

#[test]
fn what_looks_otherwise_is_left_to_the_parser() {
    let content = String::from_utf8(bytes(&file())).unwrap();
    for other in [
        content.replace("\"version\":1", "\"version\": 1"),
        content.replace("\"version\":1", "\"version\":2"),
        content[..content.len() - 1].to_owned(),
        format!("{content}\n"),
        String::new(),
    ] {
        assert!(Records::of(other.as_bytes()).is_none(), "{other}");
    }
    let file = file();
    let Attachment { container_id, ifname, .. } = &file.attachments[0];
    let sorted = serde_json::to_value(&file.attachments).unwrap();
    let sorted = format!("{{\"version\":1,\"attachments\":{sorted}}}");
    assert!(!sorted.contains("[{\"containerId\""), "serde_json sorts the keys of a Value");
    let records = Records::of(sorted.as_bytes()).unwrap();
    assert!(records.with(b"{}", container_id, ifname).is_none() && records.without(container_id, ifname).is_none());
    assert!(records.naming(&quoted(container_id.as_str())).is_none_or(|found| found == file.attachments[..1]));
    assert!(records.naming(&quoted(file.attachments[2].container_id.as_str())).is_none());
    let escaped = content.replace("10.0.3.17", "\\u0031\\u0030.0.3.17");
    assert!(Records::of(escaped.as_bytes()).unwrap().naming(&quoted("10.0.3.17")).is_none());
    let broken = content.replace("\"Unbinding\"", "\"Unbound\"");
    assert!(Records::of(broken.as_bytes()).unwrap().naming(&quoted("Unbound")).is_none());
}
