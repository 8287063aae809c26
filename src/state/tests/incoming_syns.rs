//! Incoming SYNs of a peer that answers no SYN.

use super::*;

impl Fixture {
    /// A probe whose SYNs are not answered for five seconds.
    fn unanswered(&mut self, number: u8) {
        let outcome = Outcome::Failure(FailureReason::ConnectTimeout);
        let began = self.begin(number);
        self.pass(Duration::from_secs(5));
        self.state.report(self.now, &Report { outcome, ended: self.now.instant, ..began });
    }

    /// The last scan found a SYN of n1, so many seconds old.
    fn syn(&mut self, ago: u64) -> Vec<Change> {
        let arrival = self.now.instant - Duration::from_secs(ago);
        let from = peer(1, None).address.ip();
        self.state.update_incoming_syns(self.now.instant, &[(from, arrival)].into())
    }

    fn incoming_syns_only(&self) -> Option<bool> {
        self.state.get(&name(1)).unwrap().incoming_syns_only
    }
}

/// A peer that answered once, and has just become down.
fn down() -> Fixture {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe(1, success(), 0);
    assert_eq!((fixture.incoming_syns_only(), fixture.state.awaits_incoming_syns()), (None, false));
    for _ in 0..3 {
        fixture.unanswered(1);
    }
    assert_eq!(fixture.verdict(1), Verdict::Down(FailureReason::ConnectTimeout));
    assert_eq!(
        (fixture.incoming_syns_only(), fixture.state.awaits_incoming_syns()),
        (Some(false), true)
    );
    fixture
}

#[test]
fn a_down_peer_whose_syns_arrive_is_incoming_syns_only() {
    let mut fixture = down();
    assert_eq!(fixture.syn(3), vec![Change::IncomingSynsOnly(name(1))]);
    assert_eq!(fixture.incoming_syns_only(), Some(true));
    assert_eq!(fixture.syn(3), vec![], "reported once");
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.incoming_syns_only(), None, "it answers");
}

#[test]
fn a_syn_from_before_the_first_failure_proves_nothing() {
    let mut fixture = down();
    // Three probes of five seconds: the first began 15 s ago.
    for ago in [15, 16, 60] {
        assert_eq!(
            (fixture.syn(ago), fixture.incoming_syns_only()),
            (vec![], Some(false)),
            "{ago} s"
        );
    }
    assert_eq!(fixture.syn(14), vec![Change::IncomingSynsOnly(name(1))]);
}

#[test]
fn it_is_no_longer_incoming_syns_only_once_its_syns_stop() {
    let mut fixture = down();
    fixture.syn(1);
    fixture.pass(Duration::from_secs(30));
    fixture.syn(31);
    assert_eq!(fixture.incoming_syns_only(), Some(true), "three intervals of 10 s and 5 s");
    fixture.pass(Duration::from_secs(5));
    fixture.syn(36);
    assert_eq!(fixture.incoming_syns_only(), Some(false));
}

#[test]
fn a_peer_that_is_down_for_another_reason_is_not_incoming_syns_only() {
    let mut fixture = down();
    fixture.fail(1);
    assert_eq!(fixture.verdict(1), Verdict::Down(FailureReason::Refused));
    assert_eq!((fixture.syn(1), fixture.incoming_syns_only()), (vec![], None));
}

#[test]
fn a_peer_with_complete_requests_is_not_incoming_syns_only() {
    let mut fixture = down();
    fixture.syn(1);
    assert_eq!(fixture.incoming_syns_only(), Some(true));
    fixture.receive(1, "a", None);
    fixture.syn(1);
    assert_eq!(fixture.incoming_syns_only(), Some(false), "the SYN-ACK reached the peer");
}
