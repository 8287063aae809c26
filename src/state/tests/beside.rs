//! When the host behind a peer is asked, when flows are repeated, and what is made of the results.

use super::*;
use crate::experiment::{DeadFlows, Experiment, ExperimentReport, Found, HostState};

const SECOND: Duration = Duration::from_secs(1);
const BASELINE: Duration = Duration::from_secs(300);
const HOST: &str = "192.0.2.1:9050";
const DEAD: Found = Found::Flows(Some(DeadFlows { dead: 4, flows: 16 }));

fn with_host(number: u8) -> Peer {
    Peer { host: Some(format!("192.0.2.{number}").parse().unwrap()), ..peer(number, Some("a")) }
}

fn timeout() -> Outcome {
    Outcome::Failure(FailureReason::ConnectTimeout)
}

impl Fixture {
    /// The experiment that is due of the first peer.
    fn due(&self) -> Option<Experiment> {
        let due = self.state.due_experiments(self.now);
        due.into_iter().find(|(node, _)| *node == name(1)).map(|(_, experiment)| experiment)
    }

    /// The address of the host that is due to be asked.
    fn asked(&self) -> Option<String> {
        match self.due()? {
            Experiment::Host { address } => Some(address.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn start(&mut self) -> Experiment {
        let due = self.due().expect("an experiment is due");
        self.state.begin_experiment(self.now, &name(1), &due, true);
        due
    }

    fn finish(&mut self, experiment: &Experiment, found: Found) {
        let report = ExperimentReport {
            node: name(1),
            address: experiment.address(),
            ended: self.now.instant,
            found,
        };
        self.state.report_experiment(self.now, &report);
    }

    /// Asks the host, which is due, and returns what is known then.
    fn ask(&mut self, answers: bool) -> Option<HostState> {
        let experiment = self.start();
        assert_eq!(experiment.address().to_string(), HOST);
        self.finish(&experiment, Found::Host(Some(answers)));
        self.host()
    }

    fn host(&self) -> Option<HostState> {
        self.state.get(&name(1)).unwrap().experiments.host.state
    }

    /// The seconds until the next experiment is due, up to an hour.
    fn until_due(&mut self) -> u64 {
        (0..3600).find(|_| self.due().is_some() || self.pass(SECOND).len() > 99).unwrap_or(3600)
    }

    fn flows(&self) -> Option<DeadFlows> {
        self.state.get(&name(1)).unwrap().experiments.flows.dead
    }

    /// Probes from these source ports; those below 1000 time out.
    fn probe_at_ports(&mut self, ports: &[u16]) {
        for port in ports {
            self.pass(10 * SECOND);
            let outcome = if *port < 1000 { timeout() } else { success() };
            let kernel = Some(KernelView { source_port: Some(*port), ..KernelView::default() });
            let report = Report { outcome, kernel, ..self.begin(1) };
            self.state.report(self.now, &report);
        }
    }
}

/// A peer that is up, and whose host has answered.
fn answered_before() -> Fixture {
    let mut fixture = Fixture::new([with_host(1)]);
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.ask(true), Some(HostState::Answers));
    fixture
}

#[test]
fn a_host_is_asked_after_the_first_success_at_the_offset_of_its_pair_and_each_5_minutes() {
    let mut fixture = Fixture::new([with_host(1)]);
    assert_eq!(fixture.asked(), None, "nothing is known of the peer");
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.ask(true), Some(HostState::Answers));
    let offset = settings().source.share(&name(1), BASELINE).as_secs();
    assert!(fixture.until_due().abs_diff(offset) <= 1);
    for _ in 0..2 {
        fixture.ask(true);
        assert_eq!(fixture.until_due(), 300);
    }
}

#[test]
fn without_a_host_or_a_port_none_is_asked() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.due(), None);
    let mut fixture = Fixture::new([]);
    fixture.state = MeshState::new(StateSettings { host_port: None, ..settings() });
    fixture.state.peers([with_host(1)].into_iter().collect(), REFRESH);
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.due(), None, "off");
    let mut fixture = answered_before();
    fixture.probe(1, draining("a"), 0);
    assert_eq!((fixture.verdict(1), fixture.due()), (Verdict::Draining, None));
}

#[test]
fn when_probes_begin_to_fail_the_host_is_asked_at_once_and_each_minute() {
    for answers in [true, false] {
        let mut fixture = answered_before();
        fixture.pass(SECOND);
        fixture.fail(1);
        assert_eq!(fixture.host(), None, "of before the failure");
        let expected = if answers { HostState::Answers } else { HostState::Silent };
        if !answers {
            assert_eq!(fixture.ask(false), None, "one SYN may be lost");
            assert_eq!(fixture.until_due(), 5);
        }
        assert_eq!(fixture.ask(answers), Some(expected));
        for _ in 0..3 {
            fixture.fail(1);
            assert_eq!((fixture.until_due(), fixture.ask(answers)), (60, Some(expected)));
        }
        assert_eq!(fixture.verdict(1), Verdict::Down(FailureReason::Refused));
        // It may come back before its pod does.
        fixture.until_due();
        assert_eq!(fixture.ask(true), Some(HostState::Answers));
        fixture.probe(1, success(), 0);
        assert_eq!(fixture.host(), None, "of the outage");
    }
}

#[test]
fn a_host_that_never_answered_is_not_silent() {
    let mut fixture = Fixture::new([with_host(1)]);
    fixture.probe(1, success(), 0);
    assert_eq!(fixture.ask(false), None);
    fixture.fail(1);
    for _ in 0..5 {
        assert_eq!(fixture.ask(false), None);
        assert_eq!(fixture.until_due(), 60);
    }
    assert_eq!(fixture.ask(true), Some(HostState::Answers), "but it may answer");
}

#[test]
fn a_host_that_stops_to_answer_while_its_pod_answers_is_filtered() {
    let mut fixture = answered_before();
    fixture.until_due();
    assert_eq!(fixture.ask(false), Some(HostState::Answers), "one SYN may be lost");
    assert_eq!(fixture.until_due(), 5);
    assert_eq!(fixture.ask(false), None);
    fixture.fail(1);
    for _ in 0..3 {
        assert_eq!(fixture.ask(false), None);
        fixture.until_due();
    }
}

#[test]
fn an_answer_to_an_earlier_question_tells_nothing_of_an_outage() {
    let mut fixture = Fixture::new([with_host(1)]);
    fixture.probe(1, success(), 0);
    let baseline = fixture.start();
    fixture.fail(1);
    assert_eq!(fixture.due(), None, "one is in flight");
    fixture.finish(&baseline, Found::Host(Some(true)));
    assert_eq!(fixture.host(), None);
    for expected in [None, Some(HostState::Silent)] {
        fixture.until_due();
        assert_eq!(fixture.ask(false), expected, "it has answered before");
    }
}

#[test]
fn what_could_not_be_asked_changes_nothing_until_the_last_answer_is_old() {
    let mut fixture = answered_before();
    fixture.fail(1);
    assert_eq!(fixture.ask(true), Some(HostState::Answers));
    fixture.until_due();
    let experiment = fixture.start();
    fixture.finish(&experiment, Found::Host(None));
    assert_eq!((fixture.host(), fixture.until_due()), (Some(HostState::Answers), 60));
    let experiment = fixture.start();
    fixture.finish(&experiment, Found::Host(None));
    assert_eq!((fixture.host(), fixture.until_due()), (None, 60), "not asked for two minutes");
    let due = fixture.due().unwrap();
    fixture.state.begin_experiment(fixture.now, &name(1), &due, false);
    assert_eq!(fixture.until_due(), 0, "a full queue");
}

#[test]
fn a_host_outlives_its_pod_and_another_one_is_unknown() {
    let mut fixture = answered_before();
    let replaced = Peer { instance: Some(instance("b")), ..with_host(1) };
    fixture.fail(1);
    fixture.state.peers([replaced.clone()].into_iter().collect(), REFRESH);
    fixture.probe(1, success(), 0);
    let offset = settings().source.share(&name(1), BASELINE).as_secs();
    assert_eq!(fixture.ask(true), Some(HostState::Answers));
    assert!(fixture.until_due().abs_diff(offset) <= 1, "healthy");
    fixture.fail(1);
    for expected in [None, Some(HostState::Silent)] {
        fixture.until_due();
        assert_eq!(fixture.ask(false), expected);
    }
    let moved = Peer { host: Some("192.0.2.9".parse().unwrap()), ..replaced };
    let changes = fixture.state.peers([moved].into_iter().collect(), REFRESH);
    assert_eq!((changes, fixture.host()), (vec![], None), "the same peer");
    assert_eq!(fixture.state.get(&name(1)).unwrap().consecutive_failures, 1);
    for _ in 0..3 {
        assert_eq!(fixture.asked().as_deref(), Some("192.0.2.9:9050"));
        let experiment = fixture.start();
        fixture.finish(&experiment, Found::Host(Some(false)));
        assert_eq!((fixture.host(), fixture.until_due()), (None, 60));
    }
}

#[test]
fn flows_are_repeated_while_connects_time_out_in_turns() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe_at_ports(&[5001, 5002, 101, 5003, 5004]);
    assert_eq!(fixture.due(), None);
    fixture.probe_at_ports(&[102, 5005, 5006, 5006, 102]);
    assert_eq!(fixture.verdict(1), Verdict::Flaky(FailureReason::ConnectTimeout));
    let expected = Experiment::Flows {
        address: peer(1, None).address,
        failed: vec![102, 101],
        passed: vec![5006, 5005, 5004, 5003],
    };
    assert_eq!(fixture.start(), expected);
    fixture.finish(&expected, DEAD);
    assert_eq!(fixture.flows(), Some(DeadFlows { dead: 4, flows: 16 }));
    assert_eq!(fixture.until_due(), 600);
    let again = fixture.start();
    fixture.finish(&again, Found::Flows(None));
    for seconds in [60, 120, 240, 480, 600, 600] {
        assert_eq!((fixture.flows(), fixture.until_due()), (None, seconds), "not proven now");
        let again = fixture.start();
        fixture.finish(&again, Found::Flows(None));
    }
    fixture.until_due();
    let again = fixture.start();
    fixture.finish(&again, DEAD);
    assert_eq!(fixture.until_due(), 600);
    fixture.probe_at_ports(&[5000; RECENT]);
    assert_eq!((fixture.verdict(1), fixture.flows()), (Verdict::Up, None), "it is over");
}

#[test]
fn a_result_after_the_end_of_the_verdict_is_dropped() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.probe_at_ports(&[5001, 101, 5002, 5003, 102, 5004]);
    let experiment = fixture.start();
    let Experiment::Flows { passed, .. } = &experiment else { panic!("{experiment:?}") };
    assert_eq!(*passed, [5004, 5003, 5002], "not what passed before the fault");
    fixture.probe_at_ports(&[5000; RECENT]);
    fixture.finish(&experiment, DEAD);
    assert_eq!(fixture.flows(), None);
}

#[test]
fn other_failures_in_turns_are_no_question_of_flows() {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.sequence("SFSSFSSF");
    assert_eq!(fixture.verdict(1), Verdict::Flaky(FailureReason::Refused));
    assert_eq!(fixture.due(), None);
    // Without known ports there is nothing to repeat.
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.sequence("STSSTSST");
    assert_eq!(fixture.verdict(1), Verdict::Flaky(FailureReason::ConnectTimeout));
    assert_eq!(fixture.due(), None);
}

#[test]
fn a_host_is_asked_before_any_search_although_all_other_peers_need_one() {
    let peers =
        (1..=99).map(|number| if number == 99 { with_host(99) } else { peer(number, None) });
    let mut fixture = Fixture::new(peers);
    for record in fixture.state.records.values_mut() {
        Arc::make_mut(record).verdict = Verdict::Mtu(Direction::Outgoing);
    }
    fixture.fail(99);
    let due = fixture.state.due_experiments(fixture.now);
    let [(first, Experiment::Host { .. }), others @ ..] = due.as_slice() else { panic!("{due:?}") };
    let is_search = |(_, other): &(_, Experiment)| matches!(other, Experiment::Mtu { .. });
    assert_eq!((first, others.len()), (&name(99), 31));
    assert!(others.iter().all(is_search), "{others:?}");
}

#[test]
fn experiments_are_few_at_once_and_each_peer_has_its_turn() {
    let mut fixture = Fixture::new((1..=100).map(with_host));
    (1..=100).for_each(|number| drop(fixture.fail(number)));
    let mut turn = || {
        let due = fixture.state.due_experiments(fixture.now);
        for (node, experiment) in &due {
            fixture.state.begin_experiment(fixture.now, node, experiment, true);
            let (node, address) = (node.clone(), experiment.address());
            let (ended, found) = (fixture.now.instant, Found::Host(Some(false)));
            let report = ExperimentReport { node, address, ended, found };
            fixture.state.report_experiment(fixture.now, &report);
        }
        // Then all are due again.
        fixture.pass(60 * SECOND);
        due.into_iter().map(|(node, _)| node).collect::<Vec<_>>()
    };
    let turns: Vec<_> = (0..4).map(|_| turn()).collect();
    assert!(turns.iter().all(|turn| turn.len() == 32));
    let asked: std::collections::BTreeSet<_> = turns.concat().into_iter().collect();
    assert_eq!(asked.len(), 100);
}
