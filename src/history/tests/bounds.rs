//! What is remembered of many paths.

use wylis_harness::bounds::worst_case;

use super::*;

/// Octets that a memory takes, by the capacities of what it holds.
fn octets(history: &History) -> usize {
    let (cells, beside) = history.octets();
    cells + beside
}

/// A day and some hours of so many paths, of which some are probed.
fn day(paths: u16) -> Mesh {
    let mut mesh = Mesh::new(0..paths);
    for hour in 0..26 {
        for path in 0..10 {
            mesh.probe(path * (paths / 10), End::Success(Duration::from_millis(hour + 1)));
        }
        mesh.idle(SECOND * 3600);
    }
    mesh
}

#[test]
fn a_day_of_any_number_of_paths_is_remembered_within_its_bounds() {
    let days = [
        (10, 300, 32_000),
        (100, 300, 167_000),
        (200, 300, 319_000),
        (1000, 3600, 200_000),
        (5000, 7200, 691_000),
    ];
    for (paths, seconds, most) in days {
        let mesh = day(paths);
        let all = mesh.recollect();
        let (open, closed) = all.spans.split_last().unwrap();
        assert_eq!((open.time.seconds, closed.last().unwrap().time.seconds), (seconds, seconds));
        assert!(open.time.to() - closed[0].time.from >= DAY, "{paths}");
        let cells: usize = closed.iter().map(|span| span.cells.len()).sum();
        assert!(cells as f64 <= worst_case("MAX_CELLS"), "{paths}: {cells}");
        assert_eq!(all.paths().count(), usize::from(paths));
        let octets = octets(&mesh.history);
        assert!(octets <= most, "{paths}: {octets}");
        let probed = mesh.cells(paths / 10 * 9);
        let probes: u32 = probed.iter().flatten().map(|cell| cell.probes).sum();
        assert!((24..=26).contains(&probes), "{paths}: {probes}");
    }
}

#[test]
fn the_path_that_is_gone_longest_makes_room() {
    let mut mesh = Mesh::new(0..200);
    mesh.pass(SECOND * 468);
    // Two leave, one before the other, and come back as others.
    mesh.set_peers(1..200);
    mesh.pass(SECOND * 300);
    mesh.set_peers(2..201);
    mesh.pass(SECOND * 300);
    let is_known = |mesh: &Mesh, number| mesh.recollect().path(&name(number)).is_some();
    assert_eq!([0, 1, 200].map(|number| is_known(&mesh, number)), [false, true, true]);
    mesh.set_peers(2..202);
    mesh.pass(SECOND * 300);
    assert_eq!([1, 2, 200, 201].map(|number| is_known(&mesh, number)), [false, true, true, true]);
    let all = mesh.recollect();
    assert!(all.spans.iter().all(|span| span.time.seconds <= 300 && span.cells.len() <= 200));
    // No other has their cells.
    let cell = |number| all.spans[1].cell(all.path(&name(number)).unwrap());
    assert!(cell(200).is_empty() && cell(201).is_empty() && !cell(2).is_empty());
}

#[test]
fn no_more_paths_than_the_most_are_remembered() {
    let mut mesh = Mesh::new(0..5000);
    mesh.idle(SECOND * 170);
    mesh.set_peers(5000..5010);
    mesh.probe(5000, End::Success(SECOND));
    assert_eq!(mesh.recollect().paths().count() as f64, worst_case("MAX_PATHS"));
    mesh.idle(SECOND * 7200);
    let all = mesh.recollect();
    assert_eq!(all.paths().count(), 5000);
    // There was no room before the end of the cell.
    mesh.probe(5000, End::Success(SECOND));
    assert!(all.path(&name(4999)).is_some());
}

#[test]
fn the_last_changes_are_remembered() {
    let mut mesh = Mesh::new([1]);
    for _ in 0..200 {
        for _ in 0..3 {
            mesh.probe(1, End::Failure(FailureReason::Closed));
        }
        mesh.pass(SECOND);
        for _ in 0..30 {
            mesh.probe(1, End::Success(SECOND / 100));
        }
        mesh.pass(SECOND);
    }
    let changes = mesh.recollect().changes;
    assert_eq!(changes.len() as f64, worst_case("MAX_CHANGES"));
    assert!(
        changes.windows(2).all(|two| two[0].at <= two[1].at && two[0].verdict != two[1].verdict)
    );
    assert_eq!(changes.last().unwrap().verdict, Verdict::Up);
}
