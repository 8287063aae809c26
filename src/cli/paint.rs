//! Colours and the width of the output.

use std::io::IsTerminal as _;

use super::{Environment, variable};
use crate::state::Verdict;

/// Width where the output is not a terminal and `COLUMNS` is not set.
const DEFAULT_WIDTH: usize = 80;
const MAX_WIDTH: usize = 1000;

/// A colour with its number in ECMA-48.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Grey = 90,
}

impl Colour {
    /// The colour of a verdict.
    pub(super) fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Up => Self::Green,
            Verdict::Down(_) => Self::Red,
            Verdict::OneWay | Verdict::Flaky(_) | Verdict::Lossy | Verdict::Mtu(_) => Self::Yellow,
            Verdict::Draining | Verdict::Unknown => Self::Grey,
        }
    }
}

/// The style of the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    pub(super) coloured: bool,
    pub(super) width: usize,
}

impl Paint {
    pub(super) fn new(environment: &Environment) -> Self {
        let out = std::io::stdout();
        let columns =
            variable(environment, "COLUMNS").and_then(|columns| columns.trim().parse().ok());
        let width = match rustix::termios::tcgetwinsize(&out) {
            Ok(size) if size.ws_col > 0 => size.ws_col.into(),
            _ => columns.unwrap_or(DEFAULT_WIDTH),
        };
        let no_color = variable(environment, "NO_COLOR").is_some_and(|value| !value.is_empty());
        let coloured = out.is_terminal() && !no_color;
        Self { coloured, width: width.clamp(1, MAX_WIDTH) }
    }

    /// The text, padded on the right to `width` columns, then coloured.
    pub(super) fn cell(self, text: &str, width: usize, colour: Option<Colour>) -> String {
        match colour.filter(|_| self.coloured) {
            Some(colour) => format!("\x1b[{}m{text:<width$}\x1b[0m", colour as u8),
            None => format!("{text:<width$}"),
        }
    }
}
