//! The flags of a survey, what it is going to do, its progress and its results, and refusals.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;
use crate::cli::arguments::Options;
use crate::probe::FailureReason;
use crate::survey::{Mark, PairReport, PairResult, Trial};

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

const fn time(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn read(arguments: &[&str]) -> Result<Request, Vec<String>> {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    Options::read(crate::cli::Command::Survey, &arguments, &[])
        .map(|options| options.survey)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn a_survey_begins_with_its_targets_and_is_shown_without() {
    assert_eq!(read(&[]), Ok(Request::Show));
    assert_eq!(read(&["--stop", "--json"]), Ok(Request::Stop));
    let start = |targets, plan, is_confirmed| Ok(Request::Start { targets, plan, is_confirmed });
    assert_eq!(read(&["--all"]), start(Targets::Mesh, Plan::default(), false));
    let plan = Plan::new(vec![Duration::from_millis(1500), time(600)], time(1800)).unwrap();
    let peers = Targets::Peers(vec![name("b"), name("a.example.org")]);
    let arguments = ["--to", "b, a.example.org", "--gaps=1500ms,10m", "--budget=30m", "--yes"];
    assert_eq!(read(&arguments), start(peers, plan, true));
}

#[test]
fn wrong_flags_are_reported_with_their_bounds() {
    let gaps = "must be 1 to 16 ascending durations from 1s to 10m, such as 10s,30s,60s";
    for (arguments, error) in [
        (&["--yes"][..], "--yes: needs --to or --all".to_owned()),
        (&["--gaps=10s"], "--gaps: needs --to or --all".to_owned()),
        (&["--budget=1h"], "--budget: needs --to or --all".to_owned()),
        (&["--all", "--to=b"], "--to: excludes --all".to_owned()),
        (&["--all", "--stop"], "--stop: excludes --to and --all".to_owned()),
        (&["--to=b_c"], "--to = \"b_c\": must be names of nodes, separated by commas".to_owned()),
        (&["--to="], "--to = \"\": must be names of nodes, separated by commas".to_owned()),
        (&["--all", "--gaps=30s,10s"], format!("--gaps = \"30s,10s\": {gaps}")),
        (&["--all", "--gaps=10"], format!("--gaps = \"10\": {gaps}")),
        (&["--all", "--gaps=11m"], format!("--gaps = \"11m\": {gaps}")),
        (
            &["--all", "--budget=25h"],
            "--budget = \"25h\": must be a duration with its unit, such as 2h, from 1s to 24h"
                .to_owned(),
        ),
        (
            &["--all", "--gaps=1s,5s", "--budget=16s"],
            "--budget = \"16s\": too short for one trial of 1s, which needs 21s".to_owned(),
        ),
        (
            &["--interval=1s"],
            "--interval = \"1s\": unknown flag; see wylis survey --help".to_owned(),
        ),
    ] {
        assert_eq!(read(arguments), Err(vec![error]), "{arguments:?}");
    }
    let many: Vec<String> = (0..200).map(|number| format!("node-{number}")).collect();
    let errors = read(&["--to", &many.join(",")]);
    assert_eq!(
        errors,
        Err(vec!["--to: names too many nodes for one survey; use --all".to_owned()])
    );
}

#[test]
fn a_survey_says_first_what_it_does_and_how_long_it_takes() {
    let names: Vec<NodeName> = ["a", "b", "c", "d", "e", "f"].map(name).to_vec();
    let announced = |count: usize, targets: &Targets| {
        announce(&names[0], &Tournament::new(&names[0], targets, &names[..count]), &Plan::default())
    };
    let warning = "While a pair rests, its two agents send each other nothing. If only they keep the path warm, the \
                   first packets of workloads on it may be lost or late, as without Wylis.\n";
    assert_eq!(
        announced(5, &Targets::Mesh),
        "a surveys 10 pairs of 5 nodes, in 5 rounds one after the other, with gaps of 10 s, 30 s, 60 s, 120 s, 300 s: \
         about 1 h 56 min if no path goes cold; a path that does is searched, which takes several times as long.\n\
         It is cut off after 2 h: what is left is reported as not surveyed.\n"
            .to_owned()
            + warning
    );
    let two = announced(2, &Targets::Peers(vec![name("b")]));
    assert!(two.starts_with("a surveys 1 pair of 2 nodes, with gaps"), "{two}");
    let long = Plan::new(vec![time(300)], time(600)).unwrap();
    let cut = announce(&names[0], &Tournament::new(&names[0], &Targets::Mesh, &names), &long);
    assert!(
        cut.contains(": about 1 h 7 min if no path") && cut.contains("cut off after 10 min: what"),
        "{cut}"
    );
}

#[test]
fn a_target_that_cannot_be_surveyed_is_refused_with_the_reason() {
    let names: Vec<NodeName> =
        ["b", "oslo", "rome", "new"].into_iter().chain(["x"; FEW]).map(name).collect();
    let down = Verdict::Down(FailureReason::ConnectTimeout);
    let verdicts = [Verdict::Up, Verdict::Draining, down, Verdict::Unknown];
    let all = verdicts.into_iter().chain([Verdict::Lossy; FEW]);
    let peers: Vec<(&NodeName, Verdict)> = names.iter().zip(all).collect();
    let told = |peers, target| unfit(&name("berlin"), peers, &name(target)).unwrap_or_default();
    for (target, problem) in [
        ("berlin", "berlin is this agent's own node: name the others"),
        ("oslo", "oslo is draining"),
        ("rome", "rome is down (connect_timeout)"),
        ("nowhere", "berlin has no peer nowhere"),
        ("b", ""),
        ("new", ""),
        ("x", ""),
    ] {
        assert_eq!(told(&peers, target), problem);
    }
    assert_eq!(told(&peers[..2], "nowhere"), "berlin has no peer nowhere; its peers: b, oslo");
    assert_eq!(told(&[], "nowhere"), "berlin has no peer nowhere");
}

#[test]
fn a_survey_that_goes_on_is_named_before_another_is_announced() {
    let text = "refused: a survey of n1 goes on; see it with wylis survey, end it with wylis survey --stop, both at n1's \
                agent";
    let begun = |coordinator, state| {
        already_running(&name("n1"), &Status { coordinator, state, ..Status::IDLE })
    };
    assert_eq!(begun(Some(name("n1")), State::Running).as_deref(), Some(text));
    assert_eq!(begun(None, State::Running).as_deref(), Some(text));
    let other = begun(Some(name("n2")), State::Running).unwrap();
    assert!(other.contains("a survey of n2 goes on") && other.ends_with("n2's agent"), "{other}");
    assert_eq!(begun(Some(name("n2")), State::Done), None);
    assert_eq!(begun(None, State::Idle), None);
}

#[test]
fn a_span_is_rounded_to_minutes() {
    for (seconds, text) in [
        (24, "24 s"),
        (119, "119 s"),
        (120, "2 min"),
        (1387, "23 min"),
        (3599, "1 h"),
        (6933, "1 h 56 min"),
        (86_400, "24 h"),
    ] {
        assert_eq!(span(time(seconds)), text);
    }
}

#[test]
fn only_a_yes_is_consent() {
    for answer in ["y\n", "Y", " yes \n", "Yes\n"] {
        assert!(is_consent(answer), "{answer:?}");
    }
    for answer in ["", "\n", "n\n", "yess", "ja\n", "y y"] {
        assert!(!is_consent(answer), "{answer:?}");
    }
}

fn status() -> Status {
    let lost = Mark::Lost(Some(Duration::from_millis(1004)));
    let cold = Coldness::after(time(31), time(29), lost, 3, 3).unwrap();
    let warm = Coldness::WarmAt(time(300));
    let report = |target: &str, outgoing, incoming| PairReport {
        source: name("n1"),
        target: name(target),
        at: 0,
        result: PairResult { outgoing, incoming },
    };
    Status {
        state: State::Running,
        reason: None,
        coordinator: Some(name("n1")),
        started: Some(1_000_000),
        end: Some(5_200_000),
        plan: Some(Plan::default()),
        pairs: 3,
        now: vec![PairNow {
            source: name("n2"),
            target: name("node-3"),
            trial: Some(Trial { gap: time(60), direction: Direction::Incoming }),
            trials: 5,
        }],
        results: vec![report("n2", warm, Coldness::Unproven), report("node-3", warm, cold)],
    }
}

#[test]
fn progress_and_results_are_rendered() {
    let expected = "\
n1: survey running, 2 of 3 pairs surveyed, begun 23 min ago, ends in about 47 min
gaps of 10 s, 30 s, 60 s, 120 s, 300 s; at most 2 h
n2 ↔ node-3: 5 trials done, now 60 s (n2 ← node-3)
node-3 → n1  cold after 31 s (3 of 3: first SYN lost, +1.0 s)
n1 → n2      warm at 300 s
n2 → n1      unproven
n1 → node-3  warm at 300 s
warm proves nothing: other traffic may have kept the path warm
not silenced: workloads, the control plane, and a Prometheus on one node that scrapes the other
a direction is the one of the first packet: an answer that is lost on the way back looks like a late one
choose WYLIS_INTERVAL=10s or less: a third of the shortest (node-3 → n1, 31 s)
";
    let node = name("n1");
    assert_eq!(render(&node, &status(), 2_400_000), expected);
    assert_eq!(exit(&status()), Exit::Unhealthy);
    let reason = Some("node-3 is gone".to_owned());
    let stopped =
        Status { state: State::Stopped, reason, now: Vec::new(), results: Vec::new(), ..status() };
    let expected = "\
n1: survey stopped (node-3 is gone), 0 of 3 pairs surveyed, begun 100 min ago, ended 30 min ago
gaps of 10 s, 30 s, 60 s, 120 s, 300 s; at most 2 h
3 pairs not surveyed
";
    assert_eq!(render(&node, &stopped, 7_000_000), expected);
    assert_eq!(exit(&stopped), Exit::Healthy);
    assert_eq!(render(&node, &Status::IDLE, 0), "n1: no survey since the agent started\n");
}

#[test]
fn the_first_line_is_true_at_any_time() {
    let first = |node: &str, status: &Status, now| {
        let text = render(&name(node), status, now);
        text.lines().next().unwrap().to_owned()
    };
    let begun = "n1: survey running, 2 of 3 pairs surveyed, begun 71 min ago";
    let late = ", takes longer than estimated: a gap is being searched";
    assert_eq!(first("n1", &status(), 5_300_000), format!("{begun}{late}"));
    let over = first("n1", &status(), 8_300_000);
    assert!(over.ends_with(" ago, ends soon: its time is over"), "{over}");
    // Pairs without a result are not surveyed.
    let mut none = Status { state: State::Done, pairs: 1, ..status() };
    none.results.truncate(1);
    none.results[0].result = PairResult::NOT_SURVEYED;
    let text = render(&name("n1"), &none, 5_300_000);
    assert!(text.starts_with("n1: survey done, 0 of 1 pair surveyed, "), "{text}");
    assert!(!text.contains(REMARKS[0]), "{text}");
    // Another agent knows its own pairs alone.
    let other = first("oslo", &status(), 5_300_000);
    assert_eq!(other, "oslo: a survey of n1 goes on; ask n1 for its progress");
    let ended = Status { state: State::Done, pairs: 0, ..status() };
    assert_eq!(
        first("oslo", &ended, 5_300_000),
        "oslo: a survey of n1: done, begun 71 min ago, ended 100 s ago; ask n1 for its result"
    );
}

#[test]
fn where_all_is_warm_the_last_line_says_what_to_choose() {
    let warm = |pairs, state| {
        let mut status = Status { state, pairs, ..status() };
        for report in &mut status.results {
            report.result = PairResult {
                outgoing: Coldness::WarmAt(time(5)),
                incoming: Coldness::WarmAt(time(6)),
            };
        }
        render(&name("n1"), &status, 5_300_000)
    };
    let last = "no path went cold up to 5 s: choose a third of the shortest timer you know of\n";
    assert!(warm(2, State::Done).ends_with(last));
    for text in [warm(3, State::Done), warm(2, State::Running), warm(2, State::Stopped)] {
        assert!(!text.contains("no path went cold"), "{text}");
    }
}

/// A server that gives this answer to each request.
fn server(answer: &'static str) -> Vec<SocketAddr> {
    let listener = TcpListener::bind("127.99.6.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    vec![address]
}

#[test]
fn a_refusal_is_an_error_with_its_reason() {
    let refused = server(
        "HTTP/1.1 409 Conflict\r\nContent-Length: 36\r\n\r\nn2 coordinates a survey\x1b[31m already",
    );
    let error = Exit::Failed("refused: n2 coordinates a survey[31m already".to_owned());
    let stop = crate::survey::Command::Stop;
    assert_eq!(command(&refused, &stop), Err(error));
    let old = server("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        command(&old, &stop),
        Err(Exit::Failed("an older release without surveys".to_owned()))
    );
    let well = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(command(&well, &stop), Ok(b"{}".to_vec()));
    let unused = vec!["127.99.6.2:9".parse().unwrap()];
    let Err(Exit::Failed(error)) = command(&unused, &stop) else { panic!("it is answered") };
    assert!(error.starts_with("no agent answers at 127.99.6.2:9 (refused): "), "{error}");
}
