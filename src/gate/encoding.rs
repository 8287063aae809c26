//! Whether a client accepts gzip, and prefers JSON to plain text (RFC 9110, sections 12.5.3 and 12.5.1).
//! Pure.
//!
//! It reads one Accept-Encoding or Accept header after the other, in constant memory. What it cannot read
//! counts as not accepted: plain content suits every client.

/// Weights, in thousandths, of what the headers so far name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AcceptedEncodings {
    gzip: Option<u16>,
    identity: Option<u16>,
    /// Of `*`: what is not named.
    others: Option<u16>,
}

impl AcceptedEncodings {
    /// Adds the value of a header.
    pub(super) fn add(&mut self, value: &[u8]) {
        for member in value.split(|byte| *byte == b',') {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let (coding, parameter, end) = (parts.next(), parts.next(), parts.next());
            let weight = match (parameter, end) {
                (None, _) => Some(1000),
                (Some(parameter), None) => weight(parameter),
                (Some(_), Some(_)) => None,
            };
            let (Some(coding), Some(weight)) = (coding, weight) else { continue };
            let is = |known: &str| coding.eq_ignore_ascii_case(known.as_bytes());
            let known = if is("gzip") || is("x-gzip") {
                &mut self.gzip
            } else if is("identity") {
                &mut self.identity
            } else if is("*") {
                &mut self.others
            } else {
                continue;
            };
            // Of several, the least.
            *known = Some(known.map_or(weight, |known| known.min(weight)));
        }
    }

    /// Whether gzip is accepted, and plain content not preferred.
    pub(super) fn gzip(self) -> bool {
        let gzip = self.gzip.or(self.others).unwrap_or(0);
        gzip > 0 && self.identity.is_none_or(|identity| gzip >= identity)
    }
}

/// Weights, in thousandths, of the types that the headers so far name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AcceptedTypes {
    json: Option<u16>,
    /// The least of `text/plain` and `text/*`.
    text: Option<u16>,
}

impl AcceptedTypes {
    /// Adds the value of a header.
    pub(super) fn add(&mut self, value: &[u8]) {
        for member in value.split(|byte| *byte == b',') {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let range = parts.next().unwrap_or_default();
            let is = |known: &str| range.eq_ignore_ascii_case(known.as_bytes());
            let known = if is("application/json") {
                &mut self.json
            } else if is("text/plain") || is("text/*") {
                &mut self.text
            } else {
                continue;
            };
            // Other parameters, such as the character set, do not matter.
            let named = |part: &&[u8]| part.get(..2).is_some_and(|q| q.eq_ignore_ascii_case(b"q="));
            let weight = parts.find(named).map_or(1000, |part| weight(part).unwrap_or(0));
            *known = Some(known.map_or(weight, |known| known.min(weight)));
        }
    }

    /// Whether JSON is named, and plain text is not preferred. `*/*` means plain text.
    pub(super) fn json(self) -> bool {
        let json = self.json.unwrap_or(0);
        json > 0 && self.text.is_none_or(|text| json >= text)
    }
}

/// The weight `q=0.5` in thousandths (RFC 9110, section 12.4.2).
fn weight(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let digits = decimals.iter().chain(b"000").take(3);
    let weight = std::iter::once(whole).chain(digits).try_fold(0, |weight, digit| {
        digit.is_ascii_digit().then(|| weight * 10 + u16::from(digit - b'0'))
    })?;
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(headers: &[&str]) -> bool {
        let mut accepted = AcceptedEncodings::default();
        headers.iter().for_each(|value| accepted.add(value.as_bytes()));
        accepted.gzip()
    }

    #[test]
    fn gzip_is_accepted_as_the_rfc_has_it() {
        for accepted in [
            &["gzip"][..],
            &["GZip"],
            &["x-gzip"],
            &["deflate, gzip"],
            &["gzip, deflate, br, zstd"],
            &["br", "gzip"],
            &["gzip;q=0.001"],
            &["gzip ; q=1.000"],
            &["gzip;Q=0.5, *;q=0"],
            &["*"],
            &["*;q=0.1"],
            &["gzip;q=0.5, identity;q=0.5"],
            &["compress;q=0.5, gzip;q=1.0"],
            &["gzip;q=1.0, identity; q=0.5, *;q=0"],
            &[",, gzip ,"],
        ] {
            assert!(accepts(accepted), "{accepted:?}");
        }
        for refused in [
            &[][..],
            &[""],
            &["identity"],
            &["br, deflate"],
            &["gzip;q=0"],
            &["gzip;q=0.000, *"],
            &["*", "gzip;q=0"],
            &["gzip;q=0", "gzip"],
            &["gzip;q=0.5, identity"],
            &["*;q=0"],
            &["gzipped"],
            &["gzip;q=2"],
            &["gzip;q=1.001"],
            &["gzip;q=0.0001"],
            &["gzip;q=-1"],
            &["gzip;q="],
            &["gzip;q"],
            &["gzip;"],
            &["gzip;level=9"],
            &["gzip;q=1;q=1"],
            &["\"gzip\""],
        ] {
            assert!(!accepts(refused), "{refused:?}");
        }
    }

    #[test]
    fn json_is_sent_to_clients_that_name_it_and_do_not_prefer_text() {
        for (headers, json) in [
            (&["application/json"][..], true),
            (&["Application/JSON; charset=utf-8"], true),
            (&["application/json;charset=utf-8;q=0.1"], true),
            (&["application/json, text/plain, */*"], true),
            (&["text/*;q=0.5", "application/json"], true),
            (&[], false),
            (&[""], false),
            (&["*/*"], false),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], false),
            (&["application/json;q=0"], false),
            (&["application/json;q=0.5, text/plain"], false),
            (&["application/json;q=2"], false),
            (&["application/json;q="], false),
            (&["application/json", "application/json;q=0"], false),
            (&["application/jsonp"], false),
            (&["application/*"], false),
            (&["\"application/json\""], false),
        ] {
            let mut accepted = AcceptedTypes::default();
            headers.iter().for_each(|value| accepted.add(value.as_bytes()));
            assert_eq!(accepted.json(), json, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)) {
            let mut accepted = (AcceptedEncodings::default(), AcceptedTypes::default());
            for value in &values {
                accepted.0.add(value);
                accepted.1.add(value);
            }
            let _ = (accepted.0.gzip(), accepted.1.json());
        }
    }
}
