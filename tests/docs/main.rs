//! The documentation against the code: tables against what they list, links against files, named
//! `make` targets against the Makefile. And no file tells of the machine it was written on.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of a test may fail as it does")]

mod costs;
mod installing;
mod matrix;
mod monitoring;
mod row;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use wylis::config::SETTINGS;
use wylis::discovery::DiscoveryReason;
use wylis::gate::Rejection;
use wylis::metrics::{AgentMetrics, GateCounts};
use wylis::name::NodeName;
use wylis::peer::{Peer, PodCounts};
use wylis::probe::{Answer, FailureReason, KernelView, LocalError, Outcome, ProbeKind};
use wylis::probe::{Report, Timings};
use wylis::state::{MeshState, Moment, RECENT, Snapshot, StateSettings, Verdict};
use wylis::wire::KeepAlive;

type Row = Vec<String>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

// ---- Markdown, as far as it is needed

/// The lines of a section, from its heading to the next of any level; code blocks hold no heading.
fn section<'a>(text: &'a str, heading: &str) -> Result<Vec<&'a str>, String> {
    let mut lines = text.lines();
    let title = |line: &str| {
        let bare = line.trim_start_matches('#');
        (bare.len() < line.len()).then(|| bare.trim().to_owned())
    };
    if !lines.any(|line| title(line).as_deref() == Some(heading)) {
        return Err(format!("there is no section {heading:?}"));
    }
    let mut code = false;
    let until_next = lines.take_while(|line| {
        code ^= line.trim_start().starts_with("```");
        code || !line.starts_with('#')
    });
    Ok(until_next.collect())
}

/// The rows of the `number`th table (from 0) of a section, without its head. Backticks are dropped.
fn table(text: &str, heading: &str, number: usize) -> Result<Vec<Row>, String> {
    let lines = section(text, heading)?;
    let is_row = |line: &&str| line.starts_with('|');
    let tables: Vec<&[&str]> = lines
        .chunk_by(|one, next| is_row(one) == is_row(next))
        .filter(|chunk| chunk.first().is_some_and(is_row))
        .collect();
    let Some(&[head, rule, ref rows @ ..]) = tables.get(number).copied() else {
        return Err(format!("section {heading:?} has no table number {number}"));
    };
    let columns = cells(head)?.len();
    if !rule.chars().all(|c| "|-: ".contains(c)) || cells(rule)?.len() != columns {
        return Err(format!("section {heading:?}: no rule below the head {head:?}"));
    }
    let mut read = Vec::new();
    for row in rows {
        let cells = cells(row)?;
        if cells.len() != columns {
            return Err(format!("{} cells instead of {columns}: {row}", cells.len()));
        }
        read.push(cells);
    }
    if read.is_empty() { Err(format!("section {heading:?}: an empty table")) } else { Ok(read) }
}

fn cells(line: &str) -> Result<Row, String> {
    let inner = line.strip_prefix('|').and_then(|rest| rest.trim_end().strip_suffix('|'));
    let inner = inner.ok_or_else(|| format!("a row that is not closed: {line}"))?;
    Ok(inner.split('|').map(|cell| cell.trim().replace('`', "")).collect())
}

/// What is in one list and not in the other, or stands twice in the documentation.
fn differences(documented: &[Row], known: &[Row]) -> Vec<String> {
    let (ours, theirs) = (documented.iter().collect::<BTreeSet<_>>(), known.iter().collect());
    let mut found: Vec<String> =
        ours.difference(&theirs).map(|row| format!("documented only: {row:?}")).collect();
    found.extend(theirs.difference(&ours).map(|row| format!("in the code only: {row:?}")));
    if ours.len() != documented.len() {
        found.push("a row stands twice".to_owned());
    }
    found
}

fn assert_table(heading: &str, columns: usize, known: &[Row]) {
    let mut documented = table(&read("README.md"), heading, 0).unwrap();
    documented.iter_mut().for_each(|row| row.truncate(columns));
    let found = differences(&documented, known);
    assert!(found.is_empty(), "README.md, {heading}: {found:#?}");
}

fn row<const N: usize>(cells: [&str; N]) -> Row {
    cells.map(str::to_owned).into()
}

/// Inline code and the lines of code blocks.
fn code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if block {
            found.push(line.trim());
        } else {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// Targets of links in prose: `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for part in text.split("](").skip(1) {
        found.extend(part.split_once(')').map(|(target, _)| target));
    }
    found
}

/// The anchor that a forge gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Why a link of the document at `from` leads nowhere; `None` for one that does, or leads outside.
fn broken(from: &str, text: &str, link: &str) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = root().join(Path::new(from).parent().unwrap_or(Path::new(""))).join(file);
    if !file.is_empty() && (file.starts_with('/') || !target.exists()) {
        return Some(format!("{from}: no such file: {link}"));
    }
    let there =
        if file.is_empty() { Some(text.to_owned()) } else { fs::read_to_string(target).ok() };
    let headings = there.unwrap_or_default();
    let mut headings = headings.lines().filter(|line| line.starts_with('#'));
    let found = headings.any(|line| anchor(line.trim_start_matches('#')) == fragment);
    (!fragment.is_empty() && !found).then(|| format!("{from}: no such heading: {link}"))
}

// ---- What the agent renders

fn success() -> Outcome {
    let time = Duration::from_millis(20);
    let timings = Timings { connect: time, response: time, total: time };
    Outcome::Success { timings, answer: Answer::default() }
}

/// What is known of one peer, called target, after probes that ended so; with the default bounds.
fn snapshot(outcomes: &[Outcome]) -> Arc<Snapshot> {
    let default = SETTINGS.iter().find(|one| one.variable == "WYLIS_BUCKETS").unwrap().default;
    let bounds: Vec<f64> = default.split(',').map(|bound| bound.parse().unwrap()).collect();
    let drain = Duration::from_secs(30);
    let mut state = MeshState::new(StateSettings {
        failure_threshold: 3,
        interval: Duration::from_secs(10),
        large_interval: Duration::from_secs(300),
        source: NodeName::new("source").unwrap(),
        drain,
        bounds: bounds.into(),
    });
    let node = NodeName::new("target").unwrap();
    let peer = Peer {
        node: node.clone(),
        address: "10.0.0.1:9050".parse().unwrap(),
        other_addresses: Vec::new(),
        instance: None,
        ready: Some(true),
    };
    state.peers([peer].into_iter().collect(), Duration::from_secs(30));
    let now = Moment::now();
    let rtt = Some(Duration::from_millis(20));
    for (id, outcome) in (1..).zip(outcomes) {
        state.begin(&node, id, now.instant);
        let report = Report {
            id,
            node: node.clone(),
            due: now.instant,
            started: now.instant,
            ended: now.instant,
            kind: ProbeKind::Blank,
            outcome: outcome.clone(),
            kernel: Some(KernelView { retransmits: 0, rtt, path_mtu: Some(1370) }),
        };
        state.report(now, &report);
        state.begin_large(&node, id);
        state.report_large(now, &Report { kind: ProbeKind::Large, ..report });
    }
    let interval = Some(Duration::from_secs(10));
    let said = KeepAlive { node, instance: None, interval, goodbye: None, size: None };
    state.receive_request(now, Some(&said));
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
    assert_table("Settings", 4, &known);
}

#[test]
fn the_metrics_are_those_of_the_code() {
    let known: Vec<Row> = wylis::metrics::descriptions()
        .map(|one| row([one.name, one.kind, one.labels, one.help]))
        .collect();
    assert_table("Metrics", 4, &known);
}

#[test]
fn the_routes_are_those_of_the_server() {
    let known: Vec<Row> = routes().into_iter().map(|route| row([route])).collect();
    assert_table("Routes", 1, &known);
}

/// Hook: every route that the server knows. `other` is the counters' label for all else.
fn routes() -> Vec<&'static str> {
    wylis::route::Route::LABELS.iter().copied().filter(|label| label.starts_with('/')).collect()
}

#[test]
fn the_failure_reasons_are_those_of_the_code() {
    let known = FailureReason::ALL.map(|reason| row([reason.as_str(), reason.phase().as_str()]));
    assert_table("Failure reasons", 2, &known);
}

#[test]
fn the_local_errors_are_those_of_the_code() {
    assert_table("Local errors", 1, &LocalError::ALL.map(|error| row([error.as_str()])));
}

#[test]
fn the_reasons_of_discovery_are_those_of_the_code() {
    assert_table("Discovery failures", 1, &DiscoveryReason::ALL.map(|one| row([one.as_str()])));
}

#[test]
fn the_refusals_are_those_of_the_gate() {
    assert_table("Refusals", 1, &Rejection::ALL.map(|one| row([one.as_str()])));
}

#[test]
fn the_states_of_pods_are_those_of_a_scrape() {
    let metrics = AgentMetrics::new(&[]).unwrap();
    metrics.set_peers(0, PodCounts::default());
    let text = scrape(snapshot(&[]), metrics.gather(&GateCounts::default()));
    let states = text.lines().filter_map(|line| line.strip_prefix("wylis_pods{state=\""));
    let states = states.filter_map(|rest| Some(row([rest.split_once('"')?.0])));
    assert_table("Pods", 1, &states.collect::<Vec<_>>());
}

#[test]
fn the_labels_of_requests_are_those_of_the_code() {
    let gate = read("src/gate/counters.rs");
    let codes = gate.lines().find(|line| line.starts_with("const CODES: ")).unwrap();
    let codes = codes.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(", ");
    let routes = wylis::route::Route::LABELS.join(", ");
    assert_table("Requests", 2, &[row(["route", &routes]), row(["code", &codes])]);
}

#[test]
fn the_rust_that_is_asked_for_is_that_of_the_manifest() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let text = format!("Rust {} or newer", version.unwrap().trim_matches('"'));
    assert!(read("README.md").contains(&text), "{text}");
}

#[test]
fn the_verdicts_are_those_of_the_code() {
    let all = [
        Verdict::Draining,
        Verdict::Unknown,
        Verdict::Down(FailureReason::Refused),
        Verdict::OneWay,
        Verdict::Lossy,
        Verdict::Mtu,
        Verdict::Up,
    ];
    for verdict in all {
        // Does not compile when a verdict is missing above.
        match verdict {
            Verdict::Draining | Verdict::Unknown | Verdict::Down(_) | Verdict::OneWay => {}
            Verdict::Lossy | Verdict::Mtu | Verdict::Up => {}
        }
    }
    let known = all.map(|verdict| {
        row([verdict.as_str(), verdict.impairment().map_or("", |kind| kind.as_str())])
    });
    assert_table("Verdicts", 2, &known);
    assert!(read("README.md").contains(&format!("of the last {RECENT} probes")));
}

#[test]
fn the_exit_codes_are_those_of_the_code() {
    let exit = read("src/cli/exit.rs");
    let codes = exit.lines().filter_map(|line| line.split_once("=> ")?.1.strip_suffix(','));
    let known: Vec<Row> = codes.map(|code| row([code])).collect();
    assert!(known.len() > 1, "no exit code found in exit.rs");
    assert_table("Stopping, and exit codes", 1, &known);
}
// ---- Links, targets, machines

/// What people read, from the root of the project.
fn documents() -> Vec<String> {
    let mut documents =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned).to_vec();
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs.map(|name| format!("docs/{}", name.to_string_lossy()));
    documents.extend(docs.filter(|name| name.ends_with(".md")));
    documents
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut found = Vec::new();
    for document in documents() {
        let text = read(&document);
        found.extend(links(&text).into_iter().filter_map(|link| broken(&document, &text, link)));
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Those of the targets named in `text` that the Makefile does not have.
fn missing_targets(text: &str, makefile: &str) -> Vec<String> {
    let rules = makefile.lines().filter(|line| !line.starts_with(['\t', ' ', '#', '.']));
    let rules: Vec<&str> = rules.filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let named = code(text).into_iter().flat_map(|code| code.split("&&").map(str::trim));
    let named = named.filter_map(|command| command.strip_prefix("make "));
    let target = |rest: &str| rest.split_whitespace().next().unwrap_or_default().to_owned();
    named.map(target).filter(|target| !rules.contains(&target.as_str())).collect()
}

#[test]
fn every_make_target_that_is_named_exists() {
    let (text, makefile) = (read("README.md"), read("Makefile"));
    for document in documents() {
        assert_eq!(
            missing_targets(&read(&document), &makefile),
            Vec::<String>::new(),
            "{document}"
        );
    }
    for needed in ["make demo", "make test"] {
        let first = text.lines().take(30).any(|line| line.starts_with(needed));
        assert!(first, "a newcomer must find `{needed}` at once");
    }
}

/// Beginnings of paths that exist on one machine only, put together so that this file is clean.
fn machine_paths() -> Vec<String> {
    let mut paths = vec![
        concat!("/ho", "me/").to_owned(),
        concat!("/ro", "ot/").to_owned(),
        concat!("/Us", "ers/").to_owned(),
        concat!("\\Us", "ers\\").to_owned(),
        concat!("/tmp/", "wt/").to_owned(),
    ];
    // Where this copy lies, unless the name is too short to be telling.
    if root().components().count() > 2 {
        paths.push(root().display().to_string());
    }
    paths
}

fn told_machine(text: &str) -> Option<String> {
    machine_paths().into_iter().find(|path| text.contains(path.as_str()))
}

/// Every file of the repository: what is built or kept by git itself is none.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder that can be read") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let built = folder == root() && ["target", "build", ".git"].contains(&name.as_str());
        if path.is_symlink() || built {
            continue;
        }
        if path.is_dir() {
            // A target folder of another name, and of the harness.
            if !path.join("CACHEDIR.TAG").exists() {
                files(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

#[test]
fn no_file_tells_of_the_machine_it_was_written_on() {
    let mut all = Vec::new();
    files(root(), &mut all);
    assert!(all.contains(&root().join("README.md")) && all.len() > 20, "{all:?}");
    let told: Vec<String> = all
        .iter()
        .filter_map(|path| {
            let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
            Some(format!("{}: {}", path.display(), told_machine(&text)?))
        })
        .collect();
    assert!(told.is_empty(), "{told:#?}");
}

// ---- Each check can fail

#[test]
fn a_table_that_is_none_is_refused() {
    let good = "# A\n\n| a | b |\n|---|---|\n| `1` | 2 |\n| 3 |  |\n\n## B\n\nno table\n";
    let read = vec![row(["1", "2"]), row(["3", ""])];
    assert_eq!(table(good, "A", 0), Ok(read));
    for (bad, heading) in [
        (good, "C"),
        (good, "B"),
        ("# A\n| a | b |\n|---|---|\n", "A"),
        ("# A\n| a | b |\n| 1 | 2 |\n", "A"),
        ("# A\n| a | b |\n|---|\n| 1 | 2 |\n", "A"),
        ("# A\n| a | b |\n|---|---|\n| 1 | 2 | 3 |\n", "A"),
        ("# A\n| a | b |\n|---|---|\n| 1 | 2\n", "A"),
        ("# A\n```\n# B\n```\n# C\n| a |\n|---|\n| 1 |\n", "A"),
    ] {
        assert!(table(bad, heading, 0).is_err(), "{bad:?}");
    }
    assert!(table(good, "A", 1).is_err());
}

#[test]
fn a_row_too_many_too_few_or_twice_is_told() {
    let (one, two) = (row(["1", "a"]), row(["2", "b"]));
    assert!(differences(&[two.clone(), one.clone()], &[one.clone(), two.clone()]).is_empty());
    assert_eq!(differences(from_ref(&one), &[one.clone(), two.clone()]).len(), 1);
    assert_eq!(differences(&[one.clone(), two], from_ref(&one)).len(), 1);
    assert_eq!(differences(&[row(["1", "A"])], from_ref(&one)).len(), 2);
    assert_eq!(differences(&[one.clone(), one.clone()], &[one]).len(), 1);
}

#[test]
fn a_link_to_nowhere_a_wrong_target_and_a_machine_are_told() {
    let text = "# A heading, of two\n[a](README.md) [b](nowhere.md) [c](#a-heading-of-two) \
                [d](#b) [e](https://example.org/x) [f](/etc/passwd) [g](README.md#nowhere)";
    let found: Vec<&str> =
        links(text).into_iter().filter(|link| broken("README.md", text, link).is_some()).collect();
    assert_eq!(found, ["nowhere.md", "#b", "/etc/passwd", "README.md#nowhere"]);
    let makefile = ".PHONY: all\nall: ## x\n\tnone: x\n";
    let text =
        "make sure of `make all`, `make some`\n```sh\ncd x && make more  # make other\n```\n";
    assert_eq!(missing_targets(text, makefile), ["some", "more"]);
    assert!(told_machine(concat!("cd /ho", "me/me")).is_some());
    assert!(told_machine("cd somewhere/home and /var/run").is_none());
}
