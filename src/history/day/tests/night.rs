//! A night: what each node says of each other, cell by cell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use super::*;
use crate::history::{Cell, CellTime, Recollection, Span, Summary};
use crate::state::Moment;

/// Midnight, when all nights begin.
pub(super) const T0: u64 = 1_800_057_600;

/// Probes of a cell.
const PROBES: u32 = 33;

pub(super) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

pub(super) fn down(reason: FailureReason) -> Word {
    Word::of(Verdict::Down(reason))
}

pub(super) fn flaky(reason: FailureReason) -> Word {
    Word::of(Verdict::Flaky(reason))
}

/// Source, target, begin and end, what the source says, and its failures.
type Says = (String, String, [u64; 2], Option<Word>, u32);

/// What each node remembers at the end of the day.
#[derive(Clone)]
pub(super) struct Night {
    pub(super) nodes: Vec<String>,
    times: BTreeMap<String, Vec<CellTime>>,
    words: Vec<Says>,
    shifts: BTreeMap<String, u64>,
    failures: u32,
    /// When it is told of, in seconds since midnight.
    end: u64,
}

/// Seconds since midnight of `HH:MM`.
fn seconds(clock: &str) -> u64 {
    let (hours, minutes) = clock.split_once(':').unwrap();
    (hours.parse::<u64>().unwrap() * 60 + minutes.parse::<u64>().unwrap()) * 60
}

impl Night {
    /// All nodes remember the whole day, and all is well.
    pub(super) fn new(nodes: &[&str]) -> Self {
        let mut night = Self {
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            times: BTreeMap::new(),
            words: Vec::new(),
            shifts: BTreeMap::new(),
            failures: 3,
            end: DAY,
        };
        for node in nodes {
            night.widen(node, 300);
        }
        night
    }

    /// The same, told of earlier.
    pub(super) fn until(mut self, end: u64) -> Self {
        self.end = end;
        for times in self.times.values_mut() {
            times.retain(|time| time.from < T0 + end);
        }
        self
    }

    /// From now on, so many probes of a cell that is not up fail.
    pub(super) fn counts(&mut self, failures: u32) -> &mut Self {
        self.failures = failures;
        self
    }

    pub(super) fn says(&mut self, source: &str, target: &str, from: &str, to: &str, word: Word) {
        self.says_at(source, target, [seconds(from), seconds(to)], Some(word));
    }

    pub(super) fn empty(&mut self, source: &str, target: &str, from: &str, to: &str) {
        self.says_at(source, target, [seconds(from), seconds(to)], None);
    }

    /// The later word of the same time stands.
    pub(super) fn says_at(
        &mut self,
        source: &str,
        target: &str,
        time: [u64; 2],
        word: Option<Word>,
    ) {
        self.words.push((
            source.into(),
            target.into(),
            time.map(|at| T0 + at),
            word,
            self.failures,
        ));
    }

    /// Another width of the cells of a node.
    pub(super) fn widen(&mut self, node: &str, width: u32) {
        let time = |from| CellTime { from, seconds: width, is_repeated: false };
        let step = usize::try_from(width).unwrap();
        let times = (T0..T0 + DAY).step_by(step).map(time).collect();
        self.times.insert(node.into(), times);
    }

    /// Nothing is remembered of this time.
    pub(super) fn cut(&mut self, node: &str, from: &str, to: &str) {
        self.split(node, from);
        self.split(node, to);
        let [from, to] = [from, to].map(|clock| T0 + seconds(clock));
        let times = self.times.get_mut(node).unwrap();
        times.retain(|time| time.to() <= from || time.from >= to);
    }

    /// Ends the cell of this time early, as a restart does.
    pub(super) fn split(&mut self, node: &str, at: &str) {
        let at = T0 + seconds(at);
        let times = self.times.get_mut(node).unwrap();
        let Some(place) = times.iter().position(|time| time.contains(at) && time.from < at) else {
            return;
        };
        let (from, to) = (times[place].from, times[place].to());
        let time = |from, to| CellTime {
            from,
            seconds: u32::try_from(to - from).unwrap(),
            is_repeated: false,
        };
        times.splice(place..=place, [time(from, at), time(at, to)]);
    }

    /// The clock was set back at `to`: the times since `from` come twice. What is said of them is said of the first.
    pub(super) fn repeat(&mut self, node: &str, from: &str, to: &str) {
        let [from, to] = [from, to].map(|clock| T0 + seconds(clock));
        let times = self.times.get_mut(node).unwrap();
        let again: Vec<CellTime> = times
            .iter()
            .filter(|time| from <= time.from && time.from < to)
            .map(|time| CellTime { is_repeated: true, ..*time })
            .collect();
        let place = times.iter().position(|time| time.from == to).unwrap();
        times.splice(place..place, again);
    }

    /// The clock of a node is ahead.
    pub(super) fn shift(&mut self, node: &str, ahead: u64) {
        self.shifts.insert(node.into(), ahead);
    }

    pub(super) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(T0 + self.end - 1)
    }

    pub(super) fn recollection(&self, source: &str) -> Recollection {
        let peers: Vec<&String> = self.nodes.iter().filter(|node| *node != source).collect();
        let ahead = self.shifts.get(source).copied().unwrap_or(0);
        let span = |time: &CellTime| {
            let cells = peers.iter().map(|target| self.cell(source, target, time)).collect();
            let time = CellTime { from: time.from + ahead, ..*time };
            Span { time, cells }
        };
        Recollection {
            taken: Moment { instant: Instant::now(), wall: self.now() },
            names: Arc::new(peers.iter().map(|node| Some(name(node))).collect()),
            spans: self.times[source].iter().map(span).collect(),
            changes: Vec::new(),
        }
    }

    fn cell(&self, source: &str, target: &str, time: &CellTime) -> Cell {
        let is_of = |(by, of, [from, to], ..): &&Says| {
            by == source
                && of == target
                && *from <= time.from
                && time.from < *to
                && !time.is_repeated
        };
        let (word, failures) = match self.words.iter().rfind(is_of) {
            Some((.., None, _)) => return Cell::EMPTY,
            Some((.., Some(word), failures)) => (*word, *failures),
            None => (Word::of(Verdict::Up), 0),
        };
        let time = Some(Duration::from_millis(1));
        Cell::new(Summary {
            word,
            probes: PROBES,
            failures,
            retransmits: 0,
            median: time,
            worst: time,
        })
    }

    /// What the agent of `own` collects.
    pub(super) fn mesh(&self, own: &str) -> MeshFaults {
        let faults = |node: &str| Faults::of(&self.recollection(node));
        let mut mesh = MeshFaults::new(&name(own), faults(own));
        for node in self.nodes.iter().filter(|node| *node != own) {
            mesh.add(&name(node), Ok(faults(node)));
        }
        mesh
    }
}

/// The day as the agent of `own` tells it.
pub(super) fn day_of(night: &Night, own: &str) -> Day {
    Day::of(&night.mesh(own), night.now(), &mut || true)
}

/// `03:10-03:20 ! TEXT`, with `!` where it is grave.
pub(super) fn texts(day: &Day) -> Vec<String> {
    let clock = |at: u64| {
        let minutes = (at - T0) / 60;
        format!("{:02}:{:02}", minutes / 60, minutes % 60)
    };
    let line = |one: &DayFinding| {
        let grave = if one.is_grave { "! " } else { "" };
        let repeated = if one.is_repeated { " [repeated]" } else { "" };
        format!("{}-{} {grave}{}{repeated}", clock(one.from), clock(one.to), one.text)
    };
    day.findings.iter().map(line).collect()
}
