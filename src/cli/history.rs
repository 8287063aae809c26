//! `wylis history`: the last day of the mesh in words, newest last, as the agent words it. Times are UTC, since the
//! node of the agent and the terminal of its reader seldom share a time zone.

use std::time::Duration;

use super::arguments::Options;
use super::exit::Exit;
use super::paint::{Colour, Paint};
use super::{fetch, format_age, print, printable};
use crate::document::read_day;
use crate::history::{Day, DayFinding};
use crate::matrix::RowError;
use crate::name::NodeName;

const PATH: &str = "/api/v1/history/day";
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
/// So many nodes without a memory are named for each reason.
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
    let is_asked = |finding: &&DayFinding| {
        finding.to > start && node.is_none_or(|node| finding.nodes.contains(node))
    };
    let findings: Vec<&DayFinding> = day.findings.iter().filter(is_asked).collect();
    if findings.is_empty() {
        put!(text, "nothing was wrong");
        if let Some(node) = node {
            put!(text, " with {node}");
        }
        let is_partial = !day.missing.is_empty() || day.since.max(day.judged_since) > Some(start);
        text.push_str(if is_partial { ", as far as is remembered\n" } else { "\n" });
        return text;
    }
    if day.left_out > 0 {
        put!(text, "{} earlier lines are left out\n", day.left_out);
    }
    let line = |finding: &&DayFinding| {
        let ended = finding.to < day.at;
        let ago = if ended { ago(finding.to, day.at) } else { "just now".to_owned() };
        (time(finding, day.at), ago)
    };
    let lines: Vec<(String, String)> = findings.iter().map(line).collect();
    let width = |column: fn(&(String, String)) -> &String| {
        lines.iter().map(|line| column(line).chars().count()).max().unwrap_or(0)
    };
    let (times, ages) = (width(|line| &line.0), width(|line| &line.1));
    for (finding, (time, ago)) in findings.into_iter().zip(&lines) {
        let colour = if finding.is_grave { Colour::Red } else { Colour::Yellow };
        let sentence = paint.cell(&printable(&finding.text), 0, Some(colour));
        put!(text, "{time:<times$}  {ago:<ages$}  {sentence}\n");
    }
    text
}

/// What is shown, since when it is remembered, and whose memory is missing.
fn head(day: &Day, since: Duration, start: u64) -> String {
    let (at, span) = (day.at, format_age(since.as_millis().try_into().unwrap_or(u64::MAX)));
    let mut text = format!("{}: the last {span}, until {} UTC\n", day.node, date(at));
    match day.since {
        None => text.push_str("nothing is remembered yet\n"),
        Some(since) if since > start => {
            put!(text, "remembered since {} UTC, {}\n", clock(since), ago(since, at));
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
    missing(&mut text, &day.missing);
    text
}

/// Whose memory is missing: a line for each reason.
fn missing(text: &mut String, missing: &[(NodeName, RowError)]) {
    let mut reasons: Vec<RowError> = Vec::new();
    for (_, reason) in missing {
        if !reasons.contains(reason) {
            reasons.push(*reason);
        }
    }
    for reason in reasons {
        let nodes = missing.iter().filter(|(_, found)| *found == reason);
        let names: Vec<&str> = nodes.map(|(node, _)| node.as_str()).collect();
        let listed = names.get(..FEW).unwrap_or(&names).join(", ");
        put!(text, "without the memory of {listed}");
        match names.len().saturating_sub(FEW) {
            0 => {}
            more => put!(text, " and {more} more"),
        }
        put!(text, " ({})\n", reason.as_str());
    }
}

/// From begin to end: the day of the week only where it differs, since all is within 24 hours.
fn time(finding: &DayFinding, at: u64) -> String {
    let (from, to) = (clock(finding.from), clock(finding.to));
    let is_same_day = finding.from / DAY == finding.to / DAY;
    let repeated = if finding.is_repeated { " (clock set back)" } else { "" };
    match to.split_once(' ') {
        _ if finding.to >= at => format!("{from}–now{repeated}"),
        Some((_, minutes)) if is_same_day => format!("{from}–{minutes}{repeated}"),
        _ => format!("{from}–{to}{repeated}"),
    }
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
