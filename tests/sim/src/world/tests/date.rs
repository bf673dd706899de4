//! The `Date` of the API server's answers: the world's time, not the machine's.

use jiff::fmt::rfc2822::DateTimeParser;

use super::*;
use crate::cloud::defaults::KUBE_TOKEN;

const LEAP: Duration = Duration::from_secs(40 * 24 * 60 * 60);

/// A world that is 40 days ahead of its machine.
fn ahead() -> World {
    let world = World::start(Options { kube_plain_http: true, ..Options::default() }).unwrap();
    world.clock.advance(LEAP);
    world
}

/// The status and the `Date` of an answer, read up to the end of its head: a stream has no other.
fn dated(url: &str, target: &str, token: &str) -> io::Result<(u16, String)> {
    let mut stream = connect(url)?;
    write!(stream, "GET {target} HTTP/1.1\r\nhost: sim\r\nauthorization: Bearer {token}\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let dates: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("date: ")).collect();
    assert_eq!(dates.len(), 1, "{head}");
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), dates[0].to_owned()))
}

/// The date as a point in time; IMF-fixdate knows whole seconds and GMT only.
fn parsed(date: &str) -> jiff::Timestamp {
    assert_eq!((date.len(), date.get(3..5), date.get(25..)), (29, Some(", "), Some(" GMT")), "{date}");
    DateTimeParser::new().parse_timestamp(date).unwrap()
}

#[test]
fn every_answer_of_the_api_server_tells_the_worlds_time() {
    let world = ahead();
    let asked = [("/api/v1/pods", KUBE_TOKEN, 200), ("/api/v1/pods", "wrong", 401), ("/version", KUBE_TOKEN, 200)];
    for (target, token, expected) in asked.into_iter().chain([("/api/v1/pods?watch=true", KUBE_TOKEN, 200)]) {
        let before = world.clock.now();
        let (status, date) = dated(&world.kube_url, target, token).unwrap();
        let date = parsed(&date);
        assert_eq!(status, expected, "{target}");
        assert!(before.as_second() <= date.as_second() && date <= world.clock.now(), "{target}: {date}");
    }
    world.faults.add(Rule::on("get pods", Effect::error(503, "ServiceUnavailable", "not now")));
    let (status, date) = dated(&world.kube_url, "/api/v1/namespaces/default/pods/web-0", KUBE_TOKEN).unwrap();
    assert_eq!(status, 503);
    assert!(parsed(&date) > jiff::Timestamp::now() + LEAP / 2, "{date}");
}

#[test]
fn the_cloud_tells_the_machines_time() {
    let world = ahead();
    for url in [&world.vpc_url, &world.metadata_url] {
        let (_, date) = dated(url, "/", "").unwrap();
        assert!(parsed(&date) <= jiff::Timestamp::now(), "{url}: {date}");
    }
}
