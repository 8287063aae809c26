//! Prometheus itself scrapes a mesh, and a query names the failing pair.
#![cfg(test)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use wylis_harness::mesh::Mesh;
use wylis_harness::process::binary;
use wylis_harness::{TempDir, http, skip, wait_until};

const FAST: &[(&str, &str)] =
    &[("WYLIS_INTERVAL", "500ms"), ("WYLIS_TIMEOUT", "2s"), ("WYLIS_REFRESH_INTERVAL", "2s")];

fn wylis() -> PathBuf {
    binary(env!("CARGO_BIN_EXE_wylis"))
}

fn is_there(tool: &str) -> bool {
    let mut version = Command::new(tool);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let there = version.status().is_ok_and(|status| status.success());
    if !there {
        skip(&format!("no {tool}: needs Debian's package prometheus"));
    }
    there
}

/// Ends with its test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn percent_encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    if !is_there("promtool") {
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
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    // The crate's own process_* metrics are not ours to rename.
    let ours: Vec<&str> = said.lines().filter(|line| !line.starts_with("process_")).collect();
    assert!(ours.is_empty() && text.contains("wylis_probes_total"), "{ours:#?}");
}

#[test]
fn prometheus_scrapes_a_mesh_and_a_query_gives_the_failing_pairs() {
    if !is_there("prometheus") {
        return;
    }
    let mut mesh = Mesh::of(3, &wylis(), FAST);
    let dir = TempDir::new("prometheus");
    let targets: Vec<String> =
        mesh.nodes.values().map(|node| format!("\"{}\"", node.agent.address)).collect();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: wylis\n  static_configs:\n  - targets: [{}]\n",
        targets.join(", ")
    );
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let address = std::net::SocketAddr::new(mesh.agent("n1").address.ip(), 9090);
    let _prometheus = Prometheus(
        Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap(),
    );
    let query = |expression: &str| -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", percent_encoded(expression));
        let text = http::get(address, &path).map(|answer| answer.text()).unwrap_or_default();
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    };
    wait_until(Duration::from_secs(60), "every agent is scraped", || {
        query("sum(wylis_peer_up) == 6").len() == 1
    });
    mesh.kill("n3");
    wait_until(Duration::from_secs(60), "the query names both pairs", || {
        let pairs = query("wylis_peer_up == 0");
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
        query(ratio).len() == 2
    });
    assert!(query("absent(wylis_probe_failures_total{reason=\"refused\"})").is_empty());
}
