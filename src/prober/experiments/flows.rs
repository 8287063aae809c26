//! The same flows again: connections from chosen source ports.
//!
//! A flow is dead if each of [`TRIES`] connections from its port times out, while those from other ports succeed in the
//! same rounds. Loss at random must accuse none. If an exchange of SYN and SYN-ACK fails with probability q, a
//! connection fails with q² at the most, because its SYN is sent again within [`WAIT`]; all four of one of 16 ports
//! fail with 16·q⁸ at the most. The control does not hold with a q that makes this likely: none of its 12 connections
//! may fail, and 9 must need one SYN only. Both together have a probability below 0.001 for every q. That before fresh
//! ports are tried, one that failed must fail twice more, makes up for what is not independent: a SYN-ACK that was lost
//! leaves a half-open connection at the peer, which spoils the next SYN from the same port.

use std::net::SocketAddr;
use std::time::Duration;

use super::connect::{Ending, connect_all};
use crate::experiment::DeadFlows;

/// Longest wait for a connection: its SYN is sent at least twice, after 0 and 1 s.
const WAIT: Duration = Duration::from_millis(2500);
/// A connection that took less needed one SYN.
const CLEAN: Duration = Duration::from_secs(1);
/// Connections that prove that a flow is dead.
const TRIES: usize = 4;
/// The same of a known port, before fresh ones are tried.
const FIRST_TRIES: usize = 2;
/// Fresh ports whose share of dead ones is reported.
const FRESH: u16 = 16;
/// Flows of the control among the fresh ones.
const CONTROL: usize = 4;
/// Connections at once.
const AT_ONCE: usize = 64;

/// What became of fresh flows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowTrial {
    /// Flows whose first connection succeeded or timed out.
    pub tried: u16,
    /// Flows whose first connection met another error, or could not be made.
    pub errors: u16,
    /// Source ports whose first connection timed out.
    pub failed: Vec<u16>,
    /// Of these, the ports of which every connection timed out; `None` if the control failed as well: nothing is
    /// proven.
    pub dead: Option<Vec<u16>>,
}

/// Repeats the flows of these source ports. If some of the failed ones are dead, tries fresh ones to find their share.
/// `None` if nothing is proven.
#[must_use]
pub fn repeat_flows(address: SocketAddr, failed: &[u16], passed: &[u16]) -> Option<DeadFlows> {
    // One that passed before the fault began may be dead now: the control is those that pass now.
    let ports: Vec<_> = failed.iter().chain(passed).copied().map(Some).collect();
    if try_ports(address, &ports, 1, FIRST_TRIES).dead?.is_empty() {
        return None;
    }
    let FlowTrial { tried, dead, .. } = try_flows(address, FRESH);
    let dead = u8::try_from(dead?.len()).ok().filter(|dead| *dead > 0)?;
    Some(DeadFlows { dead, flows: u8::try_from(tried).ok()? })
}

/// Connects from so many ports that the kernel chooses, and repeats those that time out.
#[must_use]
pub fn try_flows(address: SocketAddr, flows: u16) -> FlowTrial {
    try_ports(address, &vec![None; usize::from(flows)], CONTROL, TRIES)
}

/// Connects from these ports, or any where one is `None`. Those that time out are tried `tries` times, beside others
/// that passed: at least so many.
fn try_ports(
    address: SocketAddr,
    ports: &[Option<u16>],
    control: usize,
    tries: usize,
) -> FlowTrial {
    let mut trial = FlowTrial::default();
    let mut passed = Vec::new();
    for some in ports.chunks(AT_ONCE) {
        for (port, ending) in connect_all(some.iter().map(|port| (address, *port)), WAIT) {
            match ending {
                Ending::Connected(_) => passed.push(port),
                Ending::TimedOut => trial.failed.push(port),
                Ending::Failed { .. } | Ending::NotSent => trial.errors += 1,
            }
        }
    }
    trial.tried = u16::try_from(ports.len()).unwrap_or(u16::MAX).saturating_sub(trial.errors);
    passed.truncate(CONTROL);
    if trial.failed.is_empty() || passed.len() >= control {
        trial.dead = repeat(address, trial.failed.clone(), &passed, tries - 1);
    }
    trial
}

/// Connects from the suspected ports so many times, and from those of the control beside them. Returns the ports of
/// which every connection timed out; `None` if the control failed.
fn repeat(
    address: SocketAddr,
    mut suspects: Vec<u16>,
    control: &[u16],
    tries: usize,
) -> Option<Vec<u16>> {
    let (mut sent, mut clean) = (0, 0);
    for _ in 0..tries {
        let mut dead = Vec::new();
        for some in suspects.chunks(AT_ONCE) {
            // The control is last: where connections are limited in number, it is what the limit drops.
            let ports = some.iter().chain(control).map(|port| (address, Some(*port)));
            let mut of_suspects = connect_all(ports, WAIT);
            for (_, ending) in of_suspects.split_off(some.len()) {
                match ending {
                    Ending::Connected(after) => {
                        sent += 1;
                        clean += usize::from(after < CLEAN);
                    }
                    // The port is in use.
                    Ending::NotSent => {}
                    Ending::Failed { .. } | Ending::TimedOut => return None,
                }
            }
            let timed_out = of_suspects.iter().filter(|(_, ending)| *ending == Ending::TimedOut);
            dead.extend(timed_out.map(|(port, _)| *port));
        }
        suspects = dead;
        if suspects.is_empty() {
            return Some(suspects);
        }
    }
    (sent > 0 && 4 * clean >= 3 * sent).then_some(suspects)
}
