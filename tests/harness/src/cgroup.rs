//! A memory cgroup for one agent, with the limit of its pod and the memory of its sockets counted.
//!
//! The kernel's account of a container is more than its process: page cache of the files that it was the
//! first to read (its own program, for one), kernel objects (an accepted socket takes some 3 kB) and the bytes in
//! the buffers of its sockets. The two versions of cgroups count the last kind differently:
//!
//! - v1: `memory.kmem.tcp` is an account of its own, off until its limit is written. It is not part of
//!   `memory.usage_in_bytes`, and its limit refuses buffers but kills nothing. Socket objects are part of the
//!   usage, so connections alone can lead to an OOM kill.
//! - v2: buffers of sockets are always part of `memory.current`.
//!
//! [`MemoryCgroup::account`] adds the two on v1, so its figures are those of v2.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::skip;

/// The prefix of our cgroups' names; the process id and a number follow.
const PREFIX: &str = "wylis-";
const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";
/// For the removal of a cgroup whose last process has just been killed.
const REMOVAL: Duration = Duration::from_secs(5);

/// A memory cgroup without swap. Dropping removes it; its processes must have ended.
#[derive(Debug)]
pub struct MemoryCgroup {
    path: PathBuf,
    v1: bool,
}

/// What the kernel counts, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Account {
    /// Everything, buffers of sockets included: what an OOM kill goes by on v2.
    pub all: u64,
    /// Buffers of sockets.
    pub sockets: u64,
    /// Objects of the kernel.
    pub kernel: u64,
    /// The processes' own memory.
    pub anonymous: u64,
    /// Page cache, which the kernel drops before it kills.
    pub cache: u64,
}

impl MemoryCgroup {
    /// A cgroup with this limit in bytes; `None`, with a skip, where none can be made.
    #[must_use]
    pub fn new(limit: u64) -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let v1 = Path::new(V1).join("memory.limit_in_bytes").exists();
        let root = Path::new(if v1 { V1 } else { V2 });
        sweep(root);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("{PREFIX}{}-{number}", std::process::id()));
        let cgroup = Self { path, v1 };
        match cgroup.prepare(root, limit) {
            Ok(()) => Some(cgroup),
            Err(error) => {
                skip(&format!("no memory cgroup: needs root and a writable {V2} ({error})"));
                None
            }
        }
    }

    fn prepare(&self, root: &Path, limit: u64) -> io::Result<()> {
        if !self.v1 {
            std::fs::write(root.join("cgroup.subtree_control"), "+memory")?;
        }
        std::fs::create_dir(&self.path)?;
        let limit = limit.to_string();
        if self.v1 {
            // Before the first socket: earlier ones are never counted.
            self.write("memory.kmem.tcp.limit_in_bytes", &limit)?;
            self.write("memory.limit_in_bytes", &limit)?;
            // Absent without swap accounting.
            let _ = self.write("memory.memsw.limit_in_bytes", &limit);
        } else {
            self.write("memory.max", &limit)?;
            let _ = self.write("memory.swap.max", "0");
        }
        Ok(())
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        std::fs::write(self.path.join(file), value)
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }

    fn number(&self, file: &str) -> u64 {
        self.read(file).trim().parse().unwrap_or(0)
    }

    /// Starts the command's process inside.
    ///
    /// # Panics
    /// When the cgroup is gone.
    pub fn enter(&self, command: &mut Command) {
        let procs = std::fs::File::options().write(true).open(self.path.join("cgroup.procs"));
        let procs = procs.expect("cgroup.procs");
        // SAFETY: write is async-signal-safe, and the closure owns the descriptor.
        unsafe {
            command.pre_exec(move || {
                match libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) {
                    1 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
    }

    /// The present account.
    #[must_use]
    pub fn account(&self) -> Account {
        let text = self.read("memory.stat");
        let stat = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        if self.v1 {
            let sockets = self.number("memory.kmem.tcp.usage_in_bytes");
            Account {
                all: self.number("memory.usage_in_bytes") + sockets,
                sockets,
                kernel: self.number("memory.kmem.usage_in_bytes"),
                anonymous: stat("rss"),
                cache: stat("cache"),
            }
        } else {
            Account {
                all: self.number("memory.current"),
                sockets: stat("sock"),
                kernel: stat("kernel"),
                anonymous: stat("anon"),
                cache: stat("file"),
            }
        }
    }

    /// The peak of [`Account::all`] since the last reset. On v1 it is the sum of two peaks, which is not too
    /// small.
    #[must_use]
    pub fn peak(&self) -> u64 {
        if self.v1 {
            self.number("memory.max_usage_in_bytes") + self.socket_peak()
        } else {
            self.number("memory.peak")
        }
    }

    /// The peak of the buffers of sockets; 0 on v2, which keeps none.
    #[must_use]
    pub fn socket_peak(&self) -> u64 {
        self.number("memory.kmem.tcp.max_usage_in_bytes")
    }

    /// Forgets the peaks, for example of the programs that started the agent. v2 keeps them.
    pub fn reset_peaks(&self) {
        for file in ["memory.max_usage_in_bytes", "memory.kmem.tcp.max_usage_in_bytes"] {
            if self.v1 {
                let _ = self.write(file, "0");
            }
        }
    }

    /// How many processes the kernel killed here for want of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let text = self.read(if self.v1 { "memory.oom_control" } else { "memory.events" });
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // A killed process leaves its cgroup a little after its parent has waited for it.
        let deadline = std::time::Instant::now() + REMOVAL;
        while std::fs::remove_dir(&self.path).is_err() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Copies a program into a folder, out of the page cache, so that the cache of it counts for the process that
/// reads it first, as on a node.
///
/// # Panics
/// When it cannot be copied.
#[must_use]
pub fn uncached_copy(program: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join(program.file_name().expect("a file"));
    std::fs::copy(program, &copy).expect("copy the program");
    let file = std::fs::File::open(&copy).expect("the copy");
    // Only clean pages can be dropped.
    file.sync_all().expect("sync the copy");
    // SAFETY: the call does not access memory of this process.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    copy
}

/// Removes the cgroups of killed tests.
fn sweep(root: &Path) {
    let Ok(names) = std::fs::read_dir(root) else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let is_ours = pid.is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()));
        if is_ours && pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Fails while processes are left, which end with their parent.
            let _ = std::fs::remove_dir(root.join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_process_is_counted_and_limited() {
        const MIB: u64 = 1024 * 1024;
        let Some(cgroup) = MemoryCgroup::new(16 * MIB) else { return };
        let run = |bytes: &str| {
            let mut command = Command::new("head");
            command.args(["-c", "1", "/dev/zero"]).stdout(std::process::Stdio::null());
            if bytes != "1" {
                // `tail` keeps the last bytes of a pipe or a device in memory.
                command = Command::new("sh");
                command
                    .args(["-c", &format!("head -c {bytes} /dev/zero | tail -c {bytes} | wc -c")]);
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            }
            cgroup.enter(&mut command);
            assert!(command.status().is_ok(), "{bytes}");
        };
        run("1");
        let small = cgroup.peak();
        run("8000000");
        assert!(cgroup.peak() > small + 7 * MIB, "{} after {small}", cgroup.peak());
        assert_eq!(cgroup.oom_kills(), 0);
        run("40000000");
        assert!(cgroup.oom_kills() > 0);
    }
}
