//! Starves a process of CPU: it shares a small quota with busy loops, in a cgroup of version 1 or 2.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The prefix of our cgroups' names; the process id and a number follow.
const PREFIX: &str = "wylis-tunnels-";
/// 1 ms of CPU in each second.
const QUOTA_MICROS: u32 = 1_000;
const PERIOD_MICROS: u32 = 1_000_000;
/// An idle agent needs less than 1 ms; these busy loops leave it a quarter of that, at the wrong time.
const RIVALS: usize = 3;

/// The quota; removed when dropped.
#[derive(Debug)]
pub(crate) struct Quota {
    group: PathBuf,
    pid: u32,
    rivals: Vec<Child>,
}

impl Quota {
    /// Starves a process, or returns why it cannot.
    pub(crate) fn starve(pid: u32) -> Result<Self, String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = Path::new("/sys/fs/cgroup");
        let v1 = root.join("cpu");
        let is_v1 = v1.join("cpu.cfs_quota_us").exists() || v1.join("tasks").exists();
        let parent = if is_v1 { v1 } else { root.to_owned() };
        sweep(&parent);
        let group = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        let write = |file: PathBuf, text: String| {
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
        };
        std::fs::create_dir(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        // Dropping removes the group, also after a failure below.
        let mut quota = Self { group, pid, rivals: Vec::new() };
        let group = quota.group.clone();
        if is_v1 {
            write(group.join("cpu.cfs_period_us"), PERIOD_MICROS.to_string())?;
            write(group.join("cpu.cfs_quota_us"), QUOTA_MICROS.to_string())?;
        } else {
            // Fails where it is on already or not permitted: the next line shows which.
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
        // The process may have ended, or may not be in the group yet.
        let _ = std::fs::write(parent.join("cgroup.procs"), self.pid.to_string());
        for rival in &mut self.rivals {
            let _ = rival.kill();
            let _ = rival.wait();
        }
        let _ = std::fs::remove_dir(&self.group);
    }
}

/// Removes the groups of killed tests; their processes ended with them.
fn sweep(parent: &Path) {
    let Ok(groups) = std::fs::read_dir(parent) else { return };
    for name in groups.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir(parent.join(name));
        }
    }
}
