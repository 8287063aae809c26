//! The longest time without a packet that went through.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn longest(fixture: &Fixture) -> Option<Duration> {
    fixture.state.get(&name(1)).unwrap().longest_gap(fixture.now.instant)
}

#[test]
fn a_success_or_a_believed_request_ends_a_gap_and_a_failure_or_a_claim_does_not() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.pass(SECOND * 100);
    fixture.fail(1);
    assert_eq!(longest(&fixture), None, "nothing has gone through yet");
    fixture.probe(1, capable("a"), 0);
    fixture.pass(SECOND * 7);
    fixture.receive_proof(1, "a", None);
    fixture.pass(SECOND * 5);
    assert_eq!(longest(&fixture), Some(SECOND * 7));
    fixture.fail(1);
    fixture.receive(1, "a", None);
    fixture.pass(SECOND * 15);
    assert_eq!(longest(&fixture), Some(SECOND * 20), "it grows");
    fixture.receive_proof(1, "a", None);
    fixture.pass(SECOND);
    assert_eq!(longest(&fixture), Some(SECOND * 20));
}

#[test]
fn a_goodbye_and_a_successor_are_part_of_a_gap_and_it_ends_with_the_peer() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.probe(1, capable("a"), 0);
    fixture.receive_proof(1, "a", Some(DRAIN));
    fixture.pass(SECOND * 12);
    fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    fixture.pass(SECOND * 2);
    fixture.probe(1, capable("b"), 0);
    assert_eq!(longest(&fixture), Some(SECOND * 14));
    fixture.state.peers(PeerSet::default(), REFRESH);
    fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert_eq!(longest(&fixture), None);
}
