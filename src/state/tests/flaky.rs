//! Which sequences of outcomes are flaky. `F` is a failure, `S` a success, one probe each 10 s.

use super::*;

const FLAKY: Verdict = Verdict::Flaky(FailureReason::Refused);
const DOWN: Verdict = Verdict::Down(FailureReason::Refused);

impl Fixture {
    /// Makes these probes, and returns the verdict after each.
    pub(super) fn sequence(&mut self, outcomes: &str) -> Vec<Verdict> {
        let outcome = |end| match end {
            'S' => success(),
            'F' => refused(),
            'T' => Outcome::Failure(FailureReason::ConnectTimeout),
            'W' => Outcome::Failure(FailureReason::WrongPeer),
            other => unreachable!("{other}"),
        };
        let step = |end| {
            self.pass(Duration::from_secs(10));
            self.probe(1, outcome(end), 0);
            self.verdict(1)
        };
        outcomes.chars().map(step).collect()
    }
}

fn verdicts(outcomes: &str) -> Vec<Verdict> {
    Fixture::new([peer(1, None)]).sequence(outcomes)
}

/// A reproducible sequence of numbers (SplitMix64).
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Probes of which one in `of` fails at random.
    fn outcomes(&mut self, count: usize, of: u64) -> String {
        (0..count).map(|_| if self.next().is_multiple_of(of) { 'F' } else { 'S' }).collect()
    }
}

#[test]
fn two_failing_runs_make_a_peer_flaky_and_one_outage_does_not() {
    for (outcomes, flaky) in [
        ("SSSSF", false),
        ("SSSSFFSSSSSSSSSS", false),
        ("SSFSF", false),
        ("SSFSSF", true),
        ("SSFSFSF", true),
        // An outage that flaps once as it ends, and one that flaps twice.
        ("SSFFFFFSFSSSSSSS", false),
        ("SSFFFFFSFSFS", true),
        // Two failures, 15 and 16 probes apart.
        ("SFSSSSSSSSSSSSSSFS", true),
        ("SFSSSSSSSSSSSSSSSFS", false),
        ("SSFSSFSSSSSSSSSSSSSSSSSSS", true),
    ] {
        let expected = if flaky { FLAKY } else { Verdict::Up };
        let verdicts = verdicts(outcomes);
        assert_eq!(verdicts.last(), Some(&expected), "{outcomes}");
        assert_eq!(verdicts.contains(&FLAKY), flaky, "{outcomes}");
    }
}

#[test]
fn a_regular_share_of_failures_is_told_within_40_probes_and_1_of_16_is_not() {
    for (of, told) in [
        (2, true),
        (3, true),
        (4, true),
        (8, true),
        (12, true),
        (15, true),
        (16, false),
        (20, false),
    ] {
        for phase in 0..of {
            let outcomes: String =
                (0..400).map(|at| if at % of == phase { 'F' } else { 'S' }).collect();
            let verdicts = verdicts(&format!("S{outcomes}"));
            assert!(!verdicts.contains(&DOWN), "1 of {of}");
            let first = verdicts.iter().position(|verdict| *verdict == FLAKY);
            assert_eq!(first.is_some_and(|first| first <= 32), told, "1 of {of}: {first:?}");
            if told {
                let later = verdicts.iter().skip(32);
                assert!(later.copied().all(|verdict| verdict == FLAKY), "1 of {of} is steady");
            }
        }
    }
}

/// Slots until half and until all of many peers are flaky, and the share of time for which they are, of a
/// random share of failures.
#[test]
fn a_random_share_of_failures_is_told_within_40_probes() {
    const PEERS: usize = 200;
    println!("1 of | flaky within 40 slots | share of time | changes per 100 slots");
    for (of, within_40, share_of_time) in [
        (2, 0.99..=1.0, 0.95..=1.0),
        (4, 0.99..=1.0, 0.95..=1.0),
        (8, 0.9..=1.0, 0.7..=1.0),
        (16, 0.5..=0.9, 0.3..=0.8),
        (100, 0.0..=0.1, 0.0..=0.1),
        (1000, 0.0..=0.01, 0.0..=0.005),
    ] {
        let mut numbers = Numbers(of);
        let (mut early, mut flaky, mut changes, mut slots) = (0, 0, 0, 0);
        for _ in 0..PEERS {
            let verdicts = verdicts(&format!("S{}", numbers.outcomes(300, of)));
            early += usize::from(verdicts.iter().take(41).any(|verdict| *verdict == FLAKY));
            let later = verdicts.get(41..).unwrap();
            slots += later.len();
            flaky += later.iter().filter(|verdict| **verdict == FLAKY).count();
            changes += later.windows(2).filter(|pair| pair[0] != pair[1]).count();
        }
        let share = |count: usize, all: usize| count as f64 / all as f64;
        let (early, flaky) = (share(early, PEERS), share(flaky, slots));
        println!("{of} | {early:.3} | {flaky:.3} | {:.2}", 100.0 * share(changes, slots));
        assert!(within_40.contains(&early), "1 of {of}: {early} within 40 slots");
        assert!(share_of_time.contains(&flaky), "1 of {of}: {flaky} of the time");
    }
}

#[test]
fn a_flaky_peer_is_down_after_twice_the_threshold_and_a_whole_outage_is_not_delayed() {
    let verdicts = verdicts("SFSSFSSFFFFFFS");
    let expected = [Verdict::Up; 4].into_iter().chain([FLAKY; 8]).chain([DOWN, FLAKY]);
    assert_eq!(verdicts, expected.collect::<Vec<_>>());
    // A single failure before an outage makes it no more than flaky until the third slot.
    let verdicts = self::verdicts("SSFSSSSFFF");
    assert_eq!(verdicts.get(7..), Some(&[FLAKY, FLAKY, DOWN][..]));
}

#[test]
fn a_flaky_peer_is_up_again_after_20_successes() {
    let verdicts = verdicts(&format!("SFSSFSSF{}", "S".repeat(RECENT)));
    let flaky = verdicts.iter().filter(|verdict| **verdict == FLAKY).count();
    assert_eq!((flaky, verdicts.last()), (2 + RECENT + 1, Some(&Verdict::Up)));
}

#[test]
fn the_words_flaky_and_down_do_not_alternate() {
    // An outage of three slots in every six.
    let verdicts = verdicts(&"SSSFFF".repeat(20));
    let down = verdicts.iter().skip(12).filter(|verdict| **verdict == DOWN).count();
    assert_eq!(down, 0, "{verdicts:?}");
}

#[test]
fn the_reason_is_the_most_frequent_one_and_stays_while_another_is_as_frequent() {
    let reasons = |outcomes: &str| -> Vec<_> {
        let flaky = verdicts(outcomes).into_iter();
        flaky.map(|verdict| verdict.reason().map_or("", FailureReason::as_str)).collect()
    };
    assert_eq!(reasons("SFSSTSSTSS").split_off(4), ["connect_timeout"; 6], "a tie: the latest");
    assert_eq!(
        reasons("SFSSFSSTSSTSSTSS").split_off(4),
        [vec!["refused"; 9], vec!["connect_timeout"; 3]].concat(),
        "it stays in a tie"
    );
    let mut alternating = Fixture::new([peer(1, None)]);
    alternating.sequence("SFSTSFST");
    let verdicts = alternating.sequence(&"SFST".repeat(50));
    let changes = verdicts.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 0, "one verdict, one line in the log");
}

#[test]
fn failures_of_a_peer_that_drains_or_was_replaced_are_no_evidence() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    assert_eq!(fixture.sequence("SSSFSS").pop(), Some(Verdict::Up));
    fixture.probe(1, draining("a"), 0);
    assert_eq!(fixture.verdict(1), Verdict::Draining);
    fixture.fail(1);
    fixture.fail(1);
    fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    // The successor is refused once, and then answers.
    let verdicts = fixture.sequence("FSSSSSSSSS");
    assert!(!verdicts.iter().any(|verdict| matches!(verdict, Verdict::Flaky(_))), "{verdicts:?}");
}

#[test]
fn an_agent_that_restarts_twice_within_the_window_is_flaky() {
    assert_eq!(verdicts("SSSSFSSSSSSFFSS").pop(), Some(FLAKY));
}

#[test]
fn a_flaky_path_in_both_directions_is_not_one_way() {
    let mut numbers = Numbers(7);
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe(1, success(), 0);
    fixture.receive(1, "a", None);
    let mut one_way = 0;
    for _ in 0..10_000 {
        let end = numbers.outcomes(1, 2);
        if numbers.next().is_multiple_of(2) {
            fixture.receive(1, "a", None);
        }
        let verdict = fixture.sequence(&end).pop();
        one_way += usize::from(verdict == Some(Verdict::OneWay));
    }
    println!("one-way in {one_way} of 10000 slots");
    assert!(one_way <= 20, "{one_way}");
}

proptest! {
    #[test]
    fn flaky_is_what_its_definition_says(outcomes in "[FS]{1,60}") {
        let mut verdicts = verdicts(&format!("S{outcomes}"));
        let (verdict, was_told) = (verdicts.pop().unwrap(), verdicts.pop() == Some(FLAKY));
        let recent: Vec<bool> = outcomes.chars().map(|end| end == 'F').collect();
        let recent = &recent[recent.len().saturating_sub(RECENT)..];
        let failures = || (0..recent.len()).filter(|at| recent[*at]);
        let pairs = failures().flat_map(|first| failures().map(move |last| (first, last)));
        let apart = |first: usize, last: usize| {
            last > first
                && last - first < 16
                && recent[first..last].iter().filter(|failed| !**failed).count() >= 2
        };
        let alternate = pairs.into_iter().any(|(first, last)| apart(first, last));
        match verdict {
            Verdict::Flaky(_) => prop_assert!(alternate || was_told && recent.contains(&true)),
            Verdict::Up => prop_assert!(!alternate),
            Verdict::Down(_) => prop_assert!(outcomes.ends_with("FFF")),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

/// One slot: the probe's end, and whether a proven request comes, with or without a retransmit.
#[derive(Debug, Clone, Copy)]
struct Slot {
    end: char,
    request: Option<bool>,
}

fn any_slot() -> impl Strategy<Value = Slot> {
    // `L` is a success after a retransmit.
    let end = prop_oneof![3 => Just('S'), 3 => Just('F'), 1 => Just('T'), 1 => Just('L')];
    let request = prop_oneof![Just(None), Just(Some(false)), Just(Some(true))];
    (end, request).prop_map(|(end, request)| Slot { end, request })
}

impl Fixture {
    fn slot(&mut self, Slot { end, request }: Slot) -> Verdict {
        if let Some(is_late) = request {
            self.receive_proof(1, "a", None);
            let own = Some(self.state.settings.key.own(&name(1), Some(&instance("a"))));
            if is_late {
                self.answered_late(own);
            }
        }
        match end {
            'S' | 'L' => {
                self.pass(Duration::from_secs(10));
                self.probe(1, capable("a"), u32::from(end == 'L'));
                self.verdict(1)
            }
            _ => self.sequence(&end.to_string()).pop().unwrap(),
        }
    }
}

proptest! {
    /// Whatever came before: `flaky`, `lossy` and `one-way` hide no outage for longer than twice the threshold,
    /// and none outlives its evidence.
    #[test]
    fn no_word_hides_an_outage_for_long_and_none_stays_without_evidence(
        slots in proptest::collection::vec(any_slot(), 0..100),
        threshold in 1..15_u32,
    ) {
        let mut fixture = Fixture::new([peer(1, None)]);
        fixture.state.settings.failure_threshold = threshold;
        fixture.probe(1, capable("a"), 0);
        let mut failing = 0;
        for (at, slot) in slots.into_iter().enumerate() {
            let verdict = fixture.slot(slot);
            failing = if matches!(slot.end, 'F' | 'T') { failing + 1 } else { 0 };
            let is_down = matches!(verdict, Verdict::Down(_));
            prop_assert!(!is_down || failing >= threshold, "slot {}: {:?}", at, verdict);
            prop_assert!(is_down || failing < 2 * threshold, "slot {}: {:?}", at, verdict);
            prop_assert!(failing == 0 || verdict != Verdict::OneWay, "slot {}", at);
        }
        for _ in 0..RECENT {
            fixture.slot(Slot { end: 'S', request: Some(false) });
        }
        prop_assert_eq!(fixture.verdict(1), Verdict::Up);
    }
}
