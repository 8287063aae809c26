//! The state with a virtual clock.

mod beside;
mod flaky;
mod gap;
mod goodbye;
mod incoming;
mod incoming_retransmits;
mod large;
mod largest;
mod path;
mod rest;
mod rhythm;
mod tokens;

pub(crate) use path::peers_at;
use proptest::prelude::*;

use super::*;
use crate::probe::{Answer, FailureReason, KernelView, LocalError, ProbeKind, Timings};
use crate::token::Token;

const REFRESH: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(5);
const LARGE_INTERVAL: Duration = Duration::from_secs(300);

fn settings() -> StateSettings {
    StateSettings {
        failure_threshold: 3,
        interval: Duration::from_secs(10),
        large_interval: LARGE_INTERVAL,
        host_port: Some(9050),
        source: NodeName::new("me").unwrap(),
        drain: DRAIN,
        bounds: vec![0.01, 0.1, 1.0].into(),
        key: TokenKey::new(b"key"),
    }
}

fn name(number: u8) -> NodeName {
    NodeName::new(&format!("n{number}")).unwrap()
}

fn instance(text: &str) -> Instance {
    Instance::new(text).unwrap()
}

fn peer(number: u8, uid: Option<&str>) -> Peer {
    Peer {
        node: name(number),
        address: format!("10.0.0.{number}:9050").parse().unwrap(),
        other_addresses: Vec::new(),
        host: None,
        instance: uid.map(instance),
        ready: uid.map(|_| true),
    }
}

/// The record of a peer of which nothing is known.
pub(super) fn record() -> PeerRecord {
    PeerRecord::new(peer(1, None), 0)
}

fn success() -> Outcome {
    let timings = Timings {
        connect: Duration::from_millis(20),
        response: Duration::from_millis(30),
        total: Duration::from_millis(50),
    };
    Outcome::Success { timings, answer: Answer::default() }
}

/// A success with these fields in the answer.
fn answered(answer: Answer) -> Outcome {
    let Outcome::Success { timings, .. } = success() else { unreachable!() };
    Outcome::Success { timings, answer }
}

/// The answer of an agent that shows tokens.
fn capable(sender: &str) -> Outcome {
    let instance = Some(instance(sender));
    answered(Answer { instance, can_token: true, ..Answer::default() })
}

fn draining(sender: &str) -> Outcome {
    let instance = Some(instance(sender));
    answered(Answer { instance, draining: true, ..Answer::default() })
}

fn refused() -> Outcome {
    Outcome::Failure(FailureReason::Refused)
}

/// A state with a virtual clock, and probes that end at once.
struct Fixture {
    state: MeshState,
    now: Moment,
    next: ProbeId,
    /// Of the last scan for half-open connections.
    changes: Vec<Change>,
}

impl Fixture {
    fn new(peers: impl IntoIterator<Item = Peer>) -> Self {
        let mut state = MeshState::new(settings());
        state.peers(peers.into_iter().collect(), REFRESH);
        Self { state, now: Moment::now(), next: 0, changes: Vec::new() }
    }

    fn pass(&mut self, time: Duration) -> Vec<Change> {
        self.now.instant += time;
        self.now.wall += time;
        self.state.tick(self.now.instant)
    }

    fn begin(&mut self, number: u8) -> Report {
        self.next += 1;
        self.state.begin(&name(number), self.next);
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

    fn receive(&mut self, number: u8, sender: &str, goodbye: Option<Duration>) -> Vec<Change> {
        let request = KeepAlive {
            node: name(number),
            instance: Some(instance(sender)),
            interval: Some(Duration::from_secs(10)),
            goodbye,
            token: None,
            size: None,
        };
        self.state.receive_request(self.now, Some(&request))
    }

    /// As [`Self::receive`], with this agent's token for the sender.
    fn receive_proof(
        &mut self,
        number: u8,
        sender: &str,
        goodbye: Option<Duration>,
    ) -> Vec<Change> {
        let own = self.state.settings.key.own(&name(number), Some(&instance(sender)));
        let token = Some(PairToken { own: Token::read("ofthesende").unwrap(), echo: Some(own) });
        let request = KeepAlive {
            node: name(number),
            instance: Some(instance(sender)),
            interval: Some(Duration::from_secs(10)),
            goodbye,
            token,
            size: None,
        };
        self.state.receive_request(self.now, Some(&request))
    }

    /// Makes the check that a change asks for; it ends at once.
    fn check(&mut self, number: u8, outcome: Outcome) -> Vec<Change> {
        self.next += 1;
        self.state.begin_check(&name(number), self.next);
        let now = self.now.instant;
        let report = Report {
            id: self.next,
            node: name(number),
            due: now,
            started: now,
            ended: now,
            kind: ProbeKind::Check,
            outcome,
            kernel: None,
        };
        self.state.report_check(self.now, &report)
    }

    fn verdict(&self, number: u8) -> Verdict {
        self.state.get(&name(number)).unwrap().verdict
    }
}

#[test]
fn a_peer_is_down_after_three_failures_in_a_row_and_up_after_one_success() {
    let mut fixture = Fixture::new([peer(1, None)]);
    assert_eq!(fixture.verdict(1), Verdict::Unknown);
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.verdict(1), Verdict::Up);
    assert_eq!(fixture.fail(1), vec![Change::FirstFailure(name(1))]);
    assert_eq!(fixture.fail(1), vec![]);
    assert_eq!(fixture.verdict(1), Verdict::Up, "one lost packet changes no verdict");
    let down = Verdict::Down(FailureReason::Refused);
    let change = Change::Verdict { node: name(1), from: Verdict::Up, to: down };
    assert_eq!(fixture.fail(1), vec![change]);
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.verdict(1), Verdict::Up);
    let record = fixture.state.get(&name(1)).unwrap();
    assert_eq!((record.successes, record.failed()), (2, 3));
    assert_eq!(record.latency.counts.iter().sum::<u64>(), 2, "successes only");
}

#[test]
fn slots_that_pass_during_a_timeout_count_towards_down() {
    let timeout = FailureReason::ConnectTimeout;
    for (reason, took, failures) in [
        (timeout, 5, 3),
        (timeout, 9, 3),
        (timeout, 15, 2),
        (timeout, 25, 1),
        (FailureReason::Closed, 25, 3),
    ] {
        let mut fixture = Fixture::new([peer(1, None)]);
        fixture.probe(1, success(), 0);
        for number in 1..=failures {
            assert_eq!(fixture.verdict(1), Verdict::Up, "{took} s, before failure {number}");
            let report = Report { outcome: Outcome::Failure(reason), ..fixture.begin(1) };
            fixture.pass(Duration::from_secs(took));
            fixture.state.report(fixture.now, &Report { ended: fixture.now.instant, ..report });
        }
        assert_eq!(fixture.verdict(1), Verdict::Down(reason), "{took} s");
        fixture.probe(1, success(), 0);
        fixture.fail(1);
        assert_eq!(fixture.verdict(1), Verdict::Up, "the count restarts");
    }
}

#[test]
fn a_report_read_late_counts_once() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe(1, success(), 0);
    let outcome = Outcome::Failure(FailureReason::ConnectTimeout);
    let report = Report { outcome, ..fixture.begin(1) };
    fixture.pass(Duration::from_secs(100));
    fixture.state.report(fixture.now, &report);
    assert_eq!(
        fixture.verdict(1),
        Verdict::Up,
        "it failed at once; the rest was a delay of this agent"
    );
}

#[test]
fn a_short_outage_in_both_directions_makes_no_peer_one_way() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe(1, success(), 0);
    fixture.receive(1, "a", None);
    fixture.pass(Duration::from_secs(5));
    for _ in 0..2 {
        fixture.fail(1);
        fixture.pass(Duration::from_secs(16));
    }
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.verdict(1), Verdict::Up, "this agent's probe succeeded first");
    fixture.pass(Duration::from_secs(34));
    assert_eq!(fixture.verdict(1), Verdict::Up);
    fixture.pass(Duration::from_secs(2));
    assert_eq!(fixture.verdict(1), Verdict::OneWay, "its requests are due from the success on");
}

#[test]
fn a_local_error_counts_against_no_peer() {
    let mut fixture = Fixture::new([peer(1, None)]);
    for _ in 0..10 {
        assert_eq!(fixture.probe(1, Outcome::Local(LocalError::NoPorts), 0), vec![]);
    }
    let record = fixture.state.get(&name(1)).unwrap();
    assert_eq!((record.successes, record.failed(), record.recent.len()), (0, 0, 0));
    assert_eq!(record.verdict, Verdict::Unknown);
}

#[test]
fn a_path_that_loses_packets_is_lossy_and_the_peer_is_up() {
    let mut fixture = Fixture::new([peer(1, None)]);
    for retransmits in [0, 0, 0, 0, 1, 0, 0, 1] {
        fixture.probe(1, success(), retransmits);
    }
    assert_eq!(fixture.verdict(1), Verdict::Up, "chance");
    fixture.probe(1, success(), 1);
    assert_eq!(fixture.verdict(1), Verdict::Lossy, "three of the last five");
    assert_eq!(fixture.state.get(&name(1)).unwrap().up, Some(true));
    for _ in 0..RECENT {
        fixture.probe(1, success(), 0);
    }
    assert_eq!(fixture.verdict(1), Verdict::Up);
    assert_eq!(fixture.state.get(&name(1)).unwrap().retransmits, 3);
}

#[test]
fn three_losses_apart_are_chance_and_a_fourth_of_thirty_probes_is_loss() {
    let spread = |last_gap: usize| {
        let mut fixture = Fixture::new([peer(1, None)]);
        for gap in [8, 8, last_gap] {
            fixture.probe(1, success(), 1);
            assert_eq!(fixture.verdict(1), Verdict::Up, "chance");
            for _ in 0..gap {
                fixture.probe(1, success(), 0);
            }
        }
        fixture
    };
    let mut within = spread(10);
    within.probe(1, success(), 1);
    assert_eq!(within.verdict(1), Verdict::Lossy);
    for _ in 0..RECENT {
        within.probe(1, success(), 0);
    }
    assert_eq!(within.verdict(1), Verdict::Up, "none of the last twenty");
    let mut beyond = spread(11);
    beyond.probe(1, success(), 1);
    assert_eq!(beyond.verdict(1), Verdict::Up);
}

#[test]
fn a_peer_that_becomes_silent_is_one_way_and_one_without_any_request_is_not() {
    let mut fixture = Fixture::new([peer(1, None), peer(2, None)]);
    fixture.probe(1, success(), 0);
    fixture.probe(2, success(), 0);
    fixture.receive(1, "a", None);
    fixture.pass(Duration::from_secs(34));
    assert_eq!(fixture.verdict(1), Verdict::Up);
    fixture.pass(Duration::from_secs(2));
    assert_eq!((fixture.verdict(1), fixture.verdict(2)), (Verdict::OneWay, Verdict::Up));
    fixture.receive(1, "a", None);
    assert_eq!(fixture.verdict(1), Verdict::Up);
}

#[test]
fn after_an_outage_in_both_directions_no_peer_is_one_way_or_lossy() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe(1, success(), 0);
    fixture.receive(1, "a", None);
    for _ in 0..6 {
        fixture.pass(Duration::from_secs(10));
        fixture.probe(1, Outcome::Failure(FailureReason::ConnectTimeout), 3);
    }
    assert_eq!(fixture.verdict(1), Verdict::Down(FailureReason::ConnectTimeout));
    fixture.probe(1, success(), 1);
    assert_eq!(fixture.verdict(1), Verdict::Up, "silence counts from the success on");
    fixture.pass(Duration::from_secs(1));
    assert_eq!(
        fixture.verdict(1),
        Verdict::Up,
        "this agent's probe succeeded before a request of the peer"
    );
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.verdict(1), Verdict::Up);
}

#[test]
fn a_peer_that_moved_is_not_judged_by_its_old_address() {
    let mut fixture = Fixture::new([peer(1, Some("a"))]);
    for _ in 0..3 {
        fixture.fail(1);
    }
    let old = fixture.begin(1);
    let changes = fixture.state.peers([peer(1, Some("b"))].into_iter().collect(), REFRESH);
    assert!(changes.contains(&Change::Schedule(name(1))));
    let late = Report { outcome: Outcome::Failure(FailureReason::ConnectTimeout), ..old };
    assert_eq!(fixture.state.report(fixture.now, &late), None, "a report of the old address");
    assert_eq!(
        (fixture.verdict(1), fixture.state.get(&name(1)).unwrap().up),
        (Verdict::Unknown, None)
    );
    assert_eq!(fixture.state.get(&name(1)).unwrap().failed(), 3);
}

#[test]
fn unknown_senders_are_counted_together_and_reported() {
    let mut fixture = Fixture::new([peer(1, None)]);
    assert_eq!(
        fixture.receive(9, "a", None),
        vec![Change::UnknownSender(name(9), Some(instance("a")))]
    );
    assert_eq!(fixture.state.receive_request(fixture.now, None), vec![]);
    assert_eq!(fixture.state.snapshot(fixture.now).incoming_unknown, 2);
}

#[test]
fn a_snapshot_is_immutable() {
    let mut fixture = Fixture::new([peer(1, None)]);
    let before = fixture.state.snapshot(fixture.now);
    fixture.probe(1, success(), 0);
    assert_eq!(before.peers[0].successes, 0);
    assert_eq!(fixture.state.snapshot(fixture.now).peers[0].successes, 1);
}

#[derive(Debug, Clone)]
enum Operation {
    List(Vec<(u8, u8)>),
    Begin(u8),
    Report(usize, u8),
    Receive(u8, u8, bool),
    Pass(u16),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let listed = proptest::collection::vec((0..5_u8, 0..3_u8), 0..5);
    let operation = prop_oneof![
        1 => listed.prop_map(Operation::List),
        4 => (0..5_u8).prop_map(Operation::Begin),
        4 => (0..8_usize, 0..4_u8).prop_map(|(which, end)| Operation::Report(which, end)),
        3 => (0..6_u8, 0..3_u8, any::<bool>()).prop_map(|(n, l, g)| Operation::Receive(n, l, g)),
        2 => (0..60_000_u16).prop_map(Operation::Pass),
    ];
    proptest::collection::vec(operation, 1..200)
}

proptest! {
    #[test]
    fn counters_only_rise_and_those_of_a_peer_that_left_are_gone(operations in operations()) {
        let mut fixture = Fixture::new([]);
        let mut begun: Vec<Report> = Vec::new();
        let mut reported = 0_u64;
        for operation in operations {
            let before = fixture.state.snapshot(fixture.now);
            match operation {
                Operation::List(list) => {
                    let set: PeerSet = list
                        .iter()
                        .map(|(number, uid)| peer(*number, Some(&format!("uid{uid}"))))
                        .collect();
                    let nodes: Vec<NodeName> = set.iter().map(|peer| peer.node.clone()).collect();
                    fixture.state.peers(set, REFRESH);
                    let stored = fixture.state.snapshot(fixture.now);
                    let stored: Vec<NodeName> =
                        stored.peers.iter().map(|record| record.peer.node.clone()).collect();
                    prop_assert_eq!(stored, nodes);
                }
                Operation::Begin(number) => {
                    let report = fixture.begin(number);
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
                    fixture.state.report(fixture.now, &Report { outcome, ..report });
                }
                Operation::Report(..) => {}
                Operation::Receive(number, uid, goodbye) => {
                    fixture.receive(number, &format!("uid{uid}"), goodbye.then_some(DRAIN));
                }
                Operation::Pass(milliseconds) => {
                    fixture.pass(Duration::from_millis(milliseconds.into()));
                }
            }
            let after = fixture.state.snapshot(fixture.now);
            let mut counted = 0;
            for record in &after.peers {
                prop_assert!(record.recent.len() <= RECENT);
                prop_assert_eq!(record.latency.counts.iter().sum::<u64>(), record.successes);
                let drained = record.draining_until;
                prop_assert_eq!(drained.is_some(), record.verdict == Verdict::Draining);
                prop_assert!(drained.is_none_or(|until| until
                    <= fixture.now.instant + DRAIN + REFRESH));
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

/// A large mesh has thousands of them, and readers briefly hold a second copy.
#[test]
fn a_record_is_small() {
    assert!(size_of::<PeerRecord>() <= 880, "{}", size_of::<PeerRecord>());
    assert!(size_of::<Sample>() <= 24, "{}", size_of::<Sample>());
}
