//! The cases: fault, expected verdicts, time limits. docs/faults.md lists them with measured times:
//! `make faults` measures and writes it, and a test compares it with this table.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{INTERVAL, THRESHOLD, TIMEOUT};

/// Environment variable: the folder for measured times.
pub(super) const MEASURED: &str = "WYLIS_FAULTS";

/// The expected verdict of one agent on one peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Expect {
    Up,
    /// Up, and the kernel's round-trip time is at least this long.
    Slow(Duration),
    Lossy,
    Mtu,
    OneWay,
    /// With this reason.
    Down(&'static str),
    /// With one of these reasons.
    DownByAny(&'static [&'static str]),
    /// With `connect_timeout`; the flag says whether the peer's SYNs arrive.
    DownWithIncomingSyns(bool),
    /// Lossy, or down with one of these reasons.
    LossyOrDown(&'static [&'static str]),
    /// The agent at fault, or a verdict on it: not checked.
    NotJudged,
}

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
    /// Limit: from the fault to the expected verdicts.
    pub(super) within: Duration,
    /// Limit: from the end of the fault to `up` everywhere.
    pub(super) up_within: Duration,
}

/// Threshold × interval + timeout + 1 s.
pub(super) const VERDICT_WITHIN: Duration =
    Duration::from_secs(THRESHOLD as u64 * INTERVAL.as_secs() + TIMEOUT.as_secs() + 1);
/// Two intervals + timeout.
const UP_WITHIN: Duration = Duration::from_secs(2 * INTERVAL.as_secs() + TIMEOUT.as_secs());
/// A path stays lossy until no probe with a retransmit is among the last 20.
const WINDOW: Duration = Duration::from_secs(21 * INTERVAL.as_secs() + TIMEOUT.as_secs());
/// Random losses need many probes.
const BY_CHANCE: Duration = Duration::from_secs(60);

impl Case {
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

    /// The expectation for `source` on `target`. Node 1 is A, node 2 is B.
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

macro_rules! cases {
    ($($constant:ident = $make:expr;)*) => {
        $(pub(super) const $constant: &Case = &$make;)*
        /// All cases, in the order of the documentation.
        pub(super) const CASES: &[&Case] = &[$($constant),*];
    };
}

cases! {
    FIRST_SYN = Case::pair("first_syn", "first SYN of each connection from A to B dropped", Expect::Lossy, Expect::Up)
        .within(VERDICT_WITHIN, WINDOW);
    LOSS = Case::pair("loss", "30 % of the packets lost, both ways", Expect::LossyOrDown(TIMEOUTS), Expect::LossyOrDown(TIMEOUTS))
        .within(BY_CHANCE, WINDOW);
    ONE_IN_FOUR = Case::pair("one_in_four", "exactly 1 in 4 packets of the connections from A to B lost", Expect::Lossy, Expect::Up)
        .within(VERDICT_WITHIN, WINDOW);
    ALL_DROPPED = Case::pair("all_dropped", "all packets dropped, both ways", Expect::DownWithIncomingSyns(false), Expect::DownWithIncomingSyns(false));
    ONE_DIRECTION = Case::pair("one_direction", "all packets from A to B dropped", Expect::DownWithIncomingSyns(true), Expect::DownWithIncomingSyns(false));
    FIREWALL_DROPS = Case::pair("firewall_drops", "new connections from A to B dropped by a firewall", Expect::Down("connect_timeout"), Expect::OneWay);
    FIREWALL_RESETS = Case::pair("firewall_resets", "new connections from A to B reset by a firewall", Expect::Down("refused"), Expect::OneWay);
    UNREACHABLE = Case::pair("unreachable", "new connections from A to B answered by ICMP unreachable", Expect::Down("unreachable"), Expect::OneWay);
    KILLED = Case::node("killed", "agent of B killed", Expect::Down("refused"), Expect::NotJudged);
    FROZEN = Case::node("frozen", "agent of B frozen (SIGSTOP)", Expect::Down("response_timeout"), Expect::Up);
    TUNNEL_FROZEN = Case::node("tunnel_frozen", "WireGuard process of B frozen", Expect::Down("connect_timeout"), Expect::Down("connect_timeout"));
    MTU = Case::pair("mtu", "packets above 1,200 bytes dropped, both ways", Expect::Mtu, Expect::Mtu);
    TAKEN_BY_AGENT = Case::node("taken_by_agent", "pod IP of B taken over by another agent", Expect::Down("wrong_peer"), Expect::NotJudged);
    TAKEN_BY_WEB_SERVER = Case::node("taken_by_web_server", "pod IP of B taken over by a foreign web server", Expect::Down("bad_response"), Expect::NotJudged);
    DELAY = Case::node("delay", "100 ms delay on the link of B, each way", Expect::Slow(Duration::from_millis(200)), Expect::Slow(Duration::from_millis(200)));
    STARVED = Case::node("starved", "agent of B starved of CPU", Expect::NotJudged, Expect::Up);
    DESCRIPTORS = Case::node("descriptors", "descriptors of B's agent used up", Expect::NotJudged, Expect::Up);
    PORTS = Case::node("ports", "local ports of B's pod used up", Expect::NotJudged, Expect::Up);
    LINK_DOWN = Case::node("link_down", "link of B down", Expect::DownByAny(NO_WAY), Expect::DownByAny(NO_WAY));
    ROLLING = Case::node("rolling", "node added, node removed, rolling update of all under load", Expect::Up, Expect::Up);
}

fn text(peer: &Value, field: &str) -> String {
    peer[field].as_str().unwrap_or_default().to_owned()
}

impl Expect {
    /// Whether a peer's entry in the agent's row meets the expectation.
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
            Self::DownWithIncomingSyns(arrive) => {
                down && reason == "connect_timeout" && peer["incoming_syns_only"] == arrive
            }
            Self::LossyOrDown(reasons) => {
                verdict == "lossy" || (down && reasons.contains(&reason.as_str()))
            }
            Self::NotJudged => true,
        }
    }

    /// Whether probes of the pair may fail with this reason.
    pub(super) fn allows(self, reason: &str) -> bool {
        match self {
            Self::Up | Self::Slow(_) | Self::Mtu | Self::OneWay => false,
            // A probe that starts before the fault may fail with another reason.
            Self::Lossy => TIMEOUTS.contains(&reason),
            Self::Down("connect_timeout") | Self::DownWithIncomingSyns(_) => {
                matches!(reason, "connect_timeout" | "response_timeout")
            }
            // No listener exists between the old server and the new one.
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

    /// Whether the agent may ever log this verdict on the pair, for example `down (refused)`.
    pub(super) fn permits(self, verdict: &str) -> bool {
        let down = verdict.strip_prefix("down (").and_then(|rest| rest.strip_suffix(')'));
        if let Some(reason) = down {
            return matches!(
                self,
                Self::Down(_)
                    | Self::DownByAny(_)
                    | Self::DownWithIncomingSyns(_)
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

    /// Whether the row may report that only SYNs arrive from the peer.
    pub(super) fn permits_incoming_syns_only(self) -> bool {
        matches!(self, Self::DownWithIncomingSyns(true) | Self::NotJudged)
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
            Self::DownWithIncomingSyns(true) => {
                f.write_str("down (connect_timeout), incoming SYNs only")
            }
            Self::DownWithIncomingSyns(false) => {
                f.write_str("down (connect_timeout), nothing incoming")
            }
            Self::LossyOrDown(reasons) => write!(f, "lossy, or down ({})", reasons.join(", ")),
            Self::NotJudged => f.write_str("–"),
        }
    }
}

// ---- docs/faults.md

/// docs/faults.md above the table.
const HEAD: &str = include_str!("faults.head.md");

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md")
}

/// The cells that come from the definition.
fn defined(case: &Case) -> [String; 3] {
    [case.fault.to_owned(), case.a_of_b.to_string(), case.b_of_a.to_string()]
}

/// `measured`: for each case, the times to the verdict and to `up` again.
fn render(measured: &BTreeMap<String, (String, String)>) -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| fault | A reports B as | B reports A as | verdict after | up again after |\n");
    text.push_str("|---|---|---|---|---|\n");
    for case in CASES {
        let [fault, a, b] = defined(case);
        let none = (String::new(), String::new());
        let (verdict, up) = measured.get(case.name).unwrap_or(&none);
        text.push_str(&format!("| {fault} | {a} | {b} | {verdict} | {up} |\n"));
    }
    text
}

#[test]
fn the_documented_table_matches_the_code() {
    let text = std::fs::read_to_string(document()).unwrap();
    let table = text
        .strip_prefix(HEAD)
        .expect("docs/faults.md differs from faults.head.md: run make faults");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).take(3).collect())
        .collect();
    let known: Vec<_> = CASES.iter().map(|case| defined(case)).collect();
    assert_eq!(rows, known, "docs/faults.md is out of date: run make faults");
}

#[test]
#[ignore = "writes docs/faults.md; called by make faults"]
fn write_the_documented_table() {
    let folder = std::env::var_os(MEASURED).expect("the folder of measured times");
    let measured = CASES.iter().filter_map(|case| {
        let line = std::fs::read_to_string(Path::new(&folder).join(case.name)).ok()?;
        let (verdict, up) = line.trim_end().split_once('|')?;
        Some((case.name.to_owned(), (verdict.to_owned(), up.to_owned())))
    });
    std::fs::create_dir_all(document().parent().unwrap()).unwrap();
    std::fs::write(document(), render(&measured.collect())).unwrap();
}
