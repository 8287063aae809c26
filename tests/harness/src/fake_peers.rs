//! A thousand fake peers in one thread: one listener on all of 127/8 answers as the node that owns the
//! connection's local address. They give a real agent many peers, and nothing more.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Many fake peers; stopped when dropped.
pub struct FakePeers {
    /// The port of all peers.
    pub port: u16,
    addresses: Vec<(String, IpAddr)>,
    answered: Arc<AtomicU64>,
    fickle: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl FakePeers {
    /// Starts nodes `p0000` and so on, at addresses in 127.`second`.0.0/16, on a free port.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn start(size: u16, second: u8) -> Self {
        Self::start_far(size, second, Duration::ZERO)
    }

    /// As [`FakePeers::start`], each as far as one of a mesh: a round trip of its own up to `farthest`, and
    /// a tenth of it more now and then.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn start_far(size: u16, second: u8, farthest: Duration) -> Self {
        Self::start_named((0..size).map(|number| format!("p{number:04}")), second, farthest)
    }

    /// As [`FakePeers::start_far`], with these names.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn start_named(
        nodes: impl Iterator<Item = String>,
        second: u8,
        farthest: Duration,
    ) -> Self {
        let address = |number: u16| {
            let [high, low] = number.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(127, second, high, low))
        };
        let addresses: Vec<(String, IpAddr)> =
            nodes.zip(256..).map(|(name, number)| (name, address(number))).collect();
        let names: HashMap<IpAddr, String> =
            addresses.iter().map(|(name, ip)| (*ip, name.clone())).collect();
        let names = Arc::new(names);
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let fickle = Arc::new(AtomicBool::new(false));
        let (stopped, count, is_fickle) =
            (Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&fickle));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (names, count) = (Arc::clone(&names), Arc::clone(&count));
                let draining =
                    is_fickle.load(Ordering::Relaxed) && count.load(Ordering::Relaxed) % 2 == 1;
                let answer = move |stream, pause| {
                    std::thread::sleep(pause);
                    if answer(stream, &names, draining).is_some() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                };
                let Ok(stream) = stream else { continue };
                let pause = pause(&stream, farthest);
                if pause.is_zero() {
                    answer(stream, pause);
                } else {
                    std::thread::spawn(move || answer(stream, pause));
                }
            }
        });
        Self { port, addresses, answered, fickle, stop, threads: vec![thread] }
    }

    /// From now on every other answer says that its node is about to stop.
    pub fn be_fickle(&self) {
        self.fickle.store(true, Ordering::Relaxed);
    }

    /// The nodes' names and addresses.
    #[must_use]
    pub fn nodes(&self) -> &[(String, IpAddr)] {
        &self.addresses
    }

    /// The number of answered probes.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Sends every node's keep-alive requests to an agent, spread over `interval`.
    pub fn probe(&mut self, agent: SocketAddr, interval: Duration) {
        let names: Vec<String> = self.addresses.iter().map(|(name, _)| name.clone()).collect();
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || {
            let pause = interval / u32::try_from(names.len().max(1)).unwrap();
            let mut next = Instant::now();
            for name in names.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                next += pause;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                let _ = send_probe(agent, name, interval);
            }
        }));
    }
}

impl Drop for FakePeers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accept loop.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Longer than any exchange on loopback. The limit keeps a stalled client from blocking the fake peers.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(2));

/// Reads a request's head.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut buffer = [0; 2048];
    let mut filled = 0;
    while !buffer[..filled].ends_with(b"\r\n\r\n") {
        match stream.read(buffer.get_mut(filled..)?) {
            Ok(read) if read > 0 => filled += read,
            _ => return None,
        }
    }
    String::from_utf8(buffer.get(..filled)?.to_vec()).ok()
}

/// The round trip to the peer of this connection.
fn pause(stream: &TcpStream, farthest: Duration) -> Duration {
    let (Ok(SocketAddr::V4(own)), Ok(other)) = (stream.local_addr(), stream.peer_addr()) else {
        return Duration::ZERO;
    };
    // The same for a peer each time; the ports make the difference of one probe.
    let distance = own.ip().to_bits().wrapping_mul(2_654_435_769) >> 22;
    let jitter = u32::from(other.port()).wrapping_mul(2_654_435_769) >> 28;
    farthest * distance * (160 + jitter) / (1024 * 176)
}

fn answer(mut stream: TcpStream, names: &HashMap<IpAddr, String>, draining: bool) -> Option<()> {
    stream.set_read_timeout(PATIENCE).ok()?;
    let name = names.get(&stream.local_addr().ok()?.ip())?;
    let head = read_head(&mut stream)?;
    let text = if head.starts_with("GET /api/v1/row ") {
        let row = row(name, names.values());
        let length = row.len();
        format!("HTTP/1.1 200 OK\r\nWylis-Node: {name}\r\nContent-Length: {length}\r\n\r\n{row}")
    } else {
        let draining = if draining { "Wylis-Draining: 1\r\n" } else { "" };
        format!("HTTP/1.1 204 No Content\r\nWylis-Node: {name}\r\n{draining}\r\n")
    };
    stream.write_all(text.as_bytes()).ok()
}

/// The row of a node with all others up.
fn row<'a>(name: &str, all: impl Iterator<Item = &'a String>) -> String {
    let cell = |other: &String| {
        format!(
            "{{\"node\":\"{other}\",\"verdict\":\"up\",\"latency_seconds\":0.012345,\"at\":1790000000.123}}"
        )
    };
    let cells: Vec<String> = all.filter(|other| *other != name).map(cell).collect();
    let cells = cells.join(",\n");
    format!("{{\"version\":1,\"node\":\"{name}\",\"at\":1790000001.5,\"cells\":[{cells}]}}")
}

fn send_probe(agent: SocketAddr, name: &str, interval: Duration) -> Option<()> {
    let mut stream = TcpStream::connect_timeout(&agent, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(PATIENCE).ok()?;
    let text = format!(
        "GET /keepalive HTTP/1.1\r\nHost: {agent}\r\nWylis-Node: {name}\r\nWylis-Interval: {}\r\n\r\n",
        interval.as_millis()
    );
    stream.write_all(text.as_bytes()).ok()?;
    read_head(&mut stream).map(drop)
}
