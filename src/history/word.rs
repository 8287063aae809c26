//! The verdict of a cell, with what the findings need beside it, in one octet.
#![expect(clippy::cast_possible_truncation, reason = "of constant sizes of small sets")]

use crate::experiment::{Detail, HostState};
use crate::matrix::{Cell, CellFacts, MIN_RETRANSMITS};
use crate::probe::FailureReason;
use crate::state::{Direction, Incoming, PeerRecord, Verdict};

/// What one node said of another: the verdict, and what a finding says beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// The verdict.
    pub verdict: Verdict,
    /// What came in, where the verdict is `down` or `one-way`.
    pub incoming: Option<Incoming>,
    /// The host behind the peer, where the verdict is `down`.
    pub host: Option<HostState>,
    /// Twice the round trip exceeded the timeout, where the verdict is `down (response_timeout)`.
    pub is_slow: bool,
    /// Something completed handshakes in place of the peer, where that is reached.
    pub is_intercepted: bool,
    /// The pair rested for a survey; then nothing else is kept.
    pub is_surveyed: bool,
    /// Where the verdict is `lossy`, how many of the last probes needed a retransmit, and how many of the peer's
    /// requests: numbers of [`PROBES`] and [`REQUESTS`]. Where it is `flaky`, [`SHOWS_LOSS`] or none.
    pub losses: [u8; 2],
}

/// The counts of probes, and of requests, that a word of loss can have: with these, the direction of one pair in 28
/// is another one than with the exact counts.
const PROBES: [u8; 8] = [0, 1, 3, 4, 5, 6, 8, 12];
const REQUESTS: [u8; 9] = [0, 1, 2, 3, 4, 5, 6, 8, 12];
/// The losses of a flaky pair that loses packets.
const SHOWS_LOSS: [u8; 2] = [MIN_RETRANSMITS, 0];
/// The failures that a loss of packets may cause.
const BY_LOSS: [FailureReason; 2] = [FailureReason::ConnectTimeout, FailureReason::ResponseTimeout];

/// One more than the values of each set, for none.
const INCOMINGS: u8 = 1 + Incoming::ALL.len() as u8;
const HOSTS: u8 = 1 + HostState::ALL.len() as u8;
const REASONS: u8 = FailureReason::ALL.len() as u8;

// Where the codes of each kind begin. 0 stands for an empty cell.
const UNKNOWN: u8 = 1;
const DRAINING: u8 = 2;
const SURVEYED: u8 = 3;
/// The peer is reached. All of these codes occur twice, the second time where something completes handshakes in its
/// place.
const REACHED: u8 = 4;
const FLAKY_BY_LOSS: u8 = REACHED + 2 * REACHED_CODES;
const LOSSY: u8 = FLAKY_BY_LOSS + BY_LOSS.len() as u8;
/// Then the direction of the loss is not known.
const LOSSY_INTERCEPTED: u8 = LOSSY + PROBES.len() as u8 * REQUESTS.len() as u8;
const DOWN: u8 = LOSSY_INTERCEPTED + 1;
const END: u16 = DOWN as u16 + REASONS as u16 * HOSTS as u16 * INCOMINGS as u16;
const _: () = assert!(END <= 256);

// Within the codes of what is reached.
const UP: u8 = 0;
const MTU: u8 = 1;
const ONE_WAY: u8 = MTU + Direction::ALL.len() as u8;
const FLAKY: u8 = ONE_WAY + INCOMINGS;
const SLOW: u8 = FLAKY + REASONS;
const REACHED_CODES: u8 = SLOW + INCOMINGS;

/// The place of the largest number of a table that is not above this one.
fn place(table: &[u8], number: u8) -> u8 {
    let after = table.partition_point(|one| *one <= number);
    u8::try_from(after.saturating_sub(1)).unwrap_or_default()
}

fn incoming(code: u8) -> Option<Incoming> {
    Incoming::ALL.into_iter().find(|one| 1 + *one as u8 == code)
}

fn reason(code: u8) -> Option<FailureReason> {
    FailureReason::ALL.get(usize::from(code)).copied()
}

impl Word {
    /// This verdict, and nothing else.
    #[must_use]
    pub const fn of(verdict: Verdict) -> Self {
        Self {
            verdict,
            incoming: None,
            host: None,
            is_slow: false,
            is_intercepted: false,
            is_surveyed: false,
            losses: [0; 2],
        }
    }

    /// What the cell of a peer in the matrix says now. Asked after each probe: of a peer that is up, nearly nothing
    /// has to be looked at.
    #[must_use]
    pub fn of_record(record: &PeerRecord) -> Self {
        if record.verdict == Verdict::Up && !record.surveyed() {
            return Self { is_intercepted: record.is_intercepted(), ..Self::of(Verdict::Up) };
        }
        Self::of_cell(&Cell::of(record, 0))
    }

    /// What a cell of the matrix says.
    #[must_use]
    pub fn of_cell(cell: &Cell) -> Self {
        let host = match cell.detail() {
            Some(Detail::Host(host)) => Some(host),
            _ => None,
        };
        let word = Self {
            verdict: cell.verdict(),
            incoming: cell.incoming(),
            host,
            is_slow: cell.is_slow(),
            is_intercepted: cell.is_intercepted(),
            is_surveyed: cell.is_surveyed(),
            losses: match cell.verdict() {
                Verdict::Flaky(_) if cell.shows_loss() => SHOWS_LOSS,
                Verdict::Flaky(_) => [0; 2],
                _ => [cell.recent_retransmits(), cell.incoming_retransmits()],
            },
        };
        // Without what belongs to another verdict.
        Self::from_octet(word.octet()).unwrap_or(word)
    }

    /// The octet, never 0.
    #[must_use]
    pub fn octet(self) -> u8 {
        let incoming = self.incoming.map_or(0, |incoming| 1 + incoming as u8);
        let host = self.host.map_or(0, |host| 1 + host as u8);
        let [probes, requests] = self.losses;
        let reached =
            |code: u8| REACHED + code + if self.is_intercepted { REACHED_CODES } else { 0 };
        match self.verdict {
            _ if self.is_surveyed => SURVEYED,
            Verdict::Unknown => UNKNOWN,
            Verdict::Draining => DRAINING,
            Verdict::Up => reached(UP),
            Verdict::Mtu(direction) => reached(MTU + direction as u8),
            Verdict::OneWay => reached(ONE_WAY + incoming),
            Verdict::Flaky(reason) => {
                let is_loss = !self.is_intercepted && self.losses == SHOWS_LOSS;
                let by_loss = (FLAKY_BY_LOSS..).zip(BY_LOSS).find(|(_, one)| *one == reason);
                by_loss.filter(|_| is_loss).map_or(reached(FLAKY + reason as u8), |(code, _)| code)
            }
            Verdict::Lossy if self.is_intercepted => LOSSY_INTERCEPTED,
            Verdict::Lossy => {
                LOSSY + place(&PROBES, probes) * REQUESTS.len() as u8 + place(&REQUESTS, requests)
            }
            Verdict::Down(FailureReason::ResponseTimeout) if self.is_slow => {
                reached(SLOW + incoming)
            }
            Verdict::Down(reason) => DOWN + (reason as u8 * HOSTS + host) * INCOMINGS + incoming,
        }
    }

    /// The word of an octet; `None` for 0, and for one that no word has.
    #[must_use]
    pub fn from_octet(octet: u8) -> Option<Self> {
        let of = |verdict| Some(Self::of(verdict));
        match octet {
            0 => None,
            UNKNOWN => of(Verdict::Unknown),
            DRAINING => of(Verdict::Draining),
            SURVEYED => Some(Self { is_surveyed: true, ..Self::of(Verdict::Unknown) }),
            REACHED..FLAKY_BY_LOSS => {
                let code = octet - REACHED;
                let word = Self::reached(code % REACHED_CODES)?;
                Some(Self { is_intercepted: code >= REACHED_CODES, ..word })
            }
            FLAKY_BY_LOSS..LOSSY => {
                let reason = BY_LOSS.get(usize::from(octet - FLAKY_BY_LOSS))?;
                Some(Self { losses: SHOWS_LOSS, ..Self::of(Verdict::Flaky(*reason)) })
            }
            LOSSY..LOSSY_INTERCEPTED => {
                let code = usize::from(octet - LOSSY);
                let probes = *PROBES.get(code / REQUESTS.len())?;
                let requests = *REQUESTS.get(code % REQUESTS.len())?;
                Some(Self { losses: [probes, requests], ..Self::of(Verdict::Lossy) })
            }
            LOSSY_INTERCEPTED => Some(Self { is_intercepted: true, ..Self::of(Verdict::Lossy) }),
            DOWN.. => {
                let code = octet - DOWN;
                let (host, reason_code) = (code / INCOMINGS % HOSTS, code / INCOMINGS / HOSTS);
                Some(Self {
                    incoming: incoming(code % INCOMINGS),
                    host: HostState::ALL.into_iter().find(|one| 1 + *one as u8 == host),
                    ..Self::of(Verdict::Down(reason(reason_code)?))
                })
            }
        }
    }

    /// The word as people read it: `down (connect_timeout, its host is silent, nothing arrives from it)`.
    #[must_use]
    pub fn text(self) -> String {
        if self.is_surveyed {
            return "surveyed".to_owned();
        }
        let text = self.verdict.with(self.host.map(Detail::Host));
        let also = match self.incoming {
            _ if self.is_slow => "slower than its timeout allows",
            Some(Incoming::Requests) => "its requests arrive",
            Some(Incoming::Syns) => "its SYNs arrive and lead to nothing",
            Some(Incoming::Nothing) => "nothing arrives from it",
            None if self.is_intercepted => "something answers handshakes in its place",
            None => return text,
        };
        match text.strip_suffix(')') {
            Some(open) => format!("{open}, {also})"),
            None => format!("{text} ({also})"),
        }
    }

    /// The word of a code of what is reached.
    fn reached(code: u8) -> Option<Self> {
        let direction = |code: u8| Direction::ALL.get(usize::from(code)).copied();
        let (verdict, incoming) = match code {
            UP => (Verdict::Up, None),
            MTU..ONE_WAY => (Verdict::Mtu(direction(code - MTU)?), None),
            ONE_WAY..FLAKY => (Verdict::OneWay, incoming(code - ONE_WAY)),
            FLAKY..SLOW => (Verdict::Flaky(reason(code - FLAKY)?), None),
            SLOW.. => (Verdict::Down(FailureReason::ResponseTimeout), incoming(code - SLOW)),
        };
        Some(Self { incoming, is_slow: code >= SLOW, ..Self::of(verdict) })
    }

    /// How grave it is: of the words of one cell, one of the highest rank stays.
    #[must_use]
    pub const fn rank(self) -> u8 {
        if self.is_surveyed {
            return 2;
        }
        match self.verdict {
            Verdict::Unknown => 0,
            Verdict::Draining => 1,
            Verdict::Up => 3,
            Verdict::Mtu(_) => 4,
            Verdict::Lossy => 5,
            Verdict::Flaky(_) => 6,
            Verdict::OneWay => 7,
            Verdict::Down(_) => 8,
        }
    }

    /// What the findings need of it, as a past cell of the matrix; without the counts and times of the cell.
    #[must_use]
    pub fn facts(self) -> CellFacts {
        let [probes, requests] = self.losses;
        CellFacts {
            incoming: self.incoming,
            is_slow: self.is_slow,
            is_intercepted: self.is_intercepted,
            detail: self.host.map(Detail::Host),
            is_surveyed: self.is_surveyed,
            recent_retransmits: Some(probes),
            incoming_retransmits: requests,
            ..CellFacts::of(self.verdict)
        }
    }
}
