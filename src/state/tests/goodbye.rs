//! What a goodbye hides, and for how long.

use super::*;

#[test]
fn a_goodbye_takes_the_peer_off_the_schedule_without_a_failure() {
    let mut lab = Lab::new([peer(1, Some("a"))]);
    lab.probe(1, success(), 0);
    let in_flight = lab.begin(1);
    assert!(lab.hear(1, "a", Some(DRAIN)).contains(&Change::Pause(name(1))));
    assert_eq!(lab.verdict(1), Verdict::Draining);
    let failed = Report { outcome: Outcome::Failure(FailureReason::Refused), ..in_flight };
    assert_eq!(lab.state.report(lab.now, &failed), Some(vec![]));
    assert_eq!(lab.state.get(&name(1)).unwrap().failed(), 0);
    lab.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert_eq!(lab.verdict(1), Verdict::Unknown, "the successor is judged anew");
    assert_eq!(lab.state.get(&name(1)).unwrap().successes, 1, "its node's counters go on");
}

#[test]
fn a_forged_goodbye_hides_nothing_past_drain_plus_one_refresh() {
    let mut lab = Lab::new([peer(1, Some("a"))]);
    lab.probe(1, success(), 0);
    assert_eq!(
        lab.hear(1, "forged", Some(DRAIN)).first(),
        Some(&Change::NewInstance(name(1), instance("forged")))
    );
    assert_eq!(lab.verdict(1), Verdict::Up, "another life's goodbye");
    lab.hear(1, "a", Some(Duration::from_secs(86_400)));
    lab.hear(1, "a", None);
    assert_eq!(lab.verdict(1), Verdict::Draining);
    let bound = MAX_DRAIN + REFRESH;
    let mut hidden = Duration::ZERO;
    while lab.verdict(1) == Verdict::Draining {
        lab.hear(1, "a", Some(DRAIN));
        let step = Duration::from_secs(1);
        hidden += step;
        assert!(hidden <= bound + step, "repeating it extends nothing");
        let changes = lab.pass(step);
        if hidden > bound {
            assert!(changes.contains(&Change::Resume(name(1))));
        }
    }
    lab.fail(1);
    assert_eq!(lab.state.get(&name(1)).unwrap().failed(), 1, "counted again");
}

#[test]
fn an_ordinary_goodbye_is_believed_for_drain_plus_one_refresh() {
    let mut lab = Lab::new([peer(1, Some("a"))]);
    lab.hear(1, "a", Some(DRAIN));
    lab.pass(DRAIN + REFRESH - Duration::from_millis(1));
    assert_eq!(lab.verdict(1), Verdict::Draining);
    lab.pass(Duration::from_millis(1));
    assert_eq!(lab.verdict(1), Verdict::Unknown);
}

#[test]
fn alternating_goodbyes_of_one_life_and_of_none_hide_nothing_longer() {
    for life in [Some("a"), None] {
        let mut lab = Lab::new([peer(1, life)]);
        let Outcome::Success { timings, .. } = success() else { unreachable!() };
        let answer = Answer { instance: Some(instance("a")), draining: false, can_large: false };
        lab.probe(1, Outcome::Success { timings, answer }, 0);
        let mut hidden = Duration::ZERO;
        for round in 0..600 {
            let said = KeepAlive {
                node: name(1),
                instance: (round % 2 == 0).then(|| instance("a")),
                interval: None,
                goodbye: Some(DRAIN),
                size: None,
            };
            lab.state.receive_request(lab.now, Some(&said));
            if lab.verdict(1) == Verdict::Draining {
                hidden += Duration::from_secs(1);
            } else {
                lab.fail(1);
            }
            lab.pass(Duration::from_secs(1));
        }
        assert!(hidden <= DRAIN + REFRESH + Duration::from_secs(1), "{life:?}: {hidden:?}");
        assert_eq!(lab.verdict(1), Verdict::Down(FailureReason::Refused));
    }
}

#[test]
fn the_same_pod_may_say_goodbye_again_once_a_probe_has_succeeded_in_between() {
    let mut lab = Lab::new([peer(1, Some("a"))]);
    for _ in 0..2 {
        lab.probe(1, success(), 0);
        assert!(lab.hear(1, "a", Some(DRAIN)).contains(&Change::Pause(name(1))));
        lab.pass(DRAIN + Duration::from_secs(1));
        assert!(lab.hear(1, "a", None).contains(&Change::Resume(name(1))));
    }
}

#[test]
fn a_peer_that_restarts_at_its_address_is_probed_again_at_once() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.hear(1, "a", Some(DRAIN));
    assert!(lab.hear(1, "b", None).contains(&Change::Resume(name(1))), "another process");
    let mut lab = Lab::new([peer(1, Some("a"))]);
    lab.hear(1, "a", Some(DRAIN));
    assert!(!lab.hear(1, "a", None).contains(&Change::Resume(name(1))), "a straggler");
    lab.pass(DRAIN + Duration::from_secs(1));
    assert!(lab.hear(1, "a", None).contains(&Change::Resume(name(1))), "the pod's container");
}

#[test]
fn an_answer_that_says_draining_is_a_goodbye() {
    let mut lab = Lab::new([peer(1, Some("a"))]);
    let Outcome::Success { timings, .. } = success() else { unreachable!() };
    let answer = Answer { instance: Some(instance("a")), draining: true, can_large: false };
    let changes = lab.probe(1, Outcome::Success { timings, answer }, 0);
    assert!(changes.contains(&Change::Pause(name(1))));
    assert_eq!(lab.verdict(1), Verdict::Draining);
}

#[test]
fn the_silence_that_a_goodbye_announced_is_not_one_way() {
    let mut lab = Lab::new([peer(1, Some("a"))]);
    // Believed for longer than its silence would be.
    lab.state.peers([peer(1, Some("a"))].into_iter().collect(), 2 * REFRESH);
    lab.probe(1, success(), 0);
    lab.hear(1, "a", None);
    lab.hear(1, "a", Some(DRAIN));
    for _ in 0..70 {
        lab.pass(Duration::from_secs(1));
        assert_ne!(lab.verdict(1), Verdict::OneWay);
    }
    assert_eq!(lab.verdict(1), Verdict::Up, "it stayed, or did not come back: a probe will tell");
    lab.pass(Duration::from_secs(40));
    assert_eq!(lab.verdict(1), Verdict::OneWay, "from then on its requests are due again");
}

#[test]
fn a_peer_that_goes_on_saying_draining_is_hidden_once() {
    let mut lab = Lab::new([peer(1, Some("a"))]);
    let Outcome::Success { timings, .. } = success() else { unreachable!() };
    let answer = Answer { instance: Some(instance("a")), draining: true, can_large: false };
    let draining = Outcome::Success { timings, answer };
    lab.probe(1, draining.clone(), 0);
    lab.pass(DRAIN + REFRESH + Duration::from_secs(1));
    lab.state.tick(lab.now.instant);
    lab.probe(1, draining.clone(), 0);
    assert_eq!(lab.verdict(1), Verdict::Up, "it says so, and stays");
    lab.probe(1, success(), 0);
    lab.probe(1, draining, 0);
    assert_eq!(lab.verdict(1), Verdict::Draining, "it stayed, and now it goes");
}

#[test]
fn an_agent_that_does_not_know_its_pods_uid_is_believed_once_it_has_answered() {
    let mut lab = Lab::new([peer(1, Some("uid"))]);
    assert!(!lab.hear(1, "random", Some(DRAIN)).contains(&Change::Pause(name(1))), "a stranger's");
    let Outcome::Success { timings, .. } = success() else { unreachable!() };
    let answer = Answer { instance: Some(instance("random")), draining: false, can_large: false };
    lab.probe(1, Outcome::Success { timings, answer }, 0);
    let changes = lab.hear(1, "random", None);
    assert!(!changes.iter().any(|change| matches!(change, Change::NewInstance(..))));
    assert!(lab.hear(1, "random", Some(DRAIN)).contains(&Change::Pause(name(1))));
}
