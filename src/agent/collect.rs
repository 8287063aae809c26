//! Collects the rows of all peers for whoever wants the matrix: one collection at a time, kept for
//! some seconds, forgotten when nobody asks.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::matrix::{self, MAX_ROW, Matrix, Missing, pair_json};
use crate::name::NodeName;
use crate::probe::Priority;
use crate::prober::{self, Fetch, FetchError, FetchJob};
use crate::state::{PeerRecord, Snapshot};
use crate::wire;

/// For all rows together. What has not come by then is shown as missing.
const DEADLINE: Duration = Duration::from_secs(2);
/// For a peer that is known to be down: it is not waited for as long as the others.
const DOWN_WITHIN: Duration = Duration::from_millis(500);
/// Rows under way at once. Each is a connection, and costs neither a thread nor a worker: with a
/// round trip of 200 ms, which a row needs three times, so many fetch a hundred rows in time.
const AT_ONCE: usize = 32;
/// How long a matrix is given to whoever asks.
const KEPT: Duration = Duration::from_secs(5);
/// Octets of one peer with all details: 253 for each name, and 20 probes.
const MAX_PEER: usize = 16 * 1024;
/// The status of a route, or of a peer, that the other side does not know.
const NOT_FOUND: u16 = 404;
/// The status of an agent that has no time for it.
const UNAVAILABLE: u16 = 503;

/// Collects, keeps and forgets.
pub(super) struct Collector {
    own: NodeName,
    slot: Mutex<Slot>,
    /// A collection has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Slot {
    collecting: bool,
    /// The last matrix, and when it was finished.
    kept: Option<(Instant, Arc<Matrix>)>,
}

impl Slot {
    fn forget(&mut self, now: Instant) {
        self.kept.take_if(|(at, _)| now.saturating_duration_since(*at) >= KEPT);
    }
}

impl Collector {
    /// For the agent on this node.
    pub(super) fn new(own: NodeName) -> Self {
        Self { own, slot: Mutex::default(), ended: Condvar::new() }
    }

    /// The matrix that is kept, or a new one; whoever asks during a collection gets what it brings.
    /// `None` when the agent does not answer.
    pub(super) fn matrix(
        &self,
        snapshot: impl FnOnce() -> Option<Arc<Snapshot>>,
    ) -> Option<Arc<Matrix>> {
        let mut slot = self.lock();
        let mut waited = false;
        while slot.collecting {
            waited = true;
            slot = self.ended.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        slot.forget(Instant::now());
        // Whoever waited shares the fate of the one who collected.
        if slot.kept.is_some() || waited {
            return slot.kept.as_ref().map(|(_, matrix)| Arc::clone(matrix));
        }
        slot.collecting = true;
        drop(slot);
        let matrix = snapshot().map(|snapshot| Arc::new(collect(&self.own, &snapshot)));
        let mut slot = self.lock();
        slot.collecting = false;
        slot.kept = matrix.clone().map(|matrix| (Instant::now(), matrix));
        drop(slot);
        self.ended.notify_all();
        matrix
    }

    /// Forgets a matrix that is too old to be given away.
    pub(super) fn forget(&self, now: Instant) {
        self.lock().forget(now);
    }

    /// What `source` says of `target`; `own` when we are the source. `None` when either is unknown.
    pub(super) fn pair(
        &self,
        source: &NodeName,
        target: &NodeName,
        snapshot: &Snapshot,
        own: Option<Option<Vec<u8>>>,
    ) -> Option<Vec<u8>> {
        let document = match own {
            Some(own) => own?,
            None => {
                let of_source = |record: &&Arc<PeerRecord>| record.peer.node == *source;
                let record = snapshot.peers.iter().find(of_source)?;
                match prober::fetch(wanted(record, target)) {
                    Err(FetchError::Status(NOT_FOUND)) => return None,
                    Err(fault) => return Some(pair_json(source, target, Err(missing(fault)))),
                    Ok(document) => document,
                }
            }
        };
        let read = matrix::peer_of(source, target, &document).map_err(Missing::from);
        Some(pair_json(source, target, read))
    }

    // What the lock guards is whole after every statement.
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wanted(record: &PeerRecord, target: &NodeName) -> Fetch {
    Fetch {
        node: Some(record.peer.node.clone()),
        address: record.peer.address,
        path: format!("{}{target}", wire::PEER_PATH),
        timeout: patience(record),
        max_bytes: MAX_PEER,
    }
}

/// Who is down gets a chance, and holds nobody up.
fn patience(record: &PeerRecord) -> Duration {
    if record.up == Some(false) { DOWN_WITHIN } else { DEADLINE }
}

fn missing(fault: FetchError) -> Missing {
    match fault {
        FetchError::Failure(reason) => Missing::Failure(reason),
        FetchError::TooLarge => Missing::TooLarge,
        FetchError::Local(_) | FetchError::Status(UNAVAILABLE) => Missing::Busy,
        FetchError::Status(_) => Missing::Unsupported,
    }
}

fn collect(own: &NodeName, snapshot: &Snapshot) -> Matrix {
    let began = Instant::now();
    // The last is asked first: those that answered their last probe, and last those that are down.
    let rank = |record: &PeerRecord| match (record.up, record.priority()) {
        (Some(false), _) => 0,
        (_, Priority::Suspect) => 1,
        (_, Priority::Healthy) => 2,
    };
    let of_rank = |wanted| snapshot.peers.iter().filter(move |record| rank(record) == wanted);
    let waiting = (0..3).flat_map(of_rank).cloned().collect();
    let mut job = Rows { waiting, matrix: Matrix::new(own, snapshot, DEADLINE) };
    prober::fetch_all(&mut job, AT_ONCE, began + DEADLINE);
    job.matrix.finish(began.elapsed())
}

/// The rows of all peers.
struct Rows {
    waiting: Vec<Arc<PeerRecord>>,
    matrix: Matrix,
}

impl FetchJob for Rows {
    fn next(&mut self) -> Option<Fetch> {
        if !self.matrix.has_room() {
            for record in self.waiting.drain(..) {
                self.matrix.miss(&record.peer.node, Missing::TooLarge);
            }
        }
        let record = self.waiting.pop()?;
        Some(Fetch {
            node: Some(record.peer.node.clone()),
            address: record.peer.address,
            path: wire::ROW_PATH.to_owned(),
            timeout: patience(&record),
            max_bytes: MAX_ROW,
        })
    }

    fn finished(&mut self, fetch: Fetch, result: Result<Vec<u8>, FetchError>) {
        let Some(peer) = fetch.node else { return };
        match result {
            Ok(document) => self.matrix.take(&peer, &document),
            Err(fault) => self.matrix.miss(&peer, missing(fault)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::peer::PodCounts;
    use crate::state::Moment;

    fn alone() -> Option<Arc<Snapshot>> {
        Some(Arc::new(Snapshot {
            taken: Moment::now(),
            bounds: [1.0].into(),
            peers: Vec::new(),
            pods: PodCounts::default(),
            incoming_unknown: 0,
        }))
    }

    fn collector() -> Collector {
        Collector::new(NodeName::new("n1").unwrap())
    }

    #[test]
    fn a_matrix_is_kept_for_a_while_and_then_forgotten() {
        let collector = collector();
        let first = collector.matrix(alone).unwrap();
        let again = collector.matrix(|| panic!("it is kept")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let left = Arc::downgrade(&first);
        drop((first, again));
        let now = Instant::now();
        collector.forget(now);
        assert!(left.upgrade().is_some());
        collector.forget(now + KEPT);
        assert!(left.upgrade().is_none(), "nothing stays");
        assert!(collector.matrix(alone).is_some());
    }

    #[test]
    fn whoever_asks_meanwhile_gets_what_the_first_one_gets() {
        for gives in [true, false] {
            let [asked, late] = [AtomicUsize::new(0), AtomicUsize::new(0)];
            let (collector, late) = (&collector(), &late);
            let began = std::sync::Barrier::new(2);
            let first = || {
                asked.fetch_add(1, Ordering::Relaxed);
                began.wait();
                // Long enough for the others to come; whoever comes later finds it kept.
                std::thread::sleep(Duration::from_millis(50));
                alone().filter(|_| gives)
            };
            let had = std::thread::scope(|scope| {
                let first = scope.spawn(|| collector.matrix(first));
                began.wait();
                let other = move || {
                    // Only where the first brought nothing, and after it.
                    late.fetch_add(1, Ordering::Relaxed);
                    None
                };
                let others: Vec<_> =
                    (0..8).map(|_| scope.spawn(move || collector.matrix(other))).collect();
                let others = others.into_iter().map(|other| other.join().unwrap());
                others.chain([first.join().unwrap()]).collect::<Vec<_>>()
            });
            assert_eq!(asked.load(Ordering::Relaxed), 1);
            assert!(!gives || late.load(Ordering::Relaxed) == 0, "one collection");
            assert!(had.iter().all(|matrix| matrix.is_some() == gives), "{gives}");
        }
    }

    #[test]
    fn every_fault_has_its_word() {
        use crate::probe::{FailureReason, LocalError};
        for (fault, word) in [
            (FetchError::Failure(FailureReason::ConnectTimeout), "connect_timeout"),
            (FetchError::Local(LocalError::NoDescriptors), "busy"),
            (FetchError::Local(LocalError::Late), "busy"),
            (FetchError::TooLarge, "too_large"),
            (FetchError::Status(404), "unsupported"),
            (FetchError::Status(405), "unsupported"),
            (FetchError::Status(503), "busy"),
        ] {
            assert_eq!(missing(fault).as_str(), word, "{fault:?}");
        }
    }
}
