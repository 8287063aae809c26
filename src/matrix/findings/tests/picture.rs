//! Matrices written as pictures: a line for each row, a word for each cell.

use std::time::Duration;

use crate::experiment::{DeadFlows, Detail, HostState, LargestPacket};
use crate::matrix::{Cell, CellFacts, ClockOffset, Matrix, Row, RowError};
use crate::name::NodeName;
use crate::probe::FailureReason::{ConnectTimeout, Refused, ResponseTimeout, Unreachable};
use crate::state::{Direction, Incoming, Verdict};

/// The matrix of a picture. A line is `NAME: CELL CELL …` in the order of the names, or
/// `NAME: no ERROR`; the collecting agent has a `*` before its name, and `NAME@MILLIS` tells how far a
/// clock is ahead, `NAME@MILLIS/DOUBT` with a doubt other than 50 ms. A cell is one of
///
/// | `-` `_` | itself, not known |
/// |---|---|
/// | `.` `?` `d` | up, unknown, draining |
/// | `X` `R` `U` `T` `S` | down: connect_timeout, refused, unreachable, response_timeout, that because of slowness |
/// | `>` `~` | one-way, lossy |
/// | `!` `%` | flaky: refused in 11 of 20, connect_timeout in 3 of 20 |
/// | `mo` `mi` `mb` | mtu: outgoing, incoming, both |
///
/// and more behind it: `q`, `s`, `n` for requests, SYNs or nothing that come in, `i` for intercepted, `h` and `H` for
/// a host that answers or is silent, `u` for surveyed; then `6/4` for 6 probes and 4 requests with retransmits, or
/// `=1337` and `=524+` for the largest packet, exactly or at least, or `:1/4` for dead flows.
pub(super) fn picture(text: &str) -> Matrix {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (mut own, mut names, mut rows) = (None, Vec::new(), Vec::new());
    for line in lines {
        let (head, cells) = line.split_once(':').expect("NAME: CELLS");
        let name = head.trim_start_matches('*');
        let (name, clock) = name.split_once('@').map_or((name, None), |(name, millis)| {
            let (millis, doubt) = millis.split_once('/').unwrap_or((millis, "50"));
            let [millis, doubt] = [millis, doubt].map(|text| text.parse::<i64>().unwrap());
            (name, Some(ClockOffset { millis, doubt: doubt.unsigned_abs() }))
        });
        let name = NodeName::new(name).unwrap();
        if head.starts_with('*') {
            own = Some(name.clone());
        }
        names.push(name);
        rows.push(match cells.trim().strip_prefix("no ") {
            Some(error) => Err(RowError::from_text(error).unwrap()),
            None => {
                let cells = cells.split_whitespace().map(cell).collect();
                Ok(Row::new(1_000_000, 0, cells).with_clock(clock))
            }
        });
    }
    let own = own.expect("the collecting agent");
    Matrix::from_parts(own, (1_000_000, None), [Duration::ZERO; 2], names, rows, None)
        .expect("in order")
}

/// The cell of a word.
pub(super) fn cell(word: &str) -> Option<Cell> {
    let verdicts = [
        ("mo", Verdict::Mtu(Direction::Outgoing)),
        ("mi", Verdict::Mtu(Direction::Incoming)),
        ("mb", Verdict::Mtu(Direction::Both)),
        (".", Verdict::Up),
        ("?", Verdict::Unknown),
        ("d", Verdict::Draining),
        ("X", Verdict::Down(ConnectTimeout)),
        ("R", Verdict::Down(Refused)),
        ("U", Verdict::Down(Unreachable)),
        ("T", Verdict::Down(ResponseTimeout)),
        ("S", Verdict::Down(ResponseTimeout)),
        (">", Verdict::OneWay),
        ("~", Verdict::Lossy),
        ("!", Verdict::Flaky(Refused)),
        ("%", Verdict::Flaky(ConnectTimeout)),
    ];
    if ["-", "_"].contains(&word) {
        return None;
    }
    let (start, verdict) =
        verdicts.into_iter().find(|(start, _)| word.starts_with(start)).expect(word);
    let mut facts = CellFacts::of(verdict);
    facts.failures = match start {
        "!" => 11,
        "%" => 3,
        "X" | "R" | "U" | "T" | "S" => 20,
        _ => 0,
    };
    facts.is_slow = start == "S";
    let mut rest = &word[start.len()..];
    while let Some(letter) = rest.chars().next() {
        match letter {
            'q' => facts.incoming = Some(Incoming::Requests),
            's' => facts.incoming = Some(Incoming::Syns),
            'n' => facts.incoming = Some(Incoming::Nothing),
            'i' => facts.is_intercepted = true,
            'h' => facts.detail = Some(Detail::Host(HostState::Answers)),
            'H' => facts.detail = Some(Detail::Host(HostState::Silent)),
            'u' => facts.is_surveyed = true,
            '=' => {
                let bytes = rest[1..].trim_end_matches('+').parse().unwrap();
                let largest = LargestPacket { bytes, is_exact: !rest.ends_with('+') };
                facts.detail = Some(Detail::Largest(largest));
                break;
            }
            ':' => {
                let (dead, flows) = rest[1..].split_once('/').expect(word);
                let [dead, flows] = [dead, flows].map(|count| count.parse().unwrap());
                facts.detail = Some(Detail::Flows(DeadFlows { dead, flows }));
                break;
            }
            _ => {
                let (own, incoming) = rest.split_once('/').expect(word);
                facts.retransmits = own.parse().unwrap();
                facts.incoming_retransmits = incoming.parse().unwrap();
                break;
            }
        }
        rest = &rest[1..];
    }
    Some(Cell::new(facts))
}
