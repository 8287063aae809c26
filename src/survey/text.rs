//! What a survey found, in words.

use std::time::Duration;

use super::{Coldness, MIN_GAP, Mark, PairReport, PairResult};

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
                let open = match warm {
                    _ if is_close(gap, warm) => String::new(),
                    Duration::ZERO => ", shorter gaps not tried".to_owned(),
                    warm => format!(", warm at {}", seconds(warm)),
                };
                format!("{word} after {gap_text}{open} ({marked} of {trials}{how})")
            }
        }
    }
}

/// Whether the search came to its end: the last warm gap is within 10 % of the cold one, or even the shortest gap
/// that there is is cold.
fn is_close(gap: Duration, warm: Duration) -> bool {
    gap.saturating_sub(warm.max(MIN_GAP)) <= gap / 8
}

/// What to do if any direction goes cold, as a sentence, `None` if none does; and the interval to choose: a third of
/// the shortest gap after which one does, in whole seconds if it is at least one, `None` if the search ended before
/// anything was warm.
#[must_use]
pub fn recommendation(results: &[PairReport]) -> Option<(Option<Duration>, String)> {
    let mut shortest: Option<(Duration, &PairReport, bool)> = None;
    // Cold, with nothing below that was warm.
    let mut open: Option<Duration> = None;
    for report in results {
        let directions = [(report.result.outgoing, false), (report.result.incoming, true)];
        for (coldness, is_reversed) in directions {
            if let Coldness::After { gap, warm, .. } = coldness {
                if warm.is_zero() && !is_close(gap, warm) {
                    open = Some(open.map_or(gap, |known| known.min(gap)));
                    continue;
                }
                // Where the search ended early, the path may go cold right after the last warm gap.
                let gap = if is_close(gap, warm) { gap } else { warm };
                if shortest.is_none_or(|(known, ..)| gap < known) {
                    shortest = Some((gap, report, is_reversed));
                }
            }
        }
    }
    if let Some(gap) = open {
        let text = format!(
            "a path goes cold within {}, and shorter gaps were not tried: survey again with shorter --gaps, such as \
             1s,2s,5s",
            seconds(gap)
        );
        return Some((None, text));
    }
    let (gap, PairReport { source, target, .. }, is_reversed) = shortest?;
    let (from, to) = if is_reversed { (target, source) } else { (source, target) };
    let third = gap / 3;
    let (interval, setting) = match third.as_secs() {
        0 => {
            let millis = u64::from(third.subsec_millis()) / 100 * 100;
            (Duration::from_millis(millis), format!("{millis}ms"))
        }
        whole => (Duration::from_secs(whole), format!("{whole}s")),
    };
    let text = format!(
        "choose WYLIS_INTERVAL={setting} or less: a third of the shortest ({from} → {to}, {})",
        seconds(gap)
    );
    Some((Some(interval), text))
}

/// Whether anything was found.
#[must_use]
pub fn has_result(report: &PairReport) -> bool {
    report.result != PairResult::NOT_SURVEYED
}

/// The longest gap up to which every direction of these pairs was warm; `None` if one was not, or there is none.
#[must_use]
pub fn all_warm(results: &[PairReport]) -> Option<Duration> {
    let directions = results.iter().flat_map(|one| [one.result.outgoing, one.result.incoming]);
    let gaps = directions.map(|coldness| match coldness {
        Coldness::WarmAt(gap) => Some(gap),
        _ => None,
    });
    gaps.collect::<Option<Vec<_>>>()?.into_iter().min()
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
