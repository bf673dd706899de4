//! Lists: selection, pages of one snapshot, and the version a watch goes on from.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::resources::Resource;
use super::selectors::Filter;
use super::status::ApiError;
use super::store::Key;
use crate::exchange::Request;

/// What a continue token says: the snapshot, and the last object already sent. Clients must not look inside.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    #[serde(rename = "rv")]
    revision: u64,
    namespace: String,
    name: String,
}

const TOKEN_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can \
     start a new list without the continue parameter, or use the continue token in this response to retrieve the \
     remainder of the results.";

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    pub items: Vec<Value>,
    /// The list's own metadata.
    pub metadata: Value,
}

impl Page {
    /// The list object. Items of built-in lists carry no kind and no version of their own.
    pub fn object(mut self, resource: &Resource) -> Value {
        if resource.custom.is_none() {
            for item in &mut self.items {
                item.as_object_mut().map(|fields| (fields.remove("kind"), fields.remove("apiVersion")));
            }
        }
        let (kind, version) = (&resource.list_kind, resource.api_version());
        json!({ "kind": kind, "apiVersion": version, "metadata": self.metadata, "items": self.items })
    }
}

impl Cluster {
    pub fn list(&self, request: &Request, filter: &Filter) -> Result<Page, ApiError> {
        let limit = number(request, "limit")?.filter(|limit| *limit > 0);
        let token = request.parameter("continue").filter(|token| !token.is_empty()).map(read_token).transpose()?;
        if token.is_none() {
            self.check_not_ahead(version_parameter(request)?)?;
        }
        let revision = token.as_ref().map_or(self.store.revision(), |token| token.revision);
        let snapshot = self.store.at(revision, &filter.group, &filter.plural);
        let snapshot = snapshot.map_err(|_| ApiError::expired(TOKEN_TOO_OLD))?;
        let is_new = |key: &Key| {
            token.as_ref().is_none_or(|token| (&key.namespace, &key.name) > (&token.namespace, &token.name))
        };
        let mut rest = snapshot.into_iter().filter(|(key, object)| is_new(key) && filter.shows(key, object));
        let page: Vec<(&Key, &Value)> = rest.by_ref().take(limit.map_or(usize::MAX, |limit| limit as usize)).collect();
        let remaining = rest.count();
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if let (Some((last, _)), 1..) = (page.last(), remaining) {
            metadata["continue"] = write_token(revision, last).into();
            if !filter.selects() {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        Ok(Page { items: page.into_iter().map(|(_, object)| object.clone()).collect(), metadata })
    }

    /// A version from the future is waited for by the real server, for three seconds, and then refused.
    pub fn check_not_ahead(&self, asked: Option<u64>) -> Result<(), ApiError> {
        match asked {
            Some(asked) if asked > self.store.revision() => {
                Err(ApiError::too_large_version(asked, self.store.revision()))
            }
            _ => Ok(()),
        }
    }
}

fn number(request: &Request, name: &str) -> Result<Option<u64>, ApiError> {
    let text = request.parameter(name).filter(|text| !text.is_empty());
    let read = |text: &str| {
        text.parse().map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
    };
    text.map(read).transpose()
}

/// The `resourceVersion` parameter; absent when it is empty.
pub fn version_parameter(request: &Request) -> Result<Option<u64>, ApiError> {
    number(request, "resourceVersion")
        .map_err(|why| ApiError::bad_request(format!("resourceVersion: Invalid value: {}", why.message)))
}

/// The `timeoutSeconds` parameter.
pub fn timeout_parameter(request: &Request) -> Result<Option<u64>, ApiError> {
    number(request, "timeoutSeconds")
}

fn write_token(revision: u64, last: &Key) -> String {
    let token = json!({ "rv": revision, "namespace": last.namespace, "name": last.name });
    URL_SAFE_NO_PAD.encode(token.to_string())
}

fn read_token(token: &str) -> Result<Continue, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let read = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    read.ok_or_else(|| ApiError::bad_request("continue key is not valid: the token cannot be decoded"))
}
