//! Peers that rest for a survey.

use super::*;
use crate::survey::{Coldness, PairResult};

const SECOND: Duration = Duration::from_secs(1);
/// Three intervals and 5 s.
const SILENCE: u64 = 35;

/// A peer that has shown tokens.
fn proven() -> Fixture {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    for _ in 0..3 {
        fixture.probe(1, capable("a"), 0);
        fixture.receive_proof(1, "a", None);
        fixture.pass(SECOND * 10);
    }
    fixture
}

fn resting() -> Fixture {
    let mut fixture = proven();
    fixture.state.rest(&name(1)).unwrap();
    fixture
}

impl Fixture {
    fn resume(&mut self) -> Option<Change> {
        self.state.resume(self.now.instant, &name(1))
    }

    fn may_rest(&mut self) -> bool {
        self.state.rest(&name(1)).is_ok()
    }
}

#[test]
fn a_rest_changes_no_verdict_however_long_it_is() {
    let mut fixture = resting();
    let before = fixture.state.get(&name(1)).unwrap().clone();
    for _ in 0..700 {
        assert_eq!(fixture.pass(SECOND), []);
    }
    let after = fixture.state.get(&name(1)).unwrap();
    assert_eq!((after.verdict, after.silent, after.up), (Verdict::Up, false, Some(true)));
    let counts = |record: &PeerRecord| (record.successes, record.failed(), record.incoming);
    assert_eq!(counts(after), counts(&before));
    assert!(after.surveyed() && after.longest_gap(fixture.now.instant) > Some(SECOND * 700));
}

#[test]
fn a_rest_is_remembered_as_long_as_its_gap_is() {
    let mut fixture = proven();
    let lately = |fixture: &Fixture| {
        let record = fixture.state.get(&name(1)).unwrap();
        let long = record.longest_gap(fixture.now.instant) > Some(SECOND * 200);
        (record.was_surveyed_lately(fixture.now.instant), long)
    };
    assert_eq!(lately(&fixture), (false, false));
    fixture.state.rest(&name(1)).unwrap();
    fixture.pass(SECOND * 300);
    assert_eq!(lately(&fixture), (true, true));
    fixture.resume();
    let mut seconds = 0;
    while lately(&fixture).0 {
        fixture.probe(1, capable("a"), 0);
        fixture.receive_proof(1, "a", None);
        fixture.pass(SECOND * 10);
        seconds += 10;
        let (lately, long) = lately(&fixture);
        assert!(lately || !long, "after {seconds} s");
    }
    assert!(seconds <= 3700, "{seconds}");
}

#[test]
fn after_a_rest_silence_is_judged_anew() {
    for returns in [true, false] {
        let mut fixture = proven();
        for _ in 0..5 {
            fixture.probe(1, capable("a"), 0);
            fixture.receive_proof(1, "a", None);
            assert!(fixture.may_rest());
            fixture.pass(SECOND * 300);
            assert_eq!(fixture.resume(), Some(Change::Resume(name(1))));
        }
        let mut one_way = None;
        for second in 0..100 {
            if second % 10 == 0 {
                fixture.probe(1, capable("a"), 0);
                if returns {
                    fixture.receive_proof(1, "a", None);
                }
            }
            fixture.pass(SECOND);
            if fixture.verdict(1) == Verdict::OneWay {
                one_way = one_way.or(Some(second));
            }
        }
        // The gap of the rest is no rhythm by which silence is judged.
        assert_eq!(one_way, (!returns).then_some(SILENCE), "returns: {returns}");
    }
}

#[test]
fn only_a_peer_whose_probes_succeed_rests_and_it_is_probed_before_it_rests_again() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    assert!(!fixture.may_rest(), "unknown");
    assert!(fixture.state.rest(&name(2)).is_err(), "no peer");
    let mut fixture = proven();
    fixture.fail(1);
    assert!(!fixture.may_rest(), "failing");
    fixture.probe(1, capable("a"), 0);
    assert!(fixture.may_rest());
    let local = Report { outcome: Outcome::Local(LocalError::Late), ..fixture.begin(1) };
    fixture.resume();
    assert!(!fixture.may_rest(), "not probed yet");
    fixture.state.report(fixture.now, &local);
    assert!(!fixture.may_rest(), "that was no probe");
    fixture.probe(1, capable("a"), 0);
    assert!(fixture.may_rest());
    fixture.resume();
    fixture.fail(1);
    assert!(!fixture.may_rest(), "the path is broken, and is not hidden again");
    fixture.receive_proof(1, "a", Some(DRAIN));
    assert!(!fixture.may_rest(), "draining");
}

#[test]
fn nothing_is_sent_to_a_peer_that_rests() {
    let mut fixture = resting();
    assert!(fixture.state.begin_large(&name(1), 99).is_none());
    fixture.resume();
    assert!(fixture.state.begin_large(&name(1), 100).is_some());
    assert!(!fixture.state.is_quiet(&name(1)), "a large probe is in flight");
}

#[test]
fn it_is_quiet_when_nothing_is_in_flight() {
    let mut fixture = proven();
    let quiet = |fixture: &Fixture| fixture.state.is_quiet(&name(1));
    assert!(quiet(&fixture) && !fixture.state.is_quiet(&name(2)));
    let report = fixture.begin(1);
    fixture.state.rest(&name(1)).unwrap();
    assert!(!quiet(&fixture), "a probe");
    fixture.state.report(fixture.now, &report);
    assert!(quiet(&fixture));
    let changes = fixture.receive(1, "a", Some(DRAIN));
    assert_eq!(changes, [Change::Heard(name(1)), Change::Check(name(1))]);
    assert!(!quiet(&fixture), "a check");
    fixture.check(1, capable("a"));
    assert!(quiet(&fixture));
}

#[test]
fn a_request_of_a_peer_that_rests_is_reported_proven_or_not() {
    let mut fixture = resting();
    let heard = Change::Heard(name(1));
    assert!(fixture.receive_proof(1, "a", None).contains(&heard));
    assert!(fixture.receive(1, "b", None).contains(&heard), "a new instance proves nothing yet");
    fixture.resume();
    assert!(!fixture.receive_proof(1, "a", None).contains(&heard));
}

#[test]
fn a_goodbye_or_a_move_ends_the_rest() {
    let mut fixture = resting();
    fixture.receive_proof(1, "a", Some(DRAIN));
    assert!(!fixture.state.is_resting(&name(1)));
    assert_eq!(fixture.verdict(1), Verdict::Draining);
    assert_eq!(fixture.resume(), None, "its goodbye holds");
    let mut fixture = resting();
    let changes = fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert!(changes.contains(&Change::Schedule(name(1))));
    assert!(!fixture.state.is_resting(&name(1)));
    assert_eq!(fixture.resume(), None, "it is scheduled already");
    assert_eq!(fixture.resume(), None);
}

#[test]
fn the_result_of_a_survey_stays_with_the_node() {
    let mut fixture = proven();
    let outgoing = Coldness::WarmAt(SECOND * 300);
    let result = PairResult { outgoing, incoming: Coldness::Unproven };
    let surveyed = Surveyed { result, at: fixture.now.wall };
    fixture.state.set_survey(&name(2), surveyed);
    fixture.state.set_survey(&name(1), surveyed);
    fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    let known = fixture.state.get(&name(1)).unwrap().survey.as_deref();
    assert_eq!(known.map(|known| known.result), Some(result));
}
