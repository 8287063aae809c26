//! What a peer sends to this agent: its requests, their absence, and what comes in while it is not reached.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::super::claims::{Standing, Terms};
use super::super::rhythm::{Rhythm, longest_silence};
use super::super::verdict::{Incoming, Verdict};
use super::super::{Change, Moment};
use super::{FLAKY_PATIENCE, PeerRecord, SynEvidence};
use crate::name::NodeName;
use crate::token::TokenKey;
use crate::wire::KeepAlive;

/// Intervals of a peer within which something of it arrives if it lives and its path does.
const SILENT_INTERVALS: u32 = 2;
/// Longest transit time of a SYN.
const MAX_SYN_TRANSIT: Duration = Duration::from_millis(500);

impl PeerRecord {
    /// Counts a request to the agent of `own_node`, which has this key, and rules on what it claims.
    pub(in crate::state) fn receive_request(
        &mut self,
        now: Moment,
        (request, client): (&KeepAlive, Option<IpAddr>),
        (own_node, key): (&NodeName, &TokenKey),
        terms: Terms,
    ) -> Option<Change> {
        self.incoming += 1;
        self.last_incoming = Some(now.wall);
        let had_proven = self.claims.has_proven;
        let is_proof = self.claims.identify(request, key, own_node);
        if is_proof {
            self.incoming_window.add(false);
        }
        if is_proof && !had_proven {
            self.rhythm.restart();
            self.announced_interval = None;
        }
        if is_proof || !self.claims.has_proven {
            let known = self.announced_interval;
            self.announced_interval = Rhythm::announce(known, request.interval, is_proof);
            self.rhythm.hear(now.instant);
            self.gaps.pass(now.instant);
            self.silent = false;
            let is_own = |client: IpAddr| self.addresses().any(|own| own == client.to_canonical());
            self.is_rewritten = client.map(|client| !is_own(client)).or(self.is_rewritten);
        }
        let standing = Standing {
            is_known: self.is_known_instance(request.instance.as_ref()),
            is_listed: self.peer.instance.is_some(),
            is_draining: self.draining_until.is_some(),
            is_failing: self.consecutive_failures > 0,
        };
        let ruling = self.claims.claim(now.instant, request.goodbye, is_proof, standing, terms)?;
        self.follow(now.instant, ruling)
    }

    /// Counts retransmits to a peer that has proven the request.
    pub(in crate::state) fn count_incoming_retransmits(&mut self, segments: u32) {
        self.incoming_retransmits = self.incoming_retransmits.saturating_add(segments);
        self.incoming_window.mark();
    }

    /// Of its last [`RECENT`] proven requests, those whose SYN-ACK or answer needed a retransmit.
    #[must_use]
    pub fn recent_incoming_retransmits(&self) -> u8 {
        self.incoming_window.recent()
    }

    /// Whether expected requests have been missing for three of its intervals and a timeout.
    /// Only if requests arrived before, so that upgrades with mixed settings raise no false alarm, and
    /// only for the time that the peer was up: after an outage this agent's probe may come first.
    pub(in crate::state) fn is_silent(
        &self,
        now: Instant,
        listening_since: Option<Instant>,
        own_interval: Duration,
    ) -> bool {
        match (self.rhythm.last(), self.announced_interval, self.requests_due_since) {
            _ if self.surveyed() => self.silent,
            (Some(last), Some(announced), Some(due)) if self.draining_until.is_none() => {
                let since = last.max(due).max(listening_since.unwrap_or(due));
                let proven = self.claims.has_proven;
                let interval = self.rhythm.expected(announced, proven, own_interval);
                // Of a peer that is reached now and then, requests are lost as well.
                let times = if self.is_flaky() { FLAKY_PATIENCE } else { 1 };
                now.saturating_duration_since(since) > longest_silence(interval) * times
            }
            _ => false,
        }
    }

    /// Its known addresses.
    pub(in crate::state) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let peer = &self.peer;
        let all = peer.other_addresses.iter().copied().chain([peer.address.ip()]);
        all.map(|address| address.to_canonical())
    }

    /// Whether it matters what comes in from it: it is down, about to be, or one-way.
    pub(in crate::state) fn awaits_incoming(&self) -> bool {
        self.failing_since.is_some()
            || self.verdict == Verdict::OneWay
            || self.incoming_kind.is_some()
    }

    /// What comes in from it while it is down or one-way. It must have arrived after the fault began: a SYN
    /// that was in transit when both directions broke is listed as well. A whole request proves that the
    /// SYN-ACK arrived, so that the path loses packets at random, or drops new connections only. While a handshake
    /// may still complete, nothing changes: the path may just have healed, or be slow. That nothing comes in is
    /// known once a peer that lives would have sent something, and a scan was made since. A peer that never
    /// announced an interval is assumed to have this agent's: a mesh normally has one.
    pub(in crate::state) fn judge_incoming(
        &self,
        now: Instant,
        listening_since: Option<Instant>,
        own_interval: Duration,
        seen: SynEvidence,
    ) -> Option<Incoming> {
        let began = match self.verdict {
            Verdict::Down(_) => self.failing_since,
            Verdict::OneWay => self.rhythm.last(),
            _ => None,
        }?;
        let began = listening_since.map_or(began, |since| since.max(began)) + MAX_SYN_TRANSIT;
        let interval = self.announced_interval.unwrap_or(own_interval);
        let longest = longest_silence(interval);
        let counts = |at: &Instant| *at > began && now.saturating_duration_since(*at) <= longest;
        let SynEvidence { scanned, syns, is_rewritten } = seen;
        if self.rhythm.last().filter(counts).is_some() {
            Some(Incoming::Requests)
        } else if is_rewritten {
            None
        } else if syns.and_then(|syns| syns.failed).filter(counts).is_some() {
            Some(Incoming::Syns)
        } else if syns.is_some_and(|syns| counts(&syns.last)) {
            self.incoming_kind
        } else {
            let is_known = scanned.is_some_and(|at| at >= began + interval * SILENT_INTERVALS);
            is_known.then_some(Incoming::Nothing)
        }
    }
}
