//! `Cloud` against scripted servers, and what the other tests here build it from.

use std::sync::Mutex;

use crate::secret::Secret;

use super::scripted::{Server, Step, deadline};
use super::*;

/// Remembers what it was told and asks for a fixed wait.
#[derive(Clone, Default)]
pub(super) struct Note {
    pub told: Arc<Mutex<Vec<String>>>,
    pub wait: Duration,
}

impl ThrottleNote for Note {
    fn wait(&self, _: &str) -> Duration {
        self.wait
    }

    fn throttled(&self, action: &str) {
        self.told.lock().unwrap().push(action.into());
    }
}

pub(super) const SECRET: &str = "exampleSecretKey0000000000001A";

/// Every endpoint is `server`; region, VPC and AccessKey are configured.
pub(super) fn config(server: &Server) -> Config {
    let url = Some(server.url());
    Config {
        region: Some("cn-hangzhou".into()),
        vpc_id: Some("vpc-1".into()),
        endpoints: Endpoints { vpc: url.clone(), ecs: url.clone(), sts: url.clone(), metadata: url, plain_http: false },
        access_key: Some(AccessKey { id: "LTAI5tExampleKeyId00001".into(), secret: Secret::new(SECRET) }),
        addon_token: None,
        rrsa: None,
        credential_cache: "/nowhere/credentials.json".into(),
        tally: Arc::default(),
    }
}

pub(super) fn cloud(server: &Server) -> Cloud {
    Cloud::new(config(server), Box::new(Note::default())).unwrap()
}

#[test]
fn region_and_vpc_are_learnt_once_by_all_threads() {
    let server =
        Server::start(vec![Step::answer(404, ""), Step::answer(200, "cn-beijing\n"), Step::answer(200, "vpc-9\n")]);
    let config = Config { region: Some(String::new()), vpc_id: None, ..config(&server) };
    let cloud = Cloud::new(config, Box::new(Note::default())).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(cloud.region(deadline()).unwrap(), "cn-beijing"));
        }
    });
    assert_eq!(cloud.vpc_id(deadline()).unwrap(), "vpc-9");
    assert_eq!(cloud.vpc_id(deadline()).unwrap(), "vpc-9");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn prepare_fetches_region_and_credentials() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = r#"{"Code":"Success","AccessKeyId":"STS.a","AccessKeySecret":"hush","SecurityToken":"token",
        "Expiration":"2999-01-02T03:04:05Z"}"#;
    let metadata = Server::start(vec![
        Step::answer(404, ""),
        Step::answer(200, "cn-beijing"),
        Step::answer(200, "worker"),
        Step::answer(200, credentials),
    ]);
    let api = Server::start(vec![Step::answer(200, r#"{"AccountId":"1","RequestId":"R"}"#)]);
    let endpoints = Endpoints { metadata: Some(metadata.url()), sts: Some(api.url()), ..Endpoints::default() };
    let credential_cache = directory.path().join("credentials.json");
    let tally = Arc::default();
    let config = Config {
        region: None,
        vpc_id: None,
        endpoints,
        access_key: None,
        addon_token: None,
        rrsa: None,
        credential_cache,
        tally,
    };
    let cloud = Cloud::new(config, Box::new(Note::default())).unwrap();
    cloud.prepare(deadline()).unwrap();
    assert_eq!(metadata.requests().len(), 4);
    cloud.caller_identity(deadline()).unwrap();
    assert_eq!(metadata.requests().len(), 4);
    assert_eq!(api.requests()[0].parameter("SecurityToken").as_deref(), Some("token"));
}

#[test]
fn a_node_without_a_region_is_told_where_to_set_it() {
    let server = Server::start(vec![Step::answer(404, ""), Step::answer(404, "")]);
    let config = Config { region: None, ..config(&server) };
    let error = Cloud::new(config, Box::new(Note::default())).unwrap().region(deadline()).unwrap_err();
    assert!(error.to_string().contains("set it in eni_conf"), "{error}");
}

#[test]
fn the_configuration_shows_no_secret() {
    let shown = format!("{:?}", config(&Server::start(vec![])));
    assert!(shown.contains("LTAI5tExampleKeyId00001") && !shown.contains(SECRET), "{shown}");
}

#[test]
fn is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Cloud>();
}
