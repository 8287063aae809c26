//! The URL for an uptime monitor.

use std::net::SocketAddr;

use serde_json::Value;
use wylis_harness::http::{self, Response};
use wylis_harness::mesh::{Mesh, Net, PORT};
use wylis_harness::process::{Agent, Settings};
use wylis_harness::{TempDir, wait_until};

use crate::{FAST, PATIENCE, binary};

const PATH: &str = "/api/v1/health";

fn health(agent: &Agent, headers: &[(&str, &str)]) -> Response {
    http::get_with(agent.address, PATH, headers, http::DEADLINE).unwrap()
}

/// Waits for the status; the matrix is cached for seconds.
fn wait_for_status(agent: &Agent, status: u16) -> Response {
    let mut last = health(agent, &[]);
    wait_until(PATIENCE, &format!("status {status}"), || {
        last = health(agent, &[]);
        last.status == status
    });
    last
}

#[test]
fn a_mesh_without_findings_is_healthy_as_text_and_as_json() {
    let mesh = Mesh::of(3, &binary(), FAST);
    let agent = mesh.agent("n1");
    wait_until(PATIENCE, "all pairs are up", || {
        health(agent, &[]).text() == "No findings: 6 of 6 pairs are up\n"
    });
    let text = health(agent, &[]);
    assert_eq!(text.status, 200);
    assert_eq!(text.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(text.header("Cache-Control"), Some("no-store"));
    assert_eq!(text.header("Wylis-Node"), Some("n1"));
    let json = health(agent, &[("Accept", "application/json")]);
    let document: Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!((json.status, json.header("Content-Type")), (200, Some("application/json")));
    assert_eq!((&document["version"], &document["node"]), (&1.into(), &"n1".into()));
    assert_eq!(
        (&document["healthy"], &document["findings"]),
        (&true.into(), &Value::Array(vec![]))
    );
    assert!(document["at"].as_f64().unwrap() > 1.7e9);
    // Browsers, and what is no list of types, get text.
    for accept in ["text/html, */*;q=0.8", "application/json;q=0", "\u{e4},;;q=,", "*"] {
        let other = health(agent, &[("Accept", accept)]);
        assert_eq!((other.status, &other.body), (200, &text.body), "{accept}");
    }
    // Monitors may ask for the head only.
    let head = format!("HEAD {PATH} HTTP/1.0\r\n\r\n");
    let stream = std::net::TcpStream::connect(agent.address).unwrap();
    let head = answer_to(stream, &head);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    // One collection serves all that ask within 5 s.
    let requests = |node| {
        let labels = ["route=\"/api/v1/row\"", "code=\"200\""];
        mesh.agent(node).metrics().sum("wylis_gate_requests_total", &labels)
    };
    let before = requests("n2");
    for _ in 0..20 {
        assert_eq!(health(agent, &[]).status, 200);
    }
    assert!(requests("n2") <= before + 2.0);
}

/// Everything that comes until the end of the connection.
fn answer_to(mut stream: std::net::TcpStream, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    stream.set_read_timeout(Some(http::DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_agent_without_a_list_of_peers_is_not_healthy_yet() {
    let (dir, net) = (TempDir::new("health"), Net::new());
    let address = SocketAddr::new(net.host(1), PORT);
    // The list of a file that does not exist yet.
    let peers = dir.path().join("peers");
    let environment = [
        ("WYLIS_NODE_NAME", "n1".to_owned()),
        ("WYLIS_LISTEN", address.to_string()),
        ("WYLIS_PEERS_FILE", peers.display().to_string()),
        ("WYLIS_REFRESH_INTERVAL", "1s".to_owned()),
        // Long enough before its peer, which does not exist, is down.
        ("WYLIS_INTERVAL", "30s".to_owned()),
    ];
    let agent = Agent::start(&Settings {
        binary: binary(),
        environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        address,
        log: dir.path().join("log"),
    });
    wait_until(PATIENCE, "it answers", || http::get(address, "/healthz").is_ok());
    let early = health(&agent, &[("Accept", "application/json")]);
    assert_eq!((early.status, early.text().as_str()), (503, "no peer list yet\n"));
    std::fs::write(&peers, format!("n2={}\n", SocketAddr::new(net.host(2), PORT))).unwrap();
    wait_for_status(&agent, 200);
}

#[test]
fn a_dead_node_is_told_and_its_return_too() {
    let mut mesh = Mesh::of(3, &binary(), FAST);
    wait_for_status(mesh.agent("n1"), 200);
    let pod = mesh.kill("n3");
    mesh.wait_for_verdict("n1", "n3", "down");
    let ill = wait_for_status(mesh.agent("n1"), 503);
    let agent = mesh.agent("n1");
    let json = health(agent, &[("Accept", "application/json")]);
    assert_eq!(json.status, 503);
    let document: Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(document["healthy"], false);
    let findings = document["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["grave"] == true), "{document}");
    // Their places would be in a list that this document does not have.
    assert!(findings.iter().all(|finding| finding.get("pairs").is_none()), "{document}");
    // The same within the time for which the matrix is cached, as a rule.
    let sentence = "n3 is down: none of 2 others reaches it (refused)\n";
    assert!(ill.text().contains("n3") && !ill.text().starts_with("No findings"), "{}", ill.text());
    wait_until(PATIENCE, "both others find it down", || {
        health(agent, &[]).text().starts_with(sentence)
    });
    let texts: Vec<&str> =
        findings.iter().map(|finding| finding["text"].as_str().unwrap()).collect();
    assert!(texts.iter().any(|text| text.contains("n3")), "{texts:?}");
    let head = format!("HEAD {PATH} HTTP/1.0\r\n\r\n");
    let head = answer_to(std::net::TcpStream::connect(agent.address).unwrap(), &head);
    assert!(head.starts_with("HTTP/1.1 503 ") && head.ends_with("\r\n\r\n"), "{head}");
    mesh.restart_in_place("n3", &pod);
    wait_for_status(mesh.agent("n1"), 200);
}
