//! When the next refresh starts, on a simulated clock.

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(30);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn unknown(name: &str) -> EarlyCause {
    EarlyCause::Unknown(node(name), None)
}

fn failing(name: &str) -> EarlyCause {
    EarlyCause::Failing(node(name))
}

fn seeded(seed: u64, now: Instant) -> Cadence {
    Cadence::new(INTERVAL, Random::seeded(seed), now)
}

impl Cadence {
    /// A refresh that takes no time: a list of so many peers that answers every cause or none.
    fn lists(&mut self, now: Instant, peers: usize, answers: bool) {
        self.listed(now, now, peers, false, |_| answers);
    }

    /// The same with starting pods.
    fn lists_starting(&mut self, now: Instant, peers: usize) {
        self.listed(now, now, peers, true, |_| false);
    }
}

/// A cadence after one list, at `now`.
fn listed(peers: usize, now: Instant) -> Cadence {
    let mut cadence = seeded(7, now);
    assert_eq!(cadence.due(), now);
    cadence.lists(now, peers, true);
    cadence
}

/// Asserts that the waits of a hundred agents fill the range, within a tenth of it at either end.
fn assert_spread(low: Duration, high: Duration, wait: impl Fn(u64, Instant) -> Duration) {
    let now = Instant::now();
    // Seeds far apart, since close ones give close first numbers.
    let seeds = (1..=100_u64).map(|seed| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let waits: Vec<_> = seeds.map(|seed| wait(seed, now)).collect();
    let (least, most) = (*waits.iter().min().unwrap(), *waits.iter().max().unwrap());
    let slack = (high - low) / 10;
    assert!((low..=low + slack).contains(&least), "{least:?}");
    assert!((high - slack..=high).contains(&most), "{most:?}");
}

#[test]
fn the_regular_interval_bounds_the_bytes_of_the_whole_mesh() {
    for (peers, least, most) in [(1, 27, 33), (300, 27, 33), (1000, 297, 363), (2500, 1856, 2269)] {
        let now = Instant::now();
        let interval = listed(peers, now).due() - now;
        assert!((secs(least)..=secs(most)).contains(&interval), "{peers}: {interval:?}");
    }
}

#[test]
fn agents_that_start_together_spread_their_refreshes() {
    // The first one, of agents that have a cached list of 1,000 peers.
    assert_spread(secs(0), secs(33), |seed, now| {
        let mut cadence = seeded(seed, now);
        cadence.spread_first(1000, now);
        cadence.due() - now
    });
    // The regular one.
    assert_spread(secs(27), secs(33), |seed, now| {
        let mut cadence = seeded(seed, now);
        cadence.lists(now, 8, true);
        cadence.due() - now
    });
    // An early one, since all see the same peer fail.
    assert_spread(secs(0), secs(33), |seed, now| {
        let mut cadence = seeded(seed, now);
        cadence.lists(now, 1000, true);
        cadence.note(failing("n"), now);
        cadence.due() - now
    });
    // A retry: the window of so many peers is longer than the first pause.
    assert_spread(secs(33) / 2, secs(33), |seed, now| {
        let mut cadence = seeded(seed, now);
        cadence.lists(now, 1000, true);
        cadence.failed(now, now, None);
        cadence.due() - now
    });
    // A retry that the server asked all of them to make at the same time.
    assert_spread(secs(40), secs(50), |seed, now| {
        let mut cadence = seeded(seed, now);
        cadence.failed(now, now, Some(secs(40)));
        cadence.due() - now
    });
}

#[test]
fn a_newcomer_in_a_small_mesh_is_found_within_11_seconds() {
    let now = Instant::now();
    let mut cadence = listed(8, now);
    cadence.note(unknown("new"), now);
    let first = cadence.due();
    assert!(first - now <= Duration::from_millis(250), "a regular refresh delays no early one");
    cadence.lists(first, 9, true);
    cadence.note(unknown("newer"), first);
    let wait = cadence.due() - first;
    assert!((secs(10)..=secs(11)).contains(&wait), "{wait:?}");
}

#[test]
fn starting_pods_shorten_the_interval_less_each_time() {
    let mut now = Instant::now();
    let mut cadence = listed(3, now);
    for seconds in [10, 20, 30, 30] {
        now = cadence.due();
        cadence.lists_starting(now, 3);
        let wait = cadence.due() - now;
        let expected = secs(seconds).mul_f64(0.9)..=secs(seconds).mul_f64(1.1);
        assert!(expected.contains(&wait), "{wait:?}, not {seconds} s");
    }
    cadence.lists(now, 4, true);
    assert!(cadence.due() - now >= secs(27), "all pods run");
    let mut large = listed(1000, now);
    large.lists_starting(now, 1000);
    assert!(large.due() - now >= secs(29), "33 s, the early window of so many peers");
}

#[test]
fn an_early_list_does_not_put_off_the_next_one() {
    let now = Instant::now();
    let mut cadence = seeded(7, now);
    cadence.lists_starting(now, 2);
    let first = cadence.due();
    assert!((secs(9)..=secs(11)).contains(&(first - now)), "{:?}", first - now);
    // A starting pod probes this agent before its address is in the list.
    cadence.note(unknown("new"), now + secs(1));
    let early = cadence.due();
    assert!(early < first);
    cadence.lists_starting(early, 2);
    let next = cadence.due() - early;
    assert!(next <= secs(11), "{next:?} after the early one");
    let later = early + AWAITED_FOR;
    cadence.lists_starting(later, 2);
    assert!(cadence.due() - later >= secs(18), "then less each time");
}

/// The time from the first request of a new pod until a list shows it as running, `delay` after that request,
/// while another pod never starts. It sends a request every 9 s.
fn found_after(delay: Duration, seed: u64) -> Duration {
    let mut now = Instant::now();
    let mut cadence = seeded(seed, now);
    // Long enough for lists to have become rare.
    for _ in 0..5 {
        now = cadence.due();
        cadence.lists_starting(now, 8);
    }
    let first = now + secs(seed % 30);
    let (mut next_request, instance) = (first, Instance::new("i").unwrap());
    loop {
        if next_request <= cadence.due() {
            now = next_request;
            cadence.note(EarlyCause::NewInstance(node("n"), instance.clone()), now);
            next_request += secs(9);
            continue;
        }
        now = now.max(cadence.due());
        let is_listed = now >= first + delay;
        if is_listed && now >= first {
            return now - first;
        }
        cadence.listed(now, now, 8, true, |_| is_listed);
    }
}

#[test]
fn a_pod_that_probes_before_it_is_listed_as_running_is_found_within_5_seconds() {
    for delay in (0..=20).map(secs) {
        let longest = (1..=100).map(|seed| found_after(delay, seed)).max().unwrap();
        let late = longest - delay;
        assert!(late <= secs(5), "listed after {delay:?}, found {late:?} later");
    }
}

#[test]
fn of_pods_that_start_one_after_the_other_each_is_found_within_4_seconds_of_its_request() {
    let now = Instant::now();
    let mut cadence = listed(8, now);
    cadence.note(unknown("first"), now);
    // The first one is listed, the second is not running yet.
    cadence.listed(now, now, 9, true, |_| true);
    let later = now + secs(3);
    cadence.note(unknown("second"), later);
    let wait = cadence.due() - later;
    assert!(wait <= secs(1), "{wait:?}");
    cadence.lists(cadence.due(), 10, true);
    assert!(cadence.due() - later >= secs(27));
}

#[test]
fn forged_requests_and_a_pod_that_never_starts_cause_few_lists() {
    // One that comes when the one before no longer counts does the most.
    for pause in [1, 15] {
        let mut now = Instant::now();
        let (end, mut cadence) = (now + secs(3600), listed(8, now));
        let (mut lists, mut second) = (0, 0);
        while now < end {
            second += 1;
            if second % pause == 0 {
                cadence.note(unknown(&format!("n{second}")), now);
            }
            if now >= cadence.due() {
                lists += 1;
                cadence.lists_starting(now, 8);
            }
            now += secs(1);
        }
        // 120 without them, and five for each of 16 names, twice in an hour.
        println!("a name each {pause} s: {lists} lists");
        assert!((110..=120 + 160).contains(&lists), "{lists}");
    }
}

#[test]
fn one_early_refresh_serves_several_causes() {
    let now = Instant::now();
    let mut cadence = listed(1000, now);
    cadence.note(failing("n"), now + secs(60));
    let wait = cadence.due() - (now + secs(60));
    assert!(wait <= secs(33), "{wait:?}");
    cadence.note(failing("m"), now + secs(61));
    assert_eq!(cadence.due() - (now + secs(60)), wait);
}

#[test]
fn an_unanswered_cause_is_ignored_for_up_to_ten_minutes() {
    let mut now = Instant::now();
    let mut cadence = listed(8, now);
    let stranger = unknown("stranger");
    let mut waits = Vec::new();
    for _ in 0..9 {
        let start = now;
        loop {
            cadence.note(stranger.clone(), now);
            if cadence.early.is_some() {
                break;
            }
            now += secs(1);
        }
        waits.push((now - start).as_secs());
        now = now.max(cadence.due());
        cadence.lists(now, 8, false);
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 320, 600, 600]);
}

#[test]
fn the_successor_of_an_ignored_instance_is_not_ignored() {
    let now = Instant::now();
    let mut cadence = listed(8, now);
    let cause =
        |instance: &str| EarlyCause::Unknown(node("n"), Some(Instance::new(instance).unwrap()));
    cadence.note(cause("old"), now);
    let refresh = cadence.due();
    cadence.lists(refresh, 8, false);
    cadence.note(cause("old"), refresh);
    assert_eq!(cadence.early, None, "unanswered");
    cadence.note(cause("new"), refresh);
    assert!(cadence.early.is_some());
}

#[test]
fn an_answered_cause_is_forgotten() {
    let now = Instant::now();
    let mut cadence = listed(8, now);
    let cause = EarlyCause::NewInstance(node("n"), Instance::new("i").unwrap());
    for round in 1..4_u32 {
        let later = now + secs(20) * round;
        cadence.note(cause.clone(), later);
        assert!(cadence.due() <= later + secs(1));
        cadence.lists(later, 8, true);
    }
    assert!(cadence.causes.is_empty());
}

#[test]
fn invented_names_cause_few_refreshes() {
    // A name each second fills the table at once, one in ten seconds uses every early refresh.
    for pause in [1, 10] {
        let mut now = Instant::now();
        let end = now + secs(3600);
        let mut cadence = listed(8, now);
        let (mut early, mut number) = (0, 0);
        while now < end {
            number += 1;
            cadence.note(unknown(&format!("n{number}")), now);
            if now >= cadence.due() {
                early += u32::from(cadence.early.is_some());
                cadence.lists(now, 8, false);
            }
            assert!(cadence.causes.len() <= NAMES_MAX);
            now += secs(pause);
        }
        assert!((1..=41).contains(&early), "{early}");
        cadence.note(failing("peer"), now);
        assert!(cadence.early.is_some(), "only names are limited");
        cadence.listed(now, now, 8, false, |cause| cause.is_name());
        cadence.note(unknown("newcomer"), now);
        assert!(cadence.early.is_some(), "an answer makes room");
    }
}

#[test]
fn a_name_is_forgotten_after_a_while() {
    let mut now = Instant::now();
    let mut cadence = listed(8, now);
    for number in 0..NAMES_MAX {
        cadence.note(unknown(&format!("n{number}")), now);
    }
    cadence.lists(now, 8, false);
    now += IGNORE_FIRST + REMEMBER - secs(1);
    cadence.lists(now, 8, false);
    cadence.note(unknown("new"), now);
    assert_eq!(cadence.early, None);
    now += secs(1);
    cadence.lists(now, 8, false);
    cadence.note(unknown("new"), now);
    assert!(cadence.early.is_some());
}

#[test]
fn failures_back_off_and_keep_the_causes() {
    let mut now = Instant::now();
    let mut cadence = listed(8, now);
    cadence.note(unknown("new"), now + secs(20));
    for (round, most) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
        now = cadence.due();
        cadence.failed(now, now, None);
        let pause = cadence.due() - now;
        assert!((secs(most) / 2..=secs(most)).contains(&pause), "{round}: {pause:?}");
    }
    let waiting: Vec<_> = cadence.causes.iter().filter(|(_, history)| history.waiting).collect();
    assert_eq!((waiting.len(), cadence.failures()), (1, 8));
    now = cadence.due();
    cadence.lists(now, 9, true);
    assert!(cadence.causes.is_empty());
    assert!(cadence.due() - now >= secs(27));
}

#[test]
fn retry_after_is_honoured_up_to_a_minute() {
    for (requested, least, most) in [(5, 5, 7), (59, 59, 74), (3600, 60, 75), (0, 0, 1)] {
        let now = Instant::now();
        let mut cadence = listed(8, now);
        cadence.failed(now, now, Some(secs(requested)));
        cadence.note(failing("n"), now);
        let pause = cadence.due() - now;
        assert!((secs(least)..=secs(most)).contains(&pause), "{requested}: {pause:?}");
    }
}

proptest! {
    /// In any order of events, early refreshes start at least their interval apart.
    #[test]
    fn refreshes_keep_their_distance(
        steps in proptest::collection::vec((0_u8..4, 0_u64..40), 1..200),
        peers in 0_usize..2000,
    ) {
        let mut now = Instant::now();
        let mut cadence = listed(peers, now);
        let mut last = now;
        let mut last_early = None;
        for (step, pause) in steps {
            now += secs(pause);
            match step {
                0 => cadence.note(failing("a"), now),
                1 => cadence.note(unknown("b"), now),
                _ => {}
            }
            if now >= cadence.due() {
                if cadence.early.is_some_and(|early| early <= now) {
                    let before = last_early.replace(now);
                    prop_assert!(before.is_none_or(|before| now - before >= EARLY_INTERVAL));
                }
                cadence.lists(now, peers, step == 3);
                last = now;
            }
            prop_assert!(cadence.due() - last <= squared(REGULAR_MICROS, 2500).mul_f64(1.1));
        }
    }
}
