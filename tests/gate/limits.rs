//! A process that runs out of something.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use wylis::gate::{Limits, Rejection};

use crate::child::{Agents, Options};
use crate::client::{code, connect, get, probe, probes_pass, read_all, try_connect};
use crate::wrong::{Alone, head, sequence};

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
    let (begin, before) = (Instant::now(), agents.counter("no_descriptors"));
    agents.awaits("no_descriptors", |count| count >= before + 5);
    let pauses = agents.counter("no_descriptors") - before;
    // It pauses in between: without that, it would try thousands of times a second.
    let most = 1 + u64::try_from(begin.elapsed().as_millis() / 50).unwrap();
    assert!(pauses <= most, "{pauses} attempts instead of {most}");
    agents.tell("release");
    for stream in &mut waiting {
        assert!(read_all(stream).0.ends_with(b"ok\n"));
    }
    probes_pass(&mut agents);
}

#[test]
fn few_descriptors_mean_few_places_and_the_port_survives_a_flood() {
    let mut agents = Agents::start(&Options { descriptors: Some(192), ..Options::new(51) });
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
        return wylis_harness::skip("a limit of threads needs another user, and that needs root");
    }
    let mut agents = Agents::start(&Options { user: Some(NOBODY), ..Options::new(52) });
    agents.tell("no threads");
    agents.hears("NO THREADS");
    let silent: Vec<_> = (0..100).map(|_| connect(agents.address)).collect();
    for _ in 0..50 {
        assert!(probe(agents.address).is_some());
        assert!(get(agents.address, "/metrics").ends_with("\r\n0\r\n\r\n"));
    }
    // Only what is gathered has a thread of its own; without one, it is refused.
    assert_eq!(code(&get(agents.address, "/api/v1/cluster")), Some(503));
    drop(silent);
    probes_pass(&mut agents);
}

#[test]
fn a_process_that_was_suspended_forgives_the_server_the_time() {
    let mut agents = Agents::start(&Options { backend: 2000, ..Options::new(53) });
    let mut client = connect(agents.address);
    client.write_all(b"GET /api/v1/peers HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // Its view takes a second: it is stopped in the middle, mostly; otherwise it just passes.
    std::thread::sleep(Duration::from_millis(300));
    let pid = Pid::from_raw(i32::try_from(agents.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    kill_process(pid, Signal::CONT).unwrap();
    assert!(read_all(&mut client).0.starts_with(b"HTTP/1.1 503 "));
    probes_pass(&mut agents);
}

#[test]
fn while_all_places_are_being_answered_the_next_waits_for_one() {
    let limits = Limits { connections: 4, ..Limits::of_this_process() };
    // A head that the network delays is evicted, and rightly so: then it is tried again.
    let (mut alone, mut clients) = (0..10)
        .find_map(|_| {
            let alone = Alone::with(54, limits);
            let clients: std::io::Result<Vec<_>> = (0..6)
                .map(|_| {
                    let mut client = try_connect(alone.address)?;
                    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")?;
                    Ok(client)
                })
                .collect();
            let clients = clients.ok()?;
            alone.awaits_connections(4);
            (alone.counters.rejected(Rejection::Evicted) == 0).then_some((alone, clients))
        })
        .unwrap();
    for client in &mut clients {
        let sequence = sequence(&alone.small);
        let answer = head(sequence, "Content-Length: 2") + "ok";
        alone.small.write_all(answer.as_bytes()).unwrap();
        assert!(read_all(client).0.ends_with(b"\r\n\r\nok"));
    }
}
