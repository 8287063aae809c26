//! The metrics of the agent itself: schedule, local errors, discovery, public port.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::{Description, process};
use crate::peer::PodCounts;
use crate::probe::LocalError;

/// Defines each description as a constant, and all of them as `DESCRIPTIONS`.
macro_rules! descriptions {
    ($($constant:ident $name:literal $kind:literal $labels:literal $help:literal;)+) => {
        $(const $constant: Description =
            Description { name: $name, kind: $kind, labels: $labels, help: $help };)+
        pub(super) const DESCRIPTIONS: &[Description] = &[$($constant),+];
    };
}

descriptions! {
    PEERS "wylis_peers" "gauge" ""
        "Peers in the last good list.";
    PODS "wylis_pods" "gauge" "state"
        "Pods of the DaemonSet in the last good list, by state.";
    SKIPPED "wylis_probes_skipped_total" "counter" ""
        "Slots without a probe: the previous one was in flight, or the agent late.";
    LOCAL "wylis_local_errors_total" "counter" "reason"
        "Probes prevented by an error on this node, by reason; not counted against a peer.";
    DELAY "wylis_schedule_delay_seconds" "histogram" ""
        "Delay between the due time and the start of a probe.";
    REFRESHES "wylis_discovery_refreshes_total" "counter" "result"
        "Refreshes of the peer list, by result.";
    DISCOVERY_FAILURES "wylis_discovery_failures_total" "counter" "reason"
        "Failed refreshes of the peer list, by reason.";
    DISCOVERY_DURATION "wylis_discovery_duration_seconds" "histogram" ""
        "Duration of a refresh of the peer list.";
    DISCOVERY_SUCCESS "wylis_discovery_last_success_timestamp_seconds" "gauge" ""
        "Unix time of the last successful refresh of the peer list; absent before the first.";
    CONNECTIONS "wylis_gate_connections" "gauge" ""
        "Open connections on the public port.";
    REJECTED "wylis_gate_rejected_total" "counter" "reason"
        "Connections and requests rejected on the public port, by reason.";
    REQUESTS "wylis_gate_requests_total" "counter" "route,code"
        "Requests answered on the public port, by route and status code.";
    LOG_LINES_DROPPED "wylis_log_lines_dropped_total" "counter" "reason"
        "Log lines that were not written, by reason.";
    BUILD "wylis_build_info" "gauge" "version"
        "Constant 1, labelled with the version of the agent.";
}

/// The delay must be well below a probe's latency, or the latency histogram cannot be trusted.
const DELAY_BOUNDS: &[f64] = &[0.005, 0.05, 0.5, 5.0];
/// A list from the API server's cache takes milliseconds, one over a poor link up to the deadline.
const DISCOVERY_BOUNDS: &[f64] = &[0.01, 0.1, 1.0, 10.0];

/// The counters of the public port as plain numbers: the gate does not depend on this module.
#[derive(Debug, Default, Clone)]
pub struct GateCounts {
    /// Open connections.
    pub connections: u64,
    /// Rejections by reason.
    pub rejected: Vec<(&'static str, u64)>,
    /// Requests by route and status code.
    pub requests: Vec<(&'static str, &'static str, u64)>,
}

/// One finished refresh as plain numbers: discovery does not depend on this module.
#[derive(Debug, Clone, Copy)]
pub struct RefreshSample {
    /// Its duration.
    pub took: Duration,
    /// The time of the success, or the label value of the failure.
    pub result: Result<SystemTime, &'static str>,
}

/// The metrics of the agent.
pub struct AgentMetrics {
    started: SystemTime,
    registry: Registry,
    peers: IntGauge,
    pods: IntGaugeVec,
    skipped: IntCounter,
    local: IntCounterVec,
    delay: Histogram,
    refreshes: IntCounterVec,
    discovery_failures: IntCounterVec,
    discovery_duration: Histogram,
    /// A vector without labels, because a plain gauge would be exported before it is set.
    discovery_success: GaugeVec,
    connections: IntGauge,
    rejected: IntCounterVec,
    requests: IntCounterVec,
    log_lines_dropped: IntCounterVec,
}

impl AgentMetrics {
    /// Registers all metrics; `discovery_reasons` start at zero.
    ///
    /// # Errors
    /// An invalid or duplicate name or label: a mistake in this file.
    pub fn new(discovery_reasons: &[&str]) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |description: Description| {
            register(&registry, IntCounterVec::new(options(description), &labels(description)))
        };
        let gauge = |description| register(&registry, IntGauge::with_opts(options(description)));
        let histogram = |description, bounds: &[f64]| {
            let options = HistogramOpts::from(options(description)).buckets(bounds.to_vec());
            register(&registry, Histogram::with_opts(options))
        };
        let metrics = Self {
            started: SystemTime::now(),
            peers: gauge(PEERS)?,
            pods: register(&registry, IntGaugeVec::new(options(PODS), &labels(PODS)))?,
            skipped: register(&registry, IntCounter::with_opts(options(SKIPPED)))?,
            local: counters(LOCAL)?,
            delay: histogram(DELAY, DELAY_BOUNDS)?,
            refreshes: counters(REFRESHES)?,
            discovery_failures: counters(DISCOVERY_FAILURES)?,
            discovery_duration: histogram(DISCOVERY_DURATION, DISCOVERY_BOUNDS)?,
            discovery_success: register(&registry, GaugeVec::new(options(DISCOVERY_SUCCESS), &[]))?,
            connections: gauge(CONNECTIONS)?,
            rejected: counters(REJECTED)?,
            requests: counters(REQUESTS)?,
            log_lines_dropped: counters(LOG_LINES_DROPPED)?,
            registry,
        };
        let build = options(BUILD).const_label("version", env!("CARGO_PKG_VERSION"));
        register(&metrics.registry, IntGauge::with_opts(build))?.set(1);
        for reason in LocalError::ALL {
            metrics.local.with_label_values(&[reason.as_str()]);
        }
        for reason in discovery_reasons {
            metrics.discovery_failures.with_label_values(&[*reason]);
        }
        for result in ["success", "failure"] {
            metrics.refreshes.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// Sets the numbers of peers and of pods.
    pub fn set_peers(&self, peers: usize, pods: PodCounts) {
        self.peers.set(saturating(peers));
        for (state, count) in [
            ("peer", pods.peer),
            ("self", pods.own),
            ("pending", pods.pending),
            ("no_ip", pods.no_ip),
            ("bad_address", pods.bad_address),
            ("terminating", pods.terminating),
        ] {
            self.pods.with_label_values(&[state]).set(saturating(count));
        }
    }

    /// Counts slots without a probe.
    pub fn add_skipped(&self, slots: u64) {
        self.skipped.inc_by(slots);
    }

    /// Counts a local error.
    pub fn add_local_error(&self, reason: LocalError) {
        self.local.with_label_values(&[reason.as_str()]).inc();
    }

    /// Observes the delay between the due time and the start of a probe.
    pub fn observe_schedule_delay(&self, delay: Duration) {
        self.delay.observe(delay.as_secs_f64());
    }

    /// Counts a finished refresh.
    pub fn add_refresh(&self, refresh: RefreshSample) {
        self.discovery_duration.observe(refresh.took.as_secs_f64());
        let result = match refresh.result {
            Ok(at) => {
                let unix = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                self.discovery_success.with_label_values::<&str>(&[]).set(unix.as_secs_f64());
                "success"
            }
            Err(reason) => {
                self.discovery_failures.with_label_values(&[reason]).inc();
                "failure"
            }
        };
        self.refreshes.with_label_values(&[result]).inc();
    }

    /// Raises the number of log lines that were not written for a reason.
    pub fn raise_log_lines_dropped(&self, reason: &str, total: u64) {
        raise(&self.log_lines_dropped.with_label_values(&[reason]), total);
    }

    /// All families, those of the process first, with the current counters of the gate.
    #[must_use]
    pub fn gather(&self, gate: &GateCounts) -> Vec<MetricFamily> {
        self.connections.set(saturating(gate.connections));
        for (reason, count) in &gate.rejected {
            raise(&self.rejected.with_label_values(&[*reason]), *count);
        }
        for (route, code, count) in &gate.requests {
            raise(&self.requests.with_label_values(&[*route, *code]), *count);
        }
        process::families(self.started).chain(self.registry.gather()).collect()
    }
}

fn options(description: Description) -> Opts {
    Opts::new(description.name, description.help)
}

fn labels(description: Description) -> Vec<&'static str> {
    description.labels.split(',').collect()
}

fn register<T: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<T>,
) -> prometheus::Result<T> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn saturating(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Raises a counter to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
