//! One HTTP exchange as the simulated services see it, free of any server library.

use tokio::sync::mpsc::UnboundedReceiver;

/// A request, body read whole.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Percent-decoded path, without the query.
    pub path: String,
    /// Decoded query, in the order it was sent.
    pub query: Vec<(String, String)>,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The decoded pairs of a urlencoded form body; none when the body is something else.
    pub fn form(&self) -> Vec<(String, String)> {
        let kind = self.header("content-type").unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
            return Vec::new();
        }
        form_urlencoded::parse(&self.body).into_owned().collect()
    }
}

/// What a service answers.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    /// Where the client is sent instead.
    pub location: Option<String>,
    pub body: Body,
}

/// A reply's body: whole, a stream that goes on (a watch), or what is said once the connection is a WebSocket.
#[derive(Debug)]
pub enum Body {
    Whole(Vec<u8>),
    Stream(UnboundedReceiver<Vec<u8>>),
    Conversation(Conversation),
}

/// What a server says on a WebSocket before it closes it.
#[derive(Debug)]
pub struct Conversation {
    /// The one of the client's protocols that it speaks.
    pub protocol: String,
    pub messages: Vec<Vec<u8>>,
}

impl Reply {
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: "application/json".into(),
            location: None,
            body: Body::Whole(value.to_string().into_bytes()),
        }
    }

    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain".into(), location: None, body: Body::Whole(text.into().into_bytes()) }
    }
}

/// A simulated service. The server around it keeps the call log and injects latency and faults,
/// so a service only answers: a request cut "before the effect" never reaches [`Service::answer`].
pub trait Service: Send + Sync + 'static {
    /// The call's name in the log and in fault rules: the cloud's action (`AllocateEipAddress`),
    /// or verb and resource (`get pods`, `patch podeips/status`).
    fn call_name(&self, request: &Request) -> String;

    fn answer(&self, request: &Request) -> Reply;
}
