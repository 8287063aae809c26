//! Whether a client accepts gzip (RFC 9110, section 12.5.3). Pure.
//!
//! It reads one Accept-Encoding header after the other, in constant memory. What it cannot read counts
//! as not accepted: plain content suits every client.

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

    proptest! {
        #[test]
        fn any_bytes_are_read(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)) {
            let mut accepted = AcceptedEncodings::default();
            values.iter().for_each(|value| accepted.add(value));
            let _ = accepted.gzip();
        }
    }
}
