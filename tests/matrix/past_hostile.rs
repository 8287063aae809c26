//! The past as told by agents that lie, are of an earlier release, or are reached through another only.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use wylis_harness::mesh::{Net, PORT, now};
use wylis_harness::{TempDir, http};

use crate::hostile::{old, peer, send, start_among};
use crate::past::at;
use crate::through::{start, wait_for_row};
use crate::{DEADLINE, SLACK, binary, cell, document, row};

/// A past row of the cell that covers now, with these fields.
fn past_row(node: &str, rest: &str) -> String {
    let from = now() - now() % 300;
    format!(r#"{{"version":1,"node":"{node}","at":{from},{rest}}}"#)
}

const UP: &str = r#"[{"node":"me","verdict":"up","probes":3}]"#;

fn honest(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send(node, stream, &past_row(node, &format!(r#""seconds":300,"cells":{UP}"#)))
}

/// The row of now in place of one of the past.
fn present(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send(node, stream, &past_row(node, &format!(r#""cells":{UP}"#)))
}

/// A cell that ends before the second that was asked for.
fn earlier(node: &str, stream: TcpStream) -> std::io::Result<()> {
    let row = format!(
        r#"{{"version":1,"node":"{node}","at":{},"seconds":300,"cells":{UP}}}"#,
        now() - 1000
    );
    send(node, stream, &row)
}

/// A cell longer than a day.
fn eternal(node: &str, stream: TcpStream) -> std::io::Result<()> {
    let row =
        format!(r#"{{"version":1,"node":"{node}","at":1,"seconds":4294967295,"cells":{UP}}}"#);
    send(node, stream, &row)
}

fn lying(node: &str, stream: TcpStream) -> std::io::Result<()> {
    let _ = node;
    let row = past_row("honest", r#""seconds":300,"cells":[]"#);
    send("lying", stream, &row)
}

fn markup(node: &str, stream: TcpStream) -> std::io::Result<()> {
    let cells = r#"[{"node":"<script>","verdict":"up"}]"#;
    send(node, stream, &past_row(node, &format!(r#""seconds":300,"cells":{cells}"#)))
}

fn broken(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send(node, stream, &past_row(node, r#""seconds":300,"cells":[{"#))
}

fn large(node: &str, mut stream: TcpStream) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nWylis-Node: {node}\r\nContent-Length: 1000000000\r\n\r\n")?;
    loop {
        stream.write_all(&[b' '; 4096])?;
    }
}

/// Faults with more times and runs than there can be.
fn runs(node: &str, stream: TcpStream) -> std::io::Result<()> {
    let times = vec!["[1,300,0]"; 4000].join(",");
    let runs: Vec<String> = (0..3000).map(|first| format!("[0,{first},1,9,1,9]")).collect();
    let runs = runs.join(",");
    let faults = format!(r#""nodes":["me"],"times":[{times}],"runs":[{runs}],"left_out":0"#);
    send(node, stream, &past_row(node, &faults))
}

/// A peer, its behaviour, and the errors in place of its row and of its faults; `None` for a row.
type Case =
    (&'static str, fn(&str, TcpStream) -> std::io::Result<()>, Option<&'static str>, &'static str);

const CASES: [Case; 10] = [
    ("broken", broken, Some("bad_response"), "bad_response"),
    ("earlier", earlier, Some("bad_response"), "bad_response"),
    ("eternal", eternal, Some("bad_response"), "bad_response"),
    ("honest", honest, None, "bad_response"),
    ("large", large, Some("too_large"), "too_large"),
    ("lying", lying, Some("wrong_peer"), "wrong_peer"),
    ("markup", markup, Some("bad_response"), "bad_response"),
    ("old", old, Some("not_remembered"), "not_remembered"),
    ("present", present, Some("bad_response"), "bad_response"),
    ("runs", runs, Some("bad_response"), "bad_response"),
];

#[test]
fn each_lie_about_the_past_costs_its_own_row_only_and_an_earlier_release_is_a_gap() {
    let (dir, net) = (TempDir::new("past"), Net::new());
    let address = |last: usize| SocketAddr::new(net.host(u8::try_from(last).unwrap()), PORT);
    let mut list = Vec::new();
    for (place, (node, behave, ..)) in CASES.into_iter().enumerate() {
        peer(address(10 + place), node, behave);
        list.push(format!("{node}={}", address(10 + place)));
    }
    let mut agent = start_among(&list, address(1), &dir);
    let before = agent.status("VmRSS");
    let (past, took) = document(agent.address, &at(now()));
    assert!(took < DEADLINE + SLACK, "{took:?}");
    let (day, _) = document(agent.address, "/api/v1/history/day");
    let missing = day["missing"].as_array().unwrap();
    for (node, _, in_row, in_day) in CASES {
        assert_eq!(row(&past, node)["error"].as_str(), in_row, "{node}: {past}");
        let found = missing.iter().find(|one| one["node"] == node).unwrap_or(&Value::Null);
        assert_eq!(found["error"], in_day, "{node}: {day}");
    }
    assert_eq!(cell(&past, "honest", "me")["verdict"], "up");
    assert_eq!(past["nodes"].as_array().unwrap().len(), 1 + CASES.len());
    let text = format!("{past}{day}");
    assert!(!text.contains("script"), "an invalid name");
    // The same for pairs, and for what is passed on.
    for (node, _, in_row, _) in CASES {
        let (pair, _) = document(agent.address, &format!("/api/v1/history/{node}/me"));
        let error = pair["error"].as_str().unwrap_or_default();
        let expected = match node {
            "large" => "too_large",
            "old" => "not_remembered",
            "lying" => "wrong_peer",
            _ => "bad_response",
        };
        assert_eq!(error, expected, "{node}: {pair}");
        for (path, is_valid) in [
            (format!("/api/v1/past/row/{}/{node}", now()), in_row.is_none()),
            (format!("/api/v1/past/faults/{node}"), false),
        ] {
            let status = http::get(agent.address, &path).unwrap().status;
            assert_eq!(status, if is_valid { 200 } else { 503 }, "{path}");
        }
    }
    let (unknown, _) = document(agent.address, "/api/v1/history/nowhere/me");
    assert_eq!(unknown["error"], "no_peer");
    assert!(agent.is_alive(), "{}", agent.log());
    let peak = agent.status("VmHWM");
    assert!(peak < before + 3 * 1024, "{before} kB before, {peak} kB at the peak");
    assert_eq!(agent.metrics().sum("wylis_probe_failures_total", &[]), 0.0);
}

#[test]
fn the_past_of_a_node_that_is_not_reached_comes_through_a_peer_that_reaches_it() {
    let (dir, net) = (TempDir::new("past"), Net::new());
    let [one, two, three, nothing] = [1, 2, 3, 4].map(|last| SocketAddr::new(net.host(last), PORT));
    // The first agent has a wrong address of the third.
    let first = start(&dir, "n1", one, &[("n2", two), ("n3", nothing)]);
    let second = start(&dir, "n2", two, &[("n1", one), ("n3", three)]);
    let third = start(&dir, "n3", three, &[("n1", one), ("n2", two)]);
    wait_for_row(&first, "n3", |row| row["through"].is_string());
    let moment = now();
    let (past, took) = document(first.address, &at(moment));
    assert!(took < DEADLINE + SLACK, "{took:?}");
    let found = row(&past, "n3");
    assert_eq!((&found["through"], &found["error"]), (&"n2".into(), &Value::Null), "{past}");
    assert_eq!(cell(&past, "n3", "n2")["verdict"], "up", "{past}");
    assert_eq!(row(&past, "n2")["through"], Value::Null);
    let (day, _) = document(first.address, "/api/v1/history/day");
    assert_eq!(day["missing"], Value::Array(Vec::new()), "{day}");
    // One hop: an agent that does not reach the node asks no other.
    for path in [format!("row/{moment}/n3"), "faults/n3".to_owned()] {
        let [not_reached, reached] = [&first, &second]
            .map(|agent| http::get(agent.address, &format!("/api/v1/past/{path}")).unwrap().status);
        assert_eq!((not_reached, reached), (503, 200), "{path}");
    }
    // A node that left the list is not asked, and its column stays.
    drop(third);
    let (pair, _) = document(first.address, "/api/v1/history/n3/n2");
    assert_eq!(pair["error"], "refused", "a pair is asked of its source only");
    let _ = binary();
}
