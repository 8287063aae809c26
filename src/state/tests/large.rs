//! When large probes are sent, and what their outcomes mean.

use super::*;

/// A blank success of a peer that supports large probes.
fn supporting() -> Outcome {
    let Outcome::Success { timings, answer } = success() else { unreachable!() };
    Outcome::Success { timings, answer: Answer { can_large: true, ..answer } }
}

fn large_of(changes: &[Change]) -> Option<Large> {
    changes.iter().find_map(|change| match change {
        Change::SendLarge(_, large) => Some(*large),
        _ => None,
    })
}

fn dropped() -> Outcome {
    Outcome::Failure(FailureReason::ResponseTimeout)
}

/// A success whose answer came later than usual.
fn late(by: u64) -> Outcome {
    let Outcome::Success { mut timings, answer } = success() else { unreachable!() };
    timings.response += Duration::from_millis(by);
    timings.total += Duration::from_millis(by);
    Outcome::Success { timings, answer }
}

/// What a path does to a large probe, and to the blank ones before it.
#[derive(Debug, Clone, Copy, Default)]
struct Path {
    /// Full-size segments that get lost before one passes, in each direction; none passes of 4.
    outgoing: u32,
    incoming: u32,
    /// Retransmits of a blank probe.
    blank: u32,
}

impl Fixture {
    /// The large probe that follows a blank one, with one blank probe a second, and how many seconds it took.
    fn next_large(&mut self, max: u64) -> Option<(Large, u64)> {
        self.next_large_over(Path::default(), max)
    }

    fn next_large_over(&mut self, path: Path, max: u64) -> Option<(Large, u64)> {
        (1..=max).find_map(|second| {
            self.pass(Duration::from_secs(1));
            let changes = self.probe(1, supporting(), path.blank);
            Some((large_of(&changes)?, second))
        })
    }

    fn large(&mut self, large: Large, outcome: Outcome) -> Vec<Change> {
        self.large_seen(large, outcome, KernelView::default())
    }

    fn large_seen(&mut self, large: Large, outcome: Outcome, kernel: KernelView) -> Vec<Change> {
        let kernel = Some(kernel);
        let report = Report { outcome, kernel, ..self.begin_large(large) };
        self.state.report_large(self.now, &report)
    }

    /// Sends one large probe over a path, as soon as one is due; returns it with its delay in seconds.
    fn large_over(&mut self, path: Path) -> (Large, u64) {
        let (large, delay) = self.next_large_over(path, 301).unwrap();
        let outgoing = if large == Large::Answer { 0 } else { path.outgoing };
        let incoming = if matches!(large, Large::Request { .. }) { 0 } else { path.incoming };
        let kernel = KernelView { retransmits: outgoing.min(3), ..KernelView::default() };
        let outcome = match outgoing.max(incoming) {
            4 => dropped(),
            0 => success(),
            lost => late(200 * u64::from(lost)),
        };
        self.large_seen(large, outcome, kernel);
        (large, delay)
    }

    fn begin_large(&mut self, large: Large) -> Report {
        self.next += 1;
        self.state.begin_large(&name(1), self.next);
        Report {
            id: self.next,
            node: name(1),
            due: self.now.instant,
            started: self.now.instant,
            ended: self.now.instant,
            kind: ProbeKind::Large(large),
            outcome: success(),
            kernel: None,
        }
    }

    pub(super) fn record(&self) -> &PeerRecord {
        self.state.get(&name(1)).unwrap()
    }
}

/// A peer to which a large probe was sent before, so that the next comes at its time.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new([peer(1, None)]);
    for _ in 0..2 {
        assert_eq!(fixture.large_over(Path::default()).0, Large::Both);
    }
    fixture
}

#[test]
fn large_probes_follow_once_an_interval_from_the_pairs_offset_on() {
    let mut fixture = Fixture::new([peer(1, None)]);
    for _ in 0..1000 {
        fixture.pass(Duration::from_secs(1));
        let changes = fixture.probe(1, success(), 0);
        assert_eq!(large_of(&changes), None, "the peer does not support them");
    }
    let (large, first) = fixture.next_large(301).unwrap();
    let own = settings().source.share(&name(1), LARGE_INTERVAL).as_secs();
    assert!(first.abs_diff(own) <= 2, "{first} {own}");
    assert_eq!(large, Large::Both, "one proves both directions");
    for _ in 0..3 {
        fixture.large(Large::Both, success());
        let (large, next) = fixture.next_large(400).unwrap();
        assert!(large == Large::Both && next.abs_diff(300) <= 2, "{next}");
    }
    fixture.begin_large(Large::Both);
    assert_eq!(fixture.next_large(1000), None, "one at a time");
    let large = &fixture.record().large;
    assert_eq!((large.successes, large.outgoing.successes, large.incoming.successes), (3, 3, 3));
}

#[test]
fn each_way_of_losing_full_size_segments_has_its_direction() {
    use Direction::{Both, Incoming, Outgoing};
    let path = |outgoing, incoming| Path { outgoing, incoming, blank: 0 };
    for (faulty, verdict, most) in [
        (path(4, 0), Verdict::Mtu(Outgoing), 3),
        (path(0, 4), Verdict::Mtu(Incoming), 4),
        (path(4, 4), Verdict::Mtu(Both), 4),
        (path(1, 0), Verdict::Mtu(Outgoing), 8),
        (path(0, 2), Verdict::Mtu(Incoming), 8),
        (path(3, 1), Verdict::Mtu(Both), 8),
    ] {
        let mut fixture = fixture();
        let mut sent = 0;
        while fixture.verdict(1) != verdict {
            let (_, delay) = fixture.large_over(faulty);
            sent += 1;
            let known = fixture.verdict(1) == verdict;
            assert!(
                sent == 1 || delay == 1 || known,
                "{faulty:?}: a suspicion is followed at once"
            );
            assert!(sent <= most, "{faulty:?}: {} after {sent}", fixture.verdict(1));
            // The drop of the last one shows with the next blank success.
            fixture.pass(Duration::from_secs(1));
            if fixture.verdict(1) != verdict {
                // Lost in part, one direction may be judged first.
                assert!(fixture.verdict(1) == Verdict::Up || faulty.outgoing == 3, "{faulty:?}");
            }
        }
        assert_eq!(fixture.record().up, Some(true));
        for _ in 0..20 {
            let (_, delay) = fixture.large_over(faulty);
            assert_eq!(fixture.verdict(1), verdict, "{faulty:?} {delay}");
        }
        let mut healed = 0;
        while fixture.verdict(1) != Verdict::Up {
            healed += fixture.large_over(Path::default()).1;
        }
        assert!(healed <= 61 + 16, "{faulty:?}: healed after {healed} s");
        while fixture.large_over(Path::default()).0 != Large::Both {}
        assert!(fixture.next_large(400).unwrap().1.abs_diff(300) <= 2, "at its time again");
    }
}

#[test]
fn a_path_that_loses_every_other_full_size_segment_is_told_within_forty_probes() {
    for seed in 0..50_u32 {
        let mut fixture = fixture();
        let mut random = seed.wrapping_mul(2_654_435_761) | 1;
        let mut lost = || {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            (random.trailing_zeros()).min(4)
        };
        let mut sent = 0;
        while fixture.verdict(1) == Verdict::Up {
            fixture.large_over(Path { outgoing: lost(), ..Path::default() });
            sent += 1;
            assert!(sent <= 40, "seed {seed}");
        }
        assert_eq!(fixture.verdict(1), Verdict::Mtu(Direction::Outgoing), "seed {seed}");
    }
}

#[test]
fn one_strained_or_dropped_probe_is_chance() {
    for (path, follow_ups) in [
        (Path { outgoing: 1, ..Path::default() }, 4),
        (Path { incoming: 2, ..Path::default() }, 4),
        (Path { incoming: 4, ..Path::default() }, 8),
    ] {
        let mut fixture = fixture();
        fixture.large_over(path);
        let mut followed = 0;
        while fixture.large_over(Path::default()).0 != Large::Both {
            followed += 1;
            assert_eq!(fixture.verdict(1), Verdict::Up);
        }
        assert_eq!(followed, follow_ups, "four in each direction that may be at fault");
    }
}

#[test]
fn strain_proves_nothing_beside_retransmits_of_blank_probes() {
    let mut fixture = fixture();
    let path = Path { outgoing: 1, incoming: 1, ..Path::default() };
    fixture.probe(1, supporting(), 1);
    for _ in 0..3 {
        fixture.large_over(path);
        fixture.probe(1, supporting(), 1);
        assert!(matches!(fixture.verdict(1), Verdict::Up | Verdict::Lossy));
    }
    for _ in 0..RECENT {
        fixture.probe(1, success(), 0);
    }
    assert_eq!(fixture.verdict(1), Verdict::Up);
}

#[test]
fn strain_proves_nothing_where_something_else_answers_handshakes() {
    let answer = Answer { can_large: true, ..Answer::default() };
    for (connect, verdict) in [(1, Verdict::Up), (400, Verdict::Mtu(Direction::Incoming))] {
        let [connect, response] = [connect, 400].map(Duration::from_millis);
        let exchange = |late: u64| {
            let response = response + Duration::from_millis(late);
            let timings = Timings { connect, response, total: connect + response };
            Outcome::Success { timings, answer: answer.clone() }
        };
        let mut fixture = Fixture::new([peer(1, None)]);
        let (mut large, mut seconds) = (0, 0);
        while large < 12 {
            fixture.pass(Duration::from_secs(1));
            let due = large_of(&fixture.probe(1, exchange(0), 0));
            seconds += 1;
            if let Some(due) = due.filter(|_| seconds > RECENT) {
                let strained = matches!(due, Large::Both | Large::Answer);
                fixture.large(due, exchange(if strained { 200 } else { 0 }));
                large += 1;
            } else if let Some(due) = due {
                fixture.large(due, exchange(0));
            }
        }
        assert_eq!(fixture.verdict(1), verdict, "{connect:?}");
    }
}

#[test]
fn a_failed_large_probe_proves_nothing_beside_blank_failures_or_random_loss() {
    let mut fixture = fixture();
    fixture.next_large(400).unwrap();
    for _ in 0..5 {
        fixture.large(Large::Both, dropped());
        fixture.fail(1);
        fixture.probe(1, supporting(), 0);
        assert!(!matches!(fixture.verdict(1), Verdict::Mtu(_)), "a frozen peer");
    }
    for _ in 0..RECENT {
        fixture.probe(1, supporting(), 0);
    }
    assert_eq!(fixture.verdict(1), Verdict::Up, "a flaky path proves nothing about the size");
    for _ in 0..3 {
        fixture.probe(1, supporting(), 1);
    }
    assert_eq!(fixture.verdict(1), Verdict::Lossy);
    for _ in 0..5 {
        fixture.large(Large::Both, dropped());
        fixture.pass(Duration::from_secs(1));
        fixture.probe(1, supporting(), 0);
    }
    for _ in 0..RECENT {
        fixture.probe(1, supporting(), 0);
    }
    assert_eq!(fixture.verdict(1), Verdict::Up, "random loss proves nothing about the size");
}

#[test]
fn a_slow_path_leaves_a_large_probe_no_time_and_is_not_accused() {
    let mut fixture = Fixture::new([peer(1, None)]);
    let answer = Answer { can_large: true, ..Answer::default() };
    let time = Duration::from_millis(2200);
    let timings = Timings { connect: time, response: time, total: time * 2 };
    for _ in 0..1000 {
        fixture.pass(Duration::from_secs(1));
        let outcome = Outcome::Success { timings, answer: answer.clone() };
        if let Some(large) = large_of(&fixture.probe(1, outcome, 0)) {
            fixture.large(large, dropped());
        }
        assert_eq!(fixture.verdict(1), Verdict::Up);
    }
    assert!(fixture.record().large.failures > 5);
}

#[test]
fn a_blank_probe_that_began_before_the_large_one_ended_proves_nothing() {
    let mut fixture = fixture();
    fixture.next_large(400).unwrap();
    let large = fixture.begin_large(Large::Both);
    let blank = Report { outcome: supporting(), ..fixture.begin(1) };
    fixture.pass(Duration::from_secs(3));
    fixture.state.report_large(fixture.now, &Report { outcome: dropped(), ..large });
    assert_eq!(large_of(&fixture.state.report(fixture.now, &blank).unwrap()), None);
}

#[test]
fn a_peer_that_no_longer_supports_large_probes_has_no_mtu_fault() {
    let mut fixture = fixture();
    while fixture.verdict(1) == Verdict::Up {
        fixture.large_over(Path { incoming: 4, ..Path::default() });
    }
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.verdict(1), Verdict::Up, "another release runs there now");
}

#[test]
fn only_a_response_timeout_of_a_large_probe_proves_an_mtu_fault() {
    let mut fixture = Fixture::new([peer(1, None)]);
    let local = Outcome::Local(LocalError::NoPorts);
    for outcome in [Outcome::Failure(FailureReason::Refused), local] {
        for _ in 0..5 {
            let (large, _) = fixture.next_large(400).unwrap();
            assert_eq!(large, Large::Both);
            fixture.large(large, outcome.clone());
            assert_eq!(fixture.verdict(1), Verdict::Up, "{outcome:?}");
        }
    }
    assert_eq!(fixture.record().large.failures, 5, "local errors are not counted");
}

#[test]
fn a_large_report_of_the_old_address_is_ignored() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    fixture.next_large(400).unwrap();
    fixture.large(Large::Answer, dropped());
    let old = Report { outcome: dropped(), ..fixture.begin_large(Large::Both) };
    fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert_eq!(fixture.state.report_large(fixture.now, &old), vec![]);
    let large = &fixture.record().large;
    assert_eq!((large.failures, large.incoming.failures), (1, 1), "the counters stay");
}

#[test]
fn without_an_interval_no_large_probe_is_sent() {
    let state = MeshState::new(StateSettings { large_interval: Duration::ZERO, ..settings() });
    let mut fixture = Fixture { state, ..Fixture::new([]) };
    fixture.state.peers([peer(1, None)].into_iter().collect(), REFRESH);
    assert_eq!(fixture.next_large(1000), None);
}

/// A router that has lowered the path MTU, and the kernel that remembers it.
impl Fixture {
    fn probe_cached(&mut self, path_mtu: u32) -> Option<Large> {
        self.pass(Duration::from_secs(1));
        let kernel = Some(KernelView { path_mtu: Some(path_mtu), ..KernelView::default() });
        let report = Report { kernel, outcome: supporting(), ..self.begin(1) };
        large_of(&self.state.report(self.now, &report).unwrap())
    }

    fn learn(&mut self, large: Large, path_mtu: Option<u32>) {
        self.large_seen(large, success(), KernelView { path_mtu, ..KernelView::default() });
    }

    /// Seconds until the path itself is asked.
    fn until_asked(&mut self, cached: u32) -> u64 {
        for second in 1..400 {
            match self.probe_cached(cached) {
                Some(Large::Request { packet: Some(1500) }) => return second,
                Some(large) => self.learn(large, Some(cached)),
                None => {}
            }
        }
        panic!("never asked");
    }
}

const ASKING: Large = Large::Request { packet: Some(1500) };

#[test]
fn a_path_mtu_that_shrank_is_asked_for_again_each_minute_until_the_path_carries_it() {
    let mut fixture = Fixture::new([peer(1, None)]);
    assert_eq!((0..400).find_map(|_| fixture.probe_cached(1500)), Some(Large::Both));
    fixture.learn(Large::Both, Some(1300));
    assert_eq!(fixture.verdict(1), Verdict::Mtu(Direction::Outgoing), "the probe itself met it");
    assert!(fixture.until_asked(1300) <= 61);
    fixture.learn(ASKING, Some(1300));
    assert_eq!(fixture.verdict(1), Verdict::Mtu(Direction::Outgoing), "a router said so again");
    assert!(fixture.until_asked(1300).abs_diff(60) <= 2);
    fixture.learn(ASKING, None);
    assert_eq!(fixture.verdict(1), Verdict::Mtu(Direction::Outgoing), "no answer is no proof");
    assert!(fixture.until_asked(1300).abs_diff(60) <= 2);
    fixture.learn(ASKING, Some(1500));
    assert_eq!(fixture.verdict(1), Verdict::Up);
    assert_eq!(fixture.record().path_mtu, Some(1500));
    // The cache still has 1,300: the path is asked in place of each regular probe.
    assert!(fixture.until_asked(1300) > 200);
    assert_eq!(fixture.verdict(1), Verdict::Up);
    fixture.learn(ASKING, Some(1300));
    assert_eq!(fixture.verdict(1), Verdict::Mtu(Direction::Outgoing), "lowered again");
}

#[test]
fn a_path_mtu_that_the_cache_has_forgotten_is_not_healed_before_a_large_probe_passes() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe_cached(1500);
    fixture.probe_cached(1300);
    assert_eq!(fixture.verdict(1), Verdict::Mtu(Direction::Outgoing));
    let mut seconds = 0;
    let large = loop {
        seconds += 1;
        if let Some(large) = fixture.probe_cached(1500) {
            break large;
        }
        assert_eq!(fixture.verdict(1), Verdict::Mtu(Direction::Outgoing));
    };
    assert!(seconds <= 61, "{seconds}");
    fixture.learn(large, Some(1500));
    assert_eq!(fixture.verdict(1), Verdict::Up);
}

#[test]
fn without_large_probes_the_kernels_path_mtu_counts() {
    let mut fixture = Fixture::new([peer(1, None)]);
    for (path_mtu, verdict) in
        [(1370, Verdict::Up), (1280, Verdict::Mtu(Direction::Outgoing)), (1370, Verdict::Up)]
    {
        let kernel = Some(KernelView { path_mtu: Some(path_mtu), ..KernelView::default() });
        let report = Report { kernel, ..fixture.begin(1) };
        fixture.state.report(fixture.now, &report);
        assert_eq!(fixture.verdict(1), verdict);
    }
}

#[test]
fn of_two_directions_at_fault_the_one_that_heals_goes_and_the_other_stays() {
    let mut fixture = fixture();
    while fixture.verdict(1) != Verdict::Mtu(Direction::Both) {
        fixture.large_over(Path { outgoing: 4, incoming: 4, blank: 0 });
    }
    let mut sent = 0;
    while fixture.verdict(1) != Verdict::Mtu(Direction::Incoming) {
        assert_eq!(fixture.verdict(1), Verdict::Mtu(Direction::Both));
        fixture.large_over(Path { incoming: 4, ..Path::default() });
        sent += 1;
        assert!(sent <= 4);
    }
}
