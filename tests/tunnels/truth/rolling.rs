//! A node added, a node removed, and a rolling update of all agents, while workloads connect.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::INTERVAL;
use super::table;
use super::trial::Trial;
use crate::mesh::node;
use crate::network::Topology;
use crate::workload::{Link, Tally};

/// Enough for a refresh of every agent and the first probe of a new peer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two connections of a workload.
const LOAD_PAUSE: Duration = Duration::from_millis(200);

#[test]
fn nodes_join_leave_and_roll_under_load() {
    let Some(mut trial) = Trial::begin_partly(table::ROLLING, Topology::of(4), 3) else {
        return;
    };
    let links: Vec<Link> = [(1, 2), (2, 3), (3, 1)]
        .map(|(source, target)| Link::new(&trial.mesh.network, source, target))
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
                        std::thread::sleep(LOAD_PAUSE);
                    }
                    tally
                })
            })
            .collect();
        // Ends the load even after a panic.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(&mut trial)));
        stop.store(true, Ordering::Relaxed);
        let tallies: Vec<Tally> =
            clients.into_iter().map(|client| client.join().unwrap()).collect();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Tally::sum(&tallies)
    });
    println!("truth: rolling: load: {load}");
    assert_eq!((load.slow, load.failed), (0, 0), "{load}");
    assert!(load.connections > 30, "{load}");
    let local = trial.mesh.agents.sum("wylis_local_errors_total", &[]);
    assert_eq!(local, 0.0, "{}", trial.mesh.agents.logs());
    trial.end(|_| {});
}

fn change(trial: &mut Trial) {
    trial.inject(|mesh| mesh.add(4));
    trial.wait_for_up(4, "the new node is up for all", PATIENCE);
    remove(trial, 4);
    trial.poll("no series of the removed node is left", PATIENCE, |observer, _| {
        (1..=3).all(|source| observer.peer(source, 4).is_null())
    });
    for source in 1..=3 {
        let metrics = trial.mesh.agents.agent(&node(source)).metrics();
        assert!(metrics.of_node("n4").is_empty(), "{:?}", metrics.of_node("n4"));
    }
    for number in 1..=3 {
        remove(trial, number);
        trial.mesh.add(number);
        trial.wait_for_up(3, "the successor is up for all", PATIENCE);
    }
    // Two more probes of every pair.
    let end = std::time::Instant::now() + INTERVAL * 2;
    trial.poll("two more intervals", PATIENCE, |_, _| std::time::Instant::now() > end);
}

/// Deletes a node's pod, and observes the mesh while its agent drains.
fn remove(trial: &mut Trial, number: u8) {
    let name = node(number);
    trial.mesh.agents.begin_delete(&name);
    let begun = std::time::Instant::now();
    loop {
        trial.observer.observe(&trial.mesh, trial.case);
        let gone = trial.mesh.agents.finish_delete(&name, Duration::from_millis(200));
        if let Some(status) = gone {
            assert!(status.success(), "{status}\n{}", trial.mesh.agents.logs());
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{name} does not end");
    }
    trial.mesh.pods.remove(&number);
}
