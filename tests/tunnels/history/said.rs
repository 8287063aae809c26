//! The findings that an agent reports while a fault lasts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use wylis_harness::mesh;
use wylis_harness::process::{Agent, Reader};

use super::PATIENCE;

/// The pause between two readings. An agent collects rows once in 5 s.
const PAUSE: Duration = Duration::from_millis(500);
/// Longer than any deadline of the matrix.
const WITHIN: Duration = Duration::from_secs(8);

/// One finding, with node names in place of indices.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub(super) text: String,
    pub(super) kind: String,
    pub(super) grave: bool,
    pub(super) nodes: Vec<String>,
    pairs: Vec<[String; 2]>,
    cells: u64,
}

/// What one document says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    /// The start of its collection, in Unix seconds.
    pub(super) at: u64,
    pub(super) findings: Vec<Finding>,
}

/// The findings of a matrix; `None` without the field.
pub(super) fn findings(document: &Value) -> Option<Vec<Finding>> {
    let name = |index: &Value| {
        let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| document["nodes"][index].as_str()).unwrap_or_default().to_owned()
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let finding = |value: &Value| Finding {
        text: value["text"].as_str().unwrap_or_default().to_owned(),
        kind: value["kind"].as_str().unwrap_or_default().to_owned(),
        grave: value["grave"] == true,
        nodes: list(&value["nodes"]).iter().filter_map(|n| n.as_str().map(str::to_owned)).collect(),
        pairs: list(&value["pairs"]).iter().map(|pair| [name(&pair[0]), name(&pair[1])]).collect(),
        cells: value["cells"].as_u64().unwrap_or_default(),
    };
    Some(document["findings"].as_array()?.iter().map(finding).collect())
}

/// Reads the matrix of one agent all the time; ended when dropped.
pub(super) struct Watch {
    said: Arc<Mutex<Vec<Said>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn of(agent: &Agent) -> Self {
        let (said, stop) = (Arc::<Mutex<Vec<Said>>>::default(), Arc::new(AtomicBool::new(false)));
        let (shared, stopped, reader) = (Arc::clone(&said), Arc::clone(&stop), agent.reader());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(read) = read(&reader) {
                    let mut said = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    // The same document comes again from the cache.
                    if said.last().is_none_or(|last| last.at < read.at) {
                        said.push(read);
                    }
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { said, stop, thread: Some(thread) }
    }

    fn all(&self) -> Vec<Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the agent has reported the same findings for longer than anything else since this Unix second.
    /// A cell remembers what held longest.
    pub(super) fn wait_for_findings(&self, since: u64, logs: impl Fn() -> String) -> Said {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self.all();
            if let Some(settled) = settled(&all, since) {
                return settled.clone();
            }
            assert!(Instant::now() < deadline, "no lasting finding: {all:#?}\n{}", logs());
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the agent reports no finding.
    pub(super) fn wait_for_none(&self, since: u64, logs: impl Fn() -> String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = self.all();
            if all.last().is_some_and(|last| last.at > since && last.findings.is_empty()) {
                return;
            }
            assert!(Instant::now() < deadline, "a finding stays: {all:#?}\n{}", logs());
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(reader: &Reader) -> Option<Said> {
    let (200, text) = reader.get_within("/api/v1/cluster", WITHIN)? else { return None };
    let document: Value = serde_json::from_str(&text).ok()?;
    Some(Said { at: second(&document["at"]), findings: findings(&document)? })
}

/// The second of a time in JSON; 0 if it is none.
pub(super) fn second(time: &Value) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole second")]
    let second = time.as_f64().unwrap_or_default() as u64;
    second
}

/// The last of them, if its findings have been the same for longer than it took until the first of these.
fn settled(all: &[Said], since: u64) -> Option<&Said> {
    let last = all.last().filter(|last| last.at >= since && !last.findings.is_empty())?;
    let same = all.iter().rev().take_while(|said| said.findings == last.findings);
    let first = same.last()?.at.max(since);
    (last.at > first && last.at - first >= first - since).then_some(last)
}

/// Now, in Unix seconds.
pub(super) fn now() -> u64 {
    u64::try_from(mesh::now()).expect("after 1970")
}

#[test]
fn findings_are_settled_once_they_have_lasted_longest() {
    let said = |at, text: &str| {
        let finding = |text: &str| serde_json::json!({"text": text, "nodes": [], "pairs": []});
        let list: Vec<_> = text.split_whitespace().map(finding).collect();
        Said { at, findings: findings(&serde_json::json!({"findings": list})).unwrap() }
    };
    let none = [said(10, ""), said(15, "")];
    assert_eq!(settled(&none, 10), None);
    let mut all = none.to_vec();
    all.extend([said(20, "a"), said(25, "b")]);
    assert_eq!(settled(&all, 12), None, "not yet twice");
    all.push(said(30, "b"));
    assert_eq!(settled(&all, 12), None, "for 5 s of 18 s");
    all.push(said(40, "b"));
    assert_eq!(settled(&all, 12), all.last(), "for 15 s of 28 s");
    assert_eq!(settled(&all, 41), None, "a fault that began later");
    all.push(said(45, ""));
    assert_eq!(settled(&all, 12), None, "no finding any more");
}
