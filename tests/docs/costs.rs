//! The figures of what it costs: they follow from one probe and from a real scrape.

use wylis::probe::FailureReason;

use super::{Row, differences, read, scrape, snapshot, success, table};

/// 1234567.0 bytes are `1.2 MB`.
fn bytes(count: f64) -> String {
    [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")]
        .iter()
        .find(|(unit, _)| count >= *unit)
        .map_or(format!("{count} B"), |(unit, name)| format!("{:.1} {name}", count / unit))
}

/// 1234567 is `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Series of one healthy pair at the default bounds, counted in a real scrape.
fn series_of_a_healthy_pair() -> u64 {
    let text = scrape(snapshot(&[success()]), Vec::new());
    text.lines().filter(|line| !line.starts_with('#') && line.contains("\"target\"")).count() as u64
}

/// The row of the table of costs for `nodes`, from the formulas above it.
fn costs(nodes: u64, packets: u64, size: u64, series: u64) -> Row {
    /// Bytes of one pod in the API server's list, of one row of its table, and of the table's head;
    /// the tests on a real Kubernetes measure all three.
    const POD: f64 = 8780.0;
    const ROW: f64 = 136.0;
    const HEAD: f64 = 3150.0;
    /// Rows tell so many times that nothing has changed; then the pods are read.
    const ROWS_FOR_EACH_POD: f64 = 20.0;
    /// Seconds between two refreshes for each `n²`, which bounds the API server's bytes: regular
    /// ones, and those while something changes.
    const SPACING: f64 = 330e-6;
    const EARLY: f64 = 33e-6;
    let pairs = nodes * (nodes - 1);
    let rate = pairs as f64 / 10.0;
    let squared = (nodes * nodes) as f64;
    let refresh = (squared * SPACING).max(30.0);
    let heads = nodes as f64 * HEAD;
    let at_rest = heads + squared * (ROW + POD / ROWS_FOR_EACH_POD);
    let changing = heads + squared * (ROW + POD);
    vec![
        nodes.to_string(),
        grouped(pairs),
        grouped(pairs / 10),
        grouped(pairs * packets / 10),
        bytes(rate * size as f64),
        grouped(pairs * series),
        format!("{refresh:.0} s"),
        bytes(at_rest / refresh),
        bytes(changing / (squared * EARLY).max(10.0)),
    ]
}

#[test]
fn the_costs_follow_from_one_probe() {
    const HEADING: &str = "What it costs: read this before a large cluster";
    let text = read("README.md");
    let probe = table(&text, HEADING, 1).unwrap();
    let figure = |name: &str| -> u64 {
        let found = probe.iter().find(|row| row.first().is_some_and(|cell| cell == name));
        found.unwrap_or_else(|| panic!("no row {name:?}"))[1].parse().unwrap()
    };
    let documented = table(&text, HEADING, 2).unwrap();
    let series = series_of_a_healthy_pair();
    let known: Vec<Row> = documented
        .iter()
        .map(|row| costs(row[0].parse().unwrap(), figure("packets"), figure("bytes"), series))
        .collect();
    let found = differences(&documented, &known);
    assert!(found.is_empty(), "README.md, costs: {found:#?}");
    assert!(text.contains(&format!("of the {series} series of a healthy pair")));
    let bounds = table(&text, "Settings", 0).unwrap();
    let bounds = bounds.iter().find(|row| row[0] == "WYLIS_BUCKETS").unwrap()[2].split(',').count();
    let rest = series - bounds as u64;
    assert!(text.contains(&format!("({rest} + the number of `WYLIS_BUCKETS`)")), "{rest}");
    let sick = FailureReason::ALL.len() + 1;
    assert!(text.contains(&format!("up to {sick} more for a sick pair")), "{sick}");
}
