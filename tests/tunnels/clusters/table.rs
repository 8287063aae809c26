//! The cases: situation, expected findings of each agent, time limit.
//!
//! A pattern is the sentence itself. `*` stands for any text, `|` separates alternatives. The list of an agent
//! is complete and in order, unless it ends with `..`: then more findings may be among them.

use std::time::Duration;

use super::{INTERVAL, THRESHOLD, TIMEOUT};

/// The agents on these nodes give these findings.
pub(super) type Said = (&'static [u8], &'static [&'static str]);

/// Which pairs a fault affects; every other pair stays `up`, and no finding is about it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Touched {
    Nothing,
    /// Both directions between any of these and any of those nodes.
    Between(&'static [u8], &'static [u8]),
    /// All pairs of the node.
    Node(u8),
    /// All pairs without the node.
    Without(u8),
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    /// The situation, for the report.
    pub(super) what: &'static str,
    pub(super) says: &'static [Said],
    pub(super) touched: Touched,
    /// What chance may bring in passing to pairs that the fault does not touch: source, target, verdict.
    pub(super) passing: &'static [(u8, u8, &'static str)],
    /// Whether `/api/v1/health` answers 503 at every agent of `says` that has a finding; `None`: by chance.
    pub(super) grave: Option<bool>,
    /// Whether every agent must report the same once it is over, which takes half a minute.
    pub(super) is_remembered: bool,
    /// Limit: from the fault to the findings.
    pub(super) within: Duration,
    /// Limit: from the end of the fault to no finding.
    pub(super) well_within: Duration,
}

/// A row and the matrix are each cached for 5 s, and an agent waits up to 5 s for rows.
const ROWS: Duration = Duration::from_secs(15);
/// Threshold × interval + timeout + 1 s, and the age of the rows.
const WHOLE: Duration = Duration::from_secs(
    THRESHOLD as u64 * INTERVAL.as_secs() + TIMEOUT.as_secs() + 1 + ROWS.as_secs(),
);
/// 40 slots, and the age of the rows.
const PARTIAL: Duration = Duration::from_secs(40 * INTERVAL.as_secs() + ROWS.as_secs());
/// Three intervals + timeout: a connection in retransmit may find the path again late.
const WELL: Duration =
    Duration::from_secs(3 * INTERVAL.as_secs() + TIMEOUT.as_secs() + ROWS.as_secs());
/// The window of 20 probes must be free of the fault, and a flaky peer takes as long.
const WINDOW: Duration =
    Duration::from_secs(21 * INTERVAL.as_secs() + TIMEOUT.as_secs() + ROWS.as_secs());
/// The kernel forgets a half-open connection after 63 s; then as [`WELL`].
const HALF_OPEN: Duration = Duration::from_secs(63 + WELL.as_secs());

/// No verdict in passing.
const NEVER: &[(u8, u8, &str)] = &[];

impl Case {
    /// A fault of everything it touches, which is grave.
    const fn whole(
        name: &'static str,
        what: &'static str,
        touched: Touched,
        says: &'static [Said],
    ) -> Self {
        let (within, well_within) = (WHOLE, WELL);
        let (passing, grave, is_remembered) = (NEVER, Some(true), false);
        Self { name, what, says, touched, passing, grave, is_remembered, within, well_within }
    }

    /// A fault by chance, which is not.
    const fn partial(
        name: &'static str,
        what: &'static str,
        touched: Touched,
        says: &'static [Said],
    ) -> Self {
        let (within, well_within) = (PARTIAL, WINDOW);
        let (passing, grave, is_remembered) = (NEVER, Some(false), false);
        Self { name, what, says, touched, passing, grave, is_remembered, within, well_within }
    }

    /// Nothing of it may be a finding.
    const fn harmless(name: &'static str, what: &'static str, says: &'static [Said]) -> Self {
        Self { grave: Some(false), ..Self::whole(name, what, Touched::Nothing, says) }
    }

    const fn remembered(self) -> Self {
        Self { is_remembered: true, ..self }
    }

    /// Whether `source` may ever have this verdict on `target`.
    pub(super) fn permits(&self, source: u8, target: u8, verdict: &str) -> bool {
        self.touched.has(source, target) || self.passing.contains(&(source, target, verdict))
    }
}

impl Touched {
    /// Whether the fault affects what `source` sees of `target`.
    pub(super) fn has(self, source: u8, target: u8) -> bool {
        match self {
            Self::Nothing => false,
            Self::Between(these, those) => {
                let between = |one, other| these.contains(&one) && those.contains(&other);
                between(source, target) || between(target, source)
            }
            Self::Node(node) => source == node || target == node,
            Self::Without(node) => source != node && target != node,
        }
    }

    /// Whether the fault affects any pair of the node.
    pub(super) fn has_node(self, node: u8, size: u8) -> bool {
        (1..=size).any(|other| other != node && (self.has(node, other) || self.has(other, node)))
    }
}

/// Whether a finding's text matches a pattern.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    pattern.split('|').any(|pattern| matches_one(pattern, text))
}

fn matches_one(pattern: &str, text: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(begin) else { return false };
    let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.into_iter().any(|at| text.get(at..).is_some_and(|text| matches_one(rest, text)))
}

/// One probe that takes its whole timeout of 5 s misses two slots of 2 s: with a threshold of 3, the peer is down
/// until the next success. On a busy machine, a proxy in a thread of the test makes a probe that late at times.
const ONE_LATE: &str = "down (response_timeout)";

macro_rules! cases {
    ($($constant:ident = $make:expr;)*) => {
        $(pub(super) const $constant: &Case = &$make;)*
        pub(super) const CASES: &[&Case] = &[$($constant),*];
    };
}

cases! {
    // ---- A star: n1 is the hub.
    HUB_SILENT = Case::whole("hub_silent", "the hub of a star forwards nothing, and is itself reached by all",
        Touched::Without(1),
        &[(&[1, 2, 3, 4], &["only n1 is reached; it does not relay: all 6 paths between the other nodes fail"])]);
    // Some pairs are down for a while, by chance, and rows that come through the hub are lost like probes.
    HUB_LOSSY = Case { grave: None, ..Case::partial("hub_lossy", "the hub of a star forwards with 30 % loss", Touched::Without(1), &[
        (&[1], &["every path through n1 is lossy"]),
        (&[2, 3, 4], &["every path through n1 is lossy", ".."]),
    ]) };

    // ---- Parts of the mesh.
    SPLIT = Case::whole("split", "split 2 : 2", Touched::Between(&[1, 2], &[3, 4]), &[
        (&[1, 2], &["the mesh is split: this side is {n1, n2}; the rows of n3, n4 are missing"]),
        (&[3, 4], &["the mesh is split: this side is {n3, n4}; the rows of n1, n2 are missing"]),
    ]);
    SPLIT_BRIDGED = Case::whole("split_bridged", "split 2 : 2, and a fifth node reaches all", Touched::Between(&[1, 2], &[3, 4]),
        &[(&[1, 2, 3, 4, 5], &["n1, n2 ↔ n3, n4: down (connect_timeout)|the mesh is split into {n1, n2} and {n3, n4}*"])]).remembered();
    // From outside, a node without a row is as dead as one whose network is gone.
    CUT_OFF = Case::whole("cut_off", "one node cut off", Touched::Node(1), &[
        (&[1], &["n1 is cut off: this agent reaches none of 3; nothing reaches it"]),
        (&[2, 3, 4], &["n1 is down: none of 3 others reaches it (connect_timeout)|n1 is cut off: it reaches none of 3, and none of 3 reaches it"]),
    ]);
    // Its row comes through the one that reaches it.
    CUT_OFF_BRIDGED = Case::whole("cut_off_bridged", "one node cut off from all but one", Touched::Between(&[1], &[2, 3, 4]),
        &[(&[1, 2, 3, 4, 5], &["n1 ↔ n2, n3, n4: down (connect_timeout)"])]).remembered();
    NOT_HEARD = Case::whole("not_heard", "n1 hears and is not heard", Touched::Node(1), &[
        (&[1], &["n1 hears and is not heard: its answers and requests reach none of 3, theirs arrive"]),
        (&[2, 3, 4], &["n1 is down: none of 3 others reaches it (connect_timeout)|n1 hears and is not heard: *|n1 is cut off: *"]),
    ]).remembered();
    HEARS_NOTHING = Case::whole("hears_nothing", "n1 is heard and hears nothing", Touched::Node(1), &[
        (&[1], &["n1 is cut off: this agent reaches none of 3; nothing reaches it|n1 is heard and hears nothing: *"]),
        (&[2, 3, 4], &["n1 is heard and hears nothing: *"]),
    ]).remembered();
    DEAD = Case::whole("dead", "the agent of n4 killed", Touched::Node(4),
        &[(&[1, 2, 3], &["n4 is down: none of 3 others reaches it (refused)"])]).remembered();
    TWO_DEAD = Case::whole("two_dead", "the links of n4 and n5 down", Touched::Between(&[4, 5], &[1, 2, 3, 4, 5]),
        &[(&[1, 2, 3], &["n4, n5 are down: no other node reaches them (*)"])]).remembered();

    // ---- Links and groups.
    UPLINK = Case::partial("uplink", "10 % of all packets of n1 lost, both ways", Touched::Node(1),
        &[(&[1, 2, 3, 4], &["n1's link: lossy with all 3 others, in both directions"])]);
    // Rows are lost too, so not every document has all of them.
    UPLINK_HEAVY = Case { grave: None, ..Case::partial("uplink_heavy", "30 % of all packets of n1 lost, both ways", Touched::Node(1),
        &[(&[2, 3, 4], &["n1's link: lossy with all 3 others, in both directions"])]) };
    UPLINK_OUT = Case::partial("uplink_out", "20 % of the packets that n1 sends lost", Touched::Node(1),
        &[(&[1, 2, 3, 4], &["n1's link: lossy with all 3 others, outgoing"])]);
    UPLINK_IN = Case::partial("uplink_in", "20 % of the packets to n1 lost", Touched::Node(1),
        &[(&[1, 2, 3, 4], &["n1's link: lossy with all 3 others, incoming"])]);
    THIRD = Case::whole("third", "2 of 6 nodes are refused by n6", Touched::Between(&[1, 2], &[6]),
        &[(&[1, 2, 3, 4, 5, 6], &["n1, n2 → n6: down (refused)"])]).remembered();
    PAIR = Case::whole("pair", "all packets between n1 and n3 dropped", Touched::Between(&[1], &[3]),
        &[(&[1, 2, 3], &["n1 ↔ n3: down (connect_timeout)"])]).remembered();
    DIRECTION = Case::whole("direction", "new connections from n1 to n2 dropped", Touched::Between(&[1], &[2]),
        &[(&[1, 2, 3], &["n1 → n2: down (connect_timeout); requests from n2 arrive"])]).remembered();
    ONE_WAY = Case::whole("one_way", "all packets from n1 to n2 dropped", Touched::Between(&[1], &[2]),
        &[(&[1, 2, 3], &["n1 → n2: down (connect_timeout)*"])]).remembered();
    LOSSY_PAIR = Case::partial("lossy_pair", "10 % of the packets between n1 and n2 lost, both ways",
        Touched::Between(&[1], &[2]), &[(&[1, 2, 3], &["n1 ↔ n2: lossy"])]);

    // ---- What the rows tell beside their cells.
    CLOCK = Case { within: ROWS, well_within: ROWS, passing: &[(1, 3, ONE_LATE), (2, 3, ONE_LATE)], ..Case::harmless("clock", "the clock of n3 is a minute ahead",
        &[(&[1, 2], &["the clock of n3 is 59 s ahead|the clock of n3 is 60 s ahead|the clock of n3 is 61 s ahead"])]) };

    // ---- Faults of a node's own host.
    OWN_INTERFACE = Case::whole("own_interface", "the interface of n1's pod down", Touched::Node(1), &[
        (&[2, 3, 4], &["n1 is down: none of 3 others reaches it (*)"]),
    ]);
    OWN_ROUTE = Case::whole("own_route", "the route of n1's pod deleted", Touched::Node(1), &[
        (&[2, 3, 4], &["n1 is down: none of 3 others reaches it (connect_timeout)"]),
    ]).remembered();
    SYN_FLOOD = Case::harmless("syn_flood", "a pod sends 2,000 SYNs a second to n2, with cookies",
        &[(&[1, 2, 3], &[])]);
    // Its queue of half-open connections is full, and hardly one is to be had, while its own requests arrive.
    SYN_FLOOD_PLAIN = Case { within: PARTIAL, well_within: HALF_OPEN, grave: None, ..Case::whole("syn_flood_plain",
        "a pod sends 2,000 SYNs a second to n2, without cookies", Touched::Node(2),
        &[(&[1, 3], &["n2 is *|n2's link: *|n* → n2: *", ".."])]) };
    CONNTRACK = Case::whole("conntrack", "the table of connections of n2's host is full", Touched::Node(2),
        &[(&[1, 3], &["n2 is down: none of 2 others reaches it (connect_timeout)"]),
          (&[2], &["n2 is cut off: this agent reaches none of 2; nothing reaches it"])]).remembered();
    FLIPPING = Case { grave: None, within: PARTIAL, well_within: WINDOW, ..Case::whole("flipping",
        "another pod has n2's address, for 5 s of each 10 s", Touched::Node(2),
        &[(&[1, 3], &["n2's link: flaky*|n1, n3 → n2: flaky (wrong_peer*", ".."])]) };

    // ---- Something answers for the peers.
    ACCEPTOR = Case::whole("acceptor", "n3 is dead, and something accepts n1's connections to it", Touched::Node(3),
        &[(&[1, 2], &["n3 is down: none of 2 others reaches it (*)"])]);
    // The window of 20 probes has those from before the fault at first.
    INTERCEPTED = Case { within: PARTIAL, well_within: WINDOW, passing: &[(1, 2, ONE_LATE), (1, 3, ONE_LATE)], ..Case::harmless("intercepted",
        "something completes the handshakes of n1 before a round trip of 200 ms",
        &[(&[1, 2, 3], &["something between n1 and its peers answers handshakes in their place"])]) };
    // Probes fail when the proxy's own connections do.
    INTERCEPTED_LOSSY = Case { grave: None, touched: Touched::Node(1), within: PARTIAL, well_within: WINDOW, ..Case::harmless("intercepted_lossy",
        "the same, with 30 % loss of what it sends on",
        &[(&[1, 2, 3], &["something between n1 and its peers answers handshakes in their place", ".."])]) };

    // ---- Address families.
    V6_DEAD = Case::whole("v6_dead", "IPv6 only; the agent of n3 killed", Touched::Node(3),
        &[(&[1, 2], &["n3 is down: none of 2 others reaches it (refused)"])]).remembered();
    V4_BESIDE_DUAL = Case::harmless("v4_beside_dual", "n1 has IPv4 only, the others IPv6 first and IPv4 second",
        &[(&[1, 2, 3], &[])]);
}

#[test]
fn patterns_match() {
    for (pattern, text, holds) in [
        ("a → b: lossy", "a → b: lossy", true),
        ("a → b: lossy", "a → b: lossy!", false),
        ("a *|b is *", "b is down", true),
        ("a is * (*)", "a is down (refused)", true),
        ("a is * (*)", "a is down", false),
        ("→*↔", "→ und ↔", true),
    ] {
        assert_eq!(matches(pattern, text), holds, "{pattern:?} {text:?}");
    }
}

#[test]
fn cases_are_consistent() {
    for case in CASES {
        assert_eq!(
            CASES.iter().filter(|other| other.name == case.name).count(),
            1,
            "{}",
            case.name
        );
        let said = case.says.iter().any(|(_, patterns)| !patterns.is_empty());
        assert!(said || case.grave != Some(true), "{}: grave without a finding", case.name);
    }
}
