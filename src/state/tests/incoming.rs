//! What comes in from a peer that cannot be reached, or whose requests are missing.

use super::*;

const CONNECT_TIMEOUT: Verdict = Verdict::Down(FailureReason::ConnectTimeout);

impl Fixture {
    /// A probe whose SYNs are not answered for five seconds.
    fn unanswered(&mut self, number: u8) {
        let outcome = Outcome::Failure(FailureReason::ConnectTimeout);
        let began = self.begin(number);
        self.pass(Duration::from_secs(5));
        self.state.report(self.now, &Report { outcome, ended: self.now.instant, ..began });
    }

    /// A scan now found these SYNs of n1, so many seconds old.
    fn scan(&mut self, ages: &[u64]) -> Option<Incoming> {
        let from = peer(1, None).address.ip();
        let syns = ages.iter().map(|age| Duration::from_secs(*age));
        let syns = syns.map(|age| Syns::one(self.now.instant - age, age)).reduce(Syns::and);
        let syns = syns.into_iter().map(|syns| (from, syns)).collect();
        self.changes = self.state.update_incoming(self.now.instant, Some(self.now.instant), &syns);
        self.state.get(&name(1)).unwrap().incoming_kind
    }

    /// A request of n1 with its token, from this address.
    fn receive_from(&mut self, address: &str) {
        let sender = instance("a");
        let own = self.state.settings.key.own(&name(1), Some(&sender));
        let token = Some(PairToken { own: Token::read("ofthesende").unwrap(), echo: Some(own) });
        let request = KeepAlive {
            node: name(1),
            instance: Some(sender),
            interval: Some(Duration::from_secs(10)),
            goodbye: None,
            token,
            size: None,
        };
        self.state.receive_request_from(self.now, Some(&request), address.parse().ok());
    }

    fn is_logged(&self, verdict: Verdict, incoming: Incoming) -> bool {
        self.changes == [Change::Incoming { node: name(1), verdict, incoming }]
    }
}

/// A peer that answered once, and has just become down, 15 s after the first failed probe began.
fn down() -> Fixture {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.receive_from("::ffff:10.0.0.1");
    fixture.probe(1, success(), 0);
    assert!(!fixture.state.awaits_incoming());
    fixture.pass(Duration::from_secs(1));
    for _ in 0..3 {
        fixture.unanswered(1);
        assert!(fixture.state.awaits_incoming());
    }
    assert_eq!(fixture.verdict(1), CONNECT_TIMEOUT);
    fixture
}

#[test]
fn syns_of_a_down_peer_are_told_until_it_answers() {
    let mut fixture = down();
    assert_eq!(fixture.scan(&[6]), Some(Incoming::Syns));
    assert!(fixture.is_logged(CONNECT_TIMEOUT, Incoming::Syns));
    assert_eq!(fixture.scan(&[6]), Some(Incoming::Syns));
    assert_eq!(fixture.changes, [], "told once");
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.state.get(&name(1)).unwrap().incoming_kind, None, "it answers");
    assert_eq!((fixture.scan(&[6]), fixture.state.awaits_incoming()), (None, false));
}

#[test]
fn a_syn_whose_handshake_may_still_complete_decides_nothing() {
    let mut fixture = down();
    assert_eq!(fixture.scan(&[1]), None);
    assert_eq!(fixture.scan(&[4]), None, "a round trip of 4 s");
    assert_eq!(fixture.scan(&[2, 6]), Some(Incoming::Syns));
    assert_eq!(fixture.scan(&[2]), Some(Incoming::Syns), "as before");
    fixture.pass(Duration::from_secs(36));
    assert_eq!(fixture.scan(&[]), Some(Incoming::Nothing));
    assert_eq!(fixture.scan(&[1]), Some(Incoming::Nothing), "the link has just healed");
}

#[test]
fn a_syn_from_before_the_first_failure_proves_nothing() {
    for age in [15, 16, 60] {
        assert_eq!(down().scan(&[age]), None, "{age} s");
    }
    assert_eq!(down().scan(&[14]), Some(Incoming::Syns));
}

#[test]
fn nothing_comes_in_once_two_intervals_have_passed_without_anything() {
    let mut fixture = down();
    fixture.pass(Duration::from_secs(5));
    assert_eq!(fixture.scan(&[]), None, "20 s after the first failed probe began");
    fixture.pass(Duration::from_secs(1));
    let now = fixture.now.instant;
    let earlier = now - Duration::from_secs(1);
    fixture.state.update_incoming(now, Some(earlier), &BTreeMap::new());
    assert_eq!(fixture.state.get(&name(1)).unwrap().incoming_kind, None, "an old scan");
    assert_eq!(fixture.scan(&[]), Some(Incoming::Nothing));
    assert!(fixture.is_logged(CONNECT_TIMEOUT, Incoming::Nothing));
}

#[test]
fn a_peer_that_never_announced_an_interval_has_the_agents_own() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.state.settings.interval = Duration::from_secs(2);
    for _ in 0..3 {
        fixture.probe(1, Outcome::Failure(FailureReason::ConnectTimeout), 0);
    }
    fixture.pass(Duration::from_secs(5));
    assert_eq!(
        fixture.scan(&[]),
        Some(Incoming::Nothing),
        "two intervals and the transit of a SYN"
    );
}

#[test]
fn syns_that_stop_are_nothing_after_a_while() {
    let mut fixture = down();
    fixture.scan(&[5]);
    fixture.pass(Duration::from_secs(30));
    assert_eq!(fixture.scan(&[35]), Some(Incoming::Syns), "three intervals of 10 s and 5 s");
    fixture.pass(Duration::from_secs(5));
    assert_eq!(fixture.scan(&[36]), Some(Incoming::Nothing));
}

#[test]
fn it_is_told_for_every_reason() {
    for reason in FailureReason::ALL {
        let mut fixture = Fixture::new([peer(1, None)]);
        for _ in 0..3 {
            fixture.probe(1, Outcome::Failure(reason), 0);
        }
        fixture.pass(Duration::from_secs(6));
        assert_eq!(fixture.scan(&[5]), Some(Incoming::Syns), "{reason}");
        fixture.receive(1, "a", None);
        assert_eq!(fixture.scan(&[5]), Some(Incoming::Requests), "{reason}");
        assert!(fixture.is_logged(Verdict::Down(reason), Incoming::Requests));
    }
}

#[test]
fn a_one_way_peer_sends_syns_or_nothing() {
    let silent = || {
        let mut fixture = Fixture::new([peer(1, None)]);
        fixture.probe(1, success(), 0);
        fixture.receive_from("10.0.0.1");
        fixture.pass(Duration::from_secs(36));
        assert_eq!(fixture.verdict(1), Verdict::OneWay);
        assert!(fixture.state.awaits_incoming());
        fixture
    };
    assert_eq!(silent().scan(&[36]), Some(Incoming::Nothing), "of the last request");
    assert_eq!(silent().scan(&[5]), Some(Incoming::Syns));
    let mut fixture = silent();
    fixture.scan(&[5]);
    fixture.receive_from("10.0.0.1");
    assert_eq!((fixture.verdict(1), fixture.scan(&[5])), (Verdict::Up, None));
}

#[test]
fn where_addresses_are_rewritten_only_whole_requests_can_be_told() {
    let mut fixture = down();
    // From the address of a node: the request names its sender, a SYN does not.
    fixture.receive_from("10.9.9.9");
    assert_eq!(fixture.scan(&[]), Some(Incoming::Requests));
    fixture.pass(Duration::from_secs(36));
    assert_eq!(fixture.scan(&[]), None);
    assert_eq!(fixture.scan(&[5]), None);

    // A peer that never sent a request is assumed to be behind the same network.
    fixture.state.peers([peer(1, None), peer(2, None)].into_iter().collect(), REFRESH);
    for _ in 0..3 {
        fixture.unanswered(2);
    }
    fixture.pass(Duration::from_secs(30));
    fixture.scan(&[]);
    assert_eq!(fixture.state.get(&name(2)).unwrap().incoming_kind, None);
}

#[test]
fn silence_while_the_agent_could_not_listen_is_not_nothing() {
    let mut fixture = down();
    fixture.pass(Duration::from_secs(30));
    fixture.state.restart_listening(fixture.now.instant);
    assert_eq!(fixture.scan(&[]), None);
    fixture.pass(Duration::from_secs(21));
    assert_eq!(fixture.scan(&[]), Some(Incoming::Nothing));
}
