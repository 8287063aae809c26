//! What all hostile clients share: their target, their addresses, their pace and their end.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// Where a client's packets come from: the firewall of its namespace decides by the address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// An ordinary client.
    Ordinary = 0,
    /// Only SYNs and data leave: no acknowledgement, no FIN, no RST.
    Vanishing = 1,
    /// Only SYNs leave.
    HalfOpen = 2,
}

impl Origin {
    /// How many addresses it has. Those of vanished clients cannot be used again until the agent has given up.
    fn addresses(self) -> u64 {
        match self {
            // Some pods, among which the agent is to be fair.
            Self::Ordinary => 8,
            Self::Vanishing | Self::HalfOpen => 200,
        }
    }
}

/// A SYN may meet the remains of an earlier connection with the same ports; another is tried at once.
const CONNECT: Duration = Duration::from_millis(500);

/// One kind of hostile client, as it runs.
#[derive(Debug)]
pub(crate) struct Hostile {
    /// The attacked agent first, then the others.
    pub(crate) agents: Vec<Known>,
    /// Connections or requests a second, at most.
    pub(crate) rate: u32,
    pub(crate) stop: AtomicBool,
    /// Connections opened.
    pub(crate) opened: AtomicU64,
}

/// What a hostile client knows of an agent: all of it is public.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) node: String,
    pub(crate) instance: String,
    pub(crate) address: SocketAddr,
}

impl Hostile {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn pace(&self) -> Pace<'_> {
        Pace { hostile: self, next: Instant::now() }
    }

    /// A connection to the attacked agent.
    pub(crate) fn connect(&self, origin: Origin) -> Option<TcpStream> {
        self.connect_to(self.agents[0].address, origin, None)
    }

    /// A connection; `buffer` is the size of its receive buffer.
    pub(crate) fn connect_to(
        &self,
        target: SocketAddr,
        origin: Origin,
        buffer: Option<usize>,
    ) -> Option<TcpStream> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        // Shared by all clients, so that two of them do not use the same ports.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let last = u8::try_from(number % origin.addresses()).unwrap() + 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        if let Some(size) = buffer {
            socket.set_recv_buffer_size(size).ok()?;
        }
        let address = Ipv4Addr::new(198, 19, origin as u8, last);
        socket.bind(&SocketAddr::from((address, 0)).into()).ok()?;
        socket.connect_timeout(&target.into(), CONNECT).ok()?;
        Some(socket.into())
    }
}

/// Spaces the steps of one client. A client that falls behind does not catch up.
pub(crate) struct Pace<'a> {
    hostile: &'a Hostile,
    next: Instant,
}

impl Pace<'_> {
    /// Waits for the next step; false at the end.
    pub(crate) fn step(&mut self) -> bool {
        let now = Instant::now();
        match self.next.checked_duration_since(now) {
            Some(wait) => std::thread::sleep(wait),
            None => self.next = now,
        }
        self.next += Duration::from_secs(1) / self.hostile.rate;
        !self.hostile.is_stopped()
    }
}

/// Closes with a RST.
pub(crate) fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// Sends what the connection takes.
pub(crate) fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// A GET of this path with these header lines, each with its line end.
pub(crate) fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes()
}

/// Numbers without a pattern (xorshift).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
