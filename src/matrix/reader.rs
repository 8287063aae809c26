//! Reads JSON from octets that nobody has checked, without a copy and with bounded depth. Pure.
//!
//! It is pulled: whoever knows the document asks for what must come next. What serde derives for the
//! same documents makes the program 30 KB larger, and builds lists before anybody can bound them.
//! Every method gives `None` for what is no JSON, or not what was asked for.

/// Deeper than any document of ours.
const DEPTH: usize = 16;

/// A document and how far it was read.
pub(super) struct Reader<'a> {
    document: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(document: &'a [u8]) -> Self {
        Self { document, at: 0 }
    }

    /// The next octet, unless it is the end; white space is passed over.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let octet = *self.document.get(self.at)?;
            if !matches!(octet, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(octet);
            }
            self.at += 1;
        }
    }

    fn eat(&mut self, octet: u8) -> Option<()> {
        let there = self.peek() == Some(octet);
        self.at += usize::from(there);
        there.then_some(())
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// An object: `field` gets each name, and must read the value.
    pub(super) fn object(
        &mut self,
        field: &mut dyn FnMut(&mut Self, &'a str) -> Option<()>,
    ) -> Option<()> {
        self.eat(b'{')?;
        if self.eat(b'}').is_some() {
            return Some(());
        }
        loop {
            let name = self.text()?;
            self.eat(b':')?;
            field(self, name)?;
            if self.eat(b',').is_none() {
                return self.eat(b'}');
            }
        }
    }

    /// An array: `element` must read each.
    pub(super) fn array(&mut self, element: &mut dyn FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.eat(b'[')?;
        if self.eat(b']').is_some() {
            return Some(());
        }
        loop {
            element(self)?;
            if self.eat(b',').is_none() {
                return self.eat(b']');
            }
        }
    }

    /// `null`, or what `read` reads.
    pub(super) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.peek()? == b'n' { self.word("null").map(|()| None) } else { read(self).map(Some) }
    }

    /// A string without escapes: no document of ours has any.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let text = self.string()?;
        (!text.contains('\\')).then_some(text)
    }

    /// A string as it is written, escapes and all.
    fn string(&mut self) -> Option<&'a str> {
        self.eat(b'"')?;
        let start = self.at;
        loop {
            let octet = *self.document.get(self.at)?;
            self.at += 1;
            match octet {
                b'"' => break,
                b'\\' => self.escape()?,
                0x20.. => {}
                _ => return None,
            }
        }
        str::from_utf8(self.document.get(start..self.at - 1)?).ok()
    }

    /// What follows a backslash (RFC 8259, section 7).
    fn escape(&mut self) -> Option<()> {
        let octet = *self.document.get(self.at)?;
        let digits = if octet == b'u' { 4 } else { 0 };
        let rest = self.document.get(self.at + 1..self.at + 1 + digits)?;
        self.at += 1 + digits;
        let known = b"\"\\/bfnrtu".contains(&octet);
        (known && rest.iter().all(u8::is_ascii_hexdigit)).then_some(())
    }

    /// A number (RFC 8259, section 6).
    pub(super) fn number(&mut self) -> Option<f64> {
        self.peek()?;
        let start = self.at;
        self.take(b"-");
        let whole = self.at;
        let digits = self.digits();
        let zero = self.document.get(whole) == Some(&b'0');
        if digits == 0 || (zero && digits > 1) {
            return None;
        }
        if self.take(b".") && self.digits() == 0 {
            return None;
        }
        if self.take(b"eE") {
            self.take(b"+-");
            if self.digits() == 0 {
                return None;
            }
        }
        str::from_utf8(self.document.get(start..self.at)?).ok()?.parse().ok()
    }

    /// Takes one of these octets, if one is next.
    fn take(&mut self, any: &[u8]) -> bool {
        let there = self.document.get(self.at).is_some_and(|octet| any.contains(octet));
        self.at += usize::from(there);
        there
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.take(b"0123456789") {}
        self.at - start
    }

    /// A whole number.
    pub(super) fn count(&mut self) -> Option<u32> {
        self.peek()?;
        let start = self.at;
        self.number()?;
        str::from_utf8(self.document.get(start..self.at)?).ok()?.parse().ok()
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self) -> Option<bool> {
        let flag = self.peek()? == b't';
        self.word(if flag { "true" } else { "false" }).map(|()| flag)
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.peek()?;
        let end = self.at + word.len();
        let there = self.document.get(self.at..end) == Some(word.as_bytes());
        self.at = end;
        there.then_some(())
    }

    /// Any value, as it is written.
    pub(super) fn any(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.at;
        self.skip(DEPTH)?;
        str::from_utf8(self.document.get(start..self.at)?).ok()
    }

    fn skip(&mut self, depth: usize) -> Option<()> {
        let deeper = depth.checked_sub(1);
        match self.peek()? {
            b'{' => self.skip_members(b'}', deeper?),
            b'[' => self.skip_members(b']', deeper?),
            b'"' => self.string().map(drop),
            b'n' => self.word("null"),
            b't' | b'f' => self.flag().map(drop),
            _ => self.number().map(drop),
        }
    }

    fn skip_members(&mut self, end: u8, depth: usize) -> Option<()> {
        self.at += 1;
        if self.eat(end).is_some() {
            return Some(());
        }
        loop {
            if end == b'}' {
                self.string()?;
                self.eat(b':')?;
            }
            self.skip(depth)?;
            if self.eat(b',').is_none() {
                return self.eat(end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_json(text: &[u8]) -> bool {
        let mut reader = Reader::new(text);
        reader.any().is_some() && reader.end().is_some()
    }

    fn is_for_serde(text: &[u8]) -> bool {
        serde_json::from_slice::<serde_json::Value>(text).is_ok()
    }

    #[test]
    fn numbers_are_those_of_json() {
        for (text, number) in
            [("0", 0.0), ("-0.5", -0.5), ("12.25e+2", 1225.0), ("1E-3", 0.001), ("1e-5", 0.00001)]
        {
            assert_eq!(Reader::new(text.as_bytes()).number(), Some(number), "{text}");
        }
        for bad in ["", "-", "+1", ".5", "1.", "01", "1e", "1e+", "inf", "NaN", "0x1", "--1"] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
        let count = |text: &str| Reader::new(text.as_bytes()).count();
        assert_eq!(
            (count(" 17"), count("1.0"), count("-1"), count("4294967296")),
            (Some(17), None, None, None)
        );
    }

    #[test]
    fn nothing_nests_deeper_than_the_bound() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_json(nested(DEPTH).as_bytes()));
        assert!(!is_json(nested(DEPTH + 1).as_bytes()));
        assert!(!is_json("[".repeat(1_000_000).as_bytes()));
        assert!(!is_json("{\"a\":".repeat(1_000_000).as_bytes()));
    }

    #[test]
    fn what_is_not_asked_for_is_refused() {
        let read = |text: &'static str| Reader::new(text.as_bytes());
        assert_eq!(read("\"a\\u0062\"").text(), None, "escapes");
        assert_eq!(read("\"äb\"").text(), Some("äb"));
        assert_eq!(read("nul").optional(Reader::number), None);
        assert_eq!(read("null").optional(Reader::number), Some(None));
        assert_eq!(read(" 5").optional(Reader::number), Some(Some(5.0)));
        assert_eq!(
            (read("true").flag(), read("false").flag(), read("1").flag()),
            (Some(true), Some(false), None)
        );
        assert_eq!(read("{\"a\":1,}").object(&mut |reader, _| reader.any().map(drop)), None);
        assert_eq!(read("[1,]").array(&mut |reader| reader.any().map(drop)), None);
        assert_eq!(read("[]").array(&mut |_| None), Some(()));
    }

    proptest! {
        /// What it takes for JSON is JSON, and the other way round.
        #[test]
        fn it_agrees_with_serde(text in r#"([\[\]{},:" ]|"a":|"[a-c]{0,2}"|\\["nu0]|[-+.eE]|[0-9]{1,3}|null|true|false|ä|\t){0,12}"#) {
            let (ours, serde) = (is_json(text.as_bytes()), is_for_serde(text.as_bytes()));
            // 1e999 is JSON, and too large for serde.
            prop_assert!(ours == serde || (ours && text.contains(['e', 'E'])), "{text}");
        }

        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(is_json(&octets), is_for_serde(&octets));
        }
    }
}
