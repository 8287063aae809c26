//! Records when IPv4 packets pass a device: both directions, without their content.

use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::FromRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::netns::Namespace;

/// Most packets of a recording: later ones are not recorded.
const MOST: usize = 1 << 20;
/// How soon the thread sees that it should end.
const LOOK: Duration = Duration::from_millis(100);

/// A packet.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// When it was read, soon after it passed.
    pub at: Instant,
    /// From its header.
    pub source: Ipv4Addr,
    /// From its header.
    pub target: Ipv4Addr,
}

/// A running recording; ends when dropped.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    packets: Arc<Mutex<Vec<Packet>>>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins to record on a device of the host.
    #[must_use]
    pub fn start(host: &Namespace, device: &str) -> Self {
        let socket = host.entrance().within(|| packet_socket(device));
        socket.set_read_timeout(Some(LOOK)).expect("a timeout");
        let (stop, packets) = <(Arc<AtomicBool>, Arc<Mutex<Vec<Packet>>>)>::default();
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&packets));
        let thread = std::thread::spawn(move || {
            let mut header = [0; 20];
            while !stopped.load(Ordering::Relaxed) {
                // The rest of the packet is cut off.
                if socket.recv(&mut header).is_ok_and(|length| length == header.len())
                    && let [first, .., a, b, c, d, e, f, g, h] = header
                    && first >> 4 == 4
                {
                    let [source, target] = [Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h)];
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if seen.len() < MOST {
                        seen.push(Packet { at: Instant::now(), source, target });
                    }
                }
            }
        });
        Self { stop, packets, thread: Some(thread) }
    }

    /// The packets between two addresses so far, in their order.
    #[must_use]
    pub fn between(&self, one: Ipv4Addr, other: Ipv4Addr) -> Vec<Packet> {
        let packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
        let joins = |packet: &&Packet| {
            [(one, other), (other, one)].contains(&(packet.source, packet.target))
        };
        packets.iter().filter(joins).copied().collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet socket on a device of the calling thread's namespace (packet(7)), without link headers. It is received
/// from like a UDP socket.
fn packet_socket(device: &str) -> UdpSocket {
    let name = CString::new(device).expect("no zero in a name");
    // SAFETY: plain socket calls; name and address outlive them, and the length is the address's own. The socket owns
    // the descriptor.
    unsafe {
        let index = libc::if_nametoindex(name.as_ptr());
        assert!(index > 0, "{device}: {}", io::Error::last_os_error());
        let protocol = u16::try_from(libc::ETH_P_ALL).expect("16 bits").to_be();
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        let socket = libc::socket(libc::AF_PACKET, kind, protocol.into());
        assert!(socket >= 0, "a packet socket: {}", io::Error::last_os_error());
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as libc::sa_family_t;
        address.sll_protocol = protocol;
        address.sll_ifindex = i32::try_from(index).expect("an index of an interface");
        let length = size_of_val(&address) as libc::socklen_t;
        let bound = libc::bind(socket, (&raw const address).cast(), length);
        assert_eq!(bound, 0, "bind {device}: {}", io::Error::last_os_error());
        UdpSocket::from_raw_fd(socket)
    }
}
