//! Steps of the wall clock, and agents that were suspended.

use super::*;

/// The times of all cells, as seconds from 03:00.
fn times(mesh: &Mesh) -> Vec<(i64, u32, bool)> {
    let spans = mesh.recollect().spans;
    let from_3 = |second: u64| i64::try_from(second).unwrap() - i64::try_from(BEGIN - 432).unwrap();
    let time = |span: &Span| (from_3(span.time.from), span.time.seconds, span.time.is_repeated);
    spans.iter().map(time).collect()
}

/// One peer, which is probed each second: the probes of a cell tell how long it was.
fn run(mesh: &mut Mesh, seconds: u32) {
    for _ in 0..seconds {
        mesh.probe(1, End::Success(SECOND / 100));
        mesh.pass(SECOND);
    }
}

/// The probes of each cell, of which the scale tells not all.
fn probes(mesh: &Mesh) -> Vec<u32> {
    mesh.cells(1).iter().map(|cell| cell.map_or(0, |cell| cell.probes)).collect()
}

fn scaled(numbers: &[u32]) -> Vec<u32> {
    numbers.iter().map(|number| scale::PROBES.number(scale::PROBES.code(*number))).collect()
}

#[test]
fn cells_end_at_multiples_of_their_length_and_the_first_is_shorter() {
    let mut mesh = Mesh::new([1]);
    run(&mut mesh, 168 + 300 + 10);
    assert_eq!(times(&mesh), [(432, 168, false), (600, 300, false), (900, 300, false)]);
    assert_eq!(probes(&mesh), scaled(&[168, 300, 10]));
}

#[test]
fn after_a_step_back_times_occur_twice_and_the_later_are_marked() {
    let mut mesh = Mesh::new([1]);
    run(&mut mesh, 168 + 120);
    // 03:12 becomes 03:09.
    mesh.step(-180);
    run(&mut mesh, 30);
    let before = (432, 168, false);
    // The one of 03:10 to 03:12 is in the future still.
    assert_eq!(times(&mesh), [before, (540, 60, true)]);
    run(&mut mesh, 330);
    let both = [before, (600, 120, false), (540, 60, true), (600, 300, true)];
    assert_eq!(times(&mesh)[..4], both);
    assert_eq!(probes(&mesh)[..4], scaled(&[168, 120, 60, 300]));
    let all = mesh.recollect();
    let at_3_11 = all.at(BEGIN - 432 + 660).unwrap();
    assert!(at_3_11.time.is_repeated, "the later one is shown");
    run(&mut mesh, 300);
    assert_eq!(times(&mesh)[4], (900, 300, false));
    assert_eq!(all.since(), Some(BEGIN));
}

#[test]
fn after_a_step_forward_there_is_a_gap() {
    let mut mesh = Mesh::new([1]);
    run(&mut mesh, 100);
    mesh.step(3600);
    run(&mut mesh, 100);
    assert_eq!(times(&mesh), [(432, 100, false), (432 + 3700, 68, false), (4200, 300, false)]);
    assert_eq!(probes(&mesh), scaled(&[100, 68, 32]));
    let in_the_gap = mesh.recollect();
    assert_eq!(in_the_gap.at(BEGIN + 1000).map(|span| span.time), None);
}

#[test]
fn a_young_cell_gets_another_time() {
    let mut mesh = Mesh::new([1]);
    run(&mut mesh, 40);
    mesh.step(-3600);
    run(&mut mesh, 20);
    assert_eq!(times(&mesh), [(432 - 3600, 168, false)]);
    mesh.step(3600 + 120);
    mesh.pass(SECOND * 5);
    // Of 03:10:17, 65 s old.
    let closed = (432 - 3600, 61, false);
    assert_eq!(times(&mesh), [closed, (613, 287, false)]);
    // 03:10:07: the cell began at 03:10 at most.
    mesh.step(-10);
    run(&mut mesh, 1);
    assert_eq!(times(&mesh), [closed, (603, 297, false)]);
    mesh.step(-7);
    run(&mut mesh, 1);
    assert_eq!(times(&mesh), [closed, (600, 300, false)]);
}

#[test]
fn a_slewed_clock_makes_no_cells() {
    let mut mesh = Mesh::new([1]);
    for slew in [-1, 1, 1, -1] {
        mesh.step(slew);
        run(&mut mesh, 300);
    }
    run(&mut mesh, 100);
    let times = times(&mesh);
    assert_eq!(
        times,
        [
            (432, 168, false),
            (600, 300, false),
            (900, 300, false),
            (1200, 300, false),
            (1500, 300, false)
        ]
    );
}

#[test]
fn a_clock_that_is_set_by_days_hides_nothing_for_good() {
    let mut mesh = Mesh::new([1]);
    run(&mut mesh, 168 + 300);
    let right = [(432, 168, false), (600, 300, false)];
    for days in [-2_i64, 2] {
        let offset = days * 86_400;
        run(&mut mesh, 100);
        mesh.step(offset);
        run(&mut mesh, 100);
        // Nothing of a day ago or more, and nothing of the future.
        assert_eq!(times(&mesh).len(), 1, "{days}");
        mesh.step(-offset);
        run(&mut mesh, 100);
        assert_eq!(times(&mesh)[..2], right);
    }
    assert!(times(&mesh).iter().all(|(_, _, is_repeated)| !is_repeated));
    let all: u32 = mesh.history.recollect(mesh.now).spans.len() as u32;
    assert!(all >= 4, "{all}");
}

#[test]
fn a_clock_that_is_set_again_and_again_makes_no_flood() {
    let mut mesh = Mesh::new([1]);
    for minute in 0..24 * 60 {
        mesh.step(if minute % 2 == 0 { 30 } else { -30 });
        mesh.pass(SECOND * 60);
    }
    let spans = mesh.recollect().spans.len();
    assert!(spans as f64 <= wylis_harness::bounds::worst_case("MAX_SPANS"), "{spans}");
    assert!(spans > MAX_SPANS - 5, "{spans}");
}

#[test]
fn a_suspended_agent_has_a_gap() {
    let mut mesh = Mesh::new([1]);
    run(&mut mesh, 100);
    // It is stopped for a quarter of an hour.
    mesh.now.instant += SECOND * 900;
    mesh.now.wall += SECOND * 900;
    run(&mut mesh, 130);
    assert_eq!(times(&mesh), [(432, 100, false), (1432, 68, false), (1500, 300, false)]);
    assert_eq!(probes(&mesh)[..2], scaled(&[100, 68]));
    // The machine sleeps: its monotonic clock stops.
    mesh.now.wall += SECOND * 900;
    run(&mut mesh, 1);
    assert_eq!(times(&mesh)[2..], [(1500, 62, false), (2462, 238, false)]);
}

#[test]
fn a_late_loop_loses_nothing_at_the_edge() {
    let mut mesh = Mesh::new([1]);
    run(&mut mesh, 166);
    mesh.now.instant += SECOND * 9;
    mesh.now.wall += SECOND * 9;
    run(&mut mesh, 10);
    assert_eq!(times(&mesh), [(432, 168, false), (600, 300, false)]);
    assert_eq!(probes(&mesh), scaled(&[166, 10]));
}
