//! What the SYNs of a peer that does not answer ours prove.

use super::*;

impl Lab {
    /// A probe whose SYNs nobody answers for five seconds.
    fn unanswered(&mut self, number: u8) {
        let outcome = Outcome::Failure(FailureReason::ConnectTimeout);
        let began = self.begin(number);
        self.pass(Duration::from_secs(5));
        self.state.report(self.now, &Report { outcome, ended: self.now.instant, ..began });
    }

    /// A SYN of n1 that came so long ago was seen.
    fn syn(&mut self, ago: u64) -> Vec<Change> {
        let came = self.now.instant - Duration::from_secs(ago);
        let from = peer(1, None).address.ip();
        self.state.update_incoming_syns(self.now.instant, &[(from, came)].into())
    }

    fn incoming_syns_only(&self) -> Option<bool> {
        self.state.get(&name(1)).unwrap().incoming_syns_only
    }
}

/// A peer that answered, and then not at all: down since a moment ago.
fn down() -> Lab {
    let mut lab = Lab::new([peer(1, None)]);
    lab.probe(1, success(), 0);
    assert_eq!((lab.incoming_syns_only(), lab.state.awaits_incoming_syns()), (None, false));
    for _ in 0..3 {
        lab.unanswered(1);
    }
    assert_eq!(lab.verdict(1), Verdict::Down(FailureReason::ConnectTimeout));
    assert_eq!((lab.incoming_syns_only(), lab.state.awaits_incoming_syns()), (Some(false), true));
    lab
}

#[test]
fn a_peer_whose_syns_come_while_ours_are_not_answered_is_incoming_syns_only() {
    let mut lab = down();
    assert_eq!(lab.syn(3), vec![Change::IncomingSynsOnly(name(1))]);
    assert_eq!(lab.incoming_syns_only(), Some(true));
    assert_eq!(lab.syn(3), vec![], "told once");
    lab.probe(1, success(), 0);
    assert_eq!(lab.incoming_syns_only(), None, "it answers");
}

#[test]
fn a_syn_from_before_ours_began_to_fail_proves_nothing() {
    let mut lab = down();
    // Three probes of five seconds: the first began 15 s ago.
    for ago in [15, 16, 60] {
        assert_eq!((lab.syn(ago), lab.incoming_syns_only()), (vec![], Some(false)), "{ago} s");
    }
    assert_eq!(lab.syn(14), vec![Change::IncomingSynsOnly(name(1))]);
}

#[test]
fn it_is_no_longer_incoming_syns_only_once_its_syns_stop() {
    let mut lab = down();
    lab.syn(1);
    lab.pass(Duration::from_secs(30));
    lab.syn(31);
    assert_eq!(lab.incoming_syns_only(), Some(true), "three intervals of 10 s and 5 s");
    lab.pass(Duration::from_secs(5));
    lab.syn(36);
    assert_eq!(lab.incoming_syns_only(), Some(false));
}

#[test]
fn nothing_is_incoming_syns_only_of_a_peer_that_is_down_for_another_reason() {
    let mut lab = down();
    lab.fail(1);
    assert_eq!(lab.verdict(1), Verdict::Down(FailureReason::Refused));
    assert_eq!((lab.syn(1), lab.incoming_syns_only()), (vec![], None));
}

#[test]
fn a_peer_whose_requests_come_whole_is_not_incoming_syns_only() {
    let mut lab = down();
    lab.syn(1);
    assert_eq!(lab.incoming_syns_only(), Some(true));
    lab.hear(1, "a", None);
    lab.syn(1);
    assert_eq!(lab.incoming_syns_only(), Some(false), "what we answered reached it");
}
