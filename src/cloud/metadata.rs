//! Instance metadata: what this node is, and its RAM role's credentials (reference: ECS metadata service).
//!
//! Hardened mode (a token first) is tried before the token-less one.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::http::{Answer, Call, Http, NoAnswer};
use crate::names::EniId;
use crate::secret::Secret;

use super::error::{CloudError, Failure, Refusal};
use super::retry::Backoff;
use super::turn::Turn;
use super::{Class, class};

/// The action named in errors.
const ACTION: &str = "instance metadata";

/// A link-local service answers in about a millisecond; a lost packet is better asked for again.
const TRY: Duration = Duration::from_secs(1);

/// Metadata throttles callers without saying how much; a burst is over in a second or two.
const AGAIN: Backoff =
    Backoff { first: Duration::from_millis(150), factor: 2.0, longest: Duration::from_secs(1), pauses: 3 };

/// The longest life that may be asked for. A plugin lives seconds; an agent renews on the 401.
const TOKEN_SECONDS: &str = "21600";

/// An ENI of this node, as metadata knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataEni {
    pub id: EniId,
    /// Bindings to this address show an empty private IP in the cloud's answers.
    pub primary_ip: Option<Ipv4Addr>,
}

pub(super) struct Metadata {
    base: String,
    http: Arc<Http>,
    session: Mutex<Session>,
    turn: Turn,
}

/// How this instance wants to be asked.
#[derive(Clone, PartialEq, Eq)]
enum Session {
    Unknown,
    Hardened(Secret),
    /// No token was to be had.
    Plain,
}

impl Metadata {
    pub fn new(base: &str, http: Arc<Http>) -> Self {
        let base = base.trim_end_matches('/').to_string();
        Self { base, http, session: Mutex::new(Session::Unknown), turn: Turn::default() }
    }

    /// The ENI of this node with that MAC; None when this node has no such ENI.
    pub fn eni_of_mac(&self, mac: &str, deadline: Deadline) -> Result<Option<MetadataEni>, CloudError> {
        let folder = format!("network/interfaces/macs/{}", mac.to_ascii_lowercase());
        let Some(id) = self.text(&format!("{folder}/network-interface-id"), deadline)? else {
            return Ok(None);
        };
        let primary_ip = self.text(&format!("{folder}/primary-ip-address"), deadline)?;
        let primary_ip = primary_ip.and_then(|text| text.parse().ok());
        Ok(Some(MetadataEni { id: EniId::new(id), primary_ip }))
    }

    /// The trimmed text at `path` below `meta-data/`. None when it is absent (404) or empty.
    pub fn text(&self, path: &str, deadline: Deadline) -> Result<Option<String>, CloudError> {
        let mut token_renewed = false;
        let mut tries = 0;
        loop {
            let answer = self.session(deadline).and_then(|session| {
                let answer = self.ask(path, &session, deadline)?;
                // 403: what was taken for an old service wants a token after all.
                if matches!(answer.status, 401 | 403) {
                    self.forget(&session);
                }
                Ok(answer)
            });
            tries += 1;
            let failure = match answer {
                Ok(Answer { status: 200, body, .. }) if is_plain(&body) => return Ok(trimmed(&body)),
                Ok(Answer { status: 200, .. }) => garbled(),
                Ok(Answer { status: 404, .. }) => return Ok(None),
                Ok(Answer { status: 401 | 403, .. }) if !std::mem::replace(&mut token_renewed, true) => continue,
                Ok(answer) => refused(&answer),
                Err(failure) => failure,
            };
            let pause = if passing(&failure) { AGAIN.pause(tries - 1, fastrand::f64()) } else { None };
            match pause {
                Some(pause) if pause < deadline.left() => deadline.sleep(pause),
                _ => return Err(CloudError::new(ACTION, path, tries, failure)),
            };
        }
    }

    fn ask(&self, path: &str, session: &Session, deadline: Deadline) -> Result<Answer, Failure> {
        let url = format!("{}/latest/meta-data/{path}", self.base);
        let token = match session {
            Session::Hardened(token) => vec![("X-aliyun-ecs-metadata-token", token.reveal())],
            _ => vec![],
        };
        self.send(&Call { method: "GET", url: &url, headers: &token, body: None }, deadline)
    }

    /// The way to ask, found out once by one thread.
    fn session(&self, deadline: Deadline) -> Result<Session, Failure> {
        let known = |session: Session| (!matches!(session, Session::Unknown)).then_some(session);
        if let Some(session) = known(self.current()) {
            return Ok(session);
        }
        let late = || Failure::NotTried("no time left while another thread fetches the metadata token".into());
        let _turn = self.turn.take(deadline).ok_or_else(late)?;
        if let Some(session) = known(self.current()) {
            return Ok(session);
        }
        let session = self.open(deadline)?;
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session.clone();
        Ok(session)
    }

    fn open(&self, deadline: Deadline) -> Result<Session, Failure> {
        let url = format!("{}/latest/api/token", self.base);
        let headers = [("X-aliyun-ecs-metadata-token-ttl-seconds", TOKEN_SECONDS)];
        // ureq wants a body with PUT; an empty one sends Content-Length: 0.
        let call = Call { method: "PUT", url: &url, headers: &headers, body: Some(("text/plain", b"")) };
        match self.send(&call, deadline) {
            Ok(Answer { status: 200, body, .. }) if !is_plain(&body) => Err(garbled()),
            Ok(Answer { status: 200, body, .. }) => match trimmed(&body) {
                Some(token) => Ok(Session::Hardened(Secret::new(token))),
                None => Ok(Session::Plain),
            },
            Ok(answer) if answer.status == 429 || answer.status >= 500 => Err(refused(&answer)),
            // Old services and other clouds' imitations know no token (403, 404, 405).
            Ok(_) => Ok(Session::Plain),
            // Seen behind a hop: the token's answer is dropped on its way, the data's is not.
            Err(Failure::Unanswered(reason)) => {
                log::debug!("the metadata token request was not answered ({reason}); asking without one");
                Ok(Session::Plain)
            }
            Err(failure) => Err(failure),
        }
    }

    fn send(&self, call: &Call, deadline: Deadline) -> Result<Answer, Failure> {
        self.http.send(call, deadline.within(TRY)).map_err(|no_answer| match no_answer {
            NoAnswer::NotSent(reason) => Failure::NotSent(reason),
            NoAnswer::Unanswered(reason) => Failure::Unanswered(reason),
        })
    }

    fn current(&self) -> Session {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Drops a way to ask that was refused, unless another thread has found a new one by now.
    fn forget(&self, refused: &Session) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if *session == *refused {
            *session = Session::Unknown;
        }
    }
}

fn refused(answer: &Answer) -> Failure {
    Failure::Refused(Refusal {
        class: class::classify("", answer.status, ""),
        status: answer.status,
        code: None,
        message: (answer.status == 403)
            .then(|| "metadata access is switched off, or only possible with a token".into()),
        request_id: None,
        denied: None,
    })
}

/// Every entry is a word, lines of words, or JSON: never a page of a proxy, which would be taken for the name of a region.
fn is_plain(body: &[u8]) -> bool {
    let printed = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    body.iter().all(printed) && body.trim_ascii_start().first() != Some(&b'<')
}

fn garbled() -> Failure {
    Failure::Garbled { status: 200, reason: "not an entry of instance metadata".into() }
}

fn passing(failure: &Failure) -> bool {
    matches!(failure.class(), Class::NotSent | Class::Unanswered | Class::Throttled | Class::ServerTrouble)
}

pub(super) fn trimmed(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::scripted::{Server, Step, deadline, http};

    fn metadata(server: &Server) -> Metadata {
        Metadata::new(&server.url(), http())
    }

    #[test]
    fn hardened_mode_asks_for_one_token() {
        let server = Server::start(vec![
            Step::answer(200, "secret-token\n"),
            Step::answer(200, "cn-hangzhou\n"),
            Step::answer(200, "vpc-1"),
        ]);
        let metadata = metadata(&server);
        assert_eq!(metadata.text("region-id", deadline()).unwrap().as_deref(), Some("cn-hangzhou"));
        assert_eq!(metadata.text("vpc-id", deadline()).unwrap().as_deref(), Some("vpc-1"));
        let requests = server.requests();
        assert_eq!(requests[0].line, "PUT /latest/api/token");
        assert_eq!(requests[0].header("x-aliyun-ecs-metadata-token-ttl-seconds"), Some("21600"));
        assert_eq!(requests[1].line, "GET /latest/meta-data/region-id");
        assert_eq!(requests[2].header("x-aliyun-ecs-metadata-token"), Some("secret-token"));
    }

    #[test]
    fn without_hardened_mode_no_token_is_sent() {
        for status in [403, 404] {
            let server = Server::start(vec![Step::answer(status, ""), Step::answer(200, "cn-hangzhou")]);
            assert_eq!(metadata(&server).text("region-id", deadline()).unwrap().as_deref(), Some("cn-hangzhou"));
            assert_eq!(server.requests()[1].header("x-aliyun-ecs-metadata-token"), None);
        }
    }

    #[test]
    fn a_stale_token_is_replaced_once() {
        let server = Server::start(vec![
            Step::answer(200, "old"),
            Step::answer(401, ""),
            Step::answer(200, "new"),
            Step::answer(200, "cn-hangzhou"),
        ]);
        assert_eq!(metadata(&server).text("region-id", deadline()).unwrap().as_deref(), Some("cn-hangzhou"));
        assert_eq!(server.requests()[3].header("x-aliyun-ecs-metadata-token"), Some("new"));
        let stubborn = Server::start(vec![
            Step::answer(200, "old"),
            Step::answer(401, ""),
            Step::answer(200, "new"),
            Step::answer(401, ""),
        ]);
        assert_eq!(metadata(&stubborn).text("region-id", deadline()).unwrap_err().class(), Class::Permission);
    }

    #[test]
    fn a_page_of_something_else_is_no_entry() {
        let page = "<html><body>Sign in to the network</body></html>";
        let server = Server::start(vec![
            Step::answer(200, page),
            Step::answer(200, "token"),
            Step::answer(200, "\u{1}\u{2}"),
            Step::answer(200, "cn-hangzhou"),
        ]);
        assert_eq!(metadata(&server).text("region-id", deadline()).unwrap().as_deref(), Some("cn-hangzhou"));
    }

    #[test]
    fn passing_trouble_is_tried_again_and_absence_is_not_an_error() {
        let server = Server::start(vec![
            Step::answer(404, ""),
            Step::answer(429, ""),
            Step::answer(503, ""),
            Step::HangUp,
            Step::answer(404, ""),
        ]);
        assert_eq!(metadata(&server).text("ram/security-credentials/", deadline()).unwrap(), None);
        assert_eq!(server.requests().len(), 5);
    }

    #[test]
    fn a_metadata_service_that_is_switched_off() {
        let server = Server::start((0..4).map(|_| Step::answer(403, "")).collect());
        let error = metadata(&server).text("region-id", deadline()).unwrap_err();
        assert_eq!(error.class(), Class::Permission);
        assert_eq!(
            error.to_string(),
            "instance metadata region-id: HTTP 403: metadata access is switched off, \
             or only possible with a token (2 tries)"
        );
    }

    #[test]
    fn a_lost_token_is_asked_for_again_where_nothing_is_told_without_one() {
        let server = Server::start(vec![
            Step::HangUp,
            Step::answer(403, ""),
            Step::answer(200, "token"),
            Step::answer(200, "cn-hangzhou"),
        ]);
        assert_eq!(metadata(&server).text("region-id", deadline()).unwrap().as_deref(), Some("cn-hangzhou"));
    }

    #[test]
    fn the_eni_of_a_mac() {
        let server = Server::start(vec![
            Step::answer(404, ""),
            Step::answer(200, "eni-1"),
            Step::answer(200, "10.0.0.5"),
            Step::answer(404, ""),
        ]);
        let metadata = metadata(&server);
        let eni = metadata.eni_of_mac("00:16:3E:AA:00:01", deadline()).unwrap().unwrap();
        assert_eq!((eni.id.as_str(), eni.primary_ip), ("eni-1", Some(Ipv4Addr::new(10, 0, 0, 5))));
        assert_eq!(metadata.eni_of_mac("00:16:3e:aa:00:02", deadline()).unwrap(), None);
        assert_eq!(
            server.requests()[1].line,
            "GET /latest/meta-data/network/interfaces/macs/00:16:3e:aa:00:01/network-interface-id"
        );
    }
}
