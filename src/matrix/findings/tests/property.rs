//! What holds of the findings of every matrix.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::picture::picture;
use crate::matrix::Matrix;
use crate::matrix::findings::facts::Facts;
use crate::matrix::findings::found::Found;
use crate::matrix::findings::{FindingKind, find};
use crate::state::Verdict;

/// Cells by row; a row is missing with its error.
#[derive(Debug, Clone)]
pub(super) struct Mesh {
    pub(super) own: usize,
    rows: Vec<Result<Vec<&'static str>, &'static str>>,
}

impl Mesh {
    /// The picture in which the node at each place has moved to another place.
    fn moved(&self, to: &[usize]) -> Matrix {
        let size = self.rows.len();
        let mut from = vec![0; size];
        for (place, to) in to.iter().enumerate() {
            from[*to] = place;
        }
        let line = |place: usize| {
            let star = if from[place] == self.own { "*" } else { "" };
            let cells = match &self.rows[from[place]] {
                Err(error) => format!("no {error}"),
                Ok(cells) => {
                    let cell = |target| if target == place { "-" } else { cells[from[target]] };
                    (0..size).map(cell).collect::<Vec<_>>().join(" ")
                }
            };
            format!("{star}n{place:02}: {cells}")
        };
        picture(&(0..size).map(line).collect::<Vec<_>>().join("\n"))
    }

    pub(super) fn matrix(&self) -> Matrix {
        self.moved(&(0..self.rows.len()).collect::<Vec<_>>())
    }
}

pub(super) fn mesh() -> impl Strategy<Value = Mesh> {
    let few = prop::sample::select(vec![".", ".", ".", ".", ".", "X", "~"]);
    let words = vec![
        ".", ".", "X", "Xs", "Xn", "Xq", "R", "S", ">", "!", "%", "~", "~6/0", "~0/5", ".0/3",
        "mo", "mi", "mb", "?", "d", "_", ".i", "Xh", "XH", "Xsh", "Uh", "mo=1337", "mi=1400",
        "mb=524+", "%:1/4", "%:2/4", ".u", "Xu", "mou=1337",
    ];
    let many = prop::sample::select(words);
    let whole = prop::sample::select(vec!["X", "Xh", "XH", ".", "~", "mi=1337"]);
    let cell = prop_oneof![8 => few, 2 => many];
    let error = prop::sample::select(vec!["connect_timeout", "busy", "no_peer"]);
    (1_usize..9).prop_flat_map(move |size| {
        let row = prop_oneof![
            6 => prop::collection::vec(cell.clone(), size).prop_map(Ok),
            2 => whole.clone().prop_map(move |word| Ok(vec![word; size])),
            2 => error.clone().prop_map(Err),
        ];
        let columns = prop::collection::vec(
            prop_oneof![6 => Just(None), 1 => whole.clone().prop_map(Some)],
            size,
        );
        (prop::collection::vec(row, size), columns, 0..size).prop_map(|(mut rows, columns, own)| {
            for row in rows.iter_mut().flatten() {
                for (cell, column) in row.iter_mut().zip(&columns) {
                    *cell = column.unwrap_or(cell);
                }
            }
            if rows[own].is_err() {
                rows[own] = Ok(vec!["."; rows.len()]);
            }
            Mesh { own, rows }
        })
    })
}

fn found(matrix: &Matrix) -> Vec<Found> {
    find(&mut Facts::new(matrix), true)
}

/// Kind, gravity, nodes, cells, words.
type Moved = (FindingKind, bool, Vec<usize>, Vec<(usize, usize)>, Vec<String>);

/// The findings, with every node moved; the words of a sentence in any order.
fn moved(found: &[Found], to: &[usize]) -> Vec<Moved> {
    let renamed: BTreeMap<String, String> = to
        .iter()
        .enumerate()
        .map(|(from, to)| (format!("n{from:02}"), format!("n{to:02}")))
        .collect();
    let sorted = |found: &Found| {
        let mut nodes: Vec<usize> = found.nodes.iter().map(|node| to[*node]).collect();
        nodes.sort_unstable();
        let mut cells: Vec<_> = found.cells.iter().map(|pair| (to[pair.0], to[pair.1])).collect();
        cells.sort_unstable();
        let words = found.text.split(|letter: char| !letter.is_alphanumeric());
        let mut words: Vec<String> =
            words.map(|word| renamed.get(word).cloned().unwrap_or(word.to_owned())).collect();
        words.sort_unstable();
        // Which names a long list leaves out depends on the names.
        if found.text.contains(" more") {
            words.clear();
        }
        (found.kind, found.is_grave, nodes, cells, words)
    };
    let mut all: Vec<_> = found.iter().map(sorted).collect();
    all.sort();
    all
}

fn mesh_and_order() -> impl Strategy<Value = (Mesh, Vec<usize>)> {
    mesh().prop_flat_map(|mesh| {
        let places: Vec<usize> = (0..mesh.rows.len()).collect();
        (Just(mesh), Just(places).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_cell_that_is_not_well_is_in_one_finding(mesh in mesh()) {
        let matrix = mesh.matrix();
        let facts = Facts::new(&matrix);
        let mut explained: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for finding in found(&matrix).iter().filter(|one| one.kind != FindingKind::Intercepted) {
            prop_assert!(!finding.text.is_empty());
            let paths = !matches!(finding.kind, FindingKind::Clock | FindingKind::MissingRow);
            prop_assert_eq!(paths, !finding.cells.is_empty(), "{:?}", finding);
            for pair in finding.cells.iter() {
                *explained.entry(pair).or_default() += 1;
            }
        }
        let size = mesh.rows.len();
        let pairs = (0..size).flat_map(|source| (0..size).map(move |target| (source, target)));
        for pair in pairs {
            let bad = facts.cell(pair).is_some_and(|cell| {
                !cell.is_surveyed()
                    && !matches!(cell.verdict(), Verdict::Up | Verdict::Draining | Verdict::Unknown)
            });
            prop_assert_eq!(explained.get(&pair).copied().unwrap_or(0), usize::from(bad), "{:?}", pair);
        }
    }

    #[test]
    fn moving_nodes_moves_the_findings_and_changes_nothing_else((mesh, to) in mesh_and_order()) {
        let same: Vec<usize> = (0..to.len()).collect();
        let (before, after) = (found(&mesh.matrix()), found(&mesh.moved(&to)));
        prop_assert_eq!(moved(&before, &to), moved(&after, &same));
        let order = |found: &[Found]| {
            found.iter().map(|one| (one.kind, one.cells.len())).collect::<Vec<_>>()
        };
        prop_assert_eq!(order(&before), order(&after));
    }

    #[test]
    fn no_node_that_any_row_reaches_is_called_down(mesh in mesh()) {
        let matrix = mesh.matrix();
        let facts = Facts::new(&matrix);
        for finding in found(&matrix) {
            if matches!(finding.kind, FindingKind::NodeDown | FindingKind::CutOff) {
                for node in finding.nodes {
                    let reached = (0..mesh.rows.len())
                        .any(|source| facts.reaches((source, node)) == Some(true));
                    prop_assert!(!reached, "{}", finding.text);
                }
            }
        }
    }

    #[test]
    fn a_healthy_mesh_says_nothing(size in 1_usize..12) {
        let mesh = Mesh { own: 0, rows: vec![Ok(vec!["."; size]); size] };
        prop_assert!(found(&mesh.matrix()).is_empty());
    }
}
