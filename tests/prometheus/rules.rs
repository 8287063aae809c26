//! The rules in a real Prometheus.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use wylis_harness::wait_until;

use super::server::Prometheus;
use super::{is_there, manifest, with_a_dead_node};

/// Alerts that are pending or firing, with their nodes.
fn alerts(prometheus: &Prometheus) -> BTreeSet<String> {
    let alerts = prometheus.api("/api/v1/alerts").unwrap_or_default();
    let one = |alert: &Value| {
        let label = |name: &str| alert["labels"][name].as_str().unwrap_or("").to_owned();
        format!(
            "{} {}>{} {}",
            label("alertname"),
            label("source_node"),
            label("target_node"),
            alert["state"].as_str().unwrap_or_default()
        )
    };
    alerts["alerts"].as_array().into_iter().flatten().map(one).collect()
}

/// Rules that could not be evaluated, and how many there are.
fn unhealthy(prometheus: &Prometheus) -> (Vec<Value>, usize) {
    let rules = prometheus.api("/api/v1/rules").unwrap_or_default();
    let groups = rules["groups"].as_array().cloned().unwrap_or_default();
    let all: Vec<Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap()).collect();
    let count = all.len();
    (all.into_iter().filter(|rule| rule["health"] != "ok").collect(), count)
}

/// The queries in a document's blocks.
fn queries(document: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_dead_node_is_one_alert_and_a_restart_of_prometheus_is_none() {
    if !is_there("prometheus") {
        return;
    }
    let more = format!("rule_files: [{:?}]", manifest("wylis.rules.yaml"));
    let (_mesh, mut prometheus, _hole) =
        with_a_dead_node(&["kubernetes-pods", "wylis/wylis"], &more);
    let down = "WylisNodeDown >n4 pending";
    wait_until(Duration::from_secs(60), down, || alerts(&prometheus).contains(down));
    let loss = |alert: &String| alert.starts_with("WylisPairLossy");
    let others = |prometheus: &Prometheus| {
        let all = alerts(prometheus).into_iter();
        // The share of failures rises first, and is nobody's alert for a quarter of an hour.
        all.filter(|alert| !loss(alert) && alert != down).collect::<Vec<_>>()
    };
    wait_until(Duration::from_secs(60), "the pairs are no alerts beside it", || {
        others(&prometheus).is_empty()
    });
    let observed = "count(pair:wylis_peer_up:max{target_node=\"n4\"} == 0) == 3";
    assert_eq!(prometheus.query(observed).len(), 1);
    let queries = ["docs/metrics.md", "docs/runbooks.md"].map(queries).concat();
    assert!(queries.len() > 30, "{queries:#?}");
    for query in queries {
        prometheus.try_query(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
    prometheus.restart();
    wait_until(Duration::from_secs(60), "it is pending again", || {
        alerts(&prometheus).contains(down) && prometheus.query(observed).len() == 1
    });
    assert_eq!(others(&prometheus), Vec::<String>::new());
    assert!(prometheus.query("count_over_time(ALERTS{alertstate=\"firing\"}[10m])").is_empty());
    wait_until(Duration::from_secs(60), "every rule is evaluated", || {
        let (unhealthy, count) = unhealthy(&prometheus);
        // That group waits for a quarter of an hour.
        let waiting = |rule: &Value| {
            rule["name"] == "pair:wylis_peer_rtt_seconds:norm1d" && rule["health"] == "unknown"
        };
        count > 20 && unhealthy.iter().all(waiting)
    });
}
