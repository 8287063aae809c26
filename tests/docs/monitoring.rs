//! Rules, runbooks, dashboard and queries against the metrics of the code.
#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for a missing field")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use wylis::discovery::DiscoveryReason;
use wylis::probe::{FailureReason, LocalError};
use wylis::state::Incoming;
use wylis_harness::yaml;

use super::markdown::{section, table};
use super::{METRICS, assert_says, documents, read};

const RULES: &str = "manifests/monitoring/wylis.rules.yaml";
const DASHBOARD: &str = "manifests/monitoring/grafana-dashboard.json";
const RUNBOOKS: &str = "docs/runbooks.md";
const MONITORING: &str = "docs/monitoring.md";
/// Labels that Prometheus adds, and the label of a bucket.
const FOREIGN: [&str; 3] = ["job", "instance", "le"];
/// Metrics of other origin: of a scrape, and of a process.
const OTHERS: [&str; 2] = ["scrape_", "process_"];

fn rules() -> Vec<Value> {
    let groups = yaml::parse(&read(RULES))[0]["groups"].as_array().cloned().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap()).collect()
}

fn names(kind: &str) -> BTreeSet<String> {
    rules().iter().filter_map(|rule| Some(rule[kind].as_str()?.to_owned())).collect()
}

/// All metrics of the agent and their labels; a histogram has three names.
fn metrics() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut known = BTreeMap::new();
    for one in wylis::metrics::descriptions() {
        let labels = one.labels.split(',').filter(|label| !label.is_empty());
        let labels = labels.flat_map(|label| match label {
            "pair" => vec!["source_node", "target_node"],
            other => vec![other],
        });
        let labels: BTreeSet<&str> = labels.collect();
        if one.kind == "histogram" {
            let with_le = labels.iter().copied().chain(["le"]).collect();
            known.insert(format!("{}_bucket", one.name), with_le);
            for part in ["sum", "count"] {
                known.insert(format!("{}_{part}", one.name), labels.clone());
            }
        } else {
            known.insert(one.name.to_owned(), labels);
        }
    }
    known
}

/// The values of a label with a closed set; `None` for any other label.
fn values(metric: &str, label: &str) -> Option<Vec<String>> {
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Some(match (metric, label) {
        (_, "result") => own(&["success", "failure"]),
        ("wylis_peer_incoming", "kind") => own(&Incoming::ALL.map(Incoming::as_str)),
        (_, "kind") => own(&["one-way", "flaky", "lossy", "mtu"]),
        (_, "state") => {
            let rows = table(&read(METRICS), "Pod states", 0).unwrap();
            rows.into_iter().map(|mut row| row.remove(0)).collect()
        }
        ("wylis_probe_failures_total", "reason") => {
            own(&FailureReason::ALL.map(FailureReason::as_str))
        }
        ("wylis_local_errors_total", "reason") => own(&LocalError::ALL.map(LocalError::as_str)),
        ("wylis_discovery_failures_total", "reason") => {
            own(&DiscoveryReason::ALL.map(DiscoveryReason::as_str))
        }
        _ => return None,
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Wrong metrics, labels and label values in an expression, or in a text with names.
fn faults(text: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let known = metrics();
    let mut faults = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let begin = rest.get(start..).unwrap_or_default();
        let end = begin.find(|c| !is_word(c)).unwrap_or(begin.len());
        let (word, after) = begin.split_at(end);
        rest = after;
        if word.contains(':') && word.contains("wylis_") && !recorded.contains(word) {
            faults.push(format!("{word} is not recorded"));
        }
        if word.starts_with("wylis_") && !word.contains(':') {
            let Some(labels) = known.get(word) else {
                faults.push(format!("there is no metric {word}"));
                continue;
            };
            let matchers = after.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let matchers = matchers.map_or("", |(inside, _)| inside);
            for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
                let name = matcher.split(['=', '!']).next().unwrap_or_default();
                if !labels.contains(name) {
                    faults.push(format!("{word} has no label {name}"));
                    continue;
                }
                let Some(possible) = values(word, name) else { continue };
                let value = matcher.split('"').nth(1).unwrap_or_default();
                let wrong =
                    value.split('|').filter(|value| !possible.iter().any(|one| one == value));
                faults.extend(wrong.map(|value| format!("{name} of {word} is never {value:?}")));
            }
        }
        if ["by", "on", "group_left"].contains(&word)
            && let Some(list) = after.trim_start().strip_prefix('(')
        {
            let all: BTreeSet<&str> = known.values().flatten().copied().chain(FOREIGN).collect();
            let list = list.split(')').next().unwrap_or_default().split(',').map(str::trim);
            let wrong = list.filter(|label| !label.is_empty() && !all.contains(label));
            faults.extend(wrong.map(|label| format!("no metric has the label {label}")));
        }
    }
    faults
}

/// The queries of a document, and its inline code except plain names of metrics.
fn queries(text: &str) -> Vec<&str> {
    let mut language = None;
    let mut found = Vec::new();
    let is_ours = |name: &&str| wylis::metrics::descriptions().any(|one| one.name == *name);
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), language) {
            (Some(_), Some(_)) => language = None,
            (Some(name), None) => language = Some(name),
            (None, Some("promql")) => found.push(line),
            (None, Some(_)) => {}
            (None, None) => {
                found.extend(line.split('`').skip(1).step_by(2).filter(|name| !is_ours(name)))
            }
        }
    }
    found
}

/// Every text that may name a metric, with its file.
fn expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for rule in rules() {
        all.push((RULES.to_owned(), rule["expr"].as_str().unwrap().to_owned()));
    }
    for document in documents() {
        let text = read(&document);
        all.extend(queries(&text).into_iter().map(|line| (document.clone(), line.to_owned())));
    }
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| &target["expr"]);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let queries = queries.chain(variables.iter().map(|one| &one["query"]["query"]));
    all.extend(
        queries.filter_map(|query| Some((DASHBOARD.to_owned(), query.as_str()?.to_owned()))),
    );
    all
}

#[test]
fn every_named_metric_and_label_exists() {
    let recorded = names("record");
    let all = expressions();
    let found: Vec<String> = all
        .iter()
        .flat_map(|(origin, text)| {
            faults(text, &recorded)
                .into_iter()
                .map(move |fault| format!("{origin}: {fault}: {text}"))
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    for origin in [RULES, RUNBOOKS, DASHBOARD, METRICS] {
        let names = |text: &String| text.contains("wylis_");
        assert!(
            all.iter().filter(|(from, text)| from == origin && names(text)).count() > 10,
            "{origin}"
        );
    }
    let expression = |rule: &Value| rule["expr"].as_str().unwrap().to_owned();
    let others = all.iter().flat_map(|(_, text)| text.split(|c| !is_word(c)));
    let used: BTreeSet<&str> = others.filter(|word| word.contains(':')).collect();
    let unused: Vec<_> = recorded.iter().filter(|name| !used.contains(name.as_str())).collect();
    assert!(unused.is_empty(), "recorded and unused: {unused:?}");
    let pairs = recorded.iter().filter(|name| name.starts_with("pair:")).count();
    for (page, text) in [
        (MONITORING, format!("{pairs} more series for each pair")),
        ("docs/sizing.md", format!("{pairs} more with the recording rules")),
    ] {
        assert_says(page, &text);
    }
    assert!(
        rules().iter().map(expression).all(|text| !OTHERS.iter().any(|other| text.contains(other)))
    );
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let text = read(RUNBOOKS);
    let alerts = names("alert");
    let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
    let headings: Vec<String> = headings.map(str::to_owned).collect();
    assert_eq!(headings.iter().cloned().collect::<BTreeSet<_>>(), alerts);
    assert_eq!(headings.len(), alerts.len(), "a repeated section");
    for alert in &alerts {
        let lines = section(&text, alert).unwrap();
        for part in ["**Meaning.** ", "**Diagnosis.** ", "**Mitigation.** "] {
            let there = lines.iter().filter(|line| line.starts_with(part)).count();
            assert_eq!(there, 1, "{alert}: {part}");
        }
        // Short enough for an incident at night.
        assert!(lines.len() < 30, "{alert} has {} lines", lines.len());
    }
    assert_says("README.md", &format!("{} alerts", alerts.len()));
    for document in documents() {
        let text = read(&document);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let named = words.filter(|word| {
            word.strip_prefix("Wylis")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_uppercase()))
        });
        for word in named {
            assert!(alerts.contains(word), "{document}: no alert {word}");
        }
    }
}

#[test]
fn prometheus_gets_the_rights_that_discovery_of_pods_and_endpoints_needs() {
    let text = read(MONITORING);
    let mut blocks = text.split("```yaml\n").filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.contains("kind: RoleBinding")).unwrap();
    let [role, binding] = yaml::parse(block).try_into().expect("a Role and its RoleBinding");
    let of_group = |name: &str| {
        let rules = role["rules"].as_array().unwrap();
        rules.iter().find(|rule| rule["apiGroups"] == json!([name])).unwrap().clone()
    };
    let (core, discovery) = (of_group(""), of_group("discovery.k8s.io"));
    assert_eq!(core["resources"], json!(["services", "endpoints", "pods"]));
    assert_eq!(discovery["resources"], json!(["endpointslices"]));
    for rule in [core, discovery] {
        assert_eq!(rule["verbs"], json!(["get", "list", "watch"]));
    }
    for object in [&role, &binding] {
        assert_eq!(object["metadata"]["namespace"], "wylis");
    }
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    let account =
        json!([{"kind": "ServiceAccount", "name": "prometheus-k8s", "namespace": "monitoring"}]);
    assert_eq!(binding["subjects"], account);
}

#[test]
fn wrong_metrics_labels_and_values_are_found() {
    let recorded = BTreeSet::from(["pair:wylis_peer_up:max".to_owned()]);
    for good in [
        "max by (source_node, target_node) (wylis_peer_up{source_node=~\"$source\"}) == 0",
        "wylis_pods{state=~\"pending|no_ip\"} and on (job, instance) pair:wylis_peer_up:max",
        "sum by (le) (rate(wylis_probe_duration_seconds_bucket[5m]))",
    ] {
        assert_eq!(faults(good, &recorded), Vec::<String>::new(), "{good}");
    }
    for bad in [
        "wylis_peer_upp == 0",
        "wylis_peer_up{pod=\"x\"}",
        "wylis_peer_impaired{kind=\"lousy\"}",
        "wylis_local_errors_total{reason=\"refused\"}",
        "wylis_pods{state=~\"pending|noip\"}",
        "pair:wylis_peer_up:min",
        "sum by (node) (wylis_peer_up)",
        "rate(wylis_probe_duration_seconds[5m])",
        "rate(wylis_peer_up_bucket[5m])",
    ] {
        assert_eq!(faults(bad, &recorded).len(), 1, "{bad}: {:?}", faults(bad, &recorded));
    }
}
