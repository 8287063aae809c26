//! The documents against the code: each table against what it lists, each example against what the
//! agent writes, links against files, named `make` targets against the Makefile.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of a test may fail as it does")]

mod bounds;
mod costs;
mod history;
mod installing;
mod links;
mod markdown;
mod matrix;
mod monitoring;
mod peers;
mod prose;
mod security;
mod survey;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wylis::config::SETTINGS;
use wylis::discovery::DiscoveryReason;
use wylis::gate::Rejection;
use wylis::logger::Loss;
use wylis::metrics::{AgentMetrics, GateCounts};
use wylis::name::NodeName;
use wylis::peer::{Peer, PodCounts};
use wylis::probe::{Answer, FailureReason, KernelView, Large, LocalError, Outcome, ProbeKind};
use wylis::probe::{Report, Timings};
use wylis::state::{Direction, MeshState, Moment, RECENT, Snapshot, StateSettings, Verdict};
use wylis::wire::KeepAlive;

use markdown::{Row, differences, row, table};

const API: &str = "docs/api.md";
const COMMANDS: &str = "docs/commands.md";
const METRICS: &str = "docs/metrics.md";
const SETTINGS_PAGE: &str = "docs/settings.md";
const VERDICTS: &str = "docs/verdicts.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every document for people, from the root of the project.
fn documents() -> Vec<String> {
    let top = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"];
    let mut documents = top.map(str::to_owned).to_vec();
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs.map(|name| format!("docs/{}", name.to_string_lossy()));
    documents.extend(docs.filter(|name| name.ends_with(".md")));
    documents
}

/// Fails unless the page holds the phrase, on one line or across several.
fn assert_says(page: &str, phrase: &str) {
    let text = read(page).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(phrase), "{page} does not say {phrase:?}");
}

/// Compares the first `columns` of the first table of a section with the rows that the code knows.
fn assert_table(page: &str, heading: &str, columns: usize, known: &[Row]) {
    let mut documented = table(&read(page), heading, 0).unwrap();
    documented.iter_mut().for_each(|row| row.truncate(columns));
    let found = differences(&documented, known);
    assert!(found.is_empty(), "{page}, {heading}: {found:#?}");
}

// ---- What the agent renders

fn success() -> Outcome {
    let time = Duration::from_millis(20);
    let timings = Timings { connect: time, response: time, total: time };
    Outcome::Success { timings, answer: Answer::default() }
}

/// The snapshot of one peer, named target, after probes with these outcomes; with the default bounds.
fn snapshot(outcomes: &[Outcome]) -> Arc<Snapshot> {
    let default = SETTINGS.iter().find(|one| one.variable == "WYLIS_BUCKETS").unwrap().default;
    let bounds: Vec<f64> = default.split(',').map(|bound| bound.parse().unwrap()).collect();
    let drain = Duration::from_secs(30);
    let mut state = MeshState::new(StateSettings {
        failure_threshold: 3,
        interval: Duration::from_secs(10),
        large_interval: Duration::from_secs(300),
        host_port: None,
        source: NodeName::new("source").unwrap(),
        drain,
        bounds: bounds.into(),
        key: wylis::token::TokenKey::new(b"key"),
    });
    let node = NodeName::new("target").unwrap();
    let peer = Peer {
        node: node.clone(),
        address: "10.0.0.1:9050".parse().unwrap(),
        other_addresses: Vec::new(),
        host: None,
        instance: None,
        ready: Some(true),
    };
    state.peers([peer].into_iter().collect(), Duration::from_secs(30));
    let now = Moment::now();
    let rtt = Some(Duration::from_millis(20));
    for (id, outcome) in (1..).zip(outcomes) {
        state.begin(&node, id);
        let report = Report {
            id,
            node: node.clone(),
            due: now.instant,
            started: now.instant,
            ended: now.instant,
            kind: ProbeKind::Blank,
            outcome: outcome.clone(),
            kernel: Some(KernelView { rtt, path_mtu: Some(1370), ..KernelView::default() }),
        };
        state.report(now, &report);
        state.begin_large(&node, id);
        state.report_large(now, &Report { kind: ProbeKind::Large(Large::Both), ..report });
    }
    let interval = Some(Duration::from_secs(10));
    let request =
        KeepAlive { node, instance: None, interval, goodbye: None, token: None, size: None };
    state.receive_request(now, Some(&request));
    Arc::new(state.snapshot(now))
}

/// The text of `/metrics`.
fn scrape(snapshot: Arc<Snapshot>, agent: Vec<prometheus::proto::MetricFamily>) -> String {
    let source = NodeName::new("source").unwrap();
    let pieces = wylis::metrics::render(source, snapshot, agent);
    String::from_utf8(pieces.flatten().collect()).unwrap()
}

// ---- The tables

#[test]
fn the_settings_are_those_of_the_code() {
    let known: Vec<Row> = SETTINGS
        .iter()
        .map(|one| row([one.variable, &one.flag(), one.default, one.help]))
        .collect();
    assert_table(SETTINGS_PAGE, "All settings", 4, &known);
}

#[test]
fn the_settings_in_the_readme_have_the_defaults_of_the_code() {
    for shown in table(&read("README.md"), "Settings", 0).unwrap() {
        let known = SETTINGS.iter().any(|one| shown.starts_with(&row([one.variable, one.default])));
        assert!(known, "README.md: {shown:?}");
    }
}

#[test]
fn the_metrics_are_those_of_the_code() {
    let known: Vec<Row> = wylis::metrics::descriptions()
        .map(|one| row([one.name, one.kind, one.labels, one.help]))
        .collect();
    assert_table(METRICS, "All metrics", 4, &known);
}

#[test]
fn the_routes_are_those_of_the_server() {
    let known: Vec<Row> = routes().into_iter().map(|route| row([route])).collect();
    assert_table(API, "Routes", 1, &known);
}

/// Every route of the server. `other` is the counters' label for all other paths.
fn routes() -> Vec<&'static str> {
    wylis::route::Route::LABELS.iter().copied().filter(|label| label.starts_with('/')).collect()
}

#[test]
fn the_failure_reasons_are_those_of_the_code() {
    let known = FailureReason::ALL.map(|reason| row([reason.as_str(), reason.phase().as_str()]));
    assert_table(VERDICTS, "Failure reasons", 2, &known);
}

#[test]
fn the_local_errors_are_those_of_the_code() {
    assert_table(METRICS, "Local errors", 1, &LocalError::ALL.map(|error| row([error.as_str()])));
}

#[test]
fn the_reasons_of_discovery_are_those_of_the_code() {
    assert_table(
        METRICS,
        "Discovery failures",
        1,
        &DiscoveryReason::ALL.map(|one| row([one.as_str()])),
    );
}

#[test]
fn the_rejections_are_those_of_the_gate() {
    assert_table(METRICS, "Rejections", 1, &Rejection::ALL.map(|one| row([one.as_str()])));
}

#[test]
fn the_reasons_of_dropped_log_lines_are_those_of_the_logger() {
    assert_table(METRICS, "Dropped log lines", 1, &Loss::ALL.map(|one| row([one.as_str()])));
}

#[test]
fn the_states_of_pods_are_those_of_a_scrape() {
    let metrics = AgentMetrics::new(&[]).unwrap();
    metrics.set_peers(0, PodCounts::default());
    let text = scrape(snapshot(&[]), metrics.gather(&GateCounts::default()));
    let states = text.lines().filter_map(|line| line.strip_prefix("wylis_pods{state=\""));
    let states = states.filter_map(|rest| Some(row([rest.split_once('"')?.0])));
    assert_table(METRICS, "Pod states", 1, &states.collect::<Vec<_>>());
}

#[test]
fn the_labels_of_requests_are_those_of_the_code() {
    let gate = read("src/gate/counters.rs");
    let codes = gate.lines().find(|line| line.starts_with("const CODES: ")).unwrap();
    let codes = codes.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(", ");
    let routes = wylis::route::Route::LABELS.join(", ");
    assert_table(METRICS, "Requests", 2, &[row(["route", &routes]), row(["code", &codes])]);
}

#[test]
fn the_required_rust_is_that_of_the_manifest() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let text = format!("Rust {} or newer", version.unwrap().trim_matches('"'));
    for page in ["README.md", "CONTRIBUTING.md"] {
        assert_says(page, &text);
    }
}

#[test]
fn the_verdicts_are_those_of_the_code() {
    let all = [
        Verdict::Draining,
        Verdict::Unknown,
        Verdict::Down(FailureReason::Refused),
        Verdict::OneWay,
        Verdict::Flaky(FailureReason::Refused),
        Verdict::Lossy,
        Verdict::Mtu(Direction::Both),
        Verdict::Up,
    ];
    for verdict in all {
        // Fails to compile when a verdict is missing above.
        match verdict {
            Verdict::Draining | Verdict::Unknown | Verdict::Down(_) | Verdict::OneWay => {}
            Verdict::Flaky(_) | Verdict::Lossy | Verdict::Mtu(_) | Verdict::Up => {}
        }
    }
    let known =
        all.map(|verdict| row([verdict.as_str(), verdict.impairment().unwrap_or_default()]));
    assert_table(VERDICTS, "Conditions", 2, &known);
    assert_table("README.md", "First look", 1, &all.map(|verdict| row([verdict.as_str()])));
    assert_says(VERDICTS, &format!("of the last {RECENT} probes"));
}

#[test]
fn the_exit_codes_are_those_of_the_code() {
    let exit = read("src/cli/exit.rs");
    let codes = exit.lines().filter_map(|line| line.split_once("=> ")?.1.strip_suffix(','));
    let known: Vec<Row> = codes.map(|code| row([code])).collect();
    assert!(known.len() > 1, "no exit code found in exit.rs");
    assert_table(COMMANDS, "Exit codes", 1, &known);
}
