//! Searches on simulated paths.

use super::super::{Attempt, DEFAULT_GAPS, Plan, WARM_ATTEMPTS};
use super::*;
use crate::probe::FailureReason;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// More than any search needs.
const MAX_SEARCH: u32 = 60;

/// What happens to the first packet of a cold path.
#[derive(Clone, Copy)]
enum Cold {
    Lost,
    Late,
    Refused,
}

/// A path of 1 ms that goes cold after `threshold`, and loses packets.
struct Path {
    threshold: Duration,
    cold: Cold,
    /// Of each packet, in a thousand.
    loss: u64,
    /// Gaps last so much longer than asked.
    late: Duration,
    random: u64,
    trials: u32,
    time: Duration,
}

impl Path {
    fn new(threshold: Duration) -> Self {
        let late = Duration::ZERO;
        Self { threshold, cold: Cold::Lost, loss: 0, late, random: 1, trials: 0, time: late }
    }

    fn lossy(threshold: Duration, loss: u64, seed: u64) -> Self {
        Self { loss, random: seed, ..Self::new(threshold) }
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A connection whose first SYNs are lost so often; SYN and answer may be lost as well.
    fn connect(&mut self, mut lost: u8) -> Attempt {
        while lost < 5 && (self.draw() % 1000 < self.loss || self.draw() % 1000 < self.loss) {
            lost += 1;
        }
        let connect = MS + SECOND * u32::from(lost);
        let connect = if lost < 5 { Ok(connect) } else { Err(FailureReason::ConnectTimeout) };
        Attempt { connect, syn_retransmits: lost, rtt: Some(MS) }
    }

    fn trial(&mut self, asked: Duration) -> TrialReport {
        let gap = asked + self.late;
        self.trials += 1;
        self.time += gap;
        let first = match self.cold {
            _ if gap < self.threshold => self.connect(0),
            Cold::Lost => self.connect(1),
            Cold::Late => {
                let late = 5100 * MS;
                Attempt { connect: Ok(late), syn_retransmits: 5, rtt: Some(late) }
            }
            Cold::Refused => {
                let connect = Err(FailureReason::Refused);
                Attempt { connect, syn_retransmits: 0, rtt: None }
            }
        };
        let warm = (0..WARM_ATTEMPTS).map(|_| self.connect(0)).collect();
        TrialReport { gap, first, warm, disturbed: false }
    }

    fn search_with(&mut self, gaps: &[Duration]) -> Coldness {
        let mut search = Search::new(gaps);
        while let Some(gap) = search.next() {
            assert!(self.trials < MAX_SEARCH, "the search does not end");
            search.add(&self.trial(gap));
        }
        search.result()
    }

    fn search(&mut self) -> Coldness {
        self.search_with(&DEFAULT_GAPS)
    }
}

/// The figure, if it is one.
fn gap(found: Coldness) -> Option<Duration> {
    match found {
        Coldness::After { gap, .. } => Some(gap),
        _ => None,
    }
}

fn is_within_a_tenth(found: Duration, truth: Duration) -> bool {
    found >= truth && found <= truth + truth / 10
}

/// Thresholds from 3 to 300 s.
fn thresholds() -> impl Iterator<Item = Duration> {
    (0..120).map(|step| Duration::from_secs_f64(3.0 * 100_f64.powf(f64::from(step) / 119.0)))
}

#[test]
fn the_figure_is_within_a_tenth_of_the_truth() {
    for threshold in thresholds() {
        for (cold, expected) in [
            (Cold::Lost, Mark::Lost(Some(SECOND))),
            (Cold::Late, Mark::Late(5099 * MS)),
            (Cold::Refused, Mark::Refused),
        ] {
            let mut path = Path { cold, ..Path::new(threshold) };
            let found = path.search();
            let Coldness::After { gap, warm, mark, marked, trials } = found else {
                panic!("{found:?}")
            };
            assert!(is_within_a_tenth(gap, threshold), "{threshold:?}: {found:?}");
            assert!(warm < threshold && warm * 10 >= gap * 9, "{threshold:?}: {found:?}");
            assert_eq!((mark, marked, trials), (expected, 3, 3), "{threshold:?}");
        }
    }
}

#[test]
fn gaps_that_last_longer_than_asked_leave_the_figure_exact() {
    for threshold in thresholds() {
        for late in [7, 30, 49] {
            let mut path = Path { late: late * MS, ..Path::new(threshold) };
            let found = gap(path.search()).unwrap();
            assert!(is_within_a_tenth(found, threshold), "{threshold:?} {late}: {found:?}");
        }
    }
    // One that lasts much longer proves nothing.
    let mut path = Path { late: 2 * SECOND, ..Path::new(5 * SECOND) };
    assert_eq!((path.search(), path.trials), (Coldness::Unproven, 3));
}

#[test]
fn a_lossy_path_gets_the_right_figure_or_none() {
    for (loss, least) in [(10, 0.9), (100, 0.0), (300, 0.0)] {
        let (mut figures, mut searches) = (0, 0.0);
        for seed in 0..10 {
            for (number, threshold) in (0_u64..).zip(thresholds()) {
                let mut path = Path::lossy(threshold, loss, seed * 1000 + number);
                let found = path.search();
                searches += 1.0;
                let Some(gap) = gap(found) else {
                    assert_eq!(found, Coldness::Unproven, "{loss} {threshold:?}");
                    continue;
                };
                figures += 1;
                assert!(
                    is_within_a_tenth(gap, threshold),
                    "{loss} {seed} {threshold:?}: {found:?}"
                );
            }
        }
        assert!(f64::from(figures) >= least * searches, "{loss}: {figures} of {searches}");
    }
}

#[test]
fn a_path_that_is_only_lossy_gets_no_figure_but_by_rare_chance() {
    for loss in [10, 30, 50, 100, 200, 300, 500] {
        let (mut warm, mut figures) = (0, 0);
        for seed in 0..4000 {
            match Path::lossy(Duration::MAX, loss, seed).search() {
                Coldness::Unproven => {}
                Coldness::WarmAt(gap) if gap == 300 * SECOND => warm += 1,
                _ => figures += 1,
            }
        }
        // All three connections lost by chance, and none of the control.
        assert!(figures <= 4, "{loss}: {figures} of 4000");
        assert!(loss > 10 || warm > 3900, "{warm}");
    }
}

#[test]
fn a_path_that_stays_warm_takes_one_trial_for_each_gap() {
    let mut path = Path::new(Duration::MAX);
    assert_eq!(path.search(), Coldness::WarmAt(300 * SECOND));
    assert_eq!((path.trials, path.time), (5, 520 * SECOND));
    // Both directions, and a third for what is repeated, is what the plan expects.
    assert_eq!(Plan::default().pair_time(), path.time * 2 + path.time * 2 / 3);
}

#[test]
fn a_cold_gap_is_tried_thrice_and_then_halved() {
    let mut search = Search::new(&DEFAULT_GAPS);
    let mut path = Path::new(22 * SECOND);
    let mut gaps = Vec::new();
    while let Some(gap) = search.next() {
        gaps.push(gap.as_millis());
        search.add(&path.trial(gap));
    }
    let narrowed = [20_000, 25_000, 25_000, 25_000, 22_500, 22_500, 22_500, 21_250];
    assert_eq!(gaps, [&[10_000, 30_000, 30_000, 30_000][..], &narrowed].concat());
    // 21.25 s was warm.
    assert_eq!(gap(search.result()), Some(22_500 * MS));
}

#[test]
fn a_first_gap_that_is_cold_is_halved_down_to_the_shortest() {
    let mut path = Path::new(3 * SECOND);
    assert!(is_within_a_tenth(gap(path.search()).unwrap(), 3 * SECOND));
    let mut path = Path::new(Duration::ZERO);
    let found = path.search();
    assert_eq!(gap(found), Some(MIN_GAP));
    let mut path = Path { late: 5 * MS, ..Path::new(Duration::ZERO) };
    assert_eq!(gap(path.search_with(&[MIN_GAP])), Some(MIN_GAP + 5 * MS));
}

/// A search whose trials end as `outcomes` tell: `L` lost, `w` warm, `x` disturbed, `c` with a lost control.
fn sequence(outcomes: &str) -> Search {
    let mut search = Search::new(&[10 * SECOND, 10_500 * MS]);
    let mut path = Path::new(Duration::MAX);
    for outcome in outcomes.chars() {
        let gap = search.next().expect(outcomes);
        let mut report = path.trial(gap);
        match outcome {
            'L' => report.first = path.connect(1),
            'x' => report.disturbed = true,
            'c' => report.warm[0] = path.connect(1),
            _ => {}
        }
        search.add(&report);
    }
    search
}

#[test]
fn a_gap_is_cold_if_most_of_its_trials_are() {
    let next = |outcomes| sequence(outcomes).next();
    // Once is chance.
    assert_eq!(next("wL"), Some(10_500 * MS));
    assert_eq!(next("wLww"), None);
    assert_eq!(sequence("wLww").result(), Coldness::WarmAt(10_500 * MS));
    let figure = |outcomes| match sequence(outcomes).result() {
        Coldness::After { marked, trials, .. } => Some((marked, trials)),
        _ => None,
    };
    assert_eq!((next("wLLL"), figure("wLLL")), (None, Some((3, 3))));
    // Other traffic spoils a trial: two more decide.
    assert_eq!((next("wLwLL"), figure("wLwLL")), (None, Some((3, 4))));
    assert_eq!((next("wLLwwL"), figure("wLLwwL")), (None, Some((3, 5))));
    assert_eq!(sequence("wLLwww").result(), Coldness::Unproven);
    assert_eq!(next("wLLwww"), None);
}

#[test]
fn one_lost_warm_connection_asks_for_more_proof() {
    let search = sequence("cLLL");
    assert_eq!((search.next(), search.result()), (Some(10_500 * MS), Coldness::Unproven));
    let search = sequence("cLLLLL");
    assert_eq!(search.next(), None);
    assert!(matches!(search.result(), Coldness::After { marked: 5, trials: 5, .. }));
}

#[test]
fn trials_that_prove_nothing_are_repeated_a_few_times() {
    assert_eq!(sequence("xx").next(), Some(10 * SECOND));
    assert_eq!(sequence("xxw").next(), Some(10_500 * MS));
    assert_eq!(sequence("xxwLxLxL").next(), None);
    let search = sequence("xxwxxx");
    assert_eq!((search.next(), search.result()), (None, Coldness::Unproven));
}

#[test]
fn a_search_that_ends_early_tells_what_it_knows() {
    let mut search = Search::new(&DEFAULT_GAPS);
    let mut path = Path::new(45 * SECOND);
    assert_eq!(search.result(), Coldness::NotSurveyed);
    for _ in 0..2 {
        search.add(&path.trial(search.next().unwrap()));
    }
    assert_eq!(search.result(), Coldness::WarmAt(30 * SECOND));
    for _ in 0..3 {
        search.add(&path.trial(search.next().unwrap()));
    }
    let (gap, warm) = (60 * SECOND, 30 * SECOND);
    let mark = Mark::Lost(Some(SECOND));
    assert_eq!(search.result(), Coldness::After { gap, warm, mark, marked: 3, trials: 3 });
}
