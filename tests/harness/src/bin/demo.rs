//! `make demo`: a live matrix of real agents on loopback addresses, while one agent is killed, one frozen,
//! and one restarted gracefully.
//!
//! The agents run as in a cluster, with a fake API server in this process. The demo runs until Ctrl-C, or
//! for `DEMO_SECONDS`; `WYLIS_BINARY` names the agent. On a terminal, the matrix is redrawn in place, and
//! coloured unless `NO_COLOR` is set (<https://no-color.org>).

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use wylis_harness::mesh::Mesh;

/// The nodes of the demo.
const NODES: [&str; 6] = ["berlin", "lagos", "lima", "osaka", "oslo", "quito"];
const KILLED: &str = "lagos";
const FROZEN: &str = "lima";
const ROLLED: &str = "osaka";
/// A frame of the live matrix.
const FRAME: Duration = Duration::from_millis(500);
/// A frame in a pipe or a log.
const PLAIN_FRAME: Duration = Duration::from_secs(4);
/// A frozen agent must not delay a frame.
const ROW_WITHIN: Duration = Duration::from_millis(200);
/// How long the first picture waits for the first probes of all agents.
const PROBED_WITHIN: Duration = Duration::from_secs(10);
/// Faster than the defaults, for a short demo.
const SETTINGS: [(&str, &str); 5] = [
    ("WYLIS_INTERVAL", "1s"),
    ("WYLIS_TIMEOUT", "2s"),
    ("WYLIS_REFRESH_INTERVAL", "5s"),
    ("WYLIS_DRAIN", "3s"),
    ("WYLIS_LOG", "warn"),
];

/// An action, its explanation, and its time on screen.
struct Scene {
    seconds: u64,
    text: &'static str,
    act: fn(&mut Demo),
}

const SCENES: &[Scene] = &[
    Scene {
        seconds: 8,
        text: "All agents run. A cell is the latency of the column's agent as the row's agent measures it.",
        act: |_| {},
    },
    Scene {
        seconds: 9,
        text: "lagos was killed without a word: its host still answers, with a reset (refused).",
        act: |demo| demo.dead_pod = Some(demo.mesh.kill(KILLED)),
    },
    Scene {
        seconds: 10,
        text: "lima is frozen: its kernel accepts, the agent does not answer (response_timeout).",
        act: |demo| demo.mesh.agent(FROZEN).signal(libc::SIGSTOP),
    },
    Scene {
        seconds: 10,
        text: "lagos is scheduled again and lima thawed: all cells recover by themselves.",
        act: Demo::bring_back,
    },
    Scene {
        seconds: 12,
        text: "osaka is rolled over: it says goodbye, drains, and comes back as another pod, without a failure.",
        act: |demo| {
            demo.mesh.begin_delete(ROLLED);
            demo.rolling = true;
        },
    },
];

struct Demo {
    mesh: Mesh,
    /// Where the agents can be looked at.
    place: String,
    stop: Arc<AtomicBool>,
    end: Option<Instant>,
    live: bool,
    coloured: bool,
    dead_pod: Option<String>,
    rolling: bool,
}

fn main() -> ExitCode {
    let Some(binary) = std::env::var_os("WYLIS_BINARY").map(PathBuf::from) else {
        eprintln!("demo: set WYLIS_BINARY to the agent's program, or run `make demo`");
        return ExitCode::from(2);
    };
    let seconds = std::env::var("DEMO_SECONDS").ok();
    let seconds = match seconds.as_deref().map(str::parse) {
        None => None,
        Some(Ok(seconds)) => Some(Duration::from_secs(seconds)),
        Some(Err(error)) => {
            eprintln!("demo: DEMO_SECONDS must be whole seconds: {error}");
            return ExitCode::from(2);
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = Arc::clone(&stop);
    ctrlc::set_handler(move || stopper.store(true, Ordering::Relaxed)).expect("handle Ctrl-C");
    let live = std::io::stdout().is_terminal();
    let coloured = live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut mesh = Mesh::new(&binary, &SETTINGS);
    for node in NODES {
        mesh.add(node);
    }
    let place = place(&mesh, &binary);
    let mut demo = Demo {
        mesh,
        place,
        stop,
        end: seconds.map(|seconds| Instant::now() + seconds),
        live,
        coloured,
        dead_pod: None,
        rolling: false,
    };
    demo.wait_for_probes();
    if !live {
        say(&format!("{}\n{}", demo.place, legend()));
    }
    for scene in SCENES.iter().cycle() {
        (scene.act)(&mut demo);
        if !demo.show(scene) {
            break;
        }
    }
    drop(demo);
    say("\nThe demo is over; no agent is left running.\n");
    ExitCode::SUCCESS
}

impl Demo {
    fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.end.is_some_and(|end| end <= Instant::now())
    }

    /// Waits until every agent has probed all others, or long enough.
    fn wait_for_probes(&self) {
        let until = Instant::now() + PROBED_WITHIN;
        let has_probed_all = |source: &&str| {
            let row = self.row(source);
            let peers = row["peers"].as_array().into_iter().flatten();
            peers.filter(|peer| peer["successes"].as_u64() > Some(0)).count() + 1 == NODES.len()
        };
        while Instant::now() < until && !self.over() && !NODES.iter().all(has_probed_all) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Shows a scene for its time; `false` when the demo is over.
    fn show(&mut self, scene: &Scene) -> bool {
        let until = Instant::now() + Duration::from_secs(scene.seconds);
        while Instant::now() < until {
            self.frame(scene.text);
            let pause = if self.live { FRAME } else { PLAIN_FRAME };
            let next = until.min(Instant::now() + pause);
            while Instant::now() < next {
                if self.over() {
                    return false;
                }
                self.continue_rolling();
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        // The scene's result shows at its end.
        self.frame(scene.text);
        !self.over()
    }

    /// Starts the replacement once the old pod has ended, as a DaemonSet does.
    fn continue_rolling(&mut self) {
        if self.rolling && self.mesh.finish_delete(ROLLED, Duration::ZERO).is_some() {
            self.mesh.add(ROLLED);
            self.rolling = false;
        }
    }

    fn bring_back(&mut self) {
        if let Some(pod) = self.dead_pod.take() {
            self.mesh.pods.remove(&pod);
        }
        self.mesh.add(KILLED);
        self.mesh.agent(FROZEN).signal(libc::SIGCONT);
    }

    fn frame(&self, text: &str) {
        let mut picture = String::new();
        if self.live {
            // Cursor home, and clear the screen below.
            picture.push_str("\x1b[H\x1b[J");
            picture.push_str(&self.place);
        }
        picture.push_str(&format!("\n{text}\n\n{:>13}", "from \\ to"));
        for target in NODES {
            picture.push_str(&format!("{target:>13}"));
        }
        picture.push('\n');
        let rows: Vec<Value> = NODES.iter().map(|source| self.row(source)).collect();
        for (source, row) in NODES.iter().zip(&rows) {
            picture.push_str(&format!("{source:>13}"));
            for target in NODES {
                let (cell, colour) = cell(source, target, row);
                if self.coloured {
                    picture.push_str(&format!("\x1b[{colour}m{cell:>13}\x1b[0m"));
                } else {
                    picture.push_str(&format!("{cell:>13}"));
                }
            }
            picture.push('\n');
        }
        picture.push_str(&format!("{:>13}", "failed"));
        for target in NODES {
            let failed: u64 = rows.iter().map(|row| failures(row, target)).sum();
            picture.push_str(&format!("{failed:>13}"));
        }
        picture.push('\n');
        if self.live {
            picture.push_str(&format!("\n{}", legend()));
        }
        say(&picture);
    }

    fn row(&self, source: &str) -> Value {
        let node = self.mesh.nodes.get(source);
        node.map(|node| node.agent.peers_within(ROW_WITHIN)).unwrap_or_default()
    }
}

/// Where the page is, and how to ask an agent from a terminal: the first one, which runs all the time.
fn place(mesh: &Mesh, binary: &Path) -> String {
    let address = mesh.agent(NODES[0]).address;
    let folder = std::env::current_dir().unwrap_or_default();
    let program = binary.strip_prefix(folder).unwrap_or(binary).display();
    format!("Page: http://{address}/\nCommands: {program} peers --agent {address}\n")
}

/// What the pictures show.
fn legend() -> String {
    format!(
        "Probes each {}, timeout {}. \"failed\": probes of that column, as counted by the agents that run now.\n\
         Cells: latency, or why the peer is down (no response: response_timeout); \"2 failed\": not yet down; \"…\": not tried yet;\n\
         \"draining\": it said goodbye; \"not listed\": no pod there; \"-\": the row's agent does not answer.\n\
         A round takes a minute. Ctrl-C ends the demo.\n",
        SETTINGS[0].1, SETTINGS[1].1
    )
}

/// The failures that the row's agent counted for a node.
fn failures(row: &Value, target: &str) -> u64 {
    let peers = row["peers"].as_array().into_iter().flatten();
    peers.filter(|peer| peer["node"] == target).filter_map(|peer| peer["failures"].as_u64()).sum()
}

/// The text of a cell and its ANSI colour.
fn cell(source: &str, target: &str, row: &Value) -> (String, u8) {
    const GREEN: u8 = 32;
    const YELLOW: u8 = 33;
    const RED: u8 = 31;
    const GREY: u8 = 90;
    if source == target {
        return ("·".to_owned(), GREY);
    }
    let Some(peers) = row["peers"].as_array() else { return ("-".to_owned(), GREY) };
    let Some(peer) = peers.iter().find(|peer| peer["node"] == target) else {
        return ("not listed".to_owned(), GREY);
    };
    let last = peer["recent"].as_array().and_then(|recent| recent.last());
    match peer["verdict"].as_str().unwrap_or("?") {
        "down" => {
            // Short enough for seven columns.
            let reason = peer["reason"].as_str().unwrap_or("down");
            (
                reason
                    .replace("response_timeout", "no response")
                    .replace("connect_timeout", "no connect"),
                RED,
            )
        }
        "draining" => ("draining".to_owned(), YELLOW),
        "unknown" => ("…".to_owned(), GREY),
        verdict => match last {
            Some(last) if last["total_seconds"].is_number() => {
                let milliseconds = last["total_seconds"].as_f64().unwrap_or(0.0) * 1000.0;
                let colour = if verdict == "up" { GREEN } else { YELLOW };
                (format!("{milliseconds:.1} ms"), colour)
            }
            Some(_) => (format!("{} failed", peer["consecutive_failures"]), YELLOW),
            None => (verdict.to_owned(), YELLOW),
        },
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // The reader may have closed the pipe.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
