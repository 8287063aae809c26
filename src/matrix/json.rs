//! Rows, the matrix and a pair as JSON, in pieces. Names are of a plain alphabet and all else is a
//! number or a word of ours, so that nothing needs escaping.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::{Cell, Matrix, Missing, NONE, VERSION, millis};
use crate::name::{Instance, NodeName};
use crate::state::{RECENT, Snapshot, Verdict};

/// A document as it is made, piece by piece.
type Chunks = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// The compact row of `node`, which a collector reads.
#[must_use]
pub fn row_json(node: &NodeName, instance: &Instance, snapshot: &Arc<Snapshot>) -> Chunks {
    let at = millis(snapshot);
    let mut opening = String::new();
    let _ = write!(
        opening,
        "{{\"version\":{VERSION},\"node\":\"{node}\",\"instance\":\"{instance}\",\"at\":{},\
         \"cells\":[",
        thousandths(at)
    );
    pieces(opening, Arc::clone(snapshot), snapshot.peers.len(), move |snapshot, index| {
        let mut text = String::new();
        if let Some(record) = snapshot.peers.get(index) {
            let _ = write!(text, "{{\"node\":\"{}\",", record.peer.node);
            write_cell(&mut text, &Cell::of(record, at), at);
        }
        text
    })
}

/// A document that ends with a list of so many, each made when its turn comes.
fn pieces<T: Send + Sync + 'static>(
    opening: String,
    of: Arc<T>,
    count: usize,
    piece: impl Fn(&T, usize) -> String + Send + 'static,
) -> Chunks {
    Box::new((0..count + 2).map(move |index| {
        let text = match index.checked_sub(1) {
            None => opening.clone(),
            Some(index) if index == count => "\n]}\n".to_owned(),
            Some(index) => [if index == 0 { "\n" } else { ",\n" }, &piece(&of, index)].concat(),
        };
        text.into_bytes()
    }))
}

/// The matrix, a row a piece.
#[must_use]
pub fn matrix_json(matrix: &Arc<Matrix>) -> Chunks {
    let mut opening = String::new();
    let _ = write!(
        opening,
        "{{\"version\":{VERSION},\"node\":\"{}\",\"at\":{},\"took_seconds\":{},\
         \"deadline_seconds\":{},\n\"nodes\":[",
        matrix.node,
        thousandths(matrix.at),
        Seconds(matrix.took),
        Seconds(matrix.deadline),
    );
    for (index, (name, _)) in matrix.names.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let _ = write!(opening, "{separator}\"{name}\"");
    }
    opening.push_str("],\n\"rows\":[");
    pieces(opening, Arc::clone(matrix), matrix.names.len(), row_of)
}

/// The row of the `index`th name.
fn row_of(matrix: &Matrix, index: usize) -> String {
    let mut text = String::new();
    let Some((name, row)) = matrix.rows().nth(index) else { return text };
    let _ = write!(text, "{{\"node\":\"{name}\",");
    let row = match row {
        Ok(row) => row,
        Err(why) => {
            let _ = write!(text, "\"error\":\"{}\",\"cells\":[]}}", why.as_str());
            return text;
        }
    };
    let _ = write!(text, "\"at\":{},\"cells\":[", thousandths(row.at));
    for (index, cell) in matrix.cells(row).enumerate() {
        if index > 0 {
            text.push(',');
        }
        match cell {
            None => text.push_str("null"),
            Some(cell) => {
                text.push('{');
                write_cell(&mut text, &cell, row.at);
            }
        }
    }
    text.push_str("]}");
    text
}

/// The fields of a cell, and the closing bracket.
fn write_cell(text: &mut String, cell: &Cell, at: u64) {
    let _ = write!(text, "\"verdict\":\"{}\"", cell.verdict.as_str());
    if let Verdict::Down(reason) = cell.verdict {
        let _ = write!(text, ",\"reason\":\"{reason}\"");
    }
    if let Some(latency) = cell.latency() {
        let _ = write!(text, ",\"latency_seconds\":{}", Seconds(latency));
    }
    let (failures, probes) = cell.failures();
    for (name, number) in [("failures", failures), ("retransmits", cell.retransmits)] {
        if number > 0 {
            let _ = write!(text, ",\"{name}\":{number}");
        }
    }
    if usize::from(probes) != RECENT {
        let _ = write!(text, ",\"probes\":{probes}");
    }
    if cell.is_incoming_syns_only() {
        text.push_str(",\"incoming_syns_only\":true");
    }
    if cell.age != NONE {
        let _ = write!(text, ",\"at\":{}", thousandths(at.saturating_sub(cell.age.into())));
    }
    text.push('}');
}

/// One pair as its source sees it: `peer` is JSON that was checked, or why there is none.
#[must_use]
pub fn pair_json(
    source: &NodeName,
    target: &NodeName,
    peer: Result<(u64, &str), Missing>,
) -> Vec<u8> {
    let mut text =
        format!("{{\"version\":{VERSION},\"source\":\"{source}\",\"target\":\"{target}\",");
    let _ = match peer {
        Ok((at, peer)) => writeln!(text, "\"at\":{},\"peer\":{peer}}}", thousandths(at)),
        Err(why) => writeln!(text, "\"error\":\"{}\"}}", why.as_str()),
    };
    text.into_bytes()
}

/// Milliseconds as seconds.
fn thousandths(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

/// To the microsecond.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}
