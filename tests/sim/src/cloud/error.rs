//! The cloud's refusals: HTTP status, code and prose.

use std::fmt;

/// A refusal of an RPC call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    pub code: String,
    pub message: String,
}

impl ApiError {
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// HTTP 400, the status of most refusals.
    pub fn bad(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    pub fn not_found(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(404, code, message)
    }

    /// What a call with `DryRun` is answered that would have been carried out.
    pub fn dry_run() -> Self {
        Self::bad("DryRunOperation", "Request validation has been passed with DryRun flag set.")
    }

    pub fn missing(parameter: &str) -> Self {
        let message = format!(
            "The input parameter \"{parameter}\" that is mandatory for processing this request is not supplied."
        );
        Self::bad("MissingParameter", message)
    }

    pub fn invalid(parameter: &str, why: impl fmt::Display) -> Self {
        Self::bad("InvalidParameter", format!("The specified parameter \"{parameter}\" is not valid: {why}."))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

pub type ApiResult<T> = Result<T, ApiError>;
