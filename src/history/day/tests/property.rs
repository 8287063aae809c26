//! What holds of every day.

use proptest::prelude::*;

use super::night::name;
use super::*;
use crate::history::Recollection;

/// More than the events take.
const BINS: u64 = 14;

/// Source, target, first bin of an hour, number of bins, word.
type Event = (usize, usize, u64, u64, usize);

const NAMES: [&str; 6] = ["n1", "n2", "n3", "n4", "n5", "n6"];
const OTHERS: [&str; 6] = ["x1", "x2", "x3", "x4", "x5", "x6"];

fn words() -> Vec<Option<Word>> {
    let silent = Word { incoming: Some(Incoming::Nothing), ..down(FailureReason::ConnectTimeout) };
    vec![
        Some(silent),
        Some(silent),
        Some(Word { host: Some(HostState::Silent), ..silent }),
        Some(down(FailureReason::Refused)),
        Some(flaky(FailureReason::ConnectTimeout)),
        Some(Word { losses: [7, 0], ..Word::of(Verdict::Lossy) }),
        Some(Word::of(Verdict::OneWay)),
        Some(Word::of(Verdict::Mtu(Direction::Outgoing))),
        Some(Word::of(Verdict::Unknown)),
        Some(Word { is_intercepted: true, ..Word::of(Verdict::Up) }),
        None,
    ]
}

/// The night of some events, in the first hour; a target beyond the last means all.
fn night(size: usize, events: &[Event], names: &[&str; 6]) -> Night {
    let mut night = Night::new(&names[..size]).until(BINS * BIN);
    for (source, target, first, count, word) in events {
        let source = source % size;
        let targets = (0..size).filter(|one| *one == *target || *target >= size);
        for target in targets.filter(|target| *target != source) {
            let time = [first * 300, (first + count) * 300];
            // All of one source, or all of one target.
            let [from, to] = if first % 2 == 0 { [source, target] } else { [target, source] };
            night.says_at(names[from], names[to], time, words()[*word]);
        }
    }
    night
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0_usize..6, 0_usize..9, 0_u64..10, 1_u64..4, 0..words().len());
    prop::collection::vec(event, 0..10)
}

/// The same agents, in another order of arrival.
fn mesh_in_order(night: &Night, own: &str, order: &[usize]) -> MeshFaults {
    let faults = |node: &str| Faults::of(&night.recollection(node));
    let mut mesh = MeshFaults::new(&name(own), faults(own));
    for node in order.iter().filter_map(|place| night.nodes.get(*place)) {
        if node != own {
            mesh.add(&name(node), Ok(faults(node)));
        }
    }
    mesh
}

/// How many nodes saw it, or how many probes failed, may differ from bin to bin.
fn without_numbers(text: &str) -> String {
    let is_number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    text.split([' ', '(']).filter(|word| !is_number(word)).collect()
}

/// What the route of a past moment says of a bin: kind, nodes, text.
fn past_findings(
    night: &Night,
    recollections: &[Recollection],
    own: &str,
    at: u64,
) -> Vec<(FindingKind, Vec<NodeName>, String)> {
    let row = |node: &str| {
        let place = night.nodes.iter().position(|one| one == node).unwrap();
        recollections[place].row_at(at).unwrap()
    };
    let past = Past { seconds: 300, is_repeated: false };
    let peers = night.nodes.iter().map(|node| name(node));
    let deadline = Duration::ZERO;
    let mut matrix =
        Matrix::of_the_past(&name(own), at * 1000, past, peers, Ok(row(own)), deadline);
    for node in night.nodes.iter().filter(|node| *node != own) {
        matrix.add(&name(node), Ok(row(node)));
    }
    let matrix = matrix.finish(Duration::ZERO);
    let names: Vec<NodeName> = matrix.rows().map(|(name, _)| name.clone()).collect();
    let nodes = |places: &[usize]| places.iter().map(|place| names[*place].clone()).collect();
    let findings = matrix.findings().iter();
    findings.map(|one| (one.kind, nodes(&one.nodes), one.text.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_in_another_order_or_with_other_names_change_no_line(
        size in 3_usize..6,
        events in events(),
        order in Just((0..6).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let first = night(size, &events, &NAMES);
        let day = day_of(&first, "n1");
        let shuffled = mesh_in_order(&first, "n1", &order);
        prop_assert_eq!(&Day::of(&shuffled, first.now(), &mut || true), &day);
        let renamed = day_of(&night(size, &events, &OTHERS), "x1");
        let back: Vec<String> = texts(&renamed).iter().map(|text| text.replace('x', "n")).collect();
        // No other word has an x.
        prop_assert_eq!(back, texts(&day).iter().map(|text| text.replace('x', "n")).collect::<Vec<_>>());
        prop_assert_eq!(renamed.bins, day.bins);
    }

    #[test]
    fn each_line_is_what_the_past_matrix_says_and_nothing_is_missing(
        size in 3_usize..6,
        events in events(),
    ) {
        let night = night(size, &events, &NAMES);
        let day = day_of(&night, "n1");
        let recollections: Vec<_> =
            night.nodes.iter().map(|node| night.recollection(node)).collect();
        let mut said = 0;
        for from in (0..BINS).map(|bin| T0 + bin * BIN) {
            let findings = past_findings(&night, &recollections, "n1", from);
            let lines: Vec<&DayFinding> =
                day.findings.iter().filter(|line| line.from <= from && from < line.to).collect();
            for (kind, nodes, text) in &findings {
                let is = |line: &&&DayFinding| {
                    let same = without_numbers(&line.text) == without_numbers(text);
                    line.kind == *kind && line.nodes == *nodes && same
                };
                prop_assert!(lines.iter().any(|line| is(&line)), "{from}: {text}: {lines:?}");
            }
            prop_assert_eq!(lines.len(), findings.len(), "{}: {:?} {:?}", from, lines, findings);
            said += findings.len();
        }
        prop_assert_eq!(said == 0, day.findings.is_empty());
    }
}
