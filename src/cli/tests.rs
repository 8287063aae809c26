//! Command lines and their errors, addresses in order, and the text of rows, matrices and probes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::arguments::Options;
use super::cluster::View;
use super::paint::Paint;
use super::path::{describe, describe_flows};
use super::probe::{Summary, combine, probe_in_order, render};
use super::*;
use crate::document::{Peers, read_matrix};
use crate::experiment::LargestPacket;
use crate::matrix::Matrix;
use crate::name::NodeName;
use crate::probe::{Answer, FailureReason, KernelView, LocalError, Outcome, Timings};
use crate::prober::{FlowTrial, ProbeResult};

const PLAIN: Paint = Paint { coloured: false, width: 80 };

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|text| (*text).to_owned()).collect()
}

fn options(
    command: Command,
    arguments: &[&str],
    listen: Option<&str>,
) -> Result<Options, Vec<String>> {
    let listen = listen.map(|listen| ("WYLIS_LISTEN".to_owned(), listen.to_owned()));
    let environment = Vec::from_iter(listen);
    Options::read(command, &owned(arguments), &environment)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn the_local_agent_is_asked_at_its_listen_address() {
    let target = |listen| options(Command::Peers, &[], listen).unwrap().target.to_string();
    assert_eq!(target(None), "127.0.0.1:9050");
    assert_eq!(target(Some("[::]:9051")), "127.0.0.1:9051");
    assert_eq!(target(Some("0.0.0.0:9052")), "127.0.0.1:9052");
    assert_eq!(target(Some("[fd00::3]:9053")), "[fd00::3]:9053");
    let agent = options(Command::Cluster, &["--json", "--agent=n1:80"], Some("nowhere")).unwrap();
    assert_eq!((agent.target.to_string().as_str(), agent.json), ("n1:80", true));
    let errors = options(Command::Peers, &[], Some("9050")).unwrap_err();
    assert_eq!(errors, ["WYLIS_LISTEN = \"9050\": must be an address and a port; or use --agent"]);
}

#[test]
fn a_probe_needs_a_target_and_has_defaults() {
    let probe = options(Command::Probe, &["[fd00::3]:9050"], None).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!((probe.count, probe.interval, probe.timeout), (5, seconds(1), seconds(5)));
    let probe = options(Command::Probe, &["--count", "0", "n:1", "--timeout=1m"], None).unwrap();
    assert_eq!(
        (probe.target.to_string().as_str(), probe.count, probe.timeout),
        ("n:1", 0, seconds(60))
    );
    let probe = options(Command::Probe, &["--mtu", "n:1", "--json"], None).unwrap();
    assert!(probe.mtu && probe.json && probe.flows.is_none());
    assert_eq!(options(Command::Probe, &["n:1", "--flows=1000"], None).unwrap().flows, Some(1000));
    let errors = options(Command::Probe, &["n:1", "--flows", "0"], None).unwrap_err();
    assert_eq!(errors, ["--flows = \"0\": must be a number from 1 to 1000"]);
    for instead in ["--mtu", "--flows=16"] {
        let errors = options(Command::Probe, &["n:1", "--count=3", "--interval=1s", instead], None);
        let expected =
            ["--count: excludes --mtu and --flows", "--interval: excludes --mtu and --flows"];
        assert_eq!(errors.unwrap_err(), expected);
    }
    let errors = options(Command::Probe, &[], None).unwrap_err();
    assert_eq!(errors, ["HOST:PORT: is required: the agent to probe"]);
}

#[test]
fn all_wrong_arguments_are_reported_together_with_name_value_and_bound() {
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
    let errors = options(Command::Probe, &arguments, None).unwrap_err();
    let expected = [
        "more: unexpected argument; see wylis probe --help",
        "--count: needs a value",
        "-1: unknown flag; see wylis probe --help",
        "--timeout: needs a value",
        "--agent = \"a:1\": unknown flag; see wylis probe --help",
        "HOST:PORT = \"host\": must be HOST:PORT, with a port from 1 to 65535 and an IPv6 address in brackets",
        "--interval = \"1ms\": must be a duration with its unit, such as 1s, from 100ms to 1h",
    ];
    assert_eq!(errors, expected);
    let errors = options(Command::Peers, &["--json=1", "x", "--agent=a:1", "--agent=b:1"], None);
    let expected = [
        "--json = \"1\": takes no value",
        "x: unexpected argument; see wylis peers --help",
        "--agent = \"b:1\": is given more than once",
    ];
    assert_eq!(errors.unwrap_err(), expected);
    let errors = options(Command::Probe, &["a:1", "--count=1000001", "--count=2"], None);
    assert_eq!(errors.unwrap_err().len(), 2);
}

#[test]
fn an_unproven_size_is_told_without_a_guess_at_one_cause() {
    let expected = "largest packet to it: unproven: packets were lost or late, but no size was lost and passed \
                    consistently (random loss, or a filter on this host)\n";
    assert_eq!(describe("to", None), expected);
    let largest = LargestPacket { bytes: 1337, is_exact: true };
    assert_eq!(describe("from", Some(largest)), "largest packet from it: 1,337 bytes\n");
}

#[test]
fn flows_are_told_with_the_ports_that_never_get_through() {
    let told = |failed: u16, dead: Option<u16>, errors| {
        let ports = |count| (40_001..).take(usize::from(count)).collect();
        describe_flows(&FlowTrial {
            tried: 16,
            errors,
            failed: ports(failed),
            dead: dead.map(ports),
        })
    };
    assert_eq!(told(0, Some(0), 0), "16 flows: all get through\n");
    assert_eq!(told(3, Some(0), 0), "16 flows: 3 failed, none of them always\n");
    assert_eq!(
        told(2, None, 1),
        "16 flows: 2 failed, unproven: too few others got through every time (random loss, or a filter on this \
         host); 1 more met other errors\n"
    );
    assert_eq!(
        told(2, Some(2), 0),
        "16 flows: 2 never get through, from source ports 40001, 40002\n"
    );
    assert!(told(12, Some(9), 0).ends_with("40007, 40008, …\n"));
}

#[test]
fn a_target_is_a_host_and_a_port() {
    let good = |text: &str| options(Command::Probe, &[text], None).is_ok();
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
    let parse = |arguments: &[&str]| Invocation::parse(&owned(arguments)).unwrap();
    for command in Command::ALL {
        let name = command.as_str();
        assert_eq!(parse(&[name, "--help"]), Invocation::Command(command));
    }
    assert_eq!(parse(&["--log", "info", "peers", "-h"]), Invocation::Help);
    assert_eq!(parse(&["-V"]), Invocation::Version);
    assert_eq!((parse(&[]), parse(&["--log", "peers"])), (Invocation::Agent, Invocation::Agent));
    assert_eq!(
        Invocation::parse(&owned(&["Peers", "--json"])).unwrap_err().to_string(),
        "Peers: unknown command; the commands are peers, cluster, history, probe, survey; see wylis --help"
    );
    for ((usage, _), command) in COMMANDS.iter().zip(Command::ALL) {
        assert!(usage.starts_with(&format!("wylis {command}")));
        let help = command.help();
        assert!(help.contains(usage), "{help}");
        let unhealthy = match command {
            Command::Peers => "4 a peer is down or flaky",
            Command::Cluster => "4 there is a finding",
            Command::History => continue,
            Command::Probe => {
                "4 a probe failed, a direction has a limit or is unproven, or a flow failed"
            }
            Command::Survey => "4 a path goes cold",
        };
        let codes =
            format!("\n\nExit codes: 0 nothing is wrong, 1 error, 2 wrong usage, {unhealthy}.\n");
        assert!(help.ends_with(&codes), "{help}");
    }
}

/// A listener that answers each connection with `answer`, at an address of its own.
fn serve(ip: &str, answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn a_document_comes_from_the_first_address_that_connects() {
    let refusing: SocketAddr = "127.99.3.1:9".parse().unwrap();
    let agent =
        serve("127.99.3.2", "HTTP/1.1 200 OK\r\nWylis-Node: n1\r\nContent-Length: 2\r\n\r\n{}");
    let other = serve("127.99.3.3", "SSH-2.0-OpenSSH\r\n");
    assert_eq!(fetch::document(&[refusing, agent, other], "/a"), Ok(b"{}".to_vec()));
    let failed = |addresses: &[SocketAddr]| match fetch::document(addresses, "/a") {
        Err(Exit::Failed(error)) => error,
        result => panic!("{result:?}"),
    };
    let second: SocketAddr = "127.99.3.4:9".parse().unwrap();
    assert_eq!(
        failed(&[refusing, second]),
        "no agent answers at 127.99.3.1:9 (refused), 127.99.3.4:9 (refused): name one with --agent HOST:PORT, or set \
         WYLIS_LISTEN as the agent has it"
    );
    let error = format!("get /a from 127.99.3.1:9: refused, from {other}: bad_response");
    assert_eq!(failed(&[refusing, other, agent]), error, "the first that connects is the last");
}

#[test]
fn later_probes_use_the_address_that_connected() {
    let refusing: SocketAddr = "127.99.4.1:9".parse().unwrap();
    let timeout = Duration::from_secs(5);
    let mut addresses = vec![refusing, "127.99.4.2:9".parse().unwrap()];
    let attempts = probe_in_order(&mut addresses, timeout);
    assert_eq!((attempts.len(), addresses.len()), (2, 2), "none connects: all are tried again");
    // It connects, although its answer is wrong.
    let other = serve("127.99.4.3", "SSH-2.0-OpenSSH\r\n");
    let mut addresses = vec![refusing, other, refusing];
    let attempts = probe_in_order(&mut addresses, timeout);
    let outcomes: Vec<_> =
        attempts.into_iter().map(|(address, (result, _))| (address, result.unwrap_err())).collect();
    let refused = Outcome::Failure(FailureReason::Refused);
    let wrong = Outcome::Failure(FailureReason::BadResponse);
    assert_eq!(outcomes, [(refusing, refused), (other, wrong)]);
    assert_eq!(addresses, [other]);
}

#[test]
fn a_probe_is_not_sent_only_if_it_is_sent_to_no_address() {
    let address = "127.99.4.4:9".parse().unwrap();
    let local = || (address, (Err(Outcome::Local(LocalError::NoPorts)), None));
    let failed = |reason| (address, (Err(Outcome::Failure(reason)), None));
    let reset = failed(FailureReason::Reset);
    let refused = failed(FailureReason::Refused);
    assert_eq!(combine(&[refused.clone(), local()]), Some(&refused.1));
    assert_eq!(combine(&[local(), refused, reset.clone()]), Some(&reset.1));
    assert_eq!(combine(&[local(), local()]), Some(&local().1));
}

#[test]
fn times_and_ages_are_formatted_in_suitable_units() {
    let times = [0, 650, 12_340, 999_999, 1_230_000];
    let shown = times.map(|micros| format_time(Duration::from_micros(micros)));
    assert_eq!(shown, ["0.00 ms", "0.65 ms", "12.3 ms", "999.9 ms", "1.23 s"]);
    let shown = [0, 119_999, 120_000, 7_200_000, 172_800_000].map(format_age);
    assert_eq!(shown, ["0 s", "119 s", "2 min", "2 h", "2 d"]);
}

#[test]
fn peers_are_rendered_as_a_table() {
    let document = r#"{"version":1,"node":"n1","at":1000,"peers":[
        {"node":"n2","verdict":"up","reason":null,"rtt_seconds":0.0004,"path_mtu_bytes":1370,
         "last_success":990.5,"recent":[{"at":1,"total_seconds":0.002,"retransmits":0},
          {"at":2,"total_seconds":0.001,"retransmits":1},{"at":3,"reason":"reset","retransmits":0}]},
        {"node":"node-3","verdict":"down","reason":"connect_timeout","incoming":"syns",
         "rtt_seconds":0.25,"rtt_age_seconds":300,"path_mtu_bytes":null,"last_success":null,"recent":[]}]}"#;
    let peers = Peers::read(document.as_bytes()).unwrap();
    let expected = "\
n1: 2 peers, 1 up
NODE    VERDICT  REASON                        LATENCY  LOSS  RETRANSMITS  RTT                   MTU   LAST SUCCESS
n2      up                                     1.00 ms  1/3   1            0.40 ms               1370  9 s ago
node-3  down     connect_timeout, SYNs arrive           0/0   0            250.0 ms (5 min old)        never
";
    assert_eq!(super::peers::render(&peers, PLAIN), expected);
    let coloured = super::peers::render(&peers, Paint { coloured: true, ..PLAIN });
    assert!(coloured.contains("\x1b[31mdown   \x1b[0m"), "{coloured}");
    let bare: String =
        coloured.replace("\x1b[31m", "").replace("\x1b[32m", "").replace("\x1b[0m", "");
    assert_eq!(bare, expected, "colours change no column");
    assert_eq!(super::peers::exit(&peers), Exit::Unhealthy);
    let flaky = document.replace("connect_timeout", "refused").replace("down", "flaky");
    let flaky = Peers::read(flaky.as_bytes()).unwrap();
    let shown = super::peers::render(&flaky, PLAIN);
    assert!(shown.contains("node-3  flaky    refused"), "{shown}");
    assert_eq!(super::peers::exit(&flaky), Exit::Unhealthy);
    let alone = br#"{"version":1,"node":"n1","at":1,"peers":[]}"#;
    assert_eq!(super::peers::render(&Peers::read(alone).unwrap(), PLAIN), "n1: 0 peers, 0 up\n");
}

#[test]
fn peers_are_rendered_with_what_experiments_found() {
    let document = r#"{"version":1,"node":"n1","at":1000,"peers":[
        {"node":"n2","verdict":"mtu","direction":"outgoing","recent":[],
         "mtu":{"outgoing":{"bytes":1337,"exact":true,"at":9},"incoming":null}},
        {"node":"n3","verdict":"down","reason":"connect_timeout","incoming":"nothing","recent":[],
         "host":{"state":"answers","address":"10.0.0.3:9050","at":9}},
        {"node":"n4","verdict":"flaky","reason":"connect_timeout","recent":[],
         "flows":{"dead":1,"tried":4,"at":9}},
        {"node":"n5","verdict":"down","reason":"refused","surveyed":true,"recent":[]}]}"#;
    let mut peers = Peers::read(document.as_bytes()).unwrap();
    let expected = "\
n1: 4 peers, 0 up, 1 surveyed
NODE  VERDICT   REASON                                              LATENCY  LOSS  RETRANSMITS  RTT  MTU  LAST SUCCESS
n2    mtu       outgoing, 1,337 bytes                                        0/0   0                      never
n3    down      connect_timeout, nothing arrives, its host answers           0/0   0                      never
n4    flaky     connect_timeout, 1 of 4 flows never gets through             0/0   0                      never
n5    surveyed  was down, refused                                            0/0   0                      never
";
    assert_eq!(super::peers::render(&peers, PLAIN), expected);
    peers.lines.drain(..3);
    assert_eq!(super::peers::exit(&peers), Exit::Healthy, "what rests for a survey is not down");
}

/// A matrix of `count` nodes. `cell` gives the cell of each pair; `None` makes the source's row missing.
fn matrix(count: usize, cell: impl Fn(usize, usize) -> Option<&'static str>) -> Matrix {
    matrix_with("", count, cell)
}

/// The same with these findings.
fn matrix_with(
    findings: &str,
    count: usize,
    cell: impl Fn(usize, usize) -> Option<&'static str>,
) -> Matrix {
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
        r#"{{"version":1,"node":"node-000","at":9,"duration_seconds":0.034,"deadline_seconds":2,
            "nodes":[{}],{findings}"rows":[{}]}}"#,
        names.join(","),
        rows.join(",")
    );
    read_matrix(text.as_bytes()).unwrap()
}

const UP: Option<&str> = Some(r#"{"verdict":"up","latency_seconds":0.0123}"#);
const DOWN: Option<&str> = Some(r#"{"verdict":"down","reason":"refused","failures":20}"#);
const LOSSY: Option<&str> = Some(r#"{"verdict":"lossy","latency_seconds":1.2,"failures":3}"#);

#[test]
fn a_small_matrix_is_rendered_with_latencies_and_words() {
    let findings = r#""findings":[
        {"kind":"node_down","grave":true,"nodes":["node-003"],"text":"a sentence of the agent → as it is"},
        {"kind":"pair","nodes":[],"pairs":[[0,1]],"text":"another"}],"#;
    let matrix = matrix_with(findings, 4, |source, target| match (source, target) {
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

a sentence of the agent → as it is
another
";
    assert_eq!(view.render(PLAIN), expected);
    assert_eq!(view.exit(), Exit::Unhealthy);
    // An agent of an earlier release gives no findings.
    let old = matrix_with("", 2, |source, _| if source == 0 { DOWN } else { UP });
    let view = View::new(&old);
    assert!(
        view.render(PLAIN).lines().last().unwrap().contains("node-000"),
        "{}",
        view.render(PLAIN)
    );
    assert_eq!(view.exit(), Exit::Unhealthy);
    // Any finding is something wrong, whatever the cells.
    let clock = "\"findings\":[{\"kind\":\"clock\",\"nodes\":[],\"text\":\"a\u{9b}31mb\u{7f}\"}],";
    let clock = matrix_with(clock, 2, |_, _| UP);
    assert!(View::new(&clock).render(PLAIN).ends_with("\n\na31mb\n"), "no control sequence");
    assert_eq!(View::new(&clock).exit(), Exit::Unhealthy);
}

#[test]
fn pairs_that_rest_for_a_survey_are_counted_and_drawn_apart() {
    const RESTS: Option<&str> = Some(r#"{"verdict":"up","latency_seconds":0.01,"surveyed":true}"#);
    let matrix = |count| matrix(count, |_, target| if target == 1 { RESTS } else { UP });
    let shown = View::new(&matrix(3)).render(PLAIN);
    assert!(shown.contains("6 pairs, 4 up, 2 surveyed\n"), "{shown}");
    assert!(shown.contains(" 1 node-000 -        surv.    12ms\n"), "{shown}");
    assert_eq!(View::new(&matrix(3)).exit(), Exit::Healthy);
    let shown = View::new(&matrix(20)).render(PLAIN);
    assert!(shown.contains(" 1 node-000 -  s  .  "), "{shown}");
    assert!(shown.contains("s surveyed"), "{shown}");
}

#[test]
fn twenty_nodes_fit_eighty_columns() {
    let matrix = matrix(20, |source, target| if (source, target) == (19, 0) { DOWN } else { UP });
    let shown = View::new(&matrix).render(PLAIN);
    assert!(shown.lines().skip(1).all(|line| line.len() <= 80), "{shown}");
    assert!(shown.contains("\n            1  2  3  4"), "{shown}");
    assert!(shown.contains("\n20 node-019 X  .  .  "), "{shown}");
    assert!(shown.contains("X down"), "{shown}");
    assert!(shown.lines().last().unwrap().contains("node-019"), "{shown}");
    let wide = View::new(&matrix).render(Paint { width: 200, ..PLAIN });
    assert!(wide.contains("12ms") && wide.lines().all(|line| line.len() <= 200), "{wide}");
    // A narrow output has no picture.
    let narrow = View::new(&matrix).render(Paint { width: 40, ..PLAIN });
    assert_eq!(narrow.lines().count(), 3, "{narrow}");
}

#[test]
fn two_hundred_nodes_are_rendered_as_a_list() {
    let finding = |number| format!(r#"{{"kind":"pair","nodes":[],"text":"finding {number}"}}"#);
    let findings: Vec<String> = (0..1000).map(finding).collect();
    let findings = format!("\"findings\":[{}],", findings.join(","));
    let ill = matrix_with(&findings, 200, |source, target| match (source, target) {
        (7, _) => None,
        (_, 7) | (9, 10) => DOWN,
        _ => UP,
    });
    let shown = View::new(&ill).render(PLAIN);
    let heading = "200 nodes as node-000 sees them, rows read in 34.0 ms: 39601 pairs, 39401 up, 200 down; 1 \
        row missing\n\nfinding 0\nfinding 1\n";
    assert!(shown.starts_with(heading), "{shown}");
    assert!(
        shown.ends_with("finding 59\n940 more findings; see wylis cluster --json\n"),
        "{shown}"
    );
    let lossy = matrix(2, |_, _| LOSSY);
    assert_eq!(View::new(&lossy).exit(), Exit::Unhealthy, "lossy is something wrong");
    let well = matrix(200, |_, _| UP);
    assert_eq!(View::new(&well).render(PLAIN).lines().count(), 1);
    assert_eq!(View::new(&well).exit(), Exit::Healthy);
}

#[test]
fn each_probe_is_a_line_and_the_summary_another() {
    let address = "10.0.0.1:9050".parse().unwrap();
    let time = Duration::from_micros;
    let timings = |total| Timings { connect: time(400), response: time(700), total: time(total) };
    let node = NodeName::new("n2").unwrap();
    let kernel = KernelView {
        retransmits: 1,
        rtt: Some(time(300)),
        path_mtu: Some(1370),
        ..KernelView::default()
    };
    let good = |total| (Ok((node.clone(), timings(total), Answer::default())), Some(kernel));
    let failure: ProbeResult = (
        Err(Outcome::Failure(FailureReason::ConnectTimeout)),
        Some(KernelView { retransmits: 2, ..KernelView::default() }),
    );
    let local: ProbeResult = (Err(Outcome::Local(LocalError::NoPorts)), None);
    assert_eq!(
        render(&good(1200), address, PLAIN),
        "n2 at 10.0.0.1:9050: connect 0.40 ms, response 0.70 ms, total 1.20 ms, retransmits 1, \
         rtt 0.30 ms, mtu 1370\n"
    );
    assert_eq!(
        render(&failure, address, PLAIN),
        "10.0.0.1:9050: connect_timeout (connect), retransmits 2\n"
    );
    assert_eq!(
        render(&local, address, PLAIN),
        "10.0.0.1:9050: not sent, local error no_ports, retransmits 0\n"
    );
    let summary = |all: &[&ProbeResult]| {
        let mut summary = Summary::default();
        all.iter().for_each(|result| summary.add(result));
        (summary.render(), summary.exit())
    };
    let (text, exit) = summary(&[&good(1200), &failure, &good(3000), &local]);
    assert_eq!(
        text,
        "4 probes, 1 failed, 4 retransmits, 1 not sent; total min 1.20 ms, mean 2.10 ms, max 3.00 ms\n"
    );
    assert_eq!(exit, Exit::Unhealthy);
    assert_eq!(summary(&[&good(1200), &local]).1, Exit::Healthy);
    assert_eq!(summary(&[&failure]).1, Exit::Unhealthy);
    let none = Exit::Failed("no probe was sent".to_owned());
    assert!(summary(&[&local]).1 == none && summary(&[]).1 == none);
}
