//! The control plane, and the manifests on it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use wylis_harness::http::Response;
use wylis_harness::kube::{Api, JSON, KubeApi, MERGE, Request};
use wylis_harness::{netns, skip};

/// What the manifests are read from.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
/// Everything of ours is here.
pub(crate) const NAMESPACE: &str = "/api/v1/namespaces/wylis";
/// The DaemonSet.
pub(crate) const DAEMONSET: &str = "/apis/apps/v1/namespaces/wylis/daemonsets/wylis";
/// As `kubectl apply --server-side` sends it.
const APPLY: &str = "application/apply-patch+yaml";

/// A control plane that answers, ours alone until this is dropped.
pub(crate) struct Plane {
    /// Asked as an administrator.
    pub(crate) admin: KubeApi,
    pub(crate) address: SocketAddr,
    script: PathBuf,
    /// Where all of it is, as the script says.
    pub(crate) state: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Plane {
    /// The one that scripts/control-plane.sh brought up, without pods.
    pub(crate) fn find() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let Some(script) = std::env::var_os("WYLIS_CLUSTER_SCRIPT").map(PathBuf::from) else {
            skip("no control plane (scripts/control-plane.sh brings one up)");
            return None;
        };
        // A test that failed says nothing about the next one.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |what| netns::feed(&script.to_string_lossy(), &[what], "").trim().to_owned();
        let state = PathBuf::from(told("state"));
        let config = std::fs::read_to_string(told("kubeconfig")).unwrap();
        let server = config.lines().find_map(|line| line.trim().strip_prefix("server: https://"));
        let address = server.and_then(|server| server.parse().ok()).expect("a server's address");
        let [ca, certificate, key] = ["trusted.crt", "admin.crt", "admin.key"]
            .map(|name| std::fs::read_to_string(state.join("pki").join(name)).unwrap());
        let admin = KubeApi::with_certificate(address, &ca, &certificate, &key);
        let plane = Self { admin, address, script, state, _alone: alone };
        plane.clear();
        Some(plane)
    }

    /// The same, with the manifests applied and their quota counted.
    pub(crate) fn with_manifests() -> Option<Self> {
        let plane = Self::find()?;
        for document in documents() {
            plane.apply(&document, "");
        }
        plane.count_quota();
        Some(plane)
    }

    /// No pods, whoever left them, and no wish to see them end well.
    pub(crate) fn clear(&self) {
        let path = format!("{NAMESPACE}/pods?gracePeriodSeconds=0");
        let answer = self.admin.send(&Request {
            method: "DELETE",
            path: &path,
            content_type: JSON,
            body: "",
        });
        assert!(answer.is_ok_and(|answer| answer.status == 200), "no pods are left");
    }

    /// Has the script do something to the control plane.
    pub(crate) fn script(&self, arguments: &[&str]) {
        let status = Command::new(&self.script).args(arguments).status();
        assert!(status.is_ok_and(|status| status.success()), "{arguments:?}");
    }

    /// The newest of the keys that sign tokens.
    pub(crate) fn token_key(&self) -> PathBuf {
        let names =
            std::fs::read_dir(self.state.join("pki")).unwrap().map(|entry| entry.unwrap().path());
        let is_one = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("service-account-") && name.ends_with(".key")
        };
        names.filter(is_one).max().expect("a key that signs tokens")
    }

    /// What every pod is given as `ca.crt`.
    pub(crate) fn ca(&self) -> String {
        std::fs::read_to_string(self.state.join("pki/trusted.crt")).unwrap()
    }

    /// The server, asked with a token.
    pub(crate) fn as_holder_of(&self, token: &str) -> KubeApi {
        KubeApi::with_token(self.address, &self.ca(), token)
    }

    /// Applies one document of YAML; what the server says to that.
    pub(crate) fn apply(&self, yaml: &str, query: &str) -> Response {
        let path = format!("{}?fieldManager=test&fieldValidation=Strict{query}", path_of(yaml));
        let request = Request { method: "PATCH", path: &path, content_type: APPLY, body: yaml };
        let answer = self.admin.send(&request).unwrap();
        assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text());
        assert_eq!(answer.header("Warning"), None, "{path}");
        answer
    }

    /// Does what the controller manager does for a new quota: without a count, none is admitted.
    fn count_quota(&self) {
        let path = format!("{NAMESPACE}/resourcequotas/wylis-node-critical");
        let hard = self.admin.read(&path)["spec"]["hard"].clone();
        let status = json!({"status": {"hard": hard, "used": {"pods": "0"}}});
        self.admin.done("PATCH", &format!("{path}/status"), MERGE, &status);
    }

    /// The sum of the server's own metric over all series with these labels.
    pub(crate) fn counted(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin.get("/metrics").text();
        let metrics = wylis_harness::process::Metrics::parse(&text);
        assert!(metrics.count(name, &[]) > 0, "the server has no metric {name}");
        metrics.sum(name, labels)
    }

    /// What the agents asked of the server so far, and what it answered: one event for each request.
    pub(crate) fn asked(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.state.join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect()
    }

    /// A token as the kubelet asks for it, for a pod.
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

/// The documents of the manifests, in the order in which `kubectl apply -f` reads them.
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

/// Where a document's object lives.
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
