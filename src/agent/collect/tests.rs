use super::*;
use crate::history::{Cell, CellTime, Span, Summary, Word};
use crate::peer::PodCounts;
use crate::probe::FailureReason;
use crate::state::{Moment, Verdict};
use crate::wire;

pub(super) fn snapshot() -> Option<Arc<Snapshot>> {
    Some(Arc::new(Snapshot {
        taken: Moment::now(),
        bounds: [1.0].into(),
        interval: Duration::from_secs(10),
        peers: Vec::new(),
        pods: PodCounts::default(),
        incoming_unknown: 0,
    }))
}

pub(super) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

pub(super) fn with_two_peers() -> (Snapshot, [NodeName; 2]) {
    let mut snapshot = Arc::into_inner(snapshot().unwrap()).unwrap();
    snapshot.peers = crate::state::tests::peers_at([Duration::from_millis(1); 2]);
    let names = ["one", "two"].map(name);
    for (record, name) in snapshot.peers.iter_mut().zip(&names) {
        Arc::get_mut(record).unwrap().peer.node = name.clone();
    }
    (snapshot, names)
}

/// What an agent remembers of these nodes: that each was up, in one cell.
pub(super) fn remembering(nodes: &[&str], from: u64, seconds: u32) -> Recollection {
    let summary = Summary {
        word: Word::of(Verdict::Up),
        probes: 3,
        failures: 0,
        retransmits: 0,
        median: None,
        worst: None,
    };
    let time = CellTime { from, seconds, is_repeated: false };
    let cells = nodes.iter().map(|_| Cell::new(summary)).collect();
    Recollection {
        taken: Moment::now(),
        names: Arc::new(nodes.iter().map(|node| Some(name(node))).collect()),
        spans: vec![Span { time, cells }],
        changes: Vec::new(),
    }
}

/// What came of each node, and through which other one; every document is malformed but that of `good`.
#[derive(Default)]
struct Notes {
    good: Vec<NodeName>,
    came: Vec<(NodeName, Option<NodeName>)>,
    missing: Vec<(NodeName, RowError)>,
}

impl Collected for Notes {
    fn path(&self) -> &str {
        "/api/v1/past/row/17"
    }
    fn max_bytes(&self) -> usize {
        1000
    }
    fn has_room(&self) -> bool {
        true
    }
    fn read(
        &mut self,
        node: &NodeName,
        document: &[u8],
        through: Option<NodeName>,
    ) -> Result<(), RowError> {
        if document != b"good" {
            return Err(RowError::Failure(FailureReason::BadResponse));
        }
        self.came.push((node.clone(), through));
        Ok(())
    }
    fn miss(&mut self, node: &NodeName, error: RowError) {
        self.missing.push((node.clone(), error));
    }
    fn reaching(&self, _: &NodeName) -> Vec<(u8, &NodeName)> {
        self.good.iter().map(|node| (0, node)).collect()
    }
}

fn collection<'a>(
    what: &'a mut Notes,
    own: &'a NodeName,
    snapshot: &'a Snapshot,
    reads: &'a Reads,
) -> Collection<'a> {
    let waiting = snapshot.peers.clone();
    let (reading, detours, bytes) = (Vec::new(), Detours::default(), 0);
    Collection { what, own, snapshot, reads, reading, waiting, detours, bytes }
}

#[test]
fn the_deadline_allows_for_three_round_trips_of_the_slowest_peer() {
    for (millis, expected) in [(20, 2000), (500, 2000), (1200, 4100), (2200, 5000)] {
        let rtt = Duration::from_millis(millis);
        let mut snapshot = Arc::into_inner(snapshot().unwrap()).unwrap();
        snapshot.peers = crate::state::tests::peers_at([Duration::from_millis(1), rtt]);
        assert_eq!(deadline_of_all(&snapshot), Duration::from_millis(expected), "{millis} ms");
    }
    assert_eq!(deadline(&[]), DEADLINE);
}

#[test]
fn documents_beyond_the_bound_of_bytes_are_too_large() {
    let bad = RowError::Failure(FailureReason::BadResponse);
    for (bytes, error) in [(0, bad), (MAX_BYTES - 1, RowError::TooLarge)] {
        let (own, snapshot, reads) = (name("n1"), snapshot().unwrap(), Reads::default());
        let mut notes = Notes::default();
        let mut collection =
            Collection { bytes, ..collection(&mut notes, &own, &snapshot, &reads) };
        let address = "127.0.0.1:9050".parse().unwrap();
        let (path, timeout) = (collection.what.path().to_owned(), DEADLINE);
        let fetch = Fetch { node: Some(name("n2")), address, path, timeout, max_bytes: 1000 };
        collection.finished(fetch, Ok(b"no row".to_vec()));
        drop(collection);
        assert_eq!(notes.missing, [(name("n2"), error)], "{bytes}");
    }
}

#[test]
fn a_document_that_does_not_come_is_asked_of_another_peer_by_the_path_with_its_node() {
    let (snapshot, [one, two]) = with_two_peers();
    let (own, reads) = (name("own"), Reads::default());
    let mut notes = Notes { good: vec![own.clone(), one.clone(), two.clone()], ..Notes::default() };
    let mut collection = collection(&mut notes, &own, &snapshot, &reads);
    let [first, second] = [0; 2].map(|_| collection.next().unwrap());
    assert_eq!([&first.path, &second.path], ["/api/v1/past/row/17"; 2]);
    assert_eq!([first.node.clone(), second.node.clone()], [Some(two.clone()), Some(one.clone())]);
    assert!(collection.next().is_none(), "nothing is missing yet");
    assert!(reads.is_reading(&one) && reads.is_reading(&two), "for a survey");
    collection.finished(second, Ok(b"good".to_vec()));
    let refused = FailureReason::Refused;
    collection.finished(first, Err(FetchError::Failure(refused)));
    let detour = collection.next().unwrap();
    assert_eq!((detour.node.as_ref(), detour.max_bytes), (Some(&one), 1000));
    assert_eq!(detour.path, format!("/api/v1/past/row/17/{two}"));
    collection.finished(detour, Ok(b"good".to_vec()));
    assert!(collection.next().is_none() && !reads.is_reading(&one));
    drop(collection);
    assert_eq!(notes.came, [(one.clone(), None), (two.clone(), Some(one))]);
    assert_eq!(notes.missing, [(two, RowError::Failure(refused))]);
}

#[test]
fn peers_at_rest_are_not_asked_and_those_that_wait_at_the_end_are_busy() {
    let (snapshot, [one, two]) = with_two_peers();
    let (own, reads, mut notes) = (name("own"), Reads::default(), Notes::default());
    reads.set_resting(Some(one.clone()));
    let mut collection = collection(&mut notes, &own, &snapshot, &reads);
    assert_eq!(collection.next().and_then(|fetch| fetch.node), Some(two));
    assert!(collection.next().is_none());
    drop(collection);
    assert_eq!(notes.missing, [(one, RowError::Surveyed)]);
    let mut notes = Notes::default();
    collect(&mut notes, &own, &snapshot, &reads, Instant::now());
    assert_eq!(notes.missing.len(), 2);
    assert!(notes.missing.iter().all(|(_, error)| *error == RowError::Busy));
}

#[test]
fn every_fetch_error_has_its_row_error() {
    use crate::probe::LocalError;
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

#[test]
fn an_unknown_peer_is_not_asked() {
    let ask = Ask { path: wire::ROW_PATH.to_owned(), max_bytes: 1, is_for_another: true };
    let error = fetch(&snapshot().unwrap(), &name("n9"), ask);
    assert_eq!(error, Err(RowError::NoPeer));
}

#[test]
fn a_past_matrix_is_cached_for_all_seconds_of_its_cell_and_none_is_kept() {
    let (collector, recollection) = (Collector::new(name("own")), remembering(&["a"], 1200, 300));
    let collected = |second| {
        let new = std::cell::Cell::new(false);
        let taken = || {
            new.set(true);
            snapshot()
        };
        let matrix = collector.past_matrix(&Reads::default(), &taken, &recollection, second);
        (matrix.unwrap(), new.get())
    };
    let (first, new) = collected(1234);
    assert!(new && first.at() == 1_200_000);
    let (again, new) = collected(1499);
    assert!(!new && Arc::ptr_eq(&first, &again));
    let weak = Arc::downgrade(&first);
    drop((first, again));
    let (other, new) = collected(1500);
    assert!(new && other.at() == 1_500_000);
    assert!(weak.upgrade().is_none(), "one at a time");
    let weak = Arc::downgrade(&other);
    drop(other);
    let live = collector.matrix(&Reads::default(), &snapshot).unwrap();
    let remembered = || Some((snapshot()?, Arc::new(recollection.clone())));
    let day = collector.day(&Reads::default(), &remembered).unwrap();
    let again = collector.day(&Reads::default(), &|| panic!("cached")).unwrap();
    assert!(Arc::ptr_eq(&day, &again));
    let (weak_live, weak_day) = (Arc::downgrade(&live), Arc::downgrade(&day));
    drop((live, day, again));
    assert!([weak.upgrade().is_some(), weak_day.upgrade().is_some()] == [true; 2]);
    collector.expire(Instant::now() + CACHE_TIME);
    assert!([weak.upgrade().is_none(), weak_day.upgrade().is_none()] == [true; 2], "dropped");
    assert!(weak_live.upgrade().is_some(), "its rows may stand in for others");
}
