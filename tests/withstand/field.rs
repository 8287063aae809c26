//! The network of one trial, with its agents.
//!
//! | namespace | address | holds |
//! |---|---|---|
//! | switch | – | a bridge |
//! | attacked | 198.18.0.1 | the agent in a cgroup of 32 MiB; fake peers on 127.0.0.0/8 |
//! | honest-2, honest-3 | 198.18.0.2, 198.18.0.3 | its peers; a scraper in the first |
//! | hostile | 198.18.0.9, 198.19.0.0/16 | all hostile clients |

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use wylis_harness::cgroup::{MemoryCgroup, uncached_copy};
use wylis_harness::fake_peers::FakePeers;
use wylis_harness::netns::Namespace;
use wylis_harness::process::{Agent, Metrics, Settings, pipe_of};
use wylis_harness::{TempDir, skip, wait_until};

use crate::hostile::Known;

/// The pod's limit in manifests/50-daemonset.yaml.
pub(crate) const LIMIT: u64 = 32 * MIB;
pub(crate) const MIB: u64 = 1024 * 1024;
/// The number of agents; the first is the attacked one.
const AGENTS: u8 = 3;
/// More peers of the attacked agent: its answers are those of a cluster of 100 nodes.
const FAKE_PEERS: u16 = 97;
/// A busy machine's.
const PATIENCE: Duration = Duration::from_secs(60);
/// The smallest pipe: some 40 lines of a log fill it.
const SMALL_PIPE: i32 = 4096;

/// Lets out what each origin may send (see `Origin`).
const FIREWALL: &str = "table ip hostile {
    chain out {
        type filter hook output priority 0
        ip saddr 198.19.1.0/24 tcp flags & (fin | rst) != 0 drop
        ip saddr 198.19.1.0/24 tcp flags & (syn | psh) == 0 drop
        ip saddr 198.19.2.0/24 tcp flags & (syn | ack) != syn drop
    }
}";

/// Agents, hostile clients' namespace and the account of the attacked agent.
pub(crate) struct Field {
    /// The attacked one first.
    pub(crate) agents: Vec<Agent>,
    pub(crate) cgroup: MemoryCgroup,
    pub(crate) hostile: Namespace,
    pub(crate) pods: Vec<Namespace>,
    fake_peers: Option<FakePeers>,
    _switch: Namespace,
    /// Kept open and never read.
    log: Option<std::io::PipeReader>,
    dir: TempDir,
}

/// What becomes of the attacked agent's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// A file.
    Kept,
    /// A small pipe that is never read.
    Stalled,
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 18, 0, number], 9050))
}

fn node(number: u8) -> String {
    format!("node-{number}")
}

impl Field {
    /// Builds it and waits until all agents probe each other; `None`, with a skip, where it cannot be built.
    pub(crate) fn new(log: Log) -> Option<Self> {
        let Some(binary) = std::env::var_os("WYLIS_BINARY") else {
            skip("WYLIS_BINARY names no static binary (scripts/build.sh)");
            return None;
        };
        let cgroup = MemoryCgroup::new(LIMIT)?;
        let switch = Namespace::new("switch")?;
        switch.ip("link add br0 type bridge\nlink set br0 up");
        let join = |label: &str, number: u8| {
            let pod = Namespace::new(label)?;
            switch.ip(&format!(
                "link add p{number} type veth peer name eth0 netns {}\n\
                 link set p{number} master br0 up",
                pod.name()
            ));
            pod.ip(&format!("addr add 198.18.0.{number}/24 dev eth0\nlink set eth0 up"));
            Some(pod)
        };
        let hostile = join("hostile", 9)?;
        hostile.ip("route add local 198.19.0.0/16 dev lo");
        hostile.nft(FIREWALL);
        let pods: Vec<Namespace> =
            (1..=AGENTS).map(|number| join("agent", number)).collect::<Option<_>>()?;
        let dir = TempDir::new("withstand");
        let mut field = Self {
            agents: Vec::new(),
            cgroup,
            hostile,
            pods,
            fake_peers: None,
            _switch: switch,
            log: None,
            dir,
        };
        field.start(Path::new(&binary), log);
        Some(field)
    }

    fn start(&mut self, binary: &Path, log: Log) {
        let binary = uncached_copy(binary, self.dir.path());
        let fake_peers = self.pods[0].entrance().within(|| FakePeers::start(FAKE_PEERS, 10));
        let port = fake_peers.port;
        let entry = |(name, ip): &(String, IpAddr)| format!("{name}={ip}:{port}");
        let fake: Vec<String> = fake_peers.nodes().iter().map(entry).collect();
        self.fake_peers = Some(fake_peers);
        for number in 1..=AGENTS {
            let pod = &self.pods[usize::from(number) - 1];
            pod.ip("route add 198.19.0.0/16 via 198.18.0.9");
            let others = (1..=AGENTS).filter(|other| *other != number);
            let mut peers: Vec<String> =
                others.map(|other| format!("{}={}", node(other), address(other))).collect();
            if number == 1 {
                peers.extend(fake.clone());
            }
            let settings = self.settings(&binary, number, &peers);
            let agent = if number == 1 {
                let (reader, writer) = pipe_of(SMALL_PIPE);
                self.log = Some(reader);
                Agent::start_prepared(pod, &settings, |command| {
                    self.cgroup.enter(command);
                    if log == Log::Stalled {
                        command.stderr(Stdio::from(writer));
                    }
                })
            } else {
                Agent::start_in(pod, &settings)
            };
            // One after the other: the first is to read the program from the disk.
            wait_until(PATIENCE, "the agent answers", || agent.get("/healthz").is_some());
            self.agents.push(agent);
        }
        let peers = [AGENTS - 1 + u8::try_from(FAKE_PEERS).unwrap(), AGENTS - 1, AGENTS - 1];
        for (agent, peers) in self.agents.iter().zip(peers) {
            wait_until(PATIENCE, "the agent reaches all its peers", || {
                let metrics = agent.metrics_within(Duration::from_secs(1)).unwrap_or_default();
                metrics.sum("wylis_peer_up", &[]) == f64::from(peers)
            });
        }
    }

    fn settings(&self, binary: &Path, number: u8, peers: &[String]) -> Settings {
        // 50 and 2 probes a second.
        let interval = if number == 1 { "2s" } else { "1s" };
        let environment = [
            ("WYLIS_NODE_NAME", node(number)),
            ("WYLIS_PEERS", peers.join(",")),
            ("WYLIS_INTERVAL", interval.to_owned()),
            ("WYLIS_LARGE_INTERVAL", "10s".to_owned()),
        ];
        Settings {
            binary: binary.to_owned(),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            address: address(number),
            log: self.dir.path().join(node(number)),
        }
    }

    /// What a hostile client can read of all agents.
    pub(crate) fn known(&self) -> Vec<Known> {
        let read = |(number, agent): (u8, &Agent)| {
            let instance = agent.peers()["instance"].as_str().unwrap_or_default().to_owned();
            Known { node: node(number), instance, address: agent.address }
        };
        (1..).zip(&self.agents).map(read).collect()
    }

    /// The metrics of each agent; `None` for one that does not answer.
    pub(crate) fn metrics(&mut self) -> Vec<Option<Metrics>> {
        let read = |agent: &mut Agent| {
            let deadline = Instant::now() + PATIENCE;
            // Right after an attack, its last requests come first.
            while agent.is_alive() && Instant::now() < deadline {
                let metrics = agent.metrics_within(Duration::from_secs(5));
                if metrics.is_some() {
                    return metrics;
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            None
        };
        self.agents.iter_mut().map(read).collect()
    }

    /// The sockets of the attacked agent's port, without half-open ones and TIME_WAIT, which the kernel keeps for
    /// a minute in a small form.
    pub(crate) fn sockets(&self) -> usize {
        let port = format!(":{:04X}", self.agents[0].address.port());
        let read = |name: &str| {
            let path = format!("/proc/thread-self/net/{name}");
            let text = self.pods[0].entrance().within(|| std::fs::read_to_string(path));
            let text = text.unwrap_or_default();
            let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            // proc_net_tcp: local address, state (SYN_RECV is 03), timer (3 is that of TIME_WAIT).
            let counts = |row: &Vec<&str>| {
                matches!(row[..], [_, local, _, state, _, timer, ..]
                    if local.ends_with(&port) && state != "03" && !timer.starts_with("03:"))
            };
            rows.filter(counts).count()
        };
        read("tcp") + read("tcp6")
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        self.agents.clear();
        // Ends with a connection to itself.
        let fake_peers = self.fake_peers.take();
        self.pods[0].entrance().within(|| drop(fake_peers));
    }
}
