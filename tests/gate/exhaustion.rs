//! A process that runs out of descriptors, threads, connections or time.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use wylis::gate::{Limits, Rejection};

use crate::backend_faults::{FakeServer, head, sequence};
use crate::child::{GateProcess, Options, TIMEOUT};
use crate::client::{
    End, assert_probes_pass, connect, connect_with_small_buffer, get, probe, read_all, reset,
    status_code, try_connect,
};

/// A user with a thread limit, which root has not.
pub(crate) const UNPRIVILEGED_USER: u32 = 65534;

#[test]
fn connections_wait_while_descriptors_are_short() {
    let options = Options { descriptors: Some(160), head: 20_000, ..Options::new(50) };
    let mut gate = GateProcess::start(&options);
    let before = gate.descriptors();
    assert_probes_pass(&mut gate);
    // The gate holds the socket of the last probe until another connection ends.
    wylis_harness::wait_until(TIMEOUT, "no descriptor is left to the gate", || {
        reset(connect(gate.address));
        gate.descriptors() <= before
    });
    gate.send("grab");
    gate.wait_for_line("GRABBED");
    let mut waiting: Vec<_> = (0..10).map(|_| connect(gate.address)).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    gate.wait_for_counter("no_descriptors", |count| count >= 1);
    let (begin, before) = (Instant::now(), gate.counter("no_descriptors"));
    gate.wait_for_counter("no_descriptors", |count| count >= before + 5);
    let pauses = gate.counter("no_descriptors") - before;
    // Without pauses it would try thousands of times a second.
    let most = 1 + u64::try_from(begin.elapsed().as_millis() / 50).unwrap();
    assert!(pauses <= most, "{pauses} attempts instead of {most}");
    gate.send("release");
    for stream in &mut waiting {
        assert!(read_all(stream).0.ends_with(b"ok\n"));
    }
    assert_probes_pass(&mut gate);
}

#[test]
fn low_descriptor_limit_lowers_the_connection_limit() {
    let mut gate = GateProcess::start(&Options { descriptors: Some(192), ..Options::new(51) });
    let silent: Vec<_> = (0..300).map(|_| connect(gate.address)).collect();
    gate.wait_for_counter("evicted", |count| count >= 200);
    assert_probes_pass(&mut gate);
    assert!(gate.counter("connections") <= 32);
    assert_eq!(gate.counter("no_descriptors"), 0);
    drop(silent);
    gate.wait_for_counter("connections", |open| open == 0);
}

#[test]
fn requests_need_no_new_threads_except_those_that_ask_peers() {
    if !rustix::process::getuid().is_root() {
        return wylis_harness::skip("a thread limit needs another user, which needs root");
    }
    let mut gate =
        GateProcess::start(&Options { user: Some(UNPRIVILEGED_USER), ..Options::new(52) });
    gate.send("no threads");
    gate.wait_for_line("NO THREADS");
    let silent: Vec<_> = (0..100).map(|_| connect(gate.address)).collect();
    for _ in 0..50 {
        assert!(probe(gate.address).is_some());
        assert!(get(gate.address, "/metrics").ends_with("\r\n0\r\n\r\n"));
    }
    for path in ["/api/v1/cluster", "/api/v1/cluster/a/b"] {
        assert_eq!(status_code(&get(gate.address, path)), Some(503), "{path}");
    }
    drop(silent);
    assert_probes_pass(&mut gate);
}

#[test]
fn without_threads_slow_readers_delay_no_probe() {
    if !rustix::process::getuid().is_root() {
        return wylis_harness::skip("a thread limit needs another user, which needs root");
    }
    let options = Options { user: Some(UNPRIVILEGED_USER), metrics: 3_000_000, ..Options::new(55) };
    let mut gate = GateProcess::start(&options);
    gate.send("no threads");
    gate.wait_for_line("NO THREADS");
    for round in 1..=3 {
        let mut stalled = connect_with_small_buffer(gate.address);
        stalled.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        gate.wait_for_counter("/metrics:200", |count| count == round);
        assert_probes_pass(&mut gate);
        // The thread that sends the response answers probes too, so it waits for no reader.
        assert_eq!(read_all(&mut stalled).1, End::Reset);
    }
    assert_eq!(gate.counter("timeout"), 3);
}

#[test]
fn suspended_process_restarts_the_server_timeout() {
    let mut gate = GateProcess::start(&Options { backend: 2000, ..Options::new(53) });
    let mut client = connect(gate.address);
    client.write_all(b"GET /api/v1/cluster/a/b HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // The view takes a second, and is mostly suspended half-way; if not, the test passes anyway.
    std::thread::sleep(Duration::from_millis(300));
    let pid = Pid::from_raw(i32::try_from(gate.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    kill_process(pid, Signal::CONT).unwrap();
    assert!(read_all(&mut client).0.starts_with(b"HTTP/1.1 404 "));
    assert_probes_pass(&mut gate);
}

#[test]
fn connection_waits_while_all_others_are_being_answered() {
    let limits = Limits { connections: 4, ..Limits::of_this_process() };
    // A delayed head is evicted, rightly: tries again.
    let (mut server, mut clients) = (0..10)
        .find_map(|_| {
            let server = FakeServer::with(54, limits);
            let clients: std::io::Result<Vec<_>> = (0..6)
                .map(|_| {
                    let mut client = try_connect(server.address)?;
                    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")?;
                    Ok(client)
                })
                .collect();
            let clients = clients.ok()?;
            server.wait_for_connections(4);
            (server.counters.rejected(Rejection::Evicted) == 0).then_some((server, clients))
        })
        .unwrap();
    for client in &mut clients {
        let sequence = sequence(&server.small);
        let response = head(sequence, "Content-Length: 2") + "ok";
        server.small.write_all(response.as_bytes()).unwrap();
        assert!(read_all(client).0.ends_with(b"\r\n\r\nok"));
    }
}
