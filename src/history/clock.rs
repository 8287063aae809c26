//! When the open cells begin and end, and how the wall clock moved meanwhile.

use std::time::{Duration, Instant};

use super::CellTime;
use crate::matrix::unix_millis;
use crate::state::Moment;

/// How far the wall clock may move against the monotonic one while cells are open, in seconds: a clock is slewed by
/// less within 5 minutes.
pub(super) const MAX_SLEW: u64 = 2;
const MAX_STEP: Duration = Duration::from_secs(MAX_SLEW);
/// A cell that is younger stays open after a step of the clock, with another time: a clock that is set again and
/// again makes no flood of cells.
const MIN_LENGTH: Duration = Duration::from_secs(60);
/// A loop that does not look at the clock for so long was suspended: it looks every second.
const SUSPENDED: Duration = Duration::from_secs(10);

/// The time of the open cells.
#[derive(Debug)]
pub(super) struct CellClock {
    /// A moment at which the time of the cells was set.
    anchor: Moment,
    /// When the cells began.
    began: Instant,
    /// When they end.
    until: Instant,
    /// Their begin in Unix seconds, and their length.
    from: u64,
    seconds: u32,
    /// When the loop looked last.
    seen: Instant,
}

/// How the open cells end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// At their edge: the next ones begin there.
    Edge,
    /// After so many seconds; the next ones begin now.
    Broken(u32),
}

impl CellClock {
    /// Cells that begin now, and end at the next multiple of `width` seconds.
    pub(super) fn new(now: Moment, width: u32) -> Self {
        let millis = unix_millis(now.wall);
        let mut clock = Self {
            anchor: now,
            began: now.instant,
            until: now.instant,
            from: millis / 1000,
            seconds: 0,
            seen: now.instant,
        };
        // No cell of a second or two.
        let edge = edge_after(clock.from, width);
        if edge.saturating_mul(1000) <= millis.saturating_add(MAX_SLEW * 1000) {
            clock.from = edge;
        }
        clock.aim(now, width);
        clock
    }

    /// The cells after these, which have reached their edge.
    pub(super) fn next(&self, now: Moment, width: u32) -> Self {
        let from = self.from + u64::from(self.seconds);
        let mut clock = Self { began: self.until, from, ..Self::new(now, width) };
        clock.aim(now, width);
        clock
    }

    /// Sets their end to the first multiple of `width` after their begin.
    fn aim(&mut self, now: Moment, width: u32) {
        let millis = unix_millis(now.wall);
        let edge = edge_after(self.from, width);
        self.anchor = now;
        self.seconds = u32::try_from(edge - self.from).unwrap_or(width);
        self.until =
            now.instant + Duration::from_millis(edge.saturating_mul(1000).saturating_sub(millis));
    }

    /// Looks at the clocks. `Some` if the cells have ended; after a step of the clock, young ones get another time.
    pub(super) fn look(&mut self, now: Moment, width: u32) -> Option<End> {
        let seen = std::mem::replace(&mut self.seen, now.instant);
        if now.instant.saturating_duration_since(seen) > SUSPENDED {
            return Some(self.broken_at(seen));
        }
        // Without a division: asked whenever the loop wakes.
        let passed = now.instant.saturating_duration_since(self.anchor.instant);
        let step = match now.wall.duration_since(self.anchor.wall) {
            Ok(on_the_wall) => on_the_wall.abs_diff(passed),
            Err(back) => back.duration().saturating_add(passed),
        };
        if step <= MAX_STEP {
            return (now.instant >= self.until).then_some(End::Edge);
        }
        let age = now.instant.saturating_duration_since(self.began);
        if age >= MIN_LENGTH {
            return Some(self.broken_at(now.instant));
        }
        // Not before the multiple at which a cell of now begins.
        let Self { from, .. } = Self::new(now, width);
        let begin = edge_after(from, width).saturating_sub(width.into());
        self.from = from.saturating_sub(age.as_secs()).max(begin);
        self.aim(now, width);
        None
    }

    /// The cells end at this moment, or at their edge if that is before.
    fn broken_at(&self, at: Instant) -> End {
        let seconds = at.saturating_duration_since(self.began).as_secs();
        let seconds = u32::try_from(seconds).unwrap_or(self.seconds);
        End::Broken(seconds.clamp(1, self.seconds))
    }

    /// The time of the open cells, with the length that they will have.
    pub(super) fn time(&self) -> CellTime {
        CellTime { from: self.from, seconds: self.seconds, is_repeated: false }
    }
}

/// The first multiple of `width` after this second.
pub(super) fn edge_after(seconds: u64, width: u32) -> u64 {
    let width = u64::from(width);
    (seconds / width + 1).saturating_mul(width)
}
