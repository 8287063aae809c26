//! The matrix as JSON in docs/api.md: tables and example against a matrix that is read and written. And
//! the table of commands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use wylis::document::{matrix_json, read_matrix, row_json};
use wylis::matrix::{Matrix, RowError};
use wylis::name::{Instance, NodeName};
use wylis::probe::{FailureReason, Outcome};

use super::markdown::{differences, json_example, row, table};
use super::peers::fields;
use super::{API, COMMANDS, Row, read, snapshot, success};

const HEADING: &str = "The matrix as JSON";

fn example() -> String {
    json_example(&read(API), HEADING)
}

/// The JSON of a matrix as the agent writes it.
fn written(matrix: Matrix) -> Value {
    let text: Vec<u8> = matrix_json(&Arc::new(matrix)).flatten().collect();
    serde_json::from_slice(&text).unwrap()
}

/// First column of a table of the section.
fn documented(number: usize) -> BTreeSet<String> {
    let rows = table(&read(API), HEADING, number).unwrap();
    let names: BTreeSet<String> = rows.iter().filter_map(|row| row.first().cloned()).collect();
    assert_eq!(names.len(), rows.len(), "a repeated row");
    names
}

#[test]
fn the_example_is_what_the_agent_would_write() {
    let text = example();
    let matrix = read_matrix(text.as_bytes()).expect("a matrix");
    let example: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written(matrix), example);
    // Its rows have these findings.
    let mut rows = example.clone();
    rows.as_object_mut().unwrap().remove("findings");
    let matrix = read_matrix(rows.to_string().as_bytes()).expect("a matrix");
    assert_eq!(written(matrix)["findings"], example["findings"]);
}

#[test]
fn the_fields_of_a_matrix_are_documented() {
    // The example has a value in each field, and a matrix that the agent writes has no other field.
    let example: Value = serde_json::from_str(&example()).unwrap();
    assert_eq!(documented(0), fields(&example));
    let node = NodeName::new("source").unwrap();
    let known = snapshot(&[success(), Outcome::Failure(FailureReason::Refused)]);
    let mut matrix = Matrix::new(&node, &known, Duration::from_secs(2));
    matrix.add(&NodeName::new("target").unwrap(), Err(RowError::Busy));
    let real = fields(&written(matrix.finish(Duration::ZERO)));
    assert_eq!(real.difference(&documented(0)).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(real.len() > 10, "{real:?}");
}

#[test]
fn the_short_row_has_the_fields_of_a_cell() {
    let node = NodeName::new("source").unwrap();
    let known = snapshot(&[success()]);
    let text: Vec<u8> = row_json(&node, &Instance::new("i").unwrap(), &known).flatten().collect();
    let short = fields(&serde_json::from_slice(&text).unwrap());
    let documented = documented(0);
    for field in short {
        let of_cell = field.strip_prefix("cells.").map(|field| format!("rows.cells.{field}"));
        let known = of_cell.is_some_and(|field| documented.contains(&field));
        let named = ["version", "node", "instance", "at", "cells", "cells.node"];
        assert!(known || named.contains(&field.as_str()), "{field}");
    }
}

#[test]
fn the_errors_of_rows_are_those_of_the_code() {
    let errors: BTreeSet<String> =
        RowError::OTHERS.iter().map(|error| error.as_str().to_owned()).collect();
    assert_eq!(documented(1), errors);
    // Fails to compile when a variant is missing above.
    match RowError::Busy {
        RowError::Failure(_) | RowError::TooLarge | RowError::Busy => {}
        RowError::Unsupported | RowError::Surveyed => {}
        RowError::NoPeer | RowError::NotRemembered => {}
    }
}

#[test]
fn the_commands_are_those_of_the_code() {
    let known: Vec<Row> =
        wylis::cli::COMMANDS.iter().map(|(usage, what)| row([*usage, *what])).collect();
    let documented = table(&read(COMMANDS), "Commands", 0).unwrap();
    let found = differences(&documented, &known);
    assert!(found.is_empty(), "{found:#?}");
}
