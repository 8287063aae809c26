//! What is written is read back, and nothing else is read.

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

fn name() -> impl Strategy<Value = NodeName> {
    "[A-Za-z0-9.-]{1,40}".prop_map(|text| NodeName::new(&text).unwrap())
}

/// To the microsecond.
fn time(min: u64, max: u64) -> impl Strategy<Value = Duration> {
    (min * 1_000_000..=max * 1_000_000).prop_map(Duration::from_micros)
}

fn plan() -> impl Strategy<Value = Plan> {
    let gaps = btree_set(time(1, 600), 1..=MAX_GAPS);
    (gaps, time(1, 86_400))
        .prop_map(|(gaps, budget)| Plan::new(gaps.into_iter().collect(), budget).expect("valid"))
}

fn coldness() -> impl Strategy<Value = Coldness> {
    let mark = prop_oneof![
        option::of(time(0, 60)).prop_map(Mark::Lost),
        time(0, 60).prop_map(Mark::Late),
        Just(Mark::Refused),
    ];
    let after = (time(2, 700), time(0, 1), mark, 1_u8..=3, 3_u8..=6)
        .prop_map(|(gap, warm, mark, marked, trials)| {
            Coldness::after(gap, warm, mark, marked, trials)
        })
        .prop_map(|coldness| coldness.expect("consistent"));
    prop_oneof![
        Just(Coldness::NotSurveyed),
        Just(Coldness::Unproven),
        time(0, 700).prop_map(Coldness::WarmAt),
        after,
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Outgoing), Just(Direction::Incoming)]
}

fn command() -> impl Strategy<Value = Command> {
    let peers =
        btree_set(name(), 1..10).prop_map(|names| Targets::Peers(names.into_iter().collect()));
    let result =
        (coldness(), coldness()).prop_map(|(outgoing, incoming)| PairResult { outgoing, incoming });
    prop_oneof![
        (prop_oneof![Just(Targets::Mesh), peers], plan())
            .prop_map(|(to, plan)| Command::Start(to, plan)),
        Just(Command::Stop),
        time(1, 600).prop_map(Command::Claim),
        (name(), plan()).prop_map(|(target, plan)| Command::Pair(target, plan)),
        time(1, 700).prop_map(Command::Rest),
        (time(1, 600), direction())
            .prop_map(|(gap, direction)| Command::Begin(Trial { gap, direction })),
        Just(Command::Report),
        option::of(result).prop_map(Command::End),
    ]
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let connect = prop_oneof![
        time(0, 60).prop_map(Ok),
        prop::sample::select(FailureReason::ALL.to_vec()).prop_map(Err),
    ];
    (connect, any::<u8>(), option::of(time(0, 60)))
        .prop_map(|(connect, syn_retransmits, rtt)| Attempt { connect, syn_retransmits, rtt })
}

proptest! {
    #[test]
    fn a_command_is_read_as_it_was_written(command in command()) {
        let text = command.render();
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{text}");
        let expected = (text.len() <= MAX_COMMAND).then_some(command);
        prop_assert_eq!(Command::read(&text), expected, "{}", text);
    }

    #[test]
    fn a_report_is_read_as_it_was_written(
        gap in time(0, 700),
        first in attempt(),
        warm in vec(attempt(), 0..=MAX_WARM),
        disturbed: bool,
    ) {
        let report = TrialReport { gap, first, warm, disturbed };
        let text = report.render();
        prop_assert!(text.len() <= MAX_COMMAND, "{}", text.len());
        prop_assert_eq!(TrialReport::read(&text), Some(report), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(start|pair|begin|claim|end|trial)( (all|to|gaps|gap|budget|for|first|warm|outgoing|direction|target)=?[-0-9a-z.,/]{0,20}){0,5}") {
        let _ = (Command::read(&text), TrialReport::read(&text));
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in ".{0,80}") {
        let _ = (Command::read(&text), TrialReport::read(&text));
    }
}

#[test]
fn the_commands_are_words_that_people_can_read() {
    let names = ["c", "b"].map(|name| NodeName::new(name).unwrap()).to_vec();
    let plan = Plan::new(
        vec![Duration::from_millis(1500), Duration::from_secs(30)],
        Duration::from_secs(60),
    );
    let start = Command::Start(Targets::Peers(names), plan.unwrap());
    assert_eq!(start.render(), "start to=c,b gaps=1.5,30 budget=60");
    assert_eq!(
        Command::Start(Targets::Mesh, Plan::default()).render(),
        "start all gaps=10,30,60,120,300 budget=7200"
    );
    let trial = Trial { gap: Duration::from_millis(31_002), direction: Direction::Incoming };
    assert_eq!(Command::Begin(trial).render(), "begin gap=31.002 direction=incoming");
    assert_eq!(Command::read("claim for=180"), Some(Command::Claim(Duration::from_secs(180))));
    // What a later release adds is ignored.
    assert_eq!(
        Command::read("rest for=90 more=1 word"),
        Some(Command::Rest(Duration::from_secs(90)))
    );
}

#[test]
fn what_is_malformed_or_out_of_bounds_is_refused() {
    let names: Vec<String> = (0..300).map(|number| format!("n{number}")).collect();
    let long = format!("start to={} gaps=10 budget=60", names.join(","));
    let gaps: Vec<String> = (1..=17).map(|gap| gap.to_string()).collect();
    let many = format!("start all gaps={} budget=60", gaps.join(","));
    for text in [
        "",
        " ",
        "begin",
        "go",
        "Start all gaps=10 budget=60",
        "start gaps=10 budget=60",
        "start all to=b gaps=10 budget=60",
        "start all=1 gaps=10 budget=60",
        "start to= gaps=10 budget=60",
        "start to=a,,b gaps=10 budget=60",
        "start to=a_b gaps=10 budget=60",
        "start all gaps=10",
        "start all budget=60",
        "start all gaps= budget=60",
        "start all gaps=0.999 budget=60",
        "start all gaps=601 budget=60",
        "start all gaps=30,10 budget=60",
        "start all gaps=10,10 budget=60",
        "start all gaps=10 gaps=30 budget=60",
        "start all gaps=10 budget=86401",
        "start all gaps=1e1 budget=60",
        "start all gaps=+10 budget=60",
        "start all gaps=10. budget=60",
        "start all gaps=.5 budget=60",
        "start all gaps=10.0000001 budget=60",
        "start all gaps=99999999999999999999 budget=60",
        "start  all gaps=10 budget=60",
        "start all gaps=10 budget=60 ",
        "start all gaps=10 budget=60\n",
        "claim for=0",
        "claim for=601",
        "rest for=701",
        "pair target=b",
        "pair gaps=10 budget=60",
        "begin gap=31 direction=both",
        "begin gap=0 direction=incoming",
        "end outgoing=warm,10",
        "end outgoing=warm incoming=unproven",
        "end outgoing=lost,10,20,1,3,3 incoming=unproven",
        "end outgoing=lost,10,9,1,4,3 incoming=unproven",
        "end outgoing=lost,10,9,1,0,3 incoming=unproven",
        "end outgoing=late,10,9,-,3,3 incoming=unproven",
        "end outgoing=refused,10,9,1,3,3 incoming=unproven",
        "end outgoing=lost,10,9,1,3,300 incoming=unproven",
        "end outgoing=lost,10,9,1,3,3,3 incoming=unproven",
        "end outgoing=lost,10,9,61,3,3 incoming=unproven",
        &long,
        &many,
    ] {
        assert_eq!(Command::read(text), None, "{text}");
    }
}

#[test]
fn a_malformed_report_is_refused() {
    for text in [
        "",
        "trial",
        "trial gap=10 warm=",
        "trial gap=10 first=0.1,0,-",
        "trial gap=701 first=0.1,0,- warm=",
        "trial gap=10 first=0.1,0 warm=",
        "trial gap=10 first=0.1,256,- warm=",
        "trial gap=10 first=61,0,- warm=",
        "trial gap=10 first=0.1,0,-,0 warm=",
        "trial gap=10 first=0.1,0,- warm=/",
        "trial gap=10 first=up,0,- warm=",
        "report gap=10 first=0.1,0,- warm=",
    ] {
        assert_eq!(TrialReport::read(text), None, "{text}");
    }
}
