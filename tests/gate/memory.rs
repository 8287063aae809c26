//! What the kernel holds for the sockets of a gate.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use socket2::SockRef;
use wylis::gate::Limits;
use wylis_harness::bounds::worst_case;

use crate::backend_faults::FakeServer;
use crate::child::TIMEOUT;
use crate::client::connect;

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
