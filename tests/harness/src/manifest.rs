//! The DaemonSet manifest's figures for an update, for tests that play the controller and the kubelets.

use std::time::Duration;

const DAEMON_SET: &str = include_str!("../../../manifests/50-daemonset.yaml");

/// `terminationGracePeriodSeconds`: the limit for a pod's end.
#[must_use]
pub fn grace() -> Duration {
    Duration::from_secs(number("terminationGracePeriodSeconds"))
}

/// `minReadySeconds`: how long a new pod must be ready before the update continues.
#[must_use]
pub fn min_ready() -> Duration {
    Duration::from_secs(number("minReadySeconds"))
}

/// `maxUnavailable` of `nodes` nodes: a percentage, which the controller rounds up.
///
/// # Panics
/// When the manifest has no percentage.
#[must_use]
pub fn max_unavailable(nodes: usize) -> usize {
    let value = value("maxUnavailable");
    let percent = value.strip_suffix('%').and_then(|percent| percent.parse::<usize>().ok());
    (nodes * percent.unwrap_or_else(|| panic!("maxUnavailable: {value}"))).div_ceil(100)
}

fn number(field: &str) -> u64 {
    let value = value(field);
    value.parse().unwrap_or_else(|_| panic!("{field}: {value}"))
}

/// The value of a field that occurs once, read as text; `tests/manifests` compares it with the parsed YAML.
fn value(field: &str) -> &'static str {
    let fields = DAEMON_SET.lines().filter_map(|line| line.trim().split_once(": "));
    let mut values = fields.filter(|(name, _)| *name == field).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => value,
        _ => panic!("the manifest of the DaemonSet has not exactly one {field}"),
    }
}
