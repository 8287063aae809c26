//! A process that gets hardly any CPU: a cgroup of its own, of version 1 or 2, which it shares with
//! others that always want some.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Names of ours begin so; the pid and a number follow.
const PREFIX: &str = "wylis-lab-";
/// One millisecond of CPU in each second.
const QUOTA_MICROS: u32 = 1_000;
const PERIOD_MICROS: u32 = 1_000_000;
/// An idle agent would live on a millisecond; these leave it a quarter of that, and not when it
/// wants it.
const RIVALS: usize = 3;

/// Takes the CPU away until dropped.
#[derive(Debug)]
pub(crate) struct Quota {
    group: PathBuf,
    pid: u32,
    rivals: Vec<Child>,
}

impl Quota {
    /// Starves a process, or says why it cannot.
    pub(crate) fn starve(pid: u32) -> Result<Self, String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = Path::new("/sys/fs/cgroup");
        let first = root.join("cpu");
        let is_first = first.join("cpu.cfs_quota_us").exists() || first.join("tasks").exists();
        let parent = if is_first { first } else { root.to_owned() };
        sweep(&parent);
        let group = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        let write = |file: PathBuf, text: String| {
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
        };
        std::fs::create_dir(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        // From here on, it is removed whatever fails.
        let mut quota = Self { group, pid, rivals: Vec::new() };
        let group = quota.group.clone();
        if is_first {
            write(group.join("cpu.cfs_period_us"), PERIOD_MICROS.to_string())?;
            write(group.join("cpu.cfs_quota_us"), QUOTA_MICROS.to_string())?;
        } else {
            // It may be on already, or not be ours to turn on: the next line tells.
            let _ = write(root.join("cgroup.subtree_control"), "+cpu".to_owned());
            write(group.join("cpu.max"), format!("{QUOTA_MICROS} {PERIOD_MICROS}"))?;
        }
        for _ in 0..RIVALS {
            let mut rival = Command::new("setpriv");
            rival.args(["--pdeathsig=KILL", "sh", "-c", "while :; do :; done"]);
            let rival = rival.spawn().map_err(|error| format!("setpriv: {error}"))?;
            let id = rival.id();
            quota.rivals.push(rival);
            write(group.join("cgroup.procs"), id.to_string())?;
        }
        write(group.join("cgroup.procs"), pid.to_string())?;
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let parent = self.group.parent().unwrap_or(Path::new("/"));
        // It may have ended, or never have been inside.
        let _ = std::fs::write(parent.join("cgroup.procs"), self.pid.to_string());
        for rival in &mut self.rivals {
            let _ = rival.kill();
            let _ = rival.wait();
        }
        let _ = std::fs::remove_dir(&self.group);
    }
}

/// Removes what tests that died have left; their processes died with them.
fn sweep(parent: &Path) {
    let Ok(groups) = std::fs::read_dir(parent) else { return };
    for name in groups.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir(parent.join(name));
        }
    }
}
