//! The verdict of a cell, with what the findings need beside it, in one octet.

use crate::experiment::{Detail, HostState};
use crate::matrix::{Cell, CellFacts};
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
    /// Something completed handshakes in place of the peer, where the verdict is `up`.
    pub is_intercepted: bool,
    /// The pair rested for a survey; then nothing else is kept.
    pub is_surveyed: bool,
    /// Where the verdict is `lossy`, how many of the last probes needed a retransmit, and how many of the peer's
    /// requests; both as a level of [`LEVELS`].
    pub losses: [u8; 2],
}

/// The counts that a level of loss stands for.
pub(super) const LEVELS: [u8; 6] = [0, 1, 2, 4, 7, 12];

/// One more than the values of each set, for none.
const INCOMINGS: u8 = 1 + Incoming::ALL.len() as u8;
const HOSTS: u8 = 1 + HostState::ALL.len() as u8;
const REASONS: u8 = FailureReason::ALL.len() as u8;

// Where the codes of each kind begin. 0 stands for an empty cell.
const UNKNOWN: u8 = 1;
const DRAINING: u8 = 2;
const SURVEYED: u8 = 3;
const UP: u8 = 4;
const UP_INTERCEPTED: u8 = 5;
const MTU: u8 = 6;
const ONE_WAY: u8 = MTU + Direction::ALL.len() as u8;
const FLAKY: u8 = ONE_WAY + INCOMINGS;
const LOSSY: u8 = FLAKY + REASONS;
const SLOW: u8 = LOSSY + (LEVELS.len() * LEVELS.len()) as u8;
const DOWN: u8 = SLOW + INCOMINGS;
const END: u16 = DOWN as u16 + REASONS as u16 * HOSTS as u16 * INCOMINGS as u16;
const _: () = assert!(END <= 256);

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
        let level = |count: u8| {
            let after = LEVELS.partition_point(|level| *level <= count);
            u8::try_from(after.saturating_sub(1)).unwrap_or_default()
        };
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
            losses: [cell.recent_retransmits(), cell.incoming_retransmits()].map(level),
        };
        // Without what belongs to another verdict.
        Self::from_octet(word.octet()).unwrap_or(word)
    }

    /// The octet, never 0.
    #[must_use]
    pub fn octet(self) -> u8 {
        let incoming = self.incoming.map_or(0, |incoming| 1 + incoming as u8);
        let host = self.host.map_or(0, |host| 1 + host as u8);
        let level =
            |place: usize| self.losses.get(place).copied().unwrap_or(0).min(LEVELS.len() as u8 - 1);
        match self.verdict {
            _ if self.is_surveyed => SURVEYED,
            Verdict::Unknown => UNKNOWN,
            Verdict::Draining => DRAINING,
            Verdict::Up if self.is_intercepted => UP_INTERCEPTED,
            Verdict::Up => UP,
            Verdict::Mtu(direction) => MTU + direction as u8,
            Verdict::OneWay => ONE_WAY + incoming,
            Verdict::Flaky(reason) => FLAKY + reason as u8,
            Verdict::Lossy => LOSSY + level(0) * LEVELS.len() as u8 + level(1),
            Verdict::Down(FailureReason::ResponseTimeout) if self.is_slow => SLOW + incoming,
            Verdict::Down(reason) => DOWN + (reason as u8 * HOSTS + host) * INCOMINGS + incoming,
        }
    }

    /// The word of an octet; `None` for 0, and for one that no word has.
    #[must_use]
    pub fn from_octet(octet: u8) -> Option<Self> {
        let of = |verdict| Some(Self::of(verdict));
        let incoming = |code: u8| Incoming::ALL.into_iter().find(|one| 1 + *one as u8 == code);
        let reason = |code: u8| FailureReason::ALL.get(usize::from(code)).copied();
        match octet {
            UNKNOWN => of(Verdict::Unknown),
            DRAINING => of(Verdict::Draining),
            SURVEYED => Some(Self { is_surveyed: true, ..Self::of(Verdict::Unknown) }),
            UP => of(Verdict::Up),
            UP_INTERCEPTED => Some(Self { is_intercepted: true, ..Self::of(Verdict::Up) }),
            MTU..ONE_WAY => {
                Direction::ALL.get(usize::from(octet - MTU)).copied().map(Verdict::Mtu).and_then(of)
            }
            ONE_WAY..FLAKY => {
                Some(Self { incoming: incoming(octet - ONE_WAY), ..Self::of(Verdict::OneWay) })
            }
            FLAKY..LOSSY => reason(octet - FLAKY).map(Verdict::Flaky).and_then(of),
            LOSSY..SLOW => {
                let (own, other) =
                    ((octet - LOSSY) / LEVELS.len() as u8, (octet - LOSSY) % LEVELS.len() as u8);
                Some(Self { losses: [own, other], ..Self::of(Verdict::Lossy) })
            }
            SLOW..DOWN => Some(Self {
                is_slow: true,
                incoming: incoming(octet - SLOW),
                ..Self::of(Verdict::Down(FailureReason::ResponseTimeout))
            }),
            DOWN.. => {
                let code = octet - DOWN;
                let (host, reason_code) = (code / INCOMINGS % HOSTS, code / INCOMINGS / HOSTS);
                Some(Self {
                    incoming: incoming(code % INCOMINGS),
                    host: HostState::ALL.into_iter().find(|one| 1 + *one as u8 == host),
                    ..Self::of(Verdict::Down(reason(reason_code)?))
                })
            }
            0 => None,
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
        let count = |place: usize| {
            let level = self.losses.get(place).copied().unwrap_or_default();
            LEVELS.get(usize::from(level)).copied().unwrap_or_default()
        };
        CellFacts {
            incoming: self.incoming,
            is_slow: self.is_slow,
            is_intercepted: self.is_intercepted,
            detail: self.host.map(Detail::Host),
            is_surveyed: self.is_surveyed,
            recent_retransmits: Some(count(0)),
            incoming_retransmits: count(1),
            ..CellFacts::of(self.verdict)
        }
    }
}
