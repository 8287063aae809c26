//! What experiments found, in a peer and in a cell.

use serde::Serialize;

use super::{of_text, optional, unix};
use crate::experiment::{DeadFlows, Detail, HostState, LargestPacket};
use crate::state::{Direction, Experiments, Verdict};

/// The smallest MTU of IPv4 (RFC 791).
const MIN_MTU: u16 = 68;

#[derive(Serialize)]
pub(super) struct MtuFields {
    outgoing: Option<Largest>,
    incoming: Option<Largest>,
}

#[derive(Serialize)]
struct Largest {
    bytes: u16,
    exact: bool,
    at: f64,
}

#[derive(Serialize)]
pub(super) struct HostFields {
    state: &'static str,
    address: Option<String>,
    at: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct FlowsFields {
    dead: u8,
    tried: u8,
    at: Option<f64>,
}

impl MtuFields {
    pub(super) fn new(found: &Experiments) -> Self {
        let largest = |direction| {
            let (LargestPacket { bytes, is_exact }, at) = found.mtu.largest(direction)?;
            Some(Largest { bytes, exact: is_exact, at: unix(at) })
        };
        Self { outgoing: largest(Direction::Outgoing), incoming: largest(Direction::Incoming) }
    }
}

impl HostFields {
    pub(super) fn new(found: &Experiments) -> Option<Self> {
        let host = &found.host;
        Some(Self {
            state: host.state?.as_str(),
            address: host.address.map(|address| address.to_string()),
            at: host.at.map(unix),
        })
    }
}

impl FlowsFields {
    pub(super) fn new(found: &Experiments) -> Option<Self> {
        let DeadFlows { dead, flows } = found.flows.dead?;
        Some(Self { dead, tried: flows, at: found.flows.at.map(unix) })
    }
}

pub(super) struct MtuInput<'a> {
    outgoing: Option<FoundInput<'a>>,
    incoming: Option<FoundInput<'a>>,
}

read_object!(MtuInput<'de>, required: [], optional: [outgoing, incoming]);

/// What any experiment found: one type for all of them, since each further type makes the binary larger.
pub(super) struct FoundInput<'a> {
    bytes: u32,
    exact: bool,
    state: &'a str,
    dead: u32,
    tried: u32,
}

read_object!(FoundInput<'de>, required: [], optional: [bytes, exact, state, dead, tried]);

/// What an experiment of a peer adds to this verdict.
pub(super) fn read_detail(
    verdict: Verdict,
    mtu: Option<&MtuInput<'_>>,
    flows: Option<&FoundInput<'_>>,
    host: Option<&FoundInput<'_>>,
) -> Option<Option<Detail>> {
    let largest = |found: &FoundInput<'_>| largest_packet(found.bytes, found.exact);
    let outgoing = optional(mtu.and_then(|mtu| mtu.outgoing.as_ref()), largest)?;
    let incoming = optional(mtu.and_then(|mtu| mtu.incoming.as_ref()), largest)?;
    let largest = match verdict.direction() {
        Some(Direction::Outgoing) => outgoing,
        Some(Direction::Incoming) => incoming,
        _ => outgoing.zip(incoming).map(|(there, back)| there.both_ways(back)),
    };
    // Flows of which none is dead are well-formed too.
    let flows = optional(flows.filter(|flows| flows.dead > 0), |flows| {
        dead_flows(flows.dead, flows.tried)
    })?;
    let host = optional(host, |host| host_state(host.state))?;
    Some(detail(verdict, largest, flows, host))
}

/// The three kinds of details.
pub(super) fn split(
    detail: Option<Detail>,
) -> (Option<LargestPacket>, Option<DeadFlows>, Option<HostState>) {
    match detail {
        None => (None, None, None),
        Some(Detail::Largest(largest)) => (Some(largest), None, None),
        Some(Detail::Flows(flows)) => (None, Some(flows), None),
        Some(Detail::Host(host)) => (None, None, Some(host)),
    }
}

/// The detail that belongs to this verdict.
pub(super) fn detail(
    verdict: Verdict,
    largest: Option<LargestPacket>,
    flows: Option<DeadFlows>,
    host: Option<HostState>,
) -> Option<Detail> {
    match verdict {
        Verdict::Mtu(_) => largest.map(Detail::Largest),
        Verdict::Flaky(_) => flows.map(Detail::Flows),
        Verdict::Down(_) => host.map(Detail::Host),
        _ => None,
    }
}

/// A packet of a size that IP can have.
pub(super) fn largest_packet(bytes: u32, is_exact: bool) -> Option<LargestPacket> {
    let bytes = u16::try_from(bytes).ok().filter(|bytes| *bytes >= MIN_MTU)?;
    Some(LargestPacket { bytes, is_exact })
}

/// At least one dead flow, and no more than were tried.
pub(super) fn dead_flows(dead: u32, flows: u32) -> Option<DeadFlows> {
    let (dead, flows) = (u8::try_from(dead).ok()?, u8::try_from(flows).ok()?);
    (0 < dead && dead <= flows).then_some(DeadFlows { dead, flows })
}

pub(super) fn host_state(word: &str) -> Option<HostState> {
    of_text(HostState::ALL, HostState::as_str, word)
}
