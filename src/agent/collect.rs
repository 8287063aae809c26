//! Collects the rows of all peers for the matrix: one collection at a time, cached for some seconds.
//! Rows of the last one stand in for those that peers are too busy to send.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::detour::Detours;
use super::reads::{Read, Reads};
use crate::document::{MAX_ROW, read_row};
use crate::matrix::{ClockOffset, Matrix, NamedRow, RowError, unix_millis};
use crate::name::NodeName;
use crate::probe::Priority;
use crate::prober::{self, Fetch, FetchError, FetchJob, Origin};
use crate::server::CACHE_TIME;
use crate::state::{PeerRecord, Snapshot};
use crate::wire;

/// For all rows together. A row that has not arrived by then is shown as missing.
const DEADLINE: Duration = Duration::from_secs(2);
/// The same where a round trip takes long: readers wait no longer.
const MAX_DEADLINE: Duration = Duration::from_secs(5);
/// Round trips of one row: the handshake, the request, and the rest of a row that is longer than ten segments.
const ROUND_TRIPS: u32 = 3;
/// For the work of the agents at both ends, beside the round trips.
const WORK: Duration = Duration::from_millis(500);
/// For a peer that is known to be down.
const DOWN_DEADLINE: Duration = Duration::from_millis(500);
/// For a row that another agent asks for, which does not wait longer: it has spent a part of its own deadline.
const THIRD_DEADLINE: Duration = Duration::from_secs(1);
/// Rows in flight at once. Each is a connection, and needs neither a thread nor a worker. A row takes
/// three round trips: at 200 ms each, this many fetch a hundred rows in time.
const MAX_IN_FLIGHT: usize = 32;
/// Longest age of a row that stands in for one that is not sent: it bridges two refreshes of the page.
const STALE_TIME: Duration = Duration::from_secs(30);
/// The same while its node rests for a survey.
const LONGEST_REST: Duration = Duration::from_secs(720);
/// Maximum bytes of all rows of one matrix: some four hundred nodes.
const MAX_ROWS: usize = 16 * 1024 * 1024;
/// Maximum bytes of one peer with all details: 253 for each name, and 20 probes.
const MAX_PEER: usize = 16 * 1024;
/// The status of an unknown route or peer.
const NOT_FOUND: u16 = 404;
/// The status of an overloaded agent.
const UNAVAILABLE: u16 = 503;

/// Collects the matrix and caches it.
pub(super) struct Collector {
    node: NodeName,
    cache: Mutex<Cache>,
    /// A collection has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Cache {
    collecting: bool,
    /// The last matrix, and when it was finished.
    matrix: Option<(Instant, Arc<Matrix>)>,
}

impl Cache {
    /// The last matrix, while it is new enough to serve.
    fn matrix(&self, now: Instant) -> Option<Arc<Matrix>> {
        let new = |(at, _): &&(Instant, _)| now.saturating_duration_since(*at) < CACHE_TIME;
        self.matrix.as_ref().filter(new).map(|(_, matrix)| Arc::clone(matrix))
    }

    fn expire(&mut self, now: Instant) {
        self.matrix.take_if(|(at, _)| now.saturating_duration_since(*at) >= STALE_TIME);
    }
}

impl Collector {
    /// For the agent on this node.
    pub(super) fn new(node: NodeName) -> Self {
        Self { node, cache: Mutex::default(), ended: Condvar::new() }
    }

    /// The cached matrix, or a new one. During a collection, callers wait for its result. `None` when
    /// there is no snapshot.
    pub(super) fn matrix(
        &self,
        reads: &Reads,
        snapshot: impl FnOnce() -> Option<Arc<Snapshot>>,
    ) -> Option<Arc<Matrix>> {
        let mut cache = self.lock();
        let mut waited = false;
        while cache.collecting {
            waited = true;
            cache = self.ended.wait(cache).unwrap_or_else(PoisonError::into_inner);
        }
        let matrix = cache.matrix(Instant::now());
        // Waiters get the leader's result, also where it has none.
        if matrix.is_some() || waited {
            return matrix;
        }
        cache.collecting = true;
        let last = cache.matrix.take().and_then(Last::new);
        drop(cache);
        let matrix =
            snapshot().map(|snapshot| Arc::new(collect(&self.node, &snapshot, reads, last)));
        let mut cache = self.lock();
        cache.collecting = false;
        cache.matrix = matrix.clone().map(|matrix| (Instant::now(), matrix));
        drop(cache);
        self.ended.notify_all();
        matrix
    }

    /// Drops a matrix whose rows are too old.
    pub(super) fn expire(&self, now: Instant) {
        self.lock().expire(now);
    }

    // A poisoned lock is usable: the cache is consistent after every statement.
    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The document that `source` sends of its peer `target`; `None` when either does not exist.
pub(super) fn fetch_peer(
    snapshot: &Snapshot,
    source: &NodeName,
    target: &NodeName,
) -> Option<Result<Vec<u8>, RowError>> {
    let record = snapshot.peers.iter().find(|record| record.peer.node == *source)?;
    match prober::fetch(request(record, format!("{}{target}", wire::PEER_PATH), MAX_PEER)) {
        Err(FetchError::Status(NOT_FOUND)) => None,
        fetched => Some(fetched.map_err(row_error)),
    }
}

/// The row that `peer` sends for another agent that does not reach it; `None` if it does not exist.
pub(super) fn fetch_row(snapshot: &Snapshot, peer: &NodeName) -> Option<Result<Vec<u8>, RowError>> {
    let record = snapshot.peers.iter().find(|record| record.peer.node == *peer)?;
    let fetch =
        Fetch { timeout: THIRD_DEADLINE, ..request(record, wire::ROW_PATH.to_owned(), MAX_ROW) };
    Some(prober::fetch(fetch).map_err(row_error))
}

/// The time that the slowest of these peers needs, within the bounds.
fn deadline<'a>(peers: impl IntoIterator<Item = &'a PeerRecord>) -> Duration {
    let slowest = peers.into_iter().filter_map(PeerRecord::expected_round_trip).max();
    (slowest.unwrap_or_default() * ROUND_TRIPS + WORK).clamp(DEADLINE, MAX_DEADLINE)
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

/// The last matrix, and when it was finished.
struct Last {
    at: Instant,
    matrix: Matrix,
}

impl Last {
    /// `None` while the matrix is still being sent: two would take too much memory.
    fn new((at, matrix): (Instant, Arc<Matrix>)) -> Option<Self> {
        Some(Self { at, matrix: Arc::into_inner(matrix)? })
    }

    /// Takes the row of a peer, unless it is too old.
    fn take_row(&mut self, peer: &NodeName, now: Instant, stale: Duration) -> Option<NamedRow> {
        let mut row = self.matrix.take_row(peer).map(|row| self.matrix.with_names(&row))?;
        let since = now.saturating_duration_since(self.at).as_millis();
        row.age = row.age.saturating_add(u64::try_from(since).unwrap_or(u64::MAX));
        (Duration::from_millis(row.age) < stale).then_some(row)
    }
}

fn collect(own: &NodeName, snapshot: &Snapshot, reads: &Reads, last: Option<Last>) -> Matrix {
    let began = Instant::now();
    // Taken from the end: first the peers whose last probe succeeded, last those that are down.
    let rank = |record: &PeerRecord| match (record.up, record.priority()) {
        (Some(false), _) => 0,
        (_, Priority::Suspect) => 1,
        (_, Priority::Healthy) => 2,
    };
    let of_rank = |wanted| snapshot.peers.iter().filter(move |record| rank(record) == wanted);
    let waiting = (0..3).flat_map(of_rank).cloned().collect();
    let deadline = deadline(snapshot.peers.iter().map(AsRef::as_ref));
    let matrix = Matrix::new(own, snapshot, deadline);
    let detours = Detours::default();
    let (reading, bytes) = (Vec::new(), 0);
    let mut collection =
        Collection { snapshot, reads, reading, waiting, detours, matrix, bytes, last };
    prober::fetch_all(&mut collection, MAX_IN_FLIGHT, began + deadline);
    for record in std::mem::take(&mut collection.waiting) {
        collection.add(&record.peer.node, Err(RowError::Busy));
    }
    collection.matrix.finish(began.elapsed())
}

/// A collection under way.
struct Collection<'a> {
    snapshot: &'a Snapshot,
    reads: &'a Reads,
    reading: Vec<Read<'a>>,
    waiting: Vec<Arc<PeerRecord>>,
    /// After them.
    detours: Detours,
    matrix: Matrix,
    /// Bytes of the rows so far.
    bytes: usize,
    /// Its rows go as new ones come, so that both together take little more than one.
    last: Option<Last>,
}

impl Collection<'_> {
    fn has_room(&self) -> bool {
        self.bytes < MAX_ROWS && self.matrix.has_room()
    }

    /// Adds a row, or the last one of a peer that sends none.
    fn add(&mut self, peer: &NodeName, row: Result<NamedRow, RowError>) {
        let last = match (&mut self.last, &row) {
            (Some(last), Err(RowError::Busy)) => last.take_row(peer, Instant::now(), STALE_TIME),
            (Some(last), Err(RowError::Surveyed)) => {
                last.take_row(peer, Instant::now(), LONGEST_REST)
            }
            (Some(last), _) => {
                drop(last.matrix.take_row(peer));
                None
            }
            (None, _) => None,
        };
        self.matrix.add(peer, last.map_or(row, Ok));
    }

    /// The row of `node` in a document, within the bound of all rows.
    fn read(&mut self, node: &NodeName, document: &[u8]) -> Result<NamedRow, RowError> {
        self.bytes = self.bytes.saturating_add(document.len());
        if !self.has_room() {
            return Err(RowError::TooLarge);
        }
        Ok(read_row(node, document)?)
    }

    /// The next request for a row that did not come from its own node.
    fn detour(&mut self) -> Option<Fetch> {
        while self.has_room() {
            let (peer, node) = self.detours.next(&self.matrix)?;
            let record = self.snapshot.peers.iter().find(|record| record.peer.node == peer)?;
            if let Some(read) = self.reads.begin(&peer) {
                self.reading.push(read);
                return Some(request(record, format!("{}{node}", wire::ROW_OF_PATH), MAX_ROW));
            }
            self.detours.finished(&node, false);
        }
        None
    }

    /// The next request for a row to its own node. One that rests for a survey is asked for it through another.
    fn row(&mut self) -> Option<Fetch> {
        while let Some(record) = self.waiting.pop() {
            let node = &record.peer.node;
            if let Some(read) = self.reads.begin(node) {
                self.reading.push(read);
                return Some(request(&record, wire::ROW_PATH.to_owned(), MAX_ROW));
            }
            self.detours.add(node, RowError::Surveyed);
            self.add(node, Err(RowError::Surveyed));
        }
        None
    }
}

impl FetchJob for Collection<'_> {
    fn next(&mut self) -> Option<Fetch> {
        if !self.has_room() {
            for record in self.waiting.drain(..) {
                self.matrix.add(&record.peer.node, Err(RowError::TooLarge));
            }
        }
        self.row().or_else(|| self.detour())
    }

    fn finished(&mut self, fetch: Fetch, result: Result<Vec<u8>, FetchError>) {
        let Some(peer) = fetch.node else { return };
        if let Some(at) = self.reading.iter().position(|read| read.is_of(&peer)) {
            self.reading.swap_remove(at);
        }
        let passed_on = fetch.path.strip_prefix(wire::ROW_OF_PATH);
        if let Some(node) = passed_on.and_then(|name| NodeName::new(name).ok()) {
            let row = result.ok().and_then(|document| self.read(&node, &document).ok());
            self.detours.finished(&node, row.is_some());
            if let Some(row) = row {
                self.matrix.add(&node, Ok(NamedRow { through: Some(peer), ..row }));
            }
            return;
        }
        let row = result.map_err(row_error).and_then(|document| self.read(&peer, &document));
        if let Err(error) = row {
            self.detours.add(&peer, error);
        }
        self.add(&peer, row);
    }

    fn made(&mut self, node: &NodeName, origin: Origin) {
        let Origin { age, arrival, took } = origin;
        self.matrix.set_clock(node, |at| {
            ClockOffset::of(at.saturating_add(age), unix_millis(arrival), took)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::peer::PodCounts;
    use crate::state::Moment;

    fn snapshot() -> Option<Arc<Snapshot>> {
        Some(Arc::new(Snapshot {
            taken: Moment::now(),
            bounds: [1.0].into(),
            interval: Duration::from_secs(10),
            peers: Vec::new(),
            pods: PodCounts::default(),
            incoming_unknown: 0,
        }))
    }

    fn collector() -> Collector {
        Collector::new(NodeName::new("n1").unwrap())
    }

    #[test]
    fn a_matrix_is_cached_until_it_expires() {
        let collector = collector();
        let first = collector.matrix(&Reads::default(), snapshot).unwrap();
        let again = collector.matrix(&Reads::default(), || panic!("cached")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let weak = Arc::downgrade(&first);
        drop((first, again));
        let now = Instant::now();
        collector.expire(now + CACHE_TIME);
        assert!(collector.lock().matrix(now).is_some());
        assert!(collector.lock().matrix(now + CACHE_TIME).is_none(), "kept for its rows only");
        assert!(weak.upgrade().is_some());
        collector.expire(now + STALE_TIME);
        assert!(weak.upgrade().is_none(), "freed");
        assert!(collector.matrix(&Reads::default(), snapshot).is_some());
    }

    #[test]
    fn the_last_row_of_a_busy_peer_stands_in_for_30_seconds() {
        use crate::matrix::{Cell, CellFacts, Row};
        use crate::state::Verdict;
        let names = ["n1", "n2"].map(|text| NodeName::new(text).unwrap());
        let peer = names[1].clone();
        let cell = Some(Cell::new(CellFacts::of(Verdict::Up)));
        let matrix = || {
            let rows = [vec![None, cell], vec![cell, None]];
            let rows = rows.map(|cells| Ok(Row::new(7, 0, cells))).into();
            let times = [Duration::ZERO; 2];
            Matrix::from_parts(names[0].clone(), (8, None), times, names.to_vec(), rows, None)
                .unwrap()
        };
        let now = Instant::now();
        for (seconds, stands_in) in [(6, true), (29, true), (30, false)] {
            let mut last = Last { at: now, matrix: matrix() };
            let row = last.take_row(&peer, now + Duration::from_secs(seconds), STALE_TIME);
            let found = row.map(|row| (row.at, row.age, row.cells.len()));
            let age = Duration::from_millis(found.map_or(0, |(_, age, _)| age));
            assert!(age.as_secs_f64() <= wylis_harness::bounds::worst_case("STALE_TIME"));
            assert_eq!(found, stands_in.then_some((7, seconds * 1000, 1)), "{seconds}");
            assert!(last.take_row(&peer, now, STALE_TIME).is_none(), "taken");
        }
        // Its age adds up over collections.
        let mut last = Last { at: now, matrix: matrix() };
        let row = last.take_row(&peer, now + STALE_TIME / 2, STALE_TIME).unwrap();
        let mut again = matrix();
        again.add(&peer, Ok(row));
        let mut last = Last { at: now + STALE_TIME / 2, matrix: again };
        assert!(last.take_row(&peer, now + STALE_TIME, STALE_TIME).is_none(), "too old in total");
        for (result, shown) in [
            (Err(RowError::Busy), Ok(())),
            (Err(RowError::Unsupported), Err(RowError::Unsupported)),
        ] {
            let last = Some(Last { at: now, matrix: matrix() });
            let (snapshot, waiting, detours) =
                (&snapshot().unwrap(), Vec::new(), Detours::default());
            let (reads, reading) = (&Reads::default(), Vec::new());
            let matrix = matrix();
            let mut collection =
                Collection { snapshot, reads, reading, waiting, detours, matrix, bytes: 0, last };
            collection.add(&peer, result);
            let (_, row) = collection.matrix.rows().find(|(name, _)| **name == peer).unwrap();
            assert_eq!(row.map(|_| ()), shown);
            assert!(collection.last.unwrap().matrix.take_row(&peer).is_none(), "memory is freed");
        }
    }

    #[test]
    fn the_deadline_allows_for_three_round_trips_of_the_slowest_peer() {
        for (millis, expected) in [(20, 2000), (500, 2000), (1200, 4100), (2200, 5000)] {
            let rtt = Duration::from_millis(millis);
            let mut snapshot = Arc::into_inner(snapshot().unwrap()).unwrap();
            snapshot.peers = crate::state::tests::peers_at([Duration::from_millis(1), rtt]);
            let peers = snapshot.peers.iter().map(AsRef::as_ref);
            assert_eq!(deadline(peers), Duration::from_millis(expected), "{millis} ms");
        }
        assert_eq!(deadline(&[]), DEADLINE);
    }

    #[test]
    fn callers_during_a_collection_get_its_result() {
        for succeeds in [true, false] {
            let [leaders, late] = [AtomicUsize::new(0), AtomicUsize::new(0)];
            let (collector, late) = (&collector(), &late);
            let began = std::sync::Barrier::new(2);
            let leader = || {
                leaders.fetch_add(1, Ordering::Relaxed);
                began.wait();
                // Long enough for the others to arrive; a later one finds the matrix cached.
                std::thread::sleep(Duration::from_millis(50));
                snapshot().filter(|_| succeeds)
            };
            let results = std::thread::scope(|scope| {
                let leader = scope.spawn(|| collector.matrix(&Reads::default(), leader));
                began.wait();
                let waiter = move || {
                    // Only after a leader without a result.
                    late.fetch_add(1, Ordering::Relaxed);
                    None
                };
                let waiters: Vec<_> = (0..8)
                    .map(|_| scope.spawn(move || collector.matrix(&Reads::default(), waiter)))
                    .collect();
                let waiters = waiters.into_iter().map(|waiter| waiter.join().unwrap());
                waiters.chain([leader.join().unwrap()]).collect::<Vec<_>>()
            });
            assert_eq!(leaders.load(Ordering::Relaxed), 1);
            assert!(!succeeds || late.load(Ordering::Relaxed) == 0, "one collection");
            assert!(results.iter().all(|matrix| matrix.is_some() == succeeds), "{succeeds}");
        }
    }

    #[test]
    fn rows_beyond_the_bound_of_bytes_are_too_large() {
        use crate::probe::FailureReason;
        for (bytes, error) in
            [(0, RowError::Failure(FailureReason::BadResponse)), (MAX_ROWS - 1, RowError::TooLarge)]
        {
            let (node, snapshot) = (NodeName::new("n1").unwrap(), snapshot().unwrap());
            let matrix = Matrix::new(&node, &snapshot, DEADLINE);
            let (waiting, detours, snapshot) = (Vec::new(), Detours::default(), &*snapshot);
            let (reads, reading, last) = (&Reads::default(), Vec::new(), None);
            let mut collection =
                Collection { snapshot, reads, reading, waiting, detours, matrix, bytes, last };
            let address = "127.0.0.1:9050".parse().unwrap();
            let (path, timeout) = (wire::ROW_PATH.to_owned(), DEADLINE);
            let fetch = Fetch { node: Some(node), address, path, timeout, max_bytes: MAX_ROW };
            collection.finished(fetch, Ok(b"no row".to_vec()));
            assert_eq!(collection.matrix.rows().next().unwrap().1, Err(error), "{bytes}");
        }
    }

    #[test]
    fn every_fetch_error_has_its_row_error() {
        use crate::probe::{FailureReason, LocalError};
        for (error, text) in [
            (FetchError::Failure(FailureReason::ConnectTimeout), "connect_timeout"),
            (FetchError::Local(LocalError::NoDescriptors), "busy"),
            (FetchError::Local(LocalError::Late), "busy"),
            (FetchError::TooLarge, "too_large"),
            (FetchError::Status(404), "unsupported"),
            (FetchError::Status(405), "unsupported"),
            (FetchError::Status(503), "busy"),
        ] {
            assert_eq!(row_error(error).as_str(), text, "{error:?}");
        }
    }
}
