//! The rules: the fields of every alert, and promtool's checks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wylis_harness::yaml;

use crate::promtool::is_installed;

pub(crate) fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/monitoring/wylis.rules.yaml")
}

fn rules() -> Vec<Value> {
    let text = std::fs::read_to_string(file()).unwrap();
    let groups = yaml::parse(&text)[0]["groups"].as_array().cloned().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap()).collect()
}

/// All alerts of the file.
pub(crate) fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

pub(crate) fn alert(name: &str) -> Value {
    let found = alerts().into_iter().find(|alert| alert["alert"] == name);
    found.unwrap_or_else(|| panic!("no alert {name}"))
}

#[test]
fn promtool_accepts_the_rules() {
    if !is_installed("promtool") {
        return;
    }
    let output = Command::new("promtool")
        .args(["check", "rules", "--lint=all", "--lint-fatal"])
        .arg(file())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(&format!("{} rules found", rules().len())), "{text}");
}

#[test]
fn every_alert_has_a_delay_a_severity_a_summary_and_a_runbook() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} is defined twice");
        assert!(name.starts_with("Wylis"), "{name}");
        let minutes = alert["for"].as_str().and_then(|time| time.strip_suffix('m'));
        // At least two scrapes at an interval of 1 min.
        assert!(
            minutes.and_then(|time| time.parse::<u32>().ok()).is_some_and(|m| m >= 2),
            "{name}"
        );
        let labels = alert["labels"].as_object().unwrap();
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["severity"], "{name}");
        assert!(["critical", "warning"].contains(&labels["severity"].as_str().unwrap()), "{name}");
        let annotations = alert["annotations"].as_object().unwrap();
        assert_eq!(
            annotations.keys().collect::<BTreeSet<_>>(),
            BTreeSet::from([&"description".into(), &"runbook_url".into(), &"summary".into()])
        );
        let runbook = format!("REPOSITORY/blob/main/docs/runbooks.md#{}", name.to_lowercase());
        assert_eq!(annotations["runbook_url"], runbook.as_str());
        let summary = annotations["summary"].as_str().unwrap();
        assert!((10..110).contains(&summary.len()), "{summary}");
    }
}

/// Words of an expression: names, labels, functions.
fn words(expression: &str) -> BTreeSet<&str> {
    expression.split(|c: char| !c.is_ascii_alphanumeric() && !"_:".contains(c)).collect()
}

#[test]
fn no_alert_depends_on_pod_or_scrape_labels() {
    for rule in rules() {
        let expression = rule["expr"].as_str().unwrap();
        let words = words(expression);
        for foreign in ["up", "pod", "namespace", "container", "node", "kube_pod_info"] {
            assert!(!words.contains(foreign), "{foreign} in {expression}");
        }
        // A rule may join series by scrape labels, but must aggregate these labels away.
        if words.contains("instance") && rule["record"] != "agent:wylis_node:info" {
            assert!(words.contains("source_node") && words.contains("job"), "{expression}");
            let outer = expression.trim_start();
            let begins = ["group by (source_node)", "sum by (source_node)"];
            assert!(begins.iter().any(|begin| outer.starts_with(begin)), "{expression}");
        }
    }
    for alert in alerts() {
        for text in alert["annotations"].as_object().unwrap().values() {
            let text = text.as_str().unwrap();
            let variables = text.split("$labels.").skip(1);
            let variables = variables.map(|rest| rest.split([' ', '}']).next().unwrap());
            for variable in variables {
                assert!(["source_node", "target_node"].contains(&variable), "{text}");
            }
            for action in text.split("{{").skip(1) {
                let action = action.trim_start_matches('-').trim_start();
                let known =
                    ["$labels.", "with printf", "range printf", ".", "if eq", "else", "end"];
                assert!(known.iter().any(|start| action.starts_with(start)), "{text}");
            }
        }
    }
}
