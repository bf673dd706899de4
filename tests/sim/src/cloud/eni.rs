//! Elastic network interfaces and ECS DescribeNetworkInterfaces.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::defaults;
use crate::cloud::eip::{Status, rules};
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::state::{State, api_time};

/// Primary (the instance's eth0) or secondary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EniKind {
    Primary,
    #[default]
    Secondary,
}

/// A network interface as a test describes it. Absent fields of the JSON form take the default
/// world's VPC, vSwitch, zone and node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EniSpec {
    pub id: String,
    /// Lower case, with colons.
    pub mac: String,
    pub primary_ip: Ipv4Addr,
    /// Secondary private IPs.
    pub private_ips: Vec<Ipv4Addr>,
    /// IP prefixes such as `10.219.8.16/28`; EIPs cannot be bound to their addresses.
    pub prefixes: Vec<String>,
    pub kind: EniKind,
    pub vpc_id: String,
    pub vswitch_id: String,
    pub vswitch_cidr: String,
    pub zone_id: String,
    /// The instance it is attached to; `None`: detached, status `Available`.
    pub instance_id: Option<String>,
    /// `InUse` or `Available` by attachment when `None`; else `Attaching`, `Detaching`, ….
    pub status: Option<String>,
    pub tags: BTreeMap<String, String>,
}

impl Default for EniSpec {
    fn default() -> Self {
        Self {
            id: String::new(),
            mac: String::new(),
            primary_ip: Ipv4Addr::UNSPECIFIED,
            private_ips: Vec::new(),
            prefixes: Vec::new(),
            kind: EniKind::Secondary,
            vpc_id: defaults::VPC.into(),
            vswitch_id: defaults::VSWITCH.into(),
            vswitch_cidr: defaults::VSWITCH_CIDR.into(),
            zone_id: defaults::ZONE.into(),
            instance_id: Some(defaults::INSTANCE.into()),
            status: None,
            tags: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Eni {
    pub spec: EniSpec,
    pub made_at: Timestamp,
    /// When each secondary private IP was assigned.
    pub assigned: BTreeMap<Ipv4Addr, Timestamp>,
}

impl Eni {
    pub fn new(spec: EniSpec, now: Timestamp) -> Self {
        let assigned = spec.private_ips.iter().map(|ip| (*ip, now)).collect();
        Self { spec, made_at: now, assigned }
    }

    pub fn add_private_ip(&mut self, ip: Ipv4Addr, now: Timestamp) {
        if !self.holds(ip) {
            self.spec.private_ips.push(ip);
            self.assigned.insert(ip, now);
        }
    }

    /// The primary IP, then the secondary ones.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        std::iter::once(self.spec.primary_ip).chain(self.spec.private_ips.iter().copied())
    }

    pub fn holds(&self, ip: Ipv4Addr) -> bool {
        self.addresses().any(|held| held == ip)
    }

    pub fn prefix_holds(&self, ip: Ipv4Addr) -> bool {
        self.spec.prefixes.iter().any(|prefix| prefix_holds(prefix, ip))
    }

    pub fn status(&self) -> &str {
        match (&self.spec.status, &self.spec.instance_id) {
            (Some(status), _) => status,
            (None, Some(_)) => "InUse",
            (None, None) => "Available",
        }
    }
}

fn prefix_holds(prefix: &str, ip: Ipv4Addr) -> bool {
    let Some((base, length)) = prefix.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<Ipv4Addr>(), length.parse::<u32>()) else { return false };
    let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
    u32::from(base) & mask == u32::from(ip) & mask
}

/// ECS DescribeNetworkInterfaces.
pub(crate) fn describe(state: &State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    state.in_region(call)?;
    let filter = Filter::of(call)?;
    let found: Vec<&Eni> = state.enis.values().filter(|eni| filter.takes(eni)).collect();
    let (from, size) = page(call)?;
    let entries: Vec<Value> = found.iter().skip(from).take(size).map(|eni| entry(state, now, eni)).collect();
    let end = from + entries.len();
    let next = if end < found.len() { format!("sim-{end}") } else { String::new() };
    Ok(json!({"NetworkInterfaceSets": {"NetworkInterfaceSet": entries}, "NextToken": next,
              "TotalCount": found.len(), "PageNumber": from / size + 1, "PageSize": size}))
}

/// Offset and size: MaxResults with NextToken, else the deprecated PageNumber with PageSize.
fn page(call: &Rpc) -> ApiResult<(usize, usize)> {
    let number = |name, default, least, most| {
        Ok::<usize, ApiError>(
            call.number(name)?.map_or(default, |n| usize::try_from(n).unwrap_or(most)).clamp(least, most),
        )
    };
    if let Some(token) = call.text("NextToken") {
        let from = token.strip_prefix("sim-").and_then(|from| from.parse().ok());
        let from = from.ok_or_else(|| ApiError::invalid("NextToken", "it was not given out by this action"))?;
        return Ok((from, number("MaxResults", 10, 10, 500)?));
    }
    if call.text("PageNumber").is_some() || call.text("PageSize").is_some() {
        let size = number("PageSize", 10, 1, 500)?;
        return Ok(((number("PageNumber", 1, 1, usize::MAX)? - 1).saturating_mul(size), size));
    }
    Ok((0, number("MaxResults", 10, 10, 500)?))
}

/// What a single-valued filter looks at.
type EniText = fn(&Eni) -> String;

struct Filter<'a> {
    ids: Vec<String>,
    private_ips: Vec<String>,
    exact: Vec<(&'a str, EniText)>,
    tags: Vec<(String, Option<String>)>,
}

const EXACT: [(&str, EniText); 7] = [
    ("PrimaryIpAddress", |eni| eni.spec.primary_ip.to_string()),
    ("VpcId", |eni| eni.spec.vpc_id.clone()),
    ("VSwitchId", |eni| eni.spec.vswitch_id.clone()),
    ("InstanceId", |eni| eni.spec.instance_id.clone().unwrap_or_default()),
    ("SecurityGroupId", |_| defaults::SECURITY_GROUP.into()),
    ("Type", |eni| format!("{:?}", eni.spec.kind)),
    ("Status", |eni| eni.status().into()),
];

impl<'a> Filter<'a> {
    fn of(call: &'a Rpc) -> ApiResult<Self> {
        let exact = EXACT.iter().filter_map(|(name, field)| Some((call.text(name)?, *field))).collect();
        Ok(Self {
            ids: call.list("NetworkInterfaceId", 100)?,
            private_ips: call.list("PrivateIpAddress", 100)?,
            exact,
            tags: rules::wanted_tags(call)?,
        })
    }

    fn takes(&self, eni: &Eni) -> bool {
        (self.ids.is_empty() || self.ids.contains(&eni.spec.id))
            && (self.private_ips.is_empty() || eni.addresses().any(|ip| self.private_ips.contains(&ip.to_string())))
            && self.exact.iter().all(|(wanted, field)| field(eni) == *wanted)
            && rules::has_tags(&eni.spec.tags, &self.tags)
    }
}

fn entry(state: &State, now: Timestamp, eni: &Eni) -> Value {
    let spec = &eni.spec;
    let sets: Vec<Value> = eni.addresses().map(|ip| private_ip_set(state, now, spec, ip)).collect();
    let tags: Vec<Value> = spec.tags.iter().map(|(key, value)| json!({"TagKey": key, "TagValue": value})).collect();
    let prefixes: Vec<Value> = spec.prefixes.iter().map(|prefix| json!({"Ipv4Prefix": prefix})).collect();
    let instance = spec.instance_id.as_deref().unwrap_or_default();
    let index = if spec.kind == EniKind::Primary { 0 } else { 1 };
    json!({
        "NetworkInterfaceId": spec.id, "MacAddress": spec.mac, "Status": eni.status(),
        "Type": format!("{:?}", spec.kind), "NetworkInterfaceName": "", "Description": "",
        "CreationTime": api_time(eni.made_at), "DeleteOnRelease": true, "SourceDestCheck": false,
        "QueueNumber": 2, "NetworkInterfaceTrafficMode": "Standard",
        "InstanceId": instance,
        "Attachment": {"InstanceId": spec.instance_id, "DeviceIndex": index,
                       "TrunkNetworkInterfaceId": null, "NetworkCardIndex": null},
        "VpcId": spec.vpc_id, "VSwitchId": spec.vswitch_id, "ZoneId": spec.zone_id,
        "SecurityGroupIds": {"SecurityGroupId": [defaults::SECURITY_GROUP]},
        "ResourceGroupId": defaults::RESOURCE_GROUP, "OwnerId": defaults::ACCOUNT, "ServiceManaged": false,
        "PrivateIpAddress": spec.primary_ip,
        "AssociatedPublicIp": public_ip(state, now, &spec.id, spec.primary_ip),
        "PrivateIpSets": {"PrivateIpSet": sets},
        "Ipv6Sets": {"Ipv6Set": []},
        "Ipv4PrefixSets": {"Ipv4PrefixSet": prefixes}, "Ipv6PrefixSets": {"Ipv6PrefixSet": []},
        "Tags": {"Tag": tags},
    })
}

fn private_ip_set(state: &State, now: Timestamp, spec: &EniSpec, ip: Ipv4Addr) -> Value {
    json!({"PrivateIpAddress": ip, "Primary": ip == spec.primary_ip, "PrivateDnsName": null,
           "AssociatedPublicIp": public_ip(state, now, &spec.id, ip)})
}

/// The EIP of one private IP. The real AllocationId is invitation-only, so it is null here.
fn public_ip(state: &State, now: Timestamp, eni: &str, ip: Ipv4Addr) -> Value {
    let bound = state.living_eips().find(|eip| {
        eip.occupies(eni, ip) && eip.visible(now, &state.settings).is_some_and(|facts| facts.status == Status::InUse)
    });
    match bound {
        Some(eip) => json!({"PublicIpAddress": eip.facts().address, "AllocationId": null}),
        None => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::tests::{call, world};

    #[test]
    fn prefixes_hold_their_addresses_only() {
        assert!(prefix_holds("10.219.8.16/28", Ipv4Addr::new(10, 219, 8, 31)));
        assert!(!prefix_holds("10.219.8.16/28", Ipv4Addr::new(10, 219, 8, 32)));
        assert!(prefix_holds("0.0.0.0/0", Ipv4Addr::new(1, 2, 3, 4)));
    }

    #[test]
    fn a_private_ip_and_its_vpc_find_exactly_one_eni() {
        let world = world();
        let find = |ip: &str, vpc: &str| {
            let answer = call(
                &world,
                "DescribeNetworkInterfaces",
                &[("RegionId", "cn-hangzhou"), ("VpcId", vpc), ("PrivateIpAddress.1", ip)],
            );
            let sets = answer.unwrap()["NetworkInterfaceSets"]["NetworkInterfaceSet"].clone();
            sets.as_array().unwrap().iter().map(|set| set["NetworkInterfaceId"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(find("10.219.0.7", defaults::VPC), [defaults::POD_ENI]);
        assert_eq!(find("10.219.0.7", "vpc-other"), Vec::<Value>::new());
        assert_eq!(find("10.219.7.7", defaults::VPC), Vec::<Value>::new());
    }

    #[test]
    fn pages_by_next_token() {
        let world = world();
        for n in 0..23_u8 {
            world.add_eni(EniSpec {
                id: format!("eni-page{n:02}"),
                mac: format!("00:16:3e:00:01:{n:02x}"),
                primary_ip: Ipv4Addr::new(10, 219, 4, n),
                vpc_id: "vpc-pages".into(),
                ..EniSpec::default()
            });
        }
        let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let query =
                [("RegionId", "cn-hangzhou"), ("VpcId", "vpc-pages"), ("MaxResults", "3"), ("NextToken", &token)];
            let answer = call(&world, "DescribeNetworkInterfaces", &query).unwrap();
            let sets = answer["NetworkInterfaceSets"]["NetworkInterfaceSet"].as_array().unwrap().clone();
            assert!(sets.len() <= 10, "a smaller MaxResults means 10");
            seen.extend(sets.iter().map(|set| set["NetworkInterfaceId"].as_str().unwrap().to_owned()));
            token = answer["NextToken"].as_str().unwrap().to_owned();
            pages += 1;
            if token.is_empty() {
                break;
            }
        }
        seen.dedup();
        assert_eq!((seen.len(), pages), (23, 3));
    }
}
