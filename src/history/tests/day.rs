//! A day and an hour of some paths.

use super::*;

/// Numbers of a fixed sequence, spread evenly.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// How a probe of a path ends: each path is of another kind.
fn end(path: u16, hour: u64, numbers: &mut Numbers) -> End {
    let millis = Duration::from_millis;
    let timeout = FailureReason::ConnectTimeout;
    let total = Duration::from_micros(300 + numbers.below(9000));
    match path {
        // Loses one packet in ten.
        1 if numbers.below(10) == 0 => End::AfterLoss(total + millis(1003)),
        // Is gone for an hour of four.
        2 if hour % 4 == 1 => End::FailureAfterLoss(timeout),
        // Fails now and then, in different ways.
        3 if numbers.below(7) == 0 => End::Failure(FailureReason::ALL[numbers.below(8) as usize]),
        4 if numbers.below(50) == 0 => End::Local,
        _ => End::Success(total),
    }
}

#[test]
fn nothing_is_lost_or_counted_twice_in_25_hours() {
    let mut mesh = Mesh::new(0..5);
    let mut numbers = Numbers::new(7);
    for slot in 0..25 * 360 {
        for path in 0..5 {
            mesh.probe(path, end(path, slot / 360, &mut numbers));
            mesh.pass(SECOND * 2);
        }
    }
    let all = mesh.recollect();
    assert_eq!(mesh.closed.len(), 25 * 12, "each cell closed at an edge");
    let (open, closed) = all.spans.split_last().unwrap();
    assert_eq!(closed.len(), 288, "those of a day");
    for (span, (began, ended, kept)) in closed.iter().rev().zip(mesh.closed.iter().rev()) {
        assert_eq!((span.time.from % 300, span.time.seconds), (0, 300));
        assert!(!span.time.is_repeated);
        assert_eq!(*ended - *began, SECOND * 300);
        for path in 0..5 {
            let kept = &kept[&name(path)];
            assert!(path == 4 || kept.probes() == 30);
            kept.check(span.cell(all.path(&name(path)).unwrap()));
        }
    }
    for (one, next) in all.spans.iter().zip(&all.spans[1..]) {
        assert_eq!(one.time.to(), next.time.from);
    }
    assert!(open.time.contains(second(mesh.now)));
    for (node, kept) in &mesh.open {
        kept.check(open.cell(all.path(node).unwrap()));
    }
}

#[test]
fn a_peer_that_leaves_is_remembered_for_a_day_and_continues_when_it_comes_back() {
    let mut mesh = Mesh::new([1, 2]);
    let success = End::Success(SECOND / 100);
    // To 03:10.
    mesh.probe(1, success);
    mesh.pass(SECOND * 168);
    mesh.pass(SECOND * 300);
    let before = mesh.cells(1);
    assert_eq!(before[0].unwrap().probes, 1);
    mesh.set_peers([2]);
    mesh.pass(SECOND * 600);
    let cells = mesh.cells(1);
    assert_eq!(cells[..2], before[..2]);
    assert_eq!(cells[3..], [None, None], "no peer, no cell");
    mesh.set_peers([1, 2, 3]);
    mesh.probe(1, success);
    mesh.pass(SECOND * 300);
    let all = mesh.recollect();
    assert_eq!(mesh.cells(1)[..2], before[..2]);
    assert_eq!(mesh.cells(1)[4].unwrap().probes, 1);
    assert_eq!(all.paths().count(), 3);
    mesh.set_peers([2, 3]);
    mesh.pass(SECOND * (DAY as u32 + 600));
    let all = mesh.recollect();
    assert_eq!((all.path(&name(1)), all.paths().count()), (None, 2));
    assert!(all.spans.iter().all(|span| span.cells.len() == 2));
}

#[test]
fn a_verdict_that_held_only_at_an_edge_is_in_both_cells() {
    let mut mesh = Mesh::new([1]);
    for _ in 0..17 {
        mesh.probe(1, End::Success(SECOND / 100));
        mesh.pass(SECOND * 9);
    }
    mesh.pass(SECOND * 14 + SECOND / 2);
    for _ in 0..3 {
        mesh.probe(1, End::Failure(FailureReason::Refused));
    }
    let down = Word::of(Verdict::Down(FailureReason::Refused));
    assert!(second(mesh.now) % 300 == 299);
    mesh.pass(SECOND);
    // They make it flaky at once.
    for _ in 0..40 {
        mesh.probe(1, End::Success(SECOND / 100));
    }
    let cells: Vec<_> = mesh.cells(1).into_iter().flatten().collect();
    let counts: Vec<_> = cells.iter().map(|cell| (cell.word, cell.probes, cell.failures)).collect();
    assert_eq!(counts, [(down, 20, 3), (down, 40, 0)]);
    mesh.pass(SECOND * 300);
    assert_eq!(mesh.cells(1)[2].unwrap().word, Word::of(Verdict::Up));
}

#[test]
fn a_pair_that_rests_for_a_whole_cell_is_surveyed() {
    let mut mesh = Mesh::new([1]);
    for _ in 0..3 {
        mesh.probe(1, End::Success(SECOND / 100));
        mesh.pass(SECOND * 10);
    }
    mesh.state.rest(&name(1)).unwrap();
    mesh.pass(SECOND * 600);
    mesh.state.resume(mesh.now.instant, &name(1));
    mesh.pass(SECOND * 300);
    let words: Vec<_> = mesh.cells(1).iter().map(|cell| cell.unwrap().word).collect();
    let surveyed = Word { is_surveyed: true, ..Word::of(Verdict::Unknown) };
    let up = Word::of(Verdict::Up);
    // It rested from the first to the third.
    assert_eq!(words, [up, surveyed, up, up]);
}

#[test]
fn changes_of_verdict_are_remembered_once_each() {
    let mut mesh = Mesh::new([1, 2]);
    let refused = FailureReason::Refused;
    for _ in 0..3 {
        mesh.probe(1, End::Success(SECOND / 100));
        mesh.probe(2, End::Failure(refused));
        mesh.pass(SECOND * 10);
    }
    let changes = |mesh: &Mesh| -> Vec<_> {
        let changes = mesh.recollect().changes;
        changes.into_iter().map(|change| (change.at / 1000, change.node, change.verdict)).collect()
    };
    // A peer that comes up at the start is no news.
    let down = (BEGIN + 20, name(2), Verdict::Down(refused));
    assert_eq!(changes(&mesh), std::slice::from_ref(&down));
    let record = mesh.state.get(&name(2)).unwrap();
    mesh.history.note(mesh.now, record.verdict, record);
    assert_eq!(changes(&mesh), std::slice::from_ref(&down), "nothing else than before");
    mesh.probe(2, End::Success(SECOND / 100));
    let up = (BEGIN + 30, name(2), Verdict::Up);
    assert_eq!(changes(&mesh), [down, up]);
    // As if those of others had pushed them out: what stays as it is makes no new one.
    mesh.history.forget_changes();
    for number in [1, 2] {
        mesh.history.note(mesh.now, Verdict::Up, mesh.state.get(&name(number)).unwrap());
    }
    assert_eq!(changes(&mesh), []);
}
