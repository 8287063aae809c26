//! The peers as JSON in docs/api.md: tables and example against a rendered document.

use std::collections::BTreeSet;

use serde_json::Value;
use wylis::name::{Instance, NodeName};
use wylis::probe::{FailureReason, Outcome};
use wylis::state::RECENT;

use super::markdown::{json_example, table};
use super::{API, assert_says, read, snapshot, success};

const HEADING: &str = "The peers as JSON";

/// A document with a value in every field: one successful and one failed probe.
pub(super) fn rendered() -> Value {
    let [node, instance] = ["source", "0f8fad5b"];
    let (node, instance) = (NodeName::new(node).unwrap(), Instance::new(instance).unwrap());
    let known = snapshot(&[success(), Outcome::Failure(FailureReason::Refused)]);
    let text: Vec<u8> = wylis::document::peers_json(&node, &instance, &known).flatten().collect();
    serde_json::from_slice(&text).unwrap()
}

/// The names of the fields of an object; nested fields are `outer.inner`.
pub(super) fn fields(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match value {
        Value::Array(all) => found.extend(all.iter().flat_map(fields)),
        Value::Object(all) => {
            for (name, within) in all {
                found.insert(name.clone());
                // Its field names are reasons, which have their own table.
                if name != "failures_by_reason" {
                    found.extend(fields(within).iter().map(|inner| format!("{name}.{inner}")));
                }
            }
        }
        _ => {}
    }
    found
}

/// The fields of an object that are `null`, named in the same way.
fn nulls(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match value {
        Value::Array(all) => found.extend(all.iter().flat_map(nulls)),
        Value::Object(all) => {
            for (name, within) in all {
                found.extend(within.is_null().then(|| name.clone()));
                found.extend(nulls(within).iter().map(|inner| format!("{name}.{inner}")));
            }
        }
        _ => {}
    }
    found
}

/// The fields outside of what no peer of the rendered document has, since only an experiment finds it. What is
/// within has tests of its own (src/document/tests/found.rs).
fn outside_nulls(fields: BTreeSet<String>) -> BTreeSet<String> {
    let nulls = rendered().get("peers").map(nulls).unwrap_or_default();
    assert!(nulls.len() < 16, "{nulls:?}");
    let is_within = |field: &String| {
        nulls.iter().any(|null| field.strip_prefix(null).is_some_and(|rest| rest.starts_with('.')))
    };
    fields.into_iter().filter(|field| !is_within(field)).collect()
}

/// The fields of the whole answer, and of one peer.
fn both(document: &Value) -> [BTreeSet<String>; 2] {
    let mut head = document.clone();
    let peers = head.get_mut("peers").unwrap().take();
    [fields(&head), fields(&peers)]
}

#[test]
fn the_fields_of_the_peers_are_documented() {
    let text = read(API);
    for (number, known) in both(&rendered()).into_iter().enumerate() {
        let rows = table(&text, HEADING, number).unwrap();
        let documented: BTreeSet<String> =
            rows.iter().filter_map(|row| row.first().cloned()).collect();
        assert_eq!(documented.len(), rows.len(), "a repeated field");
        assert_eq!(outside_nulls(documented), known);
    }
    assert_says(API, &format!("the last {RECENT} probes, oldest first"));
}

#[test]
fn the_example_is_a_document_of_peers() {
    let text = read(API);
    let example: Value = serde_json::from_str(&json_example(&text, HEADING)).unwrap();
    let document = rendered();
    assert_eq!(example["version"], document["version"]);
    for (shown, known) in both(&example).iter().zip(both(&document)) {
        let shown = outside_nulls(shown.clone());
        assert_eq!(shown.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
        assert!(!shown.is_empty());
    }
}

#[test]
fn nested_fields_are_found() {
    let document =
        serde_json::json!({"a": 1, "b": [{"c": 1}, {"d": null}], "failures_by_reason": {"e": 1}});
    let expected = ["a", "b", "b.c", "b.d", "failures_by_reason"];
    assert_eq!(fields(&document).iter().collect::<Vec<_>>(), expected);
}
