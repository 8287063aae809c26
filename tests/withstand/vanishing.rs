//! Clients that ask and are gone: no acknowledgement, FIN or RST of theirs ever arrives, as after a cut
//! cable. What the kernel still owes them is the agent's memory.

use crate::hostile::{Hostile, Origin, get, reset, send};

fn vanish(hostile: &Hostile, origin: Origin, request: &[u8]) {
    let mut pace = hostile.pace();
    while pace.step() {
        let Some(mut stream) = hostile.connect(origin) else { continue };
        send(&mut stream, request);
        reset(stream);
    }
}

pub(crate) fn after_a_blank_request(hostile: &Hostile) {
    vanish(hostile, Origin::Vanishing, &get("/keepalive", ""));
}

pub(crate) fn after_a_large_request(hostile: &Hostile) {
    vanish(
        hostile,
        Origin::Vanishing,
        &get("/keepalive", "Wylis-Node: n\r\nWylis-Size: 10240\r\n"),
    );
}

pub(crate) fn after_a_scrape(hostile: &Hostile) {
    vanish(hostile, Origin::Vanishing, &get("/metrics", ""));
}

pub(crate) fn after_the_page(hostile: &Hostile) {
    vanish(hostile, Origin::Vanishing, &get("/", ""));
}

pub(crate) fn after_the_matrix(hostile: &Hostile) {
    vanish(hostile, Origin::Vanishing, &get("/api/v1/cluster", ""));
}

pub(crate) fn in_the_head(hostile: &Hostile) {
    vanish(hostile, Origin::Vanishing, b"GET /keepalive HTTP/1.1\r\nHost: a\r\nX: ");
}

pub(crate) fn after_a_refusal(hostile: &Hostile) {
    vanish(hostile, Origin::Vanishing, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n");
}

/// Never completes the handshake.
pub(crate) fn in_the_handshake(hostile: &Hostile) {
    vanish(hostile, Origin::HalfOpen, b"");
}

/// Ends with a RST that arrives: before the request is whole, before the answer, or after it.
pub(crate) fn with_a_reset(hostile: &Hostile) {
    let requests = [
        Vec::new(),
        b"GET /keep".to_vec(),
        get("/keepalive", ""),
        get("/metrics", ""),
        get("/api/v1/cluster", ""),
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
    ];
    let mut pace = hostile.pace();
    let mut request = requests.iter().cycle();
    while pace.step() {
        let Some(mut stream) = hostile.connect(Origin::Ordinary) else { continue };
        send(&mut stream, request.next().unwrap());
        reset(stream);
    }
}
