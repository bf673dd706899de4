//! Instance metadata of one node.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::cloud::CloudSim;
use crate::cloud::defaults;
use crate::cloud::eni::{Eni, EniKind};
use crate::cloud::state::{State, api_time};
use crate::exchange::{Reply, Request, Service};

const ROOT: &str = "/latest/meta-data/";
const TOKEN_PATH: &str = "/latest/api/token";
const LONGEST_TTL: u64 = 21_600;

/// The metadata service that one instance sees.
pub struct Metadata {
    cloud: Arc<CloudSim>,
    instance: String,
}

impl Metadata {
    pub fn new(cloud: Arc<CloudSim>, instance: impl Into<String>) -> Self {
        Self { cloud, instance: instance.into() }
    }
}

impl Service for Metadata {
    /// `put token`, or `get` and the path below `meta-data/`.
    fn call_name(&self, request: &Request) -> String {
        let method = request.method.to_lowercase();
        match request.path.strip_prefix(ROOT) {
            Some(path) => format!("{method} {path}"),
            None if request.path == TOKEN_PATH => format!("{method} token"),
            None => format!("{method} {}", request.path),
        }
    }

    fn answer(&self, request: &Request) -> Reply {
        let now = self.cloud.now();
        let mut state = self.cloud.lock();
        if !state.settings.metadata_enabled {
            return Reply::text(403, "Forbidden\n");
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("PUT", TOKEN_PATH) => new_token(&mut state, now, request),
            ("GET", path) => match admitted(&state, now, request) {
                Err(refusal) => refusal,
                Ok(()) => {
                    let found = path
                        .strip_prefix(ROOT)
                        .and_then(|path| Node { instance: &self.instance, now }.read(&mut state, path));
                    found.map_or_else(|| Reply::text(404, "404 - Not Found\n"), |text| Reply::text(200, text))
                }
            },
            _ => Reply::text(405, "Method Not Allowed\n"),
        }
    }
}

fn new_token(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    if request.header("x-forwarded-for").is_some() {
        return Reply::text(403, "Forbidden\n");
    }
    let ttl = request.header("x-aliyun-ecs-metadata-token-ttl-seconds").and_then(|ttl| ttl.parse::<u64>().ok());
    let Some(ttl) = ttl.filter(|ttl| (1..=LONGEST_TTL).contains(ttl)) else {
        return Reply::text(400, "Bad Request\n");
    };
    let token = format!("{}==", uuid::Uuid::new_v4().simple());
    state.metadata_tokens.insert(token.clone(), now + Duration::from_secs(ttl));
    Reply::text(200, token)
}

fn admitted(state: &State, now: Timestamp, request: &Request) -> Result<(), Reply> {
    match request.header("x-aliyun-ecs-metadata-token") {
        Some(token) if state.metadata_tokens.get(token).is_some_and(|expires| *expires > now) => Ok(()),
        Some(_) => Err(Reply::text(401, "Unauthorized\n")),
        None if state.settings.metadata_hardened_only => Err(Reply::text(403, "Forbidden\n")),
        None => Ok(()),
    }
}

/// One node's view. `None` is 404.
struct Node<'a> {
    instance: &'a str,
    now: Timestamp,
}

impl Node<'_> {
    fn read(&self, state: &mut State, path: &str) -> Option<String> {
        if let Some(path) = path.strip_prefix("ram/security-credentials/") {
            return self.role(state, path);
        }
        if let Some(path) = path.strip_prefix("network/interfaces/macs/") {
            return self.interface(state, path);
        }
        let eth0 = self.enis(state).find(|eni| eni.spec.kind == EniKind::Primary);
        let of_eth0 = |field: fn(&Eni) -> String| eth0.map(field);
        match path {
            "" => Some("instance-id\nmac\nnetwork/\nram/\nregion-id\nvpc-id\nzone-id\n".into()),
            "region-id" => Some(state.region.clone()),
            "zone-id" => of_eth0(|eni| eni.spec.zone_id.clone()),
            "instance-id" => Some(self.instance.into()),
            "instance/instance-type" => Some(defaults::INSTANCE_TYPE.into()),
            "owner-account-id" => Some(defaults::ACCOUNT.into()),
            "vpc-id" => of_eth0(|eni| eni.spec.vpc_id.clone()),
            "vswitch-id" => of_eth0(|eni| eni.spec.vswitch_id.clone()),
            "vpc-cidr-block" => Some(defaults::VPC_CIDR.into()),
            "vswitch-cidr-block" => of_eth0(|eni| eni.spec.vswitch_cidr.clone()),
            "private-ipv4" => of_eth0(|eni| eni.spec.primary_ip.to_string()),
            "mac" => of_eth0(|eni| eni.spec.mac.clone()),
            "eipv4" | "public-ipv4" => self.eth0_eip(state),
            _ => None,
        }
    }

    fn enis<'s>(&self, state: &'s State) -> impl Iterator<Item = &'s Eni> {
        let instance = self.instance.to_owned();
        state.enis.values().filter(move |eni| eni.spec.instance_id.as_ref() == Some(&instance))
    }

    fn eth0_eip(&self, state: &State) -> Option<String> {
        let bound = |binding: &crate::cloud::eip::Binding| binding.instance_id == self.instance;
        let eip = state.living_eips().find(|eip| eip.facts().binding.as_ref().is_some_and(bound))?;
        Some(eip.facts().address.to_string())
    }

    fn interface(&self, state: &State, path: &str) -> Option<String> {
        if path.is_empty() {
            return Some(self.enis(state).map(|eni| format!("{}/\n", eni.spec.mac)).collect());
        }
        let (mac, item) = path.split_once('/')?;
        let eni = self.enis(state).find(|eni| eni.spec.mac == mac)?;
        let spec = &eni.spec;
        match item {
            "" => Some("network-interface-id\nprimary-ip-address\nprivate-ipv4s\nvpc-id\nvswitch-id\n".into()),
            "network-interface-id" => Some(spec.id.clone()),
            "primary-ip-address" => Some(spec.primary_ip.to_string()),
            "private-ipv4s" => Some(self.private_ips(state, eni)),
            "vswitch-id" => Some(spec.vswitch_id.clone()),
            "vpc-id" => Some(spec.vpc_id.clone()),
            "vswitch-cidr-block" => Some(spec.vswitch_cidr.clone()),
            "vpc-cidr-block" => Some(defaults::VPC_CIDR.into()),
            "netmask" => Some(netmask(&spec.vswitch_cidr)?.to_string()),
            "gateway" => Some(gateway(&spec.vswitch_cidr)?.to_string()),
            "ipv4-prefixes" if !spec.prefixes.is_empty() => Some(json!(spec.prefixes).to_string()),
            _ => None,
        }
    }

    /// A JSON array on one line; a new secondary IP is late.
    fn private_ips(&self, state: &State, eni: &Eni) -> String {
        let lag = state.settings.metadata_private_ip_lag;
        let shown = |ip: &std::net::Ipv4Addr| eni.assigned.get(ip).is_none_or(|at| *at + lag <= self.now);
        let shown: Vec<String> = eni.addresses().filter(shown).map(|ip| ip.to_string()).collect();
        json!(shown).to_string()
    }

    fn role(&self, state: &mut State, path: &str) -> Option<String> {
        let role = state.settings.role.clone()?;
        match path {
            "" => Some(role),
            _ if path == role => Some(self.role_credentials(state, &role)),
            _ => None,
        }
    }

    /// The present credentials, or new ones when these will expire soon.
    fn role_credentials(&self, state: &mut State, role: &str) -> String {
        let (lifetime, rotation) = (state.settings.credential_lifetime, state.settings.credential_rotation);
        let rotation = rotation.min(lifetime / 2);
        let present = state.temporaries.iter().rev().find(|temporary| {
            temporary.role == role && temporary.session == self.instance && self.now + rotation < temporary.expires
        });
        let present = match present {
            Some(present) => present.clone(),
            None => state.issue(role, self.instance, lifetime, self.now),
        };
        let updated = present.expires - jiff::SignedDuration::try_from(lifetime).unwrap_or_default();
        json!({
            "Code": "Success", "AccessKeyId": present.access_key_id, "AccessKeySecret": present.secret,
            "SecurityToken": present.token, "LastUpdated": api_time(updated), "Expiration": api_time(present.expires),
        })
        .to_string()
    }
}

fn netmask(cidr: &str) -> Option<std::net::Ipv4Addr> {
    let length: u32 = cidr.split_once('/')?.1.parse().ok()?;
    Some(u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0).into())
}

/// The third address from the end of the vSwitch.
fn gateway(cidr: &str) -> Option<std::net::Ipv4Addr> {
    let base: std::net::Ipv4Addr = cidr.split_once('/')?.0.parse().ok()?;
    let mask = u32::from(netmask(cidr)?);
    Some(((u32::from(base) & mask | !mask) - 2).into())
}

#[cfg(test)]
mod tests;
