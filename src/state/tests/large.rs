//! When large probes are sent, and what their ends amount to.

use super::*;

/// A blank success of a peer that answers large probes.
fn able() -> Outcome {
    let Outcome::Success { timings, answer } = success() else { unreachable!() };
    Outcome::Success { timings, answer: Answer { can_large: true, ..answer } }
}

fn asks(changes: &[Change]) -> bool {
    changes.contains(&Change::Large(name(1)))
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
        let blank = self.begin(1);
        self.state.report(self.now, &blank);
        self.next += 1;
        self.state.begin_large(&name(1), self.next);
        Report { id: self.next, kind: ProbeKind::Large, ..blank }
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
    let own = rules().source.share(&name(1), LARGE_INTERVAL).as_secs();
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

#[test]
fn a_path_that_swallows_two_large_probes_but_no_blank_one_has_an_mtu_fault() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.until_large(400).unwrap();
    assert!(asks(&lab.large(swallowed())), "chance, or not? at once");
    assert_eq!(lab.verdict(1), Verdict::Up);
    assert!(!asks(&lab.large(swallowed())));
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
fn a_peer_whose_blank_probes_fail_is_not_asked_again() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.until_large(400).unwrap();
    let report = Report { outcome: swallowed(), ..lab.begin_large() };
    lab.fail(1);
    assert_eq!(lab.state.report_large(lab.now, &report), vec![]);
    for _ in 0..2 {
        lab.fail(1);
    }
    assert_eq!(lab.verdict(1), Verdict::Down(FailureReason::Refused));
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
    let state = State::new(Rules { large_interval: Duration::ZERO, ..rules() });
    let mut lab = Lab { state, ..Lab::new([]) };
    lab.state.peers([peer(1, None)].into_iter().collect(), REFRESH);
    assert_eq!(lab.until_large(1000), None);
}
