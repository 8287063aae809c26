//! The matrix of a past moment, from what each agent remembers of it.

use std::time::Instant;

use super::{Collected, Reads, deadline_of_all};
use crate::agent::detour;
use crate::document::{MAX_ROW, read_row};
use crate::history::{BIN, Recollection, begin_of_bin, is_row_of};
use crate::matrix::{Matrix, NamedRow, Past, RowError};
use crate::name::NodeName;
use crate::probe::FailureReason;
use crate::state::Snapshot;
use crate::wire;

/// The key of this second in the cache. All seconds of a cell have the same matrix, and so have those of a bin of
/// which this agent remembers nothing: such a key has the highest bit, which no begin of a cell has.
pub(super) fn key_of(recollection: &Recollection, seconds: u64) -> u64 {
    recollection.at(seconds).map_or(1 << 63 | begin_of_bin(seconds), |span| span.time.from)
}

/// Collects the matrix of a past second.
pub(super) fn collect(
    own: &NodeName,
    snapshot: &Snapshot,
    reads: &Reads,
    recollection: &Recollection,
    seconds: u64,
) -> Matrix {
    let began = Instant::now();
    let deadline = deadline_of_all(snapshot);
    let row = recollection.row_at(seconds).ok_or(RowError::NotRemembered);
    let known = row.as_ref().ok().and_then(|row| Some((row.at, row.past?)));
    let width = u32::try_from(BIN).unwrap_or(u32::MAX);
    let unknown = Past { seconds: width, is_repeated: false };
    let (at, past) = known.unwrap_or((begin_of_bin(seconds).saturating_mul(1000), unknown));
    let peers = snapshot.peers.iter().map(|record| record.peer.node.clone());
    let matrix = Matrix::of_the_past(own, at, past, peers, row, deadline);
    let mut rows = Rows { matrix, path: format!("{}/{seconds}", wire::PAST_ROW_PATH), seconds };
    super::collect(&mut rows, own, snapshot, reads, began + deadline);
    let mut matrix = rows.matrix;
    if known.is_none() {
        let times = matrix.rows().filter_map(|(_, row)| Some((row.ok()?.at(), row.ok()?.past()?)));
        if let Some((at, past)) = times.max_by_key(|(_, past)| past.seconds) {
            matrix.set_past(at, past);
        }
    }
    matrix.finish(began.elapsed())
}

/// The rows so far.
struct Rows {
    matrix: Matrix,
    path: String,
    seconds: u64,
}

impl Collected for Rows {
    fn path(&self) -> &str {
        &self.path
    }

    fn max_bytes(&self) -> usize {
        MAX_ROW
    }

    fn has_room(&self) -> bool {
        self.matrix.has_room()
    }

    fn read(
        &mut self,
        node: &NodeName,
        document: &[u8],
        through: Option<NodeName>,
    ) -> Result<(), RowError> {
        let row = read_row(node, document)?;
        if !is_row_of(&row, self.seconds) {
            return Err(RowError::Failure(FailureReason::BadResponse));
        }
        self.matrix.add(node, Ok(NamedRow { through, ..row }));
        Ok(())
    }

    fn miss(&mut self, node: &NodeName, error: RowError) {
        self.matrix.add(node, Err(error.of_the_past()));
    }

    /// Those that reached it then, first: their rows tell nothing of now.
    fn reaching(&self, node: &NodeName) -> Vec<(u8, &NodeName)> {
        let best = detour::reaching(&self.matrix, node);
        let others = self.matrix.verdicts_on(node).map(|(peer, _)| (2, peer));
        let others = others.filter(|(_, peer)| best.iter().all(|(_, one)| one != peer));
        others.chain(best.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{name, remembering, with_two_peers};
    use super::*;

    const UP: &[u8] = br#"[{"node":"two","verdict":"up","probes":3}]"#;

    fn row(node: &str, at: u64, seconds: u64) -> Vec<u8> {
        let head = format!(r#"{{"version":1,"node":"{node}","at":{at},"seconds":{seconds},"#);
        [head.as_bytes(), b"\"cells\":", UP, b"}"].concat()
    }

    fn rows(recollection: &Recollection, seconds: u64) -> Rows {
        let (snapshot, _) = with_two_peers();
        let (path, own) = (format!("{}/{seconds}", wire::PAST_ROW_PATH), name("own"));
        let peers = snapshot.peers.iter().map(|record| record.peer.node.clone());
        let row = recollection.row_at(seconds).ok_or(RowError::NotRemembered);
        let past = Past { seconds: 300, is_repeated: false };
        let matrix =
            Matrix::of_the_past(&own, 0, past, peers, row, std::time::Duration::from_secs(1));
        Rows { matrix, path, seconds }
    }

    fn errors(matrix: &Matrix) -> Vec<(&str, Option<&str>)> {
        let rows = matrix.rows();
        rows.map(|(name, row)| (name.as_str(), row.err().map(RowError::as_str))).collect()
    }

    #[test]
    fn all_seconds_of_a_cell_have_one_matrix_also_where_this_agent_remembers_none() {
        // The agent was restarted 100 s after the begin of a bin.
        let recollection = remembering(&["one"], 1200, 100);
        let unknown = |bin: u64| 1 << 63 | bin;
        for (second, key) in [
            (1200, 1200),
            (1299, 1200),
            (1300, unknown(1200)),
            (1499, unknown(1200)),
            (1500, unknown(1500)),
            (17, unknown(0)),
        ] {
            assert_eq!(key_of(&recollection, second), key, "{second}");
        }
    }

    #[test]
    fn only_a_row_of_the_second_that_was_asked_for_is_taken() {
        let bad = Err(RowError::Failure(FailureReason::BadResponse));
        for (document, read) in [
            (row("one", 1200, 300), Ok(())),
            (row("one", 0, 86_400), Ok(())),
            (row("one", 0, 86_401), bad),
            (row("one", 900, 300), bad),
            (row("one", 1500, 300), bad),
            (row("two", 1200, 300), Err(RowError::Failure(FailureReason::WrongPeer))),
            ([br#"{"version":1,"node":"one","at":1200,"cells":"#, UP, b"}"].concat(), bad),
            (b"no row".to_vec(), bad),
        ] {
            let mut rows = rows(&remembering(&["one"], 1200, 300), 1400);
            assert_eq!(rows.read(&name("one"), &document, None), read);
        }
    }

    #[test]
    fn nodes_without_memory_and_nodes_that_left_are_told_apart() {
        let mut rows = rows(&remembering(&["one", "gone"], 1200, 300), 1400);
        rows.miss(&name("one"), RowError::Unsupported);
        rows.miss(&name("two"), RowError::Busy);
        let expected = [
            ("gone", Some("no_peer")),
            ("one", Some("not_remembered")),
            ("own", None),
            ("two", Some("busy")),
        ];
        assert_eq!(errors(&rows.matrix), expected);
        let (own, (snapshot, _)) = (name("own"), with_two_peers());
        // At the end of its time, no peer is asked.
        let reads = Reads::default();
        reads.set_resting(Some(name("one")));
        let matrix = collect(&own, &snapshot, &reads, &remembering(&["one"], 1200, 300), 100);
        assert_eq!(
            errors(&matrix)[..2],
            [("one", Some("surveyed")), ("own", Some("not_remembered"))]
        );
        assert_eq!((matrix.at(), matrix.past().map(|past| past.seconds)), (0, Some(300)));
    }

    #[test]
    fn peers_that_reached_the_node_then_are_asked_first_and_the_others_after_them() {
        let mut rows = rows(&remembering(&["one"], 1200, 300), 1400);
        let row = |verdict: &str| {
            let cells = format!(r#"[{{"node":"two",{verdict},"probes":3}}]"#);
            format!(r#"{{"version":1,"node":"one","at":1200,"seconds":300,"cells":{cells}}}"#)
        };
        for (verdict, rank) in
            [(r#""verdict":"up""#, 0), (r#""verdict":"down","reason":"refused""#, 2)]
        {
            rows.read(&name("one"), row(verdict).as_bytes(), None).unwrap();
            assert_eq!(rows.reaching(&name("two")), [(rank, &name("one"))]);
        }
    }
}
