//! The findings of real rows, recorded on real tunnels by the cases of tests/tunnels/clusters: each document
//! gives, from its rows alone, the sentences that its agent gave. The cases say which sentences those must be.
#![cfg(test)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use wylis::document::{matrix_json, read_matrix};

/// Fewer would be another folder.
const MIN_RECORDED: usize = 30;

fn recorded() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/findings/recorded");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The sentences, but those of clocks: a document does not say when its rows arrived.
fn texts(document: &Value) -> Vec<&str> {
    let findings = document["findings"].as_array().into_iter().flatten();
    let findings = findings.filter(|finding| finding["kind"] != "clock");
    findings.map(|finding| finding["text"].as_str().unwrap()).collect()
}

/// The same rows without what their agent found in them.
fn without_findings(document: &Value) -> Value {
    let mut document = document.clone();
    document.as_object_mut().unwrap().remove("findings");
    document
}

/// The document that an agent makes of these rows.
fn again(document: &Value) -> Value {
    let matrix = read_matrix(document.to_string().as_bytes()).unwrap();
    let text: Vec<u8> = matrix_json(&Arc::new(matrix)).flatten().collect();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn recorded_rows_give_the_recorded_sentences() {
    let paths = recorded();
    assert!(paths.len() >= MIN_RECORDED, "{paths:?}");
    let mut wrong = Vec::new();
    for path in &paths {
        let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let found = again(&without_findings(&document));
        if texts(&found) != texts(&document) {
            wrong.push((path.file_name(), texts(&found).join("; "), texts(&document).join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), paths.len());
}
