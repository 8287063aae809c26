//! At most one probe in flight to a peer, even after a goodbye, and one check beside it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wylis_harness::mesh::Net;
use wylis_harness::process::Agent;
use wylis_harness::{TempDir, http, wait_until};

use super::mixed::{fixed, header};

const PATIENCE: Duration = Duration::from_secs(20);

/// A peer that stops answering once `mute`, and counts the connections that are open at once then.
#[derive(Default)]
struct Peer {
    mute: AtomicBool,
    open: AtomicUsize,
    most: AtomicUsize,
    /// The last request.
    request: Mutex<String>,
}

impl Peer {
    fn start(address: SocketAddr) -> Arc<Self> {
        let listener = TcpListener::bind(address).unwrap();
        let peer = Arc::new(Self::default());
        let serving = Arc::clone(&peer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        peer
    }

    fn serve(&self, mut stream: std::net::TcpStream) {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).unwrap_or(0);
        *self.request.lock().unwrap() = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if !self.mute.load(Ordering::SeqCst) {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nWylis-Node: n2\r\n\r\n");
            return;
        }
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(open, Ordering::SeqCst);
        // Until the prober closes.
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An agent with a long timeout, and its peer.
fn pair(dir: &TempDir) -> (Agent, Arc<Peer>) {
    let net = Net::new();
    let at = |last| SocketAddr::new(net.host(last), 9050);
    let peer = Peer::start(at(2));
    let peers = format!("n2={}", at(2));
    // Overrides `fixed`: longer than a goodbye of 1 s hides the peer.
    let agent = fixed(dir, "n1", at(1), ("WYLIS_PEERS", &peers), &[("WYLIS_TIMEOUT", "6s")]);
    wait_until(PATIENCE, "the peer is probed", || {
        agent.peer("n2")["successes"].as_u64() >= Some(2)
    });
    (agent, peer)
}

/// Sends a goodbye in the peer's name, with these tokens.
fn claim_goodbye(agent: &Agent, token: &str) {
    let headers = [("Wylis-Node", "n2"), ("Wylis-Goodbye", "1000"), ("Wylis-Token", token)];
    let answer = http::get_with(agent.address, "/keepalive", &headers, http::DEADLINE);
    assert_eq!(answer.unwrap().status, 204);
}

/// Sends a goodbye as the peer itself can, with the agent's token.
fn say_goodbye(agent: &Agent, peer: &Peer) {
    let request = peer.request.lock().unwrap().clone();
    claim_goodbye(agent, &format!("ofthispeer.{}", header(&request, "Wylis-Token").unwrap()));
    wait_until(PATIENCE, "the goodbye takes effect", || agent.peer("n2")["verdict"] == "draining");
}

/// Waits until the goodbye is over and two later slots are skipped.
fn slots_pass(agent: &Agent, peer: &Peer) {
    wait_until(PATIENCE, "the goodbye is over", || agent.peer("n2")["verdict"] != "draining");
    let skipped = || agent.metrics().sum("wylis_probes_skipped_total", &[]);
    let before = skipped();
    wait_until(PATIENCE, "two slots are skipped", || skipped() >= before + 2.0);
    assert_eq!(peer.most.load(Ordering::SeqCst), 1, "probes in flight at once");
}

#[test]
fn a_goodbye_during_a_probe_starts_no_second_one() {
    let dir = TempDir::new("flight");
    let (agent, peer) = pair(&dir);
    peer.mute.store(true, Ordering::SeqCst);
    // A skipped slot: the probe is still in flight.
    let skipped = || agent.metrics().sum("wylis_probes_skipped_total", &[]);
    wait_until(PATIENCE, "a probe is in flight", || skipped() >= 1.0);
    say_goodbye(&agent, &peer);
    slots_pass(&agent, &peer);
}

#[test]
fn the_probe_made_at_a_goodbye_counts_as_in_flight() {
    let dir = TempDir::new("flight");
    let (agent, peer) = pair(&dir);
    peer.mute.store(true, Ordering::SeqCst);
    say_goodbye(&agent, &peer);
    slots_pass(&agent, &peer);
}

#[test]
fn a_claimed_goodbye_makes_one_check_beside_the_probe_in_flight() {
    let dir = TempDir::new("flight");
    let (agent, peer) = pair(&dir);
    peer.mute.store(true, Ordering::SeqCst);
    let most = || peer.most.load(Ordering::SeqCst);
    wait_until(PATIENCE, "both are in flight", || {
        claim_goodbye(&agent, "ofthispeer");
        most() == 2
    });
    let skipped = || agent.metrics().sum("wylis_probes_skipped_total", &[]);
    let before = skipped();
    wait_until(PATIENCE, "two slots are skipped", || {
        claim_goodbye(&agent, "ofthispeer");
        skipped() >= before + 2.0
    });
    assert_eq!(most(), 2, "probes in flight at once");
}
