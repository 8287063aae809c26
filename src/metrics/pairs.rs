//! The metrics of the pairs: from a snapshot to metric families. Pure.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::Description;
use crate::experiment::{Detail, HostState};
use crate::name::NodeName;
use crate::probe::FailureReason;
use crate::schedule::MEAN_GAP;
use crate::state::{Direction, PeerRecord, Snapshot};

/// The source node of requests from nodes that are no peers.
const UNKNOWN: &str = "unknown";
/// The only family with a series of [`UNKNOWN`].
const INCOMING_REQUESTS: &str = "wylis_incoming_requests_total";
/// The two families whose values depend on the time of the scrape.
const LONGEST_GAP: &str = "wylis_peer_longest_gap_seconds";
/// See [`LONGEST_GAP`].
const SURVEYED: &str = "wylis_peer_surveyed";
/// A longest gap of so many intervals is usual: its absence says that the path was never idle for longer. That
/// saves ten bytes of each pair in a compressed scrape.
const USUAL_GAP: f64 = 1.5;

/// Values of one pair, each with the value of the family's own label, empty if it has none.
type Values = Vec<(&'static str, f64)>;

/// A metric family over all pairs.
pub(super) struct Family {
    pub(super) description: Description,
    kind: MetricType,
    /// The pair's values; a histogram has none.
    values: fn(&PeerRecord) -> Values,
    /// The peer is the source, this node the target.
    incoming: bool,
}

const fn counter(
    name: &'static str,
    labels: &'static str,
    help: &'static str,
    values: fn(&PeerRecord) -> Values,
) -> Family {
    let description = Description { name, kind: "counter", labels, help };
    Family { description, kind: MetricType::COUNTER, values, incoming: false }
}

const fn gauge(
    name: &'static str,
    labels: &'static str,
    help: &'static str,
    values: fn(&PeerRecord) -> Values,
) -> Family {
    let description = Description { name, kind: "gauge", labels, help };
    Family { description, kind: MetricType::GAUGE, values, incoming: false }
}

pub(super) static FAMILIES: &[Family] = &[
    counter(
        "wylis_probes_total",
        "pair,result",
        "Finished probes, by result; local errors are not counted.",
        |record| results(record.successes, record.failed()),
    ),
    counter(
        "wylis_probe_failures_total",
        "pair,reason",
        "Failed probes, by reason; a reason appears with its first failure.",
        |record| {
            let counts = FailureReason::ALL.iter().zip(record.failures);
            let counted = counts.filter(|(_, count)| *count > 0);
            counted.map(|(reason, count)| (reason.as_str(), count.into())).collect()
        },
    ),
    Family {
        description: Description {
            name: "wylis_probe_duration_seconds",
            kind: "histogram",
            labels: "pair",
            help: "Duration of successful probes, from the first SYN to the complete answer.",
        },
        kind: MetricType::HISTOGRAM,
        values: |_| Vec::new(),
        incoming: false,
    },
    counter(
        "wylis_probe_retransmits_total",
        "pair",
        "TCP segments retransmitted during probes after a loss, SYNs included.",
        |record| vec![("", float(record.retransmits))],
    ),
    counter(
        "wylis_large_probes_total",
        "pair,result",
        "Finished large probes, by result; local errors are not counted.",
        |record| results(record.large.successes.into(), record.large.failures.into()),
    ),
    gauge(
        "wylis_peer_rtt_seconds",
        "pair",
        "Round-trip time of the last successful probe; absent if none of the last 20 succeeded.",
        |record| optional(record.recent_rtt().map(|rtt| rtt.as_secs_f64())),
    ),
    gauge("wylis_peer_path_mtu_bytes", "pair", "Path MTU to the peer.", |record| {
        optional(record.path_mtu.map(f64::from))
    }),
    gauge(
        "wylis_peer_up",
        "pair",
        "1 after a successful probe, 0 after WYLIS_FAILURE_THRESHOLD consecutive slots without one; absent before.",
        |record| optional(record.up.map(flag)),
    ),
    gauge(
        "wylis_peer_largest_packet_bytes",
        "pair,direction",
        "Largest IP packet that the path carries in the direction that loses full-size ones, as found exactly; absent otherwise.",
        largest_packets,
    ),
    gauge(
        "wylis_peer_host_up",
        "pair",
        "While the peer is down: 1 if the host behind it answers, 0 if that answered before and is silent; absent otherwise, and while unknown.",
        |record| match record.detail() {
            Some(Detail::Host(state)) => optional(Some(flag(state == HostState::Answers))),
            _ => Vec::new(),
        },
    ),
    gauge(
        "wylis_peer_impaired",
        "pair,kind",
        "1 while the peer is up and its path is impaired: one-way, flaky, lossy, or mtu (drops full-size packets); absent otherwise.",
        |record| record.verdict.impairment().map(|kind| (kind, 1.0)).into_iter().collect(),
    ),
    gauge(
        "wylis_peer_incoming",
        "pair,kind",
        "1 while the peer is down or one-way, by what comes in from it: requests, syns (without a connection) or nothing; absent otherwise, and while unknown.",
        |record| record.incoming_kind.map(|kind| (kind.as_str(), 1.0)).into_iter().collect(),
    ),
    gauge(
        "wylis_peer_ready",
        "pair",
        "1 if Kubernetes reports the peer's pod as ready, else 0.",
        |record| optional(record.peer.ready.map(flag)),
    ),
    gauge(
        "wylis_peer_last_success_timestamp_seconds",
        "pair",
        "Unix time of the last successful probe.",
        |record| optional(record.last_success.map(unix_seconds)),
    ),
    gauge(
        LONGEST_GAP,
        "pair",
        "Longest time without a packet that went through, in either direction, over about the last hour; absent up to 1.5 intervals.",
        |_| Vec::new(),
    ),
    gauge(
        SURVEYED,
        "pair",
        "1 while the pair rests for a survey, and for about an hour afterwards: its longest gap may be one of the survey; absent otherwise.",
        |_| Vec::new(),
    ),
    Family {
        incoming: true,
        ..counter(
            INCOMING_REQUESTS,
            "pair",
            "Blank requests answered, by sender (source_node); unknown: no peer.",
            |record| vec![("", float(record.incoming))],
        )
    },
    Family {
        incoming: true,
        ..counter(
            "wylis_incoming_retransmits_total",
            "pair",
            "TCP segments retransmitted to the sender (source_node) of proven requests; appears with the first.",
            |record| {
                let count = record.incoming_retransmits;
                optional((count > 0).then(|| count.into()))
            },
        )
    },
    Family {
        incoming: true,
        ..gauge(
            "wylis_incoming_interval_seconds",
            "pair",
            "Mean time between probes of the sender (source_node): 0.9 of the interval that it announces; absent until announced.",
            |record| {
                let mean = record.announced_interval.map(|longest| longest.mul_f64(MEAN_GAP));
                optional(mean.map(|mean| mean.as_secs_f64()))
            },
        )
    },
];

fn results(successes: u64, failures: u64) -> Values {
    vec![("success", float(successes)), ("failure", float(failures))]
}

/// Of the directions of the verdict `mtu`.
fn largest_packets(record: &PeerRecord) -> Values {
    let at_fault = record.verdict.direction();
    let is_told =
        |way: &Direction| at_fault.is_some_and(|at| [*way, Direction::Both].contains(&at));
    let ways = [Direction::Outgoing, Direction::Incoming].into_iter().filter(is_told);
    let value = |way: Direction| {
        let (largest, _) = record.experiments.mtu.largest(way)?;
        largest.is_exact.then(|| (way.as_str(), f64::from(largest.bytes)))
    };
    ways.filter_map(value).collect()
}

/// A value that is absent while `None`.
fn optional(value: Option<f64>) -> Values {
    value.map(|value| ("", value)).into_iter().collect()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus samples are floats; exact up to 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// To the millisecond: more digits are noise, and cost 2 bytes of each pair in a compressed scrape.
pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    let millis = at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1e3);
    millis.round() / 1e3
}

/// Renders the families of one snapshot.
pub(super) struct Pairs {
    source: NodeName,
    snapshot: Arc<Snapshot>,
}

impl Pairs {
    /// The pairs of `source` and every peer of the snapshot.
    pub(super) fn new(source: NodeName, snapshot: Arc<Snapshot>) -> Self {
        Self { source, snapshot }
    }

    /// Number of peers.
    pub(super) fn len(&self) -> usize {
        self.snapshot.peers.len()
    }

    /// One family over `count` peers from `first` on; the first part includes [`UNKNOWN`].
    pub(super) fn family(&self, family: &Family, first: usize, count: usize) -> MetricFamily {
        let mut metrics = Vec::new();
        let peers = &self.snapshot.peers;
        // A peer of that name owns the series: a duplicate would fail the scrape.
        let is_peer = || peers.iter().any(|record| record.peer.node.as_str() == UNKNOWN);
        if first == 0 && family.description.name == INCOMING_REQUESTS && !is_peer() {
            let labels = labels(UNKNOWN, self.source.as_str(), None);
            metrics.push(metric(family.kind, labels, float(self.snapshot.incoming_unknown)));
        }
        for record in peers.iter().skip(first).take(count) {
            self.add(family, record, &mut metrics);
        }
        let mut part = MetricFamily::default();
        part.set_name(family.description.name.to_owned());
        part.set_help(family.description.help.to_owned());
        part.set_field_type(family.kind);
        part.set_metric(metrics);
        part
    }

    /// Adds the metrics of one pair.
    fn add(&self, family: &Family, record: &PeerRecord, metrics: &mut Vec<Metric>) {
        let (own, peer) = (self.source.as_str(), record.peer.node.as_str());
        let (source, target) = if family.incoming { (peer, own) } else { (own, peer) };
        if family.kind == MetricType::HISTOGRAM {
            let mut metric = Metric::from_label(labels(source, target, None));
            metric.set_histogram(histogram(&self.snapshot.bounds, record));
            metrics.push(metric);
        }
        let label = family.description.labels.strip_prefix("pair,");
        let values = match family.description.name {
            LONGEST_GAP => self.longest_gap(record),
            SURVEYED => {
                let surveyed = record.was_surveyed_lately(self.snapshot.taken.instant);
                optional(surveyed.then_some(1.0))
            }
            _ => (family.values)(record),
        };
        metrics.extend(values.into_iter().map(|(value, number)| {
            let labels = labels(source, target, label.map(|label| (label, value)));
            metric(family.kind, labels, number)
        }));
    }

    fn longest_gap(&self, record: &PeerRecord) -> Values {
        let usual = self.snapshot.interval.mul_f64(USUAL_GAP);
        let gap = record.longest_gap(self.snapshot.taken.instant).filter(|gap| *gap > usual);
        optional(gap.map(|gap| gap.as_secs_f64()))
    }
}

fn histogram(bounds: &[f64], record: &PeerRecord) -> Histogram {
    let mut cumulative = 0;
    let buckets = bounds.iter().zip(&record.latency.counts).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(record.latency.counts.iter().sum());
    // To the microsecond, for the same reason; a rounded sum still never falls.
    histogram.set_sample_sum((record.latency.sum * 1e6).round() / 1e6);
    histogram
}

fn labels(source: &str, target: &str, own: Option<(&str, &str)>) -> Vec<LabelPair> {
    let pair = [("source_node", source), ("target_node", target)];
    let labels = own.into_iter().chain(pair).map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    });
    labels.collect()
}

pub(super) fn metric(kind: MetricType, labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}
