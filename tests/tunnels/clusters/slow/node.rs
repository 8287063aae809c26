//! Faults of one node, and floods against its agent.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wylis_harness::mesh::PORT;
use wylis_harness::netns::Namespace;

use super::super::host::{own_fault, route};
use super::super::table::{self, Case};
use super::super::trial::Trial;
use crate::faults::Fault;
use crate::mesh::TunnelMesh;
use crate::network::Topology;

#[test]
#[ignore = "slow: make test-long"]
fn route_of_the_own_pod_deleted() {
    own_fault(table::OWN_ROUTE, route("del"), route("add"));
}

// ---- A flood of SYNs

/// SYNs a second, of all threads.
const RATE: u32 = 2_000;
const THREADS: u32 = 4;
/// The flood, and the time after it in which the last half-open connections end.
const FLOOD: Duration = Duration::from_secs(20);

/// Threads that repeat something until they are stopped.
#[derive(Default)]
struct Repeating {
    stop: Arc<AtomicBool>,
    times: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Repeating {
    fn add(&mut self, pace: Duration, mut act: impl FnMut() + Send + 'static) {
        let (stop, times) = (Arc::clone(&self.stop), Arc::clone(&self.times));
        self.threads.push(std::thread::spawn(move || {
            let mut next = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                act();
                times.fetch_add(1, Ordering::Relaxed);
                next += pace;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        }));
    }
}

impl Drop for Repeating {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// SYNs without an end: the answers to them are dropped, so that no reset follows.
fn flood(from: &Namespace, target: SocketAddr) -> (Fault, Repeating) {
    let rules = format!(
        "chain in {{
  type filter hook input priority filter; policy accept;
  tcp sport {PORT} drop
}}"
    );
    let fault = Fault::put(from, &rules);
    let mut flood = Repeating::default();
    for _ in 0..THREADS {
        let entrance = from.entrance();
        flood.add(Duration::ZERO, move || {
            // One entry for many connections: to enter costs a thread.
            entrance.within(|| {
                let until = Instant::now() + Duration::from_millis(500);
                while Instant::now() < until {
                    let next = Instant::now() + Duration::from_secs(1) * THREADS / RATE;
                    let _ = TcpStream::connect_timeout(&target, Duration::from_millis(1));
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        });
    }
    (fault, flood)
}

fn begin_flood(case: &'static Case, cookies: &str) -> Option<(Trial, (Fault, Repeating))> {
    let mut trial = Trial::begin(case, Topology::of(3))?;
    let flood = trial.inject(|mesh| {
        mesh.pods[&2].namespace.sysctl("ipv4/tcp_syncookies", cookies);
        let target = SocketAddr::new(mesh.pods[&2].address, PORT);
        flood(&mesh.network.host(1).workload.namespace, target)
    });
    Some((trial, flood))
}

#[test]
#[ignore = "slow: make test-long"]
fn flood_of_syns_with_cookies() {
    let Some((mut trial, flood)) = begin_flood(table::SYN_FLOOD, "1") else { return };
    trial.stays(FLOOD);
    trial.end(|_| drop(flood));
}

#[test]
#[ignore = "slow: make test-long"]
fn flood_of_syns_without_cookies() {
    let Some((mut trial, flood)) = begin_flood(table::SYN_FLOOD_PLAIN, "0") else { return };
    trial.wait_for_findings();
    trial.end(|_| drop(flood));
}

// ---- A full table of connections

/// A full table drops what needs a new entry. The size of the table is the machine's, not the namespace's.
#[test]
#[ignore = "slow: make test-long"]
fn table_of_connections_full() {
    let full = "chain path {
  type filter hook forward priority filter; policy accept;
  ct state new counter drop
}";
    Trial::by_rules(table::CONNTRACK, Topology::of(3), &[2], full);
}

// ---- An address that another pod has too

/// The Ethernet address of a pod's interface.
fn mac(pod: &Namespace) -> String {
    let text = pod.run("ip", &["-o", "link", "show", "eth0"]);
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
    words.next().expect("a link has an address").to_owned()
}

/// Another agent has the address of n2's pod; the host delivers to each in turn.
fn flip(mesh: &mut TunnelMesh) -> impl Sized + use<> {
    let other = mesh.network.pod(2);
    let (own, address) = (&mesh.pods[&2], mesh.pods[&2].address);
    other.namespace.ip(&format!(
        "addr flush dev eth0\naddr add {address}/24 dev eth0\nroute add default via 10.244.2.1\n"
    ));
    let agent = mesh.stranger_in(&other.namespace, address);
    let macs = [mac(&own.namespace), mac(&other.namespace)];
    let host = mesh.network.host(2).namespace.entrance();
    let mut flips = Repeating::default();
    let mut turns = 0;
    flips.add(Duration::from_secs(5), move || {
        turns += 1;
        let mac = &macs[turns % 2];
        let line = format!("neigh replace {address} lladdr {mac} dev cni0 nud permanent\n");
        host.within(|| wylis_harness::netns::feed("ip", &["-batch", "-"], &line));
    });
    (flips, agent, other)
}

#[test]
#[ignore = "slow: make test-long"]
fn address_that_another_pod_has_too() {
    let Some(mut trial) = Trial::begin(table::FLIPPING, Topology::of(3)) else { return };
    let flips = trial.inject(flip);
    trial.wait_for_findings();
    trial.end(|trial| {
        drop(flips);
        let (pod, host) = (&trial.mesh.pods[&2], trial.mesh.network.host(2));
        let (address, mac) = (pod.address, mac(&pod.namespace));
        let line = format!("neigh replace {address} lladdr {mac} dev cni0 nud reachable\n");
        host.namespace.ip(&line);
    });
}
