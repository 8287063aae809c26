//! Network namespaces for tests. Names are machine-wide: they contain the test's process id, and those of
//! killed tests are removed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::skip;

/// The prefix of our namespaces' names; the process id and a number follow.
const PREFIX: &str = "wy-";
/// The folder of `ip netns`.
const NAMES: &str = "/var/run/netns";

/// A namespace with its loopback up. Dropping deletes it and kills its processes.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    entrance: Entrance,
}

/// A handle to enter a namespace without owning it. It keeps the namespace alive, but not its name.
#[derive(Debug, Clone)]
pub struct Entrance(Arc<File>);

impl Entrance {
    /// Runs `action` inside, on a new thread, so that no other thread changes its namespace. Sockets and
    /// processes stay in the namespace of their creation.
    ///
    /// # Panics
    /// When `action` does, or the kernel refuses.
    pub fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            // SAFETY: a system call on an open descriptor; it affects this thread only.
            let entered = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(entered, 0, "setns: {}", std::io::Error::last_os_error());
            action()
        };
        let ended = std::thread::scope(|scope| scope.spawn(inside).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Namespace {
    /// Creates a namespace, or skips the test and returns `None`.
    ///
    /// # Panics
    /// When `ip` fails after that.
    #[must_use]
    pub fn new(label: &str) -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        static TOOLS: OnceLock<bool> = OnceLock::new();
        if !*TOOLS.get_or_init(|| quietly("ip", &["-V"]) && quietly("nft", &["--version"])) {
            skip("no ip or no nft: needs iproute2 and nftables");
            return None;
        }
        sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{label}", std::process::id());
        if !quietly("ip", &["netns", "add", &name]) {
            skip("no network namespaces: needs root");
            return None;
        }
        let entrance = Self::entrance_of(&name);
        let namespace = Self { name, entrance };
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// A handle to enter the namespace of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn entrance_of(name: &str) -> Entrance {
        Entrance(Arc::new(File::open(Path::new(NAMES).join(name)).expect("a namespace")))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A handle to enter it.
    #[must_use]
    pub fn entrance(&self) -> Entrance {
        self.entrance.clone()
    }

    /// A command that runs inside; its process id becomes the program's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command inside to its end, and returns its output.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.entrance.within(|| feed(program, arguments, ""))
    }

    /// Runs `ip` inside, once for each line.
    ///
    /// # Panics
    /// When a line fails.
    pub fn ip(&self, lines: &str) {
        self.entrance.within(|| feed("ip", &["-batch", "-"], lines));
    }

    /// Loads nft rules inside.
    ///
    /// # Panics
    /// When nft refuses them.
    pub fn nft(&self, rules: &str) {
        nft(&self.entrance, rules);
    }

    /// Sets a value below /proc/sys/net/ inside.
    ///
    /// # Panics
    /// When the value does not exist.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(name);
        let written = self.entrance.within(|| std::fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Loads nft rules inside a namespace.
///
/// # Panics
/// When nft refuses them.
pub fn nft(inside: &Entrance, rules: &str) {
    inside.within(|| feed("nft", &["-f", "-"], rules));
}

/// Runs a command with this input to its end, and returns its output.
///
/// # Panics
/// When it fails.
pub fn feed(program: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("a piped standard input");
    // The command may have ended already; a failure is reported below.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}\n{input}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn quietly(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output();
    let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for pid in pids.unwrap_or_default().split_whitespace() {
        quietly("kill", &["-9", pid]);
    }
    quietly("ip", &["netns", "del", name]);
}

/// Removes the namespaces of killed tests.
fn sweep() {
    let Ok(names) = std::fs::read_dir(NAMES) else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}
