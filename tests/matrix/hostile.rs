//! The matrix of an agent whose peers misbehave.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use wylis::gzip::{self, Level};
use wylis_harness::bounds::worst_case;
use wylis_harness::mesh::{Net, PORT};
use wylis_harness::process::{Agent, Settings};
use wylis_harness::{TempDir, wait_until};

use crate::{DEADLINE, PATIENCE, SLACK, binary, document, row};

/// The most that hostile rows may add to the memory of an agent, which uses 3 MiB.
const MAX_ROWS_MEMORY: u64 = 8 << 20;
/// More peers than are asked at once.
const CROWD: u8 = 80;

/// Answers keep-alive requests as the agent of `node`, and all other requests by `behave`.
pub(crate) fn peer(
    address: SocketAddr,
    node: &'static str,
    behave: fn(&str, TcpStream) -> std::io::Result<()>,
) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream?;
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
                    head.push(byte[0]);
                }
                if head.starts_with(b"GET /keepalive ") {
                    let text = format!("HTTP/1.1 204 No Content\r\nWylis-Node: {node}\r\n\r\n");
                    return stream.write_all(text.as_bytes());
                }
                behave(node, stream)
            });
        }
    });
}

/// Sends a document and closes.
pub(crate) fn send(node: &str, mut stream: TcpStream, content: &str) -> std::io::Result<()> {
    let length = content.len();
    let head = format!("HTTP/1.1 200 OK\r\nWylis-Node: {node}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(content.as_bytes())
}

pub(crate) fn row_with(node: &str, rest: &str) -> String {
    format!(r#"{{"version":1,"node":"{node}","at":1.5,"cells":[{rest}]}}"#)
}

fn honest(node: &str, stream: TcpStream) -> std::io::Result<()> {
    let cells = r#"{"node":"me","verdict":"up","latency_seconds":0.5}"#;
    send(node, stream, &row_with(node, cells))
}

fn broken(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send(node, stream, &row_with(node, "{"))
}

fn lying(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send(node, stream, &row_with("honest", ""))
}

fn deep(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send(node, stream, &format!(r#"{{"version":1,"x":{}"#, "[".repeat(100_000)))
}

fn markup(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send(node, stream, &row_with(node, r#"{"node":"<script>","verdict":"up"}"#))
}

fn crowded(node: &str, stream: TcpStream) -> std::io::Result<()> {
    let cells: Vec<String> =
        (0..4000).map(|n| format!(r#"{{"node":"s{n}","verdict":"up"}}"#)).collect();
    send(node, stream, &row_with(node, &cells.join(",")))
}

fn nulls(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send(node, stream, &row_with(node, &["null"; 26_000].join(",")))
}

fn nested_nulls(node: &str, stream: TcpStream) -> std::io::Result<()> {
    let cells = ["null"; 26_000].join(",");
    let rows = format!(r#""rows":[{{"node":"a","at":1,"cells":[{cells}]}}]"#);
    send(node, stream, &format!(r#"{{"version":1,"node":"{node}","at":1,{rows},"cells":[]}}"#))
}

/// A row just below the bound of its bytes, whose last byte comes late, so that many are held at once. Its names
/// are the longest, and its verdicts are by chance, for as many findings as possible.
fn heavy(node: &str, mut stream: TcpStream) -> std::io::Result<()> {
    let verdicts = [
        r#""lossy""#,
        r#""down","reason":"refused""#,
        r#""down","reason":"reset""#,
        r#""flaky","reason":"closed""#,
        r#""flaky","reason":"refused""#,
        r#""mtu","direction":"both""#,
        r#""up""#,
        r#""up""#,
    ];
    let seed = node.bytes().fold(0, |seed, byte| seed * 31 + u64::from(byte));
    let cell = |n: u64| {
        let place = ((seed << 32) + n).wrapping_mul(6_364_136_223_846_793_005) >> 61;
        let verdict = verdicts[usize::try_from(place).unwrap()];
        format!(r#"{{"node":"s{n:0>252}","verdict":{verdict}}}"#)
    };
    let cells: Vec<String> = (0..400).map(cell).collect();
    let mut row = row_with(node, &cells.join(","));
    row.push_str(&" ".repeat(128 * 1024 - row.len()));
    let length = row.len();
    write!(stream, "HTTP/1.1 200 OK\r\nWylis-Node: {node}\r\nContent-Length: {length}\r\n\r\n")?;
    stream.write_all(&row.as_bytes()[..length - 1])?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    stream.write_all(b" ")
}

pub(crate) fn old(_: &str, mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nnot found\n")
}

fn overloaded(_: &str, mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
}

/// Sends compressed content whose trailer announces this length, or the true one.
fn send_gzip(
    node: &str,
    mut stream: TcpStream,
    content: Vec<u8>,
    announced: Option<u32>,
) -> std::io::Result<()> {
    let mut packed = gzip::compress(std::iter::once(content), Level::Small, usize::MAX).unwrap();
    if let Some(announced) = announced {
        packed.truncate(packed.len() - 4);
        packed.extend_from_slice(&announced.to_le_bytes());
    }
    let head = "Content-Encoding: gzip\r\nContent-Length:";
    write!(stream, "HTTP/1.1 200 OK\r\nWylis-Node: {node}\r\n{head} {}\r\n\r\n", packed.len())?;
    stream.write_all(&packed)
}

fn compressed(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send_gzip(node, stream, row_with(node, "").into_bytes(), None)
}

/// 10 KB that inflate to 10 MB.
fn bomb(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send_gzip(node, stream, vec![b' '; 10_000_000], None)
}

fn hidden_bomb(node: &str, stream: TcpStream) -> std::io::Result<()> {
    send_gzip(node, stream, vec![b' '; 10_000_000], Some(100))
}

fn large(node: &str, mut stream: TcpStream) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nWylis-Node: {node}\r\nContent-Length: 1000000000\r\n\r\n")?;
    loop {
        stream.write_all(&[b' '; 4096])?;
    }
}

fn endless(_: &str, mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
    loop {
        stream.write_all(&[b'x'; 4096])?;
    }
}

fn dripping(node: &str, mut stream: TcpStream) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nWylis-Node: {node}\r\nContent-Length: 90000\r\n\r\n")?;
    loop {
        stream.write_all(b" ")?;
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn closing(_: &str, _: TcpStream) -> std::io::Result<()> {
    Ok(())
}

/// A peer, its behaviour, and the error in place of its row; `None` for a row.
type Case = (&'static str, fn(&str, TcpStream) -> std::io::Result<()>, Option<&'static str>);

const CASES: [Case; 18] = [
    ("bomb", bomb, Some("too_large")),
    ("broken", broken, Some("bad_response")),
    ("closing", closing, Some("closed")),
    ("compressed", compressed, None),
    ("crowded", crowded, None),
    ("deep", deep, Some("bad_response")),
    ("dripping", dripping, Some("response_timeout")),
    ("endless", endless, Some("bad_response")),
    ("hidden-bomb", hidden_bomb, Some("bad_response")),
    ("honest", honest, None),
    ("large", large, Some("too_large")),
    ("lying", lying, Some("wrong_peer")),
    ("markup", markup, Some("bad_response")),
    ("nested-nulls", nested_nulls, Some("bad_response")),
    ("nulls", nulls, Some("bad_response")),
    ("old", old, Some("unsupported")),
    ("overloaded", overloaded, Some("busy")),
    ("second", honest, None),
];

/// An agent among these peers, all of which are up.
pub(crate) fn start_among(peers: &[String], address: SocketAddr, dir: &TempDir) -> Agent {
    let pairs = [
        ("WYLIS_NODE_NAME", "me".to_owned()),
        ("WYLIS_LISTEN", address.to_string()),
        ("WYLIS_PEERS", peers.join(",")),
        ("WYLIS_INTERVAL", "1s".to_owned()),
    ];
    let agent = Agent::start(&Settings {
        binary: binary(),
        environment: pairs.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        address,
        log: dir.path().join("log"),
    });
    let up = || agent.metrics().matching("wylis_peer_up", &[]).filter(|(_, up)| *up == 1.0).count();
    wait_until(PATIENCE, "all peers are up", || up() == peers.len());
    agent
}

#[test]
fn every_misbehaviour_has_its_error_and_costs_only_its_row() {
    let (dir, net) = (TempDir::new("hostile"), Net::new());
    let at = |last: usize| SocketAddr::new(net.host(u8::try_from(last).unwrap()), PORT);
    for (number, (node, behave, _)) in (10..).zip(CASES) {
        peer(at(number), node, behave);
    }
    let list: Vec<String> =
        (10..).zip(CASES).map(|(number, (node, ..))| format!("{node}={}", at(number))).collect();
    let mut agent = start_among(&list, at(1), &dir);
    let before = agent.status("VmRSS");
    let (matrix, took) = document(agent.address, "/api/v1/cluster");
    assert!(took < DEADLINE + SLACK, "{took:?}");
    for (node, _, error) in CASES {
        let row = row(&matrix, node);
        assert_eq!(row["error"].as_str(), error, "{node}: {}", row["error"]);
    }
    // The crowded row added names up to the bound.
    assert_eq!(matrix["nodes"].as_array().unwrap().len(), 2 * (CASES.len() + 1) + 64);
    for node in ["honest", "second"] {
        assert_eq!(crate::cell(&matrix, node, "me")["latency_seconds"], 0.5);
    }
    let text = matrix.to_string();
    assert!(!text.contains("script"), "an invalid name");
    // The same for pairs.
    for (node, _, error) in CASES {
        let response =
            wylis_harness::http::get(agent.address, &format!("/api/v1/cluster/{node}/me")).unwrap();
        let pair: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let expected = match node {
            "old" => (404, None),
            // A row in place of a peer.
            "honest" | "second" | "markup" | "broken" | "compressed" => (200, Some("bad_response")),
            // Longer than a peer may be.
            "crowded" | "deep" | "dripping" | "nested-nulls" | "nulls" => (200, Some("too_large")),
            _ => (200, error),
        };
        assert_eq!((response.status, pair["error"].as_str()), expected, "{node}");
    }
    assert!(agent.is_alive(), "{}", agent.log());
    let peak = agent.status("VmHWM");
    assert!(peak < before + 3 * 1024, "{before} kB before, {peak} kB at the peak");
    let metrics = agent.metrics();
    assert_eq!(metrics.sum("wylis_probe_failures_total", &[]), 0.0, "only rows were bad");
    assert_eq!(metrics.sum("wylis_local_errors_total", &[]), 0.0);
}

#[test]
fn rows_of_a_hostile_mesh_do_not_fill_the_memory() {
    let (dir, net) = (TempDir::new("hostile"), Net::new());
    let at = |last: u8| SocketAddr::new(net.host(last), PORT);
    let mut list = Vec::new();
    for number in 10..10 + CROWD {
        let node: &'static str = Box::leak(format!("p{number}").into_boxed_str());
        peer(at(number), node, heavy);
        list.push(format!("{node}={}", at(number)));
    }
    let mut agent = start_among(&list, at(1), &dir);
    std::fs::write(format!("/proc/{}/clear_refs", agent.pid()), "5").unwrap();
    let before = agent.status("VmRSS");
    let (matrix, _) = document(agent.address, "/api/v1/cluster");
    let rows = matrix["rows"].as_array().unwrap();
    let read = rows.iter().filter(|row| row["error"].is_null()).count();
    assert!(read > usize::from(CROWD) / 2, "{read} rows");
    let added = agent.status("VmHWM").saturating_sub(before) * 1024;
    println!("{read} rows, {added} bytes at the peak");
    assert!(added <= MAX_ROWS_MEMORY, "{added} bytes");
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let added = added as f64;
    assert!(added <= worst_case("MAX_ROWS_MEMORY"), "{added} bytes");
    assert!(agent.is_alive(), "{}", agent.log());
}

/// Sends a row that was made 2 s ago, by a clock that is a minute ahead.
fn ahead(node: &str, mut stream: TcpStream) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let row = row_with(node, "").replace("\"at\":1.5", &format!("\"at\":{:.3}", now + 58.0));
    let length = row.len();
    write!(stream, "HTTP/1.1 200 OK\r\nWylis-Node: {node}\r\nWylis-Age: 2000\r\n")?;
    write!(stream, "Content-Length: {length}\r\n\r\n{row}")
}

#[test]
fn a_row_with_its_age_shows_the_clock_of_its_node() {
    let (dir, net) = (TempDir::new("clock"), Net::new());
    let [me, late, silent] = [1, 10, 11].map(|last| SocketAddr::new(net.host(last), PORT));
    peer(late, "late", ahead);
    // Its row is of 1970, but nothing tells when it was made.
    peer(silent, "silent", honest);
    let agent = start_among(&[format!("late={late}"), format!("silent={silent}")], me, &dir);
    let (matrix, _) = document(agent.address, "/api/v1/cluster");
    let texts: Vec<&str> = matrix["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["text"].as_str())
        .collect();
    assert_eq!(texts, ["the clock of late is 60 s ahead"]);
}
