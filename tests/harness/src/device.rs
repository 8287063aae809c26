//! TUN and TAP devices, and what is made of them: IP-in-IP, and a cable with a delay. Each is one
//! thread of this process over descriptors that were opened inside the namespaces; it ends, and its
//! devices go, when the owner is dropped or the process dies.

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

/// Larger than any packet here.
const LARGEST: usize = 65_536;
/// Frames under way on a cable; a longer queue would only be a slower cable.
const UNDER_WAY: usize = 4096;

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
        // The other end sees that it is gone.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until one of these can be read or has ended, and tells which; none at the timeout.
fn readable<const N: usize>(descriptors: [RawFd; N], timeout: Option<Duration>) -> [bool; N] {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // Rounded up: waking too early would be a busy loop.
    let timeout = timeout.map_or(-1, |left| i32::try_from(left.as_millis()).unwrap_or(0) + 1);
    // SAFETY: the array outlives the call, and its length is told.
    let ready =
        unsafe { libc::poll(polled.as_mut_ptr(), libc::nfds_t::try_from(N).unwrap_or(0), timeout) };
    polled.map(|one| ready > 0 && one.revents != 0)
}

/// A TUN or TAP device in the namespace of the calling thread.
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
    // SAFETY: the request outlives the call, and is what TUNSETIFF takes.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(made, 0, "{name}: {}", io::Error::last_os_error());
    device
}

/// IP-in-IP (RFC 2003) in userspace: what enters the device leaves as protocol 4 to the other end.
#[derive(Debug)]
pub struct IpInIp {
    _pump: Pump,
}

impl IpInIp {
    /// Makes the device in a host. `local` is this end's outer address; `other_end` gives that of
    /// the host where an inner address lives.
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

/// A raw socket of protocol 4. It sends and receives as a UDP socket does, with a port that means
/// nothing; what it receives begins with the outer header (raw(7)).
fn raw_socket(local: Ipv4Addr) -> UdpSocket {
    // SAFETY: plain socket calls; the descriptor goes into the socket, which closes it. The address
    // outlives the call and has the length that is told.
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
        // What cannot be sent is lost, as on every network; TCP sends it again.
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

/// A cable between two namespaces that can be made slow.
#[derive(Debug)]
pub struct Cable {
    _pump: Pump,
    micros: Arc<AtomicU64>,
}

impl Cable {
    /// Makes its two ends, Ethernet devices of these names.
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

    /// How long each frame takes from now on, either way.
    pub fn set_delay(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).expect("a short delay");
        self.micros.store(micros, Ordering::Relaxed);
    }
}

fn transmit(ends: &[File; 2], micros: &AtomicU64, stopped: &PipeReader) {
    let mut under_way: VecDeque<(Instant, usize, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let next = under_way.front().map(|(due, _, _)| *due);
        let left = next.map(|due| due.saturating_duration_since(Instant::now()));
        // poll(2) passes over a negative one: a full cable is not asked for more.
        let full = under_way.len() >= UNDER_WAY;
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
                under_way.push_back((Instant::now() + delay, 1 - from, buffer[..length].to_vec()));
            }
        }
        let now = Instant::now();
        while let Some((_, to, frame)) = under_way.pop_front_if(|(due, _, _)| *due <= now) {
            let mut end = &ends[to];
            // An end that is down loses its frames.
            let _ = end.write_all(&frame);
        }
    }
}
