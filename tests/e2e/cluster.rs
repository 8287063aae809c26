//! The cluster, through kubectl and the agents' routes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use wylis_harness::netns::feed;
use wylis_harness::process::Metrics;
use wylis_harness::{http, skip};

/// The manifests' namespace.
pub(crate) const NAMESPACE: &str = "wylis";
/// Many times what an agent needs for a page.
const PAGE_LIMIT: Duration = Duration::from_secs(2);
/// The pause between two polls of the cluster, each of which costs milliseconds of CPU.
const POLL: Duration = Duration::from_millis(250);
const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// A running cluster.
pub(crate) struct Cluster {
    kubectl: OsString,
    /// The script that started it, for a cluster of tests/cluster: its parts may be stopped, and its pods
    /// are reachable directly.
    script: Option<PathBuf>,
}

/// An agent's pod with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) ip: String,
    /// The creation time, and the deletion deadline if it is terminating: text that sorts.
    pub(crate) created: String,
    pub(crate) deadline: Option<String>,
    pub(crate) ready: bool,
}

impl Cluster {
    /// KUBECONFIG's cluster.
    pub(crate) fn find() -> Option<Self> {
        if std::env::var_os("KUBECONFIG").is_none() {
            skip("KUBECONFIG names no cluster (make e2e starts one)");
            return None;
        }
        let kubectl = std::env::var_os("WYLIS_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let script = std::env::var_os("WYLIS_CLUSTER_SCRIPT").map(PathBuf::from);
        Some(Self { kubectl, script })
    }

    /// A cluster of tests/cluster, whose parts may be stopped.
    pub(crate) fn local() -> Option<Self> {
        let cluster = Self::find()?;
        if cluster.script.is_none() {
            skip("needs a cluster of tests/cluster");
            return None;
        }
        Some(cluster)
    }

    /// Runs kubectl to its end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments).current_dir(PROJECT).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("{}: {error}", self.kubectl.display()))
    }

    /// kubectl's output, or its error output when it fails.
    pub(crate) fn attempt(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.output(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// kubectl's output.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.attempt(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// kubectl's output with `input` as standard input.
    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> String {
        feed(&self.kubectl.to_string_lossy(), arguments, input)
    }

    /// A kubectl command for the caller to start.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// kubectl's output as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.kubectl(&[arguments, &["--output=json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Runs a command of the cluster's script.
    pub(crate) fn script(&self, arguments: &[&str]) {
        let script = self.script.as_ref().expect("a cluster of tests/cluster");
        let status = Command::new(script).args(arguments).status();
        assert!(status.is_ok_and(|status| status.success()), "{arguments:?}");
    }

    /// The output of a command of the cluster's script.
    pub(crate) fn script_output(&self, arguments: &[&str]) -> String {
        let script = self.script.as_ref().expect("a cluster of tests/cluster");
        feed(&script.to_string_lossy(), arguments, "")
    }

    /// Polls until `holds`.
    pub(crate) fn wait(&self, limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + limit;
        while !holds() {
            assert!(Instant::now() < deadline, "not within {limit:?}: {what}\n{}", self.summary());
            std::thread::sleep(POLL);
        }
    }

    /// Nodes, pods, events and logs, for a failing test.
    fn summary(&self) -> String {
        let show = |arguments: &[&str]| self.attempt(arguments).unwrap_or_else(|error| error);
        [
            show(&["get", "nodes,pods", "--all-namespaces", "--output=wide"]),
            show(&["-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp"]),
            show(&[
                "-n",
                NAMESPACE,
                "logs",
                "--prefix",
                "--tail=20",
                "-l=app.kubernetes.io/name=wylis",
            ]),
        ]
        .join("\n")
    }

    /// The names of all nodes.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let names = self.kubectl(&["get", "nodes", "--output=jsonpath={.items[*].metadata.name}"]);
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// All pods that have an address.
    pub(crate) fn pods(&self) -> Vec<Pod> {
        let list = self.json(&["-n", NAMESPACE, "get", "pods", "-l=app.kubernetes.io/name=wylis"]);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(Pod::read).collect()
    }

    /// The body of an agent's route; `None` without an answer.
    pub(crate) fn page(&self, pod: &Pod, path: &str) -> Option<String> {
        if self.script.is_some() {
            let address = SocketAddr::new(pod.ip.parse().ok()?, 9050);
            let answer = http::get_with(address, path, &[], PAGE_LIMIT).ok()?;
            return (answer.status == 200).then(|| answer.text());
        }
        let pod = format!("/api/v1/namespaces/{NAMESPACE}/pods/http:{}:9050/proxy{path}", pod.name);
        self.attempt(&["get", "--raw", &pod]).ok()
    }

    /// An agent's row; null without an answer.
    pub(crate) fn row(&self, pod: &Pod) -> Value {
        let text = self.page(pod, "/api/v1/peers").unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// An agent's entry for a peer; null when there is none.
    pub(crate) fn peer(&self, pod: &Pod, node: &str) -> Value {
        let row = self.row(pod);
        let mut peers = row["peers"].as_array().into_iter().flatten();
        peers.find(|peer| peer["node"] == node).cloned().unwrap_or_default()
    }

    /// An agent's metrics.
    pub(crate) fn metrics(&self, pod: &Pod) -> Metrics {
        Metrics::parse(&self.page(pod, "/metrics").unwrap_or_default())
    }

    /// The pairs of these pods without a success, or with a failure.
    pub(crate) fn unproven(&self, pods: &[Pod]) -> Vec<String> {
        let mut unproven = Vec::new();
        for source in pods {
            let row = self.row(source);
            let peers: BTreeMap<&str, &Value> = row["peers"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|peer| Some((peer["node"].as_str()?, peer)))
                .collect();
            for target in pods.iter().filter(|target| target.node != source.node) {
                let peer = peers.get(target.node.as_str());
                let proven = peer.is_some_and(|peer| {
                    peer["successes"].as_u64() > Some(0)
                        && peer["failures"] == 0
                        && peer["instance"] == target.uid
                });
                if !proven {
                    unproven.push(format!("{} to {}: {peer:?}", source.node, target.node));
                }
            }
        }
        unproven
    }

    /// Applies the manifests if needed, and waits until every node has an agent and every pair is up.
    pub(crate) fn with_agents(&self) -> Vec<Pod> {
        let set = ["-n", NAMESPACE, "get", "daemonset", "wylis"];
        if self.attempt(&set).is_err() {
            self.kubectl(&["apply", "-f", "manifests/"]);
        }
        // An earlier test may have started a rollout.
        self.wait(Duration::from_secs(180), "no rollout is under way", || {
            let status = self.json(&set)["status"].clone();
            let count = |field: &str| status[field].as_u64().unwrap_or(0);
            count("updatedNumberScheduled") == count("desiredNumberScheduled")
                && count("numberUnavailable") == 0
        });
        let mut pods = Vec::new();
        self.wait(Duration::from_secs(120), "an agent on every node, every pair probed", || {
            pods = self.pods();
            let settled = pods.iter().all(|pod| pod.ready && pod.deadline.is_none());
            settled && pods.len() == self.nodes().len() && self.unprobed(&pods).is_empty()
        });
        pods
    }

    /// As [`Cluster::unproven`], but ignores earlier failures.
    fn unprobed(&self, pods: &[Pod]) -> Vec<String> {
        let mut missing = Vec::new();
        for source in pods {
            if self.row(source)["peers"].as_array().map(Vec::len) != Some(pods.len() - 1) {
                missing.push(format!("{} has other peers as well", source.node));
            }
            for target in pods.iter().filter(|target| target.node != source.node) {
                let peer = self.peer(source, &target.node);
                if peer["verdict"] != "up" || peer["instance"] != target.uid {
                    missing.push(format!("{} to {}", source.node, target.node));
                }
            }
        }
        missing
    }
}

impl Pod {
    fn read(item: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let conditions = item["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        Some(Self {
            name: text(&item["metadata"]["name"])?,
            uid: text(&item["metadata"]["uid"])?,
            node: text(&item["spec"]["nodeName"])?,
            ip: text(&item["status"]["podIP"])?,
            created: text(&item["metadata"]["creationTimestamp"])?,
            deadline: text(&item["metadata"]["deletionTimestamp"]),
            ready: conditions.any(|known| known["type"] == "Ready" && known["status"] == "True"),
        })
    }
}
