//! `/api/v1/cluster`: the rows of all nodes.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::cell::{CellFields, Cells};
use super::finding::FindingFields;
use super::{Chunks, ReadError, VERSION};
use super::{
    duration, is_default, json, list, millis, optional, past, past_fields, read, unix_seconds,
};
use crate::bounded_list::BoundedList;
use crate::matrix::{Matrix, Row, RowError};
use crate::name::NodeName;

/// Most cells that are read: a matrix has up to 175,000, and each of its rows one for each name, of which
/// there are up to twice as many.
const MAX_READ_CELLS: usize = 400_000;

#[derive(Serialize)]
struct MatrixHead<'a> {
    version: u32,
    node: &'a str,
    at: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    repeated: bool,
    duration_seconds: f64,
    deadline_seconds: f64,
    nodes: Vec<&'a str>,
    findings: Vec<FindingFields<'a>>,
}

#[derive(Serialize)]
struct RowFields<'a> {
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    repeated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    through: Option<&'a str>,
    /// In the order of the names; `null` where the row has no such peer.
    cells: Cells<'a>,
}

read_object!(
    RowFields<'de>,
    required: [node, cells],
    optional: [error, at, age_seconds, seconds, repeated, through]
);

/// The matrix, one row a chunk.
#[must_use]
pub fn matrix_json(matrix: &Arc<Matrix>) -> Chunks {
    let nodes: Vec<&str> = matrix.rows().map(|(name, _)| name.as_str()).collect();
    let finding = |finding| FindingFields::new(finding, &nodes);
    let (seconds, repeated) = past_fields(matrix.past());
    let head = MatrixHead {
        version: VERSION,
        node: matrix.node().as_str(),
        at: unix_seconds(matrix.at()),
        seconds,
        repeated,
        duration_seconds: matrix.duration().as_secs_f64(),
        deadline_seconds: matrix.deadline().as_secs_f64(),
        findings: matrix.findings().iter().map(finding).collect(),
        nodes,
    };
    let (count, matrix) = (head.nodes.len(), Arc::clone(matrix));
    list(
        &head,
        "rows",
        count,
        Box::new(move |index| {
            let row = |(node, row)| json(&row_fields(&matrix, node, row));
            matrix.rows().nth(index).map(row).unwrap_or_default()
        }),
    )
}

fn row_fields<'a>(
    matrix: &Matrix,
    node: &'a NodeName,
    row: Result<&'a Row, RowError>,
) -> RowFields<'a> {
    let node = node.as_str();
    match row {
        Err(error) => RowFields {
            node,
            error: Some(error.as_str()),
            at: None,
            age_seconds: None,
            seconds: None,
            repeated: false,
            through: None,
            cells: BoundedList(Vec::new()),
        },
        Ok(row) => {
            let cell = |cell: Option<_>| Some(Box::new(CellFields::new(None, &cell?, row.at())));
            let (at, cells) =
                (Some(unix_seconds(row.at())), BoundedList(matrix.cells(row).map(cell).collect()));
            let age_seconds = (row.age() > 0).then(|| unix_seconds(row.age()));
            let through = row.through().map(NodeName::as_str);
            let (seconds, repeated) = past_fields(row.past());
            RowFields { node, error: None, at, age_seconds, seconds, repeated, through, cells }
        }
    }
}

/// A row in memory; its fields would take eight times as much, and the pod has 32 MiB.
#[derive(Deserialize)]
#[serde(try_from = "RowFields<'_>")]
pub(super) struct MatrixRow(NodeName, Result<Row, RowError>);

impl TryFrom<RowFields<'_>> for MatrixRow {
    type Error = &'static str;

    fn try_from(fields: RowFields<'_>) -> Result<Self, Self::Error> {
        let row = || {
            let node = NodeName::new(fields.node).ok()?;
            if let Some(error) = fields.error {
                return Some(Self(node, Err(RowError::from_text(error)?)));
            }
            let (at, age) = (millis(fields.at?)?, millis(fields.age_seconds.unwrap_or(0.0))?);
            let past = past(fields.seconds, fields.repeated);
            // A collected vector would reserve up to twice as much.
            let mut cells = Vec::with_capacity(fields.cells.0.len());
            for cell in &fields.cells.0 {
                cells.push(optional(cell.as_ref(), |cell| cell.check(at, past.is_some()))?);
            }
            let through = optional(fields.through, |name| NodeName::new(name).ok())?;
            Some(Self(node, Ok(Row::new(at, age, cells).passed_on(through).of_the_past(past))))
        };
        row().ok_or("no row of a matrix")
    }
}

/// All rows, with a bound for their cells: `null` takes 5 bytes in a document and 16 in memory.
pub(super) struct Rows(Vec<MatrixRow>);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Rows;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("rows")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Rows, A::Error> {
                let (mut rows, mut cells) = (Vec::new(), 0);
                while let Some(row) = seq.next_element::<MatrixRow>()? {
                    // A row without cells takes memory as well.
                    cells += 1 + row.1.as_ref().map_or(0, Row::size);
                    if cells > MAX_READ_CELLS {
                        return Err(A::Error::custom("too many cells"));
                    }
                    rows.push(row);
                }
                Ok(Rows(rows))
            }
        }

        input.deserialize_seq(All)
    }
}

/// Reads the matrix.
///
/// # Errors
/// When it is malformed or of another version.
pub fn read_matrix(document: &[u8]) -> Result<Matrix, ReadError> {
    let document = read(document)?;
    let matrix = || {
        let (nodes, rows) = (document.nodes?, document.rows?);
        let (nodes, rows) = (nodes.0, rows.0);
        let nodes_match = rows.iter().map(|row| row.0.as_str()).eq(nodes);
        let (names, rows): (Vec<_>, _) =
            rows.into_iter().map(|MatrixRow(name, row)| (name, row)).unzip();
        let [time, deadline] = [document.duration_seconds, document.deadline_seconds]
            .map(|seconds| duration(seconds.unwrap_or(0.0)));
        let node = NodeName::new(document.node).ok().filter(|_| nodes_match)?;
        // An agent of an earlier release gives none.
        let findings = optional(document.findings, |all| {
            all.0.into_iter().map(|finding| finding.check(&names)).collect::<Option<Vec<_>>>()
        })?;
        let times = [time?, deadline?];
        let at = (millis(document.at)?, past(document.seconds, document.repeated));
        Matrix::from_parts(node, at, times, names, rows, findings)
    };
    matrix().ok_or(ReadError::Malformed)
}
