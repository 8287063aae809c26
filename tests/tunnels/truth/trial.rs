//! One row, run: a mesh where all is well, the fault, the verdicts, the end of the fault, all well
//! again.

use std::path::Path;
use std::time::{Duration, Instant};

use super::SETTINGS;
use super::table::{Expect, MEASURED, Row};
use super::watch::Watch;
use crate::cluster::Cluster;
use crate::network::{Plan, able};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Beyond every bound: a look at all rows takes this long at most on a busy machine.
const SEEN_WITHIN: Duration = Duration::from_secs(1);
/// Waiting goes on beyond a bound, so that the failure tells by how much.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) struct Trial {
    pub(super) row: &'static Row,
    pub(super) cluster: Cluster,
    pub(super) watch: Watch,
    size: u8,
    /// When the fault began, or ended.
    since: Instant,
    verdict_after: Option<Duration>,
    up_after: Option<Duration>,
}

impl Trial {
    /// A mesh of three nodes where every agent finds every peer up; `None` where none can be built.
    pub(super) fn begin(row: &'static Row) -> Option<Self> {
        Self::begin_with(row, Plan::of(3), SETTINGS)
    }

    pub(super) fn begin_with(
        row: &'static Row,
        plan: Plan,
        settings: &[(&str, &str)],
    ) -> Option<Self> {
        Self::begin_partly(row, plan, plan.size, settings)
    }

    /// With agents on the first `size` nodes only.
    pub(super) fn begin_partly(
        row: &'static Row,
        plan: Plan,
        size: u8,
        settings: &[(&str, &str)],
    ) -> Option<Self> {
        if !able() {
            return None;
        }
        let cluster = Cluster::with_agents(plan, size, settings)?;
        let mut trial = Self {
            row,
            cluster,
            watch: Watch::default(),
            size,
            since: Instant::now(),
            verdict_after: None,
            up_after: None,
        };
        trial.poll("everybody is up", PATIENCE, |watch, nodes| watch.all(nodes, is_up));
        Some(trial)
    }

    /// Begins the fault.
    pub(super) fn inject<T>(&mut self, fault: impl FnOnce(&mut Cluster) -> T) -> T {
        let fault = fault(&mut self.cluster);
        self.since = Instant::now();
        fault
    }

    /// Waits until every agent says what it should.
    pub(super) fn reach(&mut self) {
        let row = self.row;
        let what = format!("{}: every verdict as expected", row.name);
        let after = self.poll(&what, PATIENCE, |watch, nodes| {
            watch.all(nodes, |source, target, peer| row.expects(source, target).holds(peer))
        });
        self.verdict_after = Some(after);
    }

    /// The agents say still what they should.
    pub(super) fn reach_still(&self) {
        let (row, nodes) = (self.row, (1..=self.size).collect::<Vec<u8>>());
        let holds =
            self.watch.all(&nodes, |source, target, peer| row.expects(source, target).holds(peer));
        assert!(holds, "{}: no longer as expected\n{}", row.name, self.watch.tell());
    }

    /// Looks on until `done`, while the fault lasts.
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&Watch, Duration) -> bool) {
        let since = self.since;
        self.poll(what, PATIENCE, |watch, _| done(watch, since.elapsed()));
    }

    /// Ends the fault, waits until everybody is up for everybody, and judges the whole run.
    pub(super) fn end(mut self, cure: impl FnOnce(&mut Self)) -> Self {
        cure(&mut self);
        self.since = Instant::now();
        let after =
            self.poll("everybody is up again", PATIENCE, |watch, nodes| watch.all(nodes, is_up));
        self.up_after = Some(after);
        self.watch.read_logs(&self.cluster, self.row);
        self.report();
        self
    }

    /// Looks at all rows until `done`, and tells how long that took since the fault began or ended.
    pub(super) fn poll(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Watch, &[u8]) -> bool,
    ) -> Duration {
        let nodes: Vec<u8> = (1..=self.size).collect();
        let deadline = Instant::now() + limit;
        loop {
            let looked = Instant::now();
            self.watch.look(&self.cluster, self.row);
            if done(&self.watch, &nodes) {
                return looked.saturating_duration_since(self.since);
            }
            assert!(
                Instant::now() < deadline,
                "not within {limit:?}: {what}\n{}{}",
                self.watch.tell(),
                self.cluster.mesh.logs()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the first `size` nodes are up for one another.
    pub(super) fn poll_for(&mut self, size: u8, what: &str, limit: Duration) {
        let nodes: Vec<u8> = (1..=size).collect();
        self.poll(what, limit, |watch, _| watch.all(&nodes, is_up));
    }

    fn report(&self) {
        let row = self.row;
        let seconds = |time: Option<Duration>| {
            time.map_or_else(String::new, |time| format!("{:.1} s", time.as_secs_f64()))
        };
        let (verdict, up) = (seconds(self.verdict_after), seconds(self.up_after));
        let accusations = self.watch.accusations();
        println!(
            "truth: {}: verdicts after {verdict}, up again after {up}, {} looks, {} false accusations",
            row.fault,
            self.watch.looks,
            accusations.len()
        );
        if let Some(folder) = std::env::var_os(MEASURED) {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(Path::new(&folder).join(row.name), format!("{verdict}|{up}\n")).unwrap();
        }
        let logs = || self.cluster.mesh.logs();
        assert!(accusations.is_empty(), "{accusations:#?}\n{}", logs());
        for (measured, bound) in [(self.verdict_after, row.within), (self.up_after, row.up_within)]
        {
            let kept = measured.is_none_or(|measured| measured <= bound + SEEN_WITHIN);
            assert!(kept, "{}: {measured:?}, more than {bound:?}\n{}", row.name, logs());
        }
    }
}

fn is_up(_: u8, _: u8, peer: &serde_json::Value) -> bool {
    Expect::Up.holds(peer)
}
