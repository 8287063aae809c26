//! TUN and TAP devices: IP-in-IP, and a cable with a delay. Each is one thread over descriptors opened inside
//! the namespaces. Thread and devices end with their owner or the process.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::netns::Namespace;

/// Larger than any packet.
const LARGEST: usize = 65_536;
/// The queue of a cable, in frames; a longer one would only add delay.
const QUEUE: usize = 4096;

/// A thread that ends when this is dropped.
#[derive(Debug)]
struct Pump {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    fn start(body: impl FnOnce(PipeReader) + Send + 'static) -> Self {
        let (stopped, stop) = io::pipe().expect("a pipe");
        Self { stop: Some(stop), thread: Some(std::thread::spawn(move || body(stopped))) }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // The thread sees the closed pipe.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until descriptors are readable or closed, and returns which; none after the timeout.
fn readable<const N: usize>(descriptors: [RawFd; N], timeout: Option<Duration>) -> [bool; N] {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // Rounded up: an early wake-up would be a busy loop.
    let timeout = timeout.map_or(-1, |left| i32::try_from(left.as_millis()).unwrap_or(0) + 1);
    // SAFETY: the array outlives the call, and the length is its own.
    let ready =
        unsafe { libc::poll(polled.as_mut_ptr(), libc::nfds_t::try_from(N).unwrap_or(0), timeout) };
    polled.map(|one| ready > 0 && one.revents != 0)
}

/// Opens a TUN or TAP device in the calling thread's namespace.
fn open(name: &str, kind: libc::c_int) -> File {
    let device = File::options().read(true).write(true).open("/dev/net/tun");
    let device = device.expect("open /dev/net/tun");
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(kind | libc::IFF_NO_PI).expect("flags fit");
    // SAFETY: the request outlives the call and has TUNSETIFF's type.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(made, 0, "{name}: {}", io::Error::last_os_error());
    device
}

/// IP-in-IP (RFC 2003) in userspace: packets from the device go to the other end as protocol 4.
#[derive(Debug)]
pub struct IpInIp {
    _pump: Pump,
}

impl IpInIp {
    /// Opens the device on a host. `local` is its outer address; `other_end` maps an inner address to its
    /// host's outer address.
    #[must_use]
    pub fn open(
        host: &Namespace,
        name: &str,
        local: Ipv4Addr,
        other_end: fn(Ipv4Addr) -> Ipv4Addr,
    ) -> Self {
        let (device, socket) =
            host.entrance().within(|| (open(name, libc::IFF_TUN), raw_socket(local)));
        let pump = Pump::start(move |stopped| carry(&device, &socket, &stopped, other_end));
        Self { _pump: pump }
    }
}

/// A raw socket of protocol 4. It sends and receives like a UDP socket with a meaningless port; received
/// packets start with the outer header (raw(7)).
fn raw_socket(local: Ipv4Addr) -> UdpSocket {
    // SAFETY: plain socket calls. The socket owns the descriptor. The address outlives the call and the
    // length is its own.
    unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let socket = libc::socket(libc::AF_INET, kind, libc::IPPROTO_IPIP);
        assert!(socket >= 0, "a raw socket: {}", io::Error::last_os_error());
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_addr.s_addr = u32::from(local).to_be();
        let length = size_of_val(&address) as libc::socklen_t;
        let bound = libc::bind(socket, (&raw const address).cast(), length);
        assert_eq!(bound, 0, "bind {local}: {}", io::Error::last_os_error());
        UdpSocket::from_raw_fd(socket)
    }
}

fn carry(
    mut device: &File,
    socket: &UdpSocket,
    stopped: &PipeReader,
    other_end: fn(Ipv4Addr) -> Ipv4Addr,
) {
    let mut buffer = vec![0; LARGEST];
    loop {
        let [out, back, stop] =
            readable([device.as_raw_fd(), socket.as_raw_fd(), stopped.as_raw_fd()], None);
        if stop {
            return;
        }
        // A packet that cannot be sent is lost, as on any network; TCP retransmits.
        if out && let Ok(length) = device.read(&mut buffer) {
            let inner = &buffer[..length];
            if let Some(&[a, b, c, d]) = inner.get(16..20)
                && inner[0] >> 4 == 4
            {
                let _ = socket.send_to(inner, (other_end(Ipv4Addr::new(a, b, c, d)), 0));
            }
        }
        if back && let Ok(length) = socket.recv(&mut buffer) {
            let outer = usize::from(buffer[0] & 0x0f) * 4;
            if outer < length {
                let _ = device.write_all(&buffer[outer..length]);
            }
        }
    }
}

/// A cable between two namespaces, with an adjustable delay.
#[derive(Debug)]
pub struct Cable {
    _pump: Pump,
    micros: Arc<AtomicU64>,
}

impl Cable {
    /// Creates both ends, Ethernet devices with these names.
    #[must_use]
    pub fn plug(one: (&Namespace, &str), other: (&Namespace, &str)) -> Self {
        let end =
            |(host, name): (&Namespace, &str)| host.entrance().within(|| open(name, libc::IFF_TAP));
        let ends = [end(one), end(other)];
        let micros = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&micros);
        let pump = Pump::start(move |stopped| transmit(&ends, &delay, &stopped));
        Self { _pump: pump, micros }
    }

    /// Sets the delay of each frame, in both directions.
    pub fn set_delay(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).expect("a short delay");
        self.micros.store(micros, Ordering::Relaxed);
    }
}

fn transmit(ends: &[File; 2], micros: &AtomicU64, stopped: &PipeReader) {
    let mut in_flight: VecDeque<(Instant, usize, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let next = in_flight.front().map(|(due, _, _)| *due);
        let left = next.map(|due| due.saturating_duration_since(Instant::now()));
        // poll(2) ignores a negative descriptor: a full cable reads no more.
        let full = in_flight.len() >= QUEUE;
        let end = |end: &File| if full { -1 } else { end.as_raw_fd() };
        let descriptors = [end(&ends[0]), end(&ends[1]), stopped.as_raw_fd()];
        let [first, second, stop] = readable(descriptors, left);
        if stop {
            return;
        }
        let delay = Duration::from_micros(micros.load(Ordering::Relaxed));
        for (from, ready) in [(0, first), (1, second)] {
            let mut end = &ends[from];
            if ready && let Ok(length) = end.read(&mut buffer) {
                in_flight.push_back((Instant::now() + delay, 1 - from, buffer[..length].to_vec()));
            }
        }
        let now = Instant::now();
        while let Some((_, to, frame)) = in_flight.pop_front_if(|(due, _, _)| *due <= now) {
            let mut end = &ends[to];
            // Frames to an end that is down are lost.
            let _ = end.write_all(&frame);
        }
    }
}
