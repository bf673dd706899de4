//! The client: sending a call until it is answered, and reading lists page by page.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::clock::ServerClock;
use super::error::{KubeError, Refusal};
use super::kubeconfig::{self, KubeconfigError};
use super::pace::Pace;
use super::request::{Operation, Request, Resource, Verb};
use super::token::Token;
use crate::deadline::Deadline;
use crate::http::{Answer, Call, Http, NoAnswer};
use crate::measure::Tally;
use crate::secret::Secret;

/// An API server answers one object in milliseconds, in a second under load. A connection that
/// hangs longer goes to a dead replica, and another try within DEL's 15 s finds a living one.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// A list with a field selector walks every pod of the cluster in older API servers.
const LIST_TRY_TIMEOUT: Duration = Duration::from_secs(20);

/// Short, for a connection reset by a replica that goes away; the next one is there already.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// An API server restarts within seconds; looking less often would waste the verb's time.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection to one API server. All methods take `&self` and may be called from several
/// threads at once.
///
/// Every method ends by its deadline. It repeats its call, with growing pauses, while the server
/// does not answer, answers 429 or 5xx, or answers in garbage; a token that is refused is read
/// again once.
pub struct Kube {
    server: String,
    http: Http,
    token: Option<Token>,
    clock: ServerClock,
    pace: Option<Pace>,
    tally: Arc<Tally>,
}

impl Kube {
    /// Reads the kubeconfig and the files it names; touches no network.
    ///
    /// # Errors
    /// [`KubeconfigError`], which names file, key and remedy.
    pub fn from_kubeconfig(path: &Path) -> Result<Kube, KubeconfigError> {
        let found = kubeconfig::load(path)?;
        let http = Http::new(found.trust, found.identity)
            .map_err(|cause| KubeconfigError::Identity { path: path.into(), cause })?;
        Ok(Kube {
            server: found.server,
            http,
            token: found.token,
            clock: ServerClock::default(),
            pace: None,
            tally: Arc::default(),
        })
    }

    /// The same client, asking no more than `qps` times a second once a burst is used up.
    pub fn paced(self, qps: f64, burst: u32) -> Kube {
        Kube { pace: Some(Pace::new(qps, burst)), ..self }
    }

    /// Counts every try of a call in `tally`.
    pub fn counted_by(self, tally: Arc<Tally>) -> Kube {
        Kube { tally, ..self }
    }

    /// The API server's time, as far as its answers have told it.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The API server's address, for people.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The token that is sent now.
    pub(super) fn bearer(&self) -> Option<Secret> {
        self.token.as_ref().map(Token::current)
    }

    /// Sends `request` until it is answered and `decode` accepts the body.
    pub(super) fn call<T>(
        &self,
        request: &Request,
        deadline: Deadline,
        decode: impl Fn(&[u8]) -> Result<T, serde_json::Error>,
    ) -> Result<T, KubeError> {
        let mut token = self.bearer();
        let mut renewed = false;
        let mut pauses = Pauses::new(deadline);
        let mut tries = 0;
        let mut said = None;
        loop {
            tries += 1;
            let failure = match self.once(request, token.as_ref(), deadline, tries, &decode) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if failure.status() == Some(401) && !renewed {
                renewed = true;
                let newer = self.token.as_ref().zip(token.as_ref()).and_then(|(source, old)| source.instead_of(old));
                if newer.is_some() {
                    token = newer;
                    continue;
                }
            }
            if !failure.worth_repeating() || !pauses.pause(failure.wait_wanted()) {
                return Err(failure.or_else_said(said));
            }
            log::debug!("once more: {failure}");
            said = Some(failure);
        }
    }

    fn once<T>(
        &self,
        request: &Request,
        token: Option<&Secret>,
        deadline: Deadline,
        tries: u32,
        decode: &impl Fn(&[u8]) -> Result<T, serde_json::Error>,
    ) -> Result<T, KubeError> {
        let operation = || Box::new(request.operation.clone());
        let url = format!("{}{}", self.server, request.target());
        let bearer = token.map(|token| format!("Bearer {}", token.reveal()));
        let mut headers = vec![("Accept", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let body = request.body.as_ref().map(|(format, body)| (format.content_type(), body.to_string()));
        let call = Call {
            method: request.operation.verb.method(),
            url: &url,
            headers: &headers,
            body: body.as_ref().map(|(content_type, text)| (*content_type, text.as_bytes())),
        };
        if let Some(pace) = &self.pace {
            deadline.sleep(pace.place(Instant::now()));
        }
        let patience = if request.operation.verb == Verb::List { LIST_TRY_TIMEOUT } else { TRY_TIMEOUT };
        let answer = self.http.send(&call, deadline.within(patience));
        self.count(&request.operation, &answer);
        let answer = answer.map_err(|cause| KubeError::NoAnswer {
            operation: operation(),
            server: self.server.clone(),
            tries,
            cause,
        })?;
        self.clock.heard(answer.date.as_deref());
        if !(200..300).contains(&answer.status) {
            let refusal = Box::new(Refusal::from_answer(&answer, token));
            return Err(KubeError::Refused { operation: operation(), refusal, tries });
        }
        decode(&answer.body).map_err(|cause| KubeError::Unreadable {
            operation: operation(),
            server: self.server.clone(),
            cause,
        })
    }

    /// By verb and resource: the names of objects are too many to be counted by.
    fn count(&self, operation: &Operation, answer: &Result<Answer, NoAnswer>) {
        let code = match answer {
            Ok(answer) => answer.status.to_string(),
            Err(NoAnswer::NotSent(_)) => "NotSent".into(),
            Err(NoAnswer::Unanswered(_)) => "Unanswered".into(),
        };
        self.tally.call(&format!("{} {}", operation.verb, operation.resource), &code);
    }

    /// A call whose answer says nothing beyond its status.
    pub(super) fn command(&self, request: &Request, deadline: Deadline) -> Result<(), KubeError> {
        self.call(request, deadline, |_| Ok(()))
    }

    /// One object, `None` when there is none of that name.
    pub(super) fn find<T>(
        &self,
        operation: Operation,
        deadline: Deadline,
        decode: impl Fn(&[u8]) -> Result<T, serde_json::Error>,
    ) -> Result<Option<T>, KubeError> {
        match self.call(&Request::read(operation), deadline, decode) {
            Ok(object) => Ok(Some(object)),
            Err(absent) if absent.is_not_found() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// One object of a kind that needs no reading of ours; `None` when there is none of that name.
    pub fn object(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        deadline: Deadline,
    ) -> Result<Option<Value>, KubeError> {
        self.find(Operation::on(Verb::Get, resource, namespace, name), deadline, |body| serde_json::from_slice(body))
    }

    /// The objects of a list, read `limit` at a time; those that `decode` finds unwanted (`None`) take
    /// no memory. An object that cannot be decoded is left out with a line in the log, so that one
    /// odd object does not hide all others.
    pub(super) fn list<T>(
        &self,
        operation: Operation,
        query: &[(&'static str, String)],
        limit: u32,
        deadline: Deadline,
        decode: impl Fn(&str) -> Result<Option<T>, serde_json::Error>,
    ) -> Result<Vec<T>, KubeError> {
        let mut objects = Vec::new();
        let mut request = Request::read(operation);
        let paging = |proceed: String| {
            let mut query = query.to_vec();
            query.push(("limit", limit.to_string()));
            query.extend(Some(("continue", proceed)).filter(|(_, token)| !token.is_empty()));
            query
        };
        request.query = paging(String::new());
        loop {
            let operation = &request.operation;
            let page = match self.call(&request, deadline, |body| Page::read(body, operation, &decode)) {
                // The snapshot that the pages come from has expired: everything at once, then.
                Err(gone) if gone.status() == Some(410) && request.query.len() > query.len() => {
                    objects.clear();
                    request.query = query.to_vec();
                    continue;
                }
                other => other?,
            };
            objects.extend(page.objects);
            match page.proceed {
                Some(token) => request.query = paging(token),
                None => return Ok(objects),
            }
        }
    }
}

/// What is wanted of one page of a list.
pub(super) struct Page<T> {
    pub objects: Vec<T>,
    /// The token that the next page is asked for with.
    pub proceed: Option<String>,
}

impl<T> Page<T> {
    pub fn read(
        body: &[u8],
        operation: &Operation,
        decode: impl Fn(&str) -> Result<Option<T>, serde_json::Error>,
    ) -> Result<Self, serde_json::Error> {
        let WirePage { metadata, items } = serde_json::from_slice(body)?;
        let left_out = |cause: &serde_json::Error| log::warn!("{operation}: an object is left out: {cause}");
        let decoded = items.unwrap_or_default().into_iter().map(|item| decode(item.get()).inspect_err(left_out));
        Ok(Self {
            objects: decoded.filter_map(|object| object.ok().flatten()).collect(),
            proceed: metadata.and_then(|metadata| metadata.proceed).filter(|token| !token.is_empty()),
        })
    }
}

#[derive(Deserialize)]
struct WirePage<'a> {
    metadata: Option<WirePageMeta>,
    /// Where each stands in the body, until it is decoded: a page of pods as values would be several
    /// times its size, and a copy of it twice.
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct WirePageMeta {
    #[serde(rename = "continue")]
    proceed: Option<String>,
}

/// Growing pauses between tries, each somewhere in the upper half of its span so that the
/// processes of many pods do not knock together.
struct Pauses {
    deadline: Deadline,
    next: Duration,
}

impl Pauses {
    fn new(deadline: Deadline) -> Self {
        Self { deadline, next: FIRST_PAUSE }
    }

    /// Waits, at least as long as the server asked. False, at once, when there is no time for
    /// another try after the wait.
    fn pause(&mut self, wanted: Option<Duration>) -> bool {
        let span = self.next.mul_f64(0.5 + 0.5 * fastrand::f64()).max(wanted.unwrap_or_default());
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        span < self.deadline.left() && self.deadline.sleep(span)
    }
}
