//! The shapes of kubeconfigs, good and bad.

use serde_json::json;
use std::error::Error;

use tempfile::TempDir;

use super::super::scripted::Authority;
use super::*;

fn written(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

/// A kubeconfig whose cluster and user hold the given YAML flow members.
fn config(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\npreferences: {{}}\ncurrent-context: c\ncontexts:\n- name: other\n  context: \
         {{}}\n- name: c\n  context: {{cluster: k, user: u, namespace: x}}\nclusters:\n- name: k\n  cluster: \
         {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n"
    )
}

fn loaded(cluster: &str, user: &str) -> Result<Kubeconfig, KubeconfigError> {
    let (_directory, path) = written(&config(cluster, user));
    load(&path)
}

/// Key and problem of a refusal.
fn refused(cluster: &str, user: &str) -> (String, String) {
    match loaded(cluster, user) {
        Err(KubeconfigError::Key { key, problem, .. }) => (key, problem),
        Err(other) => panic!("{cluster} {user}: {other}"),
        Ok(_) => panic!("{cluster} {user} was taken"),
    }
}

fn token(kubeconfig: &Kubeconfig) -> Option<String> {
    kubeconfig.token.as_ref().map(|token| token.current().reveal().to_string())
}

#[test]
fn reads_yaml_and_json() {
    let yaml = loaded("server: 'https://10.0.0.1:6443/'", "token: abc").unwrap();
    assert_eq!((yaml.server.as_str(), token(&yaml).as_deref()), ("https://10.0.0.1:6443", Some("abc")));
    assert!(yaml.identity.is_none() && matches!(yaml.trust, Trust::Public));
    let json = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:8080"}}],
        "users": [{"name": "u", "user": null}],
    });
    // Tabs are no YAML indentation, but JSON may have them.
    let json = serde_json::to_string_pretty(&json).unwrap().replace("  ", "\t");
    let (_directory, path) = written(&json);
    let json = load(&path).unwrap();
    assert_eq!((json.server.as_str(), token(&json)), ("http://127.0.0.1:8080", None));
}

#[test]
fn a_context_needs_no_user() {
    let text = config("server: 'http://[::1]:8080'", "").replace("user: u, ", "");
    let (_directory, path) = written(&text);
    let found = load(&path).unwrap();
    assert!(found.token.is_none() && found.identity.is_none());
}

#[test]
fn servers_are_urls_with_ipv6_in_brackets() {
    for good in
        ["https://[fd00::1]:6443", "https://api.example:6443", "https://host/k8s/clusters/c-1", "http://localhost:1"]
    {
        assert_eq!(loaded(&format!("server: '{good}'"), "").unwrap().server, good);
    }
    let bad = [
        ("10.0.0.1:6443", "https://"),
        ("https://fd00::1:6443", "brackets"),
        ("ftp://10.0.0.1", "https://"),
        ("https://", "not a URL"),
        ("https://user:pw@host", "user name"),
        ("https://host?x=1", "nothing else"),
        ("https://ho st", "not a URL"),
    ];
    for (server, remedy) in bad {
        let (key, problem) = refused(&format!("server: '{server}'"), "");
        assert_eq!(key, "clusters[name=k].cluster.server");
        assert!(problem.contains(remedy), "{server}: {problem}");
    }
}

#[test]
fn authorities_come_inline_or_from_a_file_beside() {
    let authorities = [Authority::new(), Authority::new()].map(|authority| authority.pem).concat();
    let data = STANDARD.encode(&authorities);
    // As tools fold it: broken into lines.
    let folded = format!("server: 'https://h', certificate-authority-data: \"{}\\n {}\"", &data[..64], &data[64..]);
    for cluster in [folded.as_str(), "server: 'https://h', certificate-authority: pki/ca.crt"] {
        let (directory, path) = written(&config(cluster, ""));
        std::fs::create_dir(directory.path().join("pki")).unwrap();
        std::fs::write(directory.path().join("pki/ca.crt"), &authorities).unwrap();
        let Trust::Only(found) = load(&path).unwrap().trust else { panic!("{cluster}") };
        assert_eq!(found.len(), 2);
    }
}

#[test]
fn authorities_that_help_nobody_are_refused() {
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (data, remedy) in [("%%%", "base64"), ("aGVsbG8=", "PEM"), (&STANDARD.encode(garbage), "in PEM")] {
        let (key, problem) = refused(&format!("server: 'https://h', certificate-authority-data: '{data}'"), "");
        assert_eq!(key, "clusters[name=k].cluster.certificate-authority-data");
        assert!(problem.contains(remedy), "{problem}");
    }
    let failure = loaded("server: 'https://h', certificate-authority: nowhere.crt", "").err().unwrap();
    let text = failure.to_string();
    assert!(
        text.contains("clusters[name=k].cluster.certificate-authority names ") && text.contains("nowhere.crt"),
        "{text}"
    );
    assert!(failure.source().is_some());
}

#[test]
fn a_client_certificate_needs_its_own_key() {
    let authority = Authority::new();
    let ((certificate, key), (_, foreign)) = (authority.sign("node"), authority.sign("other"));
    let user = |certificate: &str, key: &str| {
        let (certificate, key) = (STANDARD.encode(certificate), STANDARD.encode(key));
        format!("client-certificate-data: {certificate}, client-key-data: {key}")
    };
    let identity = loaded("server: 'https://h'", &user(&certificate, &key)).unwrap().identity.unwrap();
    assert_eq!((identity.chain.len(), identity.key_pem), (1, key.clone().into_bytes()));
    for wrong in [foreign.as_str(), "no key at all"] {
        let (_directory, path) = written(&config("server: 'https://h'", &user(&certificate, wrong)));
        let failure = super::super::Kube::from_kubeconfig(&path).err().unwrap();
        assert!(matches!(failure, KubeconfigError::Identity { .. }), "{failure}");
    }
    let alone = format!("client-certificate-data: {}", STANDARD.encode(&certificate));
    assert_eq!(refused("server: 'https://h'", &alone).0, "users[name=u].user.client-key");
    let alone = format!("client-key-data: {}", STANDARD.encode(&key));
    assert_eq!(refused("server: 'https://h'", &alone).0, "users[name=u].user.client-certificate");
}

#[test]
fn a_token_file_goes_before_a_token_and_lies_beside_the_kubeconfig() {
    let (directory, path) = written(&config("server: 'http://127.0.0.1'", "tokenFile: node.token, token: inline"));
    let failure = load(&path).err().unwrap();
    assert!(failure.to_string().contains("users[name=u].user.tokenFile names"), "{failure}");
    std::fs::write(directory.path().join("node.token"), "from-file\n").unwrap();
    assert_eq!(token(&load(&path).unwrap()).as_deref(), Some("from-file"));
    std::fs::write(directory.path().join("node.token"), "two words").unwrap();
    assert!(load(&path).is_err());
}

#[test]
fn what_is_not_supported_is_refused_with_the_reason() {
    let server = "server: 'https://h'";
    let cases = [
        ("insecure-skip-tls-verify: true", "", "cannot verify"),
        ("insecure-skip-tls-verify: yes", "", "cannot verify"),
        ("proxy-url: 'http://proxy:3128'", "", "directly"),
        ("tls-server-name: kubernetes", "", "certificate names"),
        ("", "exec: {command: aws}", "starts a program"),
        ("", "auth-provider: {name: gcp}", "not supported"),
        ("", "username: admin, password: pw", "1.19"),
        ("", "as: root", "impersonation"),
        ("", "token: [a]", "quotes"),
        ("", "token: 'two words'", "printable ASCII"),
    ];
    for (cluster, user, reason) in cases {
        let (key, problem) = refused(&format!("{server}, {cluster}").replace(", }", "}"), user);
        assert!(problem.contains(reason), "{key} {problem}");
    }
    let tolerated =
        format!("{server}, insecure-skip-tls-verify: false, proxy-url: '', tls-server-name: h, extensions: []");
    loaded(&tolerated, "exec: null").unwrap();
}

#[test]
fn missing_parts_are_named() {
    let (directory, path) = written("");
    assert!(matches!(load(&path), Err(KubeconfigError::Syntax { .. })));
    let absent = directory.path().join("absent");
    assert!(matches!(load(&absent), Err(KubeconfigError::Missing { path }) if path == absent));
    assert!(matches!(load(directory.path()), Err(KubeconfigError::Unreadable { .. })));
    let good = config("server: 'https://h'", "");
    let cases = [
        ("current-context: c\n", "", "current-context is missing"),
        ("current-context: c\n", "current-context: z\n", "contexts has no entry with the name \"z\""),
        ("cluster: k, ", "", "contexts[name=c].context.cluster is missing"),
        ("cluster: k, ", "cluster: q, ", "clusters has no entry with the name \"q\""),
        ("user: u, ", "user: q, ", "users has no entry with the name \"q\""),
        ("server: 'https://h'", "", "clusters[name=k].cluster.server is missing"),
        ("server: 'https://h'", "server: 7", "clusters[name=k].cluster.server must be a text"),
    ];
    for (from, to, problem) in cases {
        let (_directory, path) = written(&good.replace(from, to));
        let text = load(&path).err().unwrap().to_string();
        assert!(text.contains(problem) && text.contains(path.to_str().unwrap()), "{text}");
    }
}

#[test]
fn no_error_quotes_a_secret() {
    let broken = [
        "users:\n- name: u\n  user:\n    token: s3cr3t\n  \tx: [\n",
        "{\"users\": [{\"user\": {\"token\": \"s3cr3t\",,",
        "s3cr3t",
    ];
    for text in broken {
        let (_directory, path) = written(text);
        let failure = load(&path).err().unwrap();
        assert!(matches!(failure, KubeconfigError::Syntax { .. }), "{failure:?}");
        assert!(!format!("{failure} {failure:?}").contains("s3cr3t"));
    }
    let (_directory, path) = written(broken[0]);
    let Err(KubeconfigError::Syntax { line, .. }) = load(&path) else { panic!() };
    assert!(line >= 4, "line {line}");
    let failure = loaded("server: 'https://admin:s3cr3t@h'", "").err().unwrap();
    assert!(!format!("{failure} {failure:?}").contains("s3cr3t"), "{failure}");
    for user in ["token: 's3cr3t s3cr3t'", "token: [s3cr3t]", "client-key-data: '%s3cr3t%'"] {
        let failure = loaded("server: 'https://h'", user).err().unwrap();
        assert!(!format!("{failure} {failure:?}").contains("s3cr3t"), "{failure}");
    }
}
