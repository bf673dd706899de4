//! Mutations that keep an input JSON, beside libFuzzer's own of its bytes: decoders see little of what is not JSON.

use serde_json::{Map, Value, json};

use crate::oracle::SECRET;

/// Nesting that a parser must bear or refuse, and no mutation repeats.
const DEEP: usize = 200;

/// One mutation of `data[..size]`, at most `most` bytes long; the new length.
pub fn mutated(data: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    let mut chance = fastrand::Rng::with_seed(seed.into());
    let changed = if chance.u8(..) < 160 { changed_json(&data[..size], &mut chance) } else { None };
    match changed {
        Some(changed) if changed.len() <= most => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        _ => libfuzzer_sys::fuzzer_mutate(data, size, most),
    }
}

/// What stands before the first brace stays: targets keep their own parameters there.
fn changed_json(input: &[u8], chance: &mut fastrand::Rng) -> Option<Vec<u8>> {
    let (head, body) = input.split_at(input.iter().position(|byte| b"{[".contains(byte))?);
    let mut document: Value = serde_json::from_slice(body).ok()?;
    for _ in 0..chance.u8(1..4) {
        let other = nth(&document, chance.usize(..nodes(&document))).clone();
        let at = chance.usize(..nodes(&document));
        change(nth_mut(&mut document, at), other, chance);
    }
    let text = if chance.bool() { serde_json::to_vec(&document) } else { serde_json::to_vec_pretty(&document) };
    Some([head, &text.ok()?].concat())
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(nodes).sum(),
        Value::Object(map) => map.values().map(nodes).sum(),
        _ => 0,
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn nth(value: &Value, mut at: usize) -> &Value {
    if at == 0 {
        return value;
    }
    at -= 1;
    for child in children(value) {
        match at.checked_sub(nodes(child)) {
            None => return nth(child, at),
            Some(rest) => at = rest,
        }
    }
    value
}

fn nth_mut(value: &mut Value, mut at: usize) -> &mut Value {
    if at == 0 {
        return value;
    }
    at -= 1;
    let sizes: Vec<usize> = children(value).into_iter().map(nodes).collect();
    let mut index = 0;
    while index + 1 < sizes.len() && at >= sizes[index] {
        at -= sizes[index];
        index += 1;
    }
    match value {
        Value::Array(list) => nth_mut(&mut list[index], at),
        // It has as many members as `sizes` has entries, and there is one more than `index`.
        Value::Object(map) => nth_mut(map.values_mut().nth(index).unwrap(), at),
        scalar => scalar,
    }
}

fn change(node: &mut Value, other: Value, chance: &mut fastrand::Rng) {
    match chance.u8(..8) {
        0 => *node = other,
        1 => *node = scalar(chance),
        2 => *node = json!([node.take(), other]),
        3 => *node = json!({ word(chance): node.take() }),
        4 if chance.u8(..) < 8 => *node = (0..DEEP).fold(node.take(), |inner, _| json!([inner])),
        _ => match node {
            Value::Object(map) => change_members(map, other, chance),
            Value::Array(list) if list.is_empty() => list.push(other),
            Value::Array(list) => change_elements(list, other, chance),
            Value::String(text) => change_text(text, chance),
            scalar_node => *scalar_node = scalar(chance),
        },
    }
}

fn change_members(map: &mut Map<String, Value>, other: Value, chance: &mut fastrand::Rng) {
    let key = map.keys().nth(chance.usize(..map.len().max(1))).cloned().unwrap_or_else(|| word(chance));
    match chance.u8(..3) {
        0 => drop(map.remove(&key)),
        1 => drop(map.insert(key, other)),
        _ => drop(map.insert(word(chance), other)),
    }
}

fn change_elements(list: &mut Vec<Value>, other: Value, chance: &mut fastrand::Rng) {
    let at = chance.usize(..list.len());
    match chance.u8(..4) {
        0 => drop(list.remove(at)),
        1 => list.insert(at, other),
        2 => list.insert(at, list[at].clone()),
        _ => list.swap(0, at),
    }
}

fn change_text(text: &mut String, chance: &mut fastrand::Rng) {
    let cut = text.char_indices().map(|(at, _)| at).nth(chance.usize(..=text.len())).unwrap_or(text.len());
    match chance.u8(..4) {
        0 => text.truncate(cut),
        1 => text.insert_str(cut, SECRET),
        2 => text.insert(cut, chance.char(..)),
        _ => text.insert_str(cut, &word(chance)),
    }
}

fn word(chance: &mut fastrand::Rng) -> String {
    const WORDS: [&str; 24] = [
        "",
        "type",
        "name",
        "podeip",
        "plugins",
        "true",
        "false",
        "null",
        "0",
        "-1",
        "4294967296",
        "1e400",
        "..",
        "../../etc",
        "/",
        "\0",
        "\r\n",
        "\u{202e}",
        "10.0.0.1",
        "::1",
        "1h",
        "eip-1",
        "spec",
        "metadata",
    ];
    chance.choice(WORDS).unwrap_or_default().to_owned()
}

fn scalar(chance: &mut fastrand::Rng) -> Value {
    match chance.u8(..9) {
        0 => Value::Null,
        1 => Value::Bool(chance.bool()),
        2 => u64::MAX.into(),
        3 => i64::MIN.into(),
        4 => json!(1e-300),
        5 => chance.u64(..).into(),
        6 => SECRET.into(),
        7 => json!({}),
        _ => word(chance).into(),
    }
}
