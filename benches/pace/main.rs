//! `make bench`: the CPU cost of a probe and of an answer, each as a ratio to a minimal implementation
//! at the same pace in the same run, and the delay of probes with 1,000 peers of which 100 are black
//! holes.
//!
//! The figures are for people to read, on a quiet machine: nothing here passes or fails.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark may fail loudly, and it prints"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wylis_harness::black_hole::BlackHole;
use wylis_harness::fake_peers::FakePeers;
use wylis_harness::process::{Agent, Settings};
use wylis_harness::{TempDir, http, wait_until};

/// Pairs of runs; the median of their ratios is printed.
const ROUNDS: usize = 5;
/// Duration of one run.
const RUN: Duration = Duration::from_secs(10);
/// Probes or requests a second.
const PACE: u32 = 100;
/// The second octet of the fake peers' addresses.
const FAKE_NET: u8 = 11;
/// The argument that makes this program a bare tiny_http server.
const BARE: &str = "--bare-server";

fn main() {
    if std::env::args().nth(1).as_deref() == Some(BARE) {
        bare_server();
    }
    let binary = std::env::var_os("WYLIS_BINARY").map(PathBuf::from);
    let binary = binary.unwrap_or_else(|| panic!("WYLIS_BINARY is not set: run `make bench`"));
    probes(&binary);
    answers(&binary);
    lateness(&binary);
}

/// CPU time of a process and its ended threads, in seconds.
fn cpu(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).unwrap().parse::<f64>().unwrap();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    (ticks(11) + ticks(12)) / 100.0
}

fn start(binary: &Path, dir: &TempDir, address: SocketAddr, more: &[(&str, String)]) -> Agent {
    let mut environment = vec![
        ("WYLIS_NODE_NAME".to_owned(), "me".to_owned()),
        ("WYLIS_LISTEN".to_owned(), address.to_string()),
    ];
    environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let log = dir.path().join("log");
    Agent::start(&Settings { binary: binary.to_owned(), environment, address, log })
}

fn peers(fake_peers: &FakePeers) -> String {
    let port = fake_peers.port;
    let entry = |(name, ip): &(String, std::net::IpAddr)| format!("{name}={ip}:{port}");
    fake_peers.nodes().iter().map(entry).collect::<Vec<_>>().join(",")
}

/// Runs agent and minimum in turn; each returns microseconds of CPU for one unit of work.
fn compare(
    what: &str,
    mut agent: impl FnMut() -> f64,
    mut minimum: impl FnMut() -> f64,
    bound: f64,
) {
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (agent, minimum) = (agent(), minimum());
        let ratio = agent / minimum;
        println!("{what}, round {round}: {agent:.0} µs against {minimum:.0} µs: {ratio:.2}");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ROUNDS / 2).unwrap();
    println!("bench: {what}: {median:.2} times the minimum (median), budget {bound}");
}

/// The interval whose mean gap is 1 s: the pace of the C loop.
const MEAN_OF_1_S: &str = "1111ms";

/// A probing agent against the same system calls in a C loop.
fn probes(binary: &Path) {
    let fake_peers = FakePeers::start(u16::try_from(PACE).unwrap(), FAKE_NET);
    let dir = TempDir::new("bench");
    let program = dir.path().join("loop");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/pace/loop.c");
    let built = Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(source).status();
    assert!(built.is_ok_and(|status| status.success()), "cc");
    let count = PACE * u32::try_from(RUN.as_secs()).unwrap();
    let agent_cost = || {
        let address = SocketAddr::from((Ipv4Addr::new(127, FAKE_NET, 250, 1), 9050));
        let agent = start(
            binary,
            &dir,
            address,
            &[("WYLIS_PEERS", peers(&fake_peers)), ("WYLIS_INTERVAL", MEAN_OF_1_S.to_owned())],
        );
        let probed = || fake_peers.answered();
        let first = probed();
        wait_until(RUN, "all peers are probed", || probed() - first >= u64::from(2 * PACE));
        let (before, cpu_before) = (probed(), cpu(agent.pid()));
        std::thread::sleep(RUN);
        let (after, cpu_after) = (probed(), cpu(agent.pid()));
        (cpu_after - cpu_before) * 1e6 / (after - before) as f64
    };
    let minimum = || {
        let pause = (1_000_000 / PACE).to_string();
        let words = [fake_peers.port.to_string(), count.to_string(), pause, FAKE_NET.to_string()];
        let mut child = Command::new(&program).args(words).spawn().unwrap();
        std::thread::sleep(RUN - Duration::from_millis(300));
        let used = cpu(child.id());
        assert!(child.wait().unwrap().success());
        used * 1e6 / f64::from(count)
    };
    compare("CPU per probe at 100 a second, C loop", agent_cost, minimum, 1.5);
}

/// An answering agent without peers against bare tiny_http.
fn answers(binary: &Path) {
    let dir = TempDir::new("bench");
    let cost = |address: SocketAddr, pid: u32| {
        wait_until(RUN, "the server answers", || http::get(address, "/keepalive").is_ok());
        let before = cpu(pid);
        let mut next = Instant::now();
        let end = next + RUN;
        let mut count = 0_u32;
        while next < end {
            assert_eq!(http::get(address, "/keepalive").unwrap().status, 204);
            count += 1;
            next += Duration::from_secs(1) / PACE;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        (cpu(pid) - before) * 1e6 / f64::from(count)
    };
    let agent_cost = || {
        let address = SocketAddr::from((Ipv4Addr::new(127, FAKE_NET, 250, 2), 9050));
        let agent = start(binary, &dir, address, &[("WYLIS_PEERS", format!("me={address}"))]);
        cost(address, agent.pid())
    };
    let minimum = || {
        let address = SocketAddr::from((Ipv4Addr::new(127, FAKE_NET, 250, 3), 9050));
        let mut child = bare(address);
        let figure = cost(address, child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        figure
    };
    compare("CPU per answer at 100 a second, bare tiny_http", agent_cost, minimum, 1.6);
}

fn bare(address: SocketAddr) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args([BARE, &address.to_string()]).stdin(Stdio::null()).spawn().unwrap()
}

fn bare_server() -> ! {
    let address = std::env::args().nth(2).unwrap();
    let server = tiny_http::Server::http(address.as_str()).unwrap();
    loop {
        let request = server.recv().unwrap();
        let _ = request.respond(tiny_http::Response::empty(204));
    }
}

/// 1,000 peers at default settings, 100 of them black holes.
fn lateness(binary: &Path) {
    let dir = TempDir::new("bench");
    let hole = BlackHole::open();
    let hole_port = hole.port;
    let fake_peers = FakePeers::start(900, FAKE_NET);
    let mut list = peers(&fake_peers);
    for number in 0..100 {
        list.push_str(&format!(",hole{number}=127.{FAKE_NET}.200.{number}:{hole_port}"));
    }
    let address = SocketAddr::from((Ipv4Addr::new(127, FAKE_NET, 250, 4), 9050));
    let agent = start(binary, &dir, address, &[("WYLIS_PEERS", list)]);
    let down = |agent: &Agent| {
        let metrics = agent.metrics();
        metrics.matching("wylis_peer_up", &[]).filter(|(_, up)| *up < 1.0).count()
    };
    wait_until(Duration::from_secs(120), "the black holes are down", || down(&agent) == 100);
    let counts = || {
        let metrics = agent.metrics();
        let bucket = |bound: &str| {
            metrics.sum("wylis_schedule_delay_seconds_bucket", &[&format!("le=\"{bound}\"")])
        };
        ["0.005", "0.05", "0.5", "+Inf"].map(bucket)
    };
    let before = counts();
    std::thread::sleep(Duration::from_secs(60));
    let after = counts();
    let starts: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    let [at_5_ms, at_50_ms, at_500_ms, all] = starts.as_slice() else { panic!("four bounds") };
    println!(
        "bench: starts with 1,000 peers, 100 of them black holes: {:.2} % within 5 ms, {:.2} % within 50 ms \
         (budget 99 %), {:.2} % within 0.5 s, of {all}; {} threads",
        100.0 * at_5_ms / all,
        100.0 * at_50_ms / all,
        100.0 * at_500_ms / all,
        agent.status("Threads")
    );
}
