//! The page at `/`: one document, joined and compressed at build time, and its headers.
//!
//! | file | job |
//! |---|---|
//! | `head.html`, `body.html` | the page before the first document arrives |
//! | `page.css` | the style: hue shows the verdict (red: down, amber: up with a fault, grey: unknown), depth the latency |
//! | `words.js` | numbers and cells in words; pure, without document or network. What is wrong is in the agent's findings: the page judges nothing |
//! | `grid.js` | the matrix on the screen; a refresh changes only the cells that differ, so that focus, scroll position and screen reader stay in place |
//! | `history.js` | the last day: strips of the mesh and of a pair, its findings, and the matrix of a past moment |
//! | `pair.js` | one pair: both directions side by side, each as its source sees it |
//! | `served.rs` | joins them, without comments and indentation |
//! | `refresh.js` | when to request what: one request at a time, with backoff after failures, none while the page is hidden |
//!
//! The bounds of the colours are fixed, so that a colour means the same in every cluster. They rise in
//! steps of about three, since both 1 ms and 200 ms are ordinary.
//!
//! The browser allows style and script by their hashes. These are constants, so that nothing is
//! computed for an answer and every change of the page is deliberate; a nonce would have to be drawn for
//! each answer. A test computes the hashes and prints the right ones.

use crate::gzip;

macro_rules! style_hash {
    () => {
        "'sha256-IpFsRujgdUq3vPnFjRNPL4a9+6BoOcs6l7oGw3gS674='"
    };
}
macro_rules! script_hash {
    () => {
        "'sha256-BWDM3AD1p5AkNjgVZNYXHkIU1arx5cDyFdc4yZUxGTY='"
    };
}

/// The whole document, compressed by `build.rs`.
pub(super) const PAGE_GZIP: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/page.gz"));

/// The whole document.
#[must_use]
pub fn page() -> Vec<u8> {
    let length = gzip::content_length(PAGE_GZIP);
    gzip::decompress(PAGE_GZIP, length.unwrap_or_default()).unwrap_or_default()
}

/// Its headers: the browser loads nothing else, and sends requests to the agent only.
pub const PAGE_HEADERS: [(&str, &str); 5] = [
    ("Content-Type", "text/html; charset=utf-8"),
    (
        "Content-Security-Policy",
        concat!(
            "default-src 'none'; style-src ",
            style_hash!(),
            "; script-src ",
            script_hash!(),
            "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        ),
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-cache"),
];

#[cfg(test)]
mod served;

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

    use super::*;

    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    fn base64(bytes: &[u8]) -> String {
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let number = three.iter().fold(0, |number, &byte| number << 8 | usize::from(byte));
            let number = number << (8 * (3 - three.len()));
            for place in 0..4 {
                let digit = char::from(ALPHABET[number >> (18 - 6 * place) & 63]);
                text.push(if place > three.len() { '=' } else { digit });
            }
        }
        text
    }

    /// The hash of the text between `<tag>` and `</tag>`, as a policy names it.
    fn hash_of(tag: &str) -> String {
        let page = served::page();
        let (_, rest) = page.split_once(&format!("<{tag}>")).unwrap();
        let (text, rest) = rest.split_once(&format!("</{tag}>")).unwrap();
        assert!(!rest.contains(&format!("<{tag}>")), "one {tag}");
        let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
        let hash = suite.common.hash_provider.hash(text.as_bytes());
        format!("'sha256-{}'", base64(hash.as_ref()))
    }

    #[test]
    fn the_policy_names_the_style_and_the_script_by_their_hashes() {
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
        assert_eq!(base64(b"any carnal pleasu"), "YW55IGNhcm5hbCBwbGVhc3U=");
        let expected = [hash_of("style"), hash_of("script")];
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        assert_eq!([style_hash!(), script_hash!()], *expected, "the right hashes are on the right");
    }

    #[test]
    fn the_page_is_small_and_whole() {
        let (text, compressed) = (served::page(), PAGE_GZIP.len());
        println!("page: {} bytes, {compressed} compressed", text.len());
        assert_eq!(page(), text.as_bytes());
        assert!(text.len() <= 47_000 && compressed <= 17_000, "{} bytes", text.len());
    }

    #[test]
    fn comments_and_indentation_are_not_served() {
        let page = served::page();
        assert!(page.lines().all(|line| !line.is_empty() && !line.starts_with([' ', '\t'])));
        assert!(
            !page.contains("\n//") && page.contains("\nfunction ") && page.ends_with("</script>\n")
        );
    }

    #[test]
    fn the_page_explains_every_reason() {
        let page = served::page();
        let (_, causes) = page.split_once("const CAUSES = {").unwrap();
        let (causes, _) = causes.split_once("};").unwrap();
        let known: Vec<&str> =
            causes.lines().filter_map(|line| Some(line.trim().split_once(':')?.0)).collect();
        let reasons = crate::probe::FailureReason::ALL.map(|reason| reason.as_str());
        let others = crate::matrix::RowError::OTHERS.map(|error| error.as_str());
        assert_eq!(known.len(), reasons.len() + others.len(), "{known:?}");
        for word in reasons.iter().chain(&others) {
            assert!(known.contains(word), "{word}");
        }
    }
}
