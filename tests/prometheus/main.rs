//! A real Prometheus scrapes a mesh: queries find the failing pair, the rules are evaluated, and every
//! panel of the dashboard shows data.
#![cfg(test)]

mod dashboard;
mod rules;
mod server;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use server::Prometheus;
use wylis_harness::black_hole::BlackHole;
use wylis_harness::mesh::Mesh;
use wylis_harness::process::binary;
use wylis_harness::{skip, wait_until};

const FAST: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "500ms"),
    ("WYLIS_TIMEOUT", "2s"),
    ("WYLIS_LARGE_INTERVAL", "1s"),
    ("WYLIS_REFRESH_INTERVAL", "2s"),
];

fn wylis() -> PathBuf {
    binary(env!("CARGO_BIN_EXE_wylis"))
}

/// A file of manifests/monitoring.
fn manifest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/monitoring").join(name)
}

fn is_installed(tool: &str) -> bool {
    let mut version = Command::new(tool);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let installed = version.status().is_ok_and(|status| status.success());
    if !installed {
        skip(&format!("no {tool}: needs Debian's package prometheus"));
    }
    installed
}

/// A mesh of four nodes, of which n4 drops every packet, and a Prometheus that scrapes it.
fn with_a_dead_node(jobs: &[&str], more: &str) -> (Mesh, Prometheus, BlackHole) {
    let mut mesh = Mesh::of(4, &wylis(), FAST);
    let prometheus = Prometheus::start(&mesh, jobs, more);
    wait_until(Duration::from_secs(60), "every agent is scraped by every job", || {
        let pairs = jobs.len() * 12;
        prometheus.query(&format!("count(wylis_peer_up) == {pairs}")).len() == 1
    });
    let address = mesh.agent("n4").address;
    mesh.kill("n4");
    let hole = BlackHole::open_at(address);
    (mesh, prometheus, hole)
}

#[test]
fn promtool_accepts_the_metrics() {
    if !is_installed("promtool") {
        return;
    }
    let mut mesh = Mesh::of(3, &wylis(), FAST);
    mesh.kill("n3");
    mesh.wait_for_verdict("n1", "n3", "down");
    let (_, text) = mesh.agent("n1").get("/metrics").unwrap();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let output_text =
        String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output_text.is_empty() && text.contains("wylis_probes_total"), "{output_text}");
}

#[test]
fn prometheus_scrapes_a_mesh_and_a_query_finds_the_failing_pairs() {
    if !is_installed("prometheus") {
        return;
    }
    let mut mesh = Mesh::of(3, &wylis(), FAST);
    let prometheus = Prometheus::start(&mesh, &["wylis"], "");
    wait_until(Duration::from_secs(60), "every agent is scraped", || {
        prometheus.query("sum(wylis_peer_up) == 6").len() == 1
    });
    mesh.kill("n3");
    wait_until(Duration::from_secs(60), "the query names both pairs", || {
        let pairs = prometheus.query("wylis_peer_up == 0");
        let mut named: Vec<String> = pairs
            .iter()
            .map(|pair| {
                let label = |name: &str| pair["metric"][name].as_str().unwrap_or("").to_owned();
                label("source_node") + ">" + &label("target_node")
            })
            .collect();
        named.sort();
        named == ["n1>n3", "n2>n3"]
    });
    wait_until(Duration::from_secs(60), "the ratio of failures is one", || {
        let ratio = "sum by (source_node, target_node) (rate(wylis_probes_total{result=\"failure\"}[5s])) \
                     / sum by (source_node, target_node) (rate(wylis_probes_total[5s])) > 0.99";
        prometheus.query(ratio).len() == 2
    });
    assert!(prometheus.query("absent(wylis_probe_failures_total{reason=\"refused\"})").is_empty());
}
