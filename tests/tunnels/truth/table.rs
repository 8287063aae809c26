//! The cases: fault, expected verdicts, expected finding, time limits. docs/faults.md lists them.

use std::time::Duration;

use super::expect::{Expect, TIMEOUTS};

/// The pairs that a fault affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The nodes A and B.
    Pair,
    /// The node B: its pairs with all other nodes, each of which is A.
    Node,
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) fault: &'static str,
    pub(super) scope: Scope,
    pub(super) a_of_b: Expect,
    pub(super) b_of_a: Expect,
    /// The finding that the third node must report, any of these; a `*` stands for any text.
    pub(super) finding: &'static [&'static str],
    pub(super) timing: Timing,
    /// Each verdict must be seen once, not all at the same time.
    pub(super) by_chance: bool,
    /// Limit: from the fault to the expected verdicts.
    pub(super) within: Duration,
    /// Limit: from the end of the fault to `up` everywhere.
    pub(super) up_within: Duration,
}

/// The agents' settings in a case.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    /// Whether the agents send large probes.
    pub(super) large: bool,
}

const TIMING: Timing =
    Timing { interval: Duration::from_secs(2), timeout: Duration::from_secs(5), large: true };
pub(super) const INTERVAL: Duration = TIMING.interval;
const THRESHOLD: u32 = 3;

impl Timing {
    pub(super) const fn of(interval: u64, timeout: u64) -> Self {
        let (interval, timeout) = (Duration::from_millis(interval), Duration::from_millis(timeout));
        Self { interval, timeout, large: true }
    }

    const fn without_large(self) -> Self {
        Self { large: false, ..self }
    }

    /// This many slots, and a probe.
    const fn slots(self, count: u32) -> Duration {
        self.interval.saturating_mul(count).saturating_add(self.timeout)
    }

    pub(super) fn settings(self) -> Vec<(&'static str, String)> {
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        vec![
            ("WYLIS_INTERVAL", millis(self.interval)),
            ("WYLIS_TIMEOUT", millis(self.timeout)),
            ("WYLIS_FAILURE_THRESHOLD", THRESHOLD.to_string()),
            // As often as blank probes at the usual interval, so that a false alarm of large probes shows.
            ("WYLIS_LARGE_INTERVAL", if self.large { "2s" } else { "0s" }.to_owned()),
            ("WYLIS_REFRESH_INTERVAL", "5s".to_owned()),
            ("WYLIS_DRAIN", "2s".to_owned()),
        ]
    }
}

/// Random losses need many probes.
const BY_CHANCE: Duration = Duration::from_secs(60);
/// Slots within which a partial fault is reported.
const PARTIAL: u32 = 40;
/// Slots after which no probe of the fault is among the last 20.
const WINDOW: u32 = 21;

impl Case {
    const fn pair(name: &'static str, fault: &'static str, a_of_b: Expect, b_of_a: Expect) -> Self {
        Self {
            name,
            fault,
            scope: Scope::Pair,
            a_of_b,
            b_of_a,
            finding: &[NONE],
            timing: TIMING,
            by_chance: false,
            within: TIMING.slots(THRESHOLD).saturating_add(Duration::from_secs(1)),
            up_within: TIMING.slots(2),
        }
    }

    const fn node(name: &'static str, fault: &'static str, a_of_b: Expect, b_of_a: Expect) -> Self {
        Self { scope: Scope::Node, ..Self::pair(name, fault, a_of_b, b_of_a) }
    }

    const fn finding(self, finding: &'static [&'static str]) -> Self {
        Self { finding, ..self }
    }

    const fn within(self, within: Duration, up_within: Duration) -> Self {
        Self { within, up_within, ..self }
    }

    /// A fault that some probes meet, with these settings.
    const fn partial(self, timing: Timing) -> Self {
        Self { timing, ..self }.within(timing.slots(PARTIAL), timing.slots(WINDOW))
    }

    /// Without large probes, whose packets a rule would count too.
    const fn without_large(self) -> Self {
        Self { timing: self.timing.without_large(), ..self }
    }

    const fn by_chance(self) -> Self {
        Self { by_chance: true, ..self }
    }

    /// The expectation for `source` on `target`. Node 1 is A, node 2 is B.
    pub(super) fn expects(&self, source: u8, target: u8) -> Expect {
        match (self.scope, source, target) {
            (Scope::Pair, 1, 2) | (Scope::Node, _, 2) => self.a_of_b,
            (Scope::Pair, 2, 1) | (Scope::Node, 2, _) => self.b_of_a,
            _ => Expect::UP,
        }
    }

    /// Whether the fault affects the pair, in either direction.
    pub(super) fn concerns(&self, source: u8, target: u8) -> bool {
        match self.scope {
            Scope::Pair => source.max(target) <= 2,
            Scope::Node => source == 2 || target == 2,
        }
    }

    /// Whether a finding may name the node alone.
    pub(super) fn accuses(&self, node: u8) -> bool {
        self.scope == Scope::Node && node == 2
    }
}

/// Among the findings of a case: there may be none.
pub(super) const NONE: &str = "–";

macro_rules! cases {
    ($($constant:ident = $make:expr;)*) => {
        $(pub(super) const $constant: &Case = &$make;)*
        /// All cases, in the order of the documentation.
        pub(super) const CASES: &[&Case] = &[$($constant),*];
    };
}

/// One verdict.
macro_rules! says {
    ($($word:literal),*) => { Expect::says(&[$($word),*]) };
}

const UP: Expect = Expect::UP;
const NOT_JUDGED: Expect = Expect::NOT_JUDGED;
/// Whatever loss in both directions may lead to.
const BAD: Expect =
    says!("lossy", "flaky (*)", "down (*)", "one-way").failures(TIMEOUTS).incoming("*");
const UNREACHED: Expect = says!("down (connect_timeout)");
/// What a lossy path may lead to by chance: at one probe a second, one that takes its whole timeout of 5 s misses
/// five slots, so that the peer is down until the next success.
const BY_TIMEOUTS: &[&str] = &["flaky (*)", "down (connect_timeout)", "down (response_timeout)"];
/// A lossy path, on which probes may fail too.
const LOSSY: Expect = says!("lossy").passing(BY_TIMEOUTS).failures(TIMEOUTS).incoming("*");
const LOSSY_OR_FLAKY: Expect = says!("lossy", "flaky (*)").failures(TIMEOUTS);
const UP_LOSSY_OR_FLAKY: Expect = says!("up", "lossy", "flaky (*)").failures(TIMEOUTS);
/// One direction is found before the other.
const MTU_BOTH: Expect = says!("mtu (both)").passing(&["mtu (*)"]);
/// Requests arrive, 4 s after the SYN of each.
const TOO_SLOW: Expect = says!("down (response_timeout)").failures(TIMEOUTS).incoming("requests");
/// Probes that do not connect; three in a row by chance are `down`.
const UNCONNECTED: Expect = says!("flaky (connect_timeout)").passing(&["down (connect_timeout)"]);
/// The other end of these: six requests in a row that do not arrive, by chance, are `one-way`.
const SELDOM_HEARD: Expect = UP.passing(&["one-way"]).incoming("*");
/// Three large probes, each with its 3 s and the blank success after it, and two slots until the first.
const LARGE: Duration = TIMING.slots(7);
/// Enough slots for several probes of 5 s.
const SEVERAL: Duration = TIMING.slots(12);
/// A connection that ends with its process.
const KILLED_WITH_PROCESS: &[&str] = &["reset", "closed"];
/// Between two processes none listens.
const REPLACED: &[&str] = &["refused", "reset", "closed"];
const UP_OR_LOSSY: Expect = says!("up", "lossy");
const MILLIS_200: Duration = Duration::from_millis(200);
const fn round_trip(from: u64, to: u64) -> Expect {
    UP.rtt(Duration::from_millis(from), Duration::from_millis(to))
}
/// Failing probes end before the next slot, as by default.
const SHORT: Timing = Timing::of(2000, 1500);
const FAST: Timing = Timing::of(1000, 5000);
const FASTER: Timing = Timing::of(500, 5000);
/// A retry of WireGuard's handshake (5 s), and the usual limit.
const AFTER_HANDSHAKE: Duration = Duration::from_secs(15);

cases! {
    FIRST_SYN = Case::pair("first_syn", "first SYN of each connection from A to B dropped", says!("lossy"), UP)
        .finding(&["n1 → n2: lossy"])
        .within(TIMING.slots(4), TIMING.slots(WINDOW));
    LOSS = Case::pair("loss", "30 % of the packets lost, both ways", BAD, BAD)
        .finding(&["n1 ↔ n2: *", "n1 → n2: *", "n2 → n1: *"])
        .within(BY_CHANCE, TIMING.slots(WINDOW)).by_chance();
    ONE_IN_FOUR = Case::pair("one_in_four", "exactly 1 in 4 packets of the connections from A to B lost", says!("lossy"), UP)
        .finding(&["n1 → n2: lossy"])
        .within(TIMING.slots(4), TIMING.slots(WINDOW)).without_large();
    TEN_PER_CENT = Case::pair("ten_per_cent", "10 % of the packets from A to B lost", says!("lossy", "up").passing(BY_TIMEOUTS).failures(TIMEOUTS).incoming("*"), says!("lossy", "up").passing(BY_TIMEOUTS).failures(TIMEOUTS).incoming("*"))
        .finding(&["n1 → n2: lossy"])
        .partial(FAST);
    ANSWERS = Case::pair("answers", "30 % of the answers from B to A lost", says!("up", "lossy").passing(BY_TIMEOUTS).failures(TIMEOUTS).incoming("*"), LOSSY)
        .finding(&["n2 → n1: lossy"])
        .partial(FAST);
    CORRUPTED = Case::pair("corrupted", "10 % of the packets corrupted, both ways", LOSSY, LOSSY)
        .finding(&["n1 ↔ n2: lossy", "n1 → n2: lossy", "n2 → n1: lossy"])
        .partial(FAST).by_chance();
    HALF_REFUSED = Case::pair("half_refused", "1 of 2 connections from A to B refused", says!("flaky (refused)"), UP)
        .finding(&["n1 → n2: flaky (refused, * of *)"])
        .partial(FAST).without_large();
    QUARTER_REFUSED = Case::pair("quarter_refused", "1 of 4 connections from A to B refused", says!("flaky (refused)"), UP)
        .finding(&["n1 → n2: flaky (refused, * of *)"])
        .partial(FAST).without_large();
    FEW_REFUSED = Case::pair("few_refused", "1 of 16 connections from A to B refused", UP.failures(&["refused"]), UP)
        .partial(FASTER).without_large();
    HALF_OF_PORTS = Case::pair("half_of_ports", "packets of 1 of 2 source ports dropped, from A to B", UNCONNECTED, SELDOM_HEARD)
        .finding(&["n1 → n2: flaky (connect_timeout, * of *)"])
        .partial(SHORT);
    QUARTER_OF_PORTS = Case::pair("quarter_of_ports", "packets of 1 of 4 source ports dropped, from A to B", UNCONNECTED, UP)
        .finding(&["n1 → n2: flaky (connect_timeout, * of *)"])
        .partial(SHORT);
    HALF_OF_PORTS_BACK = Case::pair("half_of_ports_back", "packets to 1 of 2 source ports dropped, from B to A", UNCONNECTED, SELDOM_HEARD)
        .finding(&["n1 → n2: flaky (connect_timeout, * of *)"])
        .partial(SHORT);
    QUARTER_OF_PORTS_BACK = Case::pair("quarter_of_ports_back", "packets to 1 of 4 source ports dropped, from B to A", UNCONNECTED, UP)
        .finding(&["n1 → n2: flaky (connect_timeout, * of *)"])
        .partial(SHORT);
    // One end alone cannot be sure of it: a probe that meets a burst lasts as long as the burst, so that each costs
    // one probe of a pair at most, and `lossy` needs three of 5 or four of 30. A rule that always catches it within 40
    // slots would accuse healthy pairs at 0.1 % of loss several times an hour. At 2 s, 30 probes last for six bursts; a
    // cell is lossy within 80 slots in about nine of ten trials (simulated), one of four nearly always.
    BURST = Case::node("burst", "link of B dead for 1 s of each 10 s", UP_LOSSY_OR_FLAKY, UP_LOSSY_OR_FLAKY)
        .finding(&["*n2*"])
        .within(TIMING.slots(2 * PARTIAL), TIMING.slots(WINDOW)).by_chance();
    SHORT_BURST = Case::node("short_burst", "link of B dead for 0.4 s of each 2 s", LOSSY_OR_FLAKY, LOSSY_OR_FLAKY)
        .finding(&["n2's link: *", "n1 ↔ n2: *", "n1 → n2: *", "n2 → n1: *"])
        .partial(FAST).by_chance();
    ALL_DROPPED = Case::pair("all_dropped", "all packets dropped, both ways", UNREACHED.incoming("nothing"), UNREACHED.incoming("nothing"))
        .finding(&["n1 ↔ n2: down (connect_timeout)*"]);
    ONE_DIRECTION = Case::pair("one_direction", "all packets from A to B dropped", UNREACHED.incoming("syns"), UNREACHED.incoming("nothing"))
        .finding(&["n1 → n2: down (connect_timeout)*", "n1 ↔ n2: down (connect_timeout)*"]);
    FIREWALL_DROPS = Case::pair("firewall_drops", "new connections from A to B dropped by a firewall", UNREACHED.incoming("requests"), says!("one-way").incoming("nothing"))
        .finding(&["n1 → n2: down (connect_timeout); requests from n2 arrive"]);
    FIREWALL_RESETS = Case::pair("firewall_resets", "new connections from A to B reset by a firewall", says!("down (refused)").incoming("requests"), says!("one-way").incoming("nothing"))
        .finding(&["n1 → n2: down (refused); requests from n2 arrive"]);
    UNREACHABLE = Case::pair("unreachable", "new connections from A to B answered by ICMP unreachable", says!("down (unreachable)").incoming("requests"), says!("one-way").incoming("nothing"))
        .finding(&["n1 → n2: down (unreachable); requests from n2 arrive"]);
    ALLOWED_IPS = Case::pair("allowed_ips", "WireGuard of A has a wrong address in AllowedIPs of B", UNREACHED.incoming("nothing"), UNREACHED.incoming("nothing"))
        .finding(&["n1 ↔ n2: down (connect_timeout)*"])
        .within(TIMING.slots(4), AFTER_HANDSHAKE);
    WRONG_KEY = Case::pair("wrong_key", "WireGuard of A has a wrong key of B", UNREACHED.incoming("nothing"), UNREACHED.incoming("nothing"))
        .finding(&["n1 ↔ n2: down (connect_timeout)*"])
        .within(TIMING.slots(4), AFTER_HANDSHAKE);
    KILLED = Case::node("killed", "agent of B killed", says!("down (refused)").failures(KILLED_WITH_PROCESS).incoming("nothing"), NOT_JUDGED)
        .finding(&["n2 is down: none of 2 others reaches it (refused)"]);
    FROZEN = Case::node("frozen", "agent of B frozen (SIGSTOP)", says!("down (response_timeout)").incoming("nothing"), UP)
        .finding(&["n2 is down: none of 2 others reaches it (response_timeout)"]);
    TUNNEL_FROZEN = Case::node("tunnel_frozen", "WireGuard process of B frozen", UNREACHED.incoming("nothing"), UNREACHED.incoming("nothing"))
        .finding(&["n2 is down: none of 2 others reaches it (connect_timeout)"]);
    MTU = Case::pair("mtu", "packets above 1,200 bytes dropped, both ways", MTU_BOTH, MTU_BOTH)
        .finding(&["n1 ↔ n2: mtu"])
        .within(LARGE, TIMING.slots(3));
    MTU_OUT = Case::pair("mtu_out", "packets above 1,200 bytes from A to B dropped", says!("mtu (outgoing)"), says!("mtu (incoming)"))
        .finding(&["n1 → n2: mtu"])
        .within(LARGE, TIMING.slots(3));
    MTU_BACK = Case::pair("mtu_back", "packets above 1,200 bytes from B to A dropped", says!("mtu (incoming)"), says!("mtu (outgoing)"))
        .finding(&["n2 → n1: mtu"])
        .within(LARGE, TIMING.slots(3));
    MTU_HALF = Case::pair("mtu_half", "1 of 2 packets above 1,000 bytes lost, both ways", says!("mtu (*)"), says!("mtu (*)"))
        .finding(&["n1 ↔ n2: mtu", "n1 → n2: mtu", "n2 → n1: mtu"])
        .partial(TIMING).by_chance();
    MTU_SMALLER = Case::pair("mtu_smaller", "MTU of 1,000 bytes on the way from A to B, reported by ICMP", says!("mtu (outgoing)"), UP)
        .finding(&["n1 → n2: mtu"])
        .within(TIMING.slots(4), Duration::from_secs(75));
    TAKEN_BY_AGENT = Case::node("taken_by_agent", "pod IP of B taken over by another agent", says!("down (wrong_peer)").failures(REPLACED), NOT_JUDGED)
        .finding(&["n2 is down: none of 2 others reaches it (wrong_peer)"]);
    TAKEN_BY_WEB_SERVER = Case::node("taken_by_web_server", "pod IP of B taken over by a foreign web server", says!("down (bad_response)").failures(REPLACED), NOT_JUDGED)
        .finding(&["n2 is down: none of 2 others reaches it (bad_response)"]);
    DELAY = Case::node("delay", "100 ms delay on the link of B, each way", UP.rtt(MILLIS_200, TIMING.timeout), UP.rtt(MILLIS_200, TIMING.timeout));
    RTT_1_2 = Case::node("rtt_1_2", "600 ms delay on the link of B, each way", round_trip(1200, 1700).fresh(), round_trip(1200, 1700).fresh())
        .within(SEVERAL, TIMING.slots(4));
    RTT_2_2 = Case::node("rtt_2_2", "1.1 s delay on the link of B, each way", round_trip(2200, 2700).fresh(), round_trip(2200, 2700).fresh())
        .within(SEVERAL, TIMING.slots(4));
    RTT_4 = Case::pair("rtt_4", "2 s delay between A and B, each way", TOO_SLOW, TOO_SLOW)
        .finding(&["n1 ↔ n2: down (response_timeout), slower than WYLIS_TIMEOUT"])
        .within(TIMING.slots(4), TIMING.slots(4));
    JITTER = Case::pair("jitter", "0 to 100 ms delay between A and B, by chance, each way", UP, UP)
        .partial(FASTER);
    REORDERED = Case::pair("reordered", "1 of 10 packets between A and B late by 150 ms", UP, UP)
        .partial(FASTER);
    // Later than the kernel's shortest timer, 200 ms: to TCP, such a packet is lost, and it is sent again.
    LATE = Case::pair("late", "1 of 10 packets between A and B late by 300 ms", UP_OR_LOSSY, UP_OR_LOSSY)
        .finding(&[NONE, "n1 ↔ n2: lossy", "n1 → n2: lossy", "n2 → n1: lossy"])
        .partial(FASTER);
    DUPLICATED = Case::pair("duplicated", "1 of 3 packets between A and B duplicated", UP, UP)
        .partial(FASTER);
    STARVED = Case::node("starved", "agent of B starved of CPU", NOT_JUDGED, UP);
    DESCRIPTORS = Case::node("descriptors", "descriptors of B's agent used up", NOT_JUDGED, UP);
    PORTS = Case::node("ports", "local ports of B's pod used up", NOT_JUDGED, UP);
    LINK_DOWN = Case::node("link_down", "link of B down", says!("down (connect_timeout)", "down (unreachable)").incoming("nothing"), says!("down (connect_timeout)", "down (unreachable)").incoming("nothing"))
        .finding(&["n2 is down: none of 2 others reaches it (*)"]);
    ROLLING = Case::node("rolling", "node added, node removed, rolling update of all under load", UP, UP);
}
