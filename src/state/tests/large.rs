//! When large probes are sent, and what their ends amount to.

use super::*;

/// A blank success of a peer that answers large probes.
fn able() -> Outcome {
    let Outcome::Success { timings, answer } = success() else { unreachable!() };
    Outcome::Success { timings, answer: Answer { can_large: true, ..answer } }
}

fn asks(changes: &[Change]) -> bool {
    changes.contains(&Change::SendLarge(name(1)))
}

impl Lab {
    /// A blank probe a second, until one is followed by a large one; after how long.
    fn until_large(&mut self, most: u64) -> Option<u64> {
        (0..most).find(|_| {
            self.pass(Duration::from_secs(1));
            let changes = self.probe(1, able(), 0);
            asks(&changes)
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

fn swallowed() -> Outcome {
    Outcome::Failure(FailureReason::ResponseTimeout)
}

#[test]
fn a_peer_that_can_is_asked_once_an_interval_from_its_own_moment_on() {
    let mut lab = Lab::new([peer(1, None)]);
    for _ in 0..1000 {
        lab.pass(Duration::from_secs(1));
        assert!(!asks(&lab.probe(1, success(), 0)), "it did not say that it can");
    }
    let first = lab.until_large(301).unwrap();
    let own = settings().source.share(&name(1), LARGE_INTERVAL).as_secs();
    assert!(first.abs_diff(own) <= 2, "{first} {own}");
    for _ in 0..3 {
        lab.large(success());
        let next = lab.until_large(400).unwrap();
        assert!(next.abs_diff(300) <= 2, "{next}");
    }
    lab.begin_large();
    assert_eq!(lab.until_large(1000), None, "one at a time");
    assert_eq!(lab.state.get(&name(1)).unwrap().large.successes, 3);
}

/// Swallows a large probe that is in flight, and says whether the blank one after it calls for another.
fn swallow(lab: &mut Lab) -> bool {
    lab.large(swallowed());
    lab.pass(Duration::from_secs(1));
    asks(&lab.probe(1, able(), 0))
}

#[test]
fn a_path_that_swallows_two_large_probes_but_no_blank_one_has_an_mtu_fault() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.until_large(400).unwrap();
    assert!(swallow(&mut lab), "chance, or not? at once");
    assert_eq!(lab.verdict(1), Verdict::Up);
    lab.large(swallowed());
    assert_eq!(lab.verdict(1), Verdict::Up, "not before a blank one passes");
    lab.pass(Duration::from_secs(1));
    assert!(!asks(&lab.probe(1, able(), 0)));
    assert_eq!(lab.verdict(1), Verdict::Mtu);
    assert_eq!(lab.state.get(&name(1)).unwrap().up, Some(true));
    let again = lab.until_large(400).unwrap();
    assert!(again <= 61, "asked each minute: {again}");
    lab.large(success());
    assert_eq!(lab.verdict(1), Verdict::Up);
    let large = &lab.state.get(&name(1)).unwrap().large;
    assert_eq!((large.successes, large.failures), (1, 2));
}

#[test]
fn a_large_probe_is_excused_when_blank_ones_fail_or_packets_get_lost_at_random() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.until_large(400).unwrap();
    for _ in 0..5 {
        lab.large(swallowed());
        lab.fail(1);
        lab.probe(1, able(), 0);
        assert_eq!(lab.verdict(1), Verdict::Up, "a frozen peer");
    }
    lab.probe(1, able(), 1);
    lab.probe(1, able(), 1);
    assert_eq!(lab.verdict(1), Verdict::Lossy);
    for _ in 0..5 {
        swallow(&mut lab);
    }
    for _ in 0..RECENT {
        lab.probe(1, able(), 0);
    }
    assert_eq!(lab.verdict(1), Verdict::Up, "what was lost then says nothing of the size");
}

#[test]
fn a_blank_probe_that_began_before_the_large_one_ended_proves_nothing() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.until_large(400).unwrap();
    let large = lab.begin_large();
    let blank = Report { outcome: able(), ..lab.begin(1) };
    lab.pass(Duration::from_secs(3));
    lab.state.report_large(lab.now, &Report { outcome: swallowed(), ..large });
    assert!(!asks(&lab.state.report(lab.now, &blank).unwrap()));
}

#[test]
fn a_peer_that_answers_no_large_probes_any_more_has_no_mtu_fault() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.until_large(400).unwrap();
    swallow(&mut lab);
    swallow(&mut lab);
    assert_eq!(lab.verdict(1), Verdict::Mtu);
    lab.probe(1, success(), 0);
    assert_eq!(lab.verdict(1), Verdict::Up, "another release runs there now");
}

#[test]
fn only_a_large_probe_that_was_connected_and_swallowed_tells_of_the_size() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.until_large(400).unwrap();
    let local = Outcome::Local(LocalError::NoPorts);
    for outcome in [Outcome::Failure(FailureReason::Refused), local] {
        for _ in 0..5 {
            assert!(!asks(&lab.large(outcome.clone())));
            assert_eq!(lab.verdict(1), Verdict::Up, "{outcome:?}");
        }
    }
    assert_eq!(lab.state.get(&name(1)).unwrap().large.failures, 5, "ours are not the peer's");
}

#[test]
fn a_large_report_of_the_old_place_is_forgotten() {
    let mut lab = Lab::new([peer(1, Some("a"))]);
    lab.until_large(400).unwrap();
    lab.large(swallowed());
    let old = Report { outcome: swallowed(), ..lab.begin_large() };
    lab.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert_eq!(lab.state.report_large(lab.now, &old), vec![]);
    assert_eq!(lab.state.get(&name(1)).unwrap().large.failures, 1, "what was counted stays");
}

#[test]
fn without_an_interval_nobody_is_asked() {
    let state = MeshState::new(StateSettings { large_interval: Duration::ZERO, ..settings() });
    let mut lab = Lab { state, ..Lab::new([]) };
    lab.state.peers([peer(1, None)].into_iter().collect(), REFRESH);
    assert_eq!(lab.until_large(1000), None);
}
