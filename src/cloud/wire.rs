//! Reading what the cloud writes: its answers spell one field as string, number or boolean, and wrap lists.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A scalar of any kind as text; null is empty.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Array(_) | Value::Object(_) => Err(D::Error::custom("expected a single value")),
    }
}

/// A list, bare or wrapped in an object (`"Tags":{"Tag":[…]}`); null and an empty object are empty.
pub(super) fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items = match Value::deserialize(deserializer)? {
        Value::Null => vec![],
        Value::Array(items) => items,
        Value::Object(wrapper) => match wrapper.into_iter().next() {
            None | Some((_, Value::Null)) => vec![],
            Some((_, Value::Array(items))) => items,
            Some((name, _)) => return Err(D::Error::custom(format!("expected a list in {name}"))),
        },
        _ => return Err(D::Error::custom("expected a list")),
    };
    items.into_iter().map(|item| serde_json::from_value(item).map_err(D::Error::custom)).collect()
}

/// None for the cloud's way of saying nothing.
pub(super) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A tag; Vpc says `Key`, Ecs says `TagKey`.
#[derive(Deserialize)]
pub(super) struct Tag {
    #[serde(rename = "Key", alias = "TagKey")]
    pub key: String,
    #[serde(rename = "Value", alias = "TagValue", default, deserialize_with = "text")]
    pub value: String,
}

/// What actions without a result answer. The id is demanded, so that a cut answer is no success.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Done {
    #[serde(rename = "RequestId")]
    _request_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Sample {
        #[serde(default, deserialize_with = "text")]
        scalar: String,
        #[serde(default, deserialize_with = "list")]
        items: Vec<String>,
    }

    fn sample(json: &str) -> Option<(String, Vec<String>)> {
        serde_json::from_str(json).ok().map(|sample: Sample| (sample.scalar, sample.items))
    }

    #[test]
    fn scalars_of_any_kind() {
        for (json, expected) in [("\"5\"", "5"), ("5", "5"), ("true", "true"), ("null", "")] {
            assert_eq!(sample(&format!(r#"{{"scalar":{json}}}"#)).unwrap().0, expected);
        }
        assert!(sample(r#"{"scalar":[]}"#).is_none());
    }

    #[test]
    fn lists_bare_wrapped_and_missing() {
        for json in [r#"["a"]"#, r#"{"Item":["a"]}"#] {
            assert_eq!(sample(&format!(r#"{{"items":{json}}}"#)).unwrap().1, ["a"]);
        }
        for json in ["null", "[]", "{}", r#"{"Item":[]}"#, r#"{"Item":null}"#] {
            assert!(sample(&format!(r#"{{"items":{json}}}"#)).unwrap().1.is_empty());
        }
        assert!(sample("{}").unwrap().1.is_empty());
        assert!(sample(r#"{"items":"a"}"#).is_none());
    }
}
