//! `wylis survey` against a mesh of real agents: what it says before it begins, progress, results, refusals.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use wylis_harness::mesh::Mesh;
use wylis_harness::{skip, wait_until};

use super::{FAILED, FAST, HEALTHY, PATIENCE, USAGE, binary, decode, run_in_pod};

fn state(mesh: &Mesh, node: &str) -> String {
    let (code, text, error) = run_in_pod(mesh, node, &["survey", "--json"]);
    assert_eq!((code, error.as_str()), (HEALTHY, ""), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    document["survey"]["state"].as_str().unwrap().to_owned()
}

/// Begins a survey of `n1`, which waits until its peers have proven themselves; returns what was printed.
fn begun(mesh: &Mesh, arguments: &[&str]) -> String {
    let arguments = [&["survey", "--yes"], arguments].concat();
    let (code, text, error) = run_in_pod(mesh, "n1", &arguments);
    assert_eq!((code, error.as_str()), (HEALTHY, ""), "{text}");
    text
}

#[test]
fn a_survey_is_begun_shown_and_kept() {
    let mesh = Mesh::of(3, &binary(), FAST);
    let survey = |node: &str, arguments: &[&str]| {
        run_in_pod(&mesh, node, &[&["survey"], arguments].concat())
    };
    let none = "n1: no survey since the agent started\n";
    assert_eq!(survey("n1", &[]), (HEALTHY, none.to_owned(), String::new()));
    let text = begun(&mesh, &["--all", "--gaps=1s,2s", "--budget=5m"]);
    let first = "n1 surveys 3 pairs of 3 nodes, in 3 rounds one after the other, with gaps of 1 s, 2 s: about 24 s if \
                 no path goes cold; a path that does is searched, which takes several times as long.\n";
    assert!(text.starts_with(first), "{text}");
    assert!(text.ends_with("the survey has begun; wylis survey shows it\n"), "{text}");
    assert!(
        text.contains("\nWhile a pair rests, its two agents send each other nothing."),
        "{text}"
    );
    // One at a time in a mesh, whichever agent is asked, and before anything else is said.
    for node in ["n1", "n2"] {
        let (code, text, error) = survey(node, &["--to=n3", "--yes"]);
        assert_eq!((code, text.as_str()), (FAILED, ""), "{error}");
        assert!(error.starts_with("wylis: refused: a survey of n1 goes on; "), "{error}");
    }
    let (_, text, _) = survey("n2", &[]);
    assert!(text.starts_with("n2: a survey of n1 goes on; ask n1 for its progress\n"), "{text}");
    let (_, text, _) = survey("n1", &[]);
    assert!(text.starts_with("n1: survey running, "), "{text}");
    wait_until(2 * PATIENCE, "the survey ends", || state(&mesh, "n1") == "done");
    let (code, text, error) = survey("n1", &[]);
    assert_eq!((code, error.as_str()), (HEALTHY, ""), "{text}");
    assert!(text.starts_with("n1: survey done, 3 of 3 pairs surveyed, begun "), "{text}");
    for (source, target) in
        [("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1"), ("n2", "n3"), ("n3", "n2")]
    {
        assert!(text.contains(&format!("\n{source} → {target}  warm at 2 s\n")), "{text}");
    }
    assert!(text.contains("other traffic may have kept the path warm"), "{text}");
    assert!(text.contains("\nno path went cold up to 2 s: choose a third of "), "{text}");
    // All is probed again.
    for node in ["n1", "n2", "n3"] {
        let (code, text, _) = run_in_pod(&mesh, node, &["peers"]);
        assert_eq!(code, HEALTHY, "{text}");
    }
}

#[test]
fn a_survey_is_stopped() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let survey = |arguments: &[&str]| run_in_pod(&mesh, "n1", &[&["survey"], arguments].concat());
    begun(&mesh, &["--to=n2", "--gaps=5m", "--json"]);
    assert_eq!(state(&mesh, "n1"), "running");
    assert_eq!(survey(&["--stop"]), (HEALTHY, "the survey has ended\n".to_owned(), String::new()));
    assert_eq!(state(&mesh, "n1"), "stopped");
    let (_, text, _) = survey(&[]);
    assert!(text.starts_with("n1: survey stopped"), "{text}");
    // And another one may begin, once the pair has ended.
    wait_until(PATIENCE, "another one", || survey(&["--to=n2", "--gaps=5m", "--yes"]).0 == HEALTHY);
    let (code, text, error) = survey(&["--stop", "--json"]);
    assert_eq!((code, error.as_str()), (HEALTHY, ""), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["survey"]["state"], "stopped", "{text}");
}

#[test]
fn nothing_begins_without_consent_or_with_an_unknown_node() {
    let mesh = Mesh::of(2, &binary(), FAST);
    let survey = |arguments: &[&str]| run_in_pod(&mesh, "n1", &[&["survey"], arguments].concat());
    let (code, text, error) = survey(&["--all"]);
    assert_eq!(code, USAGE, "{text}");
    assert_eq!(error, "wylis: --yes: is needed where no terminal can be asked\n");
    assert!(text.starts_with("n1 surveys 1 pair of 2 nodes, with gaps of 10 s, "), "{text}");
    let (code, _, error) = survey(&["--to=n2,n9", "--yes"]);
    assert_eq!((code, error.as_str()), (FAILED, "wylis: n1 has no peer n9; its peers: n2\n"));
    assert_eq!(state(&mesh, "n1"), "none");
}

#[test]
fn an_answer_at_the_terminal_begins_it() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("script(1), which makes a terminal, is not installed");
    }
    let mesh = Mesh::of(2, &binary(), FAST);
    let asked = |answer: &str| {
        let line = format!("{} survey --all --gaps=1s", binary().display());
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("WYLIS_LISTEN", mesh.agent("n1").address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It stays open, or the terminal would end.
        let mut input = script.stdin.take().unwrap();
        input.write_all(answer.as_bytes()).unwrap();
        let (code, text, _) = decode(script.wait_with_output().unwrap());
        drop(input);
        (code, text)
    };
    for answer in ["n\n", "\n", "maybe\n"] {
        let (code, text) = asked(answer);
        assert_eq!(code, FAILED, "{text}");
        assert!(text.contains("Begin? [y/N] ") && text.contains("wylis: not begun"), "{text}");
    }
    assert_eq!(state(&mesh, "n1"), "none");
    wait_until(PATIENCE, "a survey begins", || asked("y\n").0 == HEALTHY);
    assert_ne!(state(&mesh, "n1"), "none");
}
