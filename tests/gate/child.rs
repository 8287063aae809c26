//! A process with a gate and a server: this test binary, run again for one of its tests.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, UNIX_EPOCH};

use prometheus::proto::MetricFamily;
use rustix::process::{Resource, Rlimit, setrlimit};
use wylis::gate::{self, Counters, Limits, Rejection, Setup};
use wylis::heartbeat::Heartbeat;
use wylis::history::{Day, History, Recollection};
use wylis::matrix::{Matrix, RowError};
use wylis::name::{Instance, NodeName};
use wylis::peer::Peer;
use wylis::route::Route;
use wylis::server::{self, Ask, Renderer, Views};
use wylis::shutdown::StopToken;
use wylis::state::{MeshState, Moment, Snapshot, StateSettings};
use wylis::wire::KeepAlive;

const CHILD: &str = "WYLIS_GATE_CHILD";
/// How long the gathered route takes.
pub(crate) const GATHERING_TIME: Duration = Duration::from_secs(2);
/// Longest wait for an event that must happen: a machine may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// What a test may change in the child process.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The third number of its address; each test has its own.
    pub(crate) net: u8,
    /// RLIMIT_NOFILE, soft and hard.
    pub(crate) descriptors: Option<u64>,
    /// The user it runs as.
    pub(crate) user: Option<u32>,
    /// Milliseconds for a head.
    pub(crate) head: u64,
    /// Milliseconds for a bulk response.
    pub(crate) bulk: u64,
    /// Milliseconds for the server.
    pub(crate) backend: u64,
    /// About how many bytes a /metrics response has; 0 for an agent that does not respond.
    pub(crate) metrics: usize,
}

impl Options {
    pub(crate) fn new(net: u8) -> Self {
        let (head, bulk, backend) = (5000, 10_000, 15_000);
        let metrics = 300_000;
        Self { net, descriptors: None, user: None, head, bulk, backend, metrics }
    }
}

/// The agent's part, as the server sees it.
struct Agent {
    node: NodeName,
    instance: Instance,
    /// `None` for an agent that does not respond.
    snapshot: Option<Arc<Snapshot>>,
    renderer: Renderer,
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn settings() -> StateSettings {
    let interval = Duration::from_secs(10);
    let (source, bounds) = (name("test-node"), [1.0].into());
    let large_interval = Duration::ZERO;
    StateSettings {
        failure_threshold: 3,
        interval,
        large_interval,
        host_port: None,
        source,
        drain: interval,
        bounds,
        key: wylis::token::TokenKey::new(b"key"),
    }
}

/// Peers with the longest names whose metrics have about this many bytes.
fn snapshot(bytes: usize) -> Arc<Snapshot> {
    const BYTES_OF_A_PEER: usize = 7600;
    let known = |number| Peer {
        node: name(&peer(number)),
        address: "10.0.0.1:9050".parse().unwrap(),
        other_addresses: Vec::new(),
        host: None,
        instance: None,
        ready: None,
    };
    let mut state = MeshState::new(settings());
    state.peers((0..bytes.div_ceil(BYTES_OF_A_PEER)).map(known).collect(), Duration::ZERO);
    let taken = Moment { instant: Instant::now(), wall: UNIX_EPOCH + Duration::from_secs(1) };
    Arc::new(state.snapshot(taken))
}

/// The /metrics response for a snapshot of this size.
pub(crate) fn metrics(bytes: usize) -> impl Iterator<Item = Vec<u8>> + Send {
    wylis::metrics::render(name("test-node"), snapshot(bytes), Vec::new())
}

/// The row of a snapshot of this size.
pub(crate) fn row(bytes: usize) -> impl Iterator<Item = Vec<u8>> + Send {
    let instance = Instance::new("test-instance").unwrap();
    wylis::document::row_json(&name("test-node"), &instance, &snapshot(bytes))
}

/// The peer with this number.
pub(crate) fn peer(number: usize) -> String {
    format!("{number:0253}")
}

impl Views for Agent {
    fn node(&self) -> &NodeName {
        &self.node
    }
    fn instance(&self) -> &Instance {
        &self.instance
    }
    fn request_received(&self, request: Option<KeepAlive>, client: Option<IpAddr>) {
        if request.is_some_and(|request| request.node.as_str() == "tell") {
            print_line(&format!("RECEIVED tell from {}", client.unwrap()));
        }
    }
    fn seal(&self, _: &KeepAlive) -> Option<wylis::token::Token> {
        None
    }
    fn draining(&self) -> bool {
        false
    }
    fn healthy(&self) -> Result<(), String> {
        Ok(())
    }
    /// Stands for a view that never returns.
    fn ready(&self) -> Result<(), String> {
        loop {
            std::thread::sleep(TIMEOUT);
        }
    }
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.clone()
    }
    fn renderer(&self) -> &Renderer {
        &self.renderer
    }
    fn agent_metrics(&self) -> Vec<MetricFamily> {
        Vec::new()
    }
    /// Stands for peers that do not respond.
    fn matrix(&self) -> Option<Arc<Matrix>> {
        std::thread::sleep(GATHERING_TIME);
        let empty = MeshState::new(settings()).snapshot(Moment::now());
        Some(Arc::new(Matrix::new(&self.node, &empty, GATHERING_TIME)))
    }
    fn recollection(&self) -> Option<Arc<Recollection>> {
        let nothing = History::new(Moment::now(), None).recollect(Moment::now());
        self.snapshot.as_ref().map(|_| Arc::new(nothing))
    }
    fn past_matrix(&self, _: &Recollection, _: u64) -> Option<Arc<Matrix>> {
        self.matrix()
    }
    fn day(&self) -> Option<Arc<Day>> {
        None
    }
    fn survey(&self) -> Vec<u8> {
        Vec::new()
    }
    /// Tells the parent what arrived.
    fn command(
        &self,
        command: &str,
        sender: Option<KeepAlive>,
        client: Option<IpAddr>,
    ) -> (u16, Vec<u8>) {
        let sender = sender.map(|sender| sender.node.to_string());
        (409, format!("{command} from {sender:?} at {client:?}").into_bytes())
    }
    /// Stands for a slow view.
    fn fetch(&self, _: &Snapshot, _: &NodeName, ask: Ask) -> Result<Vec<u8>, RowError> {
        if !ask.is_for_another {
            std::thread::sleep(Duration::from_secs(1));
        }
        Err(RowError::NoPeer)
    }
}

/// Prints a line for the parent. The test framework may have left an unfinished line.
fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

/// The main function of the child process; not a test.
#[test]
fn child() {
    let Ok(options) = std::env::var(CHILD) else { return };
    std::panic::set_hook(Box::new(|panic| {
        // As in the release: a dead thread ends the process.
        print_line(&format!("PANIC {panic}"));
        std::process::exit(9);
    }));
    let numbers: Vec<u64> = options.split(',').map(|number| number.parse().unwrap()).collect();
    if numbers[1] > 0 {
        let limit = Some(numbers[1]);
        setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    }
    let agent = Arc::new(Agent {
        node: name("test-node"),
        instance: Instance::new("test-instance").unwrap(),
        snapshot: (numbers[5] > 0).then(|| snapshot(usize::try_from(numbers[5]).unwrap())),
        renderer: Renderer::default(),
    });
    let backends = server::start(agent).unwrap();
    let address: SocketAddr = format!("127.77.{}.1:0", numbers[0]).parse().unwrap();
    let listener = gate::listen(address).unwrap();
    let address = listener.local_addr().unwrap();
    let counters = Arc::new(Counters::new(&Route::LABELS));
    let stop = StopToken::new();
    let limits = Limits {
        head: Duration::from_millis(numbers[2]),
        bulk_response: Duration::from_millis(numbers[3]),
        backend: Duration::from_millis(numbers[4]),
        ..Limits::of_this_process()
    };
    let thread = gate::start(Setup {
        listener,
        backends,
        limits,
        counters: Arc::clone(&counters),
        heartbeat: Heartbeat::new("gate", Instant::now()),
        stop: stop.clone(),
        retransmitted: Box::new(|sender, segments| {
            print_line(&format!("RETRANSMITTED {} {segments}", sender.node));
        }),
        fatal: Box::new(|reason| {
            print_line(&format!("FATAL {reason}"));
            std::process::exit(3);
        }),
    });
    let thread = thread.unwrap();
    print_line(&format!("LISTENS {address}"));
    run_commands(&counters, &stop);
    if stop.is_stopped() {
        thread.join().unwrap();
        print_line("STOPPED");
    }
    std::process::exit(0);
}

/// Runs the commands of the test until its end of file.
fn run_commands(counters: &Counters, stop: &StopToken) {
    let mut grabbed = Vec::new();
    for command in std::io::stdin().lines() {
        match command.unwrap().as_str() {
            "counters" => print_line(&format!("COUNTERS {}", format_counters(counters))),
            "grab" => {
                while let Ok(file) = std::fs::File::open("/dev/null") {
                    grabbed.push(file);
                }
                print_line("GRABBED");
            }
            "release" => grabbed.clear(),
            "no threads" => {
                let none = Rlimit { current: Some(0), maximum: Some(0) };
                setrlimit(Resource::Nproc, none).unwrap();
                let thread = std::thread::Builder::new().spawn(|| ());
                print_line(if thread.is_err() { "NO THREADS" } else { "THREADS" });
            }
            "stop" => {
                stop.stop();
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn format_counters(counters: &Counters) -> String {
    let mut text = format!("connections={}", counters.connections());
    for rejection in Rejection::ALL {
        text.push_str(&format!(" {}={}", rejection.as_str(), counters.rejected(rejection)));
    }
    for (label, code, count) in counters.requests() {
        text.push_str(&format!(" {label}:{code}={count}"));
    }
    text
}

/// The child process, seen from its parent.
pub(crate) struct GateProcess {
    process: Child,
    lines: Receiver<String>,
    pub(crate) address: SocketAddr,
}

impl GateProcess {
    pub(crate) fn start(options: &Options) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child::child", "--nocapture", "--test-threads=1"]);
        let Options { net, head, bulk, backend, metrics, .. } = options;
        let descriptors = options.descriptors.unwrap_or(0);
        command.env(CHILD, format!("{net},{descriptors},{head},{bulk},{backend},{metrics}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(user) = options.user {
            command.uid(user).gid(user);
        }
        let mut process = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut gate = Self { process, lines, address: "127.0.0.1:0".parse().unwrap() };
        gate.address = gate.wait_for_line("LISTENS ").parse().unwrap();
        gate
    }

    /// Waits for a line with this prefix, and returns the rest of it.
    pub(crate) fn wait_for_line(&self, prefix: &str) -> String {
        let end = Instant::now() + TIMEOUT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("no {prefix:?}: {error}"));
            assert!(!line.starts_with("PANIC"), "{line}");
            assert!(!line.starts_with("FATAL") || prefix.starts_with("FATAL"), "{line}");
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.to_owned();
            }
        }
    }

    /// The senders to which the gate has retransmitted so far, with the number of segments.
    pub(crate) fn retransmitted(&mut self) -> Vec<String> {
        self.send("counters");
        let end = Instant::now() + TIMEOUT;
        let mut found = Vec::new();
        loop {
            let line = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            let line = line.unwrap();
            if line.starts_with("COUNTERS ") {
                return found;
            }
            found.extend(line.strip_prefix("RETRANSMITTED ").map(str::to_owned));
        }
    }

    pub(crate) fn send(&mut self, command: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    /// One of its counters; zero if it is not printed.
    pub(crate) fn counter(&mut self, name: &str) -> u64 {
        self.send("counters");
        let counters = self.wait_for_line("COUNTERS ");
        let mut pairs = counters.split(' ').filter_map(|pair| pair.rsplit_once('='));
        pairs.find(|(known, _)| *known == name).map_or(0, |(_, value)| value.parse().unwrap())
    }

    /// Polls a counter until the condition holds.
    pub(crate) fn wait_for_counter(&mut self, name: &str, condition: impl Fn(u64) -> bool) {
        let end = Instant::now() + TIMEOUT;
        loop {
            let value = self.counter(name);
            if condition(value) {
                return;
            }
            assert!(Instant::now() < end, "{name} stays at {value}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A number of /proc/PID/status: kilobytes, or threads.
    pub(crate) fn proc_status(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        number(&text, field)
    }

    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// How often this thread has gone to sleep.
    pub(crate) fn context_switches(&self, thread: &str) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        for task in tasks {
            let path = task.unwrap().path();
            let text = std::fs::read_to_string(path.join("status")).unwrap();
            if text.lines().next() == Some(&format!("Name:\t{thread}")) {
                return number(&text, "voluntary_ctxt_switches");
            }
        }
        panic!("no thread {thread}");
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Polls for its exit code: `wait` would close its input, which also ends it.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        wylis_harness::wait_until(TIMEOUT, "the process ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

fn number(text: &str, field: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

impl Drop for GateProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
