//! The OpenAPI documents that `kubectl` checks its writes by.

use prost::Message;

use super::*;
use crate::kube::openapi_proto::Document;

const KIND: &str = "x-kubernetes-group-version-kind";

fn v3(api: &KubeApi, group_version: &str) -> Value {
    let (_, index) = get(api, "/openapi/v3");
    let url = index["paths"][group_version]["serverRelativeURL"].as_str().unwrap().to_owned();
    ok(api, "GET", &url, &Value::Null)
}

fn of_podeips() -> Value {
    json!({ "group": "alibabacloud.com", "version": "v1beta1", "kind": "PodEIP" })
}

#[test]
fn an_object_may_be_patched_with_strict_validation() {
    let api = api();
    for (group_version, path, kind) in [
        ("api/v1", "/api/v1/namespaces/{namespace}/pods/{name}", "Pod"),
        ("api/v1", "/api/v1/nodes/{name}", "Node"),
        (
            "apis/alibabacloud.com/v1beta1",
            "/apis/alibabacloud.com/v1beta1/namespaces/{namespace}/podeips/{name}",
            "PodEIP",
        ),
    ] {
        let patch = v3(&api, group_version)["paths"][path]["patch"].clone();
        assert_eq!(patch[KIND]["kind"], kind, "{path}");
        let parameters = patch["parameters"].as_array().unwrap();
        let namespaced = path.contains("{namespace}");
        assert_eq!(parameters.iter().any(|parameter| parameter["name"] == "namespace"), namespaced);
        assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"));
    }
    assert_eq!(v3(&api, "apis/authorization.k8s.io/v1")["paths"], json!({}), "reviews are never patched");
    assert_eq!(get(&api, "/openapi/v3/apis/example.com/v1").0, 404);
}

#[test]
fn the_third_version_has_the_whole_schema() {
    let api = api();
    let document = v3(&api, "apis/alibabacloud.com/v1beta1");
    let schemas = &document["components"]["schemas"];
    let schema = &schemas["com.alibabacloud.v1beta1.PodEIP"];
    assert_eq!(schema[KIND], json!([of_podeips()]));
    assert_eq!(schema["properties"]["spec"]["properties"]["allocationID"]["pattern"], "^eip-[0-9A-Za-z-]+$");
    assert_eq!(schema["properties"]["status"]["properties"]["podLastSeen"]["format"], "date-time");
    let metadata = schema["properties"]["metadata"]["$ref"].as_str().unwrap();
    assert!(schemas[metadata.strip_prefix("#/components/schemas/").unwrap()]["properties"]["labels"].is_object());
}

#[test]
fn a_document_moves_when_it_changes() {
    let api = api();
    let url = |of: &str| get(&api, "/openapi/v3").1["paths"][of]["serverRelativeURL"].clone();
    let (ours, core) = (url("apis/alibabacloud.com/v1beta1"), url("api/v1"));
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/podeips.alibabacloud.com";
    let field = "/spec/versions/0/schema/openAPIV3Schema/description";
    patch(&api, definition, JSON_PATCH, &json!([{ "op": "replace", "path": field, "value": "other" }]));
    assert_ne!(url("apis/alibabacloud.com/v1beta1"), ours);
    assert_eq!(url("api/v1"), core);
    api.set_podeip_installed(false);
    assert_eq!(url("apis/alibabacloud.com/v1beta1"), Value::Null);
}

#[test]
fn the_second_version_is_one_document_in_two_encodings() {
    let api = api();
    let (_, document) = get(&api, "/openapi/v2");
    assert_eq!(document["swagger"], "2.0");
    let schema = &document["definitions"]["com.alibabacloud.v1beta1.PodEIP"];
    assert_eq!(schema["properties"]["spec"]["required"], json!(["allocationID", "allocationType"]));
    let status = &schema["properties"]["status"];
    assert_eq!((status.get("type"), status.get("properties")), (None, None), "it may hold anything");
    for spelling in ["spec.v2@v1.0", "spec.v2.v1.0"] {
        let asked = format!("application/com.github.proto-openapi.{spelling}+protobuf");
        let reply = api.answer(&with_header(request("GET", "/openapi/v2", &Value::Null), "accept", &asked));
        assert_eq!(reply.content_type, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
        let Body::Whole(bytes) = reply.body else { panic!("no stream") };
        let expected = Document::new("v1.33.1", document["definitions"].as_object().unwrap());
        assert_eq!(Document::decode(bytes.as_slice()).unwrap(), expected);
    }
}
