//! Agents and their Pod objects. The tests do the work of the DaemonSet controller and the kubelet.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wylis_harness::TempDir;
use wylis_harness::api::write_service_account;
use wylis_harness::kube::{Api as _, JSON, MERGE};
use wylis_harness::mesh::Net;
use wylis_harness::process::{Agent, Settings, binary};

use crate::plane::{DAEMONSET, NAMESPACE, Plane};

/// Faster than the defaults; the timeout stays long for a busy machine.
const FAST: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "1s"),
    ("WYLIS_TIMEOUT", "5s"),
    ("WYLIS_REFRESH_INTERVAL", "2s"),
    ("WYLIS_DRAIN", "1s"),
];
/// Longer than any recovery: retries are at most 1 min apart.
pub(crate) const PATIENCE: Duration = Duration::from_secs(70);
const POLL: Duration = Duration::from_millis(100);

/// A Pod object and its agent.
pub(crate) struct AgentPod {
    pub(crate) node: String,
    /// The Pod object, as the server created it.
    pub(crate) object: Value,
    pub(crate) agent: Agent,
    dir: PathBuf,
}

/// All agents and their pods; killed when dropped.
pub(crate) struct Agents<'a> {
    plane: &'a Plane,
    net: Net,
    dir: TempDir,
    pub(crate) pods: Vec<AgentPod>,
}

impl<'a> Agents<'a> {
    /// Agents on `size` nodes, after the first probe of every pair.
    pub(crate) fn of(plane: &'a Plane, size: usize) -> Self {
        let mut agents =
            Self { plane, net: Net::new(), dir: TempDir::new("control"), pods: vec![] };
        for number in 1..=size {
            agents.add(&format!("n{number}"));
        }
        agents.wait("every pair is probed with success", |agents| agents.unproven().is_empty());
        agents
    }

    /// Creates a pod on a node, and starts its agent.
    fn add(&mut self, node: &str) {
        let object = self.plane.admin.create(&format!("{NAMESPACE}/pods"), &self.pod_for(node));
        let dir = self.dir.path().join(text(&object["metadata"]["uid"]));
        let (ip, token) = (self.net.fresh(), self.plane.token(&object));
        write_service_account(&dir, &token, &self.plane.ca(), "wylis");
        let agent = self.start(&object, ip, dir.clone());
        self.set_status(&object, ip, false);
        self.pods.push(AgentPod { node: node.to_owned(), object, agent, dir });
        let pod = self.pods.last().unwrap();
        self.wait("the agent is ready", |_| {
            pod.agent.get("/readyz").is_some_and(|(status, _)| status == 200)
        });
        self.set_status(&pod.object, ip, true);
    }

    /// The pod as the DaemonSet controller creates it, but already bound to its node.
    fn pod_for(&self, node: &str) -> Value {
        let set = self.plane.admin.read(DAEMONSET);
        let template = &set["spec"]["template"];
        let mut metadata = template["metadata"].clone();
        metadata["generateName"] = "wylis-".into();
        metadata["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true,
            "blockOwnerDeletion": true, "name": "wylis", "uid": set["metadata"]["uid"],
        }]);
        let mut spec = template["spec"].clone();
        spec["nodeName"] = node.into();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    }

    /// Reports the pod's status, as the kubelet does.
    fn set_status(&self, pod: &Value, ip: IpAddr, ready: bool) {
        let ready = if ready { "True" } else { "False" };
        let status = json!({"status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": ready}],
        }});
        self.plane.admin.done("PATCH", &format!("{}/status", path_of(pod)), MERGE, &status);
    }

    fn start(&self, pod: &Value, ip: IpAddr, dir: PathBuf) -> Agent {
        let metadata = &pod["metadata"];
        let address = SocketAddr::new(ip, 9050);
        let (server, state) = (self.plane.address, dir.join("state"));
        std::fs::create_dir_all(&state).unwrap();
        let mut environment = vec![
            ("WYLIS_NODE_NAME", text(&pod["spec"]["nodeName"])),
            ("WYLIS_POD_NAME", text(&metadata["name"])),
            ("WYLIS_POD_UID", text(&metadata["uid"])),
            ("WYLIS_LISTEN", address.to_string()),
            ("WYLIS_STATE_DIR", state.display().to_string()),
            ("WYLIS_SERVICE_ACCOUNT_DIR", dir.display().to_string()),
            ("KUBERNETES_SERVICE_HOST", server.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT", server.port().to_string()),
        ];
        environment.extend(FAST.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Agent::start(&Settings {
            binary: binary(env!("CARGO_BIN_EXE_wylis")),
            environment: environment.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            address,
            log: dir.join("log"),
        })
    }

    /// Polls until `holds`; a failure prints the agents' logs.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}\n{}", self.logs());
            std::thread::sleep(POLL);
        }
    }

    /// The pairs without a success, or with a failure.
    pub(crate) fn unproven(&self) -> Vec<String> {
        let pairs = self.pods.iter().flat_map(|source| {
            let targets = self.pods.iter().filter(|target| target.node != source.node);
            targets.map(move |target| (source, target))
        });
        let unproven = pairs.filter_map(|(source, target)| {
            let peer = source.agent.peer(&target.node);
            let proven = peer["successes"].as_u64() > Some(0)
                && peer["failures"] == 0
                && peer["instance"] == target.object["metadata"]["uid"];
            (!proven).then(|| format!("{} to {}: {peer}", source.node, target.node))
        });
        unproven.collect()
    }

    /// A counter of each agent.
    pub(crate) fn each(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        self.pods.iter().map(|pod| pod.agent.metrics().sum(name, labels)).collect()
    }

    /// All logs, for a failing test.
    pub(crate) fn logs(&self) -> String {
        let logs = self.pods.iter();
        logs.map(|pod| format!("--- {}\n{}", pod.node, pod.agent.log())).collect()
    }

    /// Deletes a Pod object, as the kubelet does once its containers are gone.
    pub(crate) fn delete_object(&self, pod: &AgentPod) {
        let path = format!("{}?gracePeriodSeconds=0", path_of(&pod.object));
        self.plane.admin.done("DELETE", &path, JSON, &Value::Null);
    }
}

impl AgentPod {
    /// Replaces the agent's token, as the kubelet does.
    pub(crate) fn set_token(&self, token: &str) {
        wylis_harness::api::write_file(&self.dir, "token", token);
    }

    /// Lists that the server refused because of the token.
    pub(crate) fn unauthorized(&self) -> f64 {
        self.failures("unauthorized")
    }

    /// Refreshes that failed with this reason.
    pub(crate) fn failures(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        self.agent.metrics().sum("wylis_discovery_failures_total", &[&label])
    }

    /// Successful refreshes.
    pub(crate) fn lists(&self) -> f64 {
        self.agent.metrics().sum("wylis_discovery_refreshes_total", &["result=\"success\""])
    }
}

/// The API path of a pod.
pub(crate) fn path_of(pod: &Value) -> String {
    format!("{NAMESPACE}/pods/{}", text(&pod["metadata"]["name"]))
}

/// The text of a JSON string.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
