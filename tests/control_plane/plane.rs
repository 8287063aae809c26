//! The control plane, with the manifests applied.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use wylis_harness::http::Response;
use wylis_harness::kube::{Api, JSON, KubeApi, MERGE, Request};
use wylis_harness::{netns, skip};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
pub(crate) const NAMESPACE: &str = "/api/v1/namespaces/wylis";
pub(crate) const DAEMONSET: &str = "/apis/apps/v1/namespaces/wylis/daemonsets/wylis";
/// The content type of `kubectl apply --server-side`.
const APPLY: &str = "application/apply-patch+yaml";

/// A running control plane, locked for one test until dropped.
pub(crate) struct Plane {
    /// With an administrator's rights.
    pub(crate) admin: KubeApi,
    pub(crate) address: SocketAddr,
    script: PathBuf,
    /// The folder with its keys and logs.
    pub(crate) state: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Plane {
    /// The control plane of scripts/control-plane.sh, without pods; skips the test where there is none.
    pub(crate) fn find() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let Some(script) = std::env::var_os("WYLIS_CLUSTER_SCRIPT").map(PathBuf::from) else {
            skip("no control plane (run scripts/control-plane.sh)");
            return None;
        };
        // A failed test must not fail the next one.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let output = |what| netns::feed(&script.to_string_lossy(), &[what], "").trim().to_owned();
        let state = PathBuf::from(output("state"));
        let config = std::fs::read_to_string(output("kubeconfig")).unwrap();
        let server = config.lines().find_map(|line| line.trim().strip_prefix("server: https://"));
        let address = server.and_then(|server| server.parse().ok()).expect("a server's address");
        let [ca, certificate, key] = ["trusted.crt", "admin.crt", "admin.key"]
            .map(|name| std::fs::read_to_string(state.join("pki").join(name)).unwrap());
        let admin = KubeApi::with_certificate(address, &ca, &certificate, &key);
        let plane = Self { admin, address, script, state, _alone: alone };
        plane.clear();
        Some(plane)
    }

    /// The same, with the manifests applied and the quota's status set.
    pub(crate) fn with_manifests() -> Option<Self> {
        let plane = Self::find()?;
        for document in documents() {
            plane.apply(&document, "");
        }
        plane.count_quota();
        Some(plane)
    }

    /// Deletes all pods at once.
    pub(crate) fn clear(&self) {
        let path = format!("{NAMESPACE}/pods?gracePeriodSeconds=0");
        let answer = self.admin.send(&Request {
            method: "DELETE",
            path: &path,
            content_type: JSON,
            body: "",
        });
        assert!(answer.is_ok_and(|answer| answer.status == 200), "delete all pods");
    }

    /// Runs a command of the script.
    pub(crate) fn script(&self, arguments: &[&str]) {
        let status = Command::new(&self.script).args(arguments).status();
        assert!(status.is_ok_and(|status| status.success()), "{arguments:?}");
    }

    /// The newest key that signs tokens.
    pub(crate) fn token_key(&self) -> PathBuf {
        let names =
            std::fs::read_dir(self.state.join("pki")).unwrap().map(|entry| entry.unwrap().path());
        let is_one = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("service-account-") && name.ends_with(".key")
        };
        names.filter(is_one).max().expect("a key that signs tokens")
    }

    /// The `ca.crt` of every pod.
    pub(crate) fn ca(&self) -> String {
        std::fs::read_to_string(self.state.join("pki/trusted.crt")).unwrap()
    }

    /// A client with a token.
    pub(crate) fn with_token(&self, token: &str) -> KubeApi {
        KubeApi::with_token(self.address, &self.ca(), token)
    }

    /// Applies one YAML document.
    pub(crate) fn apply(&self, yaml: &str, query: &str) -> Response {
        let path = format!("{}?fieldManager=test&fieldValidation=Strict{query}", path_of(yaml));
        let request = Request { method: "PATCH", path: &path, content_type: APPLY, body: yaml };
        let answer = self.admin.send(&request).unwrap();
        assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text());
        assert_eq!(answer.header("Warning"), None, "{path}");
        answer
    }

    /// Sets the status of the quota, as the controller manager does: without it, no pod is admitted.
    fn count_quota(&self) {
        let path = format!("{NAMESPACE}/resourcequotas/wylis-node-critical");
        let hard = self.admin.read(&path)["spec"]["hard"].clone();
        let status = json!({"status": {"hard": hard, "used": {"pods": "0"}}});
        self.admin.done("PATCH", &format!("{path}/status"), MERGE, &status);
    }

    /// The sum of one of the server's own metrics over the series with these labels.
    pub(crate) fn counted(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin.get("/metrics").text();
        let metrics = wylis_harness::process::Metrics::parse(&text);
        assert!(metrics.count(name, &[]) > 0, "the server has no metric {name}");
        metrics.sum(name, labels)
    }

    /// The audit log: one event for each request of the agents.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.state.join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect()
    }

    /// A token for a pod, as the kubelet requests it.
    pub(crate) fn token(&self, pod: &Value) -> String {
        let reference = json!({
            "kind": "Pod", "apiVersion": "v1",
            "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"],
        });
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3607, "boundObjectRef": reference},
        });
        let answer =
            self.admin.create(&format!("{NAMESPACE}/serviceaccounts/wylis/token"), &request);
        answer["status"]["token"].as_str().expect("a token").to_owned()
    }
}

/// The documents of the manifests, in the order of `kubectl apply -f`.
pub(crate) fn documents() -> Vec<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(Path::new(MANIFESTS))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    let documents: Vec<String> = texts
        .flat_map(|text| text.split("\n---\n").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(documents.len() >= 8, "{MANIFESTS} has {} documents", documents.len());
    documents
}

/// The API path of a document's object.
fn path_of(yaml: &str) -> String {
    let field = |name: &str| {
        let line = yaml.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {yaml}")).trim().to_owned()
    };
    let (version, kind, name) = (field("apiVersion:"), field("kind:"), field("  name:"));
    let api = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    let plural = match kind.as_str() {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        _ => kind.to_lowercase() + "s",
    };
    if kind == "Namespace" {
        return format!("{api}/{plural}/{name}");
    }
    format!("{api}/namespaces/{}/{plural}/{name}", field("  namespace:"))
}
