//! The mesh on the network: the API server in the switch, an agent in a pod on every node.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use wylis_harness::TempDir;
use wylis_harness::mesh::{Mesh, PORT};
use wylis_harness::netns::Namespace;
use wylis_harness::process::{Agent, Settings};

use super::binary;
use super::network::{Network, Pod, Topology, underlay};

/// A network, its agents, and their pods.
pub(crate) struct TunnelMesh {
    pub(crate) agents: Mesh,
    pub(crate) pods: BTreeMap<u8, Pod>,
    pub(crate) network: Network,
    dir: TempDir,
}

/// User and group of agents in pods.
const NOBODY: u32 = 65534;

pub(crate) fn node(number: u8) -> String {
    format!("n{number}")
}

impl TunnelMesh {
    /// A network without agents, or `None` where it cannot be built.
    pub(crate) fn without_agents(topology: Topology, environment: &[(&str, &str)]) -> Option<Self> {
        let network = Network::new(topology)?;
        let dir = TempDir::new("mesh");
        let api = (network.switch.entrance(), topology.switch());
        let agents = Mesh::with_api_at(api, &reachable(&binary(), dir.path()), environment);
        Some(Self { agents, pods: BTreeMap::new(), network, dir })
    }

    /// A mesh with an agent on every node, after the first probe of every pair.
    pub(crate) fn new(topology: Topology, environment: &[(&str, &str)]) -> Option<Self> {
        Self::with_agents(topology, topology.size, environment)
    }

    /// A mesh with agents on the first `size` nodes.
    pub(crate) fn with_agents(
        topology: Topology,
        size: u8,
        environment: &[(&str, &str)],
    ) -> Option<Self> {
        let mut mesh = Self::without_agents(topology, environment)?;
        mesh.network.shake_hands();
        (1..=size).for_each(|number| mesh.add(number));
        mesh.agents.wait_for_all_pairs();
        Some(mesh)
    }

    /// As [`Self::new`], of nodes with addresses of their own, which agents ask for a sign of life. As most network
    /// plugins do, a host sends such packets of its pods in its own name.
    pub(crate) fn with_hosts(
        topology: Topology,
        environment: &[(&str, &str)],
        prepare: impl FnOnce(&mut Self),
    ) -> Option<Self> {
        let mut mesh = Self::without_agents(topology, environment)?;
        for number in 1..=topology.size {
            mesh.agents.set_host(&node(number), underlay(number).into());
            mesh.network.host(number).namespace.nft(
                "table ip own_name {
  chain out {
    type nat hook postrouting priority srcnat;
    ip saddr 10.244.0.0/16 ip daddr 198.18.0.0/24 ip daddr != 198.18.0.254 masquerade
  }
}
",
            );
        }
        prepare(&mut mesh);
        mesh.network.shake_hands();
        (1..=topology.size).for_each(|number| mesh.add(number));
        mesh.agents.wait_for_all_pairs();
        Some(mesh)
    }

    /// Gives the agents of a node a state directory, which outlives them.
    pub(crate) fn remember(&mut self, number: u8) {
        let state = self.dir.path().join(format!("state{number}"));
        std::fs::create_dir(&state).unwrap();
        std::os::unix::fs::chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
        let state = state.display().to_string();
        self.agents.set_environment(&node(number), &[("WYLIS_STATE_DIR", &state)]);
    }

    /// Takes the pod of a node off its network, or puts it back.
    pub(crate) fn connect_pod(&self, number: u8, up: bool) {
        let address = self.pods[&number].address.to_string();
        let last = address.rsplit('.').next().unwrap();
        let state = if up { "up" } else { "down" };
        let host = &self.network.host(number).namespace;
        host.ip(&format!("link set pod{last} {state}\n"));
    }

    /// Schedules a pod with an agent on a node, at a new address.
    pub(crate) fn add(&mut self, number: u8) {
        let pod = self.network.pod(number);
        self.add_in(number, pod);
    }

    /// Starts an agent in a pod that was made before.
    pub(crate) fn add_in(&mut self, number: u8, pod: Pod) {
        let addresses: Vec<_> = [Some(pod.address), pod.second].into_iter().flatten().collect();
        self.agents.add_at_all(&node(number), &pod.namespace, &addresses);
        self.pods.insert(number, pod);
    }

    /// Restarts the agent of a pod, as the kubelet does after a crash.
    pub(crate) fn restart(&mut self, number: u8, pod: &str) {
        self.agents.restart_in_place_at(&node(number), pod, &self.pods[&number].namespace);
    }

    /// Starts an agent of another mesh in the node's pod.
    pub(crate) fn stranger(&self, number: u8) -> Agent {
        let pod = &self.pods[&number];
        self.stranger_in(&pod.namespace, pod.address)
    }

    /// As [`Self::stranger`], in any pod.
    pub(crate) fn stranger_in(&self, pod: &Namespace, address: IpAddr) -> Agent {
        let environment = [
            ("WYLIS_NODE_NAME", "stranger"),
            ("WYLIS_PEERS", "absent=10.244.1.250:9050"),
            ("WYLIS_INTERVAL", "1h"),
        ];
        Agent::start_in(
            pod,
            &Settings {
                binary: self.dir.path().join("wylis"),
                environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
                address: SocketAddr::new(address, PORT),
                log: self.dir.path().join("stranger.log"),
            },
        )
    }
}

/// Links or copies the binary into a folder that the agent's unprivileged user may enter. A separate
/// process copies: a child that inherits a descriptor open for writing would make the program busy.
fn reachable(binary: &Path, dir: &Path) -> PathBuf {
    let path = dir.join("wylis");
    if std::fs::hard_link(binary, &path).is_err() {
        let copied = Command::new("cp").arg(binary).arg(&path).status();
        assert!(copied.is_ok_and(|status| status.success()), "copy {}", binary.display());
    }
    path
}
