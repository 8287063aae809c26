//! Reads the recordings of tests/tunnels/record, and converts them to what Prometheus stores for each way
//! of scraping.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The scrape interval in seconds.
pub(crate) const SCRAPE: u32 = 30;

#[derive(Debug, Clone)]
pub(crate) struct Recording {
    /// Events, and their times in seconds.
    marks: Vec<(String, u32)>,
    series: Vec<Series>,
}

#[derive(Debug, Clone)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
    /// A number, `_` or `stale`.
    samples: Vec<String>,
}

/// How Prometheus scrapes the agents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scraped {
    /// By the annotations of the pods.
    ByAnnotations,
    /// By the PodMonitor.
    ByPodMonitor,
    /// By both at once.
    Twice,
    /// By annotations, half as often.
    Slowly,
}

impl Scraped {
    pub(crate) const ALL: [Self; 4] =
        [Self::ByAnnotations, Self::ByPodMonitor, Self::Twice, Self::Slowly];

    /// The scrape interval in seconds.
    pub(crate) fn interval(self) -> u32 {
        if self == Self::Slowly { 2 * SCRAPE } else { SCRAPE }
    }

    /// The labels of a target, for each of its jobs.
    fn jobs(self) -> Vec<Vec<(&'static str, &'static str)>> {
        let annotations = vec![("job", "kubernetes-pods"), ("namespace", "wylis")];
        let monitor = vec![
            ("job", "wylis/wylis"),
            ("namespace", "wylis"),
            ("container", "wylis"),
            ("endpoint", "http"),
        ];
        match self {
            Self::ByAnnotations | Self::Slowly => vec![annotations],
            Self::ByPodMonitor => vec![monitor],
            Self::Twice => vec![annotations, monitor],
        }
    }
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts/recordings")
}

impl Recording {
    /// Reads a recording from the folder.
    pub(crate) fn read(name: &str) -> Self {
        let path = folder().join(format!("{name}.txt"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self::parse(&text).unwrap_or_else(|line| panic!("{name}: {line}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut recording = Self { marks: Vec::new(), series: Vec::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let read = match line.strip_prefix("! ") {
                Some(mark) => mark.split_once("s ").and_then(|(seconds, what)| {
                    recording.marks.push((what.to_owned(), seconds.parse().ok()?));
                    Some(())
                }),
                None => Series::parse(line).map(|series| recording.series.push(series)),
            };
            read.ok_or_else(|| line.to_owned())?;
        }
        Ok(recording)
    }

    /// The time of an event in seconds.
    pub(crate) fn mark(&self, what: &str) -> u32 {
        let found = self.marks.iter().find(|(mark, _)| mark == what);
        found.unwrap_or_else(|| panic!("no mark {what:?}: {:?}", self.marks)).1
    }

    /// Keeps the series of these nodes' agents only.
    pub(crate) fn seen_from(mut self, nodes: &[&str]) -> Self {
        let agents: Vec<String> = self
            .series
            .iter()
            .filter(|series| series.name == "wylis_incoming_requests_total")
            .filter(|series| nodes.contains(&series.label("target_node")))
            .map(|series| series.label("pod").to_owned())
            .collect();
        assert!(agents.len() >= nodes.len(), "{nodes:?} are not all in the recording");
        self.series.retain(|series| agents.iter().any(|pod| pod == series.label("pod")));
        self
    }

    /// Adds milliseconds to every round-trip time.
    pub(crate) fn with_added_rtt(mut self, millis: u32) -> Self {
        let added = f64::from(millis) / 1000.0;
        for series in
            self.series.iter_mut().filter(|series| series.name == "wylis_peer_rtt_seconds")
        {
            for sample in &mut series.samples {
                if let Ok(number) = sample.parse::<f64>() {
                    *sample = (number + added).to_string();
                }
            }
        }
        self
    }

    /// Adds a label to every series.
    pub(crate) fn with_label(mut self, name: &str, value: &str) -> Self {
        for series in &mut self.series {
            series.labels.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// promtool's `input_series`.
    pub(crate) fn input(&self, scraped: Scraped) -> Value {
        let jobs = scraped.jobs();
        let all = jobs.iter().flat_map(|job| self.series.iter().map(|series| series.input(job)));
        let all = all.map(|(series, samples)| {
            let samples = if scraped == Scraped::Slowly { every_second(samples) } else { samples };
            json!({"series": series, "values": samples.join(" ")})
        });
        all.collect()
    }
}

impl Series {
    fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.split_once('{')?;
        let (labels, samples) = rest.split_once("} ")?;
        let labels = labels.split(',').map(|label| {
            let (name, value) = label.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('"').to_owned()))
        });
        let samples: Vec<String> =
            samples.split(' ').map(expand).collect::<Option<Vec<_>>>()?.concat();
        Some(Self { name: name.to_owned(), labels: labels.collect::<Option<_>>()?, samples })
    }

    fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    fn input(&self, job: &[(&str, &str)]) -> (String, Vec<String>) {
        let own = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels = own.chain(job.iter().copied());
        let labels: Vec<String> =
            labels.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        (format!("{}{{{}}}", self.name, labels.join(",")), self.samples.clone())
    }
}

/// `1+2x3` is `1 3 5 7`, `_x2` is `_ _`.
fn expand(word: &str) -> Option<Vec<String>> {
    let Some((run, times)) = word.split_once('x') else { return Some(vec![word.to_owned()]) };
    let times: u32 = times.parse().ok()?;
    if run == "_" {
        return Some((0..times).map(|_| "_".to_owned()).collect());
    }
    // The sign of the step, not of the number or of an exponent.
    let digit = |at: &usize| run.as_bytes().get(at - 1).is_some_and(u8::is_ascii_digit);
    let at = run.rmatch_indices(['+', '-']).map(|(at, _)| at).find(|at| *at > 0 && digit(at))?;
    let (first, step): (f64, f64) = (run[..at].parse().ok()?, run[at..].parse().ok()?);
    Some((0..=times).map(|n| (first + step * f64::from(n)).to_string()).collect())
}

/// Every second scrape. A series that goes stale at a dropped scrape goes stale at the next.
fn every_second(samples: Vec<String>) -> Vec<String> {
    let mut slow: Vec<String> = samples.first().cloned().into_iter().collect();
    for pair in samples.get(1..).unwrap_or_default().chunks_exact(2) {
        slow.push(if pair == ["stale", "_"] { "stale".to_owned() } else { pair[1].clone() });
    }
    slow
}

#[test]
fn a_recording_is_parsed() {
    let text =
        "# About.\n! 30s fault\na{b=\"c\",pod=\"d\"} 1+2x2 _x2 4.1 5e-05+0x1 7-1x1 stale _\n";
    let recording = Recording::parse(text).unwrap();
    assert_eq!(recording.mark("fault"), 30);
    let [series] = recording.series.as_slice() else { panic!("{recording:?}") };
    let samples = ["1", "3", "5", "_", "_", "4.1", "0.00005", "0.00005", "7", "6", "stale", "_"];
    assert_eq!(
        (series.label("b"), series.samples.as_slice()),
        ("c", &samples.map(str::to_owned)[..])
    );
    assert_eq!(every_second(series.samples.clone()), ["1", "5", "_", "0.00005", "7", "stale"]);
    assert!(Recording::parse("a{b} 1\n").is_err());
    assert!(Recording::parse("! now fault\n").is_err());
}
