//! An agent as a real process, in the test's network namespace or in a pod's. It never outlives its test.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::http;
use crate::netns::{Entrance, Namespace};

/// The settings of an agent process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program.
    pub binary: PathBuf,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// Its listen address.
    pub address: SocketAddr,
    /// Its log file.
    pub log: PathBuf,
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    /// Its listen address.
    pub address: SocketAddr,
    log: PathBuf,
    /// The namespace of requests to it, if not the test's.
    requests_from: Option<Entrance>,
}

/// Drops all privileges, as in the manifests. `--pdeathsig` comes last: the kernel resets it when the user
/// changes.
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

/// The program under test: the one that `WYLIS_BINARY` names, else `built`.
#[must_use]
pub fn binary(built: &str) -> PathBuf {
    std::env::var_os("WYLIS_BINARY").map_or_else(|| built.into(), PathBuf::from)
}

/// Makes the kernel kill the child when the calling thread ends (prctl(2), PR_SET_PDEATHSIG), and keeps the
/// terminal's Ctrl-C from it. The calling thread must outlive the child.
pub fn end_with_this_thread(command: &mut Command) {
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
    /// Starts an agent, without waiting for an answer.
    #[must_use]
    pub fn start(settings: &Settings) -> Self {
        Self::spawn(Command::new(&settings.binary), settings, None, |_| ())
    }

    /// Starts an agent in a pod, without privileges. Requests to it come from inside the pod, so that no
    /// network fault affects them.
    #[must_use]
    pub fn start_in(pod: &Namespace, settings: &Settings) -> Self {
        Self::start_prepared(pod, settings, |_| ())
    }

    /// As [`Agent::start_in`]; `prepare` may change the command at last, for example its standard error or its
    /// cgroup.
    #[must_use]
    pub fn start_prepared(
        pod: &Namespace,
        settings: &Settings,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let [program, arguments @ ..] = UNPRIVILEGED;
        let mut command = pod.command(program);
        command.args(arguments).arg(&settings.binary);
        Self::spawn(command, settings, Some(pod.entrance()), prepare)
    }

    /// As [`Agent::start`], with another standard error than the log file.
    #[must_use]
    pub fn start_with_log(settings: &Settings, log: Stdio) -> Self {
        let with_log = |command: &mut Command| {
            command.stderr(log);
        };
        Self::spawn(Command::new(&settings.binary), settings, None, with_log)
    }

    fn spawn(
        mut command: Command,
        settings: &Settings,
        requests_from: Option<Entrance>,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let log = File::options().create(true).append(true).open(&settings.log).unwrap();
        command
            .env_clear()
            // For the programs that start the agent.
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(settings.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        end_with_this_thread(&mut command);
        prepare(&mut command);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", settings.binary.display()));
        Self { child, address: settings.address, log: settings.log.clone(), requests_from }
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

    /// Sends SIGTERM, as the kubelet does.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops one of its threads until the return value is dropped; the process id is the main thread's.
    ///
    /// # Panics
    /// When the kernel refuses ptrace.
    #[must_use]
    pub fn hold_thread(&self, tid: u32) -> HeldThread {
        let tid = i32::try_from(tid).unwrap();
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither request accesses memory of this process.
        let held = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, tid, none, none) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none) == 0
        };
        assert!(held, "hold thread {tid}: {}", std::io::Error::last_os_error());
        let mut status = 0;
        // SAFETY: `status` is writable. This call consumes the stop, which `wait` would take for an end.
        unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) };
        assert!(libc::WIFSTOPPED(status), "thread {tid}: {status:#x}");
        HeldThread { tid, only_here: PhantomData }
    }

    /// Its exit status, if it ends within `limit`.
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

    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A number in /proc/PID/status: kB for memory, a count for `Threads`.
    #[must_use]
    pub fn status(&self, field: &str) -> u64 {
        status_of(self.pid(), field)
    }

    /// The number of its open descriptors.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Sends later requests from this namespace.
    pub fn request_from(&mut self, namespace: Entrance) {
        self.requests_from = Some(namespace);
    }

    /// Status and body of a route; `None` without an answer.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let response = self.get_within(path, http::DEADLINE).ok()?;
        Some((response.status, response.text()))
    }

    fn get_within(&self, path: &str, limit: Duration) -> io::Result<http::Response> {
        exchange(self.address, self.requests_from.as_ref(), path, limit)
    }

    /// A client of its routes, for another thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { address: self.address, requests_from: self.requests_from.clone() }
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.get("/metrics").unwrap_or_default().1)
    }

    /// As [`Agent::metrics`], within `limit`; `None` without an answer.
    #[must_use]
    pub fn metrics_within(&self, limit: Duration) -> Option<Metrics> {
        let response = self.get_within("/metrics", limit).ok()?;
        (response.status == 200).then(|| Metrics::parse(&response.text()))
    }

    /// Its document of peers; null without an answer.
    #[must_use]
    pub fn peers(&self) -> serde_json::Value {
        self.peers_within(http::DEADLINE)
    }

    /// As [`Agent::peers`], within `limit`.
    #[must_use]
    pub fn peers_within(&self, limit: Duration) -> serde_json::Value {
        let response = self.get_within("/api/v1/peers", limit);
        let text = response.map(|response| response.text()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Its entry for a peer; null when there is none.
    #[must_use]
    pub fn peer(&self, node: &str) -> serde_json::Value {
        let document = self.peers();
        let peers = document["peers"].as_array();
        peers
            .and_then(|peers| peers.iter().find(|peer| peer["node"] == node))
            .cloned()
            .unwrap_or_default()
    }
}

/// A client of an agent's routes; it may outlive the agent.
#[derive(Debug, Clone)]
pub struct Reader {
    address: SocketAddr,
    requests_from: Option<Entrance>,
}

impl Reader {
    /// Status and body of a route; `None` without an answer within `limit`.
    #[must_use]
    pub fn get_within(&self, path: &str, limit: Duration) -> Option<(u16, String)> {
        let response = exchange(self.address, self.requests_from.as_ref(), path, limit).ok()?;
        Some((response.status, response.text()))
    }
}

fn exchange(
    address: SocketAddr,
    from: Option<&Entrance>,
    path: &str,
    limit: Duration,
) -> io::Result<http::Response> {
    let connect = || TcpStream::connect_timeout(&address, limit);
    let stream = from.map_or_else(connect, |namespace| namespace.within(connect))?;
    http::exchange_over(stream, http::request(address, path, &[]).as_bytes(), limit)
}

/// A stopped thread; continues when dropped.
#[derive(Debug)]
pub struct HeldThread {
    tid: i32,
    /// Only the tracing thread can detach (ptrace(2)), so this is not `Send`.
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
        // SIGKILL ends a frozen process too.
        self.kill();
    }
}

/// Sends a signal to a child that was not waited for, so that its id is still its own.
pub fn signal(pid: u32, number: i32) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: the call does not access memory of this process.
    unsafe { libc::kill(pid, number) };
}

/// A pipe that takes no further byte until its other end is read.
///
/// # Panics
/// When there is no descriptor left.
#[must_use]
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    // SAFETY: the call does not access memory of this process.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) };
    writer.write_all(&vec![b'.'; usize::try_from(size).unwrap()]).unwrap();
    (reader, writer)
}

/// Starts a program with a full pipe as standard output, and waits until it blocks in a write. It continues
/// once the other end is read.
///
/// # Panics
/// When it cannot start, or writes nothing.
#[must_use]
pub fn stuck_in_output(command: &mut Command) -> (Child, PipeReader) {
    let (reader, writer) = full_pipe();
    let child = command.stdout(writer).spawn().unwrap();
    // The command would keep the pipe open.
    command.stdout(Stdio::null());
    let waits_in = format!("/proc/{}/wchan", child.id());
    crate::wait_until(Duration::from_secs(30), "the program writes", || {
        std::fs::read_to_string(&waits_in).is_ok_and(|place| place.contains("pipe_write"))
    });
    (child, reader)
}

/// A pipe that holds this many bytes, at least a page.
///
/// # Panics
/// When the kernel refuses.
#[must_use]
pub fn pipe_of(bytes: i32) -> (PipeReader, io::PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    // SAFETY: the call does not access memory of this process.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
    assert!(size >= bytes, "pipe: {}", io::Error::last_os_error());
    (reader, writer)
}

/// A program's peak memory at its first output, in kB.
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

/// A number in /proc/PID/status; 0 without the field.
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

    /// The sum over all series of a name that have all `labels` (`name="value"`).
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

    /// The number of matching series.
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

    /// All series with this node in any label.
    #[must_use]
    pub fn of_node(&self, node: &str) -> Vec<&str> {
        let value = format!("\"{node}\"");
        self.0.keys().filter(|series| series.contains(&value)).map(String::as_str).collect()
    }
}
