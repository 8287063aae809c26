//! Collects a document of every peer: one thread polls many connections, and ends at one deadline. What the
//! documents make together is in `collect/`. One collection of a kind at a time; its result is cached for some
//! seconds.

mod cached;
mod day;
mod matrix;
mod past;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::detour::Detours;
use super::reads::{Read, Reads};
use crate::history::{Day, Recollection};
use crate::matrix::{Matrix, RowError};
use crate::name::NodeName;
use crate::probe::Priority;
use crate::prober::{self, Fetch, FetchError, FetchJob, Origin};
use crate::server::{Ask, CACHE_TIME};
use crate::state::{PeerRecord, Snapshot};
use cached::Cached;
use matrix::STALE_TIME;

/// For all documents together. One that has not arrived by then is shown as missing.
const DEADLINE: Duration = Duration::from_secs(2);
/// The same where a round trip takes long: readers wait no longer.
const MAX_DEADLINE: Duration = Duration::from_secs(5);
/// Round trips of one document: the handshake, the request, and the rest of one that is longer than ten segments.
const ROUND_TRIPS: u32 = 3;
/// For the work of the agents at both ends, beside the round trips.
const WORK: Duration = Duration::from_millis(500);
/// For a peer that is known to be down.
const DOWN_DEADLINE: Duration = Duration::from_millis(500);
/// For a document that another agent asks for, which does not wait longer: it has spent a part of its own deadline.
const THIRD_DEADLINE: Duration = Duration::from_secs(1);
/// Documents in flight at once. Each is a connection, and needs neither a thread nor a worker. A row takes
/// three round trips: at 200 ms each, this many fetch a hundred rows in time.
const MAX_IN_FLIGHT: usize = 32;
/// Maximum bytes of all documents of one collection: rows of some four hundred nodes.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// The status of an overloaded agent.
const UNAVAILABLE: u16 = 503;

/// Collects from the peers, and caches what came.
pub(super) struct Collector {
    node: NodeName,
    matrix: Cached<Matrix>,
    /// The last one, by the begin of its cell.
    past: Cached<Matrix>,
    day: Cached<Day>,
}

impl Collector {
    /// For the agent on this node.
    pub(super) fn new(node: NodeName) -> Self {
        let (matrix, past) = (Cached::default(), Cached::default());
        Self { node, matrix, past, day: Cached::default() }
    }

    /// The cached matrix, or a new one. During a collection, callers wait for its result. `None` when
    /// there is no snapshot.
    pub(super) fn matrix(
        &self,
        reads: &Reads,
        snapshot: &dyn Fn() -> Option<Arc<Snapshot>>,
    ) -> Option<Arc<Matrix>> {
        self.matrix
            .get(0, &mut |last| Some(matrix::collect(&self.node, &*snapshot()?, reads, last)))
    }

    /// The same of a past second.
    pub(super) fn past_matrix(
        &self,
        reads: &Reads,
        snapshot: &dyn Fn() -> Option<Arc<Snapshot>>,
        recollection: &Recollection,
        seconds: u64,
    ) -> Option<Arc<Matrix>> {
        self.past.get(past::key_of(recollection, seconds), &mut |last| {
            drop(last);
            Some(past::collect(&self.node, &*snapshot()?, reads, recollection, seconds))
        })
    }

    /// The last day of the mesh, in the same way.
    pub(super) fn day(
        &self,
        reads: &Reads,
        remembered: &dyn Fn() -> Option<(Arc<Snapshot>, Arc<Recollection>)>,
    ) -> Option<Arc<Day>> {
        self.day.get(0, &mut |last| {
            drop(last);
            let (snapshot, recollection) = remembered()?;
            Some(day::collect(&self.node, &snapshot, reads, &recollection))
        })
    }

    /// Drops what is too old.
    pub(super) fn expire(&self, now: Instant) {
        // Its rows stand in for others.
        self.matrix.expire(now, STALE_TIME);
        self.past.expire(now, CACHE_TIME);
        self.day.expire(now, CACHE_TIME);
    }
}

/// The document that `peer` sends.
pub(super) fn fetch(snapshot: &Snapshot, peer: &NodeName, ask: Ask) -> Result<Vec<u8>, RowError> {
    let record = snapshot.peers.iter().find(|record| record.peer.node == *peer);
    let mut fetch = request(record.ok_or(RowError::NoPeer)?, ask.path, ask.max_bytes);
    if ask.is_for_another {
        fetch.timeout = THIRD_DEADLINE;
    }
    prober::fetch(fetch).map_err(row_error)
}

/// The time that the slowest of these peers needs, within the bounds.
fn deadline<'a>(peers: impl IntoIterator<Item = &'a PeerRecord>) -> Duration {
    let slowest = peers.into_iter().filter_map(PeerRecord::expected_round_trip).max();
    (slowest.unwrap_or_default() * ROUND_TRIPS + WORK).clamp(DEADLINE, MAX_DEADLINE)
}

fn deadline_of_all(snapshot: &Snapshot) -> Duration {
    deadline(snapshot.peers.iter().map(AsRef::as_ref))
}

fn request(record: &PeerRecord, path: String, max_bytes: usize) -> Fetch {
    let is_down = record.up == Some(false) && !record.is_slower_than_timeout();
    Fetch {
        node: Some(record.peer.node.clone()),
        address: record.peer.address,
        path,
        timeout: if is_down { DOWN_DEADLINE } else { deadline([record]) },
        max_bytes,
    }
}

fn row_error(error: FetchError) -> RowError {
    match error {
        FetchError::Failure(reason) => RowError::Failure(reason),
        FetchError::TooLarge => RowError::TooLarge,
        FetchError::Local(_) | FetchError::Status(UNAVAILABLE) => RowError::Busy,
        FetchError::Status(_) => RowError::Unsupported,
    }
}

/// What the documents of all peers make together.
trait Collected {
    /// The path of a document at its own node; at another one, `/` and the node follow.
    fn path(&self) -> &str;
    /// Maximum bytes of one document.
    fn max_bytes(&self) -> usize;
    /// Whether there is room for another one.
    fn has_room(&self) -> bool;
    /// Reads and adds the document of `node`, which came from itself or `through` another one.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn read(
        &mut self,
        node: &NodeName,
        document: &[u8],
        through: Option<NodeName>,
    ) -> Result<(), RowError>;
    /// Adds why the document of `node` is missing.
    fn miss(&mut self, node: &NodeName, error: RowError);
    /// The peers that may reach `node`, each with its rank: the lowest is asked first.
    fn reaching(&self, node: &NodeName) -> Vec<(u8, &NodeName)>;
    /// Takes when the document of a node was made, after it.
    fn made(&mut self, _node: &NodeName, _origin: Origin) {}
}

/// Asks every peer, until `deadline` after `began`.
fn collect(
    what: &mut dyn Collected,
    own: &NodeName,
    snapshot: &Snapshot,
    reads: &Reads,
    deadline: Instant,
) {
    // Taken from the end: first the peers whose last probe succeeded, last those that are down.
    let rank = |record: &PeerRecord| match (record.up, record.priority()) {
        (Some(false), _) => 0,
        (_, Priority::Suspect) => 1,
        (_, Priority::Healthy) => 2,
    };
    let of_rank = |wanted| snapshot.peers.iter().filter(move |record| rank(record) == wanted);
    let waiting = (0..3).flat_map(of_rank).cloned().collect();
    let (reading, detours, bytes) = (Vec::new(), Detours::default(), 0);
    let mut collection =
        Collection { what, own, snapshot, reads, reading, waiting, detours, bytes };
    prober::fetch_all(&mut collection, MAX_IN_FLIGHT, deadline);
    collection.give_up(RowError::Busy);
}

/// A collection under way.
struct Collection<'a> {
    what: &'a mut dyn Collected,
    own: &'a NodeName,
    snapshot: &'a Snapshot,
    reads: &'a Reads,
    reading: Vec<Read<'a>>,
    waiting: Vec<Arc<PeerRecord>>,
    /// After them.
    detours: Detours,
    /// Bytes of the documents so far.
    bytes: usize,
}

impl Collection<'_> {
    fn has_room(&self) -> bool {
        self.bytes < MAX_BYTES && self.what.has_room()
    }

    /// Asks none of the peers that wait.
    fn give_up(&mut self, error: RowError) {
        for record in std::mem::take(&mut self.waiting) {
            self.what.miss(&record.peer.node, error);
        }
    }

    /// Reads a document, within the bound of all.
    fn read(
        &mut self,
        node: &NodeName,
        document: &[u8],
        through: Option<NodeName>,
    ) -> Result<(), RowError> {
        self.bytes = self.bytes.saturating_add(document.len());
        if !self.has_room() {
            return Err(RowError::TooLarge);
        }
        self.what.read(node, document, through)
    }

    /// The next request for a document that did not come from its own node.
    fn detour(&mut self) -> Option<Fetch> {
        while self.has_room() {
            let what = &*self.what;
            let (peer, node) = self.detours.next(self.own, &|node| what.reaching(node))?;
            let record = self.snapshot.peers.iter().find(|record| record.peer.node == peer)?;
            if let Some(read) = self.reads.begin(&peer) {
                self.reading.push(read);
                let path = format!("{}/{node}", what.path());
                return Some(request(record, path, what.max_bytes()));
            }
            self.detours.finished(&node, false);
        }
        None
    }

    /// The next request for a document to its own node. One that rests for a survey is asked for it through
    /// another.
    fn next_peer(&mut self) -> Option<Fetch> {
        while let Some(record) = self.waiting.pop() {
            let node = &record.peer.node;
            if let Some(read) = self.reads.begin(node) {
                self.reading.push(read);
                let path = self.what.path().to_owned();
                return Some(request(&record, path, self.what.max_bytes()));
            }
            self.detours.add(node, RowError::Surveyed);
            self.what.miss(node, RowError::Surveyed);
        }
        None
    }
}

impl FetchJob for Collection<'_> {
    fn next(&mut self) -> Option<Fetch> {
        if !self.has_room() {
            self.give_up(RowError::TooLarge);
        }
        self.next_peer().or_else(|| self.detour())
    }

    fn finished(&mut self, fetch: Fetch, result: Result<Vec<u8>, FetchError>) {
        let Some(peer) = fetch.node else { return };
        if let Some(at) = self.reading.iter().position(|read| read.is_of(&peer)) {
            self.reading.swap_remove(at);
        }
        let passed_on = fetch.path.strip_prefix(self.what.path());
        let passed_on = passed_on.and_then(|rest| rest.strip_prefix('/'));
        if let Some(node) = passed_on.and_then(|name| NodeName::new(name).ok()) {
            let found =
                result.ok().and_then(|document| self.read(&node, &document, Some(peer)).ok());
            self.detours.finished(&node, found.is_some());
            return;
        }
        let read = result.map_err(row_error).and_then(|document| self.read(&peer, &document, None));
        if let Err(error) = read {
            self.detours.add(&peer, error);
            self.what.miss(&peer, error);
        }
    }

    fn made(&mut self, node: &NodeName, origin: Origin) {
        self.what.made(node, origin);
    }
}

#[cfg(test)]
mod tests;
