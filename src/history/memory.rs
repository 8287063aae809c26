//! What the agent's loop remembers: the open cells, the closed ones of the last day, and the changes of verdict.
//!
//! A path has a number, the place of its cells in every span. Numbers are given when a peer is seen first, and move
//! up when paths are forgotten, at the end of a cell: then it is known which peers are still there, and whether all
//! of them have room.

#[cfg(test)]
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::clock::{CellClock, End, MAX_SLEW};
use super::open::OpenCell;
use super::{
    Cell, CellTime, Cells, DAY, MAX_CELLS, MAX_CHANGES, MAX_PATHS, MAX_SPANS, Recollection, Span,
    VerdictChange, WIDTHS, Word, merge,
};
use crate::matrix::unix_millis;
use crate::name::NodeName;
use crate::state::{Moment, PeerRecord, Verdict};

/// The memory of the agent's loop.
#[derive(Debug)]
pub struct History {
    /// By the number of the path. All have a name.
    names: Arc<Vec<Option<NodeName>>>,
    /// The numbers, in the order of the names.
    order: Vec<u16>,
    /// By the number of the path.
    open: Vec<OpenCell>,
    clock: CellClock,
    /// When the memory began.
    began: Instant,
    /// Place of their length in [`WIDTHS`].
    width: usize,
    /// Oldest first.
    spans: Vec<Closed>,
    changes: VecDeque<VerdictChange>,
}

/// A span that is closed.
#[derive(Debug)]
struct Closed {
    span: Span,
    /// When it ended, in seconds since the memory began: what was remembered before it has negative ones.
    ended: i32,
}

/// Most cells of one block: 4 KB. What is older than a day holds at most one of them.
const BLOCK: usize = 800;

const _: () = assert!(MAX_PATHS <= u16::MAX as usize);

impl History {
    /// A memory that begins now, after what was remembered before.
    #[must_use]
    pub fn new(now: Moment, before: Option<Recollection>) -> Self {
        let mut history = Self {
            names: Arc::default(),
            order: Vec::new(),
            open: Vec::new(),
            clock: CellClock::new(now, WIDTHS[0].0),
            began: now.instant,
            width: 0,
            spans: Vec::new(),
            changes: VecDeque::new(),
        };
        if let Some(before) = before {
            history.restore(now, before);
        }
        history
    }

    fn restore(&mut self, now: Moment, before: Recollection) {
        let second = |moment: Moment| unix_millis(moment.wall) / 1000;
        let (saved, now_second) = (second(before.taken), second(now));
        let last = before.spans.len().saturating_sub(1);
        for (index, span) in before.spans.into_iter().enumerate() {
            let mut time = span.time;
            if index == last {
                // It was still open.
                let passed = u32::try_from(saved.saturating_sub(time.from)).unwrap_or(u32::MAX);
                time.seconds = time.seconds.min(passed);
            }
            let age = now_second.saturating_sub(time.to());
            // One that had just begun would overlap the next.
            if age < DAY && time.seconds > 0 {
                let ended = -i32::try_from(age).unwrap_or_default();
                self.spans.push(Closed { span: Span { time, ..span }, ended });
            }
        }
        self.names = before.names;
        for (number, name) in (0..).zip(self.names.iter()).take(MAX_PATHS) {
            let place = self.order.partition_point(|other| self.name(*other) < name.as_ref());
            self.order.insert(place, number);
        }
        self.changes = before.changes.into();
        self.keep_paths(&vec![false; self.names.len()]);
        self.width = width_for(self.names.len());
        self.merge_spans(self.seconds());
        self.make_room(now.instant);
        self.clock = CellClock::new(now, self.seconds());
    }

    /// Counts the last probe of a peer. To be called after each blank probe that left a sample, with
    /// [`Self::tick`] before the sample was taken.
    pub fn observe(&mut self, record: &PeerRecord) {
        let (Some(sample), Some(cell)) = (record.recent.back(), self.cell(record)) else { return };
        cell.count(sample.result().ok().map(|(_, total)| total), record.last_probe_lost());
        cell.note(Word::of_record(record));
    }

    /// Takes the verdict of a peer, or what an experiment adds to it, or what comes in from it, after a change;
    /// `from` is the verdict before.
    pub fn note(&mut self, now: Moment, from: Verdict, record: &PeerRecord) {
        if let Some(cell) = self.cell(record) {
            cell.note(Word::of_record(record));
        }
        let (node, verdict, detail) = (&record.peer.node, record.verdict, record.detail());
        let known = self.changes.iter().rev().find(|change| change.node == *node);
        let is_known = match known {
            Some(known) => (known.verdict, known.detail) == (verdict, detail),
            // A peer that comes up at the start is no news, and neither is one that stays as it is.
            None => from == verdict || (from, verdict) == (Verdict::Unknown, Verdict::Up),
        };
        if is_known {
            return;
        }
        if self.changes.len() >= MAX_CHANGES {
            self.changes.pop_front();
        }
        let at = unix_millis(now.wall);
        self.changes.push_back(VerdictChange { at, node: node.clone(), verdict, detail });
    }

    /// Closes the open cells at their end, and after a step of the wall clock; true if it did, so that it is to
    /// be saved. To be called at least every second, and before anything that happened later is counted.
    pub fn tick<'a>(&mut self, now: Moment, records: impl Iterator<Item = &'a PeerRecord>) -> bool {
        let Some(end) = self.clock.look(now, self.seconds()) else { return false };
        self.open.iter_mut().for_each(OpenCell::lose_sight);
        for record in records {
            if let Some(cell) = self.cell(record) {
                cell.note(Word::of_record(record));
            }
        }
        let mut span = self.open_span();
        if let End::Broken(seconds) = end {
            span.time = self.repeated(CellTime { seconds, ..span.time });
        }
        self.spans.reserve_exact(1);
        self.spans.push(Closed { span, ended: self.since_begin(now.instant) });
        self.open.iter_mut().for_each(|cell| *cell = cell.next());
        self.make_room(now.instant);
        self.clock = match end {
            End::Edge => self.clock.next(now, self.seconds()),
            End::Broken(_) => CellClock::new(now, self.seconds()),
        };
        true
    }

    /// What readers may see, and what is saved.
    #[must_use]
    pub fn recollect(&self, now: Moment) -> Recollection {
        let second = unix_millis(now.wall) / 1000;
        // After the clock was set back, some are in the future.
        let is_past = |time: CellTime| {
            time.from <= second + MAX_SLEW && second.saturating_sub(time.to()) < DAY
        };
        let mut spans = Vec::with_capacity(self.spans.len() + 1);
        let past = self.spans.iter().filter(|closed| is_past(closed.span.time));
        spans.extend(past.map(|closed| closed.span.clone()));
        spans.push(self.open_span());
        Recollection {
            taken: now,
            names: Arc::clone(&self.names),
            spans,
            changes: self.changes.iter().cloned().collect(),
        }
    }

    /// Length of a cell in seconds.
    fn seconds(&self) -> u32 {
        WIDTHS.get(self.width).map_or(WIDTHS[0].0, |(seconds, _)| *seconds)
    }

    /// Most paths whose cells have this length.
    fn room(&self) -> usize {
        WIDTHS.get(self.width).map_or(MAX_PATHS, |(_, paths)| *paths)
    }

    fn open_span(&self) -> Span {
        let time = self.repeated(self.clock.time());
        Span { time, cells: self.open.iter().map(OpenCell::cell).collect() }
    }

    /// This time, marked if some of it has occurred before.
    fn repeated(&self, time: CellTime) -> CellTime {
        let overlaps = |other: CellTime| other.from < time.to() && time.from < other.to();
        let is_repeated = self.spans.iter().any(|closed| overlaps(closed.span.time));
        CellTime { is_repeated, ..time }
    }

    fn since_begin(&self, now: Instant) -> i32 {
        i32::try_from(now.saturating_duration_since(self.began).as_secs()).unwrap_or(i32::MAX)
    }

    fn name(&self, number: u16) -> Option<&NodeName> {
        self.names.get(usize::from(number)).and_then(Option::as_ref)
    }

    /// The open cell of a peer, which gets a number if it has none; `None` if there is no room.
    fn cell(&mut self, record: &PeerRecord) -> Option<&mut OpenCell> {
        let node = &record.peer.node;
        let place = self.order.binary_search_by(|number| self.name(*number).cmp(&Some(node)));
        let number = match place {
            Ok(place) => usize::from(*self.order.get(place)?),
            Err(_) if self.open.len() >= MAX_PATHS => return None,
            Err(place) => {
                let number = self.open.len();
                let names = Arc::make_mut(&mut self.names);
                names.reserve_exact(1);
                names.push(Some(node.clone()));
                self.order.reserve_exact(1);
                self.order.insert(place, u16::try_from(number).ok()?);
                self.open.reserve_exact(1);
                self.open.push(OpenCell::EMPTY);
                number
            }
        };
        self.open.get_mut(number)
    }

    /// Forgets what is older than a day, and what has no room.
    fn make_room(&mut self, now: Instant) {
        let now = self.since_begin(now);
        self.spans.retain(|closed| i64::from(now) - i64::from(closed.ended) < DAY.cast_signed());
        self.forget_paths();
        let mut cells: usize = self.spans.iter().map(|closed| closed.span.cells.len()).sum();
        let mut spans = self.spans.len();
        let oldest = self.spans.iter().take_while(|closed| {
            let is_too_much = cells > MAX_CELLS || spans >= MAX_SPANS;
            cells -= closed.span.cells.len();
            spans -= 1;
            is_too_much
        });
        let oldest = oldest.count();
        self.spans.drain(..oldest);
        self.fill_blocks();
    }

    /// Forgets the paths of which nothing is remembered, and of those whose peers are gone so many as have no room,
    /// those gone longest first. Chooses the length of the cells.
    fn forget_paths(&mut self) {
        // Those that are gone, each with the number of spans up to its last cell.
        let last = |path| {
            let last = self.spans.iter().rposition(|closed| !closed.span.cell(path).is_empty());
            last.map_or(0, |last| last + 1)
        };
        let gone = self.open.iter().enumerate().filter(|(_, cell)| cell.is_empty());
        let mut gone: Vec<_> = gone.map(|(path, _)| (last(path), path)).collect();
        let there = self.open.len() - gone.len();
        let mut leaving = vec![false; self.open.len()];
        let mut leave = |path: usize| leaving.get_mut(path).into_iter().for_each(|one| *one = true);
        gone.retain(|(last, path)| {
            if *last == 0 {
                leave(*path);
            }
            *last > 0
        });
        let before = self.width;
        self.width = width_for(there).max(width_for(there + gone.len()).min(before));
        if self.width > before {
            self.merge_spans(self.seconds());
        }
        while there + gone.len() > self.room() {
            let first = (0..gone.len()).min_by_key(|place| gone.get(*place));
            let Some(first) = first else { break };
            leave(gone.swap_remove(first).1);
        }
        if leaving.contains(&true) {
            self.keep_paths(&leaving);
        }
    }

    /// Gives all paths but those that are leaving new numbers, in their order.
    fn keep_paths(&mut self, leaving: &[bool]) {
        let known = self.names.iter().zip(leaving).enumerate().take(MAX_PATHS);
        let known = known.filter(|(_, (name, is_leaving))| name.is_some() && !**is_leaving);
        let kept: Vec<usize> = known.map(|(path, _)| path).collect();
        let open = kept.iter().map(|path| self.open.get(*path).copied());
        self.open = open.map(|cell| cell.unwrap_or(OpenCell::EMPTY)).collect();
        for Closed { span, .. } in &mut self.spans {
            let size = kept.partition_point(|path| *path < span.cells.len());
            span.cells = kept.iter().take(size).map(|path| span.cell(*path)).collect();
        }
        let number = |path: &u16| kept.binary_search(&usize::from(*path)).ok();
        let order = self.order.iter().filter_map(|path| u16::try_from(number(path)?).ok());
        self.order = order.collect();
        let name = |path: &usize| self.names.get(*path).cloned().flatten();
        self.names = Arc::new(kept.iter().map(name).collect());
    }

    /// Moves the cells of spans that follow each other into common blocks.
    fn fill_blocks(&mut self) {
        let (mut first, mut cells) = (0, 0);
        for index in 0..self.spans.len() {
            let Some(Closed { span, .. }) = self.spans.get(index) else { return };
            let (is_all, len) = (span.cells.is_all(), span.cells.len());
            if is_all && cells + len <= BLOCK {
                cells += len;
                continue;
            }
            // What is shared already ends a group that is not full, too.
            self.fill_block(first, index);
            (first, cells) = if is_all { (index, len) } else { (index + 1, 0) };
        }
    }

    fn fill_block(&mut self, first: usize, end: usize) {
        let Some(spans) = self.spans.get_mut(first..end).filter(|spans| spans.len() > 1) else {
            return;
        };
        let cells = spans.iter().flat_map(|closed| closed.span.cells.iter());
        let block: Arc<[Cell]> = cells.copied().collect();
        let mut start = 0;
        for Closed { span, .. } in spans {
            let len = span.cells.len();
            span.cells = Cells::part(&block, start, len);
            start += len;
        }
    }

    /// Makes one span of those that are within one multiple of `width` seconds.
    fn merge_spans(&mut self, width: u32) {
        let spans = std::mem::take(&mut self.spans);
        let groups =
            spans.chunk_by(|one, next| merge::joins(&one.span.time, &next.span.time, width));
        let merged = groups.filter_map(|group| {
            let ended = group.last()?.ended;
            let span = match group {
                [one] => one.span.clone(),
                several => {
                    let several: Vec<&Span> = several.iter().map(|one| &one.span).collect();
                    merge::merged(&several)?
                }
            };
            Some(Closed { span, ended })
        });
        self.spans = merged.collect();
    }
}

/// Place of the length in [`WIDTHS`] that the cells of so many paths have.
fn width_for(paths: usize) -> usize {
    WIDTHS.iter().position(|(_, most)| paths <= *most).unwrap_or(WIDTHS.len() - 1)
}

#[cfg(test)]
impl History {
    /// The closed spans, those of the future included.
    pub(super) fn closed(&self) -> Vec<Span> {
        self.spans.iter().map(|closed| closed.span.clone()).collect()
    }

    /// Forgets all changes.
    pub(super) fn forget_changes(&mut self) {
        self.changes.clear();
    }

    /// Octets of the blocks of closed cells with their counters, and of all else but the names themselves, by their
    /// capacities.
    pub(super) fn octets(&self) -> (usize, usize) {
        let blocks: BTreeMap<_, _> =
            self.spans.iter().map(|closed| closed.span.cells.block()).collect();
        let blocks = blocks.values().map(|octets| octets + 2 * size_of::<usize>()).sum();
        let beside = self.spans.capacity() * size_of::<Closed>()
            + self.names.capacity() * size_of::<Option<NodeName>>()
            + self.order.capacity() * size_of::<u16>()
            + self.open.capacity() * size_of::<OpenCell>()
            + self.changes.capacity() * size_of::<VerdictChange>();
        (blocks, beside)
    }
}
