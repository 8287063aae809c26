//! Parses the head of an answer: pure, strict, over the bytes received so far.
//!
//! It compares no names: whether the answering node is the intended one is the caller's question.
//! Strict, because both ends are agents: any other answer comes from something else (a captive proxy,
//! a service on a reused address) and must not count as a warm path.

use httparse::{EMPTY_HEADER, Header, Response, Status};

use crate::name::{Instance, NodeName};
use crate::probe::Answer;
use crate::token::Token;
use crate::wire::{
    AGE, CAN, CAN_LARGE, CAN_TOKEN, DRAINING, INSTANCE, LARGE, MAX_ANSWER, NODE, TOKEN, can,
};

/// Most header fields of an answer; agents send fewer than 10.
const MAX_FIELDS: usize = 32;

/// The answer that the request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// 204 without content.
    Blank,
    /// 200 with at most [`LARGE`] bytes.
    Large,
    /// 200 with at most this many bytes.
    Document(usize),
}

impl Expected {
    const fn status(self) -> u16 {
        match self {
            Self::Blank => 204,
            Self::Large | Self::Document(_) => 200,
        }
    }

    const fn allows_length(self, length: usize) -> bool {
        match self {
            Self::Blank => length == 0,
            Self::Large => length <= LARGE,
            Self::Document(_) => true,
        }
    }
}

/// What the bytes received so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Valid so far, but not the whole head.
    Incomplete,
    /// Not the expected answer, whatever follows.
    Bad,
    /// Another status instead of a document.
    OtherStatus(u16),
    /// A document longer than the limit.
    TooLarge,
    /// The whole head.
    Complete {
        /// The age of the row that follows, in milliseconds.
        age: Option<u64>,
        /// The answering node.
        node: NodeName,
        /// The other fields.
        answer: Answer,
        /// Length of the head; content follows.
        head: usize,
        /// Bytes of the content still to come.
        remaining: usize,
        /// The content is compressed: only of a document.
        gzip: bool,
    },
}

/// Parses `bytes`, everything received so far, at most [`MAX_ANSWER`].
///
/// Bad as soon as the first bytes differ, so that a service that speaks first (SSH, SMTP) and then
/// waits is distinguished from one that stalls.
pub(super) fn parse(bytes: &[u8], expected: Expected) -> Parsed {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut response = Response::new(&mut fields);
    let parsed = response.parse(bytes);
    // httparse skips empty lines before the status line, and accepts HTTP/1.0.
    let other_start = bytes.starts_with(b"\r") || bytes.starts_with(b"\n");
    if other_start || response.version == Some(0) || bytes.len() > MAX_ANSWER {
        return Parsed::Bad;
    }
    if let Some(status) = response.code.filter(|status| *status != expected.status()) {
        let document = matches!(expected, Expected::Document(_));
        return if document { Parsed::OtherStatus(status) } else { Parsed::Bad };
    }
    let head = match parsed {
        Ok(Status::Complete(head)) => Some(head),
        Ok(Status::Partial) => None,
        Err(_) => return Parsed::Bad,
    };
    if has_bare_lf(bytes.get(..head.unwrap_or(bytes.len())).unwrap_or_default()) {
        return Parsed::Bad;
    }
    let Some(head) = head else {
        return if bytes.len() == MAX_ANSWER { Parsed::Bad } else { Parsed::Incomplete };
    };
    let Some(Fields { node, answer, age, length, gzip }) = read_fields(response.headers, expected)
    else {
        return Parsed::Bad;
    };
    if matches!(expected, Expected::Document(max) if length > max) {
        return Parsed::TooLarge;
    }
    // Nothing may follow the content; a 204 has none (RFC 9110 section 15.3.5).
    match length.checked_sub(bytes.len() - head) {
        Some(remaining) => Parsed::Complete { age, node, answer, head, remaining, gzip },
        None => Parsed::Bad,
    }
}

/// Whether a line ends with LF alone, which RFC 9112 section 2.2 lets a recipient accept, and
/// httparse does. No agent sends it.
fn has_bare_lf(head: &[u8]) -> bool {
    head.rsplit(|byte| *byte == b'\n').skip(1).any(|line| !line.ends_with(b"\r"))
}

/// The header fields of an answer.
struct Fields {
    node: NodeName,
    answer: Answer,
    age: Option<u64>,
    /// Of the content.
    length: usize,
    gzip: bool,
}

/// Reads the fields; `None` when they are not an agent's.
fn read_fields(fields: &[Header<'_>], expected: Expected) -> Option<Fields> {
    let (mut encoding, mut age) = (None, None);
    let (mut node, mut instance, mut draining) = (None, None, None);
    let (mut length, mut seal, mut can_large, mut can_token) = (None, None, false, false);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let value = str::from_utf8(field.value).unwrap_or_default();
        if is(NODE) {
            once(&mut node, NodeName::new(value).ok()?)?;
        } else if is(INSTANCE) {
            // A later release may write instances otherwise, which is no failure of its node.
            once(&mut instance, Instance::new(value).ok())?;
        } else if is(DRAINING) {
            once(&mut draining, value == "1")?;
        } else if is(CAN) {
            can_large |= can(value, CAN_LARGE);
            can_token |= can(value, CAN_TOKEN);
        } else if is(TOKEN) {
            once(&mut seal, Token::read(value))?;
        } else if is(AGE) {
            once(&mut age, value.parse().ok())?;
        } else if is("Content-Length") {
            once(&mut length, content_length(value)?)?;
        } else if is("Content-Encoding") && matches!(expected, Expected::Document(_)) {
            once(&mut encoding, value.eq_ignore_ascii_case("gzip").then_some(())?)?;
        } else if is("Transfer-Encoding") {
            return None;
        }
    }
    // A 204 may omit it.
    let length = length.or((expected != Expected::Large).then_some(0))?;
    let (instance, draining) = (instance.flatten(), draining.unwrap_or(false));
    let answer = Answer { instance, draining, can_large, can_token, seal: seal.flatten() };
    let age = age.flatten();
    let fields = Fields { node: node?, answer, age, length, gzip: encoding.is_some() };
    expected.allows_length(length).then_some(fields)
}

/// Decimal digits without a sign or leading zeros.
fn content_length(text: &str) -> Option<usize> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}

/// Fills `slot`; `None` when it is filled already: a repeated field is malformed.
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

    fn complete(text: &str) -> Option<(String, Answer)> {
        match parse(text.as_bytes()) {
            Parsed::Complete { node, answer, remaining: 0, .. } => Some((node.to_string(), answer)),
            _ => None,
        }
    }

    #[test]
    fn the_age_of_a_document_is_read_where_it_is_one() {
        let age = |fields: &str| {
            let text = format!("HTTP/1.1 200 OK\r\nWylis-Node: n1\r\n{fields}\r\n");
            match super::parse(text.as_bytes(), Expected::Document(10)) {
                Parsed::Complete { age, .. } => Some(age),
                _ => None,
            }
        };
        assert_eq!(age(""), Some(None));
        assert_eq!(age("Wylis-Age: 4999\r\n"), Some(Some(4999)));
        assert_eq!(age("Wylis-Age: -1\r\n"), Some(None));
        assert_eq!(age("Wylis-Age: 1\r\nWylis-Age: 1\r\n"), None, "a repeated private header");
    }

    #[test]
    fn an_agents_answer_is_parsed() {
        let text = "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nWylis-Instance: 0f8f-1\r\n\
                    Wylis-Draining: 1\r\nWylis-Can: goodbye,large\r\n\r\n";
        let instance = Some(Instance::new("0f8f-1").unwrap());
        let answer = Answer { instance, draining: true, can_large: true, ..Answer::default() };
        assert_eq!(complete(text), Some(("n1".to_owned(), answer)));
    }

    #[test]
    fn differences_between_releases_are_tolerated() {
        for text in [
            "HTTP/1.1 204\r\nWylis-Node: n1\r\n\r\n",
            "HTTP/1.1 204 \r\nwylis-node:n1\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWYLIS-NODE: \t n1 \t\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nX: \r\nWylis-Node: n1\r\nWylis-Instance: a b\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nWylis-Draining: 0\r\nX: 1\r\nX: 2\r\n\r\n",
            "HTTP/1.1 204 Kein Inhält\r\nWylis-Node: n1\r\nX: ä:b\r\n\r\n",
        ] {
            assert_eq!(complete(text), Some(("n1".to_owned(), Answer::default())), "{text:?}");
        }
    }

    #[test]
    fn a_large_answer_has_a_length_up_to_the_limit() {
        let of = |status: &str, length: &str, content: &str| {
            let text = format!("HTTP/1.1 {status}\r\nWylis-Node: n1\r\n{length}\r\n{content}");
            super::parse(text.as_bytes(), Expected::Large)
        };
        let length = format!("Content-Length: {LARGE}\r\n");
        for (content, expected) in [("", LARGE), ("....", LARGE - 4)] {
            let Parsed::Complete { node, remaining: found, .. } = of("200 OK", &length, content)
            else {
                panic!("{content:?}")
            };
            assert_eq!((node.as_str(), found), ("n1", expected));
        }
        let none = of("200 OK", "Content-Length: 0\r\n", "");
        assert!(matches!(none, Parsed::Complete { remaining: 0, .. }), "{none:?}");
        for length in ["", "Content-Length: 10241\r\n", "Content-Length: 010240\r\n"] {
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
            "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nX: \x01\r\n\r\n",
            "\r\nHTTP/1.1 204 No Content\r\nWylis-Node: n1\r\n\r\n",
            "SSH-2.0-OpenSSH",
            "\r\n",
            "h",
        ] {
            assert_eq!(parse(text.as_bytes()), Parsed::Bad, "{text:?}");
        }
    }

    #[test]
    fn an_answer_of_the_maximum_length_is_parsed_and_one_byte_more_is_bad() {
        let answer = |length: usize| {
            let start = "HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\nX: ";
            format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - b"\r\n\r\n".len()))
        };
        assert!(complete(&answer(MAX_ANSWER)).is_some());
        assert_eq!(parse(answer(MAX_ANSWER + 1).as_bytes()), Parsed::Bad);
        assert_eq!(parse(&answer(MAX_ANSWER + 1).as_bytes()[..MAX_ANSWER]), Parsed::Bad);
    }

    #[test]
    fn an_answer_with_32_fields_is_parsed_and_with_33_is_bad() {
        let answer = |others: usize| {
            let others = "X: y\r\n".repeat(others);
            format!("HTTP/1.1 204 No Content\r\nWylis-Node: n1\r\n{others}\r\n")
        };
        assert!(complete(&answer(31)).is_some());
        assert_eq!(parse(answer(32).as_bytes()), Parsed::Bad);
    }

    #[test]
    fn a_bare_lf_is_bad_before_the_head_is_complete() {
        for text in ["HTTP/1.1 204\n", "HTTP/1.1 204 No Content\r\nWylis-Node: n1\nX"] {
            assert_eq!(parse(text.as_bytes()), Parsed::Bad, "{text:?}");
        }
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

        /// Later bytes never repair a bad prefix, and no proper prefix of a good answer is bad or
        /// complete: the result does not depend on segmentation.
        #[test]
        fn segmentation_does_not_matter(
            node in "[a-zA-Z0-9.-]{1,253}", instance in "[a-zA-Z0-9-]{1,63}", draining: bool,
            other in "[ -~]{0,80}", cut in 0..MAX_ANSWER, junk in any::<u8>(),
        ) {
            let drain = if draining { "Wylis-Draining: 1\r\n" } else { "" };
            let text = format!(
                "HTTP/1.1 204 No Content\r\nX: {other}\r\nWylis-Node: {node}\r\n{drain}\
                 Wylis-Instance: {instance}\r\n\r\n"
            );
            let instance = Some(Instance::new(&instance).unwrap());
            let answer = Answer { instance, draining, ..Answer::default() };
            prop_assert_eq!(complete(&text), Some((node, answer)));
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
