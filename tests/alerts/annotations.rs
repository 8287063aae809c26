//! What experiments add to alerts, and what a survey silences: series written by hand, since the recordings have none
//! of them.

use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};
use wylis_harness::{TempDir, yaml};

use crate::clusters::{LABEL, generated};
use crate::promtool::is_installed;
use crate::rules;

/// A firing alert: its name, its labels, and what ends its description.
type Firing<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

const A_TO_B: &[(&str, &str)] = &[("source_node", "a"), ("target_node", "b")];

/// Checks that this alert is the only one, or that none fires, while series have these values. The error is
/// promtool's output.
fn check(rules: &Path, series: &[&str], firing: Option<Firing<'_>>) -> Result<(), String> {
    let text = std::fs::read_to_string(rules).unwrap();
    let groups = yaml::parse(&text)[0]["groups"].as_array().cloned().unwrap();
    let alerts = groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap());
    let alerts = alerts.filter(|rule| rule["alert"].is_string()).map(|rule| {
        let expected = firing.filter(|(name, ..)| rule["alert"] == *name);
        let expected: Vec<Value> =
            expected.iter().map(|(_, labels, end)| fire(&rule, labels, end)).collect();
        json!({"alertname": rule["alert"], "eval_time": "25m", "exp_alerts": expected})
    });
    let input = series.iter().map(|series| {
        let (series, value) = series.rsplit_once(' ').unwrap();
        json!({"series": series, "values": format!("{value}x60")})
    });
    let test = json!({
        "rule_files": [rules],
        "evaluation_interval": "30s",
        "tests": [{
            "interval": "30s",
            "input_series": input.collect::<Vec<_>>(),
            "alert_rule_test": alerts.collect::<Vec<_>>(),
        }],
    });
    let dir = TempDir::new("annotations");
    let file = dir.path().join("test.yaml");
    std::fs::write(&file, test.to_string()).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(file).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&text).into_owned()) }
}

/// The labels and annotations of a rule that fires; `end` stands for what experiments add.
fn fire(rule: &Value, labels: &[(&str, &str)], end: &str) -> Value {
    let fill_in = |text: &Value| {
        let whole = text.as_str().unwrap();
        let (start, end) = whole.split_once(" {{- ").map_or((whole, ""), |(start, _)| (start, end));
        let mut text = start.to_owned();
        for (name, value) in labels {
            text = text.replace(&format!("{{{{ $labels.{name} }}}}"), value);
        }
        json!(text + end)
    };
    let annotations = rule["annotations"].as_object().unwrap().iter();
    let annotations: Map<_, _> =
        annotations.map(|(name, text)| (name.clone(), fill_in(text))).collect();
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
    let severity = ("severity".to_owned(), rule["labels"]["severity"].clone());
    let labels: Map<_, _> = labels.chain([severity]).collect();
    json!({"exp_labels": labels, "exp_annotations": annotations})
}

/// All agents are there, probe, and answer: `wylis_peer_up` of each pair is for the test.
const WELL: [&str; 7] = [
    r#"wylis_peers{instance="a"} 2"#,
    r#"wylis_incoming_requests_total{source_node="b",target_node="a",instance="a"} 0+1"#,
    r#"wylis_incoming_requests_total{source_node="a",target_node="b",instance="b"} 0+1"#,
    r#"wylis_incoming_requests_total{source_node="a",target_node="c",instance="c"} 0+1"#,
    r#"wylis_probes_total{source_node="a",target_node="b",result="success",instance="a"} 0+1"#,
    r#"wylis_probes_total{source_node="b",target_node="a",result="success",instance="b"} 0+1"#,
    r#"wylis_probes_total{source_node="c",target_node="a",result="success",instance="c"} 0+1"#,
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    WELL.iter().chain(more).copied().collect()
}

#[test]
fn an_mtu_alert_has_the_number_of_each_direction() {
    if !is_installed("promtool") {
        return;
    }
    let impaired = r#"wylis_peer_impaired{source_node="a",target_node="b",kind="mtu"} 1"#;
    let largest = |direction: &str, bytes: u32| {
        format!(
            r#"wylis_peer_largest_packet_bytes{{source_node="a",target_node="b",direction="{direction}"}} {bytes}"#
        )
    };
    let other = r#"wylis_peer_largest_packet_bytes{source_node="a",target_node="c",direction="outgoing"} 99"#;
    let (out, back) = (largest("outgoing", 1337), largest("incoming", 1400));
    let text = |bytes: u32, way: &str| {
        format!(
            " Packets up to {bytes} bytes pass ({way}): set the MTU of the pod network to that or less."
        )
    };
    let both = text(1400, "incoming") + &text(1337, "outgoing");
    for (series, end) in [
        (vec![impaired, other], String::new()),
        (vec![impaired, other, &out], text(1337, "outgoing")),
        (vec![impaired, other, &out, &back], both),
    ] {
        let firing = ("WylisPairMtu", A_TO_B, end.as_str());
        check(&rules::file(), &with(&series), Some(firing)).unwrap();
    }
}

#[test]
fn an_alert_of_a_pair_or_node_that_is_down_tells_of_its_host() {
    if !is_installed("promtool") {
        return;
    }
    let up = |pair: [&str; 2], up: u8| {
        format!(r#"wylis_peer_up{{source_node="{}",target_node="{}"}} {up}"#, pair[0], pair[1])
    };
    let host = up_of_host;
    let (a_to_b, c_to_b) = (up(["a", "b"], 0), up(["c", "b"], 1));
    let pair = [a_to_b.as_str(), &c_to_b];
    for (found, end) in [
        (None, ""),
        (Some(host(["a", "b"], 1)), " Its host answers."),
        (Some(host(["a", "b"], 0)), " Its host is silent too."),
        (Some(host(["a", "c"], 1)), ""),
    ] {
        let series: Vec<&str> = pair.into_iter().chain(found.as_deref()).collect();
        let firing = ("WylisPairDown", A_TO_B, end);
        check(&rules::file(), &with(&series), Some(firing)).unwrap();
    }
    let down = [up(["a", "b"], 0), up(["c", "b"], 0)];
    for (one, other, end) in [
        (1, Some(0), " Its host answers."),
        (1, None, " Its host answers."),
        (0, Some(0), " Its host is silent too."),
        // One silence may be the fault of a path.
        (0, None, ""),
    ] {
        let hosts = [Some(host(["a", "b"], one)), other.map(|up| host(["c", "b"], up))];
        let series: Vec<&str> =
            down.iter().chain(hosts.iter().flatten()).map(String::as_str).collect();
        let firing = ("WylisNodeDown", &[("target_node", "b")][..], end);
        check(&rules::file(), &with(&series), Some(firing)).unwrap();
    }
}

fn up_of_host(pair: [&str; 2], up: u8) -> String {
    format!(r#"wylis_peer_host_up{{source_node="{}",target_node="{}"}} {up}"#, pair[0], pair[1])
}

#[test]
fn the_silence_of_a_survey_is_no_door_that_was_not_held() {
    if !is_installed("promtool") {
        return;
    }
    let series = [
        r#"wylis_peer_up{source_node="a",target_node="b"} 1"#,
        r#"wylis_peer_longest_gap_seconds{source_node="a",target_node="b"} 300"#,
    ];
    let firing = ("WylisDoorNotHeld", A_TO_B, "");
    check(&rules::file(), &with(&series), Some(firing)).unwrap();
    let surveyed = r#"wylis_peer_surveyed{source_node="a",target_node="b"} 1"#;
    check(&rules::file(), &with(&[series[0], series[1], surveyed]), None).unwrap();
    let other = r#"wylis_peer_surveyed{source_node="b",target_node="a"} 1"#;
    check(&rules::file(), &with(&[series[0], series[1], other]), Some(firing)).unwrap();
}

#[test]
fn an_alert_of_one_cluster_has_nothing_of_another() {
    if !is_installed("promtool") {
        return;
    }
    let dir = generated();
    let clustered = dir.path().join("wylis.rules.yaml");
    let in_cluster = |series: &str, cluster: &str| {
        series.replacen('{', &format!(r#"{{{LABEL}="{cluster}","#), 1)
    };
    let here = with(&[
        r#"wylis_peer_impaired{source_node="a",target_node="b",kind="mtu"} 1"#,
        r#"wylis_peer_up{source_node="a",target_node="b"} 1"#,
        r#"wylis_peer_longest_gap_seconds{source_node="a",target_node="b"} 20"#,
    ]);
    let mut series: Vec<String> = here.iter().map(|series| in_cluster(series, "one")).collect();
    for (cluster, bytes) in [("one", 1337), ("two", 99)] {
        let largest = format!(
            r#"wylis_peer_largest_packet_bytes{{source_node="a",target_node="b",direction="outgoing"}} {bytes}"#
        );
        series.push(in_cluster(&largest, cluster));
    }
    let series: Vec<&str> = series.iter().map(String::as_str).collect();
    let labels = [A_TO_B, &[(LABEL, "one")]].concat();
    let end = " Packets up to 1337 bytes pass (outgoing): set the MTU of the pod network to that or less.";
    check(&clustered, &series, Some(("WylisPairMtu", &labels, end))).unwrap();

    // The rest of a pair in another cluster, and what is known of a host there.
    let silence = with(&[
        r#"wylis_peer_up{source_node="a",target_node="b"} 1"#,
        r#"wylis_peer_longest_gap_seconds{source_node="a",target_node="b"} 300"#,
    ]);
    let mut series: Vec<String> = silence.iter().map(|series| in_cluster(series, "one")).collect();
    let surveyed = r#"wylis_peer_surveyed{source_node="a",target_node="b"} 1"#;
    series.push(in_cluster(surveyed, "two"));
    let texts: Vec<&str> = series.iter().map(String::as_str).collect();
    check(&clustered, &texts, Some(("WylisDoorNotHeld", &labels, ""))).unwrap();
    series.push(in_cluster(surveyed, "one"));
    let texts: Vec<&str> = series.iter().map(String::as_str).collect();
    check(&clustered, &texts, None).unwrap();
    let (a_to_b, c_to_b) = (["a", "b"], ["c", "b"]);
    let down = [a_to_b, c_to_b]
        .map(|[a, b]| format!(r#"wylis_peer_up{{source_node="{a}",target_node="{b}"}} 0"#));
    let here = with(&[&down[0], &down[1]]);
    let mut series: Vec<String> = here.iter().map(|series| in_cluster(series, "one")).collect();
    series.push(in_cluster(&up_of_host(a_to_b, 0), "one"));
    series.push(in_cluster(&up_of_host(c_to_b, 0), "one"));
    series.push(in_cluster(&up_of_host(a_to_b, 1), "two"));
    let texts: Vec<&str> = series.iter().map(String::as_str).collect();
    let labels = [("target_node", "b"), (LABEL, "one")];
    check(&clustered, &texts, Some(("WylisNodeDown", &labels, " Its host is silent too.")))
        .unwrap();
}
