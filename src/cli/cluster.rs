//! `wylis cluster`: the matrix as a picture if it fits, and a list of the pairs that are not up.

use super::arguments::Options;
use super::exit::Exit;
use super::paint::{Colour, Paint};
use super::{fetch, format_time, print};
use crate::document::read_matrix;
use crate::matrix::{Cell, Matrix, RowError};
use crate::name::NodeName;
use crate::state::Verdict;

const PATH: &str = "/api/v1/cluster";
/// Most nodes in a picture.
const MAX_PICTURE_NODES: usize = 20;
/// Most lines of the list.
const MAX_LIST_LINES: usize = 60;
/// Width of a cell with a word and the space after it.
const WORD_WIDTH: usize = 6;
/// Width of a cell with a symbol.
const SYMBOL_WIDTH: usize = 3;
/// The verdicts other than up, the worst first.
const WORST_FIRST: [&str; 7] = ["down", "one-way", "flaky", "lossy", "mtu", "draining", "unknown"];
/// Fewest down pairs of one node that the list groups into one line.
const MIN_GROUP: usize = 3;

pub(super) fn run(options: &Options, paint: Paint) -> Result<Exit, Exit> {
    let document = fetch::document(&fetch::resolve(&options.target)?, PATH)?;
    let matrix = read_matrix(&document).map_err(|error| fetch::unreadable(PATH, error))?;
    if options.json {
        fetch::print_raw(document)?;
    } else {
        drop(document);
        print(&View::new(&matrix).render(paint))?;
    }
    Ok(View::new(&matrix).exit())
}

/// One pair that is not up.
struct Pair {
    source: usize,
    target: usize,
    cell: Cell,
}

/// A matrix, sorted for its output.
pub(super) struct View<'a> {
    matrix: &'a Matrix,
    names: Vec<&'a NodeName>,
    /// Nodes without a row, with the reason.
    missing: Vec<(usize, RowError)>,
    /// Pairs that are not up.
    not_up: Vec<Pair>,
    pairs: usize,
    up: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(matrix: &'a Matrix) -> Self {
        let names = matrix.rows().map(|(name, _)| name).collect();
        let (mut missing, mut not_up) = (Vec::new(), Vec::new());
        let (mut pairs, mut up) = (0, 0);
        for (source, (_, row)) in matrix.rows().enumerate() {
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    missing.push((source, error));
                    continue;
                }
            };
            for (target, cell) in matrix.cells(row).enumerate() {
                let Some(cell) = cell else { continue };
                pairs += 1;
                if cell.verdict() == Verdict::Up {
                    up += 1;
                } else {
                    not_up.push(Pair { source, target, cell });
                }
            }
        }
        Self { matrix, names, missing, not_up, pairs, up }
    }

    /// Unhealthy when a pair is down, or the row of a node is missing that should have one.
    pub(super) fn exit(&self) -> Exit {
        let down = self.not_up.iter().any(|pair| is_down(pair.cell));
        let incomplete = self.missing.iter().any(|(_, error)| *error != RowError::NoPeer);
        if down || incomplete { Exit::Unhealthy } else { Exit::Healthy }
    }

    pub(super) fn render(&self, paint: Paint) -> String {
        let mut text = format!(
            "{} nodes as {} sees them, rows read in {}: {} pairs, {} up",
            self.names.len(),
            self.matrix.node(),
            format_time(self.matrix.duration()),
            self.pairs,
            self.up,
        );
        for verdict in WORST_FIRST {
            let of = |pair: &&Pair| pair.cell.verdict().as_str() == verdict;
            match self.not_up.iter().filter(of).count() {
                0 => {}
                count => put!(text, ", {count} {verdict}"),
            }
        }
        match self.missing.len() {
            0 => text.push('\n'),
            1 => text.push_str("; 1 row missing\n"),
            count => put!(text, "; {count} rows missing\n"),
        }
        if self.names.len() <= MAX_PICTURE_NODES {
            self.picture(&mut text, paint);
        }
        self.list(&mut text, paint);
        text
    }

    fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", |name| name.as_str())
    }

    /// Appends the picture: rows are sources, columns are targets.
    fn picture(&self, text: &mut String, paint: Paint) {
        let count = self.names.len().max(1);
        let longest = self.names.iter().map(|name| name.as_str().len()).max().unwrap_or(0);
        // The label of a row is "12 name ", with the name in a quarter of the width at most.
        let name_width = longest.min((paint.width / 4).max(8));
        let label = name_width + 4;
        let room = paint.width.saturating_sub(label) / count;
        if room < SYMBOL_WIDTH {
            return;
        }
        let words = room >= WORD_WIDTH;
        let width = if words { longest.max(WORD_WIDTH) + 1 } else { SYMBOL_WIDTH }.min(room);
        let names_fit = longest < width;
        put!(text, "\n{:label$}", "");
        for index in 0..self.names.len() {
            let number = (index + 1).to_string();
            let head = if names_fit { self.name(index) } else { &number };
            put!(text, "{head:<width$}");
        }
        for (index, (name, row)) in self.matrix.rows().enumerate() {
            trim(text);
            let name: String = name.as_str().chars().take(name_width).collect();
            put!(text, "\n{:>2} {name:<name_width$} ", index + 1);
            match row {
                Err(error) => put!(text, "no row: {}", error.as_str()),
                Ok(row) => {
                    for (target, cell) in self.matrix.cells(row).enumerate() {
                        let itself = target == index;
                        let shown = cell.map_or_else(
                            || if itself { "-" } else { "" }.to_owned(),
                            |cell| if words { word(cell) } else { symbol(cell).to_owned() },
                        );
                        let colour = cell.map(|cell| Colour::of(cell.verdict()));
                        text.push_str(&paint.cell(&shown, width, colour));
                    }
                }
            }
        }
        trim(text);
        text.push('\n');
        if !words {
            text.push_str(
                "\n. up   X down   > one-way   ! flaky   ~ lossy   M mtu\nd draining   ? unknown   - itself\n",
            );
        }
    }

    /// Appends a list of what is missing or not up; the down pairs of one node are grouped.
    fn list(&self, text: &mut String, paint: Paint) {
        let mut lines = Vec::new();
        for (index, error) in &self.missing {
            lines.push(format!("no row of {}: {}", self.name(*index), error.as_str()));
        }
        let mut listed = vec![false; self.not_up.len()];
        for node in 0..self.names.len() {
            lines.extend(self.group(&mut listed, node, |pair| pair.target, "is down for"));
        }
        for node in 0..self.names.len() {
            lines.extend(self.group(&mut listed, node, |pair| pair.source, "finds down"));
        }
        for verdict in WORST_FIRST {
            for (pair, listed) in self.not_up.iter().zip(&listed) {
                if !listed && pair.cell.verdict().as_str() == verdict {
                    lines.push(self.line(pair, paint));
                }
            }
        }
        if lines.is_empty() {
            return;
        }
        text.push('\n');
        let more = lines.len().saturating_sub(MAX_LIST_LINES);
        for line in lines.into_iter().take(MAX_LIST_LINES) {
            text.push_str(&line);
            text.push('\n');
        }
        if more > 0 {
            put!(text, "{more} more lines; see wylis cluster --json\n");
        }
    }

    /// The line of a node that is at one end of [`MIN_GROUP`] down pairs, and of more than half of its pairs;
    /// marks those pairs as listed.
    fn group(
        &self,
        listed: &mut [bool],
        node: usize,
        end: fn(&Pair) -> usize,
        what: &str,
    ) -> Option<String> {
        let of_node = |(pair, listed): &(&Pair, &mut bool)| {
            !**listed && is_down(pair.cell) && end(pair) == node
        };
        let down: Vec<_> = self.not_up.iter().zip(listed).filter(of_node).collect();
        let others = self.names.len() - 1;
        if down.len() < MIN_GROUP || down.len() * 2 <= others {
            return None;
        }
        let count = down.len();
        let reason = down.first().map_or("", |(pair, _)| reason(pair.cell));
        let same_reason = down.iter().all(|(pair, _)| self::reason(pair.cell) == reason);
        down.into_iter().for_each(|(_, listed)| *listed = true);
        let reason = if same_reason { format!(" ({reason})") } else { String::new() };
        Some(format!("{} {what} {count} of {others}{reason}", self.name(node)))
    }

    fn line(&self, pair: &Pair, paint: Paint) -> String {
        let verdict = pair.cell.verdict();
        let mut text = format!(
            "{} -> {}  {}",
            self.name(pair.source),
            self.name(pair.target),
            paint.cell(verdict.as_str(), 0, Some(Colour::of(verdict))),
        );
        if verdict.reason().is_some() {
            put!(text, " ({})", reason(pair.cell));
        }
        let (failures, probes) = pair.cell.failures();
        if failures > 0 {
            put!(text, ", {failures} of {probes} failed");
        }
        if let Some(latency) = pair.cell.latency() {
            put!(text, ", {}", format_time(latency));
        }
        text
    }
}

fn trim(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
}

fn is_down(cell: Cell) -> bool {
    matches!(cell.verdict(), Verdict::Down(_))
}

fn reason(cell: Cell) -> &'static str {
    cell.verdict().reason().map_or("", crate::probe::FailureReason::as_str)
}

/// A verdict in at most five columns; a latency for up.
fn word(cell: Cell) -> String {
    let verdict = match cell.verdict() {
        Verdict::Up => return cell.latency().map(short).unwrap_or_default(),
        Verdict::OneWay => "1-way",
        Verdict::Draining => "drain",
        Verdict::Unknown => "?",
        other => other.as_str(),
    };
    verdict.to_owned()
}

fn symbol(cell: Cell) -> &'static str {
    match cell.verdict() {
        Verdict::Up => ".",
        Verdict::Down(_) => "X",
        Verdict::OneWay => ">",
        Verdict::Flaky(_) => "!",
        Verdict::Mtu(_) => "M",
        Verdict::Lossy => "~",
        Verdict::Draining => "d",
        Verdict::Unknown => "?",
    }
}

fn short(time: std::time::Duration) -> String {
    match time.as_micros() {
        micros @ 0..10_000 => format!("{}.{}ms", micros / 1000, micros % 1000 / 100),
        micros @ 10_000..1_000_000 => format!("{}ms", micros / 1000),
        micros => format!("{}.{}s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}
