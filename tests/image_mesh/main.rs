//! The image in three unprivileged containers with 16 MiB each: they probe each other, one loses its network
//! and gets it back, and the engine stops one.
//!
//! Requests go to the containers' addresses, since the image has no shell. The peak memory is printed; only
//! the limit itself is checked here (tests/budgets has bounds).
#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use wylis_harness::docker::{Engine, Owned, docker};
use wylis_harness::process::{Metrics, status_of};
use wylis_harness::{TempDir, http, skip};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// The node that is disconnected and later stopped.
const LOST: &str = "n3";
/// The possible reasons of `down` between it and the others; the last is that of a probe whose request
/// arrived just before the network went.
const CUT_OFF: [&str; 3] = ["connect_timeout", "unreachable", "response_timeout"];
const PORT: u16 = 9050;
/// The numeric user in the image.
const USER: u64 = 65_532;
/// The value of `--memory`.
const LIMIT: u64 = 16 << 20;
/// The time without a failure.
const OBSERVED: Duration = Duration::from_secs(60);
/// The least probes of each pair in that time: one a second, less the delays of a busy machine.
const PROBES: u64 = 50;
/// Enough for a busy machine; a peer is down after three timeouts of 5 s.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two polls, each of which costs requests and a start of `docker`.
const POLL: Duration = Duration::from_millis(500);

/// The engine's report of a container's state, and its values while it runs and after a stop.
const STATE: &str =
    "{{.State.Status}} {{.State.ExitCode}}, killed for memory: {{.State.OOMKilled}}";
const RUNNING: &str = "running 0, killed for memory: false";
const STOPPED: &str = "exited 0, killed for memory: false";

/// One agent in its container.
struct Container {
    node: &'static str,
    address: SocketAddr,
    owned: Owned,
}

/// The mesh. Fields are in the order of removal: the engine keeps objects that are in use.
struct Trio {
    containers: Vec<Container>,
    network: Owned,
    image: Owned,
}

/// The memory figures of a container's cgroup.
#[derive(Debug)]
struct Memory {
    /// Including pages of files and of the kernel.
    peak: u64,
    limit: u64,
    /// How often the cgroup reached its limit.
    at_limit: u64,
    /// How many of its processes the kernel killed for memory.
    kills: u64,
}

/// Successes and failures by source and target.
type Counts = BTreeMap<(&'static str, &'static str), (u64, u64)>;

/// A network in the benchmark range, and the first three bytes of its addresses.
fn network(engine: &Engine) -> (Owned, [u8; 3]) {
    let mut error_text = String::new();
    // A concurrent run may use the first.
    for offset in 0..8 {
        let third = u8::try_from((std::process::id() + offset) % 256).unwrap();
        match engine.network(&format!("198.19.{third}.0/24")) {
            Ok(network) => return (network, [198, 19, third]),
            Err(error) => error_text = error,
        }
    }
    panic!("{error_text}");
}

impl Container {
    fn start(engine: &Engine, image: &str, network: &str, net: [u8; 3], node: usize) -> Self {
        let host = |index: usize| {
            let last = u8::try_from(11 + index).unwrap();
            SocketAddr::from((Ipv4Addr::new(net[0], net[1], net[2], last), PORT))
        };
        let others = (0..NODES.len()).filter(|other| *other != node);
        let peers: Vec<_> = others.map(|i| format!("{}={}", NODES[i], host(i))).collect();
        let address = host(node);
        let owned = engine.run(
            &[
                &["--network", network, "--ip", &address.ip().to_string()][..],
                &["--memory", &LIMIT.to_string(), "--read-only", "--cap-drop", "ALL"],
                &["--security-opt", "no-new-privileges"],
                &["--env", &format!("WYLIS_NODE_NAME={}", NODES[node])],
                &["--env", &format!("WYLIS_PEERS={}", peers.join(","))],
                &["--env", "WYLIS_INTERVAL=1s", image],
            ]
            .concat(),
        );
        Self { node: NODES[node], address, owned: owned.unwrap() }
    }

    /// The body of a route; `None` without an answer.
    fn get(&self, path: &str) -> Option<String> {
        let answer = http::get(self.address, path).ok()?;
        (answer.status == 200).then(|| answer.text())
    }

    /// The agent's entry for a peer; null without an answer.
    fn peer(&self, target: &str) -> Value {
        let text = self.get("/api/v1/peers").unwrap_or_default();
        let row: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut peers = row["peers"].as_array().into_iter().flatten();
        peers.find(|peer| peer["node"] == target).cloned().unwrap_or_default()
    }

    fn pid(&self) -> u32 {
        self.owned.inspect("{{.State.Pid}}").unwrap().parse().unwrap()
    }

    fn memory(&self) -> Memory {
        let pid = self.pid();
        Memory::of(pid).unwrap_or_else(|| panic!("no memory accounted to {} ({pid})", self.node))
    }
}

impl Memory {
    /// The figures of a process's cgroup, of version 1 or 2.
    fn of(pid: u32) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let group = |wanted: fn(&str) -> bool| {
            groups.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let v1 = group(|controllers| controllers.split(',').any(|name| name == "memory"));
        let folder = match &v1 {
            Some(path) => Path::new("/sys/fs/cgroup/memory").join(path),
            None => Path::new("/sys/fs/cgroup").join(group(str::is_empty)?),
        };
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let number = |name: &str| text(name)?.trim().parse().ok();
        let event = |name: &str, key: &str| {
            let text = text(name)?;
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            line?.trim().parse().ok()
        };
        Some(if v1.is_some() {
            Self {
                peak: number("memory.max_usage_in_bytes")?,
                limit: number("memory.limit_in_bytes")?,
                at_limit: number("memory.failcnt")?,
                kills: event("memory.oom_control", "oom_kill")?,
            }
        } else {
            Self {
                peak: number("memory.peak")?,
                limit: number("memory.max")?,
                at_limit: event("memory.events", "max")?,
                kills: event("memory.events", "oom_kill")?,
            }
        })
    }
}

fn count(peer: &Value, field: &str) -> u64 {
    peer[field].as_u64().unwrap_or(0)
}

impl Trio {
    fn start(engine: &Engine, binary: &Path) -> Self {
        let context = TempDir::new("image-mesh");
        let image = engine.agent(Path::new(PROJECT), binary, context.path()).unwrap();
        let (network, net) = network(engine);
        let mut trio = Self { containers: Vec::new(), network, image };
        for node in 0..NODES.len() {
            let (image, network) = (trio.image.name(), trio.network.name());
            let container = Container::start(engine, image, network, net, node);
            trio.containers.push(container);
        }
        trio
    }

    fn of(&self, node: &str) -> &Container {
        self.containers.iter().find(|container| container.node == node).expect("a node of the mesh")
    }

    /// Every pair, as source and target.
    fn pairs(&self) -> impl Iterator<Item = (&Container, &'static str)> {
        let pairs = self.containers.iter().flat_map(|source| NODES.map(|target| (source, target)));
        pairs.filter(|(source, target)| source.node != *target)
    }

    /// The pairs without the lost node.
    fn rest(&self) -> impl Iterator<Item = (&Container, &'static str)> {
        self.pairs().filter(|(source, target)| source.node != LOST && *target != LOST)
    }

    /// Asserts that these pairs are up, without a new failure.
    fn assert_rest_up(&self, before: &Counts) {
        for (source, target) in self.rest() {
            let (peer, failures) = (source.peer(target), before[&(source.node, target)].1);
            let seen = (peer["up"].as_bool(), peer["failures"].as_u64());
            assert_eq!(seen, (Some(true), Some(failures)), "{} of {peer}", source.node);
        }
    }

    /// Asserts that every container runs, and none was killed for memory.
    fn assert_running(&self) {
        let names = self.containers.iter().map(|container| container.owned.name());
        let arguments: Vec<_> = ["inspect", "--format", STATE].into_iter().chain(names).collect();
        let states = docker(&arguments).unwrap();
        assert!(states.lines().all(|state| state == RUNNING), "{states}");
    }

    /// Polls until `condition`.
    fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.assert_running();
            if condition() {
                return;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            sleep(POLL);
        }
    }

    fn wait_for_all_up(&self) {
        let up = |(source, target): (&Container, &str)| source.peer(target)["verdict"] == "up";
        self.wait("every pair is up", || self.pairs().all(up));
    }

    fn counts(&self) -> Counts {
        let counts = self.pairs().map(|(source, target)| {
            let peer = source.peer(target);
            assert!(peer.is_object(), "{} has no entry for {target}", source.node);
            ((source.node, target), (count(&peer, "successes"), count(&peer, "failures")))
        });
        counts.collect()
    }

    /// For the whole time, every pair is probed without a failure, and metrics are scraped.
    fn observe(&self) {
        let (before, end) = (self.counts(), Instant::now() + OBSERVED);
        let last = loop {
            self.assert_running();
            let now = self.counts();
            for (pair, (_, failures)) in &now {
                assert_eq!(*failures, before[pair].1, "{pair:?} failed");
            }
            for container in &self.containers {
                let metrics = Metrics::parse(&container.get("/metrics").unwrap());
                assert_eq!(metrics.sum("wylis_local_errors_total", &[]), 0.0, "{}", container.node);
            }
            if Instant::now() >= end {
                break now;
            }
            sleep(POLL);
        };
        let probes = |pair| last[pair].0 - before[pair].0;
        let least = before.keys().map(probes).min().unwrap();
        println!("image: {OBSERVED:?}, at least {least} probes of each pair, no failure");
        assert!(least >= PROBES, "{before:?}, then {last:?}");
    }

    /// Prints and checks the memory figures of every container.
    fn assert_memory(&self, when: &str) {
        for container in &self.containers {
            let memory = container.memory();
            let (node, peak, limit) = (container.node, memory.peak >> 10, memory.limit >> 10);
            println!("image: {when}: {node} held at most {peak} KiB of {limit}");
            assert_eq!(memory.limit, LIMIT);
            assert_eq!((memory.at_limit, memory.kills), (0, 0), "{memory:?}");
        }
    }

    /// Disconnects a node's network, and connects it again.
    fn disconnect_and_reconnect(&self) {
        let before = self.counts();
        let (network, lost) = (self.network.name(), self.of(LOST));
        docker(&["network", "disconnect", network, lost.owned.name()]).unwrap();
        let is_down_for = |(source, _): (&Container, &str)| {
            let peer = source.peer(LOST);
            let down = peer["verdict"] == "down";
            let cut_off = CUT_OFF.iter().any(|reason| peer["reason"] == *reason);
            assert!(!down || cut_off, "{} of {peer}", source.node);
            down
        };
        self.wait("down for both others", || {
            self.assert_rest_up(&before);
            self.rest().all(is_down_for)
        });
        let ip = lost.address.ip().to_string();
        docker(&["network", "connect", "--ip", &ip, network, lost.owned.name()]).unwrap();
        self.wait_for_all_up();
        self.assert_rest_up(&before);
        for (_, target) in self.rest() {
            // Probes that were under way; without an interface there is no route to any peer, its own fault.
            let failed = lost.peer(target)["failures_by_reason"].clone();
            let mut reasons = failed.as_object().unwrap().keys();
            assert!(reasons.all(|reason| CUT_OFF.contains(&reason.as_str())), "{failed}");
        }
        let metrics = Metrics::parse(&lost.get("/metrics").unwrap());
        let no_route = metrics.sum("wylis_local_errors_total", &["reason=\"no_route\""]);
        assert!(no_route >= 1.0, "{}", lost.owned.logs().unwrap_or_else(|error| error));
    }

    /// Stops a container with the engine's default grace period of 10 s.
    fn stop_one(&self) {
        let (before, lost) = (self.counts(), &self.of(LOST).owned);
        docker(&["stop", lost.name()]).unwrap();
        assert_eq!(lost.inspect(STATE).unwrap(), STOPPED);
        // Eight more probes of the others: five in its drain of 5 s, three intervals of silence after it.
        let more = |(source, target): (&Container, &'static str)| {
            let lost = source.peer(LOST);
            assert_eq!(lost["verdict"], "draining", "{} of {lost}", source.node);
            assert_eq!(count(&lost, "failures"), before[&(source.node, LOST)].1, "{lost}");
            count(&source.peer(target), "successes") >= before[&(source.node, target)].0 + 8
        };
        let deadline = Instant::now() + PATIENCE;
        while !self.rest().all(more) {
            assert!(Instant::now() < deadline, "the others stopped probing");
            sleep(POLL);
        }
        self.assert_rest_up(&before);
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for Container { node, owned, .. } in &self.containers {
                let text = |text: Result<String, _>| text.unwrap_or_else(|error| error);
                println!("--- {node}: {}\n{}", text(owned.inspect(STATE)), text(owned.logs()));
            }
        }
    }
}

#[test]
fn three_containers_with_16_mib_survive_a_minute_a_disconnect_and_a_stop() {
    let Some(binary) = std::env::var_os("WYLIS_BINARY").map(PathBuf::from) else {
        return skip("WYLIS_BINARY names no release binary (scripts/build.sh builds it)");
    };
    let engine = match Engine::find() {
        Ok(engine) => engine,
        Err(reason) => return skip(&reason),
    };
    let trio = Trio::start(&engine, &binary);
    trio.wait_for_all_up();
    for container in &trio.containers {
        let of = |field| status_of(container.pid(), field);
        assert_eq!((of("Uid"), of("NoNewPrivs")), (USER, 1), "{}", container.node);
    }
    trio.observe();
    trio.assert_memory("after the minute");
    trio.disconnect_and_reconnect();
    trio.assert_memory("after the disconnect");
    trio.stop_one();
}
