//! Metadata as clients in both modes meet it.

use super::*;
use crate::clock::Clock;
use crate::cloud::EniSpec;
use crate::exchange::Body;

struct Node0 {
    clock: Clock,
    cloud: Arc<CloudSim>,
    metadata: Metadata,
}

fn node() -> Node0 {
    let clock = Clock::default();
    let cloud = Arc::new(CloudSim::new(clock.clone()));
    let metadata = Metadata::new(cloud.clone(), defaults::INSTANCE);
    Node0 { clock, cloud, metadata }
}

impl Node0 {
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let request = Request { method: method.into(), path: path.into(), query: vec![], headers, body: vec![] };
        let reply = self.metadata.answer(&request);
        match reply.body {
            Body::Whole(bytes) => (reply.status, String::from_utf8(bytes).unwrap()),
            _ => panic!("metadata streams nothing"),
        }
    }

    fn read(&self, path: &str) -> (u16, String) {
        self.ask("GET", &format!("{ROOT}{path}"), &[])
    }
}

const TTL: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aliyun-ecs-metadata-token";

#[test]
fn tokens() {
    let node = node();
    for (headers, status) in [
        (vec![(TTL, "21600")], 200),
        (vec![(TTL, "21601")], 400),
        (vec![(TTL, "0")], 400),
        (vec![], 400),
        (vec![(TTL, "60"), ("x-forwarded-for", "10.0.0.1")], 403),
    ] {
        assert_eq!(node.ask("PUT", TOKEN_PATH, &headers).0, status, "{headers:?}");
    }
    let token = node.ask("PUT", TOKEN_PATH, &[(TTL, "60")]).1;
    let with = |token: &str| node.ask("GET", "/latest/meta-data/region-id", &[(TOKEN, token)]).0;
    assert_eq!((with(&token), with("stale"), node.read("region-id").0), (200, 401, 200));
    node.cloud.set(|settings| settings.metadata_hardened_only = true);
    assert_eq!((with(&token), node.read("region-id").0), (200, 403));
    node.clock.advance(Duration::from_secs(60));
    assert_eq!(with(&token), 401);
    node.cloud.set(|settings| settings.metadata_enabled = false);
    assert_eq!(node.ask("PUT", TOKEN_PATH, &[(TTL, "60")]).0, 403);
}

#[test]
fn interfaces() {
    let node = node();
    let macs = format!("{}/\n{}/\n", defaults::PRIMARY_MAC, defaults::POD_ENI_MAC);
    assert_eq!(node.read("network/interfaces/macs/"), (200, macs));
    let item = |name: &str| node.read(&format!("network/interfaces/macs/{}/{name}", defaults::POD_ENI_MAC));
    assert_eq!(item("network-interface-id"), (200, defaults::POD_ENI.into()));
    assert_eq!(item("vpc-id"), (200, defaults::VPC.into()));
    assert_eq!(item("netmask"), (200, "255.255.240.0".into()));
    assert_eq!(item("gateway"), (200, "10.219.15.253".into()));
    assert_eq!(item("ipv6s").0, 404);
    let (_, ips) = item("private-ipv4s");
    assert!(!ips.contains('\n'), "one line");
    let ips: Vec<String> = serde_json::from_str(&ips).unwrap();
    assert_eq!((ips.len(), ips[0].as_str(), ips[253].as_str()), (254, "10.219.1.20", "10.219.0.254"));
    assert_eq!(node.read("network/interfaces/macs/00:00:00:00:00:00/vpc-id").0, 404);
    assert_eq!(node.read("mac"), (200, defaults::PRIMARY_MAC.into()));
    assert_eq!(node.read("no-such-item").0, 404);
}

#[test]
fn another_node_sees_its_own_interfaces_and_new_addresses_are_late() {
    let node = node();
    node.cloud.add_eni(EniSpec {
        id: "eni-other".into(),
        mac: "00:16:3e:00:00:99".into(),
        primary_ip: "10.219.5.1".parse().unwrap(),
        instance_id: Some("i-other".into()),
        ..EniSpec::default()
    });
    node.cloud.set(|settings| settings.metadata_private_ip_lag = Duration::from_secs(10));
    node.clock.advance(Duration::from_secs(10));
    node.cloud.add_private_ips("eni-other", &["10.219.5.2".parse().unwrap()]).unwrap();
    let other = Node0 { metadata: Metadata::new(node.cloud.clone(), "i-other"), ..node };
    assert_eq!(other.read("network/interfaces/macs/"), (200, "00:16:3e:00:00:99/\n".into()));
    let ips = || other.read("network/interfaces/macs/00:16:3e:00:00:99/private-ipv4s").1;
    assert_eq!(ips(), r#"["10.219.5.1"]"#);
    other.clock.advance(Duration::from_secs(10));
    assert_eq!(ips(), r#"["10.219.5.1","10.219.5.2"]"#);
}

#[test]
fn without_a_role_there_is_404() {
    let node = node();
    assert_eq!(node.read("ram/security-credentials/"), (200, defaults::ROLE.into()));
    assert_eq!(node.read("ram/security-credentials/other").0, 404);
    node.cloud.set(|settings| settings.role = None);
    assert_eq!(node.read("ram/security-credentials/").0, 404);
    assert_eq!(node.read(&format!("ram/security-credentials/{}", defaults::ROLE)).0, 404);
}
