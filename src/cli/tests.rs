//! What is asked for wrongly, and what is shown of rows and matrices.

use std::time::Duration;

use super::arguments::Given;
use super::cluster::View;
use super::paint::Paint;
use super::probe::{Summary, line};
use super::*;
use crate::matrix::{Matrix, Peers};
use crate::name::NodeName;
use crate::probe::{Answer, FailureReason, KernelView, LocalError, Outcome, Timings};
use crate::prober::ProbeResult;

const PLAIN: Paint = Paint { coloured: false, width: 80 };

fn given(command: Command, arguments: &[&str], listen: Option<&str>) -> Result<Given, Vec<String>> {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let environment = Environment { listen: listen.map(str::to_owned), ..Environment::default() };
    Given::read(command, &arguments, &environment)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn the_local_agent_is_found_where_it_listens() {
    let target = |listen| given(Command::Peers, &[], listen).unwrap().target;
    assert_eq!(target(None), "127.0.0.1:9050");
    assert_eq!(target(Some("[::]:9051")), "127.0.0.1:9051");
    assert_eq!(target(Some("0.0.0.0:9052")), "127.0.0.1:9052");
    assert_eq!(target(Some("[fd00::3]:9053")), "[fd00::3]:9053");
    let agent = given(Command::Cluster, &["--json", "--agent=n1:80"], Some("nowhere")).unwrap();
    assert_eq!((agent.target.as_str(), agent.json), ("n1:80", true));
    let errors = given(Command::Peers, &[], Some("9050")).unwrap_err();
    assert_eq!(errors, ["WYLIS_LISTEN = \"9050\": must be an address and a port; or give --agent"]);
}

#[test]
fn a_probe_needs_a_target_and_has_defaults() {
    let probe = given(Command::Probe, &["[fd00::3]:9050"], None).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!((probe.count, probe.interval, probe.timeout), (5, seconds(1), seconds(5)));
    let probe = given(Command::Probe, &["--count", "0", "n:1", "--timeout=1m"], None).unwrap();
    assert_eq!((probe.target.as_str(), probe.count, probe.timeout), ("n:1", 0, seconds(60)));
    let errors = given(Command::Probe, &[], None).unwrap_err();
    assert_eq!(errors, ["HOST:PORT: is required: whom to probe"]);
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_name_value_and_bound() {
    let arguments = [
        "host",
        "more",
        "--count",
        "-1",
        "--interval=1ms",
        "--timeout",
        "--json",
        "--agent",
        "a:1",
    ];
    let errors = given(Command::Probe, &arguments, None).unwrap_err();
    let expected = [
        "--count: needs a value",
        "-1: is no flag of wylis probe; see --help",
        "--timeout: needs a value",
        "--json: is no flag of wylis probe; see --help",
        "--agent: is no flag of wylis probe; see --help",
        "HOST:PORT = \"host\": must be HOST:PORT, with an IPv6 address in brackets",
        "more: is one too many: one target is probed",
        "a:1: is one too many: one target is probed",
        "--interval = \"1ms\": must be a duration with its unit, such as 1s, from 100ms to 1h",
    ];
    assert_eq!(errors, expected);
    let errors = given(Command::Peers, &["--json=1", "x", "--agent=a:1", "--agent=b:1"], None);
    let expected = [
        "--json = \"1\": takes no value",
        "--agent = \"b:1\": is given more than once",
        "x: is no argument of wylis peers; see --help",
    ];
    assert_eq!(errors.unwrap_err(), expected);
    let errors = given(Command::Probe, &["a:1", "--count=1000001", "--count=2"], None);
    assert_eq!(errors.unwrap_err().len(), 2);
}

#[test]
fn a_target_is_a_host_and_a_port() {
    let good = |text: &str| given(Command::Probe, &[text], None).is_ok();
    for text in ["a:1", "10.0.0.1:9050", "a-b.c_d:65535", "[::1]:9"] {
        assert!(good(text), "{text}");
    }
    for text in
        ["a", ":1", "a:0", "a:65536", "::1:9", "[::1]", "[a]:1", "a b:1", "a\u{1b}[0m:1", "a/b:1"]
    {
        assert!(!good(text), "{text}");
    }
}

#[test]
fn only_the_first_argument_names_a_command() {
    let name = |text: &str| command(Some(&text.to_owned())).map(Command::name);
    assert_eq!(
        (name("peers"), name("cluster"), name("probe")),
        (Some("peers"), Some("cluster"), Some("probe"))
    );
    assert_eq!((name("--help"), name("Peers"), command(None)), (None, None, None));
    for ((usage, _), command) in COMMANDS.iter().zip(Command::ALL) {
        assert!(usage.starts_with(&format!("wylis {}", command.name())));
        let help = command.help();
        assert!(help.contains(usage) && help.contains("Exit codes"), "{help}");
    }
}

#[test]
fn times_have_the_unit_that_suits_them() {
    let shown =
        [0, 650, 12_340, 999_999, 1_230_000].map(|micros| span(Duration::from_micros(micros)));
    assert_eq!(shown, ["0.00 ms", "0.65 ms", "12.3 ms", "999.9 ms", "1.23 s"]);
    let shown = [0, 119_999, 120_000, 7_200_000, 172_800_000].map(age);
    assert_eq!(shown, ["0 s", "119 s", "2 min", "2 h", "2 d"]);
}

#[test]
fn a_row_is_a_table() {
    let document = r#"{"version":1,"node":"n1","at":1000,"peers":[
        {"node":"n2","verdict":"up","reason":null,"rtt_seconds":0.0004,"path_mtu_bytes":1370,
         "last_success":990.5,"recent":[{"at":1,"total_seconds":0.002,"retransmits":0},
          {"at":2,"total_seconds":0.001,"retransmits":1},{"at":3,"reason":"reset","retransmits":0}]},
        {"node":"node-3","verdict":"down","reason":"connect_timeout","rtt_seconds":null,
         "path_mtu_bytes":null,"last_success":null,"recent":[]}]}"#;
    let peers = Peers::read(document.as_bytes()).unwrap();
    let expected = "\
n1: 2 peers, 1 up
NODE    VERDICT  REASON           LATENCY  LOSS  RETRANSMITS  RTT      MTU   LAST SUCCESS
n2      up                        1.00 ms  1/3   1            0.40 ms  1370  9 s ago
node-3  down     connect_timeout           0/0   0                           never
";
    assert_eq!(super::peers::shown(&peers, PLAIN), expected);
    let coloured = super::peers::shown(&peers, Paint { coloured: true, ..PLAIN });
    assert!(coloured.contains("\x1b[31mdown   \x1b[0m"), "{coloured}");
    let bare: String =
        coloured.replace("\x1b[31m", "").replace("\x1b[32m", "").replace("\x1b[0m", "");
    assert_eq!(bare, expected, "colours move nothing");
    let alone = br#"{"version":1,"node":"n1","at":1,"peers":[]}"#;
    assert_eq!(super::peers::shown(&Peers::read(alone).unwrap(), PLAIN), "n1: 0 peers, 0 up\n");
}

/// A matrix in which `cell` says what each says of another; `None` for a row that is missing.
fn matrix(count: usize, cell: impl Fn(usize, usize) -> Option<&'static str>) -> Matrix {
    let name = |index: usize| format!("node-{index:03}");
    let names: Vec<String> = (0..count).map(|index| format!("{:?}", name(index))).collect();
    let row = |source: usize| {
        let cells: Vec<&str> = (0..count)
            .map(|target| if source == target { Some("null") } else { cell(source, target) })
            .collect::<Option<_>>()
            .unwrap_or_default();
        let (name, cells) = (name(source), cells.join(","));
        if cells.is_empty() {
            return format!(r#"{{"node":"{name}","error":"response_timeout","cells":[]}}"#);
        }
        format!(r#"{{"node":"{name}","at":9,"cells":[{cells}]}}"#)
    };
    let rows: Vec<String> = (0..count).map(row).collect();
    let text = format!(
        r#"{{"version":1,"node":"node-000","at":9,"took_seconds":0.034,"deadline_seconds":2,
            "nodes":[{}],"rows":[{}]}}"#,
        names.join(","),
        rows.join(",")
    );
    Matrix::read(text.as_bytes()).unwrap()
}

const UP: Option<&str> = Some(r#"{"verdict":"up","latency_seconds":0.0123}"#);
const DOWN: Option<&str> = Some(r#"{"verdict":"down","reason":"refused","failures":20}"#);
const LOSSY: Option<&str> = Some(r#"{"verdict":"lossy","latency_seconds":1.2,"failures":3}"#);

#[test]
fn a_small_matrix_is_a_picture_of_latencies_and_words() {
    let matrix = matrix(4, |source, target| match (source, target) {
        (3, _) => None,
        (_, 3) => DOWN,
        (0, 1) => LOSSY,
        _ => UP,
    });
    let view = View::new(&matrix);
    let expected = "\
4 nodes as node-000 sees them, rows read in 34.0 ms: 9 pairs, 5 up, 3 down, 1 lossy; 1 row missing

            node-000 node-001 node-002 node-003
 1 node-000 -        lossy    12ms     down
 2 node-001 12ms     -        12ms     down
 3 node-002 12ms     12ms     -        down
 4 node-003 no row: response_timeout

no row of node-003: response_timeout
node-003 is down for 3 of 3 (refused)
node-000 -> node-001  lossy, 3 of 20 failed, 1.20 s
";
    assert_eq!(view.shown(PLAIN), expected);
    assert_eq!(view.ending(), Ending::Unhealthy);
}

#[test]
fn twenty_nodes_fit_eighty_columns() {
    let matrix = matrix(20, |source, target| if (source, target) == (19, 0) { DOWN } else { UP });
    let shown = View::new(&matrix).shown(PLAIN);
    assert!(shown.lines().skip(1).all(|line| line.len() <= 80), "{shown}");
    assert!(shown.contains("\n            1  2  3  4"), "{shown}");
    assert!(shown.contains("\n20 node-019 X  .  .  "), "{shown}");
    assert!(shown.contains("X down"), "{shown}");
    assert!(
        shown.ends_with("\nnode-019 -> node-000  down (refused), 20 of 20 failed\n"),
        "{shown}"
    );
    let wide = View::new(&matrix).shown(Paint { width: 200, ..PLAIN });
    assert!(wide.contains("12ms") && wide.lines().all(|line| line.len() <= 200), "{wide}");
    // No picture where there is no room for one.
    let narrow = View::new(&matrix).shown(Paint { width: 40, ..PLAIN });
    assert_eq!(narrow.lines().count(), 3, "{narrow}");
}

#[test]
fn two_hundred_nodes_are_told_in_words() {
    let dead = matrix(200, |source, target| match (source, target) {
        (7, _) => None,
        (_, 7) | (9, 10) => DOWN,
        (11, _) => DOWN,
        _ => UP,
    });
    let shown = View::new(&dead).shown(PLAIN);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines,
        [
            "200 nodes as node-000 sees them, rows read in 34.0 ms: 39601 pairs, 39203 up, 398 down; \
             1 row missing",
            "",
            "no row of node-007: response_timeout",
            "node-007 is down for 199 of 199 (refused)",
            "node-011 finds down 198 of 199 (refused)",
            "node-009 -> node-010  down (refused), 20 of 20 failed",
        ]
    );
    let lossy = matrix(200, |_, _| LOSSY);
    let shown = View::new(&lossy).shown(PLAIN);
    assert!(shown.lines().count() < 70, "{}", shown.lines().count());
    assert!(shown.ends_with("and 39740 lines more; wylis cluster --json tells all\n"));
    assert_eq!(View::new(&lossy).ending(), Ending::Healthy, "lossy is not down");
    let well = matrix(200, |_, _| UP);
    assert_eq!(View::new(&well).shown(PLAIN).lines().count(), 1);
    assert_eq!(View::new(&well).ending(), Ending::Healthy);
}

#[test]
fn a_probe_is_one_line_and_all_of_them_another() {
    let address = "10.0.0.1:9050".parse().unwrap();
    let time = Duration::from_micros;
    let timings = |total| Timings { connect: time(400), response: time(700), total: time(total) };
    let node = NodeName::new("n2").unwrap();
    let kernel = KernelView { retransmits: 1, rtt: Some(time(300)), path_mtu: Some(1370) };
    let good = |total| (Ok((node.clone(), timings(total), Answer::default())), Some(kernel));
    let failure: ProbeResult = (
        Err(Outcome::Failure(FailureReason::ConnectTimeout)),
        Some(KernelView { retransmits: 2, ..KernelView::default() }),
    );
    let local: ProbeResult = (Err(Outcome::Local(LocalError::NoPorts)), None);
    assert_eq!(
        line(&good(1200), address, PLAIN),
        "n2 at 10.0.0.1:9050: connect 0.40 ms, response 0.70 ms, total 1.20 ms, retransmits 1, \
         rtt 0.30 ms, mtu 1370\n"
    );
    assert_eq!(
        line(&failure, address, PLAIN),
        "10.0.0.1:9050: connect_timeout (connect), retransmits 2\n"
    );
    assert_eq!(
        line(&local, address, PLAIN),
        "10.0.0.1:9050: not made, a fault of this host: no_ports, retransmits 0\n"
    );
    let summary = |all: &[&ProbeResult]| {
        let mut summary = Summary::default();
        all.iter().for_each(|asking| summary.add(asking));
        (summary.shown(), summary.ending())
    };
    let (text, ending) = summary(&[&good(1200), &failure, &good(3000), &local]);
    assert_eq!(
        text,
        "4 probes, 1 failed, 4 retransmits, 1 not made; total least 1.20 ms, mean 2.10 ms, most 3.00 ms\n"
    );
    assert_eq!(ending, Ending::Unhealthy);
    assert_eq!(summary(&[&good(1200), &local]).1, Ending::Healthy);
    assert_eq!(summary(&[&failure]).1, Ending::Unhealthy);
    let none = Ending::Failed("no probe was made".to_owned());
    assert!(summary(&[&local]).1 == none && summary(&[]).1 == none);
}
