//! Rows added to a matrix, and its bounds.

use super::*;
use crate::peer::Peer;
use crate::state::{MeshState, Moment, StateSettings, Verdict};

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// The matrix of `node`, with these peers and nothing known of them.
fn matrix(node: &str, peers: &[&str]) -> Matrix {
    let interval = Duration::from_secs(10);
    let mut state = MeshState::new(StateSettings {
        failure_threshold: 3,
        interval,
        large_interval: Duration::ZERO,
        host_port: None,
        source: name(node),
        drain: interval,
        bounds: [1.0].into(),
        key: crate::token::TokenKey::new(b"key"),
    });
    let peer = |node: &&str| Peer {
        node: name(node),
        address: "10.0.0.1:9050".parse().unwrap(),
        other_addresses: Vec::new(),
        host: None,
        instance: None,
        ready: None,
    };
    state.peers(peers.iter().map(peer).collect(), interval);
    Matrix::new(&name(node), &state.snapshot(Moment::now()), Duration::from_secs(2))
}

fn up(names: &[&str]) -> NamedRow {
    let cell = Cell::new(CellFacts::of(Verdict::Up));
    let cells = names.iter().map(|node| (name(node), cell)).collect();
    NamedRow { at: 1, age: 0, clock: None, through: None, past: None, cells }
}

fn nodes(matrix: &Matrix) -> Vec<&str> {
    matrix.rows().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn the_own_row_is_there_from_the_start_and_no_node_occurs_twice() {
    let matrix = matrix("n2", &["n1", "n3"]);
    assert_eq!(matrix.node().as_str(), "n2");
    assert_eq!(nodes(&matrix), ["n1", "n2", "n3"]);
    let rows: Vec<_> = matrix.rows().map(|(_, row)| row).collect();
    assert_eq!([rows[0], rows[2]], [Err(RowError::Busy); 2]);
    let own: Vec<_> =
        matrix.cells(rows[1].unwrap()).map(|cell| cell.map(|cell| cell.verdict())).collect();
    assert_eq!(own, [Some(Verdict::Unknown), None, Some(Verdict::Unknown)]);
}

#[test]
fn a_row_with_a_node_twice_is_refused_with_its_names() {
    let mut matrix = matrix("n1", &["n2", "n3"]);
    for twice in [&["new", "n1", "n1"], &["new", "n3", "new"]] {
        matrix.add(&name("n2"), Ok(up(twice)));
        let (_, row) = matrix.rows().nth(1).unwrap();
        assert_eq!(row, Err(RowError::Failure(FailureReason::BadResponse)));
        assert_eq!(nodes(&matrix), ["n1", "n2", "n3"]);
    }
    matrix.add(&name("n2"), Ok(up(&["new", "n1"])));
    assert_eq!(nodes(&matrix), ["n1", "n2", "n3", "new"]);
    assert_eq!(matrix.rows().last().unwrap().1, Err(RowError::NoPeer));
}

#[test]
fn a_matrix_beyond_its_bound_takes_no_more_rows() {
    let names: Vec<String> = (0..600).map(|number| format!("n{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut matrix = matrix("me", &names);
    for peer in &names {
        let others: Vec<&str> = names.iter().filter(|other| *other != peer).copied().collect();
        matrix.add(&name(peer), Ok(up(&others)));
    }
    assert!(matrix.cells <= MAX_CELLS, "{}", matrix.cells);
    let rows: Vec<_> = matrix.rows().map(|(_, row)| row).collect();
    let taken = rows.iter().filter(|row| row.is_ok()).count();
    assert!((285..=300).contains(&taken), "{taken}");
    let refused = rows.iter().filter(|row| **row == Err(RowError::TooLarge)).count();
    assert_eq!((rows.len(), taken + refused), (601, 601));
}

#[test]
fn the_order_in_which_rows_come_changes_no_finding() {
    let texts = |order: [usize; 3], reversed: bool| {
        let mut matrix = matrix("b", &["a", "c", "d"]);
        let rows = [
            ("a", vec![("b", Verdict::Up), ("c", Verdict::Lossy), ("z", Verdict::Up)]),
            ("c", vec![("d", Verdict::Down(FailureReason::Refused)), ("b", Verdict::Up)]),
            ("d", vec![("y", Verdict::OneWay), ("a", Verdict::Up)]),
        ];
        for place in order {
            let (node, cells) = &rows[place];
            let cell =
                |(to, verdict): &(&str, Verdict)| (name(to), Cell::new(CellFacts::of(*verdict)));
            let mut cells: Vec<_> = cells.iter().map(cell).collect();
            if reversed {
                cells.reverse();
            }
            matrix.add(
                &name(node),
                Ok(NamedRow { at: 1, age: 0, clock: None, through: None, past: None, cells }),
            );
        }
        matrix.finish(Duration::ZERO).findings().to_vec()
    };
    let expected = texts([0, 1, 2], false);
    let sentences: Vec<&str> = expected.iter().map(|finding| finding.text.as_str()).collect();
    assert_eq!(
        sentences,
        ["a → c: lossy", "c → d: down (refused)", "y → d: one-way; requests no longer arrive",]
    );
    for order in [[0, 2, 1], [1, 0, 2], [2, 1, 0]] {
        assert_eq!(texts(order, true), expected, "{order:?}");
    }
}
