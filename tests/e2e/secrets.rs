//! Tokens and certificate authorities that the kubelet replaces under running agents.

use std::time::Duration;

use crate::cluster::{Cluster, Pod};

/// Enough for the kubelet's next sync of a pod's volumes and an agent's next refresh.
const PATIENCE: Duration = Duration::from_secs(150);
/// The failures that a missed token or certificate would cause.
const REFUSED: [&str; 3] = ["unauthorized", "forbidden", "tls"];

fn refused(cluster: &Cluster, pods: &[Pod]) -> f64 {
    let count = |pod: &Pod| {
        let metrics = cluster.metrics(pod);
        let of = |reason| {
            metrics.sum("wylis_discovery_failures_total", &[&format!("reason=\"{reason}\"")])
        };
        REFUSED.map(of).iter().sum::<f64>()
    };
    pods.iter().map(count).sum()
}

/// The content of a secret file in each agent's pod.
fn secret(cluster: &Cluster, pods: &[Pod], file: &str) -> Vec<String> {
    let of = |pod: &Pod| cluster.script_output(&["secret", &pod.node, file]);
    pods.iter().map(of).collect()
}

/// Restarts everything but the API server.
fn restart_others(cluster: &Cluster, pods: &[Pod]) {
    restart(cluster, "controller-manager");
    restart(cluster, "scheduler");
    for pod in pods {
        restart(cluster, &format!("{}/kubelet", pod.node));
    }
}

/// Restarts the API server, so that no list is in flight, and waits for a new list of every agent.
fn assert_all_list_again(cluster: &Cluster, pods: &[Pod]) {
    restart(cluster, "apiserver");
    let lists = |pod: &Pod| {
        cluster.metrics(pod).sum("wylis_discovery_refreshes_total", &["result=\"success\""])
    };
    let listed: Vec<f64> = pods.iter().map(lists).collect();
    cluster.wait(PATIENCE, "every agent has listed", || {
        pods.iter().zip(&listed).all(|(pod, listed)| lists(pod) >= listed + 1.0)
    });
}

fn restart(cluster: &Cluster, part: &str) {
    cluster.script(&["stop", part]);
    cluster.script(&["start", part]);
}

/// A token is valid for an hour, too long for a test. So the test replaces the signing key, and restarts
/// the kubelets, which otherwise use a token until it expires.
#[test]
fn tokens_are_replaced_under_running_agents_and_no_list_is_refused() {
    let Some(cluster) = Cluster::local() else { return };
    let pods = cluster.with_agents();
    let (old, before) = (secret(&cluster, &pods, "token"), refused(&cluster, &pods));
    cluster.script(&["new-token-key"]);
    restart(&cluster, "apiserver");
    // The controllers use tokens of the same kind.
    restart_others(&cluster, &pods);
    cluster.wait(PATIENCE, "every agent has a new token", || {
        let new = secret(&cluster, &pods, "token");
        new.iter().zip(&old).all(|(new, old)| !new.is_empty() && new != old)
    });
    cluster.script(&["drop-old-token-keys"]);
    assert_all_list_again(&cluster, &pods);
    assert_eq!(refused(&cluster, &pods), before, "a list was refused");
    let now = cluster.pods();
    assert!(pods.iter().all(|pod| now.iter().any(|same| same.uid == pod.uid)), "{now:?}");
    let thief = format!("--token={}", old[0]);
    let server = cluster.kubectl(&[
        "config",
        "view",
        "--minify",
        "--output=jsonpath={.clusters[0].cluster.server}",
    ]);
    let result = cluster.attempt(&[
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        &format!("--server={server}"),
        &thief,
        "get",
        "pods",
        "-n=wylis",
    ]);
    let error = result.expect_err("the old token is still valid");
    assert!(error.contains("logged in") || error.contains("nauthorized"), "{error}");
    println!("every token was replaced, the old ones are refused, no list was refused");
}

#[test]
fn running_agents_follow_a_rotation_of_the_certificate_authority() {
    let Some(cluster) = Cluster::local() else { return };
    let pods = cluster.with_agents();
    let before = refused(&cluster, &pods);
    let have = |count: usize| {
        let of = |text: &String| text.matches("BEGIN CERTIFICATE").count() == count;
        secret(&cluster, &pods, "ca.crt").iter().all(of)
    };
    cluster.script(&["server-authority", "announce"]);
    restart_others(&cluster, &pods);
    cluster.wait(PATIENCE, "every agent has both authorities", || have(2));
    cluster.script(&["server-authority", "switch"]);
    assert_all_list_again(&cluster, &pods);
    cluster.script(&["server-authority", "forget"]);
    restart_others(&cluster, &pods);
    cluster.wait(PATIENCE, "every agent has the new authority only", || have(1));
    assert_all_list_again(&cluster, &pods);
    assert_eq!(refused(&cluster, &pods), before, "a list was refused");
    let now = cluster.pods();
    assert!(pods.iter().all(|pod| now.iter().any(|same| same.uid == pod.uid)), "{now:?}");
    println!("the API server's authority was replaced, no list was refused");
}
