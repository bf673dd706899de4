//! Discovery, health, tables and call names.

use std::time::Duration;

use super::*;

#[test]
fn discovery_names_groups_versions_and_resources() {
    let api = api();
    assert_eq!(get(&api, "/api").1["versions"], json!(["v1"]));
    let (_, groups) = get(&api, "/apis");
    let names: Vec<&str> = groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    let expected = [
        "alibabacloud.com",
        "apiextensions.k8s.io",
        "apps",
        "authorization.k8s.io",
        "coordination.k8s.io",
        "rbac.authorization.k8s.io",
        "scheduling.k8s.io",
    ];
    assert_eq!(names, expected);
    let (_, list) = get(&api, "/apis/alibabacloud.com/v1beta1");
    assert_eq!((&list["kind"], &list["groupVersion"]), (&json!("APIResourceList"), &json!("alibabacloud.com/v1beta1")));
    assert_eq!(list["resources"][0]["name"], "podeips");
    assert_eq!(list["resources"][0]["kind"], "PodEIP");
    assert_eq!(list["resources"][1]["name"], "podeips/status");
    let (_, core) = get(&api, "/api/v1");
    let pods = core["resources"].as_array().unwrap().iter().find(|r| r["name"] == "pods").unwrap();
    assert_eq!(pods["shortNames"], json!(["po"]));
    assert_eq!(pods["namespaced"], true);
    assert_eq!(get(&api, "/apis/apps").1["preferredVersion"]["groupVersion"], "apps/v1");
    api.set_podeip_installed(false);
    assert_eq!(get(&api, "/apis/alibabacloud.com/v1beta1").0, 404);
    assert_eq!(get(&api, "/apis/alibabacloud.com").0, 404);
}

#[test]
fn version_and_health() {
    let api = api();
    let (_, version) = get(&api, "/version");
    assert_eq!((&version["gitVersion"], &version["minor"]), (&json!("v1.33.1"), &json!("33")));
    assert_eq!(get(&api, "/readyz"), (200, json!("ok")));
    assert_eq!(get(&api, "/openapi/v1").0, 404);
    assert_eq!(call(&api, "POST", "/version", &Value::Null).0, 405);
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn table(api: &KubeApi, target: &str) -> Value {
    read(api.answer(&with_header(request("GET", target, &Value::Null), "accept", TABLE))).1
}

fn header(table: &Value) -> Vec<&str> {
    table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect()
}

#[test]
fn podeips_print_as_their_definition_says() {
    let clock = Clock::default();
    let api = KubeApi::new(clock.clone(), Options::default());
    ok(&api, "POST", PODEIPS, &podeip("a"));
    let status = json!({ "status": { "eipAddress": "1.2.3.4", "status": "InUse", "privateIPAddress": "10.0.0.1" } });
    patch(&api, &format!("{PODEIPS}/a/status"), MERGE, &status);
    clock.advance(Duration::from_secs(90));
    let table = table(&api, PODEIPS);
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(header(&table), ["Name", "EIP", "Status", "Type", "Strategy", "Private-IP", "Node", "Age"]);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(
        cells[..7],
        [json!("a"), json!("1.2.3.4"), json!("InUse"), json!("Auto"), json!("Follow"), json!("10.0.0.1"), Value::Null]
    );
    assert!(["90s", "91s", "92s"].contains(&cells[7].as_str().unwrap()), "{}", cells[7]);
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "a");
}

#[test]
fn pods_print_as_kubectl_shows_them() {
    let api = api();
    pod(&api, "p");
    let list = table(&api, PODS);
    assert_eq!(header(&list), ["Name", "Ready", "Status", "Restarts", "Age", "IP", "Node"]);
    let cells = list["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..4], [json!("p"), json!("0/1"), json!("Running"), json!("0")]);
    assert_eq!(cells[5..], [json!("<none>"), json!("node-1")]);
    api.begin_pod_deletion("default", "p");
    assert_eq!(table(&api, &format!("{PODS}/p"))["rows"][0]["cells"][2], "Terminating");
    let request = with_header(request("GET", &format!("{PODS}?watch=true"), &Value::Null), "accept", TABLE);
    let events = drain(&mut api.answer(&request));
    assert_eq!(events[0]["object"]["kind"], "Table");
}

#[test]
fn calls_are_named_by_verb_and_resource() {
    let api = api();
    let cases = [
        ("GET", "/api/v1/namespaces/default/pods/p", "get pods"),
        ("GET", "/api/v1/pods", "list pods"),
        ("GET", "/api/v1/pods?watch=true", "watch pods"),
        ("GET", "/apis/alibabacloud.com/v1beta1/podeips?watch=1", "watch podeips"),
        ("PATCH", "/api/v1/namespaces/default/pods/p/status", "patch pods/status"),
        ("POST", "/api/v1/namespaces/default/events", "create events"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l", "update leases"),
        ("DELETE", "/apis/alibabacloud.com/v1beta1/namespaces/default/podeips/a", "delete podeips"),
        ("DELETE", "/apis/alibabacloud.com/v1beta1/namespaces/default/podeips", "deletecollection podeips"),
        ("POST", "/api/v1/namespaces/kube-system/serviceaccounts/s/token", "create serviceaccounts/token"),
        ("GET", "/api/v1/namespaces/default", "get namespaces"),
        ("PUT", "/api/v1/namespaces/default/status", "update namespaces/status"),
        ("GET", "/version", "get /version"),
    ];
    for (method, target, name) in cases {
        assert_eq!(api.call_name(&request(method, target, &Value::Null)), name);
    }
}
