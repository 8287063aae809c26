//! The document written and read back.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn report(outgoing: Coldness, incoming: Coldness) -> PairReport {
    let result = PairResult { outgoing, incoming };
    PairReport { source: name("a"), target: name("c"), at: 1_767_225_601_393, result }
}

fn cold(gap: u64, mark: Mark) -> Coldness {
    Coldness::after(seconds(gap), seconds(gap - 2), mark, 3, 3).unwrap()
}

fn status() -> Status {
    let lost = Mark::Lost(Some(Duration::from_millis(1004)));
    Status {
        state: State::Running,
        reason: Some("stopped".to_owned()),
        coordinator: Some(name("a")),
        started: Some(1_767_225_600_000),
        end: Some(1_767_232_800_000),
        plan: Some(Plan::default()),
        pairs: 10,
        now: vec![
            PairNow {
                source: name("a"),
                target: name("b"),
                trial: Some(Trial { gap: seconds(60), direction: Direction::Incoming }),
                trials: 5,
            },
            PairNow { source: name("d"), target: name("c"), trial: None, trials: 0 },
        ],
        results: vec![
            report(cold(31, lost), Coldness::WarmAt(seconds(300))),
            report(cold(183, Mark::Late(Duration::from_millis(5100))), Coldness::Unproven),
            report(cold(60, Mark::Refused), Coldness::NotSurveyed),
            report(cold(40, Mark::Lost(None)), Coldness::NotSurveyed),
        ],
    }
}

#[test]
fn a_survey_is_read_as_it_was_written() {
    for status in [status(), Status::IDLE, Status { plan: None, state: State::Done, ..status() }] {
        let document = survey_json(&name("a"), 1_767_225_602_000, &status);
        assert_eq!(read_survey(&document), Ok((name("a"), status)));
    }
}

#[test]
fn it_tells_the_interval_and_what_the_results_do_not_prove() {
    let document: Value = serde_json::from_slice(&survey_json(&name("a"), 0, &status())).unwrap();
    let survey = &document["survey"];
    assert_eq!(survey["interval_seconds"], 10.0);
    assert_eq!(
        survey["recommendation"],
        "choose WYLIS_INTERVAL=10s or less: a third of the shortest (a → c, 31 s)"
    );
    assert_eq!(survey["remarks"], json!(REMARKS));
    let lost = json!({
        "result": "cold", "gap_seconds": 31.0, "warm_seconds": 29.0, "late_seconds": 1.004, "marked": 3, "trials": 3,
        "text": "cold after 31 s (3 of 3: first SYN lost, +1.0 s)",
    });
    assert_eq!(survey["results"][0]["outgoing"], lost);
    let warm = json!({"result": "warm", "gap_seconds": 300.0, "text": "warm at 300 s"});
    assert_eq!(survey["results"][0]["incoming"], warm);
    let none = serde_json::from_slice::<Value>(&survey_json(&name("a"), 0, &Status::IDLE)).unwrap();
    assert_eq!(
        (&none["survey"]["recommendation"], &none["survey"]["remarks"]),
        (&Value::Null, &json!([]))
    );
}

#[test]
fn a_reason_is_bounded_and_plain() {
    let reason = format!("b says \"no\\\u{1b}[31m\u{7}\n{}", "x".repeat(1000));
    let document = survey_json(&name("a"), 0, &Status { reason: Some(reason), ..Status::IDLE });
    let (_, read) = read_survey(&document).unwrap();
    let reason = read.reason.unwrap();
    assert!(reason.starts_with("b says no[31mxxx") && reason.len() == MAX_REASON, "{reason}");
}

/// The document with one value replaced.
fn with(path: &str, value: Value) -> Vec<u8> {
    let mut document: Value =
        serde_json::from_slice(&survey_json(&name("a"), 0, &status())).unwrap();
    *document.pointer_mut(path).expect(path) = value;
    serde_json::to_vec(&document).unwrap()
}

#[test]
fn a_value_outside_its_bounds_is_malformed() {
    for (path, value) in [
        ("/node", json!("a b")),
        ("/survey", json!(1)),
        ("/survey/state", json!("paused")),
        ("/survey/coordinator", json!("<b>")),
        ("/survey/started", json!(-1)),
        ("/survey/budget_seconds", json!(86_401)),
        ("/survey/gaps_seconds", json!([30, 10])),
        ("/survey/gaps_seconds", json!(vec![10; MAX_GAPS + 1])),
        ("/survey/pairs", json!(-1)),
        ("/survey/now/0/source", json!("")),
        ("/survey/now/0/direction", json!("up")),
        ("/survey/now/0/gap_seconds", json!(1e300)),
        ("/survey/now/0/trials", json!(65_536)),
        ("/survey/results/0/target", json!("a/b")),
        ("/survey/results/0/at", json!(-1)),
        ("/survey/results/0/outgoing/result", json!("frozen")),
        ("/survey/results/0/outgoing/gap_seconds", json!(null)),
        ("/survey/results/0/outgoing/warm_seconds", json!(31)),
        ("/survey/results/0/outgoing/marked", json!(4)),
        ("/survey/results/0/outgoing/trials", json!(256)),
        ("/survey/results/1/outgoing/late_seconds", json!(null)),
        ("/survey/results/0/incoming", json!([])),
    ] {
        assert_eq!(
            read_survey(&with(path, value.clone())),
            Err(ReadError::Malformed),
            "{path} {value}"
        );
    }
    let results = |count: usize| {
        let one = json!({"source": "a", "target": "b", "at": 1, "outgoing": {"result": "unproven"},
            "incoming": {"result": "not_surveyed"}});
        read_survey(&with("/survey/results", json!(vec![one; count])))
            .map(|(_, status)| status.results.len())
    };
    assert_eq!(results(MAX_RESULTS), Ok(MAX_RESULTS));
    assert_eq!(results(MAX_RESULTS + 1), Err(ReadError::Malformed));
    assert_eq!(read_survey(&with("/version", json!(2))), Err(ReadError::Version));
    assert_eq!(read_survey(br#"{"version":1,"node":"a","at":1}"#), Err(ReadError::Malformed));
}

proptest! {
    #[test]
    fn any_value_is_read_or_refused(path in 0..12_usize, number: f64, text in ".{0,20}", is_text: bool) {
        let paths = [
            "/at", "/survey/state", "/survey/started", "/survey/end", "/survey/budget_seconds", "/survey/pairs",
            "/survey/now/0/gap_seconds", "/survey/results/0/at", "/survey/results/0/outgoing/gap_seconds",
            "/survey/results/0/outgoing/late_seconds", "/survey/results/0/outgoing/result", "/survey/reason",
        ];
        let value = if is_text { json!(text) } else { json!(number) };
        let _ = read_survey(&with(paths[path], value));
    }
}
