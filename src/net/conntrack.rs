//! The kernel's table of connections: whether it rewrites the source address of what a pod sends.
//!
//! Rules that masquerade are made in many ways (iptables, nftables, IPVS, eBPF), but what the
//! netfilter ones do to a connection shows here. eBPF keeps tables of its own, which do not.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::Ipv4Addr;

/// Not every kernel has it.
const TABLE: &str = "/proc/net/nf_conntrack";

/// The address that packets of `private_ip` to the internet get on their way out of this host, if the
/// table shows a connection whose source is rewritten.
///
/// # Errors
/// The kernel shows no table, or not to us.
pub fn rewritten_source(private_ip: Ipv4Addr) -> io::Result<Option<Ipv4Addr>> {
    rewritten_in(BufReader::new(File::open(TABLE)?), private_ip)
}

fn rewritten_in(table: impl BufRead, private_ip: Ipv4Addr) -> io::Result<Option<Ipv4Addr>> {
    for line in table.lines() {
        if let Some(flow) = Flow::of(&line?)
            && flow.source == private_ip
            && is_internet(flow.destination)
            && flow.answers_go_to != private_ip
        {
            return Ok(Some(flow.answers_go_to));
        }
    }
    Ok(None)
}

/// A connection over IPv4.
struct Flow {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    answers_go_to: Ipv4Addr,
}

impl Flow {
    /// Each line tells source and destination twice: as the first packet came, and as answers are expected.
    fn of(line: &str) -> Option<Self> {
        let values = |key: &'static str| line.split_ascii_whitespace().filter_map(move |word| word.strip_prefix(key));
        let (mut sources, mut destinations) = (values("src="), values("dst="));
        let address = |text: Option<&str>| text?.parse().ok();
        Some(Self {
            source: address(sources.next())?,
            destination: address(destinations.next())?,
            answers_go_to: address(destinations.next())?,
        })
    }
}

/// Not in the cluster, the VPC or the host. Services of the cloud and the cluster are below private ranges.
fn is_internet(address: Ipv4Addr) -> bool {
    let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
    let local = address.is_private() || address.is_loopback() || address.is_link_local();
    !(shared || local || address.is_multicast() || address.is_broadcast() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    fn rewritten(lines: &[&str]) -> Option<Ipv4Addr> {
        rewritten_in(lines.join("\n").as_bytes(), POD).unwrap()
    }

    const KEPT: &str = "ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.5 dst=47.1.2.3 sport=4000 dport=443 \
                        src=47.1.2.3 dst=10.0.0.5 sport=443 dport=4000 [ASSURED] mark=0 zone=0 use=2";
    const REWRITTEN: &str = "ipv4     2 udp      17 29 src=10.0.0.5 dst=47.1.2.3 sport=4000 dport=53 [UNREPLIED] \
                             src=47.1.2.3 dst=172.16.0.9 sport=53 dport=4000 mark=0 zone=0 use=2";

    #[test]
    fn a_rewritten_source_shows_in_where_answers_go() {
        assert_eq!(rewritten(&[KEPT]), None);
        assert_eq!(rewritten(&[KEPT, REWRITTEN]), Some(Ipv4Addr::new(172, 16, 0, 9)));
    }

    #[test]
    fn only_what_this_pod_sends_to_the_internet_counts() {
        assert_eq!(rewritten(&[&REWRITTEN.replace("src=10.0.0.5", "src=10.0.0.6")]), None);
        for inside in ["10.96.0.1", "172.20.3.4", "192.168.0.1", "100.100.2.136", "169.254.20.10", "127.0.0.1"] {
            assert_eq!(rewritten(&[&REWRITTEN.replace("47.1.2.3", inside)]), None, "{inside}");
        }
        let odd = ["", "ipv6     10 tcp      6 src=fd00::1 dst=2400::1 src=2400::1 dst=fd00::1", "src=10.0.0.5", "x"];
        assert_eq!(rewritten(&odd), None);
    }
}
