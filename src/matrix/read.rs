//! Documents of other agents, from octets that nobody has checked to compact and valid values: strict
//! in what is known, blind to fields that are not. Pure.

use std::time::Duration;

use super::names::Names;
use super::reader::Reader;
use super::{Cell, Matrix, Missing, NONE, Row, SYNS_ONLY, VERSION, below_none, median};
use crate::name::NodeName;
use crate::probe::FailureReason;
use crate::state::{RECENT, Verdict};

/// Why a document cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// It is not what it should be.
    Malformed,
    /// Of another version of the format.
    Version,
    /// It is about another node.
    OtherNode,
}

impl From<ReadError> for Missing {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Malformed => Self::Failure(FailureReason::BadResponse),
            ReadError::OtherNode => Self::Failure(FailureReason::WrongPeer),
            ReadError::Version => Self::Unsupported,
        }
    }
}

/// Fills a place; `None` when it was filled before.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// A verdict, and the reason of one that needs it.
#[derive(Default)]
struct Judged<'a> {
    verdict: Option<&'a str>,
    reason: Option<Option<&'a str>>,
}

impl Judged<'_> {
    /// Each verdict is a known one, and what is down has its reason.
    fn check(&self) -> Option<Verdict> {
        let plain = [
            Verdict::Unknown,
            Verdict::Draining,
            Verdict::OneWay,
            Verdict::Lossy,
            Verdict::Mtu,
            Verdict::Up,
        ];
        let word = self.verdict?;
        match plain.into_iter().find(|verdict| verdict.as_str() == word) {
            Some(verdict) => Some(verdict),
            None if word == "down" => failure(self.reason??).map(Verdict::Down),
            None => None,
        }
    }
}

fn failure(word: &str) -> Option<FailureReason> {
    FailureReason::ALL.into_iter().find(|reason| reason.as_str() == word)
}

/// Seconds.
fn span(reader: &mut Reader<'_>) -> Option<Duration> {
    // To the microsecond, in which they are told.
    let nanoseconds = Duration::try_from_secs_f64(reader.number()?).ok()?.as_nanos();
    u64::try_from((nanoseconds + 500) / 1000).ok().map(Duration::from_micros)
}

/// Unix seconds, as milliseconds.
fn moment(reader: &mut Reader<'_>) -> Option<u64> {
    u64::try_from((span(reader)?.as_micros() + 500) / 1000).ok()
}

/// One cell, and the name that it has in a row of its own.
fn cell<'a>(reader: &mut Reader<'a>, row: u64) -> Option<(Option<&'a str>, Cell)> {
    let (mut node, mut judged) = (None, Judged::default());
    let (mut latency, mut at, mut incoming_syns_only) = (None, None, None);
    let [mut failures, mut retransmits, mut probes] = [None; 3];
    reader.object(&mut |reader, field| match field {
        "node" => once(&mut node, reader.text()?),
        "verdict" => once(&mut judged.verdict, reader.text()?),
        "reason" => once(&mut judged.reason, reader.optional(Reader::text)?),
        "latency_seconds" => once(&mut latency, reader.optional(span)?),
        "failures" => once(&mut failures, reader.count()?),
        "retransmits" => once(&mut retransmits, reader.count()?),
        "probes" => once(&mut probes, reader.count()?),
        "incoming_syns_only" => once(&mut incoming_syns_only, reader.optional(Reader::flag)?),
        "at" => once(&mut at, reader.optional(moment)?),
        _ => reader.any().map(drop),
    })?;
    let small = |count: u32, most: u8| u8::try_from(count).ok().filter(|count| *count <= most);
    let all = u8::try_from(RECENT).unwrap_or(u8::MAX);
    let probes = small(probes.unwrap_or(all.into()), all)?;
    let incoming_syns_only = if incoming_syns_only.flatten() == Some(true) { SYNS_ONLY } else { 0 };
    let cell = Cell {
        latency: latency.flatten().map_or(NONE, |time| below_none(time.as_micros())),
        age: at.flatten().map_or(NONE, |at| below_none(row.saturating_sub(at).into())),
        verdict: judged.check()?,
        failures: small(failures.unwrap_or(0), probes)?,
        retransmits: small(retransmits.unwrap_or(0), probes)?,
        probes: probes | incoming_syns_only,
    };
    Some((node, cell))
}

/// The head of every document: whose it is, and of when.
#[derive(Default)]
struct Head<'a> {
    version: Option<u32>,
    node: Option<&'a str>,
    at: Option<u64>,
}

impl<'a> Head<'a> {
    /// Reads the field, if it is one of the head.
    fn field(&mut self, reader: &mut Reader<'a>, field: &str) -> Option<()> {
        match field {
            "version" => once(&mut self.version, reader.count()?),
            "node" => once(&mut self.node, reader.text()?),
            "at" => once(&mut self.at, moment(reader)?),
            _ => reader.any().map(drop),
        }
    }

    /// Whose it is, and when it was taken.
    fn of(&self) -> Result<(&'a str, u64), ReadError> {
        match (self.version, self.node, self.at) {
            (Some(VERSION), Some(node), Some(at)) => Ok((node, at)),
            (Some(VERSION) | None, ..) => Err(ReadError::Malformed),
            (Some(_), ..) => Err(ReadError::Version),
        }
    }

    /// When it was taken, if it is of that node.
    fn check(&self, meant: &NodeName) -> Result<u64, ReadError> {
        let (node, at) = self.of()?;
        if node == meant.as_str() { Ok(at) } else { Err(ReadError::OtherNode) }
    }
}

/// The row of `peer`, from the document that it gave. No name of a document that is refused is kept.
pub(super) fn row(peer: &NodeName, document: &[u8], names: &mut Names) -> Result<Row, ReadError> {
    let known = names.len();
    let row = read_row(peer, document, names);
    if row.is_err() {
        names.forget(known);
    }
    row
}

fn read_row(peer: &NodeName, document: &[u8], names: &mut Names) -> Result<Row, ReadError> {
    let mut head = Head::default();
    let mut cells: Option<Vec<Option<Cell>>> = None;
    let mut reader = Reader::new(document);
    let read = reader.object(&mut |reader, field| {
        if field != "cells" {
            return head.field(reader, field);
        }
        // Ages are counted from it, so it comes first.
        let at = head.at?;
        let mut row = vec![None; names.len()];
        reader.array(&mut |reader| {
            let (name, cell) = cell(reader, at)?;
            put(&mut row, name.filter(|name| *name != peer.as_str())?, cell, names)
        })?;
        once(&mut cells, row)
    });
    let whole = read.and_then(|()| reader.end()).and(cells);
    // Another version may differ in anything else.
    let at = match head.check(peer) {
        Err(error @ ReadError::Version) => return Err(error),
        checked => checked.and_then(|at| Ok((at, whole.ok_or(ReadError::Malformed)?))),
    };
    at.map(|(at, cells)| Row { at, cells })
}

/// Puts a cell where the number of its name is. A name that finds no room is left out; one that stands
/// twice is an error.
fn put(row: &mut Vec<Option<Cell>>, name: &str, cell: Cell, names: &mut Names) -> Option<()> {
    let Some(number) = names.learn(name)? else { return Some(()) };
    if row.len() <= number {
        row.resize(number + 1, None);
    }
    once(row.get_mut(number)?, cell)
}

/// One peer of a row with all details, as far as a table shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerLine {
    /// Who it is.
    pub node: NodeName,
    /// What it amounts to.
    pub verdict: Verdict,
    /// The median of the successes among the last probes.
    pub latency: Option<Duration>,
    /// How many of the last probes failed.
    pub failures: usize,
    /// How many of the last probes there are.
    pub probes: usize,
    /// Segments of the last probes that were sent again.
    pub retransmits: u32,
    /// The kernel's round-trip time.
    pub rtt: Option<Duration>,
    /// The kernel's path MTU, in bytes.
    pub path_mtu: Option<u32>,
    /// When the last success was, in milliseconds since 1970.
    pub last_success: Option<u64>,
}

/// The last probes of one peer.
#[derive(Default)]
struct Recent {
    times: Vec<Duration>,
    failures: usize,
    retransmits: u32,
}

impl Recent {
    fn probe(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let (mut total, mut reason, mut retransmits) = (None, None, None);
        reader.object(&mut |reader, field| match field {
            "total_seconds" => once(&mut total, span(reader)?),
            "reason" => once(&mut reason, failure(reader.text()?)?),
            "retransmits" => once(&mut retransmits, reader.count()?),
            _ => reader.any().map(drop),
        })?;
        match (total, reason) {
            (Some(total), None) => self.times.push(total),
            (None, Some(_)) => self.failures += 1,
            _ => return None,
        }
        self.retransmits = self.retransmits.saturating_add(retransmits?);
        (self.times.len() + self.failures <= RECENT).then_some(())
    }
}

/// One peer with all details.
fn peer(reader: &mut Reader<'_>) -> Option<PeerLine> {
    let (mut node, mut judged, mut recent) = (None, Judged::default(), None);
    let (mut rtt, mut path_mtu, mut last_success) = (None, None, None);
    reader.object(&mut |reader, field| match field {
        "node" => once(&mut node, NodeName::new(reader.text()?).ok()?),
        "verdict" => once(&mut judged.verdict, reader.text()?),
        "reason" => once(&mut judged.reason, reader.optional(Reader::text)?),
        "rtt_seconds" => once(&mut rtt, reader.optional(span)?),
        "path_mtu_bytes" => once(&mut path_mtu, reader.optional(Reader::count)?),
        "last_success" => once(&mut last_success, reader.optional(moment)?),
        "recent" => {
            let mut probes = Recent::default();
            reader.array(&mut |reader| probes.probe(reader))?;
            once(&mut recent, probes)
        }
        _ => reader.any().map(drop),
    })?;
    let recent = recent?;
    Some(PeerLine {
        node: node?,
        verdict: judged.check()?,
        failures: recent.failures,
        probes: recent.failures + recent.times.len(),
        retransmits: recent.retransmits,
        latency: median(recent.times.into_iter()),
        rtt: rtt.flatten(),
        path_mtu: path_mtu.flatten(),
        last_success: last_success.flatten(),
    })
}

/// A node's row with all details, as far as a table shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Peers {
    /// Whose row it is.
    pub node: NodeName,
    /// When it was taken, in milliseconds since 1970.
    pub at: u64,
    /// One line a peer.
    pub lines: Vec<PeerLine>,
}

impl Peers {
    /// Reads `/api/v1/peers`.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn read(document: &[u8]) -> Result<Self, ReadError> {
        let (mut head, mut lines) = (Head::default(), Vec::new());
        let mut reader = Reader::new(document);
        let read = reader.object(&mut |reader, field| match field {
            "peers" => reader.array(&mut |reader| {
                lines.push(peer(reader)?);
                Some(())
            }),
            _ => head.field(reader, field),
        });
        let (node, at) = head.of()?;
        let whole = read.and_then(|()| reader.end()).and(NodeName::new(node).ok());
        Ok(Self { node: whole.ok_or(ReadError::Malformed)?, at, lines })
    }
}

/// Reads `/api/v1/cluster`.
pub(super) fn matrix(document: &[u8]) -> Result<Matrix, ReadError> {
    let mut head = Head::default();
    let (mut nodes, mut rows): (Vec<NodeName>, Vec<Result<Row, Missing>>) = Default::default();
    let mut spans = [Duration::ZERO; 2];
    let mut reader = Reader::new(document);
    let read = reader.object(&mut |reader, field| {
        match field {
            "took_seconds" => spans[0] = span(reader)?,
            "deadline_seconds" => spans[1] = span(reader)?,
            "nodes" => reader.array(&mut |reader| {
                nodes.push(NodeName::new(reader.text()?).ok()?);
                Some(())
            })?,
            "rows" => reader.array(&mut |reader| {
                rows.push(row_of_matrix(reader, nodes.get(rows.len())?)?);
                Some(())
            })?,
            _ => head.field(reader, field)?,
        }
        Some(())
    });
    let (node, at) = head.of()?;
    let node = read.and_then(|()| reader.end()).and(NodeName::new(node).ok());
    let node = node.filter(|_| rows.len() == nodes.len()).ok_or(ReadError::Malformed)?;
    let names = Names::all(nodes).ok_or(ReadError::Malformed)?;
    let [took, deadline] = spans;
    Ok(Matrix { node, at, took, deadline, names, rows, octets: 0, cells: 0 })
}

/// The row of `node`; its cells stand in the order of the names.
fn row_of_matrix(reader: &mut Reader<'_>, node: &NodeName) -> Option<Result<Row, Missing>> {
    let (mut named, mut at, mut error, mut cells) = (None, None, None, Vec::new());
    reader.object(&mut |reader, field| match field {
        "node" => once(&mut named, reader.text()?),
        "at" => once(&mut at, moment(reader)?),
        "error" => once(&mut error, Missing::of(reader.text()?)?),
        "cells" => reader.array(&mut |reader| {
            cells.push(reader.optional(|reader| cell(reader, at?).map(|(_, cell)| cell))?);
            Some(())
        }),
        _ => reader.any().map(drop),
    })?;
    let row = match error {
        Some(error) => Err(error),
        None => Ok(Row { at: at?, cells }),
    };
    (named? == node.as_str()).then_some(row)
}

/// What `source` says of `target`: when, in milliseconds since 1970, and the JSON of that peer, in
/// which all is of the type that it must be as far as we know it.
///
/// # Errors
/// When it is anything else.
pub fn peer_of<'a>(
    source: &NodeName,
    target: &NodeName,
    document: &'a [u8],
) -> Result<(u64, &'a str), ReadError> {
    let (mut head, mut value) = (Head::default(), None);
    let mut reader = Reader::new(document);
    let read = reader.object(&mut |reader, field| match field {
        "peer" => once(&mut value, reader.any()?),
        _ => head.field(reader, field),
    });
    let at = head.check(source)?;
    let value = read.and_then(|()| reader.end()).and(value).ok_or(ReadError::Malformed)?;
    let line = peer(&mut Reader::new(value.as_bytes())).ok_or(ReadError::Malformed)?;
    if line.node == *target { Ok((at, value)) } else { Err(ReadError::OtherNode) }
}
