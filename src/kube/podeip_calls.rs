//! What is done with PodEIPs. Every write is fenced, so that a process that was held up cannot
//! undo what the next instance of the same pod has done since.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::client::Kube;
use super::error::KubeError;
use super::podeip::{FINALIZER, NewPodEip, PodEip, PodEipSpec, PodEipStatus};
use super::request::{Format, Operation, Request, Resource, Verb};
use super::wire;
use crate::deadline::Deadline;

/// A PodEIP is about 1 KiB, so a page is far below the largest answer.
const POD_EIPS_PER_PAGE: u32 = 500;

/// How often a write is built anew on a newer resourceVersion. Writers of one PodEIP are few: its
/// node's processes and the sweeper.
const CONFLICT_TRIES: u32 = 6;

impl Kube {
    /// One PodEIP; `None` when there is none of that name.
    ///
    /// # Errors
    /// A 404 whose [`KubeError::hint`] says so when the CRD is not installed.
    pub fn pod_eip(&self, namespace: &str, name: &str, deadline: Deadline) -> Result<Option<PodEip>, KubeError> {
        let operation = Operation::on(Verb::Get, Resource::PodEips, namespace, name);
        self.find(operation, deadline, |body| serde_json::from_slice(body))
    }

    /// All PodEIPs of a namespace or of the cluster, whoever made them.
    pub fn pod_eips(&self, namespace: Option<&str>, deadline: Deadline) -> Result<Vec<PodEip>, KubeError> {
        let operation = Operation::list(Resource::PodEips, namespace);
        self.list(operation, &[], POD_EIPS_PER_PAGE, deadline, |item| serde_json::from_str(item).map(Some))
    }

    /// Creates a PodEIP with our finalizer.
    ///
    /// # Errors
    /// [`KubeError::is_already_exists`] when there is one of that name. It may be our own, made
    /// by a try whose answer was lost: read it and compare [`PodEip::pod_uid`] and the spec.
    pub fn create_pod_eip(&self, new: &NewPodEip, deadline: Deadline) -> Result<PodEip, KubeError> {
        let operation = Operation::on(Verb::Create, Resource::PodEips, &new.namespace, &new.name);
        let request = Request::write(operation, Format::Json, new.object());
        self.call(&request, deadline, |body| serde_json::from_slice(body))
    }

    /// Replaces the spec, changes annotations and puts our finalizer back, all or nothing, on
    /// exactly the version that `current` shows. This is how a pod takes a PodEIP over.
    ///
    /// # Errors
    /// [`KubeError::is_conflict`] when the object changed since `current` was read and does not
    /// already say what is wanted.
    pub fn update_pod_eip_spec(
        &self,
        current: &PodEip,
        spec: &PodEipSpec,
        annotations: &BTreeMap<&str, Option<&str>>,
        deadline: Deadline,
    ) -> Result<PodEip, KubeError> {
        let mut metadata = version_of(current);
        metadata["annotations"] = wire::changes(annotations);
        // The API server refuses a new finalizer on an object that is being deleted.
        if !current.has_finalizer() && !current.deleting {
            let ours = std::iter::once(FINALIZER);
            metadata["finalizers"] = current.finalizers.iter().map(String::as_str).chain(ours).collect();
        }
        let body = json!({"metadata": metadata, "spec": spec.patch()});
        let request = Request::write(on(current, Verb::Patch, Resource::PodEips), Format::MergePatch, body);
        match self.call(&request, deadline, |body| serde_json::from_slice(body)) {
            // Perhaps an earlier try of ours did it and its answer was lost.
            Err(moved) if moved.is_conflict() => match self.pod_eip(&current.namespace, &current.name, deadline)? {
                Some(found) if found.uid == current.uid && says(&found, spec, annotations) => Ok(found),
                _ => Err(moved),
            },
            other => other,
        }
    }

    /// Turns the status from what `current` shows into `status`, a whole status in which `None`
    /// means absent. Only fields that differ are sent, so fields that another process changed
    /// since then keep their new values; a newer resourceVersion is no failure.
    ///
    /// # Errors
    /// [`KubeError::is_superseded`] when the object, or its pod instance, is another one by now.
    pub fn patch_pod_eip_status(
        &self,
        current: &PodEip,
        status: &PodEipStatus,
        deadline: Deadline,
    ) -> Result<(), KubeError> {
        let changes = status.changes_from(current.status.as_ref());
        if changes.is_empty() {
            return Ok(());
        }
        let operation = on(current, Verb::Patch, Resource::PodEipStatus);
        let mut metadata = version_of(current);
        let mut tries = 0;
        loop {
            tries += 1;
            // A custom resource's status patch ignores `metadata.uid`; only the version fences it.
            let body = json!({"metadata": metadata, "status": changes});
            match self.command(&Request::write(operation.clone(), Format::MergePatch, body), deadline) {
                Err(moved) if moved.is_conflict() && tries < CONFLICT_TRIES => {
                    let found = self.same_claim(current, deadline)?;
                    metadata = version_of(&found.ok_or_else(|| superseded(&operation, "it is gone"))?);
                }
                other => return other,
            }
        }
    }

    /// Sets and takes away annotations, and nothing else, on this very object.
    ///
    /// # Errors
    /// [`KubeError::is_superseded`] when the name belongs to another object by now.
    pub fn annotate_pod_eip(
        &self,
        current: &PodEip,
        changes: &BTreeMap<&str, Option<&str>>,
        deadline: Deadline,
    ) -> Result<PodEip, KubeError> {
        let body = json!({"metadata": {"uid": current.uid, "annotations": wire::changes(changes)}});
        let request = Request::write(on(current, Verb::Patch, Resource::PodEips), Format::MergePatch, body);
        self.call(&request, deadline, |body| serde_json::from_slice(body))
    }

    /// Marks the PodEIP that `current` shows as being deleted. From then on no pod takes it over,
    /// and it stays until [`Kube::finish_pod_eip_deletion`]: between the two its EIP can be dealt
    /// with. `None`: it is gone already, also when another object has taken the name.
    ///
    /// # Errors
    /// [`KubeError::is_conflict`] when the object changed since `current` was read; it then still
    /// stands, because a pod may have taken it over.
    pub fn begin_pod_eip_deletion(&self, current: &PodEip, deadline: Deadline) -> Result<Option<PodEip>, KubeError> {
        if current.deleting {
            return Ok(Some(current.clone()));
        }
        let operation = on(current, Verb::Delete, Resource::PodEips);
        let body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": current.uid, "resourceVersion": current.resource_version},
        });
        let refused = match self.command(&Request::write(operation.clone(), Format::Json, body), deadline) {
            Ok(()) => None,
            Err(absent) if absent.status() == Some(404) => return Ok(None),
            // Perhaps an earlier try of ours marked it and its answer was lost.
            Err(moved) if moved.is_conflict() => Some(moved),
            Err(failure) => return Err(failure),
        };
        match self.same_claim(current, deadline)? {
            None => Ok(None),
            Some(doomed) if doomed.deleting => Ok(Some(doomed)),
            Some(_) => Err(refused.unwrap_or_else(|| superseded(&operation, "it is not being deleted"))),
        }
    }

    /// Deletes a PodEIP that stands for no EIP of ours.
    ///
    /// # Errors
    /// As [`Kube::begin_pod_eip_deletion`].
    pub fn delete_pod_eip(&self, current: &PodEip, deadline: Deadline) -> Result<(), KubeError> {
        match self.begin_pod_eip_deletion(current, deadline)? {
            Some(doomed) => self.finish_pod_eip_deletion(doomed, deadline),
            None => Ok(()),
        }
    }

    /// Takes our finalizer off a PodEIP that is being deleted, when its EIP has been dealt with.
    /// Already gone is success.
    pub fn finish_pod_eip_deletion(&self, mut doomed: PodEip, deadline: Deadline) -> Result<(), KubeError> {
        let mut tries = 0;
        while doomed.has_finalizer() {
            tries += 1;
            let mut metadata = version_of(&doomed);
            metadata["finalizers"] = doomed.finalizers.iter().filter(|name| *name != FINALIZER).cloned().collect();
            let operation = on(&doomed, Verb::Patch, Resource::PodEips);
            let body = json!({"metadata": metadata});
            match self.command(&Request::write(operation, Format::MergePatch, body), deadline) {
                Ok(()) => return Ok(()),
                Err(absent) if absent.status() == Some(404) => return Ok(()),
                Err(moved) if moved.is_conflict() && tries < CONFLICT_TRIES => {
                    match self.same_claim(&doomed, deadline)? {
                        None => return Ok(()),
                        Some(found) => doomed = found,
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// The object as it is now, `None` when it is gone or another one has its name.
    ///
    /// # Errors
    /// [`KubeError::Superseded`] when another instance of the pod has taken it over.
    fn same_claim(&self, current: &PodEip, deadline: Deadline) -> Result<Option<PodEip>, KubeError> {
        let found = self.pod_eip(&current.namespace, &current.name, deadline)?;
        match found.filter(|found| found.uid == current.uid) {
            Some(found) if found.pod_uid() != current.pod_uid() => {
                let owner = found.pod_uid().map_or("no pod instance".into(), |uid| format!("pod UID {uid}"));
                Err(superseded(&on(current, Verb::Get, Resource::PodEips), &format!("it belongs to {owner}")))
            }
            other => Ok(other),
        }
    }
}

fn on(object: &PodEip, verb: Verb, resource: Resource) -> Operation {
    Operation::on(verb, resource, &object.namespace, &object.name)
}

fn version_of(object: &PodEip) -> Value {
    json!({"uid": object.uid, "resourceVersion": object.resource_version})
}

fn superseded(operation: &Operation, found: &str) -> KubeError {
    KubeError::Superseded { operation: Box::new(operation.clone()), found: found.into() }
}

fn says(found: &PodEip, spec: &PodEipSpec, annotations: &BTreeMap<&str, Option<&str>>) -> bool {
    let annotated = |(key, value): (&&str, &Option<&str>)| found.annotations.get(*key).map(String::as_str) == *value;
    found.spec == *spec
        && found.problem.is_none()
        && (found.has_finalizer() || found.deleting)
        && annotations.iter().all(annotated)
}
