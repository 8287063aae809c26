//! A memory that continues after what a file had.

use super::*;

/// A memory of the next run, which begins so many seconds later.
fn restart(mesh: &mut Mesh, seconds: u32) {
    let stored = mesh.recollect();
    mesh.now.instant += SECOND * seconds;
    mesh.now.wall += SECOND * seconds;
    mesh.history = History::new(mesh.now, Some(stored));
}

fn times(mesh: &Mesh) -> Vec<(u64, u32)> {
    mesh.recollect().spans.iter().map(|span| (span.time.from - BEGIN, span.time.seconds)).collect()
}

#[test]
fn a_restart_loses_nothing_and_leaves_a_gap() {
    let mut mesh = Mesh::new([1, 2]);
    let success = End::Success(SECOND / 100);
    for _ in 0..30 {
        mesh.probe(1, success);
        mesh.probe(2, End::Failure(FailureReason::Closed));
        mesh.pass(SECOND * 10);
    }
    let before = mesh.recollect();
    // 03:12:12 to 03:13:52.
    restart(&mut mesh, 100);
    let mut all = mesh.recollect();
    assert_eq!(times(&mesh), [(0, 168), (168, 132), (400, 68)]);
    assert_eq!(all.spans[0], before.spans[0]);
    assert_eq!(all.spans[1].cells, before.spans[1].cells);
    assert!(all.spans[2].cells.iter().all(|cell| cell.is_empty()));
    assert_eq!(all.changes, before.changes);
    for _ in 0..10 {
        mesh.probe(1, success);
        mesh.pass(SECOND * 10);
    }
    all = mesh.recollect();
    assert_eq!(times(&mesh), [(0, 168), (168, 132), (400, 68), (468, 300)]);
    let probes: Vec<_> = mesh.cells(1).iter().map(|cell| cell.unwrap().probes).collect();
    assert_eq!(probes, [17, 13, 7, 3]);
    assert_eq!(all.names, before.names);
}

#[test]
fn restarts_within_one_cell_make_one() {
    let mut mesh = Mesh::new([1]);
    mesh.pass(SECOND * 168);
    for _ in 0..6 {
        mesh.probe(1, End::Success(SECOND / 100));
        mesh.pass(SECOND * 20);
        restart(&mut mesh, 20);
    }
    assert_eq!(times(&mesh), [(0, 168), (168, 220), (408, 60)]);
    assert_eq!(mesh.cells(1)[1].unwrap().probes, 6);
}

#[test]
fn a_cell_that_had_just_begun_leaves_the_next_one_its_time() {
    let mut mesh = Mesh::new([1]);
    mesh.probe(1, End::Success(SECOND / 100));
    mesh.pass(SECOND * 168);
    restart(&mut mesh, 0);
    assert_eq!(times(&mesh), [(0, 168), (168, 300)]);
    assert!(mesh.recollect().spans.iter().all(|span| !span.time.is_repeated));
}

#[test]
fn what_is_older_than_a_day_is_not_restored() {
    let mut mesh = Mesh::new([1]);
    mesh.probe(1, End::Success(SECOND / 100));
    mesh.pass(SECOND * 470);
    restart(&mut mesh, DAY as u32 - 100);
    assert_eq!(times(&mesh).len(), 3);
    assert_eq!(times(&mesh)[0], (168, 300));
    restart(&mut mesh, 2 * DAY as u32);
    assert_eq!((mesh.recollect().spans.len(), mesh.recollect().paths().count()), (1, 0));
}

#[test]
fn free_numbers_and_many_paths_are_restored() {
    let mut mesh = Mesh::new(0..700);
    mesh.pass(SECOND * 800);
    let mut stored = mesh.recollect();
    let mut names = stored.names.to_vec();
    names[3] = None;
    stored.names = Arc::new(names);
    let cell = stored.spans[0].cell(4);
    assert!(!cell.is_empty());
    mesh.history = History::new(mesh.now, Some(stored));
    let all = mesh.recollect();
    assert_eq!(all.paths().count(), 699);
    assert_eq!(all.spans[0].cell(all.path(&name(101)).unwrap()), cell);
    mesh.pass(SECOND * 2);
    assert!(all.spans.last().unwrap().time.to().is_multiple_of(3600), "of the length for so many");
}
