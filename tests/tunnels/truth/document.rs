//! docs/faults.md: the cases with their measured times. `make faults` writes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::table::{CASES, Case};

/// Environment variable: the folder for measured times.
pub(super) const MEASURED: &str = "WYLIS_FAULTS";

/// docs/faults.md above the table.
const HEAD: &str = include_str!("faults.head.md");
/// The columns that come from the definition.
const DEFINED: usize = 4;

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md")
}

/// The cells that come from the definition.
fn defined(case: &Case) -> [String; DEFINED] {
    let findings: Vec<String> = case.finding.iter().map(|text| readable(text)).collect();
    let (a, b) = (case.a_of_b.to_string(), case.b_of_a.to_string());
    [case.fault.to_owned(), a, b, findings.join(" or ")]
}

/// A pattern with the names of the document.
fn readable(pattern: &str) -> String {
    let names = [("n1", "A"), ("n2", "B"), ("n3", "C"), ("* of *", "k of n"), ("*", "…")];
    names.into_iter().fold(pattern.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// For each case, the times to the verdict, to the finding and to `up` again.
type Times = BTreeMap<String, [String; 3]>;

fn render(measured: &Times) -> String {
    let mut text = HEAD.to_owned();
    text.push_str(
        "| fault | A reports B as | B reports A as | finding | verdict after | finding after | up again after |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|\n");
    for case in CASES {
        let times = measured.get(case.name).cloned().unwrap_or_default();
        text.push_str(&format!("| {} | {} |\n", defined(case).join(" | "), times.join(" | ")));
    }
    text
}

#[test]
fn the_documented_table_matches_the_code() {
    let text = std::fs::read_to_string(document()).unwrap();
    let table = text
        .strip_prefix(HEAD)
        .expect("docs/faults.md differs from faults.head.md: run make faults");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).take(DEFINED).collect())
        .collect();
    let known: Vec<_> = CASES.iter().map(|case| defined(case)).collect();
    assert_eq!(rows, known, "docs/faults.md is out of date: run make faults");
}

/// The times of a document, for cases that were not measured now.
fn documented() -> Times {
    let text = std::fs::read_to_string(document()).unwrap_or_default();
    let rows = text.lines().map(|line| line.trim_matches('|').split('|').map(str::trim));
    let rows: Vec<Vec<&str>> = rows.map(Iterator::collect).collect();
    let of = |case: &&Case| {
        let row = rows.iter().find(|row| row.first() == Some(&case.fault))?;
        let [verdict, found, up] = row.get(DEFINED..)? else { return None };
        Some((case.name.to_owned(), [verdict, found, up].map(|time| (*time).to_owned())))
    };
    CASES.iter().filter_map(of).collect()
}

#[test]
#[ignore = "writes docs/faults.md; called by make faults"]
fn write_the_documented_table() {
    let folder = std::env::var_os(MEASURED).expect("the folder of measured times");
    let mut times = documented();
    times.extend(CASES.iter().filter_map(|case| {
        let line = std::fs::read_to_string(Path::new(&folder).join(case.name)).ok()?;
        let mut times = line.trim_end().split('|').map(str::to_owned);
        Some((case.name.to_owned(), [times.next()?, times.next()?, times.next()?]))
    }));
    std::fs::create_dir_all(document().parent().unwrap()).unwrap();
    std::fs::write(document(), render(&times)).unwrap();
}
