//! The search for the shortest gap after which a direction goes cold.

use std::time::Duration;

use super::{Coldness, MIN_GAP, Mark, TrialReport, mark};

/// Trials of a gap whose first one was cold: cold is what two of three show.
const TRIALS: u8 = 3;
/// Trials of the gap that is reported must show it so often, of at most [`MAX_TRIALS`], so that a path which loses a
/// packet now and then gets no figure.
const MARKED: u8 = 3;
/// See [`MARKED`].
const MAX_TRIALS: u8 = 5;
/// The same where a connection of the control was lost anywhere in the search.
const MARKED_IF_LOSSY: u8 = 5;
/// See [`MARKED_IF_LOSSY`].
const MAX_TRIALS_IF_LOSSY: u8 = 6;
/// Trials of one gap that may prove nothing.
const MAX_UNPROVEN: u8 = 3;
/// A path that loses more than one of so many warm connections, and two at least, gets no figure.
const MAX_LOSS: u32 = 20;
/// The search ends when the last warm and the first cold gap differ by less than this part of the warm one: 8 %, so
/// that gaps that last a little longer than asked leave the figure within 10 %.
const PRECISION: u32 = 12;
/// A gap may be this part, and [`MAX_OFF`], off.
const OFF: u32 = 50;
/// See [`OFF`].
const MAX_OFF: Duration = Duration::from_millis(50);

/// The trials of one direction: up the gaps, each once, a cold one thrice, then between the last warm and the
/// first cold one.
#[derive(Debug, Clone)]
pub struct Search {
    /// The gaps that are left, the longest first.
    gaps: Vec<Duration>,
    /// The longest gap that was warm, as asked and in truth.
    warm: (Duration, Duration),
    /// The shortest one that was cold.
    cold: Option<Step>,
    /// The trials of the gap that is tried now; `None` at the end.
    now: Option<Step>,
    is_unproven: bool,
    /// The warm connections of all trials, and those that were lost.
    controls: u32,
    lost: u32,
}

/// The trials of one gap.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// As asked.
    gap: Duration,
    warm: u8,
    marked: u8,
    unproven: u8,
    /// How the last cold one fared.
    mark: Mark,
    /// The shortest true gap of the cold ones.
    true_gap: Duration,
}

impl Step {
    const fn new(gap: Duration) -> Self {
        Self {
            gap,
            warm: 0,
            marked: 0,
            unproven: 0,
            mark: Mark::Unproven,
            true_gap: Duration::ZERO,
        }
    }

    const fn trials(&self) -> u8 {
        self.warm + self.marked
    }

    fn add(&mut self, mark: Mark, true_gap: Duration) {
        match mark {
            Mark::Unproven => self.unproven += 1,
            Mark::Warm => self.warm += 1,
            Mark::Lost(_) | Mark::Late(_) | Mark::Refused => {
                self.true_gap =
                    if self.marked == 0 { true_gap } else { self.true_gap.min(true_gap) };
                self.marked += 1;
                self.mark = mark;
            }
        }
    }
}

impl Search {
    /// `gaps` ascend.
    #[must_use]
    pub fn new(gaps: &[Duration]) -> Self {
        let mut gaps: Vec<Duration> = gaps.iter().rev().copied().collect();
        let now = gaps.pop().map(Step::new);
        let warm = (Duration::ZERO, Duration::ZERO);
        Self { gaps, warm, cold: None, now, is_unproven: false, controls: 0, lost: 0 }
    }

    /// The gap of the next trial; `None` when the result is known.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.now.map(|step| step.gap)
    }

    /// Folds in the trial of [`Search::next`].
    pub fn add(&mut self, report: &TrialReport) {
        let Some(mut step) = self.now else { return };
        let off = report.gap.abs_diff(step.gap);
        let mark = if off > step.gap / OFF + MAX_OFF { Mark::Unproven } else { mark(report) };
        if !report.disturbed {
            let lost = report.warm.iter().filter(|attempt| !attempt.is_well()).count();
            self.controls += u32::try_from(report.warm.len()).unwrap_or(u32::MAX);
            self.lost += u32::try_from(lost).unwrap_or(u32::MAX);
        }
        step.add(mark, report.gap);
        let is_confirmed_again = self.cold.is_some_and(|cold| cold.gap == step.gap);
        if step.unproven >= MAX_UNPROVEN {
            self.end_unproven();
        } else if is_confirmed_again {
            self.cold = Some(step);
            self.narrow();
        } else if step.marked == 0 && step.warm == 0 || step.marked > 0 && step.trials() < TRIALS {
            self.now = Some(step);
        } else if step.marked > step.warm {
            self.cold = Some(step);
            self.narrow();
        } else {
            self.warm = (step.gap, report.gap);
            if self.cold.is_some() {
                self.narrow();
            } else {
                self.now = self.gaps.pop().map(Step::new);
            }
        }
    }

    /// What is known so far: also of a search that ends early, but then [`Coldness::After`] may be less exact.
    #[must_use]
    pub fn result(&self) -> Coldness {
        let (_, warm) = self.warm;
        match self.cold {
            _ if self.is_unproven => Coldness::Unproven,
            Some(cold) => {
                let Step { true_gap, mark, marked, .. } = cold;
                Coldness::after(true_gap, warm, mark, marked, cold.trials())
                    .filter(|_| self.is_proven(&cold))
                    .unwrap_or(Coldness::Unproven)
            }
            None if warm.is_zero() => Coldness::NotSurveyed,
            None => Coldness::WarmAt(warm),
        }
    }

    /// The trials that a figure needs: so many that show it, of at most so many.
    const fn needed(&self) -> (u8, u8) {
        if self.lost == 0 { (MARKED, MAX_TRIALS) } else { (MARKED_IF_LOSSY, MAX_TRIALS_IF_LOSSY) }
    }

    fn is_proven(&self, cold: &Step) -> bool {
        let is_lossy = self.lost > 1 && self.lost * MAX_LOSS > self.controls;
        !is_lossy && cold.marked >= self.needed().0
    }

    /// Tries the middle between warm and cold; or, if they are close enough, the cold one again until it is proven.
    fn narrow(&mut self) {
        let Some(cold) = self.cold else { return };
        let (warm, _) = self.warm;
        let floor = warm.max(MIN_GAP);
        if cold.gap > floor + floor / PRECISION {
            self.now = Some(Step::new((warm + (cold.gap - warm) / 2).max(MIN_GAP)));
            return;
        }
        let (marked, trials) = self.needed();
        if cold.marked >= marked {
            self.now = None;
        } else if trials - cold.trials() >= marked - cold.marked {
            self.now = Some(cold);
        } else {
            self.end_unproven();
        }
    }

    fn end_unproven(&mut self) {
        self.is_unproven = true;
        self.now = None;
    }
}

#[cfg(test)]
mod tests;
