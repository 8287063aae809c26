//! A complaint that is told when it begins and when it ends, not each time.

use log::{debug, info, warn};

/// A count that should be zero, and what it counts.
#[derive(Debug)]
pub(super) struct LogOnChange {
    what: &'static str,
    last: usize,
}

impl LogOnChange {
    pub(super) const fn new(what: &'static str) -> Self {
        Self { what, last: 0 }
    }

    /// Tells of a count and its details: aloud where it changes, in a whisper where it lasts.
    pub(super) fn tell(&mut self, count: usize, details: impl FnOnce() -> String) {
        match (self.last, count) {
            (0, 0) => {}
            (_, 0) => info!("discovery: no more {}", self.what),
            (last, now) if last == now => debug!("discovery: {now} {}: {}", self.what, details()),
            (_, now) => warn!("discovery: {now} {}, for example {}", self.what, details()),
        }
        self.last = count;
    }
}
