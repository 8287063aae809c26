//! What a goodbye hides, and for how long.

use super::*;
use crate::state::claims::{MAX_DRAIN, UNPROVEN_INTERVALS};
use wylis_harness::bounds::worst_case;

const SECOND: Duration = Duration::from_secs(1);

/// A peer that has shown tokens.
fn proven() -> Fixture {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.probe(1, capable("a"), 0);
    fixture.receive_proof(1, "a", None);
    fixture
}

/// A peer of an older release.
fn older() -> Fixture {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.probe(1, answered(Answer { instance: Some(instance("a")), ..Answer::default() }), 0);
    fixture.receive(1, "a", None);
    fixture
}

fn failed(fixture: &Fixture) -> u64 {
    fixture.state.get(&name(1)).unwrap().failed()
}

#[test]
fn a_proven_goodbye_pauses_the_peer_without_a_failure() {
    let mut fixture = proven();
    let in_flight = fixture.begin(1);
    assert!(fixture.receive_proof(1, "a", Some(DRAIN)).contains(&Change::Pause(name(1))));
    assert_eq!(fixture.verdict(1), Verdict::Draining);
    let late = Report { outcome: refused(), ..in_flight };
    assert_eq!(fixture.state.report(fixture.now, &late), Some(vec![]));
    assert_eq!(failed(&fixture), 0);
    fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert_eq!(fixture.verdict(1), Verdict::Unknown, "the successor starts without a verdict");
    assert_eq!(fixture.state.get(&name(1)).unwrap().successes, 1, "the node's counters continue");
}

#[test]
fn a_claimed_goodbye_changes_nothing_but_makes_one_check_an_interval() {
    for mut fixture in [proven(), older()] {
        let mut checks = 0;
        for tenth in 0..600 {
            if tenth % 100 == 0 {
                fixture.receive_proof(1, "a", None);
            }
            let changes = fixture.receive(1, "a", Some(DRAIN));
            assert!(!changes.contains(&Change::Pause(name(1))));
            if changes.contains(&Change::Check(name(1))) {
                checks += 1;
                let changes = fixture.check(1, capable("a"));
                assert_eq!(changes, [], "the answer refutes it");
            }
            assert_eq!(fixture.verdict(1), Verdict::Up);
            fixture.pass(SECOND / 10);
        }
        assert_eq!(checks, 6, "in a minute");
    }
}

#[test]
fn a_dead_peer_is_down_under_forged_goodbyes_as_soon_as_without_them() {
    for uid in ["a", "forged"] {
        let mut fixture = proven();
        for slot in 1..=3 {
            for _ in 0..10 {
                if fixture.receive(1, uid, Some(MAX_DRAIN)).contains(&Change::Check(name(1))) {
                    fixture.check(1, refused());
                }
                fixture.pass(SECOND);
            }
            fixture.fail(1);
            assert_eq!(failed(&fixture), slot, "checks count nothing");
        }
        assert_eq!(fixture.verdict(1), Verdict::Down(FailureReason::Refused), "{uid}");
    }
}

#[test]
fn a_goodbye_of_a_failing_peer_makes_no_check() {
    let mut fixture = proven();
    for _ in 0..5 {
        fixture.fail(1);
        fixture.pass(settings().interval);
        assert_eq!(fixture.receive(1, "a", Some(DRAIN)), []);
    }
    fixture.probe(1, capable("a"), 0);
    assert_eq!(fixture.receive(1, "a", Some(DRAIN)), [Change::Check(name(1))]);
}

#[test]
fn a_check_that_this_host_cannot_make_decides_nothing() {
    for goodbye in [None, Some(DRAIN)] {
        let mut fixture = older();
        let before = match goodbye {
            None => {
                fixture.probe(1, draining("a"), 0);
                Verdict::Draining
            }
            Some(_) => Verdict::Up,
        };
        for _ in 0..2 {
            assert_eq!(fixture.receive(1, "a", goodbye), [Change::Check(name(1))]);
            assert_eq!(fixture.check(1, Outcome::Local(LocalError::NotStarted)), []);
            assert_eq!(fixture.verdict(1), before);
            fixture.pass(settings().interval);
        }
    }
}

#[test]
fn a_check_leaves_the_probe_in_flight_to_count() {
    let mut fixture = proven();
    let in_flight = fixture.begin(1);
    assert_eq!(fixture.receive(1, "a", Some(DRAIN)), [Change::Check(name(1))]);
    assert_eq!(fixture.check(1, capable("a")), []);
    let record = fixture.state.get(&name(1)).unwrap();
    assert_eq!((record.is_idle(), record.successes, record.recent.len()), (false, 1, 1));
    fixture.state.report(fixture.now, &in_flight).unwrap();
    let record = fixture.state.get(&name(1)).unwrap();
    assert_eq!((record.is_idle(), record.successes), (true, 2));
}

#[test]
fn a_check_at_an_old_address_decides_nothing() {
    let mut fixture = proven();
    assert_eq!(fixture.receive(1, "a", Some(DRAIN)), [Change::Check(name(1))]);
    fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert_eq!(fixture.check(1, draining("a")), []);
    assert_eq!(fixture.verdict(1), Verdict::Unknown);
}

#[test]
fn an_unproven_goodbye_of_an_older_agent_that_does_not_answer_hides_it_for_two_intervals_once() {
    let mut fixture = older();
    let mut hidden = Duration::ZERO;
    let mut down = None;
    for second in 0..600 {
        if fixture.receive(1, "a", Some(MAX_DRAIN)).contains(&Change::Check(name(1))) {
            fixture.check(1, refused());
        }
        match fixture.verdict(1) {
            Verdict::Draining => hidden += SECOND,
            Verdict::Down(_) => down = down.or(Some(second)),
            _ => {}
        }
        if second % 10 == 9 {
            fixture.fail(1);
        }
        fixture.pass(SECOND);
    }
    let intervals = hidden.as_secs_f64() / settings().interval.as_secs_f64();
    assert!(intervals <= worst_case("UNPROVEN_INTERVALS"), "{intervals}");
    assert_eq!(UNPROVEN_INTERVALS, 2);
    assert_eq!(down, Some(50), "after two intervals and three slots");
    fixture.probe(1, success(), 0);
    assert!(fixture.receive(1, "a", Some(DRAIN)).contains(&Change::Check(name(1))));
    fixture.check(1, refused());
    assert_eq!(fixture.verdict(1), Verdict::Draining, "it answered in between");
}

#[test]
fn a_claimed_goodbye_is_accepted_when_the_answer_confirms_it() {
    for mut fixture in [proven(), older()] {
        assert!(fixture.receive(1, "a", Some(DRAIN)).contains(&Change::Check(name(1))));
        assert!(fixture.check(1, draining("a")).contains(&Change::Pause(name(1))));
        assert_eq!(fixture.verdict(1), Verdict::Draining);
    }
}

#[test]
fn a_peer_hides_itself_no_longer_than_the_longest_drain_and_one_refresh() {
    let mut fixture = proven();
    fixture.receive_proof(1, "forged", Some(DRAIN));
    assert_eq!(fixture.verdict(1), Verdict::Up, "a goodbye of another instance");
    let mut hidden = Duration::ZERO;
    fixture.receive_proof(1, "a", Some(Duration::from_secs(86_400)));
    while fixture.verdict(1) == Verdict::Draining {
        fixture.receive_proof(1, "a", Some(Duration::from_secs(86_400)));
        hidden += SECOND;
        let changes = fixture.pass(SECOND);
        if fixture.verdict(1) != Verdict::Draining {
            assert!(changes.contains(&Change::Resume(name(1))));
        }
    }
    let drained = (hidden - REFRESH).as_secs_f64();
    assert!(drained <= worst_case("MAX_DRAIN"), "{drained}: repeating it extends nothing");
    fixture.fail(1);
    assert_eq!(failed(&fixture), 1, "counted again");
}

#[test]
fn a_goodbye_holds_for_drain_plus_one_refresh() {
    for drain in [Duration::ZERO, DRAIN] {
        let mut fixture = proven();
        fixture.receive_proof(1, "a", Some(drain));
        fixture.pass(drain + REFRESH - Duration::from_millis(1));
        assert_eq!(fixture.verdict(1), Verdict::Draining);
        fixture.pass(Duration::from_millis(1));
        assert_eq!(fixture.verdict(1), Verdict::Up);
    }
}

#[test]
fn alternating_goodbyes_with_and_without_an_instance_hide_nothing() {
    for uid in [Some("a"), None] {
        let mut fixture = Fixture::new([peer(1, uid)]);
        fixture.probe(1, capable("a"), 0);
        for round in 0..600 {
            let request = KeepAlive {
                node: name(1),
                instance: (round % 2 == 0).then(|| instance("a")),
                interval: None,
                goodbye: Some(DRAIN),
                token: None,
                size: None,
            };
            let changes = fixture.state.receive_request(fixture.now, Some(&request));
            if changes.contains(&Change::Check(name(1))) {
                fixture.check(1, refused());
            }
            assert_ne!(fixture.verdict(1), Verdict::Draining);
            fixture.fail(1);
            fixture.pass(SECOND);
        }
        assert_eq!(fixture.verdict(1), Verdict::Down(FailureReason::Refused));
    }
}

#[test]
fn the_same_pod_may_send_another_goodbye() {
    let mut fixture = proven();
    for _ in 0..2 {
        fixture.probe(1, capable("a"), 0);
        assert!(fixture.receive_proof(1, "a", Some(DRAIN)).contains(&Change::Pause(name(1))));
        fixture.pass(DRAIN + settings().interval);
        assert!(fixture.receive(1, "a", None).contains(&Change::Check(name(1))));
        assert!(fixture.check(1, capable("a")).contains(&Change::Resume(name(1))));
        assert_eq!(fixture.verdict(1), Verdict::Up);
    }
}

#[test]
fn a_peer_that_restarts_at_its_address_is_checked_at_once() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe(1, capable("a"), 0);
    fixture.receive_proof(1, "a", Some(DRAIN));
    assert!(fixture.receive(1, "b", None).contains(&Change::Check(name(1))), "another process");
    assert!(fixture.check(1, capable("b")).contains(&Change::Resume(name(1))));
    let mut fixture = proven();
    fixture.receive_proof(1, "a", Some(DRAIN));
    assert!(
        fixture.receive(1, "a", None).contains(&Change::Check(name(1))),
        "a late request of the old container, or the first of the new"
    );
    assert_eq!(fixture.check(1, draining("a")), [], "the old one");
    assert_eq!(fixture.verdict(1), Verdict::Draining);
    fixture.pass(settings().interval);
    assert!(fixture.receive(1, "a", None).contains(&Change::Check(name(1))));
    assert!(fixture.check(1, capable("a")).contains(&Change::Resume(name(1))), "the new one");
}

#[test]
fn forged_blank_requests_do_not_end_a_goodbye() {
    let mut fixture = proven();
    fixture.receive_proof(1, "a", Some(DRAIN));
    let mut checks = 0;
    for _ in 0..DRAIN.as_secs() + REFRESH.as_secs() - 1 {
        fixture.pass(SECOND);
        if fixture.receive(1, "a", None).contains(&Change::Check(name(1))) {
            checks += 1;
            assert_eq!(fixture.check(1, refused()), []);
        }
        assert_eq!(fixture.verdict(1), Verdict::Draining);
    }
    assert_eq!((checks, failed(&fixture)), (4, 0));
}

#[test]
fn an_answer_with_draining_is_a_goodbye() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    assert!(fixture.probe(1, draining("a"), 0).contains(&Change::Pause(name(1))));
    assert_eq!(fixture.verdict(1), Verdict::Draining);
}

#[test]
fn an_answer_that_was_on_its_way_refutes_no_goodbye() {
    let mut fixture = proven();
    let before = fixture.begin(1);
    fixture.pass(SECOND);
    fixture.receive_proof(1, "a", Some(DRAIN));
    let report = Report { outcome: capable("a"), ..before };
    fixture.state.report(fixture.now, &report);
    assert_eq!(fixture.verdict(1), Verdict::Draining);
}

#[test]
fn the_silence_after_a_goodbye_is_not_one_way() {
    let mut fixture = proven();
    // In effect for longer than the longest silence.
    fixture.state.peers([peer(1, Some("a"))].into_iter().collect(), 2 * REFRESH);
    fixture.receive_proof(1, "a", Some(DRAIN));
    for _ in 0..70 {
        fixture.pass(SECOND);
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
    fixture.probe(1, draining("a"), 0);
    fixture.pass(DRAIN + REFRESH + SECOND);
    fixture.state.tick(fixture.now.instant);
    fixture.probe(1, draining("a"), 0);
    assert_eq!(fixture.verdict(1), Verdict::Up, "it announces a stop, and stays");
    fixture.probe(1, success(), 0);
    fixture.probe(1, draining("a"), 0);
    assert_eq!(fixture.verdict(1), Verdict::Draining, "it stayed, and stops now");
}

#[test]
fn a_goodbye_of_an_unlisted_instance_is_accepted_once_it_has_answered() {
    let mut fixture = Fixture::new([peer(1, Some("uid"))]);
    assert!(
        !fixture.receive_proof(1, "random", Some(DRAIN)).contains(&Change::Pause(name(1))),
        "an unknown instance"
    );
    fixture.probe(1, capable("random"), 0);
    let changes = fixture.receive_proof(1, "random", None);
    assert!(!changes.iter().any(|change| matches!(change, Change::NewInstance(..))));
    assert!(fixture.receive_proof(1, "random", Some(DRAIN)).contains(&Change::Pause(name(1))));
}
