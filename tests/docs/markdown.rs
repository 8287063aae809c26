//! Reads as much Markdown as the checks need: sections, tables, code and links.

use std::collections::BTreeSet;

pub(super) type Row = Vec<String>;

/// The lines of a section, from its heading to the next heading of any level. Lines inside code blocks
/// are not headings.
pub(super) fn section<'a>(text: &'a str, heading: &str) -> Result<Vec<&'a str>, String> {
    let mut lines = text.lines();
    let title = |line: &str| {
        let bare = line.trim_start_matches('#');
        (bare.len() < line.len()).then(|| bare.trim().to_owned())
    };
    if !lines.any(|line| title(line).as_deref() == Some(heading)) {
        return Err(format!("no section {heading:?}"));
    }
    let mut code = false;
    let until_next = lines.take_while(|line| {
        code ^= line.trim_start().starts_with("```");
        code || !line.starts_with('#')
    });
    Ok(until_next.collect())
}

/// The rows of the `number`th table (from 0) of a section, without header. Backticks are dropped.
pub(super) fn table(text: &str, heading: &str, number: usize) -> Result<Vec<Row>, String> {
    let lines = section(text, heading)?;
    let is_row = |line: &&str| line.starts_with('|');
    let tables: Vec<&[&str]> = lines
        .chunk_by(|one, next| is_row(one) == is_row(next))
        .filter(|chunk| chunk.first().is_some_and(is_row))
        .collect();
    let Some(&[header, rule, ref rows @ ..]) = tables.get(number).copied() else {
        return Err(format!("section {heading:?} has no table number {number}"));
    };
    let columns = cells(header)?.len();
    if !rule.chars().all(|c| "|-: ".contains(c)) || cells(rule)?.len() != columns {
        return Err(format!("section {heading:?}: no rule below the header {header:?}"));
    }
    let mut read = Vec::new();
    for row in rows {
        let cells = cells(row)?;
        if cells.len() != columns {
            return Err(format!("{} cells instead of {columns}: {row}", cells.len()));
        }
        read.push(cells);
    }
    if read.is_empty() { Err(format!("section {heading:?}: an empty table")) } else { Ok(read) }
}

fn cells(line: &str) -> Result<Row, String> {
    let inner = line.strip_prefix('|').and_then(|rest| rest.trim_end().strip_suffix('|'));
    let inner = inner.ok_or_else(|| format!("an unterminated row: {line}"))?;
    Ok(inner.split('|').map(|cell| cell.trim().replace('`', "")).collect())
}

/// The first example in JSON of a section.
pub(super) fn json_example(text: &str, heading: &str) -> String {
    let lines = section(text, heading).unwrap();
    let from_json = lines.into_iter().skip_while(|line| *line != "```json").skip(1);
    from_json.take_while(|line| *line != "```").collect()
}

/// Rows that only one of the two lists has, and rows that the document repeats.
pub(super) fn differences(documented: &[Row], known: &[Row]) -> Vec<String> {
    let (ours, theirs) = (documented.iter().collect::<BTreeSet<_>>(), known.iter().collect());
    let mut found: Vec<String> =
        ours.difference(&theirs).map(|row| format!("documented only: {row:?}")).collect();
    found.extend(theirs.difference(&ours).map(|row| format!("in the code only: {row:?}")));
    if ours.len() != documented.len() {
        found.push("a repeated row".to_owned());
    }
    found
}

pub(super) fn row<const N: usize>(cells: [&str; N]) -> Row {
    cells.map(str::to_owned).into()
}

/// Inline code and the lines of code blocks.
pub(super) fn code(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if block {
            found.push(line.trim());
        } else {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// Targets of links in prose: `[text](target)`.
pub(super) fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|part| Some(part.split_once(')')?.0)).collect()
}

/// The anchor that a forge gives to a heading.
pub(super) fn anchor(heading: &str) -> String {
    let text = heading.trim().to_lowercase();
    let text = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    text.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn malformed_tables_are_refused() {
    let good = "# A\n\n| a | b |\n|---|---|\n| `1` | 2 |\n| 3 |  |\n\n## B\n\nno table\n";
    let read = vec![row(["1", "2"]), row(["3", ""])];
    assert_eq!(table(good, "A", 0), Ok(read));
    for (bad, heading) in [
        (good, "C"),
        (good, "B"),
        ("# A\n| a | b |\n|---|---|\n", "A"),
        ("# A\n| a | b |\n| 1 | 2 |\n", "A"),
        ("# A\n| a | b |\n|---|\n| 1 | 2 |\n", "A"),
        ("# A\n| a | b |\n|---|---|\n| 1 | 2 | 3 |\n", "A"),
        ("# A\n| a | b |\n|---|---|\n| 1 | 2\n", "A"),
        ("# A\n```\n# B\n```\n# C\n| a |\n|---|\n| 1 |\n", "A"),
    ] {
        assert!(table(bad, heading, 0).is_err(), "{bad:?}");
    }
    assert!(table(good, "A", 1).is_err());
}

#[test]
fn missing_additional_and_repeated_rows_are_found() {
    let (one, two) = (row(["1", "a"]), row(["2", "b"]));
    let one_alone = std::slice::from_ref(&one);
    assert!(differences(&[two.clone(), one.clone()], &[one.clone(), two.clone()]).is_empty());
    assert_eq!(differences(one_alone, &[one.clone(), two.clone()]).len(), 1);
    assert_eq!(differences(&[one.clone(), two], one_alone).len(), 1);
    assert_eq!(differences(&[row(["1", "A"])], one_alone).len(), 2);
    assert_eq!(differences(&[one.clone(), one.clone()], one_alone).len(), 1);
}
