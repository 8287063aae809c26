//! Installation, up to the first probe of every pair.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, NAMESPACE};

/// The limit after `kubectl apply`.
const PROBED_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn an_apply_prints_no_warning_and_every_pair_is_probed_within_30_s() {
    let Some(cluster) = Cluster::find() else { return };
    cluster.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=90s"]);
    // Until the API server no longer returns the namespace.
    cluster.wait(Duration::from_secs(60), "the namespace is gone", || {
        cluster.attempt(&["get", "namespace", NAMESPACE]).is_err()
    });
    let begun = Instant::now();
    let output = cluster.output(&["apply", "-f", "manifests/"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.lines().all(|line| line.ends_with(" created")), "{printed}");

    let printed = cluster.kubectl(&["apply", "-f", "manifests/"]);
    assert!(printed.lines().all(|line| line.ends_with(" unchanged")), "{printed}");

    let nodes = cluster.nodes().len();
    assert!(nodes >= 2, "a pair needs two nodes");
    let mut ready_after = None;
    let mut unproven = Vec::new();
    while begun.elapsed() < PROBED_WITHIN {
        let pods = cluster.pods();
        let ready = pods.iter().filter(|pod| pod.ready).count();
        if ready == nodes && ready_after.is_none() {
            ready_after = Some(begun.elapsed());
        }
        unproven = cluster.unproven(&pods);
        if pods.len() == nodes && unproven.is_empty() && ready_after.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let probed_after = begun.elapsed();
    assert!(probed_after < PROBED_WITHIN, "{ready_after:?}, {unproven:#?}");
    println!(
        "{nodes} nodes: all agents ready {:.1?} after apply, all {} pairs probed without a failure \
         after {probed_after:.1?}",
        ready_after.unwrap(),
        nodes * (nodes - 1)
    );
    let set = cluster.json(&["-n", NAMESPACE, "get", "daemonset", "wylis"]);
    assert_eq!(set["status"]["desiredNumberScheduled"], nodes, "{set}");
    let namespace = cluster.json(&["get", "namespace", NAMESPACE]);
    let enforced = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    assert_eq!(enforced, "restricted");
    for pod in cluster.pods() {
        let metrics = cluster.metrics(&pod);
        assert_eq!(metrics.sum("wylis_local_errors_total", &[]), 0.0, "{}", pod.node);
        assert_eq!(metrics.sum("wylis_discovery_failures_total", &[]), 0.0, "{}", pod.node);
    }
}

#[test]
fn the_namespace_admits_no_pod_that_asks_for_more_than_the_agent() {
    let Some(cluster) = Cluster::find() else { return };
    cluster.with_agents();
    let refused = cluster.attempt(&[
        "-n",
        NAMESPACE,
        "run",
        "intruder",
        "--image=wylis:0.1.0",
        "--privileged",
        "--dry-run=server",
    ]);
    let error = refused.expect_err("a privileged pod was admitted");
    assert!(error.contains("violates PodSecurity \"restricted"), "{error}");
}
