//! The public port: admits only checked requests, builds them anew, forwards them to the server on
//! its private socket, and streams the answers back.
//!
//! tiny_http must never see a byte that nobody checked, so everything hostile ends here: one
//! thread, a bound on everything, a deadline on everything, one request a connection. The gate
//! knows no route: which lane a path takes is told to it. It fails closed, and when the backend
//! does not do what our own server does, it ends the process.

mod acceptor;
mod backend;
mod client;
mod counters;
mod event_loop;
mod poll;
mod request;
mod response;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Protocol, Socket, Type};

pub use counters::{Counters, Rejection};

use crate::heartbeat::Heartbeat;
use crate::route::Lanes;
use crate::shutdown::StopToken;

/// Connections that wait for `accept`: all peers of a large cluster after a power cut.
const BACKLOG: i32 = 1024;
/// What the kernel keeps of an answer that a client does not read. It doubles this for its own
/// use: 128 KiB let a scraper that is 200 ms away have 3 MB in 5 s.
const SEND_BUFFER: usize = 64 * 1024;
/// How long the kernel keeps what a vanished or unwilling client does not acknowledge, also after
/// we closed.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most connections at once; heads take microseconds, so this is for the hostile.
const MAX_CONNECTIONS: usize = 512;
/// Descriptors left to all else: 64 probes, 32 rows of peers, the API server, files, the process's own.
const RESERVED_DESCRIPTORS: u64 = 160;
/// Connections that we insist on, when the limit is too low for the reserve.
const MIN_CONNECTIONS: usize = 16;

/// The bounds of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// From the connection to its whole head. Generous for two lost packets, and half of an
    /// interval at most.
    pub head: Duration,
    /// From the head to the begin of the answer, the wait for the lane included; Prometheus gives
    /// up after 10 s.
    pub wait: Duration,
    /// From the begin of a small answer until the kernel has taken it.
    pub small_answer: Duration,
    /// From the begin of a bulk or gathered answer until the kernel has taken it, at which time Prometheus
    /// would give up: 3 MB at 2.4 Mbit/s. Others wait for that long.
    pub bulk_answer: Duration,
    /// After a refusal or an answer of any size: for the client's close, so that no reset of ours destroys
    /// what is on its way to it.
    pub linger: Duration,
    /// Without an octet from the server, while one is due: longer than any client waits, so
    /// nothing is lost by ending the process.
    pub backend: Duration,
}

impl Limits {
    /// The bounds for this process, whose descriptors may be few.
    #[must_use]
    pub fn of_this_process() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let left = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        Self {
            connections: left.clamp(MIN_CONNECTIONS, MAX_CONNECTIONS),
            head: Duration::from_secs(5),
            wait: Duration::from_secs(10),
            small_answer: Duration::from_secs(5),
            bulk_answer: Duration::from_secs(10),
            linger: Duration::from_secs(2),
            backend: Duration::from_secs(15),
        }
    }
}

/// What ends the process, given the reason: the lane is lost, and cannot be had again.
pub type Fatal = Box<dyn Fn(&str) + Send>;

/// What a gate is made of.
pub struct Setup {
    /// From [`listen`].
    pub listener: TcpListener,
    /// The way to the server.
    pub backends: Lanes<UnixStream>,
    /// The bounds.
    pub limits: Limits,
    /// Counted into.
    pub counters: Arc<Counters>,
    /// Its signs of life.
    pub heartbeat: Heartbeat,
    /// At the stop: answers what has come, for a second at most, and ends.
    pub stop: StopToken,
    /// Called at most once, by the gate's thread, which then ends.
    pub fatal: Fatal,
}

/// Opens the public port.
///
/// # Errors
/// When the address cannot be bound; the text names it.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Both families on `[::]`, whatever the node's default.
        socket.set_only_v6(false)?;
    }
    // Inherited by every connection.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Opens the gate: starts its thread, called "gate".
///
/// # Errors
/// When the kernel has no epoll, no descriptor or no thread for it.
pub fn start(setup: Setup) -> io::Result<JoinHandle<()>> {
    let event_loop = event_loop::EventLoop::new(setup)?;
    std::thread::Builder::new().name("gate".to_owned()).spawn(move || event_loop.run())
}
