//! Reads the kernel's state and statistics of one TCP socket (TCP_INFO, tcp(7)); needs no privilege.
//!
//! It also tells which host sent the ICMP error that ended a connect (IP_RECVERR, ip(7)).
//!
//! The only module with `unsafe`: no safe crate offers these calls.
#![expect(unsafe_code, reason = "TCP_INFO and IP_RECVERR have no safe wrapper")]

use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::probe::KernelView;

/// Bytes that any kernel since 2.6.10 gives: up to `total_retrans`.
const NEEDED: usize = offset_of!(Raw, pacing_rates);
const _: () = assert!(NEEDED == 104 && size_of::<Raw>() == 160);

/// The kernel's structure (include/uapi/linux/tcp.h) up to `tcpi_data_segs_out`, which exists since 4.6: fields are
/// only appended, and an older kernel leaves the rest at zero.
#[repr(C)]
#[derive(Default)]
struct Raw {
    state: u8,
    counts: [u8; 4],
    options: u8,
    scales: [u8; 2],
    timeouts: [u32; 2],
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    segments: [u32; 7],
    last_ack_recv: u32,
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt: u32,
    window: [u32; 3],
    advmss: u32,
    receiver: [u32; 3],
    total_retrans: u32,
    pacing_rates: [u64; 2],
    bytes_acked: u64,
    bytes_received: u64,
    segs: [u32; 2],
    notsent_bytes: u32,
    min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
}

/// Connection states (include/net/tcp_states.h) after the handshake. Without TCP_CLOSE, in which the
/// kernel may have cleared its statistics.
const ESTABLISHED: [u8; 2] = [1, 8]; // TCP_ESTABLISHED, TCP_CLOSE_WAIT

/// States in which the kernel holds nothing for the peer: it reset, or acknowledged data and FIN.
const DELIVERED: [u8; 3] = [5, 6, 7]; // TCP_FIN_WAIT2, TCP_TIME_WAIT, TCP_CLOSE

/// The fields that are read, in the kernel's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Info {
    state: u8,
    total_retrans: u32,
    /// Microseconds.
    rtt: u32,
    /// Bytes.
    pmtu: u32,
    /// Milliseconds since the last ACK.
    last_ack: u32,
    /// Bytes of data in a full-size segment to the peer.
    send_mss: u32,
    /// The same from the peer: the MSS announced to it, less the options that both sides agreed on.
    announced_mss: u32,
}

impl Info {
    /// Bytes of data in a full-size segment to the peer.
    pub(crate) fn outgoing_segment(self) -> usize {
        usize::try_from(self.send_mss).unwrap_or(usize::MAX)
    }

    /// Bytes of data in the largest segment that the peer may send.
    pub(crate) fn incoming_segment(self) -> usize {
        usize::try_from(self.announced_mss).unwrap_or(usize::MAX)
    }

    /// Retransmitted segments so far.
    pub(crate) const fn retransmits(self) -> u32 {
        self.total_retrans
    }

    /// The round-trip time so far; `None` before the first.
    pub(crate) fn round_trip(self) -> Option<Duration> {
        (self.rtt > 0).then(|| Duration::from_micros(self.rtt.into()))
    }

    /// Time since the peer's last ACK: right after the handshake, how late its end was noticed.
    pub(crate) fn since_last_ack(self) -> Duration {
        Duration::from_millis(self.last_ack.into())
    }
}

/// Reads TCP_INFO of a socket; `None` if the kernel refuses or has fewer fields than needed.
fn read_raw(socket: impl AsFd) -> Option<Raw> {
    let mut info = Raw::default();
    let mut length = libc::socklen_t::try_from(size_of::<Raw>()).ok()?;
    // SAFETY: the descriptor is open while `socket` is borrowed; `info` is writable for `length` bytes, any bytes are
    // valid integers, and the kernel writes no more than that and stores the number in `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    (result == 0 && usize::try_from(length).ok()? >= NEEDED).then_some(info)
}

/// Reads what a prober needs of its socket.
pub(crate) fn read(socket: impl AsFd) -> Option<Info> {
    let raw = read_raw(socket)?;
    Some(Info {
        state: raw.state,
        total_retrans: raw.total_retrans,
        rtt: raw.rtt,
        pmtu: raw.pmtu,
        last_ack: raw.last_ack_recv,
        send_mss: raw.snd_mss,
        announced_mss: raw.advmss,
    })
}

/// Combines two readings: one right after the connection was established (`None` if it never was),
/// with the time until then, one at the end.
///
/// The round-trip time is the handshake's, from the first reading: later the kernel's average includes
/// the peer's response time. With timestamps (RFC 7323) there is one after a retransmitted SYN as well. The
/// retransmits are those of the whole probe, from the second; so is the path MTU, which a router may have
/// lowered meanwhile.
pub(crate) fn view(established: Option<(Info, Duration)>, end: Info) -> KernelView {
    let established = established.filter(|(info, _)| ESTABLISHED.contains(&info.state));
    let connect = established.map(|(_, connect)| connect);
    let established = established.map(|(info, _)| info);
    let rtt = established.map(|info| info.rtt).filter(|rtt| *rtt > 0);
    let current =
        established.map(|early| if ESTABLISHED.contains(&end.state) { end } else { early });
    KernelView {
        retransmits: end.total_retrans,
        syn_retransmits: established.map_or(end.total_retrans, |info| info.total_retrans),
        connect,
        rtt: rtt.map(|rtt| Duration::from_micros(rtt.into())),
        path_mtu: current.map(|info| info.pmtu),
        source_port: None,
    }
}

/// The kernel sends a SYN-ACK again after 1 s, whether it was lost or not: half of that leaves room for
/// jitter.
const SLOW_HANDSHAKE_MICROS: u32 = 500_000;

/// The kernel's statistics of an accepted socket whose answer of one segment is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Served {
    state: u8,
    total_retrans: u32,
    /// Bytes that the peer has acknowledged.
    acked: u64,
    /// The shortest round trip, in microseconds.
    min_rtt: u32,
    /// Segments with data, retransmits included.
    data_segments: u32,
}

impl Served {
    /// Whether the peer has acknowledged all data and the FIN, or has reset the connection.
    pub(crate) fn is_delivered(self) -> bool {
        DELIVERED.contains(&self.state)
    }

    /// Retransmits that show loss on the way to the peer.
    ///
    /// A prober resets without an acknowledgement, so that a lost RST causes a retransmit as a lost answer
    /// does; so does a duplicated SYN. But it acknowledges an answer that came late, which an answer before
    /// the retransmit does not. A SYN-ACK is also sent again when the round trip is longer than its timer.
    pub(crate) fn lost(self) -> u32 {
        if self.acked == 0 {
            return 0;
        }
        let answers = self.data_segments.saturating_sub(1).min(self.total_retrans);
        let is_slow = self.min_rtt >= SLOW_HANDSHAKE_MICROS;
        if is_slow { answers } else { self.total_retrans }
    }
}

/// Reads what the gate needs of an accepted socket.
pub(crate) fn read_served(socket: impl AsFd) -> Option<Served> {
    let raw = read_raw(socket)?;
    Some(Served {
        state: raw.state,
        total_retrans: raw.total_retrans,
        acked: raw.bytes_acked,
        min_rtt: raw.min_rtt,
        data_segments: raw.data_segs_out,
    })
}

/// A control message of the kernel's queue of errors: `struct sock_extended_err` with the address of the sender, of
/// either family.
#[repr(C)]
struct QueuedError {
    header: libc::cmsghdr,
    error: libc::sock_extended_err,
    sender: libc::sockaddr_in6,
}

/// Origins of an error (include/uapi/linux/errqueue.h): SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6.
const BY_ICMP: [u8; 2] = [2, 3];

/// Has the kernel keep the ICMP errors of a socket of this family, for [`error_sender`]. Of a TCP connection it does so
/// since Linux 5.9.
pub(crate) fn keep_errors(socket: impl AsFd, is_ipv4: bool) {
    let (level, option) = if is_ipv4 {
        (libc::IPPROTO_IP, libc::IP_RECVERR)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    };
    let on = 1_i32;
    // SAFETY: the descriptor is open while `socket` is borrowed; `on` is readable for its 4 bytes. Where it fails, no
    // error is kept.
    unsafe {
        let (socket, on) = (socket.as_fd().as_raw_fd(), (&raw const on).cast());
        libc::setsockopt(socket, level, option, on, 4);
    }
}

/// The sender of the first ICMP error that was kept; `None` without any.
pub(crate) fn error_sender(socket: impl AsFd) -> Option<IpAddr> {
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: zeros are valid for integers and null pointers.
    let (mut queued, mut message): (QueuedError, libc::msghdr) = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut queued).cast();
    message.msg_controllen = size_of::<QueuedError>() as _;
    // SAFETY: the descriptor is open while `socket` is borrowed; `message` points to buffers of these lengths, which
    // outlive the call.
    let received =
        unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE) };
    let QueuedError { header, error, sender } = queued;
    let is_error = matches!(
        (header.cmsg_level, header.cmsg_type),
        (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    );
    if received < 0 || !is_error || !BY_ICMP.contains(&error.ee_origin) {
        return None;
    }
    match libc::c_int::from(sender.sin6_family) {
        // The address of `struct sockaddr_in` has the place of the flow label.
        libc::AF_INET => Some(Ipv4Addr::from(sender.sin6_flowinfo.to_ne_bytes()).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(sender.sin6_addr.s6_addr).to_canonical()),
        _ => None,
    }
}

/// Bit of `options`: both ends use timestamps (TCPI_OPT_TIMESTAMPS).
const TIMESTAMPS: u8 = 1;
/// Bytes that timestamps take in each segment, aligned (TCPOLEN_TSTAMP_ALIGNED).
const TIMESTAMP_BYTES: u32 = 12;
/// The kernel's guess of what the peer sends, until a longer segment came (TCP_MSS_DEFAULT).
const GUESSED_MSS: u32 = 536;

/// The sizes of the segments of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segments {
    /// Bytes of data in a full-size segment to the peer.
    pub(crate) outgoing: u32,
    /// Bytes of data in the largest segment that the peer may send.
    pub(crate) incoming: u32,
    /// Bytes of the TCP header of each segment with data.
    pub(crate) header: u32,
    /// Retransmitted segments, SYNs included.
    pub(crate) retransmits: u32,
    /// Segments with data that were sent, retransmits included. Zero before Linux 4.6, as the next one.
    pub(crate) sent: u32,
    /// Segments with data that were received.
    pub(crate) received: u32,
    /// The peer has acknowledged everything, and no window held anything back.
    pub(crate) all_acked: bool,
    received_mss: u32,
}

impl Segments {
    /// Bytes of data that the largest segment received had at the least, of `bytes` in all.
    pub(crate) fn largest_received(self, bytes: u32) -> u32 {
        let average = if self.received == 0 { 0 } else { bytes.div_ceil(self.received) };
        let seen = if self.received_mss > GUESSED_MSS { self.received_mss } else { 0 };
        if self.received == 1 { average } else { average.max(seen) }
    }
}

/// Reads what a search for the largest packet needs of its socket.
pub(crate) fn read_segments(socket: impl AsFd) -> Option<Segments> {
    let raw = read_raw(socket)?;
    let options = if raw.options & TIMESTAMPS == 0 { 0 } else { TIMESTAMP_BYTES };
    Some(Segments {
        outgoing: raw.snd_mss,
        incoming: raw.advmss,
        header: 20 + options,
        retransmits: raw.total_retrans,
        sent: raw.data_segs_out,
        received: raw.data_segs_in,
        all_acked: raw.unacked == 0 && raw.notsent_bytes == 0,
        received_mss: raw.rcv_mss,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::probe::Timings;

    #[test]
    fn an_established_connection_has_a_round_trip_and_a_path_mtu() {
        let listener = TcpListener::bind("127.64.1.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let info = read(&stream).unwrap();
        let view = view(Some((info, Duration::from_millis(1))), info);
        assert_eq!(view.retransmits, 0);
        assert!(view.rtt.unwrap() < Duration::from_secs(1), "{view:?}");
        assert!(view.path_mtu.unwrap() >= 576, "{view:?}");
    }

    #[test]
    fn the_segments_of_a_connection_are_told_with_their_sizes() {
        let listener = TcpListener::bind("127.64.5.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let kind = socket2::Type::STREAM;
        let client = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
        client.set_tcp_mss(1000).unwrap();
        client.connect(&target.into()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let begun = read_segments(&client).unwrap();
        let data = 1000 - (begun.header - 20);
        assert_eq!((begun.outgoing, begun.incoming, begun.sent), (data, data, 0), "{begun:?}");
        let message = vec![b'x'; usize::try_from(data).unwrap()];
        std::io::Write::write_all(&mut &client, &message).unwrap();
        std::io::Write::write_all(&mut &server, &message).unwrap();
        std::io::Read::read_exact(&mut &client, &mut message.clone()).unwrap();
        let end = read_segments(&client).unwrap();
        assert_eq!((end.sent, end.received, end.retransmits), (1, 1, 0), "{end:?}");
        assert!(end.all_acked && end.largest_received(data) == data, "{end:?}");
    }

    #[test]
    fn what_a_closed_window_holds_back_is_not_acknowledged() {
        let listener = TcpListener::bind("127.64.5.5:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        while std::io::Write::write(&mut &client, &[b'x'; 65_536]).is_ok() {}
        let deadline = Duration::from_secs(10);
        wylis_harness::wait_until(deadline, "nothing is in flight", || {
            read_raw(&client).unwrap().unacked == 0
        });
        assert!(!read_segments(&client).unwrap().all_acked);
    }

    #[test]
    fn of_several_segments_the_largest_is_bounded_by_their_mean_and_by_what_the_kernel_saw() {
        let info = read_segments(TcpListener::bind("127.64.5.2:0").unwrap()).unwrap();
        let largest = |received, received_mss, bytes| {
            Segments { received, received_mss, ..info }.largest_received(bytes)
        };
        assert_eq!(largest(1, 536, 100), 100);
        assert_eq!(largest(2, 1448, 1449), 1448, "and one byte more");
        assert_eq!(largest(3, 536, 1288), 430, "the kernel's guess is no segment");
        assert_eq!(largest(0, 1448, 1448), 1448);
        assert_eq!(largest(0, 536, 1448), 0, "an old kernel");
    }

    #[test]
    fn the_time_since_the_handshake_grows() {
        let listener = TcpListener::bind("127.64.3.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let prompt = read(&stream).unwrap().since_last_ack();
        std::thread::sleep(Duration::from_millis(300));
        let late = read(&stream).unwrap().since_last_ack();
        assert!(late >= prompt + Duration::from_millis(250), "{prompt:?} {late:?}");
    }

    #[test]
    fn a_descriptor_that_is_no_tcp_socket_has_no_info() {
        let socket = std::net::UdpSocket::bind("127.64.2.1:0").unwrap();
        assert_eq!(read(&socket), None);
        assert_eq!(read(std::io::stdin()), None);
    }

    fn info(state: u8) -> Info {
        let (send_mss, announced_mss) = (1448, 1448);
        let (total_retrans, rtt, pmtu, last_ack) = (0, 250, 1500, 0);
        Info { state, total_retrans, rtt, pmtu, last_ack, send_mss, announced_mss }
    }

    #[test]
    fn retransmits_of_the_handshake_are_not_those_of_the_request() {
        let early = Info { total_retrans: 1, ..info(1) };
        let end = Info { total_retrans: 3, pmtu: 1300, ..early };
        let view = |end| super::view(Some((early, Duration::ZERO)), end);
        assert_eq!((view(end).retransmits, view(end).request_retransmits()), (3, 2));
        assert_eq!(view(end).path_mtu, Some(1300), "a router has answered meanwhile");
        assert_eq!(view(Info { state: 7, ..end }).path_mtu, Some(1500));
    }

    #[test]
    fn only_retransmits_that_the_peer_needed_count_as_lost() {
        let lost = |total_retrans, acked, min_rtt, data_segments| {
            Served { state: 7, total_retrans, acked, min_rtt, data_segments }.lost()
        };
        assert_eq!(lost(0, 201, 250, 1), 0);
        assert_eq!(lost(2, 201, 250, 3), 2, "the answer, twice");
        assert_eq!(lost(1, 201, 1000, 1), 1, "the SYN-ACK");
        assert_eq!(lost(2, 0, 250, 3), 0, "the RST");
        assert_eq!(lost(1, 0, 250, 1), 0, "a duplicated SYN");
        assert_eq!(lost(2, 201, 1_200_000, 1), 0, "a round trip above the timer of the SYN-ACK");
        assert_eq!(lost(3, 201, 1_200_000, 2), 1, "the same, and the answer");
        assert_eq!(lost(0, 201, 250, 2), 0, "a retransmit that this host dropped");
    }

    #[test]
    fn an_accepted_socket_is_delivered_once_its_client_resets() {
        let listener = TcpListener::bind("127.64.4.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let open = read_served(&socket).unwrap();
        assert!(!open.is_delivered() && open.acked == 0 && open.data_segments == 0, "{open:?}");
        assert!(open.min_rtt < 1_000_000, "{open:?}");
        std::io::Write::write_all(&mut &socket, b"answer").unwrap();
        let mut answer = [0; 6];
        std::io::Read::read_exact(&mut &client, &mut answer).unwrap();
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        socket2::SockRef::from(&client).set_tcp_quickack(true).unwrap();
        drop(client);
        let end = read_served(&socket).unwrap();
        assert!(end.is_delivered() && end.acked >= 6 && end.data_segments == 1, "{end:?}");
        assert_eq!(read_served(std::net::UdpSocket::bind("127.64.4.2:0").unwrap()), None);
    }

    #[test]
    fn the_round_trip_time_is_that_of_the_handshake() {
        let millis = Duration::from_millis;
        let early = info(1);
        let after = |info| Some((info, millis(1)));
        let clean = view(after(early), early);
        let rtt = Some(Duration::from_micros(250));
        assert_eq!((clean.retransmits, clean.rtt, clean.connect), (0, rtt, Some(millis(1))));
        // A FIN may arrive together with the end of the handshake.
        assert!(view(after(Info { state: 8, ..early }), early).rtt.is_some());
        let late = view(after(early), Info { total_retrans: 2, ..early });
        assert_eq!((late.retransmits, late.syn_retransmits), (2, 0));
        assert_eq!((late.rtt, late.path_mtu), (rtt, Some(1500)), "of the request");
        let never = view(None, Info { total_retrans: 3, rtt: 0, ..info(2) });
        let expected = KernelView { retransmits: 3, syn_retransmits: 3, ..KernelView::default() };
        assert_eq!(never, expected);
        assert_eq!(view(after(Info { state: 7, ..early }), early).path_mtu, None);
    }

    #[test]
    fn after_a_retransmitted_syn_the_exchange_bounds_the_round_trip_time() {
        let millis = Duration::from_millis;
        let info = |rtt| Info { total_retrans: 1, rtt, ..info(1) };
        for (rtt, connect, response, expected) in [
            // A slow path, a lost SYN, a lost SYN-ACK (its timestamp is the first SYN's), no timestamps.
            (1_200_000, 1200, 1201, 1200),
            (20_000, 1020, 21, 20),
            (1_020_000, 1020, 21, 21),
            (0, 1020, 21, 21),
            (0, 1200, 1201, 1200),
        ] {
            let (connect, response) = (millis(connect), millis(response));
            let view = view(Some((info(rtt), connect)), info(rtt));
            let timings = Timings { connect, response, total: connect + response };
            assert_eq!(view.bounded_by(Some(timings)).rtt, Some(millis(expected)), "{rtt}");
            let failed = view.bounded_by(None);
            assert_eq!((failed.rtt, failed.connect), (None, Some(connect)));
        }
    }
}
