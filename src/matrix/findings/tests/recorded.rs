//! Documents of real agents, `recorded/SITUATION.json`: from their rows alone come the same findings.
//!
//! A recording is `/api/v1/cluster` as it was given out, checked by eye. Clocks are not in it.

use std::path::Path;

use serde_json::Value;

use crate::document::read_matrix;

#[test]
fn the_rows_of_a_recording_give_its_findings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/matrix/findings/tests/recorded");
    let mut recordings = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let mut document: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let findings = document.as_object_mut().unwrap().remove("findings").unwrap();
        let expected: Vec<&str> = findings
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| finding["kind"] != "clock")
            .map(|finding| finding["text"].as_str().unwrap())
            .collect();
        let matrix = read_matrix(document.to_string().as_bytes()).unwrap();
        let found: Vec<&str> = matrix.findings().iter().map(|one| one.text.as_str()).collect();
        assert_eq!(found, expected, "{}", path.display());
        recordings += 1;
    }
    assert!(recordings > 0);
}
