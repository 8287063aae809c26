//! Bounds a JSON document while its bytes pass, before the decoder sees them. Pure, apart from the reader.
//!
//! serde_json buffers a whole key or text, and one byte for each open bracket in what it skips, whatever
//! the reader: a document of 60 MiB in one string takes 60 MiB of memory. Numbers are not buffered.

use std::io::{self, ErrorKind, Read};

use thiserror::Error;

/// Longest string, as it is written. The longest in a pod is an annotation: all of them have 256 KiB
/// (`TotalAnnotationSizeLimitB`), to which escapes add. The kernel refuses a longer argument or variable
/// than 128 KiB.
const MAX_STRING: usize = 1 << 20;
/// Deepest nesting: `managedFields` of a pod reach about 16.
const MAX_NESTING: usize = 64;

/// The bound that a document exceeds, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("more than {0}")]
pub(super) struct Exceeded(pub(super) &'static str);

const LONG_STRING: Exceeded = Exceeded("1 MiB in one string");
const DEEP: Exceeded = Exceeded("64 levels of JSON");

impl Exceeded {
    /// The bound that ended a read, if one did.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// What has passed so far. It follows strings and brackets alone; where the bytes are no JSON, the decoder
/// ends the document.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    /// The length of the string so far; `None` outside a string.
    string: Option<usize>,
    /// The last byte was a backslash that escapes the next.
    escaped: bool,
}

impl Scan {
    fn pass(&mut self, bytes: &[u8]) -> Result<(), Exceeded> {
        for byte in bytes {
            match (&mut self.string, byte) {
                (Some(_), b'"') if !self.escaped => self.string = None,
                (Some(length), byte) => {
                    self.escaped = *byte == b'\\' && !self.escaped;
                    *length += 1;
                    if *length > MAX_STRING {
                        return Err(LONG_STRING);
                    }
                }
                (None, b'"') => self.string = Some(0),
                (None, b'[' | b'{') => {
                    self.depth += 1;
                    if self.depth > MAX_NESTING {
                        return Err(DEEP);
                    }
                }
                (None, b']' | b'}') => self.depth = self.depth.saturating_sub(1),
                (None, _) => {}
            }
        }
        Ok(())
    }
}

/// Passes a document on until it exceeds a bound; what exceeds it is not passed on.
#[derive(Debug)]
pub(super) struct BoundedJson<R> {
    source: R,
    scan: Scan,
}

impl<R: Read> BoundedJson<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, scan: Scan::default() }
    }
}

impl<R: Read> Read for BoundedJson<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let passed = self.scan.pass(buffer.get(..count).unwrap_or_default());
        passed.map_err(|exceeded| io::Error::new(ErrorKind::InvalidData, exceeded))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use wylis_harness::bounds::worst_case;

    use super::*;

    /// Depth and longest string of a document, as serde_json reads it.
    fn measured(value: &Value) -> (usize, usize) {
        let written = |text: &str| serde_json::to_string(text).unwrap().len() - 2;
        let inner = |values: Vec<&Value>| {
            let all = values.into_iter().map(measured);
            all.fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)))
        };
        match value {
            Value::String(text) => (0, written(text)),
            Value::Array(values) => {
                let (depth, string) = inner(values.iter().collect());
                (depth + 1, string)
            }
            Value::Object(fields) => {
                let (depth, string) = inner(fields.values().collect());
                let keys = fields.keys().map(|key| written(key)).max().unwrap_or(0);
                (depth + 1, string.max(keys))
            }
            _ => (0, 0),
        }
    }

    /// The same, as the bytes show it; at the end nothing is open.
    fn scanned(text: &str) -> (usize, usize) {
        let (mut scan, mut deepest, mut longest) = (Scan::default(), 0, 0);
        for byte in text.bytes() {
            scan.pass(&[byte]).unwrap();
            deepest = deepest.max(scan.depth);
            longest = longest.max(scan.string.unwrap_or(0));
        }
        assert_eq!((scan.depth, scan.string, scan.escaped), (0, None, false), "{text}");
        (deepest, longest)
    }

    fn outcome(text: &str) -> Option<Exceeded> {
        let mut reader = BoundedJson::new(text.as_bytes());
        io::copy(&mut reader, &mut io::sink()).err().and_then(|error| Exceeded::of(&error))
    }

    #[test]
    fn a_string_or_a_depth_beyond_its_bound_ends_the_document() {
        let float = |bound: usize| f64::from(u32::try_from(bound).unwrap());
        assert!(float(MAX_STRING) <= worst_case("MAX_STRING"));
        assert!(float(MAX_NESTING) <= worst_case("MAX_NESTING"));
        let string = |length: usize| format!("[\"{}\"]", "x".repeat(length));
        assert_eq!(outcome(&string(MAX_STRING)), None);
        assert_eq!(outcome(&string(MAX_STRING + 1)), Some(LONG_STRING));
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(outcome(&deep(MAX_NESTING).repeat(3)), None, "as often as it likes");
        assert_eq!(outcome(&deep(MAX_NESTING + 1)), Some(DEEP));
        let in_text = format!("[\"{}\"]", "[{".repeat(1000));
        assert_eq!(outcome(&in_text), None, "no bracket");
        let escapes = format!("{{\"{}\":1}}", "\\u0000".repeat(MAX_STRING / 6 + 1));
        assert_eq!(outcome(&escapes), Some(LONG_STRING));
        assert_eq!(outcome(&"\"x\"".repeat(MAX_STRING)), None, "many short ones");
    }

    #[test]
    fn the_texts_name_the_bounds() {
        assert!(LONG_STRING.0.starts_with(&format!("{} MiB", MAX_STRING >> 20)));
        assert!(DEEP.0.starts_with(&MAX_NESTING.to_string()));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = "[a-b\\\\\"\\[\\]{}\u{0}-\u{20}é]{0,6}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<f64>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        leaf.prop_recursive(6, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(text, inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_bytes_show_what_the_decoder_sees(value in any_json(), pretty: bool) {
            let write = if pretty { serde_json::to_string_pretty } else { serde_json::to_string };
            prop_assert_eq!(scanned(&write(&value).unwrap()), measured(&value));
        }

        #[test]
        fn no_bytes_are_lost_or_changed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut passed = Vec::new();
            BoundedJson::new(&bytes[..]).read_to_end(&mut passed).unwrap();
            prop_assert_eq!(passed, bytes);
        }
    }
}
