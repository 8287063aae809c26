//! 200 black holes and two healthy peers, at default settings.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use wylis_harness::black_hole::BlackHole;
use wylis_harness::mesh::Net;
use wylis_harness::process::{Agent, Metrics, Settings};
use wylis_harness::{TempDir, wait_until};

use super::binary;

const BLACK_HOLES: u8 = 200;
/// The default interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// A healthy peer's probe ends this soon after its slot, on a busy machine too, and its slots are at most one
/// interval apart. Behind black holes in the queue it would wait for one or two timeouts.
const ON_TIME: Duration = Duration::from_secs(2);

/// The gaps between the last probes of `target`, in seconds.
fn gaps(row: &serde_json::Value, target: &str) -> Vec<f64> {
    let peers = row["peers"].as_array().unwrap();
    let peer = peers.iter().find(|peer| peer["node"] == target).unwrap();
    let ends = peer["recent"].as_array().unwrap().iter().rev().take(4);
    let ends: Vec<f64> = ends.map(|probe| probe["at"].as_f64().unwrap()).collect();
    ends.windows(2).map(|pair| pair[0] - pair[1]).collect()
}

/// An agent that runs with a soft and hard limit of `descriptors`.
fn with_descriptors(descriptors: u32, dir: &TempDir) -> PathBuf {
    let script = dir.path().join("limited");
    let agent = binary();
    let text = format!("#!/bin/sh\nulimit -n {descriptors}\nexec '{}' \"$@\"\n", agent.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// The local errors, except those of a worker that a busy machine starts late.
fn local_errors(metrics: &Metrics) -> Vec<String> {
    let all = metrics.matching("wylis_local_errors_total", &[]);
    let counted = all.filter(|(series, count)| *count > 0.0 && !series.contains("\"late\""));
    counted.map(|(series, count)| format!("{series} {count}")).collect()
}

#[test]
fn with_few_descriptors_healthy_peers_are_probed_and_black_holes_wait() {
    /// Fewer than black holes and the agent's own, more than the agent's own and those of healthy peers.
    const DESCRIPTORS: u32 = 64;
    const HOLES: u8 = 60;
    let (dir, net, other) = (TempDir::new("descriptors"), Net::new(), Net::new());
    let hole = BlackHole::open();
    let port = hole.port;
    let mut peers: Vec<String> =
        (1..=HOLES).map(|n| format!("hole{n}={}:{port}", net.host(n))).collect();
    let at = |last| SocketAddr::new(other.host(last), 9050);
    peers.extend([format!("n2={}", at(2)), format!("n3={}", at(3))]);
    let agent = |binary: PathBuf, node: &str, address: SocketAddr, peers: &str| {
        let pairs = [
            ("WYLIS_NODE_NAME", node.to_owned()),
            ("WYLIS_LISTEN", address.to_string()),
            ("WYLIS_PEERS", peers.to_owned()),
            ("WYLIS_INTERVAL", "1s".to_owned()),
            ("WYLIS_TIMEOUT", "1500ms".to_owned()),
        ];
        Agent::start(&Settings {
            binary,
            environment: pairs.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            address,
            log: dir.path().join(format!("{node}.log")),
        })
    };
    let _healthy =
        [2, 3].map(|n| agent(binary(), &format!("n{n}"), at(n), &format!("n1={}", at(1))));
    let subject = agent(with_descriptors(DESCRIPTORS, &dir), "n1", at(1), &peers.join(","));
    let successes = |node: &str| subject.peer(node)["successes"].as_u64().unwrap_or(0);
    let skipped = || subject.metrics().sum("wylis_probes_skipped_total", &[]);
    wait_until(Duration::from_secs(60), "healthy peers are probed, black holes skip slots", || {
        ["n2", "n3"].iter().all(|node| successes(node) >= 5) && skipped() >= f64::from(HOLES)
    });
    let (row, metrics) = (subject.peers(), subject.metrics());
    assert_eq!(local_errors(&metrics), [""; 0], "chance decided");
    for node in ["n2", "n3"] {
        let longest = (Duration::from_secs(1) + ON_TIME).as_secs_f64();
        let gaps = gaps(&row, node);
        assert!(gaps.iter().all(|gap| *gap < longest), "{node}: probed in gaps of {gaps:?} s");
        let label = format!("target_node=\"{node}\"");
        assert_eq!(metrics.sum("wylis_probe_failures_total", &[&label]), 0.0);
    }
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", subject.pid())).unwrap().count();
    println!("{DESCRIPTORS} descriptors, {HOLES} black holes: {descriptors} in use");
}

#[test]
fn with_200_black_holes_memory_and_threads_are_bounded_and_healthy_peers_are_on_time() {
    let (dir, net) = (TempDir::new("holes"), Net::new());
    let other = Net::new();
    let hole = BlackHole::open();
    let hole_port = hole.port;
    let mut peers: Vec<String> =
        (1..=BLACK_HOLES).map(|n| format!("hole{n}={}:{hole_port}", net.host(n))).collect();
    let at = |last| SocketAddr::new(other.host(last), 9050);
    peers.extend([format!("n2={}", at(2)), format!("n3={}", at(3))]);
    let agent = |node: &str, address: SocketAddr, peers: &str| {
        let pairs = [
            ("WYLIS_NODE_NAME", node.to_owned()),
            ("WYLIS_LISTEN", address.to_string()),
            ("WYLIS_PEERS", peers.to_owned()),
        ];
        Agent::start(&Settings {
            binary: binary(),
            environment: pairs.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            address,
            log: dir.path().join(format!("{node}.log")),
        })
    };
    let _healthy = [
        agent("n2", at(2), &format!("n1={}", at(1))),
        agent("n3", at(3), &format!("n1={}", at(1))),
    ];
    let subject = agent("n1", at(1), &peers.join(","));
    wait_until(Duration::from_secs(120), "every black hole is down", || {
        subject.metrics().matching("wylis_peer_up", &[]).filter(|(_, up)| *up == 0.0).count()
            == usize::from(BLACK_HOLES)
    });
    let before = subject.peers();
    let count = |row: &serde_json::Value, node: &str| {
        let peers = row["peers"].as_array().unwrap();
        peers.iter().find(|peer| peer["node"] == node).unwrap()["successes"].as_u64().unwrap()
    };
    std::thread::sleep(Duration::from_secs(30));
    let after = subject.peers();
    let metrics = subject.metrics();
    for node in ["n2", "n3"] {
        let probes = count(&after, node) - count(&before, node);
        assert!((2..=4).contains(&probes), "{node}: {probes} probes in 30 s");
        let (gaps, longest) = (gaps(&after, node), (INTERVAL + ON_TIME).as_secs_f64());
        assert_eq!(gaps.len(), 3);
        assert!(gaps.iter().all(|gap| *gap < longest), "{node}: probed in gaps of {gaps:?} s");
        let label = format!("target_node=\"{node}\"");
        assert_eq!(metrics.sum("wylis_probe_failures_total", &[&label]), 0.0);
    }
    let reasons = metrics.matching("wylis_probe_failures_total", &[]);
    assert!(reasons.into_iter().all(|(series, _)| series.contains("connect_timeout")));
    assert_eq!(local_errors(&metrics), [""; 0]);
    assert!(metrics.sum("wylis_probe_retransmits_total", &[]) > 400.0, "lost SYNs are counted");
    let late = metrics.sum("wylis_schedule_delay_seconds_count", &[])
        - metrics.sum("wylis_schedule_delay_seconds_bucket", &["le=\"0.5\""]);
    assert!(late > 0.0, "more black holes than workers: lateness is counted");
    let threads = subject.status("Threads");
    println!(
        "200 black holes: {threads} threads, VmHWM {} kB, RssAnon {} kB, {late} starts later than 0.5 s",
        subject.status("VmHWM"),
        subject.status("RssAnon")
    );
    assert!((60..=64 + 12).contains(&threads), "{threads} threads");
    if std::env::var_os("WYLIS_BINARY").is_some() {
        assert!(subject.status("VmHWM") <= 8 * 1024, "{} kB", subject.status("VmHWM"));
    }
}
