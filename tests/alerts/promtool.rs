//! Runs a case with `promtool test rules`, for each way of scraping.

use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};
use wylis_harness::{TempDir, skip};

use crate::cases::{Case, Fires};
use crate::recording::{Recording, Scraped};
use crate::rules;

/// Longer than any recording.
pub(crate) const WHOLE: &str = "6h";

pub(crate) fn is_installed(tool: &str) -> bool {
    let mut version = Command::new(tool);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let installed = version.status().is_ok_and(|status| status.success());
    if !installed {
        skip(&format!("no {tool}: needs scripts/setup.sh"));
    }
    installed
}

/// The labels of a firing alert, without its name.
fn labels(fires: &Fires) -> Map<String, Value> {
    let severity = rules::alert(fires.alert)["labels"]["severity"].clone();
    let nodes = fires.nodes.iter().map(|(name, node)| ((*name).to_owned(), json!(node)));
    nodes.chain([("severity".to_owned(), severity)]).collect()
}

/// The annotations of a firing alert, with the node names filled in, and without what experiments add to the end.
fn annotations(fires: &Fires) -> Map<String, Value> {
    let templates = rules::alert(fires.alert)["annotations"].as_object().cloned().unwrap();
    let fill_in = |template: &Value| {
        let text = template.as_str().unwrap();
        let mut text = text.split(" {{- ").next().unwrap_or(text).to_owned();
        for (name, node) in fires.nodes {
            text = text.replace(&format!("{{{{ $labels.{name} }}}}"), node);
        }
        json!(text)
    };
    templates.iter().map(|(name, template)| (name.clone(), fill_in(template))).collect()
}

/// The alerts as aggregated samples of the metric ALERTS.
fn samples<'a>(fires: impl Iterator<Item = &'a Fires>) -> Vec<Value> {
    let sample = |fires: &Fires| {
        let mut labels = vec![format!("alertname=\"{}\"", fires.alert)];
        labels.extend(fires.nodes.iter().map(|(name, node)| format!("{name}=\"{node}\"")));
        json!({"labels": format!("{{{}}}", labels.join(", ")), "value": 1})
    };
    let mut samples: Vec<Value> = fires.map(sample).collect();
    samples.sort_by_key(ToString::to_string);
    samples.dedup();
    samples
}

/// The expected state of every alert at a time: firing with its labels and annotations, or silent.
fn alerts_at(seconds: u32, firing: &[Fires]) -> Vec<Value> {
    let all = rules::alerts();
    all.iter()
        .map(|alert| {
            let name = alert["alert"].as_str().unwrap();
            let expected: Vec<Value> = firing
                .iter()
                .filter(|fires| fires.alert == name)
                .map(|fires| {
                    json!({"exp_labels": labels(fires), "exp_annotations": annotations(fires)})
                })
                .collect();
            json!({"alertname": name, "eval_time": format!("{seconds}s"), "exp_alerts": expected})
        })
        .collect()
}

/// The promtool test of a case with one way of scraping.
fn test(case: &Case, recording: &Recording, scraped: Scraped) -> Value {
    let at = |mark: &str| {
        let step = scraped.interval();
        // The last evaluation before the mark.
        (recording.mark(mark) - 1) / step * step
    };
    let firing = "alertname, source_node, target_node) (ALERTS{alertstate=\"firing\"}";
    let ever = "alertname, source_node, target_node) (max_over_time(ALERTS{alertstate=\"firing\"}";
    let end = at("end");
    let mut alerts = alerts_at(end, case.afterwards);
    if case.until != "end" {
        alerts.extend(alerts_at(at(case.until), case.fires));
    }
    json!({
        "name": format!("{} {scraped:?}", case.name()),
        "interval": format!("{}s", scraped.interval()),
        "input_series": recording.input(scraped),
        "alert_rule_test": alerts,
        "promql_expr_test": [
            {
                "expr": format!("group by ({ever}[{WHOLE}]))"),
                "eval_time": format!("{end}s"),
                "exp_samples": samples(case.fires.iter().chain(case.afterwards)),
            },
            {
                "expr": format!("group by ({firing})"),
                "eval_time": format!("{end}s"),
                "exp_samples": samples(case.afterwards.iter()),
            },
        ],
    })
}

/// Runs a case with all ways of scraping. The error is promtool's output.
pub(crate) fn run(case: &Case) -> Result<(), String> {
    let mut recording = Recording::read(case.recording);
    if !case.seen_from.is_empty() {
        recording = recording.seen_from(case.seen_from);
    }
    recording = recording.with_added_rtt(case.added_rtt);
    let dir = TempDir::new("promtool");
    for scraped in Scraped::ALL {
        let file = dir.path().join("test.yaml");
        let text = json!({
            "rule_files": [rules::file()],
            "evaluation_interval": format!("{}s", scraped.interval()),
            "tests": [test(case, &recording, scraped)],
        });
        // JSON is YAML.
        std::fs::write(&file, text.to_string()).unwrap();
        let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output().unwrap();
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            return Err(format!("{} {scraped:?}: {text}", case.name()));
        }
    }
    Ok(())
}
