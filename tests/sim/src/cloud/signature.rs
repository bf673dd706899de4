//! Signature version 1.0 of the RPC style, from the server's side.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;

use crate::cloud::rpc::Rpc;

/// Everything but `A-Z a-z 0-9 - _ . ~`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The text that the client should have signed: over what arrived, empty values included.
pub(crate) fn string_to_sign(call: &Rpc) -> String {
    let mut sorted: Vec<&(String, String)> = call.parameters.iter().filter(|(key, _)| key != "Signature").collect();
    sorted.sort();
    let pairs: Vec<String> = sorted.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    format!("{}&{}&{}", call.method, encode("/"), encode(&pairs.join("&")))
}

/// Base64 of HMAC-SHA1, keyed with the secret and a final `&`.
pub(crate) fn sign(text: &str, secret: &str) -> String {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(format!("{secret}&").as_bytes()).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::rpc::tests::rpc;

    const SECRET: &str = "exampleSecretKey0000000000001A";

    fn signature(method: &str, parameters: &[(&str, &str)], secret: &str) -> String {
        let call = Rpc { method: method.into(), ..rpc(parameters) };
        sign(&string_to_sign(&call), secret)
    }

    #[test]
    fn published_example() {
        let parameters = [
            ("AccessKeyId", "testid"),
            ("Action", "DescribeRegions"),
            ("Format", "XML"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2016-02-23T12:46:24Z"),
            ("Version", "2014-05-26"),
            ("Signature", "is not part of its own input"),
        ];
        assert_eq!(signature("GET", &parameters, "testsecret"), "OLeaidS1JvxuMvnyHOwuJ+uX5qY=");
    }

    #[test]
    fn the_method_and_empty_values_are_part_of_the_text() {
        let mut parameters = vec![
            ("Action", "AllocateEipAddress"),
            ("Version", "2016-04-28"),
            ("Format", "JSON"),
            ("RegionId", "cn-hangzhou"),
            ("Bandwidth", "5"),
            ("InternetChargeType", "PayByTraffic"),
            ("ISP", "BGP"),
            ("ClientToken", "9f1c2d34-5b6a-4c7d-8e9f-0a1b2c3d4e5f"),
            ("Timestamp", "2025-01-02T03:04:05Z"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", "5d41402a-bc4b-4a76-b971-9d911017c592"),
            ("AccessKeyId", "LTAI5tExampleKeyId00001"),
        ];
        assert_eq!(signature("POST", &parameters, SECRET), "g0JhYaix3Q1cS8jRh8cSLWH+0vg=");
        parameters.push(("SignatureType", ""));
        assert_eq!(signature("POST", &parameters, SECRET), "EiPpvg+Kr38gVlK4wRuq101O4Gc=");
        assert_eq!(signature("GET", &parameters, SECRET), "k7dnoXeXgJK5IQptGELJ+KbI/is=");
    }

    #[test]
    fn special_characters() {
        let parameters = [
            ("RegionId", "cn-hangzhou"),
            ("Version", "2016-04-28"),
            ("Action", "AllocateEipAddress"),
            ("Format", "JSON"),
            ("Timestamp", "2025-01-02T03:04:05Z"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureType", ""),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", "7b52009b-64fd-4a2a-8e1d-1c0f9d2b3a4e"),
            ("AccessKeyId", "LTAI5tExampleKeyId00001"),
            ("Name", "弹性公网IP ~test*+1"),
            ("Description", r#"{"pod":"default/web-0","note":"a b&c=d/e%f"}"#),
            ("Tag.1.Key", "k8s.io/cluster"),
            ("Tag.1.Value", "c-01~*"),
            ("Tag.2.Key", "owner"),
            ("Tag.2.Value", "eip cni"),
            ("SecurityProtectionTypes.1", "AntiDDoS_Enhanced"),
        ];
        assert_eq!(signature("POST", &parameters, SECRET), "jEfgGTHvn83hOtIV4c9nP7jJcgY=");
    }

    #[test]
    fn temporary_credentials() {
        let parameters = [
            ("Action", "DescribeEipAddresses"),
            ("Version", "2016-04-28"),
            ("Format", "JSON"),
            ("RegionId", "cn-hangzhou"),
            ("PageSize", "100"),
            ("AllocationId", "eip-bp1aaaaaaaaaaaaaaaaa1,eip-bp1aaaaaaaaaaaaaaaaa2"),
            ("Timestamp", "2025-01-02T03:04:05Z"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureType", ""),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", "c9f0f895-fb98-4ab9-9f1d-2b5c6d7e8f90"),
            ("AccessKeyId", "STS.NExampleTempKeyId0001"),
            ("SecurityToken", "CAISexample/token+with==special~chars*"),
        ];
        let secret = "exampleTempSecret00000000000000000001";
        assert_eq!(signature("GET", &parameters, secret), "18T4E0EyuftIQVRKx5BFsHcVWK4=");
    }
}
