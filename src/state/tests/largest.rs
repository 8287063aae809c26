//! The search for the largest packet of a peer: due with the verdict, told once, gone with the verdict.

use super::*;
use crate::experiment::{Experiment, ExperimentReport, Found, LargestPacket};

const FOUND: LargestPacket = LargestPacket { bytes: 1300, is_exact: true };

impl Fixture {
    /// A blank success over a path of this MTU.
    fn over(&mut self, path_mtu: u32) {
        let kernel = Some(KernelView { path_mtu: Some(path_mtu), ..KernelView::default() });
        let report = Report { kernel, ..self.begin(1) };
        self.state.report(self.now, &report).unwrap();
    }

    /// Begins the experiment that is due.
    fn begin_due(&mut self) -> Option<Experiment> {
        let (node, experiment) = self.state.due_experiments(self.now).into_iter().next()?;
        self.state.begin_experiment(self.now, &node, &experiment, true);
        Some(experiment)
    }

    fn found(&mut self, address: &str, largest: Option<LargestPacket>) -> Vec<Change> {
        let found = Found::Mtu(Direction::Outgoing, largest);
        let (address, ended) = (address.parse().unwrap(), self.now.instant);
        let report = ExperimentReport { node: name(1), address, ended, found };
        self.state.report_experiment(self.now, &report)
    }

    fn largest(&self) -> Option<LargestPacket> {
        let record = self.state.get(&name(1)).unwrap();
        record.experiments.mtu.largest(Direction::Outgoing).map(|(largest, _)| largest)
    }
}

/// A peer whose path MTU has shrunk.
fn shrunk() -> Fixture {
    let mut fixture = Fixture::new([peer(1, None)]);
    fixture.over(1500);
    assert_eq!(fixture.begin_due(), None);
    fixture.over(1300);
    fixture
}

#[test]
fn a_search_is_due_with_the_verdict_and_its_number_goes_with_it() {
    let mut fixture = shrunk();
    let address = "10.0.0.1:9050".parse().unwrap();
    let direction = Direction::Outgoing;
    assert_eq!(fixture.begin_due(), Some(Experiment::Mtu { address, direction }));
    fixture.pass(Duration::from_secs(600));
    assert_eq!(fixture.begin_due(), None, "one at a time");
    let at_least = LargestPacket { bytes: 1300, is_exact: false };
    let (verdict, detail) = (Verdict::Mtu(direction), Detail::Largest(FOUND));
    let told = Change::Detail { node: name(1), verdict, detail };
    assert_eq!(fixture.found("10.0.0.1:9050", Some(at_least)), [told], "as the router said");
    assert_eq!(fixture.largest(), Some(FOUND));
    fixture.over(1500);
    assert_eq!(
        (fixture.state.get(&name(1)).unwrap().verdict, fixture.largest()),
        (Verdict::Up, None)
    );
}

#[test]
fn the_report_of_a_peers_former_address_is_ignored() {
    let mut fixture = shrunk();
    fixture.begin_due().unwrap();
    let moved = Peer { address: "10.0.0.9:9050".parse().unwrap(), ..peer(1, None) };
    fixture.state.peers([moved].into_iter().collect(), REFRESH);
    fixture.over(1500);
    fixture.over(1300);
    fixture.begin_due().unwrap();
    assert_eq!(fixture.found("10.0.0.1:9050", Some(FOUND)), []);
    assert_eq!((fixture.largest(), fixture.begin_due()), (None, None), "still in flight");
    assert_eq!(fixture.found("10.0.0.9:9050", Some(FOUND)).len(), 1);
}
