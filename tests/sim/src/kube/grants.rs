//! What the cluster's own roles and bindings permit to a service account.

use serde_json::Value;

use super::aim::ResourceAim;
use super::auth::{PolicyRule, User};
use super::cluster::Cluster;
use super::object::{self, text};
use super::resources::RBAC;
use super::status::ApiError;

impl Cluster {
    /// # Errors
    /// What neither the test's rules nor, where they count, the cluster's roles permit.
    pub fn authorize(&self, user: &User, aim: &ResourceAim) -> Result<(), ApiError> {
        if self.is_granted(user, aim) { self.access.authorize(user, aim) } else { Err(user.forbidden(aim)) }
    }

    /// Answers a SelfSubjectAccessReview.
    pub fn review(&self, user: &User, review: &mut Value) {
        self.access.review(review, |aim| self.is_granted(user, aim));
    }

    fn is_granted(&self, user: &User, aim: &ResourceAim) -> bool {
        if !(self.access.roles_count && user.is_service_account) || aim.is_review() {
            return true;
        }
        let bindings =
            ["clusterrolebindings", "rolebindings"].into_iter().flat_map(|plural| self.store.of(RBAC, plural));
        let of_user = bindings.filter(|(_, binding)| is_bound(binding, user));
        of_user.flat_map(|(_, binding)| self.rules_of(binding)).any(|rule| rule.permits(aim))
    }

    /// The rules of the role that a binding names; none when there is no such role.
    fn rules_of(&self, binding: &Value) -> Vec<PolicyRule> {
        let namespace = object::namespace(binding);
        let (plural, of) = match text(binding, "/roleRef/kind") {
            "Role" => ("roles", namespace),
            _ => ("clusterroles", ""),
        };
        let name = text(binding, "/roleRef/name");
        let role = self.store.of(RBAC, plural).find(|(key, _)| key.namespace == of && key.name == name);
        let rules = role.and_then(|(_, role)| role["rules"].as_array()).into_iter().flatten();
        let bound = |rule: &Value| {
            let rule: PolicyRule = serde_json::from_value(rule.clone()).ok()?;
            Some(PolicyRule { namespace: Some(namespace.to_owned()).filter(|it| !it.is_empty()), ..rule })
        };
        rules.filter_map(bound).collect()
    }
}

fn is_bound(binding: &Value, user: &User) -> bool {
    let subjects = binding["subjects"].as_array().into_iter().flatten();
    subjects.filter(|subject| text(subject, "/kind") == "ServiceAccount").any(|subject| {
        let namespace = match text(subject, "/namespace") {
            "" => object::namespace(binding),
            named => named,
        };
        user.name == format!("system:serviceaccount:{namespace}:{}", text(subject, "/name"))
    })
}
