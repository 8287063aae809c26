//! `wylis cluster`: the matrix as a picture if it fits, and the findings as the agent words them. It judges
//! nothing itself.

use super::arguments::Options;
use super::exit::Exit;
use super::paint::{Colour, Paint};
use super::{fetch, format_time, print, printable};
use crate::document::read_matrix;
use crate::matrix::{Cell, Matrix};
use crate::name::NodeName;
use crate::state::Verdict;

const PATH: &str = "/api/v1/cluster";
/// Most nodes in a picture.
const MAX_PICTURE_NODES: usize = 20;
/// Most findings that are printed: what fits a screen or two.
const MAX_LINES: usize = 60;
/// Width of a cell with a word and the space after it.
const WORD_WIDTH: usize = 6;
/// Width of a cell with a symbol.
const SYMBOL_WIDTH: usize = 3;
/// The verdicts other than up, in the order of the heading.
const NOT_UP: [&str; 7] = ["down", "one-way", "flaky", "lossy", "mtu", "draining", "unknown"];

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

/// A matrix, sorted for its output.
pub(super) struct View<'a> {
    matrix: &'a Matrix,
    names: Vec<&'a NodeName>,
    missing: usize,
    /// Rows that other nodes passed on.
    passed_on: usize,
    /// Of the pairs that are not up, without those that rest for a survey.
    not_up: Vec<Verdict>,
    surveyed: usize,
    pairs: usize,
    up: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(matrix: &'a Matrix) -> Self {
        let names = matrix.rows().map(|(name, _)| name).collect();
        let mut not_up = Vec::new();
        let ((up, pairs), mut missing, mut passed_on, mut surveyed) = (matrix.pairs(), 0, 0, 0);
        for (_, row) in matrix.rows() {
            let Ok(row) = row else {
                missing += 1;
                continue;
            };
            passed_on += usize::from(row.through().is_some());
            for cell in matrix.cells(row).flatten() {
                if cell.is_surveyed() {
                    surveyed += 1;
                } else if cell.verdict() != Verdict::Up {
                    not_up.push(cell.verdict());
                }
            }
        }
        Self { matrix, names, missing, passed_on, not_up, surveyed, pairs, up }
    }

    /// Unhealthy when there is a finding.
    pub(super) fn exit(&self) -> Exit {
        if self.matrix.findings().is_empty() { Exit::Healthy } else { Exit::Unhealthy }
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
        for verdict in NOT_UP {
            match self.not_up.iter().filter(|found| found.as_str() == verdict).count() {
                0 => {}
                count => put!(text, ", {count} {verdict}"),
            }
        }
        if self.surveyed > 0 {
            put!(text, ", {} surveyed", self.surveyed);
        }
        for (count, what) in [(self.missing, "missing"), (self.passed_on, "passed on")] {
            match count {
                0 => {}
                1 => put!(text, "; 1 row {what}"),
                count => put!(text, "; {count} rows {what}"),
            }
        }
        text.push('\n');
        if self.names.len() <= MAX_PICTURE_NODES {
            self.picture(&mut text, paint);
        }
        self.findings(&mut text, paint);
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
                        let colour = cell.map(|cell| Colour::of(shown_verdict(cell)));
                        text.push_str(&paint.cell(&shown, width, colour));
                    }
                }
            }
        }
        trim(text);
        text.push('\n');
        if !words {
            text.push_str(
                "\n. up   X down   > one-way   ! flaky   ~ lossy   M mtu\nd draining   ? unknown   s surveyed   - itself\n",
            );
        }
    }

    /// Appends the findings, word for word.
    fn findings(&self, text: &mut String, paint: Paint) {
        let findings = self.matrix.findings();
        if !findings.is_empty() {
            text.push('\n');
        }
        for finding in findings.iter().take(MAX_LINES) {
            let colour = if finding.is_grave { Colour::Red } else { Colour::Yellow };
            put!(text, "{}\n", paint.cell(&printable(&finding.text), 0, Some(colour)));
        }
        let more = findings.len().saturating_sub(MAX_LINES);
        if more > 0 {
            put!(text, "{more} more findings; see wylis cluster --json\n");
        }
    }
}

fn trim(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
}

/// The verdict that gives the colour: that of a pair that rests for a survey is from before.
fn shown_verdict(cell: Cell) -> Verdict {
    if cell.is_surveyed() { Verdict::Unknown } else { cell.verdict() }
}

/// A verdict in at most five columns; a latency for up.
fn word(cell: Cell) -> String {
    let verdict = match cell.verdict() {
        _ if cell.is_surveyed() => "surv.",
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
        _ if cell.is_surveyed() => "s",
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
