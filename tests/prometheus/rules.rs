//! The rules in a real Prometheus.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use wylis_harness::wait_until;

use super::server::Prometheus;
use super::{is_installed, manifest, with_a_dead_node};

/// Pending and firing alerts, with their nodes.
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

/// The rules that failed or were not evaluated, and the number of all rules.
fn unhealthy(prometheus: &Prometheus) -> (Vec<Value>, usize) {
    let rules = prometheus.api("/api/v1/rules").unwrap_or_default();
    let groups = rules["groups"].as_array().cloned().unwrap_or_default();
    let all: Vec<Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap()).collect();
    let count = all.len();
    (all.into_iter().filter(|rule| rule["health"] != "ok").collect(), count)
}

/// The queries in the documentation.
fn queries() -> Vec<String> {
    let text = wylis_harness::documentation();
    let blocks = text.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_dead_node_is_one_alert_and_a_restart_of_prometheus_is_none() {
    if !is_installed("prometheus") {
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
        // The failure ratio rises first, and its alert stays pending for 15 min.
        all.filter(|alert| !loss(alert) && alert != down).collect::<Vec<_>>()
    };
    wait_until(Duration::from_secs(60), "no alert for the pairs", || {
        others(&prometheus).is_empty()
    });
    let observed = "count(pair:wylis_peer_up:max{target_node=\"n4\"} == 0) == 3";
    assert_eq!(prometheus.query(observed).len(), 1);
    let queries = queries();
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
        // That group is first evaluated after 15 min.
        let waiting = |rule: &Value| {
            rule["name"] == "pair:wylis_peer_rtt_seconds:norm1d" && rule["health"] == "unknown"
        };
        count > 20 && unhealthy.iter().all(waiting)
    });
}
