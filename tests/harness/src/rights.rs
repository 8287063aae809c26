//! What the agent's account may do, asked of a real API server: list pods in its namespace, and nothing
//! else.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kube::{Api, JSON, MERGE, Request};

/// The account of the agents.
pub const ACCOUNT: &str = "system:serviceaccount:wylis:wylis";
/// Where the manifests put everything.
const NAMESPACE: &str = "wylis";
const VERBS: [&str; 9] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "*"];
/// What a thief of the token would look for: group, resource, subresource.
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

/// Asks the authorizer of every verb on every resource, in the account's namespace, in another one and
/// in all: one answer is yes. Gives how many were asked.
///
/// # Panics
/// When it is otherwise.
pub fn assert_one_of_all_questions_is_answered_with_yes(admin: &dyn Api) -> usize {
    let mut asked = 0;
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
                asked += 1;
            }
        }
    }
    let list = json!({
        "verb": "list", "namespace": NAMESPACE, "group": "", "resource": "pods", "subresource": "",
    });
    assert_eq!(allowed, [list]);
    asked
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

/// The rules that the server tells the account itself, as `kubectl auth can-i --list` prints them: in its
/// own namespace, one more than everybody has in any.
///
/// # Panics
/// When it is otherwise.
pub fn assert_the_rules_name_only_that_list(account: &dyn Api) {
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
    // Everybody may ask who they are and what they may, and read what the server offers.
    assert!(!elsewhere.is_empty(), "not even what everybody has");
    let ours: Vec<&Value> = own
        .iter()
        .filter(|(text, _)| !elsewhere.contains_key(*text))
        .map(|(_, rule)| rule)
        .collect();
    assert_eq!(ours, [&json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})]);
}

/// Does what a thief of the token would: the list is given, all else refused. `pod` exists.
///
/// # Panics
/// When it is otherwise.
pub fn assert_a_thief_gets_only_that_list(thief: &dyn Api, pod: &str) {
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
        let said = answer.text();
        let refused = answer.status == 403 && said.contains("orbidden") && said.contains(ACCOUNT);
        assert!(refused, "{method} {path}: {} {said}", answer.status);
    }
}
