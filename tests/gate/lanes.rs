//! Slow readers of large answers, and what they must not stop.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::answers::unchunk;
use crate::child::{Agents, GATHERING, Options, metrics};
use crate::client::{End, code, connect, connect_narrow, get, probes_pass, read_all};

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

/// A reader that has got the begin of the answer, and takes no more.
fn stalled(agents: &Agents) -> std::net::TcpStream {
    let mut stream = connect_narrow(agents.address);
    stream.write_all(SCRAPE).unwrap();
    stream
}

#[test]
fn stalled_readers_of_metrics_stop_no_probe() {
    let mut agents = Agents::start(&Options { metrics: 3_000_000, ..Options::new(40) });
    let before = agents.status("VmHWM");
    let readers: Vec<_> = (0..2).map(|_| stalled(&agents)).collect();
    agents.awaits("/metrics:200", |count| count == 1);
    probes_pass(&mut agents);
    assert!(get(agents.address, "/healthz").ends_with("ok\n"));
    let grown = agents.status("VmHWM") - before;
    assert!(grown < 1024, "{grown} kB more");
    drop(readers);
}

#[test]
fn a_stalled_reader_is_reset_and_the_next_gets_its_own_answer() {
    let options = Options { metrics: 3_000_000, bulk: 1000, ..Options::new(41) };
    let mut agents = Agents::start(&options);
    let expected: Vec<u8> = metrics(3_000_000).flatten().collect();
    for _ in 0..2 {
        let mut reader = stalled(&agents);
        reader.read_exact(&mut [0; 1]).unwrap();
        let answer = get(agents.address, "/metrics");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(unchunk(body).as_bytes() == expected, "the body differs");
        // What was broken off must not pass for the whole.
        assert_eq!(read_all(&mut reader).1, End::Reset);
    }
    assert!(agents.counter("timeout") >= 2);
    probes_pass(&mut agents);
}

#[test]
fn a_reader_that_leaves_half_way_frees_the_lane() {
    let mut agents = Agents::start(&Options { metrics: 3_000_000, ..Options::new(42) });
    assert_eq!(code(&get(agents.address, "/metrics")), Some(200));
    let before = agents.status("VmHWM");
    for _ in 0..5 {
        let mut reader = stalled(&agents);
        reader.read_exact(&mut [0; 1]).unwrap();
        drop(reader);
        let begin = Instant::now();
        assert!(get(agents.address, "/metrics").ends_with("\r\n0\r\n\r\n"));
        // Well before the deadline of the one that left.
        assert!(begin.elapsed() < Duration::from_secs(9));
    }
    agents.awaits("client_gone", |count| count == 5);
    // What nobody wants any more is drained, not kept.
    let grown = agents.status("VmHWM") - before;
    assert!(grown < 1024, "{grown} kB more");
    probes_pass(&mut agents);
}

#[test]
fn more_scrapes_than_may_wait_are_told_to_come_again() {
    let options = Options { metrics: 3_000_000, bulk: 30_000, ..Options::new(43) };
    let mut agents = Agents::start(&options);
    let first = stalled(&agents);
    agents.awaits("/metrics:200", |count| count == 1);
    let waiting: Vec<_> = (0..4).map(|_| stalled(&agents)).collect();
    agents.awaits("connections", |open| open == 5);
    let answer = get(agents.address, "/metrics");
    assert_eq!(code(&answer), Some(503));
    assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    assert_eq!(agents.counter("overload"), 1);
    probes_pass(&mut agents);
    drop((first, waiting));
    agents.awaits("connections", |open| open == 0);
    assert_eq!(code(&get(agents.address, "/metrics")), Some(200));
}

#[test]
fn many_answers_at_once_reach_whom_they_are_for() {
    let mut agents = Agents::start(&Options::new(44));
    let address = agents.address;
    let ask = |path: &'static str, ends: &'static str| {
        std::thread::spawn(move || {
            for _ in 0..200 {
                let mut stream = connect(address);
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                stream.write_all(request.as_bytes()).unwrap();
                let answer = String::from_utf8(read_all(&mut stream).0).unwrap();
                assert!(answer.ends_with(ends), "{path}: {answer:?}");
            }
        })
    };
    let threads = [
        ask("/healthz", "\r\n\r\nok\n"),
        ask("/keepalive", "\r\n\r\n"),
        ask("/nothing", "\r\n\r\nnot found\n"),
        ask("/", "</script>\n"),
        ask("/metrics", "\r\n0\r\n\r\n"),
    ];
    for thread in threads {
        thread.join().unwrap();
    }
    probes_pass(&mut agents);
}

#[test]
fn what_is_gathered_delays_neither_probes_nor_scrapes_and_many_may_wait_for_it() {
    let mut agents = Agents::start(&Options::new(45));
    let address = agents.address;
    let begin = Instant::now();
    let askers: Vec<_> =
        (0..3).map(|_| std::thread::spawn(move || get(address, "/api/v1/cluster"))).collect();
    agents.awaits("connections", |open| open == 3);
    probes_pass(&mut agents);
    for path in ["/metrics", "/api/v1/row", "/healthz"] {
        assert_eq!(code(&get(address, path)), Some(200), "{path}");
    }
    // All of that came before the first of them had its answer.
    assert!(begin.elapsed() < GATHERING, "{:?}", begin.elapsed());
    assert!(askers.iter().all(|asker| !asker.is_finished()));
    for asker in askers {
        let answer = asker.join().unwrap();
        assert!(answer.ends_with("\r\n\r\n{}\n"), "{answer}");
        assert!(answer.contains("\r\nCache-Control: no-store\r\n"), "{answer}");
    }
    // One after the other: this view keeps nothing.
    assert!(begin.elapsed() >= 3 * GATHERING);
}
