//! Retransmits of answers to a peer.

use super::*;

impl Fixture {
    /// A request of n1 with this echo, as the gate hands it over again once it is answered.
    pub(super) fn answered_late(&mut self, echo: Option<Token>) -> Option<Change> {
        let request = KeepAlive {
            node: name(1),
            instance: Some(instance("a")),
            interval: None,
            goodbye: None,
            token: Some(PairToken { own: Token::read("ofthesende").unwrap(), echo }),
            size: None,
        };
        self.state.count_incoming_retransmits(&request, 2)
    }

    fn incoming_retransmits(&self) -> (u32, u8) {
        let record = self.state.get(&name(1)).unwrap();
        (record.incoming_retransmits, record.recent_incoming_retransmits())
    }
}

fn up() -> (Fixture, Option<Token>) {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe(1, success(), 0);
    let own = fixture.state.settings.key.own(&name(1), Some(&instance("a")));
    (fixture, Some(own))
}

#[test]
fn three_of_the_last_twenty_answers_that_needed_a_retransmit_make_a_path_lossy() {
    let (mut fixture, own) = up();
    for chance in 1..=2 {
        fixture.receive_proof(1, "a", None);
        assert_eq!(fixture.answered_late(own), None, "chance");
        let counts = (2 * u32::from(chance), chance);
        assert_eq!((fixture.verdict(1), fixture.incoming_retransmits()), (Verdict::Up, counts));
    }
    fixture.receive_proof(1, "a", None);
    let change = Change::Verdict { node: name(1), from: Verdict::Up, to: Verdict::Lossy };
    assert_eq!(fixture.answered_late(own), Some(change));
    for _ in 0..RECENT - 1 {
        fixture.receive_proof(1, "a", None);
    }
    let last = (Verdict::Lossy, (6, 1));
    assert_eq!((fixture.verdict(1), fixture.incoming_retransmits()), last, "until none is left");
    fixture.receive_proof(1, "a", None);
    assert_eq!((fixture.verdict(1), fixture.incoming_retransmits()), (Verdict::Up, (6, 0)));
}

#[test]
fn only_the_answers_to_proven_requests_count() {
    let (mut fixture, own) = up();
    for echo in [None, Token::read("0123456789")] {
        for _ in 0..3 {
            assert_eq!(fixture.answered_late(echo), None);
        }
    }
    assert_eq!((fixture.verdict(1), fixture.incoming_retransmits()), (Verdict::Up, (0, 0)));
    // Requests that prove nothing push no other out of the window.
    for _ in 0..3 {
        fixture.answered_late(own);
    }
    for _ in 0..2 * RECENT {
        fixture.receive(1, "a", None);
    }
    assert_eq!((fixture.verdict(1), fixture.incoming_retransmits()), (Verdict::Lossy, (6, 3)));
}

#[test]
fn a_peer_that_moved_starts_anew() {
    let (mut fixture, own) = up();
    fixture.answered_late(own);
    fixture.answered_late(own);
    let moved = Peer { address: "10.0.9.9:9050".parse().unwrap(), ..peer(1, None) };
    fixture.state.peers([moved].into_iter().collect(), REFRESH);
    assert_eq!(fixture.incoming_retransmits(), (4, 0), "the counter belongs to the node");
}

#[test]
fn what_was_lost_before_an_outage_or_a_restart_is_no_evidence_after_it() {
    let lossy = || {
        let (mut fixture, own) = up();
        for _ in 0..3 {
            fixture.probe(1, capable("a"), 0);
            fixture.receive_proof(1, "a", None);
            fixture.answered_late(own);
        }
        assert_eq!((fixture.verdict(1), fixture.incoming_retransmits().1), (Verdict::Lossy, 3));
        fixture
    };
    let mut down = lossy();
    for _ in 0..3 {
        down.fail(1);
    }
    assert_eq!(down.verdict(1), Verdict::Down(FailureReason::Refused));
    down.probe(1, capable("a"), 0);
    assert_eq!(down.verdict(1), Verdict::Up, "after an outage");

    let mut one_way = lossy();
    one_way.receive(1, "a", None);
    one_way.pass(Duration::from_secs(36));
    assert_eq!(one_way.verdict(1), Verdict::OneWay);
    one_way.receive_proof(1, "a", None);
    assert_eq!(one_way.verdict(1), Verdict::Up, "after a silence");

    // It proves no request any more, so that nothing pushes the old ones out.
    let mut older = lossy();
    older.probe(1, success(), 0);
    assert_eq!(older.verdict(1), Verdict::Up, "after a return to a release without tokens");
}
