//! The kinds of hostile clients, each with its rate.

use crate::hostile::Hostile;
use crate::{flooding, forging, holding, vanishing};

/// A kind of hostile client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Connections a second when it is alone.
    pub(crate) alone: u32,
    /// Connections a second beside all others for ten minutes: together about as many as two cores bear
    /// besides three agents.
    pub(crate) together: u32,
    pub(crate) run: fn(&Hostile),
}

const fn kind(name: &'static str, alone: u32, together: u32, run: fn(&Hostile)) -> Kind {
    Kind { name, alone, together, run }
}

/// All of them.
pub(crate) const ALL: &[Kind] = &[
    kind("vanishes after /keepalive", 4000, 2000, vanishing::after_a_blank_request),
    kind("vanishes after a large /keepalive", 2000, 100, vanishing::after_a_large_request),
    kind("vanishes after /metrics", 500, 50, vanishing::after_a_scrape),
    kind("vanishes after the page", 500, 50, vanishing::after_the_page),
    kind("vanishes after the matrix", 500, 20, vanishing::after_the_matrix),
    kind("vanishes in the head", 2000, 100, vanishing::in_the_head),
    kind("vanishes after a refused request", 2000, 100, vanishing::after_a_refusal),
    kind("vanishes in the handshake", 1000, 300, vanishing::in_the_handshake),
    kind("resets at any time", 2000, 100, vanishing::with_a_reset),
    kind("holds 700 silent connections", 1000, 200, holding::silent),
    kind("sends 200 heads, a byte a second", 1000, 50, holding::slow_heads),
    kind("sends 300 heads of 60 kB, unfinished", 1000, 50, holding::long_heads),
    kind("never closes 100 refused requests", 1000, 50, holding::refused_and_open),
    kind("never reads 3 scrapes", 100, 5, holding::deaf_scrapes_3),
    kind("never reads 100 scrapes", 1000, 20, holding::deaf_scrapes_100),
    kind("never reads 100 pages", 1000, 20, holding::deaf_pages),
    kind("never reads 100 matrices", 1000, 20, holding::deaf_matrices),
    kind("never reads 100 gzipped matrices", 1000, 20, holding::deaf_gzip),
    kind("never reads 100 pairs", 1000, 20, holding::deaf_pairs),
    kind("never reads 200 large answers", 1000, 50, holding::deaf_large_requests),
    kind("reads 20 scrapes, a byte a second", 100, 5, holding::dripping_scrapes),
    kind("stuffs 300 scrapes", 1000, 20, holding::stuffed_scrapes),
    kind("stuffs 300 large requests", 1000, 20, holding::stuffed_large_requests),
    kind("stuffs 300 requests for the matrix", 1000, 20, holding::stuffed_matrices),
    kind("floods /keepalive", 1000, 100, flooding::keepalive),
    kind("floods the page", 500, 20, flooding::page),
    kind("floods /metrics", 500, 20, flooding::scrape),
    kind("floods the matrix", 500, 20, flooding::matrix),
    kind("floods the details of pairs", 500, 20, flooding::pair),
    kind("floods /api/v1/row", 500, 20, flooding::row),
    kind("floods /api/v1/peers", 500, 20, flooding::peers),
    kind("asks for gzip", 500, 20, flooding::gzip),
    kind("sends 10,000 requests at once", 100, 5, flooding::pipelined),
    kind("sends endless heads", 100, 5, flooding::endless_head),
    kind("sends what is refused", 1000, 50, flooding::refused),
    kind("sends noise", 1000, 50, flooding::noise),
    kind("forges goodbyes of all pairs", 500, 50, forging::goodbyes),
    kind("forges intervals of all pairs", 500, 50, forging::intervals),
    kind("uses names of no peer", 1000, 50, forging::strangers),
];

#[test]
fn each_kind_is_in_the_documented_table() {
    let text = wylis_harness::documentation();
    let row = |kind: &&Kind| text.contains(&format!("\n| {} |", kind.name));
    let missing: Vec<&str> = ALL.iter().filter(|kind| !row(kind)).map(|kind| kind.name).collect();
    assert!(missing.is_empty(), "docs/security.md lacks {missing:?}");
}
