//! What the plugins before us reported: echoed byte for byte, read only for the pod's address.

use std::net::Ipv4Addr;

use serde_json::Value;
use serde_json::value::RawValue;

/// `prevResult` as it was received.
///
/// Its shape differs from one primary plugin and version to the next, and unknown fields belong
/// to others, so it is never decoded into a type and encoded again.
#[derive(Clone, Debug)]
pub struct PrevResult(Box<RawValue>);

impl PrevResult {
    /// `None` when `json` is not a JSON object.
    pub fn new(json: &RawValue) -> Option<Self> {
        json.get().starts_with('{').then(|| Self(json.to_owned()))
    }

    /// The received text.
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// The pod's IPv4: of `ips[]` the first that belongs to an interface called `ifname`, else
    /// the first at all. `None` when the result has none; the netns may still know one.
    pub fn pod_ipv4(&self, ifname: &str) -> Option<Ipv4Addr> {
        let result: Value = serde_json::from_str(self.json()).ok()?;
        let interfaces = elements(&result, "interfaces");
        let is_ours = |ip: &Value| {
            let index = ip.get("interface").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
            let named = index.and_then(|index| interfaces.get(index)).and_then(|interface| interface.get("name"));
            named.and_then(Value::as_str) == Some(ifname)
        };
        let ips = elements(&result, "ips");
        ips.iter().filter(|ip| is_ours(ip)).find_map(ipv4).or_else(|| ips.iter().find_map(ipv4))
    }
}

/// The array at `key`; absent, null and anything else are an empty one.
fn elements<'a>(result: &'a Value, key: &str) -> &'a [Value] {
    result.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The IPv4 of one entry of `ips[]`, whose `address` carries a prefix length or not.
fn ipv4(ip: &Value) -> Option<Ipv4Addr> {
    let address = ip.get("address")?.as_str()?;
    let address: Ipv4Addr = address.split_once('/').map_or(address, |(address, _)| address).parse().ok()?;
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(json: &str) -> PrevResult {
        PrevResult::new(serde_json::from_str::<&RawValue>(json).unwrap()).unwrap()
    }

    fn address(json: &str) -> Option<String> {
        result(json).pod_ipv4("eth0").map(|ip| ip.to_string())
    }

    #[test]
    fn reads_the_address_of_every_known_shape() {
        let shapes = [
            // ptp and bridge: the index names the container's side.
            r#"{"cniVersion":"1.0.0","dns":{},"interfaces":[{"name":"veth1","mac":"aa"},{"name":"eth0","sandbox":"/run/netns/x"}],
                "ips":[{"address":"10.1.0.9/24","interface":0},{"address":"10.1.0.3/24","gateway":"10.1.0.1","interface":1}],"routes":null}"#,
            // Terway: the sandbox is a container id, not a path.
            r#"{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"0f3c"}],"ips":[{"version":"4","interface":0,"address":"10.1.0.3/32"}],"dns":{}}"#,
            // 0.3.x, dual stack, no interfaces at all.
            r#"{"cniVersion":"0.3.1","ips":[{"version":"6","address":"fd00::1/64"},{"version":"4","address":"10.1.0.3/32"}]}"#,
            // Calico: a host-side interface only; the index is wrong, negative or missing.
            r#"{"interfaces":[{"name":"cali1","mac":"","sandbox":""}],"ips":[{"address":"10.1.0.3/32","interface":-1}]}"#,
            r#"{"interfaces":[{"name":"cali1"}],"ips":[{"address":"10.1.0.3/32","interface":7}]}"#,
            r#"{"interfaces":null,"ips":[{"address":"10.1.0.3"}],"routes":null}"#,
            // AWS: a dummy interface with numbers for texts of another meaning.
            r#"{"interfaces":[{"name":"enix"},{"name":"eth0","sandbox":"/x"},{"name":"dummy","mac":"0","sandbox":"1"}],
                "ips":[{"address":"10.1.0.3/32","interface":1}]}"#,
            // Junk in between.
            r#"{"interfaces":[null,3,{"name":4},{"name":"eth0"}],"ips":[null,{},{"address":7},{"address":"x/24"},{"address":"0.0.0.0/0"},
                {"address":"127.0.0.1/8"},{"address":"10.1.0.9","interface":1.5},{"address":"10.1.0.3/24","interface":3}]}"#,
        ];
        for json in shapes {
            assert_eq!(address(json).as_deref(), Some("10.1.0.3"), "{json}");
        }
    }

    #[test]
    fn finds_nothing_where_there_is_nothing() {
        for json in [
            "{}",
            r#"{"ips":null}"#,
            r#"{"ips":{}}"#,
            r#"{"ips":[{"address":"fd00::1/64","interface":0}],"interfaces":[{"name":"eth0"}]}"#,
        ] {
            assert_eq!(address(json), None, "{json}");
        }
    }

    #[test]
    fn echoes_byte_for_byte() {
        let json = "{ \"ips\" : [ ],\n  \"unknown\":1.50, \"z\":\"\\u003c\\/\", \"a\":12345678901234567890123 }";
        assert_eq!(result(json).json(), json);
    }

    #[test]
    fn only_an_object_is_a_result() {
        for json in ["null", "[]", "\"x\"", "1"] {
            assert!(PrevResult::new(serde_json::from_str::<&RawValue>(json).unwrap()).is_none());
        }
    }
}
