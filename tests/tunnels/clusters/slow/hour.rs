//! Healthy pairs on a busy machine, for an hour: nothing but `up`.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::view::View;
use crate::faults::Fault;
use crate::mesh::{TunnelMesh, node};
use crate::network::{Topology, able};
use wylis_harness::process::end_with_this_thread;

/// Environment variable: another duration than [`HOUR`], in seconds.
const SECONDS: &str = "WYLIS_SECONDS";
const HOUR: Duration = Duration::from_secs(3600);
/// 20 ordered pairs.
const SIZE: u8 = 5;
/// Busy processes for each core.
const BUSY: usize = 2;
/// The time between two observations: a row and the matrix are each cached for 5 s.
const PAUSE: Duration = Duration::from_secs(5);
/// 0.1 % of the packets that a host's pods send to others.
const LOSS: &str = "counter lost { }
chain path {
  type filter hook forward priority filter; policy accept;
  iifname \"cni0\" tcp sport 9050 numgen random mod 1000 < 1 counter name lost drop
  iifname \"cni0\" tcp dport 9050 numgen random mod 1000 < 1 counter name lost drop
}";

/// Processes that use all the CPU they get; ended when dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let start = |_| {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            end_with_this_thread(&mut command);
            command.spawn().expect("start sh")
        };
        Self((0..cores * BUSY).map(start).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
#[ignore = "slow: make test-long"]
fn an_hour_of_healthy_pairs_says_nothing() {
    if !able() {
        return;
    }
    // The agents' own defaults.
    let Some(mesh) = TunnelMesh::new(Topology::of(SIZE), &[]) else { return };
    let time = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok());
    let time = time.map_or(HOUR, Duration::from_secs);
    let _busy = Busy::start();
    let faults: Vec<Fault> =
        (1..=SIZE).map(|number| Fault::put(&mesh.network.host(number).namespace, LOSS)).collect();
    let until = Instant::now() + time;
    let (mut said, mut observations) = (std::collections::BTreeMap::new(), 0_u32);
    while Instant::now() < until {
        for number in 1..=SIZE {
            let view = View::read(mesh.agents.agent(&node(number)));
            observations += 1;
            for ((source, target), verdict) in view.cells() {
                if !matches!(verdict.as_str(), "up" | "unknown") {
                    *said.entry(format!("n{source} on n{target}: {verdict}")).or_insert(0) += 1;
                }
            }
            for text in view.texts() {
                *said.entry(format!("n{number} says {text}")).or_insert(0) += 1;
            }
        }
        std::thread::sleep(PAUSE);
    }
    let lost: u64 = faults.iter().map(|fault| fault.packets("lost")).sum();
    let probes = mesh.agents.sum("wylis_probes_total", &["result=\"success\""]);
    let retransmits = mesh.agents.sum("wylis_probe_retransmits_total", &[]);
    let failures = mesh.agents.sum("wylis_probe_failures_total", &[]).abs();
    println!(
        "clusters: {time:?} of {SIZE} healthy nodes: {observations} observations, {probes} probes, \
         {lost} packets lost, {retransmits} retransmits, {failures} failures; said: {said:#?}"
    );
    assert!(said.is_empty(), "{said:#?}\n{}", mesh.agents.logs());
}
