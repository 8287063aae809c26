//! The Grafana dashboard: it fits Grafana's published types, and every expression returns data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use wylis_harness::{TempDir, skip, wait_until};

use super::{is_installed, manifest, with_a_dead_node};

fn dashboard() -> Value {
    let text = std::fs::read_to_string(manifest("grafana-dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn panels(dashboard: &Value) -> Vec<Value> {
    let all = dashboard["panels"].as_array().unwrap().iter();
    all.filter(|panel| panel["type"] != "row").cloned().collect()
}

/// The expressions of a panel, with Grafana's variables filled in.
fn expressions(panel: &Value) -> Vec<String> {
    let filled = |target: &Value| {
        let text = target["expr"].as_str().unwrap().to_owned();
        [
            ("$__rate_interval", "10s"),
            ("$__range", "30s"),
            ("$source", ".*"),
            ("$target", ".*"),
            ("$quantile", "0.95"),
        ]
        .iter()
        .fold(text, |text, (name, value)| text.replace(name, value))
    };
    panel["targets"].as_array().unwrap().iter().map(filled).collect()
}

fn panel(title: &str) -> Value {
    let found = panels(&dashboard()).into_iter().find(|panel| panel["title"] == title);
    found.unwrap_or_else(|| panic!("no panel {title}"))
}

/// The type checker's errors on a dashboard; `None` where it is not installed.
fn type_errors(dashboard: &Value) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("build/venv/bin/python");
    if !python.exists() {
        skip("no grafana-foundation-sdk in build/venv (scripts/setup.sh)");
        return None;
    }
    let dir = TempDir::new("dashboard");
    let file = dir.path().join("dashboard.json");
    std::fs::write(&file, dashboard.to_string()).unwrap();
    let checker = root.join("tests/prometheus/grafana_types.py");
    let output = Command::new(python).arg(checker).arg(file).output().unwrap();
    let errors = [output.stdout, output.stderr].concat();
    let errors = String::from_utf8_lossy(&errors).trim().to_owned();
    assert_eq!(output.status.success(), errors.is_empty(), "{errors}");
    Some(errors)
}

#[test]
fn the_dashboard_fits_grafanas_published_types() {
    let Some(errors) = type_errors(&dashboard()) else { return };
    assert_eq!(errors, "");
}

#[test]
fn unknown_fields_and_wrong_types_are_reported() {
    for (at, value) in [
        ("/titel", json!("Wylis")),
        ("/panels/1/gridPos/w", json!("4")),
        ("/panels/1/options/colorMode", json!("colourful")),
        ("/panels/1/targets/0/exprs", json!("up")),
        ("/panels/1/fieldConfig/defaults/unti", json!("s")),
        ("/panels/7/fieldConfig/defaults/custom/cellOptions/mode", json!("loud")),
        ("/templating/list/1/multi", json!("yes")),
        ("/refresh", json!(60)),
    ] {
        let mut wrong = dashboard();
        let (parent, key) = at.rsplit_once('/').unwrap();
        wrong.pointer_mut(parent).unwrap()[key] = value;
        let Some(errors) = type_errors(&wrong) else { return };
        assert!(!errors.is_empty(), "{at}");
    }
}

#[test]
fn the_panels_are_laid_out_and_explained() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeMap::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "duplicate id: {}", panel["title"]);
        let number = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in number("x")..number("x") + number("w") {
            assert!(x < 24, "{} is wider than the grid", panel["title"]);
            for y in number("y")..number("y") + number("h") {
                let other = taken.insert((x, y), panel["title"].clone());
                assert_eq!(other, None, "{} overlaps it", panel["title"]);
            }
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    for name in ["source", "target"] {
        let variable = variables.iter().find(|one| one["name"] == name).unwrap();
        assert_eq!((&variable["multi"], &variable["includeAll"]), (&json!(true), &json!(true)));
    }
    // Every data source is the dashboard's variable.
    let text = dashboard.to_string();
    assert_eq!(
        text.matches("\"uid\":").count(),
        text.matches("\"uid\":\"${datasource}\"").count() + 1
    );
}

/// Each pair's value in a matrix.
fn matrix(result: &[Value]) -> BTreeMap<String, f64> {
    let one = |sample: &Value| {
        let label = |name: &str| sample["metric"][name].as_str().unwrap_or("?").to_owned();
        let value = sample["value"][1].as_str().unwrap().parse().unwrap();
        (label("source_node") + ">" + &label("target_node"), value)
    };
    result.iter().map(one).collect()
}

#[test]
fn every_expression_returns_data_and_a_double_scrape_doubles_nothing() {
    if !is_installed("prometheus") {
        return;
    }
    let (_mesh, prometheus, _hole) = with_a_dead_node(&["kubernetes-pods", "wylis/wylis"], "");
    wait_until(Duration::from_secs(60), "the node is down for all", || {
        prometheus.query("count(wylis_peer_up == 0) == 6").len() == 1
    });
    let panels = panels(&dashboard());
    assert!(panels.len() > 20, "{}", panels.len());
    for panel in &panels {
        for expression in expressions(panel) {
            // The only remaining `$` is in a regular expression.
            assert!(!expression.replace("\"$1\"", "").contains('$'), "{expression}");
            let title = panel["title"].as_str().unwrap();
            // An invalid expression fails at once; a valid one may need more scrapes.
            prometheus.try_query(&expression).unwrap_or_else(|error| panic!("{title}: {error}"));
            let what = format!("{title} shows data: {expression}");
            wait_until(Duration::from_secs(30), &what, || {
                !prometheus.query(&expression).is_empty()
            });
        }
    }
    for name in ["source", "target"] {
        let values = prometheus.api(&format!("/api/v1/label/{name}_node/values")).unwrap();
        assert!(values.as_array().unwrap().contains(&json!("n2")), "{values}");
    }
    let one = |title: &str| prometheus.query(&expressions(&panel(title))[0]);
    let number = |title: &str| one(title)[0]["value"][1].as_str().unwrap().to_owned();
    assert_eq!(["Pairs", "Pairs down", "Agents seen"].map(number), ["9", "3", "3"]);
    let (verdicts, latencies) = (matrix(&one("Verdicts")), matrix(&one("Latency")));
    assert_eq!((verdicts.len(), latencies.len()), (9, 9), "{verdicts:?} {latencies:?}");
    for (pair, verdict) in &verdicts {
        let dead = pair.ends_with("n4");
        assert_eq!(*verdict, if dead { 5.0 } else { 0.0 }, "{verdicts:?}");
        assert_eq!(latencies[pair] < 0.0, dead, "{latencies:?}");
    }
    // 2/s for each live peer and fewer for the dead one; doubled, at least 8/s.
    let rates = || -> Vec<f64> {
        let agents = one("Probes per second");
        let rate = |agent: &Value| agent["value"][1].as_str().unwrap().parse().unwrap();
        agents.iter().map(rate).collect()
    };
    wait_until(Duration::from_secs(30), "the windows are full", || {
        rates().iter().all(|r| *r > 3.5)
    });
    assert!(rates().len() == 3 && rates().iter().all(|rate| *rate < 6.5), "{:?}", rates());
}
