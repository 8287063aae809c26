//! The cluster, as a person at a terminal sees it: through kubectl, and through the agents' own pages.

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

/// Where the manifests put everything.
pub(crate) const NAMESPACE: &str = "wylis";
/// What an agent needs for a page, many times over.
const PAGE_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks at the cluster: a look costs a core some milliseconds.
const LOOK: Duration = Duration::from_millis(250);
/// The root of the project.
const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// A cluster that answers.
pub(crate) struct Cluster {
    kubectl: OsString,
    /// The script that made it, when it is ours: then its parts may be stopped, and its pods are
    /// reached directly.
    script: Option<PathBuf>,
}

/// A pod of ours with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) ip: String,
    /// When it was made, and, of one that is being deleted, until when it may stay: text that sorts.
    pub(crate) created: String,
    pub(crate) deadline: Option<String>,
    pub(crate) ready: bool,
}

impl Cluster {
    /// The one that `make e2e` speaks of.
    pub(crate) fn find() -> Option<Self> {
        if std::env::var_os("KUBECONFIG").is_none() {
            skip("KUBECONFIG names no cluster (make e2e brings one up)");
            return None;
        }
        let kubectl = std::env::var_os("WYLIS_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let script = std::env::var_os("WYLIS_CLUSTER_SCRIPT").map(PathBuf::from);
        Some(Self { kubectl, script })
    }

    /// The one that tests/cluster brought up, whose parts may be stopped.
    pub(crate) fn ours() -> Option<Self> {
        let cluster = Self::find()?;
        if cluster.script.is_none() {
            skip("needs a cluster of our own, whose parts may be stopped");
            return None;
        }
        Some(cluster)
    }

    /// kubectl, to its end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments).current_dir(PROJECT).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("{}: {error}", self.kubectl.display()))
    }

    /// What kubectl prints; `Err` is what it says when it fails.
    pub(crate) fn attempt(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.output(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// What kubectl prints.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.attempt(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// What kubectl prints when it reads `input`.
    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> String {
        feed(&self.kubectl.to_string_lossy(), arguments, input)
    }

    /// A kubectl that goes on running.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// What the API server answers, read as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.kubectl(&[arguments, &["--output=json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Has the script do something to our own cluster.
    pub(crate) fn script(&self, arguments: &[&str]) {
        let script = self.script.as_ref().expect("only called on a cluster of our own");
        let status = Command::new(script).args(arguments).status();
        assert!(status.is_ok_and(|status| status.success()), "{arguments:?}");
    }

    /// What the script prints.
    pub(crate) fn told_by_script(&self, arguments: &[&str]) -> String {
        let script = self.script.as_ref().expect("only called on a cluster of our own");
        feed(&script.to_string_lossy(), arguments, "")
    }

    /// Polls until something holds.
    pub(crate) fn wait(&self, limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + limit;
        while !holds() {
            assert!(Instant::now() < deadline, "not within {limit:?}: {what}\n{}", self.told());
            std::thread::sleep(LOOK);
        }
    }

    /// What a person would look at when something is wrong.
    fn told(&self) -> String {
        let look = |arguments: &[&str]| self.attempt(arguments).unwrap_or_else(|error| error);
        [
            look(&["get", "nodes,pods", "--all-namespaces", "--output=wide"]),
            look(&["-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp"]),
            look(&[
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

    /// One page of an agent; `None` when it does not answer.
    pub(crate) fn page(&self, pod: &Pod, path: &str) -> Option<String> {
        if self.script.is_some() {
            let address = SocketAddr::new(pod.ip.parse().ok()?, 9050);
            let answer = http::get_with(address, path, &[], PAGE_LIMIT).ok()?;
            return (answer.status == 200).then(|| answer.text());
        }
        let pod = format!("/api/v1/namespaces/{NAMESPACE}/pods/http:{}:9050/proxy{path}", pod.name);
        self.attempt(&["get", "--raw", &pod]).ok()
    }

    /// An agent's row; null when it does not answer.
    pub(crate) fn row(&self, pod: &Pod) -> Value {
        let text = self.page(pod, "/api/v1/peers").unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// What an agent says of one peer; null when it is none.
    pub(crate) fn peer(&self, pod: &Pod, node: &str) -> Value {
        let row = self.row(pod);
        let mut peers = row["peers"].as_array().into_iter().flatten();
        peers.find(|peer| peer["node"] == node).cloned().unwrap_or_default()
    }

    /// What Prometheus would see of an agent.
    pub(crate) fn metrics(&self, pod: &Pod) -> Metrics {
        Metrics::parse(&self.page(pod, "/metrics").unwrap_or_default())
    }

    /// Every pair of these pods that was not probed with success, or failed.
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

    /// Applies the manifests where that has not been done, and waits until every node has an agent
    /// and every pair was probed.
    pub(crate) fn with_agents(&self) -> Vec<Pod> {
        let set = ["-n", NAMESPACE, "get", "daemonset", "wylis"];
        if self.attempt(&set).is_err() {
            self.kubectl(&["apply", "-f", "manifests/"]);
        }
        // What an earlier test has begun is none of the next one's business.
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

    /// As [`Cluster::unproven`], whatever failed before.
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
