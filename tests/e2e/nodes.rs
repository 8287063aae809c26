//! Nodes and pods that come and go.

use std::time::{Duration, Instant};

use wylis_harness::watch::Watch;

use crate::cluster::{Cluster, NAMESPACE, Pod};
use crate::watch;

/// A drain, a start, a list: all of it many times over.
const PATIENCE: Duration = Duration::from_secs(120);
/// The default interval and some.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// Watches until every node has a ready agent that all others find up, and an interval more.
fn settle(cluster: &Cluster, watch: &mut Watch, what: &str) -> Duration {
    let begun = Instant::now();
    let mut settled = None;
    let done = watch::until(
        watch,
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
fn a_deleted_pod_is_followed_by_another_without_a_failed_probe() {
    let Some(cluster) = Cluster::find() else { return };
    let pods = cluster.with_agents();
    let mut watch = watch::begin(&cluster, &pods);
    cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", &pods[0].name, "--wait=false"]);
    let gone = |now: &[Pod]| now.iter().all(|pod| pod.uid != pods[0].uid);
    assert!(
        watch::until(&mut watch, &cluster, PATIENCE, || cluster.pods(), gone),
        "it does not go"
    );
    let took = settle(&cluster, &mut watch, "pod deleted");
    println!("pod deleted: all pairs up {took:.1?} after it was gone, {} failures", watch.failures);
    assert_eq!(watch.failures, 0, "{:#?}", watch.failed);
}

#[test]
fn a_node_that_is_cordoned_and_drained_goes_on_being_probed() {
    let Some(cluster) = Cluster::find() else { return };
    let pods = cluster.with_agents();
    let node = pods.last().unwrap().node.as_str();
    let mut watch = watch::begin(&cluster, &pods);
    cluster.kubectl(&["drain", node, "--ignore-daemonsets", "--timeout=60s"]);
    let took = settle(&cluster, &mut watch, "drained");
    cluster.kubectl(&["uncordon", node]);
    let now = cluster.pods();
    assert!(pods.iter().all(|pod| now.iter().any(|same| same.uid == pod.uid)), "{now:?}");
    println!("{node} cordoned and drained: settled after {took:.1?}, {} failures", watch.failures);
    assert_eq!(watch.failures, 0, "{:#?}", watch.failed);
}

/// Takes nodes out of the cluster for good, and waits until no agent has a trace of them.
fn remove(cluster: &Cluster, nodes: [&str; 2]) -> Duration {
    nodes.iter().for_each(|node| cluster.script(&["crash", node]));
    cluster.kubectl(&["delete", "node", nodes[0], nodes[1], "--ignore-not-found"]);
    let begun = Instant::now();
    cluster.wait(PATIENCE + PATIENCE, "no series of the nodes is left", || {
        cluster.pods().iter().all(|pod| {
            let metrics = cluster.metrics(pod);
            let forgotten = |node: &&str| metrics.of_node(node).is_empty();
            !nodes.contains(&pod.node.as_str()) && nodes.iter().all(forgotten)
        })
    });
    begun.elapsed()
}

fn boot(cluster: &Cluster, node: &str) {
    cluster.script(&["boot", node]);
    cluster.wait(PATIENCE, "the node joins", || cluster.nodes().iter().any(|name| name == node));
}

#[test]
fn a_node_that_joins_is_probed_one_that_dies_stays_visible_and_one_that_is_deleted_is_forgotten() {
    let Some(cluster) = Cluster::ours() else { return };
    // What an earlier run may have left.
    remove(&cluster, ["n4", "n5"]);
    let pods = cluster.with_agents();
    let mut watch = watch::begin(&cluster, &pods);
    let begun = Instant::now();
    // Five: a quarter of them is two, of which the dead one will take one. In a smaller cluster the
    // controller waits with its update until the dead node is deleted.
    for node in ["n4", "n5"] {
        boot(&cluster, node);
    }
    settle(&cluster, &mut watch, "n4 and n5 joined");
    let took = begun.elapsed().saturating_sub(AFTERWARDS);
    println!("n4 and n5: all pairs up {took:.1?} after they began, {} failures", watch.failures);
    assert_eq!(watch.failures, 0, "{:#?}", watch.failed);

    let others: Vec<Pod> = cluster.pods().into_iter().filter(|pod| pod.node != "n4").collect();
    cluster.script(&["crash", "n4"]);
    let crashed = Instant::now();
    let down = |pod: &Pod| cluster.peer(pod, "n4")["verdict"] == "down";
    cluster.wait(PATIENCE, "all find n4 down", || others.iter().all(down));
    println!("n4 without power: down for all others after {:.1?}", crashed.elapsed());
    cluster.wait(PATIENCE, "n4 is not ready", || !is_ready(&cluster, "n4"));
    println!("n4 NotReady after {:.1?}", crashed.elapsed());
    roll_beside_the_dead(&cluster, &others);
    assert_known_to_newcomers(&cluster);
    println!("n4 and n5 deleted: no series left after {:.1?}", remove(&cluster, ["n4", "n5"]));
}

/// The rollout has marked n4's pod, which nobody can take away; an agent that starts after its deadline
/// never knew it alive, and must tell of it all the same.
fn assert_known_to_newcomers(cluster: &Cluster) {
    let pods = cluster.pods();
    let dead = pods.iter().find(|pod| pod.node == "n4").expect("n4's pod was taken away");
    let deadline = dead.deadline.as_ref().expect("the rollout has not marked n4's pod");
    let newcomers = pods.iter().filter(|pod| pod.created > *deadline).count();
    assert!(newcomers > 0, "no agent is younger than {deadline}: {pods:#?}");
    let told_of = |pod: &Pod| {
        let peer = cluster.peer(pod, "n4");
        peer["verdict"] == "down" && peer["instance"] == dead.uid && peer["successes"] == 0
    };
    cluster.wait(PATIENCE, "n4 is down for those that never knew it", || {
        live(cluster).iter().all(told_of)
    });
    println!("n4 is down for all new agents, {newcomers} of them younger than its pod's deadline");
}

fn live(cluster: &Cluster) -> Vec<Pod> {
    cluster.pods().into_iter().filter(|pod| pod.node != "n4").collect()
}

/// A dead node's pod can only be marked; all others must be replaced meanwhile.
fn roll_beside_the_dead(cluster: &Cluster, others: &[Pod]) {
    let mut watch = watch::begin(cluster, others);
    let begun = Instant::now();
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", "daemonset/wylis"]);
    let replaced = |now: &[Pod]| {
        let new = now.iter().filter(|pod| others.iter().all(|old| old.uid != pod.uid));
        new.filter(|pod| pod.ready).count() == others.len() && now.len() == others.len()
    };
    let done = watch::until(&mut watch, cluster, PATIENCE + PATIENCE, || live(cluster), replaced);
    assert!(done, "the rollout is blocked");
    let failed: Vec<_> = watch.failed.iter().filter(|told| !told.contains(" to n4:")).collect();
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

/// A node comes back from a reboot, and its network plugin does not.
#[test]
fn a_pod_that_cannot_start_after_a_reboot_is_visible_to_the_others() {
    let Some(cluster) = Cluster::ours() else { return };
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
    let told = || {
        others
            .iter()
            .map(|pod| {
                let peer = cluster.peer(pod, "n3");
                format!("pods {:?}, n3 {} ready {}", states(pod), peer["verdict"], peer["ready"])
            })
            .collect::<Vec<_>>()
    };
    cluster.wait(PATIENCE, "the others see it", || {
        others.iter().all(|pod| {
            let [_, pending, no_ip, _] = states(pod);
            pending + no_ip > 0.0 || cluster.peer(pod, "n3")["verdict"] == "down"
        })
    });
    println!("n3 back without its network: {:#?} after {:.1?}", told(), begun.elapsed());
    cluster.script(&["plug", "n3"]);
    let mut watch = Watch::default();
    let took = settle(&cluster, &mut watch, "n3 has its network again");
    println!("n3 with its network again: all pairs up after {took:.1?}");
}
