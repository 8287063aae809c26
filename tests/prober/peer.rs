//! Peers with scripted behaviour, and a prober whose reports go to a channel.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use wylis::name::{Instance, NodeName};
use wylis::probe::{Priority, Probe, ProbeId, ProbeKind, Report};
use wylis::prober::{PoolLimits, Prober, Settings};

/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The answer of an agent on node `n1`.
pub(crate) const GOOD: &str = "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\n\r\n";

/// A listening peer that handles every connection in the same way, each on a thread.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Calls `behave` for every connection.
    pub(crate) fn start(ip: &str, behave: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = listener(ip, 1024);
        let address = listener.local_addr().unwrap();
        let behave = Arc::new(behave);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let behave = Arc::clone(&behave);
                thread::spawn(move || behave(stream.unwrap()));
            }
        });
        Self { address, requests: Arc::default() }
    }

    /// Reads the request, sends `text`, and waits for the prober to close.
    pub(crate) fn answering(ip: &str, text: impl Into<String>) -> Self {
        let text = text.into();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let peer = Self::start(ip, move |mut stream| {
            seen.lock().unwrap().push(read_head(&mut stream));
            let _ = stream.write_all(text.as_bytes());
            wait_for_close(&mut stream);
        });
        Self { requests, ..peer }
    }

    /// The requests read so far by a peer that is `answering`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

pub(crate) fn listener(ip: &str, backlog: i32) -> TcpListener {
    let address = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 0);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(backlog).unwrap();
    socket.into()
}

/// A listener with a full queue: the kernel drops every further SYN.
pub(crate) fn black_hole(ip: &str) -> (SocketAddr, impl Sized) {
    let listener = listener(ip, 0);
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        held.push(stream);
        assert!(held.len() < 16, "the queue never fills");
    }
    (address, (listener, held))
}

/// Reads until the empty line.
pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Returns when the other side has closed or reset.
pub(crate) fn wait_for_close(stream: &mut TcpStream) {
    let mut sink = [0; 64];
    while stream.read(&mut sink).unwrap_or(0) > 0 {}
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

pub(crate) fn settings(timeout: Duration) -> Settings {
    Settings {
        node: NodeName::new("me").unwrap(),
        instance: Instance::new("instance-1").unwrap(),
        interval: Duration::from_secs(10),
        timeout,
        listen_port: 9050,
    }
}

/// A blank probe of node `n1`, due now.
pub(crate) fn blank(id: ProbeId, address: SocketAddr, priority: Priority) -> Probe {
    let node = NodeName::new("n1").unwrap();
    Probe { id, node, address, due: Instant::now(), priority, token: None, kind: ProbeKind::Blank }
}

/// A prober and its reports.
pub(crate) fn prober(timeout: Duration, limits: PoolLimits) -> (Prober, Receiver<Report>) {
    let (sender, reports) = channel();
    let report = move |report| {
        // The test may have ended already.
        let _ = sender.send(report);
    };
    (Prober::with_limits(settings(timeout), limits, report), reports)
}

/// One blank probe of `n1` at `address`.
pub(crate) fn probe_once(address: SocketAddr, timeout: Duration) -> Report {
    let (prober, reports) = prober(timeout, PoolLimits::default());
    prober.submit(blank(7, address, Priority::Healthy));
    reports.recv_timeout(PATIENCE).unwrap()
}

/// Polls until `condition` holds.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
