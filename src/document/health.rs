//! `/api/v1/health`: the findings of the matrix for an uptime monitor, as text and as JSON.

use serde::Serialize;

use super::{VERSION, json, unix_seconds};
use crate::matrix::{Finding, Matrix};

/// The findings, word for word, one a line; without any, how many pairs are up.
#[must_use]
pub fn health_text(matrix: &Matrix, findings: &[Finding]) -> String {
    if findings.is_empty() {
        let (up, all) = matrix.pairs();
        return format!("No findings: {up} of {all} pairs are up\n");
    }
    findings.iter().flat_map(|finding| [finding.text.as_str(), "\n"]).collect()
}

#[derive(Serialize)]
struct HealthFields<'a> {
    version: u32,
    healthy: bool,
    node: &'a str,
    at: f64,
    findings: Vec<FindingFields<'a>>,
}

/// A finding without its pairs, which are places in the matrix.
#[derive(Serialize)]
struct FindingFields<'a> {
    kind: &'a str,
    grave: bool,
    nodes: Vec<&'a str>,
    cells: usize,
    text: &'a str,
}

impl<'a> FindingFields<'a> {
    fn new(finding: &'a Finding, names: &[&'a str]) -> Self {
        let name = |place: &usize| names.get(*place).copied();
        Self {
            kind: finding.kind.as_str(),
            grave: finding.is_grave,
            nodes: finding.nodes.iter().filter_map(name).collect(),
            cells: finding.cells,
            text: &finding.text,
        }
    }
}

/// The same as JSON.
#[must_use]
pub fn health_json(matrix: &Matrix, findings: &[Finding]) -> Vec<u8> {
    let names: Vec<&str> = matrix.rows().map(|(name, _)| name.as_str()).collect();
    let mut document = json(&HealthFields {
        version: VERSION,
        healthy: findings.iter().all(|finding| !finding.is_grave),
        node: matrix.node().as_str(),
        at: unix_seconds(matrix.at()),
        findings: findings.iter().map(|finding| FindingFields::new(finding, &names)).collect(),
    });
    document.push(b'\n');
    document
}
