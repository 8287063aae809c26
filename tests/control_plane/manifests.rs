//! The manifests on a real API server.

use serde_json::{Value, json};
use wylis_harness::kube::{Api as _, JSON, Request};
use wylis_harness::yaml::parse;

use crate::plane::{DAEMONSET, NAMESPACE, Plane, documents};

#[test]
fn every_manifest_passes_strict_validation_without_a_warning() {
    let Some(plane) = Plane::find() else { return };
    for document in documents() {
        // One at a time: a dry run of a namespaced object needs its namespace.
        plane.apply(&document, "&dryRun=All");
        let applied = plane.apply(&document, "");
        let object: Value = serde_json::from_slice(&applied.body).unwrap();
        println!("{} {}: {}", object["kind"], object["metadata"]["name"], applied.status);
    }
    let set = documents().into_iter().find(|document| document.contains("kind: DaemonSet"));
    let wrong = set.unwrap().replace("minReadySeconds:", "minReadyMinutes:");
    let path = format!("{DAEMONSET}?fieldManager=test&fieldValidation=Strict&dryRun=All");
    let content_type = "application/apply-patch+yaml";
    let request = Request { method: "PATCH", path: &path, content_type, body: &wrong };
    let refused = plane.admin.send(&request).unwrap();
    // Proves that the validation above is strict.
    let message = refused.text();
    assert!(
        refused.status >= 400 && message.contains("minReadyMinutes"),
        "{}: {message}",
        refused.status
    );
}

/// Where `stored` differs from a field in `sent`. The server may add fields, but not drop or rewrite one.
fn rewritten(path: &str, sent: &Value, stored: &Value) -> Vec<String> {
    match (sent, stored) {
        (Value::Object(sent), Value::Object(stored)) => {
            let fields = sent.iter().map(|(name, value)| {
                let found = stored.get(name).unwrap_or(&Value::Null);
                rewritten(&format!("{path}/{name}"), value, found)
            });
            fields.flatten().collect()
        }
        (Value::Array(sent), Value::Array(stored)) if sent.len() == stored.len() => {
            let items = sent.iter().zip(stored).enumerate();
            items.flat_map(|(at, (a, b))| rewritten(&format!("{path}/{at}"), a, b)).collect()
        }
        _ if sent == stored => Vec::new(),
        _ => vec![format!("{path}: {sent} becomes {stored}")],
    }
}

/// `kubectl apply` and GitOps tools report a change for each field that the server rewrites.
#[test]
fn the_server_stores_every_manifest_as_written() {
    let Some(plane) = Plane::find() else { return };
    let apply = |document: &String| {
        serde_json::from_slice::<Value>(&plane.apply(document, "").body).unwrap()
    };
    let documents = documents();
    let first: Vec<Value> = documents.iter().map(apply).collect();
    for (document, stored) in documents.iter().zip(&first) {
        let [sent] = parse(document).try_into().expect("one object");
        assert_eq!(
            rewritten("", &sent, stored),
            [""; 0],
            "{} {}",
            sent["kind"],
            sent["metadata"]["name"]
        );
    }
    for (document, before) in documents.iter().zip(&first) {
        let (before, after) = (&before["metadata"], &apply(document)["metadata"]);
        for field in ["resourceVersion", "generation"] {
            assert_eq!(before[field], after[field], "a second apply changed {}", before["name"]);
        }
    }
    let quota = json!({"hard": {"pods": "10000"}, "off": false});
    let stored = json!({"hard": {"pods": "10k"}, "more": 1});
    let expected = ["/hard/pods: \"10000\" becomes \"10k\"", "/off: false becomes null"];
    assert_eq!(rewritten("", &quota, &stored), expected);
}

/// Creates a pod in a dry run.
fn try_pod(plane: &Plane, metadata: &Value, spec: &Value) -> (u16, Value) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    let path = format!("{NAMESPACE}/pods?dryRun=All&fieldValidation=Strict");
    let body = pod.to_string();
    let request = Request { method: "POST", path: &path, content_type: JSON, body: &body };
    let answer = plane.admin.send(&request).unwrap();
    assert_eq!(answer.header("Warning"), None, "{pod}");
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

#[test]
fn the_namespace_admits_the_agents_pod_and_none_that_asks_for_more() {
    let Some(plane) = Plane::with_manifests() else { return };
    let template = plane.admin.read(DAEMONSET)["spec"]["template"].clone();
    let mut metadata = template["metadata"].clone();
    metadata["name"] = "dry-run".into();

    let (status, pod) = try_pod(&plane, &metadata, &template["spec"]);
    assert_eq!(status, 201, "{pod}");
    // Admission resolved the priority class, and added a token that expires and is replaced.
    assert_eq!(pod["spec"]["priority"], 2_000_001_000, "{pod}");
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let sources = volumes.iter().filter_map(|volume| volume["projected"]["sources"].as_array());
    let token = sources.flatten().find(|source| source["serviceAccountToken"].is_object());
    let expected = json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}});
    assert_eq!(token, Some(&expected), "{pod}");

    let more = [
        ("/hostNetwork", json!(true)),
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/securityContext/seccompProfile/type", json!("Unconfined")),
        ("/containers/0/securityContext/privileged", json!(true)),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
        ("/containers/0/securityContext/capabilities", json!({"add": ["NET_ADMIN"]})),
    ];
    for (field, value) in more {
        let mut spec = template["spec"].clone();
        let (parent, name) = field.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[name] = value;
        if name == "hostNetwork" {
            // Validation precedes the policy.
            spec["containers"][0]["ports"][0]["hostPort"] = 9050.into();
        }
        if name == "privileged" {
            let context = &mut spec["containers"][0]["securityContext"];
            context["allowPrivilegeEscalation"] = true.into();
        }
        let (status, answer) = try_pod(&plane, &metadata, &spec);
        let message = answer["message"].as_str().unwrap_or_default();
        let refused = status == 403 && message.contains("violates PodSecurity \"restricted");
        assert!(refused, "{field}: {status} {message}");
    }
}
