//! The experiments of one peer: when to make one, and what they found. Pure.
//!
//! At most one experiment of a peer is in flight. The first that is due goes first, in the order below.

mod flows;
mod host;
mod mtu;

use std::net::SocketAddr;

use super::{Moment, Verdict};
use crate::experiment::{Experiment, Found};
use flows::Flows;
use host::Host;
use mtu::Mtu;

/// What is known of the peer without experiments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    pub(super) address: SocketAddr,
    pub(super) verdict: Verdict,
}

/// What experiments found of one peer.
#[derive(Debug, Clone, Default)]
pub struct Experiments {
    /// The largest packet of each direction.
    pub mtu: Mtu,
    /// The host behind the pod.
    pub host: Host,
    /// Flows that never get through.
    pub flows: Flows,
    in_flight: bool,
}

impl Experiments {
    /// The experiment that is due, if any.
    pub(super) fn due(&self, now: Moment, peer: Situation) -> Option<Experiment> {
        if self.in_flight {
            return None;
        }
        let due = self.mtu.due(now, peer).or_else(|| self.host.due(now, peer));
        due.or_else(|| self.flows.due(now, peer))
    }

    /// Whether one is in flight.
    pub(super) fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// Records that one was begun, or could not be: then it is due again a while later.
    pub(super) fn begin(&mut self, now: Moment, experiment: &Experiment, accepted: bool) {
        self.in_flight = accepted;
        match experiment {
            Experiment::Mtu { direction, .. } => self.mtu.begin(now, *direction, accepted),
            Experiment::Host { .. } => self.host.begin(now, accepted),
            Experiment::Flows { .. } => self.flows.begin(now, accepted),
        }
    }

    /// Folds in what was found.
    pub(super) fn end(&mut self, now: Moment, found: Found) {
        self.in_flight = false;
        match found {
            Found::Mtu(direction, largest) => self.mtu.end(now, direction, largest),
            Found::Host(answered) => self.host.end(now, answered),
            Found::Flows(dead) => self.flows.end(now, dead),
        }
    }
}
