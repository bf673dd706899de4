//! Asking the API server what this client may do, without doing it.

use serde::Deserialize;
use serde_json::json;

use super::client::Kube;
use super::error::KubeError;
use super::request::{Format, Operation, Request, Resource, Verb};
use crate::deadline::Deadline;

#[derive(Deserialize)]
pub(super) struct WireReview {
    pub status: WireStatus,
}

#[derive(Deserialize)]
pub(super) struct WireStatus {
    pub allowed: bool,
}

impl Kube {
    /// Whether `operation` is permitted to whom the kubeconfig stands for. Everybody may ask about
    /// himself, and an operation without a name is about all objects.
    pub fn may(&self, operation: &Operation, deadline: Deadline) -> Result<bool, KubeError> {
        let resource = operation.resource.to_string();
        let (plural, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": operation.verb.to_string(),
                "group": operation.resource.group(),
                "resource": plural,
                "subresource": subresource,
                "namespace": operation.namespace.as_deref().unwrap_or_default(),
                "name": operation.name.as_deref().unwrap_or_default(),
            }},
        });
        let review = Operation { verb: Verb::Create, resource: Resource::AccessReviews, namespace: None, name: None };
        let request = Request::write(review, Format::Json, body);
        Ok(self.call(&request, deadline, |body| serde_json::from_slice::<WireReview>(body))?.status.allowed)
    }
}
