//! Makes experiments, one after the other, on a thread of its own that ends when idle.
//!
//! Experiments are slow: a search for an MTU takes ten connections and up to ten seconds. So they never use a
//! worker of the pool, and few wait.

mod flows;
mod host;
mod mtu;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::experiment::{Experiment, ExperimentReport, Found};
use crate::name::NodeName;
pub use flows::repeat_flows;
pub use host::host_answers;
pub use mtu::largest_packet;

/// Most experiments that wait.
pub const MAX_EXPERIMENTS: usize = 32;

/// Makes experiments. Dropping it drops those that wait.
#[derive(Clone)]
pub struct Experimenter(Arc<Inner>);

struct Inner {
    report: Box<dyn Fn(ExperimentReport) + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(NodeName, Experiment)>,
    running: bool,
}

impl Experimenter {
    /// Without a thread. `report` is called once for each accepted experiment, on the thread `experiment`.
    #[must_use]
    pub fn new(report: impl Fn(ExperimentReport) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { report: Box::new(report), state: Mutex::default() }))
    }

    /// Queues an experiment, and never blocks. `false`: too many wait, or no thread can be started.
    #[must_use]
    pub fn submit(&self, node: NodeName, experiment: Experiment) -> bool {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.waiting.len() >= MAX_EXPERIMENTS {
            return false;
        }
        state.waiting.push_back((node, experiment));
        if state.running {
            return true;
        }
        let inner = Arc::clone(&self.0);
        let thread = thread::Builder::new()
            .name("experiment".to_owned())
            .stack_size(super::WORKER_STACK)
            .spawn(move || inner.run());
        state.running = thread.is_ok();
        if !state.running {
            state.waiting.clear();
        }
        state.running
    }

    /// Drops those that wait.
    pub fn cancel(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.clear();
    }
}

impl Inner {
    fn next(&self) -> Option<(NodeName, Experiment)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front();
        state.running = next.is_some();
        next
    }

    fn run(&self) {
        while let Some((node, experiment)) = self.next() {
            let found = perform(&experiment);
            (self.report)(ExperimentReport { node, ended: Instant::now(), found });
        }
    }
}

fn perform(experiment: &Experiment) -> Found {
    match experiment {
        Experiment::Mtu { address, direction } => {
            Found::Mtu(*direction, largest_packet(*address, *direction))
        }
        Experiment::Host { address } => Found::Host(host_answers(*address)),
        Experiment::Flows { address, failed, passed } => {
            Found::Flows(repeat_flows(*address, failed, passed))
        }
    }
}
