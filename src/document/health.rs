//! `/api/v1/health`: the findings of the matrix for an uptime monitor, as text and as JSON.

use serde::Serialize;

use super::finding::FindingFields;
use super::{VERSION, json, unix_seconds};
use crate::matrix::Matrix;

/// The findings, word for word, one a line; without any, how many pairs are up.
#[must_use]
pub fn health_text(matrix: &Matrix) -> String {
    let findings = matrix.findings();
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

/// The same as JSON.
#[must_use]
pub fn health_json(matrix: &Matrix) -> Vec<u8> {
    let findings = matrix.findings();
    let names: Vec<&str> = matrix.rows().map(|(name, _)| name.as_str()).collect();
    let finding = |finding| FindingFields::without_pairs(finding, &names);
    let mut document = json(&HealthFields {
        version: VERSION,
        healthy: findings.iter().all(|finding| !finding.is_grave),
        node: matrix.node().as_str(),
        at: unix_seconds(matrix.at()),
        findings: findings.iter().map(finding).collect(),
    });
    document.push(b'\n');
    document
}
