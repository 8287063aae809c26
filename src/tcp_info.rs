//! Reads the kernel's state and statistics of one TCP socket (TCP_INFO, tcp(7)); needs no privilege.
//!
//! The only module with `unsafe`: no safe crate offers this call.
#![expect(unsafe_code, reason = "getsockopt(TCP_INFO) has no safe wrapper")]

use std::mem::{MaybeUninit, offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::probe::KernelView;

/// Bytes of the structure that are read. Its layout is the kernel's ABI (include/uapi/linux/tcp.h):
/// fields are only appended, and the last field needed here exists since 2.6.10.
const NEEDED: usize = offset_of!(libc::tcp_info, tcpi_total_retrans) + size_of::<u32>();
// The libc crate's structure differs in length between musl and glibc, not in this part.
const _: () = assert!(NEEDED == 104);

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
}

impl Info {
    /// Whether the peer has acknowledged all data and the FIN, or has reset the connection.
    pub(crate) fn is_delivered(self) -> bool {
        DELIVERED.contains(&self.state)
    }

    /// Time since the peer's last ACK: right after the handshake, how late its end was noticed.
    pub(crate) fn since_last_ack(self) -> Duration {
        Duration::from_millis(self.last_ack.into())
    }
}

/// Reads TCP_INFO of a socket; `None` if the kernel refuses or has fewer fields.
pub(crate) fn read(socket: impl AsFd) -> Option<Info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the descriptor is open while `socket` is borrowed; `info` is writable for `length`
    // bytes, and the kernel writes no more than that and stores the number in `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 || usize::try_from(length).ok()? < NEEDED {
        return None;
    }
    // SAFETY: all fields are integers, every byte was zeroed, so any pattern is a valid value.
    let info = unsafe { info.assume_init() };
    Some(Info {
        state: info.tcpi_state,
        total_retrans: info.tcpi_total_retrans,
        rtt: info.tcpi_rtt,
        pmtu: info.tcpi_pmtu,
        last_ack: info.tcpi_last_ack_recv,
    })
}

/// Combines two readings: one right after the connection was established (`None` if it never was),
/// one at the end.
///
/// The round-trip time is the handshake's, from the first reading: later the kernel's average includes
/// the peer's response time. The retransmits are those of the whole probe, from the second.
pub(crate) fn view(established: Option<Info>, end: Info) -> KernelView {
    let established = established.filter(|info| ESTABLISHED.contains(&info.state));
    let rtt = established.map(|info| info.rtt).filter(|rtt| *rtt > 0 && end.total_retrans == 0);
    KernelView {
        retransmits: end.total_retrans,
        rtt: rtt.map(|rtt| Duration::from_micros(rtt.into())),
        path_mtu: established.map(|info| info.pmtu),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_established_connection_has_a_round_trip_and_a_path_mtu() {
        let listener = TcpListener::bind("127.64.1.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let info = read(&stream).unwrap();
        let view = view(Some(info), info);
        assert_eq!(view.retransmits, 0);
        assert!(view.rtt.unwrap() < Duration::from_secs(1), "{view:?}");
        assert!(view.path_mtu.unwrap() >= 576, "{view:?}");
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

    #[test]
    fn there_is_a_round_trip_time_only_without_retransmits() {
        let early = Info { state: 1, total_retrans: 0, rtt: 250, pmtu: 1500, last_ack: 0 };
        let clean = view(Some(early), early);
        assert_eq!((clean.retransmits, clean.rtt), (0, Some(Duration::from_micros(250))));
        // A FIN may arrive together with the end of the handshake.
        assert!(view(Some(Info { state: 8, ..early }), early).rtt.is_some());
        let late = view(Some(early), Info { total_retrans: 2, ..early });
        assert_eq!((late.retransmits, late.rtt, late.path_mtu), (2, None, Some(1500)));
        let never =
            view(None, Info { state: 2, total_retrans: 3, rtt: 0, pmtu: 1500, last_ack: 0 });
        assert_eq!(never, KernelView { retransmits: 3, rtt: None, path_mtu: None });
        assert_eq!(view(Some(Info { state: 7, ..early }), early).path_mtu, None);
    }
}
