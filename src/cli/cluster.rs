//! `wylis cluster`: the matrix as a picture where it fits, and what is not up in words.

use super::arguments::Given;
use super::paint::{Colour, Paint};
use super::{Ending, document, probe, say, say_document, span, unreadable};
use crate::matrix::{Cell, Matrix, Missing};
use crate::name::NodeName;
use crate::state::Verdict;

const PATH: &str = "/api/v1/cluster";
/// More nodes than this are no picture any more.
const MOST_NODES: usize = 20;
/// More lines than this are read by nobody.
const MOST_LINES: usize = 60;
/// Columns of a cell that holds a word, with the space behind it, and of one that holds a sign.
const WORD: usize = 6;
const SIGN: usize = 3;
/// What is not up.
const WORST_FIRST: [&str; 6] = ["down", "one-way", "mtu", "lossy", "draining", "unknown"];
/// So many that find a node down are told as one, when they are most.
const MANY: usize = 3;

pub(super) fn run(given: &Given, paint: Paint) -> Result<Ending, Ending> {
    let document = document(probe::resolve(&given.target)?, PATH)?;
    let matrix = Matrix::read(&document).map_err(|error| unreadable(PATH, error))?;
    if given.json {
        say_document(document)?;
    } else {
        drop(document);
        say(&View::new(&matrix).shown(paint))?;
    }
    Ok(View::new(&matrix).ending())
}

/// One pair that is not up.
struct Pair {
    source: usize,
    target: usize,
    cell: Cell,
}

/// What is to be seen of a matrix.
pub(super) struct View<'a> {
    matrix: &'a Matrix,
    names: Vec<&'a NodeName>,
    /// Nodes without a row, and why.
    missing: Vec<(usize, Missing)>,
    /// Pairs that are not up.
    sick: Vec<Pair>,
    pairs: usize,
    up: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(matrix: &'a Matrix) -> Self {
        let names = matrix.rows().map(|(name, _)| name).collect();
        let (mut missing, mut sick) = (Vec::new(), Vec::new());
        let (mut pairs, mut up) = (0, 0);
        for (source, (_, row)) in matrix.rows().enumerate() {
            let row = match row {
                Ok(row) => row,
                Err(why) => {
                    missing.push((source, why));
                    continue;
                }
            };
            for (target, cell) in matrix.cells(row).enumerate() {
                let Some(cell) = cell else { continue };
                pairs += 1;
                if cell.verdict() == Verdict::Up {
                    up += 1;
                } else {
                    sick.push(Pair { source, target, cell });
                }
            }
        }
        Self { matrix, names, missing, sick, pairs, up }
    }

    /// Whether all is well.
    pub(super) fn ending(&self) -> Ending {
        let down = self.sick.iter().any(|pair| is_down(pair.cell));
        let blind = self.missing.iter().any(|(_, why)| *why != Missing::NoPeer);
        if down || blind { Ending::Unhealthy } else { Ending::Healthy }
    }

    pub(super) fn shown(&self, paint: Paint) -> String {
        let mut text = format!(
            "{} nodes as {} sees them, rows read in {}: {} pairs, {} up",
            self.names.len(),
            self.matrix.node(),
            span(self.matrix.took()),
            self.pairs,
            self.up,
        );
        for verdict in WORST_FIRST {
            let of = |pair: &&Pair| pair.cell.verdict().as_str() == verdict;
            match self.sick.iter().filter(of).count() {
                0 => {}
                count => put!(text, ", {count} {verdict}"),
            }
        }
        match self.missing.len() {
            0 => text.push('\n'),
            1 => text.push_str("; 1 row missing\n"),
            count => put!(text, "; {count} rows missing\n"),
        }
        if self.names.len() <= MOST_NODES {
            self.picture(&mut text, paint);
        }
        self.words(&mut text, paint);
        text
    }

    fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", |name| name.as_str())
    }

    /// Rows are sources, columns targets.
    fn picture(&self, text: &mut String, paint: Paint) {
        let count = self.names.len().max(1);
        let longest = self.names.iter().map(|name| name.as_str().len()).max().unwrap_or(0);
        // "12 name ", in a quarter of the width at most.
        let name_width = longest.min((paint.width / 4).max(8));
        let label = name_width + 4;
        let room = paint.width.saturating_sub(label) / count;
        if room < SIGN {
            return;
        }
        let words = room >= WORD;
        let width = if words { longest.max(WORD) + 1 } else { SIGN }.min(room);
        let named = longest < width;
        put!(text, "\n{:label$}", "");
        for index in 0..self.names.len() {
            let number = (index + 1).to_string();
            let head = if named { self.name(index) } else { &number };
            put!(text, "{head:<width$}");
        }
        for (index, (name, row)) in self.matrix.rows().enumerate() {
            trim(text);
            let name: String = name.as_str().chars().take(name_width).collect();
            put!(text, "\n{:>2} {name:<name_width$} ", index + 1);
            match row {
                Err(why) => put!(text, "no row: {}", why.as_str()),
                Ok(row) => {
                    for (target, cell) in self.matrix.cells(row).enumerate() {
                        let itself = target == index;
                        let shown = cell.map_or_else(
                            || if itself { "-" } else { "" }.to_owned(),
                            |cell| if words { word(cell) } else { sign(cell).to_owned() },
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
                "\n. up   X down   > one-way   M mtu   ~ lossy   d draining   ? unknown   - itself\n",
            );
        }
    }

    /// What is not up. A node that most find down is one line.
    fn words(&self, text: &mut String, paint: Paint) {
        let mut lines = Vec::new();
        for (index, why) in &self.missing {
            lines.push(format!("no row of {}: {}", self.name(*index), why.as_str()));
        }
        let mut told = vec![false; self.sick.len()];
        for node in 0..self.names.len() {
            lines.extend(self.together(&mut told, node, |pair| pair.target, "is down for"));
        }
        for node in 0..self.names.len() {
            lines.extend(self.together(&mut told, node, |pair| pair.source, "finds down"));
        }
        for verdict in WORST_FIRST {
            for (pair, told) in self.sick.iter().zip(&told) {
                if !told && pair.cell.verdict().as_str() == verdict {
                    lines.push(self.line(pair, paint));
                }
            }
        }
        if lines.is_empty() {
            return;
        }
        text.push('\n');
        let more = lines.len().saturating_sub(MOST_LINES);
        for line in lines.into_iter().take(MOST_LINES) {
            text.push_str(&line);
            text.push('\n');
        }
        if more > 0 {
            put!(text, "and {more} lines more; wylis cluster --json tells all\n");
        }
    }

    /// The line of a node at one end of so many pairs that are down.
    fn together(
        &self,
        told: &mut [bool],
        node: usize,
        end: fn(&Pair) -> usize,
        what: &str,
    ) -> Option<String> {
        let of_node =
            |(pair, told): &(&Pair, &mut bool)| !**told && is_down(pair.cell) && end(pair) == node;
        let down: Vec<_> = self.sick.iter().zip(told).filter(of_node).collect();
        let others = self.names.len() - 1;
        if down.len() < MANY || down.len() * 2 <= others {
            return None;
        }
        let count = down.len();
        let reason = down.first().map_or("", |(pair, _)| reason(pair.cell));
        let alike = down.iter().all(|(pair, _)| self::reason(pair.cell) == reason);
        down.into_iter().for_each(|(_, told)| *told = true);
        let reason = if alike { format!(" ({reason})") } else { String::new() };
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
        if is_down(pair.cell) {
            put!(text, " ({})", reason(pair.cell));
        }
        let (failures, probes) = pair.cell.failures();
        if failures > 0 {
            put!(text, ", {failures} of {probes} failed");
        }
        if let Some(latency) = pair.cell.latency() {
            put!(text, ", {}", span(latency));
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
    match cell.verdict() {
        Verdict::Down(reason) => reason.as_str(),
        _ => "",
    }
}

/// In five columns.
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

fn sign(cell: Cell) -> &'static str {
    match cell.verdict() {
        Verdict::Up => ".",
        Verdict::Down(_) => "X",
        Verdict::OneWay => ">",
        Verdict::Mtu => "M",
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
