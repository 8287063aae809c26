//! Something in a namespace that accepts the connections to an agent in its place, and may change what passes.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wylis_harness::mesh::PORT;
use wylis_harness::netns::{Entrance, Namespace};

use super::faults::Fault;
use super::network::Pod;

/// Proxies listen on this port plus the number of the node that they stand for.
const FIRST_PORT: u16 = 7000;
/// Longer than any exchange of agents.
const PATIENCE: Duration = Duration::from_secs(10);
/// New connections: one that is under way must not be torn apart.
pub(crate) const NEW: &str = "tcp flags & (syn | ack) == syn";
/// As long as it is in effect, connections that were redirected stay so.
pub(crate) const NAT: &str =
    "chain keep { type nat hook prerouting priority dstnat; policy accept; }";
/// Far above the doubt of half a round trip, and with the same number of digits.
const AHEAD: f64 = 60.0;
/// The routes that an earlier release does not have, and one that no release has.
const NEWER: [&str; 2] = ["GET /api/v1/past/", "GET /api/v1/history"];
const UNKNOWN: &str = "GET /api/v1/unknown HTTP/1.1\r\n";

/// What a proxy does with a connection that it accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Never answers.
    Silent,
    /// Passes it on.
    Relay,
    /// Passes it on, with rows a minute ahead.
    Shift,
    /// Passes it on; the agent then answers as one of an earlier release, which does not know the past.
    Older,
}

/// A proxy in a namespace; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    inside: Entrance,
    pub(crate) port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(namespace: &Namespace, number: u8, target: SocketAddr, act: Act) -> Self {
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
                if act == Act::Silent {
                    held.push(client);
                } else {
                    // A client may close its connection at any time.
                    drop(std::thread::spawn(move || pass_on(client, &entrance, target, act)));
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

/// A proxy in a pod, for all new connections to its agent from outside. The rules go before the proxy.
#[derive(Debug)]
pub(crate) struct Front {
    _rules: Fault,
    _proxy: Proxy,
}

impl Front {
    /// Starts it. [`NAT`] must outlive it.
    pub(crate) fn of(pod: &Pod, number: u8, act: Act) -> Self {
        let target = SocketAddr::new(pod.address, PORT);
        let proxy = Proxy::start(&pod.namespace, number, target, act);
        let port = proxy.port;
        let rules = format!(
            "chain come {{
  type nat hook prerouting priority dstnat; policy accept;
  iifname \"eth0\" {NEW} tcp dport {PORT} redirect to :{port}
}}"
        );
        Self { _rules: Fault::put(&pod.namespace, &rules), _proxy: proxy }
    }
}

fn pass_on(client: TcpStream, inside: &Entrance, target: SocketAddr, act: Act) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut input = BufReader::new(client);
    let (mut head, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        head.push_str(&changed(&line, act));
    }
    let mut server = inside.within(|| TcpStream::connect_timeout(&target, PATIENCE))?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    // What came before an error is passed on too.
    let read = server.read_to_end(&mut answer);
    if act == Act::Shift && head.starts_with("GET /api/v1/row") {
        answer = ahead(&String::from_utf8_lossy(&answer)).into_bytes();
    }
    input.into_inner().write_all(&answer)?;
    read.map(drop)
}

/// A line of a request as it is passed on.
fn changed(line: &str, act: Act) -> String {
    match act {
        // A row must come as plain text to be changed.
        Act::Shift if line.to_ascii_lowercase().starts_with("accept-encoding:") => String::new(),
        Act::Older if NEWER.iter().any(|newer| line.starts_with(newer)) => UNKNOWN.to_owned(),
        _ => line.to_owned(),
    }
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
fn an_earlier_release_is_asked_for_no_past() {
    for path in ["past/row/17", "past/faults/n1", "history", "history/17", "history/n1/n2"] {
        let line = format!("GET /api/v1/{path} HTTP/1.1\r\n");
        assert_eq!(changed(&line, Act::Older), UNKNOWN, "{path}");
        assert_eq!(changed(&line, Act::Relay), line, "{path}");
    }
    for line in ["GET /api/v1/row HTTP/1.1\r\n", "GET /keepalive HTTP/1.1\r\n", "Host: n4\r\n"] {
        assert_eq!(changed(line, Act::Older), line);
    }
}
