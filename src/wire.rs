//! The protocol between two agents: header names, limits, and the blank request.
//!
//! The prober sends requests, gate and server answer them. Both sides ignore unknown headers and query
//! parameters, and accept that optional headers are missing: releases mix during every upgrade.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::name::{Instance, NodeName};
use crate::token::PairToken;

/// The route of the blank request.
pub const KEEPALIVE_PATH: &str = "/keepalive";
/// The route of a node's compact row, which its peers fetch for the matrix.
pub const ROW_PATH: &str = "/api/v1/row";
/// The start of the path of a peer's row, which this agent fetches for one that does not reach it.
pub const ROW_OF_PATH: &str = "/api/v1/row/";
/// The prefix of the route of one peer of a row; the peer's name follows.
pub const PEER_PATH: &str = "/api/v1/peers/";
/// The route of what an agent remembers; a second, or a pair, follows.
pub const HISTORY_PATH: &str = "/api/v1/history";
/// The route of a node's row of a past moment; its second follows, and the peer whose row it is, if this agent
/// fetches it for another.
pub const PAST_ROW_PATH: &str = "/api/v1/past/row";
/// The route of when a node's peers were not up; a peer follows, whose agent this one asks for another.
pub const FAULTS_PATH: &str = "/api/v1/past/faults";
/// The route of what an agent remembers of one peer, whose name follows.
pub const PAST_PEER_PATH: &str = "/api/v1/past/peers";
/// The route of the survey: its progress, and its commands.
pub const SURVEY_PATH: &str = "/api/v1/survey";
/// In a POST to [`SURVEY_PATH`]: the command. A page of another origin cannot send it.
pub const SURVEY: &str = "Wylis-Survey";
/// Longest value of [`SURVEY`] in bytes.
pub const MAX_SURVEY: usize = 1024;
/// The sending node: the source in a request, the answering node in an answer.
pub const NODE: &str = "Wylis-Node";
/// The instance of the sending agent.
pub const INSTANCE: &str = "Wylis-Instance";
/// In a request: the sender's probe interval in milliseconds.
pub const INTERVAL: &str = "Wylis-Interval";
/// In a request: the sender stops, and keeps answering for this many milliseconds.
pub const GOODBYE: &str = "Wylis-Goodbye";
/// In a request: the sender's token for the receiver, and the receiver's for the sender, if it is known:
/// `OWN.ECHO`. In the answer to one that does not show the right echo: the seal of the right one.
pub const TOKEN: &str = "Wylis-Token";
/// In a request: the wanted size of the answer in bytes, head included; its status is then 200. Above
/// [`MAX_SEGMENT`], as older agents ask, the size of its content.
pub const SIZE: &str = "Wylis-Size";
/// In a request: nothing but bytes, so that the request fills a segment. Receivers ignore it.
pub const PADDING: &str = "Wylis-Padding";
/// In an answer, with the value `1`: the agent is about to stop.
pub const DRAINING: &str = "Wylis-Draining";
/// In the answer with the own row: its age in milliseconds. Together with its time, it shows the clock.
pub const AGE: &str = "Wylis-Age";
/// In an answer: the agent's capabilities beyond the blank request, separated by commas.
pub const CAN: &str = "Wylis-Can";
/// The value of [`CAN`] in this release.
pub const CAPABILITIES: &str = "large,token";
/// The capability to answer with any [`SIZE`] up to [`LARGE`].
pub const CAN_LARGE: &str = "large";
/// The capability to show tokens.
pub const CAN_TOKEN: &str = "token";

/// Only between gate and server: the number of a request, echoed in its answer.
pub const SEQUENCE: &str = "Wylis-Sequence";
/// Only from gate to server, in a blank request and in a command: the client's address. Of a command, only if
/// its Host is an address or `localhost`, which no foreign page can forge.
pub const CLIENT: &str = "Wylis-Client";
/// Only from server to gate: this response is sent by the thread that answers `/keepalive` too, so the gate
/// must read it without a pause.
pub const UNPAUSED: &str = "Wylis-Unpaused";

/// Longest request head that the gate accepts, a browser's cookies included.
pub const MAX_REQUEST_HEAD: usize = 64 * 1024;
/// Longest head of an answer in bytes; an agent's takes about 400 with the longest names.
pub const MAX_ANSWER: usize = 1024;
/// Largest size in bytes of a message that fills one segment: that of a path with jumbo frames of 9,000
/// bytes. Where segments are longer, as on the loopback, no packet is lost for its size.
pub const MAX_SEGMENT: usize = 9 * 1024;
/// The largest answer in bytes that a request can ask for, within the initial congestion window (RFC 6928).
pub const LARGE: usize = 10 * 1024;
/// Longest time that a header can announce; longer ones are reduced to it.
pub const MAX_ANNOUNCED: Duration = Duration::from_secs(24 * 3600);

/// Shortest and longest interval that a request can announce, as the setting has them; any other is
/// ignored: an interval of zero would make each peer silent, one of days would hide that it is.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// See [`MIN_INTERVAL`].
pub const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// The fields of a keep-alive request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAlive {
    /// The source node.
    pub node: NodeName,
    /// The sender's instance.
    pub instance: Option<Instance>,
    /// The sender's probe interval.
    pub interval: Option<Duration>,
    /// The sender stops, and keeps answering for this long.
    pub goodbye: Option<Duration>,
    /// The tokens; `None` from an older agent.
    pub token: Option<PairToken>,
    /// Wanted size of the answer in bytes, at most [`LARGE`], see [`SIZE`]; `None` in a blank request.
    pub size: Option<usize>,
}

impl KeepAlive {
    /// The request as sent to `target`.
    #[must_use]
    pub fn render(&self, target: SocketAddr) -> String {
        let mut text =
            format!("GET {KEEPALIVE_PATH} HTTP/1.1\r\nHost: {target}\r\n{NODE}: {}\r\n", self.node);
        let mut header = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = write!(text, "{name}: {value}\r\n");
            }
        };
        header(INSTANCE, self.instance.as_ref().map(ToString::to_string));
        header(INTERVAL, self.interval.map(|interval| interval.as_millis().to_string()));
        header(GOODBYE, self.goodbye.map(|drain| drain.as_millis().to_string()));
        header(TOKEN, self.token.map(|token| token.to_string()));
        header(SIZE, self.size.map(|size| size.to_string()));
        text.push_str("\r\n");
        text
    }

    /// Reads the fields of a request; `header` looks up a header by name. `None` without a valid source
    /// node: such a request is answered, and counted for an unknown source.
    pub fn read<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let node = NodeName::new(header(NODE)?.trim()).ok()?;
        Some(Self {
            node,
            instance: header(INSTANCE).and_then(|text| Instance::new(text.trim()).ok()),
            interval: header(INTERVAL)
                .and_then(milliseconds)
                .filter(|interval| (MIN_INTERVAL..=MAX_INTERVAL).contains(interval)),
            goodbye: header(GOODBYE).and_then(milliseconds),
            token: header(TOKEN).and_then(|text| PairToken::read(text.trim())),
            size: header(SIZE)
                .and_then(number)
                .map(|size| usize::try_from(size).unwrap_or(LARGE).min(LARGE)),
        })
    }
}

/// Adds padding to a rendered request, so that it has `size` bytes, at most [`MAX_SEGMENT`]; one that leaves
/// no room for it stays as it is.
pub fn pad(request: &mut String, size: usize) {
    let room = size.min(MAX_SEGMENT).saturating_sub(request.len());
    let padding = room.saturating_sub(PADDING.len() + ": \r\n".len());
    if let Some(end) = request.len().checked_sub("\r\n".len()).filter(|_| padding > 0) {
        request.insert_str(end, &format!("{PADDING}: {}\r\n", "x".repeat(padding)));
    }
}

/// Whether a value of [`CAN`] contains a capability.
#[must_use]
pub fn can(value: &str, capability: &str) -> bool {
    value.split(',').any(|known| known.trim() == capability)
}

/// Parses decimal digits; saturates.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn milliseconds(text: &str) -> Option<Duration> {
    number(text).map(|number| Duration::from_millis(number).min(MAX_ANNOUNCED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<KeepAlive> {
        let headers: Vec<(&str, &str)> =
            text.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
        KeepAlive::read(|name| {
            headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
        })
    }

    #[test]
    fn a_rendered_request_is_read_back() {
        let request = KeepAlive {
            node: NodeName::new("n1.example").unwrap(),
            instance: Some(Instance::new("0f8fad5b").unwrap()),
            interval: Some(Duration::from_millis(1500)),
            goodbye: Some(Duration::from_secs(5)),
            token: PairToken::read("abcdefghi_.012345678-"),
            size: Some(LARGE),
        };
        let text = request.render("[fd00::1]:9050".parse().unwrap());
        assert!(text.starts_with("GET /keepalive HTTP/1.1\r\nHost: [fd00::1]:9050\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"));
        assert_eq!(parse(&text), Some(request));
    }

    #[test]
    fn the_longest_request_fits_one_segment() {
        let request = KeepAlive {
            node: NodeName::new(&"n".repeat(253)).unwrap(),
            instance: Some(Instance::new(&"i".repeat(63)).unwrap()),
            interval: Some(MAX_INTERVAL),
            goodbye: Some(MAX_ANNOUNCED),
            token: PairToken::read("abcdefghij.0123456789"),
            size: Some(LARGE),
        };
        let text =
            request.render("[1111:2222:3333:4444:5555:6666:7777:8888]:65535".parse().unwrap());
        // The smallest MTU of IPv6, less 60 bytes of headers and 12 of timestamps.
        assert!(text.len() <= 1280 - 72, "{}", text.len());
        assert!(text.contains("Wylis-Token: abcdefghij.0123456789\r\n"), "{text}");
    }

    #[test]
    fn a_padded_request_has_the_wanted_size_and_the_same_fields() {
        let blank = KeepAlive {
            node: NodeName::new("n1").unwrap(),
            instance: None,
            interval: None,
            goodbye: None,
            token: None,
            size: Some(0),
        };
        let rendered = blank.render("10.0.0.1:9050".parse().unwrap());
        let shortest = rendered.len() + "Wylis-Padding: x\r\n".len();
        for (wanted, size) in [
            (0, rendered.len()),
            (shortest - 1, rendered.len()),
            (shortest, shortest),
            (1448, 1448),
            (usize::MAX, MAX_SEGMENT),
        ] {
            let mut text = rendered.clone();
            pad(&mut text, wanted);
            assert_eq!(text.len(), size, "{wanted}");
            assert_eq!(parse(&text).as_ref(), Some(&blank), "{wanted}");
        }
    }

    #[test]
    fn unknown_and_missing_headers_of_other_releases_are_tolerated() {
        let older = parse("GET /keepalive HTTP/1.1\r\nWylis-Node: n1\r\n").unwrap();
        assert_eq!((older.instance, older.interval, older.goodbye), (None, None, None));
        let newer = parse(
            "GET /keepalive?size=8 HTTP/1.1\r\nWylis-Node: n1\r\nWylis-Colour: red\r\n\
             Wylis-Interval: 10s\r\nWylis-Instance: a b\r\n",
        );
        assert_eq!(newer.map(|request| (request.interval, request.instance)), Some((None, None)));
    }

    #[test]
    fn an_announced_time_is_bounded() {
        let bounded =
            parse("GET / \r\nWylis-Node: n\r\nWylis-Goodbye: 99999999999999999999999\r\n");
        assert_eq!(bounded.unwrap().goodbye, Some(MAX_ANNOUNCED));
        let negative = parse("GET / \r\nWylis-Node: n\r\nWylis-Goodbye: -1\r\n");
        assert_eq!(negative.unwrap().goodbye, None);
    }

    #[test]
    fn an_interval_is_believed_within_the_range_of_the_setting_only() {
        for (announced, believed) in [
            ("0", None),
            ("99", None),
            ("100", Some(MIN_INTERVAL)),
            ("3600000", Some(MAX_INTERVAL)),
            ("3600001", None),
        ] {
            let request =
                parse(&format!("GET / \r\nWylis-Node: n\r\nWylis-Interval: {announced}\r\n"));
            let interval = request.unwrap().interval;
            assert_eq!(interval, believed, "{announced}");
            let seconds = interval.unwrap_or_default().as_secs_f64();
            assert!(seconds <= wylis_harness::bounds::worst_case("MAX_INTERVAL"), "{announced}");
        }
    }

    #[test]
    fn the_size_of_an_answer_is_bounded() {
        for (asked, size) in [("1", Some(1)), ("999999999999999999999", Some(LARGE)), ("x", None)] {
            let request = parse(&format!("GET / \r\nWylis-Node: n\r\nWylis-Size: {asked}\r\n"));
            assert_eq!(request.unwrap().size, size);
        }
    }

    #[test]
    fn capabilities_match_by_their_whole_names() {
        assert!(
            can(CAPABILITIES, CAN_LARGE)
                && can(CAPABILITIES, CAN_TOKEN)
                && can("x, large", CAN_LARGE)
        );
        assert!(!can("larger,large-ish", CAN_LARGE) && !can("", CAN_LARGE));
    }

    #[test]
    fn a_request_without_a_valid_source_has_no_fields() {
        assert_eq!(parse("GET /keepalive HTTP/1.1\r\n"), None);
        assert_eq!(parse("GET /keepalive HTTP/1.1\r\nWylis-Node: a\"b\r\n"), None);
    }
}
