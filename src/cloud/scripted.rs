//! For tests: a loopback server that answers a script, one connection a step, and keeps what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::http::{Http, Trust};

/// What happens to one request.
pub(super) enum Step {
    Answer(u16, String),
    /// The request is read and the connection closed: sent, never answered.
    HangUp,
    /// The answer breaks off in its body.
    Truncated,
    /// The connection stays open this long without an answer.
    Hang(Duration),
}

impl Step {
    pub fn answer(status: u16, body: &str) -> Self {
        Step::Answer(status, body.into())
    }
}

#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Method and path.
    pub line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the urlencoded body, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub fn parameters(&self) -> Vec<(String, String)> {
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let pairs = self.body.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap()).map(|(key, value)| (decode(key), decode(value))).collect()
    }
}

/// Stops by itself when its script is through; a request too many is refused by the system.
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub fn start(script: Vec<Step>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub fn on(listener: TcpListener, script: Vec<Step>) -> Self {
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = server.seen.clone();
        std::thread::spawn(move || {
            for step in script {
                let (stream, _) = listener.accept().unwrap();
                play(stream, step, &seen);
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn play(mut stream: TcpStream, step: Step, seen: &Mutex<Vec<Seen>>) {
    let request = read(&stream);
    seen.lock().unwrap().push(request);
    let whole = |status: u16, length: usize, body: &str| {
        format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    let text = match step {
        Step::Answer(status, body) => whole(status, body.len(), &body),
        Step::Truncated => whole(200, 100, r#"{"RequestId":"#),
        Step::HangUp => return,
        // Aside, so that the next step is played meanwhile.
        Step::Hang(span) => {
            std::thread::spawn(move || {
                std::thread::sleep(span);
                drop(stream);
            });
            return;
        }
    };
    // A client that gave up is the test's business.
    let _ = stream.write_all(text.as_bytes());
}

fn read(stream: &TcpStream) -> Seen {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    };
    let first = line();
    let mut headers = Vec::new();
    loop {
        let header = line();
        match header.split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_string())),
            None => break,
        }
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let line = first.trim_end_matches(" HTTP/1.1").to_string();
    Seen { line, headers, body: String::from_utf8(body).unwrap() }
}

pub(super) fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

pub(super) fn http() -> Arc<Http> {
    Arc::new(Http::new(Trust::Public, None).unwrap())
}
