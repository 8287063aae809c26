//! What the kernel charges to a pod, in the account that the kubelet made for it.

use std::path::PathBuf;

use wylis_harness::skip;

use crate::cluster::{Cluster, NAMESPACE, Pod};

/// The limit of the manifest.
const LIMIT: u64 = 32 << 20;
/// What a container's start may take: the runtime's own init is charged to it.
const START_MOST: u64 = 24 << 20;
/// Of the agent at rest, in orientation: half the limit.
const REST_MOST: u64 = 16 << 20;

/// The pod's control group, of version 1, as `tests/cluster` lays them out.
fn group(pod: &Pod) -> PathBuf {
    let below = format!("wylis-cluster/{}/kubepods/burstable/pod{}", pod.node, pod.uid);
    PathBuf::from("/sys/fs/cgroup/memory").join(below)
}

fn number(pod: &Pod, file: &str) -> u64 {
    let path = group(pod).join(file);
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().parse().unwrap_or_else(|_| panic!("{}: {text}", path.display()))
}

#[test]
fn the_pod_stays_far_below_its_limit_at_start_at_rest_and_during_an_exec() {
    let Some(cluster) = Cluster::ours() else { return };
    let pods = cluster.with_agents();
    if !group(&pods[0]).exists() {
        return skip("the kernel's accounts are not of version 1");
    }
    const PEAK: &str = "memory.max_usage_in_bytes";
    for pod in &pods {
        let start = number(pod, PEAK);
        let rest = number(pod, "memory.usage_in_bytes");
        // From here on, the peak is that of the exec.
        std::fs::write(group(pod).join(PEAK), "0").unwrap();
        cluster.kubectl(&["-n", NAMESPACE, "exec", &pod.name, "--", "/wylis", "--help"]);
        let exec = number(pod, PEAK);
        let at_limit = number(pod, "memory.failcnt");
        println!(
            "{}: peak since its start {} KiB, at rest {} KiB, peak during an exec {} KiB of {} KiB, \
             {at_limit} times at the limit",
            pod.node,
            start >> 10,
            rest >> 10,
            exec >> 10,
            number(pod, "memory.limit_in_bytes") >> 10,
        );
        assert_eq!(number(pod, "memory.limit_in_bytes"), LIMIT);
        assert_eq!(at_limit, 0, "{}", pod.node);
        assert!(start < START_MOST && exec < START_MOST && rest < REST_MOST);
    }
}
