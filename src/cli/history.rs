//! `wylis history`: the last day of the mesh in words, newest last, as the agent words it. Times are UTC, since the
//! node of the agent and the terminal of its reader seldom share a time zone.

use std::time::Duration;

use super::arguments::Options;
use super::exit::Exit;
use super::paint::{Colour, Paint};
use super::{fetch, format_age, print, printable};
use crate::document::read_day;
use crate::history::{Day, DayFinding};
use crate::name::NodeName;

const PATH: &str = "/api/v1/history/day";
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
/// So many nodes without a memory are named.
const FEW: usize = 8;
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// A day with faults is no error: it is over.
pub(super) fn run(options: &Options, paint: Paint) -> Result<Exit, Exit> {
    let document = fetch::document(&fetch::resolve(&options.target)?, PATH)?;
    let day = read_day(&document).map_err(|error| fetch::unreadable(PATH, error))?;
    if options.json {
        fetch::print_raw(document)?;
    } else {
        print(&render(&day, options.since, options.node.as_ref(), paint))?;
    }
    Ok(Exit::Healthy)
}

/// Renders what was wrong for so long before the document was written, of all nodes or of one.
pub(super) fn render(day: &Day, since: Duration, node: Option<&NodeName>, paint: Paint) -> String {
    let start = day.at.saturating_sub(since.as_secs());
    let mut text = head(day, since, start);
    if day.since.is_none() {
        return text;
    }
    text.push('\n');
    let mut is_well = true;
    for finding in &day.findings {
        let concerns = node.is_none_or(|node| finding.nodes.contains(node));
        if finding.to > start && concerns {
            is_well = false;
            line(&mut text, finding, day.at, paint);
        }
    }
    if is_well {
        match node {
            // Its name may be mistyped.
            Some(node) => put!(text, "no finding names {node}"),
            None => text.push_str("nothing was wrong"),
        }
        let is_partial = !day.missing.is_empty() || day.since.max(day.judged_since) > Some(start);
        text.push_str(if is_partial { ", as far as is remembered\n" } else { "\n" });
    }
    text
}

/// What is shown, since when it is remembered, and whose memory is missing.
fn head(day: &Day, since: Duration, start: u64) -> String {
    let span = format_age(since.as_millis().try_into().unwrap_or(u64::MAX));
    let mut text = format!("{}: the last {span}, until {} UTC\n", day.node, date(day.at));
    match day.since {
        None => text.push_str("nothing is remembered yet\n"),
        Some(since) if since > start => {
            put!(text, "remembered since {} UTC, {}\n", clock(since), ago(since, day.at));
        }
        Some(_) => {}
    }
    if let Some(since) = day.judged_since.filter(|since| *since > start) {
        put!(
            text,
            "older than {} UTC is not judged: that would have taken too long\n",
            clock(since)
        );
    }
    if day.left_out > 0 {
        put!(text, "{} earlier lines are left out\n", day.left_out);
    }
    for (place, (node, error)) in day.missing.iter().take(FEW).enumerate() {
        text.push_str(if place == 0 { "without the memory of " } else { ", " });
        put!(text, "{node} ({})", error.as_str());
    }
    let more = day.missing.len().saturating_sub(FEW);
    if more > 0 {
        put!(text, " and {more} more");
    }
    if !day.missing.is_empty() {
        text.push('\n');
    }
    text
}

/// From when to when, how long ago, and the sentence. Its end has the day of the week only where that differs: all is
/// within 24 hours.
fn line(text: &mut String, finding: &DayFinding, at: u64, paint: Paint) {
    let is_over = finding.to <= at;
    let mut time = clock(finding.from) + "–";
    let end = clock(finding.to);
    time.push_str(match end.split_once(' ') {
        _ if !is_over => "now",
        Some((_, minutes)) if finding.from / DAY == finding.to / DAY => minutes,
        _ => &end,
    });
    let ago = if is_over { ago(finding.to, at) } else { "just now".to_owned() };
    let colour = if finding.is_grave { Colour::Red } else { Colour::Yellow };
    let sentence = paint.cell(&printable(&finding.text), 0, Some(colour));
    let repeated = if finding.is_repeated { " (the clock was set back)" } else { "" };
    // The widths of the longest: `Sun 23:55–Mon 00:10` and `119 min ago`.
    put!(text, "{time:<19}  {ago:<11}  {sentence}{repeated}\n");
}

/// How long ago it was.
fn ago(time: u64, at: u64) -> String {
    format_age(at.saturating_sub(time).saturating_mul(1000)) + " ago"
}

/// `Mon 03:10` of Unix seconds, in UTC.
fn clock(unix_seconds: u64) -> String {
    let (day, second) = (unix_seconds / DAY, unix_seconds % DAY);
    let weekday = usize::try_from(day % 7).ok().and_then(|day| WEEKDAYS.get(day)).unwrap_or(&"");
    format!("{weekday} {:02}:{:02}", second / HOUR, second % HOUR / MINUTE)
}

/// `Mon 2026-11-30 03:10` of Unix seconds, in UTC, in the Gregorian calendar (Howard Hinnant,
/// "chrono-compatible low-level date algorithms").
fn date(unix_seconds: u64) -> String {
    let days = unix_seconds / DAY + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    clock(unix_seconds).replacen(' ', &format!(" {year}-{month:02}-{day:02} "), 1)
}

#[cfg(test)]
mod tests;
