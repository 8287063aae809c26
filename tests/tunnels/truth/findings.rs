//! Reads the findings of the third node while a case runs, and collects false accusations.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use wylis_harness::process::Reader;

use super::expect::matches;
use super::table::{Case, NONE};

/// The node that is asked: neither A nor B.
pub(super) const ASKED: u8 = 3;
/// The pause between two readings. An agent collects rows once in 5 s.
const PAUSE: Duration = Duration::from_millis(500);
/// Longer than any deadline of the matrix.
const WITHIN: Duration = Duration::from_secs(8);
/// Findings that accuse nodes rather than pairs.
const OF_NODES: [&str; 7] =
    ["node_down", "cut_off", "relay", "link", "clock", "missing_row", "intercepted"];

/// What was read last, and what should not have been.
#[derive(Debug, Default)]
struct Read {
    /// The documents so far.
    count: u32,
    /// `None` before the first document.
    findings: Option<Vec<Finding>>,
    /// Status of the health route.
    health: u16,
    false_alarms: BTreeSet<String>,
}

/// One finding, with node names in place of indices.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    kind: String,
    pub(super) grave: bool,
    nodes: Vec<String>,
    pairs: Vec<(String, String)>,
    pub(super) text: String,
}

/// A thread that reads; ended when dropped.
#[derive(Debug)]
pub(super) struct Findings {
    read: Arc<Mutex<Read>>,
    reader: Arc<Mutex<Reader>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Findings {
    pub(super) fn watch(reader: Reader, case: &'static Case) -> Self {
        let (read, stop) = (Arc::<Mutex<Read>>::default(), Arc::new(AtomicBool::new(false)));
        let reader = Arc::new(Mutex::new(reader));
        let (shared, stopped, asked) = (Arc::clone(&read), Arc::clone(&stop), Arc::clone(&reader));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let reader = lock(&asked).clone();
                note(&reader, case, &shared);
                std::thread::sleep(PAUSE);
            }
        });
        Self { read, reader, stop, thread: Some(thread) }
    }

    /// Asks another agent from now on: a node's agent has moved.
    pub(super) fn ask(&self, reader: Reader) {
        *lock(&self.reader) = reader;
    }

    /// The last findings, and the status of the health route after them.
    fn last(&self) -> Option<(Vec<Finding>, u16)> {
        let read = lock(&self.read);
        Some((read.findings.clone()?, read.health))
    }

    /// Whether the last findings contain an expected one, and the health route agrees.
    pub(super) fn are_as_expected(&self, case: &Case) -> bool {
        let Some((findings, health)) = self.last() else { return false };
        let grave = findings.iter().any(|finding| finding.grave);
        let as_expected = findings.iter().any(|finding| {
            case.finding.iter().any(|text| matches(text, &finding.text))
                && finding.grave == is_grave(&finding.text)
        });
        let none = findings.is_empty() && case.finding.contains(&NONE);
        (as_expected || none) && health == if grave { 503 } else { 200 }
    }

    /// Whether the last document has no finding.
    pub(super) fn are_none(&self) -> bool {
        self.last().is_some_and(|(findings, health)| findings.is_empty() && health == 200)
    }

    /// All findings that name an innocent node or pair.
    pub(super) fn false_alarms(&self) -> BTreeSet<String> {
        lock(&self.read).false_alarms.clone()
    }

    pub(super) fn summary(&self) -> String {
        let read = lock(&self.read);
        let texts =
            read.findings.iter().flatten().map(|finding| format!("finding: {}\n", finding.text));
        let texts: String = texts.collect();
        format!("{texts}{} documents read, health {}\n", read.count, read.health)
    }
}

impl Drop for Findings {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(read: &Mutex<T>) -> MutexGuard<'_, T> {
    read.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads one document, and the health route.
fn note(reader: &Reader, case: &Case, read: &Mutex<Read>) {
    // An agent that restarts or drains gives none.
    let Some((200, text)) = reader.get_within("/api/v1/cluster", WITHIN) else { return };
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let health = reader.get_within("/api/v1/health", WITHIN).map_or(0, |(status, _)| status);
    let findings = findings_of(&document);
    let mut read = lock(read);
    read.count += 1;
    read.health = health;
    for finding in findings.iter().flatten().filter(|finding| !finding.is_permitted(case)) {
        read.false_alarms.insert(format!("finding: {}", finding.text));
    }
    read.findings = findings;
}

/// The findings of a document; `None` if it has no such field.
fn findings_of(document: &Value) -> Option<Vec<Finding>> {
    let name = |index: &Value| {
        let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
        let name = index.and_then(|index| document["nodes"][index].as_str());
        name.unwrap_or_default().to_owned()
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let finding = |value: &Value| Finding {
        kind: value["kind"].as_str().unwrap_or_default().to_owned(),
        grave: value["grave"] == true,
        nodes: list(&value["nodes"]).iter().filter_map(|n| n.as_str().map(str::to_owned)).collect(),
        pairs: list(&value["pairs"]).iter().map(|pair| (name(&pair[0]), name(&pair[1]))).collect(),
        text: value["text"].as_str().unwrap_or_default().to_owned(),
    };
    Some(document["findings"].as_array()?.iter().map(finding).collect())
}

impl Finding {
    /// Whether it accuses only nodes and pairs that the case's fault affects.
    fn is_permitted(&self, case: &Case) -> bool {
        let accused =
            || self.nodes.iter().all(|node| number(node).is_some_and(|n| case.accuses(n)));
        let concerned = self.pairs.iter().all(|(source, target)| {
            let pair = number(source).zip(number(target));
            pair.is_some_and(|(source, target)| case.concerns(source, target))
        });
        let named = self.text.split(|c: char| !c.is_alphanumeric()).filter_map(number);
        let mut named = named.filter(|node| !(1..=2).contains(node));
        match self.kind.as_str() {
            kind if OF_NODES.contains(&kind) => accused() && concerned,
            "pair" | "group" => concerned && (case.accuses(2) || named.next().is_none()),
            _ => false,
        }
    }
}

/// Whether a finding about pairs contains a `down` that is not mere slowness.
fn is_grave(text: &str) -> bool {
    (text.contains("down (") || text.contains(" is down")) && !text.contains("slower than")
}

fn number(name: &str) -> Option<u8> {
    name.strip_prefix('n')?.parse().ok()
}

#[test]
fn a_finding_may_accuse_only_what_the_fault_affects() {
    use super::table;
    let finding = |kind: &str, nodes: &[&str], pairs: &[[u8; 2]], text: &str| {
        let document = serde_json::json!({
            "nodes": ["n1", "n2", "n3"],
            "findings": [{"kind": kind, "grave": false, "nodes": nodes, "pairs": pairs, "text": text}],
        });
        findings_of(&document).unwrap().remove(0)
    };
    let pair = finding("pair", &["n1", "n2"], &[[0, 1]], "n1 → n2: lossy");
    assert!(pair.is_permitted(table::FIRST_SYN));
    let innocent = finding("pair", &["n1", "n3"], &[[0, 2]], "n1 → n3: lossy");
    assert!(!innocent.is_permitted(table::FIRST_SYN) && !innocent.is_permitted(table::KILLED));
    let dead = finding("node_down", &["n2"], &[[0, 1], [2, 1]], "n2 is down: …");
    assert!(dead.is_permitted(table::KILLED) && !dead.is_permitted(table::FIRST_SYN));
    let wrong = finding("node_down", &["n1"], &[[1, 0]], "n1 is down: …");
    assert!(!wrong.is_permitted(table::KILLED) && !wrong.is_permitted(table::FIRST_SYN));
    assert!(!finding("split", &["n1", "n2"], &[], "the mesh is split").is_permitted(table::KILLED));
}
