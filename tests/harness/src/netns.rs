//! A network namespace of a test's own. Names are machine-wide: they hold the pid of the test, and
//! those of tests that died are swept away.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::skip;

/// Names of ours begin so; the pid and a number follow.
const PREFIX: &str = "wy-";

/// A namespace with its loopback up; deleted, with all that runs in it, when dropped.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    /// Makes one, or says why not and gives `None`.
    ///
    /// # Panics
    /// When `ip` breaks half-way.
    #[must_use]
    pub fn new(label: &str) -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        for tool in ["ip", "nft"] {
            let version = if tool == "ip" { "-V" } else { "--version" };
            if !quietly(tool, &[version]) {
                skip(&format!("no {tool}: needs iproute2 and nftables"));
                return None;
            }
        }
        sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{label}", std::process::id());
        if !quietly("ip", &["netns", "add", &name]) {
            skip("no network namespaces: needs root");
            return None;
        }
        let namespace = Self(name);
        namespace.run("ip", &["link", "set", "lo", "up"]);
        Some(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// A command that will run inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    /// Runs a command inside, to its end, and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.0);
    }
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

/// Removes what tests that died have left.
fn sweep() {
    let Ok(names) = std::fs::read_dir("/var/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let dead = pid.is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists());
        if dead {
            remove(&name);
        }
    }
}
