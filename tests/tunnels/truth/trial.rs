//! Runs one case: a healthy mesh, the fault, the verdicts, the end of the fault, a healthy mesh again.

use std::path::Path;
use std::time::{Duration, Instant};

use super::SETTINGS;
use super::observer::Observer;
use super::table::{Case, Expect, MEASURED};
use crate::mesh::TunnelMesh;
use crate::network::{Topology, able};

/// The pause between two observations.
const PAUSE: Duration = Duration::from_millis(200);
/// Added to every limit: the longest time to read all rows on a busy machine.
const OBSERVATION_TIME: Duration = Duration::from_secs(1);
/// Longer than any limit, so that a failure shows by how much the limit was missed.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) struct Trial {
    pub(super) case: &'static Case,
    pub(super) mesh: TunnelMesh,
    pub(super) observer: Observer,
    size: u8,
    /// When the fault began, or ended.
    since: Instant,
    verdict_after: Option<Duration>,
    up_after: Option<Duration>,
}

impl Trial {
    /// A mesh of three nodes with every pair up; `None` where it cannot be built.
    pub(super) fn begin(case: &'static Case) -> Option<Self> {
        Self::begin_with(case, Topology::of(3), SETTINGS)
    }

    pub(super) fn begin_with(
        case: &'static Case,
        topology: Topology,
        settings: &[(&str, &str)],
    ) -> Option<Self> {
        Self::begin_partly(case, topology, topology.size, settings)
    }

    /// With agents on the first `size` nodes only.
    pub(super) fn begin_partly(
        case: &'static Case,
        topology: Topology,
        size: u8,
        settings: &[(&str, &str)],
    ) -> Option<Self> {
        if !able() {
            return None;
        }
        let mesh = TunnelMesh::with_agents(topology, size, settings)?;
        let mut trial = Self {
            case,
            mesh,
            observer: Observer::default(),
            size,
            since: Instant::now(),
            verdict_after: None,
            up_after: None,
        };
        trial.poll("every pair is up", PATIENCE, |observer, nodes| observer.all(nodes, is_up));
        Some(trial)
    }

    /// Begins the fault.
    pub(super) fn inject<T>(&mut self, fault: impl FnOnce(&mut TunnelMesh) -> T) -> T {
        let fault = fault(&mut self.mesh);
        self.since = Instant::now();
        fault
    }

    /// Waits for the expected verdicts of all agents.
    pub(super) fn wait_for_verdicts(&mut self) {
        let case = self.case;
        let what = format!("{}: every verdict as expected", case.name);
        let after = self.poll(&what, PATIENCE, |observer, nodes| {
            observer.all(nodes, |source, target, peer| case.expects(source, target).holds(peer))
        });
        self.verdict_after = Some(after);
    }

    /// Asserts that the verdicts are still as expected.
    pub(super) fn assert_verdicts(&self) {
        let (case, nodes) = (self.case, (1..=self.size).collect::<Vec<u8>>());
        let holds = self
            .observer
            .all(&nodes, |source, target, peer| case.expects(source, target).holds(peer));
        assert!(holds, "{}: no longer as expected\n{}", case.name, self.observer.summary());
    }

    /// Observes until `done`, during the fault.
    pub(super) fn observe_until(
        &mut self,
        what: &str,
        mut done: impl FnMut(&Observer, Duration) -> bool,
    ) {
        let since = self.since;
        self.poll(what, PATIENCE, |observer, _| done(observer, since.elapsed()));
    }

    /// Ends the fault, waits until every pair is up, and checks the whole run.
    pub(super) fn end(mut self, cure: impl FnOnce(&mut Self)) -> Self {
        cure(&mut self);
        self.since = Instant::now();
        let after = self
            .poll("every pair is up again", PATIENCE, |observer, nodes| observer.all(nodes, is_up));
        self.up_after = Some(after);
        self.observer.read_logs(&self.mesh, self.case);
        self.report();
        self
    }

    /// Observes until `done`. Returns the time since the fault began or ended.
    pub(super) fn poll(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Observer, &[u8]) -> bool,
    ) -> Duration {
        let nodes: Vec<u8> = (1..=self.size).collect();
        let deadline = Instant::now() + limit;
        loop {
            let observed_at = Instant::now();
            self.observer.observe(&self.mesh, self.case);
            if done(&self.observer, &nodes) {
                return observed_at.saturating_duration_since(self.since);
            }
            assert!(
                Instant::now() < deadline,
                "not within {limit:?}: {what}\n{}{}",
                self.observer.summary(),
                self.mesh.agents.logs()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until all pairs of the first `size` nodes are up.
    pub(super) fn wait_for_up(&mut self, size: u8, what: &str, limit: Duration) {
        let nodes: Vec<u8> = (1..=size).collect();
        self.poll(what, limit, |observer, _| observer.all(&nodes, is_up));
    }

    fn report(&self) {
        let case = self.case;
        let seconds = |time: Option<Duration>| {
            time.map_or_else(String::new, |time| format!("{:.1} s", time.as_secs_f64()))
        };
        let (verdict, up) = (seconds(self.verdict_after), seconds(self.up_after));
        let false_alarms = self.observer.false_alarms();
        println!(
            "truth: {}: verdicts after {verdict}, up again after {up}, {} observations, {} false alarms",
            case.fault,
            self.observer.observations,
            false_alarms.len()
        );
        if let Some(folder) = std::env::var_os(MEASURED) {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(Path::new(&folder).join(case.name), format!("{verdict}|{up}\n"))
                .unwrap();
        }
        let logs = || self.mesh.agents.logs();
        assert!(false_alarms.is_empty(), "{false_alarms:#?}\n{}", logs());
        for (measured, bound) in
            [(self.verdict_after, case.within), (self.up_after, case.up_within)]
        {
            let in_time = measured.is_none_or(|measured| measured <= bound + OBSERVATION_TIME);
            assert!(in_time, "{}: {measured:?}, more than {bound:?}\n{}", case.name, logs());
        }
    }
}

fn is_up(_: u8, _: u8, peer: &serde_json::Value) -> bool {
    Expect::Up.holds(peer)
}
