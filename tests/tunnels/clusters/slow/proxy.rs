//! Something between a node and its peers that accepts their connections, or changes what they say.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use wylis_harness::mesh::PORT;
use wylis_harness::netns::{Entrance, Namespace};

use super::super::table::{self, Case};
use super::super::trial::Trial;
use crate::faults::Fault;
use crate::mesh::{TunnelMesh, node};
use crate::network::Topology;

/// Proxies listen on this port plus the number of the node that they stand for.
const FIRST_PORT: u16 = 7000;
/// Longer than any exchange of agents.
const PATIENCE: Duration = Duration::from_secs(10);
/// New connections: one that is under way must not be torn apart.
const NEW: &str = "tcp flags & (syn | ack) == syn";
/// As long as it is in effect, connections that were redirected stay so.
const NAT: &str = "chain keep { type nat hook prerouting priority dstnat; policy accept; }";
/// Far above the doubt of half a round trip, and with the same number of digits.
const AHEAD: f64 = 60.0;

/// What a proxy does with a connection that it accepted.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Never answers.
    Silent,
    /// Passes it on.
    Relay,
    /// Passes it on, with rows a minute ahead.
    Shift,
}

/// A proxy in a namespace; stopped when dropped.
struct Proxy {
    inside: Entrance,
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    fn start(namespace: &Namespace, number: u8, target: SocketAddr, act: Act) -> Self {
        let (inside, port) = (namespace.entrance(), FIRST_PORT + u16::from(number));
        let listener = inside.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, entrance) = (Arc::clone(&stop), inside.clone());
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            for client in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let entrance = entrance.clone();
                match act {
                    Act::Silent => held.push(client),
                    // A client may close its connection at any time.
                    Act::Relay | Act::Shift => drop(std::thread::spawn(move || {
                        pass_on(client, &entrance, target, matches!(act, Act::Shift))
                    })),
                }
            }
        });
        Self { inside, port, stop, thread: Some(thread) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accept.
        drop(self.inside.within(|| TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pass_on(
    client: TcpStream,
    inside: &Entrance,
    target: SocketAddr,
    shift: bool,
) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut input = BufReader::new(client);
    let (mut head, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        // A row must come as plain text to be changed.
        if !(shift && line.to_ascii_lowercase().starts_with("accept-encoding:")) {
            head.push_str(&line);
        }
    }
    let mut server = inside.within(|| TcpStream::connect_timeout(&target, PATIENCE))?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    // What came before an error is passed on too.
    let read = server.read_to_end(&mut answer);
    if shift && head.starts_with("GET /api/v1/row") {
        answer = ahead(&String::from_utf8_lossy(&answer)).into_bytes();
    }
    input.into_inner().write_all(&answer)?;
    read.map(drop)
}

/// Adds to the time of a row, which is the first one in its document.
fn ahead(answer: &str) -> String {
    const FIELD: &str = "\"at\":";
    let Some((before, rest)) = answer.split_once(FIELD) else { return answer.to_owned() };
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
    let (at, after) = rest.split_at(end);
    let decimals = at.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let at = at.parse::<f64>().unwrap_or_default() + AHEAD;
    format!("{before}{FIELD}{at:.decimals$}{after}")
}

#[test]
fn a_row_is_shifted() {
    let row =
        "HTTP/1.1 200 OK\r\n\r\n{\"node\":\"a\",\"at\":1767225601.393,\"cells\":[{\"at\":1.5}]}";
    let shifted = ahead(row);
    assert_eq!(shifted, row.replace("1767225601.393", "1767225661.393"));
}

#[test]
#[ignore = "slow: make test-long"]
fn clock_of_one_node_ahead() {
    let Some(mut trial) = Trial::begin(table::CLOCK, Topology::of(3)) else { return };
    let (proxies, nat) = trial.inject(|mesh| {
        let pod = &mesh.pods[&3];
        let target = SocketAddr::new(pod.address, PORT);
        let proxy = Proxy::start(&pod.namespace, 3, target, Act::Shift);
        let port = proxy.port;
        let rules = format!(
            "chain come {{
  type nat hook prerouting priority dstnat; policy accept;
  iifname \"eth0\" {NEW} tcp dport {PORT} redirect to :{port}
}}"
        );
        let nat = Fault::put(&pod.namespace, NAT);
        ((Fault::put(&pod.namespace, &rules), proxy), nat)
    });
    trial.wait_for_findings();
    trial.end(|_| drop(proxies));
    drop(nat);
}

/// Something in n1's host accepts the connections of n1's agent to these nodes.
fn between(mesh: &TunnelMesh, numbers: &[u8], act: Act) -> (Fault, Vec<Proxy>) {
    let host = &mesh.network.host(1).namespace;
    let pods = numbers.iter().map(|number| (*number, mesh.pods[number].address));
    let proxies: Vec<_> = pods
        .clone()
        .map(|(number, address)| Proxy::start(host, number, SocketAddr::new(address, PORT), act))
        .collect();
    let redirects = pods.zip(&proxies).map(|((_, address), proxy)| {
        let (own, port) = (mesh.pods[&1].address, proxy.port);
        format!("  ip saddr {own} ip daddr {address} {NEW} tcp dport {PORT} redirect to :{port}\n")
    });
    let redirects: String = redirects.collect();
    let rules = format!(
        "chain go {{
  type nat hook prerouting priority dstnat; policy accept;
{redirects}}}"
    );
    (Fault::put(host, &rules), proxies)
}

#[test]
#[ignore = "slow: make test-long"]
fn acceptor_in_place_of_a_dead_peer() {
    let Some(mut trial) = Trial::begin(table::ACCEPTOR, Topology::of(3)) else { return };
    let (pod, proxies, nat) = trial.inject(|mesh| {
        let nat = Fault::put(&mesh.network.host(1).namespace, NAT);
        let proxies = between(mesh, &[3], Act::Silent);
        (mesh.agents.kill(&node(3)), proxies, nat)
    });
    trial.wait_for_findings();
    let peer = trial.mesh.agents.agent(&node(1)).peer(&node(3));
    assert_eq!((&peer["verdict"], &peer["reason"]), (&"down".into(), &"response_timeout".into()));
    trial.end(|trial| {
        drop(proxies);
        trial.mesh.restart(3, &pod);
    });
    drop(nat);
}

/// n1's link takes 100 ms each way, and something in its host accepts for all of its peers.
fn intercepted(case: &'static Case, lost: &str) {
    let topology = Topology { slow_link: Some(1), ..Topology::of(3) };
    let Some(mut trial) = Trial::begin(case, topology) else { return };
    let (fault, nat) = trial.inject(|mesh| {
        let cable = mesh.network.cable.as_ref().expect("a slow link was asked for");
        cable.set_delay(Duration::from_millis(100));
        let host = &mesh.network.host(1).namespace;
        // The proxies' connections leave from the host itself.
        let rules = format!(
            "chain out {{\n  type filter hook output priority filter; policy accept;\n{lost}}}"
        );
        let nat = Fault::put(host, NAT);
        ((between(mesh, &[2, 3], Act::Relay), Fault::put(host, &rules)), nat)
    });
    trial.wait_for_findings();
    for other in [2, 3] {
        let peer = trial.mesh.agents.agent(&node(1)).peer(&node(other));
        // Neither loss nor a round trip is claimed; with loss, the proxy's own connections fail at times, and one
        // late probe is `down` in passing.
        assert_eq!(peer["intercepted"], true, "{peer}");
        assert_eq!(peer["rtt_seconds"], Value::Null, "{peer}");
        assert_ne!(peer["verdict"], "lossy", "{peer}");
        let late = peer["verdict"] == "down" && peer["reason"] == "response_timeout";
        assert!(peer["verdict"] == "up" || late || !lost.is_empty(), "{peer}");
    }
    trial.end(|trial| {
        drop(fault);
        trial.mesh.network.cable.as_ref().expect("as above").set_delay(Duration::ZERO);
    });
    drop(nat);
}

#[test]
#[ignore = "slow: make test-long"]
fn proxy_in_place_of_all_peers() {
    intercepted(table::INTERCEPTED, "");
}

#[test]
#[ignore = "slow: make test-long"]
fn proxy_in_place_of_all_peers_with_loss_beyond_it() {
    let lost = "  tcp dport 9050 numgen random mod 100 < 30 counter drop\n";
    intercepted(table::INTERCEPTED_LOSSY, lost);
}
