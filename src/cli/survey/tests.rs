//! The flags of a survey, what it is going to do, its progress and its results, and refusals.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;
use crate::cli::arguments::Options;
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
         about 115 min.\n"
            .to_owned()
            + warning
    );
    let two = announced(2, &Targets::Peers(vec![name("b")]));
    assert!(two.starts_with("a surveys 1 pair of 2 nodes, with gaps"), "{two}");
    let long = Plan::new(vec![time(300)], time(600)).unwrap();
    let cut = announce(&names[0], &Tournament::new(&names[0], &Targets::Mesh, &names), &long);
    assert!(
        cut.contains(
            "about 66 min, cut off after 10 min: what is left is reported as not surveyed.\n"
        ),
        "{cut}"
    );
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
n1: survey running, 2 of 3 pairs, begun 23 min ago by n1, ends in about 46 min
gaps of 10 s, 30 s, 60 s, 120 s, 300 s; at most 2 h
n2 ↔ node-3: 5 trials done, now 60 s (n2 ← node-3)
node-3 → n1  cold after 31 s (3 of 3: first SYN lost, +1.0 s)
n1 → n2      warm at 300 s
n2 → n1      unproven
n1 → node-3  warm at 300 s
warm proves nothing: other traffic may have kept the path warm
not silenced: workloads, the control plane, and a Prometheus on one node that scrapes the other
a direction is the one of the first packet: an answer that is lost on the way back looks like a late one
choose WYLIS_INTERVAL ≤ 10 s: a third of the shortest (node-3 → n1, 31 s)
";
    let node = name("n1");
    assert_eq!(render(&node, &status(), 2_400_000), expected);
    assert_eq!(exit(&status()), Exit::Unhealthy);
    let reason = Some("node-3 is gone".to_owned());
    let stopped =
        Status { state: State::Stopped, reason, now: Vec::new(), results: Vec::new(), ..status() };
    let expected = "\
n1: survey stopped (node-3 is gone), 0 of 3 pairs, begun 100 min ago by n1, ended 30 min ago
gaps of 10 s, 30 s, 60 s, 120 s, 300 s; at most 2 h
3 pairs not surveyed
";
    assert_eq!(render(&node, &stopped, 7_000_000), expected);
    assert_eq!(exit(&stopped), Exit::Healthy);
    assert_eq!(render(&node, &Status::IDLE, 0), "n1: no survey since the agent started\n");
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
    let error = "post /api/v1/survey from 127.99.6.2:9: refused".to_owned();
    assert_eq!(command(&unused, &stop), Err(Exit::Failed(error)));
}
