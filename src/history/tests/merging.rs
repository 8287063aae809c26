//! Cells that become coarser because paths are many.

use super::merge::{joins, merged};
use super::*;

fn time(from: u64, seconds: u32) -> CellTime {
    CellTime { from, seconds, is_repeated: false }
}

fn summary(word: Word, probes: u32, failures: u32, millis: u64) -> Summary {
    let time = |millis| scale::time(scale::time_code(Some(Duration::from_millis(millis))));
    let median = (failures < probes).then(|| time(millis)).flatten();
    let worst = (failures < probes).then(|| time(millis * 3)).flatten();
    Summary { word, probes, failures, retransmits: failures / 2, median, worst }
}

fn merge(cells: &[Option<Summary>]) -> Option<Summary> {
    let cell = |summary: &Option<Summary>| summary.map_or(Cell::EMPTY, Cell::new);
    let spans = cells.iter().enumerate().map(|(index, summary)| Span {
        time: time(index as u64 * 300, 300),
        cells: [cell(summary)].into_iter().collect(),
    });
    let spans: Vec<_> = spans.collect();
    let span = merged(&spans.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(span.time, time(0, 300 * u32::try_from(cells.len()).unwrap()));
    span.cell(0).summary()
}

#[test]
fn a_coarser_cell_has_the_sums_the_worst_and_the_gravest_word() {
    let up = Word::of(Verdict::Up);
    let down = Word::of(Verdict::Down(FailureReason::Refused));
    let one = merge(&[
        Some(summary(up, 10, 0, 5)),
        Some(summary(down, 10, 7, 50)),
        Some(summary(up, 10, 0, 7)),
    ]);
    let one = one.unwrap();
    assert_eq!((one.word, one.probes, one.failures, one.retransmits), (down, 30, 7, 3));
    let of = |millis| summary(up, 1, 0, millis);
    // 10 successes of 5 ms, 10 of 7 ms, and 3 of 50 ms.
    assert_eq!((one.median, one.worst), (of(7).median, of(50).worst));
    assert_eq!(merge(&[None, None]), None);
    assert_eq!(merge(&[None, Some(summary(up, 10, 1, 5))]), Some(summary(up, 10, 1, 5)));
    let all = merge(&[
        Some(summary(down, 30, 30, 5)),
        Some(summary(down, 30, 30, 5)),
        Some(summary(down, 30, 30, 5)),
    ]);
    let all = all.unwrap();
    assert!(all.failures == all.probes && (82..=90).contains(&all.probes) && all.median.is_none());
}

#[test]
fn of_words_of_one_rank_the_one_of_most_probes_stays() {
    let down = |reason| Word::of(Verdict::Down(reason));
    let (refused, timeout) = (down(FailureReason::Refused), down(FailureReason::ConnectTimeout));
    let word = |cells: &[(Word, u32)]| {
        let cells: Vec<_> =
            cells.iter().map(|(word, probes)| Some(summary(*word, *probes, 1, 5))).collect();
        merge(&cells).unwrap().word
    };
    assert_eq!(word(&[(refused, 10), (timeout, 30), (refused, 10)]), timeout);
    assert_eq!(word(&[(refused, 20), (timeout, 30), (refused, 20)]), refused);
    assert_eq!(word(&[(timeout, 5), (Word::of(Verdict::Lossy), 90)]), timeout);
}

#[test]
fn only_what_follows_within_one_cell_becomes_one() {
    let one = time(900, 300);
    assert!(joins(&one, &time(1200, 300), 900));
    assert!(joins(&one, &time(1260, 240), 900), "the gap of a restart");
    assert!(!joins(&one, &time(1261, 239), 900), "a longer one");
    assert!(!joins(&time(1500, 300), &time(1800, 300), 900), "the next cell");
    assert!(!joins(&one, &time(1100, 300), 900), "a step back");
    assert!(!joins(&one, &CellTime { is_repeated: true, ..time(1200, 300) }, 900));
}

#[test]
fn more_paths_than_short_cells_can_have_make_them_coarser_and_fewer_finer() {
    let mut mesh = Mesh::new(0..200);
    let success = End::Success(SECOND / 100);
    let run = |mesh: &mut Mesh, cells: u32, seconds: u32| {
        for _ in 0..cells {
            for path in [3, 7] {
                mesh.probe(
                    path,
                    if path == 3 { success } else { End::Failure(FailureReason::Closed) },
                );
            }
            mesh.pass(SECOND * seconds);
        }
    };
    mesh.pass(SECOND * (168 + 300));
    // From 03:15, with two probes in each cell.
    run(&mut mesh, 12, 300);
    let before = mesh.recollect();
    let lengths = |mesh: &Mesh| -> Vec<u32> {
        mesh.recollect().spans.iter().map(|span| span.time.seconds).collect()
    };
    assert_eq!(lengths(&mesh)[1..], [300; 14]);
    mesh.set_peers(0..201);
    mesh.pass(SECOND * 300);
    // 03:07:12 to 03:15, four to 04:15, and the rest until 04:30.
    assert_eq!(lengths(&mesh), [468, 900, 900, 900, 900, 300, 600]);
    let cells = mesh.cells(3);
    assert!(cells[1..5].iter().all(|cell| cell.unwrap().probes == 3));
    assert!(mesh.cells(7)[1..5].iter().all(|cell| cell.unwrap().failures == 3));
    assert_eq!(before.spans.len(), 15, "what readers have stays");
    // The one that left does not make room at once: it is remembered.
    mesh.set_peers(0..200);
    mesh.pass(SECOND * 600);
    run(&mut mesh, 3, 900);
    assert_eq!(lengths(&mesh)[6..], [600, 900, 900, 900, 900]);
    mesh.idle(SECOND * DAY as u32);
    let after = lengths(&mesh);
    assert_eq!(after[after.len() - 2..], [300, 300]);
    assert!(mesh.recollect().path(&name(200)).is_none());
}
