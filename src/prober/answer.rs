//! Reads a peer's answer: pure, strict, over the octets received so far.
//!
//! It opens nothing, waits for nothing, and compares no names: whether the answering node is the
//! one we meant is the caller's question. Strict, because both ends are ours: whatever differs from
//! the one expected answer was said by something else (a captive proxy, a service on a reused
//! address) and must not count as a warm path.

use crate::name::{Instance, NodeName};
use crate::probe::Answer;
use crate::wire::{CAN, CAN_LARGE, DRAINING, INSTANCE, LARGE, MAX_ANSWER, NODE, can};

/// What ends a head (RFC 9112 section 2.1). A bare LF, which that RFC lets a recipient accept, is
/// refused: no agent sends it.
const END: &[u8] = b"\r\n\r\n";

/// Which answer is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// 204 without content.
    Blank,
    /// 200 with [`LARGE`] octets.
    Large,
    /// 200 with so many octets at most.
    Document(usize),
}

impl Expected {
    /// How the good answer begins (status-line, RFC 9112 section 4).
    const fn start(self) -> &'static [u8] {
        match self {
            Self::Blank => b"HTTP/1.1 204",
            Self::Large | Self::Document(_) => b"HTTP/1.1 200",
        }
    }

    /// Whether the content may be so long.
    const fn takes(self, length: usize) -> bool {
        match self {
            Self::Blank => length == 0,
            Self::Large => length == LARGE,
            Self::Document(_) => true,
        }
    }
}

/// What the octets received so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Nothing wrong yet, and not the whole head.
    Incomplete,
    /// Not an answer of ours, whatever may follow.
    Bad,
    /// No document, but this status.
    Refused(u16),
    /// A document longer than that.
    TooLarge,
    /// A whole head.
    Whole {
        /// Who answered.
        node: NodeName,
        /// What it told.
        answer: Answer,
        /// Octets of the head; what follows is content.
        head: usize,
        /// Octets of the content that are still to come.
        left: usize,
    },
}

/// Reads `bytes`, everything received so far, at most [`MAX_ANSWER`].
///
/// Bad as soon as the first octets differ, so that a service that speaks first (SSH, SMTP) and then
/// waits is told from one that stalls.
pub(super) fn parse(bytes: &[u8], expected: Expected) -> Parsed {
    let start = expected.start();
    let seen = bytes.len().min(start.len());
    if bytes.get(..seen) != start.get(..seen) || bytes.len() > MAX_ANSWER {
        return if matches!(expected, Expected::Document(_)) {
            refused(bytes)
        } else {
            Parsed::Bad
        };
    }
    let Some(end) = bytes.windows(END.len()).position(|window| window == END) else {
        return if bytes.len() == MAX_ANSWER { Parsed::Bad } else { Parsed::Incomplete };
    };
    let head = end + END.len();
    let Some((node, answer, length)) = bytes.get(..end).and_then(|head| read_head(head, expected))
    else {
        return Parsed::Bad;
    };
    if let Expected::Document(most) = expected
        && length > most
    {
        return Parsed::TooLarge;
    }
    // Nothing may follow the content; a 204 has none (RFC 9110 section 15.3.5).
    match length.checked_sub(bytes.len() - head) {
        Some(left) => Parsed::Whole { node, answer, head, left },
        None => Parsed::Bad,
    }
}

/// The begin of an answer that does not begin as a document's.
fn refused(bytes: &[u8]) -> Parsed {
    const START: &[u8] = b"HTTP/1.1 ";
    let seen = bytes.len().min(START.len());
    if bytes.get(..seen) != START.get(..seen) {
        return Parsed::Bad;
    }
    let Some(digits) = bytes.get(START.len()..START.len() + 3) else { return Parsed::Incomplete };
    let digits = Some(digits).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let code = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    code.map_or(Parsed::Bad, Parsed::Refused)
}

/// Reads a head without its final empty line, and the length that it tells; `None` when it is
/// malformed or not ours.
fn read_head(head: &[u8], expected: Expected) -> Option<(NodeName, Answer, usize)> {
    // Put back the last line's CRLF, so that all lines look alike.
    let mut lines = head.split(|byte| *byte == b'\n').peekable();
    let mut next = || {
        let line = lines.next()?;
        let bare = if lines.peek().is_some() { line.strip_suffix(b"\r") } else { Some(line) };
        Some(bare.filter(|line| !line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))))
    };
    let reason = next()??.strip_prefix(expected.start())?;
    // The reason phrase is for people; the space before it is left out by some (RFC 9112 section 4).
    if !reason.is_empty() && !reason.starts_with(b" ") {
        return None;
    }
    let (mut node, mut instance, mut draining) = (None, None, None);
    let (mut length, mut can_large) = (None, false);
    while let Some(line) = next() {
        let (name, value) = field(line?)?;
        let named = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if named(NODE) {
            once(&mut node, NodeName::new(str::from_utf8(value).ok()?).ok()?)?;
        } else if named(INSTANCE) {
            // An instance that a later release writes otherwise is no reason to fail its node.
            let known = str::from_utf8(value).ok().and_then(|text| Instance::new(text).ok());
            once(&mut instance, known)?;
        } else if named(DRAINING) {
            once(&mut draining, value == b"1")?;
        } else if named(CAN) {
            can_large |= str::from_utf8(value).is_ok_and(|value| can(value, CAN_LARGE));
        } else if named("Content-Length") {
            once(&mut length, str::from_utf8(value).ok()?.to_owned())?;
        } else if named("Transfer-Encoding") {
            return None;
        }
    }
    // In the one spelling; a 204 may leave it out.
    let text = length.unwrap_or_else(|| "0".to_owned());
    let length = text.parse().ok().filter(|length| expected.takes(*length))?;
    if text != length.to_string() {
        return None;
    }
    let (instance, draining) = (instance.flatten(), draining.unwrap_or(false));
    Some((node?, Answer { instance, draining, can_large }, length))
}

/// Splits one field line (RFC 9112 section 5); no space before the colon, no folded lines.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, rest) = line.split_at_checked(colon)?;
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(token) {
        return None;
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut value = rest.strip_prefix(b":")?;
    while let Some((_, after)) = value.split_first().filter(|(first, _)| blank(first)) {
        value = after;
    }
    while let Some((_, before)) = value.split_last().filter(|(last, _)| blank(last)) {
        value = before;
    }
    Some((name, value))
}

/// Fills `slot`; `None` when it was filled before: a header of ours given twice is malformed.
fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Parsed {
        super::parse(bytes, Expected::Blank)
    }

    fn whole(text: &str) -> Option<(String, Answer)> {
        match parse(text.as_bytes()) {
            Parsed::Whole { node, answer, left: 0, .. } => Some((node.to_string(), answer)),
            _ => None,
        }
    }

    #[test]
    fn our_own_answer_is_read() {
        let text = "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nWylis-Instance: 0f8f-1\r\n\
                    Wylis-Draining: 1\r\nWylis-Can: goodbye,large\r\n\r\n";
        let instance = Some(Instance::new("0f8f-1").unwrap());
        let told = Answer { instance, draining: true, can_large: true };
        assert_eq!(whole(text), Some(("n1".to_owned(), told)));
    }

    #[test]
    fn what_may_differ_between_releases_and_gates_is_tolerated() {
        for text in [
            "HTTP/1.1 204\r\nWylis-Node: n1\r\n\r\n",
            "HTTP/1.1 204 \r\nwylis-node:n1\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWYLIS-NODE: \t n1 \t\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nX: \r\nWylis-Node: n1\r\nWylis-Instance: a b\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nWylis-Draining: 0\r\nX: 1\r\nX: 2\r\n\r\n",
            "HTTP/1.1 204 Kein Inhält\r\nWylis-Node: n1\r\nX: ä:b\r\n\r\n",
        ] {
            assert_eq!(whole(text), Some(("n1".to_owned(), Answer::default())), "{text:?}");
        }
    }

    #[test]
    fn a_large_answer_has_the_length_that_was_asked_for() {
        let of = |status: &str, length: &str, content: &str| {
            let text = format!("HTTP/1.1 {status}\r\nWylis-Node: n1\r\n{length}\r\n{content}");
            super::parse(text.as_bytes(), Expected::Large)
        };
        let length = format!("Content-Length: {LARGE}\r\n");
        for (content, left) in [("", LARGE), ("....", LARGE - 4)] {
            let Parsed::Whole { node, left: told, .. } = of("200 OK", &length, content) else {
                panic!("{content:?}")
            };
            assert_eq!((node.as_str(), told), ("n1", left));
        }
        for length in ["", "Content-Length: 0\r\n", "Content-Length: 010240\r\n"] {
            assert_eq!(of("200 OK", length, ""), Parsed::Bad, "{length:?}");
        }
        assert_eq!(of("204 No Content", "", ""), Parsed::Bad);
        assert_eq!(of("200 OK", &format!("{length}{length}"), ""), Parsed::Bad);
    }

    #[test]
    fn anything_else_is_bad() {
        for text in [
            "HTTP/1.0 204 No Content\r\nWylis-Node: n1\r\n\r\n",
            "HTTP/2.0 204 No Content\r\nWylis-Node: n1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nWylis-Node: n1\r\n\r\n",
            "HTTP/1.1 2040\r\nWylis-Node: n1\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: \r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: a\"b\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nWylis-Node: n1\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nContent-Length: 00\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\n\r\nx",
            "HTTP/1.1 204 No Content\r\nWylis-Node : n1\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\n folded\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nno colon\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\n: no name\r\n\r\n",
            "HTTP/1.1 204 No Content\nWylis-Node: n1\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\nX: y\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\rX: y\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nX: \0\r\n\r\n",
            "SSH-2.0-OpenSSH",
            "\r\n",
            "h",
        ] {
            assert_eq!(parse(text.as_bytes()), Parsed::Bad, "{text:?}");
        }
    }

    #[test]
    fn an_answer_of_the_greatest_length_is_read_and_one_octet_more_is_not() {
        let answer = |length: usize| {
            let start = "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nX: ";
            format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - END.len()))
        };
        assert!(whole(&answer(MAX_ANSWER)).is_some());
        assert_eq!(parse(answer(MAX_ANSWER + 1).as_bytes()), Parsed::Bad);
        assert_eq!(parse(&answer(MAX_ANSWER + 1).as_bytes()[..MAX_ANSWER]), Parsed::Bad);
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2 * MAX_ANSWER)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_input_that_begins_well_panics(
            rest in "(( No)?(\r|\n|\r\n)(Wylis-Node|wylis-instance|X|Content-Length|)( |)(:|)( |\t|)[a-z0-9\r\n:\0 ä]{0,9}){0,6}(\r\n\r\n|)"
        ) {
            let _ = parse(format!("HTTP/1.1 204{rest}").as_bytes());
        }

        /// Octets that come later never mend a bad beginning, and no proper beginning of a good
        /// answer is bad or whole: the verdict does not depend on how the network cuts it.
        #[test]
        fn the_cuts_of_the_network_do_not_matter(
            node in "[a-zA-Z0-9.-]{1,253}", instance in "[a-zA-Z0-9-]{1,63}", draining: bool,
            other in "[ -~]{0,80}", cut in 0..MAX_ANSWER, junk in any::<u8>(),
        ) {
            let drain = if draining { "Wylis-Draining: 1\r\n" } else { "" };
            let text = format!(
                "HTTP/1.1 204 No Content\r\nX: {other}\r\nWylis-Node: {node}\r\n{drain}\
                 Wylis-Instance: {instance}\r\n\r\n"
            );
            let instance = Some(Instance::new(&instance).unwrap());
            let told = Answer { instance, draining, can_large: false };
            prop_assert_eq!(whole(&text), Some((node, told)));
            let cut = cut % text.len();
            prop_assert_eq!(parse(&text.as_bytes()[..cut]), Parsed::Incomplete);
            let mut changed = text.clone().into_bytes();
            changed[cut] = junk;
            if parse(&changed[..=cut]) == Parsed::Bad {
                prop_assert_eq!(parse(&changed), Parsed::Bad);
            }
        }
    }
}
