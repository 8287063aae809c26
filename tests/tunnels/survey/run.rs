//! Surveys as a person makes them: by the command, in an agent's pod.

use std::time::{Duration, Instant};

use wylis::document::read_survey;
use wylis::survey::{PairResult, State, Status};
use wylis_harness::wait_until;

use crate::binary;
use crate::mesh::{TunnelMesh, node};

/// Probes more often than any path here goes cold.
pub(crate) const FAST: &[(&str, &str)] =
    &[("WYLIS_INTERVAL", "1s"), ("WYLIS_TIMEOUT", "5s"), ("WYLIS_DRAIN", "1s")];
/// See [`FAST`].
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// Longer than any survey of a test.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A survey that was started.
pub(crate) struct Survey<'a> {
    mesh: &'a TunnelMesh,
    agent: u8,
}

/// The arguments of `wylis survey` in the pod of a node, and what it prints; `Err` if it fails.
pub(crate) fn command(mesh: &TunnelMesh, number: u8, arguments: &[&str]) -> Result<String, String> {
    let mut command = mesh.pods[&number].namespace.command(binary());
    let output = command.arg("survey").args(arguments).output().expect("run the command");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let success = output.status.success();
    if success { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// What an agent tells of its survey; `None` without an answer.
pub(crate) fn status(mesh: &TunnelMesh, number: u8) -> Option<Status> {
    let (code, text) = mesh.agents.agent(&node(number)).get("/api/v1/survey")?;
    assert_eq!(code, 200, "{text}");
    Some(read_survey(text.as_bytes()).expect("a document").1)
}

impl<'a> Survey<'a> {
    /// Starts a survey of the agent's node with these peers, or of all; gaps in milliseconds.
    pub(crate) fn start(mesh: &'a TunnelMesh, agent: u8, to: &str, gaps: &[u64]) -> Self {
        let gaps: Vec<String> = gaps.iter().map(|gap| format!("{gap}ms")).collect();
        let gaps = gaps.join(",");
        let to: &[&str] = if to == "all" { &["--all"] } else { &["--to", to] };
        let arguments = [to, &["--gaps", &gaps, "--yes"]].concat();
        let begun = command(mesh, agent, &arguments);
        assert!(begun.is_ok(), "{begun:?}\n{}", mesh.agents.logs());
        Self { mesh, agent }
    }

    /// Waits for a pair to rest, for so long at most.
    pub(crate) fn wait_for_rest(&self) {
        wait_until(Duration::from_secs(30), "a pair rests", || {
            let status = status(self.mesh, self.agent);
            status.is_some_and(|status| status.now.iter().any(|pair| pair.trial.is_some()))
        });
    }

    /// Waits until the first trial is done.
    pub(crate) fn wait_for_trial(&self) {
        wait_until(Duration::from_secs(120), "a trial is done", || {
            let status = status(self.mesh, self.agent);
            status.is_some_and(|status| status.now.iter().all(|pair| pair.trials > 0))
        });
    }

    /// Waits for the end, and returns the result of the only pair.
    pub(crate) fn finish(&self) -> PairResult {
        self.finish_while(|| ())
    }

    /// As [`Self::finish`], and does something about five times a second.
    pub(crate) fn finish_while(&self, act: impl FnMut()) -> PairResult {
        let status = self.end(act);
        assert_eq!(status.results.len(), 1, "{status:?}");
        status.results[0].result
    }

    /// Waits for the end.
    pub(crate) fn end(&self, mut act: impl FnMut()) -> Status {
        let begun = Instant::now();
        loop {
            let status = status(self.mesh, self.agent).expect("an answer");
            if status.state != State::Running {
                println!("survey: took {:.1?}", begun.elapsed());
                assert_eq!(status.state, State::Done, "{status:?}\n{}", self.mesh.agents.logs());
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "{status:?}");
            act();
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
