//! A text that must never be printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A key's secret, a token or a private key. `Debug` shows only that there is one; serialising
/// it writes the text itself, for the 0600 files that are meant to hold it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for signing and sending.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
