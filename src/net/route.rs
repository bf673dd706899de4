//! The host's policy routing: over which device a pod's packets leave the node, hence which ENI
//! its private IP is on.
//!
//! Primary plugins that give a pod a secondary address of an ENI add a rule `from <pod's IP>
//! lookup <table of that ENI>`. The other rules of the pod (`to <IP> lookup main`) say nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteNextHopFlags, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use super::netlink::{Entrance, Kernel, ask};
use super::{Mac, NetError, netns};

/// The kernel goes on with its list of rules by position. When a rule in front goes meanwhile, it
/// leaves out another one, and does not mark the dump as interrupted: with 1500 rules and a busy
/// writer two of three dumps lacked one. So one reading does not prove that there is no rule.
const RULE_READINGS: u32 = 3;

/// The table, and the priority of the rule that leads everybody into it whom no other rule led away.
const MAIN: (u32, u32) = (254, 32766);

/// Completes "cannot …".
const READING: &str = "read the host's policy rules and routes";

/// What the host's policy rules say about a private IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleLookup {
    /// The hardware address of the device that the IP's packets leave through.
    pub mac: Option<Mac>,
    /// What was looked at, in plain words, for a message to the operator.
    pub looked_at: Vec<String>,
}

/// A rule `from <ip>`, or `from all` with the unspecified address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    priority: u32,
    from: Ipv4Addr,
    iif: Option<String>,
    /// `None` unless the rule looks into a table.
    table: Option<u32>,
    /// What else a packet must have; such a rule does not decide where the others go.
    narrowed_by: Vec<&'static str>,
}

/// A way out of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    prefix: u8,
    metric: u32,
    to: Ipv4Addr,
    index: u32,
}

/// Follows the rules `from private_ip` of the caller's namespace, by priority, into their tables
/// and to the device of the default route, else of another route. No rule is no error.
///
/// # Errors
/// [`NetError`] when the kernel could not be asked, [`NetError::TimedOut`] after a few seconds.
pub fn interface_by_policy_rule(private_ip: Ipv4Addr) -> Result<RuleLookup, NetError> {
    ask(READING, None, async move |kernel: &Kernel| by_rules(kernel, private_ip).await)
}

/// Where the host routes what comes from `private_ip`: as [`interface_by_policy_rule`], and where no
/// rule decides, by the main table.
///
/// # Errors
/// As [`interface_by_policy_rule`].
pub fn interface_by_routing(private_ip: Ipv4Addr) -> Result<RuleLookup, NetError> {
    ask(READING, None, async move |kernel: &Kernel| {
        let mut found = by_rules(kernel, private_ip).await?;
        if found.mac.is_none() {
            found.mac = follow(kernel, &Rule::for_everybody(), &mut found.looked_at).await?;
        }
        Ok(found)
    })
}

/// The device of the default route of the namespace at `netns`; `None` without such a route.
///
/// # Errors
/// [`NetError::NetnsGone`] when there is no namespace; the others as [`interface_by_policy_rule`].
pub fn default_device_in(netns: &Path) -> Result<Option<String>, NetError> {
    let entrance = Entrance { path: netns.to_owned(), namespace: netns::open(netns)? };
    ask("read the routes of a pod", Some(entrance), async move |kernel: &Kernel| {
        let ways = ways_in(kernel, MAIN.0, Ipv4Addr::UNSPECIFIED).await?;
        match ways.into_iter().find(|way| way.prefix == 0) {
            Some(way) => Ok(kernel.link_by_index(way.index).await?.map(|link| link.name)),
            None => Ok(None),
        }
    })
}

async fn by_rules(kernel: &Kernel, private_ip: Ipv4Addr) -> Result<RuleLookup, NetError> {
    let mut request = RuleMessage::default();
    request.header.family = AddressFamily::Inet;
    let request = RouteNetlinkMessage::GetRule(request);
    let read = async || kernel.dump(request.clone(), |answer| Rule::of(private_ip, answer)).await;
    let mut rules = until_found(read).await?;
    // Stable: rules of one priority apply in the order in which they were added.
    rules.sort_by_key(|rule| rule.priority);
    let mut looked_at = Vec::new();
    for rule in &rules {
        let mac = follow(kernel, rule, &mut looked_at).await?;
        if mac.is_some() {
            return Ok(RuleLookup { mac, looked_at });
        }
    }
    if rules.is_empty() {
        looked_at.push(format!("no rule from {private_ip}"));
    }
    Ok(RuleLookup { mac: None, looked_at })
}

/// What `read` finds, read again while that is nothing.
async fn until_found<T>(read: impl AsyncFn() -> Result<Vec<T>, NetError>) -> Result<Vec<T>, NetError> {
    let mut found = Vec::new();
    for _ in 0..RULE_READINGS {
        found = read().await?;
        if !found.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// The hardware address of the first device with one that `rule` leads to.
async fn follow(kernel: &Kernel, rule: &Rule, looked_at: &mut Vec<String>) -> Result<Option<Mac>, NetError> {
    let Some(table) = rule.table else {
        looked_at.push(format!("{rule}, which looks into no table"));
        return Ok(None);
    };
    if !rule.narrowed_by.is_empty() {
        looked_at.push(format!("{rule}, which is for some packets only ({})", rule.narrowed_by.join(", ")));
        return Ok(None);
    }
    let ways = ways_in(kernel, table, rule.from).await?;
    if ways.is_empty() {
        looked_at.push(format!("{rule} -> no route in table {table}"));
    }
    for way in ways {
        let Some(link) = kernel.link_by_index(way.index).await? else {
            looked_at.push(format!("{rule} -> {way} over interface {}, which is gone", way.index));
            continue;
        };
        match link.mac {
            Some(mac) => {
                looked_at.push(format!("{rule} -> {way} dev {} ({mac})", link.name));
                return Ok(Some(mac));
            }
            None => looked_at.push(format!("{rule} -> {way} dev {} (no hardware address)", link.name)),
        }
    }
    Ok(None)
}

/// The ways out of `table`: the default route first, then the widest; among equals the one the
/// kernel prefers.
async fn ways_in(kernel: &Kernel, table: u32, to_pod: Ipv4Addr) -> Result<Vec<Way>, NetError> {
    let mut ways = kernel.dump(route_request(table), |answer| ways_of(table, to_pod, answer)).await?.concat();
    ways.sort_by_key(|way| (way.prefix, way.metric));
    Ok(ways)
}

fn route_request(table: u32) -> RouteNetlinkMessage {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    request.attributes.push(RouteAttribute::Table(table));
    RouteNetlinkMessage::GetRoute(request)
}

impl Rule {
    /// The rule of every host that comes after all others.
    fn for_everybody() -> Self {
        let (table, priority) = MAIN;
        Self { priority, from: Ipv4Addr::UNSPECIFIED, iif: None, table: Some(table), narrowed_by: Vec::new() }
    }

    /// The rule in one message of a dump, if it is for packets from exactly `ip`.
    fn of(ip: Ipv4Addr, answer: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewRule(message) = answer else { return None };
        let from_ip = message.attributes.contains(&RuleAttribute::Source(IpAddr::V4(ip)));
        if message.header.src_len != 32 || !from_ip || message.header.flags.contains(RuleFlags::Invert) {
            return None;
        }
        // The header's field has 8 bits; tables beyond 255 are in the attribute only.
        let mut table = u32::from(message.header.table);
        let mut rule = Rule { priority: 0, from: ip, iif: None, table: None, narrowed_by: Vec::new() };
        for attribute in message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = priority,
                RuleAttribute::Table(number) => table = number,
                RuleAttribute::Iifname(name) => rule.iif = Some(name),
                other => rule.narrowed_by.extend(narrowing(&other)),
            }
        }
        if message.header.tos != 0 {
            rule.narrowed_by.push("tos");
        }
        rule.table = (message.header.action == RuleAction::ToTable).then_some(table);
        Some(rule)
    }
}

/// The name of a selector that makes a rule apply to some packets only. The incoming interface is
/// none: a pod's packets all come from its own host-side device.
fn narrowing(attribute: &RuleAttribute) -> Option<&'static str> {
    match attribute {
        RuleAttribute::Destination(_) => Some("to"),
        RuleAttribute::FwMark(mark) if *mark != 0 => Some("fwmark"),
        RuleAttribute::Oifname(_) => Some("oif"),
        RuleAttribute::UidRange(_) => Some("uidrange"),
        RuleAttribute::IpProtocol(_) => Some("ipproto"),
        RuleAttribute::SourcePortRange(_) => Some("sport"),
        RuleAttribute::DestinationPortRange(_) => Some("dport"),
        RuleAttribute::TunId(id) if *id != 0 => Some("tun_id"),
        _ => None,
    }
}

/// The ways out in one message of a dump, if it is a route of `table` to anywhere but `to_pod`.
fn ways_of(table: u32, to_pod: Ipv4Addr, answer: RouteNetlinkMessage) -> Option<Vec<Way>> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    let mut way =
        Way { prefix: message.header.destination_prefix_length, metric: 0, to: Ipv4Addr::UNSPECIFIED, index: 0 };
    let mut in_table = u32::from(message.header.table);
    let mut indexes = Vec::new();
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Table(number) => in_table = number,
            RouteAttribute::Priority(metric) => way.metric = metric,
            RouteAttribute::Destination(RouteAddress::Inet(to)) => way.to = to,
            RouteAttribute::Oif(index) => indexes.push(index),
            RouteAttribute::MultiPath(hops) => indexes.extend(
                hops.iter().filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead)).map(|hop| hop.interface_index),
            ),
            _ => {}
        }
    }
    let leads_back = way.prefix == 32 && way.to == to_pod;
    if in_table != table || message.header.kind != RouteType::Unicast || leads_back {
        return None;
    }
    Some(indexes.into_iter().map(|index| Way { index, ..way.clone() }).collect())
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} from ", self.priority)?;
        if self.from.is_unspecified() {
            f.write_str("all")?
        } else {
            self.from.fmt(f)?
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        match self.table {
            Some(table) => write!(f, " lookup {table}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == 0 { f.write_str("default") } else { write!(f, "{}/{}", self.to, self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn rule(change: impl FnOnce(&mut RuleMessage)) -> Option<Rule> {
        let mut message = RuleMessage::default();
        message.header.src_len = 32;
        message.header.table = 252;
        message.header.action = RuleAction::ToTable;
        message.attributes =
            vec![RuleAttribute::Source(POD.into()), RuleAttribute::Table(1003), RuleAttribute::Priority(2048)];
        change(&mut message);
        Rule::of(POD, RouteNetlinkMessage::NewRule(message))
    }

    fn route(prefix: u8, attributes: Vec<RouteAttribute>) -> RouteNetlinkMessage {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.header.table = 252;
        message.header.destination_prefix_length = prefix;
        message.attributes = attributes;
        message.attributes.push(RouteAttribute::Table(1003));
        RouteNetlinkMessage::NewRoute(message)
    }

    #[test]
    fn one_reading_without_a_rule_proves_nothing() {
        let after = |empty: u32| {
            let readings = Cell::new(0);
            let read = async || {
                readings.set(readings.get() + 1);
                Ok(if readings.get() > empty { vec!["rule"] } else { vec![] })
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let found = runtime.block_on(until_found(read)).unwrap();
            (found.len(), readings.get())
        };
        assert_eq!(after(0), (1, 1));
        assert_eq!(after(2), (1, 3));
        assert_eq!(after(9), (0, RULE_READINGS));
    }

    #[test]
    fn takes_the_table_from_the_attribute_and_lets_the_incoming_interface_pass() {
        let plain = rule(|_| {}).unwrap();
        assert_eq!(plain.to_string(), "rule 2048 from 10.0.0.5 lookup 1003");
        let from_device = rule(|message| message.attributes.push(RuleAttribute::Iifname("cali1".into()))).unwrap();
        assert_eq!(from_device.to_string(), "rule 2048 from 10.0.0.5 iif cali1 lookup 1003");
        assert!(from_device.narrowed_by.is_empty());
        assert_eq!(rule(|message| message.header.action = RuleAction::Blackhole).unwrap().table, None);
    }

    #[test]
    fn is_about_exactly_this_address() {
        assert_eq!(rule(|message| message.header.src_len = 24), None);
        assert_eq!(rule(|message| message.header.flags = RuleFlags::Invert), None);
        assert_eq!(rule(|message| message.attributes[0] = RuleAttribute::Destination(POD.into())), None);
        assert_eq!(rule(|message| message.attributes[0] = RuleAttribute::Source("10.0.0.50".parse().unwrap())), None);
    }

    #[test]
    fn knows_rules_that_are_for_some_packets_only() {
        let narrowed = |attribute| rule(|message| message.attributes.push(attribute)).unwrap().narrowed_by;
        assert_eq!(narrowed(RuleAttribute::FwMark(1)), ["fwmark"]);
        assert_eq!(narrowed(RuleAttribute::FwMark(0)), [""; 0]);
        assert_eq!(narrowed(RuleAttribute::Oifname("eth0".into())), ["oif"]);
        assert_eq!(narrowed(RuleAttribute::Destination(POD.into())), ["to"]);
        assert_eq!(rule(|message| message.header.tos = 8).unwrap().narrowed_by, ["tos"]);
    }

    #[test]
    fn ways_lead_out_of_the_table_and_not_back_to_the_pod() {
        let ways = |table, answer| ways_of(table, POD, answer);
        let default = route(0, vec![RouteAttribute::Oif(7), RouteAttribute::Priority(10)]);
        let expected = Way { prefix: 0, metric: 10, to: Ipv4Addr::UNSPECIFIED, index: 7 };
        assert_eq!(ways(1003, default.clone()), Some(vec![expected]));
        assert_eq!(ways(1004, default), None, "kernels without strict checking send all tables");
        let to_pod = route(32, vec![RouteAttribute::Destination(RouteAddress::Inet(POD)), RouteAttribute::Oif(9)]);
        assert_eq!(ways(1003, to_pod), None);
        let RouteNetlinkMessage::NewRoute(mut blackhole) = route(0, vec![]) else { unreachable!() };
        blackhole.header.kind = RouteType::BlackHole;
        assert_eq!(ways(1003, RouteNetlinkMessage::NewRoute(blackhole)), None);
    }

    #[test]
    fn every_living_hop_of_a_multipath_route_is_a_way() {
        let hop = |index, flags| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop.flags = flags;
            hop
        };
        let hops = vec![hop(3, RouteNextHopFlags::Dead), hop(4, RouteNextHopFlags::empty())];
        let ways = ways_of(1003, POD, route(0, vec![RouteAttribute::MultiPath(hops)])).unwrap();
        assert_eq!(ways.iter().map(|way| way.index).collect::<Vec<_>>(), [4]);
    }
}
