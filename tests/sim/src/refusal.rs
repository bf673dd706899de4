//! Injected errors in the shape that the disturbed service gives to its own.

use serde_json::{Value, json};

use crate::calls::ServiceKind;
use crate::cloud::error::ApiError;
use crate::cloud::wire;
use crate::exchange::{Reply, Request};

/// What a busy API server asks for.
const RETRY_AFTER_SECONDS: u64 = 1;

pub(crate) fn shaped(kind: ServiceKind, request: &Request, status: u16, code: &str, message: &str) -> Reply {
    match kind {
        ServiceKind::Vpc | ServiceKind::Ecs | ServiceKind::Sts => {
            wire::error_reply(request, &ApiError::new(status, code, message))
        }
        ServiceKind::Metadata => Reply::text(status, format!("{code}: {message}\n")),
        ServiceKind::Kube => Reply::json(status, &status_object(status, code, message)),
    }
}

/// As API servers say it: one that is asked too often names the seconds to wait.
fn status_object(status: u16, code: &str, message: &str) -> Value {
    let mut object = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                            "message": message, "reason": code, "code": status});
    if status == 429 {
        object["details"] = json!({"retryAfterSeconds": RETRY_AFTER_SECONDS});
    }
    object
}
