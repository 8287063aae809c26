//! Agents whose log is not read, not writable, or flooded from outside.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use wylis_harness::fake_peers::FakePeers;
use wylis_harness::mesh::Net;
use wylis_harness::process::{Agent, Settings, full_pipe};
use wylis_harness::{TempDir, http, skip, wait_until};

use super::binary;

/// Longest wait for what must happen: a machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(20);
const DROPPED: &str = "wylis_log_lines_dropped_total";

/// Two agents that probe each other often. The log of `n1` goes elsewhere.
struct Pair {
    n1: Agent,
    n2: Agent,
    _dir: TempDir,
}

impl Pair {
    fn start(log: Stdio, more: &[(&str, &str)]) -> Self {
        let (dir, net) = (TempDir::new("log"), Net::new());
        let address = |last| SocketAddr::new(net.host(last), 9050);
        let settings = |node: &str, own, peer: &str, more: &[(&str, &str)]| {
            let address: SocketAddr = address(own);
            let own = address.to_string();
            let environment = [
                ("WYLIS_NODE_NAME", node),
                ("WYLIS_LISTEN", &own),
                ("WYLIS_PEERS", peer),
                ("WYLIS_INTERVAL", "200ms"),
                ("WYLIS_TIMEOUT", "2s"),
                ("WYLIS_DRAIN", "1s"),
            ];
            let environment = environment.iter().chain(more);
            Settings {
                binary: binary(),
                environment: environment.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                address,
                log: dir.path().join(node),
            }
        };
        let n2 = Agent::start(&settings("n2", 2, &format!("n1={}", address(1)), &[]));
        let n1 = settings("n1", 1, &format!("n2={}", address(2)), more);
        Self { n1: Agent::start_with_log(&n1, log), n2, _dir: dir }
    }

    /// Both agents' probes succeed, a few more times.
    fn assert_probing(&self) {
        for (agent, peer) in [(&self.n1, "n2"), (&self.n2, "n1")] {
            let successes = || agent.peer(peer)["successes"].as_u64().unwrap_or(0);
            let before = successes();
            wait_until(TIMEOUT, &format!("probes of {peer} succeed"), || successes() > before + 1);
        }
    }

    fn dropped(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        self.n1.metrics().get(DROPPED, &[&label]).unwrap_or(-1.0)
    }
}

/// The exit code of an agent that ends soon after its drain.
fn exit_code(agent: &mut Agent) -> Option<i32> {
    let status = agent.wait(TIMEOUT);
    status.expect("the process ends").code()
}

#[test]
fn an_agent_whose_log_is_not_read_probes_answers_drains_and_ends() {
    let (_unread, log) = full_pipe();
    let mut pair = Pair::start(log.into(), &[]);
    pair.assert_probing();
    for (path, status) in
        [("/keepalive", 204), ("/healthz", 200), ("/readyz", 200), ("/metrics", 200)]
    {
        assert_eq!(http::get(pair.n1.address, path).unwrap().status, status, "{path}");
    }
    let begun = Instant::now();
    pair.n1.terminate();
    wait_until(TIMEOUT, "the goodbye arrives", || pair.n2.peer("n1")["verdict"] == "draining");
    assert_eq!(exit_code(&mut pair.n1), Some(0));
    let took = begun.elapsed();
    println!("a stop with a stalled log and a drain of 1 s: {took:?}");
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert_eq!(pair.n2.metrics().sum("wylis_probe_failures_total", &[]), 0.0, "{}", pair.n2.log());
}

#[test]
fn each_way_to_end_ends_a_process_whose_log_is_not_read() {
    let (_unread, log) = full_pipe();
    let mut pair = Pair::start(log.into(), &[("WYLIS_DRAIN", "1m")]);
    pair.assert_probing();
    pair.n1.terminate();
    wait_until(TIMEOUT, "the drain begins", || {
        http::get(pair.n1.address, "/readyz").is_ok_and(|answer| answer.status == 503)
    });
    // Two signals close together merge into one.
    let mut status = None;
    wait_until(TIMEOUT, "a second signal ends it", || {
        pair.n1.terminate();
        status = pair.n1.wait(Duration::from_millis(300));
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(3));
    let (_unread, log) = full_pipe();
    let taken = pair.n2.address.to_string();
    let mut failing = Pair::start(log.into(), &[("WYLIS_LISTEN", &taken)]);
    assert_eq!(exit_code(&mut failing.n1), Some(1), "the port is in use");
}

#[test]
fn a_log_that_is_read_again_says_how_many_lines_it_lost() {
    /// Each is logged as joined, at debug level: three times what the queue holds.
    const PEERS: u32 = 2000;
    let peers: Vec<String> = (0..PEERS).map(|n| format!("peer-{n}=127.0.0.1:1")).collect();
    let (unread, log) = full_pipe();
    let pair = Pair::start(
        log.into(),
        &[("WYLIS_PEERS", &peers.join(",")), ("WYLIS_INTERVAL", "1h"), ("WYLIS_LOG", "debug")],
    );
    wait_until(TIMEOUT, "lines are dropped", || pair.dropped("queue_full") > 1400.0);
    assert_eq!(http::get(pair.n1.address, "/keepalive").unwrap().status, 204);
    let mut lines = BufReader::new(unread).lines().map(Result::unwrap);
    let line = lines.find(|line| line.contains("log lines were dropped")).unwrap();
    let lost = pair.dropped("queue_full");
    assert!(line.contains(&format!("] {lost} log lines were dropped: standard error")), "{line}");
    assert_eq!(pair.dropped("write_failed") + pair.dropped("repeated"), 0.0);
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing_and_is_counted() {
    let full_disk = File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = io::pipe().unwrap();
    drop(reader);
    for (log, name) in [(Stdio::from(full_disk), "a full disk"), (closed.into(), "a closed pipe")] {
        let mut pair = Pair::start(log, &[]);
        pair.assert_probing();
        assert!(pair.dropped("write_failed") >= 1.0, "{name}");
        assert_eq!(pair.dropped("queue_full"), 0.0, "{name}");
        pair.n1.terminate();
        assert_eq!(exit_code(&mut pair.n1), Some(0), "{name}");
    }
}

#[test]
fn peers_that_stop_and_stay_in_turns_write_a_bounded_number_of_lines() {
    const PEERS: u16 = 300;
    /// Places in the code that log a peer that comes and goes.
    const PLACES: u64 = 3;
    /// Lines that start and stop write.
    const OTHERS: u64 = 20;
    let start = Instant::now();
    let fake_peers = FakePeers::start(PEERS, 99);
    let port = fake_peers.port;
    let peers: Vec<String> =
        fake_peers.nodes().iter().map(|(node, ip)| format!("{node}={ip}:{port}")).collect();
    let (reader, log) = io::pipe().unwrap();
    let lines = std::thread::spawn(move || {
        BufReader::new(reader).lines().map_while(Result::ok).collect::<Vec<String>>()
    });
    let more = [
        ("WYLIS_PEERS", peers.join(",")),
        ("WYLIS_INTERVAL", "500ms".to_owned()),
        ("WYLIS_REFRESH_INTERVAL", "1s".to_owned()),
    ];
    let more: Vec<(&str, &str)> =
        more.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut pair = Pair::start(log.into(), &more);
    let up =
        || pair.n1.metrics().matching("wylis_peer_up", &[]).filter(|(_, up)| *up > 0.0).count();
    wait_until(TIMEOUT, "all peers are up", || up() == usize::from(PEERS));
    fake_peers.be_fickle();
    // More than what started with them.
    wait_until(TIMEOUT, "lines are summed up", || pair.dropped("repeated") > f64::from(PEERS));
    let repeated = pair.dropped("repeated");
    pair.n1.terminate();
    assert_eq!(exit_code(&mut pair.n1), Some(0));
    let lines = lines.join().unwrap();
    println!("{} lines, {repeated} repeats", lines.len());
    assert!(lines.iter().any(|line| line.contains("is draining, was")), "no goodbye was believed");
    // 256 in a row, then 10 a minute.
    let limit = PLACES * (256 + start.elapsed().as_secs() / 6) + OTHERS;
    assert!(lines.len() as u64 <= limit, "{} lines, {repeated} repeats", lines.len());
}

#[test]
fn last_words_need_no_thread() {
    // RLIMIT_NPROC counts the threads of a user, who owns this process alone.
    let user = (100_000 + std::process::id()).to_string();
    let listen = SocketAddr::new(Net::new().host(1), 9050).to_string();
    let run = |log: Stdio| {
        let mut command = std::process::Command::new("setpriv");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["--reuid", &user, "--clear-groups", "prlimit", "--nproc=1:1"]);
        command.arg(binary()).args(["--node-name", "x", "--peers", "y=127.0.0.1:1"]);
        command.args(["--listen", &listen]).stderr(log).spawn().unwrap()
    };
    let mut check = std::process::Command::new("setpriv");
    if !check.args(["--reuid", &user, "true"]).output().is_ok_and(|output| output.status.success())
    {
        return skip("a thread limit needs another user, which needs root");
    }
    let output = run(Stdio::piped()).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("ERROR wylis"), "{text}");
    let (_unread, log) = full_pipe();
    let mut child = run(log.into());
    let mut status = None;
    wait_until(TIMEOUT, "the process ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(1));
}

const CHILD: &str = "WYLIS_PANICKING_CHILD";

/// The main function of a process in which a thread panics; not a test.
#[test]
fn panicking_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    wylis::logger::start("info");
    let logs = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        logs(panic);
        // As in the release.
        std::process::abort();
    }));
    let thread = std::thread::Builder::new().name("worker".to_owned());
    drop(thread.spawn(|| panic!("the reason")).unwrap().join());
}

#[test]
fn a_panic_is_logged_where_the_log_is_read_and_ends_the_process_in_any_case() {
    let run = |log: Stdio| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "log::panicking_child"]).env(CHILD, "").stdout(Stdio::null());
        command.stderr(log).spawn().unwrap()
    };
    let output = run(Stdio::piped()).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    for part in
        ["ERROR wylis::logger] thread \"worker\" failed: panicked at ", "\n    the reason\n"]
    {
        assert!(text.contains(part), "{text}");
    }
    let (_unread, log) = full_pipe();
    let mut child = run(log.into());
    wait_until(TIMEOUT, "the process ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGABRT));
}
