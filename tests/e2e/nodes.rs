//! Nodes and pods that join, leave and fail.

use std::time::{Duration, Instant};

use wylis_harness::pair_counters::PairCounters;

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::observe;

/// Many times a drain, a start and a list.
const PATIENCE: Duration = Duration::from_secs(120);
/// More than the default interval.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// Records until every node has a ready agent that is up for all others, and for one more interval.
fn settle(cluster: &Cluster, counters: &mut PairCounters, what: &str) -> Duration {
    let begun = Instant::now();
    let mut settled = None;
    let done = observe::until(
        counters,
        cluster,
        PATIENCE,
        || cluster.pods(),
        |pods| {
            if settled.is_none() && all_up(cluster, pods) {
                settled = Some(begun.elapsed());
            }
            settled.is_some_and(|after| begun.elapsed() > after + AFTERWARDS)
        },
    );
    assert!(done, "{what}: not settled");
    settled.unwrap()
}

fn all_up(cluster: &Cluster, pods: &[Pod]) -> bool {
    let pairs = |source: &Pod| {
        pods.iter().filter(|target| target.node != source.node).all(|target| {
            let peer = cluster.peer(source, &target.node);
            peer["verdict"] == "up" && peer["instance"] == target.uid
        })
    };
    pods.len() == cluster.nodes().len()
        && pods.iter().all(|pod| pod.ready && pod.deadline.is_none() && pairs(pod))
}

#[test]
fn a_deleted_pod_is_replaced_without_a_failed_probe() {
    let Some(cluster) = Cluster::find() else { return };
    let pods = cluster.with_agents();
    let mut counters = observe::begin(&cluster, &pods);
    cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", &pods[0].name, "--wait=false"]);
    let gone = |now: &[Pod]| now.iter().all(|pod| pod.uid != pods[0].uid);
    assert!(
        observe::until(&mut counters, &cluster, PATIENCE, || cluster.pods(), gone),
        "the pod stays"
    );
    let took = settle(&cluster, &mut counters, "pod deleted");
    println!(
        "pod deleted: all pairs up {took:.1?} after it was gone, {} failures",
        counters.failures
    );
    assert_eq!(counters.failures, 0, "{:#?}", counters.failed);
}

#[test]
fn a_cordoned_and_drained_node_is_still_probed() {
    let Some(cluster) = Cluster::find() else { return };
    let pods = cluster.with_agents();
    let node = pods.last().unwrap().node.as_str();
    let mut counters = observe::begin(&cluster, &pods);
    cluster.kubectl(&["drain", node, "--ignore-daemonsets", "--timeout=60s"]);
    let took = settle(&cluster, &mut counters, "drained");
    cluster.kubectl(&["uncordon", node]);
    let now = cluster.pods();
    assert!(pods.iter().all(|pod| now.iter().any(|same| same.uid == pod.uid)), "{now:?}");
    println!(
        "{node} cordoned and drained: settled after {took:.1?}, {} failures",
        counters.failures
    );
    assert_eq!(counters.failures, 0, "{:#?}", counters.failed);
}

/// Removes nodes from the cluster, and waits until no agent has a series of them.
fn remove(cluster: &Cluster, nodes: [&str; 2]) -> Duration {
    nodes.iter().for_each(|node| cluster.script(&["crash", node]));
    cluster.kubectl(&["delete", "node", nodes[0], nodes[1], "--ignore-not-found"]);
    let begun = Instant::now();
    cluster.wait(PATIENCE + PATIENCE, "no series of the nodes is left", || {
        cluster.pods().iter().all(|pod| {
            let metrics = cluster.metrics(pod);
            let is_gone = |node: &&str| metrics.of_node(node).is_empty();
            !nodes.contains(&pod.node.as_str()) && nodes.iter().all(is_gone)
        })
    });
    begun.elapsed()
}

fn boot(cluster: &Cluster, node: &str) {
    cluster.script(&["boot", node]);
    cluster.wait(PATIENCE, "the node joins", || cluster.nodes().iter().any(|name| name == node));
}

#[test]
fn a_joining_node_is_probed_a_dead_one_stays_visible_and_a_deleted_one_is_dropped() {
    let Some(cluster) = Cluster::local() else { return };
    // Nodes of an earlier run.
    remove(&cluster, ["n4", "n5"]);
    let pods = cluster.with_agents();
    let mut counters = observe::begin(&cluster, &pods);
    let begun = Instant::now();
    // With five nodes, maxUnavailable is two, and the dead node takes one. In a smaller cluster the
    // rollout waits until the dead node is deleted.
    for node in ["n4", "n5"] {
        boot(&cluster, node);
    }
    settle(&cluster, &mut counters, "n4 and n5 joined");
    let took = begun.elapsed().saturating_sub(AFTERWARDS);
    println!("n4 and n5: all pairs up {took:.1?} after they began, {} failures", counters.failures);
    assert_eq!(counters.failures, 0, "{:#?}", counters.failed);

    let others: Vec<Pod> = cluster.pods().into_iter().filter(|pod| pod.node != "n4").collect();
    cluster.script(&["crash", "n4"]);
    let crashed = Instant::now();
    let down = |pod: &Pod| cluster.peer(pod, "n4")["verdict"] == "down";
    cluster.wait(PATIENCE, "n4 is down for all", || others.iter().all(down));
    println!("n4 without power: down for all others after {:.1?}", crashed.elapsed());
    cluster.wait(PATIENCE, "n4 is not ready", || !is_ready(&cluster, "n4"));
    println!("n4 NotReady after {:.1?}", crashed.elapsed());
    roll_beside_a_dead_node(&cluster, &others);
    assert_known_to_new_agents(&cluster);
    println!("n4 and n5 deleted: no series left after {:.1?}", remove(&cluster, ["n4", "n5"]));
}

/// The rollout marked n4's pod for deletion, and the pod stays. An agent that starts after its deadline
/// must report it too, although it never saw it alive.
fn assert_known_to_new_agents(cluster: &Cluster) {
    let pods = cluster.pods();
    let dead = pods.iter().find(|pod| pod.node == "n4").expect("n4's pod is gone");
    let deadline = dead.deadline.as_ref().expect("n4's pod is not marked for deletion");
    let newer = pods.iter().filter(|pod| pod.created > *deadline).count();
    assert!(newer > 0, "no agent is younger than {deadline}: {pods:#?}");
    let reports = |pod: &Pod| {
        let peer = cluster.peer(pod, "n4");
        peer["verdict"] == "down" && peer["instance"] == dead.uid && peer["successes"] == 0
    };
    cluster.wait(PATIENCE, "n4 is down for new agents", || live(cluster).iter().all(reports));
    println!("n4 is down for all new agents, {newer} of them started after its pod's deadline");
}

fn live(cluster: &Cluster) -> Vec<Pod> {
    cluster.pods().into_iter().filter(|pod| pod.node != "n4").collect()
}

/// A dead node's pod stays; all others must be replaced.
fn roll_beside_a_dead_node(cluster: &Cluster, others: &[Pod]) {
    let mut counters = observe::begin(cluster, others);
    let begun = Instant::now();
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", "daemonset/wylis"]);
    let replaced = |now: &[Pod]| {
        let new = now.iter().filter(|pod| others.iter().all(|old| old.uid != pod.uid));
        new.filter(|pod| pod.ready).count() == others.len() && now.len() == others.len()
    };
    let done =
        observe::until(&mut counters, cluster, PATIENCE + PATIENCE, || live(cluster), replaced);
    assert!(done, "the rollout is blocked");
    let failed: Vec<_> =
        counters.failed.iter().filter(|failure| !failure.contains(" to n4:")).collect();
    println!(
        "rollout of {} beside a dead node in {:.1?}: {} failures between them",
        others.len(),
        begun.elapsed(),
        failed.len()
    );
    assert!(failed.is_empty(), "{failed:#?}");
}

fn is_ready(cluster: &Cluster, node: &str) -> bool {
    let node = cluster.json(&["get", "node", node]);
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|known| known["type"] == "Ready" && known["status"] == "True")
}

/// A node returns from a reboot without its network plugin.
#[test]
fn a_pod_that_cannot_start_after_a_reboot_is_visible_to_the_others() {
    let Some(cluster) = Cluster::local() else { return };
    cluster.with_agents();
    let begun = Instant::now();
    cluster.script(&["crash", "n3"]);
    cluster.script(&["boot", "n3", "without-network"]);
    let others: Vec<Pod> = cluster.pods().into_iter().filter(|pod| pod.node != "n3").collect();
    let states = |pod: &Pod| {
        let metrics = cluster.metrics(pod);
        ["peer", "pending", "no_ip", "terminating"]
            .map(|state| metrics.sum("wylis_pods", &[&format!("state=\"{state}\"")]))
    };
    let summary = || {
        others
            .iter()
            .map(|pod| {
                let peer = cluster.peer(pod, "n3");
                format!("pods {:?}, n3 {} ready {}", states(pod), peer["verdict"], peer["ready"])
            })
            .collect::<Vec<_>>()
    };
    cluster.wait(PATIENCE, "the others report it", || {
        others.iter().all(|pod| {
            let [_, pending, no_ip, _] = states(pod);
            pending + no_ip > 0.0 || cluster.peer(pod, "n3")["verdict"] == "down"
        })
    });
    println!("n3 back without its network: {:#?} after {:.1?}", summary(), begun.elapsed());
    cluster.script(&["plug", "n3"]);
    let mut counters = PairCounters::default();
    let took = settle(&cluster, &mut counters, "n3 has its network again");
    println!("n3 with its network again: all pairs up after {took:.1?}");
}
