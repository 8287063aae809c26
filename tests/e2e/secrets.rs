//! Tokens and authorities that are replaced under a running agent, by the real kubelet.

use std::time::Duration;

use crate::cluster::{Cluster, Pod};

/// The kubelet looks at a pod's volumes now and then, and an agent for its peers.
const PATIENCE: Duration = Duration::from_secs(150);
/// What must not be counted: a token or a certificate that was not followed.
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

/// That file, as each of the agents sees it.
fn seen(cluster: &Cluster, pods: &[Pod], file: &str) -> Vec<String> {
    let of = |pod: &Pod| cluster.told_by_script(&["secret", &pod.node, file]);
    pods.iter().map(of).collect()
}

/// Everybody but the API server, which goes first or last.
fn restart_the_rest(cluster: &Cluster, pods: &[Pod]) {
    restart(cluster, "controller-manager");
    restart(cluster, "scheduler");
    for pod in pods {
        restart(cluster, &format!("{}/kubelet", pod.node));
    }
}

/// Starts the API server anew, so that no list is under way, and waits for the next of every agent.
fn assert_all_list_anew(cluster: &Cluster, pods: &[Pod]) {
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

/// A token lives for an hour; nobody waits that long here. So the key that signs them is replaced, and
/// the kubelets, which keep a token until its time is up, are started anew.
#[test]
fn tokens_are_replaced_under_running_agents_and_no_list_is_refused() {
    let Some(cluster) = Cluster::ours() else { return };
    let pods = cluster.with_agents();
    let (old, before) = (seen(&cluster, &pods, "token"), refused(&cluster, &pods));
    cluster.script(&["new-token-key"]);
    restart(&cluster, "apiserver");
    // It lends its controllers tokens of the same kind.
    restart_the_rest(&cluster, &pods);
    cluster.wait(PATIENCE, "every agent has a new token", || {
        let new = seen(&cluster, &pods, "token");
        new.iter().zip(&old).all(|(new, old)| !new.is_empty() && new != old)
    });
    cluster.script(&["drop-old-token-keys"]);
    assert_all_list_anew(&cluster, &pods);
    assert_eq!(refused(&cluster, &pods), before, "refused on the way");
    let now = cluster.pods();
    assert!(pods.iter().all(|pod| now.iter().any(|same| same.uid == pod.uid)), "{now:?}");
    let thief = format!("--token={}", old[0]);
    let server = cluster.kubectl(&[
        "config",
        "view",
        "--minify",
        "--output=jsonpath={.clusters[0].cluster.server}",
    ]);
    let said = cluster.attempt(&[
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        &format!("--server={server}"),
        &thief,
        "get",
        "pods",
        "-n=wylis",
    ]);
    let said = said.expect_err("the old token still opens the door");
    assert!(said.contains("logged in") || said.contains("nauthorized"), "{said}");
    println!("every token was replaced, the old ones are refused, and no list was");
}

#[test]
fn an_authority_that_is_replaced_in_the_usual_steps_is_followed_by_running_agents() {
    let Some(cluster) = Cluster::ours() else { return };
    let pods = cluster.with_agents();
    let before = refused(&cluster, &pods);
    let held = |count: usize| {
        let of = |text: &String| text.matches("BEGIN CERTIFICATE").count() == count;
        seen(&cluster, &pods, "ca.crt").iter().all(of)
    };
    cluster.script(&["server-authority", "announce"]);
    restart_the_rest(&cluster, &pods);
    cluster.wait(PATIENCE, "every agent is told of both authorities", || held(2));
    cluster.script(&["server-authority", "switch"]);
    assert_all_list_anew(&cluster, &pods);
    cluster.script(&["server-authority", "forget"]);
    restart_the_rest(&cluster, &pods);
    cluster.wait(PATIENCE, "every agent is told of the new one alone", || held(1));
    assert_all_list_anew(&cluster, &pods);
    assert_eq!(refused(&cluster, &pods), before, "refused on the way");
    let now = cluster.pods();
    assert!(pods.iter().all(|pod| now.iter().any(|same| same.uid == pod.uid)), "{now:?}");
    println!("the API server's authority was replaced, and no list was refused for it");
}
