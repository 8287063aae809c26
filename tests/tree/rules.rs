//! Which module may import which, which files alone may use a crate, and how long a file may be.
//!
//! Unit tests may import anything. A new module needs a row in the table.

use std::path::{Path, PathBuf};

use crate::dependencies::text;
use crate::imports::{Crate, Import, anchor, describe, is_test_file, module_of};
use crate::source::read;

/// Each module and the modules that it may import beside itself, from the bottom to the top.
const MAY_IMPORT: [(&str, &[&str]); 35] = [
    ("bounded_list", &[]),
    ("file", &[]),
    ("gzip", &[]),
    ("label", &[]),
    ("host_port", &[]),
    ("heartbeat", &[]),
    ("logger", &["label"]),
    ("shutdown", &[]),
    ("sort", &[]),
    ("name", &[]),
    ("peer", &["name"]),
    ("token", &["name"]),
    ("probe", &["label", "name", "token"]),
    ("experiment", &["label", "name", "probe"]),
    ("survey", &["label", "name", "probe", "sort"]),
    ("tcp_info", &["probe"]),
    ("unwinding", &[]),
    ("wire", &["name", "token"]),
    ("route", &["label", "name", "wire"]),
    ("random", &[]),
    ("schedule", &["name", "random"]),
    ("state", &["experiment", "label", "name", "peer", "probe", "survey", "token", "wire"]),
    ("prober", &["experiment", "gzip", "name", "probe", "survey", "tcp_info", "token", "wire"]),
    (
        "discovery",
        &[
            "bounded_list",
            "file",
            "heartbeat",
            "host_port",
            "label",
            "name",
            "peer",
            "random",
            "shutdown",
        ],
    ),
    ("config", &["discovery", "name"]),
    ("metrics", &["experiment", "name", "peer", "probe", "schedule", "state"]),
    ("matrix", &["experiment", "label", "name", "probe", "sort", "state"]),
    ("history", &["experiment", "gzip", "matrix", "name", "probe", "sort", "state"]),
    (
        "document",
        &["bounded_list", "experiment", "history", "matrix", "name", "probe", "state", "survey"],
    ),
    ("gate", &["heartbeat", "label", "route", "shutdown", "tcp_info", "wire"]),
    (
        "server",
        &[
            "document", "gzip", "history", "matrix", "metrics", "name", "route", "state", "token",
            "wire",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "document",
            "experiment",
            "history",
            "host_port",
            "label",
            "matrix",
            "name",
            "probe",
            "prober",
            "state",
            "survey",
            "wire",
        ],
    ),
    // These tie the others together.
    ("agent", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
];

/// Paths that only some files may name: the start of the path, these files or folders, the reason.
const ONLY_IN: [(&str, &[&str], &str); 8] = [
    (
        "ring",
        &["token.rs", "discovery/kubernetes/provider.rs"],
        "one keyed hash, for the tokens, and random numbers, for TLS",
    ),
    ("ureq", &["discovery/", "discovery.rs"], "one HTTP client, for the API server"),
    ("rustls", &["discovery/"], "TLS to the API server alone"),
    ("webpki", &["discovery/kubernetes/provider.rs"], "the signatures that TLS verifies"),
    ("tiny_http", &["server/", "server.rs"], "hostile bytes reach it through the gate alone"),
    ("serde", JSON_IN, "JSON stays at the edge"),
    ("serde_json", JSON_IN, "JSON stays at the edge"),
    ("std::env", &["config.rs", "main.rs"], "the environment has one reader"),
];
/// Where JSON is read or written.
const JSON_IN: &[&str] =
    &["bounded_list.rs", "discovery/", "discovery.rs", "document/", "document.rs"];
/// The only file with `unsafe`.
const UNSAFE_IN: &str = "tcp_info.rs";
/// The only file with unsafe attributes.
const UNSAFE_ATTRIBUTES_IN: &str = "unwinding.rs";
/// A file of this many lines has more than one job.
const MAX_LINES: usize = 500;

/// The module of `src/` that a file belongs to.
fn room(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or_default()
}

fn allowed(room: &str) -> Option<&'static [&'static str]> {
    MAY_IMPORT.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed)
}

fn may_import(from: &str, to: &str) -> bool {
    let allowed = allowed(from).unwrap_or_default();
    from == to || allowed.contains(&to) || allowed.contains(&"*")
}

/// The rules that `text`, the file at `path` below `src/`, breaks.
fn faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines >= MAX_LINES {
        faults.push(format!("{path} has {lines} lines"));
    }
    if is_test_file(path) {
        return faults;
    }
    let source = read(&module_of(path), text).expect(path);
    if source.unsafe_code && path != UNSAFE_IN {
        faults.push(format!("{path} has unsafe code, which is for {UNSAFE_IN} alone"));
    }
    if source.unsafe_attributes && path != UNSAFE_ATTRIBUTES_IN {
        faults.push(format!("{path} has an unsafe attribute, which is for {UNSAFE_ATTRIBUTES_IN}"));
    }
    let room = room(path);
    if allowed(room).is_none() {
        faults.push(format!("{path}: {room} is not in MAY_IMPORT"));
        return faults;
    }
    for (module, path_named) in &source.paths {
        let whole = path_named.join("::");
        if let Some(other) = named_room(module, path_named)
            && !may_import(room, other)
        {
            faults.push(format!("{path}: {room} may not import {other} ({whole})"));
        }
        for (start, files, why) in ONLY_IN {
            let names = whole == start || whole.starts_with(&format!("{start}::"));
            if names && !files.iter().any(|file| path.starts_with(file)) {
                faults.push(format!("{path} names {whole}, but {why}"));
            }
        }
    }
    faults
}

/// The module that a path names first, which may re-export an item of another one.
fn named_room(module: &[String], path: &[String]) -> Option<&'static str> {
    let (start, rest) = anchor(module, path);
    let first = start?.first().or(rest.first())?.clone();
    MAY_IMPORT.iter().map(|(name, _)| *name).find(|name| *name == first)
}

/// The imports that reach a forbidden module through the re-exports of another.
fn hidden_imports(files: &Crate) -> Vec<String> {
    let imports = files.imports();
    let forbidden =
        imports.iter().filter(|import| !may_import(room(&import.from), room(&import.to)));
    forbidden.map(|Import { from, to, path }| format!("{from} imports {to} ({path})")).collect()
}

/// All files under `folder`: their paths below it, and their texts.
fn read_all(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let below =
        |file: &Path| file.strip_prefix(&root).expect("below the root").display().to_string();
    files
        .iter()
        .map(|file| (below(file), std::fs::read_to_string(file).expect("readable")))
        .collect()
}

fn crate_of<P: AsRef<str>, T: AsRef<str>>(files: &[(P, T)]) -> Crate {
    Crate::read(files.iter().map(|(path, text)| (path.as_ref(), text.as_ref())))
}

fn source_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder that can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_module_imports_only_what_it_may() {
    let files = read_all("src");
    assert!(files.len() >= 8, "too few files in src: {files:?}");
    let mut found: Vec<_> = files.iter().flat_map(|(path, text)| faults(path, text)).collect();
    found.extend(hidden_imports(&crate_of(&files)));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_code_map_lists_every_module() {
    let map = text("ARCHITECTURE.md");
    for (room, _) in MAY_IMPORT {
        let file = format!("{room}.rs");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&file).exists(), "{file}");
        assert!(map.contains(&format!("`{file}`")), "the code map does not list {file}");
    }
}

#[test]
fn a_module_may_import_only_what_stands_above_it_in_the_table() {
    for (at, (room, allowed)) in MAY_IMPORT.iter().enumerate() {
        for other in allowed.iter().filter(|other| **other != "*") {
            let above = MAY_IMPORT.iter().take(at).any(|(name, _)| name == other);
            assert!(above, "{room} may import {other}, which does not stand above it");
        }
    }
}

/// The permissions of the table that no import of `files` uses.
fn unused_permissions(files: &Crate) -> Vec<String> {
    let imports = files.imports();
    let used = |from: &str, to: &str| {
        to == "*" || imports.iter().any(|one| room(&one.from) == from && room(&one.to) == to)
    };
    let all = MAY_IMPORT.iter().flat_map(|(from, to)| to.iter().map(move |to| (*from, *to)));
    all.filter(|(from, to)| !used(from, to))
        .map(|(from, to)| format!("{from} imports no {to}"))
        .collect()
}

#[test]
fn every_permission_is_used() {
    let unused = unused_permissions(&crate_of(&read_all("src")));
    assert!(unused.is_empty(), "{unused:#?}");
    let none = crate_of(&[("name.rs", "")]);
    assert!(unused_permissions(&none).contains(&"peer imports no name".to_owned()));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let files = crate_of(&read_all("src"));
    let unresolved = files.unresolved();
    assert!(unresolved.is_empty(), "paths that this test cannot follow: {unresolved:#?}");
    let circles = files.circles();
    let circles: Vec<String> = circles.iter().map(|circle| describe(circle)).collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn tests_and_tools_stay_short_too() {
    for (path, text) in read_all("tests") {
        let lines = text.lines().count();
        assert!(lines < MAX_LINES, "tests/{path} has {lines} lines");
    }
}

#[test]
fn the_map_of_the_tests_lists_every_target() {
    let map = text("tests/README.md");
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    for folder in folders.expect("tests").flatten().filter(|entry| entry.path().is_dir()) {
        let name = folder.file_name().display().to_string();
        assert!(map.contains(&format!("`{name}`")), "tests/README.md does not list {name}");
    }
}

#[test]
fn each_rule_can_be_broken() {
    let long = "//\n".repeat(MAX_LINES);
    for (path, source) in [
        ("peer.rs", "use crate::wire::NODE;"),
        ("peer.rs", "fn f() { println!(\"{}\", crate::wire::NODE) }"),
        ("peer.rs", "use super::wire::NODE;"),
        ("gate.rs", "use crate::{route::Route, server};"),
        ("gate/poll.rs", "fn f() { super::super::metrics::new() }"),
        ("prober/pool.rs", "fn f(x: crate::discovery::PeerSource) {}"),
        ("server/page.rs", "use wylis::agent;"),
        ("unheard_of.rs", ""),
        ("agent.rs", "fn f() { ureq::get(\"\"); }"),
        ("gate.rs", "use tiny_http::Server;"),
        ("prober.rs", "use rustls::ClientConfig;"),
        ("discovery/kubernetes/client.rs", "use webpki::ring::ED25519;"),
        ("metrics.rs", "#[derive(serde::Serialize)] struct A;"),
        ("agent.rs", "use std::{env, fs};"),
        ("state.rs", "use serde_json as json;"),
        ("gate.rs", "fn f() { unsafe { g() } }"),
        ("unwinding.rs", "fn f() { unsafe { g() } }"),
        ("gate.rs", "#[unsafe(no_mangle)] fn f() {}"),
        ("tcp_info.rs", "impl A { #[unsafe(export_name = \"g\")] fn f() {} }"),
        ("peer.rs", long.as_str()),
    ] {
        assert_eq!(faults(path, source).len(), 1, "{path}: {:?}", faults(path, source));
    }
}

#[test]
fn a_re_export_hides_no_import() {
    let files = [
        ("lib.rs", "mod discovery; mod gate; mod wire;"),
        ("discovery.rs", "pub struct Refresh;"),
        ("wire.rs", "pub use crate::discovery::Refresh;"),
        ("gate.rs", "use crate::wire::Refresh;"),
    ];
    let hidden = hidden_imports(&crate_of(&files));
    assert!(hidden.contains(&"gate.rs imports discovery.rs (crate::wire::Refresh)".to_owned()));
}

#[test]
fn what_is_allowed_breaks_no_rule() {
    for (path, source) in [
        ("agent.rs", "use crate::{config::Config, gate, server};"),
        ("gate/poll.rs", "use super::Head; use super::super::wire; use crate::route::Lane;"),
        ("server.rs", "use crate::state::Snapshot; mod page; use tiny_http::Server;"),
        ("discovery/kubernetes.rs", "use serde::Deserialize; use ureq::Agent;"),
        ("tcp_info.rs", "fn f() { unsafe { g() } }"),
        ("unwinding.rs", "#[unsafe(no_mangle)] extern \"C\" fn f() {}"),
        ("prober/pool.rs", "use super::wire::Answer;"),
        ("config.rs", "fn f() { std::env::vars_os(); }"),
        ("wire.rs", "#[cfg(test)] mod tests { use crate::server; }"),
        ("gate/tests.rs", "use crate::server;"),
        ("name.rs", "const V: &str = env!(\"CARGO_PKG_VERSION\");"),
    ] {
        assert_eq!(faults(path, source), Vec::<String>::new(), "{path}");
    }
}
