//! Injected errors in the shape that the disturbed service gives to its own.

use serde_json::json;

use crate::calls::ServiceKind;
use crate::cloud::error::ApiError;
use crate::cloud::wire;
use crate::exchange::{Reply, Request};

pub(crate) fn shaped(kind: ServiceKind, request: &Request, status: u16, code: &str, message: &str) -> Reply {
    match kind {
        ServiceKind::Vpc | ServiceKind::Ecs | ServiceKind::Sts => {
            wire::error_reply(request, &ApiError::new(status, code, message))
        }
        ServiceKind::Metadata => Reply::text(status, format!("{code}: {message}\n")),
        ServiceKind::Kube => Reply::json(
            status,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": message, "reason": code, "code": status}),
        ),
    }
}
