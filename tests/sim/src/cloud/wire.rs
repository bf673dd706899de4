//! Answers as they travel: JSON or XML by the request's `Format`, with RequestId and HostId.

use serde_json::{Map, Value, json};

use crate::cloud::error::ApiError;
use crate::exchange::{Body, Reply, Request};

/// Codes whose answers say which permission is missing.
const PERMISSION_CODES: [&str; 4] = ["Forbidden.RAM", "NoPermission", "Forbidden", "Forbidden.SubUser"];

/// A request's parameter, from the query or the form body.
pub(crate) fn parameter(request: &Request, name: &str) -> Option<String> {
    let body = request.form();
    request.query.iter().chain(&body).find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

pub(crate) fn success(request: &Request, answer: Value) -> Reply {
    let mut fields = match answer {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("RequestId".into(), request_id().into());
    let action = parameter(request, "Action").unwrap_or_default();
    render(request, 200, &format!("{action}Response"), fields)
}

pub(crate) fn error_reply(request: &Request, error: &ApiError) -> Reply {
    let mut fields = Map::new();
    fields.insert("RequestId".into(), request_id().into());
    fields.insert("HostId".into(), request.header("host").unwrap_or("localhost").into());
    fields.insert("Code".into(), error.code.clone().into());
    fields.insert("Message".into(), error.message.clone().into());
    let product = parameter(request, "Version").unwrap_or_default();
    let recommend = format!("https://api.example.com/troubleshoot?q={}&version={product}", error.code);
    fields.insert("Recommend".into(), recommend.into());
    if error.status == 403 && PERMISSION_CODES.contains(&error.code.as_str()) {
        let action = parameter(request, "Action").unwrap_or_default();
        fields.insert("AccessDeniedDetail".into(), access_denied(&action));
    }
    render(request, error.status, "Error", fields)
}

fn access_denied(action: &str) -> Value {
    json!({
        "AuthAction": format!("vpc:{action}"),
        "AuthPrincipalType": "SubUser",
        "AuthPrincipalDisplayName": "200000000000000001",
        "AuthPrincipalOwnerId": "100000000000000001",
        "NoPermissionType": "ImplicitDeny",
        "PolicyType": "AccountLevelIdentityBasedPolicy",
        "EncodedDiagnosticMessage": "AQEAAAAAZGlhZ25vc3RpYw==",
    })
}

fn request_id() -> String {
    uuid::Uuid::new_v4().to_string().to_uppercase()
}

fn render(request: &Request, status: u16, root: &str, fields: Map<String, Value>) -> Reply {
    // XML is the default of the real gateway: a client that forgets Format has to find out.
    if parameter(request, "Format").is_some_and(|format| format.eq_ignore_ascii_case("json")) {
        return Reply::json(status, &Value::Object(fields));
    }
    let mut text = String::from("<?xml version='1.0' encoding='UTF-8'?>");
    element(&mut text, root, &Value::Object(fields));
    Reply {
        status,
        content_type: "text/xml;charset=utf-8".into(),
        location: None,
        body: Body::Whole(text.into_bytes()),
    }
}

fn element(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| element(text, name, item)),
        Value::Object(fields) => {
            text.push_str(&format!("<{name}>"));
            fields.iter().for_each(|(key, value)| element(text, key, value));
            text.push_str(&format!("</{name}>"));
        }
        Value::Null => text.push_str(&format!("<{name}></{name}>")),
        Value::String(content) => text.push_str(&format!("<{name}>{}</{name}>", escaped(content))),
        other => text.push_str(&format!("<{name}>{other}</{name}>")),
    }
}

fn escaped(content: &str) -> String {
    content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &[(&str, &str)]) -> Request {
        let query = query.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let headers = vec![("host".into(), "vpc.example:80".into())];
        Request { method: "GET".into(), path: "/".into(), query, headers, body: vec![] }
    }

    fn text(reply: Reply) -> String {
        match reply.body {
            Body::Whole(bytes) => String::from_utf8(bytes).unwrap(),
            _ => panic!("an RPC answer is never a stream"),
        }
    }

    #[test]
    fn without_a_format_the_answer_is_xml() {
        let error = ApiError::bad("TaskConflict", "a < b & c");
        let body = text(error_reply(&request(&[("Action", "X")]), &error));
        assert!(body.contains("<Error>") && body.contains("<Code>TaskConflict</Code>"), "{body}");
        assert!(body.contains("<Message>a &lt; b &amp; c</Message>"), "{body}");
        let body = text(success(&request(&[("Action", "X")]), json!({"Tags": {"Tag": [{"Key": "a"}, {"Key": "b"}]}})));
        assert!(body.contains("<XResponse><RequestId>") || body.contains("<XResponse><Tags>"), "{body}");
        assert!(body.contains("<Tags><Tag><Key>a</Key></Tag><Tag><Key>b</Key></Tag></Tags>"), "{body}");
    }

    #[test]
    fn a_refused_permission_says_which() {
        let error = ApiError::new(403, "Forbidden.RAM", "no");
        let reply = error_reply(&request(&[("Format", "JSON"), ("Action", "ReleaseEipAddress")]), &error);
        let body: Value = serde_json::from_str(&text(reply)).unwrap();
        assert_eq!(body["AccessDeniedDetail"]["AuthAction"], "vpc:ReleaseEipAddress");
        assert_eq!(body["HostId"], "vpc.example:80");
    }
}
