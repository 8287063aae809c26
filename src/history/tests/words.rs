//! Scales, cells and words: what is packed is what comes out.

use super::day::Numbers;
use super::*;
use crate::experiment::HostState;
use crate::state::{Direction, Incoming};

#[test]
fn each_code_of_time_is_its_own_time() {
    for code in 0..128 {
        assert_eq!(scale::time_code(scale::time(code)), code);
    }
    let time = |micros| scale::time(scale::time_code(Some(Duration::from_micros(micros))));
    assert_eq!(time(0), time(50));
    assert_eq!(scale::time_code(Some(Duration::MAX)), 127);
    for micros in [60, 999, 1000, 12_345, 777_777, 5_000_000] {
        let off = time(micros).unwrap().as_secs_f64() * 1e6 / micros as f64;
        assert!((0.93..1.07).contains(&off), "{micros}: {off}");
    }
}

#[test]
fn counts_are_exact_where_they_are_small_and_never_too_large() {
    for number in 0..=63 {
        assert_eq!(scale::PROBES.number(scale::PROBES.code(number)), number);
    }
    for number in 0..100_000 {
        let probes = scale::PROBES.number(scale::PROBES.code(number));
        assert!(
            probes <= number && (number > 20_000 || number * 10 <= probes * 11),
            "{number}: {probes}"
        );
    }
}

#[test]
fn each_octet_is_one_word_and_each_word_one_octet() {
    let mut words = 0;
    for octet in 0..=255 {
        let Some(word) = Word::from_octet(octet) else { continue };
        words += 1;
        assert_eq!(word.octet(), octet, "{word:?}");
        assert!(Cell::from_octets([octet, 1, 2, 3, 4]).is_some());
    }
    assert!(words > 150 && Word::from_octet(0).is_none(), "{words}");
    assert_eq!(Cell::from_octets([u8::MAX, 1, 2, 3, 4]), None);
    assert!(Cell::from_octets([0, 1, 2, 3, 4]).is_some_and(|cell| cell.summary().is_none()));
}

#[test]
fn a_cell_gives_back_what_it_holds() {
    let word = Word::of(Verdict::Up);
    let none = Summary { word, probes: 0, failures: 0, retransmits: 0, median: None, worst: None };
    let time = |micros| scale::time(scale::time_code(Some(Duration::from_micros(micros))));
    let all = [
        none,
        Summary { probes: 30, ..none },
        Summary { probes: 30, failures: 30, ..none },
        Summary { probes: 30, failures: 29, retransmits: 19, ..none },
        Summary { probes: 30, retransmits: 30, ..none },
        Summary {
            probes: 63,
            failures: 40,
            retransmits: 1,
            median: time(1000),
            worst: time(90_000),
            ..none
        },
        Summary { median: time(50), worst: time(11_000_000), ..none },
    ];
    for summary in all {
        assert_eq!(Cell::new(summary).summary(), Some(summary));
        let cell = Cell::new(summary);
        assert_eq!(Cell::from_octets(cell.octets()), Some(cell));
    }
    // All stays all, however many.
    let all = Summary { probes: 1000, failures: 1000, retransmits: 1000, ..none };
    let again = Cell::new(all).summary().unwrap();
    assert_eq!((again.failures, again.retransmits), (again.probes, again.probes));
    let nearly = Summary { probes: 1000, failures: 999, ..none };
    let again = Cell::new(nearly).summary().unwrap();
    assert!(again.failures < again.probes);
    assert!(Cell::EMPTY.is_empty() && Cell::EMPTY.summary().is_none());
}

#[test]
fn the_word_of_a_record_is_that_of_its_cell_in_the_matrix() {
    let mut mesh = Mesh::new([1]);
    let mut numbers = Numbers::new(3);
    let mut seen = BTreeSet::new();
    for round in 0..4000 {
        let total = Duration::from_micros(200 + numbers.below(2000));
        let end = match (round / 50 % 7, numbers.below(6)) {
            (1, 0) => End::AfterLoss(total + SECOND),
            (2, 0) => End::Failure(FailureReason::Reset),
            (3, _) => End::Failure(FailureReason::ConnectTimeout),
            (4, 0) => End::FailureAfterLoss(FailureReason::ResponseTimeout),
            _ => End::Success(total),
        };
        mesh.probe(1, end);
        mesh.pass(SECOND);
        if round % 700 == 600 {
            let rested = mesh.state.rest(&name(1));
            assert!(rested.is_ok() || round % 50 > 0);
        } else if round % 700 == 640 {
            mesh.state.resume(mesh.now.instant, &name(1));
        }
        let record = mesh.state.get(&name(1)).unwrap();
        let word = Word::of_record(record);
        assert_eq!(word.octet(), mesh.words()[0].1, "{round}: {word:?}");
        assert_eq!(Word::from_octet(word.octet()), Some(word));
        seen.insert(word.verdict.as_str());
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[test]
fn a_word_reads_as_people_say_it() {
    let down = Word::of(Verdict::Down(FailureReason::ConnectTimeout));
    let slow = Word::of(Verdict::Down(FailureReason::ResponseTimeout));
    let silent = Word { host: Some(HostState::Silent), ..down };
    let one_way = Word::of(Verdict::OneWay);
    for (word, text) in [
        (down, "down (connect_timeout)"),
        (silent, "down (connect_timeout, its host is silent)"),
        (
            Word { incoming: Some(Incoming::Requests), ..silent },
            "down (connect_timeout, its host is silent, its requests arrive)",
        ),
        (
            Word { incoming: Some(Incoming::Nothing), ..down },
            "down (connect_timeout, nothing arrives from it)",
        ),
        (Word { is_slow: true, ..slow }, "down (response_timeout, slower than its timeout allows)"),
        (one_way, "one-way"),
        (
            Word { incoming: Some(Incoming::Syns), ..one_way },
            "one-way (its SYNs arrive and lead to nothing)",
        ),
        (Word::of(Verdict::Mtu(Direction::Both)), "mtu (both)"),
        (Word::of(Verdict::Up), "up"),
        (Word { is_surveyed: true, ..Word::of(Verdict::Unknown) }, "surveyed"),
    ] {
        assert_eq!(word.text(), text);
    }
}
