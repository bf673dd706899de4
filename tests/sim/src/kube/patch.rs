//! The patch formats: RFC 7386 merge patch, RFC 6902 JSON patch, and strategic merge patch.

use json_patch::Patch as JsonPatch;
use serde_json::Value;

use super::resources::Resource;
use super::status::ApiError;
use super::strategic;
use crate::exchange::Request;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// A patch as a client sent it.
#[derive(Clone, Debug)]
pub enum Patch {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads the patch of a request. Custom resources have no strategic merge patch, and server-side
    /// apply is not simulated: both are answered with 415 and the list of what is accepted.
    pub fn of(request: &Request, resource: &Resource) -> Result<Self, ApiError> {
        let accepted = if resource.custom.is_some() { vec![JSON, MERGE] } else { vec![JSON, MERGE, STRATEGIC] };
        let content_type = request.header("content-type").unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        if !accepted.contains(&content_type) {
            return Err(ApiError::unsupported_media_type(&accepted));
        }
        if content_type == JSON {
            let patch = serde_json::from_slice(&request.body);
            return patch.map(Patch::Json).map_err(|why| ApiError::bad_request(format!("error decoding patch: {why}")));
        }
        match serde_json::from_slice(&request.body) {
            Ok(patch @ Value::Object(_)) if content_type == MERGE => Ok(Patch::Merge(patch)),
            Ok(patch @ Value::Object(_)) => Ok(Patch::Strategic(patch)),
            Ok(_) => Err(ApiError::bad_request("error decoding patch: the patch is not a JSON object")),
            Err(why) => Err(ApiError::bad_request(format!("error decoding patch: {why}"))),
        }
    }

    pub fn apply(&self, before: &Value) -> Result<Value, ApiError> {
        let mut after = before.clone();
        match self {
            Patch::Json(patch) => {
                json_patch::patch(&mut after, patch).map_err(|_| ApiError::patch_not_applicable())?;
            }
            Patch::Merge(patch) => json_patch::merge(&mut after, patch),
            Patch::Strategic(patch) => strategic::merge(&mut after, patch).map_err(ApiError::bad_request)?,
        }
        Ok(after)
    }
}
