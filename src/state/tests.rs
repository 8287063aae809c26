//! What the state promises, with a clock of our own.

mod goodbye;
mod incoming_syns;
mod large;

use proptest::prelude::*;

use super::*;
use crate::probe::{Answer, FailureReason, LocalError, ProbeKind, Timings};

const REFRESH: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(5);
const LARGE_INTERVAL: Duration = Duration::from_secs(300);

fn settings() -> StateSettings {
    StateSettings {
        failure_threshold: 3,
        interval: Duration::from_secs(10),
        large_interval: LARGE_INTERVAL,
        source: NodeName::new("me").unwrap(),
        drain: DRAIN,
        bounds: vec![0.01, 0.1, 1.0].into(),
    }
}

fn name(number: u8) -> NodeName {
    NodeName::new(&format!("n{number}")).unwrap()
}

fn instance(text: &str) -> Instance {
    Instance::new(text).unwrap()
}

fn peer(number: u8, life: Option<&str>) -> Peer {
    Peer {
        node: name(number),
        address: format!("10.0.0.{number}:9050").parse().unwrap(),
        other_addresses: Vec::new(),
        instance: life.map(instance),
        ready: life.map(|_| true),
    }
}

fn success() -> Outcome {
    let timings = Timings {
        connect: Duration::from_millis(20),
        response: Duration::from_millis(30),
        total: Duration::from_millis(50),
    };
    Outcome::Success { timings, answer: Answer::default() }
}

/// A state with a clock, and probes that begin and end at once.
struct Lab {
    state: MeshState,
    now: Moment,
    next: ProbeId,
}

impl Lab {
    fn new(peers: impl IntoIterator<Item = Peer>) -> Self {
        let mut state = MeshState::new(settings());
        state.peers(peers.into_iter().collect(), REFRESH);
        Self { state, now: Moment::now(), next: 0 }
    }

    fn pass(&mut self, time: Duration) -> Vec<Change> {
        self.now.instant += time;
        self.now.wall += time;
        self.state.tick(self.now.instant)
    }

    fn begin(&mut self, number: u8) -> Report {
        self.next += 1;
        self.state.begin(&name(number), self.next, self.now.instant);
        Report {
            id: self.next,
            node: name(number),
            due: self.now.instant,
            started: self.now.instant,
            ended: self.now.instant,
            kind: ProbeKind::Blank,
            outcome: success(),
            kernel: None,
        }
    }

    fn probe(&mut self, number: u8, outcome: Outcome, retransmits: u32) -> Vec<Change> {
        let kernel = Some(KernelView { retransmits, ..KernelView::default() });
        let report = Report { outcome, kernel, ..self.begin(number) };
        self.state.report(self.now, &report).unwrap()
    }

    fn fail(&mut self, number: u8) -> Vec<Change> {
        self.probe(number, Outcome::Failure(FailureReason::Refused), 0)
    }

    fn hear(&mut self, number: u8, life: &str, goodbye: Option<Duration>) -> Vec<Change> {
        let said = KeepAlive {
            node: name(number),
            instance: Some(instance(life)),
            interval: Some(Duration::from_secs(10)),
            goodbye,
            size: None,
        };
        self.state.receive_request(self.now, Some(&said))
    }

    fn verdict(&self, number: u8) -> Verdict {
        self.state.get(&name(number)).unwrap().verdict
    }
}

#[test]
fn a_peer_is_down_after_three_failures_in_a_row_and_up_after_one_success() {
    let mut lab = Lab::new([peer(1, None)]);
    assert_eq!(lab.verdict(1), Verdict::Unknown);
    lab.probe(1, success(), 0);
    assert_eq!(lab.verdict(1), Verdict::Up);
    assert_eq!(lab.fail(1), vec![Change::FirstFailure(name(1))]);
    assert_eq!(lab.fail(1), vec![]);
    assert_eq!(lab.verdict(1), Verdict::Up, "one lost packet flaps nothing");
    let down = Verdict::Down(FailureReason::Refused);
    let told = Change::Verdict { node: name(1), from: Verdict::Up, to: down };
    assert_eq!(lab.fail(1), vec![told]);
    lab.probe(1, success(), 0);
    assert_eq!(lab.verdict(1), Verdict::Up);
    let record = lab.state.get(&name(1)).unwrap();
    assert_eq!((record.successes, record.failed()), (2, 3));
    assert_eq!(record.latency.counts.iter().sum::<u64>(), 2, "successes only");
}

#[test]
fn slots_that_a_failing_probe_held_up_count_towards_down() {
    let timeout = FailureReason::ConnectTimeout;
    for (reason, took, failures) in [
        (timeout, 5, 3),
        (timeout, 9, 3),
        (timeout, 15, 2),
        (timeout, 25, 1),
        (FailureReason::Closed, 25, 3),
    ] {
        let mut lab = Lab::new([peer(1, None)]);
        lab.probe(1, success(), 0);
        for number in 1..=failures {
            assert_eq!(lab.verdict(1), Verdict::Up, "{took} s, before failure {number}");
            let report = Report { outcome: Outcome::Failure(reason), ..lab.begin(1) };
            lab.pass(Duration::from_secs(took));
            lab.state.report(lab.now, &Report { ended: lab.now.instant, ..report });
        }
        assert_eq!(lab.verdict(1), Verdict::Down(reason), "{took} s");
        lab.probe(1, success(), 0);
        lab.fail(1);
        assert_eq!(lab.verdict(1), Verdict::Up, "counted anew");
    }
}

#[test]
fn a_report_that_we_read_late_counts_once() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.probe(1, success(), 0);
    let outcome = Outcome::Failure(FailureReason::ConnectTimeout);
    let report = Report { outcome, ..lab.begin(1) };
    lab.pass(Duration::from_secs(100));
    lab.state.report(lab.now, &report);
    assert_eq!(lab.verdict(1), Verdict::Up, "it failed at once; the rest was our sleep");
}

#[test]
fn a_short_outage_both_ways_makes_nobody_one_way() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.probe(1, success(), 0);
    lab.hear(1, "a", None);
    lab.pass(Duration::from_secs(5));
    for _ in 0..2 {
        lab.fail(1);
        lab.pass(Duration::from_secs(16));
    }
    lab.probe(1, success(), 0);
    assert_eq!(lab.verdict(1), Verdict::Up, "our probe came through first");
    lab.pass(Duration::from_secs(34));
    assert_eq!(lab.verdict(1), Verdict::Up);
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.verdict(1), Verdict::OneWay, "from then on its requests are due");
}

#[test]
fn a_new_life_with_a_longer_interval_is_given_the_time() {
    let mut lab = Lab::new([peer(1, None)]);
    let said = |life: &str, seconds: u64| KeepAlive {
        node: name(1),
        instance: Some(instance(life)),
        interval: Some(Duration::from_secs(seconds)),
        goodbye: None,
        size: None,
    };
    let Outcome::Success { timings, answer } = success() else { unreachable!() };
    let answer = Answer { instance: Some(instance("a")), ..answer };
    lab.probe(1, Outcome::Success { timings, answer }, 0);
    lab.state.receive_request(lab.now, Some(&said("a", 1)));
    lab.state.receive_request(lab.now, Some(&said("b", 60)));
    lab.pass(Duration::from_secs(59));
    assert_eq!(lab.verdict(1), Verdict::Up);
}

#[test]
fn a_fault_of_our_own_counts_against_no_peer() {
    let mut lab = Lab::new([peer(1, None)]);
    for _ in 0..10 {
        assert_eq!(lab.probe(1, Outcome::Local(LocalError::NoPorts), 0), vec![]);
    }
    let record = lab.state.get(&name(1)).unwrap();
    assert_eq!((record.successes, record.failed(), record.recent.len()), (0, 0, 0));
    assert_eq!(record.verdict, Verdict::Unknown);
}

#[test]
fn a_path_that_loses_packets_is_lossy_and_up() {
    let mut lab = Lab::new([peer(1, None)]);
    for retransmits in [0, 0, 0, 0, 1, 0, 0, 1] {
        lab.probe(1, success(), retransmits);
    }
    assert_eq!(lab.verdict(1), Verdict::Lossy);
    assert_eq!(lab.state.get(&name(1)).unwrap().up, Some(true));
    for _ in 0..RECENT {
        lab.probe(1, success(), 0);
    }
    assert_eq!(lab.verdict(1), Verdict::Up);
    assert_eq!(lab.state.get(&name(1)).unwrap().retransmits, 2);
}

#[test]
fn a_peer_that_fell_silent_is_one_way_and_one_never_heard_is_not() {
    let mut lab = Lab::new([peer(1, None), peer(2, None)]);
    lab.probe(1, success(), 0);
    lab.probe(2, success(), 0);
    lab.hear(1, "a", None);
    lab.pass(Duration::from_secs(34));
    assert_eq!(lab.verdict(1), Verdict::Up);
    lab.pass(Duration::from_secs(2));
    assert_eq!((lab.verdict(1), lab.verdict(2)), (Verdict::OneWay, Verdict::Up));
    lab.hear(1, "a", None);
    assert_eq!(lab.verdict(1), Verdict::Up);
}

#[test]
fn a_path_mtu_below_the_largest_seen_is_told() {
    let mut lab = Lab::new([peer(1, None)]);
    for (path_mtu, verdict) in [(1370, Verdict::Up), (1280, Verdict::Mtu), (1370, Verdict::Up)] {
        let kernel = Some(KernelView { path_mtu: Some(path_mtu), ..KernelView::default() });
        let report = Report { kernel, ..lab.begin(1) };
        lab.state.report(lab.now, &report);
        assert_eq!(lab.verdict(1), verdict);
    }
}

#[test]
fn after_an_outage_both_ways_nobody_is_one_way_or_lossy() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.probe(1, success(), 0);
    lab.hear(1, "a", None);
    for _ in 0..6 {
        lab.pass(Duration::from_secs(10));
        lab.probe(1, Outcome::Failure(FailureReason::ConnectTimeout), 3);
    }
    assert_eq!(lab.verdict(1), Verdict::Down(FailureReason::ConnectTimeout));
    lab.probe(1, success(), 1);
    assert_eq!(lab.verdict(1), Verdict::Up, "silence counts from here");
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.verdict(1), Verdict::Up, "our probe came through before its own");
    lab.probe(1, success(), 0);
    assert_eq!(lab.verdict(1), Verdict::Up);
}

#[test]
fn a_peer_that_moved_is_not_judged_by_its_old_place() {
    let mut lab = Lab::new([peer(1, Some("a"))]);
    for _ in 0..3 {
        lab.fail(1);
    }
    let old = lab.begin(1);
    let changes = lab.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert!(changes.contains(&Change::Schedule(name(1))));
    let late = Report { outcome: Outcome::Failure(FailureReason::ConnectTimeout), ..old };
    assert_eq!(lab.state.report(lab.now, &late), None, "a report of the old place");
    assert_eq!((lab.verdict(1), lab.state.get(&name(1)).unwrap().up), (Verdict::Unknown, None));
    assert_eq!(lab.state.get(&name(1)).unwrap().failed(), 3);
}

#[test]
fn strangers_are_counted_together_and_asked_about() {
    let mut lab = Lab::new([peer(1, None)]);
    assert_eq!(lab.hear(9, "a", None), vec![Change::UnknownSender(name(9), Some(instance("a")))]);
    assert_eq!(lab.state.receive_request(lab.now, None), vec![]);
    assert_eq!(lab.state.snapshot(lab.now).incoming_unknown, 2);
}

#[test]
fn a_snapshot_does_not_change_under_its_reader() {
    let mut lab = Lab::new([peer(1, None)]);
    let before = lab.state.snapshot(lab.now);
    lab.probe(1, success(), 0);
    assert_eq!(before.peers[0].successes, 0);
    assert_eq!(lab.state.snapshot(lab.now).peers[0].successes, 1);
}

#[derive(Debug, Clone)]
enum Operation {
    List(Vec<(u8, u8)>),
    Begin(u8),
    Report(usize, u8),
    Hear(u8, u8, bool),
    Pass(u16),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let listed = proptest::collection::vec((0..5_u8, 0..3_u8), 0..5);
    let operation = prop_oneof![
        1 => listed.prop_map(Operation::List),
        4 => (0..5_u8).prop_map(Operation::Begin),
        4 => (0..8_usize, 0..4_u8).prop_map(|(which, end)| Operation::Report(which, end)),
        3 => (0..6_u8, 0..3_u8, any::<bool>()).prop_map(|(n, l, g)| Operation::Hear(n, l, g)),
        2 => (0..60_000_u16).prop_map(Operation::Pass),
    ];
    proptest::collection::vec(operation, 1..200)
}

proptest! {
    #[test]
    fn counters_only_rise_and_none_remains_of_a_peer_that_left(operations in operations()) {
        let mut lab = Lab::new([]);
        let mut begun: Vec<Report> = Vec::new();
        let mut reported = 0_u64;
        for operation in operations {
            let before = lab.state.snapshot(lab.now);
            match operation {
                Operation::List(list) => {
                    let set: PeerSet = list
                        .iter()
                        .map(|(number, life)| peer(*number, Some(&format!("life{life}"))))
                        .collect();
                    let nodes: Vec<NodeName> = set.iter().map(|peer| peer.node.clone()).collect();
                    lab.state.peers(set, REFRESH);
                    let kept = lab.state.snapshot(lab.now);
                    let kept: Vec<NodeName> =
                        kept.peers.iter().map(|record| record.peer.node.clone()).collect();
                    prop_assert_eq!(kept, nodes);
                }
                Operation::Begin(number) => {
                    let report = lab.begin(number);
                    begun.push(report);
                }
                Operation::Report(which, end) if !begun.is_empty() => {
                    let report = begun.swap_remove(which % begun.len());
                    let outcome = match end {
                        0 => success(),
                        1 => Outcome::Local(LocalError::NoDescriptors),
                        _ => Outcome::Failure(FailureReason::ALL[usize::from(end)]),
                    };
                    reported += 1;
                    lab.state.report(lab.now, &Report { outcome, ..report });
                }
                Operation::Report(..) => {}
                Operation::Hear(number, life, goodbye) => {
                    lab.hear(number, &format!("life{life}"), goodbye.then_some(DRAIN));
                }
                Operation::Pass(milliseconds) => {
                    lab.pass(Duration::from_millis(milliseconds.into()));
                }
            }
            let after = lab.state.snapshot(lab.now);
            let mut counted = 0;
            for record in &after.peers {
                prop_assert!(record.recent.len() <= RECENT);
                prop_assert_eq!(record.latency.counts.iter().sum::<u64>(), record.successes);
                let drained = record.draining_until;
                prop_assert_eq!(drained.is_some(), record.verdict == Verdict::Draining);
                prop_assert!(drained.is_none_or(|until| until
                    <= lab.now.instant + DRAIN + REFRESH));
                counted += record.successes + record.failed();
                let earlier = before.peers.iter().find(|old| old.peer.node == record.peer.node);
                if let Some(earlier) = earlier {
                    prop_assert!(earlier.successes <= record.successes);
                    prop_assert!(earlier.incoming <= record.incoming);
                    let pairs = earlier.failures.iter().zip(record.failures);
                    prop_assert!(pairs.into_iter().all(|(old, new)| *old <= new));
                }
            }
            prop_assert!(counted <= reported);
        }
    }
}

#[test]
fn a_stranger_cannot_announce_an_interval_in_a_peers_name() {
    let mut lab = Lab::new([peer(1, Some("a"))]);
    lab.probe(1, success(), 0);
    lab.hear(1, "a", None);
    let forged = KeepAlive {
        node: name(1),
        instance: Some(instance("forged")),
        interval: Some(Duration::ZERO),
        goodbye: None,
        size: None,
    };
    lab.state.receive_request(lab.now, Some(&forged));
    lab.pass(Duration::from_secs(10));
    assert_eq!(lab.verdict(1), Verdict::Up);
}

#[test]
fn what_we_slept_through_is_no_silence_of_others() {
    let mut lab = Lab::new([peer(1, None)]);
    lab.probe(1, success(), 0);
    lab.hear(1, "a", None);
    lab.now.instant += Duration::from_secs(3600);
    lab.state.restart_listening(lab.now.instant);
    lab.pass(Duration::from_secs(34));
    assert_eq!(lab.verdict(1), Verdict::Up);
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.verdict(1), Verdict::OneWay, "silent since we are awake");
}

/// A large mesh keeps thousands of them, and readers hold a second copy for a moment.
#[test]
fn a_record_is_small() {
    assert!(size_of::<PeerRecord>() <= 552, "{}", size_of::<PeerRecord>());
    assert!(size_of::<Sample>() <= 24, "{}", size_of::<Sample>());
}
