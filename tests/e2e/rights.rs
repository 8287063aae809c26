//! What the agent's account may do: list pods in its namespace, and nothing else.

use serde_json::{Value, json};
use wylis_harness::TempDir;

use crate::cluster::{Cluster, NAMESPACE};

pub(crate) const ACCOUNT: &str = "system:serviceaccount:wylis:wylis";
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

/// One question to the authorizer, as kubectl would send it.
fn review(
    verb: &str,
    namespace: &str,
    (group, resource, subresource): (&str, &str, &str),
) -> Value {
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": ACCOUNT,
            "groups": ["system:serviceaccounts", "system:serviceaccounts:wylis", "system:authenticated"],
            "resourceAttributes": {
                "verb": verb, "namespace": namespace,
                "group": group, "resource": resource, "subresource": subresource,
            },
        },
    })
}

#[test]
fn the_account_may_list_pods_in_its_namespace_and_nothing_else() {
    let Some(cluster) = Cluster::find() else { return };
    cluster.with_agents();
    let own = cluster.kubectl(&["auth", "can-i", "--list", "-n", NAMESPACE, "--as", ACCOUNT]);
    let elsewhere = cluster.kubectl(&["auth", "can-i", "--list", "-n", "default", "--as", ACCOUNT]);
    // Everybody may ask who they are and what they may, and read what the server offers.
    let ours: Vec<&str> = own.lines().filter(|line| !elsewhere.contains(line)).collect();
    let words: Vec<Vec<&str>> = ours.iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words, [["pods", "[]", "[]", "[list]"]], "{own}\n---\n{elsewhere}");
    println!("{own}");

    let mut reviews = Vec::new();
    for namespace in [NAMESPACE, "default", ""] {
        for resource in RESOURCES {
            reviews.extend(VERBS.map(|verb| review(verb, namespace, resource)));
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": reviews});
    let answers = cluster.feed(&["create", "-f", "-", "--output=json"], &list.to_string());
    let answers = serde_json::Deserializer::from_str(&answers).into_iter::<Value>();
    let answers: Vec<Value> = answers.map(Result::unwrap).flat_map(each).collect();
    assert_eq!(answers.len(), reviews.len(), "each was answered");
    let allowed: Vec<&Value> =
        answers.iter().filter(|answer| answer["status"]["allowed"] == true).collect();
    let attributes: Vec<&Value> =
        allowed.iter().map(|answer| &answer["spec"]["resourceAttributes"]).collect();
    assert_eq!(attributes, [&json!({"verb": "list", "namespace": NAMESPACE, "resource": "pods"})]);
    println!("{} of {} questions answered with yes", allowed.len(), answers.len());
}

/// The items of a list, or the one object.
fn each(value: Value) -> Vec<Value> {
    match value["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![value],
    }
}

#[test]
fn whoever_holds_the_token_is_refused_everything_but_that_list() {
    let Some(cluster) = Cluster::find() else { return };
    let pods = cluster.with_agents();
    let pod = format!("pod/{}", pods[0].name);
    let dir = TempDir::new("rights");
    let config = dir.path().join("thief.conf");
    let token = cluster.kubectl(&["-n", NAMESPACE, "create", "token", "wylis"]);
    let mut thief = cluster.json(&["config", "view", "--raw", "--minify", "--flatten"]);
    thief["users"][0]["user"] = json!({"token": token});
    std::fs::write(&config, thief.to_string()).unwrap();
    let config = format!("--kubeconfig={}", config.display());
    let attempt = |arguments: &[&str]| {
        cluster.attempt(&[&[config.as_str(), "-n", NAMESPACE], arguments].concat())
    };
    attempt(&["get", "pods"]).unwrap();
    let own = "/api/v1/namespaces/wylis/pods";
    let refused: [&[&str]; 14] = [
        &["get", "pods", "--all-namespaces"],
        &["get", "pods", "--namespace=default"],
        &["get", &pod],
        &["get", "--raw", "/api/v1/namespaces/wylis/pods?watch=true"],
        &["logs", &pod],
        &["exec", &pod, "--", "/wylis"],
        &["delete", &pod],
        &["delete", "--raw", own],
        &["label", &pod, "a=b"],
        &["run", "more", "--image=wylis:0.1.0"],
        &["get", "secrets"],
        &["get", "nodes"],
        &["get", "daemonsets"],
        &["create", "token", "wylis"],
    ];
    for arguments in refused {
        match attempt(arguments) {
            Ok(printed) => panic!("{arguments:?} was allowed: {printed}"),
            Err(said) => assert!(said.contains("orbidden"), "{arguments:?}: {said}"),
        }
    }
}
