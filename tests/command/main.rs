//! The commands against a mesh of real agents: output, exit codes, and that no counter of a pair moves.
#![cfg(test)]

mod history;
mod survey;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wylis_harness::mesh::Mesh;
use wylis_harness::{skip, wait_until};

const FAST: &[(&str, &str)] = &[
    ("WYLIS_INTERVAL", "1s"),
    ("WYLIS_TIMEOUT", "2s"),
    ("WYLIS_REFRESH_INTERVAL", "2s"),
    ("WYLIS_DRAIN", "1s"),
];
const PATIENCE: Duration = Duration::from_secs(60);
/// The exit codes of docs/commands.md.
const HEALTHY: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const UNHEALTHY: Option<i32> = Some(4);

fn binary() -> PathBuf {
    wylis_harness::process::binary(env!("CARGO_BIN_EXE_wylis"))
}

/// The program with these arguments, in an empty environment.
fn wylis(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    decode(wylis(arguments).output().unwrap())
}

fn decode(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// As `kubectl exec` would: with the environment of the pod.
fn run_in_pod(mesh: &Mesh, node: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let listen = mesh.agent(node).address.to_string();
    decode(wylis(arguments).env("WYLIS_LISTEN", listen).output().unwrap())
}

fn end(mut child: Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the process does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_healthy_mesh_is_rendered_with_exit_code_0() {
    let mesh = Mesh::of(3, &binary(), FAST);
    let (code, peers, error) = run_in_pod(&mesh, "n1", &["peers"]);
    assert_eq!((code, error.as_str()), (HEALTHY, ""), "{peers}");
    let lines: Vec<&str> = peers.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "n1: 2 peers, 2 up"));
    assert!(lines[1].starts_with("NODE") && lines[2].starts_with("n2    up "), "{peers}");
    assert!(lines[2].contains(" ms ") && lines[2].ends_with(" s ago"), "{peers}");
    let (code, cluster, error) = run_in_pod(&mesh, "n1", &["cluster"]);
    assert_eq!((code, error.as_str()), (HEALTHY, ""), "{cluster}");
    assert!(cluster.starts_with("3 nodes as n1 sees them, rows read in "), "{cluster}");
    assert!(cluster.contains(": 6 pairs, 6 up\n"), "{cluster}");
    // From outside the pod, by address.
    let agent = format!("--agent={}", mesh.agent("n2").address);
    assert!(run(&["peers", &agent]).1.starts_with("n2: 2 peers"));
    assert!(run(&["cluster", "--agent", &agent[8..]]).1.contains(" as n2 sees them"));
    for text in [peers, cluster] {
        assert!(!text.contains('\x1b'), "no colour in a pipe: {text}");
    }
}

#[test]
fn json_prints_the_document_of_the_agent() {
    let mesh = Mesh::of(2, &binary(), FAST);
    for (command, list) in [("peers", "peers"), ("cluster", "rows")] {
        let (code, text, _) = run_in_pod(&mesh, "n1", &[command, "--json"]);
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (code, &document["version"], &document["node"]),
            (HEALTHY, &1.into(), &"n1".into())
        );
        assert!(!document[list].as_array().unwrap().is_empty());
        let route = mesh.agent("n1").get(&format!("/api/v1/{command}")).unwrap().1;
        let fields =
            |document: &Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(fields(&document), fields(&serde_json::from_str(&route).unwrap()));
    }
}

#[test]
fn a_peer_that_is_down_is_listed_and_sets_the_exit_code() {
    let mut mesh = Mesh::of(4, &binary(), FAST);
    let dead = mesh.agent("n4").address;
    mesh.kill("n4");
    for node in ["n1", "n2", "n3"] {
        mesh.wait_for_verdict(node, "n4", "down");
    }
    let (code, peers, _) = run_in_pod(&mesh, "n1", &["peers"]);
    assert_eq!(code, UNHEALTHY, "{peers}");
    let line = peers.lines().find(|line| line.starts_with("n4 ")).unwrap();
    assert!(line.contains(" down ") && line.contains(" refused "), "{peers}");
    let (code, cluster, _) = run_in_pod(&mesh, "n1", &["cluster"]);
    assert_eq!(code, UNHEALTHY, "{cluster}");
    // The findings of the agent, word for word.
    let (_, document, _) = run_in_pod(&mesh, "n1", &["cluster", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let findings = document["findings"].as_array().unwrap();
    assert!(!findings.is_empty(), "{document}");
    for finding in findings {
        let line = format!("\n{}\n", finding["text"].as_str().unwrap());
        assert!(cluster.contains(&line), "{line} in {cluster}");
    }
    assert_eq!(run_in_pod(&mesh, "n1", &["cluster", "--json"]).0, UNHEALTHY);
    let (code, probe, error) =
        run(&["probe", &dead.to_string(), "--count", "2", "--interval", "100ms"]);
    assert_eq!((code, error.as_str()), (UNHEALTHY, ""));
    let expected = format!(
        "{dead}: refused (connect), retransmits 0\n{dead}: refused (connect), retransmits 0\n\
         2 probes, 2 failed, 0 retransmits\n"
    );
    assert_eq!(probe, expected);
}

#[test]
fn a_probe_prints_its_phases_and_changes_no_counter_of_a_pair() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let target = mesh.agent("n2").address.to_string();
    let unknown_sources = || {
        let metrics = mesh.agent("n2").metrics();
        metrics.sum("wylis_incoming_requests_total", &["source_node=\"unknown\""])
    };
    let row = || mesh.agent("n1").peers()["peers"].as_array().unwrap().len();
    let before = (unknown_sources(), row());
    let keepalives = || {
        let labels = ["route=\"/keepalive\"", "code=\"204\""];
        mesh.agent("n2").metrics().sum("wylis_gate_requests_total", &labels)
    };
    let keepalives_before = keepalives();
    let (code, text, error) = run(&["probe", &target, "--count=4", "--interval=100ms"]);
    assert_eq!((code, error.as_str()), (HEALTHY, ""), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    for line in &lines[..4] {
        assert!(line.starts_with(&format!("n2 at {target}: connect ")), "{line}");
        for part in ["response ", "total ", "retransmits 0", "rtt ", "mtu 65535"] {
            assert!(line.contains(part), "{line}");
        }
        let [connect, response, total] = ["connect ", "response ", "total "].map(|name| {
            let (number, rest) = line.split_once(name).unwrap().1.split_once(' ').unwrap();
            let unit = if rest.starts_with("ms") { 1.0 } else { 1000.0 };
            number.parse::<f64>().unwrap() * unit
        });
        // Each figure is cut to its last digit: 0.01 ms below 10 ms, 0.1 ms above.
        let rounding = if total < 10.0 { 0.021 } else { 0.21 };
        assert!((connect + response - total).abs() < rounding, "{line}");
    }
    assert!(lines[4].starts_with("4 probes, 0 failed, 0 retransmits; total min "), "{text}");
    assert!(keepalives() >= keepalives_before + 4.0, "the probes arrived");
    assert_eq!((unknown_sources(), row()), before);
}

#[test]
fn a_probe_finds_the_largest_packets_and_changes_no_counter_of_a_pair() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let target = mesh.agent("n2").address.to_string();
    let labels = &["source_node=\"unknown\""];
    let unknown_sources =
        || mesh.agent("n2").metrics().sum("wylis_incoming_requests_total", labels);
    // An agent that starts may be probed before it has a list.
    let before = unknown_sources();
    let (code, text, error) = run(&["probe", "--mtu", &target]);
    assert_eq!((code, error.as_str()), (HEALTHY, ""), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with(&format!("n2 at {target}: connect ")), "{text}");
    // Of the loopback: an agent's window has room for two segments of 2 KiB, its longest message for one has 9 KiB.
    let expected = [("to", "2,100"), ("from", "9,268")]
        .map(|(way, bytes)| format!("largest packet {way} it: at least {bytes} bytes"));
    assert_eq!(lines[1..], expected, "{text}");
    assert_eq!(unknown_sources(), before);
    let (code, text, error) = run(&["probe", "--mtu", "127.99.1.4:9"]);
    assert_eq!((code, error.as_str()), (UNHEALTHY, ""), "{text}");
    assert_eq!(text, "127.99.1.4:9: refused (connect), retransmits 0\n");
}

#[test]
fn a_probe_tries_many_flows_of_a_path() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let target = mesh.agent("n2").address.to_string();
    let (code, text, error) = run(&["probe", "--flows=64", &target]);
    assert_eq!((code, error.as_str()), (HEALTHY, ""), "{text}");
    assert!(text.ends_with("\n64 flows: all get through\n"), "{text}");
    let (code, text, _) = run(&["probe", "--flows", "16", "--json", &target]);
    let document: Value = serde_json::from_str(&text).unwrap();
    let expected = json!({"tried": 16, "errors": 0, "failed": 0, "dead_ports": []});
    assert_eq!((code, &document["flows"]), (HEALTHY, &expected));
}

#[test]
fn json_prints_the_sums_of_probes_as_one_document() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let target = mesh.agent("n2").address.to_string();
    let (code, text, error) = run(&["probe", &target, "--json", "--count=3", "--interval=100ms"]);
    assert_eq!((code, error.as_str()), (HEALTHY, ""), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["address"], &document["node"]), (&target.into(), &"n2".into()));
    assert_eq!((&document["version"], &document["probes"]), (&1.into(), &3.into()));
    let seconds = |name: &str| document[name].as_f64().unwrap();
    assert!(0.0 < seconds("min_seconds") && seconds("mean_seconds") <= seconds("max_seconds"));
    let (code, text, _) = run(&["probe", "127.99.1.3:9", "--json", "--mtu"]);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &document["failed"]), (UNHEALTHY, &1.into()));
    assert_eq!((&document["node"], &document["min_seconds"]), (&Value::Null, &Value::Null));
    assert!(document.get("mtu").is_none(), "{document}");
}

#[test]
fn a_command_without_an_answer_fails_with_the_reason() {
    let unused: SocketAddr = "127.99.1.1:9".parse().unwrap();
    let (code, out, error) = run(&["peers", "--agent", &unused.to_string()]);
    assert_eq!((code, out.as_str()), (FAILED, ""));
    assert_eq!(
        error,
        "wylis: no agent answers at 127.99.1.1:9 (refused): name one with --agent HOST:PORT, or set WYLIS_LISTEN as \
         the agent has it\n"
    );
    let (code, _, error) = run(&["cluster", "--agent", "nowhere.invalid:9050"]);
    assert_eq!(code, FAILED);
    assert!(error.starts_with("wylis: resolve nowhere.invalid: "), "{error}");
    // A server that is not an agent.
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
}

#[test]
fn a_mistyped_command_is_the_only_error() {
    let (code, out, error) = run(&["cluser", "--agent", "127.0.0.1:9050"]);
    assert_eq!((code, out.as_str()), (USAGE, ""));
    assert_eq!(
        error,
        "wylis: cluser: unknown command; the commands are peers, cluster, history, probe, survey; see wylis --help\n"
    );
}

#[test]
fn help_needs_no_settings() {
    for command in ["peers", "cluster", "history", "probe", "survey"] {
        let (code, out, error) = run(&[command, "--help", "--nonsense"]);
        assert_eq!((code, error.as_str()), (HEALTHY, ""));
        assert!(out.starts_with(&format!("Usage: wylis {command} ")), "{out}");
        let usage = out.lines().next().unwrap();
        assert_eq!(usage.contains("[--agent HOST:PORT]"), command != "probe", "{usage}");
    }
    assert!(run(&["--help"]).1.contains("wylis peers|cluster|history|probe|survey"));
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
        assert_eq!(end(child), HEALTHY);
    }
}

#[test]
fn ctrl_c_ends_a_probe_whose_output_is_blocked() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let target = mesh.agent("n1").address.to_string();
    let (child, reader) =
        wylis_harness::process::stuck_in_output(&mut wylis(&["probe", &target, "--count=0"]));
    wylis_harness::process::signal(child.id(), libc::SIGINT);
    assert_eq!(end(child), FAILED);
    drop(reader);
}

#[test]
fn a_closed_output_ends_a_command_without_an_error() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let target = mesh.agent("n1").address.to_string();
    let mut child = wylis(&["probe", &target, "--count=0", "--interval=100ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut error = child.stderr.take().unwrap();
    assert_eq!(end(child), HEALTHY);
    let mut text = String::new();
    error.read_to_string(&mut text).unwrap();
    assert_eq!(text, "");
}

#[test]
fn a_terminal_gets_colours_unless_no_color_is_set() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("script(1), which makes a terminal, is not installed");
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
        let (code, text, _) = decode(output);
        assert_eq!(code, HEALTHY, "{text}");
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

/// Answers every request with this document, as the agent of the node `liar`.
fn serve(document: String) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream?;
            let mut line = String::new();
            let mut input = BufReader::new(stream.try_clone()?);
            while input.read_line(&mut line)? > 2 {
                line.clear();
            }
            let length = document.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nWylis-Node: liar\r\nContent-Length: {length}\r\n\r\n"
            )?;
            stream.write_all(document.as_bytes())?;
        }
        std::io::Result::Ok(())
    });
    address
}

#[test]
fn a_hostile_document_does_not_fill_the_memory_of_the_pod() {
    // The longest document has 12 MiB.
    let filled = |begin: &str, piece: &str, end: &str| {
        let times = (12_500_000 - begin.len()) / piece.len();
        format!("{{\"version\":1,\"node\":\"liar\",\"at\":1,{begin}{}{end}}}", piece.repeat(times))
    };
    let nulls = format!("{{\"node\":\"a\",\"at\":1,\"cells\":[{}null]}},", "null,".repeat(10_000));
    let peer = "{\"node\":\"a\",\"verdict\":\"up\",\"recent\":[]},";
    let result = "{\"source\":\"a\",\"target\":\"b\",\"at\":1,\"outgoing\":{\"result\":\"unproven\"},\
        \"incoming\":{\"result\":\"unproven\"}},";
    let finding = "{\"from\":1,\"to\":2,\"kind\":\"pair\",\"nodes\":[],\"text\":\"\"},";
    let missing = "{\"node\":\"a\",\"error\":\"busy\"},";
    for (command, document) in [
        ("history", filled("\"findings\":[", finding, "0]")),
        ("history", filled("\"missing\":[", missing, "0]")),
        ("history", filled("\"times\":[", "[1,1,1,1,1,1,1,0],", "0]")),
        ("cluster", filled("\"nodes\":[", "\"\",", "\"\"]")),
        ("cluster", filled("\"rows\":[", &nulls, "0]")),
        ("cluster", filled("\"cells\":[", "null,", "null]")),
        ("peers", filled("\"peers\":[", peer, "0]")),
        ("peers", filled("\"peers\":[{\"recent\":[", "{\"retransmits\":0},", "0]}]")),
        ("survey", filled("\"survey\":{\"results\":[", result, "0]}")),
        ("survey", filled("\"survey\":{\"gaps_seconds\":[", "1,", "1]}")),
    ] {
        let address = serve(document).to_string();
        // Memory without the program's own pages, in KiB: the agent needs some of the pod's 32 MiB.
        let script = "ulimit -d 20480 && exec \"$0\" \"$@\"";
        let mut limited = Command::new("sh");
        limited.env_clear().stdin(Stdio::null()).args(["-c", script]).arg(binary());
        let output = limited.args([command, "--agent", &address]).output().unwrap();
        let (code, _, error) = decode(output);
        assert_eq!(code, FAILED, "{command}: {error}");
        assert!(error.contains("malformed"), "{command}: {error}");
    }
}
