//! `make bench`: what a probe and an answer cost in CPU, each as a ratio to the bare thing at the same
//! pace in the same run, and how late probes start in a crowd with black holes.
//!
//! Figures of time are for people to read, on a quiet machine: nothing here passes or fails.
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

/// Pairs of runs; the median of their ratios is told.
const ROUNDS: usize = 5;
/// One run.
const RUN: Duration = Duration::from_secs(10);
/// Probes or requests a second.
const PACE: u32 = 100;
/// The second octet of the fake peers's addresses.
const FARM_NET: u8 = 11;
/// The argument that makes this program a bare tiny_http server.
const BARE: &str = "--bare-server";

fn main() {
    if std::env::args().nth(1).as_deref() == Some(BARE) {
        bare_server();
    }
    let binary = std::env::var_os("WYLIS_BINARY").map(PathBuf::from);
    let binary = binary.unwrap_or_else(|| panic!("WYLIS_BINARY names no agent: run `make bench`"));
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

fn peers(farm: &FakePeers) -> String {
    let port = farm.port;
    let entry = |(name, ip): &(String, std::net::IpAddr)| format!("{name}={ip}:{port}");
    farm.nodes().iter().map(entry).collect::<Vec<_>>().join(",")
}

/// Runs ours and theirs in turn; each gives microseconds of CPU for one unit of work.
fn pairs(what: &str, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64, bound: f64) {
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (our, their) = (ours(), theirs());
        println!("{what}, round {round}: {our:.0} µs against {their:.0} µs: {:.2}", our / their);
        ratios.push(our / their);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ROUNDS / 2).unwrap();
    println!("bench: {what}: {median:.2} times the bare thing (median), budget {bound}");
}

/// A probing agent against the same system calls in a loop of C.
fn probes(binary: &Path) {
    let farm = FakePeers::start(u16::try_from(PACE).unwrap(), FARM_NET);
    let dir = TempDir::new("bench");
    let program = dir.path().join("loop");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/pace/loop.c");
    let built = Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(source).status();
    assert!(built.is_ok_and(|status| status.success()), "cc");
    let count = PACE * u32::try_from(RUN.as_secs()).unwrap();
    let ours = || {
        let address = SocketAddr::from((Ipv4Addr::new(127, FARM_NET, 250, 1), 9050));
        let agent = start(
            binary,
            &dir,
            address,
            &[("WYLIS_PEERS", peers(&farm)), ("WYLIS_INTERVAL", "1s".to_owned())],
        );
        let probed = || farm.answered();
        let begun = probed();
        wait_until(RUN, "all peers are probed", || probed() - begun >= u64::from(2 * PACE));
        let (before, cpu_before) = (probed(), cpu(agent.pid()));
        std::thread::sleep(RUN);
        let (after, cpu_after) = (probed(), cpu(agent.pid()));
        (cpu_after - cpu_before) * 1e6 / (after - before) as f64
    };
    let theirs = || {
        let pause = (1_000_000 / PACE).to_string();
        let words = [farm.port.to_string(), count.to_string(), pause, FARM_NET.to_string()];
        let mut child = Command::new(&program).args(words).spawn().unwrap();
        std::thread::sleep(RUN - Duration::from_millis(300));
        let used = cpu(child.id());
        assert!(child.wait().unwrap().success());
        used * 1e6 / f64::from(count)
    };
    pairs("CPU per probe at 100 a second, C loop", ours, theirs, 1.5);
}

/// An agent without peers that answers, against bare tiny_http.
fn answers(binary: &Path) {
    let dir = TempDir::new("bench");
    let asked = |address: SocketAddr, pid: u32| {
        wait_until(RUN, "it serves", || http::get(address, "/keepalive").is_ok());
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
    let ours = || {
        let address = SocketAddr::from((Ipv4Addr::new(127, FARM_NET, 250, 2), 9050));
        let agent = start(binary, &dir, address, &[("WYLIS_PEERS", format!("me={address}"))]);
        asked(address, agent.pid())
    };
    let theirs = || {
        let address = SocketAddr::from((Ipv4Addr::new(127, FARM_NET, 250, 3), 9050));
        let mut child = bare(address);
        let figure = asked(address, child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        figure
    };
    pairs("CPU per answer at 100 a second, bare tiny_http", ours, theirs, 1.6);
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

/// A thousand peers at default settings, a tenth of them black holes.
fn lateness(binary: &Path) {
    let dir = TempDir::new("bench");
    let hole = BlackHole::open();
    let hole_port = hole.port;
    let farm = FakePeers::start(900, FARM_NET);
    let mut list = peers(&farm);
    for number in 0..100 {
        list.push_str(&format!(",hole{number}=127.{FARM_NET}.200.{number}:{hole_port}"));
    }
    let address = SocketAddr::from((Ipv4Addr::new(127, FARM_NET, 250, 4), 9050));
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
        "bench: starts with 1000 peers, 100 of them black holes: {:.2} % within 5 ms, {:.2} % within 50 ms \
         (budget 99 %), {:.2} % within 0.5 s, of {all}; {} threads",
        100.0 * at_5_ms / all,
        100.0 * at_50_ms / all,
        100.0 * at_500_ms / all,
        agent.status("Threads")
    );
}
