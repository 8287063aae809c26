//! Rows that do not come from their own nodes, and are asked for through a third.

use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use wylis_harness::mesh::{Net, PORT};
use wylis_harness::process::{Agent, Settings};
use wylis_harness::{TempDir, http, wait_until};

use crate::hostile::{peer, row_with, send};
use crate::{DEADLINE, FAST, PATIENCE, SLACK, binary, cell, document, row};

/// An agent with this list of peers.
pub(crate) fn start(
    dir: &TempDir,
    node: &str,
    address: SocketAddr,
    peers: &[(&str, SocketAddr)],
) -> Agent {
    let list: Vec<String> = peers.iter().map(|(name, at)| format!("{name}={at}")).collect();
    let own = [
        ("WYLIS_NODE_NAME", node.to_owned()),
        ("WYLIS_LISTEN", address.to_string()),
        ("WYLIS_PEERS", list.join(",")),
    ];
    let fast = FAST.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let environment = own.into_iter().chain(fast).map(|(name, value)| (name.to_owned(), value));
    let agent = Agent::start(&Settings {
        binary: binary(),
        environment: environment.collect(),
        address,
        log: dir.path().join(node),
    });
    wait_until(PATIENCE, "it answers", || http::get(address, "/healthz").is_ok());
    agent
}

/// Waits for a row of this node in the matrix of an agent that fulfils a condition.
pub(crate) fn wait_for_row(agent: &Agent, node: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let mut matrix = Value::Null;
    wait_until(PATIENCE, &format!("the row of {node}"), || {
        matrix = document(agent.address, "/api/v1/cluster").0;
        condition(row(&matrix, node))
    });
    matrix
}

fn row_requests(agent: &Agent) -> f64 {
    agent.metrics().sum("wylis_gate_requests_total", &["route=\"/api/v1/row\""])
}

#[test]
fn a_row_that_does_not_come_is_fetched_by_a_peer_that_reaches_its_node() {
    let (dir, net) = (TempDir::new("through"), Net::new());
    let [one, two, three, nothing] = [1, 2, 3, 4].map(|last| SocketAddr::new(net.host(last), PORT));
    // The first agent has a wrong address of the third.
    let first = start(&dir, "n1", one, &[("n2", two), ("n3", nothing)]);
    let second = start(&dir, "n2", two, &[("n1", one), ("n3", three)]);
    let third = start(&dir, "n3", three, &[("n1", one), ("n2", two)]);
    let matrix = wait_for_row(&first, "n3", |row| row["through"].is_string());
    let found = row(&matrix, "n3");
    assert_eq!((&found["through"], &found["error"]), (&"n2".into(), &Value::Null), "{matrix}");
    assert_eq!(cell(&matrix, "n3", "n1")["verdict"], "up", "{matrix}");
    assert!(matrix["duration_seconds"].as_f64().unwrap() < DEADLINE.as_secs_f64());
    assert_eq!(row(&matrix, "n2")["through"], Value::Null);
    let findings = matrix["findings"].as_array().unwrap();
    assert!(findings.iter().all(|one| one["kind"] != "missing_row"), "{findings:?}");
    // Word for word, within the time for which the third caches it.
    let rows = || {
        let row = |agent: &Agent, path: &str| http::get(agent.address, path).unwrap().body;
        [row(&third, "/api/v1/row"), row(&second, "/api/v1/row/n3")]
    };
    wait_until(PATIENCE, "both are the same row", || {
        let [own, passed_on] = rows();
        own == passed_on
    });
    // One hop: an agent that does not reach the node asks no other.
    let before = row_requests(&second);
    let (path, asked) = ("/api/v1/row/n3", first.address);
    assert_eq!(http::get(asked, path).unwrap().status, 503);
    assert_eq!(row_requests(&second), before);
    for path in ["/api/v1/row/n1", "/api/v1/row/n9"] {
        assert_eq!(http::get(asked, path).unwrap().status, 404, "{path}");
    }
    // A node that none reaches costs no more time than before.
    drop(third);
    let matrix = wait_for_row(&first, "n3", |row| row["error"] == "refused");
    assert!(matrix["duration_seconds"].as_f64().unwrap() < (DEADLINE + SLACK).as_secs_f64());
}

#[test]
fn a_peer_that_lies_about_another_or_knows_no_such_route_changes_nothing() {
    /// Claims to reach the missing node, and sends its own row for that node's.
    fn liar(node: &str, stream: TcpStream) -> std::io::Result<()> {
        send(node, stream, &row_with(node, r#"{"node":"gone","verdict":"up"}"#))
    }
    let (dir, net) = (TempDir::new("liar"), Net::new());
    let [me, liar_at, gone] = [1, 2, 3].map(|last| SocketAddr::new(net.host(last), PORT));
    peer(liar_at, "liar", liar);
    let mut agent = start(&dir, "me", me, &[("liar", liar_at), ("gone", gone)]);
    let matrix = wait_for_row(&agent, "liar", |row| row["error"].is_null());
    assert_eq!(cell(&matrix, "liar", "gone")["verdict"], "up");
    assert_eq!(row(&matrix, "gone")["error"], "refused", "{matrix}");
    assert_eq!(row(&matrix, "gone")["through"], Value::Null);
    let duration = matrix["duration_seconds"].as_f64().unwrap();
    assert!(duration < (DEADLINE + SLACK).as_secs_f64(), "{duration}");
    assert!(agent.is_alive(), "{}", agent.log());
}
