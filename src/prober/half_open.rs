//! Connections that others began with us and that were never established: their SYN came, our answer
//! did not get through, or theirs to it did not.
//!
//! While a peer does not answer our own SYNs, its SYNs here tell which direction is broken. The
//! kernel lists such sockets in /proc/net/tcp and tcp6 (state SYN_RECV; proc(5)), to everybody, for
//! this network namespace alone. It keeps each for a minute, so a look now and then is enough; what
//! a look costs grows with the kernel's table (7 ms of CPU where that has 262,144 rows).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where the kernel lists sockets; the second is missing on a kernel without IPv6.
const SOCKET_TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The least time between two looks.
const MIN_SPACING: Duration = Duration::from_secs(1);
/// And the most.
const MAX_SPACING: Duration = Duration::from_secs(60);
/// A look that took long comes again after this many times as long: one percent of a core.
const COST_FACTOR: u32 = 100;
/// How much of a list is read: seven thousand sockets.
const MAX_TABLE_BYTES: u64 = 1 << 20;
/// How many addresses are kept: more than a listener can have half-open.
const MAX_ADDRESSES: usize = 4096;
/// TCP_SYN_RECV (include/net/tcp_states.h).
const SYN_RECV: &[u8] = b"03";
/// The kernel waits so long for the answer to its first SYN-ACK, and then each time twice as long
/// (TCP_TIMEOUT_INIT, RFC 6298).
const SYN_ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// More retransmits than any setting of tcp_synack_retries: beyond, the time is not worth a guess.
const MAX_RETRANSMITS: u32 = 16;
/// The unit of the kernel's timers in these lists: USER_HZ, 100 a second on every architecture that
/// Rust's musl targets know.
const USER_TICK: Duration = Duration::from_millis(10);

/// When each address last sent a SYN that came to nothing.
pub type HalfOpen = BTreeMap<IpAddr, Instant>;

/// What was seen so far, shared by the workers that look and by the one who asks.
pub(super) struct HalfOpenWatch {
    port: u16,
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    next: Option<Instant>,
    seen: HalfOpen,
}

impl HalfOpenWatch {
    /// Watches the port on which this process listens.
    pub(super) fn new(port: u16) -> Self {
        Self { port, state: Mutex::default() }
    }

    /// Looks, unless somebody just did.
    pub(super) fn look(&self) {
        let began = Instant::now();
        let mut state = self.lock();
        if state.next.is_some_and(|next| began < next) {
            return;
        }
        // Nobody else meanwhile; the lock is free while we read.
        state.next = Some(began + Duration::from_secs(3600));
        drop(state);
        let mut seen = HalfOpen::new();
        let mut complete = true;
        for list in SOCKET_TABLES {
            match File::open(list) {
                Ok(file) => {
                    read(BufReader::new(file.take(MAX_TABLE_BYTES)), self.port, began, &mut seen)
                }
                Err(error) => complete &= error.kind() == ErrorKind::NotFound,
            }
        }
        let took = began.elapsed();
        let mut state = self.lock();
        // Time in which we did not run ourselves is no cost: a bound.
        state.next = Some(began + (took * COST_FACTOR).clamp(MIN_SPACING, MAX_SPACING));
        // Without a descriptor we saw nothing, which is not that there is nothing.
        if complete {
            state.seen = seen;
        }
    }

    /// What the last look saw.
    pub(super) fn seen(&self) -> HalfOpen {
        self.lock().seen.clone()
    }

    // A map and a time are whole whoever panicked.
    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds what one list holds for a local port; `now` is when it was asked for.
fn read(mut list: impl std::io::BufRead, port: u16, now: Instant, seen: &mut HalfOpen) {
    let mut line = Vec::new();
    while list.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        // Only whole lines: half a number is another one.
        if line.ends_with(b"\n")
            && let Some((address, age)) = half_open(&line, port)
            && let Some(came) = now.checked_sub(age)
            && (seen.len() < MAX_ADDRESSES || seen.contains_key(&address))
        {
            let known = seen.entry(address).or_insert(came);
            *known = came.max(*known);
        }
        line.clear();
    }
}

/// Who sent a SYN to `port`, and how long ago; `None` for a line of any other socket.
///
/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt …`
fn half_open(line: &[u8], port: u16) -> Option<(IpAddr, Duration)> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let (_, local, remote, state) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if state != SYN_RECV || hexadecimal(after_colon(local)?)? != u64::from(port) {
        return None;
    }
    let (_, timer, retransmits) = (fields.next()?, fields.next()?, fields.next()?);
    let left = USER_TICK.checked_mul(u32::try_from(hexadecimal(after_colon(timer)?)?).ok()?)?;
    let retransmits = u32::try_from(hexadecimal(retransmits)?).ok()?;
    if retransmits > MAX_RETRANSMITS {
        return None;
    }
    // Waits of 1, 2, 4 … seconds, of which the last is not over.
    let waits = SYN_ACK_TIMEOUT * ((2 << retransmits) - 1);
    let address = remote.get(..remote.iter().position(|byte| *byte == b':')?)?;
    Some((ip(address)?.to_canonical(), waits.saturating_sub(left)))
}

fn after_colon(field: &[u8]) -> Option<&[u8]> {
    field.get(field.iter().position(|byte| *byte == b':')? + 1..)
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// An address as words of 32 bits, each in the byte order of this machine.
fn ip(digits: &[u8]) -> Option<IpAddr> {
    let word = |digits: &[u8]| {
        let word = u32::try_from(hexadecimal(digits)?).ok()?;
        Some(word.to_ne_bytes())
    };
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(digits)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (slot, digits) in octets.chunks_exact_mut(4).zip(digits.chunks_exact(8)) {
                slot.copy_from_slice(&word(digits)?);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a kernel showed, on a machine that stores the least octet first.
    const LIST: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:235A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0
   1: 010AF40A:235A 020AF40A:A3C8 03 00000000:00000000 01:00000032 00000000     0        0 0 1 0000000000000000
   2: 010AF40A:235A 020AF40A:A3CA 03 00000000:00000000 01:00000064 00000002     0        0 0 1 0000000000000000
   3: 010AF40A:235A 030AF40A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0000000000000000
   4: 010AF40A:1F90 040AF40A:9C40 03 00000000:00000000 01:00000032 00000000     0        0 0 1 0000000000000000
";

    #[test]
    #[cfg(target_endian = "little")]
    fn only_half_open_connections_to_our_port_count_with_the_time_of_the_last() {
        let now = Instant::now() + Duration::from_secs(3600);
        let mut seen = HalfOpen::new();
        read(LIST.as_bytes(), 9050, now, &mut seen);
        let of = |text: &str| seen.get(&text.parse::<IpAddr>().unwrap()).map(|came| now - *came);
        // One second of waiting, half of which is left; and 1 + 2 + 4, of which one is left.
        assert_eq!(of("10.244.10.2"), Some(Duration::from_millis(500)));
        assert_eq!(seen.len(), 1);
        seen.clear();
        let only = format!("{}\n", LIST.lines().nth(3).unwrap());
        read(only.as_bytes(), 9050, now, &mut seen);
        let of = |text: &str| seen.get(&text.parse::<IpAddr>().unwrap()).map(|came| now - *came);
        assert_eq!(of("10.244.10.2"), Some(Duration::from_secs(6)));
        seen.clear();
        read(only.trim_end().as_bytes(), 9050, now, &mut seen);
        assert!(seen.is_empty(), "a line that is cut off");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_of_both_families_are_read_and_mapped_ones_are_plain() {
        assert_eq!(ip(b"0100007F"), Some("127.0.0.1".parse().unwrap()));
        let mapped = ip(b"0000000000000000FFFF0000020AF40A").unwrap();
        assert_eq!(mapped.to_canonical(), "10.244.10.2".parse::<IpAddr>().unwrap());
        let global = ip(b"B80D0120000000000000000001000000");
        assert_eq!(global, Some("2001:db8::1".parse().unwrap()));
        for none in [&b""[..], b"0100007", b"0100007G", b"0100007F00"] {
            assert_eq!(ip(none), None);
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "[ 0-9A-F:]{0,160}") {
            let _ = half_open(line.as_bytes(), 9050);
        }

        #[test]
        fn no_number_panics(timer: u64, retransmits: u64, port: u16) {
            let line = format!(
                " 1: 0100007F:{port:04X} 0100007F:1 03 0:0 01:{timer:08X} {retransmits:08X} 0"
            );
            let _ = half_open(line.as_bytes(), port);
        }
    }
}
