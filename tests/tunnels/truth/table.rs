//! The rows: fault, expected verdicts, bounds. docs/faults.md shows them with the times measured;
//! `make faults` measures and writes it anew, and a test compares it with what stands here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{INTERVAL, THRESHOLD, TIMEOUT};

/// The environment variable that names the folder for measured times.
pub(super) const MEASURED: &str = "WYLIS_FAULTS";

/// What one agent says of one peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Expect {
    Up,
    /// Up, and the kernel's round-trip time is at least this long.
    Slow(Duration),
    Lossy,
    Mtu,
    OneWay,
    /// For this reason.
    Down(&'static str),
    /// For any of these reasons.
    DownByAny(&'static [&'static str]),
    /// By `connect_timeout`, and the peer's own SYNs arrive here, or do not.
    DownAndHalfHeard(bool),
    /// Lossy or down, but for these reasons only.
    LossyOrDown(&'static [&'static str]),
    /// This is the agent at fault, or what is said of it: not judged.
    NotJudged,
}

/// Whom a fault concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The nodes A and B.
    Pair,
    /// The node B, and so its pairs with all others, each of whom is A.
    Node,
}

/// One row.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) fault: &'static str,
    pub(super) scope: Scope,
    pub(super) a_of_b: Expect,
    pub(super) b_of_a: Expect,
    /// Until all verdicts are as expected.
    pub(super) within: Duration,
    /// Until all are up again, once the fault is gone.
    pub(super) up_within: Duration,
}

/// As the issue has it: threshold × interval + timeout + 1 s.
pub(super) const VERDICT_WITHIN: Duration =
    Duration::from_secs(THRESHOLD as u64 * INTERVAL.as_secs() + TIMEOUT.as_secs() + 1);
/// Two intervals + timeout.
const UP_WITHIN: Duration = Duration::from_secs(2 * INTERVAL.as_secs() + TIMEOUT.as_secs());
/// A path is lossy until the probes that needed a retransmit are not among the last twenty.
const WINDOW: Duration = Duration::from_secs(21 * INTERVAL.as_secs() + TIMEOUT.as_secs());
/// Chance decides: many probes.
const BY_CHANCE: Duration = Duration::from_secs(60);

impl Row {
    const fn pair(name: &'static str, fault: &'static str, a_of_b: Expect, b_of_a: Expect) -> Self {
        let (within, up_within) = (VERDICT_WITHIN, UP_WITHIN);
        Self { name, fault, scope: Scope::Pair, a_of_b, b_of_a, within, up_within }
    }

    const fn node(name: &'static str, fault: &'static str, a_of_b: Expect, b_of_a: Expect) -> Self {
        Self { scope: Scope::Node, ..Self::pair(name, fault, a_of_b, b_of_a) }
    }

    const fn within(self, within: Duration, up_within: Duration) -> Self {
        Self { within, up_within, ..self }
    }

    /// What `source` is to say of `target`, by the numbers of the nodes: A is 1, B is 2.
    pub(super) fn expects(&self, source: u8, target: u8) -> Expect {
        match (self.scope, source, target) {
            (Scope::Pair, 1, 2) | (Scope::Node, _, 2) => self.a_of_b,
            (Scope::Pair, 2, 1) | (Scope::Node, 2, _) => self.b_of_a,
            _ => Expect::Up,
        }
    }
}

const TIMEOUTS: &[&str] = &["connect_timeout", "response_timeout", "closed", "reset"];
const NO_WAY: &[&str] = &["connect_timeout", "unreachable"];

macro_rules! rows {
    ($($constant:ident = $make:expr;)*) => {
        $(pub(super) const $constant: &Row = &$make;)*
        /// All rows, in the order of the documentation.
        pub(super) const ROWS: &[&Row] = &[$($constant),*];
    };
}

rows! {
    FIRST_SYN = Row::pair("first_syn", "first SYN of each connection from A to B dropped", Expect::Lossy, Expect::Up)
        .within(VERDICT_WITHIN, WINDOW);
    LOSS = Row::pair("loss", "30 % of the packets lost, both ways", Expect::LossyOrDown(TIMEOUTS), Expect::LossyOrDown(TIMEOUTS))
        .within(BY_CHANCE, WINDOW);
    ONE_IN_FOUR = Row::pair("one_in_four", "exactly 1 in 4 packets of the connections from A to B lost", Expect::Lossy, Expect::Up)
        .within(VERDICT_WITHIN, WINDOW);
    ALL_DROPPED = Row::pair("all_dropped", "all packets dropped, both ways", Expect::DownAndHalfHeard(false), Expect::DownAndHalfHeard(false));
    ONE_DIRECTION = Row::pair("one_direction", "all packets from A to B dropped", Expect::DownAndHalfHeard(true), Expect::DownAndHalfHeard(false));
    FIREWALL_DROPS = Row::pair("firewall_drops", "new connections from A to B dropped by a firewall", Expect::Down("connect_timeout"), Expect::OneWay);
    FIREWALL_RESETS = Row::pair("firewall_resets", "new connections from A to B reset by a firewall", Expect::Down("refused"), Expect::OneWay);
    UNREACHABLE = Row::pair("unreachable", "new connections from A to B answered by ICMP unreachable", Expect::Down("unreachable"), Expect::OneWay);
    KILLED = Row::node("killed", "agent of B killed", Expect::Down("refused"), Expect::NotJudged);
    FROZEN = Row::node("frozen", "agent of B frozen (SIGSTOP)", Expect::Down("response_timeout"), Expect::Up);
    TUNNEL_FROZEN = Row::node("tunnel_frozen", "WireGuard process of B frozen", Expect::Down("connect_timeout"), Expect::Down("connect_timeout"));
    MTU = Row::pair("mtu", "packets above 1,200 bytes dropped, both ways", Expect::Mtu, Expect::Mtu);
    TAKEN_BY_AGENT = Row::node("taken_by_agent", "pod IP of B taken over by another agent", Expect::Down("wrong_peer"), Expect::NotJudged);
    TAKEN_BY_WEB_SERVER = Row::node("taken_by_web_server", "pod IP of B taken over by a foreign web server", Expect::Down("bad_response"), Expect::NotJudged);
    DELAY = Row::node("delay", "100 ms delay on the link of B, each way", Expect::Slow(Duration::from_millis(200)), Expect::Slow(Duration::from_millis(200)));
    STARVED = Row::node("starved", "agent of B starved of CPU", Expect::NotJudged, Expect::Up);
    DESCRIPTORS = Row::node("descriptors", "descriptors of B's agent used up", Expect::NotJudged, Expect::Up);
    PORTS = Row::node("ports", "local ports of B's pod used up", Expect::NotJudged, Expect::Up);
    LINK_DOWN = Row::node("link_down", "link of B down", Expect::DownByAny(NO_WAY), Expect::DownByAny(NO_WAY));
    ROLLING = Row::node("rolling", "node added, node removed, rolling update of all under load", Expect::Up, Expect::Up);
}

fn text(peer: &Value, field: &str) -> String {
    peer[field].as_str().unwrap_or_default().to_owned()
}

impl Expect {
    /// Whether the peer's entry in the row says so.
    pub(super) fn holds(self, peer: &Value) -> bool {
        let (verdict, reason) = (text(peer, "verdict"), text(peer, "reason"));
        let down = verdict == "down";
        match self {
            Self::Up => verdict == "up",
            Self::Slow(rtt) => {
                verdict == "up" && peer["rtt_seconds"].as_f64() >= Some(rtt.as_secs_f64())
            }
            Self::Lossy => verdict == "lossy",
            Self::Mtu => verdict == "mtu",
            Self::OneWay => verdict == "one-way",
            Self::Down(expected) => down && reason == expected,
            Self::DownByAny(reasons) => down && reasons.contains(&reason.as_str()),
            Self::DownAndHalfHeard(heard) => {
                down && reason == "connect_timeout" && peer["incoming_syns_only"] == heard
            }
            Self::LossyOrDown(reasons) => {
                verdict == "lossy" || (down && reasons.contains(&reason.as_str()))
            }
            Self::NotJudged => true,
        }
    }

    /// Whether a probe of such a pair may fail for this reason.
    pub(super) fn allows(self, reason: &str) -> bool {
        match self {
            Self::Up | Self::Slow(_) | Self::Mtu | Self::OneWay => false,
            // A probe that begins before the fault and ends in it may fail otherwise.
            Self::Lossy => TIMEOUTS.contains(&reason),
            Self::Down("connect_timeout") | Self::DownAndHalfHeard(_) => {
                matches!(reason, "connect_timeout" | "response_timeout")
            }
            // Between the end of the one and the start of the other, nobody listens.
            Self::Down("wrong_peer" | "bad_response") => {
                matches!(reason, "wrong_peer" | "bad_response" | "refused")
            }
            Self::Down(expected) => reason == expected || reason == "response_timeout",
            Self::DownByAny(reasons) | Self::LossyOrDown(reasons) => {
                reasons.contains(&reason) || reason == "response_timeout"
            }
            Self::NotJudged => true,
        }
    }

    /// Whether such a verdict may ever be told of such a pair, as the log tells it: `down (refused)`.
    pub(super) fn permits(self, verdict: &str) -> bool {
        let down = verdict.strip_prefix("down (").and_then(|rest| rest.strip_suffix(')'));
        if let Some(reason) = down {
            return matches!(
                self,
                Self::Down(_)
                    | Self::DownByAny(_)
                    | Self::DownAndHalfHeard(_)
                    | Self::LossyOrDown(_)
                    | Self::NotJudged
            ) && self.allows(reason);
        }
        match verdict {
            "up" | "unknown" | "draining" => true,
            "lossy" => matches!(self, Self::Lossy | Self::LossyOrDown(_) | Self::NotJudged),
            "mtu" => matches!(self, Self::Mtu | Self::NotJudged),
            "one-way" => matches!(self, Self::OneWay | Self::NotJudged),
            _ => self == Self::NotJudged,
        }
    }

    /// Whether the peer may be half-heard.
    pub(super) fn permits_incoming_syns_only(self) -> bool {
        matches!(self, Self::DownAndHalfHeard(true) | Self::NotJudged)
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Slow(rtt) => write!(f, "up, RTT at least {rtt:?}"),
            Self::Lossy => f.write_str("lossy"),
            Self::Mtu => f.write_str("mtu"),
            Self::OneWay => f.write_str("one-way"),
            Self::Down(reason) => write!(f, "down ({reason})"),
            Self::DownByAny(reasons) => write!(f, "down ({})", reasons.join(" or ")),
            Self::DownAndHalfHeard(true) => f.write_str("down (connect_timeout), half-heard"),
            Self::DownAndHalfHeard(false) => f.write_str("down (connect_timeout), nothing heard"),
            Self::LossyOrDown(reasons) => write!(f, "lossy, or down ({})", reasons.join(", ")),
            Self::NotJudged => f.write_str("–"),
        }
    }
}

// ---- The document

/// Everything of docs/faults.md above the table.
const HEAD: &str = include_str!("faults.head.md");

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md")
}

/// The cells that follow from the definition.
fn defined(row: &Row) -> [String; 3] {
    [row.fault.to_owned(), row.a_of_b.to_string(), row.b_of_a.to_string()]
}

/// `measured` gives, by the name of a row, the times until the verdict and until up again.
fn render(measured: &BTreeMap<String, (String, String)>) -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| fault | A says of B | B says of A | verdict after | up again after |\n");
    text.push_str("|---|---|---|---|---|\n");
    for row in ROWS {
        let [fault, a, b] = defined(row);
        let none = (String::new(), String::new());
        let (verdict, up) = measured.get(row.name).unwrap_or(&none);
        text.push_str(&format!("| {fault} | {a} | {b} | {verdict} | {up} |\n"));
    }
    text
}

#[test]
fn the_documented_table_is_that_of_the_code() {
    let text = std::fs::read_to_string(document()).unwrap();
    let table = text.strip_prefix(HEAD).expect("docs/faults.md begins otherwise: make faults");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).take(3).collect())
        .collect();
    let known: Vec<_> = ROWS.iter().map(|row| defined(row)).collect();
    assert_eq!(rows, known, "docs/faults.md: make faults");
}

#[test]
#[ignore = "writes docs/faults.md; called by make faults"]
fn write_the_documented_table() {
    let folder = std::env::var_os(MEASURED).expect("the folder of what was measured");
    let measured = ROWS.iter().filter_map(|row| {
        let line = std::fs::read_to_string(Path::new(&folder).join(row.name)).ok()?;
        let (verdict, up) = line.trim_end().split_once('|')?;
        Some((row.name.to_owned(), (verdict.to_owned(), up.to_owned())))
    });
    std::fs::create_dir_all(document().parent().unwrap()).unwrap();
    std::fs::write(document(), render(&measured.collect())).unwrap();
}
