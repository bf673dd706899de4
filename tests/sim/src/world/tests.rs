//! The world over real connections: faults, gates, TLS, taking down, and the control endpoint.

mod date;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use super::*;
use crate::calls::Ending;
use crate::cloud::tests::query;
use crate::exchange::{Reply, Request};
use crate::faults::{Effect, Rule, ServiceMatch, When};
use crate::gates::{Moment, Outcome};

/// Longer than anything here takes on a busy machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long we watch that something does *not* happen.
const GLANCE: Duration = Duration::from_millis(150);

fn world() -> World {
    World::start(Options::default()).unwrap()
}

fn connect(url: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(url.split("://").nth(1).unwrap())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn write_request(stream: &mut impl Write, method: &str, target: &str, body: &str) -> io::Result<()> {
    let claimed = "x-client-certificate: verified\r\n";
    let head = format!("{method} {target} HTTP/1.1\r\nhost: sim\r\ncontent-type: application/json\r\n{claimed}");
    write!(stream, "{head}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// Status and body; an error when the connection ends without a whole answer.
fn read_answer(stream: &mut impl Read) -> io::Result<(u16, String)> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    if length.is_some_and(|length| body.len() < length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

fn ask(url: &str, method: &str, target: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = connect(url)?;
    write_request(&mut stream, method, target, body)?;
    read_answer(&mut stream)
}

/// A signed call of the VPC API.
fn vpc(world: &World, action: &str, parameters: &[(&str, &str)]) -> io::Result<(u16, Value)> {
    let mut all = vec![("RegionId", "cn-hangzhou")];
    all.extend(parameters);
    let (status, body) = ask(&world.vpc_url, "GET", &format!("/?{}", query("GET", action, &all)), "")?;
    Ok((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
}

fn buy(world: &World) -> io::Result<(u16, Value)> {
    vpc(world, "AllocateEipAddress", &[])
}

fn bought(world: &World) -> usize {
    world.cloud.ever_allocated().len() - 1
}

#[test]
fn a_signed_call_travels_through() {
    let world = world();
    let (status, answer) = vpc(&world, "AllocateEipAddress", &[("Name", "a b+c*~ü")]).unwrap();
    assert_eq!(status, 200, "{answer}");
    let eip = world.cloud.eip(answer["AllocationId"].as_str().unwrap()).unwrap();
    assert_eq!(eip.name, "a b+c*~ü");
    let call = world.calls.named("AllocateEipAddress").remove(0);
    assert!(call.succeeded() && call.reached_service && call.delivered);
    assert_eq!((call.parameter("Name"), call.parameter("Signature")), (Some("a b+c*~ü"), None));
}

#[test]
fn a_form_body_is_signed_like_a_query() {
    let world = world();
    let form = query("POST", "DescribeEipAddresses", &[("RegionId", "cn-hangzhou")]);
    let mut stream = connect(&world.vpc_url).unwrap();
    let head =
        "POST / HTTP/1.1\r\nhost: sim\r\ncontent-type: application/x-www-form-urlencoded\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{form}", form.len()).unwrap();
    let (status, body) = read_answer(&mut stream).unwrap();
    assert_eq!(status, 200, "{body}");
}

#[test]
fn faults_before_and_after_the_effect() {
    let world = world();
    let strike = |effect: Effect| {
        world.faults.clear();
        world.faults.add(Rule::on("AllocateEipAddress", effect).once());
        buy(&world)
    };
    assert_eq!(strike(Effect::error(400, "InsufficientBalance", "no money")).unwrap().1["Code"], "InsufficientBalance");
    assert_eq!(strike(Effect::Gateway { status: 503, when: When::BeforeEffect }).unwrap(), (503, Value::Null));
    assert!(strike(Effect::Cut { when: When::BeforeEffect }).is_err());
    assert_eq!(bought(&world), 0);
    assert_eq!(world.calls.all()[2].ending, Ending::Cut);

    assert!(strike(Effect::Cut { when: When::AfterEffect }).is_err());
    assert_eq!(strike(Effect::Garbage).unwrap(), (200, Value::Null));
    assert!(strike(Effect::Truncated).is_err());
    assert_eq!(strike(Effect::Gateway { status: 500, when: When::AfterEffect }).unwrap().0, 500);
    assert_eq!(bought(&world), 4);
    assert!(buy(&world).unwrap().0 == 200, "each rule struck once");
}

#[test]
fn a_truncated_answer_arrives_by_half() {
    let world = world();
    world.faults.add(Rule::on("get region-id", Effect::Truncated));
    let mut stream = connect(&world.metadata_url).unwrap();
    write_request(&mut stream, "GET", "/latest/meta-data/region-id", "").unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("content-length: 11\r\n") && text.ends_with("\r\n\r\ncn-ha"), "{text}");
}

#[test]
fn a_hung_call_stays_open_until_the_client_goes() {
    let world = world();
    world.faults.add(Rule::on("AllocateEipAddress", Effect::Hang { when: When::AfterEffect }));
    let mut stream = connect(&world.vpc_url).unwrap();
    write_request(
        &mut stream,
        "GET",
        &format!("/?{}", query("GET", "AllocateEipAddress", &[("RegionId", "cn-hangzhou")])),
        "",
    )
    .unwrap();
    assert!(world.calls.wait_until(PATIENCE, |calls| calls.first().is_some_and(|call| call.ending == Ending::Hung)));
    stream.set_read_timeout(Some(GLANCE)).unwrap();
    assert!(matches!(stream.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock));
    assert_eq!(bought(&world), 1);
}

#[test]
fn latency_comes_before_the_effect() {
    let world = world();
    world.faults.slow("Allocate*", GLANCE);
    let begin = Instant::now();
    assert_eq!(buy(&world).unwrap().0, 200);
    assert!(begin.elapsed() >= GLANCE);
    let call = &world.calls.all()[0];
    assert!(call.ended.unwrap().duration_since(call.began).unsigned_abs() >= GLANCE);
}

/// Starts a purchase whose client we can kill: dropping the stream is the kill.
fn buy_in_flight(world: &World) -> TcpStream {
    let mut stream = connect(&world.vpc_url).unwrap();
    let target = format!("/?{}", query("GET", "AllocateEipAddress", &[("RegionId", "cn-hangzhou")]));
    write_request(&mut stream, "GET", &target, "").unwrap();
    stream
}

#[test]
fn a_gate_before_the_effect_decides_whether_it_happens() {
    let world = world();
    let gate = world.faults.gate(1, Moment::BeforeEffect);
    let stream = buy_in_flight(&world);
    assert!(gate.wait_reached(PATIENCE));
    drop(stream);
    gate.release(Outcome::Cut);
    assert!(world.calls.wait_until(PATIENCE, |calls| calls[0].ended.is_some()));
    assert_eq!((bought(&world), &world.calls.all()[0].ending), (0, &Ending::Cut));

    let gate = world.faults.gate(1, Moment::BeforeEffect);
    let stream = buy_in_flight(&world);
    assert!(gate.wait_reached(PATIENCE));
    drop(stream);
    gate.release(Outcome::Continue);
    assert!(world.calls.wait_until(PATIENCE, |calls| calls[1].ended.is_some()));
    assert_eq!(bought(&world), 1, "the request was on its way when its client died");
    assert!(!world.calls.all()[1].delivered);
}

#[test]
fn a_gate_after_the_effect_withholds_the_answer() {
    let world = world();
    let gate = world.faults.gate_on(ServiceMatch::Cloud, "AllocateEipAddress", 2, Moment::AfterEffect);
    assert_eq!(buy(&world).unwrap().0, 200);
    assert!(!gate.wait_reached(Duration::ZERO));
    let mut stream = buy_in_flight(&world);
    assert!(gate.wait_reached(PATIENCE));
    assert_eq!((gate.reached_by(), bought(&world)), (Some(2), 2));
    stream.set_read_timeout(Some(GLANCE)).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "no byte of the answer");
    gate.release(Outcome::Continue);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().0, 200);
}

#[test]
fn a_gate_after_the_answer_lets_it_out_and_holds_what_follows() {
    let world = world();
    let gate = world.faults.gate(1, Moment::AfterAnswer);
    assert_eq!(buy(&world).unwrap().0, 200);
    assert!(gate.wait_reached(PATIENCE));
    assert!(world.calls.all()[0].delivered);
    let mut next = buy_in_flight(&world);
    assert!(world.calls.wait_until(PATIENCE, |calls| calls.len() == 2));
    std::thread::sleep(GLANCE);
    assert_eq!((bought(&world), world.calls.all()[1].reached_service), (1, false), "held");
    gate.release(Outcome::Continue);
    assert_eq!(read_answer(&mut next).unwrap().0, 200);
    assert_eq!(bought(&world), 2);
}

#[test]
fn a_dropped_gate_cuts_its_call() {
    let world = world();
    let gate = world.faults.gate(1, Moment::BeforeEffect);
    let mut stream = buy_in_flight(&world);
    assert!(gate.wait_reached(PATIENCE));
    drop(gate);
    assert!(read_answer(&mut stream).is_err());
    assert_eq!(bought(&world), 0);
}

#[test]
fn connections_and_concurrency_show_in_the_log() {
    let world = world();
    let mut stream = connect(&world.metadata_url).unwrap();
    for _ in 0..2 {
        write!(stream, "GET /latest/meta-data/mac HTTP/1.1\r\nhost: sim\r\n\r\n").unwrap();
        let mut bytes = [0; 512];
        assert!(stream.read(&mut bytes).unwrap() > 0);
    }
    ask(&world.metadata_url, "GET", "/latest/meta-data/mac", "").unwrap();
    let connections: Vec<u64> = world.calls.all().iter().map(|call| call.connection).collect();
    assert_eq!(connections[0], connections[1]);
    assert_ne!(connections[1], connections[2]);

    let gate = world.faults.gate(1, Moment::BeforeEffect);
    let first = buy_in_flight(&world);
    assert!(gate.wait_reached(PATIENCE));
    assert_eq!(buy(&world).unwrap().0, 200);
    gate.release(Outcome::Continue);
    assert!(world.calls.wait_until(PATIENCE, |calls| calls[3].ended.is_some()));
    let calls = world.calls.all();
    assert!(calls[3].began < calls[4].began && calls[4].ended < calls[3].ended, "the second ran inside the first");
    drop(first);
}

#[test]
fn a_service_can_be_down_and_up_again() {
    let world = world();
    world.take_down(ServiceKind::Vpc);
    assert_eq!(buy(&world).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let address = world.vpc_url.trim_start_matches("http://");
    let taken = std::net::TcpListener::bind(address).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse, "nobody else gets the port meanwhile");
    assert_eq!(ask(&world.metadata_url, "GET", "/latest/meta-data/mac", "").unwrap().0, 200);
    world.bring_up(ServiceKind::Vpc);
    assert_eq!(buy(&world).unwrap().0, 200);
}

#[test]
fn a_dropped_world_is_gone() {
    let world = world();
    let url = world.vpc_url.clone();
    assert!(connect(&url).is_ok());
    drop(world);
    assert!(connect(&url).is_err());
}

/// A TLS client that believes the world's CA; `identity` is the client certificate.
fn tls_ask(world: &World, identity: bool, name: &'static str) -> io::Result<(u16, String)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(world.certificates.ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = if identity {
        let client = &world.certificates.client;
        let chain = vec![CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap()];
        builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(client.key.as_bytes()).unwrap()).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, connect(&world.kube_url)?);
    write_request(&mut stream, "GET", "/api/v1/pods", "")?;
    read_answer(&mut stream)
}

#[test]
fn tls_by_address_and_by_name() {
    let world = World::start(Options { kube: Some(one_token()), ..Options::default() }).unwrap();
    assert!(world.kube_url.starts_with("https://127.0.0.1:"));
    for name in ["127.0.0.1", "localhost", "::1"] {
        let (status, body) = tls_ask(&world, false, name).unwrap();
        assert_eq!(status, 401, "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["kind"], "Status");
    }
    assert!(tls_ask(&world, false, "api.example.com").is_err());
}

#[test]
fn a_client_certificate_can_be_demanded() {
    let kube = Kube { token: None, ..one_token() };
    let options = Options { require_client_certificate: true, kube: Some(kube), ..Options::default() };
    let world = World::start(options).unwrap();
    assert!(tls_ask(&world, false, "127.0.0.1").is_err());
    assert_eq!(tls_ask(&world, true, "127.0.0.1").unwrap().0, 401);
    assert!(world.kubeconfig().contains("client-certificate-data: "));
}

#[test]
fn a_certificate_is_told_to_the_service_and_cannot_be_claimed() {
    struct Certified;
    impl Service for Certified {
        fn call_name(&self, _: &Request) -> String {
            "who".into()
        }
        fn answer(&self, request: &Request) -> Reply {
            Reply::text(200, request.header("x-client-certificate").unwrap_or("none"))
        }
    }
    let kube = Kube { service: Arc::new(Certified), token: None };
    let world = World::start(Options { kube: Some(kube), ..Options::default() }).unwrap();
    assert_eq!(tls_ask(&world, false, "localhost").unwrap().1, "none", "the client claims it in a header");
    assert_eq!(tls_ask(&world, true, "localhost").unwrap().1, "verified");
}

/// An API server that knows one token and remembers what it was asked.
struct OneToken;

impl Service for OneToken {
    fn call_name(&self, request: &Request) -> String {
        format!("{} pods", request.method.to_lowercase())
    }

    fn answer(&self, request: &Request) -> Reply {
        if request.header("authorization") != Some("Bearer t0ken") {
            return Reply::json(401, &json!({"kind": "Status", "reason": "Unauthorized"}));
        }
        let asked = format!("{} {}", request.method, request.path);
        Reply::json(200, &json!({"items": [asked], "body": String::from_utf8_lossy(&request.body)}))
    }
}

fn one_token() -> Kube {
    Kube { service: Arc::new(OneToken), token: Some("t0ken".into()) }
}

fn world_with_control() -> (World, String) {
    let mut world =
        World::start(Options { kube: Some(one_token()), kube_plain_http: true, ..Options::default() }).unwrap();
    let control = world.serve_control().unwrap();
    (world, control)
}

fn json_ask(url: &str, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, body) = ask(url, method, target, &body).unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn control_reads_and_changes_the_cloud() {
    let (world, control) = world_with_control();
    let get = |target: &str| json_ask(&control, "GET", target, &Value::Null);
    let post = |target: &str, body: Value| json_ask(&control, "POST", target, &body);
    assert_eq!(post("/cloud/settings", json!({"quota": 1})).1["quota"], 1);
    assert_eq!(buy(&world).unwrap().1["Code"], "QuotaExceeded.Eip");
    let (_, calls) = get("/calls?since=0");
    assert_eq!(calls[0]["ending"], json!({"kind": "answered", "status": 400, "code": "QuotaExceeded.Eip"}));
    let eni =
        json!({"id": "eni-x", "mac": "00:16:3e:00:00:09", "primaryIp": "10.219.3.1", "privateIps": ["10.219.3.2"]});
    assert_eq!(post("/cloud/enis", eni).0, 200);
    assert_eq!(post("/cloud/private-ips", json!({"eni": "eni-x", "ips": ["10.219.3.3"]})).0, 200);
    let eip = post("/cloud/eips", json!({"name": "mine"})).1["id"].as_str().unwrap().to_owned();
    assert_eq!(post("/cloud/bind", json!({"eip": eip, "eni": "eni-x", "privateIp": "10.219.3.3"})).0, 200);
    assert!(world.cloud.eip(&eip).unwrap().is_bound_to("eni-x", "10.219.3.3".parse().unwrap()));
    let (_, state) = get("/state");
    assert_eq!(state["cloud"]["eips"][1]["binding"]["instanceId"], "eni-x");
    assert_eq!(json_ask(&control, "DELETE", "/cloud/enis?id=eni-x", &Value::Null).1["deleted"], true);
    assert!(world.cloud.eip(&eip).unwrap().binding.is_none());
    assert_eq!(json_ask(&control, "DELETE", &format!("/cloud/eips?id={eip}"), &Value::Null).0, 200);
    assert!(world.cloud.eip(&eip).unwrap().released_at.is_some());
    assert_eq!(post("/cloud/settings", json!({"no": 1})).0, 400);
    assert_eq!(get("/nowhere").0, 404);
    assert_eq!(get("/").1.as_array().unwrap().len(), crate::control::ROUTES.len());
}

#[test]
fn control_sets_faults_gates_the_clock_and_services() {
    let (world, control) = world_with_control();
    let post = |target: &str, body: Value| json_ask(&control, "POST", target, &body);
    let rule = json!({"call": "Allocate*", "times": 1, "effect": {"kind": "error", "status": 403, "code": "Forbidden.RAM", "message": "no"}});
    assert_eq!(post("/faults", rule).1["id"], 1);
    let (status, refused) = buy(&world).unwrap();
    assert_eq!((status, &refused["Code"]), (403, &json!("Forbidden.RAM")));
    assert_eq!(refused["AccessDeniedDetail"]["AuthAction"], "vpc:AllocateEipAddress");
    assert_eq!(json_ask(&control, "GET", "/faults", &Value::Null).1[0]["hits"], 1);

    let gate = post("/gates", json!({"call": "Allocate*", "moment": "beforeEffect"})).1["id"].clone();
    let mut stream = buy_in_flight(&world);
    let (_, look) = json_ask(&control, "GET", &format!("/gates?id={gate}&waitMillis=10000"), &Value::Null);
    assert_eq!(look["reached"], true);
    assert_eq!(json_ask(&control, "DELETE", &format!("/gates?id={gate}&outcome=cut"), &Value::Null).0, 200);
    assert!(read_answer(&mut stream).is_err());

    let before = world.clock.now();
    assert_eq!(post("/clock", json!({"advanceSeconds": 3600})).0, 200);
    assert!(world.clock.now().duration_since(before).as_secs() >= 3600);
    assert_eq!(post("/services", json!({"service": "vpc", "up": false})).0, 200);
    assert!(buy(&world).is_err());
}

#[test]
fn control_speaks_to_the_api_server_for_people() {
    let (world, control) = world_with_control();
    let (status, _) = json_ask(&world.kube_url, "GET", "/api/v1/pods", &Value::Null);
    assert_eq!(status, 401, "without a token");
    let (status, answer) = json_ask(&control, "GET", "/kube/api/v1/namespaces/default/pods", &Value::Null);
    assert_eq!((status, &answer["items"][0]), (200, &json!("GET /api/v1/namespaces/default/pods")));
    let (_, made) = json_ask(&control, "POST", "/kube/pods", &json!({"name": "web-0", "annotations": {"a": "b"}}));
    assert!(made["body"].as_str().unwrap().contains("\"annotations\":{\"a\":\"b\"}"), "{made}");
    let (_, gone) = json_ask(&control, "DELETE", "/kube/pods?name=web-0", &Value::Null);
    assert_eq!(gone["items"][0], "DELETE /api/v1/namespaces/default/pods/web-0");
    let (_, state) = json_ask(&control, "GET", "/state", &Value::Null);
    assert_eq!(state["kube"]["podeips"][0], "GET /apis/alibabacloud.com/v1beta1/podeips");
    assert_eq!(world.calls.all().len(), 1, "control's own requests are not in the log");
    assert!(world.kubeconfig().contains("token: \"t0ken\""));
}

#[test]
fn worlds_on_ipv6_and_other_nodes() {
    let mut world = World::start(Options { ipv6: true, ..Options::default() }).unwrap();
    assert!(world.vpc_url.starts_with("http://[::1]:"));
    assert_eq!(buy(&world).unwrap().0, 200);
    let other = world.metadata_of("i-other").unwrap();
    let (_, id) = ask(&other, "GET", "/latest/meta-data/instance-id", "").unwrap();
    assert_eq!(id, "i-other");
}
