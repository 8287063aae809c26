//! The text of a scrape.

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;
use crate::experiment::{HostState, LargestPacket};
use crate::peer::Peer;
use crate::probe::{Answer, FailureReason, KernelView, Outcome, ProbeKind, Report, Syns, Timings};
use crate::state::{Direction, MeshState, Moment, StateSettings, Verdict};
use crate::wire::KeepAlive;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn peers(count: u8) -> impl Iterator<Item = Peer> {
    (1..=count).map(|number| Peer {
        node: name(&format!("n{number}")),
        address: format!("10.0.0.{number}:9050").parse().unwrap(),
        other_addresses: Vec::new(),
        host: None,
        instance: None,
        ready: Some(number % 2 == 1),
    })
}

fn state(count: u8) -> MeshState {
    let bounds = vec![0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 3.0].into();
    let drain = Duration::from_secs(5);
    let mut state = MeshState::new(StateSettings {
        failure_threshold: 3,
        interval: Duration::from_secs(10),
        large_interval: Duration::from_secs(300),
        host_port: None,
        source: NodeName::new("me").unwrap(),
        drain,
        bounds,
        key: crate::token::TokenKey::new(b"key"),
    });
    state.peers(peers(count).collect(), Duration::from_secs(30));
    state
}

fn moment() -> Moment {
    Moment { instant: Instant::now(), wall: UNIX_EPOCH + Duration::from_millis(1_700_000_000_500) }
}

fn probe(state: &mut MeshState, node: &NodeName, outcome: Outcome, retransmits: u32) {
    let now = moment();
    state.begin(node, 7);
    let kernel = Some(KernelView {
        retransmits,
        syn_retransmits: retransmits,
        rtt: Some(Duration::from_micros(20_500)),
        path_mtu: Some(1370),
        ..KernelView::default()
    });
    let report = Report {
        id: 7,
        node: node.clone(),
        due: now.instant,
        started: now.instant,
        ended: now.instant,
        kind: ProbeKind::Blank,
        outcome,
        kernel,
    };
    state.report(now, &report);
}

fn success(milliseconds: u64) -> Outcome {
    let total = Duration::from_millis(milliseconds);
    let response = Duration::from_millis(10).min(total);
    let timings = Timings { connect: total - response, response, total };
    Outcome::Success { timings, answer: Answer::default() }
}

fn scrape(state: &MeshState) -> String {
    let snapshot = Arc::new(state.snapshot(moment()));
    let parts: Vec<Vec<u8>> = render(name("me"), snapshot, Vec::new()).collect();
    String::from_utf8(parts.concat()).unwrap()
}

fn series<'a>(text: &'a str, node: &str) -> Vec<&'a str> {
    let label = format!("\"{node}\"");
    text.lines().filter(|line| !line.starts_with('#') && line.contains(&label)).collect()
}

#[test]
fn a_probed_pair_renders_as_in_the_golden_text() {
    let mut state = state(1);
    let node = name("n1");
    probe(&mut state, &node, success(30), 0);
    probe(&mut state, &node, success(1040), 1);
    probe(&mut state, &node, Outcome::Failure(FailureReason::ConnectTimeout), 3);
    let request =
        KeepAlive { node, instance: None, interval: None, goodbye: None, token: None, size: None };
    state.receive_request(moment(), Some(&request));
    state.receive_request(moment(), None);
    let golden = include_str!("golden.txt");
    let text = scrape(&state);
    assert!(text == golden, "--- got\n{text}\n--- expected\n{golden}");
}

#[test]
fn a_family_is_described_once_however_many_peers_it_has() {
    let mut state = state(200);
    let node = name("n120");
    probe(&mut state, &node, Outcome::Failure(FailureReason::Refused), 0);
    let text = scrape(&state);
    let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(lines("wylis_probes_total{"), 400);
    assert_eq!(lines("wylis_incoming_requests_total{"), 201);
    assert_eq!(lines("wylis_probe_failures_total{"), 1);
    for family in
        ["wylis_probes_total", "wylis_probe_failures_total", "wylis_incoming_requests_total"]
    {
        assert_eq!(lines(&format!("# HELP {family} ")), 1, "{family}");
        assert_eq!(lines(&format!("# TYPE {family} ")), 1, "{family}");
    }
    let mut series: Vec<&str> = text.lines().map(|l| l.rsplit_once(' ').unwrap().0).collect();
    series.sort_unstable();
    let all = series.len();
    series.dedup();
    assert_eq!(series.len(), all, "each series occurs once");
}

#[test]
fn what_comes_in_is_shown_only_while_something_is_wrong() {
    let mut state = state(1);
    let node = name("n1");
    assert!(!scrape(&state).contains("wylis_peer_incoming{"));
    (0..3).for_each(|_| probe(&mut state, &node, Outcome::Failure(FailureReason::Unreachable), 0));
    let later = Instant::now() + Duration::from_secs(2);
    let address = "10.0.0.1".parse().unwrap();
    let syns = Syns { last: later, failed: Some(later) };
    state.update_incoming(later, Some(later), &[(address, syns)].into());
    let series = r#"wylis_peer_incoming{kind="syns",source_node="me",target_node="n1"} 1"#;
    let text = scrape(&state);
    assert!(text.lines().any(|line| line == series), "{text}");
    probe(&mut state, &node, success(30), 0);
    assert!(!scrape(&state).contains("wylis_peer_incoming{"));
}

#[test]
fn what_experiments_found_is_shown_with_its_verdict_alone() {
    let shown = |verdict| {
        let mut snapshot = state(1).snapshot(moment());
        let record = Arc::make_mut(&mut snapshot.peers[0]);
        record.verdict = verdict;
        record.experiments.host.state = Some(HostState::Silent);
        let mut set = |direction, bytes, is_exact| {
            let largest = LargestPacket { bytes, is_exact };
            record.experiments.mtu.set(direction, Some((largest, UNIX_EPOCH)));
        };
        set(Direction::Outgoing, 1337, true);
        set(Direction::Incoming, 524, false);
        let parts: Vec<Vec<u8>> = render(name("me"), Arc::new(snapshot), Vec::new()).collect();
        let text = String::from_utf8(parts.concat()).unwrap();
        let found = ["wylis_peer_host_up{", "wylis_peer_largest_packet_bytes{"];
        let is_found = |line: &&str| found.iter().any(|start| line.starts_with(start));
        text.lines().filter(is_found).map(str::to_owned).collect::<Vec<_>>()
    };
    let pair = r#"source_node="me",target_node="n1"}"#;
    let outgoing = format!(r#"wylis_peer_largest_packet_bytes{{direction="outgoing",{pair} 1337"#);
    for direction in [Direction::Outgoing, Direction::Both] {
        assert_eq!(shown(Verdict::Mtu(direction)), [outgoing.as_str()]);
    }
    assert_eq!(shown(Verdict::Mtu(Direction::Incoming)), [""; 0], "not exact");
    let down = Verdict::Down(FailureReason::ConnectTimeout);
    assert_eq!(shown(down), [format!("wylis_peer_host_up{{{pair} 0")]);
    assert_eq!(shown(Verdict::Up), [""; 0]);
}

#[test]
fn a_peer_named_unknown_owns_its_series() {
    let mut state = state(1);
    let peer = Peer { node: name("unknown"), ..peers(1).next().unwrap() };
    state.peers([peer].into_iter().collect(), Duration::from_secs(30));
    state.receive_request(moment(), None);
    let text = scrape(&state);
    let of_unknown = "wylis_incoming_requests_total{source_node=\"unknown\"";
    let series: Vec<&str> = text.lines().filter(|line| line.starts_with(of_unknown)).collect();
    assert_eq!(series, [format!("{of_unknown},target_node=\"me\"}} 0")]);
}

#[test]
fn counters_of_a_new_peer_start_at_zero_and_its_gauges_are_absent() {
    let text = scrape(&state(1));
    for zero in [
        "wylis_probes_total{result=\"failure\",source_node=\"me\",target_node=\"n1\"} 0",
        "wylis_probes_total{result=\"success\",source_node=\"me\",target_node=\"n1\"} 0",
        "wylis_probe_duration_seconds_count{source_node=\"me\",target_node=\"n1\"} 0",
        "wylis_probe_retransmits_total{source_node=\"me\",target_node=\"n1\"} 0",
        "wylis_incoming_requests_total{source_node=\"n1\",target_node=\"me\"} 0",
    ] {
        assert!(text.contains(zero), "{zero}\n{text}");
    }
    for absent in ["wylis_peer_up", "wylis_peer_rtt", "wylis_peer_last_success", "reason="] {
        assert!(!text.contains(absent), "{absent}\n{text}");
    }
}

#[test]
fn a_healthy_pair_has_at_most_24_series_and_an_impaired_one_32() {
    let mut state = state(1);
    let node = name("n1");
    for _ in 0..5 {
        probe(&mut state, &node, success(30), 0);
    }
    let healthy = series(&scrape(&state), "n1").len();
    for reason in FailureReason::ALL {
        probe(&mut state, &node, Outcome::Failure(reason), 1);
    }
    for _ in 0..3 {
        probe(&mut state, &node, success(30), 1);
    }
    let text = scrape(&state);
    assert!(text.contains("wylis_peer_impaired{kind=\"lossy\""), "{text}");
    let impaired = series(&text, "n1").len();
    assert!(healthy <= 24 && impaired <= 32, "healthy {healthy}, impaired {impaired}");
}

#[test]
fn the_longest_gap_is_absent_while_it_is_usual_and_grows_afterwards() {
    let mut state = state(1);
    let begun = moment();
    probe(&mut state, &name("n1"), success(30), 0);
    let gap = |seconds: u64| {
        let instant = begun.instant + Duration::from_secs(seconds);
        let snapshot = Arc::new(state.snapshot(Moment { instant, ..begun }));
        let parts: Vec<Vec<u8>> = render(name("me"), snapshot, Vec::new()).collect();
        let text = String::from_utf8(parts.concat()).unwrap();
        let mut lines = text.lines().filter(|line| line.starts_with("wylis_peer_longest_gap"));
        lines.next().map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
    };
    assert_eq!(gap(14), None);
    // The probe ended a little after the start of the test.
    assert!(gap(41).is_some_and(|gap| (20.0..=41.0).contains(&gap)), "{:?}", gap(41));
}

#[test]
fn a_peer_that_left_has_no_series() {
    let mut state = state(2);
    let (one, two) = (name("n1"), name("n2"));
    for node in [&one, &two] {
        probe(&mut state, node, success(30), 0);
        probe(&mut state, node, Outcome::Failure(FailureReason::Reset), 0);
    }
    state.peers(peers(1).collect(), Duration::from_secs(30));
    let text = scrape(&state);
    assert!(series(&text, "n2").is_empty(), "{text}");
    assert!(!series(&text, "n1").is_empty());
}

#[test]
fn the_agents_metrics_match_their_descriptions() {
    let metrics = AgentMetrics::new(&["network"]).unwrap();
    metrics.set_peers(3, crate::peer::PodCounts::default());
    metrics.add_refresh(RefreshSample { took: Duration::ZERO, result: Ok(UNIX_EPOCH) });
    metrics.raise_log_lines_dropped("repeated", 5);
    let gate = GateCounts {
        connections: 2,
        rejected: vec![("timeout", 4)],
        requests: vec![("/keepalive", "204", 9)],
    };
    let _ = metrics.gather(&gate);
    let families = metrics.gather(&gate);
    for description in agent::DESCRIPTIONS {
        let family = families.iter().find(|family| family.name() == description.name).unwrap();
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        assert_eq!(kind, description.kind, "{}", description.name);
        let mut labels: Vec<&str> =
            family.get_metric()[0].get_label().iter().map(|label| label.name()).collect();
        let mut described: Vec<&str> =
            description.labels.split(',').filter(|label| !label.is_empty()).collect();
        labels.sort_unstable();
        described.sort_unstable();
        assert_eq!(labels, described, "{}", description.name);
    }
    let unknown: Vec<&str> = families
        .iter()
        .map(|family| family.name())
        .filter(|name| !name.starts_with("process_"))
        .filter(|name| !agent::DESCRIPTIONS.iter().any(|known| known.name == *name))
        .collect();
    assert!(unknown.is_empty(), "without a description: {unknown:?}");
    let total: f64 = families
        .iter()
        .filter(|family| family.name() == "wylis_gate_requests_total")
        .map(|family| family.get_metric()[0].get_counter().get_value())
        .sum();
    assert!((total - 9.0).abs() < f64::EPSILON, "gathering twice counts once");
}
