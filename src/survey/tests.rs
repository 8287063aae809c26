//! What one trial shows, and the bounds of a plan.

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn attempt(connect: Duration, syn_retransmits: u8, rtt: Duration) -> Attempt {
    Attempt { connect: Ok(connect), syn_retransmits, rtt: Some(rtt) }
}

fn failed(reason: FailureReason) -> Attempt {
    Attempt { connect: Err(reason), syn_retransmits: 5, rtt: None }
}

/// A path of 1 ms.
fn well() -> Attempt {
    attempt(MS, 0, MS)
}

fn marked(first: Attempt, warm: &[Attempt]) -> Mark {
    let gap = 31 * SECOND;
    mark(&TrialReport { gap, first, warm: warm.to_vec(), disturbed: false })
}

#[test]
fn a_first_connection_is_compared_with_the_warm_ones() {
    use FailureReason::{Closed, ConnectTimeout, Refused, ResponseTimeout, Unreachable};
    for (first, expected) in [
        (well(), Mark::Warm),
        // A busy host, and a handshake below this one that takes a round trip.
        (attempt(45 * MS, 0, MS), Mark::Warm),
        (attempt(60 * MS, 0, 60 * MS), Mark::Late(59 * MS)),
        // The first SYN was lost, and a retransmit was answered at once: a second, or three, later.
        (attempt(1001 * MS, 1, MS), Mark::Lost(Some(SECOND))),
        (attempt(3005 * MS, 3, 5 * MS), Mark::Lost(Some(3004 * MS))),
        // The answer to the retransmit was lost as well.
        (attempt(2001 * MS, 2, 1010 * MS), Mark::Lost(Some(SECOND * 2))),
        // A handshake of WireGuard was lost: all SYNs were held for 5 s, and the first was answered.
        (attempt(5101 * MS, 5, 5100 * MS), Mark::Late(5100 * MS)),
        (attempt(5101 * MS, 0, 5100 * MS), Mark::Late(5100 * MS)),
        // The SYN arrived, and its answer was lost.
        (attempt(1001 * MS, 1, SECOND), Mark::Late(SECOND)),
        // Without timestamps, nothing tells which SYN was answered.
        (Attempt { rtt: None, ..attempt(1001 * MS, 1, MS) }, Mark::Lost(Some(SECOND))),
        (failed(ConnectTimeout), Mark::Lost(None)),
        (failed(Unreachable), Mark::Lost(None)),
        (failed(Refused), Mark::Refused),
        // Established, so that the path was warm, and not answered: the agent may have been suspended.
        (failed(ResponseTimeout), Mark::Unproven),
        (failed(Closed), Mark::Unproven),
    ] {
        assert_eq!(marked(first, &[well(); WARM_ATTEMPTS]), expected, "{first:?}");
    }
}

#[test]
fn a_bad_first_connection_proves_nothing_where_a_warm_one_fails_as_well() {
    let timeout = failed(FailureReason::ConnectTimeout);
    let lost = attempt(1001 * MS, 1, MS);
    for first in [lost, timeout, failed(FailureReason::Refused), attempt(5101 * MS, 5, 5100 * MS)] {
        for bad in [lost, timeout] {
            assert_eq!(marked(first, &[well(), bad, well()]), Mark::Unproven, "{first:?} {bad:?}");
            assert_eq!(marked(first, &[bad; 3]), Mark::Unproven, "{first:?} {bad:?}");
        }
        assert_eq!(marked(first, &[]), Mark::Unproven);
    }
    // It was warm, whatever came after it.
    assert_eq!(marked(well(), &[well(), lost, well()]), Mark::Warm);
    assert_eq!(marked(well(), &[timeout; 3]), Mark::Warm);
}

#[test]
fn late_is_later_than_the_path_itself_is_slow() {
    // 200 ms away, a handshake below this one takes another round trip.
    let far = attempt(200 * MS, 0, 200 * MS);
    assert_eq!(marked(attempt(600 * MS, 0, 600 * MS), &[far; 5]), Mark::Warm);
    assert_eq!(marked(attempt(900 * MS, 0, 900 * MS), &[far; 5]), Mark::Late(700 * MS));
    // One of the control was as late.
    let slow = attempt(80 * MS, 0, 80 * MS);
    assert_eq!(marked(attempt(110 * MS, 0, 110 * MS), &[well(), slow, well()]), Mark::Warm);
}

#[test]
fn a_disturbed_trial_proves_nothing() {
    for first in [well(), failed(FailureReason::Refused)] {
        let report = TrialReport { gap: SECOND, first, warm: vec![well(); 5], disturbed: true };
        assert_eq!(mark(&report), Mark::Unproven);
    }
}

#[test]
fn a_plan_is_bounded() {
    let plan = |gaps: &[u64], budget: u64| {
        let gaps = gaps.iter().map(|gap| Duration::from_secs(*gap)).collect();
        Plan::new(gaps, Duration::from_secs(budget))
    };
    assert!(plan(&[1, 600], 86_400).is_some());
    let sixteen: Vec<u64> = (1..=16).collect();
    assert!(plan(&sixteen, 60).is_some());
    let seventeen: Vec<u64> = (1..=17).collect();
    for (gaps, budget) in [
        (&[][..], 60),
        (&seventeen, 60),
        (&[0], 60),
        (&[601], 60),
        (&[10, 10], 60),
        (&[30, 10], 60),
        (&[10], 0),
        (&[10], 86_401),
    ] {
        assert_eq!(plan(gaps, budget), None, "{gaps:?} {budget}");
    }
    assert_eq!(Plan::new(DEFAULT_GAPS.to_vec(), DEFAULT_BUDGET), Some(Plan::default()));
    assert_eq!(Plan::default().within(Duration::ZERO).budget(), MIN_GAP);
    assert_eq!(Plan::default().within(30 * SECOND).budget(), 30 * SECOND);
}

#[test]
fn the_default_plan_takes_23_minutes_a_pair_and_2_hours_for_5_nodes() {
    let pair = Plan::default().pair_time();
    assert_eq!(pair.as_secs() / 60, 23);
    let names: Vec<NodeName> = (0..5).map(|n| NodeName::new(&format!("n{n}")).unwrap()).collect();
    let tournament = Tournament::new(&names[0], &Targets::Mesh, &names[1..]);
    let whole = pair * u32::try_from(tournament.rounds()).unwrap();
    assert!(whole <= DEFAULT_BUDGET && whole > DEFAULT_BUDGET * 9 / 10, "{whole:?}");
}

#[test]
fn the_other_end_sees_the_directions_reversed() {
    let result = PairResult { outgoing: Coldness::WarmAt(SECOND), incoming: Coldness::Unproven };
    assert_eq!(result.reversed().reversed(), result);
    assert_eq!(result.reversed().incoming, Coldness::WarmAt(SECOND));
}
