//! What an agent remembers survives a restart of its container; a file that cannot be used or written costs a line of
//! the log.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use wylis::history::{CellTime, MAX_HISTORY, Recollection, Span, decode, encode};
use wylis::name::NodeName;
use wylis::state::Moment;
use wylis_harness::mesh::{Mesh, Net, PORT};
use wylis_harness::process::{Agent, Settings};
use wylis_harness::{TempDir, skip, wait_until};

use super::threads::group;
use super::{FAST, binary};

const PATIENCE: Duration = Duration::from_secs(30);

fn name(node: &str) -> NodeName {
    NodeName::new(node).unwrap()
}

/// What the file in this directory holds; `None` if an agent would not use it.
fn saved(state: &Path, node: &str) -> Option<Recollection> {
    let file = std::fs::read(state.join("history")).ok()?;
    decode(&name(node), &file, Moment::now()).ok()
}

/// All probes of a peer that are remembered.
fn probes(of: &Recollection, peer: &str) -> u32 {
    let path = of.path(&name(peer)).unwrap();
    let cells = of.spans.iter().filter_map(|span| span.cell(path).summary());
    cells.map(|summary| summary.probes).sum()
}

/// An agent that has one peer, which does not exist, on the node `me`, with this state directory.
struct Alone {
    agent: Agent,
    state: PathBuf,
}

impl Alone {
    fn start(program: &Path, state: &Path, address: SocketAddr) -> Self {
        let pairs = [
            ("WYLIS_NODE_NAME", "me".to_owned()),
            ("WYLIS_LISTEN", address.to_string()),
            ("WYLIS_PEERS", "none=127.0.0.1:1".to_owned()),
            ("WYLIS_INTERVAL", "1s".to_owned()),
            ("WYLIS_DRAIN", "0s".to_owned()),
            ("WYLIS_STATE_DIR", state.display().to_string()),
        ];
        let agent = Agent::start(&Settings {
            binary: program.to_owned(),
            environment: pairs.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            address,
            log: state.with_extension("log"),
        });
        Self { agent, state: state.to_owned() }
    }

    fn stop(&mut self) {
        self.agent.terminate();
        let status = self.agent.wait(PATIENCE);
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", self.agent.log());
    }

    /// The lines of the log about the history.
    fn lines(&self) -> Vec<String> {
        let log = self.agent.log();
        log.lines().filter(|line| line.contains("history: ")).map(str::to_owned).collect()
    }
}

#[test]
fn a_stop_saves_all_and_a_kill_loses_no_more_than_since_the_last_save() {
    let mut mesh = Mesh::new(&binary(), FAST);
    let state = mesh.dir().join("state");
    std::fs::create_dir(&state).unwrap();
    let environment = [("WYLIS_STATE_DIR", state.to_str().unwrap())];
    mesh.add("n2");
    mesh.add_with("n1", &environment);
    mesh.wait_for_all_pairs();
    mesh.kill("n2");
    mesh.wait_for_verdict("n1", "n2", "down");
    // The kubelet restarts the container: the pod stays.
    mesh.agent("n1").terminate();
    let status = mesh.agent_mut("n1").wait(PATIENCE).unwrap();
    assert!(status.success(), "{}", mesh.logs());
    let first = saved(&state, "n1").unwrap();
    assert!(probes(&first, "n2") >= 4, "{first:?}");
    assert!(first.changes.iter().any(|change| change.verdict.as_str() == "down"), "{first:?}");
    let pod = mesh.nodes["n1"].pod.clone();
    mesh.restart_in_place_with("n1", &pod, &environment);
    wait_until(PATIENCE, "the file is read", || {
        mesh.agent("n1").log().contains("reaches back 0 min")
    });
    mesh.wait_for_verdict("n1", "n2", "down");
    let pod = mesh.kill("n1");
    let second = saved(&state, "n1").unwrap();
    assert!(probes(&second, "n2") >= probes(&first, "n2"), "{first:?}\n{second:?}");
    mesh.restart_in_place_with("n1", &pod, &environment);
    mesh.wait_for_verdict("n1", "n2", "down");
    mesh.agent("n1").terminate();
    assert!(mesh.agent_mut("n1").wait(PATIENCE).unwrap().success(), "{}", mesh.logs());
    let third = saved(&state, "n1").unwrap();
    assert!(probes(&third, "n2") > probes(&second, "n2"), "{second:?}\n{third:?}");
    assert_eq!(third.since(), first.since());
    assert_eq!(third.changes.first(), first.changes.first());
    assert_eq!(mesh.logs().matches("is not used").count(), 0, "{}", mesh.logs());
}

/// A file of this node with one cell, written now and so much later.
fn file_of(node: &str, ahead: Duration) -> Vec<u8> {
    let wall = SystemTime::now() + ahead;
    let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let time = CellTime { from: now - 300, seconds: 300, is_repeated: false };
    let recollection = Recollection {
        taken: Moment { wall, ..Moment::now() },
        names: vec![Some(name("none"))].into(),
        spans: vec![Span { time, cells: [].into_iter().collect() }],
        changes: Vec::new(),
    };
    let mut file = Vec::new();
    encode(&name(node), &recollection, &mut file).unwrap();
    file
}

#[test]
fn a_file_that_is_not_for_this_agent_costs_one_line_and_is_replaced() {
    let (dir, net) = (TempDir::new("history"), Net::new());
    let good = file_of("me", Duration::ZERO);
    let mut version = good.clone();
    version["wylis history".len()] = 2;
    let cases = [
        ("damaged", good[..good.len() - 1].to_vec()),
        ("damaged", Vec::new()),
        ("version 2, expected 1", version),
        ("written by node \"other\"", file_of("other", Duration::ZERO)),
        ("s in the future", file_of("me", Duration::from_secs(7200))),
        ("is longer than", vec![0; MAX_HISTORY + 1]),
    ];
    let mut agents = Vec::new();
    for (number, (why, file)) in (1..).zip(cases) {
        let state = dir.path().join(format!("state-{number}"));
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("history"), file).unwrap();
        let address = SocketAddr::new(net.host(number), PORT);
        agents.push((why, Alone::start(&binary(), &state, address)));
    }
    for (why, alone) in &mut agents {
        let state = alone.state.clone();
        wait_until(PATIENCE, why, || saved(&state, "me").is_some());
        alone.stop();
        let lines = alone.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("WARN") && lines[0].contains("is not used"), "{lines:?}");
        assert!(lines[0].contains(*why), "{why}: {lines:?}");
    }
}

#[test]
fn a_full_disk_costs_one_line_and_no_probe_until_there_is_room() {
    let unshare = Command::new("unshare").args(["-m", "true"]).status();
    if !unshare.is_ok_and(|status| status.success()) {
        return skip("needs root, for a small disk of its own");
    }
    let (dir, net) = (TempDir::new("history"), Net::new());
    let start = |number: u8| {
        let state = dir.path().join(format!("state-{number}"));
        std::fs::create_dir(&state).unwrap();
        let (disk, program) = (state.display(), binary().display().to_string());
        let script = dir.path().join(format!("start-{number}"));
        let text = format!(
            "#!/bin/sh\nexec unshare -m sh -c 'mount -t tmpfs -o size=64k none {disk}; \
             head -c 1m /dev/zero > {disk}/filler; exec {program}'\n"
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        Alone::start(&script, &state, SocketAddr::new(net.host(number), PORT))
    };
    let mut agents = [(start(1), false), (start(2), true)];
    for (alone, has_room) in &mut agents {
        wait_until(PATIENCE, "the failure is logged", || !alone.lines().is_empty());
        let made = || alone.agent.metrics().sum("wylis_probes_total", &[]);
        wait_until(PATIENCE, "probes go on", || made() >= 3.0);
        let lines = alone.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("WARN") && lines[0].contains("No space left"), "{lines:?}");
        // As the agent sees it.
        let inside =
            PathBuf::from(format!("/proc/{}/root{}", alone.agent.pid(), alone.state.display()));
        assert!(!inside.join("history").exists() && !inside.join(".history.new").exists());
        if *has_room {
            std::fs::remove_file(inside.join("filler")).unwrap();
        }
        // The stop saves again.
        alone.stop();
        let lines = alone.lines();
        assert_eq!(lines.len(), 1 + usize::from(*has_room), "{lines:?}");
        assert!(!*has_room || lines[1].contains("INFO") && lines[1].contains("works again"));
    }
}

#[test]
fn a_thread_that_is_refused_costs_a_save_and_a_line() {
    let Some(group) = group() else { return };
    let (dir, net) = (TempDir::new("history"), Net::new());
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let mut alone = Alone::start(&binary(), &state, SocketAddr::new(net.host(1), PORT));
    group.add(alone.agent.pid());
    wait_until(PATIENCE, "the first save", || saved(&state, "me").is_some());
    let first = std::fs::read(state.join("history")).unwrap();
    group.limit(1);
    alone.stop();
    let lines = alone.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("temporarily unavailable"), "{lines:?}");
    assert_eq!(std::fs::read(state.join("history")).unwrap(), first);
}
