//! When the next list comes, with a clock of our own.

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(30);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn listed_of(peers: usize) -> Finish {
    Finish::Listed { peers, starting: false }
}

/// A cadence after one good list, at `now`.
fn listed(peers: usize, now: Instant) -> Cadence {
    let mut cadence = Cadence::new(INTERVAL, Random::seeded(7), now);
    assert_eq!(cadence.due(), now);
    cadence.started(now);
    cadence.finished(now, listed_of(peers), |_| true);
    cadence
}

#[test]
fn the_regular_spacing_bounds_the_bytes_of_the_whole_mesh() {
    for (peers, least, most) in [(1, 27, 33), (300, 27, 33), (1000, 297, 363), (5000, 3240, 3960)] {
        let now = Instant::now();
        let spacing = listed(peers, now).due() - now;
        assert!((secs(least)..=secs(most)).contains(&spacing), "{peers}: {spacing:?}");
    }
}

#[test]
fn a_newcomer_in_a_small_mesh_is_found_within_eleven_seconds() {
    let now = Instant::now();
    let mut cadence = listed(8, now);
    cadence.note(EarlyCause::Unknown(node("new"), None), now);
    let first = cadence.due();
    assert!(first - now <= Duration::from_millis(250), "a regular refresh delays no early one");
    cadence.started(first);
    cadence.finished(first, listed_of(9), |_| true);
    cadence.note(EarlyCause::Unknown(node("newer"), None), first);
    let wait = cadence.due() - first;
    assert!((secs(10)..=secs(11)).contains(&wait), "{wait:?}");
}

#[test]
fn pods_that_are_about_to_run_are_looked_for_sooner_and_ever_less() {
    let mut now = Instant::now();
    let mut cadence = listed(3, now);
    for seconds in [10, 20, 30, 30] {
        now = cadence.due();
        cadence.started(now);
        cadence.finished(now, Finish::Listed { peers: 3, starting: true }, |_| true);
        let wait = cadence.due() - now;
        let expected = secs(seconds).mul_f64(0.9)..=secs(seconds).mul_f64(1.1);
        assert!(expected.contains(&wait), "{wait:?}, not {seconds} s");
    }
    cadence.finished(now, listed_of(4), |_| true);
    assert!(cadence.due() - now >= secs(27), "all run");
    let mut large = listed(1000, now);
    large.finished(now, Finish::Listed { peers: 1000, starting: true }, |_| true);
    assert!(large.due() - now >= secs(29), "33 s, as for every early list of so many");
}

#[test]
fn an_early_list_does_not_put_off_the_one_for_pods_that_are_about_to_run() {
    let now = Instant::now();
    let mut cadence = Cadence::new(INTERVAL, Random::seeded(7), now);
    let list = |cadence: &mut Cadence, at: Instant| {
        cadence.started(at);
        cadence.finished(at, Finish::Listed { peers: 2, starting: true }, |_| false);
    };
    list(&mut cadence, now);
    let first = cadence.due();
    assert!((secs(9)..=secs(11)).contains(&(first - now)), "{:?}", first - now);
    // One of them asks us before its address is told.
    cadence.note(EarlyCause::Unknown(node("new"), None), now + secs(1));
    let early = cadence.due();
    assert!(early < first);
    list(&mut cadence, early);
    let next = cadence.due() - early;
    assert!(next <= secs(11), "{next:?} after the early one");
    list(&mut cadence, early + secs(11));
    assert!(cadence.due() - (early + secs(11)) >= secs(18), "and from there on ever less");
}

#[test]
fn early_refreshes_of_a_large_mesh_are_spread() {
    let now = Instant::now();
    let mut cadence = listed(1000, now);
    cadence.note(EarlyCause::Failing(node("n")), now + secs(60));
    let wait = cadence.due() - (now + secs(60));
    assert!(wait <= secs(33), "{wait:?}");
    cadence.note(EarlyCause::Failing(node("m")), now + secs(61));
    assert_eq!(cadence.due() - (now + secs(60)), wait);
}

#[test]
fn a_name_that_did_not_help_backs_off_up_to_ten_minutes() {
    let mut now = Instant::now();
    let mut cadence = listed(8, now);
    let stranger = EarlyCause::Unknown(node("stranger"), None);
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
        cadence.started(now);
        cadence.finished(now, listed_of(8), |_| false);
    }
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 320, 600, 600]);
}

#[test]
fn a_successor_does_not_pay_for_the_name_of_a_pod_that_left() {
    let now = Instant::now();
    let mut cadence = listed(8, now);
    let cause = |life: &str| EarlyCause::Unknown(node("n"), Some(Instance::new(life).unwrap()));
    cadence.note(cause("old"), now);
    let refresh = cadence.due();
    cadence.started(refresh);
    cadence.finished(refresh, listed_of(8), |_| false);
    cadence.note(cause("old"), refresh);
    assert_eq!(cadence.early, None, "it did not help");
    cadence.note(cause("new"), refresh);
    assert!(cadence.early.is_some());
}

#[test]
fn a_name_that_helped_is_not_held_against_it() {
    let now = Instant::now();
    let mut cadence = listed(8, now);
    let cause = EarlyCause::NewInstance(node("n"), Instance::new("i").unwrap());
    for round in 1..4_u32 {
        let later = now + secs(20) * round;
        cadence.note(cause.clone(), later);
        assert!(cadence.due() <= later + secs(1));
        cadence.started(later);
        cadence.finished(later, listed_of(8), |_| true);
    }
    assert!(cadence.strikes.is_empty());
}

#[test]
fn a_stranger_with_ever_new_names_is_bounded() {
    let mut now = Instant::now();
    let end = now + secs(3600);
    let mut cadence = listed(8, now);
    let (mut early, mut number) = (0, 0);
    while now < end {
        number += 1;
        cadence.note(EarlyCause::Unknown(node(&format!("n{number}")), None), now);
        if now >= cadence.due() {
            early += u32::from(cadence.early.is_some());
            cadence.started(now);
            cadence.finished(now, listed_of(8), |_| false);
        }
        assert!(cadence.strikes.len() <= CAUSES_MOST && cadence.pending.len() <= CAUSES_MOST);
        now += secs(1);
    }
    assert!(early <= CREDIT_MOST + 24 + 1, "{early}");
    cadence.note(EarlyCause::Failing(node("peer")), now);
    assert!(cadence.early.is_some(), "our own observation needs no credit");
}

#[test]
fn failures_back_off_and_keep_what_was_asked() {
    let mut now = Instant::now();
    let mut cadence = listed(8, now);
    let cause = EarlyCause::Unknown(node("new"), None);
    cadence.note(cause.clone(), now + secs(20));
    for (round, most) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
        now = cadence.due();
        cadence.started(now);
        cadence.finished(now, Finish::Failed(None), |_| false);
        let pause = cadence.due() - now;
        assert!((secs(most) / 2..=secs(most)).contains(&pause), "{round}: {pause:?}");
    }
    assert_eq!(cadence.pending, [cause]);
    now = cadence.due();
    cadence.finished(now, listed_of(9), |_| true);
    assert!(cadence.pending.is_empty());
    assert!(cadence.due() - now >= secs(27));
}

#[test]
fn retry_after_is_honoured_up_to_a_minute() {
    for (asked, least, most) in [(5, 5, 7), (59, 59, 74), (3600, 60, 75), (0, 0, 1)] {
        let now = Instant::now();
        let mut cadence = listed(8, now);
        cadence.finished(now, Finish::Failed(Some(secs(asked))), |_| false);
        cadence.note(EarlyCause::Failing(node("n")), now);
        let pause = cadence.due() - now;
        assert!((secs(least)..=secs(most)).contains(&pause), "{asked}: {pause:?}");
    }
}

proptest! {
    /// Whatever happens, two early refreshes that succeed are at least their spacing apart.
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
                0 => cadence.note(EarlyCause::Failing(node("a")), now),
                1 => cadence.note(EarlyCause::Unknown(node("b"), None), now),
                _ => {}
            }
            if now >= cadence.due() {
                if cadence.early.is_some_and(|early| early <= now) {
                    let before = last_early.replace(now);
                    prop_assert!(before.is_none_or(|before| now - before >= EARLY_SPACING));
                }
                cadence.started(now);
                cadence.finished(now, listed_of(peers), |_| step == 3);
                last = now;
            }
            prop_assert!(cadence.due() - last <= REGULAR_MOST.mul_f64(1.1));
        }
    }
}
