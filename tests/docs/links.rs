//! Links against files and headings, named `make` targets against the Makefile, the README's size.

use std::fs;
use std::path::Path;

use super::markdown::{anchor, code, links};
use super::{documents, read, root};

/// Why a link of the document at `from` is broken; `None` for a good one, or one to another site.
fn broken(from: &str, text: &str, link: &str) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = root().join(Path::new(from).parent().unwrap_or(Path::new(""))).join(file);
    if !file.is_empty() && (file.starts_with('/') || !target.exists()) {
        return Some(format!("{from}: no such file: {link}"));
    }
    let text =
        if file.is_empty() { Some(text.to_owned()) } else { fs::read_to_string(target).ok() };
    let text = text.unwrap_or_default();
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    let found = headings.any(|line| anchor(line.trim_start_matches('#')) == fragment);
    (!fragment.is_empty() && !found).then(|| format!("{from}: no such heading: {link}"))
}

/// The targets named in `text` that the Makefile lacks.
fn missing_targets(text: &str, makefile: &str) -> Vec<String> {
    let rules = makefile.lines().filter(|line| !line.starts_with(['\t', ' ', '#', '.']));
    let rules: Vec<&str> = rules.filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let named = code(text).into_iter().flat_map(|code| code.split("&&").map(str::trim));
    let named = named.filter_map(|command| command.strip_prefix("make "));
    let target = |rest: &str| rest.split_whitespace().next().unwrap_or_default().to_owned();
    named.map(target).filter(|target| !rules.contains(&target.as_str())).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut found = Vec::new();
    for document in documents() {
        let text = read(&document);
        found.extend(links(&text).into_iter().filter_map(|link| broken(&document, &text, link)));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_page_is_linked_from_the_readme() {
    let text = read("README.md");
    let linked: Vec<&str> =
        links(&text).into_iter().filter_map(|link| link.split('#').next()).collect();
    for document in documents().iter().filter(|document| *document != "README.md") {
        assert!(linked.contains(&document.as_str()), "README.md does not link {document}");
    }
}

#[test]
fn every_named_make_target_exists() {
    let makefile = read("Makefile");
    for document in documents() {
        let missing = missing_targets(&read(&document), &makefile);
        assert_eq!(missing, Vec::<String>::new(), "{document}");
    }
}

#[test]
fn readme_is_short_and_begins_with_the_two_commands() {
    const MAX_BYTES: usize = 12 * 1024;
    let text = read("README.md");
    assert!(text.len() <= MAX_BYTES, "README.md has {} bytes, at most {MAX_BYTES}", text.len());
    for needed in ["make demo", "make test"] {
        let found = text.lines().take(30).any(|line| line.starts_with(needed));
        assert!(found, "README.md: no `{needed}` in the first 30 lines");
    }
}

#[test]
fn broken_links_and_unknown_targets_are_found() {
    let text = "# A heading, of two\n[a](README.md) [b](nowhere.md) [c](#a-heading-of-two) \
                [d](#b) [e](https://example.org/x) [f](/etc/passwd) [g](README.md#nowhere)";
    let found: Vec<&str> =
        links(text).into_iter().filter(|link| broken("README.md", text, link).is_some()).collect();
    assert_eq!(found, ["nowhere.md", "#b", "/etc/passwd", "README.md#nowhere"]);
    let makefile = ".PHONY: all\nall: ## x\n\tnone: x\n";
    let text =
        "make sure of `make all`, `make some`\n```sh\ncd x && make more  # make other\n```\n";
    assert_eq!(missing_targets(text, makefile), ["some", "more"]);
}
