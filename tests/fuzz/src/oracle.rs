//! What must hold of every text for people, and the secret that inputs may hold.

use std::error::Error;

/// Stands in inputs where something secret stands. No text for people may show it, nor the greater part of it.
pub const SECRET: &str = "hush-Hush/hUsh+HUSH=hushhush";

/// As much of it as gives it away.
const TELLING: usize = 12;

/// The longest error that anybody reads. Inputs are a few KiB.
const LONGEST_ERROR: usize = 16 << 10;

/// An error with everything that caused it, as it is logged.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// An error that was made of an input with [`SECRET`] where secrets stand.
pub fn check_hides(text: &str) {
    let start = &SECRET[..TELLING];
    assert!(!text.contains(start), "a secret is printed: {text}");
    check_readable(text);
}

pub fn check_readable(text: &str) {
    assert!(!text.trim().is_empty(), "an error says nothing");
    assert!(text.len() <= LONGEST_ERROR, "an error of {} bytes: {text}", text.len());
}

/// Whether [`SECRET`], or the greater part of it, stands anywhere but at the keys where secrets stand.
pub fn stands_elsewhere(value: &serde_json::Value, at_home: &[&str]) -> bool {
    use serde_json::Value;
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| {
            telling(key)
                || (stands_elsewhere(value, at_home) && !(value.is_string() && at_home.contains(&key.as_str())))
        }),
        Value::Array(list) => list.iter().any(|value| stands_elsewhere(value, at_home)),
        Value::String(text) => telling(text),
        _ => false,
    }
}

fn telling(text: &str) -> bool {
    text.contains(&SECRET[..TELLING])
}

/// A line of a word (or a date) and a status, and the rest.
pub fn headed(data: &[u8]) -> Option<(&str, u16, &[u8])> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    let (shape, status) = std::str::from_utf8(&data[..end]).ok()?.rsplit_once(' ')?;
    Some((shape, status.parse().ok()?, &data[end + 1..]))
}
