//! The page at `/`: one document, joined when the program is built, and the headers that go with it.
//!
//! | part | its one job |
//! |---|---|
//! | `head.html`, `body.html` | what is there before anything was read |
//! | `page.css` | how it looks: hue tells the verdict (red is down, amber up with a fault, grey not known), depth the latency, deeper by day and brighter by night |
//! | `words.js` | what is said of figures and faults; pure, knows neither document nor network |
//! | `grid.js` | the matrix on the screen; cells keep their places and are told anew what stands in them, and only when that has changed, so that focus, scroll and a screen reader stay where they are |
//! | `pair.js` | one pair, both directions side by side, each as its source sees it |
//! | `refresh.js` | when what is read: one request at a time, the next once the last was answered, later after failures, none while nobody looks |
//!
//! The depths of colour have fixed bounds, so that a colour means the same in every cluster and at any
//! time, in steps of three, because both 1 ms and 200 ms are ordinary.
//!
//! The browser runs its style and its script by their hashes, which stand here as constants: nothing
//! is computed for an answer, every answer is the same, and a change of the page that nobody meant
//! shows. (A nonce would have to be drawn and put into the document each time.) A test computes the
//! hashes anew, and tells the right ones.

macro_rules! style_hash {
    () => {
        "'sha256-5rIYSIqc0lOZBBh+tGHLne08BymLuLExn/VjknPv/Os='"
    };
}
macro_rules! script_hash {
    () => {
        "'sha256-Lg3N6FMYV8uj1ZCzegWwOJFNaBo1PXf34LaNmTYSN8w='"
    };
}

/// The whole document.
pub const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>",
    include_str!("page/page.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>",
    include_str!("page/words.js"),
    include_str!("page/grid.js"),
    include_str!("page/pair.js"),
    include_str!("page/refresh.js"),
    "</script>\n",
);

/// What it is sent with: nothing is loaded but itself, and nothing asked but its own agent.
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

    /// How a policy names what stands between `<tag>` and `</tag>`.
    fn hash_of(tag: &str) -> String {
        let (_, rest) = PAGE.split_once(&format!("<{tag}>")).unwrap();
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
        assert_eq!([style_hash!(), script_hash!()], *expected, "the right ones are on the right");
    }

    #[test]
    fn the_page_is_small() {
        // The program grows by it and 3 kB of headers and code: by 40 KB at most.
        assert!(PAGE.len() <= 36 * 1024, "{} bytes", PAGE.len());
    }

    #[test]
    fn every_reason_has_words_on_the_page() {
        let (_, causes) = PAGE.split_once("const CAUSES = {").unwrap();
        let (causes, _) = causes.split_once("};").unwrap();
        let known: Vec<&str> =
            causes.lines().filter_map(|line| Some(line.trim().split_once(':')?.0)).collect();
        let reasons = crate::probe::FailureReason::ALL.map(|reason| reason.as_str());
        let others = crate::matrix::Missing::OTHERS.map(|missing| missing.as_str());
        assert_eq!(known.len(), reasons.len() + others.len(), "{known:?}");
        for word in reasons.iter().chain(&others) {
            assert!(known.contains(word), "{word}");
        }
    }
}
