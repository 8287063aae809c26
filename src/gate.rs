//! The public port: admits only checked requests, rebuilds them, forwards them to the server on its
//! private socket, and streams the responses back.
//!
//! Hostile bytes never reach tiny_http: one thread checks everything, with a limit and a deadline on
//! each step and one request a connection. Of a route, the gate knows only the label, the lane, and whether
//! it is the row, of which only so many are sent. It fails closed: a backend that does not behave like the
//! agent's own server ends the process.

mod acceptor;
mod answered;
mod backend;
mod client;
mod counters;
mod encoding;
mod event_loop;
mod fairness;
mod outbox;
mod poll;
mod queue;
mod request;
mod response;
mod row_budget;

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
use crate::wire::KeepAlive;
use answered::{MAX_ANSWERED, MAX_ANSWERED_BYTES};
use fairness::MAX_SHARED;

/// Connections that wait for `accept`: 1,000 peers while the gate is stopped for 5 s. The kernel charges
/// them to the node, and to this process only once they are accepted: up to 14 KiB each.
const BACKLOG: i32 = 512;
/// Unread bytes of a response in the kernel, which doubles this for its own use: 128 KiB let a scraper
/// 200 ms away read 3 MB in 5 s.
const SEND_BUFFER: usize = 64 * 1024;
/// The kernel's size of it.
const KERNEL_SEND_BUFFER: usize = 2 * SEND_BUFFER;
/// Unread bytes of a client in the kernel, which doubles this for its own use: a head of 64 KiB from
/// 200 ms away still arrives in its time, and a probe fills one packet. The kernel's default would be
/// 128 KiB for each connection, accepted or not.
const RECEIVE_BUFFER: usize = 4 * 1024;
/// The kernel's size of it.
const KERNEL_RECEIVE_BUFFER: usize = 2 * RECEIVE_BUFFER;
/// How long the kernel keeps unacknowledged data of a client that vanished. Sockets that the gate holds
/// end earlier; this is for those that it leaves to the kernel at its end.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most connections at once: a head takes microseconds, so only hostile clients reach this. 1,000 peers
/// 200 ms away, each probe with a lost packet, have 60.
const MAX_CONNECTIONS: usize = 256;
/// Descriptors left to the rest of the process: 64 probes, 32 rows of peers, the API server, files.
const RESERVED_DESCRIPTORS: u64 = 160;
/// Fewest connections, if the descriptor limit is too low for the reserve.
const MIN_CONNECTIONS: usize = 16;
/// The same for answered ones.
const MIN_ANSWERED: usize = 8;

/// Kernel memory of one socket without its buffers: the socket itself 2.4 KiB, inode, file, directory entry
/// and epoll item 1.5 KiB.
const SOCKET: usize = 4 * 1024;
/// A buffer exceeds its size by one packet, which is in a page.
const EXCESS: usize = 4 * 1024;
/// Memory of all sockets of the public port that are charged to this process, and of what it buffers for
/// them. The pod's limit is 32 MiB, of which the process itself uses 3 to 6.
const MAX_MEMORY: usize = 9 * 1024 * 1024;
const _: () = assert!(
    MAX_CONNECTIONS * (SOCKET + KERNEL_RECEIVE_BUFFER + EXCESS)
        + MAX_SHARED
        + MAX_ANSWERED * SOCKET
        + MAX_ANSWERED_BYTES
        <= MAX_MEMORY
);

/// The limits of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections whose response is sent and not yet acknowledged, beside the others.
    pub answered: usize,
    /// Time for the head, from the accepted connection on. Covers two lost packets, and is at most half
    /// of an interval.
    pub head: Duration,
    /// Time from the head to the start of the response, the queue included. Prometheus gives up after
    /// 10 s.
    pub wait: Duration,
    /// Time from the start of a small response until the kernel has accepted all of it.
    pub small_response: Duration,
    /// The same for a bulk or gathered response: 3 MB at 2.4 Mbit/s. Prometheus gives up by then, and
    /// other clients of the lane may wait this long.
    pub bulk_response: Duration,
    /// Wait for the client's close after a refusal: an early close would send a reset, which discards
    /// data on its way to the client.
    pub linger: Duration,
    /// Longest time without data from the server while a response is due. Longer than any client waits,
    /// so that ending the process loses nothing.
    pub backend: Duration,
}

impl Limits {
    /// The limits of this process, whose descriptors may be few.
    #[must_use]
    pub fn of_this_process() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let left = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let answered = (left / 3).clamp(MIN_ANSWERED, MAX_ANSWERED);
        Self {
            connections: left.saturating_sub(answered).clamp(MIN_CONNECTIONS, MAX_CONNECTIONS),
            answered,
            head: Duration::from_secs(5),
            wait: Duration::from_secs(10),
            small_response: Duration::from_secs(5),
            bulk_response: Duration::from_secs(10),
            linger: Duration::from_secs(2),
            backend: Duration::from_secs(15),
        }
    }
}

/// Takes the sender of a blank request, and how many segments of its answer had to be retransmitted. It
/// must not block.
pub type Retransmitted = Box<dyn Fn(KeepAlive, u32) + Send>;

/// Ends the process for the given reason: a lane failed, and cannot be reopened.
pub type Fatal = Box<dyn Fn(&str) + Send>;

/// The parts of a gate.
pub struct Setup {
    /// From [`listen`].
    pub listener: TcpListener,
    /// The connections to the server.
    pub backends: Lanes<UnixStream>,
    /// The limits.
    pub limits: Limits,
    /// The counters that the gate updates.
    pub counters: Arc<Counters>,
    /// The heartbeat of its loop.
    pub heartbeat: Heartbeat,
    /// Ends the gate once it has answered all complete requests, within a second.
    pub stop: StopToken,
    /// Called with the sender of an answered request and its retransmits.
    pub retransmitted: Retransmitted,
    /// Called once at most, as the last act of the gate's thread.
    pub fatal: Fatal,
}

/// Opens the public port.
///
/// # Errors
/// If the address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` serves both families, regardless of the node's default.
        socket.set_only_v6(false)?;
    }
    // Inherited by every connection.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Starts the gate's thread, called "gate".
///
/// # Errors
/// If the kernel lacks memory, a descriptor or a thread for it.
pub fn start(setup: Setup) -> io::Result<JoinHandle<()>> {
    let event_loop = event_loop::EventLoop::new(setup)?;
    std::thread::Builder::new().name("gate".to_owned()).spawn(move || event_loop.run())
}
