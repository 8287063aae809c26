//! Whether a peer can rest for a survey, and what must end before.

use std::time::{Duration, Instant};

use super::super::rest::{Probed, Rest};
use super::PeerRecord;
use crate::token::{PairToken, TokenKey};

/// How long a gap counts among the longest: an hour, and the time until one that has just ended is read.
const REMEMBERED: Duration = Duration::from_secs(61 * 60);

impl PeerRecord {
    /// Whether the pair rests for a survey.
    #[must_use]
    pub fn surveyed(&self) -> bool {
        self.rest == Rest::Resting
    }

    /// Whether it rested so lately that its longest gap may be one of that.
    #[must_use]
    pub fn was_surveyed_lately(&self, now: Instant) -> bool {
        match self.rest {
            Rest::Never => false,
            Rest::Resting => true,
            Rest::Until(at, _) => now.saturating_duration_since(at) <= REMEMBERED,
        }
    }

    /// Why it cannot rest now.
    pub(in crate::state) fn may_rest(&self) -> Result<(), &'static str> {
        if self.draining_until.is_some() {
            return Err("the peer drains");
        }
        if self.up != Some(true) || self.consecutive_failures > 0 {
            return Err("probes of the peer fail");
        }
        if let Rest::Until(_, Probed::No) = self.rest {
            return Err("busy: the peer is to be probed before it rests again");
        }
        Ok(())
    }

    /// The tokens to show to it, with the key of this agent.
    #[must_use]
    pub fn token(&self, key: &TokenKey) -> PairToken {
        let own = key.own(&self.peer.node, self.instance());
        PairToken { own, echo: self.claims.token() }
    }

    /// Whether nothing that was sent to it is in flight.
    pub(in crate::state) fn is_quiet(&self) -> bool {
        self.is_idle()
            && self.large.in_flight.is_none()
            && !self.claims.is_checking()
            && !self.experiments.in_flight()
    }

    /// A probe ended.
    pub(in crate::state) fn note_probed(&mut self) {
        if let Rest::Until(at, Probed::No) = self.rest {
            self.rest = Rest::Until(at, Probed::Yes);
        }
    }
}
