//! ClientToken semantics, per action.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::cloud::error::{ApiError, ApiResult};

const LONGEST: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Tokens(BTreeMap<(String, String), Entry>);

#[derive(Debug)]
struct Entry {
    operation: BTreeMap<String, String>,
    /// `None` while the first call is running.
    result: Option<ApiResult<Value>>,
    since: Timestamp,
}

/// What a token says about the call that carries it.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Carry it out, then [`Tokens::finish`].
    New,
    /// The first call's result.
    Replay(ApiResult<Value>),
}

impl Tokens {
    pub fn begin(
        &mut self,
        action: &str,
        token: &str,
        operation: BTreeMap<String, String>,
        now: Timestamp,
        lifetime: Duration,
    ) -> ApiResult<Verdict> {
        if token.len() > LONGEST || !token.is_ascii() {
            let message = "The ClientToken has to be ASCII text of at most 64 characters.";
            return Err(ApiError::bad("InvalidClientToken.ValueNotSupported", message));
        }
        self.0.retain(|_, entry| entry.result.is_none() || entry.since + lifetime > now);
        let key = (action.to_owned(), token.to_owned());
        let Some(entry) = self.0.get(&key) else {
            self.0.insert(key, Entry { operation, result: None, since: now });
            return Ok(Verdict::New);
        };
        if entry.operation != operation {
            let message = "The ClientToken was used by a request with other parameters.";
            return Err(ApiError::bad("IdempotentParameterMismatch", message));
        }
        match &entry.result {
            Some(result) => Ok(Verdict::Replay(result.clone())),
            None => Err(ApiError::bad("LastTokenProcessing", "The last request with this token is being processed.")),
        }
    }

    /// A refused call's token may be used again, unless the cloud `remembers_failure`.
    pub fn finish(&mut self, action: &str, token: &str, result: &ApiResult<Value>, remembers_failure: bool) {
        let key = (action.to_owned(), token.to_owned());
        if result.is_err() && !remembers_failure {
            self.0.remove(&key);
        } else if let Some(entry) = self.0.get_mut(&key) {
            entry.result = Some(result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn operation(bandwidth: &str) -> BTreeMap<String, String> {
        [("Bandwidth".to_owned(), bandwidth.to_owned())].into()
    }

    #[test]
    fn running_replayed_mismatched_and_forgotten() {
        let (mut tokens, now) = (Tokens::default(), Timestamp::UNIX_EPOCH);
        let begin = |tokens: &mut Tokens, bandwidth, now| tokens.begin("A", "t", operation(bandwidth), now, DAY);
        assert_eq!(begin(&mut tokens, "5", now), Ok(Verdict::New));
        assert_eq!(begin(&mut tokens, "5", now).unwrap_err().code, "LastTokenProcessing");
        tokens.finish("A", "t", &Ok(json!({"AllocationId": "eip-1"})), false);
        assert_eq!(begin(&mut tokens, "5", now), Ok(Verdict::Replay(Ok(json!({"AllocationId": "eip-1"})))));
        assert_eq!(begin(&mut tokens, "6", now).unwrap_err().code, "IdempotentParameterMismatch");
        assert_eq!(tokens.begin("B", "t", operation("6"), now, DAY), Ok(Verdict::New), "other actions are apart");
        assert_eq!(begin(&mut tokens, "6", now + DAY + DAY), Ok(Verdict::New), "an old token is a new one");
    }

    #[test]
    fn a_refusal_is_forgotten_or_kept() {
        let (mut tokens, now) = (Tokens::default(), Timestamp::UNIX_EPOCH);
        let refused = Err(ApiError::bad("TaskConflict", "busy"));
        tokens.begin("A", "t", operation("5"), now, DAY).unwrap();
        tokens.finish("A", "t", &refused, false);
        assert_eq!(tokens.begin("A", "t", operation("5"), now, DAY), Ok(Verdict::New));
        tokens.finish("A", "t", &refused, true);
        assert_eq!(tokens.begin("A", "t", operation("5"), now, DAY), Ok(Verdict::Replay(refused)));
    }

    #[test]
    fn token_text() {
        let mut tokens = Tokens::default();
        for bad in ["ü", &"x".repeat(65)] {
            let refused = tokens.begin("A", bad, operation("5"), Timestamp::UNIX_EPOCH, DAY).unwrap_err();
            assert_eq!(refused.code, "InvalidClientToken.ValueNotSupported");
        }
        assert!(tokens.begin("A", &"x".repeat(64), operation("5"), Timestamp::UNIX_EPOCH, DAY).is_ok());
    }
}
