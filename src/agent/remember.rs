//! What the loop tells its history.

use super::event_loop::EventLoop;
use crate::name::NodeName;
use crate::probe::{Outcome, Report};
use crate::state::{Moment, Verdict};

impl EventLoop {
    /// Closes cells that have ended. To be called before anything later is counted.
    pub(super) fn close_cells(&mut self, now: Moment) {
        if self.history.tick(now, self.state.records()) {
            self.save_history(now);
        }
    }

    /// Has what is remembered be saved; waits for nothing.
    pub(super) fn save_history(&self, now: Moment) {
        self.recorder.save(now.instant, || self.history.recollect(now));
    }

    /// Counts a blank probe, if it left a sample.
    pub(super) fn remember_probe(&mut self, report: &Report) {
        let Some(record) = self.state.get(&report.node) else { return };
        let counts = match report.outcome {
            Outcome::Success { .. } => true,
            // The peer had announced that it stops.
            Outcome::Failure(_) => record.draining_until.is_none(),
            Outcome::Local(_) => false,
        };
        if counts {
            self.history.observe(record);
        }
    }

    /// Takes what has changed of a peer; `from` is its verdict before.
    pub(super) fn remember(&mut self, node: &NodeName, from: Verdict) {
        if let Some(record) = self.state.get(node) {
            self.history.note(Moment::now(), from, record);
        }
    }
}
