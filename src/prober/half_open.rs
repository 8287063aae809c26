//! Half-open incoming connections: a SYN arrived here, and the handshake was not completed, because the
//! SYN-ACK or the ACK after it was lost, or is still on its way.
//!
//! While a peer does not answer this agent's SYNs, its own SYNs here show which direction is broken.
//! The kernel lists such sockets in /proc/net/tcp and tcp6 (state SYN_RECV; proc(5)), for this network
//! namespace, without a privilege. It keeps each for a minute, so an occasional scan is enough. The
//! cost of a scan grows with the kernel's table: 7 ms of CPU for a table of 262,144 rows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::probe::Syns;

/// The kernel's socket tables; a kernel without IPv6 lacks the second.
const SOCKET_TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// Shortest and longest spacing of two scans.
const MIN_SPACING: Duration = Duration::from_secs(1);
const MAX_SPACING: Duration = Duration::from_secs(60);
/// Spacing of scans as a multiple of their CPU time: 1 % of a core.
const COST_FACTOR: u32 = 100;
/// Largest part of a table that is read: 7,000 sockets.
const MAX_TABLE_BYTES: u64 = 1 << 20;
/// Most addresses stored: more than a listener can have half-open.
const MAX_ADDRESSES: usize = 4096;
/// TCP_SYN_RECV (include/net/tcp_states.h).
const SYN_RECV: &str = "03";
/// Timeout of the kernel's first SYN-ACK; it doubles with each retransmit (TCP_TIMEOUT_INIT, RFC 6298).
const SYN_ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// Above any setting of tcp_synack_retries; beyond, the time of the SYN cannot be estimated.
const MAX_RETRANSMITS: u32 = 16;
/// Unit of the timers in these tables: USER_HZ, 100 a second on every architecture of Rust's musl
/// targets.
const USER_TICK: Duration = Duration::from_millis(10);

/// The SYNs of each address with half-open connections.
type SynsByAddress = BTreeMap<IpAddr, Syns>;

/// The half-open connections of the last scan.
#[derive(Debug, Clone, Default)]
pub struct HalfOpen {
    /// When it was made; `None` before the first one, and if it did not see every connection.
    pub scanned: Option<Instant>,
    /// The SYNs of each address that has some.
    pub syns: BTreeMap<IpAddr, Syns>,
}

/// The result of the last scan, shared by the workers that scan and the agent's loop.
pub(super) struct HalfOpenWatch {
    port: u16,
    /// What comes in matters for the verdict of a peer, so that every probe is followed by a scan.
    watched: AtomicBool,
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    next_scan: Option<Instant>,
    seen: HalfOpen,
}

impl HalfOpenWatch {
    /// Watches the listen port of this process.
    pub(super) fn new(port: u16) -> Self {
        Self { port, watched: AtomicBool::new(false), state: Mutex::default() }
    }

    /// Starts or ends the scans after probes that did not time out.
    pub(super) fn watch(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// Scans the tables after a probe, if they are watched.
    pub(super) fn scan_if_watched(&self) {
        if self.watched.load(Ordering::Relaxed) {
            self.scan();
        }
    }

    /// Scans the tables, unless the last scan was just before.
    pub(super) fn scan(&self) {
        let (began, cpu_before) = (Instant::now(), cpu_time());
        let mut state = self.lock();
        if state.next_scan.is_some_and(|next| began < next) {
            return;
        }
        // Keeps other threads away; the lock is not held while reading.
        state.next_scan = Some(began + Duration::from_secs(3600));
        drop(state);
        let mut syns = SynsByAddress::new();
        let (mut opened, mut whole) = (true, true);
        for table in SOCKET_TABLES {
            match File::open(table) {
                Ok(file) => whole &= read(file, MAX_TABLE_BYTES, (self.port, began), &mut syns),
                Err(error) => opened &= error.kind() == ErrorKind::NotFound,
            }
        }
        // Not the elapsed time: on a loaded host, most of it passes while this thread does not run.
        let cost = cpu_time().saturating_sub(cpu_before);
        let mut state = self.lock();
        state.next_scan = Some(began + (cost * COST_FACTOR).clamp(MIN_SPACING, MAX_SPACING));
        // A scan without a descriptor finds nothing, which does not mean that there is nothing.
        if opened {
            state.seen = HalfOpen { scanned: whole.then_some(began), syns };
        }
    }

    /// The result of the last scan.
    pub(super) fn seen(&self) -> HalfOpen {
        self.lock().seen.clone()
    }

    // A map and a time are valid even after a panic.
    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The CPU time of this thread (clock_gettime(2), CLOCK_THREAD_CPUTIME_ID).
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// Adds the half-open connections to a local port from one table of at most `limit` bytes; `now` is the time of
/// the read. Returns whether that is all: what is missing from a part is not absent.
fn read(
    table: impl Read,
    limit: u64,
    (port, now): (u16, Instant),
    seen: &mut SynsByAddress,
) -> bool {
    let mut table = BufReader::new(table.take(limit));
    let mut line = String::new();
    while table.read_line(&mut line).is_ok_and(|count| count > 0) {
        // Only complete lines: a truncated number is another number.
        if line.ends_with('\n')
            && let Some((address, age)) = half_open(&line, port)
            && let Some(arrival) = now.checked_sub(age)
            && (seen.len() < MAX_ADDRESSES || seen.contains_key(&address))
        {
            let syns = Syns::one(arrival, age);
            seen.entry(address).and_modify(|earlier| *earlier = earlier.and(syns)).or_insert(syns);
        }
        line.clear();
    }
    table.get_ref().limit() > 0 && seen.len() < MAX_ADDRESSES
}

/// The sender of a SYN to `port`, and the SYN's age; `None` for a line of any other socket.
///
/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt …`
fn half_open(line: &str, port: u16) -> Option<(IpAddr, Duration)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    let (_, local_port) = local.split_once(':')?;
    if state != SYN_RECV || hexadecimal(local_port)? != u32::from(port) {
        return None;
    }
    let (_, timer, retransmits) = (fields.next()?, fields.next()?, fields.next()?);
    let (_, ticks) = timer.split_once(':')?;
    let left = USER_TICK.checked_mul(hexadecimal(ticks)?)?;
    let retransmits = hexadecimal(retransmits).filter(|count| *count <= MAX_RETRANSMITS)?;
    // Timeouts of 1, 2, 4 … seconds, of which the last has not expired.
    let timeouts = SYN_ACK_TIMEOUT * ((2 << retransmits) - 1);
    let (address, _) = remote.split_once(':')?;
    Some((ip(address)?.to_canonical(), timeouts.saturating_sub(left)))
}

fn hexadecimal(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok()
}

/// Parses an address: words of 32 bits, each in the byte order of this machine.
fn ip(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(hexadecimal(digits.get(at..at + 8)?)?.to_ne_bytes());
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (slot, at) in octets.chunks_exact_mut(4).zip((0..32).step_by(8)) {
                slot.copy_from_slice(&word(at)?);
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

    /// The table of a real kernel on a little-endian machine.
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
    fn only_half_open_connections_to_the_listen_port_count_with_the_time_of_the_last_syn() {
        let now = Instant::now() + Duration::from_secs(3600);
        let mut seen = SynsByAddress::new();
        assert!(read(LIST.as_bytes(), 10_000, (9050, now), &mut seen));
        // A timeout of 1 s with 0.5 s left; and timeouts of 1 + 2 + 4 s with 1 s left.
        let (last, failed) = (now - Duration::from_millis(500), now - Duration::from_secs(6));
        let syns = Syns { last, failed: Some(failed) };
        assert_eq!(seen, SynsByAddress::from([("10.244.10.2".parse().unwrap(), syns)]));
        seen.clear();
        let line = |at: usize| format!("{}\n", LIST.lines().nth(at).unwrap());
        read(line(2).as_bytes(), 10_000, (9050, now), &mut seen);
        assert_eq!(
            seen.values().next(),
            Some(&Syns { last, failed: None }),
            "still in its handshake"
        );
        seen.clear();
        read(line(3).trim_end().as_bytes(), 10_000, (9050, now), &mut seen);
        assert!(seen.is_empty(), "a truncated line");
    }

    #[test]
    fn a_part_of_a_table_is_known_to_be_a_part() {
        let now = Instant::now() + Duration::from_secs(3600);
        let whole =
            |limit, seen: &mut SynsByAddress| read(LIST.as_bytes(), limit, (9050, now), seen);
        let length = LIST.len() as u64;
        assert!(whole(length + 1, &mut SynsByAddress::new()));
        assert!(!whole(length - 1, &mut SynsByAddress::new()), "more sockets than are read");
        let syns = Syns { last: now, failed: None };
        let known = |number: u32| (Ipv4Addr::from(number).into(), syns);
        let addresses = u32::try_from(MAX_ADDRESSES).unwrap();
        let mut full = (0..addresses).map(known).collect();
        assert!(!whole(length + 1, &mut full), "more addresses than are stored");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses_of_both_families_are_parsed_and_mapped_ones_become_ipv4() {
        assert_eq!(ip("0100007F"), Some("127.0.0.1".parse().unwrap()));
        let mapped = ip("0000000000000000FFFF0000020AF40A").unwrap();
        assert_eq!(mapped.to_canonical(), "10.244.10.2".parse::<IpAddr>().unwrap());
        let global = ip("B80D0120000000000000000001000000");
        assert_eq!(global, Some("2001:db8::1".parse().unwrap()));
        for none in ["", "0100007", "0100007G", "0100007F00"] {
            assert_eq!(ip(none), None);
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "[ 0-9A-F:]{0,160}") {
            let _ = half_open(&line, 9050);
        }

        #[test]
        fn no_number_panics(timer: u64, retransmits: u64, port: u16) {
            let line = format!(
                " 1: 0100007F:{port:04X} 0100007F:1 03 0:0 01:{timer:08X} {retransmits:08X} 0"
            );
            let _ = half_open(&line, port);
        }
    }
}
