//! What one agent says of the cluster: its document, its health route, its command.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;
use wylis_harness::process::Agent;

use super::table::{Case, Touched, matches};
use crate::mesh::{TunnelMesh, node};

/// The exit code of a command that found something wrong.
const UNHEALTHY: i32 = 4;
/// A last pattern: more findings may follow.
const MORE: &str = "..";

/// The document of one agent, and its text.
#[derive(Debug, Default, Clone)]
pub(super) struct View(pub(super) Value, pub(super) String);

impl View {
    pub(super) fn read(agent: &Agent) -> Self {
        let (_, text) = agent.get("/api/v1/cluster").unwrap_or_default();
        Self(serde_json::from_str(&text).unwrap_or_default(), text)
    }

    fn findings(&self) -> impl Iterator<Item = &Value> {
        self.0["findings"].as_array().into_iter().flatten()
    }

    /// The sentences, in order.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.findings().map(|finding| finding["text"].as_str().unwrap_or_default()).collect()
    }

    /// The number of the node at this index of the document.
    fn number(&self, index: usize) -> u8 {
        let name = self.0["nodes"][index].as_str().unwrap_or_default();
        name.strip_prefix('n').and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// The verdict of every cell, by source and target.
    pub(super) fn cells(&self) -> BTreeMap<(u8, u8), String> {
        let mut cells = BTreeMap::new();
        for (source, row) in self.0["rows"].as_array().into_iter().flatten().enumerate() {
            for (target, cell) in row["cells"].as_array().into_iter().flatten().enumerate() {
                if let Some(verdict) = cell["verdict"].as_str() {
                    let reason = cell["reason"].as_str();
                    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
                    let pair = (self.number(source), self.number(target));
                    cells.insert(pair, format!("{verdict}{reason}"));
                }
            }
        }
        cells
    }

    /// The pairs that a finding is about.
    fn pairs(&self, finding: &Value) -> Vec<(u8, u8)> {
        let index = |value: &Value| usize::try_from(value.as_u64().unwrap_or(u64::MAX)).ok();
        let pairs = finding["pairs"].as_array().into_iter().flatten();
        pairs
            .filter_map(|pair| Some((self.number(index(&pair[0])?), self.number(index(&pair[1])?))))
            .collect()
    }

    /// Verdicts and findings that the case does not permit, and cells that are not in exactly one finding.
    pub(super) fn false_alarms(&self, case: &Case, size: u8) -> Vec<String> {
        let mut alarms = Vec::new();
        let cells = self.cells();
        let wrong = |verdict: &str| !matches!(verdict, "up" | "unknown" | "draining");
        for ((source, target), verdict) in &cells {
            if wrong(verdict) && !case.permits(*source, *target, verdict) {
                alarms.push(format!("n{source} on n{target}: {verdict}"));
            }
        }
        for finding in self.findings() {
            let (text, pairs) = (finding["text"].as_str().unwrap_or_default(), self.pairs(finding));
            let expected = case.says.iter().flat_map(|(_, patterns)| patterns.iter());
            let expected = expected.copied().any(|pattern| matches(pattern, text));
            let nodes = finding["nodes"].as_array().into_iter().flatten();
            let node = |name: &Value| name.as_str()?.strip_prefix('n')?.parse().ok();
            let mut nodes = nodes.map(|name| node(name).unwrap_or(0));
            let permitted = if pairs.is_empty() {
                expected || nodes.all(|node| case.touched.has_node(node, size))
            } else {
                pairs.iter().all(|pair| {
                    let verdict = cells.get(pair).map_or("", String::as_str);
                    case.permits(pair.0, pair.1, verdict)
                }) || (expected && matches!(case.touched, Touched::Nothing))
            };
            if !permitted {
                alarms.push(format!("finding {text:?} on {pairs:?}"));
            }
        }
        if self.0["findings"].is_array() {
            let explained: Vec<_> =
                self.findings().flat_map(|finding| self.pairs(finding)).collect();
            for (pair, verdict) in cells.iter().filter(|(_, verdict)| wrong(verdict)) {
                let times = explained.iter().filter(|explained| *explained == pair).count();
                if times != 1 {
                    let texts = self.texts();
                    alarms.push(format!("{pair:?}, {verdict}, is in {times} of {texts:?}"));
                }
            }
        }
        alarms
    }

    /// Whether the sentences match the patterns; the error shows the difference.
    pub(super) fn says(&self, patterns: &[&str]) -> Result<(), String> {
        let texts = self.texts();
        let all = match patterns {
            [patterns @ .., last] if *last == MORE => {
                patterns.iter().all(|pattern| texts.iter().any(|text| matches(pattern, text)))
            }
            patterns => {
                let mut both = patterns.iter().zip(&texts);
                texts.len() == patterns.len() && both.all(|(pattern, text)| matches(pattern, text))
            }
        };
        if self.0["findings"].is_array() && all {
            return Ok(());
        }
        Err(format!(
            "it must say {patterns:#?}, and says {:#}\ncells {:?}\nrows {}",
            self.0["findings"],
            self.cells(),
            self.errors()
        ))
    }

    /// The rows that are missing or came through another node.
    fn errors(&self) -> String {
        let rows = self.0["rows"].as_array().into_iter().flatten();
        let said = rows.map(|row| format!("{} {} {}", row["node"], row["error"], row["through"]));
        said.collect::<Vec<_>>().join(", ")
    }

    /// Whether the row of a node came through another one.
    pub(super) fn through(&self, number: u8) -> Option<&str> {
        let mut rows = self.0["rows"].as_array()?.iter();
        rows.find(|row| row["node"] == *node(number))?["through"].as_str()
    }
}

#[test]
fn only_what_a_case_permits_in_passing_is_no_false_alarm() {
    let alarms = |source: usize, target: usize, reason: &str| {
        let text = format!("n{} → n{}: down ({reason})", source + 1, target + 1);
        let mut rows = vec![serde_json::json!({"cells": [null, null, null]}); 3];
        rows[source]["cells"][target] = serde_json::json!({"verdict": "down", "reason": reason});
        let document = serde_json::json!({
            "nodes": ["n1", "n2", "n3"],
            "rows": rows,
            "findings": [{"text": text, "nodes": [], "pairs": [[source, target]]}],
        });
        View(document, String::new()).false_alarms(super::table::INTERCEPTED, 3).len()
    };
    assert_eq!(alarms(0, 1, "response_timeout"), 0);
    // The cell, and its finding.
    assert_eq!(alarms(0, 1, "connect_timeout"), 2);
    assert_eq!(alarms(1, 0, "response_timeout"), 2);
}

/// Whether the health route and the command of the agent agree with its document.
pub(super) fn agrees(
    mesh: &TunnelMesh,
    number: u8,
    case: &Case,
    texts: &[&str],
) -> Result<(), String> {
    let agent = mesh.agents.agent(&node(number));
    let grave = case.grave.map(|grave| grave && !texts.is_empty());
    let (status, body) = agent.get("/api/v1/health").unwrap_or_default();
    let expected = match grave {
        Some(true) => status == 503,
        Some(false) => status == 200,
        None => matches!(status, 200 | 503),
    };
    if !expected || !texts.iter().all(|text| body.contains(text)) {
        return Err(format!("health: {status}, grave {grave:?}, expected {texts:?}: {body}"));
    }
    let address = agent.address.to_string();
    let mut command = mesh.pods[&number].namespace.command(crate::binary());
    command.args(["cluster", "--agent", &address]).stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let code = output.status.code();
    let as_expected = match (grave, texts.is_empty()) {
        (Some(true), _) => code == Some(UNHEALTHY),
        (_, true) => code == Some(0),
        (_, false) => matches!(code, Some(0 | UNHEALTHY)),
    };
    if !as_expected || !texts.iter().all(|text| shown.contains(text)) {
        return Err(format!("wylis cluster: {code:?}, expected {texts:?}: {shown}"));
    }
    Ok(())
}
