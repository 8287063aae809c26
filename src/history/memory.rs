//! What the agent's loop remembers: the open cells, the closed ones of the last day, and the changes of verdict.
//!
//! A path has a number, the place of its cells in every span. Numbers are given when a peer is seen first, and move
//! up when paths are forgotten, at the end of a cell: then it is known which peers are still there, and whether all
//! of them have room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::{CellClock, End, MAX_SLEW};
use super::open::OpenCell;
use super::{
    CellTime, DAY, MAX_CELLS, MAX_CHANGES, MAX_PATHS, MAX_SPANS, Recollection, Span, VerdictChange,
    WIDTHS, Word, merge,
};
use crate::matrix::unix_millis;
use crate::name::NodeName;
use crate::sort::{sort, sort_by};
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
    /// Place of their length in [`WIDTHS`].
    width: usize,
    /// Oldest first.
    spans: Vec<Closed>,
    changes: VecDeque<VerdictChange>,
}

/// A span that is closed, and when it ended.
#[derive(Debug)]
struct Closed {
    span: Arc<Span>,
    ended: Instant,
}

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
                time.seconds = time.seconds.min(passed.max(1));
            }
            let age = now_second.saturating_sub(time.to());
            if age < DAY {
                let ended = now.instant.checked_sub(Duration::from_secs(age));
                let span = if time == span.time { span } else { with_time(&span, time) };
                self.spans.push(Closed { span, ended: ended.unwrap_or(now.instant) });
            }
        }
        self.names = before.names;
        self.changes = before.changes.into();
        self.keep_paths(|_| true);
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
            // A mesh that starts has no changes.
            None => (from, verdict) == (Verdict::Unknown, Verdict::Up),
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
        self.spans.push(Closed { span: Arc::new(span), ended: now.instant });
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
        spans.extend(past.map(|closed| Arc::clone(&closed.span)));
        spans.push(Arc::new(self.open_span()));
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

    /// The open cell of a peer, which gets a number if it has none; `None` if there is no room.
    fn cell(&mut self, record: &PeerRecord) -> Option<&mut OpenCell> {
        let node = &record.peer.node;
        let name = |number: &u16| self.names.get(usize::from(*number)).and_then(Option::as_ref);
        let place = self.order.binary_search_by(|number| name(number).cmp(&Some(node)));
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
        let day = Duration::from_secs(DAY);
        self.spans.retain(|closed| now.saturating_duration_since(closed.ended) < day);
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
    }

    /// Forgets the paths of which nothing is remembered, and of those whose peers are gone so many as have no room,
    /// those gone longest first. Chooses the length of the cells.
    fn forget_paths(&mut self) {
        // Those that are gone, each with the last span that has a cell of it.
        let last = |path| self.spans.iter().rposition(|closed| !closed.span.cell(path).is_empty());
        let gone = self.open.iter().enumerate().filter(|(_, cell)| cell.is_empty());
        let mut gone: Vec<_> = gone.map(|(path, _)| (last(path), path)).collect();
        sort(&mut gone);
        let there = self.open.len() - gone.len();
        let forgotten = gone.iter().take_while(|(last, _)| last.is_none()).count();
        let all = self.open.len() - forgotten;
        let before = self.width;
        self.width = width_for(there).max(width_for(all).min(before));
        if self.width > before {
            self.merge_spans(self.seconds());
        }
        let excess = forgotten + all.saturating_sub(self.room());
        let mut leaving: Vec<_> = gone.into_iter().take(excess).map(|(_, path)| path).collect();
        if !leaving.is_empty() {
            sort(&mut leaving);
            self.keep_paths(|path| leaving.binary_search(&path).is_err());
        }
    }

    /// Keeps these paths, in their order, and gives them new numbers.
    fn keep_paths(&mut self, is_kept: impl Fn(usize) -> bool) {
        let known = self.names.iter().enumerate().take(MAX_PATHS);
        let known = known.filter(|(path, name)| name.is_some() && is_kept(*path));
        let kept: Vec<usize> = known.map(|(path, _)| path).collect();
        let name = |path: &usize| self.names.get(*path).cloned().flatten();
        let names: Vec<_> = kept.iter().map(name).collect();
        let open = kept.iter().map(|path| self.open.get(*path).copied());
        self.open = open.map(|cell| cell.unwrap_or(OpenCell::EMPTY)).collect();
        for closed in &mut self.spans {
            let span = &closed.span;
            let size = kept.partition_point(|path| *path < span.cells.len());
            let cells = kept.iter().take(size).map(|path| span.cell(*path)).collect();
            closed.span = Arc::new(Span { time: span.time, cells });
        }
        self.order = (0..u16::try_from(names.len()).unwrap_or(u16::MAX)).collect();
        let name = |number: &u16| names.get(usize::from(*number));
        sort_by(&mut self.order, |one, other| name(one).cmp(&name(other)));
        self.names = Arc::new(names);
    }

    /// Makes one span of those that are within one multiple of `width` seconds.
    fn merge_spans(&mut self, width: u32) {
        let spans = std::mem::take(&mut self.spans);
        let groups =
            spans.chunk_by(|one, next| merge::joins(&one.span.time, &next.span.time, width));
        let merged = groups.filter_map(|group| {
            let ended = group.last()?.ended;
            let span = match group {
                [one] => Arc::clone(&one.span),
                several => {
                    let several: Vec<&Span> = several.iter().map(|one| &*one.span).collect();
                    Arc::new(merge::merged(&several)?)
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

fn with_time(span: &Span, time: CellTime) -> Arc<Span> {
    Arc::new(Span { time, cells: span.cells.clone() })
}

#[cfg(test)]
impl History {
    /// The closed spans, those of the future included.
    pub(super) fn closed(&self) -> Vec<Arc<Span>> {
        self.spans.iter().map(|closed| Arc::clone(&closed.span)).collect()
    }

    /// Octets of the closed cells, and of all else but the names themselves, by their capacities.
    pub(super) fn octets(&self) -> (usize, usize) {
        let cells: usize = self.spans.iter().map(|closed| size_of_val(&*closed.span.cells)).sum();
        // An Arc has two counters.
        let span = size_of::<Closed>() + size_of::<Span>() + 2 * size_of::<usize>();
        let beside = self.spans.capacity() * span
            + self.names.capacity() * size_of::<Option<NodeName>>()
            + self.order.capacity() * size_of::<u16>()
            + self.open.capacity() * size_of::<OpenCell>()
            + self.changes.capacity() * size_of::<VerdictChange>();
        (cells, beside)
    }
}
