//! When large probes are sent, and what their outcomes mean.

use super::*;

/// A blank success of a peer that supports large probes.
fn supporting() -> Outcome {
    let Outcome::Success { timings, answer } = success() else { unreachable!() };
    Outcome::Success { timings, answer: Answer { can_large: true, ..answer } }
}

fn sends_large(changes: &[Change]) -> bool {
    changes.contains(&Change::SendLarge(name(1)))
}

impl Fixture {
    /// Seconds until a blank probe is followed by a large one, with one blank probe a second.
    fn until_large(&mut self, max: u64) -> Option<u64> {
        (0..max).find(|_| {
            self.pass(Duration::from_secs(1));
            let changes = self.probe(1, supporting(), 0);
            sends_large(&changes)
        })
    }

    fn large(&mut self, outcome: Outcome) -> Vec<Change> {
        let report = Report { kind: ProbeKind::Large, outcome, ..self.begin_large() };
        self.state.report_large(self.now, &report)
    }

    fn begin_large(&mut self) -> Report {
        self.next += 1;
        self.state.begin_large(&name(1), self.next);
        Report {
            id: self.next,
            node: name(1),
            due: self.now.instant,
            started: self.now.instant,
            ended: self.now.instant,
            kind: ProbeKind::Large,
            outcome: success(),
            kernel: None,
        }
    }
}

fn dropped() -> Outcome {
    Outcome::Failure(FailureReason::ResponseTimeout)
}

#[test]
fn large_probes_follow_once_an_interval_from_the_pairs_offset_on() {
    let mut fixture = Fixture::new([peer(1, None)]);
    for _ in 0..1000 {
        fixture.pass(Duration::from_secs(1));
        assert!(!sends_large(&fixture.probe(1, success(), 0)), "the peer does not support them");
    }
    let first = fixture.until_large(301).unwrap();
    let own = settings().source.share(&name(1), LARGE_INTERVAL).as_secs();
    assert!(first.abs_diff(own) <= 2, "{first} {own}");
    for _ in 0..3 {
        fixture.large(success());
        let next = fixture.until_large(400).unwrap();
        assert!(next.abs_diff(300) <= 2, "{next}");
    }
    fixture.begin_large();
    assert_eq!(fixture.until_large(1000), None, "one at a time");
    assert_eq!(fixture.state.get(&name(1)).unwrap().large.successes, 3);
}

/// Drops the large probe in flight; returns whether the next blank one is followed by another.
fn drop_large(fixture: &mut Fixture) -> bool {
    fixture.large(dropped());
    fixture.pass(Duration::from_secs(1));
    sends_large(&fixture.probe(1, supporting(), 0))
}

#[test]
fn a_path_that_drops_two_large_probes_but_no_blank_one_has_an_mtu_fault() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.until_large(400).unwrap();
    assert!(drop_large(&mut fixture), "one may be chance: the next follows at once");
    assert_eq!(fixture.verdict(1), Verdict::Up);
    fixture.large(dropped());
    assert_eq!(fixture.verdict(1), Verdict::Up, "not before a blank probe succeeds");
    fixture.pass(Duration::from_secs(1));
    assert!(!sends_large(&fixture.probe(1, supporting(), 0)));
    assert_eq!(fixture.verdict(1), Verdict::Mtu(Direction::Incoming));
    assert_eq!(fixture.state.get(&name(1)).unwrap().up, Some(true));
    let again = fixture.until_large(400).unwrap();
    assert!(again <= 61, "retried each minute: {again}");
    fixture.large(success());
    assert_eq!(fixture.verdict(1), Verdict::Up);
    let large = &fixture.state.get(&name(1)).unwrap().large;
    assert_eq!((large.successes, large.failures), (1, 2));
}

#[test]
fn a_failed_large_probe_proves_nothing_beside_blank_failures_or_random_loss() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.until_large(400).unwrap();
    for _ in 0..5 {
        fixture.large(dropped());
        fixture.fail(1);
        fixture.probe(1, supporting(), 0);
        assert!(!matches!(fixture.verdict(1), Verdict::Mtu(_)), "a frozen peer");
    }
    for _ in 0..RECENT {
        fixture.probe(1, supporting(), 0);
    }
    assert_eq!(fixture.verdict(1), Verdict::Up, "a flaky path proves nothing about the size");
    fixture.probe(1, supporting(), 1);
    fixture.probe(1, supporting(), 1);
    assert_eq!(fixture.verdict(1), Verdict::Lossy);
    for _ in 0..5 {
        drop_large(&mut fixture);
    }
    for _ in 0..RECENT {
        fixture.probe(1, supporting(), 0);
    }
    assert_eq!(fixture.verdict(1), Verdict::Up, "random loss proves nothing about the size");
}

#[test]
fn a_blank_probe_that_began_before_the_large_one_ended_proves_nothing() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.until_large(400).unwrap();
    let large = fixture.begin_large();
    let blank = Report { outcome: supporting(), ..fixture.begin(1) };
    fixture.pass(Duration::from_secs(3));
    fixture.state.report_large(fixture.now, &Report { outcome: dropped(), ..large });
    assert!(!sends_large(&fixture.state.report(fixture.now, &blank).unwrap()));
}

#[test]
fn a_peer_that_no_longer_supports_large_probes_has_no_mtu_fault() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.until_large(400).unwrap();
    drop_large(&mut fixture);
    drop_large(&mut fixture);
    assert_eq!(fixture.verdict(1), Verdict::Mtu(Direction::Incoming));
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.verdict(1), Verdict::Up, "another release runs there now");
}

#[test]
fn only_a_response_timeout_of_a_large_probe_proves_an_mtu_fault() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.until_large(400).unwrap();
    let local = Outcome::Local(LocalError::NoPorts);
    for outcome in [Outcome::Failure(FailureReason::Refused), local] {
        for _ in 0..5 {
            assert!(!sends_large(&fixture.large(outcome.clone())));
            assert_eq!(fixture.verdict(1), Verdict::Up, "{outcome:?}");
        }
    }
    assert_eq!(
        fixture.state.get(&name(1)).unwrap().large.failures,
        5,
        "local errors are not counted"
    );
}

#[test]
fn a_large_report_of_the_old_address_is_ignored() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.until_large(400).unwrap();
    fixture.large(dropped());
    let old = Report { outcome: dropped(), ..fixture.begin_large() };
    fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert_eq!(fixture.state.report_large(fixture.now, &old), vec![]);
    assert_eq!(fixture.state.get(&name(1)).unwrap().large.failures, 1, "the counters stay");
}

#[test]
fn without_an_interval_no_large_probe_is_sent() {
    let state = MeshState::new(StateSettings { large_interval: Duration::ZERO, ..settings() });
    let mut fixture = Fixture { state, ..Fixture::new([]) };
    fixture.state.peers([peer(1, None)].into_iter().collect(), REFRESH);
    assert_eq!(fixture.until_large(1000), None);
}
