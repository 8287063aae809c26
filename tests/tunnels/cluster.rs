//! The cluster on the network: the API server in the switch, an agent in a pod on every node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use wylis_harness::TempDir;
use wylis_harness::mesh::{Mesh, PORT};
use wylis_harness::process::{Agent, Settings};

use super::binary;
use super::network::{Network, Plan, Pod, SWITCH};

/// Network, agents, and the pods that these run in.
pub(crate) struct Cluster {
    pub(crate) mesh: Mesh,
    pub(crate) pods: BTreeMap<u8, Pod>,
    pub(crate) network: Network,
    dir: TempDir,
}

/// The name of a node.
pub(crate) fn node(number: u8) -> String {
    format!("n{number}")
}

impl Cluster {
    /// A network without agents yet, or `None` where the lab cannot be built.
    pub(crate) fn without_agents(plan: Plan, environment: &[(&str, &str)]) -> Option<Self> {
        let network = Network::new(plan)?;
        let dir = TempDir::new("cluster");
        let api = (network.switch.entrance(), SWITCH.into());
        let mesh = Mesh::with_api_at(api, &reachable(&binary(), dir.path()), environment);
        Some(Self { mesh, pods: BTreeMap::new(), network, dir })
    }

    /// With an agent on every node, all of whose pairs have been probed.
    pub(crate) fn new(plan: Plan, environment: &[(&str, &str)]) -> Option<Self> {
        Self::with_agents(plan, plan.size, environment)
    }

    /// With an agent on each of the first `size` nodes.
    pub(crate) fn with_agents(plan: Plan, size: u8, environment: &[(&str, &str)]) -> Option<Self> {
        let mut cluster = Self::without_agents(plan, environment)?;
        cluster.network.shake_hands();
        (1..=size).for_each(|number| cluster.add(number));
        cluster.mesh.wait_for_all_pairs();
        Some(cluster)
    }

    /// Schedules a pod on a node, at a new address.
    pub(crate) fn add(&mut self, number: u8) {
        let pod = self.network.pod(number);
        self.mesh.add_at(&node(number), &pod.namespace, pod.address);
        self.pods.insert(number, pod);
    }

    /// Starts the agent of a pod anew, as the kubelet does after a crash.
    pub(crate) fn restart(&mut self, number: u8, pod: &str) {
        self.mesh.restart_in_place_at(&node(number), pod, &self.pods[&number].namespace);
    }

    /// An agent of another cluster, in the pod of a node.
    pub(crate) fn stranger(&self, number: u8) -> Agent {
        let pod = &self.pods[&number];
        let environment = [
            ("WYLIS_NODE_NAME", "stranger"),
            ("WYLIS_PEERS", "nobody=10.244.1.250:9050"),
            ("WYLIS_INTERVAL", "1h"),
        ];
        Agent::start_in(
            &pod.namespace,
            &Settings {
                binary: self.dir.path().join("wylis"),
                environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
                address: SocketAddr::new(pod.address, PORT),
                log: self.dir.path().join("stranger.log"),
            },
        )
    }
}

/// The agent's user may not enter every folder that ours may: the program gets a second name where
/// everybody may go, or a copy. (Copied by a process of its own: a descriptor open for writing that
/// a child of ours inherits would make the program busy.)
fn reachable(binary: &Path, dir: &Path) -> PathBuf {
    let path = dir.join("wylis");
    if std::fs::hard_link(binary, &path).is_err() {
        let copied = Command::new("cp").arg(binary).arg(&path).status();
        assert!(copied.is_ok_and(|status| status.success()), "copy {}", binary.display());
    }
    path
}
