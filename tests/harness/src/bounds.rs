//! The table of bounds in docs/security.md: constants, their values, the measured worst cases, and the tests
//! that measure them.

use std::path::Path;

/// One row of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// What is bounded.
    pub what: String,
    /// The name of the constant.
    pub constant: String,
    /// The file that defines it, from the root of the project.
    pub file: String,
    /// Its value in units, bytes or seconds.
    pub value: f64,
    /// The measured worst case in the same unit.
    pub worst: f64,
    /// The test that measures it: `TARGET::…::NAME`, or `lib::…::NAME` for a unit test.
    pub test: String,
}

/// All rows.
///
/// # Panics
/// When the page has no such table, or a row cannot be read.
#[must_use]
pub fn documented() -> Vec<Bound> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let text = std::fs::read_to_string(&page).expect("docs/security.md");
    let rows = text.lines().skip_while(|line| !line.starts_with("| bound | constant |")).skip(2);
    let rows: Vec<Bound> = rows.take_while(|line| line.starts_with('|')).map(read).collect();
    assert!(!rows.is_empty(), "docs/security.md has no table of bounds");
    rows
}

/// The documented worst case of a bound, in units, bytes or seconds: a test asserts that what it measures is
/// not above it.
///
/// # Panics
/// When the table has no row for the constant.
#[must_use]
pub fn worst_case(constant: &str) -> f64 {
    let mut rows = documented().into_iter();
    let row = rows.find(|row| row.constant == constant);
    row.unwrap_or_else(|| panic!("docs/security.md has no bound {constant}")).worst
}

fn read(line: &str) -> Bound {
    let cells: Vec<String> =
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    let [what, constant, value, worst, test] = cells.try_into().unwrap_or_else(|cells| {
        panic!("a bound has five cells, not {cells:?}");
    });
    let (constant, file) = constant.split_once(" in ").unwrap_or_else(|| panic!("{line}: no file"));
    Bound {
        what,
        constant: constant.to_owned(),
        file: file.to_owned(),
        value: quantity(&value),
        worst: quantity(&worst),
        test,
    }
}

/// A number with an optional unit: `512`, `64 KiB`, `1.5 MiB`, `2 s`, `500 ms`, `1 h`.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn quantity(text: &str) -> f64 {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: f64 = number.replace(',', "").parse().unwrap_or_else(|_| panic!("{text:?}"));
    number
        * match unit {
            "" | "s" | "bytes" => 1.0,
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            "ms" => 0.001,
            "min" => 60.0,
            "h" => 3600.0,
            _ => panic!("{text:?}: unknown unit"),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_with_its_units() {
        let bound = read("| heads | `MAX` in `src/a.rs` | 64 KiB | 1.5 KiB | `gate::b::c` |");
        assert_eq!((bound.constant.as_str(), bound.file.as_str()), ("MAX", "src/a.rs"));
        assert_eq!((bound.value, bound.worst), (65536.0, 1536.0));
        assert_eq!(bound.test, "gate::b::c");
        assert_eq!(quantity("500 ms"), 0.5);
        assert_eq!(quantity("10,000"), 10_000.0);
    }
}
