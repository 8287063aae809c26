//! TUN and TAP devices: IP-in-IP, and a cable that delays, loses and changes frames. Each is one thread over descriptors opened inside
//! the namespaces. Thread and devices end with their owner or the process.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
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

/// What happens to frames on a cable; nothing by default. Shares are frames of 100.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// The delay of every frame.
    pub delay: Duration,
    /// A further delay by chance, up to this.
    pub jitter: Duration,
    /// The share of frames that others overtake, and by how much they are late.
    pub late: (u32, Duration),
    /// The share of frames that arrive twice.
    pub duplicated: u32,
    /// The share of frames with a flipped bit, behind all headers outside the tunnel.
    pub corrupted: u32,
    /// Dead for the first time of every second one.
    pub dead: Option<(Duration, Duration)>,
    /// After the first time of silence, what is sent next is queued for the second one.
    pub held: Option<(Duration, Duration)>,
    /// Only frames from or to this address are affected.
    pub only: Option<Ipv4Addr>,
}

impl Weather {
    fn affects(&self, frame: &[u8]) -> bool {
        // Source and target in an IPv4 header behind the Ethernet header.
        let ends = frame.get(26..34);
        self.only.is_none_or(|only| {
            ends.is_some_and(|ends| ends.chunks(4).any(|end| end == only.octets()))
        })
    }
}

/// A cable between two namespaces, with adjustable weather.
#[derive(Debug)]
pub struct Cable {
    _pump: Pump,
    weather: Arc<Mutex<Weather>>,
}

impl Cable {
    /// Creates both ends, Ethernet devices with these names.
    #[must_use]
    pub fn plug(one: (&Namespace, &str), other: (&Namespace, &str)) -> Self {
        let end =
            |(host, name): (&Namespace, &str)| host.entrance().within(|| open(name, libc::IFF_TAP));
        let ends = [end(one), end(other)];
        let weather = Arc::<Mutex<Weather>>::default();
        let shared = Arc::clone(&weather);
        let pump = Pump::start(move |stopped| transmit(&ends, &shared, &stopped));
        Self { _pump: pump, weather }
    }

    /// Sets the delay of each frame, in both directions.
    pub fn set_delay(&self, delay: Duration) {
        self.set(Weather { delay, ..Weather::default() });
    }

    /// Sets what happens to frames from now on.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }
}

/// The bytes of a tunnel's frame before its content: Ethernet, IPv4, UDP, and WireGuard's header.
const HEADERS: usize = 14 + 20 + 8 + 16;
/// A frame of WireGuard without content: its keepalive.
const EMPTY: usize = HEADERS + 16;

/// When a frame arrives, its number, its end, its bytes.
type Frame = (Instant, u64, usize, Vec<u8>);

/// Frames on their way, the next one first; a number keeps the order of simultaneous ones.
struct InFlight {
    frames: BinaryHeap<Reverse<Frame>>,
    begun: Instant,
    count: u64,
    random: u64,
    /// When the last frame with content passed, in either direction.
    last: Instant,
    /// Until when each end waits for its frames.
    held: [Instant; 2],
}

impl InFlight {
    fn new() -> Self {
        let begun = Instant::now();
        let (frames, random) = (BinaryHeap::new(), 0x9e37_79b9);
        Self { frames, begun, count: 0, random, last: begun, held: [begun; 2] }
    }

    /// Xorshift.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit.max(1)
    }

    fn chance(&mut self, share: u32) -> bool {
        self.below(100) < u64::from(share)
    }

    /// Takes a frame that goes to this end.
    fn take(&mut self, to: usize, mut frame: Vec<u8>, weather: &Weather) {
        let now = Instant::now();
        if !weather.affects(&frame) {
            return self.push(now, to, frame);
        }
        let phase = |period: Duration| {
            let period = period.as_nanos().max(1);
            now.duration_since(self.begun).as_nanos() % period
        };
        if weather.dead.is_some_and(|(dead, period)| phase(period) < dead.as_nanos()) {
            return;
        }
        let jitter = u64::try_from(weather.jitter.as_micros()).unwrap_or(u64::MAX);
        let mut due = now + weather.delay + Duration::from_micros(self.below(jitter));
        if let Some((silence, time)) = weather.held
            && frame.len() > EMPTY
        {
            if now.duration_since(self.last) >= silence {
                self.held[to] = now + time;
            }
            self.last = now;
            due = due.max(self.held[to]);
        }
        if self.chance(weather.late.0) {
            due += weather.late.1;
        }
        if self.chance(weather.corrupted) && frame.len() > HEADERS {
            let bits = (frame.len() - HEADERS) * 8;
            let bit = usize::try_from(self.below(bits as u64)).unwrap_or(0);
            frame[HEADERS + bit / 8] ^= 1 << (bit % 8);
        }
        if self.chance(weather.duplicated) {
            self.push(due, to, frame.clone());
        }
        self.push(due, to, frame);
    }

    fn push(&mut self, due: Instant, to: usize, frame: Vec<u8>) {
        self.count += 1;
        self.frames.push(Reverse((due, self.count, to, frame)));
    }

    /// When the next frame arrives.
    fn next(&self) -> Option<Instant> {
        self.frames.peek().map(|Reverse((due, ..))| *due)
    }
}

fn transmit(ends: &[File; 2], weather: &Mutex<Weather>, stopped: &PipeReader) {
    let mut in_flight = InFlight::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let left = in_flight.next().map(|due| due.saturating_duration_since(Instant::now()));
        // poll(2) ignores a negative descriptor: a full cable reads no more.
        let full = in_flight.frames.len() >= QUEUE;
        let end = |end: &File| if full { -1 } else { end.as_raw_fd() };
        let descriptors = [end(&ends[0]), end(&ends[1]), stopped.as_raw_fd()];
        let [first, second, stop] = readable(descriptors, left);
        if stop {
            return;
        }
        let now = *weather.lock().unwrap_or_else(PoisonError::into_inner);
        for (from, ready) in [(0, first), (1, second)] {
            let mut end = &ends[from];
            if ready && let Ok(length) = end.read(&mut buffer) {
                in_flight.take(1 - from, buffer[..length].to_vec(), &now);
            }
        }
        while in_flight.next().is_some_and(|due| due <= Instant::now())
            && let Some(Reverse((_, _, to, frame))) = in_flight.frames.pop()
        {
            let mut end = &ends[to];
            // Frames to an end that is down are lost.
            let _ = end.write_all(&frame);
        }
    }
}
