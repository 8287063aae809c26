//! Words of the sentences.

use crate::label::label_set;

/// Most names in a list; a longer one ends with the number of the others.
const MAX_NAMES: usize = 6;

label_set! {
    /// The direction of a fault at one node.
    pub(super) enum Way {
        /// Both.
        Both = "in both directions",
        /// From it to the others.
        Outgoing = "outgoing",
        /// From the others to it.
        Incoming = "incoming",
    }
}

/// A list of words, cut when it is long: `a, b, c, d, e and 12 more`.
pub(super) fn list(words: &[&str]) -> String {
    match words.get(..MAX_NAMES - 1) {
        Some(first) if words.len() > MAX_NAMES => {
            format!("{} and {} more", first.join(", "), words.len() - first.len())
        }
        _ => words.join(", "),
    }
}

/// The names of nodes.
pub(super) fn names(all: &[&str], nodes: &[usize]) -> String {
    let names: Vec<&str> = nodes.iter().filter_map(|node| all.get(*node).copied()).collect();
    list(&names)
}

/// One of two forms.
pub(super) fn form<'a>(nodes: &[usize], one: &'a str, several: &'a str) -> &'a str {
    if nodes.len() == 1 { one } else { several }
}
