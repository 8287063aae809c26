//! Clients that ask as often as they may, and read the answers.

use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::hostile::{Hostile, Origin, Random, get, reset, send};

/// How long a flood waits for one answer, before it asks again.
const ANSWER: Duration = Duration::from_secs(2);

/// Sends a request and reads at most this much of its answer.
fn ask(hostile: &Hostile, target: SocketAddr, request: &[u8]) {
    let Some(mut stream) = hostile.connect_to(target, Origin::Ordinary, None) else { return };
    let _ = stream.set_read_timeout(Some(ANSWER));
    let _ = stream.set_write_timeout(Some(ANSWER));
    send(&mut stream, request);
    let mut piece = [0; 16 * 1024];
    while !hostile.is_stopped() && stream.read(&mut piece).is_ok_and(|count| count > 0) {}
    reset(stream);
}

fn flood(hostile: &Hostile, mut request: impl FnMut(u64) -> Vec<u8>) {
    let mut pace = hostile.pace();
    for number in 0.. {
        if !pace.step() {
            return;
        }
        ask(hostile, hostile.agents[0].address, &request(number));
    }
}

pub(crate) fn keepalive(hostile: &Hostile) {
    flood(hostile, |_| get("/keepalive", ""));
}

pub(crate) fn page(hostile: &Hostile) {
    flood(hostile, |_| get("/", ""));
}

pub(crate) fn scrape(hostile: &Hostile) {
    flood(hostile, |_| get("/metrics", ""));
}

pub(crate) fn matrix(hostile: &Hostile) {
    flood(hostile, |_| get("/api/v1/cluster", ""));
}

pub(crate) fn pair(hostile: &Hostile) {
    let nodes: Vec<String> = hostile.agents.iter().map(|agent| agent.node.clone()).collect();
    flood(hostile, |number| {
        let number = usize::try_from(number).unwrap();
        let [from, to] = [number, number / nodes.len()].map(|number| &nodes[number % nodes.len()]);
        get(&format!("/api/v1/cluster/{from}/{to}"), "")
    });
}

pub(crate) fn row(hostile: &Hostile) {
    flood(hostile, |_| get("/api/v1/row", ""));
}

pub(crate) fn peers(hostile: &Hostile) {
    flood(hostile, |_| get("/api/v1/peers", ""));
}

pub(crate) fn gzip(hostile: &Hostile) {
    let paths = ["/metrics", "/", "/api/v1/cluster", "/api/v1/row", "/api/v1/peers"];
    flood(hostile, |number| {
        let path = paths[usize::try_from(number).unwrap() % paths.len()];
        get(path, "Accept-Encoding: gzip\r\n")
    });
}

pub(crate) fn pipelined(hostile: &Hostile) {
    let all = get("/keepalive", "").repeat(10_000);
    flood(hostile, |_| all.clone());
}

pub(crate) fn endless_head(hostile: &Hostile) {
    let mut begins = [
        "GET /".to_owned() + &"a".repeat(1 << 20),
        "GET / HTTP/1.1\r\nHost: a\r\n".to_owned() + &"X-Header: value\r\n".repeat(60_000),
        "GET / HTTP/1.1\r\nHost: a\r\nX: ".to_owned() + &"a".repeat(1 << 20),
        "G".repeat(1 << 20),
    ]
    .into_iter()
    .cycle();
    flood(hostile, |_| begins.next().unwrap().into_bytes());
}

/// Requests that the gate refuses, each for another reason, and one that a server must not sort by its
/// weights.
pub(crate) fn refused(hostile: &Hostile) {
    let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000000000000\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}",
        "\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nTE: a;q=nan,b;q=0.1,c;q=nan,d;q=0.3,e;q=nan\r\n\r\n",
    ];
    flood(hostile, |number| {
        requests[usize::try_from(number).unwrap() % requests.len()].as_bytes().to_vec()
    });
}

/// Bytes without any form.
pub(crate) fn noise(hostile: &Hostile) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    flood(hostile, |_| {
        let words = (0..64).flat_map(|_| random.next().to_le_bytes());
        words.chain(*b"\r\n\r\n").collect()
    });
}
