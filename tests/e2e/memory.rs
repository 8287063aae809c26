//! What the kernel charges to a pod, in the account that the kubelet made for it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use wylis_harness::skip;

use crate::cluster::{Cluster, NAMESPACE, Pod};

/// The limit of the manifest.
const LIMIT: u64 = 32 << 20;
/// For orientation: what the agent itself stays under.
const HALF: u64 = 16 << 20;
/// What a container's start may take: the runtime's own init is charged to it.
const START_MOST: u64 = 24 << 20;

/// A pod's control group, of the version that the machine has.
struct Account {
    group: PathBuf,
    /// Of version 2; version 1 has other names for the same figures.
    unified: bool,
}

impl Account {
    /// As `tests/cluster` lays them out.
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

    /// How often it wanted more than the limit.
    fn at_limit(&self) -> u64 {
        if !self.unified {
            return self.number("memory.failcnt", "");
        }
        let events = self.read("memory.events");
        let max = events.lines().find_map(|line| line.strip_prefix("max "));
        max.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{events}"))
    }
}

/// The most that was ever charged, and, where the kernel lets us, since [`Peak::begin_anew`].
struct Peak {
    /// Of version 2, what is written counts for this descriptor alone.
    file: File,
}

impl Peak {
    fn of(path: &Path) -> Self {
        // Version 2 takes no writing before Linux 6.12.
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.or_else(|_| File::open(path));
        Self { file: file.unwrap_or_else(|error| panic!("{}: {error}", path.display())) }
    }

    /// Whether the kernel lets us.
    fn begin_anew(&mut self) -> bool {
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
    let Some(cluster) = Cluster::ours() else { return };
    let pods = cluster.with_agents();
    let cluster_group = cluster.told_by_script(&["group"]);
    let accounts = pods.iter().map(|pod| Account::of(pod, cluster_group.trim_end()));
    let accounts: Vec<Account> = accounts.collect();
    if accounts[0].unified && !accounts[0].group.join("memory.peak").exists() {
        return skip("this kernel keeps no peak for a control group (Linux 5.19 and newer do)");
    }
    for (pod, account) in pods.iter().zip(&accounts) {
        let mut peak = account.peak();
        let (start, rest) = (peak.read(), account.now());
        let anew = peak.begin_anew();
        cluster.kubectl(&["-n", NAMESPACE, "exec", &pod.name, "--", "/wylis", "--help"]);
        let exec = peak.read();
        let since = if anew { "during an exec" } else { "since its start, with an exec," };
        println!(
            "{}: peak since its start {}, at rest {}, peak {since} {}; {} times at the limit",
            pod.node,
            told(start),
            told(rest),
            told(exec),
            account.at_limit()
        );
        assert_eq!(account.limit(), LIMIT);
        assert_eq!(account.at_limit(), 0, "{}", pod.node);
        assert!(start >= rest && exec > rest, "the peak is of another group");
        assert!(start < START_MOST && exec < START_MOST && rest < HALF);
    }
}

/// Kibibytes, and how much of both bounds.
fn told(bytes: u64) -> String {
    let part = |of: u64| bytes * 100 / of;
    format!("{} KiB ({} % of 32 MiB, {} % of 16 MiB)", bytes >> 10, part(LIMIT), part(HALF))
}
