//! The server as clients see it, good ones and others.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream as Client;

use super::*;

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Longer than any answer takes; a test that waits for it has failed.
const AMPLE: Duration = Duration::from_secs(30);

fn start() -> (Server, Arc<Health>) {
    let health = Arc::new(Health::new(AMPLE));
    (Server::start(LOOPBACK, Arc::default(), health.clone()).unwrap(), health)
}

fn connect(server: &Server) -> Client {
    let client = Client::connect(server.address()).unwrap();
    client.set_read_timeout(Some(AMPLE)).unwrap();
    client
}

/// Head and body of the answer to `request`, which the server ends by closing.
fn exchange(server: &Server, request: &str) -> (String, String) {
    let mut client = connect(server);
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.to_ascii_lowercase(), body.to_owned())
}

fn get(server: &Server, path: &str) -> (String, String) {
    exchange(server, &format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n"))
}

#[test]
fn metrics_are_served_as_openmetrics() {
    let (server, _) = start();
    let (head, body) = get(&server, "/metrics");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    let kind = "\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(head.contains(kind), "{head}");
    assert!(body.contains("podeip_build_info{version=\"") && body.ends_with("# EOF\n"), "{body}");
    assert_eq!(get(&server, "/metrics?name=x").1, body);
}

#[test]
fn health_says_ok_or_why_not() {
    let (server, health) = start();
    let (head, body) = get(&server, "/healthz");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert_eq!(body, "ok\n");
    health.round_ended(Err("state.json cannot be read".into()));
    let (head, body) = get(&server, "/healthz");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body, "the last round of the node failed: state.json cannot be read\n");
}

#[test]
fn other_paths_and_methods_are_refused() {
    let (server, _) = start();
    for path in ["/", "/metrics/", "/healthz/x", "/../etc/passwd"] {
        assert!(get(&server, path).0.starts_with("http/1.1 404 "), "{path}");
    }
    for request in
        ["POST /metrics HTTP/1.1\r\nHost: n\r\nContent-Length: 1\r\n\r\nx", "DELETE /healthz HTTP/1.0\r\n\r\n"]
    {
        let (head, _) = exchange(&server, request);
        assert!(head.contains(" 405 ") && head.contains("\r\nallow: get"), "{head}");
    }
    let (head, _) = exchange(&server, "what is this\r\n\r\n");
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * HEADER_BYTES));
    let mut client = connect(&server);
    // The server may close before it has read everything.
    let _ = client.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_client_that_hangs_blocks_nobody() {
    let (server, _) = start();
    let silent: Vec<Client> = (0..CONNECTIONS - 2).map(|_| connect(&server)).collect();
    let mut half = connect(&server);
    half.write_all(b"GET /metrics HT").unwrap();
    assert_eq!(get(&server, "/healthz").1, "ok\n");
    drop((silent, half));
}

#[test]
fn a_client_that_hangs_is_let_go() {
    let (server, _) = start();
    // Every slot is taken, so the next one is served when these are through.
    let mut silent: Vec<Client> = (0..CONNECTIONS).map(|_| connect(&server)).collect();
    assert_eq!(get(&server, "/healthz").1, "ok\n");
    let mut rest = Vec::new();
    silent[0].read_to_end(&mut rest).unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn each_connection_is_for_one_request() {
    let (server, _) = start();
    let mut client = connect(&server);
    let request = "GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n";
    client.write_all(request.repeat(2).as_bytes()).unwrap();
    let mut answer = String::new();
    match client.read_to_string(&mut answer) {
        // The second one was never read.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        Ok(_) => assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}"),
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (server, health) = start();
    let error = Server::start(server.address(), Arc::default(), health).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.starts_with(&format!("cannot serve metrics and health on {}: ", server.address())), "{text}");
    assert!(text.ends_with("Address already in use (os error 98)"), "{text}");
}

#[test]
fn dropping_it_frees_the_port_even_while_a_client_hangs() {
    let (server, health) = start();
    let address = server.address();
    let mut silent = connect(&server);
    assert_eq!(get(&server, "/healthz").1, "ok\n");
    drop(server);
    let mut rest = Vec::new();
    // Closed, one way or the other.
    let closed = silent.read_to_end(&mut rest).map_err(|error| error.kind());
    assert!(matches!(closed, Ok(0) | Err(ErrorKind::ConnectionReset)), "{closed:?}");
    assert_eq!(Client::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let again = Server::start(address, Arc::default(), health).unwrap();
    assert_eq!(get(&again, "/healthz").1, "ok\n");
}
