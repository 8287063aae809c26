//! The expectation of one agent about one peer: the words of its verdict, and what may happen on the way.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// What may fail on a path that loses packets.
pub(super) const TIMEOUTS: &[&str] = &["connect_timeout", "response_timeout", "closed", "reset"];
/// The oldest round-trip time that still describes the path, in intervals of the slowest case.
const FRESH: f64 = 15.0;

/// Verdicts are written as in the log: `up`, `flaky (refused)`, `mtu (outgoing)`. A `*` stands for any text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Expect {
    /// The verdicts to wait for, any of them; none: not judged.
    says: &'static [&'static str],
    /// Further verdicts that chance may bring.
    passing: &'static [&'static str],
    /// Further reasons that failures may have.
    failures: &'static [&'static str],
    /// `incoming` of the peer, with `or` between several words; a `*` stands for any, and for none.
    incoming: Option<&'static str>,
    /// The kernel's round-trip time, from and to.
    rtt: Option<(Duration, Duration)>,
    /// Whether the age of the round-trip time is checked too.
    fresh: bool,
}

impl Expect {
    pub(super) const UP: Self = Self::says(&["up"]);
    /// The agent at fault, or a verdict on it: not checked.
    pub(super) const NOT_JUDGED: Self = Self::says(&[]);

    pub(super) const fn says(says: &'static [&'static str]) -> Self {
        Self { says, passing: &[], failures: &[], incoming: None, rtt: None, fresh: false }
    }

    pub(super) const fn passing(self, passing: &'static [&'static str]) -> Self {
        Self { passing, ..self }
    }

    pub(super) const fn failures(self, failures: &'static [&'static str]) -> Self {
        Self { failures, ..self }
    }

    pub(super) const fn incoming(self, incoming: &'static str) -> Self {
        Self { incoming: Some(incoming), ..self }
    }

    pub(super) const fn rtt(self, from: Duration, to: Duration) -> Self {
        Self { rtt: Some((from, to)), ..self }
    }

    /// The round-trip time must be a recent one, with its age.
    pub(super) const fn fresh(self) -> Self {
        Self { fresh: true, ..self }
    }

    fn is_judged(self) -> bool {
        !self.says.is_empty()
    }

    /// Whether the pair is one that the fault affects.
    pub(super) fn is_concerned(self) -> bool {
        self != Self::UP
    }

    /// Whether the verdict of a peer's entry is as expected.
    pub(super) fn is_said(self, peer: &Value) -> bool {
        !self.is_judged() || any(self.says, &verdict_of(peer))
    }

    /// Whether a peer's entry in the agent's row meets the whole expectation.
    pub(super) fn holds(self, peer: &Value) -> bool {
        if !self.is_judged() {
            return true;
        }
        let number = |field: &str| peer[field].as_f64();
        let (incoming, rtt, age) =
            (&peer["incoming"], number("rtt_seconds"), number("rtt_age_seconds"));
        any(self.says, &verdict_of(peer))
            && (self.incoming.is_none() || self.takes_incoming(incoming.as_str()))
            && self.rtt.is_none_or(|(from, to)| {
                rtt.is_some_and(|rtt| (from.as_secs_f64()..=to.as_secs_f64()).contains(&rtt))
            })
            && (!self.fresh || age.is_some_and(|age| age <= FRESH))
    }

    fn takes_incoming(self, incoming: Option<&str>) -> bool {
        let mut words = self.incoming.into_iter().flat_map(|words| words.split(" or "));
        words.any(|word| word == "*" || Some(word) == incoming)
    }

    fn words(self) -> impl Iterator<Item = &'static str> {
        self.says.iter().chain(self.passing).copied()
    }

    /// Whether probes of the pair may fail with this reason.
    pub(super) fn allows(self, reason: &str) -> bool {
        let mut failing = self.words().filter_map(failing).peekable();
        // A probe that starts before the fault may fail with another reason.
        let late = failing.peek().is_some() && reason == "response_timeout";
        let lossy = self.words().any(|word| word == "lossy") && TIMEOUTS.contains(&reason);
        !self.is_judged()
            || late
            || lossy
            || self.failures.contains(&reason)
            || failing.any(|(_, expected)| expected == reason)
    }

    /// Whether the agent may ever have this verdict on the peer.
    pub(super) fn permits(self, verdict: &str) -> bool {
        if !self.is_judged() || matches!(verdict, "up" | "unknown" | "draining") {
            return true;
        }
        let as_expected = self.words().any(|word| matches(word, verdict));
        // The same verdict with the reason of a probe that began earlier.
        let earlier = failing(verdict).is_some_and(|(kind, reason)| {
            self.allows(reason) && self.words().filter_map(failing).any(|(other, _)| other == kind)
        });
        as_expected || earlier
    }

    /// Whether the row may say this of what comes in from the peer, `null` or a word. Requests may have
    /// arrived until just now.
    pub(super) fn permits_incoming(self, incoming: &Value) -> bool {
        match incoming.as_str() {
            None => true,
            Some("syns") => !self.is_judged() || self.takes_incoming(Some("syns")),
            Some(_) => self.is_concerned(),
        }
    }

    /// Whether the metrics of the pair may show this: `up`, `down` or the kind of an impairment, and what comes
    /// in.
    pub(super) fn permits_metrics(self, kind: &str, incoming: Option<&str>) -> bool {
        let verdict = self.says.iter().any(|word| word.split(' ').next() == Some(kind));
        let incoming = if self.incoming.is_some() || !self.is_concerned() {
            self.incoming == incoming || self.takes_incoming(incoming)
        } else {
            true
        };
        !self.is_judged() || (verdict && incoming)
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_judged() {
            return f.write_str("–");
        }
        let says: Vec<&str> = self.says.iter().map(|word| word.trim_end_matches(" (*)")).collect();
        f.write_str(&says.join(" or "))?;
        match self.incoming {
            None | Some("*") => {}
            Some(incoming) => write!(f, ", incoming {}", incoming.replace("syns", "SYNs only"))?,
        }
        if let Some((from, _)) = self.rtt {
            write!(f, ", RTT at least {from:?}")?;
        }
        Ok(())
    }
}

/// The verdict of a peer's entry, written as in the log.
pub(super) fn verdict_of(peer: &Value) -> String {
    let verdict = peer["verdict"].as_str().unwrap_or_default();
    // `reason` is there too while a peer that is not up yet has failed.
    let detail = match verdict {
        "mtu" => peer["direction"].as_str(),
        _ => peer["reason"].as_str(),
    };
    detail.map_or_else(|| verdict.to_owned(), |detail| format!("{verdict} ({detail})"))
}

/// Kind and reason of a verdict about failures: `down (refused)`, `flaky (refused)`.
fn failing(verdict: &str) -> Option<(&str, &str)> {
    let (kind, rest) = verdict.split_once(" (")?;
    matches!(kind, "down" | "flaky").then_some((kind, rest.strip_suffix(')')?))
}

fn any(patterns: &[&str], text: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, text))
}

/// Whether a text is as the pattern says; each `*` stands for any text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    let starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    starts.into_iter().any(|at| matches(after, &rest[at..]))
}

#[test]
fn a_star_stands_for_any_text() {
    assert!(matches("n1 → n2: flaky (refused, * of *)", "n1 → n2: flaky (refused, 11 of 20)"));
    assert!(matches("down (*)", "down (refused)"));
    assert!(!matches("down (*)", "down"));
    assert!(!matches("n1 → n2: *", "n2 → n1: lossy"));
}

#[test]
fn an_expectation_permits_its_words_and_no_others() {
    let flaky = Expect::says(&["flaky (refused)"]);
    assert!(flaky.permits("flaky (refused)") && flaky.permits("up") && flaky.allows("refused"));
    assert!(!flaky.permits("down (refused)") && !flaky.permits("lossy") && !flaky.allows("reset"));
    assert!(!Expect::UP.permits("flaky (refused)") && !Expect::UP.allows("response_timeout"));
    assert!(Expect::NOT_JUDGED.permits("down (refused)") && Expect::NOT_JUDGED.allows("reset"));
    let down = Expect::says(&["down (connect_timeout)"]);
    assert!(down.incoming("requests or syns").permits_metrics("down", Some("syns")));
    assert!(down.incoming("*").permits_metrics("down", None));
    assert!(!down.incoming("nothing").permits_metrics("down", None));
    assert!(down.permits("down (response_timeout)") && !down.permits("flaky (connect_timeout)"));
}
