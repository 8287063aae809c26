//! Whether the recent probes of a peer fail and succeed in turns. Pure.

use super::samples::Sample;
use crate::probe::FailureReason;

/// Successes between the first and the last of the failures: fewer are one outage that flaps once as it ends.
const MIN_SUCCESSES: u32 = 2;
/// Most probes from the first to the last of the failures. Two failures further apart are rarer than 1 of 16,
/// and each is a failure of its own.
const MAX_SPAN: u32 = 16;

/// The recent probes, as bits: 1 for a failure, the newest in bit 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failures(u32);

impl Failures {
    /// Of these samples, oldest first; 32 at most count.
    pub(super) fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let failed = samples.into_iter().map(|sample| sample.failure().is_some());
        Self(failed.fold(0, |bits, failed| bits << 1 | u32::from(failed)))
    }

    /// Without the failures since the last success.
    pub(super) fn before_last_run(self) -> Self {
        Self(self.0.checked_shr(self.0.trailing_ones()).unwrap_or(0))
    }

    /// Whether any probe failed.
    pub(super) fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether two failing runs are [`MAX_SPAN`] apart at most, and [`MIN_SUCCESSES`] at least.
    pub(super) fn alternate(self) -> bool {
        let mut rest = self.0;
        while rest != 0 {
            // Bit 0 is a failure now, and so is the highest bit of the span.
            rest >>= rest.trailing_zeros();
            let span = rest & ((1 << MAX_SPAN) - 1);
            let probes = u32::BITS - span.leading_zeros();
            if probes - span.count_ones() >= MIN_SUCCESSES {
                return true;
            }
            rest &= !1;
        }
        false
    }
}

/// The most frequent reason of the failures among these samples, oldest first. Of equally frequent ones it is
/// `known`, so that a verdict does not change with every probe, else the latest.
pub(super) fn most_frequent<'a>(
    samples: impl DoubleEndedIterator<Item = &'a Sample> + Clone,
    known: Option<FailureReason>,
) -> Option<FailureReason> {
    let count = |reason| samples.clone().filter(|sample| sample.failure() == Some(reason)).count();
    // max_by_key() returns the last of equals.
    let latest = samples.clone().filter_map(Sample::failure).max_by_key(|reason| count(*reason))?;
    Some(known.filter(|known| count(*known) == count(latest)).unwrap_or(latest))
}
