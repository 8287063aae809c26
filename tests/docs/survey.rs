//! The survey as JSON in docs/api.md: table and example against a document that is read and written. And the
//! sentences of docs/commands.md.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use wylis::document::{read_survey, survey_json};
use wylis::survey::{DEFAULT_BUDGET, DEFAULT_GAPS, MAX_RESULTS, Plan, WARM_ATTEMPTS};

use super::markdown::{json_example, table};
use super::peers::fields;
use super::{API, COMMANDS, assert_says, read};

const HEADING: &str = "The survey as JSON";

fn example() -> String {
    json_example(&read(API), HEADING)
}

#[test]
fn the_example_is_read_and_written_as_it_is() {
    let text = example();
    let (node, status) = read_survey(text.as_bytes()).expect("a survey");
    let example: Value = serde_json::from_str(&text).unwrap();
    let written = survey_json(&node, 1_767_225_601_393, &status);
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), example);
}

#[test]
fn the_fields_of_a_survey_are_documented() {
    let example: Value = serde_json::from_str(&example()).unwrap();
    let rows = table(&read(API), HEADING, 0).unwrap();
    let documented: BTreeSet<String> = rows.iter().filter_map(|row| row.first().cloned()).collect();
    assert_eq!(documented, fields(&example));
}

#[test]
fn the_figures_of_a_survey_are_those_of_the_code() {
    let minutes = Plan::default().pair_time().as_secs() / 60;
    let hours = DEFAULT_BUDGET.as_secs() / 3600;
    assert_says(COMMANDS, &format!("about {minutes} minutes a pair and {hours} hours for 5 nodes"));
    let gaps: Vec<String> = DEFAULT_GAPS.iter().map(|gap| format!("{}s", gap.as_secs())).collect();
    assert_says(COMMANDS, &format!("| {} |", gaps.join(",")));
    assert_eq!(WARM_ATTEMPTS, 5);
    assert_says(COMMANDS, "the slowest of the five after it");
    assert_says(API, &format!("{},{:03} at most", MAX_RESULTS / 1000, MAX_RESULTS % 1000));
    assert_eq!(wylis::survey::MAX_TRIAL, Duration::from_secs(20));
    assert_says(COMMANDS, "if it fails (after 20 s)");
}
