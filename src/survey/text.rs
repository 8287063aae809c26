//! What a survey found, in words.

use std::time::Duration;

use super::{Coldness, Mark, PairReport};

/// What a survey cannot silence, and what a success does not prove.
pub const REMARKS: [&str; 3] = [
    "warm proves nothing: other traffic may have kept the path warm",
    "not silenced: workloads, the control plane, and a Prometheus on one node that scrapes the other",
    "a direction is the one of the first packet: an answer that is lost on the way back looks like a late one",
];

impl Coldness {
    /// The result of a direction, as a word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotSurveyed => "not_surveyed",
            Self::Unproven => "unproven",
            Self::WarmAt(_) => "warm",
            Self::After { mark: Mark::Lost(_), .. } => "cold",
            Self::After { mark: Mark::Late(_), .. } => "late",
            Self::After { .. } => "refused",
        }
    }

    /// The result of a direction, as a phrase.
    #[must_use]
    pub fn text(&self) -> String {
        match *self {
            Self::NotSurveyed => "not surveyed".to_owned(),
            Self::Unproven => "unproven".to_owned(),
            Self::WarmAt(gap) => format!("warm at {}", seconds(gap)),
            Self::After { gap, warm, mark, marked, trials } => {
                let gap_text = seconds(gap);
                let how = match mark {
                    Mark::Lost(Some(late)) => format!(": first SYN lost, {}", more(late)),
                    Mark::Lost(None) => ": first connection failed".to_owned(),
                    Mark::Late(late) => format!(": {}, then well", more(late)),
                    Mark::Refused | Mark::Warm | Mark::Unproven => String::new(),
                };
                let word = self.as_str();
                let open = if is_close(gap, warm) {
                    String::new()
                } else {
                    format!(", warm at {}", seconds(warm))
                };
                format!("{word} after {gap_text}{open} ({marked} of {trials}{how})")
            }
        }
    }
}

/// Whether the search came to its end: the last warm gap is within 10 % of the cold one, or even the shortest gap
/// is cold.
fn is_close(gap: Duration, warm: Duration) -> bool {
    warm.is_zero() || gap - warm <= gap / 8
}

/// The interval to choose: a third of the shortest gap after which any direction goes cold, in whole seconds if it
/// is at least one, with the sentence that says so; `None` if none was found to go cold.
#[must_use]
pub fn recommendation(results: &[PairReport]) -> Option<(Duration, String)> {
    let mut shortest: Option<(Duration, &PairReport, bool)> = None;
    for report in results {
        let directions = [(report.result.outgoing, false), (report.result.incoming, true)];
        for (coldness, is_reversed) in directions {
            if let Coldness::After { gap, warm, .. } = coldness {
                // Where the search ended early, the path may go cold right after the last warm gap.
                let gap = if is_close(gap, warm) { gap } else { warm };
                if shortest.is_none_or(|(known, ..)| gap < known) {
                    shortest = Some((gap, report, is_reversed));
                }
            }
        }
    }
    let (gap, PairReport { source, target, .. }, is_reversed) = shortest?;
    let (from, to) = if is_reversed { (target, source) } else { (source, target) };
    let third = gap / 3;
    let interval = if third.as_secs() > 0 {
        Duration::from_secs(third.as_secs())
    } else {
        Duration::from_millis(u64::from(third.subsec_millis()) / 100 * 100)
    };
    let text = format!(
        "choose WYLIS_INTERVAL ≤ {}: a third of the shortest ({from} → {to}, {})",
        seconds(interval),
        seconds(gap)
    );
    Some((interval, text))
}

/// Whole seconds, or tenths below 10 s, rounded down: a warning must not come late.
#[must_use]
pub fn seconds(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    match (tenths / 10, tenths % 10) {
        (whole, tenth) if whole < 10 && tenth > 0 => format!("{whole}.{tenth} s"),
        (whole, _) => format!("{whole} s"),
    }
}

/// How much longer.
fn more(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..100 => format!("+{millis} ms"),
        millis => format!("+{}.{} s", millis / 1000, millis % 1000 / 100),
    }
}

#[cfg(test)]
mod tests;
