//! What a goodbye hides, and for how long.

use super::*;

#[test]
fn a_goodbye_pauses_the_peer_without_a_failure() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.probe(1, success(), 0);
    let in_flight = fixture.begin(1);
    assert!(fixture.receive(1, "a", Some(DRAIN)).contains(&Change::Pause(name(1))));
    assert_eq!(fixture.verdict(1), Verdict::Draining);
    let failed = Report { outcome: Outcome::Failure(FailureReason::Refused), ..in_flight };
    assert_eq!(fixture.state.report(fixture.now, &failed), Some(vec![]));
    assert_eq!(fixture.state.get(&name(1)).unwrap().failed(), 0);
    fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert_eq!(fixture.verdict(1), Verdict::Unknown, "the successor starts without a verdict");
    assert_eq!(fixture.state.get(&name(1)).unwrap().successes, 1, "the node's counters continue");
}

#[test]
fn a_forged_goodbye_hides_nothing_beyond_drain_plus_one_refresh() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.probe(1, success(), 0);
    assert_eq!(
        fixture.receive(1, "forged", Some(DRAIN)).first(),
        Some(&Change::NewInstance(name(1), instance("forged")))
    );
    assert_eq!(fixture.verdict(1), Verdict::Up, "a goodbye of another instance");
    fixture.receive(1, "a", Some(Duration::from_secs(86_400)));
    fixture.receive(1, "a", None);
    assert_eq!(fixture.verdict(1), Verdict::Draining);
    let bound = MAX_DRAIN + REFRESH;
    let mut hidden = Duration::ZERO;
    while fixture.verdict(1) == Verdict::Draining {
        fixture.receive(1, "a", Some(DRAIN));
        let step = Duration::from_secs(1);
        hidden += step;
        assert!(hidden <= bound + step, "repeating it extends nothing");
        let changes = fixture.pass(step);
        if hidden > bound {
            assert!(changes.contains(&Change::Resume(name(1))));
        }
    }
    fixture.fail(1);
    assert_eq!(fixture.state.get(&name(1)).unwrap().failed(), 1, "counted again");
}

#[test]
fn a_goodbye_holds_for_drain_plus_one_refresh() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.receive(1, "a", Some(DRAIN));
    fixture.pass(DRAIN + REFRESH - Duration::from_millis(1));
    assert_eq!(fixture.verdict(1), Verdict::Draining);
    fixture.pass(Duration::from_millis(1));
    assert_eq!(fixture.verdict(1), Verdict::Unknown);
}

#[test]
fn alternating_goodbyes_with_and_without_an_instance_hide_nothing_longer() {
    for uid in [Some("a"), None] {
        let mut fixture = Fixture::new([peer(1, uid)]);
        let Outcome::Success { timings, .. } = success() else { unreachable!() };
        let answer = Answer { instance: Some(instance("a")), draining: false, can_large: false };
        fixture.probe(1, Outcome::Success { timings, answer }, 0);
        let mut hidden = Duration::ZERO;
        for round in 0..600 {
            let request = KeepAlive {
                node: name(1),
                instance: (round % 2 == 0).then(|| instance("a")),
                interval: None,
                goodbye: Some(DRAIN),
                size: None,
            };
            fixture.state.receive_request(fixture.now, Some(&request));
            if fixture.verdict(1) == Verdict::Draining {
                hidden += Duration::from_secs(1);
            } else {
                fixture.fail(1);
            }
            fixture.pass(Duration::from_secs(1));
        }
        assert!(hidden <= DRAIN + REFRESH + Duration::from_secs(1), "{uid:?}: {hidden:?}");
        assert_eq!(fixture.verdict(1), Verdict::Down(FailureReason::Refused));
    }
}

#[test]
fn the_same_pod_may_send_another_goodbye_after_a_successful_probe() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    for _ in 0..2 {
        fixture.probe(1, success(), 0);
        assert!(fixture.receive(1, "a", Some(DRAIN)).contains(&Change::Pause(name(1))));
        fixture.pass(DRAIN + Duration::from_secs(1));
        assert!(fixture.receive(1, "a", None).contains(&Change::Resume(name(1))));
    }
}

#[test]
fn a_peer_that_restarts_at_its_address_is_probed_again_at_once() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.receive(1, "a", Some(DRAIN));
    assert!(fixture.receive(1, "b", None).contains(&Change::Resume(name(1))), "another process");
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.receive(1, "a", Some(DRAIN));
    assert!(
        !fixture.receive(1, "a", None).contains(&Change::Resume(name(1))),
        "a late request of the old container"
    );
    fixture.pass(DRAIN + Duration::from_secs(1));
    assert!(
        fixture.receive(1, "a", None).contains(&Change::Resume(name(1))),
        "the pod's new container"
    );
}

#[test]
fn an_answer_with_draining_is_a_goodbye() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    let Outcome::Success { timings, .. } = success() else { unreachable!() };
    let answer = Answer { instance: Some(instance("a")), draining: true, can_large: false };
    let changes = fixture.probe(1, Outcome::Success { timings, answer }, 0);
    assert!(changes.contains(&Change::Pause(name(1))));
    assert_eq!(fixture.verdict(1), Verdict::Draining);
}

#[test]
fn the_silence_after_a_goodbye_is_not_one_way() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    // In effect for longer than the longest silence.
    fixture.state.peers([peer(1, Some("a"))].into_iter().collect(), 2 * REFRESH);
    fixture.probe(1, success(), 0);
    fixture.receive(1, "a", None);
    fixture.receive(1, "a", Some(DRAIN));
    for _ in 0..70 {
        fixture.pass(Duration::from_secs(1));
        assert_ne!(fixture.verdict(1), Verdict::OneWay);
    }
    assert_eq!(
        fixture.verdict(1),
        Verdict::Up,
        "it stayed or did not come back: a probe will show"
    );
    fixture.pass(Duration::from_secs(40));
    assert_eq!(
        fixture.verdict(1),
        Verdict::OneWay,
        "its requests are due again after the goodbye expired"
    );
}

#[test]
fn a_peer_that_keeps_answering_draining_is_hidden_once() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    let Outcome::Success { timings, .. } = success() else { unreachable!() };
    let answer = Answer { instance: Some(instance("a")), draining: true, can_large: false };
    let draining = Outcome::Success { timings, answer };
    fixture.probe(1, draining.clone(), 0);
    fixture.pass(DRAIN + REFRESH + Duration::from_secs(1));
    fixture.state.tick(fixture.now.instant);
    fixture.probe(1, draining.clone(), 0);
    assert_eq!(fixture.verdict(1), Verdict::Up, "it announces a stop, and stays");
    fixture.probe(1, success(), 0);
    fixture.probe(1, draining, 0);
    assert_eq!(fixture.verdict(1), Verdict::Draining, "it stayed, and stops now");
}

#[test]
fn a_goodbye_of_an_unlisted_instance_is_accepted_once_it_has_answered() {
    let mut fixture = Fixture::new([peer(1, Some("uid"))]);
    assert!(
        !fixture.receive(1, "random", Some(DRAIN)).contains(&Change::Pause(name(1))),
        "an unknown instance"
    );
    let Outcome::Success { timings, .. } = success() else { unreachable!() };
    let answer = Answer { instance: Some(instance("random")), draining: false, can_large: false };
    fixture.probe(1, Outcome::Success { timings, answer }, 0);
    let changes = fixture.receive(1, "random", None);
    assert!(!changes.iter().any(|change| matches!(change, Change::NewInstance(..))));
    assert!(fixture.receive(1, "random", Some(DRAIN)).contains(&Change::Pause(name(1))));
}
