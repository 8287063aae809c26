//! The figures of docs/sizing.md: they follow from one probe and from a real scrape.

use wylis::probe::FailureReason;
use wylis::schedule::MEAN_GAP;

use super::markdown::{Row, differences, table};
use super::{SETTINGS_PAGE, assert_says, read, scrape, snapshot, success};

const SIZING: &str = "docs/sizing.md";

/// The mean time between two probes of a pair at the default interval, in seconds.
const PACE: f64 = 10.0 * MEAN_GAP;

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

/// Series of one healthy pair at the default buckets, counted in a real scrape.
fn series_of_a_healthy_pair() -> u64 {
    let text = scrape(snapshot(&[success()]), Vec::new());
    text.lines().filter(|line| !line.starts_with('#') && line.contains("\"target\"")).count() as u64
}

/// What one probe costs, from the table of the page.
struct Probe {
    packets: u64,
    bytes: u64,
    large_bytes: u64,
    host_bytes: u64,
}

impl Probe {
    fn read(text: &str) -> Self {
        let rows = table(text, "Cost of one probe", 0).unwrap();
        let figure = |name: &str| -> u64 {
            let found = rows.iter().find_map(|row| match row.as_slice() {
                [first, value, ..] if first == name => value.parse().ok(),
                _ => None,
            });
            found.unwrap_or_else(|| panic!("no figure {name:?}"))
        };
        let [packets, bytes] = ["packets", "bytes"].map(figure);
        let [large_bytes, host_bytes] =
            ["bytes of a large probe", "bytes of a question to a host"].map(figure);
        Self { packets, bytes, large_bytes, host_bytes }
    }

    /// Bytes of one pair in a second: blank probes at their mean pace, a large one and a question to the host each
    /// 5 minutes.
    fn bytes_each_second(&self) -> f64 {
        self.bytes as f64 / PACE + (self.large_bytes + self.host_bytes) as f64 / 300.0
    }
}

/// The row of the table of clusters for `nodes`, from the formulas above it.
fn cluster(nodes: u64, probe: &Probe, series: u64) -> Row {
    /// Bytes of one pod in the API server's list, of one row of its table, and of the table's head;
    /// the tests on a real Kubernetes measure all three.
    const POD: f64 = 8780.0;
    const ROW: f64 = 136.0;
    const HEAD: f64 = 3150.0;
    /// Refreshes that read rows for each one that reads the pods.
    const ROWS_FOR_EACH_POD: f64 = 20.0;
    /// Seconds between two refreshes for each `n²`, which bounds the API server's bytes: regular
    /// ones, and those during changes.
    const SPACING: f64 = 330e-6;
    const EARLY: f64 = 33e-6;
    let pairs = nodes * (nodes - 1);
    let squared = (nodes * nodes) as f64;
    let refresh = (squared * SPACING).max(30.0);
    let heads = nodes as f64 * HEAD;
    let each_second = |count: u64| grouped(format!("{:.0}", count as f64 / PACE).parse().unwrap());
    let at_rest = heads + squared * (ROW + POD / ROWS_FOR_EACH_POD);
    let changing = heads + squared * (ROW + POD);
    vec![
        nodes.to_string(),
        grouped(pairs),
        each_second(pairs),
        each_second(pairs * probe.packets),
        bytes(pairs as f64 * probe.bytes_each_second()),
        grouped(pairs * series),
        format!("{refresh:.0} s"),
        bytes(at_rest / refresh),
        bytes(changing / (squared * EARLY).max(10.0)),
    ]
}

#[test]
fn clusters_follow_from_one_probe() {
    let text = read(SIZING);
    let (probe, series) = (Probe::read(&text), series_of_a_healthy_pair());
    let documented = table(&text, "Typical clusters", 0).unwrap();
    let known: Vec<Row> =
        documented.iter().map(|row| cluster(row[0].parse().unwrap(), &probe, series)).collect();
    let found = differences(&documented, &known);
    assert!(found.is_empty(), "{SIZING}: {found:#?}");
    let short: Vec<Row> =
        known.iter().map(|row| [0, 2, 4, 5].map(|column| row[column].clone()).into()).collect();
    let found = differences(&table(&read("README.md"), "Cost", 0).unwrap(), &short);
    assert!(found.is_empty(), "README.md: {found:#?}");
}

#[test]
fn shares_and_series_follow_from_the_code() {
    let text = read(SIZING);
    let says = |phrase: String| assert_says(SIZING, &phrase);
    let (probe, series) = (Probe::read(&text), series_of_a_healthy_pair());
    let share = probe.large_bytes as f64 / (300.0 / PACE * probe.bytes as f64) * 100.0;
    says(format!("the large probes add {share:.0} % to the bytes"));
    // The budget of a probe, the rest included; the slots of a pair are 9 s apart on average.
    let each = probe.bytes_each_second() * PACE;
    println!("bytes of a probe, large probes and questions to hosts included: {each:.1}");
    assert!(each <= 800.0, "{each}");
    let second = probe.bytes_each_second();
    let month = second * 86_400.0 * 30.4 / 1e6;
    says(format!("costs {second:.0} bytes/s, {:.0} MB a month", (month / 10.0).round() * 10.0));
    says(format!("of the {series} series of a healthy pair"));
    let bounds = table(&read(SETTINGS_PAGE), "All settings", 0).unwrap();
    let bounds = bounds.iter().find(|row| row[0] == "WYLIS_BUCKETS").unwrap()[2].split(',').count();
    says(format!("({} + the number of `WYLIS_BUCKETS`)", series - bounds as u64));
    says(format!("up to {} more for a sick pair", FailureReason::ALL.len() + 1));
}
