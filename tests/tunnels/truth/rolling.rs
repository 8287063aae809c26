//! Nodes that come and go, and a rolling update of all agents, while workloads connect.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::table;
use super::trial::Trial;
use super::{INTERVAL, SETTINGS};
use crate::cluster::node;
use crate::network::Plan;
use crate::workload::{Link, Tally};

/// Long enough for a refresh of every agent and a newcomer's first probe.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two connections of a workload.
const LOAD: Duration = Duration::from_millis(200);

#[test]
fn nodes_come_and_go_and_all_are_rolled_over_under_load() {
    let Some(mut trial) = Trial::begin_partly(table::ROLLING, Plan::of(4), 3, SETTINGS) else {
        return;
    };
    let links: Vec<Link> = [(1, 2), (2, 3), (3, 1)]
        .map(|(source, target)| Link::new(&trial.cluster.network, source, target))
        .into();
    let stop = AtomicBool::new(false);
    let load = std::thread::scope(|scope| {
        let clients: Vec<_> = links
            .iter()
            .map(|link| {
                scope.spawn(|| {
                    let mut tally = Tally::default();
                    while !stop.load(Ordering::Relaxed) {
                        tally.add(link.connect(Duration::from_secs(5)));
                        std::thread::sleep(LOAD);
                    }
                    tally
                })
            })
            .collect();
        // The load ends whatever happens.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(&mut trial)));
        stop.store(true, Ordering::Relaxed);
        let tallies: Vec<Tally> =
            clients.into_iter().map(|client| client.join().unwrap()).collect();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Tally::sum(&tallies)
    });
    println!("truth: rolling: the load meanwhile: {load}");
    assert_eq!((load.slow, load.failed), (0, 0), "{load}");
    assert!(load.connections > 30, "{load}");
    let local = trial.cluster.mesh.sum("wylis_local_errors_total", &[]);
    assert_eq!(local, 0.0, "{}", trial.cluster.mesh.logs());
    trial.end(|_| {});
}

fn change(trial: &mut Trial) {
    trial.inject(|cluster| cluster.add(4));
    trial.poll_for(4, "the new node is up for all", PATIENCE);
    remove(trial, 4);
    trial.poll("no series of the removed node is left", PATIENCE, |watch, _| {
        (1..=3).all(|source| watch.peer(source, 4).is_null())
    });
    for source in 1..=3 {
        let metrics = trial.cluster.mesh.agent(&node(source)).metrics();
        assert!(metrics.of_node("n4").is_empty(), "{:?}", metrics.of_node("n4"));
    }
    for number in 1..=3 {
        remove(trial, number);
        trial.cluster.add(number);
        trial.poll_for(3, "the successor is up for all", PATIENCE);
    }
    // Two more probes of every pair.
    let end = std::time::Instant::now() + INTERVAL * 2;
    trial.poll("two more intervals", PATIENCE, |_, _| std::time::Instant::now() > end);
}

/// Deletes a node's pod, and looks on while its agent drains.
fn remove(trial: &mut Trial, number: u8) {
    let name = node(number);
    trial.cluster.mesh.begin_delete(&name);
    let begun = std::time::Instant::now();
    loop {
        trial.watch.look(&trial.cluster, trial.row);
        let gone = trial.cluster.mesh.finish_delete(&name, Duration::from_millis(200));
        if let Some(status) = gone {
            assert!(status.success(), "{status}\n{}", trial.cluster.mesh.logs());
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{name} does not end");
    }
    trial.cluster.pods.remove(&number);
}
