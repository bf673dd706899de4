//! RPC signature version 1.0: which text is signed, and how parameters are written on the wire.
//!
//! Pure. The wire form of a request is its canonical form too, so one encoder serves both.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;

use crate::secret::Secret;

/// Name and value, as sent.
pub(super) type Parameter = (String, String);

/// RFC 3986's unreserved characters stay; form encoders differ in space, `*` and `~`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The parameters sorted by name, byte by byte, and encoded: `a=1&b=2`. Empty values stay.
pub(super) fn canonical(parameters: &[Parameter]) -> String {
    let mut sorted: Vec<&Parameter> = parameters.iter().collect();
    sorted.sort();
    let pairs: Vec<String> = sorted.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// What is signed. It holds the security token: treat it like a secret.
pub(super) fn string_to_sign(method: &str, parameters: &[Parameter]) -> String {
    format!("{method}&%2F&{}", encode(&canonical(parameters)))
}

/// The value of the parameter `Signature`, not yet encoded.
pub(super) fn sign(text: &str, access_secret: &Secret) -> String {
    let key = format!("{}&", access_secret.reveal());
    let mut mac = Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Vec<Parameter> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn signature(method: &str, pairs: &[(&str, &str)], secret: &str) -> String {
        sign(&string_to_sign(method, &parameters(pairs)), &Secret::new(secret))
    }

    const SECRET: &str = "exampleSecretKey0000000000001A";

    const ALLOCATE: [(&str, &str); 13] = [
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

    #[test]
    fn the_published_example() {
        let pairs = [
            ("AccessKeyId", "testid"),
            ("Action", "DescribeRegions"),
            ("Format", "XML"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2016-02-23T12:46:24Z"),
            ("Version", "2014-05-26"),
        ];
        assert_eq!(
            string_to_sign("GET", &parameters(&pairs)),
            "GET&%2F&AccessKeyId%3Dtestid%26Action%3DDescribeRegions%26Format%3DXML%26SignatureMethod%3DHMAC-SHA1\
             %26SignatureNonce%3D3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf%26SignatureVersion%3D1.0\
             %26Timestamp%3D2016-02-23T12%253A46%253A24Z%26Version%3D2014-05-26"
        );
        assert_eq!(signature("GET", &pairs, "testsecret"), "OLeaidS1JvxuMvnyHOwuJ+uX5qY=");
    }

    #[test]
    fn method_and_empty_parameters_are_signed() {
        let mut with_type = ALLOCATE.to_vec();
        with_type.push(("SignatureType", ""));
        assert_eq!(signature("POST", &with_type, SECRET), "EiPpvg+Kr38gVlK4wRuq101O4Gc=");
        assert_eq!(signature("GET", &with_type, SECRET), "k7dnoXeXgJK5IQptGELJ+KbI/is=");
        assert_eq!(signature("POST", &ALLOCATE, SECRET), "g0JhYaix3Q1cS8jRh8cSLWH+0vg=");
        assert_eq!(encode("EiPpvg+Kr38gVlK4wRuq101O4Gc="), "EiPpvg%2BKr38gVlK4wRuq101O4Gc%3D");
    }

    #[test]
    fn special_characters() {
        let body = [
            ("Name", "弹性公网IP ~test*+1"),
            ("Description", r#"{"pod":"default/web-0","note":"a b&c=d/e%f"}"#),
            ("Tag.1.Key", "k8s.io/cluster"),
            ("Tag.1.Value", "c-01~*"),
            ("Tag.2.Key", "owner"),
            ("Tag.2.Value", "eip cni"),
            ("SecurityProtectionTypes.1", "AntiDDoS_Enhanced"),
        ];
        assert_eq!(
            canonical(&parameters(&body)),
            "Description=%7B%22pod%22%3A%22default%2Fweb-0%22%2C%22note%22%3A%22a%20b%26c%3Dd%2Fe%25f%22%7D\
             &Name=%E5%BC%B9%E6%80%A7%E5%85%AC%E7%BD%91IP%20~test%2A%2B1&SecurityProtectionTypes.1=AntiDDoS_Enhanced\
             &Tag.1.Key=k8s.io%2Fcluster&Tag.1.Value=c-01~%2A&Tag.2.Key=owner&Tag.2.Value=eip%20cni"
        );
        let mut all = vec![
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
        ];
        all.extend(body);
        assert_eq!(signature("POST", &all, SECRET), "jEfgGTHvn83hOtIV4c9nP7jJcgY=");
    }

    #[test]
    fn temporary_credentials() {
        let pairs = [
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
        assert_eq!(signature("GET", &pairs, "exampleTempSecret00000000000000000001"), "18T4E0EyuftIQVRKx5BFsHcVWK4=");
    }

    #[test]
    fn names_sort_by_byte() {
        let pairs = [("Tag.2.Key", "b"), ("InternetChargeType", "x"), ("Tag.10.Key", "a"), ("ISP", "BGP")];
        assert_eq!(canonical(&parameters(&pairs)), "ISP=BGP&InternetChargeType=x&Tag.10.Key=a&Tag.2.Key=b");
    }
}
