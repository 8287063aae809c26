//! The memory with virtual clocks, beside a model that keeps everything.
#![expect(clippy::cast_possible_truncation, reason = "of small numbers")]

mod bounds;
mod clock;
mod day;
mod merging;
mod random;
mod restore;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;
use crate::matrix::{self, unix_millis};
use crate::peer::{Peer, PeerSet};
use crate::probe::{
    Answer, FailureReason, KernelView, Outcome, ProbeId, ProbeKind, Report, Timings,
};
use crate::state::{Change, MeshState, Moment, StateSettings};
use crate::token::TokenKey;

const INTERVAL: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
/// 2026-11-30, 03:07:12.
const BEGIN: u64 = 1_796_008_032;

/// How a probe of the simulation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// After this time.
    Success(Duration),
    /// After this time, and a SYN that was lost.
    AfterLoss(Duration),
    Failure(FailureReason),
    /// With a SYN that had to be sent again.
    FailureAfterLoss(FailureReason),
    /// Our own fault: it counts nowhere.
    Local,
}

/// All that one path had within one cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kept {
    times: Vec<Duration>,
    failures: u32,
    retransmits: u32,
    /// Octets of the words that held at any moment, each with the number of times that it was looked at.
    words: BTreeMap<u8, u32>,
}

/// Begin and end on the monotonic clock, and what was in between.
type Interval = (Instant, Instant, BTreeMap<NodeName, Kept>);

/// A mesh whose history is compared with everything that happened.
struct Mesh {
    state: MeshState,
    history: History,
    now: Moment,
    next: ProbeId,
    peers: BTreeSet<u16>,
    /// Of the open cells, by the name.
    open: BTreeMap<NodeName, Kept>,
    /// Of the closed ones.
    closed: Vec<Interval>,
    began: Instant,
}

fn name(number: u16) -> NodeName {
    NodeName::new(&format!("n{number}")).unwrap()
}

fn second(moment: Moment) -> u64 {
    unix_millis(moment.wall) / 1000
}

impl Mesh {
    fn new(peers: impl IntoIterator<Item = u16>) -> Self {
        let now = Moment { instant: Instant::now(), wall: UNIX_EPOCH + SECOND * BEGIN as u32 };
        let state = MeshState::new(StateSettings {
            failure_threshold: 3,
            interval: INTERVAL,
            large_interval: Duration::ZERO,
            host_port: None,
            source: NodeName::new("me").unwrap(),
            drain: Duration::from_secs(5),
            bounds: Arc::new([]),
            key: TokenKey::new(b"key"),
        });
        let mut mesh = Self {
            state,
            history: History::new(now, None),
            now,
            next: 0,
            peers: BTreeSet::new(),
            open: BTreeMap::new(),
            closed: Vec::new(),
            began: now.instant,
        };
        mesh.set_peers(peers);
        mesh
    }

    fn set_peers(&mut self, peers: impl IntoIterator<Item = u16>) {
        self.tick();
        self.peers = peers.into_iter().collect();
        let peer = |number: &u16| Peer {
            node: name(*number),
            address: SocketAddr::from(([10, 0, (number >> 8) as u8, *number as u8], 9050)),
            other_addresses: Vec::new(),
            host: None,
            instance: None,
            ready: None,
        };
        let set: PeerSet = self.peers.iter().map(peer).collect();
        let changes = self.state.peers(set, Duration::from_secs(30));
        self.note(changes);
    }

    /// Lets time pass, as the loop sees it.
    fn pass(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(SECOND);
            self.now.instant += step;
            self.now.wall += step;
            left -= step;
            self.tick();
            let changes = self.state.tick(self.now.instant);
            self.note(changes);
        }
    }

    /// Lets time pass in which nothing happens.
    fn idle(&mut self, time: Duration) {
        for _ in 0..time.as_secs() / 10 {
            self.now.instant += SECOND * 10;
            self.now.wall += SECOND * 10;
            self.tick();
        }
    }

    /// Sets the wall clock.
    fn step(&mut self, seconds: i64) {
        let step = SECOND * u32::try_from(seconds.unsigned_abs()).unwrap();
        self.now.wall = if seconds < 0 { self.now.wall - step } else { self.now.wall + step };
    }

    fn words(&self) -> Vec<(NodeName, u8)> {
        let word = |record: &crate::state::PeerRecord| {
            let cell = matrix::Cell::of(record, unix_millis(self.now.wall));
            (record.peer.node.clone(), Word::of_cell(&cell).octet())
        };
        self.state.records().map(word).collect()
    }

    fn tick(&mut self) {
        if !self.history.tick(self.now, self.state.records()) {
            return;
        }
        let words = self.words();
        let keep = |open: &mut BTreeMap<NodeName, Kept>| {
            for (node, octet) in &words {
                *open.entry(node.clone()).or_default().words.entry(*octet).or_default() += 1;
            }
        };
        keep(&mut self.open);
        let ended = self.now.instant;
        self.closed.push((self.began, ended, std::mem::take(&mut self.open)));
        self.began = ended;
        keep(&mut self.open);
    }

    fn note(&mut self, changes: Vec<Change>) {
        for change in changes {
            let (node, from) = match change {
                Change::Verdict { node, from, .. } => (node, from),
                Change::Incoming { node, verdict, .. } | Change::Detail { node, verdict, .. } => {
                    (node, verdict)
                }
                _ => continue,
            };
            let record = self.state.get(&node).unwrap();
            self.history.note(self.now, from, record);
            let octet = Word::of_record(record).octet();
            *self.open.entry(node).or_default().words.entry(octet).or_default() += 1;
        }
    }

    fn probe(&mut self, number: u16, end: End) {
        self.tick();
        self.next += 1;
        let node = name(number);
        if self.state.begin(&node, self.next).is_none() {
            return;
        }
        let rtt = Duration::from_millis(1);
        let (outcome, lost) = match end {
            End::Success(total) | End::AfterLoss(total) => {
                let lost = end == End::AfterLoss(total);
                let connect = if lost { total.saturating_sub(rtt) } else { total / 2 };
                let timings = Timings { connect, response: total - connect, total };
                (Outcome::Success { timings, answer: Answer::default() }, lost)
            }
            End::Failure(reason) => (Outcome::Failure(reason), false),
            End::FailureAfterLoss(reason) => (Outcome::Failure(reason), true),
            End::Local => (Outcome::Local(crate::probe::LocalError::NoPorts), false),
        };
        let count = u32::from(lost);
        let kernel =
            KernelView { retransmits: count, syn_retransmits: count, ..KernelView::default() };
        let report = Report {
            id: self.next,
            node: node.clone(),
            due: self.now.instant,
            started: self.now.instant,
            ended: self.now.instant,
            kind: ProbeKind::Blank,
            outcome,
            kernel: Some(kernel),
        };
        let changes = self.state.report(self.now, &report).unwrap();
        if end != End::Local {
            let record = self.state.get(&node).unwrap();
            self.history.observe(record);
            let kept = self.open.entry(node).or_default();
            match end {
                End::Success(total) | End::AfterLoss(total) => kept.times.push(total),
                _ => kept.failures += 1,
            }
            kept.retransmits += count;
            *kept.words.entry(Word::of_record(record).octet()).or_default() += 1;
        }
        self.note(changes);
    }

    fn recollect(&self) -> Recollection {
        self.history.recollect(self.now)
    }

    /// The cell of a path in each closed span.
    fn cells(&self, number: u16) -> Vec<Option<Summary>> {
        let all = self.recollect();
        let path = all.path(&name(number));
        let cell = |span: &Span| path.and_then(|path| span.cell(path).summary());
        all.spans.iter().map(cell).collect()
    }
}

impl Kept {
    fn probes(&self) -> u32 {
        u32::try_from(self.times.len()).unwrap() + self.failures
    }

    /// What a cell of all of this is expected to say.
    fn check(&self, cell: Cell) {
        let rank = |octet: &u8| Word::from_octet(*octet).unwrap().rank();
        let Some(gravest) = self.words.keys().map(rank).max() else {
            assert_eq!(cell, Cell::EMPTY);
            return;
        };
        let summary = cell.summary().expect("a cell of something");
        let word = summary.word;
        assert_eq!(word.rank(), gravest, "{word:?} of {:?}", self.words);
        let of_rank = || self.words.iter().filter(|(octet, _)| rank(octet) == gravest);
        let all: u32 = of_rank().map(|(_, count)| count).sum();
        let majority = of_rank().find(|(_, count)| **count * 2 > all);
        match majority {
            Some((octet, _)) => assert_eq!(word.octet(), *octet, "{:?}", self.words),
            None => assert!(self.words.contains_key(&word.octet())),
        }
        let mut times = self.times.clone();
        times.sort_unstable();
        let median = times.get(times.len().saturating_sub(1) / 2).copied();
        let again = |time: Option<Duration>| scale::time(scale::time_code(time));
        let (probes, failures, retransmits) = (self.probes(), self.failures, self.retransmits);
        let exact = Summary { word, probes, failures, retransmits, median, worst: times.pop() };
        assert_eq!(Some(summary), Cell::new(exact).summary());
        assert_eq!((summary.median, summary.worst), (again(median), again(exact.worst)));
        if probes <= 63 && failures <= 40 && retransmits <= 19 {
            assert_eq!(
                (summary.probes, summary.failures, summary.retransmits),
                (probes, failures, retransmits)
            );
        }
    }
}
