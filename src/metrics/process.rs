//! The usual process_* metrics, of this process, from the kernel; a value that cannot be read is absent.

use std::fs;
use std::time::SystemTime;

use prometheus::proto::{MetricFamily, MetricType};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::pairs::{float, metric, unix_seconds};

/// Name, type, help text and value of each.
type Row = (&'static str, MetricType, &'static str, Option<f64>);

/// All families, of a process that `started` then.
pub(super) fn families(started: SystemTime) -> impl Iterator<Item = MetricFamily> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name| number(&status, name).map(|kilobytes| kilobytes * 1024.0);
    let rows: [Row; 7] = [
        (
            "process_cpu_seconds_total",
            MetricType::COUNTER,
            "Total user and system CPU time spent in seconds.",
            Some(cpu_seconds()),
        ),
        (
            "process_max_fds",
            MetricType::GAUGE,
            "Maximum number of open file descriptors.",
            getrlimit(Resource::Nofile).current.map(float),
        ),
        (
            "process_open_fds",
            MetricType::GAUGE,
            "Number of open file descriptors.",
            open_descriptors(),
        ),
        (
            "process_resident_memory_bytes",
            MetricType::GAUGE,
            "Resident memory size in bytes.",
            bytes("VmRSS:"),
        ),
        (
            "process_start_time_seconds",
            MetricType::GAUGE,
            "Start time of the process since unix epoch in seconds.",
            Some(unix_seconds(started).floor()),
        ),
        (
            "process_threads",
            MetricType::GAUGE,
            "Number of OS threads in the process.",
            number(&status, "Threads:"),
        ),
        (
            "process_virtual_memory_bytes",
            MetricType::GAUGE,
            "Virtual memory size in bytes.",
            bytes("VmSize:"),
        ),
    ];
    rows.into_iter().filter_map(family)
}

fn family((name, kind, help, value): Row) -> Option<MetricFamily> {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![metric(kind, Vec::new(), value?)]);
    Some(family)
}

/// To the hundredth, as in proc(5).
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let time = std::time::Duration::try_from(time).unwrap_or_default();
    (time.as_secs_f64() * 100.0).floor() / 100.0
}

/// Without the one that counts them.
fn open_descriptors() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(float(count.saturating_sub(1).try_into().ok()?))
}

/// The number behind `name` at the start of a line.
fn number(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok().map(float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_that_of_its_line() {
        let status = "Name:\tVmRSS: 7\nVmSize:\t    5120 kB\nVmRSS:\t    1000 kB\nThreads:\t3\n";
        assert_eq!(number(status, "VmRSS:"), Some(1000.0));
        assert_eq!(number(status, "Threads:"), Some(3.0));
        assert_eq!(number(status, "Name:"), None);
        assert_eq!(number(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_all_seven() {
        let started = SystemTime::now();
        let value = |family: MetricFamily| {
            let metric = family.get_metric().first()?;
            let counts = family.get_field_type() == MetricType::COUNTER;
            Some(if counts {
                metric.get_counter().get_value()
            } else {
                metric.get_gauge().get_value()
            })
        };
        let values: Vec<f64> = families(started).filter_map(value).collect();
        let [cpu, limit, open, resident, start, threads, virtual_size] = values[..] else {
            panic!("{values:?}");
        };
        assert!((0.0..1e6).contains(&cpu) && threads >= 1.0, "{values:?}");
        assert!(open >= 3.0 && limit >= open, "{values:?}");
        assert!(resident >= 1e6 && virtual_size >= resident, "{values:?}");
        assert!((unix_seconds(started) - start).abs() <= 1.0, "{values:?}");
    }
}
