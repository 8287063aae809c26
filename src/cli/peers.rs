//! `wylis peers`: this node's peers as a table.

use std::time::Duration;

use super::arguments::Options;
use super::exit::Exit;
use super::paint::{Colour, Paint};
use super::{fetch, format_age, format_time, print};
use crate::document::{PeerLine, Peers};
use crate::probe::FailureReason;
use crate::state::{Direction, Incoming, Verdict};

const PATH: &str = "/api/v1/peers";
const HEAD: [&str; 9] =
    ["NODE", "VERDICT", "REASON", "LATENCY", "LOSS", "RETRANSMITS", "RTT", "MTU", "LAST SUCCESS"];
/// A round-trip time is shown without its age for so long: six probes at the default interval.
const NEW: Duration = Duration::from_secs(60);
type Cells = [String; HEAD.len()];

pub(super) fn run(options: &Options, paint: Paint) -> Result<Exit, Exit> {
    let document = fetch::document(&fetch::resolve(&options.target)?, PATH)?;
    let peers = Peers::read(&document).map_err(|error| fetch::unreadable(PATH, error))?;
    if options.json {
        fetch::print_raw(document)?;
    } else {
        print(&render(&peers, paint))?;
    }
    Ok(exit(&peers))
}

/// Unhealthy when probes of a peer fail, all or some of them.
pub(super) fn exit(peers: &Peers) -> Exit {
    let fails = |line: &PeerLine| {
        !line.is_surveyed && matches!(line.verdict, Verdict::Down(_) | Verdict::Flaky(_))
    };
    let unhealthy = peers.lines.iter().any(fails);
    if unhealthy { Exit::Unhealthy } else { Exit::Healthy }
}

/// Renders a heading and the table.
pub(super) fn render(peers: &Peers, paint: Paint) -> String {
    let (surveyed, others): (Vec<_>, Vec<_>) =
        peers.lines.iter().partition(|line| line.is_surveyed);
    let up = others.iter().filter(|line| line.verdict == Verdict::Up).count();
    let mut text = format!("{}: {} peers, {up} up", peers.node, peers.lines.len());
    if !surveyed.is_empty() {
        put!(text, ", {} surveyed", surveyed.len());
    }
    text.push('\n');
    if peers.lines.is_empty() {
        return text;
    }
    let colour = |line: &PeerLine| {
        Colour::of(if line.is_surveyed { Verdict::Unknown } else { line.verdict })
    };
    let rows = peers.lines.iter().map(|line| (cells(line, peers.at), Some(colour(line))));
    let rows: Vec<_> = std::iter::once((HEAD.map(str::to_owned), None)).chain(rows).collect();
    text + &table(&rows, paint)
}

/// Formats rows with columns as wide as their widest cell. The colour of a row is that of its verdict.
fn table(rows: &[(Cells, Option<Colour>)], paint: Paint) -> String {
    let mut widths = [0; HEAD.len()];
    for (cells, _) in rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for (cells, colour) in rows {
        for ((cell, width), name) in cells.iter().zip(widths).zip(HEAD) {
            let colour = colour.filter(|_| name == "VERDICT");
            put!(text, "{}  ", paint.cell(cell, width, colour));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// With its age, if it may no longer be true.
fn format_rtt(rtt: Duration, age: Option<Duration>) -> String {
    match age.filter(|age| *age > NEW) {
        Some(age) => {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            format!("{} ({} old)", format_time(rtt), format_age(age))
        }
        None => format_time(rtt),
    }
}

fn cells(line: &PeerLine, at: u64) -> Cells {
    let incoming = line.incoming.map(|incoming| match incoming {
        Incoming::Requests => "requests arrive",
        Incoming::Syns => "SYNs arrive",
        Incoming::Nothing => "nothing arrives",
    });
    let verdict = line.verdict.as_str();
    let reason = line.verdict.reason().map(FailureReason::as_str);
    let direction = line.verdict.direction().map(Direction::as_str);
    let detail = line.detail.map(|detail| detail.to_string());
    let (verdict, before) = if line.is_surveyed {
        ("surveyed", Some(format!("was {verdict}")))
    } else {
        (verdict, None)
    };
    let reasons = [before.as_deref(), reason, direction, incoming, detail.as_deref()];
    let reasons: Vec<&str> = reasons.into_iter().flatten().collect();
    let ago = line.last_success.map(|last| format_age(at.saturating_sub(last)) + " ago");
    [
        line.node.to_string(),
        verdict.to_owned(),
        reasons.join(", "),
        line.latency.map(format_time).unwrap_or_default(),
        format!("{}/{}", line.failures, line.probes),
        line.retransmits.to_string(),
        line.rtt.map(|rtt| format_rtt(rtt, line.rtt_age)).unwrap_or_default(),
        line.path_mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
        ago.unwrap_or_else(|| "never".to_owned()),
    ]
}
