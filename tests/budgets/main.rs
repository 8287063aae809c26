//! The costs of the agent, each with its bound: size, memory, threads, packets.
//!
//! Measured with the static release build only. Ratios of CPU time belong to `make bench`.
#![cfg(test)]

mod day;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use wylis_harness::api::{ApiServer, NAMESPACE, PodTable, TestPod, write_service_account};
use wylis_harness::fake_peers::FakePeers;
use wylis_harness::gzip::gunzip;
use wylis_harness::http;
use wylis_harness::mesh::{Mesh, Net, PORT, TOKEN};
use wylis_harness::netns::Namespace;
use wylis_harness::pki::{Authority, Validity};
use wylis_harness::process::{Agent, Metrics, Settings, peak_at_output};
use wylis_harness::{TempDir, skip, wait_until};

/// Tests run one at a time: the load of one must not disturb memory and threads of another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The release build; the budgets mean nothing without it.
fn release() -> Option<PathBuf> {
    let binary = std::env::var_os("WYLIS_BINARY").map(PathBuf::from);
    if binary.is_none() {
        skip("budgets hold for the static release build only: run `make budgets`");
    }
    binary
}

fn within(figure: &str, measured: f64, bound: f64, unit: &str) {
    println!("budget: {figure}: {measured:.2} {unit}, at most {bound} {unit}");
    assert!(measured <= bound, "{figure}: {measured:.2} {unit} is above {bound} {unit}");
}

#[expect(clippy::cast_precision_loss, reason = "kilobytes of a small program")]
fn mebibytes(kilobytes: u64) -> f64 {
    kilobytes as f64 / 1024.0
}

#[test]
fn the_binary_is_small() {
    let Some(binary) = release() else { return };
    let bytes = std::fs::metadata(binary).unwrap().len();
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    within("stripped static binary", bytes as f64 / 1e6, 2.13, "MB");
}

/// An agent with `size` peers that answer and send requests, its peer list over TLS. It remembers a full day, and the
/// last 20 probes of each peer.
struct Crowd {
    agent: Agent,
    _fake_peers: FakePeers,
    _api: ApiServer,
    _dir: TempDir,
}

impl Crowd {
    fn start(binary: &Path, size: u16, farthest: Duration) -> Self {
        let (dir, net) = (TempDir::new("crowd"), Net::new());
        let mut fake_peers = FakePeers::start_far(size, 10, farthest);
        let peer_port = fake_peers.port;
        let authority = Authority::new("crowd");
        let host = net.host(250);
        let pods = PodTable::new();
        let me = SocketAddr::new(net.host(1), PORT);
        let own = TestPod::new("wylis-me", "me", &me.ip().to_string());
        let uid = own.uid.clone();
        pods.put(own);
        for (number, (node, ip)) in (0_u16..).zip(fake_peers.nodes()) {
            let mut pod = TestPod::new(&format!("wylis-{node}"), node, &ip.to_string());
            // Each has a host of its own, which is asked for a sign of life.
            let [high, low] = number.to_be_bytes();
            pod.host_ip = format!("127.250.{high}.{low}");
            pods.put(pod);
        }
        let identity = authority.issue(&[&host.to_string()], Validity::Now);
        let api = ApiServer::start(SocketAddr::new(host, 6443), &identity, &pods);
        api.set_tokens(&[TOKEN]);
        write_service_account(dir.path(), TOKEN, &authority.pem(), NAMESPACE);
        let nodes: Vec<String> = fake_peers.nodes().iter().map(|(node, _)| node.clone()).collect();
        day::write(dir.path(), "me", &nodes);
        let pairs = [
            ("WYLIS_NODE_NAME", "me".to_owned()),
            ("WYLIS_STATE_DIR", dir.path().display().to_string()),
            ("WYLIS_POD_UID", uid),
            ("WYLIS_LISTEN", me.to_string()),
            ("WYLIS_PEER_PORT", peer_port.to_string()),
            // Faster than the default, so that each peer has 20 probes in the end.
            ("WYLIS_INTERVAL", if size < 1000 { "500ms" } else { "1500ms" }.to_owned()),
            ("WYLIS_SERVICE_ACCOUNT_DIR", dir.path().display().to_string()),
            ("KUBERNETES_SERVICE_HOST", host.to_string()),
            ("KUBERNETES_SERVICE_PORT", "6443".to_owned()),
        ];
        let agent = Agent::start(&Settings {
            binary: binary.to_owned(),
            environment: pairs.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            address: me,
            log: dir.path().join("log"),
        });
        wait_until(Duration::from_secs(10), "the agent answers", || {
            agent.get("/healthz").is_some()
        });
        wait_until(Duration::from_secs(10), "the day has been read", || {
            agent.log().contains("reaches back 14")
        });
        fake_peers.probe(me, Duration::from_secs(10));
        let up =
            || agent.metrics().matching("wylis_peer_up", &[]).filter(|(_, up)| *up > 0.0).count();
        wait_until(Duration::from_secs(60), "all peers are up", || up() == usize::from(size));
        // With the load of one Prometheus and one person.
        let full = || {
            let row = agent.peers();
            let peers = row["peers"].as_array().unwrap();
            peers.iter().all(|peer| peer["recent"].as_array().unwrap().len() == 20)
        };
        let end = Instant::now() + Duration::from_secs(60);
        while !full() {
            assert!(Instant::now() < end, "not all have 20 probes");
            let (_, compressed) = scrape(&agent);
            let text = String::from_utf8(gunzip(&compressed)).unwrap();
            assert!(Metrics::parse(&text).count("wylis_peer_up", &[]) > 0);
            std::thread::sleep(Duration::from_secs(1));
        }
        Self { agent, _fake_peers: fake_peers, _api: api, _dir: dir }
    }

    fn assert_no_failure(&self) {
        let failures = self.agent.metrics().sum("wylis_probe_failures_total", &[]);
        assert_eq!(failures, 0.0, "{}", self.agent.log());
    }
}

/// Head and body of /metrics as Prometheus gets them.
fn scrape(agent: &Agent) -> (usize, Vec<u8>) {
    let mut stream = TcpStream::connect(agent.address).unwrap();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nUser-Agent: Prometheus/3.5.0\r\nAccept: \
         application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n\
         Accept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n",
        agent.address
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let body = response.split_off(end);
    (end, body)
}

/// Memory and the size of a scrape with `size` peers, at up to 20 ms: the pool of workers stays small.
fn memory(binary: &Path, size: u16, bound: f64, scrape_bound: f64) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let farthest = Duration::from_millis(if size < 1000 { 20 } else { 0 });
    let crowd = Crowd::start(binary, size, farthest);
    let agent = &crowd.agent;
    crowd.assert_no_failure();
    let (head, body) = scrape(agent);
    let plain = agent.get("/metrics").unwrap().1.len();
    println!("budget: a scrape of {size} peers as it is: {plain} bytes");
    #[expect(clippy::cast_precision_loss, reason = "kilobytes")]
    let kilobytes = (head + body.len()) as f64 / 1000.0;
    within(&format!("a scrape of {size} peers with its head"), kilobytes, scrape_bound, "KB");
    let (peak, anonymous) = (agent.status("VmHWM"), agent.status("RssAnon"));
    let threads = agent.status("Threads");
    let file = agent.status("RssFile");
    println!(
        "budget: {size} peers: {threads} threads, anonymous {:.2} MiB, of the file {:.2} MiB",
        mebibytes(anonymous),
        mebibytes(file)
    );
    within(&format!("peak RSS with {size} peers"), mebibytes(peak), bound, "MiB");
}

/// Memory added by a matrix of `size` nodes, of which `rows` fit, the time of its collection, and the
/// memory of the commands that show it.
fn matrix(
    binary: &Path,
    size: u16,
    rows: std::ops::RangeInclusive<usize>,
    (bound, cli): (f64, f64),
) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let crowd = Crowd::start(binary, size, Duration::ZERO);
    let agent = &crowd.agent;
    let (peak, anonymous) = (agent.status("VmHWM"), agent.status("RssAnon"));
    let mut received = 0;
    // A page that is open for a while.
    for _ in 0..4 {
        let accepted = [("Accept-Encoding", "gzip")];
        let response =
            http::get_with(agent.address, "/api/v1/cluster", &accepted, http::DEADLINE).unwrap();
        assert_eq!(response.status, 200);
        let compressed = response.header("Content-Encoding").is_some();
        let sent = response.body.len();
        let text = if compressed { gunzip(&response.body) } else { response.body };
        let matrix: serde_json::Value = serde_json::from_slice(&text).unwrap();
        received =
            matrix["rows"].as_array().unwrap().iter().filter(|row| row["error"].is_null()).count();
        println!(
            "budget: matrix of {size}: {} s, {} bytes, sent as {sent}",
            matrix["duration_seconds"],
            text.len()
        );
        std::thread::sleep(Duration::from_secs(6));
    }
    assert!(rows.contains(&received), "{received} rows");
    crowd.assert_no_failure();
    for (name, bound) in [("peers", 8.0), ("cluster", cli)] {
        let mut command = std::process::Command::new(binary);
        command.env("WYLIS_LISTEN", agent.address.to_string()).arg(name);
        let peak = peak_at_output(&mut command);
        within(&format!("wylis {name} of {size} nodes"), mebibytes(peak), bound, "MiB");
    }
    let more = mebibytes(agent.status("VmHWM")) - mebibytes(peak);
    println!(
        "budget: matrix of {size}: anonymous {:.2} MiB before, {:.2} MiB afterwards",
        mebibytes(anonymous),
        mebibytes(agent.status("RssAnon"))
    );
    // The memory is released when the matrix is no longer requested.
    if size == 1000 {
        wait_until(Duration::from_secs(45), "the cached matrix is dropped", || {
            agent.status("RssAnon") < anonymous + 512
        });
    }
    within(&format!("a matrix of {size} nodes on top"), more, bound, "MiB");
}

#[test]
fn memory_of_a_matrix_of_100_nodes() {
    if let Some(binary) = release() {
        matrix(&binary, 100, 101..=101, (1.0, 4.0));
    }
}

#[test]
fn memory_of_a_matrix_of_200_nodes() {
    if let Some(binary) = release() {
        matrix(&binary, 200, 201..=201, (1.5, 8.0));
    }
}

#[test]
fn memory_of_a_matrix_of_1000_nodes() {
    if let Some(binary) = release() {
        matrix(&binary, 1000, 150..=180, (4.0, 20.0));
    }
}

#[test]
fn memory_with_10_peers() {
    if let Some(binary) = release() {
        memory(&binary, 10, 3.2, 3.2);
    }
}

#[test]
fn memory_with_100_peers() {
    if let Some(binary) = release() {
        memory(&binary, 100, 3.7, 12.0);
    }
}

#[test]
fn memory_with_1000_peers() {
    if let Some(binary) = release() {
        memory(&binary, 1000, 6.5, 100.0);
    }
}

#[test]
fn threads_at_rest() {
    let Some(binary) = release() else { return };
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut mesh = Mesh::new(&binary, &[]);
    for number in 1..=11 {
        let node = format!("n{number}");
        // Asked for a sign of life, on a thread that ends after that.
        mesh.set_host(&node, [127, 250, 0, number].into());
        mesh.add(&node);
    }
    mesh.wait_for_all_pairs();
    // Spare threads of the server and spare workers exit after a while.
    let threads = || mesh.nodes.values().map(|node| node.agent.status("Threads")).max().unwrap();
    wait_until(Duration::from_secs(90), "spare threads exit", || threads() <= 11);
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    within("threads at rest, 10 peers", threads() as f64, 11.0, "threads");
}

/// Counts the packets of the keep-alive connections from one agent to another, both directions, in a
/// namespace of its own.
#[test]
fn packets_per_probe() {
    let Some(binary) = release() else { return };
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(namespace) = Namespace::new("packets") else { return };
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        return skip("needs curl, to query the agents in their namespace");
    }
    // Every packet of the loopback passes the hook once.
    let rule = |way: &str| format!("add rule inet t out ip {way} counter name probes");
    for command in [
        "add table inet t",
        "add counter inet t probes",
        "add chain inet t out { type filter hook output priority 0; }",
        &rule("daddr 127.0.0.2 tcp dport 9050"),
        &rule("saddr 127.0.0.2 tcp sport 9050"),
    ] {
        namespace.run("nft", &[command]);
    }
    let dir = TempDir::new("packets");
    let start = |node: &str, own: &str, peer: &str| {
        let mut command = namespace.command(&binary);
        command.env_clear().env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
        command.args(["--node-name", node, "--listen", own, "--peers", peer]);
        command.args(["--interval", "200ms", "--drain", "1s"]);
        command.stderr(std::fs::File::create(dir.path().join(node)).unwrap()).spawn().unwrap()
    };
    let mut probing = start("n1", "127.0.0.1:9050", "n2=127.0.0.2:9050");
    let mut probed = start("n2", "127.0.0.2:9050", "n1=127.0.0.1:9050");
    let probes = || {
        let url = "http://127.0.0.1:9050/metrics";
        let text = namespace.run("curl", &["-s", "--retry", "9", "--retry-connrefused", url]);
        let metrics = Metrics::parse(&text);
        assert_eq!(metrics.sum("wylis_probe_failures_total", &["reason=\"connect_timeout\""]), 0.0);
        metrics.sum("wylis_probes_total", &["result=\"success\""])
    };
    wait_until(Duration::from_secs(20), "probes succeed", || probes() >= 2.0);
    let count = || {
        let text = namespace.run("nft", &["list counter inet t probes"]);
        let words: Vec<&str> = text.split_whitespace().collect();
        let field = |name: &str| {
            let at = words.iter().position(|word| *word == name).unwrap();
            words[at + 1].parse::<f64>().unwrap()
        };
        (field("packets"), field("bytes"))
    };
    let ((packets, bytes), before) = (count(), probes());
    wait_until(Duration::from_secs(60), "fifty more probes", || probes() >= before + 50.0);
    let (end, after) = (count(), probes());
    for agent in [&mut probing, &mut probed] {
        let _ = agent.kill();
        let _ = agent.wait();
    }
    // One probe may be counted in part at either end.
    let made = after - before;
    println!("budget: bytes per probe, IP headers included: {:.0}", (end.1 - bytes) / made);
    within(
        "packets per probe, both directions",
        ((end.0 - packets) / made * 10.0).floor() / 10.0,
        6.1,
        "packets",
    );
}
