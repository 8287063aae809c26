//! The bounds of findings.

use wylis_harness::bounds::worst_case;

use super::super::{MAX_GROUPS, MAX_LISTED_PAIRS};

use super::*;

#[test]
fn findings_beyond_their_bound_are_summed_up() {
    let rows: Vec<String> = (0..120)
        .map(|source| {
            let cell = |target: usize| match target {
                _ if target == source => "-",
                _ if target == source + 1 && source % 2 == 0 => "R",
                _ => ".",
            };
            let star = if source == 0 { "*" } else { "" };
            format!("{star}n{source:03}: {}", (0..120).map(cell).collect::<Vec<_>>().join(" "))
        })
        .collect();
    let matrix = picture(&rows.join("\n"));
    let findings = matrix.findings();
    assert_eq!(findings.len(), MAX_GROUPS);
    assert!(findings.len() as f64 <= worst_case("MAX_GROUPS"));
    assert_eq!(findings.iter().map(|finding| finding.cells).sum::<usize>(), 60);
    let last = &findings[MAX_GROUPS - 1];
    assert_eq!(last.text, "11 more, which concern 11 pairs of 22 nodes");
    assert_eq!((last.is_grave, last.cells, last.pairs.len(), last.nodes.len()), (true, 11, 11, 22));
    let lossy: Vec<_> = (0..10).map(|row| format!("n{row}: {}", "~ ".repeat(10))).collect();
    let finding = picture(&format!("*{}", lossy.join("\n"))).findings()[0].clone();
    assert_eq!((finding.cells, finding.pairs.len()), (90, MAX_LISTED_PAIRS));
    assert!(finding.pairs.len() as f64 <= worst_case("MAX_LISTED_PAIRS"));
}

#[test]
fn a_long_list_of_names_is_cut() {
    let names: Vec<String> = (10..28).map(|number| format!("n{number}")).collect();
    let rows = names.iter().enumerate().map(|(place, name)| {
        let star = if place == 0 { "*" } else { "" };
        let cell = |target: usize| match (place, target) {
            _ if place == target => "-",
            (0..12, 17) => "R",
            _ => ".",
        };
        format!("{star}{name}: {}", (0..18).map(cell).collect::<Vec<_>>().join(" "))
    });
    assert_says(
        &rows.collect::<Vec<_>>().join("\n"),
        &["! n10, n11, n12, n13, n14 and 7 more → n27: down (refused)"],
    );
}
