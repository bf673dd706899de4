//! Tokens, certificates, RBAC rules, reviews and token requests.

use std::time::Duration;

use super::*;
use crate::kube::{CERTIFICATE_HEADER, PolicyRule};

fn with_token(api: &KubeApi, target: &str, token: &str) -> (u16, Value) {
    let request = request("GET", target, &Value::Null);
    read(api.answer(&with_header(request, "authorization", &format!("Bearer {token}"))))
}

fn with_certificate(api: &KubeApi, target: &str) -> u16 {
    let request = request("GET", target, &Value::Null);
    read(api.answer(&with_header(request, CERTIFICATE_HEADER.0, CERTIFICATE_HEADER.1))).0
}

#[test]
fn a_configured_token_is_required() {
    let api = api_with(|options| options.token = Some("first".into()));
    for target in [PODS, "/version", "/apis", "/api/v1/nonsense"] {
        let status = refused(get(&api, target), 401, "Unauthorized", "Unauthorized");
        assert_eq!(status.get("details"), None);
    }
    assert_eq!(with_token(&api, PODS, "first").0, 200);
    assert_eq!(with_token(&api, PODS, "second").0, 401);
    api.set_token(Some("second"));
    assert_eq!(with_token(&api, PODS, "first").0, 401);
    assert_eq!(with_token(&api, PODS, "second").0, 200);
    assert_eq!(with_certificate(&api, PODS), 401);
    api.set_token(None);
    assert_eq!(get(&api, PODS).0, 200);
}

#[test]
fn a_client_certificate_authenticates_where_it_is_accepted() {
    let api = api_with(|options| options.accept_client_certificate = true);
    assert_eq!(get(&api, PODS).0, 401);
    assert_eq!(with_certificate(&api, PODS), 200);
    api.accept_client_certificate(false);
    api.set_token(Some("t"));
    assert_eq!(with_certificate(&api, PODS), 401);
}

#[test]
fn denied_verbs_are_forbidden_in_the_real_words() {
    let api = api();
    pod(&api, "p");
    api.deny("patch", "pods/status");
    api.deny("list", "podeips");
    let user = "system:serviceaccount:kube-system:podeip";
    let message = format!(
        "pods \"p\" is forbidden: User \"{user}\" cannot patch resource \"pods/status\" in API group \"\" in the \
         namespace \"default\""
    );
    let status = refused(patch(&api, &format!("{PODS}/p/status"), MERGE, &json!({})), 403, "Forbidden", &message);
    assert_eq!(status["details"], json!({ "name": "p", "kind": "pods" }));
    assert_eq!(patch(&api, &format!("{PODS}/p"), MERGE, &json!({})).0, 200);
    let message = format!(
        "podeips.alibabacloud.com is forbidden: User \"{user}\" cannot list resource \"podeips\" in API group \
         \"alibabacloud.com\" at the cluster scope"
    );
    refused(get(&api, "/apis/alibabacloud.com/v1beta1/podeips"), 403, "Forbidden", &message);
    api.allow_all();
    assert_eq!(get(&api, "/apis/alibabacloud.com/v1beta1/podeips").0, 200);
    api.deny("*", "*");
    assert_eq!(get(&api, PODS).0, 403);
    assert_eq!(get(&api, "/version").0, 200);
}

#[test]
fn rules_permit_only_what_they_say() {
    let api = api();
    pod(&api, "p");
    let rules: Vec<PolicyRule> = serde_json::from_value(json!([
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "patch"] },
        { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["eni-config"], "verbs": ["get"],
          "namespace": "default" },
        { "apiGroups": ["alibabacloud.com"], "resources": ["podeips", "*/status"], "verbs": ["*"] },
    ]))
    .unwrap();
    api.permit_only(rules);
    assert_eq!(get(&api, &format!("{PODS}/p")).0, 200);
    assert_eq!(get(&api, PODS).0, 403);
    assert_eq!(patch(&api, &format!("{PODS}/p/status"), MERGE, &json!({})).0, 403);
    assert_eq!(get(&api, &format!("{CONFIGMAPS}/eni-config")).0, 404);
    assert_eq!(get(&api, &format!("{CONFIGMAPS}/other")).0, 403);
    assert_eq!(get(&api, "/api/v1/namespaces/kube-system/configmaps/eni-config").0, 403);
    ok(&api, "POST", PODEIPS, &podeip("a"));
    assert_eq!(patch(&api, &format!("{PODEIPS}/a/status"), MERGE, &json!({})).0, 200);
}

#[test]
fn reviews_answer_from_the_same_rules() {
    let api = api();
    let target = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let asked = |verb: &str| {
        let attributes = json!({ "verb": verb, "resource": "pods", "subresource": "status", "namespace": "default" });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let (code, answer) = call(&api, "POST", target, &review);
        assert_eq!(code, 201);
        answer["status"]["allowed"].as_bool().unwrap()
    };
    assert!(asked("patch"));
    api.deny("patch", "pods/status");
    assert!(!asked("patch"));
    assert!(asked("get"));
    api.permit_only(vec![]);
    assert!(!asked("get"));
    assert_eq!(get(&api, target).0, 403);
    api.allow_all();
    assert_eq!(get(&api, target).0, 405);
}

#[test]
fn service_accounts_get_tokens() {
    let clock = Clock::default();
    let api = KubeApi::new(clock.clone(), Options { token: Some("t".into()), ..Options::default() });
    let target = "/api/v1/namespaces/kube-system/serviceaccounts/default/token";
    let asked = |audiences: Value, seconds: u32| {
        let body = json!({ "spec": { "audiences": audiences, "expirationSeconds": seconds } });
        let request = with_header(request("POST", target, &body), "authorization", "Bearer t");
        read(api.answer(&request))
    };
    let (code, answer) = asked(json!(["sts.aliyuncs.com"]), 3600);
    assert_eq!((code, &answer["kind"]), (201, &json!("TokenRequest")));
    assert!(answer["status"]["expirationTimestamp"].is_string());
    let token = answer["status"]["token"].as_str().unwrap();
    assert_eq!(token.split('.').count(), 3);
    let claims = api.token_claims(token).unwrap();
    assert_eq!(claims["sub"], "system:serviceaccount:kube-system:default");
    assert_eq!(claims["aud"], json!(["sts.aliyuncs.com"]));
    assert_eq!(with_token(&api, PODS, token).0, 401, "it is meant for another audience");

    let (_, answer) = asked(json!([]), 600);
    let own = answer["status"]["token"].as_str().unwrap();
    assert_eq!(with_token(&api, PODS, own).0, 200);
    clock.advance(Duration::from_secs(601));
    assert_eq!(with_token(&api, PODS, own).0, 401);
    assert!(api.token_claims(token).is_some());
    clock.advance(Duration::from_secs(3600));
    assert_eq!(api.token_claims(token), None);

    let message = "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may \
         not specify a duration less than 10 minutes";
    refused(asked(json!([]), 599), 422, "Invalid", message);
    api.set_token(None);
    let missing = "/api/v1/namespaces/kube-system/serviceaccounts/none/token";
    refused(call(&api, "POST", missing, &json!({})), 404, "NotFound", "serviceaccounts \"none\" not found");
}

#[test]
fn roles_and_bindings_decide_for_service_accounts() {
    let api = api_with(|options| options.token = Some("admin".into()));
    let as_admin = |method: &str, target: &str, body: &Value| {
        let request = with_header(request(method, target, body), "authorization", "Bearer admin");
        let (code, answer) = read(api.answer(&request));
        assert!((200..300).contains(&code), "{method} {target}: {answer}");
        answer
    };
    let token = as_admin("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", &json!({ "spec": {} }));
    let token = token["status"]["token"].as_str().unwrap();
    let may = |target: &str| with_token(&api, target, token).0 == 200;
    assert!(may(PODS), "roles do not count unless told to");
    api.let_roles_count();
    let message = "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API \
         group \"\" in the namespace \"default\"";
    refused(with_token(&api, PODS, token), 403, "Forbidden", message);
    as_admin("GET", PODS, &Value::Null);

    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }]);
    let role = json!({ "metadata": { "name": "reader" }, "rules": rules });
    let binding = |kind: &str, namespace: &str| {
        json!({ "metadata": { "name": "reader" }, "roleRef": { "kind": kind, "name": "reader" },
            "subjects": [{ "kind": "ServiceAccount", "name": "default", "namespace": namespace }] })
    };
    let bindings = format!("{rbac}/namespaces/default/rolebindings");
    as_admin("POST", &bindings, &binding("ClusterRole", "default"));
    assert!(!may(PODS), "there is no such role");
    as_admin("POST", &format!("{rbac}/clusterroles"), &role);
    let (elsewhere, everywhere) = ("/api/v1/namespaces/kube-system/pods", "/api/v1/pods");
    assert!(may(PODS) && !may(elsewhere) && !may(everywhere) && !may(CONFIGMAPS));
    as_admin("POST", &format!("{rbac}/clusterrolebindings"), &binding("ClusterRole", "kube-system"));
    assert!(!may(everywhere), "it is another's");
    as_admin("DELETE", &format!("{rbac}/clusterrolebindings/reader"), &Value::Null);
    as_admin("POST", &format!("{rbac}/clusterrolebindings"), &binding("ClusterRole", "default"));
    assert!(may(elsewhere) && may(everywhere));

    let review = json!({ "spec": { "resourceAttributes": { "verb": "list", "resource": "pods" } } });
    let review = |resource: &str| {
        let mut asked = review.clone();
        asked["spec"]["resourceAttributes"]["resource"] = resource.into();
        let target = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request = with_header(request("POST", target, &asked), "authorization", &format!("Bearer {token}"));
        read(api.answer(&request)).1["status"]["allowed"].clone()
    };
    assert_eq!((review("pods"), review("secrets")), (json!(true), json!(false)));
}
