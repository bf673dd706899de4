//! The chain against a scripted metadata service.

use super::*;
use crate::cloud::scripted::{Server, Step, deadline, http};

fn role_json(name: &str, minutes: i64) -> String {
    let end = Timestamp::now() + SignedDuration::from_mins(minutes);
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ");
    format!(
        r#"{{"Code":"Success","AccessKeyId":"STS.{name}","AccessKeySecret":"hush-{name}","SecurityToken":"token-{name}",
            "LastUpdated":"2025-01-02T03:04:05Z","Expiration":"{end}"}}"#
    )
}

/// No hardened mode, then `steps`.
fn plain(steps: impl IntoIterator<Item = Step>) -> Server {
    Server::start([Step::answer(404, "")].into_iter().chain(steps).collect())
}

fn chain(server: &Server, directory: &Path) -> Chain {
    let metadata = Arc::new(Metadata::new(&server.url(), http()));
    Chain::new(Sources::default(), metadata, directory.join("credentials.json"))
}

#[test]
fn an_access_key_needs_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(vec![]);
    let key = AccessKey { id: "LTAI1".into(), secret: Secret::new("hush") };
    let metadata = Arc::new(Metadata::new(&server.url(), http()));
    let chain = Chain::new(
        Sources { access_key: Some(key.clone()), ..Sources::default() },
        metadata,
        directory.path().join("credentials.json"),
    );
    let credentials = chain.current(deadline()).unwrap();
    assert_eq!(credentials.key, key);
    assert_eq!(chain.renew(&credentials, deadline()).unwrap(), None);
    assert!(!directory.path().join("credentials.json").exists());
}

#[test]
fn the_role_is_cached_for_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let first = plain([Step::answer(200, "worker"), Step::answer(200, &role_json("a", 360))]);
    assert_eq!(chain(&first, directory.path()).current(deadline()).unwrap().key.id, "STS.a");
    let next = plain([Step::answer(200, "worker")]);
    assert_eq!(chain(&next, directory.path()).current(deadline()).unwrap().key.id, "STS.a");
    assert_eq!(next.requests().len(), 2);
}

#[test]
fn a_cache_of_another_role_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let first = plain([Step::answer(200, "worker"), Step::answer(200, &role_json("a", 360))]);
    chain(&first, directory.path()).current(deadline()).unwrap();
    let next = plain([Step::answer(200, "other"), Step::answer(200, &role_json("b", 360))]);
    assert_eq!(chain(&next, directory.path()).current(deadline()).unwrap().key.id, "STS.b");
}

#[test]
fn a_cache_outlives_a_silent_metadata_service() {
    let directory = tempfile::tempdir().unwrap();
    let first = plain([Step::answer(200, "worker"), Step::answer(200, &role_json("a", 360))]);
    chain(&first, directory.path()).current(deadline()).unwrap();
    let silent = Server::start(vec![]);
    assert_eq!(chain(&silent, directory.path()).current(deadline()).unwrap().key.id, "STS.a");
}

#[test]
fn renewal_goes_past_the_cache_and_happens_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = plain([
        Step::answer(200, "worker"),
        Step::answer(200, &role_json("a", 360)),
        Step::answer(200, "worker"),
        Step::answer(200, &role_json("b", 360)),
    ]);
    let chain = chain(&server, directory.path());
    let stale = chain.current(deadline()).unwrap();
    std::thread::scope(|scope| {
        let renewals: Vec<_> = (0..4).map(|_| scope.spawn(|| chain.renew(&stale, deadline()))).collect();
        for renewal in renewals {
            assert_eq!(renewal.join().unwrap().unwrap().unwrap().key.id, "STS.b");
        }
    });
    assert_eq!(server.requests().len(), 5);
    assert_eq!(chain.cache.read().unwrap().credentials.key.id, "STS.b");
}

#[test]
fn threads_share_one_fetch() {
    let directory = tempfile::tempdir().unwrap();
    let server = plain([Step::answer(200, "worker"), Step::answer(200, &role_json("a", 360))]);
    let chain = chain(&server, directory.path());
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| chain.current(deadline()))).collect();
        for one in all {
            assert_eq!(one.join().unwrap().unwrap().key.id, "STS.a");
        }
    });
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn credentials_near_their_end_are_renewed_or_used_as_long_as_they_last() {
    let directory = tempfile::tempdir().unwrap();
    let server = plain([Step::answer(200, "worker"), Step::answer(200, &role_json("a", 5))]);
    let chain = chain(&server, directory.path());
    assert_eq!(chain.current(deadline()).unwrap().key.id, "STS.a");
    // Just fetched: the source is not asked again.
    assert_eq!(chain.current(deadline()).unwrap().key.id, "STS.a");
    assert_eq!(server.requests().len(), 3);
    // Fetched a while ago, and the source is down: they still last five minutes.
    let mut held = chain.held().unwrap();
    held.since -= RENEW_PAUSE;
    *chain.held.lock().unwrap() = Some(held);
    assert_eq!(chain.current(deadline()).unwrap().key.id, "STS.a");
}

#[test]
fn no_source_names_what_was_tried() {
    let directory = tempfile::tempdir().unwrap();
    let server = plain([Step::answer(404, "")]);
    let error = chain(&server, directory.path()).current(deadline()).unwrap_err();
    assert_eq!(error.class(), Class::NoCredentials);
    assert_eq!(
        error.to_string(),
        "cloud credentials: no cloud credentials: access_key and access_secret are not set; \
         credential_path is not set; enable_rrsa is off; the node has no RAM role (1 try)"
    );
    assert!(error.hint().unwrap().contains("attach a RAM role"));
}

#[test]
fn unusable_answers_are_told_apart_and_leak_nothing() {
    let failed = plain([Step::answer(200, "worker"), Step::answer(200, r#"{"Code":"Failed"}"#)]);
    let directory = tempfile::tempdir().unwrap();
    let error = chain(&failed, directory.path()).current(deadline()).unwrap_err();
    assert_eq!(error.class(), Class::NoCredentials);
    let garbled =
        plain([Step::answer(200, "worker"), Step::answer(200, r#"{"Code":"Success","Expiration":"hush-a"}"#)]);
    let error = chain(&garbled, directory.path()).current(deadline()).unwrap_err();
    assert_eq!(error.class(), Class::Unanswered);
    assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
}

#[test]
fn debug_shows_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let server = plain([Step::answer(200, "worker"), Step::answer(200, &role_json("a", 360))]);
    let credentials = chain(&server, directory.path()).current(deadline()).unwrap();
    let shown = format!("{credentials:?}");
    assert!(shown.contains("STS.a") && !shown.contains("hush") && !shown.contains("token-a"), "{shown}");
}

#[test]
fn an_addon_token_that_is_missing_leaves_it_to_the_role_and_a_broken_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token-config");
    let with_token = |server: &Server| {
        let metadata = Arc::new(Metadata::new(&server.url(), http()));
        let sources = Sources { addon_token: Some(path.clone()), ..Sources::default() };
        Chain::new(sources, metadata, directory.path().join("credentials.json"))
    };
    let server = plain([Step::answer(200, "worker"), Step::answer(200, &role_json("a", 360))]);
    assert_eq!(with_token(&server).current(deadline()).unwrap().key.id, "STS.a");
    std::fs::write(&path, "{").unwrap();
    let nobody = Server::start(vec![]);
    let failure = with_token(&nobody).current(deadline()).unwrap_err();
    assert_eq!(failure.class(), Class::NoCredentials);
    assert!(failure.to_string().contains("token-config is not the JSON of an add-on token"), "{failure}");
}
