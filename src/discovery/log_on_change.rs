//! Logs a fault when its count changes, not each time it is counted.

use log::{debug, info, warn};

/// A count that should be zero.
#[derive(Debug)]
pub(super) struct LogOnChange {
    what: &'static str,
    last: usize,
}

impl LogOnChange {
    pub(super) const fn new(what: &'static str) -> Self {
        Self { what, last: 0 }
    }

    /// Logs the count: as a warning when it changes, at debug level while it stays the same.
    pub(super) fn update(&mut self, count: usize, details: impl FnOnce() -> String) {
        match (self.last, count) {
            (0, 0) => {}
            (_, 0) => info!("discovery: no more {}", self.what),
            (last, now) if last == now => debug!("discovery: {now} {}: {}", self.what, details()),
            (_, now) => warn!("discovery: {now} {}, for example {}", self.what, details()),
        }
        self.last = count;
    }
}
