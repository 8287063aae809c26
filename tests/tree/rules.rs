//! Which module may know which, who alone may use a crate, and how long a file may be.
//!
//! A unit test may use what it likes; a module whose name is not in the table has to be put there.

use std::path::{Path, PathBuf};

use crate::imports::named;

/// Each module and those of ours that it may import, itself apart. From the bottom to the top.
const MAY_IMPORT: [(&str, &[&str]); 22] = [
    ("name", &[]),
    ("label", &[]),
    ("host_port", &[]),
    ("heartbeat", &[]),
    ("shutdown", &[]),
    ("peer", &["name"]),
    ("probe", &["label", "name"]),
    ("wire", &["name"]),
    ("route", &["name", "wire"]),
    ("cli", &["config", "host_port", "label", "matrix", "name", "probe", "prober", "state"]),
    ("config", &["discovery", "host_port", "label", "name"]),
    ("schedule", &["name", "peer", "probe", "heartbeat", "shutdown", "wire"]),
    ("state", &["heartbeat", "label", "name", "peer", "probe", "shutdown", "wire"]),
    (
        "discovery",
        &["heartbeat", "host_port", "label", "name", "peer", "probe", "shutdown", "wire"],
    ),
    ("prober", &["name", "peer", "probe", "heartbeat", "shutdown", "wire"]),
    ("metrics", &["name", "peer", "probe", "state", "wire"]),
    ("matrix", &["label", "name", "probe", "state"]),
    ("gate", &["heartbeat", "label", "name", "route", "shutdown", "wire"]),
    ("server", &["metrics", "name", "peer", "probe", "heartbeat", "route", "state", "wire"]),
    // These tie the others together.
    ("agent", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
];

/// What only these files may name: a path's beginning, the files (or folders) that may, and why.
const ONLY_IN: [(&str, &[&str], &str); 5] = [
    ("ureq", &["discovery/", "discovery.rs"], "one HTTP client, for the API server"),
    ("tiny_http", &["server/", "server.rs"], "hostile bytes never reach it but through the gate"),
    ("serde", JSON_IN, "JSON stays at the edge"),
    ("serde_json", JSON_IN, "JSON stays at the edge"),
    ("std::env", &["config.rs", "main.rs"], "the environment has one reader"),
];
/// Where JSON is read or written.
const JSON_IN: &[&str] = &["matrix/", "discovery/", "discovery.rs", "server/", "server.rs"];
/// The one file with `unsafe`.
const UNSAFE_IN: &str = "prober/tcp_info.rs";
/// A file that grows to this has a second job.
const MAX_LINES: usize = 500;

/// What `source`, the file at `path` below src/, breaks.
fn faults(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = source.lines().count();
    if lines >= MAX_LINES {
        faults.push(format!("{path} has {lines} lines"));
    }
    if path.ends_with("/tests.rs") {
        return faults;
    }
    let named = named(source);
    if named.unsafe_code && path != UNSAFE_IN {
        faults.push(format!("{path} holds unsafe code, which belongs into {UNSAFE_IN}"));
    }
    let module = path.split(['/', '.']).next().unwrap_or_default();
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
        faults.push(format!("{path}: decide what {module} may import, in MAY_IMPORT"));
        return faults;
    };
    // How often `super` leads from the file itself to the crate.
    let depth = path.split('/').filter(|part| *part != "mod.rs").count();
    for parts in &named.paths {
        if let Some(other) = imported(parts, depth)
            && other != module
            && !allowed.contains(&other)
            && !allowed.contains(&"*")
        {
            faults.push(format!("{path}: {module} may not import {other} ({})", parts.join("::")));
        }
        let whole = parts.join("::");
        for (start, files, why) in ONLY_IN {
            let names = whole == start || whole.starts_with(&format!("{start}::"));
            if names && !files.iter().any(|file| path.starts_with(file)) {
                faults.push(format!("{path} names {whole}, but {why}"));
            }
        }
    }
    faults
}

/// The module of ours that a path leads to, if it leads to one.
fn imported(parts: &[String], depth: usize) -> Option<&str> {
    let mut parts = parts.iter().map(String::as_str);
    let after_root = match parts.next()? {
        "crate" | "wylis" => parts.next()?,
        "super" => {
            for _ in 1..depth {
                parts.next().filter(|part| *part == "super")?;
            }
            parts.next()?
        }
        _ => return None,
    };
    // `crate::Name` may also be an item of the crate's root, or of the file around an inner module.
    MAY_IMPORT.iter().map(|(name, _)| *name).find(|name| *name == after_root)
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    assert!(files.len() >= 8, "too few files in src: {files:?}");
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        found.extend(faults(path, &std::fs::read_to_string(&file).unwrap()));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn tests_and_tools_stay_short_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    for file in files {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines < MAX_LINES, "{} has {lines} lines", file.display());
    }
}

#[test]
fn each_rule_can_be_broken() {
    let long = "//\n".repeat(MAX_LINES);
    for (path, source) in [
        ("peer.rs", "use crate::wire::NODE;"),
        ("peer.rs", "use super::wire::NODE;"),
        ("gate.rs", "use crate::{name::NodeName, server};"),
        ("gate/poll.rs", "fn f() { super::super::metrics::new() }"),
        ("prober/pool.rs", "fn f(x: crate::discovery::PeerSource) {}"),
        ("server/page.rs", "use wylis::agent;"),
        ("unheard_of.rs", ""),
        ("agent.rs", "fn f() { ureq::get(\"\"); }"),
        ("gate.rs", "use tiny_http::Server;"),
        ("metrics.rs", "#[derive(serde::Serialize)] struct A;"),
        ("agent.rs", "use std::{env, fs};"),
        ("state.rs", "use serde_json as json;"),
        ("gate.rs", "fn f() { unsafe { g() } }"),
        ("peer.rs", long.as_str()),
    ] {
        assert_eq!(faults(path, source).len(), 1, "{path}: {:?}", faults(path, source));
    }
}

#[test]
fn what_is_allowed_breaks_no_rule() {
    for (path, source) in [
        ("agent.rs", "use crate::{config::Config, gate, server};"),
        ("gate/poll.rs", "use super::Head; use super::super::wire; use crate::route::Lane;"),
        ("server.rs", "use crate::state::Snapshot; mod page; use tiny_http::Server;"),
        ("discovery/kubernetes.rs", "use serde::Deserialize; use ureq::Agent;"),
        ("prober/tcp_info.rs", "fn f() { unsafe { g() } }"),
        ("prober/pool.rs", "use super::wire::Answer;"),
        ("config.rs", "fn f() { std::env::vars_os(); }"),
        ("wire.rs", "#[cfg(test)] mod tests { use crate::server; }"),
        ("gate/tests.rs", "use crate::server;"),
        ("name.rs", "const V: &str = env!(\"CARGO_PKG_VERSION\");"),
    ] {
        assert_eq!(faults(path, source), Vec::<String>::new(), "{path}");
    }
}
