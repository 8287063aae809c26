//! An agent as a real process: started, signalled, measured, asked, and never left behind. It runs
//! beside us, or as a pod in a network namespace of its own.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, PipeReader, Write as _};
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::http;
use crate::netns::{Entrance, Namespace};

/// How to start an agent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program.
    pub binary: PathBuf,
    /// Its environment, and nothing else of ours.
    pub environment: Vec<(String, String)>,
    /// Where it will listen.
    pub address: SocketAddr,
    /// Where its log goes.
    pub log: PathBuf,
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    log: PathBuf,
    /// From where it is asked, when not from here.
    asked_from: Option<Entrance>,
}

/// What a pod of the manifests has: no privilege at all. The parent's death must be told last, for
/// the kernel forgets that wish when the user changes.
const UNPRIVILEGED: [&str; 9] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--no-new-privs",
    "--pdeathsig=KILL",
    "--",
];

/// The program under test: the static release build where `WYLIS_BINARY` names it, else `built`.
#[must_use]
pub fn binary(built: &str) -> PathBuf {
    std::env::var_os("WYLIS_BINARY").map_or_else(|| built.into(), PathBuf::from)
}

/// Has the kernel end what `command` starts when we end, however that comes about; and keeps the
/// terminal's Ctrl-C, which is for the one who started us, from it. "We" are the thread that starts it
/// (prctl(2), PR_SET_PDEATHSIG): it must outlive what it starts.
pub fn end_with_us(command: &mut Command) {
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

impl Agent {
    /// Starts it; does not wait until it answers.
    #[must_use]
    pub fn start(settings: &Settings) -> Self {
        Self::spawn(Command::new(&settings.binary), settings, None)
    }

    /// Starts it in a pod, without privileges. It is asked from inside the pod as well, at its own
    /// address: no fault of the network disturbs who looks.
    #[must_use]
    pub fn start_in(pod: &Namespace, settings: &Settings) -> Self {
        let [program, arguments @ ..] = UNPRIVILEGED;
        let mut command = pod.command(program);
        command.args(arguments).arg(&settings.binary);
        Self::spawn(command, settings, Some(pod.entrance()))
    }

    fn spawn(mut command: Command, settings: &Settings, asked_from: Option<Entrance>) -> Self {
        let log = File::options().create(true).append(true).open(&settings.log).unwrap();
        command
            .env_clear()
            // For who starts the agent; it does not look itself.
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(settings.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        end_with_us(&mut command);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", settings.binary.display()));
        Self { child, address: settings.address, log: settings.log.clone(), asked_from }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, number: i32) {
        signal(self.pid(), number);
    }

    /// Asks it to stop, as the kubelet does.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Ends it without a word, as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops one of its threads, and no other, until the return value is dropped: its main thread
    /// when `tid` is the process's own id.
    ///
    /// # Panics
    /// When the kernel does not let us trace a child of ours.
    #[must_use]
    pub fn hold_thread(&self, tid: u32) -> HeldThread {
        let tid = i32::try_from(tid).unwrap();
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither request reads or writes memory of ours.
        let held = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, tid, none, none) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none) == 0
        };
        assert!(held, "hold thread {tid}: {}", std::io::Error::last_os_error());
        let mut status = 0;
        // SAFETY: `status` is writable; whoever is traced reports its stop once, which nobody else
        // must take for its end.
        unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) };
        assert!(libc::WIFSTOPPED(status), "thread {tid}: {status:#x}");
        HeldThread { tid, only_here: PhantomData }
    }

    /// Its exit status, when it ends within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Everything that it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A number of /proc/PID/status: kB for memory, a count for `Threads`.
    #[must_use]
    pub fn status(&self, field: &str) -> u64 {
        status_of(self.pid(), field)
    }

    /// How many descriptors it holds.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// From now on it is asked from that namespace.
    pub fn ask_from(&mut self, namespace: Entrance) {
        self.asked_from = Some(namespace);
    }

    /// Asks a route; `None` when it does not answer.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let response = self.ask(path, http::DEADLINE).ok()?;
        Some((response.status, response.text()))
    }

    fn ask(&self, path: &str, limit: Duration) -> io::Result<http::Response> {
        let connect = || TcpStream::connect_timeout(&self.address, limit);
        let stream = match &self.asked_from {
            Some(namespace) => namespace.within(connect),
            None => connect(),
        }?;
        http::exchange_over(stream, http::request(self.address, path, &[]).as_bytes(), limit)
    }

    /// What Prometheus would see.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics").unwrap_or_default().1)
    }

    /// As [`Agent::metrics`], within `limit`; `None` when it does not answer.
    #[must_use]
    pub fn metrics_within(&self, limit: Duration) -> Option<Metrics> {
        let response = self.ask("/metrics", limit).ok()?;
        (response.status == 200).then(|| Metrics::parse(&response.text()))
    }

    /// Its row as JSON; null when it does not answer.
    #[must_use]
    pub fn row(&self) -> serde_json::Value {
        self.row_within(http::DEADLINE)
    }

    /// As [`Agent::row`], within `limit`.
    #[must_use]
    pub fn row_within(&self, limit: Duration) -> serde_json::Value {
        let response = self.ask("/api/v1/peers", limit);
        let text = response.map(|response| response.text()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// What it knows of one peer; null when it is none.
    #[must_use]
    pub fn peer(&self, node: &str) -> serde_json::Value {
        let row = self.row();
        let peers = row["peers"].as_array();
        peers
            .and_then(|peers| peers.iter().find(|peer| peer["node"] == node))
            .cloned()
            .unwrap_or_default()
    }
}

/// A thread that does not run; it goes on when this is dropped.
#[derive(Debug)]
pub struct HeldThread {
    tid: i32,
    /// Only the thread that stopped it may let it go (ptrace(2)), so this is not `Send`.
    only_here: PhantomData<*const ()>,
}

impl Drop for HeldThread {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as in `Agent::hold_thread`.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.tid, none, none) };
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A frozen one dies as well.
        self.kill();
    }
}

/// Sends a signal to a child that was not waited for, which so keeps its id.
pub fn signal(pid: u32, number: i32) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: it touches no memory of ours.
    unsafe { libc::kill(pid, number) };
}

/// Starts a program whose standard output is a pipe that is full, and waits until it wants to write. Who
/// reads the other end lets it go on.
///
/// # Panics
/// When it cannot be started, or writes nothing.
#[must_use]
pub fn stuck_in_output(command: &mut Command) -> (Child, PipeReader) {
    let (reader, mut writer) = io::pipe().unwrap();
    // SAFETY: it touches no memory of ours.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) };
    let size = usize::try_from(size).unwrap();
    writer.write_all(&vec![b'.'; size]).unwrap();
    let child = command.stdout(writer).spawn().unwrap();
    // What the command still holds of the pipe would keep it open.
    command.stdout(Stdio::null());
    let waits_in = format!("/proc/{}/wchan", child.id());
    crate::wait_until(Duration::from_secs(30), "it writes", || {
        std::fs::read_to_string(&waits_in).is_ok_and(|place| place.contains("pipe_write"))
    });
    (child, reader)
}

/// The most memory that a program has had, in kB, when it writes its first octet.
///
/// # Panics
/// As [`stuck_in_output`].
#[must_use]
pub fn peak_at_output(command: &mut Command) -> u64 {
    let (mut child, mut reader) = stuck_in_output(command);
    let peak = status_of(child.id(), "VmHWM");
    io::copy(&mut reader, &mut io::sink()).unwrap();
    child.wait().unwrap();
    peak
}

/// A number of /proc/PID/status; 0 when there is none.
#[must_use]
pub fn status_of(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// A scrape, by series.
#[derive(Debug, Clone, Default)]
pub struct Metrics(HashMap<String, f64>);

impl Metrics {
    /// Reads the text format.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(pairs.collect())
    }

    /// The sum over all series of a name whose labels hold every one of `labels` (`name="value"`).
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.matching(name, labels).map(|(_, value)| value).sum()
    }

    /// One value; `None` when no series, or more than one, matches.
    #[must_use]
    pub fn get(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let mut values = self.matching(name, labels);
        let first = values.next()?.1;
        values.next().is_none().then_some(first)
    }

    /// How many series match.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[&str]) -> usize {
        self.matching(name, labels).count()
    }

    /// The series of a name, with their values.
    pub fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [&'a str],
    ) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().map(|(series, value)| (series.as_str(), *value)).filter(move |(series, _)| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| {
                (rest.is_empty() || rest.starts_with('{'))
                    && labels.iter().all(|label| {
                        rest.contains(&format!("{{{label}")) || rest.contains(&format!(",{label}"))
                    })
            })
        })
    }

    /// All series that mention this node in any label.
    #[must_use]
    pub fn of_node(&self, node: &str) -> Vec<&str> {
        let value = format!("\"{node}\"");
        self.0.keys().filter(|series| series.contains(&value)).map(String::as_str).collect()
    }
}
