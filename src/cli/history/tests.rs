//! The flags of `wylis history`, its lines, and documents of other agents.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;
use crate::cli::Command;
use crate::cli::arguments::Options;

const PLAIN: Paint = Paint { coloured: false, width: 80 };
/// Mon 2026-11-30 16:17:10 UTC.
const AT: u64 = 1_796_055_430;
const WHOLE: Duration = Duration::from_secs(DAY);

fn options(arguments: &[&str]) -> Result<Options, Vec<String>> {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    Options::read(Command::History, &arguments, &[])
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// A document of a day as an agent writes it, with these fields.
fn document(fields: &str) -> String {
    format!(
        r#"{{"version":1,"node":"n1","at":{AT}.25,"seconds":300,
            "columns":["from","pairs","down","one_way","flaky","lossy","mtu","repeated"],"times":[],{fields}}}"#
    )
}

fn finding(from: u64, to: u64, grave: bool, nodes: &[&str], text: &str) -> String {
    format!(
        r#"{{"from":{from},"to":{to},"kind":"pair","grave":{grave},"nodes":{nodes:?},"text":"{text}"}}"#
    )
}

/// A night with four faults, the last one of which goes on.
fn night() -> String {
    let day = AT - AT % DAY;
    let findings = [
        finding(day - 300, day + 600, false, &["a", "b"], "a → b: lossy"),
        finding(day + 11_400, day + 12_000, true, &["fra-2"], "nothing from fra-2 or its host"),
        finding(day + 58_200, day + 58_800, true, &["b"], "b is down\u{9b}31m\u{7f}"),
    ];
    let since = day - 26_100;
    format!(
        r#""since":{since},"findings":[{}],"missing":[{{"node":"n4","error":"not_remembered"}},
            {{"node":"n5","error":"too_large"}},{{"node":"n6","error":"not_remembered"}}]"#,
        findings.join(",")
    )
}

fn shown(fields: &str, arguments: &[&str]) -> String {
    let options = options(arguments).unwrap();
    let day = read_day(document(fields).as_bytes()).unwrap();
    render(&day, options.since, options.node.as_ref(), PLAIN)
}

#[test]
fn a_day_has_its_bounds_and_a_node_its_name() {
    let read = |arguments: &[&str]| options(arguments).map(|read| (read.since, read.node));
    assert_eq!(read(&[]), Ok((WHOLE, None)));
    let arguments = ["--since", "90m", "--node=fra-2", "--agent=n1:80"];
    assert_eq!(read(&arguments), Ok((Duration::from_secs(5400), Some(name("fra-2")))));
    let bounds = "must be a duration with its unit, such as 24h, from 5m to 24h";
    for (arguments, error) in [
        (&["--since=25h"][..], format!("--since = \"25h\": {bounds}")),
        (&["--since=1m"], format!("--since = \"1m\": {bounds}")),
        (&["--since=12"], format!("--since = \"12\": {bounds}")),
        (
            &["--since=1h 30m"],
            format!("--since = \"1h 30m\": {bounds}: one number and one unit, without a space"),
        ),
        (&["--node=a_b~"], "--node = \"a_b~\": must be the name of a node".to_owned()),
        (&["--count=3"], "--count = \"3\": unknown flag; see wylis history --help".to_owned()),
    ] {
        assert_eq!(read(arguments), Err(vec![error]), "{arguments:?}");
    }
    let help = Command::History.help();
    let codes = "\n\nExit codes: 0 the day is shown, whatever was wrong, 1 error, 2 wrong usage.\n";
    assert!(help.ends_with(codes), "{help}");
}

#[test]
fn a_night_is_told_in_words_newest_last() {
    let expected = "\
n1: the last 24 h, until Mon 2026-11-30 16:17 UTC
remembered since Sun 16:45 UTC, 23 h ago
without the memory of n4 (not_remembered), n5 (too_large), n6 (not_remembered)

Sun 23:55–Mon 00:10  16 h ago     a → b: lossy
Mon 03:10–03:20      12 h ago     nothing from fra-2 or its host
Mon 16:10–now        just now     b is down31m
";
    assert_eq!(shown(&night(), &[]), expected);
    // From a time that all remember.
    let expected = "\
n1: the last 13 h, until Mon 2026-11-30 16:17 UTC
without the memory of n4 (not_remembered), n5 (too_large), n6 (not_remembered)

Mon 03:10–03:20      12 h ago     nothing from fra-2 or its host
Mon 16:10–now        just now     b is down31m
";
    let since = "--since=13h";
    assert_eq!(shown(&night(), &[since]), expected);
    let shown = shown(&night(), &["--node=b"]);
    assert!(
        shown.ends_with(
            "16 h ago     a → b: lossy\nMon 16:10–now        just now     b is down31m\n"
        )
    );
    assert_eq!(shown.lines().count(), 6, "{shown}");
}

#[test]
fn a_day_without_a_fault_is_one_line() {
    let well = |fields: &str| format!(r#""since":{},"findings":[],{fields}"#, AT - 90_000);
    let none = r#""missing":[]"#;
    let missing = r#""missing":[{"node":"n4","error":"response_timeout"}]"#;
    let last = |fields: &str, arguments: &[&str]| {
        shown(fields, arguments).lines().last().unwrap().to_owned()
    };
    assert_eq!(last(&well(none), &[]), "nothing was wrong");
    assert_eq!(last(&well(none), &["--node=b"]), "no finding names b");
    assert_eq!(last(&well(missing), &[]), "nothing was wrong, as far as is remembered");
    let new = format!(r#""since":{},"findings":[],{none}"#, AT - 1000);
    assert_eq!(last(&new, &["--node=b"]), "no finding names b, as far as is remembered");
    assert_eq!(last(&new, &["--since=10m"]), "nothing was wrong");
    let judged = well(&format!(r#""judged_since":{},{none}"#, AT - 5000));
    assert_eq!(last(&judged, &[]), "nothing was wrong, as far as is remembered");
    let line = "older than Mon 14:53 UTC is not judged: that would have taken too long";
    assert!(shown(&judged, &[]).contains(&format!("\n{line}\n")), "{}", shown(&judged, &[]));
    assert_eq!(last(&judged, &["--since=1h"]), "nothing was wrong");
    assert_eq!(last(&night(), &["--node=c"]), "no finding names c, as far as is remembered");
    let empty = shown(&format!(r#""since":null,"findings":[],{none}"#), &[]);
    assert!(empty.ends_with("UTC\nnothing is remembered yet\n"), "{empty}");
}

#[test]
fn what_is_left_out_or_occurred_twice_is_marked() {
    let day = AT - AT % DAY;
    let twice = finding(day, day + 300, true, &["b"], "b is down");
    let twice = twice.replace("\"kind\"", "\"repeated\":true,\"kind\"");
    let missing: Vec<String> =
        (1..=10).map(|n| format!(r#"{{"node":"old-{n}","error":"busy"}}"#)).collect();
    let fields = format!(
        r#""since":{},"left_out":12,"findings":[{twice}],"missing":[{}]"#,
        AT - 90_000,
        missing.join(",")
    );
    let expected = "\
12 earlier lines are left out
without the memory of old-1 (busy), old-2 (busy), old-3 (busy), old-4 (busy), old-5 (busy), old-6 (busy), old-7 (busy), \
                    old-8 (busy) and 2 more

Mon 00:00–00:05      16 h ago     b is down (the clock was set back)
";
    assert!(shown(&fields, &[]).ends_with(expected), "{}", shown(&fields, &[]));
    let coloured = Paint { coloured: true, ..PLAIN };
    let day = read_day(document(&fields).as_bytes()).unwrap();
    assert!(render(&day, WHOLE, None, coloured).contains("\x1b[31mb is down\x1b[0m"));
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (seconds, expected) in [
        (0, "Thu 1970-01-01 00:00"),
        (951_825_600, "Tue 2000-02-29 12:00"),
        (1_767_225_599, "Wed 2025-12-31 23:59"),
        (AT, "Mon 2026-11-30 16:17"),
        (2_147_483_648, "Tue 2038-01-19 03:14"),
        (4_107_542_400, "Mon 2100-03-01 00:00"),
    ] {
        assert_eq!(date(seconds), expected);
    }
    // Whatever the document says.
    let _ = date(u64::MAX);
}

#[test]
fn an_old_agent_is_named_as_such() {
    let listener = TcpListener::bind("127.99.5.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let answer = "HTTP/1.1 404 Not Found\r\nWylis-Node: n1\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes());
    });
    let options = options(&[&format!("--agent={target}")]).unwrap();
    let expected = format!(
        "get /api/v1/history/day from {target}: status 404: an older release without this route"
    );
    assert_eq!(run(&options, PLAIN), Err(Exit::Failed(expected)));
}
