//! The metrics of the pairs: from a snapshot to metric families. Pure.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::Description;
use crate::name::NodeName;
use crate::probe::FailureReason;
use crate::state::{PeerRecord, Snapshot};

/// The sender of a request that names no known peer.
const UNKNOWN: &str = "unknown";

/// A family of metrics over all pairs.
pub(super) struct Family {
    pub(super) description: Description,
    kind: MetricType,
    /// Adds the metrics of one peer.
    add: fn(&Pairs, &PeerRecord, &mut Vec<Metric>),
    /// Adds metrics that belong to no peer.
    extra: fn(&Pairs, &mut Vec<Metric>),
}

/// Turns one snapshot into families.
pub(super) struct Pairs {
    source: NodeName,
    snapshot: Arc<Snapshot>,
}

const fn family(
    name: &'static str,
    labels: &'static str,
    help: &'static str,
    kind: MetricType,
    add: fn(&Pairs, &PeerRecord, &mut Vec<Metric>),
) -> Family {
    let word = match kind {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        _ => "gauge",
    };
    let description = Description { name, kind: word, labels, help };
    Family { description, kind, add, extra: |_, _| {} }
}

pub(super) static FAMILIES: &[Family] = &[
    family(
        "wylis_probes_total",
        "pair,result",
        "Probes finished, faults of our own excluded.",
        MetricType::COUNTER,
        |pairs, record, metrics| {
            for (result, value) in [("success", record.successes), ("failure", record.failed())] {
                metrics.push(counter(pairs.labels(record, &[("result", result)]), value));
            }
        },
    ),
    family(
        "wylis_probe_failures_total",
        "pair,reason",
        "Probes failed, by reason; a reason appears with its first failure.",
        MetricType::COUNTER,
        |pairs, record, metrics| {
            for (reason, value) in FailureReason::ALL.iter().zip(record.failures) {
                if value > 0 {
                    let labels = pairs.labels(record, &[("reason", reason.as_str())]);
                    metrics.push(counter(labels, value));
                }
            }
        },
    ),
    family(
        "wylis_probe_duration_seconds",
        "pair",
        "Time of successful probes, from the first SYN to the whole answer.",
        MetricType::HISTOGRAM,
        |pairs, record, metrics| metrics.push(pairs.latency(record)),
    ),
    family(
        "wylis_probe_retransmits_total",
        "pair",
        "Segments that the kernel sent again during probes, SYNs included.",
        MetricType::COUNTER,
        |pairs, record, metrics| {
            metrics.push(counter(pairs.labels(record, &[]), record.retransmits));
        },
    ),
    family(
        "wylis_large_probes_total",
        "pair,result",
        "Large probes finished, which carry full-size segments; faults of our own excluded.",
        MetricType::COUNTER,
        |pairs, record, metrics| {
            let large = &record.large;
            for (result, value) in [("success", large.successes), ("failure", large.failures)] {
                let labels = pairs.labels(record, &[("result", result)]);
                metrics.push(counter(labels, value.into()));
            }
        },
    ),
    family(
        "wylis_peer_rtt_seconds",
        "pair",
        "Round-trip time as the kernel measured it, of the last probe without a retransmit.",
        MetricType::GAUGE,
        |pairs, record, metrics| {
            pairs.gauge(record, record.rtt.map(|rtt| rtt.as_secs_f64()), metrics);
        },
    ),
    family(
        "wylis_peer_path_mtu_bytes",
        "pair",
        "Path MTU as the kernel knows it.",
        MetricType::GAUGE,
        |pairs, record, metrics| pairs.gauge(record, record.path_mtu.map(f64::from), metrics),
    ),
    family(
        "wylis_peer_up",
        "pair",
        "0 after WYLIS_FAILURE_THRESHOLD slots in a row without a success, 1 after one; absent until known.",
        MetricType::GAUGE,
        |pairs, record, metrics| pairs.gauge(record, record.up.map(truth), metrics),
    ),
    family(
        "wylis_peer_impaired",
        "pair,kind",
        "1 while the peer is up and its path is lossy, one-way, or swallows large packets (mtu); absent otherwise.",
        MetricType::GAUGE,
        |pairs, record, metrics| {
            if let Some(impairment) = record.verdict.impairment() {
                let labels = pairs.labels(record, &[("kind", impairment.as_str())]);
                metrics.push(gauge(labels, 1.0));
            }
        },
    ),
    family(
        "wylis_peer_incoming_syns_only",
        "pair",
        "While the peer is down by connect_timeout: 1 when its own SYNs come here and lead to nothing, else 0; absent otherwise.",
        MetricType::GAUGE,
        |pairs, record, metrics| pairs.gauge(record, record.incoming_syns_only.map(truth), metrics),
    ),
    family(
        "wylis_peer_ready",
        "pair",
        "1 when Kubernetes reports the peer's pod ready, 0 when not.",
        MetricType::GAUGE,
        |pairs, record, metrics| pairs.gauge(record, record.peer.ready.map(truth), metrics),
    ),
    family(
        "wylis_peer_last_success_timestamp_seconds",
        "pair",
        "When the last probe succeeded, in Unix time.",
        MetricType::GAUGE,
        |pairs, record, metrics| pairs.gauge(record, record.last_success.map(unix), metrics),
    ),
    Family {
        extra: |pairs, metrics| {
            // A node of that very name keeps the series for itself: two would spoil the scrape.
            if pairs.snapshot.peers.iter().any(|record| record.peer.node.as_str() == UNKNOWN) {
                return;
            }
            let labels = labels(UNKNOWN, pairs.source.as_str(), &[]);
            metrics.push(counter(labels, pairs.snapshot.incoming_unknown));
        },
        ..family(
            "wylis_incoming_requests_total",
            "pair",
            "Blank keep-alive requests answered; source_node is the sender, or unknown.",
            MetricType::COUNTER,
            |pairs, record, metrics| {
                let labels = labels(record.peer.node.as_str(), pairs.source.as_str(), &[]);
                metrics.push(counter(labels, record.incoming));
            },
        )
    },
    family(
        "wylis_incoming_interval_seconds",
        "pair",
        "The interval at which the sender (source_node) says that it sends; absent until it said so.",
        MetricType::GAUGE,
        |pairs, record, metrics| {
            let interval = record.announced_interval.map(|interval| interval.as_secs_f64());
            let labels = labels(record.peer.node.as_str(), pairs.source.as_str(), &[]);
            metrics.extend(interval.map(|interval| gauge(labels, interval)));
        },
    ),
];

impl Pairs {
    /// The pairs from `source` to every peer of the snapshot.
    #[must_use]
    pub(super) fn new(source: NodeName, snapshot: Arc<Snapshot>) -> Self {
        Self { source, snapshot }
    }

    /// How many peers there are.
    pub(super) fn len(&self) -> usize {
        self.snapshot.peers.len()
    }

    /// One family over some of the peers; what belongs to no peer comes with the first ones.
    pub(super) fn family(&self, family: &Family, first: usize, count: usize) -> MetricFamily {
        let mut metrics = Vec::new();
        if first == 0 {
            (family.extra)(self, &mut metrics);
        }
        for record in self.snapshot.peers.iter().skip(first).take(count) {
            (family.add)(self, record, &mut metrics);
        }
        let mut made = MetricFamily::default();
        made.set_name(family.description.name.to_owned());
        made.set_help(family.description.help.to_owned());
        made.set_field_type(family.kind);
        made.set_metric(metrics);
        made
    }

    fn labels(&self, record: &PeerRecord, more: &[(&str, &str)]) -> Vec<LabelPair> {
        labels(self.source.as_str(), record.peer.node.as_str(), more)
    }

    fn gauge(&self, record: &PeerRecord, value: Option<f64>, metrics: &mut Vec<Metric>) {
        metrics.extend(value.map(|value| gauge(self.labels(record, &[]), value)));
    }

    fn latency(&self, record: &PeerRecord) -> Metric {
        let mut cumulated = 0;
        let mut buckets = Vec::with_capacity(self.snapshot.bounds.len());
        for (bound, count) in self.snapshot.bounds.iter().zip(&record.latency.counts) {
            cumulated += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulated);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(record.latency.counts.iter().sum());
        histogram.set_sample_sum(record.latency.sum);
        let mut metric = Metric::from_label(self.labels(record, &[]));
        metric.set_histogram(histogram);
        metric
    }
}

fn labels(source: &str, target: &str, more: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = [("source_node", source), ("target_node", target)];
    more.iter()
        .chain(&pair)
        .map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value((*value).to_owned());
            label
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus samples are floats; exact up to 2^53")]
fn counter(labels: Vec<LabelPair>, value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn unix(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
