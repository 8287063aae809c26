//! Reads Rust source just far enough to tell which paths it names: comments, literals and the unit
//! tests are left out, `use` trees are spread out, aliases are not followed.

/// What a file names, in the order in which it does.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Named {
    /// Each path as its parts: `use crate::{a::B, c}` gives `crate a B` and `crate c`.
    pub(crate) paths: Vec<Vec<String>>,
    /// Whether the word `unsafe` stands anywhere.
    pub(crate) unsafe_code: bool,
}

/// What `source` names outside of its unit tests.
pub(crate) fn named(source: &str) -> Named {
    let words = words(source);
    let words = without_tests(&words);
    let mut named =
        Named { unsafe_code: words.iter().any(|word| word == "unsafe"), ..Named::default() };
    let mut rest = words.as_slice();
    while !rest.is_empty() {
        let before = rest.len();
        path(&mut rest, &[], &mut named.paths);
        if rest.len() == before {
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    named
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Takes one path (with its `{…}`, if it is a tree) from the front of `rest`, if one stands there.
fn path(rest: &mut &[String], start: &[String], paths: &mut Vec<Vec<String>>) {
    let mut parts = start.to_vec();
    loop {
        match rest {
            [word, tail @ ..] if is_name(word) => {
                parts.push(word.clone());
                *rest = tail;
            }
            [open, tail @ ..] if open == "{" && !parts.is_empty() => {
                *rest = tail;
                return branches(rest, &parts, paths);
            }
            _ => break,
        }
        match rest {
            [colons, tail @ ..] if colons == "::" => *rest = tail,
            _ => break,
        }
    }
    if parts.len() > start.len() {
        paths.push(parts);
    }
}

fn branches(rest: &mut &[String], start: &[String], paths: &mut Vec<Vec<String>>) {
    while let [word, tail @ ..] = *rest {
        if word == "}" {
            *rest = tail;
            return;
        }
        let before = rest.len();
        path(rest, start, paths);
        if rest.len() == before {
            *rest = tail;
        }
    }
}

/// Cuts every item under `#[cfg(test)]`.
fn without_tests(words: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut rest = words;
    while let [word, tail @ ..] = rest {
        let marked = rest.len() >= MARK.len() && rest.iter().zip(MARK).all(|(a, b)| a == b);
        if marked {
            rest = after_item(rest.get(MARK.len()..).unwrap_or_default());
        } else {
            kept.push(word.clone());
            rest = tail;
        }
    }
    kept
}

/// What follows the item at the front: it ends with its outermost `}` or with a `;` before any.
fn after_item(words: &[String]) -> &[String] {
    let mut depth = 0_usize;
    let mut rest = words;
    while let [word, tail @ ..] = rest {
        rest = tail;
        match word.as_str() {
            "{" => depth += 1,
            "}" if depth <= 1 => break,
            "}" => depth -= 1,
            ";" if depth == 0 => break,
            _ => {}
        }
    }
    rest
}

/// Names, `::`, and every other character by itself, without comments and literals.
fn words(source: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest).or_else(|| character(rest)) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let length = length.unwrap_or(rest.len());
            words.extend(rest.get(..length).map(str::to_owned));
            length
        } else {
            let word = if rest.starts_with("::") { "::".to_owned() } else { first.to_string() };
            let length = word.len();
            if !first.is_whitespace() {
                words.push(word);
            }
            length
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    words
}

/// The length of the comment at the front; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = rest.chars().next().map_or(1, char::len_utf8);
        at += if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth -= 1;
            2
        } else {
            step
        };
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string literal at the front: plain, byte, C or raw.
fn string(text: &str) -> Option<usize> {
    let prefix = text.find(|c: char| !matches!(c, 'b' | 'c' | 'r'))?;
    let raw = text.get(..prefix)?.contains('r');
    let hashes = text.get(prefix..)?.find(|c| c != '#')?;
    let open = prefix + hashes + 1;
    if !text.get(prefix + hashes..)?.starts_with('"') || (hashes > 0 && !raw) || prefix > 2 {
        return None;
    }
    if raw {
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(
            text.get(open..)?.find(&close).map_or(text.len(), |at| open + at + close.len()),
        );
    }
    let mut escaped = false;
    let end = text.get(open..)?.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    Some(end.map_or(text.len(), |at| open + at + 1))
}

/// The length of the character literal at the front; `'a` without a closing quote is a lifetime.
fn character(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        // The escaped character may itself be a quote.
        return inner.get(2..)?.find('\'').map(|at| at + 4);
    }
    let first = inner.chars().next()?.len_utf8();
    inner.get(first..)?.starts_with('\'').then_some(first + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        named(source).paths.iter().map(|parts| parts.join("::")).collect()
    }

    #[test]
    fn a_use_tree_is_spread_out() {
        let found = paths("use crate::{name::{Instance, NodeName as N}, peer::*, wire};");
        for path in ["crate::name::Instance", "crate::name::NodeName", "crate::peer", "crate::wire"]
        {
            assert!(found.iter().any(|one| one == path), "{path} in {found:?}");
        }
    }

    #[test]
    fn a_path_in_an_expression_or_a_type_is_seen() {
        let found =
            paths("fn f(a: &crate::gate::Gate) -> u8 { ::ureq::get(std::env::var(\"A\")) }");
        for path in ["crate::gate::Gate", "ureq::get", "std::env::var"] {
            assert!(found.iter().any(|one| one == path), "{path} in {found:?}");
        }
    }

    #[test]
    fn comments_literals_and_unit_tests_name_nothing() {
        let found = named(
            r####"
            //! unsafe crate::a
            /* crate::b /* unsafe */ crate::c */
            const A: &str = "crate::d \" unsafe"; const B: &[u8] = br##"crate::e "# unsafe"##;
            const C: (char, char) = ('"', '\''); fn f<'a>(x: &'a str) {}
            #[cfg(test)]
            mod tests { fn f() { unsafe { crate::g::h() } } }
            #[cfg(test)] mod more;
            use crate::last;
            "####,
        );
        let from_crate: Vec<_> =
            found.paths.iter().filter(|path| path.first().is_some_and(|p| p == "crate")).collect();
        assert_eq!(from_crate, [&["crate".to_owned(), "last".to_owned()]]);
        assert!(!found.unsafe_code);
        assert!(named("fn f() { unsafe { g() } }").unsafe_code);
    }
}
