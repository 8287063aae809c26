//! Runs one case: a healthy mesh, the fault, the verdicts, the end of the fault, a healthy mesh again.

use std::path::Path;
use std::time::{Duration, Instant};

use super::document::MEASURED;
use super::expect::{Expect, matches};
use super::findings::{ASKED, Findings};
use super::observer::Observer;
use super::table::{Case, NONE};
use crate::binary;
use crate::mesh::{TunnelMesh, node};
use crate::network::{Topology, able};

/// The pause between two observations.
const PAUSE: Duration = Duration::from_millis(200);
/// Added to every limit: the longest time to read all rows on a busy machine.
const OBSERVATION_TIME: Duration = Duration::from_secs(1);
/// Added to a limit, so that a failure shows by how much the limit was missed.
const PATIENCE: Duration = Duration::from_secs(60);
/// The limit for findings after the verdicts and their limit: rows and the matrix are cached for 5 s each, a
/// collection may take 5 s, and verdicts of two agents may alternate.
const FOUND_WITHIN: Duration = Duration::from_secs(30);
/// `wylis cluster` when something is wrong.
const UNHEALTHY: i32 = 4;

pub(super) struct Trial {
    pub(super) case: &'static Case,
    pub(super) mesh: TunnelMesh,
    pub(super) observer: Observer,
    findings: Findings,
    size: u8,
    /// When the fault began, or ended.
    since: Instant,
    verdict_after: Option<Duration>,
    /// When the evidence beside the verdicts was complete too.
    evidence_after: Option<Duration>,
    found_after: Option<Duration>,
    up_after: Option<Duration>,
}

impl Trial {
    /// A mesh of three nodes with every pair up; `None` where it cannot be built.
    pub(super) fn begin(case: &'static Case) -> Option<Self> {
        Self::begin_with(case, Topology::of(3))
    }

    pub(super) fn begin_with(case: &'static Case, topology: Topology) -> Option<Self> {
        Self::begin_partly(case, topology, topology.size)
    }

    /// With agents on the first `size` nodes only.
    pub(super) fn begin_partly(case: &'static Case, topology: Topology, size: u8) -> Option<Self> {
        if !able() {
            return None;
        }
        let settings = case.timing.settings();
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mesh = TunnelMesh::with_agents(topology, size, &settings)?;
        let asked = mesh.agents.agent(&node(ASKED)).reader();
        let mut trial = Self {
            case,
            mesh,
            observer: Observer::default(),
            findings: Findings::watch(asked, case),
            size,
            since: Instant::now(),
            verdict_after: None,
            evidence_after: None,
            found_after: None,
            up_after: None,
        };
        trial.poll("every pair is up", PATIENCE, |observer, nodes| observer.all(nodes, is_up));
        Some(trial)
    }

    /// Begins the fault.
    pub(super) fn inject<T>(&mut self, fault: impl FnOnce(&mut TunnelMesh) -> T) -> T {
        let fault = fault(&mut self.mesh);
        self.since = Instant::now();
        self.observer.begin();
        fault
    }

    /// Waits for the expected verdicts of all agents, then for the evidence beside them, which is scanned for
    /// more seldom on a busy machine, and for the finding, metrics and command.
    pub(super) fn wait_for_verdicts(&mut self) {
        let case = self.case;
        let what = format!("{}: every verdict as expected", case.name);
        let after = self.poll(&what, case.within + PATIENCE, |observer, nodes| {
            observer.all(nodes, |source, target, peer| {
                case.expects(source, target).is_said(peer)
                    || (case.by_chance && observer.has_met(source, target))
            })
        });
        self.verdict_after = Some(after);
        self.wait_for_finding();
    }

    /// Waits until the third node reports the finding, and metrics and command say the same.
    fn wait_for_finding(&mut self) {
        let case = self.case;
        let deadline = Instant::now().max(self.since + case.within) + FOUND_WITHIN;
        loop {
            self.observer.observe(&self.mesh, case);
            let complete = self.is_complete();
            self.evidence_after = self.evidence_after.or(complete.then(|| self.since.elapsed()));
            let found = self.findings.are_as_expected(case) && complete;
            let metrics = self.unexpected_metrics();
            let command = if found && metrics.is_empty() { self.command() } else { Ok(()) };
            if found && metrics.is_empty() && command.is_ok() {
                let finds = case.finding != [NONE];
                self.found_after = self.found_after.or(finds.then(|| self.since.elapsed()));
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{}: not within {FOUND_WITHIN:?}: the finding {:?}, found: {found}, metrics: {metrics:?}, \
                 command: {command:?}\n{}{}{}",
                case.name,
                case.finding,
                self.findings.summary(),
                self.observer.summary(),
                self.mesh.agents.logs()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether every entry meets the whole expectation.
    fn is_complete(&self) -> bool {
        let (case, nodes) = (self.case, (1..=self.size).collect::<Vec<u8>>());
        self.observer.all(&nodes, |source, target, peer| {
            case.expects(source, target).holds(peer)
                || (case.by_chance && self.observer.has_met(source, target))
        })
    }

    /// The pairs whose metrics differ from the expected verdict.
    fn unexpected_metrics(&self) -> Vec<String> {
        let mut unexpected = Vec::new();
        for source in (1..=self.size).filter(|source| !self.observer.unasked.contains(source)) {
            let Some(agent) = self.mesh.agents.nodes.get(&node(source)) else { continue };
            let metrics = agent.agent.metrics();
            for target in (1..=self.size).filter(|target| *target != source) {
                let label = format!("target_node=\"n{target}\"");
                let value = |name: &str, kind: &str| metrics.sum(name, &[&label, kind]);
                let kinds = ["one-way", "flaky", "lossy", "mtu"].into_iter().filter(|kind| {
                    value("wylis_peer_impaired", &format!("kind=\"{kind}\"")) == 1.0
                });
                let down = metrics.get("wylis_peer_up", &[&label]) == Some(0.0);
                let said = kinds.chain(down.then_some("down")).collect::<Vec<_>>().join(" and ");
                let said = if said.is_empty() { "up" } else { &said };
                let incoming = ["requests", "syns", "nothing"]
                    .into_iter()
                    .find(|kind| value("wylis_peer_incoming", &format!("kind=\"{kind}\"")) == 1.0);
                let by_chance = self.case.by_chance && said == "up";
                if !by_chance && !self.case.expects(source, target).permits_metrics(said, incoming)
                {
                    unexpected
                        .push(format!("n{source} on n{target}: {said}, incoming {incoming:?}"));
                }
            }
        }
        unexpected
    }

    /// Checks `wylis cluster` on the third node: a line is the expected finding, and the exit code fits.
    fn command(&self) -> Result<(), String> {
        let case = self.case;
        let address = self.mesh.agents.agent(&node(ASKED)).address.to_string();
        let mut command = self.mesh.pods[&ASKED].namespace.command(binary());
        let output = command.args(["cluster", "--agent", &address]).output().expect("wylis runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text
            .lines()
            .any(|line| case.finding.iter().any(|finding| matches(finding, line.trim())));
        // A path that only loses packets is no reason for 4.
        let wrong = case.finding.iter().all(|f| f.contains("down") || f.contains("flaky"));
        let fits = match output.status.code() {
            Some(0) => !wrong,
            Some(UNHEALTHY) => case.finding != [NONE],
            _ => false,
        };
        if fits && (said || case.finding.contains(&NONE)) {
            return Ok(());
        }
        let code = output.status.code();
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("exit code {code:?}: {text}{errors}"))
    }

    /// Asserts that the verdicts are still as expected, and the finding.
    pub(super) fn assert_verdicts(&mut self) {
        let summary = self.observer.summary();
        assert!(self.is_complete(), "{}: no longer as expected\n{summary}", self.case.name);
        self.wait_for_finding();
    }

    /// Observes until `done`, during the fault.
    pub(super) fn observe_until(
        &mut self,
        what: &str,
        mut done: impl FnMut(&Observer, Duration) -> bool,
    ) {
        let since = self.since;
        let limit = self.case.within + PATIENCE;
        self.poll(what, limit, |observer, _| done(observer, since.elapsed()));
    }

    /// Waits until the third node reports no finding.
    fn wait_for_no_finding(&mut self) {
        let deadline = Instant::now() + FOUND_WITHIN;
        self.findings.ask(self.mesh.agents.agent(&node(ASKED)).reader());
        while !self.findings.are_none() {
            self.observer.observe(&self.mesh, self.case);
            let (summary, case) = (self.findings.summary(), self.case.name);
            assert!(Instant::now() < deadline, "{case}: a finding stays\n{summary}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends the fault, waits until every pair is up, and checks the whole run.
    pub(super) fn end(mut self, cure: impl FnOnce(&mut Self)) -> Self {
        cure(&mut self);
        self.since = Instant::now();
        let limit = self.case.up_within + PATIENCE;
        let after = self
            .poll("every pair is up again", limit, |observer, nodes| observer.all(nodes, is_up));
        self.up_after = Some(after);
        self.wait_for_no_finding();
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
        let (evidence, found) = (seconds(self.evidence_after), seconds(self.found_after));
        let mut false_alarms = self.findings.false_alarms();
        false_alarms.extend(self.observer.false_alarms().iter().cloned());
        println!(
            "truth: {}: verdicts after {verdict}, evidence after {evidence}, finding after {found}, up again after {up}, {} observations, {} false alarms",
            case.fault,
            self.observer.observations,
            false_alarms.len()
        );
        if let Some(folder) = std::env::var_os(MEASURED) {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(Path::new(&folder).join(case.name), format!("{verdict}|{found}|{up}\n"))
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
    Expect::UP.holds(peer)
}
