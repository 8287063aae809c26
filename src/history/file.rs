//! What is remembered as the octets of a file, and back. Pure: what reads and writes the file is elsewhere.
//!
//! Numbers are big-endian. The file begins with [`MAGIC`], the version and the node, and ends with the CRC-32 of all
//! before it. Not compressed: a cell repeats little, and compressing would take as much memory as the cells.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use thiserror::Error;

use super::{
    Cell, CellTime, DAY, MAX_CELLS, MAX_CHANGES, MAX_PATHS, MAX_SPANS, Recollection, Span,
    VerdictChange, Word,
};
use crate::experiment::{DeadFlows, Detail, HostState, LargestPacket};
use crate::gzip::Crc;
use crate::matrix::unix_millis;
use crate::name::NodeName;
use crate::state::Moment;

/// The start of the file.
const MAGIC: &[u8; 13] = b"wylis history";
/// The version of the format; a file of another one is not used.
const VERSION: u8 = 1;
/// Most cells in a file: those of closed spans, and those of the open one.
const MOST_CELLS: usize = MAX_CELLS + MAX_PATHS;
/// Longest file in bytes: all names of the longest kind, and all cells and changes.
pub const MAX_HISTORY: usize = 13 << 17;
const DETAIL: usize = 3;
const CRC: usize = 4;
/// How many milliseconds in the future a file may have been written, or a cell begin: the clock of a node that starts
/// is set by less, and after a step back the next cells cover the same times.
const MAX_AHEAD: u64 = 600_000;
/// Octets that are written at once: some pages.
const CHUNK: usize = 8 * 1024;

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// It is cut off, changed, or no history at all.
    #[error("damaged")]
    Damaged,
    /// It has another version.
    #[error("version {0}, expected {VERSION}")]
    OtherVersion(u8),
    /// It belongs to this node.
    #[error("written by node {0:?}")]
    OtherNode(NodeName),
    /// It was written so much later than now.
    #[error("written {} s in the future", .0.as_secs())]
    Future(Duration),
}

/// Writes what is remembered, in chunks, so that it is never in memory twice. Of more than fits, the oldest is left
/// out.
///
/// # Errors
/// Those of `out`.
pub fn encode(own: &NodeName, recollection: &Recollection, out: &mut dyn Write) -> io::Result<()> {
    let mut sink = Sink { out, waiting: Vec::with_capacity(CHUNK), crc: Crc::NEW };
    sink.put(MAGIC)?;
    sink.put(&[VERSION])?;
    sink.name(Some(own))?;
    sink.put(&unix_millis(recollection.taken.wall).to_be_bytes())?;
    let names = recollection.names.iter().take(MAX_PATHS);
    sink.count(names.len())?;
    for name in names {
        sink.name(name.as_ref())?;
    }
    let spans = newest(&recollection.spans);
    sink.count(spans.len())?;
    for span in spans {
        let CellTime { from, seconds, is_repeated } = span.time;
        sink.put(&from.to_be_bytes())?;
        sink.put(&seconds.to_be_bytes())?;
        sink.put(&[u8::from(is_repeated)])?;
        let cells = span.cells.iter().take(MAX_PATHS);
        sink.count(cells.len())?;
        for cell in cells {
            sink.put(&cell.octets())?;
        }
    }
    let changes = &recollection.changes;
    let changes = changes.get(changes.len().saturating_sub(MAX_CHANGES)..).unwrap_or_default();
    sink.count(changes.len())?;
    for change in changes {
        sink.put(&change.at.to_be_bytes())?;
        sink.name(Some(&change.node))?;
        sink.put(&[Word::of(change.verdict).octet()])?;
        sink.put(&detail_octets(change.detail))?;
    }
    sink.finish()
}

/// The newest spans that fit into a file.
fn newest(spans: &[Span]) -> &[Span] {
    let mut cells = 0;
    let fits = |span: &&Span| {
        cells += span.cells.len();
        cells <= MOST_CELLS
    };
    let count = spans.iter().rev().take(MAX_SPANS).take_while(fits).count();
    spans.get(spans.len() - count..).unwrap_or_default()
}

/// What is written, and its CRC.
struct Sink<'a> {
    out: &'a mut dyn Write,
    waiting: Vec<u8>,
    crc: Crc,
}

impl Sink<'_> {
    fn put(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.waiting.len() + octets.len() > CHUNK {
            self.flush()?;
        }
        self.waiting.extend_from_slice(octets);
        Ok(())
    }

    fn count(&mut self, count: usize) -> io::Result<()> {
        self.put(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes())
    }

    /// A name, or none.
    fn name(&mut self, name: Option<&NodeName>) -> io::Result<()> {
        let text = name.map_or("", NodeName::as_str);
        self.put(&[u8::try_from(text.len()).unwrap_or(u8::MAX)])?;
        self.put(text.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.crc.update(&self.waiting);
        self.out.write_all(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.write_all(&self.crc.value().to_be_bytes())
    }
}

/// What a file of the node `own` holds. `taken` has the wall time at which it was written, and the present instant:
/// the last span was open then. Spans that begin too far in the future, as after a clock was set back, are left out.
///
/// # Errors
/// When it is damaged, or not for this node, release and time.
pub fn decode(own: &NodeName, file: &[u8], now: Moment) -> Result<Recollection, FileError> {
    let version = file.strip_prefix(MAGIC).and_then(<[u8]>::first);
    match version {
        Some(&VERSION) => {}
        Some(other) => return Err(FileError::OtherVersion(*other)),
        None => return Err(FileError::Damaged),
    }
    let (content, crc) = file.split_last_chunk::<CRC>().ok_or(FileError::Damaged)?;
    if Crc::of(content) != u32::from_be_bytes(*crc) {
        return Err(FileError::Damaged);
    }
    let mut source = Source(content);
    let (node, written) = source.head().ok_or(FileError::Damaged)?;
    if node != *own {
        return Err(FileError::OtherNode(node));
    }
    let ahead = written.saturating_sub(unix_millis(now.wall));
    if ahead > MAX_AHEAD {
        return Err(FileError::Future(Duration::from_millis(ahead)));
    }
    source.rest(written, now).ok_or(FileError::Damaged)
}

/// What has not been read yet. `None` of each method: cut off, or no such value.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    /// The node, and when the file was written, in Unix milliseconds.
    fn head(&mut self) -> Option<(NodeName, u64)> {
        self.octets::<{ MAGIC.len() + 1 }>()?;
        Some((self.name()??, self.number()?))
    }

    fn rest(mut self, written: u64, now: Moment) -> Option<Recollection> {
        let names = self.list(MAX_PATHS, Self::name)?;
        let mut left = MOST_CELLS;
        let mut spans = self.list(MAX_SPANS, |source| {
            let span = source.span(left)?;
            left -= span.cells.len();
            Some(span)
        })?;
        let latest = unix_millis(now.wall).saturating_add(MAX_AHEAD) / 1000;
        spans.retain(|span| span.time.from <= latest);
        let mut changes = self.list(MAX_CHANGES, Self::change)?;
        for change in &mut changes {
            // One text for each name.
            if let Some(known) = names.iter().flatten().find(|known| **known == change.node) {
                change.node = known.clone();
            }
        }
        let wall = UNIX_EPOCH.checked_add(Duration::from_millis(written))?;
        let taken = Moment { wall, ..now };
        let names = Arc::new(names);
        self.0.is_empty().then_some(Recollection { taken, names, spans, changes })
    }

    /// As many as announced, at most `most`. Each takes room in the file before it takes memory.
    fn list<T>(
        &mut self,
        most: usize,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = self.count(most)?;
        (0..count).map(|_| read(self)).collect()
    }

    fn span(&mut self, most: usize) -> Option<Span> {
        let (from, seconds) = (self.number()?, u32::from_be_bytes(self.octets()?));
        let is_repeated = match self.octets()? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        if u64::from(seconds) > DAY {
            return None;
        }
        let cells = self.count(most.min(MAX_PATHS))?;
        let cells = self.take(cells * Cell::OCTETS)?.as_chunks().0;
        let cell = |octets: &[u8; Cell::OCTETS]| Cell::from_octets(*octets);
        if !cells.iter().all(|octets| cell(octets).is_some()) {
            return None;
        }
        // All of it is kept for a day: not a byte more than it takes.
        let cells = cells.iter().map(|octets| cell(octets).unwrap_or(Cell::EMPTY)).collect();
        Some(Span { time: CellTime { from, seconds, is_repeated }, cells })
    }

    fn change(&mut self) -> Option<VerdictChange> {
        let (at, node, [word]) = (self.number()?, self.name()??, self.octets()?);
        let verdict = Word::from_octet(word)?.verdict;
        Some(VerdictChange { at, node, verdict, detail: detail(self.octets()?)? })
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn octets<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        self.octets().map(u64::from_be_bytes)
    }

    fn count(&mut self, most: usize) -> Option<usize> {
        let count = usize::from(u16::from_be_bytes(self.octets()?));
        (count <= most).then_some(count)
    }

    /// A name, or `Some(None)` for none.
    fn name(&mut self) -> Option<Option<NodeName>> {
        let [length] = self.octets()?;
        if length == 0 {
            return Some(None);
        }
        let text = std::str::from_utf8(self.take(length.into())?).ok()?;
        NodeName::new(text).ok().map(Some)
    }
}

/// Kind, and up to two numbers.
fn detail_octets(detail: Option<Detail>) -> [u8; DETAIL] {
    match detail {
        None => [0, 0, 0],
        Some(Detail::Largest(LargestPacket { bytes, is_exact })) => {
            let [high, low] = bytes.to_be_bytes();
            [if is_exact { 1 } else { 2 }, high, low]
        }
        Some(Detail::Flows(DeadFlows { dead, flows })) => [3, dead, flows],
        Some(Detail::Host(HostState::Answers)) => [4, 0, 0],
        Some(Detail::Host(HostState::Silent)) => [5, 0, 0],
    }
}

/// The detail of these octets; `None` if there is no such kind.
fn detail(octets: [u8; DETAIL]) -> Option<Option<Detail>> {
    let [kind, first, second] = octets;
    let detail = match kind {
        0 => return Some(None),
        1 | 2 => Detail::Largest(LargestPacket {
            bytes: u16::from_be_bytes([first, second]),
            is_exact: kind == 1,
        }),
        3 => Detail::Flows(DeadFlows { dead: first, flows: second }),
        4 => Detail::Host(HostState::Answers),
        5 => Detail::Host(HostState::Silent),
        _ => return None,
    };
    Some(Some(detail))
}

#[cfg(test)]
mod tests;
