//! What an agent reports later.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use super::said::{Finding, Said, findings, second as second_of};
use crate::mesh::{TunnelMesh, node};

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// The JSON document of a route; its status is 200.
pub(super) fn document(mesh: &TunnelMesh, number: u8, path: &str) -> Value {
    let agent = mesh.agents.agent(&node(number));
    let (status, text) = agent.get(path).unwrap_or_default();
    assert_eq!(status, 200, "n{number}: {path}: {text}\n{}", agent.log());
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["version"], 1, "{document}");
    document
}

/// Asks until `answer` is as it must be. A row may be missing on a busy machine.
pub(super) fn ask<T>(mesh: &TunnelMesh, mut answer: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match answer() {
            Ok(answer) => return answer,
            Err(wrong) => {
                let logs = || mesh.agents.logs();
                assert!(Instant::now() < deadline, "{wrong}\n{}", logs());
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// The matrix of a past second.
pub(super) fn matrix(mesh: &TunnelMesh, number: u8, second: u64) -> Value {
    let past = document(mesh, number, &format!("/api/v1/history/{second}"));
    let (from, seconds) = (second_of(&past["at"]), past["seconds"].as_u64().unwrap_or(0));
    assert!(from <= second && second < from + seconds, "{second} is not in {from} + {seconds}");
    assert!(seconds <= 300, "{seconds}");
    assert_eq!(past["node"], node(number));
    past
}

/// What a node reported once, it reports of that second: in the matrix, in the day, in the command.
pub(super) fn assert_remembered(mesh: &TunnelMesh, number: u8, said: &Said) {
    ask(mesh, || {
        let past = matrix(mesh, number, said.at);
        let same = findings(&past).is_some_and(|findings| findings == said.findings);
        same.then_some(())
            .ok_or_else(|| format!("n{number} must say {:#?} of\n{past:#}", said.findings))
    });
    ask(mesh, || {
        let day = document(mesh, number, "/api/v1/history/day");
        let lines = day["findings"].as_array().cloned().unwrap_or_default();
        let missing = said.findings.iter().find(|finding| {
            !lines.iter().any(|line| is_of(line, finding) && contains(line, said.at))
        });
        missing.map_or(Ok(()), |finding| Err(format!("n{number}: no {finding:?} in {day:#}")))
    });
    ask(mesh, || {
        let text = command(mesh, number, &[]);
        let missing = said.findings.iter().find(|finding| !text.contains(&finding.text));
        missing.map_or(Ok(()), |finding| Err(format!("n{number}: no {finding:?} in {text}")))
    });
}

/// Whether a line of the day has the words, kind and nodes of a finding.
fn is_of(line: &Value, finding: &Finding) -> bool {
    let nodes: Vec<Value> = finding.nodes.iter().map(|node| node.as_str().into()).collect();
    line["text"] == finding.text
        && line["kind"] == finding.kind
        && line["grave"] == finding.grave
        && line["nodes"] == Value::Array(nodes)
}

/// Whether a line of the day is about this second.
pub(super) fn contains(line: &Value, second: u64) -> bool {
    let [from, to] = [&line["from"], &line["to"]].map(Value::as_u64);
    from.is_some_and(|from| from <= second) && to.is_some_and(|to| second < to)
}

/// What `wylis history` prints of a node's agent.
pub(super) fn command(mesh: &TunnelMesh, number: u8, more: &[&str]) -> String {
    let (code, text) = run(mesh, number, more);
    assert_eq!(code, Some(0), "{text}");
    text
}

/// As [`command`], with the exit code; the text of errors follows.
pub(super) fn run(mesh: &TunnelMesh, number: u8, more: &[&str]) -> (Option<i32>, String) {
    let pod = &mesh.pods[&number];
    run_from(mesh, (&pod.namespace, number), more)
}

/// As [`run`], from another namespace.
pub(super) fn run_from(
    mesh: &TunnelMesh,
    (from, number): (&wylis_harness::netns::Namespace, u8),
    more: &[&str],
) -> (Option<i32>, String) {
    let address = mesh.agents.agent(&node(number)).address.to_string();
    let mut command = from.command(crate::binary());
    command.args(["history", "--agent", &address]).args(more).stdin(Stdio::null());
    let output = command.output().expect("wylis runs");
    let text = [output.stdout, output.stderr];
    let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), text.concat())
}

/// The row of a node in a matrix.
pub(super) fn row<'a>(matrix: &'a Value, name: &str) -> &'a Value {
    let rows = matrix["rows"].as_array().into_iter().flatten();
    rows.into_iter().find(|row| row["node"] == name).unwrap_or(&Value::Null)
}

/// What each node said of each other, without numbers that change while a cell is open; or why its row is missing.
pub(super) fn words(matrix: &Value) -> Vec<String> {
    let names = matrix["nodes"].as_array().cloned().unwrap_or_default();
    let rows = matrix["rows"].as_array().into_iter().flatten();
    let of_row = |row: &Value| {
        let cells = row["cells"].as_array().cloned().unwrap_or_default();
        let of_cell = |(target, cell): (&Value, &Value)| {
            let fields = ["verdict", "reason", "direction", "incoming", "host", "slow"];
            let fields: Vec<_> = fields.iter().filter_map(|field| cell[field].as_str()).collect();
            format!("{target}: {}", fields.join(" "))
        };
        let cells: Vec<String> = names.iter().zip(&cells).map(of_cell).collect();
        format!("{}: {} {}", row["node"], row["error"], cells.join(", "))
    };
    rows.map(of_row).collect()
}
