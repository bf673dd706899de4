//! The error answer on stdout and its codes.

use std::fmt;
use std::io::{self, Write};

use serde_json::json;

use super::request::Command;
use super::version;

/// Error codes: those of the CNI specification below 100, ours from 100 on.
///
/// Runtimes treat all alike and retry on any; people read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    IncompatibleVersion = 1,
    UnsupportedField = 2,
    UnknownContainer = 3,
    /// `CNI_*` variables missing or malformed.
    BadEnvironment = 4,
    Io = 5,
    /// stdin is not the JSON it should be.
    Decoding = 6,
    InvalidNetworkConfig = 7,
    /// Known to Go's library, absent from the specification's table.
    InvalidNetns = 8,
    /// A retry can mend it.
    TryAgainLater = 11,
    /// STATUS: no ADD can work here.
    NotAvailable = 50,
    /// STATUS: no ADD can work here, and running pods may be cut off too.
    NotAvailableAndLimited = 51,
    InvalidAnnotation = 100,
    Configuration = 101,
    /// No cloud credentials, or they lack a permission.
    Credentials = 102,
    /// Quota or balance.
    Quota = 103,
    /// The EIP is held by another, or is not there.
    EipUnavailable = 104,
    /// The pod has no address of an ENI.
    NetworkMode = 105,
    CloudRefused = 106,
    KubernetesApi = 107,
    LocalState = 108,
    /// A fault of this program; Go's library uses the same number for what it cannot classify.
    Internal = 999,
}

impl Code {
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// A failed command as the runtime will show it: `msg; details`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    pub code: Code,
    /// Subject, what is wrong and the remedy; this is what people see in the pod's event.
    pub msg: String,
    /// May be empty.
    pub details: String,
    command: Option<Command>,
    cni_version: Option<String>,
}

impl CniError {
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new(), command: None, cni_version: None }
    }

    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Makes this the answer to a request of which that much is known.
    pub fn answering(mut self, command: Option<Command>, cni_version: Option<&str>) -> Self {
        self.command = command;
        self.cni_version = cni_version.map(str::to_owned);
        self
    }

    /// `{"cniVersion", "code", "msg", "details"}`, in the version of the request.
    ///
    /// In the answer to DEL, words that containerd takes for success are replaced.
    pub fn to_json(&self) -> String {
        let text = |text: &str| match self.command {
            Some(Command::Del) => without_misread_words(text),
            _ => text.to_owned(),
        };
        json!({
            "cniVersion": self.cni_version.as_deref().unwrap_or(version::NEWEST),
            "code": self.code.number(),
            "msg": text(&self.msg),
            "details": text(&self.details),
        })
        .to_string()
    }

    /// Writes [`to_json`](Self::to_json) as one line, in one write where `out` takes it whole.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(format!("{}\n", self.to_json()).as_bytes())?;
        out.flush()
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, "; {}", self.details) }
    }
}

impl std::error::Error for CniError {}

/// containerd's go-cni takes a DEL error that contains one of these for "already deleted", reports
/// success and never runs the primary plugin's DEL, whose address then leaks.
const MISREAD: [(&str, &str); 2] =
    [("not found", "not there"), ("no such file or directory", "missing file or directory")];

/// `text` with the words that go-cni misreads replaced, whatever their case.
fn without_misread_words(text: &str) -> String {
    let mut safe = text.to_owned();
    for (misread, instead) in MISREAD {
        // ASCII lowercasing keeps every byte offset.
        while let Some(at) = safe.to_ascii_lowercase().find(misread) {
            safe.replace_range(at..at + misread.len(), instead);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(error: &CniError) -> serde_json::Value {
        let mut printed = Vec::new();
        error.print(&mut printed).unwrap();
        assert!(printed.ends_with(b"}\n"));
        serde_json::from_slice(&printed).unwrap()
    }

    #[test]
    fn an_answer_has_the_four_keys_and_the_requests_version() {
        let error = CniError::new(Code::EipUnavailable, "pod a/b: EIP eip-1 not found").with_details("RequestId R");
        assert_eq!(
            json_of(&error.clone().answering(Some(Command::Add), Some("0.4.0"))),
            json!({ "cniVersion": "0.4.0", "code": 104, "msg": "pod a/b: EIP eip-1 not found", "details": "RequestId R" })
        );
        assert_eq!(json_of(&error)["cniVersion"], "1.1.0");
        assert_eq!(error.to_string(), "pod a/b: EIP eip-1 not found; RequestId R");
    }

    #[test]
    fn a_del_error_never_contains_what_go_cni_takes_for_success() {
        let error = CniError::new(Code::LocalState, "Not Found, not found: nonot foundt found")
            .with_details("open /x: No such file or directory")
            .answering(Some(Command::Del), Some("1.0.0"));
        let text = error.to_json().to_lowercase();
        assert!(!text.contains("not found"), "{text}");
        assert!(!text.contains("no such file or directory"), "{text}");
        assert!(text.contains("open /x: missing file or directory"), "{text}");
    }

    #[test]
    fn codes_have_the_agreed_numbers() {
        let numbers = [
            (Code::BadEnvironment, 4),
            (Code::InvalidNetns, 8),
            (Code::TryAgainLater, 11),
            (Code::NotAvailable, 50),
            (Code::InvalidAnnotation, 100),
            (Code::LocalState, 108),
        ];
        for (code, number) in numbers {
            assert_eq!(code.number(), number);
        }
    }
}
