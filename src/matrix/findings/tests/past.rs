//! What is found of a past moment is, word for word, what was found then.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::picture::picture;
use super::property::mesh;
use crate::document::read_matrix;
use crate::experiment::Detail;
use crate::history::{self, Summary, Word};
use crate::matrix::{Cell, CellFacts, FindingKind, Matrix, NamedRow, Past, Row, RowError};
use crate::name::NodeName;
use crate::state::Verdict;

const PAST: Past = Past { seconds: 300, is_repeated: false };

/// A cell as it is remembered.
fn remembered(cell: &Cell) -> Cell {
    let (failures, probes) = cell.failures();
    let summary = Summary {
        word: Word::of_cell(cell),
        probes,
        failures,
        retransmits: cell.retransmits(),
        median: cell.latency(),
        worst: cell.latency(),
    };
    history::Cell::new(summary).summary().unwrap().matrix_cell()
}

/// A cell without what no past cell can hold: the largest packet, the share of dead flows, and the retransmits of a
/// pair whose verdict is not `lossy`.
fn without_what_is_lost(cell: &Cell) -> Cell {
    let (failures, probes) = cell.failures();
    let is_lossy = cell.verdict() == Verdict::Lossy;
    let own = if is_lossy || cell.shows_loss() { cell.retransmits() } else { 0 };
    Cell::new(CellFacts {
        latency: cell.latency(),
        age: None,
        failures,
        retransmits: own,
        probes,
        incoming_retransmits: if is_lossy { cell.incoming_retransmits() } else { 0 },
        incoming: cell.incoming(),
        is_slow: cell.is_slow(),
        is_intercepted: cell.is_intercepted(),
        detail: cell.detail().filter(|detail| matches!(detail, Detail::Host(_))),
        is_surveyed: cell.is_surveyed(),
        ..CellFacts::of(cell.verdict())
    })
}

/// The cells of a row, or why it is missing.
type Cells = Result<Vec<Option<Cell>>, RowError>;
type Rows = Vec<Cells>;

/// The rows of a matrix, by place.
fn rows(matrix: &Matrix) -> Vec<(NodeName, Cells)> {
    let row = |(name, row): (&NodeName, Result<&Row, RowError>)| {
        (name.clone(), row.map(|row| matrix.cells(row).collect()))
    };
    matrix.rows().map(row).collect()
}

/// What the agent of `own` found in these rows then, without the findings of which the past has none.
fn live(own: &NodeName, names: &[NodeName], rows: &Rows) -> Vec<String> {
    let cell = |cell: &Option<Cell>| cell.as_ref().map(without_what_is_lost);
    let row = |cells: &Vec<_>| Row::new(1, 0, cells.iter().map(cell).collect());
    let rows = rows.iter().map(|one| one.as_ref().map(row).map_err(|error| *error)).collect();
    let times = [Duration::ZERO; 2];
    let matrix = Matrix::from_parts(own.clone(), (1, None), times, names.to_vec(), rows, None);
    let matrix = matrix.unwrap();
    let is_kept = |kind| !matches!(kind, FindingKind::Clock | FindingKind::MissingRow);
    let findings = matrix.findings().iter().filter(|finding| is_kept(finding.kind));
    findings.map(|finding| format!("{:?} {}", finding.pairs, finding.text)).collect()
}

/// What it finds later, of the same rows as they are remembered.
fn past(own: &NodeName, names: &[NodeName], rows: &Rows) -> Vec<String> {
    let named = |cells: &Vec<Option<Cell>>| {
        let cell = |(name, cell): (&NodeName, &Option<Cell>)| {
            Some((name.clone(), remembered(cell.as_ref()?)))
        };
        let cells = names.iter().zip(cells).filter_map(cell).collect();
        NamedRow { at: 0, age: 0, clock: None, through: None, past: Some(PAST), cells }
    };
    let rows = rows.iter().map(|row| row.as_ref().map(named).map_err(|error| *error));
    let mut rows: Vec<_> = names.iter().zip(rows).collect();
    let place = names.iter().position(|name| name == own).unwrap();
    let (_, own_row) = rows.remove(place);
    let peers = names.iter().rev().cloned();
    let mut matrix = Matrix::of_the_past(own, 0, PAST, peers, own_row, Duration::ZERO);
    for (name, row) in rows {
        matrix.add(name, row);
    }
    let matrix = matrix.finish(Duration::ZERO);
    assert_eq!((matrix.past(), matrix.at()), (Some(PAST), 0));
    matrix.findings().iter().map(|one| format!("{:?} {}", one.pairs, one.text)).collect()
}

/// Whether the own agent had the row of a node, as the collector does it: fetched, or passed on by one that it
/// fetched from.
fn is_had(own: usize, rows: &Rows, node: usize) -> bool {
    let cell = |source: usize, target: usize| rows[source].as_ref().ok()?[target];
    let is_fetched = |node: usize| {
        let reached = |cell: Cell| {
            !matches!(cell.verdict(), Verdict::Down(_)) || cell.is_slow() || cell.is_surveyed()
        };
        node == own || cell(own, node).is_some_and(reached)
    };
    let passes_on = |by: usize| {
        let cell = cell(by, node).filter(|cell| !cell.is_surveyed());
        let is_up = |cell: Cell| {
            use Verdict::{Down, Draining, Unknown};
            !matches!(cell.verdict(), Down(_) | Draining | Unknown)
        };
        by != node && is_fetched(by) && cell.is_some_and(is_up)
    };
    is_fetched(node) || cell(own, node).is_some() && (0..rows.len()).any(passes_on)
}

#[test]
fn recordings_are_found_again_in_the_words_of_their_agents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src/matrix/findings/tests/recorded", "tests/findings/recorded"];
    let (mut recordings, mut left_out, mut wrong) = (0, 0, Vec::new());
    for file in folders.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap()) {
        let path = file.unwrap().path();
        let matrix = read_matrix(&std::fs::read(&path).unwrap()).unwrap();
        let (names, rows): (Vec<_>, Rows) = rows(&matrix).into_iter().unzip();
        let own = names.iter().position(|name| name == matrix.node()).unwrap();
        // Rows that the agent could not have are there now, and say that all is well.
        let mut now = rows.clone();
        let up = Some(Cell::new(CellFacts::of(Verdict::Up)));
        for node in (0..rows.len()).filter(|node| !is_had(own, &rows, *node)) {
            assert!(rows[node].is_err(), "{} in {}", names[node], path.display());
            now[node] = Ok(vec![up; rows.len()]);
            left_out += 1;
        }
        let [then, now] = [live(&names[own], &names, &rows), past(&names[own], &names, &now)];
        if then != now {
            wrong.push((path.file_name().unwrap().to_owned(), then, now));
        }
        recordings += 1;
    }
    assert!(wrong.is_empty(), "{} of {recordings}: {wrong:#?}", wrong.len());
    assert!(recordings > 30 && left_out > 30, "{left_out} rows of {recordings} recordings");
}

/// What an agent found in a picture, and what it finds later, all rows being there.
fn then_and_now(text: &str) -> [Vec<String>; 2] {
    let matrix = picture(text);
    let (names, rows): (Vec<_>, Rows) = rows(&matrix).into_iter().unzip();
    let sentence = |line: String| line.split_once("] ").unwrap().1.to_owned();
    let then = matrix.findings().iter().map(|one| one.text.clone()).collect();
    [then, past(matrix.node(), &names, &rows).into_iter().map(sentence).collect()]
}

#[test]
fn only_rows_that_the_agent_could_have_had_are_judged() {
    for (text, expected) in [
        // Neither its own row nor that of a node that reaches it.
        (
            "*a: - . X\nb: . - X\nc: . . -",
            "c is down: none of 2 others reaches it (connect_timeout)",
        ),
        // Slow, not yet probed, or draining, it answers all the same.
        (
            "*a: - . S\nb: . - .\nc: R . -",
            "a → c: down (response_timeout), slower than WYLIS_TIMEOUT; c → a: down (refused)",
        ),
        ("*a: - . ?\nb: . - .\nc: R . -", "c → a: down (refused)"),
        // b passes on the row of c, though not if it is too slow for that, or not reached itself.
        ("*a: - . X\nb: . - .\nc: . R -", "a → c: down (connect_timeout); c → b: down (refused)"),
        (
            "*a: - . X\nb: . - S\nc: . R -",
            "a → c: down (connect_timeout); b → c: down (response_timeout), slower than WYLIS_TIMEOUT",
        ),
        (
            "*a: - X X\nb: . - .\nc: . R -",
            "a is cut off: this agent reaches none of 2; nothing reaches it",
        ),
        // Nodes that the agent did not know of.
        ("*a: - . _\nb: . - .\nc: . R -", ""),
        // It remembers nothing itself.
        (
            "*a: no not_remembered\nb: . - X\nc: . R -",
            "b → c: down (connect_timeout); c → b: down (refused)",
        ),
    ] {
        let [_, now] = then_and_now(text);
        assert_eq!(now.join("; "), expected, "{text}");
    }
}

#[test]
fn clocks_and_rows_that_are_missing_now_tell_nothing_of_then() {
    let [then, now] = then_and_now("*a: - . .\nb@9000: . - .\nc: no busy");
    assert_eq!(then, ["the clock of b is 9 s ahead", "no row from c (busy)"]);
    assert!(now.is_empty(), "{now:?}");
    let [then, now] = then_and_now("*a: - . X\nb: . - X\nc: no not_remembered");
    assert_eq!(then, ["c is down: none of 2 others reaches it (connect_timeout)"]);
    assert_eq!(now, then);
}

#[test]
fn a_link_that_loses_packets_is_called_so_later() {
    let link = |cell: &str| {
        let row = |name: &str, cells: &str| format!("{name}: {cells} {cell}\n");
        let others = row("*a", "- . .") + &row("b", ". - .") + &row("c", ". . -");
        format!("{others}d: {cell} {cell} ~4/3 -")
    };
    for (cell, word) in [("%9/0", "lossy"), ("%0/3", "lossy"), ("%5/2", "flaky (connect_timeout)")]
    {
        // The direction may differ, since a flaky pair keeps no counts.
        let words = then_and_now(&link(cell)).map(|all| {
            assert_eq!(all.len(), 1, "{all:?}");
            all[0].split(" with all 3 others, ").next().unwrap().to_owned()
        });
        assert_eq!(words, [format!("d's link: {word}"), format!("d's link: {word}")], "{cell}");
    }
}

#[test]
fn handshakes_completed_by_something_else_are_told_later_whatever_the_verdict() {
    let all = "something between a and its peers answers handshakes in their place";
    for (cell, also) in [
        (".i", None),
        ("~i6/0", Some("a ↔ b: lossy")),
        ("!i", Some("a → b: flaky (refused, 11 of 20)")),
        ("moi", Some("a → b: mtu")),
        (">i", Some("b → a: one-way; requests no longer arrive")),
        ("Si", Some("a → b: down (response_timeout), slower than WYLIS_TIMEOUT")),
    ] {
        let text = format!("*a: - {cell} .i\nb: . - .\nc: . . -");
        let [then, now] = then_and_now(&text);
        let expected: Vec<_> = [all].into_iter().chain(also).map(str::to_owned).collect();
        assert_eq!([&then, &now], [&expected; 2], "{text}");
    }
}

/// Packets, some of which are lost by chance.
struct Packets(u64);

impl Packets {
    fn number(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Twenty probes, of whose packets so many percent are lost there and back: how many need a retransmit, and how
    /// many of the answers to them.
    fn probes(&mut self, there: u64, back: u64) -> [u8; 2] {
        let mut counts = [0; 2];
        for _ in 0..20 {
            let [syn, request] = [there; 2].map(|percent| self.number(100) < percent);
            let [syn_ack, answer] = [back; 2].map(|percent| self.number(100) < percent);
            counts[0] += u8::from(syn || syn_ack || request);
            counts[1] += u8::from(syn_ack || answer);
        }
        counts
    }
}

#[test]
fn few_directions_of_loss_differ_later() {
    let (mut packets, mut pairs, mut different) = (Packets(1), 0, 0);
    while pairs < 4000 {
        let shares = [0, 0, 0, 1, 2, 5, 8, 10, 15, 20, 30, 40];
        let mut share = || shares[usize::try_from(packets.number(12)).unwrap()];
        let (there, back) = (share(), share());
        let ([a, of_b], [b, of_a]) = (packets.probes(there, back), packets.probes(back, there));
        let word = |own: u8, requests: u8| {
            let verdict = if own.max(requests) >= 3 { "~" } else { "." };
            format!("{verdict}{own}/{requests}")
        };
        let cells = [word(a, of_a), word(b, of_b)];
        if cells.iter().any(|cell| cell.starts_with('~')) {
            let [then, now] = then_and_now(&format!("*a: - {}\nb: {} -", cells[0], cells[1]));
            pairs += 1;
            different += i32::from(then != now);
        }
    }
    assert!(different * 25 <= pairs, "{different} of {pairs}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_past_mesh_is_found_in_the_words_of_then(mesh in mesh()) {
        let (names, now): (Vec<_>, Rows) = rows(&mesh.matrix()).into_iter().unzip();
        let then = |node: usize| match is_had(mesh.own, &now, node) {
            true => now[node].clone(),
            false => Err(RowError::Busy),
        };
        let then: Rows = (0..now.len()).map(then).collect();
        let own = &names[mesh.own];
        prop_assert_eq!(live(own, &names, &then), past(own, &names, &now));
    }
}
