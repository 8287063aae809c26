//! `wylis peers`: this node's row as a table.

use super::arguments::Options;
use super::exit::Exit;
use super::paint::{Colour, Paint, table};
use super::{fetch, format_age, format_time, print};
use crate::matrix::{PeerLine, Peers};
use crate::state::Verdict;

const PATH: &str = "/api/v1/peers";
const HEAD: [&str; 9] =
    ["NODE", "VERDICT", "REASON", "LATENCY", "LOSS", "RETRANSMITS", "RTT", "MTU", "LAST SUCCESS"];

pub(super) fn run(options: &Options, paint: Paint) -> Result<Exit, Exit> {
    let document = fetch::document(&fetch::resolve(&options.target)?, PATH)?;
    let peers = Peers::read(&document).map_err(|error| fetch::unreadable(PATH, error))?;
    if options.json {
        fetch::print_raw(document)?;
    } else {
        print(&render(&peers, paint))?;
    }
    let down = peers.lines.iter().any(|line| matches!(line.verdict, Verdict::Down(_)));
    Ok(if down { Exit::Unhealthy } else { Exit::Healthy })
}

/// Renders a heading and the table.
pub(super) fn render(peers: &Peers, paint: Paint) -> String {
    let up = peers.lines.iter().filter(|line| line.verdict == Verdict::Up).count();
    let text = format!("{}: {} peers, {up} up\n", peers.node, peers.lines.len());
    if peers.lines.is_empty() {
        return text;
    }
    let rows: Vec<_> = peers
        .lines
        .iter()
        .map(|line| (cells(line, peers.at).to_vec(), vec![None, Some(Colour::of(line.verdict))]))
        .collect();
    text + &table(&HEAD, &rows, paint)
}

fn cells(line: &PeerLine, at: u64) -> [String; HEAD.len()] {
    let reason = match line.verdict {
        Verdict::Down(reason) => reason.as_str(),
        _ => "",
    };
    let ago = line.last_success.map(|last| format_age(at.saturating_sub(last)) + " ago");
    [
        line.node.to_string(),
        line.verdict.as_str().to_owned(),
        reason.to_owned(),
        line.latency.map(format_time).unwrap_or_default(),
        format!("{}/{}", line.failures, line.probes),
        line.retransmits.to_string(),
        line.rtt.map(format_time).unwrap_or_default(),
        line.path_mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
        ago.unwrap_or_else(|| "never".to_owned()),
    ]
}
