//! The memory that the kernel charges to a pod's control group.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use wylis_harness::skip;

use crate::cluster::{Cluster, NAMESPACE, Pod};

/// The manifest's limit.
const LIMIT: u64 = 32 << 20;
/// The bound at rest.
const HALF: u64 = 16 << 20;
/// The bound at a container's start, to which the runtime's init is charged.
const START_MOST: u64 = 24 << 20;

/// A pod's control group, of version 1 or 2.
struct Account {
    group: PathBuf,
    /// Version 2; version 1 has other file names.
    unified: bool,
}

impl Account {
    /// The group's path as `tests/cluster` creates it.
    fn of(pod: &Pod, cluster_group: &str) -> Self {
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let root = if unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
        let below = format!("{cluster_group}/{}/kubepods/burstable/pod{}", pod.node, pod.uid);
        Self { group: Path::new(root).join(below), unified }
    }

    fn read(&self, file: &str) -> String {
        let path = self.group.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn number(&self, version_1: &str, version_2: &str) -> u64 {
        let text = self.read(if self.unified { version_2 } else { version_1 });
        text.trim().parse().unwrap_or_else(|_| panic!("{}: {text}", self.group.display()))
    }

    fn limit(&self) -> u64 {
        self.number("memory.limit_in_bytes", "memory.max")
    }

    fn now(&self) -> u64 {
        self.number("memory.usage_in_bytes", "memory.current")
    }

    fn peak(&self) -> Peak {
        let name = if self.unified { "memory.peak" } else { "memory.max_usage_in_bytes" };
        Peak::of(&self.group.join(name))
    }

    /// How often the group reached its limit.
    fn at_limit(&self) -> u64 {
        if !self.unified {
            return self.number("memory.failcnt", "");
        }
        let events = self.read("memory.events");
        let max = events.lines().find_map(|line| line.strip_prefix("max "));
        max.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{events}"))
    }
}

/// The peak charge, or, where the kernel permits, the peak since [`Peak::reset`].
struct Peak {
    /// In version 2, a reset applies to this descriptor alone.
    file: File,
}

impl Peak {
    fn of(path: &Path) -> Self {
        // Version 2 is read-only before Linux 6.12.
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.or_else(|_| File::open(path));
        Self { file: file.unwrap_or_else(|error| panic!("{}: {error}", path.display())) }
    }

    /// Resets the peak. Returns whether the kernel permits it.
    fn reset(&mut self) -> bool {
        self.file.write_all(b"0").is_ok()
    }

    fn read(&mut self) -> u64 {
        let mut text = String::new();
        self.file.rewind().unwrap();
        self.file.read_to_string(&mut text).unwrap();
        text.trim().parse().unwrap_or_else(|_| panic!("{text}"))
    }
}

#[test]
fn the_pod_stays_far_below_its_limit_at_start_at_rest_and_during_an_exec() {
    let Some(cluster) = Cluster::local() else { return };
    let pods = cluster.with_agents();
    let cluster_group = cluster.script_output(&["group"]);
    let accounts = pods.iter().map(|pod| Account::of(pod, cluster_group.trim_end()));
    let accounts: Vec<Account> = accounts.collect();
    if accounts[0].unified && !accounts[0].group.join("memory.peak").exists() {
        return skip("no memory.peak: needs Linux 5.19");
    }
    for (pod, account) in pods.iter().zip(&accounts) {
        let mut peak = account.peak();
        let (start, rest) = (peak.read(), account.now());
        let was_reset = peak.reset();
        cluster.kubectl(&["-n", NAMESPACE, "exec", &pod.name, "--", "/wylis", "--help"]);
        let exec = peak.read();
        let since = if was_reset { "during an exec" } else { "since its start, with an exec," };
        println!(
            "{}: peak since its start {}, at rest {}, peak {since} {}; {} times at the limit",
            pod.node,
            percent(start),
            percent(rest),
            percent(exec),
            account.at_limit()
        );
        assert_eq!(account.limit(), LIMIT);
        assert_eq!(account.at_limit(), 0, "{}", pod.node);
        assert!(start >= rest && exec > rest, "the peak is of another group");
        assert!(start < START_MOST && exec < START_MOST && rest < HALF);
    }
}

/// KiB, and percent of both bounds.
fn percent(bytes: u64) -> String {
    let part = |of: u64| bytes * 100 / of;
    format!("{} KiB ({} % of 32 MiB, {} % of 16 MiB)", bytes >> 10, part(LIMIT), part(HALF))
}
