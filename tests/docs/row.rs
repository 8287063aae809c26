//! The section on `/api/v1/peers`: its tables and its example against a rendered row.

use std::collections::BTreeSet;

use serde_json::Value;
use wylis::name::{Instance, NodeName};
use wylis::probe::{FailureReason, Outcome};
use wylis::state::RECENT;

use super::markdown::{json_example, table};
use super::{API, read, snapshot, success};

const HEADING: &str = "The row as JSON";

/// A row in which every field has something: a probe that succeeded, and one that failed.
pub(super) fn rendered() -> Value {
    let [node, instance] = ["source", "0f8fad5b"];
    let (node, instance) = (NodeName::new(node).unwrap(), Instance::new(instance).unwrap());
    let known = snapshot(&[success(), Outcome::Failure(FailureReason::Refused)]);
    let text: Vec<u8> = wylis::server::peers_json(&node, &instance, &known).flatten().collect();
    serde_json::from_slice(&text).unwrap()
}

/// The names of the fields of an object and, behind a dot, of those within it.
pub(super) fn fields(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match value {
        Value::Array(all) => found.extend(all.iter().flat_map(fields)),
        Value::Object(all) => {
            for (name, within) in all {
                found.insert(name.clone());
                // Its names are reasons, which have a table of their own.
                if name != "failures_by_reason" {
                    found.extend(fields(within).iter().map(|inner| format!("{name}.{inner}")));
                }
            }
        }
        _ => {}
    }
    found
}

/// The fields of the whole answer, and of one peer.
fn both(row: &Value) -> [BTreeSet<String>; 2] {
    let mut head = row.clone();
    let peers = head.get_mut("peers").unwrap().take();
    [fields(&head), fields(&peers)]
}

#[test]
fn every_field_of_a_row_is_told_and_no_other() {
    let text = read(API);
    for (number, known) in both(&rendered()).into_iter().enumerate() {
        let rows = table(&text, HEADING, number).unwrap();
        let told: BTreeSet<String> = rows.iter().filter_map(|row| row.first().cloned()).collect();
        assert_eq!(told, known);
        assert_eq!(told.len(), rows.len(), "a field stands twice");
    }
    assert!(text.contains(&format!("the last {RECENT} probes, oldest first")));
}

#[test]
fn the_example_is_a_row() {
    let text = read(API);
    let example: Value = serde_json::from_str(&json_example(&text, HEADING)).unwrap();
    let row = rendered();
    assert_eq!(example["version"], row["version"]);
    for (told, known) in both(&example).iter().zip(both(&row)) {
        assert_eq!(told.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
        assert!(!told.is_empty());
    }
}

#[test]
fn fields_within_fields_are_seen() {
    let row =
        serde_json::json!({"a": 1, "b": [{"c": 1}, {"d": null}], "failures_by_reason": {"e": 1}});
    let expected = ["a", "b", "b.c", "b.d", "failures_by_reason"];
    assert_eq!(fields(&row).iter().collect::<Vec<_>>(), expected);
}
