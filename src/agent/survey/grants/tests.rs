use proptest::prelude::*;
use wylis_harness::bounds::worst_case;

use super::*;
use crate::probe::FailureReason;
use crate::survey::Attempt;

const GAP: Duration = Duration::from_secs(10);
const HOLD: Duration = Duration::from_secs(60);

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Grants that `coordinator` has claimed.
fn claimed(now: Instant) -> Grants {
    let mut grants = Grants::new(true);
    assert_eq!(grants.claim(now, &name("coordinator"), LEASE), Ok(true));
    grants
}

/// What the loop does, for a peer that is quiet at once: whether the rest is over.
fn follow(grants: &mut Grants, now: Instant) -> bool {
    loop {
        match grants.current(now).map(|rest| rest.stage) {
            Some(Stage::Asked) => grants.advance(Stage::Settling),
            Some(Stage::Settling) => grants.advance(Stage::Quiet),
            Some(Stage::Quiet | Stage::Silent(_)) => return false,
            Some(Stage::Over(_)) => grants.forget_rest(),
            None => return true,
        }
    }
}

/// Grants that rest in silence with `peer`, asked for by this agent if `own`.
fn silent(now: Instant, own: bool, speaks: bool) -> (Grants, u64) {
    let mut grants = claimed(now);
    let number = grants.rest(now, &name("peer"), HOLD, own).unwrap();
    assert!(!follow(&mut grants, now));
    assert_eq!(grants.begin(now, &name("peer"), GAP, speaks), Ok(number));
    (grants, number)
}

fn report() -> TrialReport {
    let failed = Attempt { connect: Err(FailureReason::Refused), syn_retransmits: 0, rtt: None };
    TrialReport { gap: GAP, first: failed, warm: vec![failed], disturbed: false }
}

fn reason<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    let (status, reason) = result.unwrap_err();
    assert_eq!(status, 409, "{reason}");
    reason
}

#[test]
fn one_survey_holds_the_agent_until_its_lease_is_over() {
    let start = Instant::now();
    let mut grants = claimed(start);
    let just_before = start + LEASE - seconds(1);
    assert_eq!(
        reason(grants.claim(just_before, &name("other"), LEASE)),
        "a survey of coordinator goes on"
    );
    assert_eq!(reason(grants.start(just_before)), "a survey of coordinator goes on");
    assert_eq!(grants.claim(just_before, &name("coordinator"), HOLD * 1000), Ok(false), "renewed");
    let longest = Duration::from_secs_f64(worst_case("MAX_LEASE"));
    assert!(grants.claim(just_before + longest - seconds(1), &name("other"), LEASE).is_err());
    assert_eq!(grants.claim(just_before + longest, &name("other"), LEASE), Ok(true));
    assert!(!grants.release(start, &name("coordinator")), "not any more its own");
    assert!(grants.release(just_before + longest, &name("other")));
    assert_eq!(grants.start(just_before + longest), Ok(()));
    assert_eq!(reason(grants.start(start)), "a survey of this agent goes on");
    assert_eq!(reason(grants.claim(start, &name("other"), LEASE)), "it has a survey of its own");
    grants.finish_own();
    assert_eq!(grants.claim(just_before + longest, &name("other"), LEASE), Ok(true));
}

#[test]
fn without_consent_nothing_is_granted() {
    let (now, peer) = (Instant::now(), name("peer"));
    let mut grants = Grants::new(false);
    let refusals = [
        grants.start(now).err(),
        grants.claim(now, &peer, LEASE).err(),
        grants.begin_pair(now, Some(&peer), &name("x")).err(),
        grants.rest(now, &peer, HOLD, false).err(),
    ];
    for refusal in refusals {
        let (status, reason) = refusal.unwrap();
        assert_eq!((status, reason.contains("WYLIS_SURVEY=off")), (403, true), "{reason}");
    }
    assert!(grants.begin(now, &peer, GAP, false).is_err() && grants.report(&peer).is_err());
}

#[test]
fn a_rest_needs_a_claim_and_is_with_one_peer_at_a_time() {
    let (now, peer) = (Instant::now(), name("peer"));
    let mut grants = Grants::new(true);
    assert_eq!(reason(grants.rest(now, &peer, HOLD, false)), "no survey holds this agent");
    let mut grants = claimed(now);
    assert!(grants.rest(now + LEASE, &peer, HOLD, false).is_err(), "the lease is over");
    let number = grants.rest(now, &peer, HOLD, false).unwrap();
    assert_eq!(grants.rest(now, &peer, HOLD, false), Ok(number), "asked again");
    assert_eq!(reason(grants.rest(now, &name("other"), HOLD, false)), "busy: it rests with peer");
    assert_eq!(reason(grants.rest(now, &peer, HOLD, true)), "busy: it rests with peer");
    grants.end_rest(Some(&name("other")), "no");
    assert!(grants.pending(number).is_some());
    grants.end_rest(Some(&peer), "enough");
    assert_eq!(reason(grants.rest(now, &peer, HOLD, false)), "busy: the last rest has just ended");
    assert!(follow(&mut grants, now));
    assert_eq!(reason(grants.begin(now, &peer, GAP, false)), "enough");
    assert_eq!(grants.rest(now, &name("other"), HOLD, false), Ok(number + 1));
}

#[test]
fn silence_begins_when_nothing_is_in_flight() {
    let (now, peer) = (Instant::now(), name("peer"));
    let mut grants = claimed(now);
    assert_eq!(reason(grants.begin(now, &peer, GAP, false)), "it does not rest");
    grants.rest(now, &peer, HOLD, false).unwrap();
    for stage in [Stage::Asked, Stage::Settling] {
        assert_eq!(grants.current(now).unwrap().stage, stage);
        assert_eq!(reason(grants.begin(now, &peer, GAP, false)), "busy");
        grants.advance(if stage == Stage::Asked { Stage::Settling } else { Stage::Quiet });
    }
    assert!(grants.begin(now, &name("other"), GAP, false).is_err());
    assert!(grants.begin(now, &peer, GAP, false).is_ok());
    assert_eq!(reason(grants.begin(now, &peer, GAP, false)), "the silence has begun");
    // The loop looked before the silence began.
    grants.advance(Stage::Quiet);
    assert!(matches!(grants.current(now).unwrap().stage, Stage::Silent(_)));
}

#[test]
fn a_rest_ends_by_itself_however_often_it_is_asked_for() {
    let (start, peer) = (Instant::now(), name("peer"));
    let longest = Duration::from_secs_f64(worst_case("MAX_REST"));
    let mut grants = claimed(start);
    let mut now = start;
    grants.rest(now, &peer, HOLD * 1000, false).unwrap();
    follow(&mut grants, now);
    while now < start + longest {
        assert!(!follow(&mut grants, now), "after {:?}", now - start);
        grants.rest(now, &peer, HOLD * 1000, false).unwrap();
        let _ = grants.begin(now, &peer, MAX_GAP * 1000, false);
        now += seconds(10);
    }
    assert!(follow(&mut grants, now));
    // The time of a rest counts from the beginning of the silence.
    let (mut grants, _) = silent(start, false, false);
    let end = start + GAP + MAX_TRIAL + MARGIN;
    assert!(!follow(&mut grants, end - seconds(1)) && follow(&mut grants, end));
}

#[test]
fn a_request_of_the_peer_ends_its_rest_if_it_came_after_the_silence_began() {
    let now = Instant::now();
    let later = now + seconds(1);
    let (mut grants, number) = silent(now, false, false);
    // Requests are counted late, as of their arrival.
    grants.hear(now, &name("peer"));
    grants.hear(later, &name("other"));
    assert!(grants.resting(number).is_some());
    grants.hear(later, &name("peer"));
    assert!(grants.resting(number).is_none());
    assert_eq!(reason(grants.report(&name("peer"))), "disturbed");
    assert!(follow(&mut grants, later));
    assert_eq!(grants.why_over(&name("peer")), "disturbed");
    let (mut grants, number) = silent(now, true, true);
    grants.complete(number);
    grants.hear(later, &name("peer"));
    assert!(grants.resting(number).is_some(), "the trial was over");
}

#[test]
fn the_report_of_the_end_that_speaks_first_ends_the_rest() {
    let now = Instant::now();
    let (mut grants, number) = silent(now, false, true);
    assert_eq!(reason(grants.report(&name("peer"))), "busy");
    grants.spoke(number + 1, report());
    assert!(!grants.resting(number).unwrap().is_complete(), "of another rest");
    grants.spoke(number, report());
    assert_eq!(grants.report(&name("peer")), Ok(report().render()));
    assert!(grants.resting(number).is_none() && follow(&mut grants, now));
    let (mut grants, number) = silent(now, false, false);
    assert_eq!(grants.report(&name("peer")), Ok(String::new()), "the surveyor spoke");
    assert!(grants.resting(number).is_none());
    // To the surveyor, the peer says that it has spoken.
    let (mut grants, number) = silent(now, true, false);
    assert_eq!(grants.report(&name("peer")), Ok(String::new()));
    assert!(grants.resting(number).unwrap().is_complete());
}

#[test]
fn a_pair_is_surveyed_for_the_holder_until_it_ends_or_its_claim_does() {
    let (now, coordinator, peer) = (Instant::now(), name("coordinator"), name("peer"));
    let mut grants = claimed(now);
    assert_eq!(reason(grants.begin_pair(now, Some(&peer), &name("x"))), "it holds no survey here");
    assert_eq!(grants.begin_pair(now, Some(&coordinator), &peer), Ok(()));
    let other = grants.begin_pair(now, Some(&coordinator), &name("x"));
    assert_eq!(reason(other), "it surveys its pair with peer");
    assert!(!grants.pair_is_stopped(now) && grants.pair_is_stopped(now + LEASE));
    let number = grants.rest(now, &peer, LEASE * 2, true).unwrap();
    follow(&mut grants, now);
    assert!(!grants.pair_is_stopped(now + LEASE), "no renewal reaches a peer that rests");
    assert!(grants.release(now, &coordinator));
    assert!(grants.pair_is_stopped(now) && grants.resting(number).is_none());
    grants.finish_pair(&peer, PairResult::NOT_SURVEYED);
    assert_eq!(grants.take_results().len(), 1);
    assert!(grants.take_results().is_empty());
}

#[test]
fn no_survey_begins_while_a_pair_of_the_last_one_is_left() {
    let (now, coordinator, peer) = (Instant::now(), name("coordinator"), name("peer"));
    let mut grants = claimed(now);
    grants.begin_pair(now, Some(&coordinator), &peer).unwrap();
    assert_eq!(grants.claim(now, &coordinator, LEASE), Ok(false), "renewed");
    grants.release(now, &coordinator);
    assert_eq!(reason(grants.claim(now, &name("other"), LEASE)), ENDING);
    assert_eq!(reason(grants.start(now)), ENDING);
    assert!(grants.pair_is_stopped(now), "it does not go on for another");
    grants.finish_pair(&peer, PairResult::NOT_SURVEYED);
    assert_eq!(grants.claim(now, &name("other"), LEASE), Ok(true));
}

#[test]
fn a_survey_ends_when_its_coordinator_is_gone_or_another_process() {
    let now = Instant::now();
    let [first, second] = ["abcdefghij", "ABCDEFGHIJ"].map(|text| Token::read(text).unwrap());
    let ends = |seen: &[Option<Option<Token>>]| {
        let (mut grants, number) = silent(now, false, false);
        seen.iter().for_each(|holder| grants.look(*holder));
        let holds = grants.holder(now).is_some();
        assert_eq!(holds, grants.resting(number).is_some(), "and with it the rest");
        !holds
    };
    assert!(!ends(&[Some(None), Some(Some(first)), Some(Some(first)), Some(None)]));
    assert!(ends(&[Some(Some(first)), Some(Some(second))]));
    assert!(ends(&[None]) && ends(&[Some(Some(first)), None]));
    // A renewal keeps the token of the first process.
    let mut grants = claimed(now);
    grants.look(Some(Some(first)));
    grants.claim(now, &name("coordinator"), LEASE).unwrap();
    grants.look(Some(Some(second)));
    assert!(grants.holder(now).is_none());
}

#[test]
fn one_thread_attends_a_trial_at_a_time() {
    let (now, peer) = (Instant::now(), name("peer"));
    let (mut grants, _) = silent(now, false, true);
    grants.end_rest(Some(&peer), "enough");
    assert!(follow(&mut grants, now));
    grants.rest(now, &peer, HOLD, false).unwrap();
    follow(&mut grants, now);
    assert_eq!(reason(grants.begin(now, &peer, GAP, true)), "busy");
    grants.finish_attending();
    assert!(grants.begin(now, &peer, GAP, true).is_ok());
    // A surveyor has a thread anyway.
    let (mut grants, _) = silent(now, true, true);
    grants.end_rest(Some(&peer), "enough");
    follow(&mut grants, now);
    grants.rest(now, &peer, HOLD, true).unwrap();
    follow(&mut grants, now);
    assert!(grants.begin(now, &peer, GAP, true).is_ok());
}

#[test]
fn a_stop_ends_everything_and_nothing_begins_after_it() {
    let (now, peer) = (Instant::now(), name("peer"));
    let mut grants = Grants::new(true);
    assert_eq!(reason(grants.stop_own(now)), "no survey goes on");
    grants.start(now).unwrap();
    grants.begin_pair(now, None, &peer).unwrap();
    grants.rest(now, &peer, HOLD, true).unwrap();
    assert!(!grants.own_is_stopped());
    grants.stop_own(now).unwrap();
    assert!(grants.own_is_stopped() && grants.pair_is_stopped(now) && follow(&mut grants, now));
    let (mut grants, number) = silent(now, false, false);
    assert_eq!(reason(grants.stop_own(now)), "the survey is that of coordinator: stop it there");
    grants.stop();
    assert!(grants.resting(number).is_none());
    assert_eq!(reason(grants.claim(now, &name("coordinator"), LEASE)), "this agent stops");
}

#[test]
fn results_are_taken_from_a_survey_only_and_are_few() {
    let (now, peer) = (Instant::now(), name("peer"));
    let mut grants = Grants::new(true);
    assert!(!grants.end_pair(now, &peer, PairResult::NOT_SURVEYED));
    let mut grants = claimed(now);
    for _ in 0..1000 {
        grants.end_pair(now, &peer, PairResult::NOT_SURVEYED);
    }
    assert_eq!(grants.take_results().len(), MAX_RESULTS);
}

proptest! {
    #[test]
    fn whatever_is_asked_no_rest_is_longer_than_its_bound(
        asked in prop::collection::vec((0..12_u8, 0..3_u8, 0..400_u64), 1..200),
    ) {
        let peers = ["coordinator", "peer", "other"].map(name);
        let mut grants = Grants::new(true);
        let mut now = Instant::now();
        let mut resting: Option<(NodeName, Instant)> = None;
        for (what, who, time) in asked {
            let peer = &peers[usize::from(who)];
            let span = seconds(time * time);
            now += seconds(time / 8);
            match what {
                0 => drop(grants.start(now)),
                1 => drop(grants.claim(now, peer, span)),
                2 => drop(grants.release(now, peer)),
                3 => drop(grants.begin_pair(now, Some(peer), peer)),
                4 | 5 => drop(grants.rest(now, peer, span, what == 4)),
                6 | 7 => drop(grants.begin(now, peer, span, what == 6)),
                8 => drop(grants.report(peer)),
                9 => grants.hear(now, peer),
                10 => drop(grants.end_pair(now, peer, PairResult::NOT_SURVEYED)),
                _ => drop(grants.stop_own(now)),
            }
            // The loop looks once a second.
            follow(&mut grants, now);
            let current = grants.rest.as_ref().map(|rest| (rest.peer.clone(), rest.began));
            if let (Some((peer, began)), Some((same, since))) = (&current, &resting)
                && peer == same
                && began == since
            {
                prop_assert!(now - *began < MAX_REST);
            }
            resting = current;
        }
    }
}
