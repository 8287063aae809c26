//! A mesh of real agents: a fake API server with pods, and an agent process for each pod, on loopback
//! addresses or in the caller's network namespaces.
//!
//! The mesh plays the DaemonSet controller and the kubelets: pods get new names, UIDs and addresses, a pod
//! is terminating while its agent drains, and its replacement follows.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::api::{ApiServer, NAMESPACE, PodTable, TestPod, write_service_account};
use crate::netns::{Entrance, Namespace};
use crate::pki::{Authority, Validity};
use crate::process::{Agent, Settings};
use crate::{TempDir, manifest, wait_until};

/// The port of all agents; their addresses differ.
pub const PORT: u16 = 9050;
/// The token of the service account.
pub const TOKEN: &str = "token-of-the-mesh";
/// Enough for a busy machine; a healthy mesh needs a fraction.
const PATIENCE: Duration = Duration::from_secs(60);

/// A /24 of loopback addresses, unique in this process.
#[derive(Debug)]
pub struct Net {
    second: u8,
    third: u8,
    next: u8,
}

impl Net {
    /// The next unused network.
    ///
    /// # Panics
    /// After 250 networks.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let third = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(third < 250, "no loopback network left");
        // Another second byte for each process, above those in use by hand.
        let second = u8::try_from(128 + std::process::id() % 120).unwrap();
        Self { second, third, next: 10 }
    }

    /// The address with this last byte.
    #[must_use]
    pub fn host(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(127, self.second, self.third, last).into()
    }

    /// An unused address.
    pub fn fresh(&mut self) -> IpAddr {
        self.next += 1;
        self.host(self.next)
    }
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

/// A node: its pod, and the pod's agent.
#[derive(Debug)]
pub struct Node {
    /// The pod's name.
    pub pod: String,
    /// The process.
    pub agent: Agent,
}

/// The mesh.
pub struct Mesh {
    /// The API server.
    pub api: ApiServer,
    /// The API server's pods.
    pub pods: PodTable,
    /// Running agents by node name.
    pub nodes: BTreeMap<String, Node>,
    dir: TempDir,
    net: Net,
    binary: PathBuf,
    environment: Vec<(String, String)>,
    next_pod: u32,
    /// All pods, including past ones.
    started: BTreeMap<String, TestPod>,
    /// The addresses of nodes that have one of their own.
    hosts: BTreeMap<String, IpAddr>,
    /// More environment, by node.
    settings: BTreeMap<String, Vec<(String, String)>>,
}

/// A pod's namespace; by default our own, at a loopback address.
type Inside<'a> = Option<&'a Namespace>;

impl Mesh {
    /// A mesh without agents. `environment` applies to every agent.
    #[must_use]
    pub fn new(binary: &Path, environment: &[(&str, &str)]) -> Self {
        let net = Net::new();
        let host = net.host(250);
        Self::make(binary, environment, net, (None, host))
    }

    /// As [`Mesh::new`], with the API server inside a network namespace, for [`Mesh::add_at`].
    #[must_use]
    pub fn with_api_at(
        api: (Entrance, IpAddr),
        binary: &Path,
        environment: &[(&str, &str)],
    ) -> Self {
        Self::make(binary, environment, Net::new(), (Some(api.0), api.1))
    }

    fn make(
        binary: &Path,
        environment: &[(&str, &str)],
        net: Net,
        (inside, host): (Option<Entrance>, IpAddr),
    ) -> Self {
        let dir = TempDir::new("mesh");
        let authority = Authority::new("wylis test authority");
        let identity = authority.issue(&[&host.to_string()], Validity::Now);
        let pods = PodTable::new();
        let address = SocketAddr::new(host, 6443);
        let api = ApiServer::start_in(inside, address, &identity, &pods);
        api.set_tokens(&[TOKEN]);
        write_service_account(dir.path(), TOKEN, &authority.pem(), NAMESPACE);
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Self {
            api,
            pods,
            nodes: BTreeMap::new(),
            dir,
            net,
            binary: binary.to_owned(),
            environment: environment.collect(),
            next_pod: 0,
            hosts: BTreeMap::new(),
            settings: BTreeMap::new(),
            started: BTreeMap::new(),
        }
    }

    /// A mesh of `size` nodes, `n1` and so on, after the first probe of every pair.
    #[must_use]
    pub fn of(size: usize, binary: &Path, environment: &[(&str, &str)]) -> Self {
        let mut mesh = Self::new(binary, environment);
        for number in 1..=size {
            mesh.add(&format!("n{number}"));
        }
        mesh.wait_for_all_pairs();
        mesh
    }

    /// Schedules a pod on a node, at a new address, and starts its agent.
    pub fn add(&mut self, node: &str) {
        self.add_with(node, &[]);
    }

    /// As [`Mesh::add`], with more environment.
    pub fn add_with(&mut self, node: &str, environment: &[(&str, &str)]) {
        let address = self.net.fresh();
        let pod = self.pod(node, address);
        self.start(None, node, pod, environment);
    }

    /// Schedules a pod on a node, and starts its agent without privileges in the pod's namespace, which has
    /// this address.
    pub fn add_at(&mut self, node: &str, namespace: &Namespace, address: IpAddr) {
        self.add_at_all(node, namespace, &[address]);
    }

    /// As [`Mesh::add_at`], with several addresses, the primary one first.
    ///
    /// # Panics
    /// Without an address.
    pub fn add_at_all(&mut self, node: &str, namespace: &Namespace, addresses: &[IpAddr]) {
        let mut pod = self.pod(node, addresses[0]);
        pod.ips = addresses.iter().map(ToString::to_string).collect();
        self.start(Some(namespace), node, pod, &[]);
    }

    fn pod(&mut self, node: &str, address: IpAddr) -> TestPod {
        self.next_pod += 1;
        let name = format!("wylis-{:05}", self.next_pod);
        let mut pod = TestPod::new(&name, node, &address.to_string());
        pod.created += i64::from(self.next_pod);
        if let Some(host) = self.hosts.get(node) {
            pod.host_ip = host.to_string();
        }
        pod
    }

    /// Gives a node an address, for pods that are scheduled from now on. Without it, all nodes have the same one, so
    /// that no agent asks a host for a sign of life.
    pub fn set_host(&mut self, node: &str, address: IpAddr) {
        self.hosts.insert(node.to_owned(), address);
    }

    /// Gives the agents that start on a node from now on more environment, in place of what they had.
    pub fn set_environment(&mut self, node: &str, environment: &[(&str, &str)]) {
        let own = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        self.settings.insert(node.to_owned(), own.collect());
    }

    /// Restarts an agent in its listed pod, as the kubelet does after a crash.
    pub fn restart_in_place(&mut self, node: &str, pod: &str) {
        self.restart_in_place_with(node, pod, &[]);
    }

    /// As [`Mesh::restart_in_place`], with more environment.
    pub fn restart_in_place_with(&mut self, node: &str, pod: &str, environment: &[(&str, &str)]) {
        let pod = self.started[pod].clone();
        self.start(None, node, pod, environment);
    }

    /// As [`Mesh::restart_in_place`], in the pod's namespace.
    pub fn restart_in_place_at(&mut self, node: &str, pod: &str, namespace: &Namespace) {
        let pod = self.started[pod].clone();
        self.start(Some(namespace), node, pod, &[]);
    }

    /// Adds the pod to the API server, and starts its agent.
    fn start(
        &mut self,
        inside: Inside<'_>,
        node: &str,
        pod: TestPod,
        environment: &[(&str, &str)],
    ) {
        let address = SocketAddr::new(pod.ips[0].parse().unwrap(), PORT);
        let api = self.api.address();
        // In its own network namespace, the agent uses its default address.
        let listen = if inside.is_some() { format!("[::]:{PORT}") } else { address.to_string() };
        let mut all = vec![
            ("WYLIS_NODE_NAME".to_owned(), node.to_owned()),
            ("WYLIS_POD_NAME".to_owned(), pod.name.clone()),
            ("WYLIS_POD_UID".to_owned(), pod.uid.clone()),
            ("WYLIS_LISTEN".to_owned(), listen),
            ("WYLIS_SERVICE_ACCOUNT_DIR".to_owned(), self.dir.path().display().to_string()),
            ("KUBERNETES_SERVICE_HOST".to_owned(), api.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), api.port().to_string()),
        ];
        all.extend(self.environment.iter().cloned());
        all.extend(self.settings.get(node).cloned().unwrap_or_default());
        all.extend(environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let log = self.log_of(&pod.name);
        self.started.insert(pod.name.clone(), pod.clone());
        let name = pod.name.clone();
        self.pods.put(pod);
        let settings = Settings { binary: self.binary.clone(), environment: all, address, log };
        let agent = match inside {
            Some(namespace) => Agent::start_in(namespace, &settings),
            None => Agent::start(&settings),
        };
        self.nodes.insert(node.to_owned(), Node { pod: name, agent });
    }

    fn log_of(&self, pod: &str) -> PathBuf {
        self.dir.path().join(format!("{pod}.log"))
    }

    /// The mesh's temporary folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The agent on a node.
    ///
    /// # Panics
    /// When no agent runs there.
    #[must_use]
    pub fn agent(&self, node: &str) -> &Agent {
        &self.nodes.get(node).unwrap_or_else(|| panic!("no agent on {node}")).agent
    }

    /// As [`Mesh::agent`], to change it.
    ///
    /// # Panics
    /// As [`Mesh::agent`].
    pub fn agent_mut(&mut self, node: &str) -> &mut Agent {
        &mut self.nodes.get_mut(node).unwrap_or_else(|| panic!("no agent on {node}")).agent
    }

    /// The names of the nodes with an agent.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// Deletes a node's pod as the API server and the kubelet do: terminating, SIGTERM, gone.
    ///
    /// # Panics
    /// When it outlives its grace period.
    pub fn delete(&mut self, node: &str) -> ExitStatus {
        self.begin_delete(node);
        let status = self.finish_delete(node, manifest::grace());
        status.unwrap_or_else(|| panic!("{node} outlived its grace period\n{}", self.logs()))
    }

    /// The first half of [`Mesh::delete`]: the pod is terminating, its agent drains.
    pub fn begin_delete(&mut self, node: &str) {
        let grace = i64::try_from(manifest::grace().as_secs()).unwrap();
        self.pods.terminate(&self.nodes[node].pod, now() + grace);
        self.agent(node).terminate();
    }

    /// The second half: removes the pod once its agent has ended, within `limit`.
    pub fn finish_delete(&mut self, node: &str, limit: Duration) -> Option<ExitStatus> {
        let status = self.nodes.get_mut(node)?.agent.wait(limit)?;
        let gone = self.nodes.remove(node)?;
        self.pods.remove(&gone.pod);
        Some(status)
    }

    /// Kills an agent; its pod stays listed, as after a crash of the node.
    pub fn kill(&mut self, node: &str) -> String {
        let mut gone = self.nodes.remove(node).unwrap_or_else(|| panic!("no agent on {node}"));
        gone.agent.kill();
        gone.pod.clone()
    }

    /// The pairs without a successful probe.
    #[must_use]
    pub fn unprobed_pairs(&self) -> Vec<(String, String)> {
        let mut missing = Vec::new();
        for (source, node) in &self.nodes {
            let row = node.agent.peers();
            let peers = row["peers"].as_array().cloned().unwrap_or_default();
            for target in self.nodes.keys().filter(|target| *target != source) {
                let probed = peers.iter().any(|peer| {
                    peer["node"] == **target && peer["successes"].as_u64().unwrap_or(0) > 0
                });
                if !probed {
                    missing.push((source.clone(), target.clone()));
                }
            }
        }
        missing
    }

    /// Waits for a successful probe of every pair.
    ///
    /// # Panics
    /// After a minute, with the pairs and the logs.
    pub fn wait_for_all_pairs(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let missing = self.unprobed_pairs();
            if missing.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "not probed: {missing:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for this verdict of `source` on `target`.
    pub fn wait_for_verdict(&self, source: &str, target: &str, verdict: &str) {
        wait_until(PATIENCE, &format!("{source}: verdict {verdict} on {target}"), || {
            self.agent(source).peer(target)["verdict"] == verdict
        });
    }

    /// The sum of a metric over all running agents.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.nodes.values().map(|node| node.agent.metrics().sum(name, labels)).sum()
    }

    /// The logs of all agents, including past ones, for a failing test.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for number in 1..=self.next_pod {
            let pod = format!("wylis-{number:05}");
            let log = std::fs::read_to_string(self.log_of(&pod)).unwrap_or_default();
            text.push_str(&format!("--- {pod}\n{log}"));
        }
        text
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
