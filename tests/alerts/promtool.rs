//! A case as a file for `promtool test rules`, under each way of scraping.

use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};
use wylis_harness::{TempDir, skip};

use crate::cases::{Case, Fires};
use crate::recording::{Recording, Scraped};
use crate::rules;

/// Longer than any recording.
const EVER: &str = "6h";

pub(crate) fn is_there(tool: &str) -> bool {
    let mut version = Command::new(tool);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let there = version.status().is_ok_and(|status| status.success());
    if !there {
        skip(&format!("no {tool}: needs scripts/setup.sh"));
    }
    there
}

/// The labels of an alert that fires, but for its name.
fn labels(fires: &Fires) -> Map<String, Value> {
    let severity = rules::alert(fires.alert)["labels"]["severity"].clone();
    let nodes = fires.nodes.iter().map(|(name, node)| ((*name).to_owned(), json!(node)));
    nodes.chain([("severity".to_owned(), severity)]).collect()
}

/// Its annotations, with the names of the nodes put in.
fn annotations(fires: &Fires) -> Map<String, Value> {
    let templates = rules::alert(fires.alert)["annotations"].as_object().cloned().unwrap();
    let put_in = |template: &Value| {
        let mut text = template.as_str().unwrap().to_owned();
        for (name, node) in fires.nodes {
            text = text.replace(&format!("{{{{ $labels.{name} }}}}"), node);
        }
        json!(text)
    };
    templates.iter().map(|(name, template)| (name.clone(), put_in(template))).collect()
}

/// These alerts as samples of the metric ALERTS, aggregated.
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

/// What every alert is at a time: fires with all that it says, or is silent.
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

/// One case, scraped in one way.
fn test(case: &Case, recording: &Recording, scraped: Scraped) -> Value {
    let at = |mark: &str| {
        let step = scraped.interval();
        // The last evaluation before it.
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
                "expr": format!("group by ({ever}[{EVER}]))"),
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

/// Runs a case in all ways; what promtool says if it does not hold.
pub(crate) fn run(case: &Case) -> Result<(), String> {
    let mut recording = Recording::read(case.recording);
    if !case.seen_from.is_empty() {
        recording = recording.seen_from(case.seen_from);
    }
    recording = recording.farther(case.farther);
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
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            return Err(format!("{} {scraped:?}: {said}", case.name()));
        }
    }
    Ok(())
}
