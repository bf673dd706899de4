//! An RPC call's parameters: union of query and form body, and the flattened lists in it.

use std::collections::BTreeMap;

use crate::cloud::error::{ApiError, ApiResult};
use crate::exchange::Request;

/// Parameters that belong to the request, not to the operation: they differ from try to try.
const COMMON: [&str; 12] = [
    "Action",
    "Version",
    "Format",
    "AccessKeyId",
    "SecurityToken",
    "SignatureMethod",
    "SignatureVersion",
    "SignatureType",
    "SignatureNonce",
    "Signature",
    "Timestamp",
    "ClientToken",
];

/// One RPC call, not yet checked.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    pub method: String,
    /// Everything that arrived, empty values included.
    pub parameters: Vec<(String, String)>,
}

impl Rpc {
    pub fn of(request: &Request) -> Self {
        let parameters = request.query.iter().cloned().chain(request.form()).collect();
        Self { method: request.method.clone(), parameters }
    }

    /// The value as sent, even an empty one.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// An empty value counts as not given, as SDKs leave empty parameters out.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    pub fn required(&self, name: &str) -> ApiResult<&str> {
        self.text(name).ok_or_else(|| ApiError::missing(name))
    }

    pub fn number(&self, name: &str) -> ApiResult<Option<u64>> {
        let parsed = self.text(name).map(|value| value.parse().map_err(|_| ApiError::invalid(name, "not a number")));
        parsed.transpose()
    }

    pub fn flag(&self, name: &str) -> ApiResult<bool> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiError::invalid(name, "neither true nor false")),
        }
    }

    /// `Name.1`, `Name.2`, … in the order of their numbers, at most `most` of them.
    pub fn list(&self, name: &str, most: usize) -> ApiResult<Vec<String>> {
        let items = self.numbered(name, most)?;
        items
            .into_iter()
            .map(|mut item| item.remove("").ok_or_else(|| ApiError::invalid(name, "a list of plain values is wanted")))
            .collect()
    }

    /// `Name.1.Field`, … as maps from field to value. A field that was not sent is absent; one
    /// that was sent empty is an empty string.
    pub fn structs(&self, name: &str, most: usize) -> ApiResult<Vec<BTreeMap<String, String>>> {
        self.numbered(name, most)
    }

    fn numbered(&self, name: &str, most: usize) -> ApiResult<Vec<BTreeMap<String, String>>> {
        let mut items: BTreeMap<usize, BTreeMap<String, String>> = BTreeMap::new();
        for (key, value) in &self.parameters {
            let Some(rest) = key.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else { continue };
            let (number, field) = rest.split_once('.').unwrap_or((rest, ""));
            let number = number.parse().map_err(|_| ApiError::invalid(key, "N of a list is a number"))?;
            items.entry(number).or_default().insert(field.to_owned(), value.clone());
        }
        // The last number tells; the real service counts from 1 and stops at a gap.
        if let Some((&last, _)) = items.last_key_value() {
            if last > most {
                return Err(ApiError::invalid(name, format!("at most {most} entries are allowed")));
            }
            if last != items.len() || items.contains_key(&0) {
                return Err(ApiError::invalid(name, "the entries are numbered 1, 2, 3, … without gaps"));
            }
        }
        Ok(items.into_values().collect())
    }

    /// What must be equal for two calls with one ClientToken to be the same operation.
    pub fn operation(&self) -> BTreeMap<String, String> {
        self.parameters.iter().filter(|(key, _)| !COMMON.contains(&key.as_str())).cloned().collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn rpc(parameters: &[(&str, &str)]) -> Rpc {
        let parameters = parameters.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Rpc { method: "POST".into(), parameters }
    }

    #[test]
    fn lists_are_ordered_by_number_not_by_text() {
        let names: Vec<(String, String)> = (1..=11).map(|n| (format!("R.{n}"), n.to_string())).rev().collect();
        let call = Rpc { method: "GET".into(), parameters: names };
        let expected: Vec<String> = (1..=11).map(|n: u32| n.to_string()).collect();
        assert_eq!(call.list("R", 20).unwrap(), expected);
        assert_eq!(call.list("R", 10).unwrap_err().code, "InvalidParameter");
    }

    #[test]
    fn gaps_and_wrong_numbers_are_refused() {
        for bad in [&[("T.2", "x")][..], &[("T.1", "x"), ("T.3", "y")], &[("T.0", "x")], &[("T.a", "x")]] {
            assert!(rpc(bad).list("T", 20).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn structs_keep_empty_fields_apart_from_absent_ones() {
        let call = rpc(&[("Tag.1.Key", "a"), ("Tag.1.Value", ""), ("Tag.2.Key", "b"), ("Tags.1.Key", "no")]);
        let tags = call.structs("Tag", 20).unwrap();
        assert_eq!(tags.len(), 2);
        assert_eq!(tags[0].get("Value").map(String::as_str), Some(""));
        assert_eq!(tags[1].get("Value"), None);
    }
}
