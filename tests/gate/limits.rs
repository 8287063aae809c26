//! A process that runs out of something.

use std::io::Write;
use std::time::Duration;

use crate::child::{Agents, Options};
use crate::client::{connect, get, probe, probes_pass, read_all};

/// "nobody", whom a limit of threads binds; root it does not.
const NOBODY: u32 = 65534;

#[test]
fn without_descriptors_connections_wait_and_are_answered_later() {
    let options = Options { descriptors: Some(160), head: 20_000, ..Options::new(50) };
    let mut agents = Agents::start(&options);
    probes_pass(&mut agents);
    agents.tell("grab");
    agents.hears("GRABBED");
    let mut waiting: Vec<_> = (0..10).map(|_| connect(agents.address)).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    agents.awaits("no_descriptors", |count| count >= 1);
    let (cpu, pauses) = (agents.cpu(), agents.counter("no_descriptors"));
    agents.awaits("no_descriptors", |count| count >= pauses + 10);
    let used = agents.cpu() - cpu;
    // Ten pauses last half a second; a loop without them would use all of it.
    assert!(used < Duration::from_millis(250), "{used:?} of CPU while waiting");
    agents.tell("release");
    for stream in &mut waiting {
        assert!(read_all(stream).0.ends_with(b"ok\n"));
    }
    probes_pass(&mut agents);
}

#[test]
fn few_descriptors_mean_few_places_and_the_port_survives_a_flood() {
    let mut agents = Agents::start(&Options { descriptors: Some(160), ..Options::new(51) });
    let silent: Vec<_> = (0..300).map(|_| connect(agents.address)).collect();
    agents.awaits("evicted", |count| count >= 200);
    probes_pass(&mut agents);
    assert!(agents.counter("connections") <= 32);
    assert_eq!(agents.counter("no_descriptors"), 0);
    drop(silent);
    agents.awaits("connections", |open| open == 0);
}

#[test]
fn without_threads_all_is_answered_because_none_is_started() {
    if !rustix::process::getuid().is_root() {
        return crate::skip("a limit of threads needs another user, and that needs root");
    }
    let mut agents = Agents::start(&Options { user: Some(NOBODY), ..Options::new(52) });
    agents.tell("no threads");
    agents.hears("NO THREADS");
    let silent: Vec<_> = (0..100).map(|_| connect(agents.address)).collect();
    for _ in 0..50 {
        assert!(probe(agents.address).is_some());
        assert!(get(agents.address, "/metrics").ends_with("\r\n0\r\n\r\n"));
    }
    drop(silent);
    probes_pass(&mut agents);
}
