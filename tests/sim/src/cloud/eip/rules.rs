//! Value rules of an EIP's parameters.

use std::collections::BTreeMap;

use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::settings::Settings;

const SINGLE_LINES: [&str; 6] =
    ["ChinaTelecom", "ChinaUnicom", "ChinaMobile", "ChinaTelecom_L2", "ChinaUnicom_L2", "ChinaMobile_L2"];
/// Hong Kong, Singapore, Tokyo, Kuala Lumpur, Manila, Jakarta, Bangkok.
const BGP_PRO_REGIONS: [&str; 7] = [
    "cn-hongkong",
    "ap-southeast-1",
    "ap-northeast-1",
    "ap-southeast-3",
    "ap-southeast-6",
    "ap-southeast-5",
    "ap-southeast-7",
];
const FINANCE_REGION: &str = "cn-hangzhou-finance";
pub(crate) const TAGS_PER_EIP: usize = 20;

/// How an EIP is paid for.
pub(crate) struct Charge {
    pub instance: String,
    pub internet: String,
    pub bandwidth: u32,
}

pub(crate) fn charge(call: &Rpc) -> ApiResult<Charge> {
    let instance = call.text("InstanceChargeType").unwrap_or("PostPaid");
    let internet = call.text("InternetChargeType").unwrap_or("PayByBandwidth");
    let most = match (instance, internet) {
        ("PostPaid", "PayByBandwidth") => 500,
        ("PostPaid", "PayByTraffic") => 200,
        ("PrePaid", "PayByBandwidth") => 1000,
        ("PrePaid", "PayByTraffic") => {
            return Err(ApiError::invalid("InternetChargeType", "PrePaid goes with PayByBandwidth only"));
        }
        ("PostPaid" | "PrePaid", _) => return Err(ApiError::invalid("InternetChargeType", "no such charge type")),
        _ => return Err(ApiError::invalid("InstanceChargeType", "no such charge type")),
    };
    let bandwidth = bandwidth(call.text("Bandwidth").unwrap_or("5"), most)?;
    Ok(Charge { instance: instance.into(), internet: internet.into(), bandwidth })
}

pub(crate) fn bandwidth(text: &str, most: u32) -> ApiResult<u32> {
    let malformed = || ApiError::bad("InvalidBandwidth.Malformed", "The specified Bandwidth is not a number.");
    let bandwidth = text.parse().map_err(|_| malformed())?;
    if !(1..=most).contains(&bandwidth) {
        return Err(ApiError::invalid("Bandwidth", format!("it has to be 1 to {most} for this charge type")));
    }
    Ok(bandwidth)
}

pub(crate) fn isp(call: &Rpc, charge: &Charge, region: &str, settings: &Settings) -> ApiResult<String> {
    let default = if region == FINANCE_REGION { "BGP_FinanceCloud" } else { "BGP" };
    let isp = call.text("ISP").unwrap_or(default);
    let single_line = SINGLE_LINES.contains(&isp);
    let offered = match isp {
        "BGP" => region != FINANCE_REGION,
        "BGP_PRO" => BGP_PRO_REGIONS.contains(&region),
        "BGP_FinanceCloud" => region == FINANCE_REGION,
        _ => single_line && settings.single_line_isps,
    };
    if !offered && !settings.extra_isps.contains(isp) {
        return Err(ApiError::bad("IllegalParam.Isp", "The specified ISP is not offered to this account here."));
    }
    if single_line && charge.internet != "PayByBandwidth" {
        return Err(ApiError::invalid("InternetChargeType", "a single-line ISP goes with PayByBandwidth only"));
    }
    Ok(isp.into())
}

/// Name and Description: their longest lengths are 128 and 256 characters.
pub(crate) fn prose(call: &Rpc, parameter: &str, longest: usize, settings: &Settings) -> ApiResult<String> {
    let Some(text) = call.text(parameter) else { return Ok(String::new()) };
    let shortest = if settings.older_name_rule && parameter == "Description" { 2 } else { 1 };
    let length = text.chars().count();
    if !(shortest..=longest).contains(&length) {
        return Err(ApiError::invalid(parameter, format!("it has to be {shortest} to {longest} characters long")));
    }
    if has_scheme_prefix(text) {
        return Err(ApiError::invalid(parameter, "it must not start with http:// or https://"));
    }
    if settings.older_name_rule && !is_plain(text) {
        let why = "it has to start with a letter and to consist of letters, digits, '.', '_' and '-'";
        return Err(ApiError::invalid(parameter, why));
    }
    Ok(text.into())
}

fn has_scheme_prefix(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// A letter (CJK ones count), then letters, digits, `.`, `_`, `-`.
fn is_plain(text: &str) -> bool {
    text.starts_with(char::is_alphabetic) && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

pub(crate) fn security_protection(call: &Rpc, settings: &Settings) -> ApiResult<Vec<String>> {
    let kinds = call.list("SecurityProtectionTypes", 1)?;
    for kind in &kinds {
        if kind != "AntiDDoS_Enhanced" {
            return Err(ApiError::invalid("SecurityProtectionTypes", "only AntiDDoS_Enhanced is known"));
        }
        if !settings.ddos_origin_opened {
            let message = "The Anti-DDoS Origin service is not opened.";
            return Err(ApiError::bad("OperationDenied.NotOpenDdosOriginProtectService", message));
        }
    }
    Ok(kinds)
}

/// `Tag.N.Key` and `Tag.N.Value` of a writing action. At Allocate a value must not be empty.
pub(crate) fn tags(call: &Rpc, empty_values: bool, settings: &Settings) -> ApiResult<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for tag in call.structs("Tag", TAGS_PER_EIP)? {
        let missing =
            |field: &str| ApiError::bad(format!("MissingParam.Tag{field}"), format!("Tag.N.{field} is missing."));
        let key = tag.get("Key").ok_or_else(|| missing("Key"))?;
        let value = tag.get("Value").map_or("", String::as_str);
        if key.is_empty() {
            return Err(missing("Key"));
        }
        if value.is_empty() && !empty_values {
            return Err(missing("Value"));
        }
        let longest = if settings.older_tag_rule { 64 } else { 128 };
        if !is_tag_text(key, longest, settings) {
            return Err(ApiError::bad("IllegalParam.TagKey", format!("The tag key is not valid: {key}")));
        }
        if !value.is_empty() && !is_tag_text(value, 128, settings) {
            return Err(ApiError::bad("IllegalParam.TagValue", format!("The tag value is not valid: {value}")));
        }
        if tags.insert(key.clone(), value.to_owned()).is_some() {
            return Err(ApiError::bad("IllegalParam.TagKey", format!("The tag key is given twice: {key}")));
        }
    }
    Ok(tags)
}

fn is_tag_text(text: &str, longest: usize, settings: &Settings) -> bool {
    text.chars().count() <= longest
        && !["aliyun", "acs:"].iter().any(|prefix| text.starts_with(prefix))
        && !["http://", "https://"].iter().any(|part| text.contains(part))
        && (!settings.older_tag_rule || is_plain(text))
}

/// The tags of a query: all have to be there; a key alone matches any value.
pub(crate) fn wanted_tags(call: &Rpc) -> ApiResult<Vec<(String, Option<String>)>> {
    let tags = call.structs("Tag", TAGS_PER_EIP)?.into_iter().map(|mut tag| match tag.remove("Key") {
        Some(key) if !key.is_empty() => Ok((key, tag.remove("Value").filter(|value| !value.is_empty()))),
        _ => Err(ApiError::bad("InvalidTagKey", "A tag of the query has no key.")),
    });
    tags.collect()
}

pub(crate) fn has_tags(tags: &BTreeMap<String, String>, wanted: &[(String, Option<String>)]) -> bool {
    wanted
        .iter()
        .all(|(key, value)| tags.get(key).is_some_and(|present| value.as_ref().is_none_or(|value| value == present)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::rpc::tests::rpc;

    fn code<T>(result: ApiResult<T>) -> String {
        result.err().map_or_else(|| "ok".into(), |error| error.code)
    }

    #[test]
    fn bandwidth_by_charge_type() {
        let cases = [
            ("PostPaid", "PayByTraffic", "200", "ok"),
            ("PostPaid", "PayByTraffic", "201", "InvalidParameter"),
            ("PostPaid", "PayByBandwidth", "500", "ok"),
            ("PostPaid", "PayByBandwidth", "501", "InvalidParameter"),
            ("PrePaid", "PayByBandwidth", "1000", "ok"),
            ("PrePaid", "PayByTraffic", "5", "InvalidParameter"),
            ("PostPaid", "PayByTraffic", "0", "InvalidParameter"),
            ("PostPaid", "PayByTraffic", "5M", "InvalidBandwidth.Malformed"),
        ];
        for (instance, internet, bandwidth, expected) in cases {
            let call =
                rpc(&[("InstanceChargeType", instance), ("InternetChargeType", internet), ("Bandwidth", bandwidth)]);
            assert_eq!(code(charge(&call)), expected, "{instance} {internet} {bandwidth}");
        }
        assert_eq!(charge(&rpc(&[])).unwrap().internet, "PayByBandwidth", "the API's own default");
    }

    #[test]
    fn lines() {
        let mut settings = Settings::default();
        let asked = |isp_name: &str, internet: &str, settings: &Settings| {
            let call = rpc(&[("ISP", isp_name), ("InternetChargeType", internet)]);
            code(isp(&call, &charge(&call).unwrap(), "cn-hangzhou", settings))
        };
        assert_eq!(asked("BGP", "PayByTraffic", &settings), "ok");
        assert_eq!(asked("BGP_PRO", "PayByTraffic", &settings), "IllegalParam.Isp");
        assert_eq!(asked("ChinaTelecom", "PayByBandwidth", &settings), "IllegalParam.Isp");
        settings.single_line_isps = true;
        assert_eq!(asked("ChinaTelecom", "PayByBandwidth", &settings), "ok");
        assert_eq!(asked("ChinaTelecom", "PayByTraffic", &settings), "InvalidParameter");
        assert_eq!(asked("NoSuchLine", "PayByBandwidth", &settings), "IllegalParam.Isp");
    }

    #[test]
    fn names_by_the_newer_and_the_older_rule() {
        let (newer, older) = (Settings::default(), Settings { older_name_rule: true, ..Settings::default() });
        let check = |name: &str, settings| code(prose(&rpc(&[("Name", name)]), "Name", 128, settings));
        for (name, by_newer, by_older) in [
            ("web-0", "ok", "ok"),
            ("default/web-0", "ok", "InvalidParameter"),
            ("0web", "ok", "InvalidParameter"),
            ("弹性", "ok", "ok"),
            ("http://x", "InvalidParameter", "InvalidParameter"),
        ] {
            assert_eq!(check(name, &newer), by_newer, "{name}");
            assert_eq!(check(name, &older), by_older, "{name}");
        }
        assert_eq!(check(&"弹".repeat(128), &newer), "ok", "characters count, not bytes");
        assert_eq!(check(&"x".repeat(129), &newer), "InvalidParameter");
    }

    #[test]
    fn tag_rules() {
        let (newer, older) = (Settings::default(), Settings { older_tag_rule: true, ..Settings::default() });
        let check = |key: &str, value: &str, settings| {
            code(tags(&rpc(&[("Tag.1.Key", key), ("Tag.1.Value", value)]), false, settings))
        };
        for (key, value, by_newer, by_older) in [
            ("podeip-uid", "a-1", "ok", "ok"),
            ("k8s.io/cluster", "c", "ok", "IllegalParam.TagKey"),
            ("aliyun-x", "c", "IllegalParam.TagKey", "IllegalParam.TagKey"),
            ("x", "acs:1", "IllegalParam.TagValue", "IllegalParam.TagValue"),
            ("x", "see http://y", "IllegalParam.TagValue", "IllegalParam.TagValue"),
            ("x", "", "MissingParam.TagValue", "MissingParam.TagValue"),
            ("", "x", "MissingParam.TagKey", "MissingParam.TagKey"),
        ] {
            assert_eq!(check(key, value, &newer), by_newer, "{key} {value}");
            assert_eq!(check(key, value, &older), by_older, "{key} {value}");
        }
        assert_eq!(check(&"k".repeat(128), "v", &newer), "ok");
        assert_eq!(check(&"k".repeat(129), "v", &newer), "IllegalParam.TagKey");
        let twice = rpc(&[("Tag.1.Key", "a"), ("Tag.1.Value", "1"), ("Tag.2.Key", "a"), ("Tag.2.Value", "2")]);
        assert_eq!(code(tags(&twice, false, &newer)), "IllegalParam.TagKey");
    }
}
