//! Scrapes as Prometheus does: a fixed interval, a timeout, staleness.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wylis_harness::mesh::Mesh;

use super::SCRAPE;
use super::series::{Sample, notation};

/// The alert rules: a recording keeps only the metrics that they use.
const RULES: &str = include_str!("../../../manifests/monitoring/wylis.rules.yaml");
/// Environment variable: another folder than the one in the repository.
const FOLDER: &str = "WYLIS_RECORDINGS";
/// Prometheus' own scrape_timeout, in seconds.
const SCRAPE_TIMEOUT: u32 = 10;
/// The pause between two polls of a condition.
const POLL: Duration = Duration::from_millis(20);
/// A time that the agent measures and no setting changes.
const LONGEST_GAP: &str = "wylis_peer_longest_gap_seconds";
/// Longer than any awaited condition takes.
const PATIENCE: Duration = Duration::from_secs(90);

/// One recording.
pub(super) struct Recorder {
    name: &'static str,
    about: &'static str,
    stretch: u32,
    begun: Instant,
    /// Scrapes so far.
    ticks: u32,
    series: BTreeMap<String, Vec<Sample>>,
    /// Each event, with the number of scrapes before it.
    marks: Vec<(u32, String)>,
    names: BTreeSet<&'static str>,
}

/// The names of the agent's metrics in the rules.
fn names() -> BTreeSet<&'static str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let recorded = |word: &str| word.contains(':');
    RULES.split(word).filter(|word| word.starts_with("wylis_") && !recorded(word)).collect()
}

impl Recorder {
    /// Begins a recording. `about` describes the situation in the head of the file.
    pub(super) fn begin(name: &'static str, about: &'static str, stretch: u32) -> Self {
        Self {
            name,
            about,
            stretch,
            begun: Instant::now(),
            ticks: 0,
            series: BTreeMap::new(),
            marks: Vec::new(),
            names: names(),
        }
    }

    /// Notes an event.
    pub(super) fn mark(&mut self, what: &str) {
        self.marks.push((self.ticks, what.to_owned()));
    }

    /// Scrapes for `minutes` of Prometheus' time.
    pub(super) fn minutes(&mut self, mesh: &Mesh, minutes: u32) {
        self.scrapes(mesh, minutes * 60 / SCRAPE);
    }

    /// Scrapes `count` times.
    pub(super) fn scrapes(&mut self, mesh: &Mesh, count: u32) {
        for _ in 0..count {
            self.pause();
            self.scrape(mesh);
        }
    }

    /// Scrapes until `done`.
    pub(super) fn until(
        &mut self,
        mesh: &mut Mesh,
        what: &str,
        mut done: impl FnMut(&mut Mesh) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        while !done(mesh) {
            assert!(Instant::now() < deadline, "{}: {what}\n{}", self.name, mesh.logs());
            if Instant::now() >= self.due() {
                self.scrape(mesh);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Prometheus is away for `minutes` of its time.
    pub(super) fn gap(&mut self, minutes: u32) {
        for _ in 0..minutes * 60 / SCRAPE {
            self.pause();
            self.ticks += 1;
            self.series.values_mut().for_each(|samples| samples.push(Sample::Blank));
        }
    }

    fn due(&self) -> Instant {
        self.begun + Duration::from_secs(u64::from(SCRAPE)) * self.ticks / self.stretch
    }

    fn pause(&self) {
        std::thread::sleep(self.due().saturating_duration_since(Instant::now()));
    }

    /// Scrapes every agent once.
    fn scrape(&mut self, mesh: &Mesh) {
        let limit = Duration::from_secs(u64::from(SCRAPE_TIMEOUT)) / self.stretch;
        let before = usize::try_from(self.ticks).unwrap();
        for node in mesh.nodes.values() {
            let Some(metrics) = node.agent.metrics_within(limit) else { continue };
            let target_labels = format!("instance=\"{}\",pod=\"{}\"", node.agent.address, node.pod);
            for (name, found) in self.names.iter().map(|name| (name, metrics.matching(name, &[]))) {
                for (series, value) in found {
                    let labels = series.strip_prefix(name).unwrap_or_default();
                    let labels = labels.trim_start_matches('{').trim_end_matches('}');
                    let comma = if labels.is_empty() { "" } else { "," };
                    let series = format!("{name}{{{labels}{comma}{target_labels}}}");
                    let value = self.value(name, value);
                    let samples = self.series.entry(series).or_default();
                    samples.resize(before, Sample::Blank);
                    samples.push(Sample::Value(value));
                }
            }
        }
        self.ticks += 1;
        for samples in self.series.values_mut().filter(|samples| samples.len() == before) {
            let was = matches!(samples.last(), Some(Sample::Value(_)));
            samples.push(if was { Sample::Stale } else { Sample::Blank });
        }
    }

    /// Converts timestamps and gaps to Prometheus' time, and rounds fractions to two digits.
    fn value(&self, name: &str, value: f64) -> f64 {
        if name.ends_with("_timestamp_seconds") {
            let began = std::time::SystemTime::now() - self.begun.elapsed();
            let began = began.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
            return ((value - began) * f64::from(self.stretch)).round();
        }
        if name == LONGEST_GAP {
            return (value * f64::from(self.stretch)).round();
        }
        if value.fract() == 0.0 { value } else { format!("{value:.1e}").parse().unwrap() }
    }

    /// Ends the recording and writes its file.
    pub(super) fn end(mut self) {
        self.mark("end");
        let folder = std::env::var_os(FOLDER).map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts/recordings"),
            PathBuf::from,
        );
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}.txt", self.name)), self.text()).unwrap();
    }

    fn text(&self) -> String {
        let Self { about, stretch, .. } = self;
        let mut text = format!(
            "# {about}\n# Real agents, recorded by `make recordings`; time is stretched {stretch} \
             times, and scrapes are {SCRAPE} s apart.\n"
        );
        for (ticks, what) in &self.marks {
            text.push_str(&format!("! {}s {what}\n", ticks * SCRAPE));
        }
        for (series, samples) in &self.series {
            text.push_str(&format!("{series} {}\n", notation(samples)));
        }
        text
    }
}
