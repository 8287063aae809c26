//! The commands for people on call, against a mesh of real agents: what they print, how they end, and
//! that nobody counts them.
#![cfg(test)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use wylis_harness::mesh::Mesh;
use wylis_harness::{skip, wait_until};

const FAST: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "1s"),
    ("WYLIS_TIMEOUT", "2s"),
    ("WYLIS_REFRESH_INTERVAL", "2s"),
    ("WYLIS_DRAIN", "1s"),
];
const PATIENCE: Duration = Duration::from_secs(60);
/// The codes of the README.
const WELL: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const SICK: Option<i32> = Some(4);

fn binary() -> PathBuf {
    wylis_harness::process::binary(env!("CARGO_BIN_EXE_wylis"))
}

/// The program with these arguments, in an environment that has nothing else.
fn wylis(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    told(wylis(arguments).output().unwrap())
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |octets| String::from_utf8(octets).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// As `kubectl exec` would: with the environment of the pod.
fn run_in_pod(mesh: &Mesh, node: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let listen = mesh.agent(node).address.to_string();
    told(wylis(arguments).env("WYLIS_LISTEN", listen).output().unwrap())
}

fn end(mut child: Child) -> Option<i32> {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > patience {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_healthy_mesh_is_shown_and_all_is_well() {
    let mesh = Mesh::of(3, &binary(), FAST);
    let (code, peers, error) = run_in_pod(&mesh, "n1", &["peers"]);
    assert_eq!((code, error.as_str()), (WELL, ""), "{peers}");
    let lines: Vec<&str> = peers.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "n1: 2 peers, 2 up"));
    assert!(lines[1].starts_with("NODE") && lines[2].starts_with("n2    up "), "{peers}");
    assert!(lines[2].contains(" ms ") && lines[2].ends_with(" s ago"), "{peers}");
    let (code, cluster, error) = run_in_pod(&mesh, "n1", &["cluster"]);
    assert_eq!((code, error.as_str()), (WELL, ""), "{cluster}");
    assert!(cluster.starts_with("3 nodes as n1 sees them, rows read in "), "{cluster}");
    assert!(cluster.contains(": 6 pairs, 6 up\n"), "{cluster}");
    // From outside, by address.
    let agent = format!("--agent={}", mesh.agent("n2").address);
    assert!(run(&["peers", &agent]).1.starts_with("n2: 2 peers"));
    assert!(run(&["cluster", "--agent", &agent[8..]]).1.contains(" as n2 sees them"));
    for text in [peers, cluster] {
        assert!(!text.contains('\x1b'), "no colour in a pipe: {text}");
    }
}

#[test]
fn json_is_the_document_of_the_agent() {
    let mesh = Mesh::of(2, &binary(), FAST);
    for (command, list) in [("peers", "peers"), ("cluster", "rows")] {
        let (code, text, _) = run_in_pod(&mesh, "n1", &[command, "--json"]);
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (code, &document["version"], &document["node"]),
            (WELL, &1.into(), &"n1".into())
        );
        assert!(!document[list].as_array().unwrap().is_empty());
        let route = mesh.agent("n1").get(&format!("/api/v1/{command}")).unwrap().1;
        let fields =
            |document: &Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(fields(&document), fields(&serde_json::from_str(&route).unwrap()));
    }
}

#[test]
fn what_is_down_is_told_by_words_and_by_the_exit_code() {
    let mut mesh = Mesh::of(4, &binary(), FAST);
    let dead = mesh.agent("n4").address;
    mesh.kill("n4");
    for node in ["n1", "n2", "n3"] {
        mesh.wait_for_verdict(node, "n4", "down");
    }
    let (code, peers, _) = run_in_pod(&mesh, "n1", &["peers"]);
    assert_eq!(code, SICK, "{peers}");
    let line = peers.lines().find(|line| line.starts_with("n4 ")).unwrap();
    assert!(line.contains(" down ") && line.contains(" refused "), "{peers}");
    let (code, cluster, _) = run_in_pod(&mesh, "n1", &["cluster"]);
    assert_eq!(code, SICK, "{cluster}");
    assert!(cluster.contains("no row of n4: refused\n"), "{cluster}");
    assert!(cluster.contains("n4 is down for 3 of 3 (refused)\n"), "{cluster}");
    assert_eq!(run_in_pod(&mesh, "n1", &["cluster", "--json"]).0, SICK);
    let (code, probe, error) =
        run(&["probe", &dead.to_string(), "--count", "2", "--interval", "100ms"]);
    assert_eq!((code, error.as_str()), (SICK, ""));
    let expected = format!(
        "{dead}: refused (connect), retransmits 0\n{dead}: refused (connect), retransmits 0\n\
         2 probes, 2 failed, 0 retransmits\n"
    );
    assert_eq!(probe, expected);
}

#[test]
fn a_probe_shows_the_phases_and_is_counted_by_nobody() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let target = mesh.agent("n2").address.to_string();
    let heard = || {
        let metrics = mesh.agent("n2").metrics();
        metrics.sum("wylis_incoming_requests_total", &["source_node=\"unknown\""])
    };
    let row = || mesh.agent("n1").row()["peers"].as_array().unwrap().len();
    let before = (heard(), row());
    let asked = || {
        let labels = ["route=\"/keepalive\"", "code=\"204\""];
        mesh.agent("n2").metrics().sum("wylis_gate_requests_total", &labels)
    };
    let asked_before = asked();
    let (code, text, error) = run(&["probe", &target, "--count=4", "--interval=100ms"]);
    assert_eq!((code, error.as_str()), (WELL, ""), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    for line in &lines[..4] {
        assert!(line.starts_with(&format!("n2 at {target}: connect ")), "{line}");
        for part in ["response ", "total ", "retransmits 0", "rtt ", "mtu 65535"] {
            assert!(line.contains(part), "{line}");
        }
    }
    assert!(lines[4].starts_with("4 probes, 0 failed, 0 retransmits; total least "), "{text}");
    assert!(asked() >= asked_before + 4.0, "they did come");
    assert_eq!((heard(), row()), before);
}

#[test]
fn whoever_cannot_find_out_says_so() {
    let nobody: SocketAddr = "127.99.1.1:9".parse().unwrap();
    let (code, out, error) = run(&["peers", "--agent", &nobody.to_string()]);
    assert_eq!((code, out.as_str()), (FAILED, ""));
    assert_eq!(error, "wylis: no /api/v1/peers from the agent at 127.99.1.1:9: refused\n");
    let (code, _, error) = run(&["cluster", "--agent", "nowhere.invalid:9050"]);
    assert_eq!(code, FAILED);
    assert!(error.starts_with("wylis: nowhere.invalid:9050 has no address: "), "{error}");
    // Something else than an agent.
    let listener = std::net::TcpListener::bind("127.99.1.2:0").unwrap();
    let other = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH\r\n");
        }
    });
    let (code, _, error) = run(&["peers", "--agent", &other]);
    assert_eq!(code, FAILED);
    assert!(error.ends_with(": bad_response\n"), "{error}");
    let (code, out, error) = run(&["probe", "--count", "x", "--colour"]);
    assert_eq!((code, out.as_str(), error.lines().count()), (USAGE, "", 3));
    assert!(error.lines().all(|line| line.starts_with("wylis: ")), "{error}");
    // It is the agent's own flag, and the agent's own word for it.
    assert_eq!(run(&["peer"]).0, USAGE);
}

#[test]
fn help_needs_nothing() {
    for command in ["peers", "cluster", "probe"] {
        let (code, out, error) = run(&[command, "--help", "--nonsense"]);
        assert_eq!((code, error.as_str()), (WELL, ""));
        assert!(out.starts_with(&format!("Usage: wylis {command} ")), "{out}");
    }
    assert!(run(&["--help"]).1.contains("wylis peers|cluster|probe"));
}

#[test]
fn ctrl_c_ends_an_endless_probe_with_its_summary() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let target = mesh.agent("n1").address.to_string();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut child = wylis(&["probe", &target, "--count=0", "--interval=100ms"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        for _ in 0..3 {
            line.clear();
            out.read_line(&mut line).unwrap();
            assert!(line.starts_with("n1 at "), "{line}");
        }
        wylis_harness::process::signal(child.id(), signal);
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        let last = rest.lines().last().unwrap();
        assert!(last.contains(" probes, 0 failed, ") && !last.starts_with("0 "), "{rest}");
        assert_eq!(end(child), WELL);
    }
}

#[test]
fn ctrl_c_ends_a_probe_whose_output_nobody_reads() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let target = mesh.agent("n1").address.to_string();
    let (child, reader) =
        wylis_harness::process::stuck_in_output(&mut wylis(&["probe", &target, "--count=0"]));
    wylis_harness::process::signal(child.id(), libc::SIGINT);
    assert_eq!(end(child), FAILED);
    drop(reader);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let target = mesh.agent("n1").address.to_string();
    let mut child = wylis(&["probe", &target, "--count=0", "--interval=100ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut error = child.stderr.take().unwrap();
    assert_eq!(end(child), WELL);
    let mut said = String::new();
    error.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_terminal_gets_colours_unless_they_are_not_wanted() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("no script(1): it makes a terminal");
    }
    let mesh = Mesh::of(2, &binary(), FAST);
    let listen = mesh.agent("n1").address.to_string();
    let shown = |no_color: &str| {
        let line = format!("{} peers", binary().display());
        let output = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("WYLIS_LISTEN", &listen)
            .env("NO_COLOR", no_color)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (code, text, _) = told(output);
        assert_eq!(code, WELL, "{text}");
        text
    };
    let mut coloured = String::new();
    wait_until(PATIENCE, "a terminal", || {
        coloured = shown("");
        !coloured.is_empty()
    });
    assert!(coloured.contains("\x1b[32mup"), "{coloured:?}");
    let plain = shown("1");
    assert!(plain.contains("up") && !plain.contains('\x1b'), "{plain:?}");
}
