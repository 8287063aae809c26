//! Two clusters in one Prometheus: the rules that `scripts/monitoring.sh` generates with `CLUSTER_LABEL`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use wylis_harness::TempDir;
use wylis_harness::yaml;

use crate::promtool::{WHOLE, is_installed};
use crate::recording::{Recording, Scraped};
use crate::rules;

pub(crate) const LABEL: &str = "region";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/monitoring.sh");

/// Runs the script with this label for this folder.
fn generate(label: &str, arguments: &[&str]) -> Output {
    Command::new(SCRIPT).env("CLUSTER_LABEL", label).args(arguments).output().expect("bash")
}

/// A new folder with the files of several clusters.
pub(crate) fn generated() -> TempDir {
    let dir = TempDir::new("clusters");
    let output = generate(LABEL, &[dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dir
}

/// A firing alert: cluster, alert, source and target; empty for none.
type Alert = [&'static str; 4];

/// Checks all alerts that ever fire in the clusters, each with its recording; the error is promtool's output.
fn fire(rules: &Path, clusters: &[(&str, &str)], alerts: &[Alert]) -> Result<(), String> {
    let scraped = Scraped::ByPodMonitor;
    let recordings: Vec<Recording> = clusters
        .iter()
        .map(|(cluster, name)| Recording::read(name).with_label(LABEL, cluster))
        .collect();
    let input = recordings.iter().map(|recording| recording.input(scraped));
    let input: Vec<Value> = input.flat_map(|series| series.as_array().cloned().unwrap()).collect();
    let end = recordings.iter().map(|recording| recording.mark("end")).min().unwrap() - 1;
    let sample = |[cluster, alert, source, target]: &Alert| {
        let labels = [(LABEL, cluster), ("alertname", alert)].into_iter();
        let labels = labels.chain([("source_node", source), ("target_node", target)]);
        let labels = labels.filter(|(_, value)| !value.is_empty());
        let labels: Vec<String> =
            labels.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        json!({"labels": format!("{{{}}}", labels.join(", ")), "value": 1})
    };
    let ever = format!("max_over_time(ALERTS{{alertstate=\"firing\"}}[{WHOLE}])");
    let test = json!({
        "rule_files": [rules],
        "evaluation_interval": format!("{}s", scraped.interval()),
        "tests": [{
            "interval": format!("{}s", scraped.interval()),
            "input_series": input,
            "promql_expr_test": [{
                "expr": format!("group by ({LABEL}, alertname, source_node, target_node) ({ever})"),
                "eval_time": format!("{end}s"),
                "exp_samples": alerts.iter().map(sample).collect::<Vec<_>>(),
            }],
        }],
    });
    let dir = TempDir::new("promtool");
    let file = dir.path().join("test.yaml");
    std::fs::write(&file, test.to_string()).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(file).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if output.status.success() { Ok(()) } else { Err(text) }
}

#[test]
fn a_fault_in_one_cluster_fires_although_another_is_well() {
    if !is_installed("promtool") {
        return;
    }
    let dir = generated();
    let clustered = dir.path().join("wylis.rules.yaml");
    // Each has what is well in the other.
    let faults = [("a", "tunnel_frozen"), ("b", "node_killed")];
    let alerts = [["a", "WylisNodeDown", "", "n2"], ["b", "WylisNodeDown", "", "n4"]];
    fire(&clustered, &faults, &alerts).unwrap();
    let pair = ["n1", "n2"];
    let faults_of_pairs = [("a", "pair_black_holed"), ("b", "healthy")];
    let down = [pair, [pair[1], pair[0]]].map(|[from, to]| ["a", "WylisPairDown", from, to]);
    fire(&clustered, &faults_of_pairs, &down).unwrap();
    fire(&clustered, &[("a", "rolling_update"), ("b", "healthy")], &[]).unwrap();
    // The rules of one cluster take two nodes of a name for one that is half reachable.
    let fired = fire(&rules::file(), &faults, &[]).unwrap_err();
    assert!(fired.contains("WylisPairLossy") && !fired.contains("WylisNodeDown"), "{fired}");
}

#[test]
fn every_generated_rule_keeps_the_label() {
    let dir = generated();
    let text = std::fs::read_to_string(dir.path().join("wylis.rules.yaml")).unwrap();
    let groups = yaml::parse(&text)[0]["groups"].as_array().cloned().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap());
    for rule in rules {
        let expression = rule["expr"].as_str().unwrap();
        for (at, word) in ["by (", "on ("].iter().flat_map(|word| expression.match_indices(*word)) {
            let rest = &expression[at + word.len()..];
            assert!(rest.starts_with(LABEL), "{expression}");
        }
        for aggregation in ["sum(", "max(", "min(", "avg(", "count(", "absent("] {
            let found = expression.match_indices(aggregation);
            let mut before = found.map(|(at, _)| expression[..at].chars().next_back());
            assert!(before.all(|before| before == Some('_')), "{aggregation} in {expression}");
        }
        if let Some(summary) = rule["annotations"]["summary"].as_str() {
            assert!(summary.ends_with(&format!("({{{{ $labels.{LABEL} }}}})")), "{summary}");
        }
    }
}

#[test]
fn the_generated_dashboard_reads_one_cluster() {
    let dir = generated();
    let text = std::fs::read_to_string(dir.path().join("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names[..3], ["datasource", LABEL, "source"]);
    let mut queries = Vec::new();
    collect_queries(&dashboard["panels"], &mut queries);
    queries.extend(variables[2..].iter().filter_map(|one| one["query"]["query"].as_str()));
    assert!(queries.len() > 30, "{queries:?}");
    for query in queries {
        let selector = format!("{LABEL}=~\"${LABEL}\"");
        let metrics = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let prefixes = ["wylis_", "process_", "scrape_"];
        let metrics = metrics.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)));
        assert_eq!(query.matches(&selector).count(), metrics.count(), "{query}");
    }
}

fn collect_queries<'a>(value: &'a Value, queries: &mut Vec<&'a str>) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| collect_queries(one, queries)),
        Value::Object(fields) => {
            queries.extend(fields.get("expr").and_then(Value::as_str));
            fields.values().for_each(|one| collect_queries(one, queries));
        }
        _ => {}
    }
}

#[test]
fn a_wrong_label_or_folder_is_refused() {
    let dir = TempDir::new("clusters");
    let folder = dir.path().to_str().unwrap();
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("manifests/monitoring");
    for (label, arguments, reason) in [
        ("my-cluster", &[folder][..], "my-cluster is no name of a label"),
        ("cluster", &[], "the argument is the folder"),
        ("cluster", &["--check", folder], "no sources beside them"),
        ("cluster", &[own.to_str().unwrap()], "has the files of one cluster"),
    ] {
        let output = generate(label, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(reason) && output.status.code() == Some(2), "{label}: {error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written");
}
