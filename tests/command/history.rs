//! `wylis history` against a mesh of real agents: the day in words, of all nodes and of one, and as JSON.

use serde_json::Value;
use wylis_harness::mesh::Mesh;
use wylis_harness::wait_until;

use super::{FAST, HEALTHY, PATIENCE, USAGE, binary, run, run_in_pod};

#[test]
fn a_day_is_told_in_the_words_of_its_findings() {
    let mut mesh = Mesh::of(3, &binary(), FAST);
    let history = |mesh: &Mesh, arguments: &[&str]| {
        let (code, text, error) = run_in_pod(mesh, "n1", &[&["history"], arguments].concat());
        assert_eq!((code, error.as_str()), (HEALTHY, ""), "a day with faults is no error: {text}");
        text
    };
    let text = history(&mesh, &[]);
    assert!(text.starts_with("n1: the last 24 h, until "), "{text}");
    assert!(text.lines().nth(1).unwrap().starts_with("remembered since "), "{text}");
    assert!(text.ends_with("\n\nnothing was wrong, as far as is remembered\n"), "{text}");
    mesh.kill("n3");
    for node in ["n1", "n2"] {
        mesh.wait_for_verdict(node, "n3", "down");
    }
    // What the agent says of it now. A collected day or matrix is cached for 5 s.
    let finding = || {
        let (_, document, _) = run_in_pod(&mesh, "n1", &["cluster", "--json"]);
        let document: Value = serde_json::from_str(&document).unwrap();
        let mut findings = document["findings"].as_array().unwrap().iter();
        let down = findings.find(|finding| finding["kind"] == "node_down")?;
        Some(down["text"].as_str().unwrap().to_owned())
    };
    wait_until(PATIENCE, "the same sentence of now and of the day", || {
        let text = history(&mesh, &["--since=1h"]);
        finding()
            .is_some_and(|finding| text.contains(&format!("–now        just now     {finding}\n")))
    });
    let text = history(&mesh, &[]);
    assert!(text.contains("\nwithout the memory of n3 (refused)\n\n"), "{text}");
    assert_eq!(history(&mesh, &["--node=n3"]).lines().last(), text.lines().last());
    let none = "no finding names n9, as far as is remembered\n";
    assert!(history(&mesh, &["--node", "n9"]).ends_with(none));
    // The document is that of the route, with the whole day.
    let document: Value = serde_json::from_str(&history(&mesh, &["--json"])).unwrap();
    let route = mesh.agent("n1").get("/api/v1/history/day").unwrap().1;
    let route: Value = serde_json::from_str(&route).unwrap();
    assert_eq!(document["findings"], route["findings"]);
    assert_eq!((&document["node"], &document["seconds"]), (&"n1".into(), &300.into()));
    assert!(document["findings"].as_array().unwrap().iter().any(|one| one["kind"] == "node_down"));
}

#[test]
fn a_wrong_time_names_itself_and_its_bounds() {
    let (code, out, error) = run(&["history", "--since", "2d", "--node="]);
    assert_eq!((code, out.as_str()), (USAGE, ""));
    assert_eq!(
        error,
        "wylis: --since = \"2d\": must be a duration with its unit, such as 24h, from 5m to 24h\n\
         wylis: --node = \"\": must be the name of a node\n"
    );
}
