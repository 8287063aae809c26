//! Runs one case: a healthy mesh, the fault, the findings, the end of the fault, a healthy mesh again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::table::Case;
use super::view::{View, agrees};
use super::{SETTINGS, past};
use crate::faults::Fault;
use crate::mesh::{TunnelMesh, node};
use crate::network::{Topology, able};

/// Environment variable: the folder for the documents.
const RECORD: &str = "WYLIS_RECORD_FINDINGS";
/// The pause between two observations.
const PAUSE: Duration = Duration::from_millis(500);
/// Added to every limit: the longest time to read all agents on a busy machine.
const OBSERVATION_TIME: Duration = Duration::from_secs(5);

pub(super) struct Trial {
    pub(super) case: &'static Case,
    pub(super) mesh: TunnelMesh,
    size: u8,
    /// When the fault began, or ended.
    since: Instant,
    said_after: Duration,
    views: BTreeMap<u8, View>,
    false_alarms: BTreeSet<String>,
    observations: u32,
}

impl Trial {
    /// A mesh with every pair up and no finding; `None` where it cannot be built.
    pub(super) fn begin(case: &'static Case, topology: Topology) -> Option<Self> {
        if !able() {
            return None;
        }
        let mesh = TunnelMesh::new(topology, SETTINGS)?;
        Some(Self::over(case, mesh, topology.size))
    }

    /// With the agents of a mesh.
    pub(super) fn over(case: &'static Case, mesh: TunnelMesh, size: u8) -> Self {
        let mut trial = Self {
            case,
            mesh,
            size,
            since: Instant::now(),
            said_after: Duration::ZERO,
            views: BTreeMap::new(),
            false_alarms: BTreeSet::new(),
            observations: 0,
        };
        trial.poll("no finding before the fault", Duration::from_secs(60), Self::is_well);
        trial
    }

    /// Begins the fault.
    pub(super) fn inject<T>(&mut self, fault: impl FnOnce(&mut TunnelMesh) -> T) -> T {
        let fault = fault(&mut self.mesh);
        self.since = Instant::now();
        fault
    }

    /// Waits until every agent says what it must.
    pub(super) fn wait_for_findings(&mut self) {
        let limit = self.case.within + OBSERVATION_TIME;
        self.said_after = self.poll("the findings", limit, Self::says_all);
        self.record();
    }

    /// Observes for a while: every agent says what it must all the time.
    pub(super) fn stays(&mut self, time: Duration) {
        self.poll("a while", time * 2, |trial| {
            trial.says_all()?;
            let left = time.saturating_sub(trial.since.elapsed());
            if left.is_zero() { Ok(()) } else { Err(format!("{left:?} left")) }
        });
        self.said_after = Duration::ZERO;
        self.record();
    }

    /// Ends the fault, waits until no agent has a finding, and checks the whole run.
    pub(super) fn end(mut self, cure: impl FnOnce(&mut Self)) {
        let said = self.case.is_remembered.then(|| past::observe_longer(&mut self));
        cure(&mut self);
        self.since = Instant::now();
        let limit = self.case.well_within + OBSERVATION_TIME;
        let after = self.poll("no finding after the fault", limit, Self::is_well);
        println!(
            "clusters: {}: said after {:.1} s, well again after {:.1} s, {} observations, {} false alarms",
            self.case.what,
            self.said_after.as_secs_f64(),
            after.as_secs_f64(),
            self.observations,
            self.false_alarms.len()
        );
        assert!(self.false_alarms.is_empty(), "{:#?}\n{}", self.false_alarms, self.logs());
        if let Some(said) = said {
            past::assert_same(&self, &said);
        }
    }

    /// Runs a case whose fault is a set of rules on some hosts.
    pub(super) fn by_rules(case: &'static Case, topology: Topology, hosts: &[u8], rules: &str) {
        let Some(mut trial) = Self::begin(case, topology) else { return };
        let faults: Vec<Fault> = trial.inject(|mesh| {
            let put = |host: &u8| Fault::put(&mesh.network.host(*host).namespace, rules);
            hosts.iter().map(put).collect()
        });
        trial.wait_for_findings();
        trial.end(|_| drop(faults));
    }

    /// The last document of an agent.
    pub(super) fn view(&self, number: u8) -> &View {
        &self.views[&number]
    }

    fn is_well(&self) -> Result<(), String> {
        for (number, view) in &self.views {
            let (texts, cells) = (view.texts(), view.cells());
            let pairs = self.views.len() * (self.views.len() - 1);
            let up = cells.values().filter(|verdict| *verdict == "up").count();
            if !texts.is_empty() || up < pairs {
                return Err(format!("n{number} says {texts:?}, cells {cells:?}"));
            }
        }
        Ok(())
    }

    fn says_all(&self) -> Result<(), String> {
        for (numbers, patterns) in self.case.says {
            for number in *numbers {
                let view = &self.views[number];
                view.says(patterns).map_err(|error| format!("n{number}: {error}"))?;
                agrees(&self.mesh, *number, self.case, &view.texts())
                    .map_err(|error| format!("n{number}: {error}"))?;
            }
        }
        Ok(())
    }

    /// Reads all agents until `done`. Returns the time since the fault began or ended.
    fn poll(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Self) -> Result<(), String>,
    ) -> Duration {
        let deadline = Instant::now() + limit;
        loop {
            let observed_at = Instant::now();
            self.observe();
            let Err(missing) = done(self) else {
                return observed_at.saturating_duration_since(self.since);
            };
            if Instant::now() > deadline {
                self.record();
                let (name, alarms) = (self.case.name, &self.false_alarms);
                let logs = self.logs();
                panic!("{name}: not within {limit:?}: {what}\n{missing}\n{alarms:#?}\n{logs}");
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Reads all agents at once: one may wait for the rows of dead nodes.
    pub(super) fn observe(&mut self) {
        self.observations += 1;
        let agents = (1..=self.size).filter_map(|number| {
            let found = self.mesh.agents.nodes.get(&node(number));
            found.map(|found| (number, &found.agent))
        });
        let agents: Vec<_> = agents.collect();
        self.views = std::thread::scope(|scope| {
            let read = |(number, agent)| (number, scope.spawn(move || View::read(agent)));
            let threads: Vec<_> = agents.into_iter().map(read).collect();
            let joined = threads.into_iter().map(|(number, thread)| {
                (number, thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            });
            joined.collect()
        });
        for (number, view) in &self.views {
            let alarms = view.false_alarms(self.case, self.size);
            self.false_alarms
                .extend(alarms.into_iter().map(|alarm| format!("as n{number} says: {alarm}")));
        }
    }

    /// Writes the documents that differ in their sentences.
    fn record(&self) {
        let Some(folder) = std::env::var_os(RECORD) else { return };
        std::fs::create_dir_all(&folder).unwrap();
        let mut written = BTreeSet::new();
        for (number, view) in &self.views {
            if written.insert(view.texts()) {
                let path = Path::new(&folder).join(format!("{}.n{number}.json", self.case.name));
                std::fs::write(path, &view.1).unwrap();
            }
        }
    }

    pub(super) fn logs(&self) -> String {
        self.mesh.agents.logs()
    }
}
