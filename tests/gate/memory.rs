//! What the kernel holds for the sockets of a gate.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use socket2::SockRef;
use wylis::gate::{Limits, Rejection};
use wylis_harness::bounds::worst_case;

use crate::backend_faults::{FakeServer, head, sequence};
use crate::child::TIMEOUT;
use crate::client::{connect, connect_with_small_buffer, kernel_sockets};

/// Sockets of one local address.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Kernel {
    pub(crate) sockets: usize,
    /// Those whose FIN is sent and not acknowledged.
    pub(crate) unacknowledged: usize,
    /// Bytes of the send and receive buffers as charged, the reserve of each socket included.
    pub(crate) buffers: usize,
    /// The largest of one socket.
    pub(crate) largest: usize,
}

impl Kernel {
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            sockets: self.sockets.max(other.sockets),
            unacknowledged: self.unacknowledged.max(other.unacknowledged),
            buffers: self.buffers.max(other.buffers),
            largest: self.largest.max(other.largest),
        }
    }
}

/// Reads the sockets with this local address, the listener apart, in the namespace of this thread.
pub(crate) fn kernel_memory(address: SocketAddr) -> Kernel {
    let filter = format!("src {} and sport = :{}", address.ip(), address.port());
    let output = Command::new("ss").args(["-tanmHO", &filter]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut kernel = Kernel::default();
    for line in text.lines().filter(|line| !line.starts_with("LISTEN")) {
        let fields = line.split_once("skmem:(").map_or("", |(_, fields)| fields);
        // Received and unread, queued for sending, reserved.
        let field = |name: &str| {
            let of = |field: &str| field.strip_prefix(name)?.parse::<usize>().ok();
            fields.split(',').find_map(of).unwrap_or(0)
        };
        let bytes = field("r") + field("w") + field("f");
        kernel.sockets += 1;
        let states = ["FIN-WAIT-1", "LAST-ACK", "CLOSING"];
        kernel.unacknowledged += usize::from(states.iter().any(|state| line.starts_with(state)));
        kernel.buffers += bytes;
        kernel.largest = kernel.largest.max(bytes);
    }
    kernel
}

/// Sends pieces on all connections until the kernel takes no more of any.
fn fill(clients: &[TcpStream], piece: &[u8]) {
    let mut idle = 0;
    // The other side acknowledges with a delay.
    while idle < 3 {
        let mut sent = false;
        for mut client in clients {
            while client.write(piece).is_ok() {
                sent = true;
            }
        }
        idle = if sent { 0 } else { idle + 1 };
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn unread_data_of_all_connections_occupies_little_memory() {
    // The socket itself, its file and its inode.
    const SOCKET: usize = 4096;
    let limits = Limits { wait: TIMEOUT, ..Limits::of_this_process() };
    for (net, size) in [(80, 16 * 1024), (81, 50)] {
        // The server does not respond, so these wait, and the later ones for a place.
        let server = FakeServer::with(net, limits);
        let mut clients = Vec::new();
        for number in 0..limits.connections + 50 {
            let mut client = connect(server.address);
            client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            client.set_nonblocking(true).unwrap();
            client.set_nodelay(true).unwrap();
            SockRef::from(&client).set_send_buffer_size(4096).unwrap();
            clients.push(client);
            if number + 1 == limits.connections {
                server.wait_for_connections(limits.connections as u64);
            }
        }
        fill(&clients, &vec![b'a'; size]);
        let kernel = kernel_memory(server.address);
        println!("pieces of {size} bytes: {kernel:?}");
        assert_eq!(kernel.sockets, clients.len());
        // The answered ones, full, on top.
        let connections = (kernel.buffers / kernel.sockets + SOCKET) * limits.connections;
        let answered = worst_case("MAX_ANSWERED_BYTES") + (limits.answered * SOCKET) as f64;
        assert!(connections as f64 + answered <= worst_case("MAX_MEMORY"), "{kernel:?}");
    }
}

/// Sends a request for /metrics, and reads nothing.
fn scrape(server: &FakeServer) -> TcpStream {
    let mut client = connect_with_small_buffer(server.address);
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client
}

/// The kernel's send buffer of a client, headers of packets included.
const KERNEL_SEND_BUFFER: usize = 128 * 1024;

/// Bytes of a response that the kernel takes for a client that reads nothing.
fn taken_by_kernel(net: u8) -> usize {
    let server = FakeServer::with(net, Limits::of_this_process());
    let client = scrape(&server);
    let mut bulk = server.bulk.try_clone().unwrap();
    let number = sequence(&bulk);
    // Blocks when the gate pauses the lane, until it stops.
    std::thread::spawn(move || {
        let response = head(number, "Content-Length: 1000000") + &"a".repeat(1_000_000);
        let _ = bulk.write_all(response.as_bytes());
    });
    let taken = || {
        const ESTABLISHED: &str = "01";
        let sockets = kernel_sockets(server.address);
        let open = sockets.iter().find(|fields| fields[3] == ESTABLISHED).unwrap();
        let unread = u64::from_str_radix(&open[4][..8], 16).unwrap();
        usize::try_from(unread + rustix::io::ioctl_fionread(&client).unwrap()).unwrap()
    };
    let mut last = 0;
    wylis_harness::wait_until(TIMEOUT, "the kernel takes no more", || {
        let before = std::mem::replace(&mut last, taken());
        std::thread::sleep(Duration::from_millis(50));
        last > KERNEL_SEND_BUFFER / 4 && last == before
    });
    drop(client);
    server.wait_for_connections(0);
    last
}

#[test]
fn responses_whose_end_is_buffered_are_bounded_together() {
    // Each frees the lane at once: all but the end of its last piece is the kernel's.
    const PIECE: usize = 16 * 1024;
    const CLIENTS: u64 = 24;
    let whole = taken_by_kernel(84).next_multiple_of(PIECE);
    let mut server = FakeServer::with(85, Limits::of_this_process());
    let (mut clients, mut most) = (Vec::new(), 0);
    for count in 1..=CLIENTS {
        clients.push(scrape(&server));
        let number = sequence(&server.bulk);
        let length = whole - head(number, "Content-Length: 65536").len();
        let response = head(number, &format!("Content-Length: {length}")) + &"a".repeat(length);
        server.bulk.write_all(response.as_bytes()).unwrap();
        wylis_harness::wait_until(TIMEOUT, "the response is written", || {
            server.counters.requests().map(|(_, _, count)| count).sum::<u64>() == count
        });
        if count % 6 == 0 {
            let kernel = kernel_memory(server.address);
            most = most.max(kernel.buffers + kernel.sockets * PIECE);
        }
    }
    println!("{whole} bytes each: {most} at most");
    assert!(most as f64 <= worst_case("MAX_SHARED"), "{most} bytes");
    assert!(server.counters.rejected(Rejection::Timeout) > 0, "none had to make room");
}

#[test]
fn answered_client_that_has_sent_more_is_not_held() {
    let server = FakeServer::with(86, Limits::of_this_process());
    let mut client = connect(server.address);
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let number = sequence(&server.small);
    client.write_all(&[b'a'; 8 * 1024]).unwrap();
    wylis_harness::wait_until(TIMEOUT, "it has arrived", || {
        kernel_memory(server.address).buffers >= 8 * 1024
    });
    let mut small = &server.small;
    small.write_all(head(number, "Content-Length: 0").as_bytes()).unwrap();
    server.wait_for_connections(0);
    // No other connection ends, which would examine it.
    assert_eq!(kernel_memory(server.address).sockets, 0, "the kernel holds what it sent");
}
