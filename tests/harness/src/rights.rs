//! The rights of the agent's service account on a real API server: list pods in its namespace, and nothing
//! else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kube::{Api, JSON, MERGE, Request};

/// The account of the agents.
pub const ACCOUNT: &str = "system:serviceaccount:wylis:wylis";
/// The manifests' namespace.
const NAMESPACE: &str = "wylis";
const VERBS: [&str; 9] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "*"];
/// The resources that a stolen token would target: group, resource, subresource.
const RESOURCES: [(&str, &str, &str); 16] = [
    ("", "pods", ""),
    ("", "pods", "log"),
    ("", "pods", "exec"),
    ("", "pods", "ephemeralcontainers"),
    ("", "secrets", ""),
    ("", "configmaps", ""),
    ("", "services", ""),
    ("", "endpoints", ""),
    ("", "events", ""),
    ("", "serviceaccounts", "token"),
    ("", "nodes", ""),
    ("", "nodes", "proxy"),
    ("", "namespaces", ""),
    ("apps", "daemonsets", ""),
    ("rbac.authorization.k8s.io", "roles", ""),
    ("coordination.k8s.io", "leases", ""),
];

/// Asserts that the authorizer allows one of all verbs on all resources, in the account's namespace, in
/// another one and in all. Returns the number of combinations.
///
/// # Panics
/// When it allows another one, or none.
pub fn assert_only_listing_pods_is_allowed(admin: &dyn Api) -> usize {
    let mut combinations = 0;
    let mut allowed = Vec::new();
    for namespace in [NAMESPACE, "default", ""] {
        for (group, resource, subresource) in RESOURCES {
            for verb in VERBS {
                let attributes = json!({
                    "verb": verb, "namespace": namespace,
                    "group": group, "resource": resource, "subresource": subresource,
                });
                if is_allowed(admin, &attributes) {
                    allowed.push(attributes);
                }
                combinations += 1;
            }
        }
    }
    let list = json!({
        "verb": "list", "namespace": NAMESPACE, "group": "", "resource": "pods", "subresource": "",
    });
    assert_eq!(allowed, [list]);
    combinations
}

fn is_allowed(admin: &dyn Api, attributes: &Value) -> bool {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:wylis", "system:authenticated"];
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": ACCOUNT, "groups": groups, "resourceAttributes": attributes},
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = admin.create(path, &review);
    answer["status"]["allowed"].as_bool().unwrap_or_else(|| panic!("{attributes}: {answer}"))
}

/// Asserts that the account's rules, as in `kubectl auth can-i --list`, have one more in its namespace than
/// elsewhere.
///
/// # Panics
/// When they differ.
pub fn assert_own_rules_allow_only_that_list(account: &dyn Api) {
    let rules = |namespace: &str| -> BTreeMap<String, Value> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let answer = account.create(path, &review);
        assert_eq!(answer["status"]["incomplete"], false, "{answer}");
        let status = &answer["status"];
        let all = ["resourceRules", "nonResourceRules"].map(|kind| status[kind].as_array());
        let all = all.into_iter().flatten().flatten();
        all.map(|rule| (rule.to_string(), rule.clone())).collect()
    };
    let (own, elsewhere) = (rules(NAMESPACE), rules("default"));
    // Every account may review its own rights and read the server's API groups.
    assert!(!elsewhere.is_empty(), "no default rules");
    let ours: Vec<&Value> = own
        .iter()
        .filter(|(text, _)| !elsewhere.contains_key(*text))
        .map(|(_, rule)| rule)
        .collect();
    assert_eq!(ours, [&json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})]);
}

/// Uses a stolen token: the list succeeds, and all other requests are refused. `pod` must exist.
///
/// # Panics
/// When an answer differs.
pub fn assert_a_stolen_token_gets_only_that_list(thief: &dyn Api, pod: &str) {
    let own = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let list = thief.read(&own);
    let names = list["items"].as_array().into_iter().flatten();
    let mut names = names.map(|item| &item["metadata"]["name"]);
    assert!(names.any(|name| name == pod), "{pod} is not in the list: {list}");
    let one = format!("{own}/{pod}");
    let more = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "more"},
        "spec": {"containers": [{"name": "more", "image": "wylis:0.1.0"}]},
    })
    .to_string();
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let (token, label) = (token.to_string(), r#"{"metadata": {"labels": {"a": "b"}}}"#);
    let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/wylis/token");
    let attempts = [
        ("GET", "/api/v1/pods", JSON, ""),
        ("GET", "/api/v1/namespaces/default/pods", JSON, ""),
        ("GET", &one, JSON, ""),
        ("GET", &format!("{own}?watch=true"), JSON, ""),
        ("GET", &format!("{one}/log"), JSON, ""),
        ("POST", &format!("{one}/exec?command=/wylis&stdout=true"), JSON, "{}"),
        ("POST", &format!("{one}/eviction"), JSON, "{}"),
        ("DELETE", &one, JSON, ""),
        ("DELETE", &own, JSON, ""),
        ("PATCH", &one, MERGE, label),
        ("POST", &own, JSON, &more),
        ("GET", "/api/v1/namespaces/wylis/secrets", JSON, ""),
        ("GET", "/api/v1/nodes", JSON, ""),
        ("GET", "/apis/apps/v1/namespaces/wylis/daemonsets", JSON, ""),
        ("POST", &accounts, JSON, &token),
    ];
    for (method, path, content_type, body) in attempts {
        let answer = thief.send(&Request { method, path, content_type, body });
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let text = answer.text();
        let refused = answer.status == 403 && text.contains("orbidden") && text.contains(ACCOUNT);
        assert!(refused, "{method} {path}: {} {text}", answer.status);
    }
}
